"""A process other than worker 0: `python -m ssd.cluster.member`, told by its standard input where worker 0 is.

It does as it is told by worker 0 and ends when that one says so, or is gone.
"""

import contextlib
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from ssd.cluster.hosts import LOOPBACK, address_towards
from ssd.cluster.line import Line, connect
from ssd.cluster.patience import Patience
from ssd.cluster.plan import SERVER, WORKER, Node, Plan, Task
from ssd.cluster.secret import Secret
from ssd.cluster.start import bootstrap, start_member
from ssd.config import compose
from ssd.data.share import Share
from ssd.errors import LostWorkerError, UserError
from ssd.overrides import composable
from ssd.saved import parse_config
from ssd.schema import Config
from ssd.targets import literal

PATIENCE = 60.0  # seconds to connect, for a process that worker 0 has started
MOST_ERROR = 8000  # characters of an error that worker 0 is told
LOST = LostWorkerError.exit_code


class Member:
    """The line to worker 0, and what it has said."""

    def __init__(self, line: Line, name: str) -> None:
        self.name = name
        self._line = line
        self._messages: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
        line.send({"name": name, "host": socket.gethostname(), "process": os.getpid()})
        self.welcome, _ = line.receive(_give_up)
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> tuple[dict[str, Any], bytes]:
        return self._messages.get()

    def wait(self, function: Callable[[], Any], what: str | None = None) -> Any:
        """As Lead.wait; this process does not live to see worker 0 give up."""
        with contextlib.suppress(OSError):  # worker 0 is gone, and soon this process
            self._line.send({"waits": True})
        return function()

    def complain(self, error: str) -> None:
        with contextlib.suppress(OSError):
            self._line.send({"error": error[:MOST_ERROR]})

    def _listen(self) -> None:
        """Ends the process in the midst of whatever it does: it has nothing that anybody needs, and may be waiting for
        a process that is gone."""
        try:
            while True:
                message, content = self._line.receive(partial(self._idle, Patience(self.welcome["patience"])))
                if "end" in message:
                    os._exit(message["end"])
                if "beat" in message:
                    self._line.send(message)
                    continue
                self._messages.put((message, content))
        except (EOFError, OSError):
            self._leave("worker 0 is gone, so this one ends")

    def _idle(self, patience: Patience, silence: float) -> None:
        """Worker 0 has not been heard of for so many seconds; while it trains or validates, it is every second."""
        if patience.is_over(silence):
            self._leave(f"cluster.patience_s={patience.seconds:g}: worker 0 gives no sign of life, so this one ends")
        if patience.reports(silence):
            self._say(f"waiting {silence:.0f} s for worker 0: no sign of life")

    def _leave(self, reason: str) -> NoReturn:
        self._say(reason)
        os._exit(LOST)

    def _say(self, text: str) -> None:
        if self.name.startswith(WORKER):
            sys.stderr.write(f"{self.name} ({socket.gethostname()}): {text}\n")
            sys.stderr.flush()


def _give_up(silence: float) -> None:
    if silence > PATIENCE:
        raise EOFError("worker 0 does not welcome it")


def run(facts: dict[str, Any], patience: float) -> None:
    """Does what facts["role"] is to do; the process ends in here."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a job, they are meant for worker 0
        signal.signal(number, signal.SIG_IGN)
    node = Node(facts["role"], facts["rank"])
    try:
        who = f"{node.name} ({socket.gethostname()})"
        secret = Secret.read(facts["secret"])
        member = Member(connect(facts["address"], facts["port"], secret, patience, who), node.name)
    except (UserError, EOFError, OSError) as error:
        sys.exit(f"{who}: {str(error) or 'worker 0 does not want it'}")
    try:
        settings = member.welcome["settings"]
        root = settings["DMLC_PS_ROOT_URI"]
        here = LOOPBACK if root == LOOPBACK else address_towards(root)
        os.environ.update(settings | {"DMLC_ROLE": node.role, "DMLC_NODE_HOST": here})
        if node.role == WORKER:
            cfg = OmegaConf.merge(
                OmegaConf.structured(Config), literal(parse_config(member.welcome["config"], "worker 0"))
            )
            assert isinstance(cfg, DictConfig)
            _train(cfg, member, Share(node.rank, member.welcome["workers"]))
        else:
            _serve()
    except UserError as error:
        member.complain(str(error))
    except Exception as error:
        traceback.print_exc()
        member.complain(f"{type(error).__name__}: {error}")
    threading.Event().wait()  # for worker 0 to say that it is over


def _train(cfg: DictConfig, member: Member, share: Share) -> None:
    logging.basicConfig(level=logging.WARNING, format=f"{member.name}: %(message)s")
    os.environ["OMP_NUM_THREADS"] = str(cfg.device.threads)  # before MXNet is imported
    from ssd.jobs.follow import follow

    follow(cfg, member, share)


def _serve() -> None:
    """A server or the scheduler. Commands are not listened to: MXNet's own servers unpickle what they are sent."""
    import ctypes

    # Imported as a worker is: MXNet would else begin to serve in the import, listening to commands.
    role = os.environ.pop("DMLC_ROLE")
    os.environ["OMP_NUM_THREADS"] = "1"
    from ssd.engine import mx

    os.environ["DMLC_ROLE"] = role
    store = mx.kv.create("dist")
    ignore = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    mx.base.check_call(mx.base._LIB.MXKVStoreRunServer(store.handle, ignore, None))


def follow_slurm(words: Sequence[str]) -> None:
    """In a task of a Slurm job other than the first: with cluster=slurm it does that task's work, and ends in here.

    Errors: UserError for a wrong word or variable.
    """
    cluster = compose(composable(words)).cluster
    if cluster.name != "slurm":
        return
    task = Task.here(os.environ)
    address, port = task.address(cluster.address), task.port(cluster.port)
    secret = task.secret(cluster.folder, os.environ)
    plan = Plan(task.tasks, task.servers(cluster.servers), address, port, secret, [], [])
    number = task.server(cluster.servers)
    if number is not None:
        node = Node(SERVER, number)
        start_member(node, bootstrap(plan, node), None)
    run(bootstrap(plan, Node(WORKER, task.rank)), cluster.timeout)


if __name__ == "__main__":
    run(json.loads(sys.stdin.readline()), PATIENCE)
