"""Files and folders that exist complete or not at all, whatever happens while they are written."""

import codecs
import contextlib
import errno
import fcntl
import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ssd.utils.errors import UserError

LOCK = ".lock"
MAX_DEPTH = 64  # of JSON, far more than any file of a run has
MAX_CONTAINERS = 2_000_000  # of JSON; an empty one takes twenty times the memory that it has bytes
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # of Linux
NO_BOOT = "0" * 8
DRAFT = re.compile(r"\..*\.([0-9a-f]{8})[0-9a-f]{12}\.tmp", re.DOTALL)
DRAFT_NAME = 200  # bytes of the target's name in a draft's, which has more: names end at 255
SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_swept: set[str] = set()  # folders that this process has looked through


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A file open for reading, unbuffered. Every reader of files from elsewhere opens them here.

    A pipe can be waited for forever and a device read without end, so both are refused, and before they are opened:
    opening alone may wait, or change what a device does. Errors: UserError for what is no regular file; OSError.
    """
    _check_regular(path, os.stat(path).st_mode)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # replaced meanwhile: do not wait
    try:
        _check_regular(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = SPECIAL.get(stat.S_IFMT(mode), "a special file")
        raise UserError(f"{os.fspath(path)}: is {kind}, expected a regular file")


def read_limited(path: str | os.PathLike[str], most: int, what: str) -> bytes:
    """The contents of a regular file. what: the kind of file, for the message ("a list of images").

    Errors: UserError when it is larger than `most` bytes (before it is read), or no regular file; OSError.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UserError(f"{os.fspath(path)}: more than {most / 1e6:g} MB are too many for {what}")
        return file.read()


def read_json(path: str | os.PathLike[str], most: int, what: str) -> Any:
    """A file of JSON, as dicts, lists, texts, numbers, truth values and None. most, what: as of read_limited.

    Errors: FileNotFoundError; UserError in one line for every other file that cannot be read, is damaged, or is larger
    or deeper than any that a run writes.
    """
    try:
        return parse_json(read_limited(path, most, what))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{os.fspath(path)}: damaged, not {what} ({str(error)[:200]})") from error


def parse_json(data: bytes) -> Any:
    """JSON of somebody else. Errors: ValueError, RecursionError for what is none, or deeper or of more parts than any
    that a run writes."""
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise ValueError(f"more than {MAX_CONTAINERS} lists and objects")
    content = json.loads(data.decode())
    _check_depth(content)
    return content


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        groups = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [inner for group in groups for inner in group]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yields an empty file beside `target` to write to; it takes the name of `target` when the block ends well."""
    with _held_draft(target, _new_file) as draft:
        try:
            yield draft
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def durable_write(target: Path) -> Iterator[Path]:
    """atomic_write that has reached the disk, and so has its name, when the block is left: a power cut spares it."""
    with atomic_write(target) as draft:
        yield draft
        _sync(draft)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old file or the new one, never a part of it."""
    with atomic_write(path) as draft:
        draft.write_bytes(data)


def json_bytes(content: Any, compact: bool = False) -> bytes:
    """What is written of dicts, lists, texts, numbers, truth values and None, with a line end. Numbers that are none
    become null, since JSON has no others. compact: without line breaks, of what is read by programs alone."""
    indent = None if compact else 2
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(content), indent=indent, allow_nan=False)
    return f"{text}\n".encode()


def write_json(path: Path, content: Any, compact: bool = False) -> None:
    """A file as json_bytes has it, atomically; read_json reads it."""
    write_atomically(path, json_bytes(content, compact))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@contextmanager
