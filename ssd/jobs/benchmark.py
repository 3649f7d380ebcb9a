"""job=benchmark: images per second and latency of a grid of networks."""

import logging
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ssd.benchmark.grid import Network, Plan, measure_grid
from ssd.benchmark.report import name_of, row_of, to_csv, to_png, to_table
from ssd.benchmark.worker import STAGES
from ssd.config.overrides import groups
from ssd.runs.results import write_metrics
from ssd.utils.atomic_files import write_atomically
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> None:
    """Measures the grid of cfg.job; writes benchmark.csv, benchmark.png and metrics.json.

    Errors: UserError for axes that make no sense, and when every combination failed. Single ones that fail are listed.
    """
    job: Any = OmegaConf.to_container(cfg.job, resolve=True)
    plan = planned(cfg, job)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    rows = [row_of(item) for item in measure_grid(plan)]
    write_atomically(folder / "benchmark.csv", to_csv(rows).encode())
    write_atomically(folder / "benchmark.png", to_png(rows))
    speeds = {
        f"{name_of(row)} batch {row['batch']}": row["images_per_second"]
        for row in rows
        if row["images_per_second"] is not None
    }
    metrics = {f"images_per_second/{name}": speed for name, speed in speeds.items()}
    failed = None if speeds else f"nothing could be measured; the first reason: {rows[0]['error']}"
    write_metrics(folder, "benchmark", metrics, failed)
    for line in to_table(rows):
        log.info("%s", line)
    if failed:
        raise UserError(failed)
    log.info("%-12s %s", "table", folder / "benchmark.csv")
    log.info("%-12s %s", "plot", folder / "benchmark.png")


def planned(cfg: DictConfig, job: dict[str, Any]) -> Plan:
    """Errors: UserError for an axis that is empty or holds what there is none of."""
    from ssd.benchmark.networks import check_format

    for key in ("formats", "batches", "threads"):
        if not isinstance(job[key], list) or not job[key]:
            raise UserError(f"job.{key}={job[key]}: expected a list with something in it")
    for name in job["formats"]:
        check_format(name)
    for key, least in (("batches", 1), ("threads", 1)):
        for value in job[key]:
            if not (type(value) is int and value >= least) and not (key == "threads" and value is None):
                raise UserError(f"job.{key}: {value} must be a whole number from {least} on")
    if job["stage"] not in STAGES:
        raise UserError(f"job.stage={job['stage']}: expected {', '.join(STAGES)}")
    for key in ("classes", "rounds", "seconds", "timeout"):
        if type(job[key]) not in (int, float) or not job[key] > 0:
            raise UserError(f"job.{key}={job[key]}: expected more than 0")
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    axes = (job["formats"], sorted(set(job["batches"])), job["threads"])
    return Plan(plain, networks(cfg, job), *axes, job["stage"], job["rounds"], job["seconds"], job["timeout"])


def networks(cfg: DictConfig, job: dict[str, Any]) -> list[Network]:
    """Those of the first two axes. Errors: UserError for an unknown backbone, or axes beside model=."""
    if cfg.model is not None:
        if job["backbones"] or job["data_shapes"]:
            raise UserError("job.backbones and job.data_shapes are of random weights; leave them out, or model=")
        return [Network(Path(cfg.model).stem, "")]
    if not (job["backbones"] or job["data_shapes"]):
        return [Network(cfg.backbone.name, cfg.data_shape.name)]
    known = groups()["backbone"]
    if unknown := [name for name in job["backbones"] or [] if name not in known]:
        raise UserError(f"job.backbones: {unknown[0]!r} is none of {', '.join(known)}")
    own_shape = [cfg.data_shape.height, cfg.data_shape.width]
    return [
        Network(backbone, shape_name(shape), (f"backbone={backbone}", f"data_shape={shape}".replace(" ", ""), compat))
        for compat in [f"compat={cfg.compat or 'null'}"]
        for backbone in job["backbones"] or [cfg.backbone.name]
        for shape in job["data_shapes"] or [own_shape]
    ]


def shape_name(shape: Any) -> str:
    """512 -> 512, [320, 480] -> 320x480."""
    return "x".join(map(str, shape)) if isinstance(shape, list) else str(shape)
