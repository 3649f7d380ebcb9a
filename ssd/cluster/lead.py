"""Worker 0's side: starts the members, notices when one is lost, tells them what to do and when it is over."""

import atexit
import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Listener
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.cluster.hosts import free_port
from ssd.cluster.line import Line, accepted
from ssd.cluster.plan import WORKER, Plan, make_plan
from ssd.cluster.start import bootstrap, start_member
from ssd.data.share import Share
from ssd.errors import LostWorkerError, UserError
from ssd.recipe import check_passes
from ssd.sweeps.job import died

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds that members get to end by themselves
GLANCE = 0.2  # seconds between two looks whether a member is lost
LAST_WORDS = 3.0  # seconds in which a process that has closed its line tells its exit code


@contextmanager
def leading(cfg: DictConfig) -> Iterator["Lead | None"]:
    """The members of cfg.cluster, ready, as long as the block lasts; None with cluster=none.

    Errors: UserError when they do not all start.
    """
    if cfg.cluster.name == "none":
        yield None
        return
    plan = make_plan(cfg.cluster)
    devices = plan.workers * len(cfg.device.ids)
    if cfg.batch_size < devices:
        raise UserError(f"batch_size={cfg.batch_size} is smaller than the number of devices of all workers ({devices})")
    check_passes(cfg, devices, f" on {devices} devices of all workers")
    lead, code = Lead(cfg, plan), 1
    try:
        lead.gather()
        yield lead
        code = 0
    except UserError as error:
        code = error.exit_code
        raise
    finally:
        lead.end(code)


class Lead:
    def __init__(self, cfg: DictConfig, plan: Plan) -> None:
        self.share = Share(0, plan.workers)
        self._cluster = cfg.cluster
        self._plan = plan
        self._names = {node.name for node in [*plan.starts, *plan.comes]}
        self._lines: dict[str, Line] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._news = threading.Condition()
        self._failure: str | None = None  # the first one
        self._ending = False
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], list[Any], threading.Event]] = queue.SimpleQueue()
        self.settings = {  # what MXNet's parameter server reads
            "DMLC_PS_ROOT_URI": plan.address,
            "DMLC_PS_ROOT_PORT": str(free_port()),
            "DMLC_NUM_WORKER": str(plan.workers),
            "DMLC_NUM_SERVER": str(plan.servers),
        }
        self._welcome = {"settings": self.settings, "workers": plan.workers,
                         "config": OmegaConf.to_yaml(cfg, resolve=True)}  # fmt: skip
        try:
            self._listener = Listener((plan.address if cfg.cluster.name == "local" else "", plan.port), backlog=64)
        except OSError as error:
            raise UserError(f"cluster.port={plan.port}: cannot be listened on ({error.strerror})") from error

    def gather(self) -> None:
        """Starts the members and waits until all have said that they are there.

        Errors: LostWorkerError when one ends before, UserError when some do not come in time.
        """
        self._thread(self._listen)
        self._thread(self._help)
        for node in self._plan.starts:
            process = start_member(node, bootstrap(self._plan, node), self._cluster.ssh)
            self._processes[node.name] = process
            self._thread(self._watch, node.name, process)
        deadline = time.monotonic() + self._cluster.timeout
        with self._news:
            while missing := sorted(self._names - self._lines.keys()):
                left = deadline - time.monotonic()
                if self._failure or left <= 0:
                    raise LostWorkerError(
                        self._failure
                        or f"cluster.timeout={self._cluster.timeout:g}: after so many seconds {', '.join(missing)} "
                        f"had not reached worker 0 at {self._plan.address}:{self._plan.port}"
                    )
                self._news.wait(left)
        os.environ.update(self.settings | {"DMLC_ROLE": WORKER, "DMLC_NODE_HOST": self._plan.address})
        log.info(
            "cluster: %d workers, %d server%s that add up what they learn",
            self._plan.workers,
            self._plan.servers,
            "s" * (self._plan.servers > 1),
        )

    def tell(self, message: dict[str, Any], content: bytes = b"") -> None:
        """Sends a message to all workers. One that is gone is noticed elsewhere."""
        for name, line in list(self._lines.items()):
            if name.startswith(WORKER):
                with contextlib.suppress(OSError):
                    line.send(message, content)

    def wait(self, function: Callable[[], Any], what: str | None = None) -> Any:
        """Calls a function that waits for other processes, without end if one of them is lost.

        what: it is that takes cluster.timeout at most; None: any time. Errors: LostWorkerError, and the function's.
        """
        outcome: list[Any] = []
        done = threading.Event()
        self._work.put((function, outcome, done))
        started = time.monotonic()
        while not done.wait(GLANCE):
            if self._failure:
                raise LostWorkerError(self._failure)
            if what and time.monotonic() - started > self._cluster.timeout:
                raise LostWorkerError(
                    f"cluster.timeout={self._cluster.timeout:g}: {what} takes longer than so many seconds"
                )
        result, error = outcome
        if error is not None:
            raise error
        return result

    def end(self, code: int) -> None:
        """Ends the members; this process ends with `code` when it comes to its end, too."""
        self._ending = True
        self._listener.close()
        for line in list(self._lines.values()):
            with contextlib.suppress(OSError):
                line.send({"end": code})
        deadline = time.monotonic() + (GRACE if self._lines else 0)
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
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

    def _listen(self) -> None:
        while not self._ending:
            try:
                self._thread(self._attend, self._listener.accept())
            except OSError:
                continue

    def _attend(self, connection: Any) -> None:
        """Everything about one member, as long as its line lasts."""
        line = accepted(connection, self._plan.key)
        if line is None:
            return
        name = who = ""
        try:
            hello, _ = line.receive()
            name, who = hello["name"], f"{hello['name']} ({hello['host']}, process {hello['process']})"
            line.send(self._welcome)
            with self._news:
                if name not in self._names or name in self._lines:
                    raise EOFError
                self._lines[name] = line
                self._news.notify_all()
            while True:
                message, _ = line.receive()
                self._fail(f"{who}: {message['error']}")
        except (EOFError, OSError):
            if self._lines.get(name) is line:
                self._fail(f"{who} is gone: {self._reason(name)}")
            else:
                line.close()

    def _reason(self, name: str) -> str:
        process = self._processes.get(name)
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return died(process.wait(LAST_WORDS))
        return "its connection is closed"

    def _watch(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        """Of a member that ends before it has a line."""
        code = process.wait()
        time.sleep(GLANCE)
        if name not in self._lines:
            self._fail(f"{name} did not start: {died(code)}")

    def _fail(self, what: str) -> None:
        with self._news:
            if not self._ending and self._failure is None:
                self._failure = what
                self._news.notify_all()

    def _thread(self, function: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()


def leave(code: int) -> None:
    """MXNet would wait at its end for servers that are gone."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
