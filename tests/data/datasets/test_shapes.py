import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from ssd.data.datasets.shapes import OUTLINES, Shapes, draw
from ssd.data.images import read_image
from ssd.utils.errors import UserError


def shapes(root: Path, **options) -> Shapes:
    defaults = {
        "name": "shapes",
        "root": str(root),
        "classes": ["circle", "rectangle", "triangle"],
        "image_size": 64,
        "train": 12,
        "val": 4,
        "max_objects": 3,
        "seed": 0,
        "compat": None,
    }
    return Shapes(**{**defaults, **options})


def contents(root: Path) -> dict[str, str]:
    folder = next(root.iterdir())
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_splits(tmp_path):
    dataset = shapes(tmp_path)
    assert dataset.classes == ("circle", "rectangle", "triangle")
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [12, 4, 4]
    for sample in dataset.split("train"):
        assert read_image(sample.path).shape == (64, 64, 3)
        assert (sample.width, sample.height) == (64, 64)
        assert 1 <= len(sample.boxes) <= 3


def test_the_seed_decides_every_byte(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        shapes(tmp_path / name, seed=seed).split("train")
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")
    assert len(contents(tmp_path / "a")) == 2 * 16 + 2


def test_more_images_leave_the_first_as_they_are(tmp_path):
    shapes(tmp_path / "a").split("train")
    shapes(tmp_path / "b", train=14, val=5).split("train")
    few, many = contents(tmp_path / "a"), contents(tmp_path / "b")
    few = {name: digest for name, digest in few.items() if not name.startswith("ImageSets")}
    assert few.items() <= many.items()


def test_drawn_once_per_set_of_parameters(tmp_path, monkeypatch):
    shapes(tmp_path).split("train")
    shapes(tmp_path, seed=5).split("train")
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("ssd.data.datasets.shapes.draw", lambda *_: pytest.fail("drawn again"))
    assert len(shapes(tmp_path).split("train")) == 12


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def draw_five(*arguments):
        calls.append(1)
        if len(calls) > 5:
            raise OSError("disk full")
        return draw(*arguments)

    monkeypatch.setattr("ssd.data.datasets.shapes.draw", draw_five)
    with pytest.raises(OSError, match="disk full"):
        shapes(tmp_path).split("train")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_drawn_before_it_is_asked_for(tmp_path):
    assert shapes(tmp_path).classes == ("circle", "rectangle", "triangle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OUTLINES)
def test_boxes_are_tight(name, monkeypatch):
    """Without noise, clouds and lines the object is what differs from the background."""
    monkeypatch.setattr(
        "ssd.data.datasets.shapes._background", lambda _, size: np.full((size, size, 3), 128, np.float32)
    )
    monkeypatch.setattr("ssd.data.datasets.shapes.NOISE", 0.0)
    for seed in range(20):
        image, (item,) = draw(np.random.default_rng(seed), [name], 96, 1)
        difference = np.abs(image.astype(int) - 128).max(axis=2)
        coverage = difference / difference.max()
        inner, outer = extent(coverage > 0.55), extent(coverage > 0.45)
        assert (np.minimum(inner, outer) <= item.box).all()
        assert (np.maximum(inner, outer) >= item.box).all()
        assert np.abs(inner - outer).max() <= 1


def extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1])


def test_objects_stay_visible(monkeypatch):
    """Many objects on little space: what is drawn later never hides more than a fifth of an earlier one."""
    monkeypatch.setattr("ssd.data.datasets.shapes.SIDES", (0.3, 0.5))
    for seed in range(20):
        _, objects = draw(np.random.default_rng(seed), ["circle"], 64, 12)
        for item in objects:
            width, height = item.box[2] - item.box[0] + 1, item.box[3] - item.box[1] + 1
            assert width * height > 0.7 * (0.3 * 64) ** 2


def test_default_size_is_fast(tmp_path):
    started = time.process_time()
    shapes(tmp_path, image_size=128, train=90, val=10, max_objects=4).split("train")
    assert time.process_time() - started < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["circle", "hexagon"]}, "dataset.classes has 'hexagon', shapes are circle, rectangle, triangle"),
        ({"classes": None}, "dataset.classes is null"),
        ({"image_size": 8}, "dataset.image_size=8: expected 32 or more"),
        ({"train": 0}, "dataset.train=0: expected 1 or more"),
        ({"max_objects": 0}, "dataset.max_objects=0"),
        ({"seed": -1}, "dataset.seed=-1"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        shapes(tmp_path, **options)


def test_more_images_than_the_disk_holds_are_refused_before_any_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2000000010 images of shapes need at least \d+ MB, the disk has"):
        shapes(tmp_path, train=2_000_000_000, val=10).split("train")
    assert not list(tmp_path.iterdir())
