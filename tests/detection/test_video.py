import tracemalloc

import cv2
import numpy as np
import pytest

from ssd.detection.sources import find, frames
from ssd.detection.video import SUFFIX_OF, Clip, open_video, read_frames, suffix_of, video_file
from ssd.utils.errors import UserError


def read(path):
    """(frames, fps, size) that a file says it has, and its frames."""
    capture, clip = open_video(path, "x")
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    return (clip.frames, clip.fps, size), [image for _, _, image in read_frames(capture, clip)]


def frame_image(number, size=(64, 48)):
    image = np.full((size[1], size[0], 3), 100, np.uint8)
    image[:, : 8 + number] = (200, 40, 40)  # RGB
    return image


@pytest.mark.parametrize(("codec", "fps"), [("mp4v", 25.0), ("mp4v", 30000 / 1001), ("MJPG", 12.5)])
def test_what_is_written_can_be_read_back(tmp_path, codec, fps):
    path = tmp_path / f"out{suffix_of(codec)}"
    with video_file(path, fps, (64, 48), codec) as add:
        for number in range(10):
            add(frame_image(number))
        assert not path.exists()
    (count, read_fps, size), images = read(path)
    assert (count, size) == (10, (64, 48))
    assert read_fps == pytest.approx(fps, abs=1e-3)
    assert len(images) == 10
    for number, image in enumerate(images):
        assert np.abs(image[20, 2].astype(int) - (200, 40, 40)).max() < 30, "red is red"
        assert np.abs(image.astype(int) - frame_image(number)).mean() < 8
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_odd_sides_get_a_line_more(tmp_path):
    with video_file(tmp_path / "odd.mp4", 25, (63, 47), "mp4v") as add:
        add(frame_image(0, (63, 47)))
        add(frame_image(0, (80, 80)))  # a stream that changes its size
    assert read(tmp_path / "odd.mp4")[0] == (2, 25, (64, 48))


def test_nothing_is_left_of_a_video_that_is_not_finished(tmp_path):
    def fail():
        with video_file(tmp_path / "x.mp4", 25, (64, 48), "mp4v") as add:
            add(frame_image(0))
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_codec_that_opencv_lacks(tmp_path):
    with pytest.raises(UserError, match="job.codec=H265: no such codec, choose from mp4v"):
        suffix_of("H265")
    assert set(SUFFIX_OF.values()) == {".mp4", ".avi"}
    with pytest.raises(UserError, match="this OpenCV cannot write mp4v"):  # not into this kind of file
        video_file(tmp_path / "x.nonsense", 25, (64, 48), "mp4v").__enter__()
    assert not list(tmp_path.iterdir())


def test_reading(tmp_path, moving):
    capture, clip = open_video(moving(tmp_path / "a.mp4", 7), "a")
    assert (clip.name, clip.stem, clip.fps, clip.frames, clip.live) == ("a.mp4", "a", 12.5, 7, False)
    numbers, seconds, images = zip(*read_frames(capture, clip), strict=True)
    assert numbers == tuple(range(7))
    assert seconds == pytest.approx([number / 12.5 for number in range(7)])
    assert images[3].shape == (48, 64, 3)
    assert images[3][14, 8, 0] > 150  # the square is red: RGB
    assert images[3][14, 8, 2] < 100


def boxes(data, *names):
    """Start and end of the MP4 boxes of a path of names, innermost last."""
    places, start, end = [], 0, len(data)
    for name in names:
        at = start
        while data[at + 4 : at + 8] != name:
            at += int.from_bytes(data[at : at + 4], "big")
            assert at < end, name
        places.append((at, at + int.from_bytes(data[at : at + 4], "big")))
        start, end = at + 8, places[-1][1]
    return places


def turned(path, degrees):
    """Puts a display matrix into a video, as phones write it."""
    data = bytearray(path.read_bytes())
    start = boxes(data, b"moov", b"trak", b"tkhd")[-1][0] + 8 + 40  # version 0: the matrix follows 40 bytes of others
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    numbers = (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1)
    for place, number in enumerate(numbers):
        data[start + 4 * place : start + 4 * place + 4] = (number << (30 if place == 8 else 16)).to_bytes(
            4, "big", signed=True
        )
    path.write_bytes(data)
    return path


