"""What counts as equal to OpenCV, and what OpenCV is given to read."""

from pathlib import Path

import numpy as np
import pytest
from caffe_files import Net, mobilenet_ssd

from ssd.importers.caffe.parity import (
    NoReferenceError,
    Reference,
    center_size_boxes,
    compare_boxes,
    compare_outputs,
    fill_defaults,
    ignored_by_opencv,
)
from ssd.importers.caffe.verify import Report
from ssd.utils.errors import UserError

ROWS = np.array([[0, 0.9, 0.1, 0.1, 0.5, 0.5], [1, 0.8, 0.2, 0.2, 0.6, 0.7]], np.float32)


def test_boxes_match_in_any_order() -> None:
    found = compare_boxes(ROWS, ROWS[::-1] + 5e-5, 1e-4)
    assert (found.ours, found.theirs, found.unmatched) == (2, 2, 0)


@pytest.mark.parametrize(
    ("theirs", "unmatched"),
    [
        (ROWS[:1], 1),
        (ROWS[:0], 2),
        (ROWS + np.array([0, 0, 0, 0, 0, 3e-4]), 4),
        (ROWS + np.array([1, 0, 0, 0, 0, 0]), 4),
        (ROWS[[0, 0]], 2),
    ],
)
def test_boxes_that_do_not(theirs: np.ndarray, unmatched: int) -> None:
    assert compare_boxes(ROWS, theirs, 1e-4).unmatched == unmatched


def test_outputs_relative_to_their_size() -> None:
    (found,) = compare_outputs(["x"], [np.array([0.0, 50.0])], [np.array([0.0, 50.004])])
    assert found.fits(1e-4)
    assert not found.fits(1e-5)
    (broken,) = compare_outputs(["x"], [np.array([np.nan])], [np.array([0.0])])
    assert not broken.fits(1e-4)
    assert Report({"x": broken}).wrong(1e-4) == ["output x by inf"]
    with pytest.raises(UserError, match="OpenCV's"):
        compare_outputs(["x"], [np.zeros(3)], [np.zeros(4)])


def test_center_size_by_hand() -> None:
    priors = np.array([[[0.2, 0.2, 0.4, 0.6], [0.1, 0.1, 0.2, 0.2]]])
    offsets = np.array([[[1.0, -1.0, 0.0, np.log(2) / 0.2]]])
    np.testing.assert_allclose(center_size_boxes(offsets, priors)[0, 0], [0.22, -0.04, 0.42, 0.76], atol=1e-6)


def test_defaults_are_written_out(tmp_path: Path) -> None:
    net = Net((32, 32))
    net.conv("map", "data", (3, 4), 3)
    net.layer("prior", "PriorBox", "map data", "prior", "prior_box_param { min_size: 30 }")
    net.layer("out", "DetectionOutput", "map map prior", "out", "detection_output_param { num_classes: 2 }")
    text = fill_defaults(net.save(tmp_path)[0])
    for line in ("clip: false", "flip: true", "variance: 0.1", "share_location: true", "background_label_id: 0"):
        assert line in text


def test_networks_that_opencv_reads_otherwise(tmp_path: Path) -> None:
    net = Net((8, 8))
    net.layer("norm", "LRN", "data", "norm", "lrn_param { k: 2 }")
    files = net.save(tmp_path)
    assert ignored_by_opencv(files[0]) == ["k of layer 'norm'"]
    with pytest.raises(NoReferenceError, match="ignores k"):
        Reference(*files)


def test_networks_that_opencv_cannot_run(tmp_path: Path) -> None:
    files = mobilenet_ssd(width=16, side=64).save(tmp_path)
    reference = Reference(*files)
    with pytest.raises(NoReferenceError):
        reference.run(np.zeros((1, 3, 64, 64), np.float32), ["nothing of this name"])
