"""Who takes part in a training on several workers, and who starts whom: from the configuration or Slurm's variables."""

import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssd.config.parts import ClusterConfig
from ssd.launch.hosts import LOOPBACK, address_towards, free_port, host_list, own_address, slurm_hosts
from ssd.launch.secret import KEY, Secret
from ssd.utils.errors import UserError

SCHEDULER, SERVER, WORKER = "scheduler", "server", "worker"
PORTS = 20_000, 10_000  # of task 0 of a Slurm job: the first, and how many
LEAST_KEY = 16  # characters; a short one could be found by trying


@dataclass(frozen=True)
class Node:
    """A process. host: where worker 0 starts it by ssh; None: here."""

    role: str
    rank: int
    host: str | None = None

    @property
    def name(self) -> str:
        return self.role if self.role == SCHEDULER else f"{self.role} {self.rank}"


@dataclass(frozen=True)
class Plan:
    """address, port: where worker 0 listens, as the others reach it; secret: what they prove to belong to it with.

    starts: what worker 0 starts; comes: what starts elsewhere.
    """

    workers: int
    servers: int
    address: str
    port: int
    secret: Secret
    starts: list[Node]
    comes: list[Node]


@dataclass(frozen=True)
class Task:
    """A task of a Slurm job step. node: number of its machine; place: its own number there, 0 for the first; start:
    which of the step's, for a job may be requeued."""

    rank: int
    tasks: int
    place: int
    node: int
    hosts: list[str]
    step: str
    start: int

    @classmethod
    def here(cls, environment: Mapping[str, str]) -> "Task":
        """This process. Errors: UserError outside of srun."""
        try:
            tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment["SLURM_NTASKS"]
            names = ("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST")
            hosts = next(environment[name] for name in names if environment.get(name))
            numbers = [int(environment[f"SLURM_{name}"]) for name in ("PROCID", "LOCALID", "NODEID")]
            job = int(environment["SLURM_JOB_ID"])
            step = f"{job}.{int(environment.get('SLURM_STEP_ID', 0))}"
            start = int(environment.get("SLURM_RESTART_COUNT", 0))
            return cls(numbers[0], int(tasks), numbers[1], numbers[2], slurm_hosts(hosts), step, start)
        except (KeyError, StopIteration) as error:
            raise UserError(
                f"cluster=slurm: {error.args[0] if error.args else 'SLURM_NODELIST'} is not set; "
                "start it with srun: srun python -m ssd.run cluster=slurm ..."
            ) from error
        except ValueError as error:
            raise UserError(f"cluster=slurm: a SLURM_ variable is no number ({error})") from error

    def port(self, wanted: int | None) -> int:
        return wanted or PORTS[0] + int(self.step.partition(".")[0]) % PORTS[1]

    def address(self, wanted: str | None) -> str:
        """Of task 0, as this one reaches it. Errors: UserError when a machine's name is unknown."""
        if wanted is not None:
            return wanted
        if len(set(self.hosts)) == 1:
            return LOOPBACK
        return own_address(self.hosts[0], self.hosts[-1]) if self.node == 0 else self.hosts[0]

    def secret(self, folder: str, environment: Mapping[str, str]) -> Secret:
        """The same in all tasks of the step: of $SSD_CLUSTER_KEY, or in a file of a folder that they share. No other
        step, and no other start of this one, has a file of this name. Errors: UserError for a short key."""
        given = environment.get(KEY)
        if not given:
            return Secret(None, Path(folder).absolute() / f".cluster-{self.step}-{self.start}.key")
        if len(given) < LEAST_KEY:
            raise UserError(f"{KEY}: has {len(given)} characters; take {LEAST_KEY} or more that nobody can guess, such "
                            "as those of: openssl rand -hex 32")  # fmt: skip
        return Secret(hmac.digest(given.encode(), self.step.encode(), "sha256").hex())

    def servers(self, wanted: int | None) -> int:
        """Errors: UserError for more than machines."""
        machines = len(dict.fromkeys(self.hosts))
        if wanted is not None and not 1 <= wanted <= machines:
            raise UserError(f"cluster.servers={wanted}: expected 1 to {machines}, one per machine at most")
        return machines if wanted is None else wanted

    def server(self, wanted: int | None) -> int | None:
        """Number of the server that this task starts, if it does."""
        return self.node if self.place == 0 and self.node < self.servers(wanted) else None


def make_plan(cluster: ClusterConfig) -> Plan:
    """cluster: not none. Errors: UserError for machines or tasks that are not there."""
    return {"local": _local, "ssh": _ssh, "slurm": _slurm}[cluster.name](cluster)


def _local(cluster: ClusterConfig) -> Plan:
    workers, servers = cluster.workers, cluster.servers
    if workers is None or servers is None:
        key = "workers" if workers is None else "servers"
        raise UserError(f"cluster.{key}=null: expected how many, with cluster=local")
    starts = [Node(SCHEDULER, 0), *(Node(SERVER, number) for number in range(servers)),
              *(Node(WORKER, number) for number in range(1, workers))]  # fmt: skip
    port = cluster.port or free_port()
    return Plan(workers, servers, LOOPBACK, port, Secret(secrets.token_hex()), starts, [])


def _ssh(cluster: ClusterConfig) -> Plan:
    if cluster.hosts is None:
        raise UserError("cluster=ssh: needs cluster.hosts, such as [node1,node2] or a file; this machine first")
    hosts = host_list(cluster.hosts)
    machines = list(dict.fromkeys(hosts))
    servers = len(machines) if cluster.servers is None else cluster.servers
    places = [machines[number % len(machines)] for number in range(servers)]
    starts = [Node(SCHEDULER, 0)]
    starts += [Node(SERVER, number, None if host == hosts[0] else host) for number, host in enumerate(places)]
    starts += [Node(WORKER, number, None if host == hosts[0] else host) for number, host in enumerate(hosts) if number]
    port = cluster.port or free_port()
    address = cluster.address or address_towards(machines[-1])
    return Plan(len(hosts), servers, address, port, Secret(secrets.token_hex()), starts, [])


def _slurm(cluster: ClusterConfig) -> Plan:
    task = Task.here(os.environ)
    if task.rank:
        raise UserError(f"task {task.rank} of a Slurm job: say cluster=slurm on the command line, so that it is known")
    servers = task.servers(cluster.servers)
    starts = [Node(SCHEDULER, 0), Node(SERVER, 0)]
    comes = [Node(SERVER, number) for number in range(1, servers)]
    comes += [Node(WORKER, number) for number in range(1, task.tasks)]
    assert cluster.folder is not None  # as validate() has seen to
    secret = task.secret(cluster.folder, os.environ)
    return Plan(task.tasks, servers, task.address(cluster.address), task.port(cluster.port), secret, starts, comes)
