"""The run as seen on the terminal: a bar that moves while an epoch runs, and one line that stays when it is over.

Lines go through `logging`, so they are in the run's log file too; the bar goes to stderr, past the log. While it
moves, rich replaces sys.stderr, and log lines written there appear above it. Where stderr is no terminal there is no
bar, but a line every now and then.
"""

import logging
import time

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ssd.runs.results import Results
from ssd.tracking.events import RunInfo, Values, Writer

log = logging.getLogger(__name__)

# What of a validation fits in a line, and how it is called there.
HEADLINE = {"map_11pt": "mAP 11pt", "map_area": "mAP area", "AP": "AP", "AP50": "AP50"}


class Console(Writer):
    """Progress and results for a person who watches."""

    def __init__(self, refresh_seconds: float, plain_seconds: float) -> None:
        self.refresh_seconds = refresh_seconds
        self.plain_seconds = plain_seconds
        self.terminal = Terminal(stderr=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.values: dict[str, float] = {}

    def start(self, run: RunInfo) -> None:
        self.run = run
        self.clock = Clock(run.epochs, run.steps)
        self.started = self.spoke = time.monotonic()

    def step(self, epoch: int, step: int, values: Values) -> None:
        self.values.update(values)

    def progress(self, epoch: int, done: int, values: Values) -> None:
        self.values.update(values)
        self.clock.tick(epoch, done)
        if self.terminal.is_terminal:
            self._move_bar(epoch, done)
        elif time.monotonic() - self.spoke >= self.plain_seconds:
            self._say(f"{self._title(epoch)}  {done}/{self.run.steps}  {self._state()}")

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self._remove_bar()
        self.values = {}
        self._say(f"{self._title(epoch)}  {summary(values)}  {clock_text(self.clock.epoch_seconds())}")

    def message(self, text: str) -> None:
        self._say(text)

    def close(self, results: Results) -> None:
        self._remove_bar()
        took = clock_text(time.monotonic() - self.started)
        self._say("  ".join(filter(None, [f"{results.status} after {took}", *final_parts(results)])))

    def _title(self, epoch: int) -> str:
        return f"epoch {epoch}/{self.run.epochs}" if self.run.epochs else self.run.job

    def _state(self) -> str:
        """How it goes and how long it will: the text beside the bar."""
        parts = []
        if (loss := self.values.get("train/loss")) is not None:
            parts.append(f"loss {loss:.3f}")
        if (speed := self.values.get("train/images_per_second")) is not None:
            parts.append(f"{speed:.1f} img/s")
        if (wait := self.values.get("train/data_wait")) is not None:
            parts.append(f"data {wait:.0%}")
        epoch_left, run_left = self.clock.left()
        if epoch_left is not None:
            parts.append(f"left {clock_text(epoch_left)}")
        if run_left is not None and self.run.epochs > 1:
            parts.append(f"run {clock_text(run_left)}")
        return " ".join(parts)

    def _move_bar(self, epoch: int, done: int) -> None:
        if self.bar is None:
            columns = [TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn()]
            self.bar = Progress(*columns, TextColumn("{task.fields[state]}"), console=self.terminal, transient=True,
                                refresh_per_second=1 / self.refresh_seconds)  # fmt: skip
            self.task = self.bar.add_task(self._title(epoch), total=self.run.steps, state="")
            self.bar.start()
        self.bar.update(self.task, completed=done, state=self._state())

    def _remove_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _say(self, text: str) -> None:
        """Through the log where one is set up; else (a notebook, a script) straight to the terminal."""
        self.spoke = time.monotonic()
        if log.isEnabledFor(logging.INFO) and log.hasHandlers():
            log.info("%s", text)
        else:
            self.terminal.print(text, highlight=False, markup=False, soft_wrap=True)


class Clock:
    """Seconds left of the epoch and of the run, from the pace so far.

    The first step is left out of the pace: memory is planned and kernels are chosen in it.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs = epochs
        self.steps = steps
        self.epoch, self.done = 0, 0
        self.run_from: tuple[float, int] | None = None  # (time, steps done in the run) after the first step seen
        self.epoch_from = (0.0, 0)  # the same for the epoch, in steps of the epoch

    def tick(self, epoch: int, done: int) -> None:
        now = time.monotonic()
        if self.run_from is None:
            self.run_from = (now, (epoch - 1) * self.steps + done)
        if epoch != self.epoch:
            self.epoch_from = (now, done)
        self.epoch, self.done, self.now = epoch, done, now

    def left(self) -> tuple[float | None, float | None]:
        """Of the epoch without its validation, and of the run with it (as far as one was seen); None: unknown yet."""
        if self.run_from is None:
            return None, None
        run_done = (self.epoch - 1) * self.steps + self.done
        epoch_left = _left(self.now, self.epoch_from, self.done, self.steps)
        run_left = _left(self.now, self.run_from, run_done, self.epochs * self.steps)
        return epoch_left, run_left

    def epoch_seconds(self) -> float:
        """Time since the epoch's first step."""
        return time.monotonic() - self.epoch_from[0] if self.run_from else 0.0


def _left(now: float, since: tuple[float, int], done: int, total: int) -> float | None:
    start, done_then = since
    if done <= done_then:
        return None
    return (now - start) / (done - done_then) * max(0, total - done)


def summary(values: Values) -> str:
    """An epoch in one line that fits a narrow terminal: the loss, what validation found, the speed."""
    loss = f"loss {values['train/loss']:.4f}" if "train/loss" in values else ""
    speed = f"{values['train/images_per_second']:.1f} img/s" if "train/images_per_second" in values else ""
    means = headline({name: value for name, value in values.items() if name.startswith("val/")})
    return "  ".join(filter(None, [loss, f"val {means}" if means else "", speed]))


def headline(values: Values) -> str:
    """The numbers of a validation that are compared between runs, under their names with or without "val/"."""
    found = {name: values.get(f"val/{name}", values.get(name)) for name in HEADLINE}
    return "  ".join(f"{HEADLINE[name]} {value:.4f}" for name, value in found.items() if value is not None)


def final_parts(results: Results) -> list[str]:
    """The headline of every split that was measured, behind the split's name, and which checkpoint they are of."""
    splits = dict.fromkeys(name.partition("/")[0] for name in results.values)
    parts = []
    for split in splits:
        own = {name.partition("/")[2]: value for name, value in results.values.items() if name.startswith(f"{split}/")}
        parts += [f"{split} {text}" for text in [headline(own)] if text]
    return [*parts, f"({results.standing})"] if parts and results.standing else parts


def clock_text(seconds: float) -> str:
    """75 -> "1:15", 3675 -> "1:01:15"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
