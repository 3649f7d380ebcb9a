"""Network descriptions (prototxt) and label maps as messages."""

import re
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ssd.data.files import read_text
from ssd.errors import UserError
from ssd.interop.caffe.schema import MESSAGES

MAX_BYTES = 2 << 20
MAX_DEPTH = 32
NO_STRUCTURE = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")


def read_prototxt(path: Path) -> str:
    """The text of a network description of bearable size and depth. Errors: UserError."""
    text = read_text(path, MAX_BYTES, "a network description (prototxt)")
    depth = 0
    for bracket in re.findall(r"[{<\[\]>}]", NO_STRUCTURE.sub("", text)):
        depth += 1 if bracket in "{<[" else -1
        if depth > MAX_DEPTH:
            raise UserError(f"{path}: nested more than {MAX_DEPTH} deep, this is no network description")
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
