"""DetectionOutput: the boxes of the converted network are OpenCV's, whatever the layer's options."""

from pathlib import Path

import numpy as np
import pytest
from caffe_files import Net, finish, head, mobilenet_ssd, ssd_vgg

from ssd.checkpoint.model import ModelSpec
from ssd.importers.caffe.convert import Options, convert, load
from ssd.importers.caffe.verify import Conversion, Report, noise_image, verify
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

BASE = {"score": 0.01, "nms": 0.45, "topk": 400, "keep": 200, "soft_nms": None, "sigma": 0.5, "flip": False}


def compared(net: Net, folder: Path, fold: bool = True) -> Report:
    """Outputs and boxes beside OpenCV's, on noise."""
    files = net.save(folder)
    network, options = load(*files), Options("BGR", None, fold, None)
    converted = convert(network, options)
    assert converted.heads is not None
    height, width = converted.input_shape[2:]
    spec = ModelSpec(
        [str(label) for label in converted.heads.labels], height, width, [123.0, 117.0, 104.0], [58.0] * 3, "net",
        [0.1, 0.1, 0.2, 0.2], None, BASE | converted.heads.detection, False,
    )  # fmt: skip
    made = Conversion(*files, network, options, converted, spec)
    return verify(made, [("noise", noise_image(height, width))], 1e-4)


def agree(report: Report, least: int = 5) -> None:
    assert report.wrong(1e-4) == []
    assert report.boxes["noise"].ours >= least


def small(classes: int = 4, options: str = "", sets: int = 1) -> Net:
    """A detector of two maps. sets: of boxes per anchor."""
    net = Net((64, 96))
    net.relu(net.conv("a", "data", (3, 8), 3, "pad: 1 stride: 8"))
    net.relu(net.conv("b", "a", (8, 16), 3, "pad: 1 stride: 2"))
    for name, channels, low in (("a", 8, 12), ("b", 16, 30)):
        head(net, name, channels, (4, classes, 3), f"min_size: {low} max_size: {low * 2} aspect_ratio: 2", sets)
    finish(net, ["a", "b"], classes, options)
    return net


USUAL = "code_type: CENTER_SIZE confidence_threshold: 0.1 keep_top_k: 100 nms_param { nms_threshold: 0.45 top_k: 50 }"


@pytest.mark.parametrize(
    "options",
    [
        USUAL,
        USUAL.replace("CENTER_SIZE", "CORNER"),
        USUAL + " background_label_id: 2",
        USUAL + " clip: true",
        USUAL.replace("keep_top_k: 100", "keep_top_k: 7"),
        USUAL.replace("top_k: 50", "top_k: 3"),
        "code_type: CENTER_SIZE confidence_threshold: 0.3 keep_top_k: 500 nms_param { nms_threshold: 0.9 top_k: 500 }",
        "confidence_threshold: 0.2 keep_top_k: 100 nms_param { top_k: 100 }",
    ],
)
def test_options_beside_opencv(options: str, tmp_path: Path) -> None:
    agree(compared(small(options=options), tmp_path), 1)


def test_boxes_of_its_own_for_each_class(tmp_path: Path) -> None:
    agree(compared(small(options=USUAL + " share_location: false", sets=4), tmp_path))
    agree(compared(small(options=USUAL + " share_location: false background_label_id: 3", sets=4), tmp_path))


def test_thresholds_are_those_that_were_written(tmp_path: Path) -> None:
    files = small(options=USUAL).save(tmp_path)
    heads = convert(load(*files), Options("BGR", None, True, None)).heads
    assert heads is not None
    assert heads.detection == {"score": 0.1, "nms": 0.45, "topk": 50, "keep": 100}
    assert heads.labels == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (USUAL + " code_type: UNSET", "multiple"),
        ("code_type: UNSET", "code_type UNSET"),
        ("nms_param { eta: 0.9 }", "falling threshold"),
        ("background_label_id: 9", "background_label_id 9"),
        ("share_location: false", "offsets for"),
    ],
)
def test_options_that_are_not_there(options: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=part):
        compared(small(options=options), tmp_path)


