"""Which images show the same: copies of a file, and near copies (scaled, compressed anew, a frame later)."""

import contextlib
import hashlib
import io
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ssd.data.base import Sample
from ssd.data.inspection.looking import THUMB, ImageFacts, key_of, look_at_all
from ssd.utils.atomic_files import read_limited, write_atomically
from ssd.utils.errors import UserError
from ssd.utils.progress import progress

log = logging.getLogger(__name__)

HASH_BITS = 6  # of 64 that may differ between images that are then compared by their thumbnails
GRAY_LEVELS = 4.0  # mean difference of the thumbnails up to which images count as similar
LEAST_CONTRAST = 8.0  # standard deviation of a thumbnail; flatter ones are all alike
LARGEST = 0.5  # of all images that may be alike; with more of them likeness tells nothing: one camera that stands still
CHUNK = 256  # images compared with all others at a time
DIGEST = 16  # bytes


def groups(samples: Sequence[Sample], cache: Path | None) -> tuple[list[int], bool]:
    """A group number per sample; those of equal or nearly equal images have the same.

    Each image is read once; in `cache` what is needed of them is kept, for as long as they stay as they are. The second
    value: whether nearly equal ones are grouped. They are not where that would join most of the images.
    """
    digests, thumbs = _looks(samples, cache)
    equal = np.unique(np.array([digest or f"{place}".encode() for place, digest in enumerate(digests)]),
                      return_inverse=True)[1]  # fmt: skip
    near = joined(equal, thumbs)
    if len(near) > 2 and max(Counter(near.tolist()).values()) > max(LARGEST * len(near), _largest(equal)):
        return equal.tolist(), False
    return near.tolist(), True


def _largest(labels: np.ndarray) -> int:
    return int(np.bincount(labels).max())


def joined(labels: np.ndarray, thumbs: Sequence[np.ndarray | None]) -> np.ndarray:
    """Labels [N] of groups, joined where two members look nearly the same. thumbs: uint8 [THUMB, THUMB] each."""
    labels = labels.copy()
    places, gray, signs = usable(thumbs)
    for start in range(0, len(places), CHUNK):
        rows = signs[start : start + CHUNK]
        # The product counts equal bits minus different ones.
        close = rows @ signs[start:].T >= 64 - 2 * HASH_BITS
        for row in range(len(rows)):
            mine = places[start + row]
            others = start + row + 1 + np.flatnonzero(close[row, row + 1 :])
            others = others[labels[places[others]] != labels[mine]]
            if not len(others):
                continue
            distance = np.abs(gray[others].astype(np.int16) - gray[start + row]).mean(axis=1)
            same = np.unique(labels[places[others[distance <= GRAY_LEVELS]]])
            if len(same):
                labels[np.isin(labels, same)] = labels[mine]
    return labels


def usable(thumbs: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the images that can be distinguished, their thumbnails [N, THUMB²] and difference hashes [N, 64]."""
    places = [place for place, thumb in enumerate(thumbs) if thumb is not None]
    gray = np.array([thumbs[place] for place in places], np.uint8).reshape(-1, THUMB * THUMB)
    contrast = gray.std(axis=1) >= LEAST_CONTRAST
    return np.array(places, np.int64)[contrast], gray[contrast], difference_hash(gray[contrast])


def difference_hash(thumbs: np.ndarray) -> np.ndarray:
    """float32 [N, 64] of 1 and -1 for thumbnails [N, THUMB²]: which of two neighbors is brighter, on a grid of 8x8
    means. The product of two hashes counts equal bits minus different ones."""
    grid = thumbs.reshape(-1, 8, THUMB // 8, 8, THUMB // 8).astype(np.int32).sum(axis=(2, 4))
    brighter = grid > np.roll(grid, -1, axis=2)
    return np.where(brighter.reshape(-1, 64), 1, -1).astype(np.float32)


def _looks(samples: Sequence[Sample], cache: Path | None) -> tuple[list[bytes | None], list[np.ndarray | None]]:
    """Digest and thumbnail of every image, None where it cannot be read or decoded."""
    keys = [key_of(sample) or "" for sample in samples]
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]
    file = None if cache is None else cache / f"thumbnails-{name}.npy"
    table = None if file is None else _saved(file, (len(samples), 2 + DIGEST + THUMB * THUMB))
    if table is None:
        table = _table(samples)
        if file is not None:
            with contextlib.suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, _npy(table))
    digests = [row[2 : 2 + DIGEST].tobytes() if row[0] else None for row in table]
    return digests, [row[2 + DIGEST :].reshape(THUMB, THUMB) if row[1] else None for row in table]


def _saved(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The table of uint8 in a file, None where there is none, or, with a warning, where it is another or damaged."""
    size = shape[0] * shape[1]
    whole = _npy(np.zeros(shape, np.uint8))
    head = whole[: len(whole) - size]
    try:
        # As large as it must be, with the header that it must have: nothing is allocated as a file says.
        data = read_limited(file, len(whole), "the thumbnails of these images")
        if len(data) != len(whole) or not data.startswith(head):
            raise ValueError("damaged")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, UserError) as error:
        log.warning("%s: cannot be used, the images are looked at again (%s)", file, error)
        return None
    return np.frombuffer(data, np.uint8, offset=len(head)).reshape(shape)


def _table(samples: Sequence[Sample]) -> np.ndarray:
    """uint8 [N, 2 + DIGEST + THUMB²]: whether there is a digest and a thumbnail, and both."""
    table = np.zeros((len(samples), 2 + DIGEST + THUMB * THUMB), np.uint8)
    with progress("comparing images", len(samples)) as done:
        for place, (row, image) in enumerate(zip(table, look_at_all(samples), strict=True)):
            _fill(row, image)
            done(place + 1)
    return table


def _fill(row: np.ndarray, image: ImageFacts) -> None:
    if image.digest is not None:
        row[0] = 1
        row[2 : 2 + DIGEST] = np.frombuffer(image.digest, np.uint8)
    if image.thumb is not None:
        row[1] = 1
        row[2 + DIGEST :] = image.thumb.reshape(-1)


def _npy(table: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, table, allow_pickle=False)
    return data.getvalue()


def merged(*labelings: Iterable[object]) -> list[int]:
    """One labeling of things that are together wherever one of the labelings has them together."""
    columns = [list(labels) for labels in labelings]
    parents = list(range(len(columns[0])))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for labels in columns:
        first: dict[object, int] = {}
        for place, label in enumerate(labels):
            parents[root(place)] = root(first.setdefault(label, place))
    return [root(place) for place in range(len(parents))]
