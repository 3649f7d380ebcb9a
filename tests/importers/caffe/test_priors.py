"""Caffe's anchors: by hand, and beside OpenCV's."""

import numpy as np
import pytest
from caffe_files import Net

from ssd.importers.caffe.convert import Converted
from ssd.importers.caffe.loose import LooseHeads
from ssd.importers.caffe.priors import PriorShape
from ssd.utils.errors import UserError

OPTIONS = [
    "min_size: 30 max_size: 60 aspect_ratio: 2",
    "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: true",
    "min_size: 30 aspect_ratio: 2 flip: false",
    "min_size: 30",
    "min_size: 30 max_size: 60 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 0.5",
    "min_size: 30 max_size: 60 clip: true",
    "min_size: 30 step: 9",
    "min_size: 30 step_h: 9 step_w: 11 offset: 0",
    "min_size: 30 offset: 0.3",
    "min_size: 30 variance: 0.2",
    "min_size: 30 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4",
]
SEVERAL = [
    "min_size: 10 min_size: 16 min_size: 24",
    "min_size: 10 min_size: 20 max_size: 20 max_size: 40 aspect_ratio: 2",
]


def prior_net(options: str, size: tuple[int, int] = (80, 120)) -> Net:
    net = Net(size)
    net.conv("map", "data", (3, 4), 3, "stride: 16 pad: 1")
    net.layer("x", "PriorBox", "map data", "x", f"prior_box_param {{ {options} }}")
    net.layer("flat", "Flatten", "map", "flat")
    return net


@pytest.mark.parametrize("options", OPTIONS)
def test_beside_opencv(options: str, both) -> None:
    converted: Converted = both(prior_net(options))
    assert converted.outputs["x"].constant is not None


@pytest.mark.parametrize("options", SEVERAL)
def test_several_sizes_beside_opencv(options: str, both) -> None:
    both(prior_net(options))


def test_joined_and_cut_like_other_arrays(both) -> None:
    net = prior_net(OPTIONS[0])
    net.layer("y", "PriorBox", "map data", "y", "prior_box_param { min_size: 50 }")
    net.layer("joined", "Concat", "x y", "joined", "concat_param { axis: 2 }")
    net.layer("shaped", "Reshape", "joined", "shaped", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 4 } }")
    both(net)


def test_order_and_sizes_by_hand() -> None:
    shape = PriorShape((30, 60), (60, 120), (2.0, 0.5), (0, 0), 0.5, (300, 300), None)
    expected = []
    for low, high in ((30, 60), (60, 120)):
        middle = (low * high) ** 0.5
        expected += [(low, low), (middle, middle), (low * 2**0.5, low / 2**0.5), (low / 2**0.5, low * 2**0.5)]
    np.testing.assert_allclose(shape.shapes(), expected)
    boxes = shape.boxes(2, 3)
    assert boxes.shape == (2 * 3 * 8, 4)
    np.testing.assert_allclose(boxes[0], [50 / 300 - 0.05, 0.25 - 0.05, 50 / 300 + 0.05, 0.25 + 0.05], rtol=1e-6)
    np.testing.assert_allclose((boxes[8, :2] + boxes[8, 2:]) / 2, [0.5, 0.25], rtol=1e-6)  # columns run first


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "expected one min_size"),
        ("min_size: -3", "expected one min_size"),
        ("min_size: nan", "expected one min_size"),
        ("min_size: 30 max_size: 20", "not larger"),
        ("min_size: 30 min_size: 40 max_size: 50", "1 max_size for 2 min_size"),
        ("min_size: 30 aspect_ratio: 0", "aspect ratios"),
        ("min_size: 30 variance: 0.1 variance: 0.2", "variances"),
        ("min_size: 30 step: -8", "out of range"),
        (" ".join(f"min_size: {k}" for k in range(1, 900)), "too many"),
    ],
)
def test_what_cannot_be_meant(options: str, part: str, both) -> None:
    with pytest.raises(UserError, match=part):
        both(prior_net(options))


def test_loose_anchors_are_those_of_the_face_detector() -> None:
    """Ultra-Light-Fast: cells are ceil(side / stride); centers and sizes, not corners, are moved into the image."""
    loose = LooseHeads(
        [[10, 16, 24], [32, 48], [64, 96], [128, 192, 256]], [8, 16, 32, 64], [0.1, 0.1, 0.2, 0.2], "centers"
    )
    corners = loose.priors((240, 320))[0, 0].reshape(-1, 4)
    assert len(corners) == 4420
    np.testing.assert_allclose(corners[0], [4 / 320 - 5 / 320, 4 / 240 - 5 / 240, 9 / 320, 9 / 240], atol=1e-7)
    sizes = corners[:, 2:] - corners[:, :2]
    np.testing.assert_allclose(sizes[-1], [256 / 320, 1.0], atol=1e-6)  # 256 pixels are more than the height
    assert corners.min() < 0


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"min_sizes": []}, "expected min_sizes"),
        ({"steps": [8]}, "as many steps"),
        ({"steps": [8, 0]}, "positive"),
        ({"clip": "yes"}, "choose null, corners or centers"),
    ],
)
def test_loose_anchors_that_make_no_sense(change: dict, part: str) -> None:
    given = {"min_sizes": [[10], [20]], "steps": [8, 16], "variances": [0.1], "clip": None} | change
    with pytest.raises(UserError, match=part):
        LooseHeads(**given)
