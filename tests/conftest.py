"""Fixtures every test may use."""

import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from ssd.checkpoint.model import Model

# Times depend on what else the machine does.
settings.register_profile("ssd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ssd")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """What a test sets up for the process ends with it: Hydra's log handlers and levels, folders that MLflow adds to
    the path of imports when it loads a model."""
    root = logging.getLogger()
    level, threshold, path = root.level, root.manager.disable, sys.path[:]
    yield
    for handler in root.handlers[:]:
        if not type(handler).__module__.startswith("_pytest"):  # which adds and removes its own
            root.removeHandler(handler)
    root.level, root.manager.disable, sys.path[:] = level, threshold, path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real datasets and reference outputs beside the checkout (or $SSD_SHARED); absent elsewhere."""
    folder = Path(os.environ.get("SSD_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}: set SSD_SHARED to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def run_in() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """run_in(folder, override…) runs `python -m ssd.run override…` in a folder, where outputs/ appears."""

    def run(folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ssd.run", *overrides]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)

    return run


class Clock:
    """Stands in for the module `time`: it passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Clock]:
    """clock_of(module): from now on the module has this clock, which no load of the machine delays."""

    def give(module: str) -> Clock:
        clock = Clock()
        monkeypatch.setattr(f"{module}.time", clock)
        return clock

    return give


@pytest.fixture(scope="session")
def module_at() -> Callable[[Path], ModuleType]:
    """module_at(path): what a file that no package holds defines."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{path.stem}_for_tests", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def random_weights() -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """random_weights(train graph, side of the input, seed): parameters and statistics. Signals neither die out nor
    saturate: detections have scores of their own, so that no rounding decides which suppresses which."""

    def weights(graph: Any, side: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
        import numpy as np

        from ssd.mxnet_compat import mx

        shapes, _, aux_shapes = graph.infer_shape(data=(1, 3, side, side), label=(1, 3, 6))
        rng = np.random.default_rng(seed)
        named = zip(graph.list_arguments(), shapes, strict=True)

        def draw(name: str, shape: tuple[int, ...]) -> Any:
            if name.endswith(("_gamma", "_var")):
                return mx.nd.array(rng.uniform(0.5, 1.5, shape))
            fan_in = np.prod(shape[1:]) if name.endswith("_weight") else 100
            return mx.nd.array(rng.normal(0, np.sqrt(1.5 / fan_in), shape))

        args = {name: draw(name, shape) for name, shape in named if name not in ("data", "label")}
        named = zip(graph.list_auxiliary_states(), aux_shapes, strict=True)
        return args, {name: draw(name, shape) for name, shape in named}

    return weights


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, random_weights: Callable[..., Any]) -> Path:
    """The parameter file of a checkpoint: the small network on 64x64 pixels with random weights, three classes."""
    from ssd.checkpoint.model import ModelSpec, attach_spec
    from ssd.checkpoint.store import Checkpoints, RetentionPolicy, TrainPosition
    from ssd.config.compose import compose
    from ssd.mxnet_compat import mx
    from ssd.symbol import build_train

    cfg = compose(["data_shape=64"])
    classes = ["circle", "rectangle", "traffic light"]
    graph = attach_spec(build_train(cfg, len(classes)), ModelSpec.from_config(cfg, classes))
    checkpoints = Checkpoints(
        tmp_path_factory.mktemp("model") / "checkpoints", "val/map_11pt", RetentionPolicy(1, None)
    )
    checkpoints.begin([])
    checkpoints.write_symbol(graph)
    states = {"updates": mx.nd.ones(1)}
    checkpoints.save(TrainPosition(1, 0, 1), random_weights(graph, 64), states, {"val/map_11pt": 0.5})
    return checkpoints.best


@pytest.fixture(scope="session")
def same_detections() -> Callable[..., None]:
    """same_detections(found, expected, …) asserts that two lists [N, 6] of one image (class, score, corners) are the
    same but for what rounding decides: the order of nearly equal scores, and whether one at the lowest score is in the
    list. What numbers round to depends on the instructions of the processor, its threads, and how many images are
    computed at once."""
    import numpy as np

    def unmatched(rows: Any, others: Any, scores: float, boxes: float) -> Any:
        """Rows without a counterpart of their own among the others."""
        left, alone = list(others), []
        for row in rows:
            same = [
                index
                for index, other in enumerate(left)
                if other[0] == row[0]
                and abs(other[1] - row[1]) <= scores
                and np.abs(other[2:] - row[2:]).max() <= boxes
            ]
            if same:
                del left[same[0]]
            else:
                alone.append(row)
        return np.array(alone).reshape(-1, 6)

    def check(
        found: Any, expected: Any, threshold: float = 0.01, keep: int = 200, scores: float = 1e-4, boxes: float = 0.02
    ) -> None:
        """threshold, keep: of whoever made the lists. scores, boxes: how far each may be from its counterpart."""
        lists = [np.asarray(rows, dtype=float).reshape(-1, 6) for rows in (found, expected)]
        lowest = max([threshold, *(rows[:, 1].min() for rows in lists if len(rows) >= keep)])
        alone = np.vstack([unmatched(*pair, scores, boxes) for pair in (lists, lists[::-1])])
        wrong = alone[alone[:, 1] > lowest + scores]
        assert not len(wrong), f"without a counterpart: {wrong}"

    return check


@pytest.fixture
def jpeg() -> Callable[[int, int], bytes]:
    """jpeg(width, height): an image of noise."""

    def make(width: int, height: int) -> bytes:
        import cv2
        import numpy as np

        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return cv2.imencode(".jpg", noise)[1].tobytes()

    return make


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """start_server(arguments…) runs `python -m arguments… --port PORT` on loopback until the module's tests are done;
    returns its address once the page `answers` is there. The server does not find this checkout by PYTHONPATH."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(*overrides: str, answers: str = "/health") -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = tmp_path_factory.mktemp("server")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # Servers start others by name; and all of them are one group, that goes as one.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with (folder / "log").open("w") as log:
            command = [sys.executable, "-m", *overrides, "--host", "127.0.0.1", "--port", str(port)]
            server = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        servers.append(server)
        address = f"http://127.0.0.1:{port}"
        for _ in range(4000):
            try:
                with urllib.request.urlopen(f"{address}{answers}", timeout=60):
                    return address
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.25)
        raise AssertionError((folder / "log").read_text())

    yield start
    for server in servers:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


@pytest.fixture(scope="session")
def random_model(module_at: Callable[[Path], ModuleType]) -> Callable[..., Model]:
    """random_model(overrides…): 20 classes, of the configured backbone and data shape."""
    tool = module_at(Path(__file__).resolve().parents[1] / "tools" / "benchmarks" / "parity.py")
    return lru_cache(tool.random_model)


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)  # blocks, so that there is something to see
    return [np.kron(image, np.ones((14, 15, 1), np.uint8)) for image in coarse]
