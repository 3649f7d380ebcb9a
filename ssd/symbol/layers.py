"""Groups of layers that several networks share."""

import numpy as np

from ssd.mxnet_compat import mx

Pair = tuple[int, int]


def biased_conv(
    data: mx.sym.Symbol, name: str, num_filter: int, kernel: int, window: Pair, first: list[float] | None = None
) -> mx.sym.Symbol:
    """Convolution of the detection head: its bias starts at 0 and learns at twice the rate, as in Caffe's SSD.

    `window` is (stride, pad), square like the kernel. `first`: what the bias [num_filter] starts at instead.
    """
    stride, pad = window
    start = mx.init.Constant(0.0 if first is None else np.array(first))
    bias = mx.sym.Variable(f"{name}_bias", init=start, attr={"__lr_mult__": "2.0"})
    return mx.sym.Convolution(
        data, bias=bias, num_filter=num_filter, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad),
        name=name,
    )  # fmt: skip


def relu(data: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return mx.sym.Activation(data, act_type="relu", name=name)


def conv_bn_relu(
    data: mx.sym.Symbol,
    name: str,
    num_filter: int,
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    groups: int = 1,
    fix_gamma: bool = True,
) -> mx.sym.Symbol:
    """Convolution without bias, batch normalization, ReLU, named `<name>_conv2d`, `_batchnorm` and `_relu`.

    `fix_gamma` keeps the scale of the normalization at 1, whatever the stored parameter says.
    """
    body = mx.sym.Convolution(
        data, num_filter=num_filter, kernel=kernel, stride=stride, pad=pad, num_group=groups, no_bias=True,
        name=f"{name}_conv2d",
    )  # fmt: skip
    body = mx.sym.BatchNorm(body, fix_gamma=fix_gamma, name=f"{name}_batchnorm")
    return relu(body, f"{name}_relu")


def plain_conv(data: mx.sym.Symbol, name: str, num_filter: int, kernel: int = 1, stride: int = 1) -> mx.sym.Symbol:
    """Convolution without bias that keeps the size (divided by `stride`): what pre-activation networks are made of."""
    pad = kernel // 2
    return mx.sym.Convolution(
        data, num_filter=num_filter, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad), no_bias=True,
        name=name,
    )  # fmt: skip


def norm(data: mx.sym.Symbol, name: str, fix_gamma: bool = False) -> mx.sym.Symbol:
    """Batch normalization with the small epsilon of the published pre-activation networks."""
    return mx.sym.BatchNorm(data, fix_gamma=fix_gamma, eps=2e-5, momentum=0.9, name=name)


def conv_norm_relu(data: mx.sym.Symbol, name: str, num_filter: int, kernel: int, window: Pair) -> mx.sym.Symbol:
    """Convolution `<name>_conv` without bias, batch normalization `<name>_bn`, ReLU `<name>_relu`; `window` as above.

    The weights start as He et al. 2015 ("Delving deep into rectifiers", eq. 14) have it: normal, variance 2 / outputs.
    """
    stride, pad = window
    start = mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)
    body = mx.sym.Convolution(
        data, weight=mx.sym.Variable(f"{name}_conv_weight", init=start), num_filter=num_filter, no_bias=True,
        kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad), name=f"{name}_conv",
    )  # fmt: skip
    return relu(norm(body, f"{name}_bn"), f"{name}_relu")


def norm_relu(data: mx.sym.Symbol, prefix: str, number: int) -> mx.sym.Symbol:
    """`<prefix>bn<number>` then `<prefix>relu<number>`."""
    return relu(norm(data, f"{prefix}bn{number}"), f"{prefix}relu{number}")


def preactivation_stem(data: mx.sym.Symbol, num_filter: int) -> mx.sym.Symbol:
    """First layers of ResNet v2 and DenseNet, stride 4. Their input is normalized by the network itself."""
    body = norm(data, "bn_data", fix_gamma=True)
    body = plain_conv(body, "conv0", num_filter, kernel=7, stride=2)
    body = norm_relu(body, "", 0)
    return mx.sym.Pooling(body, pool_type="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1), name="pool0")
