"""What `source=` points at, as a stream of named images: an image file, a directory, or a glob pattern."""

import glob
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ssd.data.images import read_image
from ssd.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png")  # result pictures keep these, others become .jpg

log = logging.getLogger(__name__)


def iterate(source: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, HxWx3 uint8 RGB image) one at a time; names are unique within the source (see `unique_names`).

    An image that cannot be read is skipped with a warning if there are others. Raises UserError if the source does not
    exist or has no images, before the first image; and if none of its images could be read, after the last.
    """
    paths = find_images(source)
    return _read(source, paths)


def find_images(source: str | Path) -> list[Path]:
    """The image files a source names, sorted by path.

    A directory means its own files, not those of its subdirectories; a glob may say `photos/**/*.jpg`. Other files
    beside the images are passed over; a single file is taken whatever its suffix. Raises UserError if there are none.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    known = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
    if path.is_dir():
        if found := _images(path.iterdir()):
            return found
        raise UserError(
            f"source={source}: no images in this directory (looking for {known}; subdirectories do not count)"
        )
    if not glob.has_magic(str(source)):
        raise UserError(
            f"source={source}: not found; expected an image, a directory of images or a glob like 'photos/*.jpg'"
        )
    if found := _images(map(Path, glob.iglob(str(source), recursive=True))):
        return found
    raise UserError(f"source={source}: matches no images (looking for {known})")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each path, all different: as it is, or with the folders in front that tell it from its namesakes.

    a/dog.jpg, b/dog.jpg, b/cat.jpg -> a_dog.jpg, b_dog.jpg, cat.jpg
    """
    names = [path.name for path in paths]
    for depth in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        clashing = {name for name, count in Counter(names).items() if count > 1}
        names = [
            "_".join(path.parts[-depth:]) if name in clashing else name for path, name in zip(paths, names, strict=True)
        ]
    if len(set(names)) < len(names):  # a/b.jpg beside a_b.jpg, say
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    return names


def picture_name(name: str) -> str:
    """File name for the result picture of an image: dog.jpg and dog.png stay, dog.webp becomes dog.webp.jpg."""
    return name if Path(name).suffix.lower() in PICTURE_SUFFIXES else f"{name}.jpg"


def _read(source: str | Path, paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    unreadable = 0
    for name, path in zip(unique_names(paths), paths, strict=True):
        try:
            image = read_image(path)
        except UserError as error:
            if len(paths) == 1:
                raise
            unreadable += 1
            log.warning("skipped: %s", error)
            continue
        yield name, image
    if unreadable == len(paths):
        raise UserError(f"source={source}: none of its {len(paths)} images can be read")


def _images(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())
