import threading

import cv2
import numpy as np
import pytest

from ssd.detection.sinks.annotated import annotated_files, check_window, window
from ssd.detection.sources import Frame
from ssd.detection.video import Clip
from ssd.utils.errors import UserError

IMAGE = np.full((48, 64, 3), 90, np.uint8)


def clip(stem):
    return Clip(f"{stem}.mov", stem, 10.0, 2, live=False)


def test_images_stay_images_and_videos_videos(tmp_path):
    first, second = clip("one"), clip("two")
    with annotated_files(tmp_path, "mp4v") as show:
        show(Frame("a.webp", IMAGE), IMAGE)
        for number in range(3):
            show(Frame(f"one_{number}.jpg", IMAGE, clip=first, number=number), IMAGE)
        assert not (tmp_path / "videos" / "one.mp4").exists()
        show(Frame("b.png", IMAGE), IMAGE)
        assert (tmp_path / "videos" / "one.mp4").exists()
        show(Frame("two_0.jpg", IMAGE, clip=second), IMAGE)
    assert sorted(file.name for file in (tmp_path / "images").iterdir()) == ["a.webp.jpg", "b.png"]
    assert sorted(file.name for file in (tmp_path / "videos").iterdir()) == ["one.mp4", "two.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "videos" / "one.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (3, 10)


def test_an_unfinished_video_vanishes_a_finished_one_stays(tmp_path):
    def fail():
        with annotated_files(tmp_path, "MJPG") as show:
            show(Frame("one_0.jpg", IMAGE, clip=clip("one")), IMAGE)
            show(Frame("two_0.jpg", IMAGE, clip=clip("two")), IMAGE)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert [file.name for file in (tmp_path / "videos").iterdir()] == ["one.avi"]


def test_no_window_without_a_gui_or_a_display(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(UserError, match=r"job.window=true: this OpenCV has no windows; .*ssd\[gui\]"):
        check_window()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="there is no display here"):
        check_window()
    monkeypatch.setenv("DISPLAY", ":0")
    check_window()


def test_the_window_shows_frames_until_it_is_closed(monkeypatch):
    """OpenCV's functions, played by others: the build that tests run with has no windows."""
    keys, shown, closed = iter([-1, ord("q")]), [], threading.Event()
    for name, function in {
        "namedWindow": lambda *_: None,
        "imshow": lambda _, image: shown.append(image[0, 0].tolist()),
        "waitKey": lambda _: next(keys),
        "getWindowProperty": lambda *_: 1.0,
        "destroyWindow": lambda _: shown.append("gone"),
    }.items():
        monkeypatch.setattr(cv2, name, function)
    red = np.zeros_like(IMAGE)
    red[:] = (255, 0, 0)
    with window(closed) as show:
        show(Frame("a", IMAGE, clip=clip("a")), red)
        assert not closed.is_set()
        show(Frame("a", IMAGE, clip=clip("a")), red)
        assert closed.is_set()
    assert shown == [[0, 0, 255], [0, 0, 255], "gone"]
