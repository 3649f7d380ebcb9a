"""Worker 0 and its members, who are threads here and train nothing."""

import threading
from collections.abc import Iterator

import pytest

from ssd.cluster.hosts import free_port
from ssd.cluster.lead import Lead, leading
from ssd.cluster.line import Line, connect
from ssd.cluster.plan import SERVER, WORKER, Node, Plan
from ssd.config import compose
from ssd.errors import LostWorkerError, UserError

KEY = "secret"


@pytest.fixture(autouse=True)
def _alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests does not end as that of a run; what MXNet reads is put back."""
    monkeypatch.setattr("ssd.cluster.lead.atexit.register", lambda *arguments: None)
    for name in ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER", "DMLC_ROLE",
                 "DMLC_NODE_HOST"):  # fmt: skip
        monkeypatch.setenv(name, "")


@pytest.fixture
def lead() -> Iterator[Lead]:
    """One that waits for worker 1 and server 0."""
    plan = Plan(2, 1, "127.0.0.1", free_port(), KEY, [], [Node(WORKER, 1), Node(SERVER, 0)])
    lead = Lead(compose(["cluster=local", "cluster.timeout=600"]), plan)
    yield lead
    lead.end(0)


def join(lead: Lead, name: str) -> Line:
    line = connect("127.0.0.1", lead._plan.port, KEY, 600)
    line.send({"name": name, "host": "here", "process": 7})
    welcome, _ = line.receive()
    assert welcome["workers"] == 2
    assert welcome["settings"]["DMLC_NUM_SERVER"] == "1"
    assert "batch_size: 16" in welcome["config"]
    return line


@pytest.fixture
def lines(lead: Lead) -> dict[str, Line]:
    """Of members that have come."""
    found: dict[str, Line] = {}

    def come() -> None:
        for name in ("worker 1", "server 0"):
            found[name] = join(lead, name)

    thread = threading.Thread(target=come)
    thread.start()
    lead.gather()
    thread.join()
    return found


def forever() -> None:
    threading.Event().wait()


def test_messages_reach_the_workers_and_the_end_reaches_all(lead: Lead, lines: dict[str, Line]) -> None:
    lead.tell({"step": 3}, b"\0\1")
    assert lines["worker 1"].receive() == ({"step": 3}, b"\0\1")
    lead.end(75)
    assert [line.receive() for line in lines.values()] == [({"end": 75}, b"")] * 2


def test_waiting_gives_what_the_function_gives(lead: Lead, lines: dict[str, Line]) -> None:
    assert lead.wait(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        lead.wait(lambda: 1 // 0)
    assert lead.wait(lambda: 8) == 8


@pytest.mark.parametrize("name", ["worker 1", "server 0"])
def test_a_lost_member_ends_the_waiting(lead: Lead, lines: dict[str, Line], name: str) -> None:
    threading.Timer(0.3, lines[name].close).start()
    with pytest.raises(LostWorkerError, match=rf"{name} \(here, process 7\) is gone: its connection is closed"):
        lead.wait(forever)


def test_a_member_says_why_it_cannot_go_on(lead: Lead, lines: dict[str, Line]) -> None:
    lines["worker 1"].send({"error": "x.jpg is no picture"})
    with pytest.raises(LostWorkerError, match=r"worker 1 \(here, process 7\): x.jpg is no picture"):
        lead.wait(forever)


def test_who_does_not_know_the_key_or_is_not_expected_is_sent_away(lead: Lead, lines: dict[str, Line]) -> None:
    with pytest.raises(UserError, match="belongs to another run"):
        connect("127.0.0.1", lead._plan.port, "guessed", 600)
    for name in ("worker 1", "worker 9"):
        line = join(lead, name)
        with pytest.raises((EOFError, OSError)):
            line.receive()
    assert lead.wait(lambda: 7) == 7


def test_members_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(2, 1, "127.0.0.1", free_port(), KEY, [], [Node(WORKER, 1)])
    monkeypatch.setattr("ssd.cluster.lead.make_plan", lambda cluster: plan)
    text = "cluster.timeout=0.5: after so many seconds worker 1 had not reached worker 0 at 127.0.0.1"
    with pytest.raises(LostWorkerError, match=text), leading(compose(["cluster=local", "cluster.timeout=0.5"])):
        pass


def test_a_member_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["cluster=ssh", "cluster.hosts=[localhost,127.0.0.1]", "cluster.ssh=/bin/false"]
    with pytest.raises(LostWorkerError, match="did not start: its process ended with code 1"), leading(compose(words)):
        pass
    with (
        pytest.raises(UserError, match="no-such-program cannot be started"),
        leading(compose([*words[:2], "cluster.ssh=no-such-program"])),
    ):
        pass


def test_more_workers_than_pictures() -> None:
    with (
        pytest.raises(UserError, match="smaller than the number of devices of all workers"),
        leading(compose(["cluster=local", "batch_size=1"])),
    ):
        pass


def test_a_port_in_use(lead: Lead) -> None:
    words = ["cluster=local", f"cluster.port={lead._plan.port}"]
    with pytest.raises(UserError, match="cannot be listened on"), leading(compose(words)):
        pass


def test_alone() -> None:
    with leading(compose([])) as nobody:
        assert nobody is None


def test_passes_that_do_not_share_a_batch_evenly() -> None:
    words = ["cluster=local", "cluster.workers=2", "training.accumulate=4", "batch_size=4"]
    with (
        pytest.raises(UserError, match="4 passes on 2 devices of all workers, take a multiple of 8"),
        leading(compose(words)),
    ):
        pass
