"""The cache of published weights: fetched once, verified before every use, shared by processes.

    SSD_CACHE=/mnt/cache    where it is; by default ssd/ in the user's cache directory
    <cache>/weights/<source>/<name>/    the file under its published name, and checksums.json

A file that a user puts there by hand, or the archive that holds it, is as good as one that was fetched.
"""

import contextlib
import hashlib
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from ssd.config.weights import Fetching, Weights
from ssd.utils.atomic_files import atomic_write, file_lock, open_regular, read_json, write_json
from ssd.utils.errors import UserError

CACHE = "SSD_CACHE"  # environment variable: the directory
GLUON_REPO = "MXNET_GLUON_REPO"  # environment variable of MXNet's: a mirror of the files of gluon's model zoo
GLUON = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"  # mxnet/gluon/model_zoo/model_store.py
CHECKSUMS, LOCK = "checksums.json", ".lock"
KINDS = ("sha1", "sha256")
MAX_BYTES = 2_000_000_000  # of a file or archive whose size is not published, packed and unpacked
MAX_MEMBERS = 10_000
MAX_CHECKSUMS = 1_000_000
CHUNK = 1 << 20
SHOWN = 5  # names in a message
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """SSD_CACHE, or ssd/ in the user's cache directory. Errors: UserError where nobody knows that."""
    if given := os.environ.get(CACHE):
        return Path(given).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "ssd"
    try:
        return Path.home() / ".cache" / "ssd"
    except RuntimeError as error:
        raise UserError(f"the user has no home directory; {CACHE}=DIRECTORY names a place for weights") from error


def place_of(entry: Weights) -> Path:
    """The directory of its files in the cache."""
    return cache_folder() / "weights" / entry.name


def find(entry: Weights) -> Path | None:
    """Its file in the cache, not verified; None where it is not there."""
    return next(iter(_like(place_of(entry), entry.member or entry.download)), None)


