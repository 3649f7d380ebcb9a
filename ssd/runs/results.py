"""What a run has come to, and when the numbers of two runs may be compared. Imports nothing heavy.

metrics.json is `to_json` of Results: the headline numbers by name (map_11pt, map_area, ap_11pt/<class>, …), those of a
further split behind its name (test/map_11pt), and beside them

    job         train, eval, …
    status      running (also of a run that was killed), finished, interrupted, failed, pruned
    reason      why it ended so, or early; null
    split       whose images the headline numbers are of
    checkpoint  best or last of its training; null for a model that no checkpoints.json names
    epoch, step those of the checkpoint; an epoch that ended before its last step counts as the one under way
    measured    split -> how its numbers were measured, see Conditions

Jobs that measure no split write the first three, and numbers of their own (`write_metrics`).
"""

import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from ssd.utils.atomic_files import read_json, read_limited, write_json
from ssd.utils.errors import UserError

FILE = "metrics.json"
MAX_BYTES = 64_000_000  # of metrics.json: the numbers of 100,000 classes on three splits
MAX_TABLE = 512_000_000  # of metrics.csv and steps.csv
RUNNING, FINISHED, INTERRUPTED, FAILED, PRUNED = "running", "finished", "interrupted", "failed", "pruned"
BEST, LAST = "best", "last"
HEADLINE = "map_11pt"  # what runs are ranked by, the larger the better
# What numbers depend on besides the model -> how it is called where it differs.
COMPARED = {"split": "split", "images": "number of images", "fingerprint": "images", "iou": "metric.iou",
            "compat": "metric.compat"}  # fmt: skip
NUMBERS = (HEADLINE, "map_area", "AP", "AP50", "AP75", "precision", "recall", "f1", "mean_iou", "epoch", "step")
UNKNOWN = "how they were measured is not recorded"


@dataclass(frozen=True)
class Conditions:
    """How the numbers of one split were measured: two numbers compare where all of COMPARED is equal.

    dataset, holdout: its name and dataset.holdout, for the reader. split: train, val or test. images, objects: how many
    of both; difficult objects, which need not be found, do not count. fingerprint: of the images and their ground
    truth, see ssd.data.datasets.fingerprint. iou, compat: as in cfg.metric. same_images: another split that is the same
    images. thresholds: the split whose best F1 they are, or metric.threshold; precision, recall and F1 at thresholds of
    the split itself are optimistic. None where there are no such rates.
    """

    dataset: str
    split: str
    images: int
    objects: int
    fingerprint: str
    iou: float
    compat: str | None
    holdout: Mapping[str, Any] | None = None
    same_images: str | None = None
    thresholds: str | None = None

    @property
    def key(self) -> str:
        """Equal for numbers that compare."""
        return json.dumps([getattr(self, name) for name in COMPARED])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "thresholds_optimistic": None if self.thresholds is None else self.optimistic}

    @property
    def optimistic(self) -> bool:
        return self.thresholds == self.split

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Conditions":
        """Keys of later versions are passed over. Errors: TypeError for missing ones and wrong kinds of value."""
        found = cls(**{one.name: content[one.name] for one in fields(cls) if one.name in content})
        texts = (found.dataset, found.split, found.fingerprint)
        optional = [text for text in (found.compat, found.same_images, found.thresholds) if text is not None]
        numbers = (found.images, found.objects, found.iou)
        if not all(isinstance(text, str) for text in (*texts, *optional)) or not all(map(is_number, numbers)):
            raise TypeError("conditions are no texts and numbers")
        return found


@dataclass(frozen=True)
class Results:
    """The numbers a run is known by. values: with their split in front, "val/map_11pt"; nan for what does not exist.
    The rest: see metrics.json above."""

    status: str = RUNNING
    reason: str | None = None
    split: str = "val"
    checkpoint: str | None = None
    epoch: int | None = None
    step: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Conditions] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """The values, those of the headline split under their bare names."""
        return {name.removeprefix(f"{self.split}/"): float(value) for name, value in self.values.items()}

    @property
    def standing(self) -> str:
        """ "best checkpoint, epoch 3, step 120"; empty for a model of unknown origin."""
        parts = {"{} checkpoint": self.checkpoint, "epoch {}": self.epoch, "step {}": self.step}
        return ", ".join(text.format(value) for text, value in parts.items() if value is not None)

    def to_json(self, job: str) -> dict[str, Any]:
        """metrics.json; what is not a number is null there."""
        about = {"job": job, "status": self.status, "reason": self.reason, "split": self.split,
                 "checkpoint": self.checkpoint, "epoch": self.epoch, "step": self.step}  # fmt: skip
        numbers = {name: value if math.isfinite(value) else None for name, value in self.flat().items()}
        return {**about, **numbers, "measured": {split: how.to_json() for split, how in self.measured.items()}}


