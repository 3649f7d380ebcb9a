"""Who starts whom, from configuration and Slurm's variables."""

from pathlib import Path

import pytest

from ssd.config.compose import compose
from ssd.config.parts import cluster_config
from ssd.launch.plan import Task, make_plan
from ssd.launch.secret import Secret
from ssd.utils.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "31234", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
    "SLURM_NTASKS": "4", "SLURM_NODELIST": "node[1-2]",
}  # fmt: skip


def names(nodes: list) -> list[tuple[str, str | None]]:
    return [(node.name, node.host) for node in nodes]


def test_local_starts_everybody_here() -> None:
    plan = make_plan(cluster_config(compose(["cluster=local", "cluster.workers=3", "cluster.servers=2"])))
    assert (plan.workers, plan.servers, plan.address) == (3, 2, "127.0.0.1")
    expected = ["scheduler", "server 0", "server 1", "worker 1", "worker 2"]
    assert names(plan.starts) == [(name, None) for name in expected]
    assert plan.comes == []
    assert plan.secret.file is None
    assert plan.secret.key != make_plan(cluster_config(compose(["cluster=local"]))).secret.key


def test_ssh_starts_a_worker_per_host_and_a_server_per_machine() -> None:
    plan = make_plan(cluster_config(compose(["cluster=ssh", "cluster.hosts=[localhost,127.0.0.1,127.0.0.1]"])))
    assert (plan.workers, plan.servers, plan.address) == (3, 2, "127.0.0.1")
    away = "127.0.0.1"
    assert names(plan.starts) == [
        ("scheduler", None), ("server 0", None), ("server 1", away), ("worker 1", away), ("worker 2", away),
    ]  # fmt: skip


def test_ssh_needs_hosts() -> None:
    with pytest.raises(UserError, match=r"cluster\.hosts"):
        make_plan(cluster_config(compose(["cluster=ssh"])))


def test_slurm_starts_only_what_belongs_to_task_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.launch.plan.own_address", lambda name, other: f"{name} towards {other}")
    monkeypatch.delenv("SSD_CLUSTER_KEY", raising=False)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    plan = make_plan(cluster_config(compose(["cluster=slurm"])))
    assert (plan.workers, plan.servers, plan.address, plan.port) == (4, 2, "node1 towards node2", 21234)
    assert plan.secret == Secret(None, Path.cwd() / "outputs" / ".cluster-31234.0-0.key")
    assert make_plan(cluster_config(compose(["cluster=slurm", "cluster.address=10.0.0.1"]))).address == "10.0.0.1"
    assert [node.name for node in plan.starts] == ["scheduler", "server 0"]
    assert [node.name for node in plan.comes] == ["server 1", "worker 1", "worker 2", "worker 3"]
    monkeypatch.setenv("SLURM_PROCID", "2")
    with pytest.raises(UserError, match="task 2 of a Slurm job: say cluster=slurm on the command line"):
        make_plan(cluster_config(compose(["cluster=slurm"])))


def test_tasks_of_a_slurm_job() -> None:
    tasks = [
        Task.here(SLURM | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % 2), "SLURM_NODEID": str(rank // 2)})
        for rank in range(4)
    ]
    assert [task.server(None) for task in tasks] == [0, None, 1, None]
    assert [task.server(1) for task in tasks] == [0, None, None, None]
    assert len({task.port(None) for task in tasks}) == 1
    assert tasks[0].port(5000) == 5000
    assert [task.address(None) for task in tasks[2:]] == ["node1", "node1"]
    assert Task.here(SLURM | {"SLURM_NODELIST": "node1"}).address(None) == "127.0.0.1"
    assert Task.here(SLURM | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a"}).hosts == ["a"]
    with pytest.raises(UserError, match=r"cluster\.servers=3: expected 1 to 2"):
        tasks[0].servers(3)


def test_all_tasks_of_a_start_of_a_step_share_a_secret_and_no_others_do() -> None:
    def secret(given: str | None = None, **change: str) -> Secret:
        return Task.here(SLURM | change).secret("shared", {"SSD_CLUSTER_KEY": given} if given else {})

    others = [{"SLURM_JOB_ID": "31235"}, {"SLURM_STEP_ID": "1"}, {"SLURM_RESTART_COUNT": "1"}]
    assert secret() == secret(SLURM_PROCID="3", SLURM_NODEID="1")
    assert len({secret(**change) for change in [{}, *others]}) == 4
    first = secret(32 * "x")
    assert first == secret(32 * "x", SLURM_PROCID="3")
    assert first.file is None
    assert first.key not in (None, secret(32 * "y").key, secret(32 * "x", SLURM_STEP_ID="1").key)
    with pytest.raises(UserError, match="SSD_CLUSTER_KEY: has 1 characters; take 16 or more") as caught:
        secret("y")
    assert "'y'" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"SLURM_PROCID": None}, "SLURM_PROCID is not set; start it with srun"),
        ({"SLURM_NODELIST": None}, "SLURM_NODELIST is not set; start it with srun"),
        ({"SLURM_NTASKS": "many"}, "is no number"),
        ({"SLURM_STEP_ID": "../x"}, "is no number"),
    ],
)
def test_without_srun(change: dict[str, str | None], part: str) -> None:
    environment = {name: value for name, value in (SLURM | change).items() if value is not None}
    with pytest.raises(UserError, match=part):
        Task.here(environment)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["cluster=local", "job=eval"], "only job=train has several workers, job=eval has not"),
        (["cluster=local", "cluster.workers=0"], "cluster.workers=0: expected at least 1"),
        (["cluster=local", "cluster.servers=0"], "cluster.servers=0: expected at least 1"),
        (["cluster=local", "cluster.patience_s=0"], "cluster.patience_s=0.0: expected more than 0"),
        (["cluster=local", "cluster.on_hung=kill"], "cluster.on_hung=kill: expected save or wait"),
        (["cluster=local", "cluster.address=10.0.0.1"], "cluster=local needs none"),
        (["cluster=slurm", "cluster.address=0.0.0.0"], "is no address that others can reach"),
        (["cluster=slurm", "cluster.folder=null"], "cluster.folder=null: expected a folder"),
    ],
)
def test_what_makes_no_cluster(overrides: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        compose(overrides)
