"""A connection between worker 0 and another process: JSON messages, each with bytes that belong to it.

Both sides have proved that they know the key. Nothing is pickled. When a process ends, however, its side closes; when a
machine or the network between goes, the system notices within half a minute.
"""

import contextlib
import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import AuthenticationError
from typing import Any

from ssd.launch.handshake import prove
from ssd.launch.secret import ADVICE, Secret
from ssd.utils.errors import UserError
from ssd.utils.process import Stopwatch

SAVE = "save"
FIRST_REPORT = 0.25  # of patience_s
# Of silence before the system asks whether the other side is still there, between questions; and how many.
SILENCE, INTERVAL, QUESTIONS = 10, 5, 4
RETRY_SECONDS = 0.2  # seconds between attempts to connect
CONNECT = 10.0  # seconds that one of them may take
REPORT = 20.0  # seconds of attempts, after which the reason is reported
LENGTHS = struct.Struct("!IQ")  # of the message and of its bytes, before both
MOST_MESSAGE, MOST_CONTENT = 16 << 20, 8 << 30  # bytes: a configuration; parameters and the optimizer's state
PIECE = 1 << 20
LOOK = 1.0  # seconds between two calls of receive's idle


class Patience:
    """cluster.patience_s and cluster.on_hung, for one waiting."""

    def __init__(self, cluster: Mapping[str, Any]) -> None:
        self.seconds = float(cluster["patience_s"])
        self._saves = cluster["on_hung"] == SAVE
        self._next = FIRST_REPORT * self.seconds

    def is_over(self, waited: float) -> bool:
        """Whether so many seconds are too long. With on_hung=wait none are."""
        return self._saves and waited >= self.seconds

    def reports(self, waited: float) -> bool:
        """Whether it is time to report what is waited for: at a quarter of patience_s, and each time that doubles."""
        due = waited >= self._next
        while waited >= self._next:
            self._next *= 2
        return due


class Channel:
    """send() may be called in any thread."""

    def __init__(self, connection: socket.socket, most_message: int = MOST_MESSAGE, most: int = MOST_CONTENT) -> None:
        """most_message, most: bytes of a message, and of what belongs to it, that are received."""
        self._connection = connection
        self._most_message, self._most = most_message, most
        self._sending = threading.Lock()
        _keep_alive(connection)

    def send(self, message: dict[str, Any], content: bytes = b"", patience: float | None = None) -> None:
        """patience: seconds that the other side may take nothing in; None: any time.

        Errors: OSError when the other side is gone, TimeoutError when it takes nothing in.
        """
        data = json.dumps(message).encode()
        if not self._sending.acquire(timeout=-1 if patience is None else patience):
            raise TimeoutError
        try:
            self._write(memoryview(LENGTHS.pack(len(data), len(content)) + data), patience)
            self._write(memoryview(content), patience)
        finally:
            self._sending.release()

    def _write(self, data: memoryview, patience: float | None) -> None:
        ready = select.poll()
        ready.register(self._connection, select.POLLOUT)
        while data:
            if not ready.poll(None if patience is None else 1000 * patience):
                raise TimeoutError
            try:
                data = data[self._connection.send(data[:PIECE], socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue

    def receive(self, idle: Callable[[float], None] | None = None) -> tuple[dict[str, Any], bytes]:
        """Waits for a message. idle: called every LOOK seconds in which nothing comes, with their sum.

        Errors: EOFError or OSError when the other side is gone, or sends what is no message.
        """
        lengths = LENGTHS.unpack(self._read(LENGTHS.size, idle))
        if lengths[0] > self._most_message or lengths[1] > self._most:
            raise OSError(f"a message of {lengths[0]} and {lengths[1]} bytes, which is too long")
        try:
            message = dict(json.loads(self._read(lengths[0], idle)))
        except (ValueError, TypeError, RecursionError) as error:
            raise OSError("what came is no message") from error
        return message, bytes(self._read(lengths[1], idle))

    def _read(self, count: int, idle: Callable[[float], None] | None) -> bytearray:
        """Memory grows with what comes, not with what is announced."""
        found, silence = bytearray(), Stopwatch()
        ready = select.poll()
        ready.register(self._connection, select.POLLIN)
        while len(found) < count:
            if not ready.poll(1000 * LOOK):
                if idle:
                    idle(silence.look())
                continue
            part = self._connection.recv(min(count - len(found), PIECE))
            if not part:
                raise EOFError
            found += part
            silence = Stopwatch()
        return found

    def close(self) -> None:
        """Ends a receive() of another thread, too."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def connect(address: str, port: int, secret: Secret, timeout: float, who: str = "") -> Channel:
    """The line to worker 0, which may not listen yet. who: this process, for a report on what it waits for.

    Errors: UserError when it does not within `timeout` seconds, or does not know the key.
    """
    started, reported = time.monotonic(), not who
    while True:
        try:
            return Channel(_proved(address, port, secret.current()))
        except AuthenticationError as error:
            if secret.key is not None:
                raise UserError(f"{address}:{port} belongs to another run") from error
            reason = f"worker 0 at {address}:{port} has another key than the one in {secret.file}; {ADVICE}"
        except FileNotFoundError:
            reason = f"{secret.file}, in which task 0 leaves the key of the run, is not there; {ADVICE}"
        except (OSError, EOFError) as error:
            reason = f"worker 0 does not answer at {address}:{port} ({error}); cluster.address names another address"
        waited = time.monotonic() - started
        if waited > timeout:
            raise UserError(f"cluster.timeout={timeout:g}: after so many seconds {reason}")
        if waited > REPORT and not reported:
            reported = True
            sys.stderr.write(f"{who} waits: {reason}\n")
        time.sleep(RETRY_SECONDS)


def _proved(address: str, port: int, key: str) -> socket.socket:
    connection = socket.create_connection((address, port), CONNECT)
    try:
        prove(connection, key)
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, QUESTIONS)