def named(split: str, values: Mapping[str, float]) -> dict[str, float]:
    """With the split in front of every name."""
    return {f"{split}/{name}": value for name, value in values.items()}


def images_folder(folder: Path) -> Path:
    """Where a run directory has its images: images/, or pictures/ in one that was begun by a version before 0.2."""
    earlier = folder / "pictures"
    return earlier if earlier.is_dir() else folder / "images"


def write_metrics(folder: Path, job: str, numbers: Mapping[str, Any], reason: str | None = None) -> None:
    """metrics.json of a job that measures no split: job, status and reason as in all, and its numbers. reason: why it
    failed."""
    about = {"job": job, "status": FAILED if reason else FINISHED, "reason": reason}
    write_json(folder / FILE, {**about, **numbers})


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a run directory; empty where it is missing or damaged."""
    try:
        content = read_json(folder / FILE, MAX_BYTES, "the numbers of a run")
    except (FileNotFoundError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def wrong_number(metrics: Mapping[str, Any]) -> str | None:
    """The first metric of a metrics.json that is neither a number nor null."""
    named = (key for key in metrics if key.rpartition("/")[2] in NUMBERS)
    return next((key for key in named if metrics[key] is not None and not is_number(metrics[key])), None)


def is_number(value: Any) -> bool:
    """Whether a value out of JSON is one; whole ones may be larger there than any that a float64 holds."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def read_table(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a CSV file of a run, see ssd.utils.csv_cells. The last line of a killed run may be
    half a line: it does not count.

    Errors: FileNotFoundError; UserError for one that is damaged or larger than runs write.
    """
    from ssd.utils.csv_cells import read  # behind which much is imported

    try:
        text = read_limited(file, MAX_TABLE, "a table of a run").decode()
        return read(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    except ValueError as error:
        raise UserError(f"{file}: damaged ({str(error)[:200]})") from error


def measured_of(metrics: Mapping[str, Any]) -> dict[str, Conditions]:
    """How the numbers of a metrics.json were measured, by split; empty for one of an earlier version."""
    try:
        return {split: Conditions.from_json(content) for split, content in metrics["measured"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}


def key_of(measured: Conditions | None) -> str:
    """Equal for numbers that compare; those of unknown origin are taken to be alike, and `unlike` says so."""
    return "" if measured is None else measured.key


def unlike(all_measured: Iterable[Conditions | None]) -> str | None:
    """What differs between ways of measuring, as text: "split (test, val); images"; None where all numbers compare."""
    ways = {key_of(one): one for one in all_measured}
    if len(ways) < 2:
        return None
    known = [one for one in ways.values() if one is not None]
    parts = [] if len(known) == len(ways) else [f"{UNKNOWN} for some"]
    for name, called in COMPARED.items():
        value = attrgetter(name)
        values = {value(one) for one in known}
        if len(values) < 2:
            continue
        if name == "fingerprint":
            if len({(one.split, one.images) for one in known}) < len({(one.split, value(one)) for one in known}):
                parts.append(called)
        else:
            parts.append(f"{called} ({', '.join(sorted(map(_text, values)))})")
    names = sorted({one.dataset for one in known})
    if len(names) > 1:
        parts.append(f"dataset ({', '.join(names)})")
    elif len({json.dumps(one.holdout) for one in known}) > 1:
        parts.append("dataset.holdout")
    return "; ".join(parts)


def group_letters(count: int) -> list[str]:
    """Names of groups whose numbers do not compare: "A", "B", …; one empty name where there is a single group."""
    if count == 1:
        return [""]
    return [chr(ord("A") + place % 26) + (str(place // 26) if place > 25 else "") for place in range(count)]


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
