"""What a tracking server did not take, kept in the run directory until it does.

    python -m ssd.tracking.unsent outputs/train/small_128_shapes/2026-01-31_12-00-00.000000

sends it, in the order in which it happened, and removes the file once all of it is sent.
"""

import importlib.util
import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssd.commands import module_command
from ssd.errors import UserError
from ssd.files import unwritable, write_atomically
from ssd.tracking.events import RunInfo, Sweep
from ssd.tracking.mlflow_store import Settings, Store, database_file
from ssd.tracking.outbox import TOGETHER, Entry, TryAgainError, first_line

log = logging.getLogger(__name__)

FILE = "mlflow-unsent.json"


def keep(run: RunInfo, settings: Settings, entries: Sequence[Entry]) -> Path:
    """Writes the entries, and all that is needed to send them, into the run directory."""
    content = {
        "settings": asdict(settings),
        "run": asdict(run),
        "entries": [[entry.kind, entry.content] for entry in entries],
    }
    path = run.folder / FILE
    write_atomically(path, json.dumps(content, default=str).encode())
    return path


def load(folder: Path) -> tuple[RunInfo, Settings, list[Entry]]:
    """What keep() wrote. Errors: UserError when there is nothing, or it is damaged."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text())
        run = dict(content["run"], folder=folder.resolve())
        if run["sweep"]:
            run["sweep"] = Sweep(**dict(run["sweep"], folder=Path(run["sweep"]["folder"])))
        moved = Path(content["run"]["folder"]), run["folder"]
        entries = [
            Entry(str(kind), _found_again(_current(str(kind), about), *moved)) for kind, about in content["entries"]
        ]
        return RunInfo(**run), Settings(**content["settings"]), entries
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist, so nothing of this run waits to be sent") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error


def _current(kind: str, content: Any) -> Any:
    """Earlier versions had no tags beside final numbers, and named these val/…"""
    if kind in ("model", "status") and len(content) == 3:
        name, values, step = content
        return [name, {key.removeprefix("val/"): value for key, value in values.items()}, step, {}]
    return content


def _found_again(content: Any, before: Path, now: Path) -> Any:
    """An entry whose file lies in the run directory, which may have been moved since."""
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        return content
    path = Path(content[0])
    return [str(now / path.relative_to(before)), *content[1:]] if path.is_relative_to(before) else content


def of_earlier(run: RunInfo) -> list[Entry]:
    """What is left of a run that now goes on at step `resumed_at`: what comes after that step will happen again."""
    if not (run.folder / FILE).is_file():
        return []
    _, _, entries = load(run.folder)
    done = run.resumed_at or 0
    metrics = [entry for entry in entries if entry.kind == "metrics" and entry.content[1] <= done]
    return metrics + [entry for entry in entries if entry.kind == "artifact" and Path(entry.content[0]).exists()]


def forget(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)


def kinds(entries: Sequence[Entry]) -> Counter[str]:
    return Counter(entry.kind for entry in entries)


def counts(numbers: Mapping[str, int]) -> str:
    """ "1 x run, 100 x metrics"."""
    return ", ".join(f"{count} x {kind}" for kind, count in numbers.items())


def command(folder: Path) -> str:
    return module_command("ssd.tracking.unsent", folder.absolute())


def send(folder: Path) -> str:
    """Sends what a run directory keeps; returns where to. What does not go through stays for the next time.

    Errors: UserError when the store does not take it, or when there is nothing.
    """
    run, settings, entries = load(folder)
    if settings.local and (reason := unwritable(database_file(settings.tracking_uri))):
        raise UserError(f"{settings.tracking_uri}: {reason}; {counts(kinds(entries))} still wait in {folder / FILE}")
    store = Store(settings, run, go_on=True)
    while entries:
        together = entries[: _leading(entries[:TOGETHER])]
        try:
            store.send(together[0].kind, [entry.content for entry in together])
        except TryAgainError as error:
            keep(run, settings, entries)
            raise UserError(f"{settings.tracking_uri} does not answer ({error}); "
                            f"{counts(kinds(entries))} still wait in {folder / FILE}") from error  # fmt: skip
        except Exception as error:
            log.warning("%s refused %s: %s", settings.tracking_uri, together[0].kind, first_line(error))
        del entries[: len(together)]
    forget(folder)
    return settings.tracking_uri


def _leading(entries: Sequence[Entry]) -> int:
    """How many entries at the front are of one kind."""
    return next((count for count, entry in enumerate(entries) if entry.kind != entries[0].kind), len(entries))


def main(folders: list[str]) -> Any:
    from ssd.tracking.mlflow import quieten

    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if importlib.util.find_spec("mlflow") is None:
        return "error: MLflow is not installed: pip install mlflow"
    quieten()
    if not folders:
        return "usage: python -m ssd.tracking.unsent RUN_DIRECTORY…"
    failed = 0
    for folder in map(Path, folders):
        try:
            log.info("%s: sent to %s", folder, send(folder))
        except UserError as error:
            log.error("error: %s", error)
            failed = error.exit_code
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
