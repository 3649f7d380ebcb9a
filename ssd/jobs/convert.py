"""job=convert: a Caffe network as a model of this package, compared with OpenCV's reading of the same files."""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ssd.checkpoint.model import ModelSpec
from ssd.config.commands import path_override, run_command
from ssd.config.parts import detection_config
from ssd.detection.sources import find, iterate
from ssd.importers.caffe.convert import Converted, Options, Row, convert, load, write_detector, write_network
from ssd.importers.caffe.graph import format_shape as shape_text
from ssd.importers.caffe.loose import LooseHeads, lack_anchors
from ssd.importers.caffe.means import Mean, find_mean
from ssd.importers.caffe.parity import NoReferenceError
from ssd.importers.caffe.text import class_names
from ssd.importers.caffe.verify import Conversion, Report, noise_image, verify
from ssd.importers.classifier import Classifier
from ssd.jobs.common import asked_for
from ssd.utils.atomic_files import write_json
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

IMAGES = 20  # most that are compared
LISTED_CLASSES = 5  # classes listed of an image
ANCHORS = "says nothing of its anchors; add job.priors=, as experiments=ultralight_face does"
VARIANCES = [0.1, 0.1, 0.2, 0.2]  # of a network that has none


def run(cfg: DictConfig, folder: Path) -> None:
    """Writes folder/model and parity.json. Errors: UserError when a file cannot be converted, or when the result
    answers otherwise than OpenCV's."""
    check(cfg)
    made = conversion(cfg)
    for line in table(made.converted.rows):
        log.info("%s", line)
    images = list(chosen(cfg, made.spec))
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    compare(made, images, cfg.job.tolerance, folder / "parity.json")
    converted, target = made.converted, folder / "model"
    write = write_detector if converted.heads else write_network
    place = write(target, made.spec, converted.graph, converted.arg_params, converted.aux_params)
    log.info("%-12s %s", "model", place)
    if converted.heads:
        overrides = ("job=demo", path_override("model", place), "source=photos/")
        log.info("%-12s %s", "run it", run_command(*overrides))
    elif made.spec.classes:
        classify(str(place), images if cfg.source else [])
    elif lack_anchors(converted.outputs):
        log.info("%-12s it looks like a detector, but %s", "run it", ANCHORS)
    else:
        log.info("%-12s it is no detector and no classifier: mx.model.load_checkpoint reads it", "run it")


def check(cfg: DictConfig) -> None:
    """Errors: UserError naming the key that is not set or makes no sense."""
    job = cfg.job
    for key in ("prototxt", "caffemodel"):
        if job[key] is None:
            raise UserError(f"job=convert needs job.{key}=: a Caffe network is a .prototxt and a .caffemodel")
        if not Path(job[key]).is_file():
            raise UserError(f"job.{key}={job[key]}: there is no such file")
    if job.channels not in ("BGR", "RGB"):
        raise UserError(f"job.channels={job.channels}: expected BGR or RGB")
    if not isfinite(job.scale) or job.scale <= 0:
        raise UserError(f"job.scale={job.scale}: expected a positive number")
    if cfg.source is not None:
        find(cfg.source)


def conversion(cfg: DictConfig) -> Conversion:
    """Reads and converts the network."""
    job = plain(cfg.job)
    files = Path(job["prototxt"]), Path(job["caffemodel"])
    network = load(*files)
    size = network.input_shape[2:]
    mean = find_mean(job["mean"], job["channels"], (size[0], size[1]))
    image = None if mean.image is None else mean.image * np.float32(job["scale"])
    options = Options(job["channels"], image, job["fold"], loose_heads(job["priors"]))
    converted = convert(network, options)
    spec = describe(cfg, converted, mean, network.name or files[0].stem)
    return Conversion(*files, network, options, converted, spec)


def loose_heads(priors: dict[str, Any] | None) -> LooseHeads | None:
    if priors is None:
        return None
    try:
        if priors.get("clip") == "centres":  # as configurations before 0.2 spell it
            priors = {**priors, "clip": "centers"}
        return LooseHeads(**priors)
    except TypeError as error:
        raise UserError(f"job.priors: expected min_sizes, steps, variances and clip ({error})") from error


