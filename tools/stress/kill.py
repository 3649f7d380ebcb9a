"""Kills jobs and processes at random moments and starts them again: all must end as if nothing had happened.

    python tools/stress/kill.py                       # a hundred kills of trainings; the log goes to stdout
    python tools/stress/kill.py 20 --seed 7
    python tools/stress/kill.py 40 --kind loaders     # train | loaders | prepare | deploy | sweep | joblib

Real command lines (`python -m ssd.run …`) on a tiny network, each kind in a new folder with a TMPDIR of its own. What
they make is compared with what one that was never killed makes; at the end no draft, temporary file, shared memory or
process may be left.

train: SIGKILL at any moment, then `resume=`; after each, every checkpoint that the index names must be whole.
loaders: SIGKILL or SIGSTOP of a loader process; the training replaces it and goes on.
prepare: SIGKILL while images are drawn and packed, then the same command again.
deploy: SIGKILL while a model is exported, then the same command again.
sweep, joblib: SIGKILL of a sweep or of one of its jobs, then the same command again.
"""

import argparse
import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ssd.checkpoint.index import FOLDER, NAME, read_index, verify_checksum

EPOCHS = 50
TINY = [
    "dataset.train=16", "dataset.val=4", "dataset.image_size=64", "batch_size=4", "data_shape=64", f"epochs={EPOCHS}",
    "training.validate_every=10", "training.log_every=5", "training.samples=1", "metric.worst_images=0", "logger=[csv]",
    "loader.workers=0", "device.threads=1", "checkpoint.every_steps=1",
]  # fmt: skip
LOADERS = ["checkpoint.every_steps=null", "augment=ssd_plus", "loader.patience_s=8"]
PREPARED = ["dataset.train=300", "dataset.val=20", "dataset.image_size=96"]
TIMES = ("train/images_per_second", "train/data_wait", "val/seconds")
STEPS = 1.5  # seconds in which a kill comes, once steps are taken
REPORT = 0.3  # share of the lives with all steps done, which have nothing but their report to write, that are killed
MOST_RESUMES = 3  # kills of one run, but for trainings
MOST_ENDS = 20  # of one training, by two loader processes hit at the same batch
ORPHANS = 20  # seconds that the processes of a killed one may take to end
TIMEOUT = 600


@dataclass
class Tally:
    kills: int = 0
    runs: int = 0


