"""ResNet version 2, normalizing before each convolution (He et al. 2016, "Identity Mappings", figure 1b)."""

from itertools import count

from ssd.mxnet_compat import mx
from ssd.symbol.layers import norm_relu, plain_conv, preactivation_stem

WIDTHS = (256, 512, 1024, 2048)


def build(data: mx.sym.Symbol, units: list[int]) -> mx.sym.Symbol:
    """Bottleneck network with units[k] residual units in its stage k; returns `relu1` (stride 32, 2048 channels).

    The sum at the end of each unit is `_plus<n>`, counted from 0 over the whole network. It is not normalized yet:
    that happens in the unit after it (`stage<k>_unit1_relu1` after stage k-1) and, at the very end, in `relu1`.
    """
    body = preactivation_stem(data, 64)
    number = count()
    for stage, (length, width) in enumerate(zip(units, WIDTHS, strict=True), start=1):
        for unit in range(1, length + 1):
            name = f"stage{stage}_unit{unit}"
            stride = 2 if unit == 1 and stage > 1 else 1
            branch = norm_relu(body, f"{name}_", 1)
            # The first unit of a stage changes width and size, so its shortcut does too.
            shortcut = plain_conv(branch, f"{name}_sc", width, stride=stride) if unit == 1 else body
            branch = _bottleneck(branch, name, width, stride)
            # Named by hand: MXNet would count on from the network built before this one.
            body = mx.sym.elemwise_add(branch, shortcut, name=f"_plus{next(number)}")
    return norm_relu(body, "", 1)


def _bottleneck(data: mx.sym.Symbol, name: str, width: int, stride: int) -> mx.sym.Symbol:
    body = plain_conv(data, f"{name}_conv1", width // 4)
    body = norm_relu(body, f"{name}_", 2)
    body = plain_conv(body, f"{name}_conv2", width // 4, kernel=3, stride=stride)
    body = norm_relu(body, f"{name}_", 3)
    return plain_conv(body, f"{name}_conv3", width)
