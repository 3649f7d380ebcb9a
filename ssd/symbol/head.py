"""What the configuration says about the detection head, one record per feature map."""

from dataclasses import dataclass, replace

from ssd.config.parts import NetworkConfig

AUTO_STEP = -1.0  # MultiBoxPrior: one cell of the feature map


@dataclass(frozen=True)
class HeadLayer:
    """A feature map of the head and its anchors.

    source: name of the backbone's layer, or '' for an extra layer on top of the map before.
    filters, stride, pad, kernel: of the extra layer (filters also of a source that is L2-normalized).
    sizes: anchor sides as shares of the image height; ratios: width / height of the anchors.
    scale: initial value of the L2 normalization's factor; None for no normalization. epsilon: of the normalization.
    step: distance of anchor centers as a share of the image side, or AUTO_STEP.
    """

    source: str
    filters: int
    stride: int
    pad: int
    kernel: int
    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    scale: float | None
    epsilon: float
    step: float

    @property
    def anchors_per_cell(self) -> int:
        """MultiBoxPrior pairs every size with the first ratio, and the first size with every other ratio."""
        return len(self.sizes) - 1 + len(self.ratios)


def head_layers(network: NetworkConfig) -> list[HeadLayer]:
    """The layers of the head, in the order of its lists."""
    head = network.head
    rows = zip(head.from_layers, head.num_filters, head.strides, head.pads, head.kernels, head.sizes, head.ratios,
               head.normalization, _steps(network), strict=True)  # fmt: skip
    return [
        HeadLayer(source.strip(), filters, stride, pad, kernel, sizes, ratios, _scale(number), head.norm_epsilon, step)
        for source, filters, stride, pad, kernel, sizes, ratios, number, step in rows
    ]


def square_in_pixels(layer: HeadLayer, map_shape: tuple[int, int], image_shape: tuple[int, int]) -> HeadLayer:
    """The layer with sizes and ratios that make MultiBoxPrior's anchors square in pixels; shapes are (height, width).

    It takes the map's aspect for the image's, but 300x512 pixels end up as a map of 1x4 cells.
    """
    stretch = (image_shape[0] / image_shape[1]) / (map_shape[0] / map_shape[1])
    if stretch == 1:
        return layer
    sizes = tuple(size * stretch**0.5 for size in layer.sizes)
    return replace(layer, sizes=sizes, ratios=tuple(ratio * stretch for ratio in layer.ratios))


def _steps(network: NetworkConfig) -> list[float]:
    """Pixels between anchor centers hold for the image side they were measured at; elsewhere one cell is one step."""
    steps, (height, width) = network.head.steps, network.input.shape
    if steps is None or not height == width == steps["at"]:
        return [AUTO_STEP] * len(network.head.from_layers)
    return [pixels / steps["at"] for pixels in steps["pixels"]]


def _scale(number: float) -> float | None:
    if number <= 0:
        return None
    return int(number) if float(number).is_integer() else number  # 20, not 20.0, as the published graphs write it
