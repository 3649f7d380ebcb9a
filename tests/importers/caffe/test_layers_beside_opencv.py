"""Single layers give what OpenCV gives for the same files."""

import numpy as np
import pytest
from caffe_files import Net

from ssd.importers.caffe.convert import Options

KEPT = Options("BGR", None, False, None)


def stem(size: tuple[int, int] = (13, 17)) -> Net:
    """Six channels of values around zero."""
    net = Net(size)
    net.conv("stem", "data", (3, 6), 3, "pad: 1")
    return net


@pytest.mark.parametrize(
    ("rest", "how"),
    [
        ("", {}),
        ("pad: 2 stride: 2", {}),
        ("pad: 3 dilation: 3", {}),
        ("pad: 1", {"group": 2}),
        ("pad: 1", {"group": 6}),
        ("pad: 1 stride: 3", {"bias": False}),
        ("pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1", {}),
        ("pad: 1 pad: 3 stride: 1 stride: 2", {}),
    ],
)
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_convolution(kind: str, rest: str, how: dict, both) -> None:
    if kind == "Deconvolution" and "dilation" in rest:
        pytest.skip("OpenCV does not dilate them")
    net = stem()
    channels = (6, 12)
    if kind == "Deconvolution":
        group = how.get("group", 1)
        weight = net.normal(6, 12 // group, 3, 3, scale=0.3)
        blobs = (weight,) if how.get("bias") is False else (weight, net.normal(12))
        options = f"num_output: 12 kernel_size: 3 group: {group} {rest}"
        options += " bias_term: false" if how.get("bias") is False else ""
        net.layer("x", kind, "stem", "x", f"convolution_param {{ {options} }}", blobs)
    else:
        net.conv("x", "stem", channels, 3, rest, **how)
    both(net)


def test_kernels_that_are_not_square(both) -> None:
    net = stem()
    weight = net.normal(4, 6, 1, 5)
    net.layer("x", "Convolution", "stem", "x", "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 5 pad_h: 0 "
              "pad_w: 2 bias_term: false }", (weight,))  # fmt: skip
    both(net)


def test_depthwise_layers_need_no_group(both) -> None:
    net = stem()
    net.conv("x", "stem", (6, 6), 3, "pad: 1", group=6, kind="ConvolutionDepthwise")
    both(net)


@pytest.mark.parametrize("size", [(13, 17), (12, 18), (10, 11)])
@pytest.mark.parametrize(
    "options",
    [
        "pool: MAX kernel_size: 2 stride: 2",
        "pool: MAX kernel_size: 3 stride: 2",
        "pool: MAX kernel_size: 3 stride: 2 pad: 1",
        "pool: MAX kernel_size: 3 stride: 1 pad: 1",
        "pool: MAX kernel_size: 2 stride: 2 pad: 1",
        "pool: AVE kernel_size: 3 stride: 2",
        "pool: AVE kernel_size: 3 stride: 2 pad: 1",
        "pool: AVE kernel_size: 2 stride: 2 pad: 1",
        "pool: AVE kernel_size: 5 stride: 3 pad: 2",
        "pool: AVE kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
        "pool: MAX kernel_size: 3 stride: 2 ceil_mode: false",
        "pool: AVE global_pooling: true",
        "pool: MAX global_pooling: true",
    ],
)
def test_pooling(options: str, size: tuple[int, int], both) -> None:
    net = stem(size)
    net.layer("x", "Pooling", "stem", "x", f"pooling_param {{ {options} }}")
    both(net)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ReLU", ""),
        ("ReLU", "relu_param { negative_slope: 0.1 }"),
        ("Sigmoid", ""),
        ("TanH", ""),
        ("ELU", ""),
        ("ELU", "elu_param { alpha: 0.5 }"),
        ("AbsVal", ""),
        ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
        ("Power", "power_param { scale: 0.5 shift: -1 }"),
        ("ReLU6", ""),
        ("Dropout", "dropout_param { dropout_ratio: 0.5 }"),
        ("LRN", "lrn_param { local_size: 5 alpha: 0.5 beta: 0.75 }"),
        ("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
        ("Softmax", ""),
        ("Softmax", "softmax_param { axis: 3 }"),
        ("Softmax", "softmax_param { axis: -1 }"),
        ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        ("Permute", "permute_param { order: 0 order: 3 order: 1 order: 2 }"),
        ("Flatten", ""),
        ("Flatten", "flatten_param { axis: 2 }"),
        ("Flatten", "flatten_param { axis: 1 end_axis: 2 }"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 13 } }"),
        ("Reshape", "reshape_param { shape { dim: 1 dim: 2 dim: 3 dim: -1 } }"),
        ("Reshape", "reshape_param { shape { dim: 3 dim: 2 } axis: 1 num_axes: 1 }"),
        ("Reshape", "reshape_param { shape { dim: -1 } axis: 1 }"),
    ],
)
def test_layers_without_weights(kind: str, options: str, both) -> None:
    net = stem()
    net.layer("x", kind, "stem", "x", options)
    both(net)


