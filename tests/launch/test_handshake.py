"""Who is let in, and what those cost who are not."""

import queue
import resource
import socket
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError

import pytest

from ssd.launch import handshake
from ssd.launch.handshake import MOST_PENDING, PROOF, RANDOM, Door, prove
from ssd.launch.hosts import free_port

KEY = "secret"


class Entered:
    """A door, and who has come through it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.found: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self.door = Door("127.0.0.1", self.port, KEY, self.found.put)

    def stranger(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def member(self) -> None:
        with self.stranger() as connection:
            prove(connection, KEY)
            connection.sendall(b"x")
            assert self.found.get(timeout=60).recv(1) == b"x"


@pytest.fixture
def entered() -> Iterator[Entered]:
    entered = Entered()
    yield entered
    entered.door.close()


def is_closed(connection: socket.socket) -> bool:
    """Reads to the end."""
    connection.settimeout(60)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_both_sides_prove_that_they_know_the_key(entered: Entered) -> None:
    entered.member()
    with entered.stranger() as connection, pytest.raises(AuthenticationError):
        prove(connection, "guessed")
    assert entered.found.empty()


def test_who_listens_without_the_key_is_told_nothing_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rogue:

        def welcome() -> None:
            connection, _ = rogue.accept()
            connection.sendall(bytes(RANDOM))
            assert len(connection.recv(RANDOM + PROOF, socket.MSG_WAITALL)) == RANDOM + PROOF
            connection.sendall(bytes(PROOF))

        threading.Thread(target=welcome, daemon=True).start()
        with socket.create_connection(rogue.getsockname(), 60) as connection, pytest.raises(AuthenticationError):
            prove(connection, KEY)


def test_the_proof_of_a_member_is_not_one_of_worker_0(entered: Entered) -> None:
    """Who gives worker 0 its own bytes back proves nothing."""
    with entered.stranger() as connection:
        random = connection.recv(RANDOM, socket.MSG_WAITALL)
        connection.sendall(random + random)
        assert connection.recv(PROOF, socket.MSG_WAITALL) == bytes(PROOF)
        assert is_closed(connection)


def test_strangers_that_say_nothing_are_few_and_members_come_in_all_the_same(entered: Entered) -> None:
    threads = threading.active_count()
    strangers = [entered.stranger() for _ in range(3 * MOST_PENDING)]
    entered.member()
    assert threading.active_count() == threads
    assert len(entered.door._pending) <= MOST_PENDING
    assert all(is_closed(connection) for connection in strangers[:MOST_PENDING])
    for connection in strangers:
        connection.close()


def test_strangers_have_a_deadline(entered: Entered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "DEADLINE", 0.0)
    with entered.stranger() as connection:
        assert is_closed(connection)


def test_garbage_is_not_read(entered: Entered) -> None:
    with entered.stranger() as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n" * 1000)
        assert is_closed(connection)
    entered.member()


def test_the_last_descriptors_are_for_the_run(entered: Entered, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers cannot have them; a member, too, comes in only when there are others again."""
    monkeypatch.setattr(handshake, "PAUSE", 0.01)
    monkeypatch.setattr(handshake, "_descriptors", lambda: 0)
    with entered.stranger() as connection:
        assert is_closed(connection)
    monkeypatch.undo()
    entered.member()


def test_what_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {128: 96, resource.RLIM_INFINITY: 2**31}
    for limit, first in limits.items():
        monkeypatch.setattr("ssd.launch.handshake.resource.getrlimit", lambda _, limit=limit: (limit, limit))
        assert handshake._descriptors() == first


def test_a_closed_door(entered: Entered) -> None:
    waiting = entered.stranger()
    entered.door.close()
    assert is_closed(waiting)
    with pytest.raises(ConnectionRefusedError):
        entered.stranger()
