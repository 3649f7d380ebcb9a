"""Networks in MXNet."""

import threading
from typing import Any

import numpy as np

from ssd.checkpoint.graph_file import graph_errors
from ssd.checkpoint.model import Model, Params, check_params
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams
from ssd.symbol.graphs import inference_graph
from ssd.utils.errors import UserError


class MxnetBackend:
    """A graph bound once per batch size, over the same parameters.

    One thread at a time is inside: a network occupies all cores by itself, and an executor has only one input. On CPUs
    MXNet fuses convolutions with what follows them when it binds (its oneDNN backend, on by default).
    """

    takes_levels = False

    def __init__(self, model: Model, context: Any, source: str) -> None:
        spec = model.spec
        self._context, self._source = context, source
        with graph_errors(f"model {source}"):
            self._graph = inference_graph(model.symbol, DecodeParams(**spec.detection), spec.variances, spec.compat)
            check_params(self._graph, model, source)
            _check_classes(self._graph, model, source)
        self._executors: dict[int, Any] = {}
        self._lock = threading.Lock()
        self.set_params(model.arg_params, model.aux_params)

    def set_params(self, arg_params: Params, aux_params: Params) -> None:
        """Takes over new values of the same parameters.

        Bound executors are dropped: oneDNN keeps reordered copies of weights it has seen, and would go on with those.
        """
        names = [name for name in self._graph.list_arguments() if name != "data"]
        args = {name: arg_params[name].copyto(self._context) for name in names}
        aux = {name: aux_params[name].copyto(self._context) for name in self._graph.list_auxiliary_states()}
        with self._lock:
            self._executors.clear()
            self._args, self._aux = args, aux

    def forward(self, data: np.ndarray) -> list[np.ndarray]:
        """See Backend."""
        with self._lock, graph_errors(f"model {self._source}"):
            executor = self._executor(data.shape)
            executor.arg_dict["data"][:] = data
            return [output.asnumpy() for output in executor.forward(is_train=False)]

    def _executor(self, shape: tuple[int, ...]) -> Any:
        batch = shape[0]
        if batch not in self._executors:
            args = {**self._args, "data": mx.nd.zeros(shape, self._context)}
            self._executors[batch] = self._graph.bind(self._context, args=args, aux_states=self._aux, grad_req="null")
        return self._executors[batch]


def _check_classes(graph: Any, model: Model, source: str) -> None:
    """Errors: UserError when the network has another number of classes than are named, or gives no detections."""
    spec = model.spec
    shapes = graph.infer_shape(data=(1, 3, spec.height, spec.width))[1]
    if len(shapes) == 2 and len(shapes[0]) == 3 and shapes[0][1] != len(spec.classes) + 1:
        raise UserError(f"model {source}: tells {shapes[0][1] - 1} classes apart, {len(spec.classes)} are named")
    expected = [(1, len(spec.classes) + 1, shapes[0][-1]), (1, shapes[0][-1], 4)]
    if shapes != (expected if len(shapes) == 2 else [(1, *shapes[0][1:2], 6)]):
        given = " and ".join(map(str, shapes))
        raise UserError(f"model {source}: its network gives {given}, expected scores and boxes of one image")
