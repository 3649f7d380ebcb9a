"""job=anchors: anchors that fit the boxes of the dataset, written as a recipe."""

import logging
import re
import shlex
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ssd.config.commands import below, run_command, task_overrides
from ssd.config.parts import network_config
from ssd.diagnostics.fit import Network, Suggestion, suggest
from ssd.diagnostics.statistics import Boxes, gather, on_input
from ssd.jobs.common import open_gate
from ssd.runs.results import write_metrics
from ssd.symbol.features import feature_maps
from ssd.symbol.head import HeadLayer, head_layers
from ssd.utils.atomic_files import write_atomically
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

RECIPE = "anchors"  # name of the file, and so of the choice
LEFT_OUT = re.compile(
    r"[+~]*(job|logger|experiments)[.=@]|[+~]*head\.(sizes|ratios)="
)  # of the overrides to train with
EXACT = 10  # digits: what is kept as it was is written as it was


def run(cfg: DictConfig, folder: Path) -> float:
    """Writes experiments/anchors.yaml and metrics.json; returns the share of boxes that meet an anchor then.

    Errors: UserError for a split without boxes.
    """
    configured = network_config(cfg)
    boxes = gather(open_gate(cfg).admit([cfg.job.split], folder).samples[cfg.job.split])
    if not len(boxes):
        raise UserError(f"the {cfg.job.split} split has no boxes to fit anchors to")
    boxes = drawn(on_input(boxes, configured.input), cfg.job.boxes, cfg.seed)
    layers = head_layers(configured)
    network = Network(feature_maps(configured), layers, configured.input.shape, configured.compat)
    found = suggest(network, boxes, cfg.matching.overlap, cfg.seed)
    recipe = folder / "experiments" / f"{RECIPE}.yaml"
    recipe.parent.mkdir(parents=True)
    write_atomically(recipe, recipe_text(cfg, found).encode())
    metrics = {
        "boxes": len(boxes),
        "matched_before": found.before.share,
        "matched": found.after.share,
        "mean_iou_before": float(found.before.best.mean()),
        "mean_iou": float(found.after.best.mean()),
    }
    write_metrics(folder, "anchors", {"split": cfg.job.split, **metrics})
    log_suggestion(cfg, found, folder)
    return found.after.share


def drawn(boxes: Boxes, most: int, seed: int) -> Boxes:
    """At most `most` of the boxes, by the seed."""
    if len(boxes) <= most:
        return boxes
    rows = np.sort(np.random.default_rng(seed).choice(len(boxes), most, replace=False))
    return Boxes(boxes.labels[rows], boxes.corners[rows], boxes.sizes[rows], boxes.difficult[rows], boxes.image[rows])


def recipe_text(cfg: DictConfig, found: Suggestion) -> str:
    """The YAML of an experiment that changes the anchors and nothing else."""
    lines = [
        "# @package _global_",
        f"# Anchors for {cfg.dataset.name} on {cfg.backbone.name} at {cfg.data_shape.height}x{cfg.data_shape.width}:",
        f"# {found.after.share:.1%} of the boxes meet one with IoU {cfg.matching.overlap:g} or more, "
        f"{found.before.share:.1%} did before.",
        "head:",
    ]
    for field in ("sizes", "ratios"):
        lines.append(f"  {field}:")
        for layer, fitted in zip(found.layers, found.fitted, strict=True):
            lines.append(f"    - {numbers(getattr(layer, field))}" + ("" if fitted else "  # as it was"))
    return "\n".join(lines) + "\n"


def overrides(layers: list[HeadLayer]) -> list[str]:
    """The same as overrides of the command line."""
    return [
        f"head.{name}=[{','.join(numbers(getattr(layer, name)) for layer in layers)}]" for name in ("sizes", "ratios")
    ]


def numbers(values: tuple[float, ...], digits: int = EXACT) -> str:
    return "[" + ",".join(f"{value:.{digits}g}" for value in values) + "]"


def log_suggestion(cfg: DictConfig, found: Suggestion, folder: Path) -> None:
    for layer, fitted in zip(found.layers, found.fitted, strict=True):
        name = layer.source or "extra layer"
        note = "" if fitted else "   as it was: too few boxes of its size"
        log.info("%-24s sizes %-32s ratios %s%s", name, numbers(layer.sizes, 4), numbers(layer.ratios, 4), note)
    log.info(
        "boxes that meet an anchor with IoU %g or more: %.1f %% before, %.1f %% with these; mean IoU %.3f, %.3f",
        cfg.matching.overlap, 100 * found.before.share, 100 * found.after.share,
        found.before.best.mean(), found.after.best.mean(),
    )  # fmt: skip
    log.info("as overrides     %s", shlex.join(overrides(found.layers)))
    log.info("train with   %s", command(folder))


def command(folder: Path) -> str:
    """The command line that trains as this job is configured, with the recipe in `folder` behind the recipes it had."""
    recipes = [RECIPE]
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        before = hydra.runtime.choices.get("experiments")
        recipes = [*([before] if isinstance(before, str) else before or []), RECIPE]
    chosen = ",".join(name for at, name in enumerate(recipes) if name != RECIPE or at + 1 == len(recipes))
    overrides = [plain(override) for override in task_overrides() if not LEFT_OUT.match(override)]
    recipe = f"experiments=[{chosen}]" if "," in chosen else f"experiments={chosen}"
    return run_command(*overrides, recipe, config_dirs=[below(folder)])


def plain(override: str) -> str:
    """An override without quotes that it does not need."""
    return re.sub(r"^([\w.]+)='(\d+)'$", r"\1=\2", override)