def with_pauses(path, ticks):
    """Gives every frame of a video a duration of its own. ticks: in those that all had before, the same in sum."""
    data = path.read_bytes()
    places = boxes(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts")
    start, end = places[-1]
    tick = int.from_bytes(data[start + 20 : start + 24], "big")
    rows = b"".join((1).to_bytes(4, "big") + int(tick * number).to_bytes(4, "big") for number in ticks)
    table = bytes(4) + len(ticks).to_bytes(4, "big") + rows
    grown = bytearray(data[: start + 8] + table + data[end:])
    assert boxes(data, b"mdat")[0][0] < places[0][0], "frames come first, so that none moves"
    for at, until in places:
        grown[at : at + 4] = (until - at + len(table) - (end - start - 8)).to_bytes(4, "big")
    path.write_bytes(grown)
    return path


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_upright(tmp_path, moving, degrees):
    path = moving(tmp_path / "a.mp4", 4)
    plain = [frame.image for frame in frames(find(path), "error")]
    upright = [frame.image for frame in frames(find(turned(path, degrees)), "error")]
    assert len(upright) == 4
    for image, other in zip(upright, plain, strict=True):
        np.testing.assert_array_equal(image, np.rot90(other, -degrees // 90))


def test_times_are_those_of_the_file(tmp_path, moving, caplog):
    path = with_pauses(moving(tmp_path / "a.mp4", 6, fps=10), [0.5, 0.5, 0.5, 1.5, 1.5, 1.5])
    found = list(frames(find(path), "error"))
    assert [frame.seconds for frame in found] == pytest.approx([0, 0.05, 0.1, 0.15, 0.3, 0.45])
    assert not caplog.records


class Stream:
    """A capture whose frames have the given times, in milliseconds; None = one that cannot be read."""

    def __init__(self, times):
        self._times, self._now = iter(times), 0.0

    def read(self):
        now = next(self._times, None)
        self._now = self._now if now is None else now
        return now is not None, None if now is None else np.zeros((4, 4, 3), np.uint8)

    def get(self, _):
        return self._now

    def release(self):
        pass


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 40, 80], [0, 0.04, 0.08]),
        ([0, 0, 0], [0, None, None]),  # a stream without time stamps
        ([500, 540, 530, 580], [0.5, 0.54, None, 0.58]),
        ([0, None, 80], [0, 0.08]),
        ([0, float("nan"), 80], [0, None, 0.08]),
    ],
)
def test_times_grow_or_are_not_given(times, expected):
    found = list(read_frames(Stream(times), Clip("a", "a", 25.0, len(times), live=False)))
    assert [seconds for _, seconds, _ in found] == expected
    assert [number for number, _, _ in found] == [place for place, time in enumerate(times) if time is not None]


def test_a_header_that_promises_too_many_frames_is_no_damage(monkeypatch, tmp_path):
    from ssd.detection import sources

    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    for ends, whole in ((1000, True), (400, False)):
        stream = Stream([ends * step // 4 for step in range(5)])
        monkeypatch.setattr(sources, "open_video", lambda *_, s=stream: (s, Clip("a.mp4", "a", 10.0, 11, live=False)))
        if whole:
            assert len(list(frames(find(path), "error"))) == 5
        else:
            with pytest.raises(UserError, match="5 of the 11 frames"):
                list(frames(find(path), "error"))


def test_a_written_video_keeps_the_times(tmp_path):
    path = tmp_path / "a.mp4"
    with video_file(path, 10, (64, 48), "mp4v") as add:
        for number, seconds in enumerate([0, 0.1, 0.12, 0.5, 0.61, None]):
            add(frame_image(4 * number), seconds)
    _, images = read(path)
    shown = [round((np.abs(image[20] - [200, 40, 40]).max(axis=1) < 60).sum() / 4 - 2) for image in images]
    assert shown == [0, 2, 2, 2, 2, 3, 4, 5]


def test_what_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.mp4: neither an image nor a video"):
        open_video(path, "a")


def cut_short(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_a_video_that_is_cut_short(tmp_path, moving, caplog):
    source = find(cut_short(moving(tmp_path / "a.avi", 40), 0.6))
    found = list(frames(source, "skip"))
    assert 10 < len(found) < 40
    assert f"a.avi: {len(found)} of the 40 frames it should have can be read" in caplog.text
    with pytest.raises(UserError, match=r"a\.avi: \d+ of the 40 frames"):
        list(frames(source, "error"))


def test_a_damaged_frame_is_skipped_and_told(tmp_path, moving, caplog):
    path = moving(tmp_path / "a.avi", 30)
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"]
    data[starts[10] + 8 : starts[11] - 2] = bytes(starts[11] - starts[10] - 10)
    path.write_bytes(data)
    numbers = [frame.number for frame in frames(find(path), "skip")]
    assert len(numbers) == 29
    assert numbers == sorted(set(range(30)) - (set(range(8, 12)) - set(numbers)))
    assert "29 of the 30 frames" in caplog.text


def test_frames_are_not_kept(tmp_path, moving):
    source = find(moving(tmp_path / "long.avi", 150, size=(320, 240)))
    tracemalloc.start()
    assert sum(1 for _ in frames(source, "skip")) == 150
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 320 * 240 * 3