@dataclass(frozen=True)
class Place:
    """A folder that a kind of kill works in, its own temporary directory, and how often it may kill."""

    folder: Path
    kills: int
    rng: random.Random
    tally: Tally

    @property
    def left(self) -> bool:
        return self.tally.kills < self.kills

    def start(self, overrides: Sequence[str], name: str) -> "subprocess.Popen[bytes]":
        """A command in a session of its own, whose output goes to <name>.log."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        with open(self.folder / f"{name}.log", "wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "ssd.run", *overrides],
                cwd=self.folder,
                stdout=file,
                stderr=file,
                env=os.environ | {"TMPDIR": str(self.folder / "tmp")},
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def killed(self, what: str) -> None:
        self.tally.kills += 1
        say(f"kill {self.tally.kills:3}  {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(KINDS), default="train")
    options = parser.parse_args()
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    with tempfile.TemporaryDirectory(prefix="ssd-kill-") as name:
        place, begun = Place(Path(name), options.kills, random.Random(options.seed), Tally()), time.monotonic()
        KINDS[options.kind](place)
        for wrong in left_behind(place.folder, shared):
            raise SystemExit(f"FAILED: left behind: {wrong}")
        tally = place.tally
        say(f"{tally.kills} kills, {tally.runs} runs, all as if nothing had happened; {time.monotonic() - begun:.0f} s")
    return 0


def trainings(place: Place) -> None:
    reference = whole_training(place)
    while place.left:
        run = place.folder / f"run{place.tally.runs}"
        one_run(run, place)
        same(place, outcome_of_training(reference), outcome_of_training(run), run.name)


def whole_training(place: Place, *overrides: str) -> Path:
    reference, begun = place.folder / "reference", time.monotonic()
    done(place, [*TINY, *overrides, f"hydra.run.dir={reference}"], "reference")
    say(f"reference: {len(rows(reference / 'metrics.csv'))} epochs, {time.monotonic() - begun:.1f} s")
    return reference


def one_run(run: Path, place: Place) -> None:
    """Kills and resumes it until it comes to its end, which it may do undisturbed when all kills are spent."""
    rng = place.rng
    while True:
        begun = (run / ".hydra" / "overrides.yaml").is_file()
        process = place.start([f"resume={run}"] if begun else [*TINY, f"hydra.run.dir={run}"], run.name)
        spared = not place.left or (trained(run) and rng.random() > REPORT)
        moment = None if spared else rng.uniform(0, STEPS) if rng.random() < 2 / 3 else -rng.uniform(0, 4)
        if moment is None or ended_by_itself(process, place.folder / f"{run.name}.log", moment):
            process.wait(TIMEOUT)
            if finished(run):
                return
            raise SystemExit(f"FAILED: {run.name} cannot go on: {place.log(run.name)[-2000:]}")
        when = f"{-moment:.2f} s after its start" if moment < 0 else f"{moment:.2f} s after its first steps"
        place.killed(f"{run.name}  {when:28}  {state(run)}")


def loaders(place: Place) -> None:
    """A training whose loader processes are killed and stopped. One that is at the same batch as the one before it may
    be hit, too: the training then saves and is resumed."""
    overrides = [*LOADERS, f"epochs={EPOCHS}"]
    reference = whole_training(place, "loader.workers=0", *overrides)
    while place.left:
        run = place.folder / f"run{place.tally.runs}"
        resumes = 0
        while not finished(run):
            again = [f"resume={run}"] if resumes else [*TINY, *overrides, "loader.workers=2", f"hydra.run.dir={run}"]
            process = place.start(again, run.name)
            while process.poll() is None:
                time.sleep(place.rng.uniform(0, 1.5))
                crew = [number for number in session(process.pid) if "ssd.data.loaders.workers" in command_of(number)]
                if crew and place.left and process.poll() is None:
                    number, sent = place.rng.choice(crew), place.rng.choice([signal.SIGKILL, signal.SIGSTOP])
                    with suppress(ProcessLookupError):
                        os.kill(number, sent)
                        place.killed(f"{run.name}  loader process {number}: {sent.name}")
            if process.returncode and ("over the same batch" not in place.log(run.name) or resumes == MOST_ENDS):
                raise SystemExit(f"FAILED: {run.name}: {place.log(run.name)[-2000:]}")
            resumes += 1
        same(
            place, outcome_of_training(reference), outcome_of_training(run), f"{run.name}, resumed {resumes - 1} times,"
        )


def again_and_again(place: Place, overrides: Callable[[str], Sequence[str]], outcome: Callable[[str], object]) -> None:
    """Kills a command, starts it again until it ends well, and compares. overrides, outcome: of a run's name."""
    begun = time.monotonic()
    done(place, overrides("reference"), "reference")
    seconds = time.monotonic() - begun
    say(f"reference: {seconds:.1f} s")
    wanted = outcome("reference")
    while place.left:
        name = f"run{place.tally.runs}"
        for attempt in range(MOST_RESUMES + 1):
            process = place.start(overrides(name), name)
            moment = place.rng.uniform(0.2, 0.9) * seconds if attempt < MOST_RESUMES and place.left else None
            if moment is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(moment)
            if moment is None or process.poll() is not None:
                break
            victims = [process.pid]
            if "-m" in overrides(name):  # the sweep, or one of its jobs
                victims += [number for number in session(process.pid) if "ssd.sweeps.child" in command_of(number)]
            victim = place.rng.choice(victims)
            os.kill(victim, signal.SIGKILL)
            place.killed(f"{name}  {'a job of it ' * (victim != process.pid)}{moment:.2f} s after its start")
            process.wait(TIMEOUT)
            gone(process.pid)
        if process.wait(TIMEOUT):
            raise SystemExit(f"FAILED: {name} cannot be done again: {place.log(name)[-2000:]}")
        gone(process.pid)
        same(place, wanted, outcome(name), name)


