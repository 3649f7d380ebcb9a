"""A connection between worker 0 and another process: JSON messages, each with bytes that belong to it.

Both sides prove that they know the key. Nothing is pickled. When a process ends, however, its side closes; when a
machine or the network between goes, the system notices within half a minute.
"""

import json
import os
import socket
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any

from ssd.errors import UserError

# Of silence before the system asks whether the other side is still there, between questions; and how many.
SILENCE, INTERVAL, QUESTIONS = 10, 5, 4
AGAIN = 0.2  # seconds between attempts to connect


class Line:
    """send() may be called in any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        _keep_alive(connection.fileno())

    def send(self, message: dict[str, Any], content: bytes = b"") -> None:
        """Errors: OSError when the other side is gone."""
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())
            self._connection.send_bytes(content)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Waits for a message. Errors: EOFError or OSError when the other side is gone."""
        message = json.loads(self._connection.recv_bytes())
        return dict(message), self._connection.recv_bytes()

    def close(self) -> None:
        self._connection.close()


def accepted(connection: Connection, key: str) -> Line | None:
    """The line of a process that has connected; None, and closed, when it does not know the key."""
    try:
        deliver_challenge(connection, key.encode())  # type: ignore[arg-type]
        answer_challenge(connection, key.encode())  # type: ignore[arg-type]
        return Line(connection)
    except (AuthenticationError, EOFError, OSError):
        connection.close()
        return None


def connect(address: str, port: int, key: str, timeout: float) -> Line:
    """The line to worker 0, which may not listen yet. Errors: UserError when it does not within `timeout` seconds."""
    started = time.monotonic()
    while True:
        try:
            return Line(Client((address, port), authkey=key.encode()))
        except AuthenticationError as error:
            raise UserError(f"{address}:{port} belongs to another run") from error
        except (OSError, EOFError) as error:
            if time.monotonic() - started > timeout:
                raise UserError(f"worker 0 does not answer at {address}:{port} ({error})") from error
            time.sleep(AGAIN)


def _keep_alive(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE)
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, QUESTIONS)
