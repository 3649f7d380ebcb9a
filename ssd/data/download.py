"""Fetching published archives: checked, resumed where a connection broke, unpacked without trust."""

import logging
import lzma
import os
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pooch
import requests

from ssd.data.progress import progress
from ssd.errors import UserError
from ssd.tracking.credentials import scrubbed, whole

log = logging.getLogger(__name__)
pooch.get_logger().setLevel("WARNING")  # progress is told here

TRIES = 6  # connections in a row that bring nothing new
PAUSE = 0.5  # seconds before the second try, doubled before each next one
TIMEOUT = (15, 60)  # seconds to connect, and without a byte
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
          RuntimeError, ValueError, struct.error, OverflowError, MemoryError)  # fmt: skip
CHUNK = 1 << 18
MOST_RATIO = 100  # images cannot be packed, XML to a twentieth
SMALL = 64_000_000  # bytes that any archive may unpack to
MAX_MEMBERS = 10_000_000


@dataclass(frozen=True)
class Archive:
    """A .tar or .zip to fetch from `url`.

    holds: a file or folder below the data set's root that shows it is unpacked already. strip: how many folders to take
    off the names inside. md5 of the whole file; None = only that it unpacks is checked.
    """

    name: str
    url: str
    holds: str
    md5: str | None = None
    strip: int = 0

    @classmethod
    def from_config(cls, name: str, node: Mapping[str, Any], mirror: str | None) -> "Archive":
        """mirror: base URL that replaces all of the URL but the file's name."""
        try:
            archive = cls(name, **node)
        except TypeError as error:
            raise UserError(f"dataset.archives.{name}: {error}") from error
        if mirror is None:
            return archive
        return cls(name, **{**node, "url": f"{mirror.rstrip('/')}/{archive.file}"})

    @property
    def file(self) -> str:
        return PurePosixPath(self.url).name


def fetch_all(archives: Sequence[Archive], root: Path) -> None:
    """Downloads and unpacks into `root` whatever archives are not there yet; UserError when one cannot be had."""
    for archive in archives:
        unpacking = root / f".{archive.file}.unpacking"  # there as long as only a part is unpacked
        if (root / archive.holds).exists() and not unpacking.exists():
            continue
        try:
            root.mkdir(parents=True, exist_ok=True)
            path = fetch(archive, root)
            unpacking.touch()
            unpack(path, root, archive.strip)
            if not (root / archive.holds).exists():
                raise UserError(f"{path}: unpacked, but it brought no {archive.holds}; is it the right archive?")
            unpacking.unlink()
            path.unlink()
        except OSError as error:
            raise UserError(f"{root}: cannot write: {error.strerror or error}") from error


def fetch(archive: Archive, folder: Path) -> Path:
    """The downloaded file in `folder`, its checksum right; what an earlier try left unfinished is gone on with."""
    known = None if archive.md5 is None else f"md5:{archive.md5}"
    if known is None:
        log.warning("%s: no checksum is known, only that it unpacks will be checked", archive.url)
    try:
        # pooch looks whether the file is there, checks it, and gives it its name only when it is right.
        return Path(
            pooch.retrieve(archive.url, known, archive.file, folder, downloader=_Download(archive.file, folder))
        )
    except ValueError as error:
        raise UserError(
            f"{archive.url}: its checksum is not md5 {archive.md5}, it came damaged or was replaced; "
            "try again, or name another source with dataset.mirror"
        ) from error


