"""What a tracking server did not take, kept in the run directory until it does.

    python -m ssd.tracking.unsent outputs/train/small_128_shapes/2026-01-31_12-00-00.000000 --to http://host:5000

sends it, in the order in which it happened, and removes the file once all of it is sent. A run directory may be
somebody else's: what its file contains is data. It goes to the store that the user names with --to or
MLFLOW_TRACKING_URI, without these at most to a database below the working directory, and files are taken from the run
directory only.
"""

import argparse
import importlib.util
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ssd.config.commands import module_command
from ssd.config.credentials import bare, guard, take
from ssd.config.stores import SQLITE, is_below_here, is_followed, is_typed
from ssd.config.targets import confined
from ssd.tracking.events import RunInfo, Sweep
from ssd.tracking.mlflow import configure_mlflow
from ssd.tracking.mlflow.outbox import BATCH, Entry, TryAgainError, first_line
from ssd.tracking.mlflow.store import Settings, Store, address, database_file, database_uri
from ssd.utils.atomic_files import read_json, unwritable, write_atomically
from ssd.utils.errors import UserError, first_few

log = logging.getLogger(__name__)

FILE = "mlflow-unsent.json"
MOST = 10**300  # of any number
MAX_BYTES = 512_000_000  # of FILE


def keep(run: RunInfo, settings: Settings, entries: Sequence[Entry]) -> Path:
    """Writes the entries, and all that is needed to send them, into the run directory."""
    content = {
        "settings": asdict(settings),
        "run": asdict(replace(run, folder=run.folder.resolve())),  # as entries name files
        "entries": [[entry.kind, entry.content] for entry in entries],
    }
    path = run.folder / FILE
    write_atomically(path, json.dumps(content, default=str).encode())
    return path


def load(folder: Path) -> tuple[RunInfo, Settings, list[Entry]]:
    """What keep() wrote, but for files outside of the run directory. Errors: UserError when there is nothing, or it is
    damaged."""
    path = folder / FILE
    try:
        content = read_json(path, MAX_BYTES, "what waits to be sent")
        before, now = Path(content["run"]["folder"]).resolve(), folder.resolve()
        entries = [
            Entry(str(kind), _found_again(_current(str(kind), about), before, now))
            for kind, about in content["entries"]
        ]
        for entry in entries:
            CONTENTS[entry.kind](entry.content)
        run, settings = _run(dict(content["run"]), before, now), Settings(**content["settings"])
        _check_settings(settings)
        kept = [entry for entry in entries if _is_inside(entry, now)]
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist, so nothing of this run waits to be sent") from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
    if outside := [str(entry.content[0]) for entry in entries if entry not in kept]:
        log.warning("%s: left out, because outside of the run directory: %s", path, first_few(outside, 1))
    return run, settings, kept


def _run(values: dict[str, Any], before: Path, now: Path) -> RunInfo:
    """The run as it is in its directory `now`. Errors: ValueError, TypeError, KeyError."""
    if values["sweep"]:
        sweep = dict(values["sweep"])
        above = len(before.relative_to(sweep["folder"]).parts)
        if not 0 < above <= len(now.parents):
            raise ValueError("a run outside of its sweep")
        values["sweep"] = Sweep(**dict(sweep, folder=now.parents[above - 1]))
        _check_types((sweep["number"], int), *((argument, str) for argument in [*sweep["own"], *sweep["swept"]]))
    run = RunInfo(**dict(values, folder=now))
    texts = [run.name, run.job, *run.classes, *run.facts.keys(), *run.facts.values(), *run.config.keys()]
    _check_types((run.config, dict), (run.classes, list), (run.resumed_at or 0, int), *((text, str) for text in texts))
    return run


def _check_settings(settings: Settings) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    texts = (settings.tracking_uri, settings.artifacts, settings.experiment, settings.register or "")
    _check_types(*((text, str) for text in texts))
    if not all(text.isprintable() for text in texts):
        raise ValueError("no address of a store")
    try:
        address(settings.tracking_uri)
    except SQLAlchemyError as error:
        raise ValueError(f"no address of a database ({error})") from error


def _check_types(*pairs: tuple[Any, Any]) -> None:
    for value, kind in pairs:
        if not isinstance(value, kind):
            raise TypeError(f"{repr(value)[:40]} is of the wrong kind")


def _check_nothing(content: Any) -> None:
    if content is not None:
        raise ValueError("a run has no content of its own")


