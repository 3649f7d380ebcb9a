"""Messages between two ends of a connection, both in this process."""

import json
import socket
import threading
from pathlib import Path

import pytest

from ssd.launch.channel import LENGTHS, LOOK, Channel, Patience, connect
from ssd.launch.secret import Secret
from ssd.utils.errors import UserError


@pytest.fixture
def ends() -> tuple[socket.socket, Channel]:
    """The second one takes messages of 100 bytes with as many."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        return other, Channel(listener.accept()[0], 100, 100)


def test_messages_with_what_belongs_to_them(ends: tuple[socket.socket, Channel]) -> None:
    other, line = ends
    Channel(other).send({"a": [1]}, b"\0" * 100)
    assert line.receive() == ({"a": [1]}, b"\0" * 100)
    other.close()
    with pytest.raises(EOFError):
        line.receive()


@pytest.mark.parametrize("lengths", [(101, 0), (2**32 - 1, 0), (2, 101), (2, 2**64 - 1)])
def test_lengths_are_checked_before_anything_is_read(ends: tuple[socket.socket, Channel], lengths: tuple) -> None:
    ends[0].sendall(LENGTHS.pack(*lengths))
    with pytest.raises(OSError, match="too long"):
        ends[1].receive()


@pytest.mark.parametrize("text", [b"{", b"7", b"null", b"\xff", b"[" * 100, b'[["a"]]'])
def test_what_is_no_message(ends: tuple[socket.socket, Channel], text: bytes) -> None:
    ends[0].sendall(LENGTHS.pack(len(text), 0) + text)
    with pytest.raises(OSError, match="no message"):
        ends[1].receive()


def test_who_takes_nothing_in_is_not_waited_for(ends: tuple[socket.socket, Channel]) -> None:
    with pytest.raises(TimeoutError):
        ends[1].send({}, bytes(64 << 20), patience=0)


def test_silence_is_counted(ends: tuple[socket.socket, Channel]) -> None:
    def idle(seconds: float) -> None:
        found.append(seconds)
        data = json.dumps({"a": 1}).encode()
        ends[0].sendall(LENGTHS.pack(len(data), 0) + data)

    found: list[float] = []
    assert ends[1].receive(idle)[0] == {"a": 1}
    assert len(found) == 1
    assert found[0] >= 0.9 * LOOK


def test_close_ends_a_receive(ends: tuple[socket.socket, Channel]) -> None:
    ended = threading.Event()

    def receive() -> None:
        with pytest.raises((EOFError, OSError)):
            ends[1].receive()
        ended.set()

    thread = threading.Thread(target=receive)
    thread.start()
    ends[1].close()
    thread.join()
    assert ended.is_set()


def test_a_key_that_does_not_come(tmp_path: Path) -> None:
    text = r"cluster\.timeout=0: after so many seconds .*/x\.key, in which task 0 leaves the key .* SSD_CLUSTER_KEY"
    with pytest.raises(UserError, match=text):
        connect("127.0.0.1", 1, Secret(None, tmp_path / "x.key"), 0)


def test_reports_come_at_a_quarter_and_whenever_that_doubles() -> None:
    waiting = Patience({"patience_s": 8, "on_hung": "wait"})
    assert [second for second in range(40) if waiting.reports(second)] == [2, 4, 8, 16, 32]
    assert not waiting.is_over(1e9)


def test_patience_ends() -> None:
    waiting = Patience({"patience_s": 8, "on_hung": "save"})
    assert [waiting.is_over(second) for second in (7.9, 8, 9)] == [False, True, True]
