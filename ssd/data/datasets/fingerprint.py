"""A short name for the contents of a dataset, so that two runs can be seen to have used the same."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ssd.data.base import Sample

DIGEST_BYTES = 8  # sixteen hexadecimal digits


def fingerprint(samples: Sequence[Sample], classes: Sequence[str]) -> str:
    """Sixteen hexadecimal digits: of the class names, and of each sample's id, size, boxes and crowds.

    The same for the same contents in any order, wherever they lie; no image is opened (100,000 samples take a quarter
    of a second). Images whose pixels alone have changed are not noticed.
    """
    rows = sorted(_of_one(sample) for sample in samples)
    return _digest(b"".join([_digest("\0".join(classes).encode()), *rows])).hex()


def fingerprints(splits: Mapping[str, Sequence[Sample]], classes: Sequence[str]) -> dict[str, str]:
    """Name of a split -> its fingerprint; and under "" that of all of them together."""
    parts = {name: fingerprint(samples, classes) for name, samples in splits.items()}
    together = "".join(f"{name}={part};" for name, part in sorted(parts.items()))
    return {"": _digest(together.encode()).hex(), **parts}


def same_images(first: Sequence[Sample], second: Sequence[Sample]) -> bool:
    """Whether two splits are the same images with the same boxes, whatever the files are called.

    Files are only read where sizes and boxes are all equal. Errors: UserError for one that cannot be read.
    """
    if sorted(map(_shape_of, first)) != sorted(map(_shape_of, second)):
        return False
    paths = [sorted(str(sample.path) for sample in samples) for samples in (first, second)]
    return paths[0] == paths[1] or Counter(map(_content_of, first)) == Counter(map(_content_of, second))


def _shape_of(sample: Sample) -> bytes:
    return _of_one(replace(sample, id=""))


def _content_of(sample: Sample) -> bytes:
    return _digest(sample.read()) + _shape_of(sample)


def _of_one(sample: Sample) -> bytes:
    boxes, crowds = (np.ascontiguousarray(rows, dtype="<f4") for rows in (sample.boxes, sample.crowds))
    head = f"{sample.id}\0{sample.width}x{sample.height}\0{len(boxes)}\0"
    return _digest(head.encode(errors="surrogateescape") + boxes.tobytes() + crowds.tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
