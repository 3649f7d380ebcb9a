"""Layers of neural networks in ONNX: convolution, pooling, normalization, activation."""

import numpy as np

from ssd.export.onnx.builder import Builder, Layer

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}


def convolution(layer: Layer, onnx: Builder) -> str:
    if layer.text("layout", "None") not in ("None", "NCHW"):
        raise layer.unsupported(f"layout={layer.text('layout', '')}", "NCHW")
    pad = layer.pair("pad", 0)
    return onnx.add(
        "Conv", layer.inputs, layer.name,
        kernel_shape=layer.pair("kernel", 1), strides=layer.pair("stride", 1), pads=pad * 2,
        dilations=layer.pair("dilate", 1), group=layer.value("num_group", 1),
    )  # fmt: skip


def deconvolution(layer: Layer, onnx: Builder) -> str:
    if layer.value("target_shape", ()) not in ((), None):
        raise layer.unsupported("target_shape", "pad and adj")
    pad = layer.pair("pad", 0)
    return onnx.add(
        "ConvTranspose", layer.inputs, layer.name,
        kernel_shape=layer.pair("kernel", 1), strides=layer.pair("stride", 1), pads=pad * 2,
        dilations=layer.pair("dilate", 1), group=layer.value("num_group", 1), output_padding=layer.pair("adj", 0),
    )  # fmt: skip


def fully_connected(layer: Layer, onnx: Builder) -> str:
    data = layer.inputs[0]
    if layer.flag("flatten", True):
        data = onnx.add("Flatten", [data], f"{layer.name}_flatten", axis=1)
    elif len(layer.input_shapes[0]) != 2:
        raise layer.unsupported("flatten=False", "flatten=True")
    return onnx.add("Gemm", [data, *layer.inputs[1:]], layer.name, transB=1)


def pooling(layer: Layer, onnx: Builder) -> str:
    kind = layer.text("pool_type", "max")
    if kind not in ("max", "avg"):
        raise layer.unsupported(f"pool_type={kind}", "max and avg")
    if layer.flag("global_pool", False):
        return onnx.add("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", layer.inputs, layer.name)
    kernel, stride, pad = layer.pair("kernel", 1), layer.pair("stride", 1), layer.pair("pad", 0)
    sides, wanted = layer.input_shapes[0][2:], layer.output_shapes[0][2:]
    # What the last window needs beyond the image and its padding, where sizes are rounded up.
    end = [max(p, (o - 1) * s + k - i - p) for i, o, k, s, p in zip(sides, wanted, kernel, stride, pad, strict=True)]
    window = {"kernel_shape": kernel, "strides": stride, "pads": [*pad, *end]}
    if kind == "max":
        return onnx.add("MaxPool", layer.inputs, layer.name, **window)
    padding_counts = layer.flag("count_include_pad", True)
    pooled = onnx.add("AveragePool", layer.inputs, layer.name, count_include_pad=int(padding_counts), **window)
    if not padding_counts or tuple(end) == pad:
        return pooled
    # MXNet divides the windows at the edge by what they have of the image and its padding.
    parts = [_covered(*numbers) for numbers in zip(sides, wanted, kernel, stride, pad, strict=True)]
    ratio = (np.prod(kernel) / np.outer(*parts)).astype(np.float32)
    return onnx.add("Mul", [pooled, onnx.constant(ratio, f"{layer.name}_edges")], f"{layer.name}_rounded")


def _covered(side: int, count: int, kernel: int, stride: int, pad: int) -> np.ndarray:
    """Of each window along an axis, the cells inside of the padded image."""
    start = np.arange(count) * stride - pad
    return np.minimum(start + kernel, side + pad) - start


def batch_norm(layer: Layer, onnx: Builder) -> str:
    if layer.value("axis", 1) != 1:
        raise layer.unsupported(f"axis={layer.value('axis', 1)}", "axis=1")
    data, gamma, beta, mean, variance = layer.inputs
    if layer.flag("fix_gamma", True):
        gamma = onnx.constant(np.ones(layer.input_shapes[1], np.float32), f"{layer.name}_ones")
    return onnx.add(
        "BatchNormalization", [data, gamma, beta, mean, variance], layer.name, epsilon=layer.value("eps", 1e-3)
    )


