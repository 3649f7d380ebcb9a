"""The grid of combinations, and running it: process by process, in rounds."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssd.utils.process import describe_exit

log = logging.getLogger(__name__)

WORKER = [sys.executable, "-m", "ssd.benchmark.worker"]


@dataclass(frozen=True)
class Network:
    """overrides: CLI overrides that choose backbone and data shape; none for those of the run's own configuration."""

    backbone: str
    data_shape: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One combination. threads: None for as many as there are physical cores."""

    network: Network
    format: str
    threads: int | None
    batch: int


@dataclass
class Measured:
    """seconds: of every call in every round. error: why there are none."""

    cell: Cell
    seconds: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Plan:
    """The axes of the grid, and how it is measured: see conf/job/benchmark.yaml. cfg: the configuration, resolved."""

    cfg: dict[str, Any]
    networks: Sequence[Network]
    formats: Sequence[str]
    batches: Sequence[int]
    threads: Sequence[int | None]
    stage: str
    rounds: int
    seconds: float
    timeout: float

    def runs(self) -> Iterator[tuple[Network, str, int | None]]:
        """What has a process of its own in every round."""
        for network in self.networks:
            for format_ in self.formats:
                for threads in self.threads:
                    yield network, format_, threads


def measure_grid(plan: Plan) -> list[Measured]:
    """Every cell, in the order of the axes, with its times or the reason why there are none.

    Networks are written to the disk first, one after the other; then every round opens one after the other. What the
    machine does beside that in a while meets all cells alike.
    """
    cells = {
        (*run, batch): Measured(Cell(run[0], run[1], run[2], batch)) for run in plan.runs() for batch in plan.batches
    }
    with tempfile.TemporaryDirectory(prefix="ssd_benchmark_") as folder:
        paths: dict[tuple[Network, str], dict[str, Any]] = {}
        for network in plan.networks:
            for format_ in plan.formats:
                place = Path(folder) / str(len(paths))
                place.mkdir()
                log.info("building %s %s as %s", network.backbone, network.data_shape, format_)
                task = {"do": "make", "overrides": network.overrides, "format": format_, "folder": str(place)}
                paths[network, format_] = run_task({**task, "cfg": plan.cfg}, None, plan.timeout)
        for round_ in range(plan.rounds):
            log.info("round %d of %d", round_ + 1, plan.rounds)
            for run in plan.runs():
                row = [cells[(*run, batch)] for batch in plan.batches]
                _measure(plan, row, paths[run[0], run[1]])
    return list(cells.values())


def _measure(plan: Plan, row: Sequence[Measured], made: dict[str, Any]) -> None:
    """One run: the cells that differ by their batch alone."""
    cell = row[0].cell
    if "error" in made:
        _fail(row, made["error"])
    left = [item.cell.batch for item in row if not item.error]
    if not left:
        return
    task = {"do": "measure", "overrides": cell.network.overrides, "path": made["path"], "batches": left}
    task |= {"cfg": plan.cfg, "stage": plan.stage, "seconds": plan.seconds}
    answer = run_task(task, cell.threads, plan.timeout)
    if "error" in answer:
        _fail(row, answer["error"])
        return
    for item in row:
        found = answer["batches"].get(str(item.cell.batch), {})
        if "error" in found:
            _fail([item], found["error"])
        elif found:
            item.seconds += found["seconds"]
            item.memory_mb = max(item.memory_mb, found["memory_mb"])
        item.cell = replace(item.cell, threads=answer["threads"])


def _fail(row: Iterable[Measured], reason: str) -> None:
    for item in row:
        if not item.error:
            item.seconds, item.error = [], reason
            cell = item.cell
            log.warning(
                "%s %s %s, batch %d: %s",
                cell.network.backbone,
                cell.network.data_shape,
                cell.format,
                cell.batch,
                reason,
            )


def run_task(task: dict[str, Any], threads: int | None, timeout: float) -> dict[str, Any]:
    """The worker's answer to a task; {"error"} when it ends without one."""
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory(prefix="ssd_answer_") as folder:
        answer = Path(folder) / "answer.json"
        text = json.dumps({**task, "answer": str(answer)})
        try:
            done = subprocess.run(
                WORKER, input=text, text=True, capture_output=True, env=environment, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took longer than job.timeout={timeout:g} seconds"}
        if answer.is_file():
            return json.loads(answer.read_text())
    if done.returncode < 0:
        return {"error": f"its process was {describe_exit(done.returncode)}"}
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    return {"error": f"its process {describe_exit(done.returncode)}: {lines[-1][:300]}"}
