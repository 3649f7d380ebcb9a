"""Loss curves of the same training in float32 and in training.precision=bfloat16, side by side, with their speed.

    python tools/benchmarks/precision.py OUT [overrides of ssd.run] [--precision bfloat16]

Same seed, same batches. OUT holds a run directory per precision; one that is there is read, not run again.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

OVERRIDES = [
    "logger=[csv]",
    "training.log_every=1",
    "training.samples=0",
    "metric.worst_images=0",
    "training.validate_every=1000",
]
ROWS = 20  # of the table
WARM = 5  # steps that do not count for the speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", help="e.g. backbone=mobilenet_025 epochs=4")
    parser.add_argument("--precision", default="bfloat16")
    options = parser.parse_args()
    names = ["float32", options.precision]
    curves = [losses(options.out.resolve() / name, name, options.overrides) for name in names]
    print(f"{'step':>6}" + "".join(f"{name:>12}" for name in names) + f"{'difference':>12}   mean loss up to this step")
    steps = min(map(len, curves))
    every = max(1, steps // ROWS)
    for first in range(0, steps - every + 1, every):
        means = [statistics.mean(curve[first : first + every]) for curve in curves]
        print(f"{first + every:6}{means[0]:12.4f}{means[1]:12.4f}{means[1] / means[0] - 1:11.1%}")
    for name in names:
        final = json.loads((options.out / name / "metrics.json").read_text())
        print(f"{name:>12}: mAP {final['map_area']:.4f}, median {speed(options.out / name):.1f} images/s")


def losses(folder: Path, precision: str, overrides: list[str]) -> list[float]:
    if not (folder / "metrics.json").is_file():
        said = [*OVERRIDES, *overrides, f"training.precision={precision}", f"hydra.run.dir='{folder}'"]
        subprocess.run([sys.executable, "-m", "ssd.run", *said], check=True, stdout=subprocess.DEVNULL)
    return [float(row["train/loss"]) for row in rows(folder)]


def speed(folder: Path) -> float:
    return statistics.median(float(row["train/images_per_second"]) for row in rows(folder)[WARM:])


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "steps.csv", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
