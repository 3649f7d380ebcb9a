"""What a batch consists of: the order of the images, and the images made into inputs.

What an image becomes depends on the seed and its place in the endless stream of passes, and on nothing else, so that
any part of any batch can be made by anyone at any time. Nothing here needs MXNet: workers start without it.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.random.bit_generator import ISeedSequence

from ssd.config.augment import Augment, input_shapes
from ssd.config.parts import InputSpec
from ssd.data.base import EncodedImage
from ssd.data.loaders.base import Shard
from ssd.data.recordio.cache import Records
from ssd.data.recordio.reader import RecordFile
from ssd.data.transforms.augmenter import Augmenter, LazySample

ORDER_KEYS = 1 << 63  # keys of the passes' orders begin here, those of the images at 0
SHAPE_KEYS = 1 << 62  # and those of the batches' shapes here
WORD = (1 << 64) - 1
RNG_CHUNK = 32  # images that are made at a time, from the same random numbers


@dataclass(frozen=True)
class BatchConfig:
    """All that decides what is in a batch. rows: of a label; mixed: batches that come before mosaic, mixup and
    other shapes end; share: the part of every batch that is made here."""

    records: Records
    augment: Augment
    spec: InputSpec
    seed: int
    batch_size: int
    rows: int
    mixed: int
    share: Shard = Shard()

    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) that batches may have, the first one unless augment.multi_scale says otherwise."""
        return input_shapes(self.augment, (self.spec.height, self.spec.width))

    def shape(self, batch: int) -> tuple[int, int]:
        """(height, width) of a batch; it depends on the seed and its number alone."""
        scale = self.augment.multi_scale
        if not scale.factors or batch >= self.mixed:
            return self.spec.height, self.spec.width
        drawn = make_rng(self.seed, SHAPE_KEYS + batch // scale.every).integers(len(scale.factors))
        here = replace(self.augment, multi_scale=replace(scale, factors=[scale.factors[drawn]]))
        return input_shapes(here, (self.spec.height, self.spec.width))[-1]


@dataclass(frozen=True)
class Chunk:
    """Images first .. last - 1 of a batch, which share their random numbers; batches count through all epochs."""

    batch: int
    first: int
    last: int


class BatchBuilder:
    """Makes batches as a recipe says. `make` may run in any number of threads."""

    def __init__(self, recipe: BatchConfig) -> None:
        """Errors: UserError when the records cannot be opened."""
        self.file = RecordFile(recipe.records)
        self._recipe = recipe
        self._painters = {
            (height, width): Augmenter(recipe.augment, replace(recipe.spec, height=height, width=width))
            for height, width in recipe.shapes()
        }
        self._orders: dict[int, np.ndarray] = {}  # of the passes at work

    def portions(self, batch: int) -> list[Chunk]:
        """Those that have images of this share."""
        size, here = self._recipe.batch_size, self.part
        portions = (Chunk(batch, first, min(first + RNG_CHUNK, size)) for first in range(0, size, RNG_CHUNK))
        return [portion for portion in portions if portion.first < here.stop and portion.last > here.start]

    @property
    def part(self) -> range:
        """The places in a batch that are filled here."""
        return self._recipe.share.of(self._recipe.batch_size)

    def images(self, batch: int, first: int, last: int) -> list[int]:
        """Numbers in the file of images first .. last - 1 of a batch."""
        start = batch * self._recipe.batch_size
        return [self._image_at(start + place) for place in range(first, last)]

    def names(self, portion: Chunk) -> list[str]:
        """Files of the images of a portion, as the .lst names them."""
        numbers = self.images(portion.batch, portion.first, portion.last)
        return [self.file.names[self.file.indices[number]] for number in numbers]

    def make(self, portion: Chunk, data: np.ndarray, label: np.ndarray) -> None:
        """Fills its part of what is made of a batch here: data uint8 RGB [B, 3, H, W] of the batch's shape, label
        float32 [B, rows, 6] padded with -1; B: images of this share.

        Errors: UserError naming an image that is damaged.
        """
        numbers = self.images(portion.batch, portion.first, portion.last)
        rng = make_rng(self._recipe.seed, portion.batch * self._recipe.batch_size + portion.first)
        painter = self._painters[self._recipe.shape(portion.batch)]
        painted = self._painted(painter, numbers, rng, mixed=portion.batch < self._recipe.mixed)
        here = self.part
        for place, (paint, boxes) in zip(range(portion.first, portion.last), painted, strict=True):
            if place not in here:  # somebody else paints it; the random generator has advanced as if it were painted
                continue
            slot = place - here.start
            red, green, blue = data[slot]
            cv2.split(paint(), [blue, green, red])
            label[slot, : len(boxes)] = boxes
            label[slot, len(boxes) :] = -1

    def close(self) -> None:
        self.file.close()

    def _painted(
        self, painter: Augmenter, numbers: list[int], rng: np.random.Generator, mixed: bool
    ) -> list[LazySample]:
        """Mosaic and mixup are done as far as the boxes fit the label: none may be left out that can be seen."""
        augment, rows = self._recipe.augment, self._recipe.rows
        images = [self.file.read(number) for number in numbers]
        if not mixed:
            return painter.augment_batch(images, rng)
        painted: dict[int, LazySample] = {}
        for slot, draw in enumerate(rng.random(len(images))):
            if draw < augment.mosaic.probability:
                mosaic = painter.mosaic([images[slot], *self._others(3, rng)], rng)
                if len(mosaic[1]) <= rows:
                    painted[slot] = mosaic
        alone = [slot for slot in range(len(images)) if slot not in painted]
        painted |= zip(alone, painter.augment_batch([images[slot] for slot in alone], rng), strict=True)
        mixups = np.flatnonzero(rng.random(len(images)) < augment.mixup.probability).tolist()
        for slot, other in zip(mixups, painter.augment_batch(self._others(len(mixups), rng), rng), strict=True):
            if len(painted[slot][1]) + len(other[1]) <= rows:
                painted[slot] = painter.mixup(painted[slot], other, rng)
        return [painted[slot] for slot in range(len(images))]

    def _others(self, count: int, rng: np.random.Generator) -> list[EncodedImage]:
        return [self.file.read(int(number)) for number in rng.integers(len(self.file), size=count)]

    def _image_at(self, position: int) -> int:
        """Number of the image at a place of the endless stream: every pass over the data has an order of its own."""
        turn, place = divmod(position, len(self.file))
        order = self._orders.get(turn)
        if order is None:
            order = make_rng(self._recipe.seed, ORDER_KEYS + turn).permutation(len(self.file))
            self._orders = {kept: other for kept, other in self._orders.items() if kept == turn - 1} | {turn: order}
        return int(order[place])


class PhiloxKey(ISeedSequence):
    """(seed, key) as they are: numpy's own would first ask the system for random numbers, which takes longer."""

    def __init__(self, seed: int, key: int) -> None:
        self._words = np.array([seed & WORD, key], np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self._words


def make_rng(seed: int, key: int) -> np.random.Generator:
    """A stream of random numbers of its own for every (seed, key), ready in microseconds."""
    return np.random.Generator(np.random.Philox(PhiloxKey(seed, key)))  # type: ignore[arg-type]
