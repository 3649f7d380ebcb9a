import threading
import time

import pytest

from ssd.tracking.outbox import TOGETHER, Outbox, TryAgainError


def test_everything_arrives_in_order_and_one_kind_at_a_time():
    batches = []
    outbox = Outbox(batches.append, "there", limit=1000, retry_seconds=0.01)
    for kind in "aababbb":
        outbox.put(kind, kind)
    assert outbox.close(5) == {}
    assert "".join(entry.kind for batch in batches for entry in batch) == "aababbb"
    assert all(len({entry.kind for entry in batch}) == 1 for batch in batches)


def test_neighbours_go_together_up_to_a_limit():
    batches = []
    gate = threading.Event()

    def send(entries):
        gate.wait(5)
        batches.append(len(entries))

    outbox = Outbox(send, "there", limit=1000, retry_seconds=0.01)
    outbox.put("first", 0)
    for number in range(TOGETHER + 20):
        outbox.put("row", number)
    gate.set()
    assert outbox.close(5) == {}
    assert batches == [1, TOGETHER, 20]


def test_silence_is_told_once_and_nothing_is_lost(caplog):
    caplog.set_level("INFO")
    arrived, failures = [], iter(range(3))

    def send(entries):
        if next(failures, None) is not None:
            raise TryAgainError("connection refused")
        arrived.extend(entry.content for entry in entries)

    outbox = Outbox(send, "there", limit=1000, retry_seconds=0.01)
    outbox.put("row", 1)
    outbox.put("row", 2)
    assert outbox.close(5) == {}
    assert arrived == [1, 2]
    assert caplog.messages == [
        "there does not answer: connection refused; training goes on, and so do attempts",
        "there answers again",
    ]


def test_refused_entries_are_counted_and_the_next_are_sent(caplog):
    arrived = []

    def send(entries):
        if entries[0].kind == "bad":
            raise ValueError("too long\nfor you")
        arrived.extend(entry.content for entry in entries)

    outbox = Outbox(send, "there", limit=1000, retry_seconds=0.01)
    for kind in ("bad", "row", "bad", "row"):
        outbox.put(kind, kind)
    assert outbox.close(5) == {"bad": 2}
    assert arrived == ["row", "row"]
    assert caplog.messages == ["there refused bad: ValueError: too long"]


@pytest.mark.parametrize("dead", ["raises", "hangs"])
def test_dead_other_side_costs_nothing_and_closes_in_time(dead):
    release = threading.Event()

    def send(entries):
        if dead == "hangs":
            release.wait(20)
        raise TryAgainError("nobody there")

    outbox = Outbox(send, "there", limit=50, retry_seconds=10)
    start = time.perf_counter()
    for number in range(1000):
        outbox.put("row", number)
    assert time.perf_counter() - start < 0.2
    start = time.perf_counter()
    assert outbox.close(0.2) == {"row": 1000}  # 50 waiting, 950 found no room
    assert 0.1 < time.perf_counter() - start < 1
    release.set()


def test_close_without_entries():
    assert Outbox(lambda _: None, "there", limit=1, retry_seconds=1).close(5) == {}