def preparing(place: Place) -> None:
    def outcome(name: str) -> object:
        files = (place.folder / name).rglob(
            "*.*"
        )  # records lie in folders named after what they are made of, and where
        return sorted((file.name, digest(file)) for file in files if file.suffix in (".rec", ".idx", ".jpg", ".xml"))

    again_and_again(
        place,
        lambda name: [
            "job=prepare",
            *PREPARED,
            f"dataset.root={name}/datasets",
            f"training.records={name}/records",
            f"hydra.run.dir={name}/run",
        ],  # fmt: skip
        outcome,
    )


def deploying(place: Place) -> None:
    whole_training(place, "epochs=2")
    os.rename(place.folder / "reference", place.folder / "model")

    def outcome(name: str) -> object:
        run = place.folder / name
        return {str(file.relative_to(run)): digest(file) for file in sorted(run.rglob("*"))
                if file.suffix in (".params", ".onnx") or file.name.endswith("symbol.json")}  # fmt: skip

    again_and_again(
        place,
        lambda name: [
            "job=deploy",
            "model=model",
            "deploy.format=[mxnet,int8]",
            "deploy.images=2",
            "device.threads=1",
            f"hydra.run.dir={name}",
        ],  # fmt: skip
        outcome,
    )


def sweeping(place: Place, launcher: Sequence[str]) -> None:
    def outcome(name: str) -> object:
        jobs = sorted(path.parent for path in (place.folder / name).glob("*/metrics.csv"))
        return [(job.name, outcome_of_training(job)) for job in jobs]

    again_and_again(
        place,
        lambda name: ["-m", "seed=0,1", *launcher, *TINY, "epochs=20", f"hydra.sweep.dir={name}"],
        outcome,
    )


KINDS: dict[str, Callable[[Place], None]] = {
    "train": trainings,
    "loaders": loaders,
    "prepare": preparing,
    "deploy": deploying,
    "sweep": partial(sweeping, launcher=[]),
    "joblib": partial(sweeping, launcher=["hydra/launcher=joblib"]),
}


def done(place: Place, overrides: Sequence[str], name: str) -> None:
    if place.start(overrides, name).wait(TIMEOUT):
        raise SystemExit(f"FAILED: {name}: {place.log(name)[-2000:]}")


def same(place: Place, wanted: object, found: object, name: str) -> None:
    if not wanted or wanted != found:
        raise SystemExit(f"FAILED: {name} is not the reference: {str(wanted)[:2000]} {str(found)[:2000]}")
    place.tally.runs += 1
    say(f"{name} has come to its end: equal to the reference")


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


def session(leader: int) -> list[int]:
    """The processes of a session, those included whose parents are gone, but no zombies."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(leader)], capture_output=True, text=True)
    pairs = [line.split() for line in found.stdout.splitlines()]
    return [int(number) for number, stat in pairs if not stat.startswith("Z")]


def command_of(number: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def gone(leader: int) -> None:
    """Ends the program when processes of a session outlive it for long."""
    deadline = time.monotonic() + ORPHANS
    while left := session(leader):
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: left behind: {[command_of(number) for number in left]}")
        time.sleep(0.05)


def left_behind(folder: Path, shared: set[str]) -> Iterator[str]:
    yield from map(str, folder.rglob(".*.tmp"))
    yield from map(str, (folder / "tmp").iterdir())
    if shared or os.path.isdir("/dev/shm"):
        mine = os.getuid()
        for name in sorted(set(os.listdir("/dev/shm")) - shared):
            with suppress(OSError):
                if os.stat(f"/dev/shm/{name}").st_uid == mine and "ssd" in name:
                    yield f"/dev/shm/{name}"


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
            if entry[kind] is not None and (wrong := verify_checksum(path.parent, entry, kind)):
                raise SystemExit(f"FAILED: {wrong}")
    strays = len(list(path.parent.glob(".*.tmp")))
    return f"step {index['last']['step']} saved" + (f", {strays} half-written file" if strays else "")


def outcome_of_training(run: Path) -> object:
    """Digest of the last parameters, and the tables without their times."""
    last = read_index(run / FOLDER / NAME)["last"]
    return last["sha256"]["params"], rows(run / "metrics.csv"), rows(run / "steps.csv")


def rows(file: Path) -> list[dict[str, str]]:
    """A table without the times."""
    with open(file, newline="") as opened:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(opened)]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