@pytest.mark.parametrize("fold", [True, False])
def test_ssd_mobilenet(fold: bool, tmp_path: Path) -> None:
    agree(compared(mobilenet_ssd(width=4), tmp_path, fold), 50)


def test_ssd_vgg(tmp_path: Path) -> None:
    report = compared(ssd_vgg(width=8), tmp_path)
    agree(report, 50)
    assert report.outputs["mbox_priorbox"].shape == (1, 2, 8732 * 4)
    args = convert(
        load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel"), Options("BGR", None, True, None)
    ).arg_params
    assert {"conv1_1_weight", "fc7_bias"} <= args.keys()  # as backbone=vgg16_reduced names them, for init.weights=


@pytest.mark.slow
def test_networks_of_full_width(tmp_path: Path) -> None:
    agree(compared(ssd_vgg(), tmp_path / "vgg"), 50)
    agree(compared(mobilenet_ssd(), tmp_path / "mobilenet"), 50)


def run(files: tuple[Path, Path]) -> tuple[np.ndarray, ...]:
    """(offsets, scores, anchors, cls_prob, boxes) of a converted network on two images of noise."""
    converted = convert(load(*files), Options("BGR", None, True, None))
    assert converted.heads is not None
    data = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
    inputs = [converted.outputs[name].symbol for name in ("mbox_loc", "mbox_conf_flatten")]
    graph = mx.sym.Group([*inputs, converted.heads.cls_prob, converted.heads.boxes])
    args = {name: converted.arg_params[name] for name in graph.list_arguments() if name != "data"}
    loc, conf, *rest = (
        output.asnumpy() for output in graph.bind(mx.cpu(), args=args | {"data": mx.nd.array(data)}).forward()
    )
    return loc.reshape(2, -1, 4), conf.reshape(2, len(loc[0]) // 4, -1), converted.heads.priors.reshape(2, -1, 4), *rest


def test_corner_size_by_hand(tmp_path: Path) -> None:
    """OpenCV does not know this way of coding: corners move by shares of the anchor's sides."""
    loc, _, (corners, variances), _, boxes = run(small(options="code_type: CORNER_SIZE").save(tmp_path))
    sides = np.tile(corners[:, 2:] - corners[:, :2], 2)
    np.testing.assert_allclose(boxes, corners + loc * variances * sides, atol=1e-5)


def test_variances_inside_of_the_offsets_by_hand(tmp_path: Path) -> None:
    """OpenCV refuses anchors with variances then, which PriorBox layers always have."""
    options = "variance_encoded_in_target: true code_type: "
    loc, _, (corners, _), _, boxes = run(small(options=options + "CORNER").save(tmp_path))
    np.testing.assert_allclose(boxes, corners + loc, atol=1e-5)
    loc, _, _, _, boxes = run(small(options=options + "CENTER_SIZE").save(tmp_path))
    sides = corners[:, 2:] - corners[:, :2]
    center = (corners[:, 2:] + corners[:, :2]) / 2 + loc[..., :2] * sides
    np.testing.assert_allclose(boxes[..., 2:] + boxes[..., :2], 2 * center, atol=1e-5)
    np.testing.assert_allclose(boxes[..., 2:] - boxes[..., :2], sides * np.exp(loc[..., 2:]), atol=1e-5)


def test_no_background_by_hand(tmp_path: Path) -> None:
    """OpenCV cannot do without: all classes are objects, and nothing is the background."""
    _, conf, _, cls_prob, boxes = run(small(options=USUAL + " background_label_id: -1").save(tmp_path))
    assert cls_prob.shape == (2, 5, boxes.shape[1])
    assert (cls_prob[:, 0] == 0).all()
    np.testing.assert_array_equal(cls_prob[:, 1:], conf.transpose(0, 2, 1))


def test_each_class_has_candidates_of_its_own(tmp_path: Path) -> None:
    files = small(options=USUAL + " share_location: false", sets=4).save(tmp_path)
    converted = convert(load(*files), Options("BGR", None, True, None))
    _, (shape, boxes), _ = converted.graph.infer_shape(data=(3, 3, 64, 96))
    anchors = converted.heads.priors.shape[2] // 4
    assert shape == (3, 4, 3 * anchors)
    assert boxes == (3, 3 * anchors, 4)
