"""A small network of our own, for CPUs and for images of about 128 pixels."""

from ssd.mxnet_compat import mx
from ssd.symbol.layers import conv_bn_relu


def build(data: mx.sym.Symbol, filters: list[int]) -> mx.sym.Symbol:
    """Stage k halves the size, then looks twice: two 3x3 layers of filters[k] channels, the first with stride 2.

    Feature of stage k: `stage<k>_2_relu`, stride 2^k.
    """
    body = data
    for stage, width in enumerate(filters, start=1):
        body = conv_bn_relu(body, f"stage{stage}_1", width, (3, 3), (2, 2), (1, 1), fix_gamma=False)
        body = conv_bn_relu(body, f"stage{stage}_2", width, (3, 3), (1, 1), (1, 1), fix_gamma=False)
    return body
