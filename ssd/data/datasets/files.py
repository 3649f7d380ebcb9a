"""Reading what lies around pictures: text of bounded size, the pictures of a folder, their sizes."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ssd.data.datasets.listing import files_below, is_picture
from ssd.data.headers import OpenFile, picture_size
from ssd.data.images import check_header, read_bytes
from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

SIZE_READERS = 16  # reading headers waits for the disk


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
