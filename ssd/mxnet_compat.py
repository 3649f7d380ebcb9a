"""The only place that imports MXNet, so that what it needs to run on current Python is written once."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from ssd.utils.errors import UserError
from ssd.utils.process import physical_cores

# MXNet 1.9.1 was written for NumPy < 1.24, which still had these aliases of the built-in types.
for _name, _type in {
    "bool": bool,
    "int": int,
    "float": float,
    "object": object,
    "str": str,
    "complex": complex,
}.items():
    if _name not in np.__dict__:
        setattr(np, _name, _type)


# One OpenMP thread per physical core is 1.3-1.5x faster than MXNet's own choice; read once, when the library loads.
os.environ.setdefault("OMP_NUM_THREADS", str(physical_cores()))
# A thread that waits for the others of its team sleeps. Spinning, as OpenMP does by itself, keeps them from the core as
# soon as anything else runs on it (loader processes, threads of a server), and a layer then costs a time slice.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")

# MXNet imports these where they are installed, for an estimator of scikit-learn and sparse matrices that nobody here
# uses: 130 MB in every process, and half of the time that importing it takes.
NEEDLESS = ("sklearn", "scipy")


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """For as long as it lasts, modules that are not imported yet cannot be."""
    names = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


try:
    with _hidden(*NEEDLESS):
        import mxnet as mx
except ImportError as error:
    raise UserError(
        f"MXNet cannot be imported ({error}): install exactly one engine, e.g. pip install 'ssd[cpu]' or 'ssd[cu112]'"
    ) from error

__all__ = ["mx"]


class Device(Protocol):
    """name: "cpu" or "gpu"; ids: which of them."""

    @property
    def name(self) -> str: ...
    @property
    def ids(self) -> Sequence[int]: ...


def contexts(device: Device) -> list[Any]:
    """MXNet contexts of `device`. Errors: UserError for GPUs that are not there."""
    if device.name == "gpu":
        found = mx.context.num_gpus()
        if missing := [index for index in device.ids if index >= found]:
            raise UserError(
                f"device.ids={list(device.ids)}: GPU {missing[0]} is not there, MXNet sees {found}; try device=cpu"
            )
    return [mx.Context(device.name, index) for index in device.ids]


def serve_key_values() -> None:
    """As DMLC_ROLE says, a parameter server or the scheduler of the workers' gradients, until they are done. Commands
    are not listened to: MXNet's own servers unpickle what they are sent."""
    store = mx.kv.create("dist")
    ignore = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    mx.base.check_call(mx.base._LIB.MXKVStoreRunServer(store.handle, ignore, None))
