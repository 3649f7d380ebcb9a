"""The event stream: what a run can tell (`Writer`), and the one object that passes it on (`Events`).

Names of values are paths: "train/loss", "val/map_11pt", "val/ap_11pt/<class>". Epochs and steps count from 1, and
steps go on counting through all epochs.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ssd.config.credentials import scrubbed
from ssd.config.targets import make_all
from ssd.runs.results import FAILED, FINISHED, INTERRUPTED, PRUNED, Results
from ssd.tracking.graph_nodes import GraphNode
from ssd.utils.errors import InterruptedRun, UserError

log = logging.getLogger(__name__)

Values = Mapping[str, float]


@dataclass(frozen=True)
class Sweep:
    """The sweep that a run is one job of."""

    folder: Path  # the same for all its jobs
    number: int  # of this job, from 0
    own: list[str]  # this job's overrides of those swept over: ["batch_size=8"]
    swept: list[str]  # the overrides that were swept over: ["batch_size=8,16"]


@dataclass(frozen=True)
class RunInfo:
    """What is known before the first step.

    facts: where the run comes from, name -> text: "git.commit", "dataset.hash", "python", "device", ...
    resumed_at: steps that were done before in this run directory, where the run goes on; None for a fresh run.
    """

    name: str
    job: str  # train, eval, ...
    config: dict[str, Any]  # resolved, plain dicts, lists and scalars
    folder: Path  # the run directory; it exists
    classes: list[str]
    epochs: int
    steps: int  # per epoch
    facts: dict[str, str] = field(default_factory=dict)
    sweep: Sweep | None = None
    resumed_at: int | None = None


class Pruned(Exception):  # noqa: N818 - a decision, not an error
    """What a writer raises to end the run here, because continuing is not worth its time; the message says why."""


# What ends a run otherwise than by failing.
ENDS = {KeyboardInterrupt: INTERRUPTED, InterruptedRun: INTERRUPTED, Pruned: PRUNED}


class Writer:
    """Writes some of a run down somewhere. Override any of these methods; none does anything by itself.

    A logger of your own is a class that Python can import from the working directory:

        from ssd.tracking.events import Writer

        class Diary(Writer):
            '''A line per epoch in a file of the run directory.'''

            def __init__(self, file: str = "diary.txt") -> None:
                self.file = file

            def start(self, run):
                self.path = run.folder / self.file

            def epoch(self, epoch, step, values):
                with open(self.path, "a") as file:
                    file.write(f"epoch {epoch}: {values['val/map_11pt']:.4f}\\n")

    It is named on the command line, by any name, with the arguments of its constructor:

        python -m ssd.run +logger.diary._target_=my_module.Diary +logger.diary.file=mine.txt

    A logger whose method fails is named in the log and left out from there on; the training continues.
    """

    def start(self, run: RunInfo) -> None:
        """Called once, before anything else."""

    def step(self, epoch: int, step: int, values: Values) -> None:
        """Means since the last call, every few steps; `step` counts through the whole run.

        "train/cross_entropy", "train/smooth_l1", "train/loss", "train/learning_rate", "train/images_per_second" and
        "train/data_wait" (share of the time, 0..1, in which the devices waited for images).
        """

    def progress(self, epoch: int, done: int, values: Values) -> None:
        """After every step, so it must cost next to nothing: `done` of the epoch's steps are over."""

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        """End of an epoch: its means ("train/loss", ...) and what validation measured ("val/map_11pt", ...)."""

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """An image, HxWx3 uint8 RGB; a later one of the same tag shows the same thing at a later step."""

    def curve(
        self, tag: str, precision: np.ndarray, recall: np.ndarray, scores: np.ndarray, positives: int, step: int
    ) -> None:
        """Precision and recall of one class, [K] each: entry k counts the detections that score >= scores[k].

        Best score first, one entry per detection that counts (those on difficult objects do not). `positives` is the
        number of ground-truth boxes that count, so true positives = recall * positives.
        """

    def wants_histograms(self, step: int) -> re.Pattern[str] | None:
        """Which arrays' values it wants to receive at this step: those in whose tag the pattern is found."""
        return None

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """Values of one array, [N] floats that need not be finite: all of them, or of a large array an even sample.

        "weights/<parameter>", "gradients/<parameter>" or "activations/<output of an operation>".
        """

    def graph(self, nodes: Sequence[GraphNode]) -> None:
        """The network, inputs before what uses them; passed once, after `start`."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """A finished file or directory worth keeping (checkpoint, report); `folder` groups it where it is kept."""

    def model(self, params: Path, results: Results) -> None:
        """The run's best model: its parameter file, symbol beside it, and what was measured of it."""

    def results(self, results: Results) -> None:
        """The numbers that the run is known by so far, whenever there are others, and once at the start."""

    def message(self, text: str) -> None:
        """One line for whoever watches."""

    def close(self, results: Results) -> None:
        """Called once, last, with the final numbers and how the run ended."""

    def where(self) -> str | None:
        """Path, address or command with which a person finds what was written."""
        return None


