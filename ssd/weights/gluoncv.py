"""Find which of GluonCV's models a parameter file is of, when its path is given instead of a name."""

from collections.abc import Sequence
from pathlib import Path

from ssd.checkpoint.model import Model
from ssd.config.compose import compose
from ssd.config.parts import NetworkConfig, network_config
from ssd.config.weights import Weights, read_entry, registered
from ssd.importers.gluoncv_ssd import FORMAT, count_classes, load_gluoncv
from ssd.utils.errors import UserError
from ssd.weights.load import class_names


def published_network(entry: Weights) -> NetworkConfig:
    """The network of a detector of the registry, with the input that its weights expect; for the weights of a backbone
    the default network."""
    expected_input = [f"init.weights={entry.name}"] if entry.detector else []
    return network_config(compose([*entry.overrides, *expected_input]))


def open_gluoncv(path: Path, configured: Sequence[str] | None) -> Model:
    """The detector in a file that is_gluoncv, as the first of GluonCV's models that it fits.

    configured: class names of a model that was trained on others than VOC's and COCO's. Errors: UserError.
    """
    problems = []
    for entry in _models():
        if (classes := _names(entry, count_classes(path), configured)) is not None:
            try:
                return load_gluoncv(path, published_network(entry), classes)
            except UserError as error:
                problems.append(error)
    if problems:
        raise problems[0]
    raise UserError(
        f"{path}: predicts {count_classes(path)} classes; name them, e.g. with dataset= or dataset.classes=[…]"
    )


def gluoncv_classes(path: Path) -> list[str] | None:
    """Class names of a file that is_gluoncv, by their number; None where it is neither VOC's nor COCO's."""
    count = count_classes(path)
    return next((names for entry in _models() if (names := _names(entry, count, None)) is not None), None)


def _models() -> list[Weights]:
    return [entry for name in registered() if (entry := read_entry(name)).format == FORMAT]


def _names(entry: Weights, count: int, configured: Sequence[str] | None) -> list[str] | None:
    names = next(
        (names for names in (class_names(entry), configured) if names is not None and len(names) == count), None
    )
    return None if names is None else list(names)
