"""Fetching published archives: checked, resumed where a connection broke, unpacked without trust."""

import bz2
import gzip
import logging
import lzma
import os
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import pooch
import requests

from ssd.config.credentials import scrubbed, whole
from ssd.utils.atomic_files import require_space
from ssd.utils.errors import UserError
from ssd.utils.progress import progress

log = logging.getLogger(__name__)
pooch.get_logger().setLevel("WARNING")  # progress is logged here

TRIES = 6  # connections in a row that bring nothing new
PAUSE = 0.5  # seconds before the second try, doubled before each next one
TIMEOUT = (15, 60)  # seconds to connect, and without a byte
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
          RuntimeError, ValueError, struct.error, OverflowError, MemoryError)  # fmt: skip
CHUNK = 1 << 18
MOST_RATIO = 100  # images cannot be packed, XML to a twentieth
MAX_DOWNLOAD = 1_000_000_000_000  # bytes of an archive whose server does not say how many it has
SMALL = 64_000_000  # bytes that any archive may unpack to
MAX_MEMBERS = 10_000_000
MAX_HEADER = 1_000_000  # bytes of a .tar's headers of one member (a long name, attributes), which are read at once
HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
           tarfile.SOLARIS_XHDTYPE)  # fmt: skip
PACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x5d\0\0": lzma.open,
}
ZIP_ENTRY = 30  # bytes in front of each member of a .zip, at least
WEB = ("http", "https")
# What trying again does not mend; requests opens http and https alone, wherever a server redirects to.
HOPELESS = (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema, requests.exceptions.InvalidURL,
            requests.TooManyRedirects)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A .tar or .zip to fetch from `url`.

    holds: a file or folder below the dataset's root that shows it is unpacked already. strip: how many folders to take
    off the names inside. sha256 or md5 of the whole file; without them only that it unpacks is checked.
    """

    name: str
    url: str
    holds: str
    md5: str | None = None
    sha256: str | None = None
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
    def checksum(self) -> str | None:
        """As pooch writes it."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}" if self.md5 else None

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
    """The downloaded file in `folder`, its checksum right; what an earlier try left unfinished is continued."""
    known = archive.checksum
    if urlsplit(archive.url).scheme not in WEB:
        raise UserError(f"dataset.archives.{archive.name}.url={archive.url}: expected an address of http or https")
    try:
        # pooch looks whether the file is there, checks it, and gives it its name only when it is right.
        path = Path(pooch.retrieve(archive.url, known, archive.file, folder, downloader=Download(archive.file, folder)))
    except ValueError as error:
        raise UserError(
            f"{archive.url}: its checksum is not {(known or '').replace(':', ' ')}, it came damaged or was replaced; "
            "try again, or name another source with dataset.mirror"
        ) from error
    if known is None:
        log.warning("%s: nobody has said what its checksum must be; that of the file that came is "
                    "dataset.archives.%s.sha256=%s", archive.url, archive.name, pooch.file_hash(str(path)))  # fmt: skip
    return path


class Download:
    """A downloader for pooch that keeps what came before a connection broke, and asks for the rest."""

    def __init__(self, name: str, folder: Path, mirror: str = "dataset.mirror", most: int | None = None) -> None:
        """mirror: the key that names another source. most: bytes; None = MAX_DOWNLOAD."""
        self.part = folder / f".{name}.part"
        self._mirror, self._most = mirror, MAX_DOWNLOAD if most is None else most

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        failures = 0
        while True:
            before = _size(self.part)
            try:
                self._go_on(url)
                break
            except HOPELESS as error:
                reason = " ".join(scrubbed(str(error)).split())[:200]
                raise UserError(
                    f"{url}: cannot be downloaded ({reason}); expected an address of http or https"
                ) from error
            except requests.HTTPError as error:
                reason = " ".join(scrubbed(str(error)).split())[:200]
                if error.response is not None and error.response.status_code < 500:
                    raise UserError(f"{reason}; {self._mirror} names another source") from error
            except requests.RequestException as error:
                reason = " ".join(scrubbed(str(error)).split())[:200] or type(error).__name__
            failures = 1 if _size(self.part) > before else failures + 1
            if failures == TRIES:
                raise UserError(
                    f"{url}: the download broke off {TRIES} times ({reason}); "
                    f"what came ({_size(self.part) / 1e6:.1f} MB) is kept, start again to go on"
                )
            log.info("%s: broke off after %.1f MB (%s), continuing", self.part.name, _size(self.part) / 1e6, reason)
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
            plain = answer.headers.get("Content-Encoding", "identity") == "identity"
            total_bytes = start + int(rest) if plain and rest and rest.isdigit() else None
            require_space(self.part.parent, (total_bytes or 0) - start, f"the rest of {url}", "make room there")
            with (
                open(self.part, "ab" if resumed else "wb") as file,
                progress(self.part.name, total_bytes, True) as done,
            ):
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    if file.tell() > (most := min(total_bytes or self._most, self._most)):
                        self.part.unlink()
                        raise UserError(f"{url}: sends more than {most} bytes, expected no more")
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
            for number, (name, file) in enumerate(_members(path, 2 * room), start=1):
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


def _bomb(path: Path) -> UserError:
    return UserError(
        f"{path}: unpacks to more than {MOST_RATIO} times its size, which no dataset does; what came so far lies "
        "beside it"
    )


def _copy(file: IO[bytes], out: IO[bytes], room: int, path: Path) -> int:
    """Returns how many bytes there were. Errors: UserError when these are more than `room`."""
    count = 0
    while part := _read(file, path):
        count += len(part)
        if count > room:
            raise _bomb(path)
        out.write(part)
    return count


def _read(file: IO[bytes], path: Path) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise _damaged(path, error) from error


def _members(path: Path, most: int) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, open file) of every regular file of an archive. most: bytes of a .tar, headers and what is left out
    counted. Errors: UserError or DAMAGE."""
    try:
        yield from _zipped(path) if zipfile.is_zipfile(path) else _tarred(path, most)
    except OSError as error:  # of reading: nothing is written in here
        raise _damaged(path, error) from error


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        end = 0
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < end:  # as in bombs; newer versions of Python look themselves
                raise zipfile.BadZipFile("its members overlap")
            end = info.header_offset + ZIP_ENTRY + info.compress_size
        for info in archive.infolist():
            if not info.is_dir() and (info.external_attr >> 16) & 0o170000 in (0, 0o100000):
                with archive.open(info) as file:
                    yield info.filename, file


def _tarred(path: Path, most: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Read as a stream, each byte once: what is skipped counts as what is read does."""
    with open(path, "rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), lambda path: path.open("rb"))
    with opener(path) as plain:
        stream: Any = _Bounded(plain, most, path)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member, bufsize=CHUNK) as tar:
            for member in tar:
                if member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    yield member.name, content
                tar.members = []  # type: ignore[attr-defined] # else it keeps all of them


class _Bounded:
    """The bytes of an archive once decompressed. Errors: UserError for more than `most`."""

    def __init__(self, file: IO[bytes], most: int, path: Path) -> None:
        self._file, self._room, self._path = file, most, path

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._room -= len(data)
        if self._room < 0:
            raise _bomb(self._path)
        return data


class _Member(tarfile.TarInfo):
    """Errors: ReadError before headers are read that no archive of images has, and that fill the memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("it holds sparse files")
        if self.type in HEADERS and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
