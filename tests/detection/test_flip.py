"""Flip test-time augmentation: the image and its mirror image decoded together; options that do not go together."""

from dataclasses import replace

import numpy as np
import pytest

from ssd.checkpoint.model import Model, ModelSpec
from ssd.config.compose import compose
from ssd.detection.detector import Detector, with_mirrored
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams, decode
from ssd.symbol import build_train
from ssd.utils.errors import UserError


@pytest.fixture(scope="module")
def model() -> Model:
    """An untrained network whose head says something, different for every anchor."""
    cfg = compose(["backbone=small", "data_shape=64", "detection.score_threshold=0.3"])
    symbol = build_train(cfg, 3)
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, 64, 64), label=(1, 4, 6))
    rng = np.random.default_rng(0)

    def values(names, shapes):
        return {
            name: mx.nd.array(
                np.ones(shape)
                if name.endswith(("gamma", "var"))
                else rng.normal(0, 1.4 / np.prod(shape[1:]) ** 0.5, shape)
            )
            for name, shape in zip(names, shapes, strict=True)
            if name not in ("data", "label")
        }

    params = values(symbol.list_arguments(), shapes), values(symbol.list_auxiliary_states(), aux_shapes)
    return Model(ModelSpec.from_config(cfg, ["a", "b", "c"]), symbol, *params)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(3)]


def detector(model: Model, **options: object) -> Detector:
    spec = replace(model.spec, detection={**model.spec.detection, **options})
    return Detector(replace(model, spec=spec), mx.cpu(), batch_size=2)


def mirrored(found: np.ndarray, width: float) -> np.ndarray:
    label, score, xmin, ymin, xmax, ymax = found.T
    return np.column_stack([label, score, width - xmax, ymin, width - xmin, ymax])


def test_with_flip_a_image_and_its_mirror_image_get_the_same_boxes(model, images):
    tta = detector(model, flip=True)
    found = tta.predict(images)
    back = tta.predict([image[:, ::-1].copy() for image in images])
    assert all(len(rows) > 3 for rows in found)
    for rows, others in zip(found, back, strict=True):
        np.testing.assert_allclose(mirrored(others, 64), rows, atol=1e-3)


def test_without_flip_they_do_not(model, images):
    plain = detector(model)
    rows, others = plain.predict(images[:1])[0], plain.predict([images[0][:, ::-1].copy()])[0]
    assert len(rows) != len(others) or not np.allclose(mirrored(others, 64), rows, atol=1e-3)


def test_flip_chooses_among_the_candidates_of_both(model, images):
    """Against the long way: both outputs joined row by row, then decoded."""
    data = np.random.default_rng(2).normal(0, 1, (2, 3, 64, 64)).astype(np.float32)
    plain, tta = detector(model), detector(model, flip=True)
    prob, boxes = plain.forward(data)
    other_prob, other_boxes = plain.forward(np.ascontiguousarray(data[:, :, :, ::-1]))
    for index, found in enumerate(tta.predict_batch(data)):
        joined_prob = np.concatenate([prob[index], other_prob[index]], axis=1)
        turned = [[1 - box[2], box[1], 1 - box[0], box[3]] for box in other_boxes[index]]
        joined_boxes = np.concatenate([boxes[index], np.array(turned, np.float32)])
        expected = decode(joined_prob[None], joined_boxes[None], DecodeParams(**model.spec.detection))[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_mirrored_boxes_are_turned_back():
    prob, boxes = np.zeros((1, 2, 1)), np.array([[[0.1, 0.2, 0.4, 0.9]]])
    joined_prob, joined = with_mirrored(prob, boxes, prob, boxes)
    assert joined_prob.shape == (1, 2, 2)
    np.testing.assert_allclose(joined[0], [[0.1, 0.2, 0.4, 0.9], [0.6, 0.2, 0.9, 0.9]])


@pytest.mark.parametrize("options", [{"flip": True}, {"soft_nms": "linear"}])
def test_the_originals_decoding_has_no_such_options(model, options):
    compat = replace(model, spec=replace(model.spec, compat="mxnet_ssd"))
    with pytest.raises(UserError, match="add compat=null"):
        detector(compat, **options)
    assert detector(compat).predict([np.zeros((8, 8, 3), np.uint8)])[0].shape[1] == 6
