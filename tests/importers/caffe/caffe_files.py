"""Writes Caffe's files: descriptions as text, weights in protobuf's wire format, without protobuf.

`Net` collects layers; sizes of weights are given by the caller, values are random.
"""

import struct
from pathlib import Path

import numpy as np


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def packed(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def blob(array: np.ndarray, form: str = "new") -> bytes:
    """form: "new" (a list of dimensions), "old" (four of them), "double", or "single" (numbers one by one)."""
    if form == "old":
        sides = (1,) * (4 - array.ndim) + array.shape
        return b"".join(number(k, side) for k, side in enumerate(sides, 1)) + packed(5, array.astype("<f4").tobytes())
    shape = packed(7, packed(1, b"".join(varint(side) for side in array.shape)))
    if form == "double":
        return shape + packed(8, array.astype("<f8").tobytes())
    if form == "single":
        return shape + b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in array.ravel())
    return shape + packed(5, array.astype("<f4").tobytes())


class Net:
    """V1 files (old=True) name types by words and carry four dimensions."""

    def __init__(self, size: tuple[int, int], old: bool = False, seed: int = 0, channels: int = 3) -> None:
        self.old = old
        self.text = f'name: "net"\ninput: "data"\ninput_dim: 1\ninput_dim: {channels}\n'
        self.text += f"input_dim: {size[0]}\ninput_dim: {size[1]}\n"
        self.weights = b""
        self.rng = np.random.default_rng(seed)

    def layer(self, name: str, kind: str, bottoms: str, tops: str, options: str = "", blobs: tuple = ()) -> str:
        """bottoms and tops: names with spaces between. Returns the last top."""
        lines = "".join(f' bottom: "{x}"' for x in bottoms.split()) + "".join(f' top: "{x}"' for x in tops.split())
        word = "layers" if self.old else "layer"
        quoted = kind if self.old else f'"{kind}"'
        self.text += f'{word} {{ name: "{name}" type: {quoted}{lines} {options} }}\n'
        if blobs:
            fields = (4, 6, 2) if self.old else (1, 7, 100)
            body = packed(fields[0], name.encode())
            body += b"".join(packed(fields[1], blob(array, "old" if self.old else "new")) for array in blobs)
            self.weights += packed(fields[2], body)
        return (tops.split() or [""])[-1]

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def conv(self, name: str, bottom: str, channels: tuple[int, int], kernel: int, rest: str = "", **how) -> str:
        """channels: in, out. how: group, bias (True), kind, gain, top (the name)."""
        group, bias = how.get("group", 1), how.get("bias", True)
        fan = channels[0] // group * kernel * kernel
        weight = self.normal(channels[1], channels[0] // group, kernel, kernel, scale=how.get("gain", 2.0 / fan) ** 0.5)
        blobs = (weight, self.normal(channels[1], scale=0.1)) if bias else (weight,)
        options = f"num_output: {channels[1]} kernel_size: {kernel} {rest}"
        options += f" group: {group}" if group > 1 else ""
        options += "" if bias else " bias_term: false"
        kind = how.get("kind", "CONVOLUTION" if self.old else "Convolution")
        return self.layer(name, kind, bottom, how.get("top", name), f"convolution_param {{ {options} }}", blobs)

    def relu(self, name: str) -> str:
        return self.layer(f"{name}/relu", "RELU" if self.old else "ReLU", name, name)

    def batch_norm(self, name: str, channels: int, scale: bool = True) -> str:
        """In place, with running sums over a weight of 2, and the Scale layer that goes with it."""
        blobs = (
            self.normal(channels, scale=0.2),
            self.rng.uniform(1, 3, channels).astype(np.float32),
            np.array([2], np.float32),
        )
        self.layer(f"{name}/bn", "BatchNorm", name, name, "", blobs)
        if scale:
            factors = (self.rng.uniform(0.5, 1.5, channels).astype(np.float32), self.normal(channels, scale=0.1))
            self.layer(f"{name}/scale", "Scale", name, name, "scale_param { bias_term: true }", factors)
        return name

    def save(self, folder: Path) -> tuple[Path, Path]:
        folder.mkdir(parents=True, exist_ok=True)
        files = folder / "net.prototxt", folder / "net.caffemodel"
        files[0].write_text(self.text)
        files[1].write_bytes(packed(1, b"net") + self.weights)
        return files


def head(net: Net, source: str, channels: int, shape: tuple[int, int, int], prior: str, sets: int = 1) -> None:
    """Predictors and anchors on an array. shape: (anchors per cell, classes with background, kernel). sets: of boxes
    for each anchor."""
    anchors, classes, kernel = shape
    pad = f"pad: {kernel // 2}"
    for what, width, gain in (("loc", anchors * 4 * sets, 0.3), ("conf", anchors * classes, 3.0)):
        name = f"{source}_mbox_{what}"
        net.conv(name, source, (channels, width), kernel, pad, gain=gain / channels / kernel**2)
        net.layer(f"{name}_perm", "Permute", name, f"{name}_perm",
                  "permute_param { order: 0 order: 2 order: 3 order: 1 }")  # fmt: skip
        net.layer(f"{name}_flat", "Flatten", f"{name}_perm", f"{name}_flat", "flatten_param { axis: 1 }")
    variances = " ".join(f"variance: {value}" for value in (0.1, 0.1, 0.2, 0.2))
    net.layer(f"{source}_mbox_priorbox", "PriorBox", f"{source} data", f"{source}_mbox_priorbox",
              f"prior_box_param {{ {prior} {variances} }}")  # fmt: skip


def finish(net: Net, sources: list[str], classes: int, options: str) -> None:
    """Joins the heads and adds DetectionOutput."""
    for what, end, axis in (("loc", "_flat", 1), ("conf", "_flat", 1), ("priorbox", "", 2)):
        bottoms = " ".join(f"{source}_mbox_{what}{end}" for source in sources)
        net.layer(f"mbox_{what}", "Concat", bottoms, f"mbox_{what}", f"concat_param {{ axis: {axis} }}")
    net.layer("mbox_conf_reshape", "Reshape", "mbox_conf", "mbox_conf_reshape",
              f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {classes} }} }}")  # fmt: skip
    net.layer("mbox_conf_softmax", "Softmax", "mbox_conf_reshape", "mbox_conf_softmax", "softmax_param { axis: 2 }")
    net.layer("mbox_conf_flatten", "Flatten", "mbox_conf_softmax", "mbox_conf_flatten", "flatten_param { axis: 1 }")
    net.layer("detection_out", "DetectionOutput", "mbox_loc mbox_conf_flatten mbox_priorbox", "detection_out",
              f"detection_output_param {{ num_classes: {classes} {options} }} include {{ phase: TEST }}")  # fmt: skip


