"""A process other than worker 0: `python -m ssd.jobs.worker_process` reads on stdin where worker 0 is."""

import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.config.compose import compose
from ssd.config.overrides import composable
from ssd.config.schema import Config
from ssd.config.targets import literal
from ssd.launch.channel import connect
from ssd.launch.hosts import LOOPBACK, address_towards
from ssd.launch.plan import SERVER, WORKER, Node, Plan, Task
from ssd.launch.secret import Secret
from ssd.launch.spawn import bootstrap, start_member
from ssd.launch.worker import PATIENCE, WorkerProcess
from ssd.runs.saved import parse_config
from ssd.utils.errors import UserError
from ssd.utils.signals import SIGNALS


def run(facts: dict[str, Any], patience: float) -> None:
    """Does what facts["role"] is to do; the process ends in here."""
    for number in SIGNALS:  # sent to all processes of a job, they are meant for worker 0
        signal.signal(number, signal.SIG_IGN)
    node = Node(facts["role"], facts["rank"])
    try:
        who = f"{node.name} ({socket.gethostname()})"
        secret = Secret.read(facts["secret"])
        member = WorkerProcess(connect(facts["address"], facts["port"], secret, patience, who), node.name)
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
            _train(cfg, member, node.rank)
        else:
            _serve()
    except UserError as error:
        member.report_error(str(error))
    except Exception as error:
        traceback.print_exc()
        member.report_error(f"{type(error).__name__}: {error}")
    threading.Event().wait()  # for worker 0 to say that it is over


def _train(cfg: DictConfig, member: WorkerProcess, rank: int) -> None:
    logging.basicConfig(level=logging.WARNING, format=f"{member.name}: %(message)s")
    os.environ["OMP_NUM_THREADS"] = str(cfg.device.threads)  # before MXNet is imported
    from ssd.data.loaders.base import Shard
    from ssd.jobs.train_worker import train_worker

    train_worker(cfg, member, Shard(rank, member.welcome["workers"]))


def _serve() -> None:
    """A server or the scheduler. Commands are not listened to: MXNet's own servers unpickle what they are sent."""
    # Imported as a worker is: MXNet would else begin to serve in the import, listening to commands.
    role = os.environ.pop("DMLC_ROLE")
    os.environ["OMP_NUM_THREADS"] = "1"
    from ssd.mxnet_compat import serve_key_values

    os.environ["DMLC_ROLE"] = role
    serve_key_values()


def follow_slurm(overrides: Sequence[str]) -> None:
    """In a task of a Slurm job other than the first: with cluster=slurm it does that task's work, and ends in here.

    Errors: UserError for a wrong override or variable.
    """
    cluster = compose(composable(overrides)).cluster
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
