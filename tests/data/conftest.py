"""A small dataset in VOC layout, written anew for every test that asks for it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from ssd.data.datasets import voc_xml
from ssd.data.datasets.voc import VOC
from ssd.data.datasets.voc_xml import VOCObject

SIZE = (60, 40)  # width, height


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG of soft colored noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(small, (width, height)))[1].tobytes()


class VOCFolder:
    """root with Annotations, JPEGImages and ImageSets/Main; add() one image at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True)

    def add(self, identifier: str, objects: list[tuple], image: bytes | None = None) -> None:
        """objects: (name, xmin, ymin, xmax, ymax[, difficult]) as XML has them."""
        rows = [VOCObject(name, tuple(box[:4]), *(box[4:] or (0,))) for name, *box in objects]
        data = jpeg(*SIZE, seed=crc32(identifier.encode())) if image is None else image
        (self.root / "JPEGImages" / f"{identifier}.jpg").write_bytes(data)
        self.xml(identifier).write_bytes(voc_xml.write(f"{identifier}.jpg", *SIZE, rows))

    def xml(self, identifier: str) -> Path:
        return self.root / "Annotations" / f"{identifier}.xml"

    def sets(self, **ids: list[str]) -> None:
        for name, lines in ids.items():
            (self.root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))

    def dataset(self, **options) -> VOC:
        defaults = {
            "name": "test",
            "root": str(self.root),
            "classes": None,
            "splits": {"train": ["train|trainval"], "val": ["val|test"], "test": ["test|val"]},
            "compat": None,
            "out_of_range": "error",
            "holdout": {"val": 0.2, "test": 0.0, "seed": 0},
        }
        return VOC(**{**defaults, **options})


@pytest.fixture(name="jpeg")
def _jpeg() -> Callable[..., bytes]:
    return jpeg


@pytest.fixture
def voc(tmp_path: Path) -> VOCFolder:
    """Three images with objects in train, one without in val."""
    folder = VOCFolder(tmp_path / "voc")
    folder.add("a", [("dog", 11, 6, 30, 20), ("cat", 1, 1, 60, 40, 1)])
    folder.add("b", [("cat", 5.5, 6.25, 20, 30)])
    folder.add("c", [])
    folder.sets(train=["a", "b", "c"], val=["c"])
    return folder


FAST = SimpleNamespace(name="fast", workers=0, prefetch=2, patience_s=None, on_hung="wait")


@pytest.fixture
def make_cfg() -> Callable[..., DictConfig]:
    """The parts of the configuration that the loader reads."""

    def plain(value: Any) -> Any:
        if isinstance(value, SimpleNamespace):
            return {key: plain(each) for key, each in vars(value).items()}
        return value

    def make(augment: str = "none", loader: SimpleNamespace = FAST, **values) -> DictConfig:
        from hydra import compose, initialize_config_dir

        conf = str(Path(__file__).resolve().parents[2] / "conf")
        with initialize_config_dir(conf, version_base=None):
            group = compose(f"augment/{augment}").augment
        defaults = {
            "batch_size": 2,
            "epochs": 10,
            "seed": 0,
            "compat": None,
            "resize_mode": "force",
            "loader": {**vars(FAST), **vars(loader)},
            "augment": group,
            "data_shape": SimpleNamespace(height=32, width=48),
            "backbone": SimpleNamespace(input=SimpleNamespace(mean=[123.0, 117.0, 104.0], std=[58.0, 57.0, 56.0])),
            "device": SimpleNamespace(name="cpu"),
        }
        return OmegaConf.create({key: plain(value) for key, value in {**defaults, **values}.items()})

    return make
