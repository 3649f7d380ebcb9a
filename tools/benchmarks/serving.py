"""Requests per second and latency of a model that several clients ask at once, and whether every answer is right.

    python -m ssd.run                    # trains one, where there is none: outputs/train/small_128_shapes/TIME
    python tools/benchmarks/serving.py --model outputs/train/small_128_shapes/TIME --images photos
        [--clients 8] [--seconds 60] [--ways MLflow Detector]

Two ways of serving: MLflow, as a run logs its model and `mlflow models serve` answers (one worker; JSON with base64
text; every client keeps its connection), and `Detector`, in this process, shared by a thread per client. Either begins
with the bytes of image files and ends with boxes; a client asks for the next image when it has its answer, so
latency includes waiting for the others. Clients run on the same machine and take their part of it.

Every answer is compared with the one that Detector gives when it is asked for that image alone. Ends with exit code 1
if a request stayed without an answer or got another one.
"""

import argparse
import base64
import http.client
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from ssd.checkpoint.model import find_params
from ssd.data.images import decode
from ssd.detection.detector import Detector
from ssd.detection.sources import find
from ssd.export.agreement import NEAR, compare_rows
from ssd.launch.hosts import free_port
from ssd.ops.boxes import DecodeParams
from ssd.utils.errors import UserError
from ssd.utils.process import physical_cores

PATIENCE = 60.0  # seconds that a client waits for its answer
START = 120.0  # seconds that a server has to load the model

Ask = Callable[[int], bytes]  # what a client does: the number of an image -> the answer as it comes


@dataclass(frozen=True)
class Way:
    """One way of serving. connect(): for one client. rows: detections [N, 6] in pixels that an answer holds."""

    connect: Callable[[], Ask]
    rows: Callable[[bytes], np.ndarray]


@dataclass
class Seen:
    """What clients have seen. seconds: of each request that was answered; answers: how often each came for an image;
    problems: of requests without one."""

    seconds: list[float] = field(default_factory=list)
    answers: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run directory, or whatever else model= takes")
    parser.add_argument("--images", required=True, help="a folder, a glob or one file")
    parser.add_argument("--clients", type=int, nargs="+", default=[8], help="at once; several make several rows")
    parser.add_argument("--seconds", type=float, default=60.0, help="per row")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    try:
        wrong = compare(options)
    except UserError as error:
        parser.error(str(error))
    sys.exit(1 if wrong else 0)


def compare(options: argparse.Namespace) -> int:
    """Measures and prints every row; returns how many requests went wrong. Errors: UserError for a model or image
    that cannot be used."""
    files = [path.read_bytes() for path in find(options.images).files]
    detector = Detector.load(options.model, batch_size=1)
    images = [decode(data, f"image {number}") for number, data in enumerate(files)]
    print(f"{options.model}: {len(files)} images, {options.seconds:g} s per row, {physical_cores()} physical cores")
    print(f"{'':10}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'most ms':>9}"
          f"{'answers':>9}{'lost':>6}{'differ':>8}{'load':>6}")  # fmt: skip
    wrong = 0
    for name in options.ways:
        with WAYS[name](options.model, files) as way:
            for clients in options.clients:
                load = os.getloadavg()[0]
                seen, elapsed = measure(way.connect, clients, len(files), options.seconds)
                differing = count_differing(seen, way.rows, detector, images)
                lost = sum(seen.problems.values())
                print(f"{name:10}{clients:8}{row(seen.seconds, elapsed)}{lost:6}{differing:8}{load:6.1f}", flush=True)
                for problem, times in seen.problems.most_common(3):
                    print(f"{'':10}{times} x {problem}")
                wrong += lost + differing
    return wrong


def measure(connect: Callable[[], Ask], clients: int, images: int, seconds: float) -> tuple[Seen, float]:
    """What all clients together have seen, and the seconds until the last of them had its answer."""
    first = connect()
    for number in range(images):  # binds, allocates, and so on: not measured
        first(number)
    asks = [connect() for _ in range(clients)]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        # Each begins with another image.
        parts = list(pool.map(lambda index: ask_until(start + seconds, asks[index], index, images), range(clients)))
    elapsed = time.perf_counter() - start
    together = Seen()
    for part in parts:
        together.seconds += part.seconds
        together.answers += part.answers
        together.problems += part.problems
    return together, elapsed


