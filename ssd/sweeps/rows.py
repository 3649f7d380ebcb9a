"""Rows of the leaderboard."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.runs.results import (
    HEADLINE,
    Conditions,
    measured_of,
    unlike,
)
from ssd.sweeps.outcome import FINISHED, Outcome


@dataclass(frozen=True)
class Row:
    """A job. overrides: those it does not share with all the others, exactly; speed: images/s in training.

    rank: among the finished jobs that were measured alike, from 1 on; None for the others. group: a letter for those,
    empty where all were measured alike.
    """

    folder: Path
    outcome: Outcome
    overrides: str
    metrics: dict[str, Any]
    speed: float | None
    rank: int | None = None
    group: str = ""

    @property
    def name(self) -> str:
        """The overrides for a reader: numbers with four digits, no quotes around them."""
        overrides = re.sub(r"\d+\.\d{4,}(e-?\d+)?", lambda match: f"{float(match[0]):.4g}", self.overrides)
        return re.sub(r"'(\d+)'", r"\1", overrides)

    @property
    def value(self) -> float:
        """What it is ranked by; -inf for a job without."""
        value = self.outcome.value if self.outcome.value is not None else self.metrics.get(HEADLINE)
        return float("-inf") if value is None else float(value)

    @property
    def split(self) -> str:
        """Whose images its numbers are of; empty for a job that measures no split."""
        return str(self.metrics.get("split", "")) if HEADLINE in self.metrics else ""

    @property
    def measured(self) -> Conditions | None:
        return measured_of(self.metrics).get(self.split)


def warning(rows: Sequence[Row]) -> str:
    """What must be known before the numbers are compared: why there are groups; empty where there are none."""
    different = unlike(row.measured for row in rows if finished(row) and row.value > float("-inf"))
    return f"ranked within groups only, whose numbers do not compare: {different}" if different else ""


def finished(row: Row) -> bool:
    return row.outcome.state == FINISHED


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} M"
