import tracemalloc

import cv2
import numpy as np
import pytest

from ssd.detection.sources import find, frames
from ssd.detection.video import SUFFIX_OF, open_video, read_frames, suffix_of, video_file
from ssd.errors import UserError


def read(path):
    """(frames, fps, size) that a file says it has, and its frames."""
    capture, clip = open_video(path, "x")
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    return (clip.frames, clip.fps, size), [image for _, image in read_frames(capture, clip)]


def picture(number, size=(64, 48)):
    image = np.full((size[1], size[0], 3), 100, np.uint8)
    image[:, : 8 + number] = (200, 40, 40)  # RGB
    return image


@pytest.mark.parametrize(("codec", "fps"), [("mp4v", 25.0), ("mp4v", 30000 / 1001), ("MJPG", 12.5)])
def test_what_is_written_can_be_read_back(tmp_path, codec, fps):
    path = tmp_path / f"out{suffix_of(codec)}"
    with video_file(path, fps, (64, 48), codec) as add:
        for number in range(10):
            add(picture(number))
        assert not path.exists()
    (count, read_fps, size), images = read(path)
    assert (count, size) == (10, (64, 48))
    assert read_fps == pytest.approx(fps, abs=1e-3)
    assert len(images) == 10
    for number, image in enumerate(images):
        assert np.abs(image[20, 2].astype(int) - (200, 40, 40)).max() < 30, "red is red"
        assert np.abs(image.astype(int) - picture(number)).mean() < 8
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_odd_sides_get_a_line_more(tmp_path):
    with video_file(tmp_path / "odd.mp4", 25, (63, 47), "mp4v") as add:
        add(picture(0, (63, 47)))
        add(picture(0, (80, 80)))  # a stream that changes its size
    assert read(tmp_path / "odd.mp4")[0] == (2, 25, (64, 48))


def test_nothing_is_left_of_a_video_that_is_not_finished(tmp_path):
    def fail():
        with video_file(tmp_path / "x.mp4", 25, (64, 48), "mp4v") as add:
            add(picture(0))
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
    numbers, images = zip(*read_frames(capture, clip), strict=True)
    assert numbers == tuple(range(7))
    assert images[3].shape == (48, 64, 3)
    assert images[3][14, 8, 0] > 150  # the square is red: RGB
    assert images[3][14, 8, 2] < 100


def test_what_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.mp4: neither a picture nor a video"):
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
