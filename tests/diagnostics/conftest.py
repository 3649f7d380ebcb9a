"""A dataset in VOC layout that is healthy until a test makes it ill."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.data.datasets import voc_xml
from ssd.data.datasets.voc import VOC
from ssd.data.datasets.voc_xml import VOCObject

SIZE = (96, 64)  # width, height


def noise(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """HxWx3 uint8: soft colored patches, different for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Folder:
    """train holds t0 .. t3, val v0 and v1, each with a dog of 40x30 and a cat of 20x20 pixels."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True)
        self.sets = {"train": ["t0", "t1", "t2", "t3"], "val": ["v0", "v1"]}
        for seed, identifier in enumerate([*self.sets["train"], *self.sets["val"]]):
            self.add(identifier, [("dog", 11, 11, 50, 40), ("cat", 61, 31, 80, 50)], jpeg(noise(seed)))
        self.write_sets()

    def write_sets(self) -> None:
        for name, ids in self.sets.items():
            (self.root / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(ids) + "\n")

    def add(self, identifier: str, objects: list[tuple], image: bytes, size: tuple[int, int] = SIZE) -> None:
        """objects: (name, xmin, ymin, xmax, ymax) as XML has them."""
        self.image(identifier).write_bytes(image)
        self.objects(identifier, objects, size)

    def objects(self, identifier: str, objects: list[tuple], size: tuple[int, int] = SIZE) -> None:
        rows = [VOCObject(name, tuple(box), 0) for name, *box in objects]
        self.xml(identifier).write_bytes(voc_xml.write(f"{identifier}.jpg", *size, rows))

    def image(self, identifier: str) -> Path:
        return self.root / "JPEGImages" / f"{identifier}.jpg"

    def xml(self, identifier: str) -> Path:
        return self.root / "Annotations" / f"{identifier}.xml"

    def dataset(self, **options) -> VOC:
        splits = {"train": ["train"], "val": ["val"], "test": []}
        defaults = {
            "name": "t",
            "root": str(self.root),
            "classes": ["cat", "dog"],
            "splits": splits,
            "compat": None,
            "out_of_range": "error",
            "holdout": {"val": 0.2, "test": 0.0, "seed": 0},
        }
        return VOC(**{**defaults, **options})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "voc")


@pytest.fixture(name="noise")
def _noise():
    return noise


@pytest.fixture(name="jpeg")
def _jpeg():
    return jpeg
