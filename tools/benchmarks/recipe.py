"""What the recipe is worth: the original's and ours side by side, and a ladder that turns one switch on at a time.

    python tools/benchmarks/recipe.py DATA OUT [--data-sets bccd voc2007_mini] [--recipes original …] [--seeds 0 1 2]
                                      [--budget MINUTES] [--threads 1] [--table]

DATA holds bccd/BCCD, voc2007_mini/VOCdevkit/VOC2007 (layout of PASCAL VOC) and mobilenet025_imagenet/*.npz. Every run:
the same network (MobileNet x0.25), started from ImageNet, the same images seen the same number of times, the same
seeds; the epoch that is best on val is measured on test, by the same metric. OUT keeps what is done: a run that is cut
short by --budget is resumed the next time, finished ones are only read. --table only prints.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = "mobilenet025_imagenet/mobilenetV1X0.25_imagenet.npz"
START = ["backbone=mobilenet_025", "init.mode=pretrained", "weight_map=mobilenet_torch", "dataset=voc", "logger=[csv]",
         "loader.workers=0", "training.samples=1", "metric.worst_images=0", "checkpoint.every_minutes=1"]  # fmt: skip
DATA_SETS = {
    "bccd": ["dataset.name=bccd", "dataset.out_of_range=clip", "data_shape=[192,256]", "data_shape.tier=large",
             "epochs=40", "training.validate_every=4"],
    "voc2007_mini": ["dataset.name=voc2007_mini", "data_shape=192", "epochs=40", "training.validate_every=4"],
}  # fmt: skip
INTERRUPTED = 75  # exit code of a training that has saved itself after a signal
ROOTS = {"bccd": "bccd/BCCD", "voc2007_mini": "voc2007_mini/VOCdevkit/VOC2007"}

# The original's: its gradients, matching and decoding, plain extra layers, SGD, the rate times 0.1 after 1/3 and 2/3.
ORIGINAL = ["compat=mxnet_ssd", "augment=ssd", "optimizer=sgd", "optimizer.learning_rate=0.004", "schedule=step",
            "batch_size=32"]  # fmt: skip
# The original's with what suits so short a training better, so that the rest of the table is not about that alone.
TUNED = {
    "original, rate x 10": ["optimizer.learning_rate=0.04"],
    "original, adam, batch 16": ["optimizer=adam", "optimizer.learning_rate=0.002", "batch_size=16"],
}
# Each step of the ladder changes the overrides of the one before; the last word of a key counts.
LADDER = {
    "original": ORIGINAL,
    "ours, same optimizer": ["compat=null", "optimizer.learning_rate=0.001"],  # see conf/optimizer/sgd_mxnet_ssd.yaml
    "rate": ["optimizer.learning_rate=0.01"],
    "cosine": ["schedule=cosine", "schedule.warmup=0.05"],
    "batch 16": ["batch_size=16"],
    "head=ssd_bn": ["head=ssd_bn"],
    "ema": ["training.ema=0.99"],
    "adam": ["optimizer=adam", "optimizer.learning_rate=0.002"],
}
# Beside the ladder: one change each to its top.
ASIDE = {
    "ssd_plus": ["augment=ssd_plus"],
    "label smoothing": ["loss.label_smoothing=0.05"],
    "multi-scale": ["augment.multi_scale.factors=[0.75,1.0,1.25]"],
    "focal": ["loss.classification=focal"],
    "mining=batch": ["matching.mining=batch"],
    "decay of weights": ["optimizer.wd=0.0005"],
    "decay of all": ["optimizer.wd=0.0005", "training.weight_decay=all"],
}


@dataclass(frozen=True)
class Run:
    dataset: str
    recipe: str
    seed: int

    def folder(self, out: Path) -> Path:
        return out / self.dataset / self.recipe.replace(" ", "_").replace("=", "-").replace(",", "") / str(self.seed)


def recipes() -> dict[str, list[str]]:
    """Name -> overrides, in the order of the table."""
    found: dict[str, list[str]] = {}
    overrides: list[str] = []
    for name, change in LADDER.items():
        overrides = merged(overrides, change)
        found[name] = overrides
    tuned = {name: merged(ORIGINAL, change) for name, change in TUNED.items()}
    return {"original": ORIGINAL} | tuned | found | {name: merged(overrides, change) for name, change in ASIDE.items()}


def merged(overrides: Sequence[str], change: Sequence[str]) -> list[str]:
    """Overrides of the same key are replaced; of a group that is chosen anew, keys below it are dropped."""
    keys = {override.split("=")[0] for override in change}
    groups = {f"{key}." for key in keys if "." not in key}
    kept = [
        override
        for override in overrides
        if override.split("=")[0] not in keys and not any(override.startswith(group) for group in groups)
    ]
    return kept + list(change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--recipes", nargs="+", default=list(recipes()), choices=list(recipes()))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=float, default=float("inf"), help="minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what there is, train nothing")
    options = parser.parse_args()
    options.data, options.out = options.data.absolute(), options.out.absolute()
    # All recipes of a seed before the next seed: a table after any budget.
    runs = [
        Run(name, recipe, seed) for seed in options.seeds for recipe in options.recipes for name in options.datasets
    ]
    if not options.table:
        train(runs, options)
    for name in options.datasets:
        print("\n".join(table(name, [run for run in runs if run.dataset == name], options.out)))


def train(runs: Sequence[Run], options: argparse.Namespace) -> None:
    deadline = time.monotonic() + 60 * options.budget
    for run in runs:
        for label in ("train", "test", "decode") if run.recipe == "original" else ("train", "test"):
            if not part(label, run, options, deadline):
                if time.monotonic() >= deadline:
                    print("the budget is used up; the same command goes on")
                    return
                break


def part(label: str, run: Run, options: argparse.Namespace, deadline: float) -> bool:
    """Trains, or measures; returns whether it is done. What others interrupt is resumed."""
    code = INTERRUPTED
    while code == INTERRUPTED and time.monotonic() < deadline:
        overrides, folder = command(label, run, options)
        if finished(folder):
            return True
        started = time.monotonic()
        code = call(overrides, folder, deadline - started, options)
        took = f"{time.monotonic() - started:6.0f} s  exit code {code}"
        print(f"{run.data_set:14}{run.recipe:24}seed {run.seed}  {label:6}{took}", flush=True)
    return code == 0


def finished(folder: Path) -> bool:
    """An interrupted training leaves metrics, too; its checkpoints say so."""
    index = folder / "checkpoints" / "checkpoints.json"
    if index.is_file():
        return bool(json.loads(index.read_text())["finished"])
    return folder.name != "train" and (folder / "metrics.json").is_file()


def command(label: str, run: Run, options: argparse.Namespace) -> tuple[list[str], Path]:
    """Overrides and folder of a training ("train"), of measuring it on the test split ("test"), and of the original's
    weights decoded as ours are, several classes per anchor ("decode")."""
    folder = run.folder(options.out)
    data = [f"dataset.root={options.data / ROOTS[run.data_set]}", *DATA_SETS[run.dataset]]
    if label == "train":
        if (folder / "train/checkpoints/checkpoints.json").is_file():
            return [f"resume={folder / 'train'}"], folder / "train"
        overrides = [
            *START,
            *data,
            *recipes()[run.recipe],
            f"init.weights={options.data / WEIGHTS}",
            f"seed={run.seed}",
        ]
        return overrides, folder / "train"
    overrides = ["job=eval", f"model={folder / 'train'}", "job.split=test", "metric.worst_images=0", "logger=[]"]
    overrides += ["dataset=voc", *(override for override in data if override.startswith("dataset"))]
    return (overrides, folder / "test") if label == "test" else ([*overrides, "compat=null"], folder / "decode")


def call(overrides: Sequence[str], folder: Path, seconds: float, options: argparse.Namespace) -> int:
    """Exit code; a run that takes longer than `seconds` is asked to save and stop."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    command = [sys.executable, "-m", "ssd.run", *overrides]
    if not overrides[0].startswith("resume="):
        command.append(f"hydra.run.dir={folder}")
    with open(folder.parent / f"{folder.name}.out", "ab") as output:
        process = subprocess.Popen(command, cwd=options.out, env=environment, stdout=output, stderr=output)
        try:
            return process.wait(None if seconds == float("inf") else seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            return process.wait()


def table(name: str, runs: Sequence[Run], out: Path) -> list[str]:
    lines = [f"\n{name}, test          11-point mAP           area mAP          seeds   (points, against the original)"]
    first: dict[str, float] = {}
    for recipe, part in [("original", "test"), ("original", "decode"), *((each, "test") for each in recipes())]:
        found = [run.folder(out) / part / "metrics.json" for run in runs if run.recipe == recipe]
        values = [json.loads(file.read_text()) for file in found if file.is_file()]
        if not values or (recipe == "original" and part == "test" and first):
            continue
        label = recipe if part == "test" else "  its weights, our decoding"
        cells = []
        for key in ("map_11pt", "map_area"):
            points = [100 * value[key] for value in values]
            mean, spread = statistics.mean(points), statistics.stdev(points) if len(points) > 1 else 0.0
            first.setdefault(key, mean)
            cells.append(f"{mean:6.2f} ±{spread:5.2f} {mean - first[key]:+6.2f}")
        lines.append(f"{label:28}" + "   ".join(cells) + f"   {len(values)}")
    return lines


if __name__ == "__main__":
    main()
