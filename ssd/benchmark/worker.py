"""One process that builds a network, or measures one: `python -m ssd.benchmark.worker`, a task in JSON on stdin.

The number of threads is fixed when MXNet is loaded, memory is given back for certain only by a process that ends, and
one that the system kills takes no other with it: hence one per network, form and number of threads.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.parts import device_config, network_config
from ssd.config.targets import literal
from ssd.utils.atomic_files import write_json
from ssd.utils.errors import UserError

if TYPE_CHECKING:
    from ssd.benchmark.networks import Subject

STAGES = ("forward", "boxes", "images")
WARM_UP = 2  # batches: the first binds, the second finds weights in the layout they are needed in
LEAST = 3  # batches measured, however slow


def configured(task: dict[str, Any]) -> "Subject":
    """The run's configuration, with another network if the task has overrides that choose one."""
    from ssd.benchmark.networks import Subject

    cfg = task["cfg"]
    if task["overrides"]:
        chosen: Any = OmegaConf.to_container(compose(task["overrides"]), resolve=True)
        cfg = {**cfg, **{group: chosen[group] for group in ("backbone", "data_shape", "head")}}
    whole = OmegaConf.create(literal(cfg))
    # Other jobs' key of the name job.classes is text, names.
    return Subject(network_config(whole), whole.model, str(whole.job.classes), device_config(whole))


def make(subject: "Subject", task: dict[str, Any]) -> dict[str, Any]:
    """{"path"} of the network, ready to be measured."""
    from ssd.benchmark.networks import write_network

    return {"path": write_network(subject, task["format"], Path(task["folder"]))}


def measure(subject: "Subject", task: dict[str, Any]) -> dict[str, Any]:
    """{"threads", "batches": {batch: {"seconds": of every call, "memory_mb": most so far} or {"error"}}}."""
    from ssd.benchmark.networks import open_network

    batches: dict[int, Any] = {}
    for batch in sorted(task["batches"]):
        try:
            call = prepared(open_network(subject.device, task["path"], batch), task["stage"])
            batches[batch] = {"seconds": list(timed(call, task["seconds"])), "memory_mb": memory_mb()}
        except Exception as error:
            batches[batch] = {"error": one_line(error)}
    return {"threads": int(os.environ["OMP_NUM_THREADS"]), "batches": batches}


def prepared(detector: Any, stage: str) -> Callable[[], Any]:
    """What is measured, as a call. Images are noise of the input's size."""
    shape = (detector.spec.height, detector.spec.width, 3)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(detector.batch_size)]
    data = detector.preprocess(images)
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: detector.forward(data),
        "boxes": lambda: detector.predict_batch(data),
        "images": lambda: detector.predict(images),
    }
    return calls[stage]


def timed(call: Callable[[], Any], seconds: float) -> Iterator[float]:
    """Seconds of each call, after warming up, until so many have passed."""
    for _ in range(WARM_UP):
        call()
    end, count = time.perf_counter() + seconds, 0
    while count < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        yield time.perf_counter() - start
        count += 1


def memory_mb() -> float:
    """Most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_line(error: BaseException) -> str:
    """What went wrong; MXNet's messages go on with where in its source."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if isinstance(error, UserError) else f"{type(error).__name__}: {_last(text)}"


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")[:300]


def main() -> None:
    """Reads the task, writes the answer, or {"error"}, to the file it names."""
    task = json.loads(sys.stdin.read())
    try:
        answer = {"make": make, "measure": measure}[task["do"]](configured(task), task)
    except Exception as error:
        answer = {"error": one_line(error)}
    write_json(Path(task["answer"]), answer)


if __name__ == "__main__":
    main()