def atomic_dir(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target` that takes its name when the block ends well, and vanishes otherwise.

    When another process has made `target` in the meantime, theirs stays: the name must stand for the contents.
    """
    with draft_folder(target) as draft:
        yield draft
        try:
            os.rename(draft, target)
        except OSError:
            if not target.is_dir():
                raise


@contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which vanishes with the block. Errors: UserError where none can be."""
    with contextlib.ExitStack() as stack:
        try:
            draft = stack.enter_context(_held_draft(target, _new_folder))
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror}") from error
        stack.callback(shutil.rmtree, draft, ignore_errors=True)  # before its lock goes
        yield draft


def require_space(folder: Path, needed: int, what: str, advice: str) -> None:
    """Errors: UserError when fewer than `needed` bytes are free where a folder is, or is to be. what: needs them."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder}: {what} need at least {needed / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB free; {advice}"
        )


def _new_file(path: Path) -> None:
    path.touch(exist_ok=False)


def _new_folder(path: Path) -> None:
    path.mkdir(parents=True)


@contextmanager
def _held_draft(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yields a new file or folder, beside `target`, that sweep() leaves alone as long as this process lives.

    The lock says so: it ends with the process, however that ends. Errors: OSError.
    """
    if (parent := os.path.abspath(target.parent)) not in _swept:  # once is enough: what dies later is for the next
        _swept.add(parent)
        sweep(target.parent)
    name = os.fsdecode(os.fsencode(target.name)[:DRAFT_NAME])
    while True:
        draft = target.with_name(f".{name}.{_boot() or NO_BOOT}{uuid.uuid4().hex[:12]}.tmp")
        make(draft)
        try:
            handle = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a sweep came before the lock
            continue
        try:
            with contextlib.suppress(OSError):  # a file system without locks; nobody sweeps there either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(handle, draft):  # else the same
                yield draft
                return
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Removes what atomic_write and atomic_dir left in a folder when their process was killed; missing is empty.

    A draft bears the name of the boot that it was begun in and is locked by its process. Only those of this boot are
    looked at: the locks of another machine that shares the folder may not be seen here.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = DRAFT.fullmatch(entry.name)
            if found and found[1] == _boot():
                with contextlib.suppress(OSError):
                    _sweep(entry)


def _sweep(entry: "os.DirEntry[str]") -> None:
    if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
        return
    handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its process lives, or nobody can know
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    finally:
        os.close(handle)


@lru_cache(1)
def _boot() -> str | None:
    """Eight hexadecimal digits that are this boot's of this machine; None where the system has no such thing."""
    try:
        return BOOT_ID.read_text().replace("-", "")[:8]
    except OSError:
        return None


def try_lock(lock: Path) -> int | None:
    """Locks a file, which is made if it is not there, for as long as the returned handle is open, and no longer than
    the process lasts; None when another holds it. Errors: OSError."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle


@contextmanager
def try_file_lock(lock: Path, what: str, advice: str = "another process is at work on it") -> Iterator[None]:
    """Keeps other processes from holding the same file. Errors: UserError of `what` and the advice when one does."""
    try:
        handle = try_lock(lock)
    except OSError as error:
        raise UserError(f"cannot write {lock}: {error.strerror}") from error
    if handle is None:
        raise UserError(f"{what}: {advice}")
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def file_lock(lock: Path) -> Iterator[None]:
    """One process at a time is inside; others wait. Makes the file and its folder where they are not there."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def unwritable(path: Path) -> str | None:
    """Why this process cannot write a file, which may not be there yet, nor its folders; None if it can."""
    place = next(part for part in (path, *path.absolute().parents) if part.exists())
    if place.absolute() != path.absolute() and not place.is_dir():
        return f"{place} is not a directory"
    needed = os.W_OK | os.X_OK if place.is_dir() else os.W_OK
    return None if os.access(place, needed) else f"no permission to write to {place}"


def is_locked(lock: Path) -> bool:
    if not lock.is_file():
        return False
    try:
        with try_file_lock(lock, ""):
            return False
    except UserError:
        return True


@contextmanager
def exclusive_dir(folder: Path) -> Iterator[None]:
    """Makes `folder` if it is not there, and keeps other processes out of it; waits for one that is inside.

    The lock, a file in it, goes with the process, however that ends. What else lies in the folder stays.
    """
    lock = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            # Whoever was inside has just renamed or removed the folder; another may have made it anew meanwhile.
            vanished = isinstance(error, FileNotFoundError) or (
                isinstance(error, FileExistsError) and not folder.exists()
            )
            if vanished and folder.parent.is_dir():
                continue
            raise UserError(f"cannot write {folder}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(handle, lock):
                yield
                return
        finally:
            os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    """Whether the open file is the one that lies at the path now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def publish(draft: Path, target: Path) -> None:
    """Gives a finished folder, which this process is alone in, its name."""
    (draft / LOCK).unlink()
    os.rename(draft, target)


def read_text(path: Path, most: int, what: str) -> str:
    """The text of a file: UTF-8, or UTF-16 with its byte order mark.

    UserError when it is unreadable, binary, in another encoding or larger than `most` bytes.
    what: the kind of file, for the message ("a list of images").
    """
    try:
        data = read_limited(path, most, what)
    except OSError as error:
        raise UserError(f"{path}: cannot read {what}: {error.strerror}") from error
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise UserError(f"{path}: not {what} (byte {error.start} is no {name} text); save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{path}: not {what} (it holds binary data)")
    return text
