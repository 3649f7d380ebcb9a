"""How fast training batches are made: our loader beside MXNet's iterator, worker processes, and decoding alone.

    python tools/benchmarks/loader.py DEVKIT [--rounds 5] [--threads N] [--batch-size 32] [--data-shape 300]

DEVKIT: a folder with VOC2007 in it, or any other VOC folder. Every contender makes whole epochs of augment=ssd, in
turns, on the same number of threads or processes.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from omegaconf import DictConfig

from ssd.config.augment import Augment, read_augment
from ssd.config.compose import compose
from ssd.config.parts import loader_config
from ssd.data.base import Sample
from ssd.data.datasets.build import make_dataset
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import Records, ensure_records
from ssd.data.transforms.augmenter import INTERPOLATIONS
from ssd.data.transforms.color import apply_jitter, sample_shifts
from ssd.data.transforms.crop import centers_inside, clipped, relative_to, sample_crops
from ssd.utils.process import usable_cores

Epoch = Callable[[], int]  # makes one epoch, returns its number of images
Contender = Callable[[], AbstractContextManager[Epoch]]  # nothing of it works on in the background once it is left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--data-shape", default="300")
    options = parser.parse_args()
    overrides = [
        "dataset=voc07" if (options.root / "VOC2007").is_dir() else "dataset=voc",
        f"dataset.root={options.root}",
        f"data_shape={options.data_shape}",
        "backbone=vgg16_reduced",
        "augment=ssd",
        f"batch_size={options.batch_size}",
    ]
    cfg = compose([*overrides, f"loader.workers={options.threads}"])
    record = compose([*overrides, "loader=record", f"loader.workers={options.threads}"])
    samples = make_dataset(cfg.dataset).split("train")
    with tempfile.TemporaryDirectory() as folder:
        records = ensure_records(samples, Path(folder), "train", seed=0)
        loading: dict[str, Contender] = {
            "raw cv2.imdecode": partial(raw_decoding, samples, options.threads),
            "ours": partial(batches, records, cfg),
            "ours, float32 batches": partial(normalized, records, cfg),
            "ImageDetRecordIter": partial(batches, records, record),
            "worker processes": partial(processes, samples, cfg),
        }
        title = f"{len(samples)} images, {options.threads} threads, medians of {options.rounds}"
        report(title, in_turns(loading, options.rounds), ["ImageDetRecordIter", "raw cv2.imdecode"])


def in_turns(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Median of images per second. In each round every contender has one epoch to fill its buffers, and then at
    once the one that is timed, so that it makes as many images as are counted."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            with contender() as epoch:
                epoch()
                started = time.perf_counter()
                count = epoch()
                speeds[name].append(count / (time.perf_counter() - started))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: statistics.median(values) for name, values in speeds.items()}


def report(title: str, speeds: dict[str, float], references: list[str]) -> None:
    print(f"{title:48}" + "".join(f"{'x ' + name:>22}" for name in references))
    for name, speed in speeds.items():
        ratios = "".join(f"{speed / speeds[reference]:22.2f}" for reference in references)
        print(f"{name:24}{speed:15.0f} images/s{ratios}")


@contextmanager
def raw_decoding(samples: list[Sample], threads: int) -> Iterator[Epoch]:
    """The physical limit: every image decoded once, from memory, and forgotten."""
    files = [np.frombuffer(sample.read(), np.uint8) for sample in samples]
    with ThreadPoolExecutor(threads) as pool:
        yield lambda: sum(size > 0 for size in pool.map(lambda data: cv2.imdecode(data, cv2.IMREAD_COLOR).size, files))


@contextmanager
def batches(records: Records, cfg: DictConfig) -> Iterator[Epoch]:
    with make_train_loader(records, loader_config(cfg), records.label_width) as loader:

        def epoch() -> int:
            loader.reset()
            for batch in loader:
                batch.data[0].wait_to_read()
            return loader.steps * cfg.batch_size

        yield epoch


@contextmanager
def normalized(records: Records, cfg: DictConfig) -> Iterator[Epoch]:
    """Ours, and here what the device does otherwise: float32, minus mean, divided by std."""
    mean, std = (np.float32(cfg.backbone.input[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    with make_train_loader(records, loader_config(cfg), records.label_width) as loader:

        def epoch() -> int:
            loader.reset()
            for batch in loader:
                data = batch.data[0].asnumpy().astype(np.float32)
                data -= mean
                data /= std
            return loader.steps * cfg.batch_size

        yield epoch


@contextmanager
def processes(samples: list[Sample], cfg: DictConfig) -> Iterator[Epoch]:
    """A usual Python loader: workers make samples in the order of the paper, step by step on the whole canvas."""
    make = partial(_stepwise, augment=read_augment(cfg.augment), side=(cfg.data_shape.width, cfg.data_shape.height))
    rng = np.random.default_rng(0)
    with multiprocessing.get_context("spawn").Pool(cfg.loader.workers) as pool:

        def epoch() -> int:
            order = rng.permutation(len(samples)).tolist()
            tasks = [(samples[index], int(rng.integers(1 << 40))) for index in order]
            images: list[np.ndarray] = []
            for image, _ in pool.imap(make, tasks, chunksize=4):
                images.append(image)
                if len(images) == cfg.batch_size:
                    np.stack(images)
                    images.clear()
            return len(tasks)

        yield epoch
        # Left in peace: a pool that is terminated with answers on their way may wait for ever.
        pool.close()
        pool.join()


def _stepwise(task: tuple[Sample, int], augment: Augment, side: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One sample, [3, H, W] bytes and its boxes: decode, color, mirror, expand, crop, resize."""
    cv2.setNumThreads(1)
    sample, seed = task
    rng = np.random.default_rng(seed)
    image = apply_jitter(
        cv2.imdecode(np.frombuffer(sample.read(), np.uint8), cv2.IMREAD_COLOR), sample_shifts(augment, 1, rng)[0]
    )
    height, width = image.shape[:2]
    corners = sample.boxes[:, 1:5] / ((width, height) * 2)
    if rng.random() < augment.mirror:
        image, corners = cv2.flip(image, 1), np.abs(corners[:, [2, 1, 0, 3]] - (1, 0, 1, 0))
    seen = corners[None] if len(corners) else np.full((1, 1, 4), np.nan)
    window = sample_crops(seen, np.array([width / height]), augment, rng)[0]
    corners = corners[centers_inside(corners, window[None])[:, 0]]
    left, top, right, bottom = (round(edge * length) for edge, length in zip(window, (width, height) * 2, strict=True))
    above, below, before, behind = (max(0, edge) for edge in (-top, bottom - height, -left, right - width))
    fill = (augment.pad.fill,) * 3
    canvas = cv2.copyMakeBorder(image, above, below, before, behind, cv2.BORDER_CONSTANT, value=fill)
    part = canvas[top + above : bottom + above, left + before : right + before]
    resized = cv2.resize(part, side, interpolation=INTERPOLATIONS[rng.integers(5)])
    return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB).transpose(2, 0, 1), clipped(relative_to(corners, window), 1, 1)


if __name__ == "__main__":
    main()
