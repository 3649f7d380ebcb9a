"""The `augment` group, and how MXNet's iterator is told about it."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.errors import UserError

INTERPOLATION = {"bilinear": 1, "random": 10}  # 10 picks one of OpenCV's five per picture


@dataclass
class Crop:
    probability: float = MISSING
    overlaps: list[float] = MISSING  # one sampler each: the lowest IoU of the crop with an object
    scales: list[float] = MISSING  # lowest and highest share of the picture's area
    aspect_ratios: list[float] = MISSING  # lowest and highest width / height
    trials: int = MISSING  # per sampler


@dataclass
class Pad:
    probability: float = MISSING
    max_scale: float = MISSING  # highest side of the canvas over the picture's side
    fill: int = MISSING  # grey level


@dataclass
class Jitter:
    probability: float = MISSING
    amount: float = MISSING  # drawn from -amount..amount


@dataclass
class Augment:
    """Order of application in MXNet: colour, mirror, pad, crop, resize to the input."""

    name: str = MISSING
    mirror: float = MISSING  # probability of a flip left to right
    crop: Crop = field(default_factory=Crop)
    pad: Pad = field(default_factory=Pad)
    hue: Jitter = field(default_factory=Jitter)  # of OpenCV's HLS: H 0..180, L and S 0..255
    saturation: Jitter = field(default_factory=Jitter)
    illumination: Jitter = field(default_factory=Jitter)
    contrast: Jitter = field(default_factory=Jitter)  # a factor 1 - amount .. 1 + amount
    interpolation: str = MISSING  # bilinear | random


def iterator_options(cfg: DictConfig) -> dict[str, Any]:
    """Parameters of mx.io.ImageDetRecordIter for `cfg`, the group `augment`; UserError naming a wrong key or value."""
    try:
        augment: Any = OmegaConf.merge(OmegaConf.structured(Augment), cfg)
        missing = OmegaConf.missing_keys(augment)
    except OmegaConfBaseException as error:
        raise UserError(f"augment: {str(error).splitlines()[0]}") from error
    if missing:
        raise UserError(f"augment is incomplete, it lacks {', '.join(sorted(missing))}")
    if augment.interpolation not in INTERPOLATION:
        raise UserError(
            f"augment.interpolation is {augment.interpolation!r}, it must be one of {', '.join(INTERPOLATION)}"
        )
    return {
        "rand_mirror_prob": augment.mirror,
        "rand_pad_prob": augment.pad.probability,
        "max_pad_scale": augment.pad.max_scale,
        "fill_value": augment.pad.fill,
        "random_hue_prob": augment.hue.probability,
        "max_random_hue": int(augment.hue.amount),
        "random_saturation_prob": augment.saturation.probability,
        "max_random_saturation": int(augment.saturation.amount),
        "random_illumination_prob": augment.illumination.probability,
        "max_random_illumination": int(augment.illumination.amount),
        "random_contrast_prob": augment.contrast.probability,
        "max_random_contrast": augment.contrast.amount,
        "inter_method": INTERPOLATION[augment.interpolation],
        **_crop_options(augment.crop),
    }


def _crop_options(crop: Any) -> dict[str, Any]:
    """One sampler per overlap; MXNet tries them in random order and takes the first crop that satisfies one."""
    samplers = len(crop.overlaps)
    if not samplers or crop.probability <= 0:
        return {"rand_crop_prob": 0.0, "num_crop_sampler": 0}
    if len(crop.scales) != 2 or len(crop.aspect_ratios) != 2:
        raise UserError("augment.crop.scales and augment.crop.aspect_ratios must each be [lowest, highest]")
    return {
        "rand_crop_prob": crop.probability,
        "num_crop_sampler": samplers,
        "min_crop_scales": (crop.scales[0],) * samplers,
        "max_crop_scales": (crop.scales[1],) * samplers,
        "min_crop_aspect_ratios": (crop.aspect_ratios[0],) * samplers,
        "max_crop_aspect_ratios": (crop.aspect_ratios[1],) * samplers,
        "min_crop_overlaps": tuple(crop.overlaps),
        "max_crop_overlaps": (1.0,) * samplers,
        "min_crop_sample_coverages": (0.0,) * samplers,
        "max_crop_sample_coverages": (1.0,) * samplers,
        "min_crop_object_coverages": (0.0,) * samplers,
        "max_crop_object_coverages": (1.0,) * samplers,
        "max_crop_trials": (crop.trials,) * samplers,
        "crop_emit_mode": "center",  # an object stays when its centre lies inside the crop
    }
