"""BatchNorm and Scale layers worked into what stands before them: the same numbers with fewer layers."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from ssd.importers.caffe.graph import UnsupportedError
from ssd.importers.caffe.layers import Layer, Network
from ssd.importers.caffe.pointwise import statistics

INTO = ("Convolution", "ConvolutionDepthwise", "InnerProduct")


def folded(network: Network) -> tuple[Network, dict[str, str]]:
    """The network without those layers, and where each of them went, by name.

    A BatchNorm or Scale layer is folded into a convolution or dense layer that nothing else reads; a Scale layer
    behind a BatchNorm that stays becomes its factor and offset. Layers whose arrays do not fit are left to be reported.
    """
    readers = Counter(name for layer in network.layers for name in layer.bottoms)
    layers: list[Layer] = []
    producer: dict[str, int] = {}  # array -> place of its layer in `layers`
    gone: dict[str, str] = {}
    for layer in network.layers:
        place = producer.get(layer.bottoms[0]) if layer.bottoms else None
        merged = None
        if place is not None and len(layer.bottoms) == len(layer.tops) == 1 and readers[layer.bottoms[0]] == 1:
            merged = _merged(layers[place], layer)
        if place is None or merged is None:
            producer |= {top: len(layers) for top in layer.tops}
            layers.append(layer)
            continue
        gone[layer.name] = merged.name
        layers[place] = merged
        producer[layer.tops[0]] = place
    return replace(network, layers=tuple(layers)), gone


def _merged(first: Layer, second: Layer) -> Layer | None:
    """Both as one layer that writes what the second wrote; None when that cannot be."""
    try:
        if first.type in INTO and second.type in ("BatchNorm", "Scale"):
            count = len(first.blobs[0]) if first.type != "InnerProduct" else _options(first).num_output
            factor, offset = _batch_norm(second, count) if second.type == "BatchNorm" else _scale(second, count)
            return _into_filters(first, second, factor, offset)
        if first.type == "BatchNorm" and second.type == "Scale" and len(first.blobs) == 3:
            factor, offset = _scale(second, first.blobs[0].size)
            return replace(first, tops=second.tops, blobs=(*first.blobs, factor, offset))
    except (UnsupportedError, ValueError, IndexError):
        return None  # the converter of the layer by itself tells what is wrong
    return None


def _options(layer: Layer) -> Any:
    return layer.options.inner_product_param if layer.type == "InnerProduct" else layer.options.convolution_param


def _into_filters(first: Layer, second: Layer, factor: np.ndarray, offset: np.ndarray) -> Layer | None:
    options = _options(first)
    if first.type == "InnerProduct" and (options.transpose or options.axis != 1):
        return None  # its weights lie otherwise
    weight = first.blobs[0].reshape(len(factor), -1) * factor[:, None]
    bias = first.blobs[1].reshape(-1) if options.bias_term else np.zeros(len(factor), np.float32)
    changed = type(first.options)()
    changed.CopyFrom(first.options)
    options = changed.inner_product_param if first.type == "InnerProduct" else changed.convolution_param
    options.bias_term = True
    return replace(first, tops=second.tops, options=changed, blobs=(weight, bias * factor + offset))


def _batch_norm(layer: Layer, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset [C] that a BatchNorm layer amounts to."""
    options = layer.options.batch_norm_param
    if options.HasField("use_global_stats") and not options.use_global_stats:
        raise UnsupportedError("statistics of the batch")
    mean, variance = statistics(layer, channels)
    if len(layer.blobs) > 3 or not (variance + options.eps > 0).all():
        raise UnsupportedError("variance")
    factor = 1 / np.sqrt(variance.astype(np.float64) + options.eps)
    return factor.astype(np.float32), (-mean * factor).astype(np.float32)


def _scale(layer: Layer, channels: int) -> tuple[np.ndarray, np.ndarray]:
    options = layer.options.scale_param
    if options.axis not in (1, -3) or options.num_axes != 1:
        raise UnsupportedError("axis")
    factor = layer.blobs[0].reshape(channels)
    offset = layer.blobs[1].reshape(channels) if options.bias_term else np.zeros(channels, np.float32)
    return factor, offset
