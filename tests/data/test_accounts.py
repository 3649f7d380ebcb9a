"""Whatever lies in a dataset's folder is in a split, or named as passed over, or refused: nothing is silent."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ssd.data.base import Dataset
from ssd.data.coverage import Coverage
from ssd.data.datasets import voc_xml
from ssd.data.datasets.listing import passed_over
from ssd.data.datasets.split_names import split_of
from ssd.data.datasets.voc import VOC
from ssd.data.datasets.voc_xml import VOCObject
from ssd.data.datasets.yolo import YOLO
from ssd.utils.errors import UserError

HOLDOUT = {"val": 0.3, "test": 0, "seed": 0}
FOLDERS = ["images", "Images", "train", "val", "Valid", "test2017", "cam1", "@eaDir", ".hidden", "obj_train_data"]
STEMS = ["a", "b", "A", "._a", ".c"]


def yolo(root: Path) -> YOLO:
    return YOLO(str(root), ["cat", "dog"], None, {}, None, "error", HOLDOUT)


def voc(root: Path) -> VOC:
    splits = {"train": ["train|trainval"], "val": ["val|test"], "test": ["test|val"]}
    return VOC("test", str(root), ["cat"], splits, None, "error", HOLDOUT)


def places(labels: str, images: str, suffixes: list[str]) -> st.SearchStrategy[list[str]]:
    """Files of images and labels in some folders; as often as not the two go together."""
    tops = st.sampled_from([images, labels, ""])
    folders = st.lists(st.sampled_from(FOLDERS), max_size=2).map("/".join)
    single = st.tuples(tops, folders, st.sampled_from(STEMS), st.sampled_from([".jpg", ".png", *suffixes])).map(
        lambda parts: "/".join(part for part in parts[:2] if part) + f"/{parts[2]}{parts[3]}"
    )
    pair = st.tuples(folders, st.sampled_from(STEMS)).map(
        lambda parts: [f"{images}/{parts[0]}/{parts[1]}.jpg", f"{labels}/{parts[0]}/{parts[1]}{suffixes[0]}"]
    )
    return st.lists(st.one_of(single.map(lambda name: [name]), pair), min_size=1, max_size=7).map(
        lambda parts: sum(parts, [])
    )


def written(root: Path, names: Iterable[str], jpeg: bytes) -> set[Path]:
    """The images among the files, which are written where their names start from `root`."""
    images = set()
    for name in names:
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".jpg", ".png"):
            path.write_bytes(jpeg)
            images.add(path)
        elif path.suffix.lower() == ".xml":
            path.write_bytes(voc_xml.write(f"{path.stem}.jpg", 60, 40, [VOCObject("cat", (2, 3, 20, 30), 0)]))
        else:
            path.write_text("1 0.5 0.5 0.5 0.25\n")
    return images


def named(coverage: Coverage) -> list[str]:
    return [*coverage.unlabeled, *coverage.orphans, *(name for files in coverage.skipped.values() for name in files)]


def unaccounted(dataset: Dataset, root: Path, files: Iterable[Path]) -> list[str]:
    """Files that are neither in a split nor named nor below a folder that is named."""
    read = {sample.path for split in dataset.available for sample in dataset.split(split)}
    known = {root / name for split in dataset.available for name in named(dataset.coverage(split))}
    return [str(path) for path in files if path not in read and not known & {path, *path.parents}]


def trained_on_another_split(dataset: Dataset, root: Path) -> list[Path]:
    samples = dataset.split("train") if "train" in dataset.available else []
    train = [sample.path.relative_to(root) for sample in samples]
    return [path for path in train if {split_of(part) for part in path.parts[:-1]} & {"val", "test"}]


@pytest.fixture(scope="module")
def image() -> bytes:
    from tests.data.conftest import jpeg

    return jpeg(60, 40)


def checked(dataset: Dataset, check: Callable[[], None]) -> None:
    """Runs a check unless the dataset is refused, which takes one line."""
    try:
        for split in dataset.available or ("train",):
            dataset.split(split)
    except UserError as error:
        message = str(error)
    else:
        check()
        return
    assert "\n" not in message


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places("labels", "images", [".txt", ".jpg.txt", ".TXT"]))
@example(["images/train/a.jpg", "images/val/a.jpg", "images/b.jpg"])
@example(["train/a.jpg", "cam1/a.jpg", "images/b.jpg"])
@example(["images/train/a.jpg", "labels/val/a.txt", "cam1/a.jpg"])
def test_yolo(image, names):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "data"
        # Hidden files are of interest among the images alone.
        images = [
            path
            for path in written(root, names, image)
            if path.is_relative_to(root / "images")
            or not (path.is_relative_to(root / "labels") or any(map(passed_over, path.relative_to(root).parts)))
        ]
        dataset = yolo(root)

        def check() -> None:
            assert unaccounted(dataset, root, images) == []
            assert not trained_on_another_split(dataset, root)
            samples = [sample for split in dataset.available for sample in dataset.split(split)]
            used = sum(len(sample.boxes) for sample in samples)
            spare = len({*images} - {sample.path for sample in samples})  # named, and their labels are theirs
            texts = [path for path in (root / "labels").rglob("*") if path.suffix.lower() == ".txt"]
            assert len(unaccounted(dataset, root, texts)) <= used + spare

        checked(dataset, check)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places("Annotations", "JPEGImages", [".xml"]))
@example(["Annotations/train/a.xml", "Annotations/b.xml", "JPEGImages/train/a.jpg", "JPEGImages/b.jpg"])
def test_voc(image, names):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "data"
        images = [path for path in written(root, names, image) if path.is_relative_to(root / "JPEGImages")]
        dataset = voc(root)

        def check() -> None:
            assert unaccounted(dataset, root, images) == []
            assert not trained_on_another_split(dataset, root)

        checked(dataset, check)
