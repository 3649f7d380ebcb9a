"""The names of a network's classes, from a list, a text file, or SSD's labelmap.prototxt."""

from collections.abc import Sequence
from pathlib import Path

from ssd.importers.caffe.text import parse, read_prototxt
from ssd.utils.errors import UserError
from ssd.utils.text_files import read_text

MAX_BYTES = 4 << 20
BACKGROUND = {"background", "__background__", "none_of_the_above"}


def class_names(given: Sequence[str] | str | None, labels: Sequence[int]) -> list[str]:
    """A name for each of the network's labels (its own numbers, without the background).

    Errors: UserError when there are more or fewer names than labels; one for the background may stand before them.
    """
    if given is None:
        return [f"class {label}" for label in labels]
    if isinstance(given, str) and given.endswith(".prototxt"):
        return _from_map(Path(given), labels)
    names = _lines(Path(given)) if isinstance(given, str) else [str(name).strip() for name in given]
    if len(names) == len(labels) + 1 and names[0].lower() in BACKGROUND:
        names = names[1:]
    if len(names) != len(labels):
        raise UserError(f"job.classes: {len(names)} names, the network tells {len(labels)} classes apart")
    if not all(names):
        raise UserError("job.classes: a name is empty")
    return names


def _lines(path: Path) -> list[str]:
    lines = [line.strip().strip("'\"").strip() for line in read_text(path, MAX_BYTES, "a list of classes").splitlines()]
    return [line for line in lines if line]


def _from_map(path: Path, labels: Sequence[int]) -> list[str]:
    items = parse(read_prototxt(path), "LabelMap", path, unknown=False).item
    names = {item.label: item.display_name or item.name for item in items}
    if missing := [label for label in labels if not names.get(label)]:
        raise UserError(f"{path}: has no name for label {missing[0]}")
    return [names[label] for label in labels]
