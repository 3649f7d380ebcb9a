"""MobileNet version 1 (Howard et al. 2017, table 1)."""

from ssd.mxnet_compat import mx
from ssd.symbol.layers import conv_bn_relu

# Filters and stride of the depthwise separable layers conv_2 to conv_14.
LAYERS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip


def build(data: mx.sym.Symbol, multiplier: float, fix_gamma: bool) -> mx.sym.Symbol:
    """Every width times `multiplier`; features `conv_12_relu` (stride 16) and `conv_14_relu` (stride 32).

    `fix_gamma` keeps the scales of all batch normalizations at 1.
    """
    width = int(32 * multiplier)
    body = conv_bn_relu(data, "conv_1", width, (3, 3), (2, 2), (1, 1), fix_gamma=fix_gamma)
    for number, (filters, stride) in enumerate(LAYERS, start=2):
        name = f"conv_{number}"
        body = conv_bn_relu(body, f"{name}_dw", width, (3, 3), (stride, stride), (1, 1), width, fix_gamma)
        width = int(filters * multiplier)
        body = conv_bn_relu(body, name, width, fix_gamma=fix_gamma)
    return body
