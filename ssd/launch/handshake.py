"""How two ends of a connection prove to each other that they know the key of the run, before anything else is sent.

    worker 0 -> member    32 random bytes
    member -> worker 0    32 random bytes, and the HMAC-SHA256 of "member" and both
    worker 0 -> member    the HMAC-SHA256 of "worker 0" and both; other 32 bytes when the member's is wrong

All lengths are fixed, so a stranger is never read more of than that.
"""

import hmac
import logging
import resource
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError

log = logging.getLogger(__name__)

RANDOM = PROOF = 32  # bytes
MOST_PENDING = 64  # connections that have not proved anything yet; with one more, the oldest is closed
DEADLINE = 10.0  # seconds for the proof
RESERVE = 0.25  # of the descriptors that the system allows: no connection may take these from the run's files
PAUSE = 0.5  # seconds, where there is no descriptor for a connection
POLL_SECONDS = 0.2  # seconds between two looks at deadlines


@dataclass
class _Stranger:
    connection: socket.socket
    random: bytes = field(default_factory=lambda: secrets.token_bytes(RANDOM))
    said: bytes = b""
    since: float = field(default_factory=time.monotonic)


class Door:
    """Listens at an address, in one thread, and hands over the connections of those who know the key.

    What strangers cost is bounded: they are MOST_PENDING at most, for DEADLINE seconds at most, and with one more the
    oldest goes. So somebody who keeps connecting must be faster than a member's answer to shut it out, and a member
    tries again.
    """

    def __init__(self, address: str, port: int, key: str, enter: Callable[[socket.socket], None]) -> None:
        """enter: gets each connection; must not block. Errors: OSError when the address cannot be listened on."""
        self._key, self._enter = key.encode(), enter
        self._pending: dict[socket.socket, _Stranger] = {}
        self._closing = threading.Event()
        self._warned = False
        self._listener = socket.create_server((address, port), backlog=MOST_PENDING)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody else comes in. Connections that were handed over stay."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for found, _ in self._selector.select(POLL_SECONDS):
                    if found.fileobj is self._listener:
                        self._accept()
                    elif stranger := self._pending.get(found.fileobj):  # type: ignore[call-overload]
                        self._hear(stranger)
                latest = time.monotonic() - DEADLINE
                for stranger in [each for each in self._pending.values() if each.since < latest]:
                    self._forget(stranger)
        finally:
            for stranger in list(self._pending.values()):
                self._forget(stranger)
            self._selector.close()
            self._listener.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptors or memory for it
            self._make_room(str(error.strerror))
            return
        if connection.fileno() >= _descriptors():
            connection.close()
            self._make_room("the rest is kept for the files of the run")
            return
        if len(self._pending) >= MOST_PENDING:
            self._forget(next(iter(self._pending.values())))
        stranger = _Stranger(connection)
        connection.setblocking(False)
        self._pending[connection] = stranger
        self._selector.register(connection, selectors.EVENT_READ)
        self._send(stranger, stranger.random)

    def _make_room(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("connections of other processes are put off: too few descriptors (ulimit -n), %s", reason)
        if self._pending:
            self._forget(next(iter(self._pending.values())))
        else:
            self._closing.wait(PAUSE)

    def _hear(self, stranger: _Stranger) -> None:
        try:
            said = stranger.connection.recv(RANDOM + PROOF - len(stranger.said))
        except BlockingIOError:
            return
        except OSError:
            said = b""
        stranger.said += said
        if not said:
            self._forget(stranger)
        elif len(stranger.said) == RANDOM + PROOF:
            self._judge(stranger)

    def _judge(self, stranger: _Stranger) -> None:
        both = stranger.random + stranger.said[:RANDOM]
        if not hmac.compare_digest(stranger.said[RANDOM:], _proof(self._key, b"member", both)):
            self._send(stranger, bytes(PROOF))
            self._forget(stranger)
        elif self._send(stranger, _proof(self._key, b"worker 0", both)):
            self._selector.unregister(stranger.connection)
            del self._pending[stranger.connection]
            stranger.connection.setblocking(True)
            self._enter(stranger.connection)

    def _send(self, stranger: _Stranger, data: bytes) -> bool:
        """A new connection has room for so little."""
        try:
            whole = stranger.connection.send(data) == len(data)
        except OSError:
            whole = False
        if not whole:
            self._forget(stranger)
        return whole

    def _forget(self, stranger: _Stranger) -> None:
        if self._pending.pop(stranger.connection, None):
            self._selector.unregister(stranger.connection)
            stranger.connection.close()


def prove(connection: socket.socket, key: str) -> None:
    """The member's side. Errors: EOFError or OSError when the other side goes or says nothing for DEADLINE seconds;
    AuthenticationError when it does not know the key."""
    connection.settimeout(DEADLINE)
    theirs, ours = _exactly(connection, RANDOM), secrets.token_bytes(RANDOM)
    connection.sendall(ours + _proof(key.encode(), b"member", theirs + ours))
    if not hmac.compare_digest(_exactly(connection, PROOF), _proof(key.encode(), b"worker 0", theirs + ours)):
        raise AuthenticationError
    connection.settimeout(None)


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise EOFError("it closes the connection")
        found += part
    return found


def _proof(key: bytes, role: bytes, random: bytes) -> bytes:
    return hmac.digest(key, role + random, "sha256")


def _descriptors() -> int:
    """The first one that connections leave alone. The system gives the lowest that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if limit == resource.RLIM_INFINITY else int(limit * (1 - RESERVE))
