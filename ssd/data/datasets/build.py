"""A dataset from its configuration: its class, and the options that every format has."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException

from ssd.config.parts import plain
from ssd.config.targets import check_targets, make
from ssd.data.base import Dataset
from ssd.data.datasets.wrappers import ClassSubset, Subset
from ssd.data.inspection.checks import class_names
from ssd.data.inspection.problems import ON_ERROR, REFUSE
from ssd.utils.errors import UserError

UNKNOWN_CLASSES = ("error", "drop")
OFFERED = ("name", "classes", "holdout")  # keys of every dataset that a class need not take


@dataclass(frozen=True)
class DatasetOptions:
    """The keys of `dataset` that every format has; conf/config.yaml says what they mean."""

    unknown_classes: str = "error"
    on_error: str = REFUSE
    keep_empty: bool = False
    max_images: int | None = None
    group_by: str | None = None
    download: bool = False
    mirror: str | None = None
    archives: Mapping[str, Any] | None = None

    @classmethod
    def out_of(cls, node: dict[str, Any]) -> "DatasetOptions":
        """Takes these keys out of `node`; absent ones (in the parts of a concatenation) mean "nothing special"."""
        common = cls(**{field.name: node.pop(field.name) for field in fields(cls) if field.name in node})
        if common.unknown_classes not in UNKNOWN_CLASSES:
            expected = " or ".join(UNKNOWN_CLASSES)
            raise UserError(f"dataset.unknown_classes={common.unknown_classes}: expected {expected}")
        if common.on_error not in ON_ERROR:
            raise UserError(f"dataset.on_error={common.on_error}: expected {' or '.join(ON_ERROR)}")
        if common.max_images is not None and (type(common.max_images) is not int or common.max_images < 1):
            raise UserError(f"dataset.max_images={common.max_images}: expected a number of images or null")
        return common

    def fetch(self, root: str | None) -> None:
        """Downloads what is missing under `root`, when asked to."""
        if not self.download:
            return
        from ssd.data.datasets.download import Archive, fetch_all

        if not self.archives or not root:
            raise UserError("dataset.download: this dataset names no archives to download; put its files in place")
        archives = [Archive.from_config(name, entry, self.mirror) for name, entry in self.archives.items() if entry]
        fetch_all(archives, Path(root).expanduser())


def make_dataset(cfg: Mapping[Any, Any]) -> Dataset:
    """The dataset that `cfg` (the group `dataset`, as composed or plain: _target_, its options and the keys common to
    all) describes.

    Errors of the class itself come out as they are; a wrong `_target_` or option is a UserError.
    """
    node: dict[str, Any] = dict(plain(cfg))
    common = DatasetOptions.out_of(node)
    common.fetch(node.get("root"))
    if common.group_by is not None and isinstance(node.get("holdout"), Mapping):
        node["holdout"] = {**node["holdout"], "group_by": common.group_by}
    if node.get("classes") is not None:
        node["classes"] = list(class_names(node["classes"], "dataset.classes"))
    classes = node.get("classes")
    if common.unknown_classes == "drop" and classes:
        node["classes"] = None  # all there are, of which apply_options leaves the chosen
    return apply_options(_instantiate(node), classes, common)


def _instantiate(node: dict[str, Any]) -> Dataset:
    target = node.get("_target_")
    if not isinstance(target, str) or not target:
        raise UserError("dataset._target_ is not set: name a class derived from ssd.data.Dataset, e.g. my_module.Mine")
    check_targets(node, "dataset", "dataset")  # before anything is imported
    accepted = _parameters(target)
    options = {key: value for key, value in node.items() if key not in OFFERED or key in accepted}
    options.setdefault("_recursive_", False)  # the parts of a concatenation are made by make_dataset
    try:
        dataset: Any = make(options, "dataset", "dataset", _convert_="all")
    except InstantiationException as error:
        if error.__cause__ is None or isinstance(error.__cause__, (TypeError, ImportError)):
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"dataset {target!r}: {reason}") from error
        raise
    if not isinstance(dataset, Dataset):
        raise UserError(f"dataset._target_ {target!r} is not a class derived from ssd.data.Dataset")
    return dataset


def _parameters(target: str) -> set[str]:
    """Names of the arguments that the class takes; OFFERED where it cannot be found, which Hydra then says."""
    module, _, name = target.rpartition(".")
    try:
        return set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return set(OFFERED)


def apply_options(dataset: Dataset, classes: Sequence[str] | None, common: DatasetOptions) -> Dataset:
    """`dataset` as the common keys narrow it; itself when they do not."""
    if common.unknown_classes == "drop" and classes:
        dataset = ClassSubset(dataset, [classes] if isinstance(classes, str) else classes, common.keep_empty)
    return dataset if common.max_images is None else Subset(dataset, common.max_images)
