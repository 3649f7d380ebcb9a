"""Kills trainings at random moments and resumes them: none may be lost, and all must end as if nothing had happened.

    python tools/stress/kill.py                  # a hundred kills; the log goes to stdout
    python tools/stress/kill.py 20 --seed 7

Real command lines (`python -m ssd.run …`, then `… resume=<run>`) on a tiny network that saves after every step. Two
thirds of the kills (SIGKILL) come at a random moment once steps are taken, a third at any moment since the start of the
process. After each, every checkpoint that the index names must be as it was written. A run that comes to its end is
compared with one that was never killed, parameters and metrics.csv, and the next one is started.
"""

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ssd.index import FOLDER, NAME, damage, read_index

EPOCHS = 50
TINY = [
    "dataset.train=16", "dataset.val=4", "dataset.image_size=64", "batch_size=4", "data_shape=64", f"epochs={EPOCHS}",
    "training.validate_every=10", "training.log_every=5", "training.samples=1", "metric.gallery=0", "logger=[csv]",
    "loader.workers=0", "device.threads=1", "checkpoint.every_steps=1",
]  # fmt: skip
TIMES = ("train/images_per_second", "train/data_wait", "val/seconds")
STEPS = 1.5  # seconds in which a kill comes, once steps are taken
REPORT = 0.3  # share of the lives with all steps done, which have nothing but their report to write, that are killed
TIMEOUT = 600


@dataclass
class Tally:
    kills: int = 0
    runs: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ssd-kill-") as name:
        folder, rng, tally, begun = Path(name), random.Random(options.seed), Tally(), time.monotonic()
        reference = folder / "reference"
        start(folder, reference, "reference.log").wait(TIMEOUT)
        lived = time.monotonic() - begun
        say(f"reference: {len(rows(reference))} epochs, {lived:.1f} s")
        while tally.kills < options.kills:
            run = folder / f"run{tally.runs}"
            one_run(run, options.kills, rng, tally)
            if wrong := compare(reference, run):
                say(f"FAILED: {run.name} {wrong}")
                return 1
            tally.runs += 1
            say(f"{run.name} has come to its end: parameters and metrics.csv equal the reference's")
        say(f"{tally.kills} kills, {tally.runs} runs, all as if nothing had happened; {time.monotonic() - begun:.0f} s")
    return 0


def one_run(run: Path, kills: int, rng: random.Random, tally: Tally) -> None:
    """Kills and resumes it until it comes to its end, which it may do undisturbed when all kills are spent."""
    while True:
        log = run.parent / f"{run.name}.log"
        process = start(run.parent, run, log.name)
        spared = tally.kills >= kills or (trained(run) and rng.random() > REPORT)
        moment = None if spared else rng.uniform(0, STEPS) if rng.random() < 2 / 3 else -rng.uniform(0, 4)
        if moment is None or ended_by_itself(process, log, moment):
            process.wait(TIMEOUT)
            if finished(run):
                return
            raise SystemExit(f"FAILED: {run.name} cannot go on: {log.read_text()[-2000:]}")
        tally.kills += 1
        found = state(run)
        when = f"{-moment:.2f} s after its start" if moment < 0 else f"{moment:.2f} s after its first steps"
        say(f"kill {tally.kills:3}  {run.name}  {when:28}  {found}")


def start(folder: Path, run: Path, log: str) -> "subprocess.Popen[bytes]":
    """A new run, or, where there is one, the same again."""
    words = [f"resume={run}"] if (run / ".hydra" / "overrides.yaml").is_file() else [*TINY, f"hydra.run.dir={run}"]
    with open(folder / log, "wb") as file:
        return subprocess.Popen([sys.executable, "-m", "ssd.run", *words], cwd=folder, stdout=file, stderr=file)


def ended_by_itself(process: "subprocess.Popen[bytes]", log: Path, moment: float) -> bool:
    """Kills a process, unless it ends before, at `moment`: seconds after its first step, or, negative, its start."""
    if moment >= 0:
        while process.poll() is None and b"training on" not in log.read_bytes():
            time.sleep(0.01)
    try:
        process.wait(abs(moment))
        return True
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def finished(run: Path) -> bool:
    path = run / FOLDER / NAME
    return path.is_file() and bool(read_index(path)["finished"])


def trained(run: Path) -> bool:
    path = run / FOLDER / NAME
    return path.is_file() and read_index(path)["last"]["epoch"] == EPOCHS


def state(run: Path) -> str:
    """What a killed run has. Ends the program when it is not whole."""
    path = run / FOLDER / NAME
    if not path.is_file():
        return "no checkpoint yet"
    index = read_index(path)
    for entry in index["kept"]:
        for kind in ("params", "states"):
            if entry[kind] is not None and (wrong := damage(path.parent, entry, kind)):
                raise SystemExit(f"FAILED: {wrong}")
    strays = len(list(path.parent.glob(".*.tmp")))
    return f"step {index['last']['step']} saved" + (f", {strays} half-written file" if strays else "")


def compare(reference: Path, run: Path) -> str | None:
    """What differs, or None."""
    last = [read_index(each / FOLDER / NAME)["last"] for each in (reference, run)]
    if last[0]["sha256"]["params"] != last[1]["sha256"]["params"]:
        return "has other parameters than the reference"
    if rows(reference) != rows(run):
        return f"has another metrics.csv than the reference: {rows(reference)} {rows(run)}"
    return None


def rows(run: Path) -> list[dict[str, str]]:
    """metrics.csv without the times."""
    with open(run / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
