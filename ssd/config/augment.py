"""The `augment` group: names, types and ranges of its keys. Both loaders read it; conf/augment/ says what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.utils.errors import UserError

INTERPOLATIONS = ("bilinear", "random")
MULTIPLE = 32  # pixels, of the sides of multi-scale inputs: the stride of most backbones


@dataclass
class Crop:
    probability: float = MISSING
    overlaps: list[float] = MISSING  # one sampler each: the lowest IoU of the crop with an object
    scales: list[float] = MISSING  # lowest and highest side: the geometric mean of the shares of width and height
    aspect_ratios: list[float] = MISSING  # lowest and highest width / height, in pixels
    trials: int = MISSING  # per sampler


@dataclass
class Pad:
    probability: float = MISSING
    max_scale: float = MISSING  # highest side of the canvas over the image's side
    fill: int = MISSING  # gray level


@dataclass
class Jitter:
    probability: float = MISSING
    amount: float = MISSING  # drawn from -amount..amount


@dataclass
class Mix:
    probability: float = MISSING


@dataclass
class MultiScale:
    factors: list[float] = MISSING  # of the sides of the input; none = always the same shape
    every: int = MISSING  # batches


@dataclass
class Augment:
    name: str = MISSING
    mirror: float = MISSING  # probability of a flip left to right
    crop: Crop = field(default_factory=Crop)
    pad: Pad = field(default_factory=Pad)
    hue: Jitter = field(default_factory=Jitter)  # of OpenCV's HLS: H 0..180, L and S 0..255
    saturation: Jitter = field(default_factory=Jitter)
    illumination: Jitter = field(default_factory=Jitter)
    contrast: Jitter = field(default_factory=Jitter)  # a factor 1 - amount .. 1 + amount
    contrast_first: float = MISSING  # probability that contrast changes before hue, saturation and illumination
    interpolation: str = MISSING  # bilinear | random
    mosaic: Mix = field(default_factory=Mix)  # four images on one input
    mixup: Mix = field(default_factory=Mix)  # the mean of two inputs
    multi_scale: MultiScale = field(default_factory=MultiScale)
    mix_until: float = MISSING  # share of the run after which there is no mosaic, no mixup, and one shape


def read_augment(group: Mapping[Any, Any]) -> Augment:
    """The group `augment` as plain Python values. Errors: UserError naming a wrong, unknown or missing key."""
    try:
        merged: Any = OmegaConf.merge(OmegaConf.structured(Augment), group)
        missing = OmegaConf.missing_keys(merged)
    except OmegaConfBaseException as error:
        raise UserError(f"augment: {str(error).splitlines()[0]}") from error
    if missing:
        raise UserError(f"augment is incomplete, it lacks {', '.join(sorted(missing))}")
    augment: Any = OmegaConf.to_object(merged)
    _check(augment)
    return augment


def input_shapes(augment: Augment, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the batches that are made: `shape`, then those of the factors, in multiples of MULTIPLE.

    Factor 1 is `shape` itself, which need not be such a multiple (300)."""
    height, width = shape
    factors = augment.multi_scale.factors
    scaled = [shape if factor == 1 else (_multiple(height * factor), _multiple(width * factor)) for factor in factors]
    return list(dict.fromkeys([shape, *scaled]))


def _multiple(side: float) -> int:
    return max(MULTIPLE, int(side / MULTIPLE + 0.5) * MULTIPLE)


def _check(augment: Augment) -> None:
    groups = ("crop", "pad", "hue", "saturation", "illumination", "contrast", "mosaic", "mixup")
    shares = {f"{name}.probability": getattr(augment, name).probability for name in groups}
    shares |= {name: getattr(augment, name) for name in ("mirror", "contrast_first", "mix_until")}
    shares |= {f"crop.overlaps[{number}]": value for number, value in enumerate(augment.crop.overlaps)}
    for key, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"augment.{key}={value}: expected 0 to 1")
    if augment.interpolation not in INTERPOLATIONS:
        raise UserError(f"augment.interpolation={augment.interpolation}: expected {' or '.join(INTERPOLATIONS)}")
    crop = augment.crop
    if len(crop.scales) != 2 or len(crop.aspect_ratios) != 2:
        raise UserError("augment.crop.scales and augment.crop.aspect_ratios must each be [lowest, highest]")
    if not 0 < crop.scales[0] <= crop.scales[1] <= 1:
        raise UserError(f"augment.crop.scales={crop.scales}: expected [lowest, highest] of 0..1")
    if not 0 < crop.aspect_ratios[0] <= crop.aspect_ratios[1]:
        raise UserError(f"augment.crop.aspect_ratios={crop.aspect_ratios}: expected [lowest, highest], positive")
    if crop.trials < 1:
        raise UserError(f"augment.crop.trials={crop.trials}: expected at least 1")
    if augment.pad.max_scale < 1:
        raise UserError(f"augment.pad.max_scale={augment.pad.max_scale}: expected at least 1")
    if not 0 <= augment.pad.fill <= 255:
        raise UserError(f"augment.pad.fill={augment.pad.fill}: expected a gray level 0..255")
    for factor in augment.multi_scale.factors:
        if not 0.25 <= factor <= 4:
            raise UserError(f"augment.multi_scale.factors={augment.multi_scale.factors}: expected each from 0.25 to 4")
    if augment.multi_scale.every < 1:
        raise UserError(f"augment.multi_scale.every={augment.multi_scale.every}: expected at least 1")
    for name, highest in (("hue", 180), ("saturation", 255), ("illumination", 255), ("contrast", 1)):
        amount = getattr(augment, name).amount
        if not 0 <= amount <= highest:
            raise UserError(f"augment.{name}.amount={amount}: expected 0 to {highest}")
