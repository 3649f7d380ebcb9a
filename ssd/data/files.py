"""Reading what lies around pictures: text of bounded size, the pictures of a folder, their sizes."""

import codecs
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ssd.data.headers import OpenFile, picture_size
from ssd.data.images import check_header, read_bytes
from ssd.data.listing import files_below, is_picture
from ssd.errors import UserError
from ssd.files import open_regular, read_limited

SIZE_READERS = 16  # reading headers waits for the disk


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


def existing_root(root: str | None, holds: str, files: Sequence[str] = ()) -> Path:
    """The folder that dataset.root names; UserError when it is not set, not there, or a file such as an archive.

    holds: what is in it. files: suffixes of files that may be named instead.
    """
    if root is None:
        raise UserError(f"dataset.root is not set: it must be the folder that holds {holds}")
    path = Path(root).expanduser()
    if not path.exists():
        raise UserError(f"dataset.root {root}: no such folder; it must hold {holds}")
    if not path.is_dir() and path.suffix.lower() not in files:
        raise UserError(f"dataset.root {root}: is a file; name the folder that holds {holds} (unpack an archive first)")
    return path


def pictures_in(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders below it, sorted."""
    return [path for path in files_below(folder).files if is_picture(path)]


def picture_sizes(paths: Sequence[Path]) -> list["Future[tuple[int, int]]"]:
    """(width, height) of each file, in order; result() of one that is no picture is a UserError naming it."""
    with ThreadPoolExecutor(SIZE_READERS) as threads:
        return [threads.submit(_size, path) for path in paths]


def _size(path: Path) -> tuple[int, int]:
    try:
        with open_regular(path) as file:
            size = picture_size(OpenFile(file.fileno()))
    except OSError as error:
        raise UserError(f"{path}: cannot read the image: {error.strerror}") from error
    return size or check_header(read_bytes(path), str(path))
