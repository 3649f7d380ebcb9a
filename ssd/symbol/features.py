"""The feature maps that the detector looks at: some of the backbone's, then extra layers on top of the last one."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ssd.config.parts import HeadConfig, NetworkConfig, network_config
from ssd.config.targets import make
from ssd.mxnet_compat import mx
from ssd.symbol.head import HeadLayer, head_layers
from ssd.symbol.layers import biased_conv, conv_norm_relu, relu
from ssd.utils.errors import UserError, did_you_mean

CELLS = 2  # a side that the finest map has at least: with one, objects have no place
LARGE = 2048  # pixels


@dataclass(frozen=True)
class FeatureMap:
    """name of the layer, its shape in cells, and the number of anchors on all of its cells."""

    name: str
    channels: int
    height: int
    width: int
    anchors: int


class Feature(NamedTuple):
    """A feature map as a symbol [B, channels, height, width]."""

    symbol: mx.sym.Symbol
    channels: int
    height: int
    width: int


def build_features(network: NetworkConfig) -> list[Feature]:
    """One per layer of the head, on an input called `data` [B, 3, H, W].

    Errors: UserError when the backbone lacks a layer, or when a map vanishes at this data shape.
    """
    # Arguments first, call later: Hydra would copy the symbol.
    build = make(network.backbone.network, "backbone", "backbone.network", _partial_=True, _convert_="all")
    internals = build(mx.sym.Variable("data")).get_internals()
    symbols: list[mx.sym.Symbol] = []
    for number, layer in enumerate(head_layers(network)):
        if layer.source:
            symbols.append(_tap(internals, layer.source, network.backbone.name))
        else:
            symbols.append(_extra_layer(symbols[-1], number, layer, network.head))
    shapes = [_shape(symbol, *network.input.shape) for symbol in symbols]
    coarse = CELLS * _stride(symbols[0])
    if min(network.input.shape) < coarse or not all(shapes):
        raise UserError(_too_small(symbols, shapes, coarse, network))
    return [Feature(symbol, *shape) for symbol, shape in zip(symbols, shapes, strict=True) if shape]


def feature_maps(cfg: Any) -> list[FeatureMap]:
    """Shapes and numbers of anchors, in the order in which the network joins them; computes nothing.

    cfg: what ssd.config.compose() returns, or a NetworkConfig. Errors: as build_features.
    """
    network = network_config(cfg)
    with mx.name.NameManager():
        features = build_features(network)
    return [
        FeatureMap(symbol.name, channels, height, width, height * width * layer.anchors_per_cell)
        for (symbol, channels, height, width), layer in zip(features, head_layers(network), strict=True)
    ]


def _tap(internals: mx.sym.Symbol, source: str, backbone: str) -> mx.sym.Symbol:
    outputs = [name.removesuffix("_output") for name in internals.list_outputs() if name.endswith("_output")]
    if source not in outputs:
        hint = did_you_mean(source, outputs) or f"its last one is {outputs[-1]}"
        raise UserError(f"head.from_layers: backbone {backbone} has no layer {source!r}; {hint}")
    return internals[f"{source}_output"]


def _extra_layer(data: mx.sym.Symbol, number: int, layer: HeadLayer, head: HeadConfig) -> mx.sym.Symbol:
    """A 1x1 convolution that narrows, then one that (mostly) halves the size; `number` is the place in the head."""
    prefix = f"multi_feat_{number}_conv"
    narrow = (f"{prefix}_1x1", max(head.min_filter, layer.filters // 2), 1, (1, 0))
    shrink = (f"{prefix}_{layer.kernel}x{layer.kernel}", layer.filters, layer.kernel, (layer.stride, layer.pad))
    for name, filters, kernel, window in (narrow, shrink):
        if head.batch_norm:
            data = conv_norm_relu(data, name, filters, kernel, window)
        else:
            data = relu(biased_conv(data, f"{name}_conv", filters, kernel, window), f"{name}_relu")
    return data


def _too_small(symbols: list[mx.sym.Symbol], shapes: list[Any], coarse: int, network: NetworkConfig) -> str:
    """Why a data shape does not do, and which would. The last map vanishes first when the image shrinks."""
    least = max(coarse, _smallest_side(symbols[-1]))
    gone = next((symbol.name for symbol, shape in zip(symbols, shapes, strict=True) if shape is None), None)
    reason = f"nothing is left of feature map {gone}" if gone else f"too few cells are left of {symbols[0].name}"
    return (
        f"backbone {network.backbone.name} at data shape {network.input.height}x{network.input.width}: {reason}; use a "
        f"data shape of at least {least} pixels a side, or a backbone with fewer or finer maps such as small"
    )


def _shape(symbol: mx.sym.Symbol, height: int, width: int) -> tuple[int, int, int] | None:
    """(channels, h, w) of a feature for such an image, or None when nothing is left of it."""
    if min(height, width) < 1:
        return None
    try:
        # Unlike infer_shape it does not print when a kernel is larger than its input.
        _, shapes, _ = symbol.infer_shape_partial(data=(1, 3, height, width))
    except mx.MXNetError:
        return None
    shape = tuple(shapes[0])  # () or with zeros where unknown
    return shape[1:] if len(shape) == 4 and min(shape) > 0 else None


def _stride(symbol: mx.sym.Symbol) -> int:
    """Pixels of the input from one cell of the feature to the next, where borders do not count."""
    near, far = (_shape(symbol, side, side) for side in (LARGE, 2 * LARGE))
    return round(LARGE / (far[1] - near[1])) if near and far else 1


def _smallest_side(symbol: mx.sym.Symbol) -> int:
    """Side of the smallest square image that leaves something of the feature, as all larger ones do."""
    low, high = 0, 1
    while _shape(symbol, high, high) is None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shape(symbol, middle, middle) else (middle, high)
    return high
