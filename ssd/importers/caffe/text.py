"""Network descriptions (prototxt) and label maps as messages, and the names of classes out of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ssd.importers.caffe.schema import MESSAGES
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

MAX_BYTES = 2 << 20
MAX_DEPTH = 32
MAX_TOKENS = 100_000  # protobuf's parser takes some 20 us for each; ResNet-152 has 12,000
MAX_LINE = 50_000  # characters; it copies the line for every option that it does not know
# Comments and texts. A text that does not end matches to its line's end: trying again at each quote in it would take
# time by the square of its length.
NO_STRUCTURE = re.compile(r"""#[^\n]*|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|'[^'\\\n]*(?:\\.[^'\\\n]*)*'?""")
TOKENS = re.compile(r"[^\s{}<>\[\]:;,]+")


def read_prototxt(path: Path) -> str:
    """The text of a network description of bearable size and depth. Errors: UserError."""
    text = read_text(path, MAX_BYTES, "a network description (prototxt)")
    structure = NO_STRUCTURE.sub('""', text)
    depth = 0
    for bracket in re.findall(r"[{<\[\]>}]", structure):
        depth += 1 if bracket in "{<[" else -1
        if depth > MAX_DEPTH:
            raise UserError(f"{path}: nested more than {MAX_DEPTH} deep, this is no network description")
    if (tokens := sum(1 for _ in TOKENS.finditer(structure))) > MAX_TOKENS:
        raise UserError(f"{path}: {tokens} tokens, more than {MAX_TOKENS} are too many for a network description")
    if (longest := max(map(len, text.split("\n")))) > MAX_LINE:
        raise UserError(f"{path}: a line of {longest} characters, more than {MAX_LINE} are no network description")
    return text


def parse(text: str, kind: str, path: Path, unknown: bool) -> Any:
    """A message of the schema. unknown: whether options that the schema does not know are passed over.

    Errors: UserError with line and column.
    """
    message = MESSAGES[kind]()
    try:
        text_format.Parse(text, message, allow_unknown_field=unknown)
    except (text_format.ParseError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).replace("ssd.caffe.", "").split())[:300]
        raise UserError(f"{path}: not a Caffe {kind}: {reason}") from error
    return message


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
