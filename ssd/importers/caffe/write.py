"""A converted network on disk: a detector as a bundle, any other network as MXNet's two files."""

from pathlib import Path
from typing import Any

from ssd.checkpoint.model import ModelSpec, Params, stamp
from ssd.export.bundle import write_bundle
from ssd.mxnet_compat import mx
from ssd.utils.atomic_files import whole_folder

NETWORK = "network"  # network-symbol.json and network-0000.params


def write_detector(folder: Path, spec: ModelSpec, graph: Any, arg_params: Params, aux_params: Params) -> Path:
    """What model= takes."""
    return write_bundle(folder, spec, graph, arg_params, aux_params)


def write_network(folder: Path, spec: ModelSpec, graph: Any, arg_params: Params, aux_params: Params) -> Path:
    """Writes the graph, which says what `spec` says, and its parameters, without any others; returns their file."""
    needed = {*graph.list_arguments(), *graph.list_auxiliary_states()}
    with whole_folder(folder) as draft:
        stamp(graph, spec).save(str(draft / f"{NETWORK}-symbol.json"))
        arrays = {f"arg:{name}": array for name, array in arg_params.items() if name in needed}
        arrays |= {f"aux:{name}": array for name, array in aux_params.items() if name in needed}
        mx.nd.save(str(draft / f"{NETWORK}-0000.params"), arrays)
    return folder / f"{NETWORK}-0000.params"
