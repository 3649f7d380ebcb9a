import struct
import zlib

import cv2
import numpy as np
import pytest

from ssd.config.parts import InputSpec
from ssd.data.images import check_header, decode, decode_reduced, read_image, reduced, verify
from ssd.data.transforms.preprocess import preprocess
from ssd.utils.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)


def encoded(suffix: str, image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def test_decode_is_rgb():
    np.testing.assert_array_equal(decode(encoded(".png"), "x"), IMAGE[..., ::-1])


@pytest.mark.parametrize(
    "image",
    [
        IMAGE[..., 0],
        np.dstack([IMAGE, IMAGE[..., 0]]),
        IMAGE.astype(np.uint16) * 257,
    ],
    ids=["gray", "alpha", "16 bit"],
)
def test_every_image_has_three_channels_of_eight_bits(image):
    result = decode(encoded(".png", image), "x")
    assert result.shape == (20, 31, 3)
    assert result.dtype == np.uint8
    expected = np.dstack([IMAGE[..., 0]] * 3) if image.ndim == 2 else IMAGE
    np.testing.assert_array_equal(result[..., ::-1], expected)


def test_exif_orientation_is_applied_as_mxnet_applies_it():
    from ssd.mxnet_compat import mx

    plain = encoded(".jpg")
    exif = b"Exif\0\0II" + struct.pack("<HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    ours = decode(turned, "x")
    assert ours.shape == mx.image.imdecode(turned).shape == (31, 20, 3)
    np.testing.assert_array_equal(ours, np.rot90(decode(plain, "x"), -1))
    assert verify(turned, "x") == (20, 31)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("function", [decode, verify])
def test_truncated(suffix, share, function, capfd):
    data = encoded(suffix)
    with pytest.raises(UserError, match="photo.jpg: .*image") as error:
        function(data[: int(len(data) * share)], "photo.jpg")
    assert "\n" not in str(error.value)


def test_not_a_image():
    with pytest.raises(UserError, match="photo: the image file is no JPEG, PNG, BMP or WebP"):
        decode(b"<html>not found</html>", "photo")


def test_a_small_file_that_claims_a_huge_image_is_refused_before_decoding(monkeypatch):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match="50000x50000 pixels are too many, at most 200 million"):
        decode(bomb, "bomb.png")


def test_read_image(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(".png"))
    assert read_image(file).shape == (20, 31, 3)
    with pytest.raises(UserError, match="missing.png: cannot read the image: No such file"):
        read_image(tmp_path / "missing.png")


def test_preprocess():
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
    images = [IMAGE, np.full((5, 7, 3), (12, 24, 35), np.uint8)]
    spec = InputSpec(20, 31, mean, std, "force", antialias=True)
    batch = preprocess(images, spec)
    assert batch.shape == (2, 3, 20, 31)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0], ((IMAGE - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1))
    np.testing.assert_array_equal(batch[1], np.ones((3, 20, 31), np.float32))
    assert preprocess([], spec).shape == (0, 3, 20, 31)


def test_preprocess_in_proportion():
    """31x20 into 10x10: 10x6 pixels in the upper left, the rest the mean in whole levels."""
    spec = InputSpec(10, 10, (10.4, 20.0, 30.0), (2.0, 4.0, 5.0), "fit", antialias=False)
    batch = preprocess([IMAGE], spec)[0]
    expected = cv2.resize(IMAGE, (10, 6)).astype(np.float32)
    np.testing.assert_allclose(
        batch[:, :6] * [[[2]], [[4]], [[5]]], (expected - spec.mean).transpose(2, 0, 1), atol=1e-4
    )
    np.testing.assert_allclose(batch[:, 6:], np.broadcast_to([[[-0.2]], [[0]], [[0]]], (3, 4, 10)), atol=1e-6)


def test_a_large_image_is_averaged_before_it_is_interpolated():
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[:, ::2] = 200
    smooth, sharp = (
        preprocess([stripes], InputSpec(9, 9, (0, 0, 0), (1, 1, 1), "force", antialias)) for antialias in (True, False)
    )
    assert np.abs(smooth - 100).max() <= 1
    assert np.ptp(sharp) > 50


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_turned_image_at_a_smaller_size(factor, orientation):
    """What is left over is at the right and at the bottom of the upright image, whatever that is of the file."""
    ramp = np.indices((131, 203)).sum(axis=0, dtype=np.float64) * 0.75  # a pixel further is most of a level
    plain = encoded(".jpg", np.dstack([ramp.astype(np.uint8)] * 3))
    exif = b"Exif\0\0II" + struct.pack("<HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    means = reduced(decode(turned, "x")[..., ::-1], factor)
    small = decode_reduced(turned, factor, "x")[: means.shape[0], : means.shape[1]].astype(int)
    assert abs((small - means).mean()) < 0.3


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_decoding_at_a_smaller_size(suffix, factor):
    image = cv2.resize(IMAGE[:6, :8], (333, 251), interpolation=cv2.INTER_CUBIC)
    data = encoded(suffix, image)
    small = decode_reduced(data, factor, "x").astype(int)
    height, width = 251 // factor, 333 // factor
    assert small.shape[0] >= height
    assert small.shape[1] >= width
    means = reduced(decode(data, "x")[..., ::-1], factor)
    assert means.shape == (height, width, 3)
    assert np.abs(small[:height, :width] - means).mean() < 1


@pytest.mark.parametrize(
    "image",
    [IMAGE[..., 0], IMAGE.astype(np.float32), np.zeros((0, 4, 3), np.uint8)],
    ids=["gray", "float", "empty"],
)
def test_preprocess_wants_rgb_bytes(image):
    with pytest.raises(UserError, match="image 1 is .* it must be HxWx3 uint8 RGB"):
        preprocess([IMAGE, image], InputSpec(8, 8, (0, 0, 0), (1, 1, 1), "force", antialias=True))


@pytest.mark.parametrize("place", [8, 33])
def test_png_files_that_claim_gigabytes(place):
    data = bytearray(cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes())
    check_header(bytes(data), "a.png")
    data[place : place + 4] = b"\x7f\xff\xff\xff"
    with pytest.raises(UserError, match="a.png: the image file is truncated"):
        check_header(bytes(data), "a.png")
