"""How far a long piece of work on files is: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(what: str, total: int | None, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Yields a function that is called with how much is done. what: "packing train"; total: None when nobody knows."""
    console = Console(stderr=True)
    if console.is_terminal and sys.stderr.isatty():
        count = DownloadColumn() if in_bytes else MofNCompleteColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            parts = [f"{done / 1e6:.0f} MB" if in_bytes else str(done)]
            if total:
                parts.append(f"of {total / 1e6:.0f} MB" if in_bytes else f"of {total}")
            log.info("%s: %s", what, " ".join(parts))

    yield tell
