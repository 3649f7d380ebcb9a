"""Worker 0's side: starts the members, notices when one is lost, tells them what to do and when it is over."""

import atexit
import contextlib
import logging
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ssd.config.parts import ClusterConfig
from ssd.config.validate import check_passes
from ssd.data.loaders.base import Shard
from ssd.launch.channel import Channel, Patience
from ssd.launch.handshake import DEADLINE, Door
from ssd.launch.hosts import free_port
from ssd.launch.plan import WORKER, Plan, make_plan
from ssd.launch.spawn import bootstrap, start_member
from ssd.utils.errors import InterruptedRun, LostWorkerError, UserError
from ssd.utils.process import Stopwatch, describe_exit
from ssd.utils.signals import StopSignals

log = logging.getLogger(__name__)

EXIT_TIMEOUT = 10.0  # seconds that members get to end by themselves
POLL_SECONDS = 0.2  # seconds between two looks whether a member is lost
EXIT_REPORT_SECONDS = 3.0  # seconds in which a process that has closed its line tells its exit code
BEAT = 1.0  # seconds between two questions whether a member is alive
SILENT = 3.0  # seconds without an answer, after which it is taken to hang
SEND = 1.0  # seconds that a member gets to take in that it is over
LAST_STEP = 1.0  # seconds that a step gets to come to its end after a signal
MOST_SAID = 64 << 10  # bytes of a message of a member
MOST_NAME = 255  # characters


@contextmanager
def launch_cluster(cluster: ClusterConfig) -> Iterator["Coordinator | None"]:
    """The members of the cluster, ready, as long as the block lasts; None with cluster=none.

    Errors: UserError when they do not all start.
    """
    if cluster.name == "none":
        yield None
        return
    plan = make_plan(cluster)
    devices = plan.workers * cluster.devices
    if cluster.batch_size < devices:
        raise UserError(
            f"batch_size={cluster.batch_size}: expected at least the number of devices of all workers ({devices})"
        )
    check_passes(cluster.accumulate, cluster.batch_size, devices, f" on {devices} devices of all workers")
    lead, code = Coordinator(cluster, plan), 1
    try:
        lead.gather()
        yield lead
        code = 0
    except UserError as error:
        code = error.exit_code
        raise
    finally:
        lead.end(code)


@dataclass
class Peer:
    """A member that has come."""

    line: Channel
    text: str  # name, host and process
    waits: int = 0  # how many times it has come to where all workers wait for each other
    asked: float | None = None  # when it was asked for a sign of life that it has not given

    @property
    def silent(self) -> bool:
        return self.asked is not None and time.monotonic() - self.asked > SILENT


