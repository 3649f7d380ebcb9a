"""DenseNet-BC (Huang et al. 2017, "Densely Connected Convolutional Networks", table 1)."""

from ssd.mxnet_compat import mx
from ssd.symbol.layers import norm_relu, plain_conv, preactivation_stem


def build(data: mx.sym.Symbol, units: list[int], growth: int) -> mx.sym.Symbol:
    """Stage k (stride 4, 8, 16, 32) adds units[k] times `growth` channels; returns `relu1`.

    Stage k ends in `DBstage<k>_concat<units[k]>`, not normalized yet: that happens in the transition that follows
    (`TBstage<k>_relu1`), which halves channels and size, and, at the very end, in `relu1`.
    """
    channels = 2 * growth
    body = preactivation_stem(data, channels)
    for stage, length in enumerate(units, start=1):
        for unit in range(1, length + 1):
            branch = _unit(body, f"DBstage{stage}_unit{unit}_", growth)
            body = mx.sym.Concat(body, branch, dim=1, name=f"DBstage{stage}_concat{unit}")
        channels += length * growth
        if stage < len(units):
            channels //= 2
            body = _transition(body, f"TBstage{stage}_", channels)
    return norm_relu(body, "", 1)


def _unit(data: mx.sym.Symbol, prefix: str, growth: int) -> mx.sym.Symbol:
    body = plain_conv(norm_relu(data, prefix, 1), f"{prefix}conv1", 4 * growth)
    return plain_conv(norm_relu(body, prefix, 2), f"{prefix}conv2", growth, kernel=3)


def _transition(data: mx.sym.Symbol, prefix: str, channels: int) -> mx.sym.Symbol:
    body = plain_conv(norm_relu(data, prefix, 1), f"{prefix}conv1", channels)
    return mx.sym.Pooling(body, pool_type="avg", kernel=(2, 2), stride=(2, 2), name=f"{prefix}pool")
