"""Inception version 3 (Szegedy et al. 2016, "Rethinking the Inception Architecture", figures 5 to 7, 10)."""

from ssd.mxnet_compat import mx
from ssd.symbol.layers import conv_bn_relu

Layer = tuple[int, int, int]  # filters, kernel height, kernel width


def build(data: mx.sym.Symbol) -> mx.sym.Symbol:
    """Features `ch_concat_mixed_2_chconcat` (stride 8), `..._mixed_7_...` (16) and `..._mixed_10_...` (32)."""
    body = conv_bn_relu(data, "conv", 32, (3, 3), (2, 2))
    body = conv_bn_relu(body, "conv_1", 32, (3, 3))
    body = conv_bn_relu(body, "conv_2", 64, (3, 3), pad=(1, 1))
    body = _pool(body, "pool", "max", stride=2)
    body = conv_bn_relu(body, "conv_3", 80)
    body = conv_bn_relu(body, "conv_4", 192, (3, 3))
    body = _pool(body, "pool1", "max", stride=2)
    for name, projection in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        body = _block_5x5(body, name, projection)
    body = _reduce_3x3(body, "mixed_3")
    for name, width in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        body = _block_7x7(body, name, width)
    body = _reduce_7x7(body, "mixed_8")
    # The published network pools by average in one of these and by maximum in the other.
    for name, pool in (("mixed_9", "avg"), ("mixed_10", "max")):
        body = _block_wide(body, name, pool)
    return body


def _block_5x5(data: mx.sym.Symbol, name: str, projection: int) -> mx.sym.Symbol:
    return _concat(
        name,
        _tower(data, name, [(64, 1, 1)]),
        _tower(data, f"{name}_tower", [(48, 1, 1), (64, 5, 5)]),
        _tower(data, f"{name}_tower_1", [(64, 1, 1), (96, 3, 3), (96, 3, 3)]),
        _pooled(data, name, "avg", projection),
    )


def _reduce_3x3(data: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return _concat(
        name,
        _tower(data, name, [(384, 3, 3)], halve=True),
        _tower(data, f"{name}_tower", [(64, 1, 1), (96, 3, 3), (96, 3, 3)], halve=True),
        _pool(data, f"{name}_pool", "max", stride=2),
    )


def _block_7x7(data: mx.sym.Symbol, name: str, width: int) -> mx.sym.Symbol:
    tall, flat = (width, 7, 1), (width, 1, 7)
    return _concat(
        name,
        _tower(data, name, [(192, 1, 1)]),
        _tower(data, f"{name}_tower", [(width, 1, 1), flat, (192, 7, 1)]),
        _tower(data, f"{name}_tower_1", [(width, 1, 1), tall, flat, tall, (192, 1, 7)]),
        _pooled(data, name, "avg", 192),
    )


def _reduce_7x7(data: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return _concat(
        name,
        _tower(data, f"{name}_tower", [(192, 1, 1), (320, 3, 3)], halve=True),
        _tower(data, f"{name}_tower_1", [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)], halve=True),
        _pool(data, f"{name}_pool", "max", stride=2),
    )


def _block_wide(data: mx.sym.Symbol, name: str, pool: str) -> mx.sym.Symbol:
    first = _tower(data, f"{name}_tower", [(384, 1, 1)])
    second = _tower(data, f"{name}_tower_1", [(448, 1, 1), (384, 3, 3)])
    return _concat(
        name,
        _tower(data, name, [(320, 1, 1)]),
        *_split(first, f"{name}_tower"),
        *_split(second, f"{name}_tower_1"),
        _pooled(data, name, pool, 192),
    )


def _split(data: mx.sym.Symbol, name: str) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    flat = conv_bn_relu(data, f"{name}_mixed_conv", 384, (1, 3), pad=(0, 1))
    tall = conv_bn_relu(data, f"{name}_mixed_conv_1", 384, (3, 1), pad=(1, 0))
    return flat, tall


def _tower(data: mx.sym.Symbol, name: str, layers: list[Layer], halve: bool = False) -> mx.sym.Symbol:
    """Layers `<name>_conv`, `<name>_conv_1`, ... that keep the size; `halve`: the last has stride 2 and no padding."""
    body = data
    for number, (filters, height, width) in enumerate(layers):
        layer = f"{name}_conv_{number}" if number else f"{name}_conv"
        if halve and number == len(layers) - 1:
            body = conv_bn_relu(body, layer, filters, (height, width), stride=(2, 2))
        else:
            body = conv_bn_relu(body, layer, filters, (height, width), pad=(height // 2, width // 2))
    return body


def _pooled(data: mx.sym.Symbol, name: str, kind: str, filters: int) -> mx.sym.Symbol:
    return _tower(_pool(data, f"{name}_pool", kind, stride=1), f"{name}_tower_2", [(filters, 1, 1)])


def _pool(data: mx.sym.Symbol, name: str, kind: str, stride: int) -> mx.sym.Symbol:
    pad = 1 if stride == 1 else 0
    return mx.sym.Pooling(data, pool_type=kind, kernel=(3, 3), stride=(stride, stride), pad=(pad, pad), name=name)


def _concat(name: str, *branches: mx.sym.Symbol) -> mx.sym.Symbol:
    return mx.sym.Concat(*branches, dim=1, name=f"ch_concat_{name}_chconcat")