class Events:
    """Passes everything on to its writers, in their order; one that fails is named once in the log and left out.
    `Pruned` is no failure: it ends the run.

    As a context manager it closes the writers with the status that fits the way the block was left, and with the
    latest results, unless `close` was called inside.
    """

    def __init__(self, writers: Mapping[str, Writer]) -> None:
        self._writers = dict(writers)
        self._results = Results()
        self._closed = False

    def start(self, run: RunInfo) -> None:
        self._tell("start", run)

    def step(self, epoch: int, step: int, values: Values) -> None:
        self._tell("step", epoch, step, values)

    def progress(self, epoch: int, done: int, values: Values) -> None:
        self._tell("progress", epoch, done, values)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self._tell("epoch", epoch, step, values)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        self._tell("image", tag, image, step)

    def curve(
        self, tag: str, precision: np.ndarray, recall: np.ndarray, scores: np.ndarray, positives: int, step: int
    ) -> None:
        self._tell("curve", tag, precision, recall, scores, positives, step)

    def wants_histograms(self, step: int) -> list[re.Pattern[str]]:
        """Patterns of the tags that any writer wants to receive at this step; whoever asks spares itself the rest."""
        wanted = self._tell("wants_histograms", step)
        return [pattern for pattern in wanted.values() if pattern is not None]

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        self._tell("histogram", tag, values, step)

    def graph(self, nodes: Sequence[GraphNode]) -> None:
        self._tell("graph", nodes)

    def artifact(self, path: Path, folder: str = "") -> None:
        self._tell("artifact", path, folder)

    def model(self, params: Path, results: Results) -> None:
        self._tell("model", params, results)

    def results(self, results: Results) -> None:
        self._results = results
        self._tell("results", results)

    def message(self, text: str) -> None:
        self._tell("message", text)

    def close(self, results: Results) -> None:
        if not self._closed:
            self._closed = True
            self._tell("close", results)

    def where(self) -> dict[str, str]:
        """Name of a writer -> how to find what it wrote, for those still writing that know."""
        return {name: place for name, place in self._tell("where").items() if place}

    def _tell(self, method: str, *what: Any) -> dict[str, Any]:
        """What each writer returns. What ends the run is raised when all writers have been called: it is resumed after
        this call, and none of them may lack it."""
        found: dict[str, Any] = {}
        end: BaseException | None = None
        for name, writer in list(self._writers.items()):
            try:
                found[name] = getattr(writer, method)(*what)
            except Exception as error:
                if isinstance(error, Pruned):
                    end = end or error
                    continue
                del self._writers[name]
                reason = scrubbed(f"{type(error).__name__}: {error}").splitlines()[0]
                log.warning("%s stopped recording: %s; training goes on", name, reason)
            except BaseException as error:
                end = end or error
        if end is not None:
            raise end
        return found

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return self.close(replace(self._results, status=FINISHED))
        status = next((status for cause, status in ENDS.items() if isinstance(error, cause)), FAILED)
        own = isinstance(error, (UserError, Pruned))
        reason = " ".join((str(error) if own else f"{type(error).__name__}: {error}").split()).rstrip(": ")
        return self.close(replace(self._results, status=status, reason=scrubbed(reason)))


def make_writers(loggers: Mapping[str, Any] | None) -> dict[str, Writer]:
    """The writers of `cfg.logger` (name -> {_target_, options}); none for null or {}.

    Errors: UserError naming the entry that is no writer, or has a wrong option.
    """
    return make_all(loggers, "logger", Writer, "is no logger: it needs a _target_ that makes an ssd.tracking.Writer")


def epoch_namespace(values: Values) -> dict[str, float]:
    """Values of an epoch named so that they do not mix with those of single steps: train/loss -> train_epoch/loss."""
    step_group, epoch_group = "train/", "train_epoch/"
    return {epoch_group + name.removeprefix(step_group) if name.startswith(step_group) else name: value
            for name, value in values.items()}  # fmt: skip


def finite(values: Values) -> dict[str, float]:
    """Without what is not a number, e.g. the AP of a class that validation has no object of."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