STANDARD = (
    "share_location: true background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 400 } "
    "code_type: CENTER_SIZE keep_top_k: 200 confidence_threshold: 0.01"
)


def ssd_vgg(width: int = 1, classes: int = 21, side: int = 300) -> Net:
    """SSD300 on VGG-16 (Liu et al. 2016), its filters divided by `width`."""
    net, last, channels = Net((side, side)), "data", 3
    for stage, (count, filters) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for step in range(1, count + 1):
            last = net.relu(net.conv(f"conv{stage}_{step}", last, (channels, filters // width), 3, "pad: 1"))
            channels = filters // width
        pool = "kernel_size: 3 stride: 1 pad: 1" if stage == 5 else "kernel_size: 2 stride: 2"
        last = net.layer(f"pool{stage}", "Pooling", last, f"pool{stage}", f"pooling_param {{ pool: MAX {pool} }}")
    last = net.relu(net.conv("fc6", last, (channels, 1024 // width), 3, "pad: 6 dilation: 6"))
    last = net.relu(net.conv("fc7", last, (1024 // width, 1024 // width), 1))
    maps = [("conv4_3_norm", 512), ("fc7", 1024)]
    channels = 1024 // width
    half = "pad: 1 stride: 2"
    extras = [(6, 256, 512, half), (7, 128, 256, half), (8, 128, 256, ""), (9, 128, 256, "")]
    for number_, narrow, filters, rest in extras:
        last = net.relu(net.conv(f"conv{number_}_1", last, (channels, narrow // width), 1))
        last = net.relu(net.conv(f"conv{number_}_2", last, (narrow // width, filters // width), 3, rest))
        channels = filters // width
        maps.append((last, filters))
    net.layer("conv4_3_norm", "Normalize", "conv4_3", "conv4_3_norm",
              "norm_param { across_spatial: false channel_shared: false scale_filler { type: 'constant' value: 20 } }",
              (np.full(512 // width, 20, np.float32),))  # fmt: skip
    sizes = [30, 60, 111, 162, 213, 264, 315]
    steps = [8, 16, 32, 64, 100, 300]
    for k, (source, filters) in enumerate(maps):
        ratios = "aspect_ratio: 2 " + ("aspect_ratio: 3 " if 1 <= k <= 3 else "")
        prior = f"min_size: {sizes[k]} max_size: {sizes[k + 1]} {ratios} flip: true clip: false step: {steps[k]}"
        head(net, source, filters // width, (6 if 1 <= k <= 3 else 4, classes, 3), prior)
    finish(net, [source for source, _ in maps], classes, STANDARD)
    return net


def mobilenet_ssd(width: int = 1, classes: int = 21, side: int = 300) -> Net:
    """MobileNet v1 (Howard et al. 2017) with SSD's extra layers, BatchNorm and Scale after each convolution."""
    net = Net((side, side))

    def block(name: str, bottom: str, channels: tuple[int, int], kernel: int, rest: str, group: int = 1) -> str:
        net.conv(name, bottom, channels, kernel, rest, group=group, bias=False)
        net.batch_norm(name, channels[1])
        return net.relu(name)

    channels = 32 // width
    last = block("conv0", "data", (3, channels), 3, "pad: 1 stride: 2")
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for k, (filters, stride) in enumerate(plan, 1):
        last = block(f"conv{k}/dw", last, (channels, channels), 3, f"pad: 1 stride: {stride}", channels)
        last = block(f"conv{k}", last, (channels, filters // width), 1, "")
        channels = filters // width
    maps = [("conv11", 512), ("conv13", 1024)]
    for k, (narrow, filters) in enumerate([(256, 512), (128, 256), (128, 256), (64, 128)], 14):
        last = block(f"conv{k}_1", last, (channels, narrow // width), 1, "")
        last = block(f"conv{k}_2", last, (narrow // width, filters // width), 3, "pad: 1 stride: 2")
        channels = filters // width
        maps.append((last, filters))
    sizes = [(60, None), (105, 150), (150, 195), (195, 240), (240, 285), (285, 300)]
    for (source, filters), (low, high) in zip(maps, sizes, strict=True):
        prior = f"min_size: {low} aspect_ratio: 2 " + (f"max_size: {high} aspect_ratio: 3" if high else "")
        head(net, source, filters // width, (6 if high else 3, classes, 1), f"{prior} flip: true clip: false")
    options = STANDARD.replace("top_k: 400", "top_k: 100").replace("keep_top_k: 200", "keep_top_k: 100")
    finish(net, [source for source, _ in maps], classes, options)
    return net
