"""Who starts whom, from configuration and Slurm's variables."""

import pytest

from ssd.cluster.plan import Task, make_plan
from ssd.config import compose
from ssd.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "31234", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
    "SLURM_NTASKS": "4", "SLURM_NODELIST": "node[1-2]",
}  # fmt: skip


def names(nodes: list) -> list[tuple[str, str | None]]:
    return [(node.name, node.host) for node in nodes]


def test_local_starts_everybody_here() -> None:
    plan = make_plan(compose(["cluster=local", "cluster.workers=3", "cluster.servers=2"]).cluster)
    assert (plan.workers, plan.servers, plan.address) == (3, 2, "127.0.0.1")
    expected = ["scheduler", "server 0", "server 1", "worker 1", "worker 2"]
    assert names(plan.starts) == [(name, None) for name in expected]
    assert plan.comes == []
    assert plan.key != make_plan(compose(["cluster=local"]).cluster).key


def test_ssh_starts_a_worker_per_host_and_a_server_per_machine() -> None:
    plan = make_plan(compose(["cluster=ssh", "cluster.hosts=[localhost,127.0.0.1,127.0.0.1]"]).cluster)
    assert (plan.workers, plan.servers, plan.address) == (3, 2, "127.0.0.1")
    away = "127.0.0.1"
    assert names(plan.starts) == [
        ("scheduler", None), ("server 0", None), ("server 1", away), ("worker 1", away), ("worker 2", away),
    ]  # fmt: skip


def test_ssh_needs_hosts() -> None:
    with pytest.raises(UserError, match=r"cluster\.hosts"):
        make_plan(compose(["cluster=ssh"]).cluster)


def test_slurm_starts_only_what_belongs_to_task_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.cluster.plan.address_towards", lambda host: f"towards {host}")
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    plan = make_plan(compose(["cluster=slurm"]).cluster)
    assert (plan.workers, plan.servers, plan.address, plan.port) == (4, 2, "towards node2", 21234)
    assert [node.name for node in plan.starts] == ["scheduler", "server 0"]
    assert [node.name for node in plan.comes] == ["server 1", "worker 1", "worker 2", "worker 3"]
    monkeypatch.setenv("SLURM_PROCID", "2")
    with pytest.raises(UserError, match="task 2 of a Slurm job: say cluster=slurm on the command line"):
        make_plan(compose(["cluster=slurm"]).cluster)


def test_tasks_of_a_slurm_job() -> None:
    tasks = [
        Task.here(SLURM | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % 2), "SLURM_NODEID": str(rank // 2)})
        for rank in range(4)
    ]
    assert [task.server(None) for task in tasks] == [0, None, 1, None]
    assert [task.server(1) for task in tasks] == [0, None, None, None]
    assert len({task.port(None) for task in tasks}) == len({task.key({}) for task in tasks}) == 1
    assert tasks[0].key({"SSD_CLUSTER_KEY": "x"}) != tasks[0].key({})
    assert tasks[0].port(5000) == 5000
    assert Task.here(SLURM | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a"}).hosts == ["a"]
    with pytest.raises(UserError, match=r"cluster\.servers=3: choose 1 to 2"):
        tasks[0].servers(3)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"SLURM_PROCID": None}, "SLURM_PROCID is not set; start it with srun"),
        ({"SLURM_NODELIST": None}, "SLURM_NODELIST is not set; start it with srun"),
        ({"SLURM_NTASKS": "many"}, "is no number"),
    ],
)
def test_without_srun(change: dict[str, str | None], part: str) -> None:
    environment = {name: value for name, value in (SLURM | change).items() if value is not None}
    with pytest.raises(UserError, match=part):
        Task.here(environment)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["cluster=local", "job=eval"], "only job=train has several workers, job=eval has not"),
        (["cluster=local", "cluster.workers=0"], "cluster.workers=0: must be at least 1"),
        (["cluster=local", "cluster.servers=0"], "cluster.servers=0: must be at least 1"),
    ],
)
def test_what_makes_no_cluster(words: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        compose(words)
