"""Fixtures every test may use."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ssd", deadline=None)  # times depend on what else the machine does
settings.load_profile("ssd")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real data sets and reference outputs beside the checkout (or $SSD_SHARED); absent elsewhere."""
    folder = Path(os.environ.get("SSD_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}: set SSD_SHARED to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parameter file of a checkpoint: the small network on 64x64 pixels with random weights, three classes."""
    import numpy as np

    from ssd.config import compose
    from ssd.engine import mx
    from ssd.model import ModelSpec, stamp
    from ssd.symbol import build_train
    from ssd.training.checkpoint import Checkpoints, Keep, Position

    cfg = compose(["data_shape=64"])
    classes = ["circle", "rectangle", "traffic light"]
    graph = stamp(build_train(cfg, len(classes)), ModelSpec.from_config(cfg, classes))
    shapes, _, aux_shapes = graph.infer_shape(data=(1, 3, 64, 64), label=(1, 3, 6))
    rng = np.random.default_rng(0)
    names = dict(zip(graph.list_arguments(), shapes, strict=True))
    args = {name: mx.nd.array(rng.normal(0, 0.1, shape)) for name, shape in names.items()
            if name not in ("data", "label")}  # fmt: skip
    aux_names = zip(graph.list_auxiliary_states(), aux_shapes, strict=True)
    aux = {name: mx.nd.array(rng.uniform(0.5, 1, shape)) for name, shape in aux_names}
    checkpoints = Checkpoints(tmp_path_factory.mktemp("model") / "checkpoints", "val/map_11pt", Keep(1, None))
    checkpoints.begin([])
    checkpoints.write_symbol(graph)
    checkpoints.save(Position(1, 0, 1), (args, aux), {"updates": mx.nd.ones(1)}, {"val/map_11pt": 0.5})
    return checkpoints.best


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """start_server(word…) runs `python -m word… --port PORT` on loopback until the module's tests are done; returns its
    address once it answers. The server does not find this checkout by PYTHONPATH."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = tmp_path_factory.mktemp("server")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # Servers start others by name; and all of them are one group, that goes as one.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with (folder / "log").open("w") as log:
            command = [sys.executable, "-m", *words, "--host", "127.0.0.1", "--port", str(port)]
            server = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        servers.append(server)
        address = f"http://127.0.0.1:{port}"
        for _ in range(400):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=1):
                    return address
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.25)
        raise AssertionError((folder / "log").read_text())

    yield start
    for server in servers:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)
