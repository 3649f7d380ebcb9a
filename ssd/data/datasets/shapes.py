"""A small detection dataset that needs no download: images of flat shapes, drawn and annotated from a seed.

Written once as a folder in VOC layout and then read by the same code as real data.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ssd.data.datasets import voc_xml
from ssd.data.datasets.voc import FOLDERS, SETS, VOC
from ssd.utils.atomic_files import atomic_dir, require_space, sweep
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

GENERATOR = 1  # counted up when the images change for the same parameters
SHIFT = 4  # fractional bits of the coordinates given to OpenCV: outlines fall between pixels
SIDES = (0.18, 0.5)  # diameter of an object as a share of the image's side
LEAST_VISIBLE = 0.8  # share of its pixels that an object keeps when others are drawn over it
LEAST_CONTRAST = 60.0  # between an object and what it is drawn on, in the channel where they differ most
NOISE = 4.0  # gray levels
TRIES = 30  # places tried for one object before the image goes without it
BYTES_PER_FILE, BYTES_PER_PIXEL = 4096, 0.2  # on the disk, at least: an annotation, a JPEG
JPEG_QUALITY = 95
WHITE = (255,)

Outline = Callable[[np.random.Generator], np.ndarray]


def _polygon(angles: ArrayLike, radii: ArrayLike) -> np.ndarray:
    radians = np.radians(np.asarray(angles))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1) * np.asarray(radii)[:, None]


def _circle(_: np.random.Generator) -> np.ndarray:
    return _polygon(np.arange(0, 360, 6), np.ones(60))


def _rectangle(random: np.random.Generator) -> np.ndarray:
    half = np.degrees(np.arctan(random.uniform(0.5, 1.0)))
    return _polygon([half, 180 - half, 180 + half, -half], np.ones(4))


def _triangle(random: np.random.Generator) -> np.ndarray:
    return _polygon(np.array([90, 210, 330]) + random.uniform(-12, 12, 3), np.ones(3))


def _star(_: np.random.Generator) -> np.ndarray:
    return _polygon(np.arange(0, 360, 36), [1.0, 0.42] * 5)


def _cross(_: np.random.Generator) -> np.ndarray:
    tips = [base + offset for base in (0, 90, 180, 270) for offset in (-18, 18, 45)]
    return _polygon(tips, [1.0, 1.0, 0.42] * 4)


def _crescent(_: np.random.Generator) -> np.ndarray:
    outer = _polygon(np.arange(60, 301, 6), np.ones(41))
    tip_x, tip_y = outer[0]
    y = np.linspace(-tip_y, tip_y, 21)[1:-1]
    return np.concatenate([outer, np.stack([tip_x - 0.95 * np.sqrt(1 - (y / tip_y) ** 2), y], axis=1)])


# Corners in a circle of radius 1 around the origin.
OUTLINES: dict[str, Outline] = {
    "circle": _circle,
    "rectangle": _rectangle,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
}


class Shapes(VOC):
    """The generated dataset with the splits "train" and "val" (which is also "test").

    classes: any of OUTLINES. image_size: side of the square images in pixels. train, val: numbers of images.
    max_objects: most objects in an image, at least one. seed: decides every pixel. root: the folder under which
    each set of parameters gets a folder of its own.
    """

    def __init__(
        self, name: str, root: str, classes: Sequence[str], image_size: int, train: int, val: int,
        max_objects: int, seed: int, compat: str | None,
    ) -> None:  # fmt: skip
        super().__init__(
            name=name,
            root=root,
            classes=classes,
            splits={"train": ["train"], "val": ["val"], "test": ["val"]},
            compat=compat,
            out_of_range="error",
            holdout={"val": 0, "test": 0, "seed": 0},
        )
        if self.given_classes is None:
            raise UserError(f"dataset.classes is null, shapes must be chosen from {', '.join(OUTLINES)}")
        unknown = [item for item in self.classes if item not in OUTLINES]
        if unknown:
            raise UserError(f"dataset.classes has {unknown[0]!r}, shapes are {', '.join(OUTLINES)}")
        for option, value, least in (
            ("image_size", image_size, 32), ("train", train, 1), ("val", val, 1), ("max_objects", max_objects, 1),
            ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise UserError(f"dataset.{option}={value}: expected {least} or more")
        self.parent = Path(root).expanduser()
        self.image_size = image_size
        self.counts = {"train": train, "val": val}
        self.max_objects = max_objects
        self.seed = seed

    def _root(self) -> Path:
        return self._folder

    @cached_property
    def _folder(self) -> Path:
        """The folder with the images, which are drawn if it is not there."""
        parameters = [GENERATOR, self.classes, self.image_size, self.counts, self.max_objects, self.seed]
        digest = hashlib.sha256(json.dumps(parameters).encode()).hexdigest()[:10]
        folder = self.parent / f"{self.name}_{digest}"
        sweep(self.parent)
        if not folder.is_dir():
            count = sum(self.counts.values())
            size = count * int(BYTES_PER_FILE + BYTES_PER_PIXEL * self.image_size**2)
            require_space(folder, size, f"{count} images of shapes", "dataset.train and dataset.val are how many")
            log.info("drawing %d images of shapes into %s", count, folder)
            with atomic_dir(folder) as draft:
                for needed in FOLDERS:
                    (draft / needed).mkdir(parents=True)
                for number, (split, images) in enumerate(self.counts.items()):
                    ids = [f"{split}_{index:05d}" for index in range(images)]
                    for index, identifier in enumerate(ids):
                        # A generator per image: more images, or fewer, leave the others as they are.
                        self._write(draft, identifier, np.random.default_rng([self.seed, number, index]))
                    (draft / SETS / f"{split}.txt").write_text("".join(f"{identifier}\n" for identifier in ids))
        return folder

    def _write(self, folder: Path, identifier: str, random: np.random.Generator) -> None:
        image, objects = draw(random, self.classes, self.image_size, self.max_objects)
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (folder / "JPEGImages" / f"{identifier}.jpg").write_bytes(encoded.tobytes())
        xml = voc_xml.write(f"{identifier}.jpg", self.image_size, self.image_size, objects)
        (folder / "Annotations" / f"{identifier}.xml").write_bytes(xml)


def draw(
    random: np.random.Generator, classes: Sequence[str], size: int, max_objects: int
) -> tuple[np.ndarray, list[voc_xml.VOCObject]]:
    """One size x size x 3 uint8 BGR image and its objects, boxes as VOC counts pixels (from 1, ends included).

    A box encloses exactly the pixels of its object that are visible and at least half covered by it.
    """
    image = _background(random, size)
    owner = np.full((size, size), -1, np.int32)  # per pixel the number of the object on top
    names: list[str] = []
    areas: list[int] = []
    for _ in range(random.integers(1, max_objects + 1)):
        name = str(random.choice(np.asarray(classes)))
        for _ in range(TRIES):
            alpha = _place(random, OUTLINES[name](random), size)
            solid = alpha >= 0.5
            if _leaves_visible(owner, solid, areas):
                _paint(random, image, alpha, solid)
                owner[solid] = len(names)
                names.append(name)
                areas.append(int(solid.sum()))
                break
    image += random.normal(0, NOISE, image.shape)
    objects = [voc_xml.VOCObject(name, _voc_box(owner == number), 0) for number, name in enumerate(names)]
    return np.clip(image, 0, 255).astype(np.uint8), objects


def _background(random: np.random.Generator, size: int) -> np.ndarray:
    """float32 [size, size, 3]: cloudy, little saturated, crossed by a few thin lines that belong to nothing."""
    gray = random.uniform(50, 205)
    image = np.full((size, size, 3), gray, np.float32) + random.uniform(-20, 20, 3)
    for cells, strength in ((3, 22), (size // 8, 12)):
        clouds = random.normal(0, strength, (cells, cells, 1)) + random.normal(0, strength / 4, (cells, cells, 3))
        image += cv2.resize(clouds.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(random.integers(0, 4)):
        ends = random.uniform(0, size, (2, 2)) * (1 << SHIFT)
        mask = np.zeros((size, size), np.uint8)
        (x0, y0), (x1, y1) = ends.astype(int).tolist()
        cv2.line(mask, (x0, y0), (x1, y1), WHITE, int(random.integers(1, 3)), cv2.LINE_AA, SHIFT)
        image += mask[..., None] / np.float32(255) * random.uniform(-90, 90, 3).astype(np.float32)
    return image.astype(np.float32)


def _place(random: np.random.Generator, outline: np.ndarray, size: int) -> np.ndarray:
    """float32 [size, size]: how much of each pixel the shape covers, 0..1, at a random place, size and angle."""
    radius = random.uniform(*SIDES) * size / 2
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = outline @ turn * radius
    low, high = corners.min(axis=0), corners.max(axis=0)
    # All of the shape lies inside the image, two pixels from the border.
    corners += random.uniform(2 - low, size - 3 - high)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(corners * (1 << SHIFT)).astype(np.int32)], WHITE, cv2.LINE_AA, SHIFT)
    return mask / np.float32(255)


def _leaves_visible(owner: np.ndarray, solid: np.ndarray, areas: Sequence[int]) -> bool:
    """Whether every earlier object keeps LEAST_VISIBLE of its pixels when `solid` is drawn on top."""
    remaining = np.bincount(owner[(owner >= 0) & ~solid], minlength=len(areas))
    return all(left >= LEAST_VISIBLE * area for left, area in zip(remaining, areas, strict=True))


def _paint(random: np.random.Generator, image: np.ndarray, alpha: np.ndarray, solid: np.ndarray) -> None:
    """Blends a shape into the image, in a color that differs from what it covers."""
    below = image[solid].mean(axis=0)
    color = random.uniform(0, 255, 3)
    while np.abs(color - below).max() < LEAST_CONTRAST:
        color = random.uniform(0, 255, 3)
    image += alpha[..., None] * (color.astype(np.float32) - image)


def _voc_box(visible: np.ndarray) -> tuple[float, float, float, float]:
    columns, rows = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    return float(columns[0] + 1), float(rows[0] + 1), float(columns[-1] + 1), float(rows[-1] + 1)
