"""What it costs to record a training: epochs with no logger beside epochs with all of them, in one run.

    python tools/benchmarks/tracking.py [--rounds 3] [--epochs 5] [--interval 10] [overrides of `python -m ssd.run` …]

A round trains once in each way, always one process at a time; the first epoch, in which memory is planned and kernels
are chosen, is left out. "wall" is the time from the end of one epoch to the end of the next, validation and checkpoint
included; "CPU" the processor time of the whole process in it, which other work on the machine disturbs less. The share
is that of the median epoch, in brackets that of the quickest. "and histograms" adds those of every array, every
--interval steps; --interval 0 leaves them out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ssd.runs.results import Results
from ssd.tracking import RunInfo, Writer
from ssd.tracking.events import Values


class Stamps(Writer):
    """Writes down when each epoch ended: [wall clock, processor time], in seconds."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.ends: list[tuple[float, float]] = []

    def start(self, run: RunInfo) -> None:
        self.steps = run.steps

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))

    def close(self, results: Results) -> None:
        self.file.write_text(json.dumps({"ends": self.ends, "steps": self.steps}))


def epochs_of(overrides: list[str], folder: Path) -> tuple[list[tuple[float, float]], int]:
    """Trains in `folder`; returns the (wall, CPU) seconds of each epoch but the first, and the steps of one."""
    stamps = folder / "stamps.json"
    command = [sys.executable, "-m", "ssd.run", *overrides, "+logger.stamps._target_=tracking.Stamps",
               f"+logger.stamps.file={stamps}"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(stamps.read_text())
    pairs = zip(found["ends"], found["ends"][1:], strict=False)
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs], found["steps"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rounds", 3), ("epochs", 5), ("interval", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    common = [f"epochs={options.epochs}", *options.overrides]
    ways = {
        "no logger": ["logger=[]"],
        "all loggers": [],
    }
    if options.interval:
        ways["and histograms"] = [f"logger.tensorboard.monitor.interval={options.interval}"]
    epochs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    names = list(ways)
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                seconds, steps = epochs_of([*common, *ways[name]], Path(place))
                epochs[name] += seconds
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{len(epochs['no logger'])} epochs of {steps} steps each; median (quickest) of seconds per epoch")
    for name, found in epochs.items():
        line = f"{name:16}"
        for index, kind in enumerate(("wall", "CPU")):
            middle, best = (of([epoch[index] for epoch in found]) for of in (statistics.median, min))
            base, least = (of([epoch[index] for epoch in epochs["no logger"]]) for of in (statistics.median, min))
            line += f"  {kind} {middle:7.3f} ({best:.3f}) {middle / base - 1:+7.2%} ({best / least - 1:+.2%})"
        print(line)


if __name__ == "__main__":
    main()
