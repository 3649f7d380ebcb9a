"""Detections for a whole split, with decoding of the images overlapped with the network."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ssd.data.base import Sample
from ssd.data.images import decode
from ssd.detection.detector import Detector

DECODERS = 2  # OpenCV releases the interpreter lock, so threads do
AHEAD = 2  # batches being decoded while one is in the network


def predict_samples(
    detector: Detector, samples: Sequence[Sample], done: Callable[[int], None] | None = None
) -> list[np.ndarray]:
    """Detections of every sample, in order: float32 [N, 6] as Detector.predict gives them, in pixels.

    done: told the number of finished samples. Errors: UserError for an image that cannot be read.
    """
    detections: list[np.ndarray] = []
    for images in decoded(samples, detector.batch_size):
        detections += detector.predict(images)
        if done:
            done(len(detections))
    return detections


def decoded(samples: Sequence[Sample], batch_size: int) -> Iterator[list[np.ndarray]]:
    """Batches of decoded images, in order, a few decoded ahead."""
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        upcoming = iter(samples)
        remaining = len(samples)
        while remaining:
            while len(waiting) < (1 + AHEAD) * batch_size and (sample := next(upcoming, None)) is not None:
                waiting.append(pool.submit(lambda s: decode(s.read(), str(s.path)), sample))
            count = min(batch_size, remaining)
            yield [waiting.popleft().result() for _ in range(count)]
            remaining -= count
