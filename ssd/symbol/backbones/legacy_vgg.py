"""VGG-16 and SSD's extra layers under the names of the first MXNet models, vgg16_ssd_300 and vgg16_ssd_512."""

from ssd.mxnet_compat import mx
from ssd.symbol.backbones import vgg
from ssd.symbol.layers import biased_conv, relu

# Filters, kernel, stride and pad of the second convolution of the extra layers 8, 9, ...
EXTRA_LAYERS = {
    "small": ((512, 3, 2, 1), (256, 3, 2, 1), (256, 3, 1, 0), (256, 3, 1, 0)),
    "large": ((512, 3, 2, 1), (256, 3, 2, 1), (256, 3, 2, 1), (256, 3, 2, 1), (256, 4, 1, 1)),
}


def build(data: mx.sym.Symbol, tier: str) -> mx.sym.Symbol:
    """Features `relu4_3`, `relu7`, `relu8_2`, `relu9_2`, ... : the extra layers belong to the network.

    `tier` small is the published network for 300 pixels, large the one for 512.
    """
    body = vgg.build(data, dense_names=("conv6", "conv7"))
    for number, (filters, kernel, stride, pad) in enumerate(EXTRA_LAYERS[tier], start=8):
        body = relu(biased_conv(body, f"conv{number}_1", filters // 2, 1, (1, 0)), f"relu{number}_1")
        body = relu(biased_conv(body, f"conv{number}_2", filters, kernel, (stride, pad)), f"relu{number}_2")
    return body
