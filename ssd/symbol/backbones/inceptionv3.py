"""Inception version 3 (Szegedy et al. 2016, "Rethinking the Inception Architecture", figures 5 to 7, 10)."""

from functools import partial
from typing import Any

from ssd.mxnet_compat import mx
from ssd.symbol.layers import conv_bn_relu
from ssd.utils.errors import UserError

Layer = tuple[int, int, int]  # filters, kernel height, kernel width
POOLS = ("max", "avg")


def build(data: mx.sym.Symbol, fix_gamma: bool, last_pool: str) -> mx.sym.Symbol:
    """Features `ch_concat_mixed_2_chconcat` (stride 8), `..._mixed_7_...` (16) and `..._mixed_10_...` (32).

    `fix_gamma` keeps the scales of all batch normalizations at 1. `last_pool` is what the last block pools by, avg or
    max. Errors: UserError for another one.
    """
    if last_pool not in POOLS:
        raise UserError(f"backbone.network.last_pool={last_pool}: expected {' or '.join(POOLS)}")
    blocks = _Blocks(fix_gamma)
    body = blocks.conv(data, "conv", 32, (3, 3), (2, 2))
    body = blocks.conv(body, "conv_1", 32, (3, 3))
    body = blocks.conv(body, "conv_2", 64, (3, 3), pad=(1, 1))
    body = _pool(body, "pool", "max", stride=2)
    body = blocks.conv(body, "conv_3", 80)
    body = blocks.conv(body, "conv_4", 192, (3, 3))
    body = _pool(body, "pool1", "max", stride=2)
    for name, projection in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        body = blocks.block_5x5(body, name, projection)
    body = blocks.reduce_3x3(body, "mixed_3")
    for name, width in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        body = blocks.block_7x7(body, name, width)
    body = blocks.reduce_7x7(body, "mixed_8")
    for name, pool in (("mixed_9", "avg"), ("mixed_10", last_pool)):  # mxnet-ssd pools by maximum in the last one
        body = blocks.block_wide(body, name, pool)
    return body


class _Blocks:
    """The blocks, all of whose batch normalizations are alike."""

    def __init__(self, fix_gamma: bool) -> None:
        self.conv: Any = partial(conv_bn_relu, fix_gamma=fix_gamma)

    def block_5x5(self, data: mx.sym.Symbol, name: str, projection: int) -> mx.sym.Symbol:
        return _concat(
            name,
            self.tower(data, name, [(64, 1, 1)]),
            self.tower(data, f"{name}_tower", [(48, 1, 1), (64, 5, 5)]),
            self.tower(data, f"{name}_tower_1", [(64, 1, 1), (96, 3, 3), (96, 3, 3)]),
            self.pooled(data, name, "avg", projection),
        )

    def reduce_3x3(self, data: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
        return _concat(
            name,
            self.tower(data, name, [(384, 3, 3)], halve=True),
            self.tower(data, f"{name}_tower", [(64, 1, 1), (96, 3, 3), (96, 3, 3)], halve=True),
            _pool(data, f"{name}_pool", "max", stride=2),
        )

    def block_7x7(self, data: mx.sym.Symbol, name: str, width: int) -> mx.sym.Symbol:
        tall, flat = (width, 7, 1), (width, 1, 7)
        return _concat(
            name,
            self.tower(data, name, [(192, 1, 1)]),
            self.tower(data, f"{name}_tower", [(width, 1, 1), flat, (192, 7, 1)]),
            self.tower(data, f"{name}_tower_1", [(width, 1, 1), tall, flat, tall, (192, 1, 7)]),
            self.pooled(data, name, "avg", 192),
        )

    def reduce_7x7(self, data: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
        return _concat(
            name,
            self.tower(data, f"{name}_tower", [(192, 1, 1), (320, 3, 3)], halve=True),
            self.tower(data, f"{name}_tower_1", [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)], halve=True),
            _pool(data, f"{name}_pool", "max", stride=2),
        )

    def block_wide(self, data: mx.sym.Symbol, name: str, pool: str) -> mx.sym.Symbol:
        first = self.tower(data, f"{name}_tower", [(384, 1, 1)])
        second = self.tower(data, f"{name}_tower_1", [(448, 1, 1), (384, 3, 3)])
        return _concat(
            name,
            self.tower(data, name, [(320, 1, 1)]),
            *self.split(first, f"{name}_tower"),
            *self.split(second, f"{name}_tower_1"),
            self.pooled(data, name, pool, 192),
        )

    def split(self, data: mx.sym.Symbol, name: str) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
        flat = self.conv(data, f"{name}_mixed_conv", 384, (1, 3), pad=(0, 1))
        tall = self.conv(data, f"{name}_mixed_conv_1", 384, (3, 1), pad=(1, 0))
        return flat, tall

    def tower(self, data: mx.sym.Symbol, name: str, layers: list[Layer], halve: bool = False) -> mx.sym.Symbol:
        """Layers `<name>_conv`, `<name>_conv_1`, ... that keep the size; with `halve` the last has stride 2, no pad."""
        body = data
        for number, (filters, height, width) in enumerate(layers):
            layer = f"{name}_conv_{number}" if number else f"{name}_conv"
            if halve and number == len(layers) - 1:
                body = self.conv(body, layer, filters, (height, width), stride=(2, 2))
            else:
                body = self.conv(body, layer, filters, (height, width), pad=(height // 2, width // 2))
        return body

    def pooled(self, data: mx.sym.Symbol, name: str, kind: str, filters: int) -> mx.sym.Symbol:
        return self.tower(_pool(data, f"{name}_pool", kind, stride=1), f"{name}_tower_2", [(filters, 1, 1)])


def _pool(data: mx.sym.Symbol, name: str, kind: str, stride: int) -> mx.sym.Symbol:
    pad = 1 if stride == 1 else 0
    return mx.sym.Pooling(data, pool_type=kind, kernel=(3, 3), stride=(stride, stride), pad=(pad, pad), name=name)


def _concat(name: str, *branches: mx.sym.Symbol) -> mx.sym.Symbol:
    return mx.sym.Concat(*branches, dim=1, name=f"ch_concat_{name}_chconcat")
