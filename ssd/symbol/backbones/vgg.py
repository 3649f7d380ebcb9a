"""VGG-16 with its fully connected layers turned into convolutions (Liu et al. 2016, "SSD", section 3)."""

from ssd.mxnet_compat import mx
from ssd.symbol.layers import biased_conv, relu

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions and filters of each
# Filters, kernel, stride and pad of the second convolution of the extra layers 8, 9, ...
LEGACY_EXTRA_LAYERS = {
    "small": ((512, 3, 2, 1), (256, 3, 2, 1), (256, 3, 1, 0), (256, 3, 1, 0)),
    "large": ((512, 3, 2, 1), (256, 3, 2, 1), (256, 3, 2, 1), (256, 3, 2, 1), (256, 4, 1, 1)),
}


def build(data: mx.sym.Symbol, dense_names: tuple[str, str]) -> mx.sym.Symbol:
    """Features `relu4_3` (stride 8, 512 channels) to `relu7` (stride 16, 1024 channels).

    `dense_names` are the names of the two convolutions that replace the fully connected layers.
    """
    body = data
    for stage, (convolutions, filters) in enumerate(STAGES, start=1):
        for number in range(1, convolutions + 1):
            name = f"conv{stage}_{number}"
            body = mx.sym.Convolution(body, num_filter=filters, kernel=(3, 3), pad=(1, 1), name=name)
            body = relu(body, f"relu{stage}_{number}")
        body = _pool(body, stage)
    # The 7x7 kernel was thinned out to 3x3, and pool5 no longer halves the size: its cells stand 6 apart.
    fc6, fc7 = dense_names
    body = mx.sym.Convolution(body, num_filter=1024, kernel=(3, 3), pad=(6, 6), dilate=(6, 6), name=fc6)
    body = relu(body, "relu6")
    body = mx.sym.Convolution(body, num_filter=1024, kernel=(1, 1), name=fc7)
    return relu(body, "relu7")


def _pool(data: mx.sym.Symbol, stage: int) -> mx.sym.Symbol:
    if stage == len(STAGES):
        return mx.sym.Pooling(data, pool_type="max", kernel=(3, 3), stride=(1, 1), pad=(1, 1), name="pool5")
    # Caffe rounds sizes up; at an input of 300 that shows in pool3 alone, where 75 becomes 38.
    rounding = "full" if stage == 3 else "valid"
    return mx.sym.Pooling(
        data, pool_type="max", kernel=(2, 2), stride=(2, 2), pooling_convention=rounding, name=f"pool{stage}"
    )


def build_legacy(data: mx.sym.Symbol, tier: str) -> mx.sym.Symbol:
    """The graph of the first published MXNet models, vgg16_ssd_300 and vgg16_ssd_512, under its names.

    Features `relu4_3`, `relu7`, `relu8_2`, `relu9_2`, ... : the extra layers belong to the network.

    `tier` small is the published network for 300 pixels, large the one for 512.
    """
    body = build(data, dense_names=("conv6", "conv7"))
    for number, (filters, kernel, stride, pad) in enumerate(LEGACY_EXTRA_LAYERS[tier], start=8):
        body = relu(biased_conv(body, f"conv{number}_1", filters // 2, 1, (1, 0)), f"relu{number}_1")
        body = relu(biased_conv(body, f"conv{number}_2", filters, kernel, (stride, pad)), f"relu{number}_2")
    return body