class _Download:
    """A downloader for pooch that keeps what came before a connection broke, and asks for the rest."""

    def __init__(self, name: str, folder: Path) -> None:
        self.part = folder / f".{name}.part"

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        failures = 0
        while True:
            before = _size(self.part)
            try:
                self._go_on(url)
                break
            except requests.HTTPError as error:
                reason = " ".join(scrubbed(str(error)).split())[:200]
                if error.response is not None and error.response.status_code < 500:
                    raise UserError(f"{reason}; dataset.mirror names another source") from error
            except requests.RequestException as error:
                reason = " ".join(scrubbed(str(error)).split())[:200] or type(error).__name__
            failures = 1 if _size(self.part) > before else failures + 1
            if failures == TRIES:
                raise UserError(
                    f"{url}: the download broke off {TRIES} times ({reason}); "
                    f"what came ({_size(self.part) / 1e6:.1f} MB) is kept, start again to go on"
                )
            log.info("%s: broke off after %.1f MB (%s), going on", self.part.name, _size(self.part) / 1e6, reason)
            time.sleep(PAUSE * 2 ** (failures - 1))
        os.replace(self.part, output_file)

    def _go_on(self, url: str) -> None:
        have = _size(self.part)
        # Without compression on the way, bytes of the file are what is counted.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(whole(url), headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # nothing behind what is here: whole, or too much of another file
                total = answer.headers.get("Content-Range", "").rpartition("/")[2]
                if total == str(have):
                    return
                self.part.unlink()
                raise requests.ConnectionError(f"the file is not {have} bytes long")
            answer.raise_for_status()
            answer.raw.enforce_content_length = (
                False  # the end of a broken connection is kept; what misses is seen below
            )
            resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            start = have if resumed else 0  # a server that knows no ranges sends all of it again
            rest = answer.headers.get("Content-Length")
            total_bytes = start + int(rest) if rest and rest.isdigit() else None
            with (
                open(self.part, "ab" if resumed else "wb") as file,
                progress(self.part.name, total_bytes, True) as done,
            ):
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    done(file.tell())
            if total_bytes is not None and _size(self.part) < total_bytes:
                raise requests.ConnectionError(f"{total_bytes - _size(self.part)} bytes are missing")


def unpack(path: Path, root: Path, strip: int) -> None:
    """Files of a .tar or .zip into `root`, their first `strip` folders taken off.

    UserError for a name that leads out of `root`, and for more than any dataset unpacks to; links and devices are
    left out.
    """
    room = max(SMALL, MOST_RATIO * path.stat().st_size)
    try:
        with progress(f"unpacking {path.name}", None) as done:
            for number, (name, file) in enumerate(_members(path), start=1):
                parts = PurePosixPath(name).parts
                if name.startswith(("/", "\\")) or ".." in parts or ":" in name or "\\" in name or "\0" in name:
                    raise UserError(
                        f"{path}: {name[:100]!r} would be written outside of {root}; nothing was taken from there"
                    )
                if parts[strip:]:
                    target = root.joinpath(*parts[strip:])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open(target, "wb") as out:
                        room -= _copy(file, out, room, path)
                if number > MAX_MEMBERS:
                    raise UserError(f"{path}: holds more than {MAX_MEMBERS} files, which no dataset has")
                done(number)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    problem = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return UserError(f"{path}: cannot be unpacked ({problem}); delete it to download it again")


def _copy(file: IO[bytes], out: IO[bytes], room: int, path: Path) -> int:
    """Returns how many bytes there were. Errors: UserError when these are more than `room`."""
    count = 0
    while part := _read(file, path):
        count += len(part)
        if count > room:
            raise UserError(
                f"{path}: unpacks to more than {MOST_RATIO} times its size, which no dataset does; what came so "
                "far lies beside it"
            )
        out.write(part)
    return count


def _read(file: IO[bytes], path: Path) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise _damaged(path, error) from error


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, open file) of every regular file of an archive. Errors: UserError or DAMAGE."""
    try:
        yield from _zipped(path) if zipfile.is_zipfile(path) else _tarred(path)
    except OSError as error:  # of reading: nothing is written in here
        raise _damaged(path, error) from error


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and (info.external_attr >> 16) & 0o170000 in (0, 0o100000):
                with archive.open(info) as file:
                    yield info.filename, file


def _tarred(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isreg():
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
