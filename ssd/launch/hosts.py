"""Lists of machines, as Slurm abbreviates them and as people write them, and addresses of this one."""

import contextlib
import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from ssd.utils.errors import UserError

LOOPBACK = "127.0.0.1"
# Up to the next comma that is in no brackets.
NAME = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
BRACKETS = re.compile(r"\[([^\]]*)\]")
RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def slurm_hosts(text: str) -> list[str]:
    """ "node[01-03,07],login" -> node01, node02, node03, node07, login. Errors: UserError for what is no such list."""
    names = NAME.findall(text)
    if ",".join(names) != text or not names:
        raise UserError(f"SLURM_NODELIST={text}: expected a list such as node[01-03,07],login")
    return [host for name in names for host in _expanded(name, text)]


def _expanded(name: str, text: str) -> list[str]:
    found = BRACKETS.search(name)
    if not found:
        return [name]
    before, after = name[: found.start()], name[found.end() :]
    numbers: list[str] = []
    for part in found[1].split(","):
        match = RANGE.fullmatch(part)
        if not match:
            raise UserError(f"SLURM_NODELIST={text}: {part!r} is neither a number nor a range such as 01-03")
        first, last = match[1], match[2] or match[1]
        numbers += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [before + number + rest for number in numbers for rest in _expanded(after, text)]


def host_list(hosts: str | Sequence[str]) -> list[str]:
    """What cluster.hosts says: the names themselves, or a file with one in each line ("#" begins a comment).

    Errors: UserError when it cannot be read, names fewer than two, or what ssh would take for an option.
    """
    names = list(hosts) if not isinstance(hosts, str) else _read(Path(hosts))
    if len(names) < 2:
        raise UserError(f"cluster.hosts={hosts}: names {len(names)} machines; two or more make a cluster")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_][\w.:@-]*", name):
            raise UserError(f"cluster.hosts: {name!r} is no name of a machine")
    return names


def _read(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cluster.hosts={file}: cannot be read as a list of machines ({error})") from error
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def address_towards(host: str) -> str:
    """The address by which `host` reaches this machine. Errors: UserError when the name is unknown."""
    name = host.rpartition("@")[2]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
            probe.connect((name, 9))
            address: str = probe.getsockname()[0]
    except OSError as error:
        raise UserError(f"machine {name} cannot be reached from here: {error.strerror}") from error
    return address


def own_address(name: str, other: str) -> str:
    """The address by which `other` reaches this machine, whose own name is `name`.

    That is what the others find under the name; but here many systems have it stand for the loopback, and then it is
    the one of the way to `other`. Errors: UserError when that name is unknown.
    """
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(name)
        with socket.socket() as probe:
            probe.bind((address, 0))  # it is one of this machine
        if not ip_address(address).is_loopback:
            return address
    return address_towards(other)


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
