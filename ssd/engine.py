"""The only place that imports MXNet, so that what it needs to run on current Python is written once.

from ssd.engine import mx
"""

import os

import numpy as np

from ssd.cores import physical_cores
from ssd.errors import UserError

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

try:
    import mxnet as mx
except ImportError as error:
    raise UserError(
        f"MXNet cannot be imported ({error}): install exactly one engine, e.g. pip install 'ssd[cpu]' or 'ssd[cu112]'"
    ) from error

__all__ = ["mx"]
