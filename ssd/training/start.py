"""What a network starts from: parameters taken over from elsewhere, and a table of what became of each."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssd.checkpoint.graph_file import load_graph
from ssd.checkpoint.model import PARAMS_NAME, Params, find_params, load_params, spec_of, stamped
from ssd.config.parts import InitConfig
from ssd.config.validate import NUMPY
from ssd.importers.gluoncv_ssd import is_gluoncv, read_gluoncv
from ssd.importers.mxnet_ssd import renamed
from ssd.importers.npz import load_npz
from ssd.mxnet_compat import mx
from ssd.training.groups import BACKBONE, GROUPS, HEADS, group_of, is_class_predictor
from ssd.utils.errors import UserError
from ssd.weights.gluoncv import gluoncv_classes
from ssd.weights.load import load_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightSource:
    """Weights to start from. classes: those they tell apart, None when the file does not say."""

    path: str
    arg_params: Params
    aux_params: Params
    classes: list[str] | None


@dataclass
class InitialWeights:
    """What is taken over. rows: class predictors of which only some rows are, see `rows_of`."""

    arg_params: Params = field(default_factory=dict)
    aux_params: Params = field(default_factory=dict)
    rows: dict[str, tuple[list[int], Any]] = field(default_factory=dict)

    def fill_rows(self, arg_params: Params) -> None:
        """Puts the rows into freshly initialized predictors, in place."""
        for name, (places, values) in self.rows.items():
            array = arg_params[name].asnumpy()
            array[places] = values
            arg_params[name][:] = mx.nd.array(array)


def read_source(init: InitConfig, symbol: Any) -> WeightSource:
    """What init.weights names, under the names of the graph `symbol`. Errors: UserError when it cannot be read."""
    path = init.weights
    if init.published is not None:
        return WeightSource(init.published.entry.name, *load_weights(init.published, symbol))
    if path is None:
        raise UserError(f"init.mode={init.mode}: needs init.weights, a run directory or a .params file")
    if path.endswith(NUMPY):
        if not Path(path).is_file():
            raise UserError(f"init.weights={path}: there is no such file")
        return WeightSource(path, *load_npz(path, init.weight_map, symbol), None)
    if is_gluoncv(path):
        return WeightSource(path, read_gluoncv(Path(path)), {}, gluoncv_classes(Path(path)))
    try:
        return WeightSource(path, *renamed(load_params(path), symbol), _classes(find_params(path)))
    except UserError as error:
        raise UserError(f"init.weights: {error}") from error


def _classes(file: Path) -> list[str] | None:
    match = PARAMS_NAME.fullmatch(file.name)
    assert match
    graph = file.with_name(f"{match['prefix']}-symbol.json")
    if not graph.is_file():
        return None
    symbol = load_graph(graph)
    return None if stamped(symbol, graph) is None else list(spec_of(symbol, graph).classes)


def load_matching(
    symbol: Any, shapes: dict[str, tuple[int, ...]], source: WeightSource, classes: Sequence[str], by_class: bool
) -> InitialWeights:
    """Parameters of `source` that the graph has under the same name and shape.

    Predictors of other classes start anew; with `by_class` they keep background and the classes of equal names.
    shapes: of the graph's inputs. Errors: UserError when nothing fits, or when the classes must be known and are not.
    """
    if by_class and source.classes is None:
        raise UserError(f"init.weights={source.path}: says nothing of its classes; use init.mode=pretrained")
    wanted = wanted_shapes(symbol, shapes)
    start, notes = InitialWeights(), {}
    for part, taken in ((source.arg_params, start.arg_params), (source.aux_params, start.aux_params)):
        for name in wanted.keys() & part.keys():
            array, shape = part[name], wanted[name]
            if is_class_predictor(name) and source.classes is not None and source.classes != list(classes):
                rows = _rows(array, shape, source.classes, classes) if by_class else None
                if rows:
                    start.rows[name] = rows
                else:
                    notes[name] = f"predicts {len(source.classes)} other classes"
            elif tuple(array.shape) != shape:
                notes[name] = f"shape {array.shape} in the file, {shape} here"
            else:
                taken[name] = array
    if not start.arg_params:
        count = len(source.arg_params) + len(source.aux_params)
        raise UserError(
            f"init.weights={source.path}: none of its {count} parameters fits this network; check backbone="
        )
    if by_class:
        kept = [name for name in classes if name in (source.classes or [])]
        log.info("classes kept: %s", ", ".join(kept) or "none")
    for name in sorted(wanted.keys() - start.arg_params.keys() - start.aux_params.keys() - start.rows.keys()):
        if name in notes or group_of(name) == BACKBONE:  # that a backbone's file has no head needs no saying
            log.info("  re-initialized  %-48s %s", name, notes.get(name, "not in the file"))
    for name in sorted({**source.arg_params, **source.aux_params}.keys() - wanted.keys()):
        log.info("  unused          %s", name)
    return start


def wanted_shapes(symbol: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Of every parameter and auxiliary state of the graph. shapes: of its inputs."""
    arg_shapes, _, aux_shapes = symbol.infer_shape(**shapes)
    wanted = dict(zip(symbol.list_arguments(), arg_shapes, strict=True))
    wanted.update(zip(symbol.list_auxiliary_states(), aux_shapes, strict=True))
    return {name: tuple(shape) for name, shape in wanted.items() if name not in shapes}


def _rows(
    array: Any, shape: tuple[int, ...], theirs: Sequence[str], ours: Sequence[str]
) -> tuple[list[int], Any] | None:
    """Rows of a class predictor [A * (C + 1), …] that are theirs too: their places here, and their values.

    None where the anchors per cell or the channels differ.
    """
    anchors = shape[0] // (len(ours) + 1)
    if array.shape[0] != anchors * (len(theirs) + 1) or tuple(array.shape[1:]) != shape[1:]:
        return None
    known = {name: number for number, name in enumerate(theirs, start=1)}
    pairs = [(0, 0)] + [(here, known[name]) for here, name in enumerate(ours, start=1) if name in known]
    per_anchor = [
        (anchor * (len(ours) + 1) + here, anchor * (len(theirs) + 1) + there)
        for anchor in range(anchors)
        for here, there in pairs
    ]
    return [here for here, _ in per_anchor], array.asnumpy()[[there for _, there in per_anchor]]


def log_summary(
    wanted: dict[str, tuple[int, ...]], start: InitialWeights, frozen: Sequence[str], rates: Mapping[str, float]
) -> None:
    """Logs, per group of parameters, how many were loaded, began anew and stay fixed."""
    fixed = set(frozen)
    log.info("%-10s %18s %18s %18s %18s  rate", "parameters", "all", "loaded", "new", "frozen")
    for group in GROUPS:
        names = [name for name in wanted if group_of(name) == group]
        loaded = [name for name in names if name in start.arg_params or name in start.aux_params]
        rows = [name for name in names if name in start.rows]
        new = [name for name in names if name not in loaded and name not in rows]
        columns = [_counted(part, wanted) for part in (names, loaded, new, [name for name in names if name in fixed])]
        log.info("%-10s %18s %18s %18s %18s  x%g", group, *columns, rates[group])
        if rows and group == HEADS:
            kept = sum(len(start.rows[name][0]) for name in rows)
            every = sum(wanted[name][0] for name in rows)
            log.info("%-10s %d class predictors: %d of %d rows loaded", "", len(rows), kept, every)


def _counted(names: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> str:
    values = 0
    for name in names:
        size = 1
        for side in shapes[name]:
            size *= side
        values += size
    return f"{len(names)} ({values:,})"