def _like(folder: Path, pattern: str) -> list[Path]:
    """The files of an entry that match a pattern: not those of the cache itself."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [
        folder / name
        for name in sorted(names)
        if fnmatchcase(name, pattern) and SAFE.fullmatch(name) and name != CHECKSUMS
    ]


def fetch(entry: Weights, how: Fetching) -> Path:
    """Its file, verified; fetched where it is not in the cache yet. The graph of a detector is next to it.

    Errors: UserError in one line, which names the file to put and where, when it cannot be had.
    """
    folder = place_of(entry)
    if (file := find(entry)) is not None:
        return _verified(entry, file)
    try:
        with file_lock(folder / LOCK):  # another process may be at it
            file = find(entry)
            return _obtain(entry, how, folder) if file is None else _verified(entry, file)
    except OSError as error:
        _tidy(entry, folder)
        raise UserError(
            f"weights {entry.name}: cannot write {folder} ({error.strerror or error}); {CACHE}=DIRECTORY names another "
            "place"
        ) from error


def _verified(entry: Weights, file: Path) -> Path:
    for graph in [] if entry.graph is None else _like(file.parent, entry.graph):
        _verify(entry, graph, graph.name, graph=True)
    _verify(entry, file, file.name)
    return file


def _obtain(entry: Weights, how: Fetching, folder: Path) -> Path:
    """Errors: UserError; OSError of the cache."""
    if entry.member is not None and (given := folder / entry.download).is_file():
        return _install(entry, given, folder)
    if how.offline:
        raise UserError(f"weights {entry.name}: not in the cache, and init.offline=true; {_by_hand(entry, folder)}")
    if not entry.url:
        raise UserError(f"weights {entry.name}: published for other programs alone; {_by_hand(entry, folder)}")
    problems = []
    for url in addresses(entry, how.mirror):
        incoming = _incoming(entry, folder)
        try:
            _download(entry, url, folder, incoming)
            return _install(entry, incoming, folder)
        except UserError as error:
            problems.append(str(error))
        finally:
            incoming.unlink(missing_ok=True)
    more = f" ({len(problems) - 1} other addresses failed, too)" if len(problems) > 1 else ""
    raise UserError(f"weights {entry.name}: {problems[0]}{more}; or {_by_hand(entry, folder)}")


def _by_hand(entry: Weights, folder: Path) -> str:
    if entry.made_by is not None:
        return f"put {entry.download}, made by {entry.made_by}, into {folder}"
    what = entry.download
    if entry.member is not None:
        what = f"{entry.download}, or the file {entry.member} out of it,"
    return f"put {what} into {folder}"


def addresses(entry: Weights, mirror: str | None) -> list[str]:
    """Where to fetch it from, in order."""
    if mirror is not None:
        return [f"{mirror.rstrip('/')}/{entry.download}"]
    repo = os.environ.get(GLUON_REPO)
    if not repo:
        return list(entry.url)
    return [f"{repo.rstrip('/')}/{url.removeprefix(GLUON)}" if url.startswith(GLUON) else url for url in entry.url]


def _incoming(entry: Weights, folder: Path) -> Path:
    return folder / f".{entry.download}.incoming"


def _tidy(entry: Weights, folder: Path) -> None:
    """What a full disk has left needs its place back."""
    for name in (_incoming(entry, folder), folder / f".{entry.download}.part"):
        with contextlib.suppress(OSError):
            name.unlink(missing_ok=True)


def _download(entry: Weights, url: str, folder: Path, target: Path) -> None:
    """Errors: UserError; OSError of the cache."""
    most = entry.size or MAX_BYTES
    if urlsplit(url).scheme == "file":
        _copy_file(Path(unquote(urlsplit(url).path)), target, most)
    else:
        from ssd.data.datasets.download import Download

        log.info("weights %s: fetching %s", entry.name, url)
        Download(entry.download, folder, "init.mirror", most)(url, str(target), None)
    if entry.size is not None and (size := target.stat().st_size) != entry.size:
        raise UserError(f"{url}: {size} bytes came, expected {entry.size}")


def _copy_file(source: Path, target: Path, most: int) -> None:
    try:
        opened = open_regular(source)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    with opened as file, open(target, "wb") as out:
        _copy(file, out, most, str(source))


def _install(entry: Weights, source: Path, folder: Path) -> Path:
    """The verified file under its own name, out of what came. Errors: UserError; OSError of the cache."""
    if entry.member is None:
        _verify(entry, source, entry.download)
        os.replace(source, folder / entry.download)
        return folder / entry.download
    try:
        with zipfile.ZipFile(source) as archive:
            (member,) = _members(archive, entry.member, source, 1)
            if entry.graph is not None:
                for graph in _members(archive, entry.graph, source, 0):
                    with atomic_write(folder / _name(graph, source)) as draft:
                        _unpack(archive, graph, draft, source)
                        _verify(entry, draft, _name(graph, source), graph=True)
            target = folder / _name(member, source)
            with atomic_write(target) as draft:
                _unpack(archive, member, draft, source)
                _verify(entry, draft, target.name)
            return target
    except DAMAGE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UserError(f"{_shown(source)}: cannot be unpacked ({reason}); it came damaged or is no .zip") from error


def _members(archive: zipfile.ZipFile, pattern: str, source: Path, least: int) -> list[zipfile.ZipInfo]:
    """The one member whose name, without folders, is like the pattern, or none. Errors: UserError."""
    every = [info for info in archive.infolist()[: MAX_MEMBERS + 1] if not info.is_dir()]
    if len(every) > MAX_MEMBERS:
        raise UserError(f"{_shown(source)}: holds more than {MAX_MEMBERS} files, which no archive of weights does")
    names = {info: PurePosixPath(info.filename).name for info in every if not info.filename.startswith("__MACOSX")}
    found = [info for info, name in names.items() if fnmatchcase(name, pattern)]
    if len(found) > 1 or len(found) < least:
        listed = ", ".join(name[:60] for name in list(names.values())[:SHOWN])
        raise UserError(f"{_shown(source)}: holds {len(found)} files like {pattern}, expected one ({listed})")
    return found


def _name(info: zipfile.ZipInfo, source: Path) -> str:
    name = PurePosixPath(info.filename).name
    if not SAFE.fullmatch(name):
        raise UserError(f"{_shown(source)}: holds {name[:60]!r}, which is no name of a file of weights")
    return name


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, source: Path) -> None:
    with archive.open(info) as file, open(target, "wb") as out:
        _copy(file, out, MAX_BYTES, _shown(source))


def _copy(file: IO[bytes], out: IO[bytes], most: int, what: str) -> None:
    """Errors: UserError for more than `most` bytes."""
    done = 0
    while part := file.read(CHUNK):
        done += len(part)
        if done > most:
            raise UserError(f"{what}: more than {most / 1e6:.0f} MB, which no weights have")
        out.write(part)


def _shown(source: Path) -> str:
    """The name of an archive, without what marks one that is still incoming."""
    return source.name.removeprefix(".").removesuffix(".incoming")


def _verify(entry: Weights, file: Path, name: str, graph: bool = False) -> None:
    """The checksum of the file that has or is to have this name must be the published one, or without one that of the
    first download, which is recorded. graph: it is that of a detector, of which none is published.

    Errors: UserError.
    """
    folder = place_of(entry)
    recorded = _recorded(folder)
    published = {} if graph else {kind: digits for kind in KINDS if (digits := getattr(entry, kind)) is not None}
    expected = published | ({"sha256": recorded[name]} if name in recorded else {})
    found = _digests(file, {*expected, "sha256"})
    for kind, digits in expected.items():
        if not found[kind].startswith(digits):
            what = "published" if published.get(kind) == digits else f"recorded in {folder / CHECKSUMS}"
            there = f"; delete {folder / name} to fetch it again" if file == folder / name else ""
            raise UserError(
                f"{name}: its {kind} is {found[kind]}, {what} is {digits}: it came damaged or was replaced{there}"
            )
    if name not in recorded:
        _record(entry, recorded | {name: found["sha256"]}, name, unpublished=not published)


def _record(entry: Weights, checksums: dict[str, str], name: str, unpublished: bool) -> None:
    folder = place_of(entry)
    try:
        write_json(folder / CHECKSUMS, checksums)
    except OSError as error:
        log.warning("weights %s: its checksum cannot be recorded in %s (%s)", entry.name, folder, error.strerror)
        return
    if unpublished:
        log.warning("weights %s: no checksum of %s is published; sha256 %s of this first one is recorded in %s and "
                    "checked from now on", entry.name, name, checksums[name], folder / CHECKSUMS)  # fmt: skip


def _recorded(folder: Path) -> dict[str, str]:
    """File name -> sha256. Errors: UserError for a damaged list."""
    try:
        content = read_json(folder / CHECKSUMS, MAX_CHECKSUMS, "a list of checksums")
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"{folder / CHECKSUMS}: damaged, expected checksums by file name")
    return content


def _digests(file: Path, kinds: Collection[str]) -> dict[str, str]:
    """By kind, in one pass over the file. Errors: UserError."""
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    try:
        with open_regular(file) as opened:
            while part := opened.read(CHUNK):
                for digest in digests.values():
                    digest.update(part)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    return {kind: digest.hexdigest() for kind, digest in digests.items()}