def ask_until(deadline: float, ask: Ask, first: int, images: int) -> Seen:
    """One client: image after image until the deadline; a request that has begun gets its answer."""
    seen = Seen()
    for turn in count(first):
        begun = time.perf_counter()
        if begun >= deadline:
            return seen
        try:
            answer = ask(turn % images)
        except Exception as error:
            seen.problems[f"{type(error).__name__}: {error}"] += 1
            continue
        seen.seconds.append(time.perf_counter() - begun)
        seen.answers[turn % images, answer] += 1
    raise AssertionError("count() has no end")


def count_differing(
    seen: Seen, rows: Callable[[bytes], np.ndarray], detector: Detector, images: Sequence[np.ndarray]
) -> int:
    """Answers that are not what the detector finds in the image, asked for it alone: see compare_rows."""
    params = DecodeParams(**detector.spec.detection)
    expected = [detector.predict([image])[0] for image in images]
    differing = 0
    for (number, answer), times in seen.answers.items():
        side = max(images[number].shape[:2])
        differing += times * bool(compare_rows(expected[number], rows(answer), params, NEAR * side)[0])
    return differing


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def row(seconds: Sequence[float], elapsed: float) -> str:
    """requests/s, p50, p99, most, answers."""
    columns = [1000 * percentile(seconds, percent) for percent in (50, 99, 100)]
    return f"{len(seconds) / elapsed:12.1f}" + "".join(f"{value:9.1f}" for value in columns) + f"{len(seconds):9}"


@contextmanager
def in_process(model: str, files: Sequence[bytes]) -> Iterator[Way]:
    """One detector for all clients."""
    detector = Detector.load(model, batch_size=1)

    def ask(number: int) -> bytes:
        return detector.predict([decode(files[number], f"image {number}")])[0].tobytes()

    yield Way(lambda: ask, lambda answer: np.frombuffer(answer, np.float32).reshape(-1, 6))


@contextmanager
def by_mlflow(model: str, files: Sequence[bytes]) -> Iterator[Way]:
    """MLflow's server, with the model as a training logs it. Errors: UserError for a model that is no checkpoint."""
    from ssd.serving.pyfunc import save

    bodies = [json.dumps({"inputs": [base64.b64encode(data).decode()]}).encode() for data in files]
    with tempfile.TemporaryDirectory(prefix="ssd-serving-") as place:
        save(Path(place) / "model", find_params(model), {"threshold": 0.0, "request_pixels": 400_000_000})
        with served(Path(place)) as port:
            yield Way(lambda: client(port, bodies), served_rows)


@contextmanager
def served(place: Path) -> Iterator[int]:
    """`mlflow models serve` of place/model; the port that it answers on."""
    port = free_port()
    overrides = ["models", "serve", "-m", str(place / "model"), "--env-manager", "local", "--port", str(port)]
    # The package that travels inside the model answers, not this one.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with (place / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *overrides], cwd=place, env=environment, stdout=log,
                                  stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    try:
        deadline = time.monotonic() + START
        while not answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"MLflow's server did not start:\n{(place / 'log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # it starts uvicorn as a process of its own
        server.wait()


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def client(port: int, bodies: Sequence[bytes]) -> Ask:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(number: int) -> bytes:
        try:
            connection.request("POST", "/invocations", bodies[number], {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request opens another one
            raise
        if answer.status != 200:
            raise ConnectionError(f"status {answer.status}: {text[:100]!r}")
        return text

    return ask


def served_rows(answer: bytes) -> np.ndarray:
    (prediction,) = json.loads(answer)["predictions"]
    found = [[one["class"], one["score"], *one["box"]] for one in prediction["detections"]]
    return np.asarray(found, np.float32).reshape(-1, 6)


WAYS: dict[str, Callable[[str, Sequence[bytes]], AbstractContextManager[Way]]] = {
    "MLflow": by_mlflow,
    "Detector": in_process,
}

if __name__ == "__main__":
    main()
