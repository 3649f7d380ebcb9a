"""Files and folders that exist complete or not at all, whatever happens while they are written."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssd.errors import UserError


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yields a path beside `target` to write to; it takes the name of `target` when the block ends well."""
    draft = _draft(target)
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old file or the new one, never a part of it."""
    with whole_file(path) as draft:
        draft.write_bytes(data)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target` that takes its name when the block ends well, and vanishes otherwise.

    When another process has made `target` in the meantime, theirs stays: the name must stand for the contents.
    """
    draft = _draft(target)
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from error
    try:
        yield draft
        try:
            os.rename(draft, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
