"""Images as annotations name them: found on disk, each file once, each with an id of its own."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ssd.data.datasets.listing import passed_over
from ssd.data.headers import SUFFIXES
from ssd.utils.errors import UserError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class ImageFolder:
    """The folder that names in annotation files start from. Folders are listed once: asking for each of 100,000 files
    would take minutes on a network disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed = cache(_listed)
        self._found: dict[str, Path] = {}

    def find(self, name: str) -> Path:
        """The file of a name; UserError when there is none.

        A name that is not there as it is written is tried with "/" for "\\", without its leading folders (which are
        often those of another machine, or of a URL), with capitals and small letters alike, and, where it has no
        suffix, with that of an image.
        """
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def images(self, places: Iterable[Path]) -> list[Path]:
        """All images in some folders, without those below them, sorted."""
        found = (place / name for place in set(places) for name in self._listed(place))
        return sorted(path for path in found if path.suffix.lower() in SUFFIXES and not passed_over(path.name))

    def _search(self, name: str) -> Path:
        for text in dict.fromkeys((name, name.replace("\\", "/"))):
            path = Path(os.path.normpath(self.folder / text))
            if self._has(path):
                return path
        parts = _parts(name)
        inside = [self.folder.joinpath(*parts[start:]) for start in range(len(parts))]
        for path in inside:
            if self._has(path):
                return path
        for path in inside:
            if found := self._alike(path):
                return found
        raise UserError(f"{inside[0] if inside else self.folder / name}: no such image{self._hint(inside)}")

    def _has(self, path: Path) -> bool:
        return path.name in self._listed(path.parent)

    def _alike(self, path: Path) -> Path | None:
        """The one file whose name differs in capitals or by a suffix that `path` lacks."""
        names = self._listed(path.parent)
        wanted = path.name.lower()
        alike = [name for name in names if name.lower() == wanted]
        if not alike and path.suffix.lower() not in SUFFIXES:
            alike = [f"{path.name}{suffix}" for suffix in SUFFIXES if f"{path.name}{suffix}" in names]
        return path.with_name(alike[0]) if len(alike) == 1 else None

    def _hint(self, tried: Sequence[Path]) -> str:
        if not self.folder.is_dir():
            return f"; {self.folder} is no folder"
        for path in tried:
            same = sorted(name for name in self._listed(path.parent) if Path(name).stem == path.stem)
            if same:
                return f", but {' and '.join(same[:2])}"
        return ""


def ids(names: Sequence[str]) -> list[str]:
    """An id per image, given their paths with "/": the file's name without folder and suffix where no other has the
    same, else the path without suffix, else the path."""
    stems = [PurePosixPath(name).stem for name in names]
    longer = [str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name for name in names]
    stem_counts, longer_counts = Counter(stems), Counter(longer)
    return [
        stem if stem_counts[stem] == 1 else path if longer_counts[path] == 1 else name
        for stem, path, name in zip(stems, longer, names, strict=True)
    ]


def relative(path: Path, folder: Path) -> str:
    """A path from a folder on, with "/", where it lies in it; so that a moved copy has the same names."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def clean(name: str) -> str:
    """A name as a path with "/": of a URL its path, without a drive's backslashes and "./"."""
    return "/".join(_parts(name))


def _parts(name: str) -> list[str]:
    """The folders and the file of a name, of a URL's path or of another system's path."""
    text = unquote(urlsplit(name).path) if URL.match(name) else name
    text = os.path.normpath("/" + text.replace("\\", "/"))
    return [part for part in text.split("/") if part]


def _listed(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if not entry.is_dir())
    except OSError:
        return frozenset()
