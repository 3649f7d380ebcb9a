"""Worker 0 and its members, who are threads here and train nothing."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssd.config.compose import compose
from ssd.config.parts import cluster_config
from ssd.launch.channel import Channel, connect
from ssd.launch.coordinator import Coordinator, _introduction, launch_cluster
from ssd.launch.handshake import Door
from ssd.launch.hosts import free_port
from ssd.launch.plan import SERVER, WORKER, Node, Plan
from ssd.launch.secret import Secret
from ssd.utils.errors import InterruptedRun, LostWorkerError, UserError

SECRET = Secret("secret")
OVERRIDES = ["cluster=local", "cluster.timeout=600"]


@pytest.fixture(autouse=True)
def _alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests does not end as that of a run; what MXNet reads is put back."""
    monkeypatch.setattr("ssd.launch.coordinator.atexit.register", lambda *arguments: None)
    for name in ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER", "DMLC_ROLE",
                 "DMLC_NODE_HOST"):  # fmt: skip
        monkeypatch.setenv(name, "")


@pytest.fixture
def lead() -> Iterator[Coordinator]:
    """One that waits for worker 1 and server 0."""
    plan = Plan(2, 1, "127.0.0.1", free_port(), SECRET, [], [Node(WORKER, 1), Node(SERVER, 0)])
    lead = Coordinator(cluster_config(compose(OVERRIDES)), plan)
    yield lead
    lead.end(0)


def join(lead: Coordinator, name: str) -> Channel:
    line = connect("127.0.0.1", lead._plan.port, SECRET, 600)
    line.send({"name": name, "host": "here", "process": 7})
    welcome, _ = line.receive()
    assert welcome["workers"] == 2
    assert welcome["settings"]["DMLC_NUM_SERVER"] == "1"
    assert "batch_size: 16" in welcome["config"]
    return line


def gathered(lead: Coordinator, *names: str) -> dict[str, Channel]:
    """Lines of members that come in this order while they are gathered."""
    found: dict[str, Channel] = {}

    def come() -> None:
        for name in names:
            found[name] = join(lead, name)

    thread = threading.Thread(target=come)
    thread.start()
    lead.gather()
    thread.join()
    return found


@pytest.fixture
def lines(lead: Coordinator) -> dict[str, Channel]:
    """Of members that have come."""
    return gathered(lead, "worker 1", "server 0")


def forever() -> None:
    threading.Event().wait()


def test_messages_reach_the_workers_and_the_end_reaches_all(lead: Coordinator, lines: dict[str, Channel]) -> None:
    lead.send_to_all({"step": 3}, b"\0\1")
    assert lines["worker 1"].receive() == ({"step": 3}, b"\0\1")
    lead.end(75)
    assert [line.receive() for line in lines.values()] == [({"end": 75}, b"")] * 2


