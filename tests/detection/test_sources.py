import logging
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.detection.sources import Stems, find, frames, image_name, is_video, iterate, unique_names
from ssd.utils.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """b.jpg, a.PNG, a note, and a subdirectory with another b.jpg."""
    image = np.zeros((4, 6, 3), np.uint8)
    (tmp_path / "more").mkdir()
    for name in ("b.jpg", "a.PNG", "more/b.jpg"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_single_image(photos):
    [(name, image)] = iterate(photos / "b.jpg")
    assert name == "b.jpg"
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8


def test_colors_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((2, 2, 3), (0, 0, 255), np.uint8))
    [(_, image)] = iterate(tmp_path / "red.png")
    assert image[0, 0].tolist() == [255, 0, 0]


def test_images_that_are_not_read_are_named_and_copies_of_tools_are_none(photos, caplog):
    (photos / "c.jfif").write_bytes((photos / "b.jpg").read_bytes())
    (photos / "d.heic").write_bytes(b"ftypheic")
    (photos / "._b.jpg").write_bytes(b"Mac OS X")
    assert [path.name for path in find(photos).files] == ["a.PNG", "b.jpg", "c.jfif"]
    assert "passed over 1 images of formats that are not read (d.heic)" in caplog.text


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
        ("nowhere", "nowhere: not found; expected an image, a video, a directory of them, a glob"),
        ("empty", "empty: no images or videos in this directory"),
        ("*.gif", "matches no images or videos"),
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
    with pytest.raises(UserError, match="none of its 2 files can be read"):
        list(iterate(tmp_path))


def test_a_file_is_taken_whatever_its_suffix(photos):
    assert list(find(photos / "notes.txt").files) == [photos / "notes.txt"]


def test_unique_names():
    paths = [Path(path) for path in ("x/a/dog.jpg", "y/a/dog.jpg", "x/b/dog.jpg", "x/b/cat.jpg", "x/b/dog.png")]
    names = unique_names(paths)
    assert names == ["x_a_dog.jpg", "y_a_dog.jpg", "b_dog.jpg", "cat.jpg", "dog.png"]
    assert unique_names([]) == []


def test_a_file_named_like_a_prefixed_one_stays_apart():
    paths = [Path(path) for path in ("x/a/dog.jpg", "x/b/dog.jpg", "x/a_dog.jpg", "x/c/b_dog.jpg")]
    names = unique_names(paths)
    assert len(set(names)) == 4


def test_image_names_stay_different():
    assert [image_name(name) for name in ("dog.jpg", "dog.PNG", "dog.webp", "dog")] == [
        "dog.jpg",
        "dog.PNG",
        "dog.webp.jpg",
        "dog.jpg",
    ]


def test_stems_stay_different():
    stems = Stems()
    assert [stems.take(name) for name in ("dog.jpg", "dog.png", "dog_png", "dog.png")] == [
        "dog",
        "dog_png",
        "dog_png_2",
        "dog_png_3",
    ]


def test_damage_is_an_error_when_asked(photos):
    (photos / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        list(frames(find(photos), "error"))


def test_a_camera_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = find("99")
    assert source.camera == 99
    with pytest.raises(UserError, match="source=99: there is no camera 99 here"):
        list(frames(source, "skip"))
    (tmp_path / "99").mkdir()
    with pytest.raises(UserError, match="99: no images or videos in this directory"):
        find("99")  # a file or directory of that name comes first


def test_frames_of_images_and_videos_together(photos, moving):
    moving(photos / "b.avi", 3)
    found = list(frames(find(photos), "skip"))
    assert [(frame.name, frame.number) for frame in found] == [
        ("a.PNG", 0),
        ("b_000000.jpg", 0),
        ("b_000001.jpg", 1),
        ("b_000002.jpg", 2),
        ("b.jpg", 0),
    ]
    assert found[0].path == photos / "a.PNG"
    assert found[1].clip.name == "b.avi"


def test_kinds_of_files(photos, moving):
    moving(photos / "film.avi", 2).rename(photos / "film.bin")
    assert is_video(photos / "film.bin")
    assert not is_video(photos / "b.jpg")
    (photos / "b.jpg").rename(photos / "b")
    assert not is_video(photos / "b")
    assert len(list(iterate(photos / "film.bin"))) == 2


def test_a_text_is_neither_image_nor_video(photos):
    with pytest.raises(UserError, match=r"notes\.txt: neither an image nor a video"):
        list(iterate(photos / "notes.txt"))


def test_a_folder_named_as_a_camera_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, jpeg: Callable[[int, int], bytes]
) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.jpg").write_bytes(jpeg(8, 8))
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO"):
        assert find("0").files == [Path("0/a.jpg")]
    assert caplog.messages == ["source=0: the directory of this name, not the camera"]
    assert find("1").camera == 1


def test_a_name_that_is_not_utf8_is_skipped(photos, caplog):
    (photos / "caf\udce9.jpg").write_bytes((photos / "b.jpg").read_bytes())
    assert [name for name, _ in iterate(photos)] == ["a.PNG", "b.jpg"]
    assert "its name is not UTF-8 text; rename it" in caplog.text


@pytest.mark.parametrize("name", ["c.mp4", "c.jpg", "c"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_regular_file_is_passed_over_without_waiting(photos, name, kind, caplog):
    match kind:
        case "pipe":
            os.mkfifo(photos / name)
        case "device":
            (photos / name).symlink_to("/dev/zero")
        case _:
            (photos / name).mkdir()
    assert [found for found, _ in iterate(photos)] == ["a.PNG", "b.jpg"]
    assert [found for found, _ in iterate(str(photos / "*"))] == ["a.PNG", "b.jpg"]