@pytest.mark.parametrize("options", ["", "prelu_param { channel_shared: true }"])
def test_prelu(options: str, both) -> None:
    net = stem()
    net.layer("x", "PReLU", "stem", "x", options, (net.normal(1 if options else 6),))
    both(net)


@pytest.mark.parametrize("options", ["", "bias_term: false"])
def test_dense(options: str, both) -> None:
    net = stem((5, 6))
    blobs = (net.normal(7, 180), net.normal(7))[: 1 if options else 2]
    net.layer("x", "InnerProduct", "stem", "x", f"inner_product_param {{ num_output: 7 {options} }}", blobs)
    both(net)


@pytest.mark.parametrize(
    "options", ["", "operation: PROD", "operation: MAX", "operation: SUM coeff: 0.5 coeff: -2 coeff: 1"]
)
def test_eltwise(options: str, both) -> None:
    net = stem()
    net.conv("a", "stem", (6, 6), 1)
    net.conv("b", "stem", (6, 6), 3, "pad: 1")
    net.layer("x", "Eltwise", "stem a b", "x", f"eltwise_param {{ {options} }}")
    both(net)


@pytest.mark.parametrize("options", ["", "slice_point: 1 slice_point: 3", "axis: 2 slice_point: 4 slice_point: 5"])
def test_slices_and_their_concatenation(options: str, both) -> None:
    net = stem()
    net.layer("cut", "Slice", "stem", "a b c", f"slice_param {{ {options} }}")
    net.layer("x", "Concat", "c a b", "x", f"concat_param {{ axis: {2 if 'axis' in options else 1} }}")
    both(net)


def test_crop(both) -> None:
    net = stem()
    net.conv("small", "stem", (6, 6), 5)
    net.layer("x", "Crop", "stem small", "x", "crop_param { axis: 2 offset: 1 offset: 3 }")
    net.layer("y", "Eltwise", "x small", "y")
    both(net)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm(fold: bool, scale: bool, bias: bool, both) -> None:
    net = stem()
    net.conv("x", "stem", (6, 8), 3, "pad: 1", bias=bias)
    net.batch_norm("x", 8, scale)
    net.relu("x")
    net.layer("y", "BatchNorm", "x", "y", "batch_norm_param { eps: 0.001 use_global_stats: true }",
              (net.normal(8), net.rng.uniform(1, 2, 8).astype("f"), np.ones(1, "f")))  # fmt: skip
    if scale:
        net.layer("z", "Scale", "y", "z", "", (net.normal(8),))
    converted = both(net, Options("BGR", None, fold, None))
    kept = [node for node in converted.graph.get_internals().list_outputs() if "gamma" in node]
    assert len(kept) == (1 if fold else 2 + 2 * scale)


@pytest.mark.parametrize("across", ["true", "false"])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_normalize(across: str, shared: str, both) -> None:
    if (across, shared) == ("true", "false"):
        pytest.skip("OpenCV does not do both; test_layers.py does")
    net = stem()
    factors = net.normal(1 if shared == "true" else 6)
    options = f"norm_param {{ across_spatial: {across} channel_shared: {shared} }}"
    net.layer("x", "Normalize", "stem", "x", options, (factors,))
    both(net)


def test_colors_are_swapped_in_the_graph_when_weights_cannot(both) -> None:
    net = Net((8, 8))
    net.conv("x", "data", (3, 3), 3, group=3)
    net.layer("y", "BatchNorm", "data", "y", "", (net.normal(3), np.ones(3, "f"), np.ones(1, "f")))
    both(net)


def test_a_whole_image_as_mean(both) -> None:
    net = stem((9, 9))
    mean = net.normal(3, 9, 9)
    both(net, Options("BGR", mean, True, None))


def test_trained_on_rgb(both) -> None:
    both(stem(), Options("RGB", None, True, None))


def test_old_files(both) -> None:
    """V1: types by words, arrays of four dimensions."""
    net = Net((16, 16), old=True)
    net.relu(net.conv("conv1", "data", (3, 8), 3, "stride: 2"))
    net.layer("pool1", "POOLING", "conv1", "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    net.layer("norm1", "LRN", "pool1", "norm1", "lrn_param { local_size: 5 alpha: 0.1 }")
    net.layer("drop", "DROPOUT", "norm1", "norm1", "dropout_param { dropout_ratio: 0.5 }")
    net.layer("join", "CONCAT", "norm1 pool1", "join", "concat_param { concat_dim: 1 }")
    net.layer("fc", "INNER_PRODUCT", "join", "fc", "inner_product_param { num_output: 5 }",
              (net.normal(5, 16 * 9), net.normal(5)))  # fmt: skip
    net.layer("prob", "SOFTMAX", "fc", "prob")
    assert list(both(net).outputs) == ["prob"]
