"""Weights by name, from the registry to parameters and models."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ssd.checkpoint.model import Model, Params
from ssd.config.parts import NetworkConfig, WeightsRequest
from ssd.config.paths import CONF
from ssd.config.weights import Fetching, Weights
from ssd.importers.gluoncv_ssd import FORMAT as GLUONCV
from ssd.importers.gluoncv_ssd import load_gluoncv, read_gluoncv
from ssd.importers.mxnet_ssd import released_model, renamed
from ssd.utils.errors import UserError
from ssd.weights.cache import fetch
from ssd.weights.mapper import Normalization
from ssd.weights.read import Target, read_backbone, read_params

log = logging.getLogger(__name__)


def load_weights(request: WeightsRequest, symbol: Any) -> tuple[Params, Params, list[str] | None]:
    """Parameters under the names of the graph `symbol`, and a detector's classes. Errors: UserError in one line."""
    entry = request.entry
    path = fetch(entry, request.fetching)
    log.info("weights %s: %s", entry.name, path)
    if entry.format == GLUONCV:
        return read_gluoncv(path), {}, class_names(entry)
    if entry.detector:
        return *renamed(read_params(path), symbol), class_names(entry)
    normalization = Normalization(request.mean, request.std)
    read = read_backbone(entry, path, Target(request.network, normalization))
    _report_input(entry, normalization, read.adapted)
    return read.arg_params, read.aux_params, None


def _report_input(entry: Weights, ours: Normalization, adapted: bool) -> None:
    """Another normalization than the published one is the user's choice, or that of a backbone of their own."""
    if entry.mean is None or entry.std is None:
        if adapted:
            log.info("weights %s: the statistics of its input are adapted to backbone.input", entry.name)
    elif (entry.mean, entry.std) != (ours.mean, ours.std):
        done = "; the statistics of its input are adapted" if adapted else ""
        log.warning("weights %s: published for backbone.input.mean=%s std=%s, here mean=%s std=%s are set%s",
                    entry.name, *map(list, (entry.mean, entry.std, ours.mean, ours.std)), done)  # fmt: skip


def class_names(entry: Weights) -> list[str] | None:
    """Of a detector: those of the dataset of conf/ that it was trained on. Errors: UserError."""
    if entry.classes is None:
        return None
    file = CONF / "dataset" / f"{entry.classes}.yaml"
    if not file.is_file():
        raise UserError(f"{entry.path}: classes={entry.classes}: expected the name of a file of conf/dataset")
    dataset: Any = OmegaConf.load(file)
    return list(dataset.get("classes") or dataset.names)


def load_detector(entry: Weights, network: NetworkConfig, fetching: Fetching) -> Model:
    """A detector by name. network: of its overrides. Errors: UserError in one line."""
    if not entry.detector:
        raise UserError(f"model={entry.name}: not a detector but a backbone; init.weights={entry.name} starts from it")
    path: Path = fetch(entry, fetching)
    if entry.format == GLUONCV:
        return load_gluoncv(path, network, class_names(entry) or [])
    model = released_model(str(path), network, class_names(entry))
    if model is None:
        raise UserError(f"model={entry.name}: {path} is not a file of mxnet-ssd")
    return model
