"""Networks of gluon's zoo with random weights, files of them, and a server on loopback that publishes these."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from ssd.config import weights
from ssd.config.paths import CONF
from ssd.data.datasets import download
from ssd.mxnet_compat import mx


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        behaviour = self.server.behaviour  # type: ignore[attr-defined]
        wanted = self.headers.get("Range")
        behaviour.asked.append((self.path, wanted))
        data = behaviour.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        behaviour.gate.wait(60)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + behaviour.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """url, and: files by path; cut, bytes after which it hangs up; asked, (path, Range) of every request; gate, without
    which nothing is sent."""
    monkeypatch.setattr(download, "PAUSE", 0.001)
    http: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.behaviour = SimpleNamespace(files={}, cut=1 << 40, asked=[], gate=threading.Event())
    http.behaviour.gate.set()
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    http.behaviour.url = f"http://127.0.0.1:{http.server_port}"
    yield http.behaviour
    http.shutdown()
    http.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights."""
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., weights.Weights]:
    """register(name, key=value…): an entry of a registry that goes before conf/weights; the other keys are those of the
    entry of this name there, if there is one."""
    own = tmp_path / "own" / "weights"
    monkeypatch.setattr(weights, "folders", lambda: [own, CONF / "weights"])

    def add(name: str, **keys: Any) -> weights.Weights:
        file = own / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        given = file if file.is_file() else CONF / "weights" / f"{name}.yaml"
        before = yaml.safe_load(given.read_text()) if given.is_file() else {}
        file.write_text(yaml.safe_dump({**before, **keys}))
        return weights.read_entry(name)

    yield add
    shutil.rmtree(own, ignore_errors=True)


def _safetensors(arrays: Mapping[str, np.ndarray], **changed: Any) -> bytes:
    kinds = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": kinds[str(array.dtype)], "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]
        }  # fmt: skip
        place += array.nbytes
    text = json.dumps({**header, **changed}).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())


@pytest.fixture(scope="session")
def safetensors() -> Callable[..., bytes]:
    """safetensors(arrays, **changed): the bytes of a file. changed: entries of the header that are to be others."""
    return _safetensors


def _random_network(architecture: str, side: int = 64) -> Any:
    network = mx.gluon.model_zoo.vision.get_model(architecture)
    network.initialize()
    network(mx.nd.zeros((1, 3, side, side)))
    rng = np.random.default_rng(0)
    for name, parameter in network.collect_params().items():
        shape = parameter.shape
        if name.endswith(("gamma", "running_var")):
            values = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(("beta", "running_mean", "bias")):
            values = rng.normal(0, 0.1, shape)
        else:
            values = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(1.5 / np.prod(shape[1:])))
        parameter.set_data(mx.nd.array(values))
    return network


@pytest.fixture(scope="session")
def random_network() -> Callable[..., Any]:
    """random_network(name, side): one of gluon's zoo whose every number is another one, scales, means and variances of
    normalizations too. side: of an input that it takes."""
    return _random_network
