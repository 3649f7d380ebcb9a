"""An SSD network of this package as a PyTorch module, for comparisons: the same layers, weights and anchors.

Built from the graph as MXNet saves it (JSON) and its parameters (numpy), so that PyTorch runs in a process of its
own.
"""

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLS, LOC = "multibox_cls_pred", "multibox_loc_pred"
NORM_EPS = 1e-10
VARIANCES = (0.1, 0.2)  # of centers and of sizes


class Graph(nn.Module):
    """data float32 [B, 3, H, W] -> class scores [B, C + 1, N] and offsets [B, N, 4], before softmax and decoding."""

    def __init__(self, symbol: str, params: Mapping[str, np.ndarray]) -> None:
        """Errors: KeyError for an operator that is not known here."""
        super().__init__()
        nodes = json.loads(symbol)["nodes"]
        names = [node["name"] for node in nodes]
        self._steps: list[tuple[str, Callable[..., Tensor], list[str]]] = []
        needed = {names.index(CLS), names.index(LOC)}
        for number in reversed(range(len(nodes))):
            if number in needed:
                needed |= {source for source, *_ in nodes[number]["inputs"]}
        for number, node in enumerate(nodes):
            if number not in needed or node["op"] == "null":
                continue
            inputs = [names[number] for number, *_ in node["inputs"]]
            arrays = [params[name] for name in inputs if name in params]
            attrs = {key: _value(text) for key, text in node.get("attrs", {}).items()}
            layer = LAYERS[node["op"]](attrs, arrays)
            if isinstance(layer, nn.Module):
                self.add_module(node["name"].replace(".", "_"), layer)
            self._steps.append((node["name"], layer, [name for name in inputs if name not in params]))

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        values = {"data": data}
        for name, layer, inputs in self._steps:
            values[name] = layer(*(values[source] for source in inputs))
        return values[CLS], values[LOC].reshape(len(data), -1, 4)


def probabilities(scores: Tensor, offsets: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """cls_prob [B, C + 1, N] and boxes [B, N, 4], corners clipped to 0..1. anchors: [N, 4] corners."""
    size = anchors[:, 2:] - anchors[:, :2]
    center = (anchors[:, 2:] + anchors[:, :2]) / 2 + offsets[..., :2] * VARIANCES[0] * size
    half = torch.exp(offsets[..., 2:] * VARIANCES[1]) * size / 2
    return scores.softmax(1), torch.cat([center - half, center + half], -1).clamp(0, 1)


class Normalized(nn.Module):
    """Every pixel's channels divided by their length, times a scale per channel."""

    def forward(self, data: Tensor) -> Tensor:
        return data / (data.square().sum(1, keepdim=True) + NORM_EPS).sqrt()


class Scaled(nn.Module):
    def __init__(self, scale: np.ndarray) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.from_numpy(scale))

    def forward(self, data: Tensor) -> Tensor:
        return data * self.scale


def _convolution(attrs: dict[str, Any], arrays: list[np.ndarray]) -> nn.Module:
    weight = arrays[0]
    groups = attrs.get("num_group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], attrs["kernel"], attrs.get("stride", (1, 1)),
        attrs.get("pad", (0, 0)), attrs.get("dilate", (1, 1)), groups, bias=len(arrays) > 1,
    )  # fmt: skip
    for parameter, array in zip((layer.weight, layer.bias), arrays, strict=False):
        parameter.data = torch.from_numpy(array)
    return layer


def _batch_norm(attrs: dict[str, Any], arrays: list[np.ndarray]) -> nn.Module:
    gamma, beta, mean, variance = (torch.from_numpy(array) for array in arrays)
    fixed = attrs.get("fix_gamma", True)
    layer = nn.BatchNorm2d(len(beta), attrs.get("eps", 1e-3), 1 - attrs.get("momentum", 0.9))
    layer.weight = nn.Parameter(torch.ones_like(gamma) if fixed else gamma, requires_grad=not fixed)
    layer.bias = nn.Parameter(beta)
    layer.running_mean, layer.running_var = mean, variance
    return layer


def _pooling(attrs: dict[str, Any], arrays: list[np.ndarray]) -> nn.Module:
    if attrs.get("global_pool", False):
        return nn.AdaptiveMaxPool2d(1) if attrs["pool_type"] == "max" else nn.AdaptiveAvgPool2d(1)
    kind = nn.MaxPool2d if attrs["pool_type"] == "max" else nn.AvgPool2d
    ceil = attrs.get("pooling_convention", "valid") == "full"
    return kind(attrs["kernel"], attrs.get("stride", (1, 1)), attrs.get("pad", (0, 0)), ceil_mode=ceil)


def _reshape(attrs: dict[str, Any], arrays: list[np.ndarray]) -> Callable[[Tensor], Tensor]:
    shape = attrs["shape"]
    return lambda data: data.reshape([data.shape[at] if side == 0 else side for at, side in enumerate(shape)])


LAYERS: dict[str, Callable[[dict[str, Any], list[np.ndarray]], Callable[..., Tensor]]] = {
    "Convolution": _convolution,
    "BatchNorm": _batch_norm,
    "Pooling": _pooling,
    "Activation": lambda attrs, arrays: {"relu": nn.functional.relu, "sigmoid": torch.sigmoid}[attrs["act_type"]],
    "Concat": lambda attrs, arrays: lambda *data: torch.cat(data, attrs.get("dim", 1)),
    "Dropout": lambda attrs, arrays: nn.Dropout(attrs.get("p", 0.5)),
    "Flatten": lambda attrs, arrays: lambda data: data.flatten(1),
    "L2Normalization": lambda attrs, arrays: Normalized(),
    "Reshape": _reshape,
    "broadcast_mul": lambda attrs, arrays: Scaled(arrays[0]),
    "elemwise_add": lambda attrs, arrays: torch.add,
    "transpose": lambda attrs, arrays: lambda data: data.permute(*attrs["axes"]),
    "_contrib_MultiBoxPrior": lambda attrs, arrays: lambda data: data,  # anchors are given
}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