class Coordinator:
    """signal: gives the name of a signal that has come, for which all waiting is given up."""

    def __init__(self, cluster: ClusterConfig, plan: Plan) -> None:
        self.share = Shard(0, plan.workers)
        self.signal: Callable[[], str | None] = lambda: None
        self._cluster = cluster
        self._plan = plan
        self._names = {node.name for node in [*plan.starts, *plan.comes]}
        self._peers: dict[str, Peer] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._news = threading.Condition()
        self._failure: str | None = None  # the first one
        self._ending = False
        self._waits = 0
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], list[Any], threading.Event]] = queue.SimpleQueue()
        self.settings = {  # what MXNet's parameter server reads
            "DMLC_PS_ROOT_URI": plan.address,
            "DMLC_PS_ROOT_PORT": str(free_port()),
            "DMLC_NUM_WORKER": str(plan.workers),
            "DMLC_NUM_SERVER": str(plan.servers),
        }
        self._patience = {"patience_s": cluster.patience_s, "on_hung": cluster.on_hung}
        self._welcome = {"settings": self.settings, "workers": plan.workers, "patience": self._patience,
                         "config": cluster.config}  # fmt: skip

    def gather(self) -> None:
        """Starts the members and waits until all have said that they are there. Nobody is listened to after that.

        Errors: LostWorkerError when one ends before or some do not come in time, InterruptedRun after a signal,
        UserError when the key cannot be left for them or the port is taken.
        """
        for task in (self._help, self._beat):
            self._thread(task)
        with StopSignals() as signals, self._open():
            for node in self._plan.starts:
                process = start_member(node, bootstrap(self._plan, node), self._cluster.ssh)
                self._processes[node.name] = process
                self._thread(self._watch, node.name, process)
            self._await_members(signals)
        os.environ.update(self.settings | {"DMLC_ROLE": WORKER, "DMLC_NODE_HOST": self._plan.address})
        log.info(
            "cluster: %d workers, %d server%s that add up what they learn",
            self._plan.workers,
            self._plan.servers,
            "s" * (self._plan.servers > 1),
        )

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Members can come in. Errors: UserError when the key cannot be left for them, or the port is taken."""
        address, port, secret = self._plan.address, self._plan.port, self._plan.secret
        key = secret.publish()
        try:
            try:
                door = Door(address, port, key, lambda connection: self._thread(self._attend, connection))
            except OSError as error:
                raise UserError(f"cluster.port={port}: {address}:{port} cannot be listened on ({error.strerror}); "
                                "cluster.address names another address of this machine") from error  # fmt: skip
            try:
                yield
            finally:
                door.close()
        finally:
            secret.withdraw(key)

    def _await_members(self, signals: StopSignals) -> None:
        waited = Stopwatch()
        with self._news:
            while missing := sorted(self._names - self._peers.keys()):
                if signals.name:
                    raise InterruptedRun(f"waiting for {', '.join(missing)} to come; {signals.name}: stopped")
                if self._failure or waited.look() > self._cluster.timeout:
                    raise LostWorkerError(
                        self._failure
                        or f"cluster.timeout={self._cluster.timeout:g}: after so many seconds {', '.join(missing)} "
                        f"had not reached worker 0 at {self._plan.address}:{self._plan.port}"
                    )
                self._news.wait(POLL_SECONDS)

    def send_to_all(self, message: dict[str, Any], content: bytes = b"") -> None:
        """Sends a message to all workers. One that is gone is noticed elsewhere. Errors: as wait."""

        def send(line: Channel) -> None:
            with contextlib.suppress(OSError):
                line.send(message, content)

        for name, peer in list(self._peers.items()):
            if name.startswith(WORKER):
                self._until(lambda line=peer.line: send(line), lambda text=peer.text: text)  # type: ignore[misc]

    def wait(self, function: Callable[[], Any], what: str | None = None) -> Any:
        """Calls a function that waits for other processes, as each worker does in its turn.

        what: it is that takes cluster.timeout at most; None: cluster.patience_s, where on_hung says so.
        Errors: LostWorkerError when one is lost or hangs, InterruptedRun after a signal, and the function's.
        """
        self._waits += 1
        return self._until(function, self._awaited, what)

    def _until(self, function: Callable[[], Any], awaited: Callable[[], str], what: str | None = None) -> Any:
        """awaited: gives who is waited for."""
        outcome: list[Any] = []
        done = threading.Event()
        self._work.put((function, outcome, done))
        waited, patience = Stopwatch(), Patience(self._patience)
        stop = math.inf
        while not done.wait(POLL_SECONDS):
            seconds = waited.look()
            if self._failure:
                raise LostWorkerError(self._failure)
            if self.signal():
                stop = min(stop, seconds + LAST_STEP)
            if seconds >= stop:
                raise InterruptedRun(f"waiting for {awaited()}; {self.signal()}: stopped")
            if what and seconds > self._cluster.timeout:
                raise LostWorkerError(
                    f"cluster.timeout={self._cluster.timeout:g}: {what} takes longer than so many seconds, "
                    f"waiting for {awaited()}"
                )
            if not what and patience.is_over(seconds):
                raise LostWorkerError(f"cluster.patience_s={patience.seconds:g}: waited so long for {awaited()}")
            if patience.reports(seconds):
                log.warning("waiting %.0f s for %s", seconds, awaited())
        result, error = outcome
        if error is not None:
            raise error
        return result

    def _awaited(self) -> str:
        """Whom the other workers wait for: who does not answer, or who has not come to where they are."""
        silent = [peer.text for peer in self._peers.values() if peer.silent]
        behind = [peer.text for name, peer in self._peers.items()
                  if name.startswith(WORKER) and peer.waits < self._waits]  # fmt: skip
        if silent:
            return f"{', '.join(silent)}: no sign of life"
        return f"{', '.join(behind)}: alive, but behind the others" if behind else "the parameter servers"

    def end(self, code: int) -> None:
        """Ends the members; this process ends with `code` when it comes to its end, too."""
        self._ending = True
        hung = {name for name, peer in self._peers.items() if peer.silent}
        for peer in list(self._peers.values()):
            with contextlib.suppress(OSError):
                peer.line.send({"end": code}, patience=SEND)
        deadline = time.monotonic() + (EXIT_TIMEOUT if self._peers else 0)
        for name, process in self._processes.items():
            left = 0 if name in hung else deadline - time.monotonic()
            try:
                process.wait(max(0.1, left))
            except subprocess.TimeoutExpired:
                process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):  # a dead disk may keep it
                    process.wait(EXIT_REPORT_SECONDS)
        atexit.register(leave, code)

    def _help(self) -> None:
        """Does what may never end, so that the main thread can give up waiting and heed signals."""
        while True:
            function, outcome, done = self._work.get()
            try:
                outcome += [function(), None]
            except Exception as error:
                outcome[:] = [None, error]
            done.set()

    def _beat(self) -> None:
        """Asks for signs of life; members take the question for one of worker 0."""
        while not self._ending:
            for peer in list(self._peers.values()):
                if peer.asked is None:
                    peer.asked = time.monotonic()
                    try:
                        peer.line.send({"beat": True}, patience=0)
                    except TimeoutError:  # something long is being sent
                        peer.asked = None
                    except OSError:  # gone, which is noticed elsewhere
                        continue
            time.sleep(BEAT)

    def _attend(self, connection: socket.socket) -> None:
        """Everything about one member, as long as its line lasts."""
        line = Channel(connection, MOST_SAID, 0)
        peer, name = None, ""
        try:
            hello, _ = line.receive(_give_up)
            name, text = _introduction(hello)
            line.send(self._welcome, patience=self._cluster.timeout)
            with self._news:
                if name not in self._names or name in self._peers:
                    raise EOFError
                self._peers[name] = peer = Peer(line, text)
                self._news.notify_all()
            while True:
                self._hear(peer, line.receive()[0])
        except (EOFError, OSError):
            if peer:
                self._fail(f"{peer.text} is gone: {self._reason(name)}")
            else:
                line.close()

    def _hear(self, peer: Peer, message: dict[str, Any]) -> None:
        if "beat" in message:
            peer.asked = None
        elif "waits" in message:
            peer.waits += 1
        else:
            self._fail(f"{peer.text}: {message.get('error')}")

    def _reason(self, name: str) -> str:
        process = self._processes.get(name)
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return describe_exit(process.wait(EXIT_REPORT_SECONDS))
        return "its connection is closed"

    def _watch(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        """Of a member that ends before it has a line."""
        code = process.wait()
        time.sleep(POLL_SECONDS)
        if name not in self._peers:
            self._fail(f"{name} did not start: {describe_exit(code)}")

    def _fail(self, what: str) -> None:
        with self._news:
            if not self._ending and self._failure is None:
                self._failure = what
                self._news.notify_all()

    def _thread(self, function: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()


def _introduction(hello: dict[str, Any]) -> tuple[str, str]:
    """Name of a member, and the same with host and process. Errors: EOFError when it says no such things."""
    name, host, process = (hello.get(key) for key in ("name", "host", "process"))
    if not (isinstance(name, str) and isinstance(host, str) and host.isprintable() and isinstance(process, int)):
        raise EOFError
    return name, f"{name} ({host[:MOST_NAME]}, process {process})"


def _give_up(silence: float) -> None:
    if silence > DEADLINE:
        raise EOFError


def leave(code: int) -> None:
    """MXNet would wait at its end for servers that are gone."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
