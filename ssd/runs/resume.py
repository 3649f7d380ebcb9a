"""resume=: which run is resumed, and what may differ from how it began. Imports nothing heavy."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.checkpoint.index import FOLDER, LOCK, NAME, read_index
from ssd.config.commands import path_override, run_command
from ssd.config.overrides import composable, current_overrides, groups, key_of, still_effective, value_of
from ssd.config.paths import CONF
from ssd.config.renamed import silent
from ssd.config.stores import typed_stores
from ssd.config.targets import typed_targets
from ssd.config.text import quoted
from ssd.runs.saved import CONFIG, OVERRIDES, allowed_overrides, read_config, read_overrides
from ssd.utils.atomic_files import is_locked
from ssd.utils.errors import UserError
from ssd.utils.flatten import leaves

AUTO = "auto"
# What may change in a run that is resumed: how long it is, what it writes, shows and keeps, and on what it runs.
FREE = (
    "epochs", "max_hours", "resume", "guard", "early_stopping", "checkpoint", "logger", "hooks", "device", "cluster",
    "loader.workers", "loader.prefetch", "loader.patience_s", "loader.on_hung",
    "training.log_every", "training.validate_every", "training.test", "training.samples",
    "training.records", "dataset.holdout.cache", "metric.coco", "metric.threshold", "metric.worst_images", "model",
    "source", "dataset.root", "dataset.download", "dataset.mirror", "init.mirror", "init.offline",
    "rerun", "sweep", "deploy", "hydra",
)  # fmt: skip


def resume_overrides(overrides: Sequence[str]) -> list[str]:
    """The command line of the run that resume= names, changed by these overrides, in the run's own directory.

    resume=auto names the newest one of the same configuration that has not come to its end; where there is none, the
    overrides stay as they are. Errors: UserError for what is no training.
    """
    said = value_of(overrides, "resume")
    if not said:
        return list(overrides)
    if {"-m", "--multirun"} & set(overrides):
        raise UserError("resume=: goes on with one run, not with a sweep; name the directory of one of its jobs")
    rest = [override for override in overrides if not override.startswith("resume=")]
    if said == AUTO:
        run = _newest(rest)
        return list(overrides) if run is None else [*rest, *_in(run)]
    run = Path(said)
    begun = allowed_overrides(still_effective(_overrides_of(run), rest, groups()), f"resume={run}")
    return [*begun, *rest, *_in(run)]


def _in(run: Path) -> list[str]:
    return [f"resume={quoted(str(run))}", f"hydra.run.dir={quoted(str(run))}"]


def _overrides_of(run: Path) -> list[str]:
    """The overrides of a run with the names of today, but for resume= and Hydra's own keys."""
    index, saved = run / FOLDER / NAME, run / OVERRIDES
    if index.is_file():
        overrides = read_index(index)["words"]
    elif saved.is_file():  # ended before its first checkpoint
        overrides = read_overrides(saved)
    else:
        raise UserError(f"resume={run}: no training; name its run directory, such as outputs/train/NAME/TIME")
    if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
        raise UserError(f"resume={run}: damaged, its overrides are no list of texts")
    overrides = current_overrides(overrides, silent)
    if (job := value_of(overrides, "job")) not in (None, "train"):
        raise UserError(f"resume={run}: a run of job={job}, no training; name the run directory of a training")
    return [override for override in overrides if not re.match(r"(resume|hydra\b)", key_of(override))]


def _newest(overrides: Sequence[str]) -> Path | None:
    """The latest run of this configuration that can be resumed."""
    plain = [*composable(overrides), *(override for override in overrides if override.startswith("hydra.run."))]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra_compose("config", overrides=plain, return_hydra_config=True)
        folder = Path(cfg.hydra.run.dir).parent
    OmegaConf.set_struct(cfg, False)
    runs = sorted(
        (path.parent.parent for path in folder.glob(f"*/{FOLDER}/{NAME}")),
        key=lambda run: (run / FOLDER / NAME).stat().st_mtime,
    )
    return next((run for run in reversed(runs) if _fits(run, cfg)), None)


def _fits(run: Path, cfg: DictConfig) -> bool:
    try:
        index = read_index(run / FOLDER / NAME)
        saved = read_config(run / CONFIG)
        resumable = any(entry["states"] for entry in index["kept"]) and not index["finished"]
        return resumable and not is_locked(run / LOCK) and next(differences(saved, cfg), None) is None
    except (UserError, OSError, OmegaConfBaseException):
        return False


def check_same(run: Path, cfg: DictConfig) -> None:
    """Only what is FREE may differ from how the run began. Errors: UserError naming the first other key."""
    if not (run / CONFIG).is_file():
        return  # ended before it wrote anything
    for key, before, now in differences(read_config(run / CONFIG), cfg):
        raise UserError(
            f"resume={run}: {key}={now} here, {before} in that run; leave it as it was, or start a new run "
            f"(init.mode=pretrained init.weights={run} takes its weights)"
        )


def differences(saved: Mapping[str, Any] | DictConfig, cfg: DictConfig) -> Iterator[tuple[str, Any, Any]]:
    """(key, value then, value now) of what must not differ and does. A key that one of them lacks, because the program
    has changed since, does not count, nor do class names that are found in the files later."""
    before, now = _leaves(saved), _leaves(cfg)
    for key, value in before.items():
        free = any(f"{key}.".startswith(f"{part}.") for part in FREE)
        if key == "loader.workers" and before.get("loader.name") == "record":
            free = False  # MXNet's iterator makes other batches with another number
        if free or key not in now or (key == "dataset.classes" and now[key] is None):
            continue
        if now[key] != value:
            yield key, value, now[key]


def _leaves(cfg: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    """Of a configuration, or of one that was saved as plain data."""
    names = [str(name) for name in cfg if name != "hydra"]
    if isinstance(cfg, DictConfig):
        return leaves(OmegaConf.to_container(OmegaConf.masked_copy(cfg, names), resolve=True))
    return leaves({name: cfg[name] for name in names})


def command(run: Path) -> str:
    """What a person types to go on with a run."""
    return run_command(path_override("resume", run), *typed_targets(), *typed_stores())
