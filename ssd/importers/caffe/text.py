"""Network descriptions (prototxt) and label maps as messages."""

import re
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ssd.importers.caffe.schema import MESSAGES
from ssd.utils.errors import UserError
from ssd.utils.text_files import read_text

MAX_BYTES = 2 << 20
MAX_DEPTH = 32
MAX_WORDS = 100_000  # protobuf's parser takes some 20 us for each; ResNet-152 has 12,000
MAX_LINE = 50_000  # characters; it copies the line for every option that it does not know
# Comments and texts. A text that does not end matches to its line's end: trying again at each quote in it would take
# time by the square of its length.
NO_STRUCTURE = re.compile(r"""#[^\n]*|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|'[^'\\\n]*(?:\\.[^'\\\n]*)*'?""")
WORDS = re.compile(r"[^\s{}<>\[\]:;,]+")


def read_prototxt(path: Path) -> str:
    """The text of a network description of bearable size and depth. Errors: UserError."""
    text = read_text(path, MAX_BYTES, "a network description (prototxt)")
    structure = NO_STRUCTURE.sub('""', text)
    depth = 0
    for bracket in re.findall(r"[{<\[\]>}]", structure):
        depth += 1 if bracket in "{<[" else -1
        if depth > MAX_DEPTH:
            raise UserError(f"{path}: nested more than {MAX_DEPTH} deep, this is no network description")
    if (words := sum(1 for _ in WORDS.finditer(structure))) > MAX_WORDS:
        raise UserError(f"{path}: {words} words, more than {MAX_WORDS} are too many for a network description")
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
        told = " ".join(str(error).replace("ssd.caffe.", "").split())[:300]
        raise UserError(f"{path}: not a Caffe {kind}: {told}") from error
    return message
