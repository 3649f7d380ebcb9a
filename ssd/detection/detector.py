"""The detector: images in, boxes with classes and scores in pixels out; and the detections of a whole split, with
decoding of the images overlapped with the network.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ssd.checkpoint.model import Model, Params
from ssd.config.parts import InputSpec
from ssd.data.base import Sample, Size
from ssd.data.images import decode as decode_image
from ssd.data.transforms.crop import clipped
from ssd.data.transforms.preprocess import preprocess, resize_only
from ssd.data.transforms.resize import eval_resize
from ssd.detection.backends import open_backend
from ssd.detection.backends.mxnet import MxnetBackend
from ssd.detection.onnx_file import OnnxModel
from ssd.detection.open_model import open_model
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams, decode, rows_to_detections
from ssd.utils.errors import UserError
from ssd.utils.sequences import read_ahead


class Detector:
    """A trained network that stays loaded: a checkpoint, a deploy bundle or an ONNX file.

        detector = Detector.load("outputs/train/small_128_shapes/2026-01-31_12-00-00.000000")
        boxes = detector.predict([image])[0]        # image: HxWx3 uint8 RGB; boxes: [N, 6]

    Several threads may share one.
    """

    def __init__(self, model: Model | OnnxModel, context: Any, batch_size: int, source: str = "in memory") -> None:
        spec = model.spec
        self.spec = spec
        self.classes = spec.classes
        self.batch_size = batch_size
        self._decode = DecodeParams(**spec.detection)  # type: ignore[arg-type]
        if spec.compat and (self._decode.soft_nms or self._decode.flip):
            raise UserError(
                f"detection.soft_nms and detection.flip do not go with compat={spec.compat}, which decodes inside the "
                "graph as the original did; add compat=null"
            )
        self._backend = open_backend(model, context, source)

    @classmethod
    def load(cls, model: str, device: str = "cpu", batch_size: int = 8) -> "Detector":
        """From anything `model=` takes. device: "cpu", "gpu" or "gpu(1)". Errors: UserError, see open_model."""
        name, _, index = device.partition("(")
        context = mx.Context(name, int(index.rstrip(")") or 0))
        return cls(open_model(model), context, batch_size, str(model))

    def set_params(self, arg_params: Params, aux_params: Params) -> None:
        """Takes over new values of the same parameters (a later epoch's). For a network in MXNet."""
        assert isinstance(self._backend, MxnetBackend)
        self._backend.set_params(arg_params, aux_params)

    def warm_up(self) -> None:
        """Two empty batches: what a first prediction costs beyond the later ones is spent when this returns."""
        data = np.zeros((self.batch_size, 3, self.spec.height, self.spec.width), np.float32)
        for _ in range(2):
            self.predict_batch(data)

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Detections of each image.

        images: HxWx3 uint8 RGB arrays of any sizes. Returns per image float32 [N, 6] rows (class, score, xmin, ymin,
        xmax, ymax) in pixels of that image, best score first.
        """
        detections: list[np.ndarray] = []
        for start in range(0, len(images), self.batch_size):
            chunk = images[start : start + self.batch_size]
            detections += self.to_image_coords(self.predict_batch(self.preprocess(chunk)), chunk)
        return detections

    def preprocess(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [B, 3, H, W] as the network takes it."""
        prepare = resize_only if self._backend.takes_levels else preprocess
        return prepare(images, self.spec.input)

    def predict_batch(self, data: np.ndarray) -> list[np.ndarray]:
        """Detections of what `preprocess` gave, as `predict` but in shares (0..1) of the input."""
        return self.suppress(self.forward_with_tta(data))

    def forward_with_tta(self, data: np.ndarray) -> list[np.ndarray]:
        """`forward`; with detection.flip the candidates of the mirrored images are among the others."""
        outputs = self.forward(data)
        if len(outputs) == 1 or not self._decode.flip:
            return outputs
        mirrored = np.ascontiguousarray(data[:, :, :, ::-1])
        return list(with_mirrored(*outputs, *self.forward(mirrored)))

    def suppress(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Detections out of what `forward_with_tta` returned."""
        if len(outputs) == 1:  # decoded inside the graph
            return rows_to_detections(outputs[0])
        cls_prob, boxes = outputs
        return decode(cls_prob, boxes, self._decode)

    def to_image_coords(self, found: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Detections of `suppress` in pixels of their images."""
        return [_on_image(rows, image, self.spec.input) for rows, image in zip(found, images, strict=True)]

    def forward(self, data: np.ndarray) -> list[np.ndarray]:
        """What the network says of what `preprocess` gave, before the detector decodes it: see Backend.forward."""
        return self._backend.forward(data)


def with_mirrored(
    cls_prob: np.ndarray, boxes: np.ndarray, mirrored_prob: np.ndarray, mirrored_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates of an image and of its mirror image as one list, for suppression to choose from.

    cls_prob [B, C+1, N] and boxes [B, N, 4], normalized corners, of both -> the same with 2N; mirrored boxes are turned
    back (xmin, xmax -> 1 - xmax, 1 - xmin).
    """
    xmin, ymin, xmax, ymax = np.moveaxis(mirrored_boxes, 2, 0)
    back = np.stack([1 - xmax, ymin, 1 - xmin, ymax], axis=2)
    return np.concatenate([cls_prob, mirrored_prob], axis=2), np.concatenate([boxes, back], axis=1)


def _on_image(rows: np.ndarray, image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Detections [N, 6] with corners in shares of the input -> in pixels of the image, without what lies beside it."""
    size = Size(image.shape[1], image.shape[0])
    corners = rows[:, 2:] * np.array((spec.width, spec.height) * 2)
    moved = rows.copy()
    moved[:, 2:] = clipped(eval_resize(size, spec).to_image(corners), *size)
    beside = (moved[:, 4] <= moved[:, 2]) | (moved[:, 5] <= moved[:, 3])
    return moved[~beside] if spec.resize_mode == "fit" else moved


DECODERS = 2  # OpenCV releases the interpreter lock, so threads do
PREFETCH_BATCHES = 2  # batches being decoded while one is in the network


def predict_samples(
    detector: Detector, samples: Sequence[Sample], done: Callable[[int], None] | None = None
) -> list[np.ndarray]:
    """Detections of every sample, in order: float32 [N, 6] as Detector.predict gives them, in pixels.

    done: called with the number of finished samples. Errors: UserError for an image that cannot be read.
    """
    detections: list[np.ndarray] = []
    for images in decoded(samples, detector.batch_size):
        detections += detector.predict(images)
        if done:
            done(len(detections))
    return detections


def decoded(samples: Sequence[Sample], batch_size: int) -> Iterator[list[np.ndarray]]:
    """Batches of decoded images, in order, a few decoded ahead."""
    images = read_ahead(_decoded, samples, PREFETCH_BATCHES * batch_size, DECODERS)
    while batch := list(islice(images, batch_size)):
        yield batch


def _decoded(sample: Sample) -> np.ndarray:
    return decode_image(sample.read(), str(sample.path))
