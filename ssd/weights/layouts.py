"""The modules of networks whose files have names and no graph, in the order in which an image passes them.

Each is (kind, module): the arrays of a convolution are <module>.weight and .bias, those of a batch normalization
<module>.weight, .bias, .running_mean and .running_var (of gluon .gamma and .beta). Modules are named as torchvision,
timm and GluonCV name them.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ssd.utils.errors import UserError, did_you_mean
from ssd.weights.mapper import CONV, NORM, Layer

PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    CONV: {"weight": ("weight",), "bias": ("bias",)},
    NORM: {"gamma": ("weight", "gamma"), "beta": ("bias", "beta"), "moving_mean": ("running_mean",),
           "moving_var": ("running_var",)},
}  # fmt: skip
Modules = Iterator[tuple[str, str]]


def vgg16() -> Modules:
    """The convolutions of torchvision's vgg16: numbers count ReLUs and poolings, too."""
    for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        yield CONV, f"features.{number}"


def vgg16_atrous() -> Modules:
    """GluonCV's vgg16_atrous: five stages, and fc6 and fc7 as a sixth; numbers count ReLUs, too."""
    for stage, convolutions in enumerate((2, 2, 3, 3, 3, 2)):
        for number in range(convolutions):
            yield CONV, f"stages.{stage}.{2 * number}"


def densenet121() -> Modules:
    """torchvision's and timm's densenet121."""
    yield CONV, "features.conv0"
    yield NORM, "features.norm0"
    for block, length in enumerate((6, 12, 24, 16), start=1):
        for number in range(1, length + 1):
            layer = f"features.denseblock{block}.denselayer{number}"
            for half in (1, 2):
                yield NORM, f"{layer}.norm{half}"
                yield CONV, f"{layer}.conv{half}"
        if block < 4:
            yield NORM, f"features.transition{block}.norm"
            yield CONV, f"features.transition{block}.conv"
    yield NORM, "features.norm5"


DOUBLE_3X3 = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
BRANCHES = {
    "5": ("branch1x1", "branch5x5_1", "branch5x5_2", *DOUBLE_3X3, "branch_pool"),
    "6a": ("branch3x3", *DOUBLE_3X3),
    "6": ("branch1x1", *(f"branch7x7_{n}" for n in (1, 2, 3)), *(f"branch7x7dbl_{n}" for n in (1, 2, 3, 4, 5)),
          "branch_pool"),
    "7a": ("branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{n}" for n in range(1, 5))),
    "7": ("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b", *DOUBLE_3X3[:2], "branch3x3dbl_3a",
          "branch3x3dbl_3b", "branch_pool"),
}  # fmt: skip
BLOCKS = {  # of which kind each is
    "5b": "5", "5c": "5", "5d": "5", "6a": "6a", "6b": "6", "6c": "6", "6d": "6", "6e": "6", "7a": "7a", "7b": "7",
    "7c": "7",
}  # fmt: skip


def inception_v3() -> Modules:
    """torchvision's and timm's inception_v3, without its auxiliary classifier."""
    stem = [f"Conv2d_{name}" for name in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")]
    blocks = [f"Mixed_{block}.{branch}" for block, kind in BLOCKS.items() for branch in BRANCHES[kind]]
    for layer in (*stem, *blocks):
        yield CONV, f"{layer}.conv"
        yield NORM, f"{layer}.bn"


LAYOUTS: dict[str, Callable[[], Modules]] = {
    "vgg16": vgg16, "vgg16_atrous": vgg16_atrous, "densenet121": densenet121, "inception_v3": inception_v3,
}  # fmt: skip


def layers_by_name(layout: str, arrays: Mapping[str, np.ndarray], epsilon: float | None) -> list[Layer]:
    """The layers of a file, in order. epsilon: of its batch normalizations.

    Errors: UserError for a layout that does not exist, and for an array that is missing.
    """
    if layout not in LAYOUTS:
        raise UserError(f"layout={layout}: not known; {did_you_mean(layout, LAYOUTS) or ', '.join(LAYOUTS)}")
    return [Layer(kind, module, _parts(kind, module, arrays), epsilon or 0.0) for kind, module in LAYOUTS[layout]()]


def _parts(kind: str, module: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for part, endings in PARTS[kind].items():
        name = next((name for ending in endings if (name := f"{module}.{ending}") in arrays), None)
        if name is not None:
            found[part] = np.asarray(arrays[name], np.float32)
        elif part != "bias":
            shown = ", ".join(list(arrays)[:3])
            raise UserError(f"the file has no {module}.{endings[0]}; its arrays are named like {shown}")
    return found
