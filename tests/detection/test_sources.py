import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.detection.sources import find_images, iterate, picture_name, unique_names
from ssd.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """b.jpg, a.PNG, a note, and a subdirectory with another b.jpg."""
    picture = np.zeros((4, 6, 3), np.uint8)
    (tmp_path / "more").mkdir()
    for name in ("b.jpg", "a.PNG", "more/b.jpg"):
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_single_image(photos):
    [(name, image)] = iterate(photos / "b.jpg")
    assert name == "b.jpg"
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8


def test_colours_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((2, 2, 3), (0, 0, 255), np.uint8))
    [(_, image)] = iterate(tmp_path / "red.png")
    assert image[0, 0].tolist() == [255, 0, 0]


def test_a_directory_is_its_own_images_sorted(photos):
    assert [name for name, _ in iterate(str(photos))] == ["a.PNG", "b.jpg"]


def test_a_glob_reaches_deeper_and_names_stay_different(photos):
    names = [name for name, _ in iterate(f"{photos}/**/*.*")]
    assert sorted(names) == sorted(["a.PNG", f"{photos.name}_b.jpg", "more_b.jpg"])


def test_brackets_in_an_existing_name_are_no_glob(photos):
    (photos / "b.jpg").rename(photos / "[1].jpg")
    assert [name for name, _ in iterate(photos / "[1].jpg")] == ["[1].jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere: not found; expected an image, a directory of images or a glob"),
        ("0", "source=0: not found"),
        ("empty", "empty: no images in this directory"),
        ("*.gif", "matches no images"),
    ],
)
def test_nothing_to_show_is_an_error_before_the_first_image(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        iterate(source)


def test_one_of_several_that_cannot_be_read_is_skipped_with_a_warning(photos, caplog):
    (photos / "broken.jpg").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        assert [name for name, _ in iterate(photos)] == ["a.PNG", "b.jpg"]
    assert "broken.jpg" in caplog.text


def test_the_only_one_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        list(iterate(tmp_path))


def test_none_that_can_be_read_is_an_error(tmp_path):
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError, match="none of its 2 images can be read"):
        list(iterate(tmp_path))


def test_a_file_is_taken_whatever_its_suffix(photos):
    assert find_images(photos / "notes.txt") == [photos / "notes.txt"]


def test_unique_names():
    paths = [Path(path) for path in ("x/a/dog.jpg", "y/a/dog.jpg", "x/b/dog.jpg", "x/b/cat.jpg", "x/b/dog.png")]
    names = unique_names(paths)
    assert names == ["x_a_dog.jpg", "y_a_dog.jpg", "b_dog.jpg", "cat.jpg", "dog.png"]
    assert unique_names([]) == []


def test_a_file_named_like_a_prefixed_one_stays_apart():
    paths = [Path(path) for path in ("x/a/dog.jpg", "x/b/dog.jpg", "x/a_dog.jpg", "x/c/b_dog.jpg")]
    names = unique_names(paths)
    assert len(set(names)) == 4


def test_picture_names_stay_different():
    assert [picture_name(name) for name in ("dog.jpg", "dog.PNG", "dog.webp", "dog")] == [
        "dog.jpg",
        "dog.PNG",
        "dog.webp.jpg",
        "dog.jpg",
    ]
