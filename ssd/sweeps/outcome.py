"""job.json: what became of a job of a sweep."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ssd.runs.results import is_number
from ssd.utils.atomic_files import read_json, write_json
from ssd.utils.errors import UserError

FILE = "job.json"
LONGEST = 300  # characters of a reason
# As it is while the job runs. On disk after the sweep is over it means that the whole sweep was killed.
RUNNING = "running"
FINISHED, PRUNED, FAILED, INTERRUPTED = "finished", "pruned", "failed", "interrupted"
STATES = (RUNNING, FINISHED, PRUNED, FAILED, INTERRUPTED)
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """number: of the job in its sweep; overrides: its command line; value: what is optimized, the more the better."""

    number: int
    overrides: Sequence[str]
    state: str = RUNNING
    reason: str = ""  # one line, for all states but finished
    value: float | None = None
    seconds: float | None = None
    parameters: int | None = None  # of the network that was trained

    def ended(self, state: str, reason: str = "") -> "Outcome":
        return replace(self, state=state, reason=" ".join(reason.split())[:LONGEST])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, asdict(self))


def read(folder: Path) -> Outcome:
    """The outcome in a job's folder. Errors: UserError for a file that is none."""
    try:
        return _checked(Outcome(**read_json(folder / FILE, MAX_BYTES, "the outcome of a job")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / FILE}: cannot be read ({error})") from error


def _checked(outcome: Outcome) -> Outcome:
    """Errors: TypeError for values of another kind."""
    overrides, measured = outcome.overrides, (outcome.value, outcome.seconds, outcome.parameters)
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in (*overrides, outcome.reason)):
        raise TypeError("overrides or reason are no text")
    if outcome.state not in STATES:
        raise TypeError("there is no such state")
    numbers = [outcome.number, *(value for value in measured if value is not None)]
    if not all(is_number(value) and math.isfinite(value) for value in numbers):
        raise TypeError("number, value, seconds or parameters are no numbers")
    return outcome


def read_all(sweep: Path) -> dict[Path, Outcome]:
    """The jobs of a sweep by their folder, in the order of their numbers."""
    found = {file.parent: read(file.parent) for file in sweep.glob(f"*/{FILE}")}
    return dict(sorted(found.items(), key=lambda item: item[1].number))


def close_lost(sweep: Path, number: int, overrides: Sequence[str], reason: str) -> None:
    """Marks job `number` as failed if nothing else was said: its process vanished, or was never started."""
    for folder, outcome in read_all(sweep).items():
        if outcome.number == number:
            if outcome.state == RUNNING:
                outcome.ended(FAILED, reason).write(folder)
            return
    Outcome(number, list(overrides)).ended(FAILED, reason).write(sweep / f"{number}_lost")
