"""Metadata of a deployed model, in a form that other programs can read: model.yaml of a bundle, and the metadata of an
ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd.checkpoint.model import ModelSpec, checked, earlier_antialias
from ssd.config.parts import InputSpec
from ssd.data.transforms.resize import FACTORS
from ssd.utils.errors import UserError

VERSION = 1  # of this form
PRECISIONS = ("float32", "int8")
# How much of the preprocessing is left to whoever runs a file: all of it (a bundle), all but the normalization (ONNX,
# deploy.input=fixed), none (ONNX, deploy.input=image).
FORMS = BUNDLE, FIXED, IMAGE = "bundle", "fixed", "image"
SENTENCES = ("preprocessing", "boxes")  # keys for people; programs read `input`


def describe(spec: ModelSpec, precision: str, form: str) -> dict[str, Any]:
    """Plain data; read_description() is its inverse. form: one of FORMS."""
    return {
        "ssd": VERSION,
        "classes": list(spec.classes),
        "input": {
            "height": spec.height,
            "width": spec.width,
            "channel_order": spec.channel_order,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "resize_mode": spec.resize_mode,
            "antialias": spec.antialias,
        },
        "preprocessing": preprocessing(spec.input, form),
        "boxes": boxes(spec.input, form),
        "detection": dict(spec.detection),
        "model": {
            "backbone": spec.backbone,
            "precision": precision,
            "variances": list(spec.variances),
            "compat": spec.compat,
            "category_ids": spec.category_ids,
        },
    }


def preprocessing(spec: InputSpec, form: str) -> list[str]:
    """The steps from an image file to the input, in order, and who does them."""
    whole = "RGB, 8 bits per channel, its EXIF orientation applied"
    levels = f"float32 [B, 3, {spec.height}, {spec.width}]"
    if form == IMAGE:
        head = [f"image: uint8 [B, height, width, 3], any size, {whole}; everything below happens inside of the file"]
    else:
        head = [f"{whole}; everything below is done before the {'file' if form == FIXED else 'network'} is run"]
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    normalized = f"(x - mean) / std with mean = [{mean}] and std = [{std}] for R, G and B"
    last = f"{normalized}, as {levels}"
    if form == FIXED:
        last = f"{levels} of levels 0..255; ({normalized} happens inside of the file)"
    return [*head, *_target(spec), *_averages(spec), *_resize(spec), last]


def _target(spec: InputSpec) -> list[str]:
    if spec.resize_mode == "force":
        return [f"target_width = {spec.width}, target_height = {spec.height}"]
    return [
        f"scale = min({spec.width} / width, {spec.height} / height)",
        f"target_width = round(scale * width) and target_height = round(scale * height), halves to even, within 1..."
        f"{spec.width} and 1...{spec.height}",
    ]


def _averages(spec: InputSpec) -> list[str]:
    if not spec.antialias:
        return ["factor = 1"]
    factors = ", ".join(map(str, FACTORS))
    return [
        f"factor = the largest of {factors} with width >= factor * target_width and height >= factor * target_height; "
        "1 if there is none",
        "cut off what width % factor is at the right and height % factor at the bottom; replace every factor x factor "
        "pixels by their mean, in whole levels (cv2.resize to 1 / factor with INTER_AREA)",
    ]


def _resize(spec: InputSpec) -> list[str]:
    steps = [
        "resize to target_width x target_height: bilinear between four pixels, half-pixel centers, no antialiasing, in "
        "whole levels (cv2.resize with INTER_LINEAR)"
    ]
    if spec.resize_mode != "force":
        steps.append(
            f"lay it into the upper left corner of {spec.width} x {spec.height} pixels of the color {list(spec.border)}"
        )
    return steps


def boxes(spec: InputSpec, form: str) -> str:
    """What the corners in the output `detection` mean."""
    rows = "rows (class, score, xmin, ymin, xmax, ymax), best score first, class -1 = no detection; corners in "
    if form == IMAGE:
        return f"{rows}pixels of the image, continuous, 0..width and 0..height (inside: shares 0..1 of the input)"
    return (
        f"{rows}shares 0..1 of the input. In pixels of the image: x * {spec.width} / target_width * (width - width % "
        f"factor), y * {spec.height} / target_height * (height - height % factor), clipped to 0..width and 0..height"
    )


def read_description(content: Any, where: Path) -> ModelSpec:
    """The spec in a description of any origin. Errors: UserError naming what is missing or wrong."""
    try:
        if content["ssd"] != VERSION:
            raise ValueError(f"ssd: {content['ssd']!r} is a form of description this version does not know"[:200])
        return _read(content)
    except KeyError as error:
        raise UserError(f"{where}: the model's description lacks {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError, UserError) as error:
        raise UserError(f"{where}: the model's description is damaged ({str(error)[:200]})") from error


def _read(content: Mapping[str, Any]) -> ModelSpec:
    entry, model = content["input"], content["model"]
    if model["precision"] not in PRECISIONS:
        raise ValueError(f"precision: {model['precision']!r} instead of {' or '.join(PRECISIONS)}")
    if not content["detection"]:
        raise ValueError("detection: names no thresholds")
    spec = ModelSpec(
        classes=content["classes"],
        height=entry["height"],
        width=entry["width"],
        mean=entry["mean"],
        std=entry["std"],
        backbone=model["backbone"],
        variances=model["variances"],
        compat=model["compat"],
        detection=dict(content["detection"]),
        antialias=entry.get("antialias", earlier_antialias(model["compat"])),
        channel_order=entry["channel_order"],
        category_ids=model["category_ids"],
        resize_mode=entry["resize_mode"],
    )
    return checked(spec)
