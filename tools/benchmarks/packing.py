"""How fast records are packed, beside copying the same files: python tools/benchmarks/packing.py FOLDER [ROUNDS]

FOLDER holds images, at least some hundred MB of them for a figure that means something. Both write to a temporary
folder on the disk of the working directory, in turn; medians are compared. After a first reading both read from memory.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ssd.data.base import Sample, empty_boxes
from ssd.data.datasets.listing import image_sizes, images_in
from ssd.data.recordio.cache import ensure_records


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(folder: str, rounds: str = "7") -> None:
    files = images_in(Path(folder))
    sizes = image_sizes(files)
    samples = [
        Sample(str(number), file, *size.result(), empty_boxes())
        for number, (file, size) in enumerate(zip(files, sizes, strict=True))
    ]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    times: dict[str, list[float]] = {"copy": [], "pack": []}
    for _ in range(int(rounds)):
        with tempfile.TemporaryDirectory(dir=".") as place:
            target = Path(place)
            names = [target / f"{number}{file.suffix}" for number, file in enumerate(files)]
            times["copy"].append(seconds(lambda: [shutil.copyfile(*pair) for pair in zip(files, names, strict=True)]))  # noqa: B023
            times["pack"].append(seconds(lambda: ensure_records(samples, target / "records", "train", seed=0)))  # noqa: B023
    print(f"{len(files)} files, {megabytes:.0f} MB, medians of {rounds} rounds")
    for name, found in times.items():
        median = statistics.median(found)
        print(
            f"{name}  {median:6.2f} s  {megabytes / median:7.0f} MB/s  (best {min(found):.2f}, worst {max(found):.2f})"
        )
    print(f"packing runs at {statistics.median(times['copy']) / statistics.median(times['pack']):.2f} x copying")


if __name__ == "__main__":
    main(*sys.argv[1:])
