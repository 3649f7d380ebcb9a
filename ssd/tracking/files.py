"""What every run directory holds: metrics.csv, metrics.json and images/; and steps.csv for who wants it.

All of it can be read while the run goes on, and survives a kill: files are replaced whole, rows appended whole.
"""

import io
import re
from pathlib import Path

import numpy as np

from ssd.data.images import encode
from ssd.runs.results import FILE, Results, images_folder, read_table
from ssd.tracking.events import RunInfo, Values, Writer
from ssd.utils.atomic_files import write_atomically, write_json
from ssd.utils.csv_cells import NUMBER, CsvWriter
from ssd.utils.errors import UserError

EPOCHS = "metrics.csv"


class RunFiles(Writer):
    """The contract of the run directory; the runner adds it to every run.

    metrics.csv   one row per epoch
    metrics.json  the numbers that the run is known by so far, and what they stand for, see ssd.runs.results
    images/       the latest image of every tag
    """

    def start(self, run: RunInfo) -> None:
        self.folder, self.job = run.folder, run.job
        self.table = Table(run.folder / EPOCHS, key="epoch")
        if run.resumed_at is not None:
            # Whole epochs only: one that time ran out in has a row, too, and is resumed.
            self.table.cut(run.resumed_at // run.steps)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self.table.add({"epoch": epoch, "step": step, **values})

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        path = image_path(self.folder, tag)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, encode(image, ".png"))

    def results(self, results: Results) -> None:
        write_json(self.folder / FILE, results.to_json(self.job))

    def close(self, results: Results) -> None:
        self.results(results)

    def where(self) -> str | None:
        return str(self.folder)


class StepsCsv(Writer):
    """One row per log interval, in a file of the run directory."""

    def __init__(self, file: str) -> None:
        self.file = file

    def start(self, run: RunInfo) -> None:
        self.table = Table(run.folder / self.file, key="step")
        if run.resumed_at is not None:
            self.table.cut(run.resumed_at)

    def step(self, epoch: int, step: int, values: Values) -> None:
        self.table.add({"epoch": epoch, "step": step, **values})

    def where(self) -> str | None:
        """The file of the epochs where the run had fewer steps than a log interval."""
        files = (self.table.path, self.table.path.parent / EPOCHS)
        return next((str(file) for file in files if file.is_file()), None)


class Table:
    """A CSV file that grows by rows, the column `key` rising.

    A row is appended. Only when it brings new columns is the file written anew, the old rows empty in those columns.
    In a file that is there already, the rows from the first new `key` on are replaced.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.columns: list[str] = []

    def add(self, row: Values) -> None:
        if set(row) <= set(self.columns):
            with open(self.path, "ab") as file:
                file.write(self._lines([_cells(row)]))
            return
        columns, rows = self._read()
        self.columns = [*columns, *(name for name in row if name not in columns)]
        kept = [old for old in rows if float(old[self.key]) < row[self.key]]
        head = {name: name for name in self.columns}
        write_atomically(self.path, self._lines([head, *kept, _cells(row)]))

    def cut(self, last: int) -> None:
        """Forgets the rows whose `key` is beyond `last`; a new file stays none."""
        self.columns, rows = self._read()
        if self.columns:
            kept = [row for row in rows if float(row[self.key]) <= last]
            write_atomically(self.path, self._lines([{name: name for name in self.columns}, *kept]))

    def _lines(self, rows: list[dict[str, str]]) -> bytes:
        text = io.StringIO(newline="")
        CsvWriter(text).writerows([row.get(name, "") for name in self.columns] for row in rows)
        return text.getvalue().encode()

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and complete rows of the file; the last row of a killed run may be half a row."""
        if not self.path.is_file():
            return [], []
        columns, rows = read_table(self.path)
        if columns and not all(NUMBER.fullmatch(row.get(self.key, "")) for row in rows):
            raise UserError(f"{self.path}: damaged, {self.key!r} is no number in every row; move the file away")
        return columns, rows


def image_path(folder: Path, tag: str) -> Path:
    """Where the run directory has the latest image of a tag: "val/sample_1" -> images/val_sample_1.png."""
    name = re.sub(r"[^\w.-]+", "_", tag).strip("._") or "image"
    return images_folder(folder) / f"{name}.png"


def _cells(row: Values) -> dict[str, str]:
    """Whole numbers as they are, others with six digits."""
    whole = (int, np.integer)
    return {name: str(value) if isinstance(value, whole) else f"{float(value):.6g}" for name, value in row.items()}
