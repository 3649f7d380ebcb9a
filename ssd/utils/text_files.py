"""Text files of bounded size."""

import codecs
from pathlib import Path

from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError


def read_text(path: Path, most: int, what: str) -> str:
    """The text of a file: UTF-8, or UTF-16 with its byte order mark.

    UserError when it is unreadable, binary, in another encoding or larger than `most` bytes.
    what: the kind of file, for the message ("a list of pictures").
    """
    try:
        data = read_limited(path, most, what)
    except OSError as error:
        raise UserError(f"{path}: cannot read {what}: {error.strerror}") from error
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise UserError(f"{path}: not {what} (byte {error.start} is no {name} text); save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{path}: not {what} (it holds binary data)")
    return text