def l2_normalization(layer: Layer, onnx: Builder) -> str:
    axes = {"channel": [1], "instance": list(range(1, len(layer.input_shapes[0]))), "spatial": [2, 3]}
    squares = onnx.add(
        "ReduceSumSquare", layer.inputs, f"{layer.name}_squares", axes=axes[layer.text("mode", "instance")], keepdims=1
    )
    eps = onnx.scalar(layer.value("eps", 1e-10), f"{layer.name}_eps")
    length = onnx.add("Sqrt", [onnx.add("Add", [squares, eps], f"{layer.name}_sum")], f"{layer.name}_length")
    return onnx.add("Div", [layer.inputs[0], length], layer.name)


def local_response(layer: Layer, onnx: Builder) -> str:
    return onnx.add(
        "LRN", layer.inputs, layer.name,
        alpha=float(layer.value("alpha", 1e-4)), beta=float(layer.value("beta", 0.75)),
        bias=float(layer.value("knorm", 2.0)), size=int(layer.value("nsize", 0)),
    )  # fmt: skip


def activation(layer: Layer, onnx: Builder) -> str:
    kind = layer.text("act_type", "relu")
    if kind not in ACTIVATIONS:
        raise layer.unsupported(f"act_type={kind}", ", ".join(ACTIVATIONS))
    return onnx.add(ACTIVATIONS[kind], layer.inputs, layer.name)


def leaky_relu(layer: Layer, onnx: Builder) -> str:
    kind, slope = layer.text("act_type", "leaky"), float(layer.value("slope", 0.25))
    if kind == "leaky":
        return onnx.add("LeakyRelu", layer.inputs, layer.name, alpha=slope)
    if kind == "elu":
        return onnx.add("Elu", layer.inputs, layer.name, alpha=slope)
    if kind != "prelu":
        raise layer.unsupported(f"act_type={kind}", "leaky, prelu and elu")
    # One slope per channel: ONNX aligns shapes at their ends.
    shape = onnx.numbers([-1] + [1] * (len(layer.input_shapes[0]) - 2), f"{layer.name}_shape")
    slopes = onnx.add("Reshape", [layer.inputs[1], shape], f"{layer.name}_slopes")
    return onnx.add("PRelu", [layer.inputs[0], slopes], layer.name)


def softmax(layer: Layer, onnx: Builder) -> str:
    if layer.value("temperature", None) not in (None, 1.0):
        raise layer.unsupported("temperature", "temperature=None")
    return onnx.add("Softmax", layer.inputs[:1], layer.name, axis=layer.value("axis", -1))


def softmax_activation(layer: Layer, onnx: Builder) -> str:
    if layer.text("mode", "instance") == "channel":
        return onnx.add("Softmax", layer.inputs, layer.name, axis=1)
    if len(layer.input_shapes[0]) != 2:
        raise layer.unsupported("mode=instance of more than two axes", "mode=channel")
    return onnx.add("Softmax", layer.inputs, layer.name, axis=1)


def softmax_output(layer: Layer, onnx: Builder) -> str:
    axis = 1 if layer.flag("multi_output", False) else -1
    return onnx.add("Softmax", layer.inputs[:1], layer.name, axis=axis)


def upsampling(layer: Layer, onnx: Builder) -> str:
    if layer.text("sample_type", "nearest") != "nearest" or len(layer.inputs) != 1:
        raise layer.unsupported("this kind", "sample_type=nearest of one input")
    scale = float(layer.value("scale", 1))
    scales = onnx.constant(np.array([1, 1, scale, scale], np.float32), f"{layer.name}_scales")
    return onnx.add(
        "Resize", [layer.inputs[0], "", scales], layer.name,
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