def describe(cfg: DictConfig, converted: Converted, mean: Mean, name: str) -> ModelSpec:
    """What the model says of itself. Thresholds are the network's own, but for those that the command line names."""
    job, heads = plain(cfg.job), converted.heads
    detection = asdict(detection_config(cfg)) | (heads.detection if heads else {})
    detection |= {key: value for key, value in asked_for(cfg).items() if key != "compat"}
    variances = heads.priors[0, 1, :4].tolist() if heads else VARIANCES
    known = labels(converted)
    if job["classes"] is not None and not known:
        raise UserError(f"job.classes: {no_classes(converted)}")
    return ModelSpec(
        classes=class_names(job["classes"], known),
        height=converted.input_shape[2],
        width=converted.input_shape[3],
        mean=mean.levels,
        std=[1 / job["scale"]] * 3,
        backbone=name,
        variances=variances,
        compat=None,
        detection=detection,
        antialias=False,  # Caffe interpolates between four pixels
    )


def labels(converted: Converted) -> list[int]:
    """The network's numbers of its classes: none when it has several outputs and is no detector."""
    if converted.heads:
        return converted.heads.labels
    outputs = list(converted.outputs.values())
    return list(range(prod(outputs[0].shape))) if len(outputs) == 1 else []


def no_classes(converted: Converted) -> str:
    """Why the outputs cannot be named."""
    shapes = " and ".join(f"{name} {shape_text(value.shape)}" for name, value in converted.outputs.items())
    if lack_anchors(converted.outputs):
        return f"the network ends with {shapes} and {ANCHORS}"
    return f"the network ends with {shapes}, which are no classes; leave the names away"


def table(rows: list[Row]) -> list[str]:
    """The layers as lines of text."""
    columns = [("layer", "type", "writes", "numbers", "")]
    columns += [(row.name, row.type, row.shapes, f"{row.numbers:,}" if row.numbers else "", row.note) for row in rows]
    widths = [min(40, max(len(line[number]) for line in columns)) for number in range(4)]
    name, kind, shape, count = widths
    return [f"{a:{name}}  {b:{kind}}  {c:{shape}}  {d:>{count}}  {e}".rstrip() for a, b, c, d, e in columns]


def chosen(cfg: DictConfig, spec: ModelSpec) -> Iterable[tuple[str, np.ndarray]]:
    """The images to compare on."""
    if cfg.source is not None:
        return islice(iterate(cfg.source), IMAGES)
    return [("noise", noise_image(spec.height, spec.width))]


def compare(made: Conversion, images: Iterable[tuple[str, np.ndarray]], tolerance: float, file: Path) -> None:
    """Tells the differences to OpenCV and writes them to a file. Errors: UserError when they are larger than they may
    be."""
    try:
        report = verify(made, images, tolerance)
    except NoReferenceError as error:
        log.warning("not compared with OpenCV, which cannot run this network: %s", error)
        return
    write_json(file, asdict(report))
    for line in report_lines(report):
        log.info("%s", line)
    if wrong := report.wrong(tolerance):
        raise UserError(f"the converted network differs from OpenCV's: {'; '.join(wrong)}; nothing was written")


def report_lines(report: Report) -> list[str]:
    lines = [
        f"{'OpenCV':12} output {name} {'x'.join(map(str, one.shape))} differs by {one.largest:.1e} "
        f"(its largest value is {one.scale:.3g})"
        for name, one in report.outputs.items()
    ]
    for name, boxes in report.boxes.items():
        lines.append(f"{'OpenCV':12} {name}: {boxes.ours} boxes, OpenCV {boxes.theirs}, {boxes.unmatched} differ")
    return lines


def classify(model: str, images: Iterable[tuple[str, np.ndarray]]) -> None:
    """Tells what the written classifier sees, and how to run it."""
    classifier = Classifier.load(model)
    for name, image in images:
        best = ", ".join(f"{label} {score:.3f}" for label, score in classifier.best(image, LISTED_CLASSES))
        log.info("%-12s %s", name, best)
    log.info("%-12s ssd.importers.classifier.Classifier.load(%r).predict([image])", "run it", model)


def plain(node: DictConfig) -> dict[str, Any]:
    found: Any = OmegaConf.to_container(node, resolve=True)
    return found