def test_waiting_gives_what_the_function_gives(lead: Coordinator, lines: dict[str, Channel]) -> None:
    assert lead.wait(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        lead.wait(lambda: 1 // 0)
    assert lead.wait(lambda: 8) == 8


@pytest.mark.parametrize("name", ["worker 1", "server 0"])
def test_a_lost_member_ends_the_waiting(lead: Coordinator, lines: dict[str, Channel], name: str) -> None:
    threading.Timer(0.3, lines[name].close).start()
    with pytest.raises(LostWorkerError, match=rf"{name} \(here, process 7\) is gone: its connection is closed"):
        lead.wait(forever)


def test_a_member_says_why_it_cannot_go_on(lead: Coordinator, lines: dict[str, Channel]) -> None:
    lines["worker 1"].send({"error": "x.jpg is no image"})
    with pytest.raises(LostWorkerError, match=r"worker 1 \(here, process 7\): x.jpg is no image"):
        lead.wait(forever)


def test_who_does_not_know_the_key_or_is_not_expected_is_sent_away(lead: Coordinator) -> None:
    sent_away = []

    def come() -> None:
        with pytest.raises(UserError, match="belongs to another run"):
            connect("127.0.0.1", lead._plan.port, Secret("guessed"), 600)
        first = join(lead, "worker 1")
        for name in ("worker 1", "worker 9"):
            with pytest.raises((EOFError, OSError)):
                join(lead, name).receive()
            sent_away.append(name)
        join(lead, "server 0")
        first.send({"beat": True})

    thread = threading.Thread(target=come)
    thread.start()
    lead.gather()
    thread.join()
    assert sent_away == ["worker 1", "worker 9"]


@pytest.mark.parametrize("hello", [{}, {"name": 1, "host": "h", "process": 2}, {"name": "worker 1", "host": "\x1b[2J",
                                                                             "process": 2}])  # fmt: skip
def test_an_introduction_that_is_none(hello: dict) -> None:
    with pytest.raises(EOFError):
        _introduction(hello)


def test_nobody_is_listened_to_once_all_have_come(lead: Coordinator, lines: dict[str, Channel]) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", lead._plan.port))


def test_the_key_of_a_slurm_job_lies_in_its_folder_only_until_all_have_come(tmp_path: Path) -> None:
    secret = Secret(None, tmp_path / "shared" / "x.key")
    plan = Plan(2, 1, "127.0.0.1", free_port(), secret, [], [Node(WORKER, 1)])
    lead = Coordinator(cluster_config(compose(OVERRIDES)), plan)

    def come() -> None:
        line = connect("127.0.0.1", plan.port, secret, 600)
        line.send({"name": "worker 1", "host": "here", "process": 7})
        line.receive()

    thread = threading.Thread(target=come)
    thread.start()
    lead.gather()
    thread.join()
    lead.end(0)
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_signal_while_members_are_waited_for_leaves_no_key_behind(tmp_path: Path) -> None:
    secret = Secret(None, tmp_path / "shared" / "x.key")
    lead = Coordinator(
        cluster_config(compose(OVERRIDES)), Plan(2, 1, "127.0.0.1", free_port(), secret, [], [Node(WORKER, 1)])
    )

    def interrupt() -> None:
        while not secret.file or not secret.file.exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(InterruptedRun, match="^waiting for worker 1 to come; SIGTERM: stopped$"):
        lead.gather()
    lead.end(75)
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_member_that_has_the_key_of_an_earlier_start_comes_in_with_the_present_one(tmp_path: Path) -> None:
    secret = Secret(None, tmp_path / "x.key")
    secret.publish()
    plan = Plan(2, 1, "127.0.0.1", free_port(), secret, [], [Node(WORKER, 1)])
    lead = Coordinator(cluster_config(compose(OVERRIDES)), plan)
    door = Door("127.0.0.1", plan.port, "of another run", lambda connection: connection.close())
    found = []

    def come() -> None:
        line = connect("127.0.0.1", plan.port, secret, 600)
        line.send({"name": "worker 1", "host": "here", "process": 7})
        found.append(line.receive()[0]["workers"])

    thread = threading.Thread(target=come)
    thread.start()
    door.close()
    lead.gather()
    thread.join()
    lead.end(0)
    assert found == [2]


def answer(line: Channel) -> None:
    """Signs of life, as a member gives them, in a thread until its line is closed."""

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                line.send(line.receive()[0])

    threading.Thread(target=listen, daemon=True).start()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for long."""
    for name, seconds in (("POLL_SECONDS", 0.01), ("BEAT", 0.01), ("SILENT", 0.1), ("LAST_STEP", 0.01)):
        monkeypatch.setattr(f"ssd.launch.coordinator.{name}", seconds)


def test_a_worker_that_hangs_is_named_and_then_given_up(
    lead: Coordinator, soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    lead._patience["patience_s"] = 0.4
    lines = gathered(lead, "worker 1", "server 0")
    answer(lines["server 0"])
    text = r"cluster.patience_s=0.4: waited so long for worker 1 \(here, process 7\): no sign of life"
    with pytest.raises(LostWorkerError, match=text):
        lead.wait(forever)
    assert caplog.messages[-1].startswith("waiting 0 s for worker 1 (here, process 7)")


def test_a_server_that_hangs_is_named(lead: Coordinator, soon: None) -> None:
    lead._patience["patience_s"] = 0.4
    lines = gathered(lead, "worker 1", "server 0")
    answer(lines["worker 1"])
    with pytest.raises(LostWorkerError, match=r"for server 0 \(here, process 7\): no sign of life"):
        lead.wait(forever)


def test_a_worker_that_lives_but_does_not_come_is_named(lead: Coordinator, soon: None) -> None:
    lead._patience["patience_s"] = 0.4
    lines = gathered(lead, "worker 1", "server 0")
    for line in lines.values():
        answer(line)
    with pytest.raises(LostWorkerError, match=r"for worker 1 \(here, process 7\): alive, but behind the others"):
        lead.wait(forever)


def test_with_on_hung_wait_it_is_waited_for_without_end(
    lead: Coordinator, soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    lead._patience["patience_s"], lead._patience["on_hung"] = 0.01, "wait"
    lines = gathered(lead, "worker 1", "server 0")

    def until_reported_often() -> int:
        while sum("waiting" in text for text in caplog.messages) < 5:
            threading.Event().wait(0.01)
        return 7

    assert lead.wait(until_reported_often) == 7
    assert len(lines) == 2


def test_a_signal_ends_the_waiting(lead: Coordinator, lines: dict[str, Channel], soon: None) -> None:
    lead.signal = lambda: "SIGTERM"
    with pytest.raises(InterruptedRun, match=r"^waiting for .*worker 1 \(here, process 7\).*; SIGTERM: stopped$"):
        lead.wait(forever)


def test_parameters_for_a_worker_that_takes_nothing_in(lead: Coordinator, soon: None) -> None:
    lead._patience["patience_s"] = 0.4
    lines = gathered(lead, "worker 1", "server 0")
    with pytest.raises(LostWorkerError, match=r"waited so long for worker 1 \(here, process 7\)"):
        lead.send_to_all({}, bytes(64 << 20))
    assert len(lines) == 2


def test_a_step_that_is_finished_is_not_given_up_for_a_signal(lead: Coordinator, lines: dict[str, Channel]) -> None:
    lead.signal = lambda: "SIGTERM"
    assert lead.wait(lambda: threading.Event().wait(0.3)) is False


def test_members_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(2, 1, "127.0.0.1", free_port(), SECRET, [], [Node(WORKER, 1)])
    monkeypatch.setattr("ssd.launch.coordinator.make_plan", lambda cluster: plan)
    text = "cluster.timeout=0.5: after so many seconds worker 1 had not reached worker 0 at 127.0.0.1"
    with (
        pytest.raises(LostWorkerError, match=text),
        launch_cluster(cluster_config(compose(["cluster=local", "cluster.timeout=0.5"]))),
    ):
        pass


def test_a_member_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["cluster=ssh", "cluster.hosts=[localhost,127.0.0.1]", "cluster.ssh=/bin/false"]
    with (
        pytest.raises(LostWorkerError, match="did not start: ended with exit code 1"),
        launch_cluster(cluster_config(compose(overrides))),
    ):
        pass
    with (
        pytest.raises(UserError, match="no-such-program cannot be started"),
        launch_cluster(cluster_config(compose([*overrides[:2], "cluster.ssh=no-such-program"]))),
    ):
        pass


def test_more_workers_than_images() -> None:
    with (
        pytest.raises(UserError, match="expected at least the number of devices of all workers"),
        launch_cluster(cluster_config(compose(["cluster=local", "batch_size=1"]))),
    ):
        pass


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        overrides = ["cluster=local", f"cluster.port={taken.getsockname()[1]}"]
        with (
            pytest.raises(UserError, match="cannot be listened on"),
            launch_cluster(cluster_config(compose(overrides))),
        ):
            pass


def test_alone() -> None:
    with launch_cluster(cluster_config(compose([]))) as nobody:
        assert nobody is None


def test_passes_that_do_not_share_a_batch_evenly() -> None:
    overrides = ["cluster=local", "cluster.workers=2", "training.accumulate=4", "batch_size=4"]
    with (
        pytest.raises(UserError, match="4 passes on 2 devices of all workers, take a multiple of 8"),
        launch_cluster(cluster_config(compose(overrides))),
    ):
        pass
