"""Lists of machines."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.launch.hosts import address_towards, host_list, own_address, slurm_hosts
from ssd.utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1", ["node1"]),
        ("node[01-03,07]", ["node01", "node02", "node03", "node07"]),
        ("a[1-2],login,b[9-11]", ["a1", "a2", "login", "b9", "b10", "b11"]),
        ("rack[1-2]-n[08-09].cluster", [f"rack{rack}-n0{node}.cluster" for rack in (1, 2) for node in (8, 9)]),
        ("c-1-2,c-1-3", ["c-1-2", "c-1-3"]),
    ],
)
def test_slurm_hosts(text: str, hosts: list[str]) -> None:
    assert slurm_hosts(text) == hosts


@given(st.lists(st.from_regex(r"[a-z]{1,5}-?\d{0,3}", fullmatch=True), min_size=1))
def test_names_without_brackets_are_themselves(names: list[str]) -> None:
    assert slurm_hosts(",".join(names)) == names


@pytest.mark.parametrize("text", ["", "a,,b", "node[1", "node]1[", "node[1-x]", "a,"])
def test_no_slurm_list(text: str) -> None:
    with pytest.raises(UserError, match="SLURM_NODELIST="):
        slurm_hosts(text)


def test_a_list_or_a_file_of_hosts(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\nnode1\n\nme@node2  # slow\nnode2\n")
    assert host_list(str(file)) == ["node1", "me@node2", "node2"]
    assert host_list(["a", "b.example.org", "10.0.0.1"]) == ["a", "b.example.org", "10.0.0.1"]


@pytest.mark.parametrize(
    ("hosts", "part"),
    [
        (["only"], "names 1 machines; two or more"),
        (["a", "-oProxyCommand=x"], "'-oProxyCommand=x' is no name of a machine"),
        (["a", "b; rm"], "is no name of a machine"),
        ("/nowhere/hosts", "cannot be read as a list of machines"),
    ],
)
def test_what_is_no_list_of_hosts(hosts: list[str] | str, part: str) -> None:
    with pytest.raises(UserError, match=re.escape(part)):
        host_list(hosts)


def test_the_address_by_which_a_machine_reaches_this_one() -> None:
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert address_towards("someone@localhost") == "127.0.0.1"
    with pytest.raises(UserError, match="machine no.such.machine.invalid cannot be reached"):
        address_towards("no.such.machine.invalid")


def test_the_own_address_is_that_of_the_name_unless_it_is_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.launch.hosts.address_towards", lambda other: f"towards {other}")
    known = {"me": "127.0.1.1", "elsewhere": "203.0.113.7"}
    monkeypatch.setattr("ssd.launch.hosts.socket.gethostbyname", known.__getitem__)
    assert own_address("me", "you") == own_address("elsewhere", "you") == "towards you"
    monkeypatch.setattr("ssd.launch.hosts.socket.gethostbyname", lambda name: "127.0.0.1")
    monkeypatch.setattr("ssd.launch.hosts.ip_address", lambda address: SimpleNamespace(is_loopback=False))
    assert own_address("me", "you") == "127.0.0.1"
