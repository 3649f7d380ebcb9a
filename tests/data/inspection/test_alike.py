import io
import os

import cv2
import numpy as np
import pytest

from ssd.data.base import only_image
from ssd.data.inspection import alike, looking
from ssd.data.inspection.alike import groups, joined, merged
from ssd.data.inspection.looking import THUMB


@pytest.fixture
def put(tmp_path):
    """put("a.jpg", 3) writes an image drawn with a seed, put("b.jpg", 3, scale=0.5, quality=70) the same otherwise."""

    def write(name: str, seed: int, scale: float = 1, quality: int = 95, light: float = 0):
        small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(small, (200, 150)).astype(np.float32) + light
        image = cv2.resize(image.clip(0, 255).astype(np.uint8), None, fx=scale, fy=scale)
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        (tmp_path / name).write_bytes(data)
        return only_image(tmp_path / name)

    return write


def partition(labels) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(np.array(labels) == label).tolist()) for label in labels}


def test_copies_and_near_copies_are_one_group(put, tmp_path):
    samples = [put("a.jpg", 1), put("b.jpg", 2), put("copy.jpg", 1), put("small.jpg", 1, scale=0.5),
               put("worse.jpg", 2, quality=60), *(put(f"{name}.jpg", ord(name)) for name in "cdef")]  # fmt: skip
    expected = {frozenset(group) for group in ({0, 2, 3}, {1, 4}, {5}, {6}, {7}, {8})}
    labels, near = groups(samples, None)
    assert near
    assert partition(labels) == expected
    (tmp_path / "c.jpg").write_bytes(b"no image")
    (tmp_path / "d.jpg").unlink()
    assert partition(groups(samples, None)[0]) == expected


def test_what_a_camera_that_stands_still_sees_is_not_one_image(put):
    samples = [put(f"{number}.jpg", 1, light=number) for number in range(6)] + [put("x.jpg", 2)]
    samples.append(put("copy.jpg", 2))
    labels, near = groups(samples, None)
    assert not near
    assert partition(labels) == {*(frozenset({number}) for number in range(6)), frozenset({6, 7})}


def test_images_are_read_once_and_remembered(put, tmp_path, monkeypatch):
    samples = [put("a.jpg", 1), put("b.jpg", 1), put("c.jpg", 2)]
    read = []
    monkeypatch.setattr(looking, "_look", lambda sample, whole=looking._look: read.append(sample.path) or whole(sample))
    first = groups(samples, tmp_path / "cache")
    assert sorted(read) == sorted(sample.path for sample in samples)  # threads read them
    assert [looking.look(sample).size for sample in samples] == [(200, 150)] * 3
    assert len(read) == 3
    looking._seen.clear()
    assert groups(samples, tmp_path / "cache") == first
    assert len(read) == 3
    samples[2] = put("c.jpg", 1)  # another file: what is remembered is of the old one
    assert partition(groups(samples, tmp_path / "cache")[0]) == {frozenset({0, 1, 2})}
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"damaged")
    assert partition(groups(samples, tmp_path / "cache")[0]) == {frozenset({0, 1, 2})}


@pytest.mark.parametrize("count", [3, 300])
def test_chains_are_followed(count, monkeypatch):
    monkeypatch.setattr(alike, "CHUNK", 64)
    thumb = np.random.default_rng(0).integers(40, 200, (THUMB, THUMB)).astype(np.uint8)
    thumbs = [thumb + number for number in (0, 3, 6)] * (count // 3)  # the first and the last are 6 levels apart
    assert len(set(joined(np.arange(count), thumbs).tolist())) == 1
    assert len(set(joined(np.arange(2), [thumb, thumb + 6]).tolist())) == 2
    assert len(set(joined(np.arange(2), [thumb * 0, thumb * 0 + 1]).tolist())) == 2  # flat ones are all alike
    assert joined(np.arange(2), [None, thumb]).tolist() == [0, 1]


def test_together_by_one_or_the_other():
    assert partition(merged([0, 0, 1, 2, 3], ["a", "b", "b", "c", "d"])) == {
        frozenset({0, 1, 2}), frozenset({3}), frozenset({4})
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["pipe", "zip", "header", "float", "short", "zero"])
def test_a_damaged_file_of_thumbnails_is_made_again_with_a_warning(put, tmp_path, caplog, damage):
    samples = [put("a.jpg", 1), put("b.jpg", 2)]
    cache = tmp_path / "cache"
    expected = groups(samples, cache)
    (file,) = cache.iterdir()
    good = file.read_bytes()
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    elif damage == "zip":
        np.savez(file.open("wb"), a=1)
    elif damage == "zero":
        file.symlink_to("/dev/zero")
    else:
        shape = str(tuple(np.load(io.BytesIO(good)).shape)).encode()
        big = b"(900000000000,)".ljust(len(shape))
        file.write_bytes(
            {"header": good.replace(shape, big), "float": good.replace(b"|u1", b"<f8"), "short": good[:300]}[damage]
        )
    assert groups(samples, cache) == expected
    assert caplog.text.count("cannot be used, the images are looked at again") == 1
    assert file.read_bytes() == good
    assert file.is_file()
