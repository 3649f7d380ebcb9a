"""From encoded images to arrays, and from arrays to what a network eats."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ssd.data.claims import holds
from ssd.data.headers import (
    image_format,
    image_size,
    jpeg_is_whole,
    orientation,
    png_fits,
    without_fill_bytes,
)
from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError

MAX_PIXELS = 200_000_000  # 600 MB once decoded; a small file can claim far more
MAX_FILE = 4 * MAX_PIXELS + (1 << 20)  # bytes: a bitmap of so many pixels, uncompressed, and its header
RIGHT_TO_LEFT, BOTTOM_UP = {2, 3, 6, 7}, {3, 4, 7, 8}  # EXIF orientations by which the file's end comes first
LARGE = 128  # pixels of the shorter side from which decode_thumbnail() saves time
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_bytes(path: Path) -> bytes:
    """The file's contents; UserError naming the file when it cannot be read."""
    try:
        return read_limited(path, MAX_FILE, "an image")
    except OSError as error:
        raise UserError(f"{path}: cannot read the image: {error.strerror}") from error


def check_header(data: bytes, what: str) -> tuple[int, int]:
    """(width, height) from the header of an encoded image, or the UserError that says why it is none.

    Cheap: nothing is decoded. `what` names the image in the message.
    """
    kind = image_format(data)
    if (kind == "jpeg" and not jpeg_is_whole(data)) or (kind == "png" and not png_fits(data)):
        raise UserError(f"{what}: the image file is truncated")
    size = image_size(data)
    if size is None:
        kind = image_format(data)
        wrong = "is empty" if not data else f"is a damaged {kind.upper()}" if kind else "is no JPEG, PNG, BMP or WebP"
        raise UserError(f"{what}: the image file {wrong}")
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(
            f"{what}: {size[0]}x{size[1]} pixels are too many, at most {MAX_PIXELS // 10**6} million can be read"
        )
    if not holds(data, size):
        raise UserError(
            f"{what}: the header claims {size[0]}x{size[1]} pixels, which the file of {len(data)} bytes cannot hold; "
            "it is damaged or truncated"
        )
    return size


def decode(data: bytes, what: str) -> np.ndarray:
    """HxWx3 uint8 RGB from an encoded image.

    Gray images get three equal channels, transparency is dropped, 16 bits become 8, and the EXIF orientation is
    applied: all as the decoder inside MXNet does it, so that training, evaluation and demo see the same image.
    UserError naming `what` when the image is damaged, truncated or larger than MAX_PIXELS.
    """
    check_header(data, what)
    return cv2.cvtColor(_decode(data, what, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def decode_reduced(data: bytes, factor: int, what: str) -> np.ndarray:
    """uint8 BGR at 1/factor (1, 2, 4 or 8) of the size of an image whose header was checked, else as decode().

    A JPEG is decoded at that size, which saves most of the time and is its average but for half a level in 255 (mean of
    photographs); other formats are decoded and averaged.
    """
    if image_format(data) == "jpeg" and not _rest_comes_first(data, factor):
        return _decode(data, what, REDUCED[factor])
    return reduced(_decode(data, what, cv2.IMREAD_COLOR), factor)


def _rest_comes_first(data: bytes, factor: int) -> bool:
    """Whether the columns or rows that a factor leaves over at a file's end are the first ones of the upright image:
    all averages of the decoder would lie beside those of `reduced`, which leaves over the last ones."""
    size = image_size(data) if factor > 1 else None
    if size is None or not any(side % factor for side in size):
        return False
    turned = orientation(data)
    return any(side % factor and turned in first for side, first in zip(size, (RIGHT_TO_LEFT, BOTTOM_UP), strict=True))


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor x factor pixels; what is left over at the right and at the bottom is cut off."""
    if factor == 1:
        return image
    height, width = (side // factor for side in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


def verify(data: bytes, what: str) -> tuple[int, int]:
    """(width, height) of an image that decodes from end to end; UserError otherwise.

    Several times faster than decode(): a JPEG is read to its last byte but only an eighth of its size is computed.
    """
    return decode_thumbnail(data, what)[0]


def decode_thumbnail(data: bytes, what: str) -> tuple[tuple[int, int], np.ndarray]:
    """(width, height) and a gray image, uint8, an eighth as wide and high if it is large; errors as verify()."""
    size = check_header(data, what)
    large = min(size) >= LARGE
    return size, _decode(data, what, cv2.IMREAD_REDUCED_GRAYSCALE_8 if large else cv2.IMREAD_GRAYSCALE)


def read_image(path: Path) -> np.ndarray:
    """HxWx3 uint8 RGB of an image file; UserError naming it when that fails."""
    return decode(read_bytes(path), str(path))


def as_mxnet_reads(data: bytes, what: str) -> bytes:
    """The same image in a form that the decoder inside MXNet shows as decode() does; `data` itself nearly always.

    That decoder reads no WebP, applies no orientation of a PNG, and finds none of a JPEG behind fill bytes. The first
    two become upright PNG files. Errors: as decode().
    """
    kind = image_format(data)
    if kind == "webp" or (kind == "png" and orientation(data) > 1):
        return encode(decode(data, what), ".png")
    return without_fill_bytes(data) if kind == "jpeg" and orientation(data) > 1 else data


def encode(image: np.ndarray, suffix: str, options: Sequence[int] = ()) -> bytes:
    """Image file (".png", ".jpg") of an HxWx3 uint8 RGB image. options: of cv2.imencode."""
    done, data = cv2.imencode(suffix, image[:, :, ::-1], options)
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape}, type {image.dtype}")
    return data.tobytes()


def _decode(data: bytes, what: str, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{what}: the image cannot be decoded, it is damaged or truncated")
    return image