def _check_numbers(values: Any, *whole: Any) -> None:
    _check_types((values, dict), *((name, str) for name in values), *((number, int) for number in whole))
    _check_types(*((value, (int, float)) for value in values.values()))
    if any(abs(number) > MOST for number in (*values.values(), *whole)):
        raise ValueError("a number that is none of a run")


def _check_metrics(content: Any) -> None:
    values, step, moment = content
    _check_numbers(values, step, moment)


def _check_artifact(content: Any) -> None:
    file, folder = content
    _check_types((file, str), (folder, str))
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise ValueError(f"{folder[:100]} is no folder of a run")


def _check_end(content: Any) -> None:
    first, values, step, tags = content
    _check_numbers(values, step)
    _check_types((first, str), (tags, dict), *((text, str) for pair in tags.items() for text in pair))


# What the entries of each kind hold. Errors: ValueError, TypeError.
CONTENTS: dict[str, Callable[[Any], None]] = {
    "run": _check_nothing,
    "parameters": _check_nothing,
    "metrics": _check_metrics,
    "artifact": _check_artifact,
    "model": _check_end,
    "status": _check_end,
}


def _is_inside(entry: Entry, folder: Path) -> bool:
    """Whether the file of an entry, or all of a directory, lies in `folder` when symbolic links are followed; of a
    model that which lies beside it is read, too."""
    if entry.kind not in ("artifact", "model"):
        return True
    path = Path(entry.content[0])
    if not path.resolve().is_relative_to(folder):
        return False
    read = path.parent.glob("*") if entry.kind == "model" else path.rglob("*")
    return all(file.resolve().is_relative_to(folder) for file in read if file.is_symlink())


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


def pending_entries(run: RunInfo) -> list[Entry]:
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


def command(folder: Path, tracking_uri: str) -> str:
    return module_command("ssd.tracking.unsent", folder.absolute(), "--to", address(tracking_uri))


def send(folder: Path, to: str | None = None) -> str:
    """Sends what a run directory keeps to the store `to`, or to that which the run was started with, if the user names
    it, see ssd.config.stores; returns where to. What does not go through stays for the next time.

    Errors: UserError when the store does not take it, or is none to send to, or when there is nothing.
    """
    run, settings, entries = load(folder)
    settings = replace(settings, tracking_uri=_store(folder, settings, to))
    if settings.local and (reason := unwritable(database_file(settings.tracking_uri))):
        raise UserError(f"{settings.tracking_uri}: {reason}; {counts(kinds(entries))} still wait in {folder / FILE}")
    store = Store(settings, run, go_on=True)
    while entries:
        together = entries[: _leading(entries[:BATCH])]
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


def _store(folder: Path, settings: Settings, to: str | None) -> str:
    """Where to send. Errors: UserError for a store that only the file names."""
    if to is not None and "://" not in to:
        raise UserError(f"--to {to}: expected the address of a store, sqlite:///path/mlflow.db or http://server:5000")
    there = address(bare(settings.tracking_uri) if to is None else take(to))
    followed = is_followed(there, folder) and (is_typed(there) or is_below_here(Path(settings.artifacts)))
    if to is None and not followed:
        raise UserError(
            f"{folder / FILE}: only that file names the store {there}; if it is yours, send it with: "
            f"{command(folder, there)}"
        )
    return database_uri(Path(there.removeprefix(SQLITE)).resolve()) if there.startswith(SQLITE) else there


def _leading(entries: Sequence[Entry]) -> int:
    """How many entries at the front are of one kind."""
    return next((count for count, entry in enumerate(entries) if entry.kind != entries[0].kind), len(entries))


def main(arguments: list[str]) -> Any:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    guard()
    parser = argparse.ArgumentParser(prog="python -m ssd.tracking.unsent", description="Sends what waits in runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIRECTORY")
    parser.add_argument("--to", help="address of the store, such as http://host:5000; without it that of the runs")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("mlflow") is None:
        return "error: MLflow is not installed: pip install mlflow"
    configure_mlflow()
    failed = 0
    to = None if given.to is None else take(given.to)
    with confined([] if to is None else [f"logger.mlflow.tracking_uri={to}"]):
        for folder in given.runs:
            try:
                log.info("%s: sent to %s", folder, address(send(folder, to)))
            except (UserError, OSError) as error:
                log.error("error: %s", " ".join(str(error).split()))
                failed = UserError.exit_code
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
