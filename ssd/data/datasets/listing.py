"""Listing the files of a dataset's folders: links are followed, and what is passed over is named.

Hidden files and the copies that tools leave (previews, thumbnails, resource forks) look like images of the dataset, and
would be trained on as images without objects. Sizes of images are read from their headers.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from ssd.data.coverage import BROKEN_LINKS, HIDDEN, LOOPS, LOST_LINKS, TOOL_COPIES, UNREAD_FORMATS
from ssd.data.headers import SUFFIXES, UNREAD_SUFFIXES, OpenFile, image_size
from ssd.data.images import check_header, read_bytes
from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

ANNOTATIONS = (".txt", ".xml")
COPIES = (  # folders of Synology, QNAP, macOS, Jupyter and Windows, in lower case
    *("@eadir", "@__thumb", "@recycle", "#recycle", "__macosx", ".appledouble", ".ipynb_checkpoints"),
    *("$recycle.bin", "system volume information", "lost+found"),
)
MOST_OF_PATH = 4096  # bytes
SIZE_READERS = 16  # reading headers waits for the disk


@dataclass
class Listing:
    """files: path as found -> the file itself, with links resolved; sorted. skipped: reason -> what was passed over."""

    files: dict[Path, str] = field(default_factory=dict)
    skipped: dict[str, list[Path]] = field(default_factory=dict)

    def skip(self, reason: str, path: Path) -> None:
        self.skipped.setdefault(reason, []).append(path)

    def below(self, folder: Path) -> "Listing":
        """The part of it that lies in a folder."""
        start = f"{folder}{os.sep}"
        files = {path: file for path, file in self.files.items() if str(path).startswith(start)}
        skipped = {
            reason: [path for path in paths if str(path).startswith(start)] for reason, paths in self.skipped.items()
        }
        return Listing(files, {reason: paths for reason, paths in skipped.items() if paths})

    def images(self) -> dict[Path, str]:
        return {path: file for path, file in self.files.items() if is_image(path)}


def is_image(path: Path) -> bool:
    """Judged by the suffix alone."""
    return path.name.lower().endswith(SUFFIXES)


def holds_image(folder: Path) -> bool:
    """Whether there is one in a folder or below it, links to folders aside. Stops at the first."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not passed_over(name)]
        if any(name.lower().endswith(SUFFIXES) and not passed_over(name) for name in names):
            return True
    return False


def passed_over(name: str) -> str | None:
    """Why a file or folder of this name is no part of a dataset (a reason of ssd.data.coverage); None for others."""
    if name.startswith("._") or name.lower() in COPIES:
        return TOOL_COPIES
    return HIDDEN if name.startswith(".") else None


def files_below(folder: Path, deep: bool = True) -> Listing:
    """All files of a folder and the folders below it, links included; UserError for a folder that cannot be listed.

    deep: False leaves out the folders below it.
    The folder's own name is not judged: what it is called is the user's choice. Of hidden files only those are named
    as passed over that would count as images or annotations.
    """
    listing = Listing()
    waiting: list[tuple[Path, tuple[str, ...]]] = [(folder, (os.path.realpath(folder),))]
    while waiting:
        place, chain = waiting.pop()
        for entry in _entries(place):
            path, reason = place / entry.name, passed_over(entry.name)
            # Of links os.path says where they lead; entry raises for those that lead in a circle.
            linked = entry.is_symlink()
            is_folder = os.path.isdir(path) if linked else entry.is_dir()
            real = os.path.realpath(path) if linked else f"{chain[-1]}{os.sep}{entry.name}"
            if reason is not None:
                if is_folder or entry.name.lower().endswith(SUFFIXES + ANNOTATIONS):
                    listing.skip(reason, path)
            elif is_folder:
                if real in chain:
                    listing.skip(LOOPS, path)
                elif deep:
                    waiting.append((path, (*chain, real)))
            elif os.path.isfile(path) if linked else entry.is_file():
                if "." not in entry.name and _was_link(path):
                    listing.skip(LOST_LINKS, path)
                elif entry.name.lower().endswith(UNREAD_SUFFIXES):
                    listing.skip(UNREAD_FORMATS, path)
                else:
                    listing.files[path] = real
            elif linked:
                listing.skip(BROKEN_LINKS, path)
    listing.files = {path: listing.files[path] for path in sorted(listing.files, key=attrgetter("parts"))}
    return listing


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, without hidden ones and copies of tools, sorted."""
    names = [entry.name for entry in _entries(folder) if not passed_over(entry.name)]
    return sorted(folder / name for name in names if os.path.isdir(folder / name))


def find_folder(folder: Path, names: Iterable[str]) -> Path | None:
    """The folder of one of these names (in lower case, the preferred first) in a folder, however its case is.

    UserError when two differ in case alone. None when there is none.
    """
    there: dict[str, list[Path]] = {}
    for path in subfolders(folder) if os.path.isdir(folder) else ():
        there.setdefault(path.name.lower(), []).append(path)
    for name in names:
        found = there.get(name, [])
        if len(found) > 1:
            raise UserError(f"{folder}: has {' and '.join(path.name for path in found)}; keep one of them")
        if found:
            return found[0]
    return None


def merged(parts: Iterable[Mapping[str, list[Path]]]) -> dict[str, list[Path]]:
    """Reasons with all their paths, each once, sorted."""
    together: dict[str, set[Path]] = {}
    for part in parts:
        for reason, paths in part.items():
            together.setdefault(reason, set()).update(paths)
    return {reason: sorted(paths) for reason, paths in together.items()}


def fold(name: str) -> str:
    """A name without regard to case and to how accents are composed (macOS takes them apart)."""
    return unicodedata.normalize("NFC", name).casefold()


def _was_link(path: Path) -> bool:
    """Whether a file holds the path of a folder and nothing else, as git and zip write links where there are none."""
    try:
        if os.path.getsize(path) > MOST_OF_PATH:
            return False
        target = os.fsdecode(path.read_bytes()).strip()
        return bool(target) and os.path.isdir(path.parent / target)
    except (OSError, ValueError):
        return False


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise UserError(f"{folder}: cannot list the folder: {error.strerror}") from error


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


def images_in(folder: Path) -> list[Path]:
    """All images in a folder and the folders below it, sorted."""
    return [path for path in files_below(folder).files if is_image(path)]


def image_sizes(paths: Sequence[Path]) -> list["Future[tuple[int, int]]"]:
    """(width, height) of each file, in order; result() of one that is no image is a UserError naming it."""
    with ThreadPoolExecutor(SIZE_READERS) as threads:
        return [threads.submit(_size, path) for path in paths]


def _size(path: Path) -> tuple[int, int]:
    try:
        with open_regular(path) as file:
            size = image_size(OpenFile(file.fileno()))
    except OSError as error:
        raise UserError(f"{path}: cannot read the image: {error.strerror}") from error
    return size or check_header(read_bytes(path), str(path))
