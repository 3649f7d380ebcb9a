import threading
import time

import pytest

from ssd.tracking.mlflow.outbox import BATCH, Outbox, TryAgainError


def test_everything_arrives_in_order_and_one_kind_at_a_time():
    batches = []
    outbox = Outbox(batches.append, "there", limit=1000, retry_seconds=0.01)
    for kind in "aababbb":
        outbox.put(kind, kind)
    assert outbox.close(600) == ([], {})
    assert "".join(entry.kind for batch in batches for entry in batch) == "aababbb"
    assert all(len({entry.kind for entry in batch}) == 1 for batch in batches)


def test_neighbors_go_together_up_to_a_limit():
    batches = []
    gate = threading.Event()

    def send(entries):
        gate.wait()
        batches.append(len(entries))

    outbox = Outbox(send, "there", limit=1000, retry_seconds=0.01)
    outbox.put("first", 0)
    for number in range(BATCH + 20):
        outbox.put("row", number)
    gate.set()
    assert outbox.close(600) == ([], {})
    assert batches == [1, BATCH, 20]


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
    assert outbox.close(600) == ([], {})
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
    assert outbox.close(600) == ([], {"bad": 2})
    assert arrived == ["row", "row"]
    assert caplog.messages == ["there refused bad: ValueError: too long"]


@pytest.mark.parametrize("dead", ["raises", "hangs"])
def test_dead_other_side_costs_nothing_and_closes_in_time(dead):
    release = threading.Event()

    def send(entries):
        if dead == "hangs":
            release.wait()
        raise TryAgainError("nobody there")

    # Whatever waited for the other side would wait for ever.
    outbox = Outbox(send, "there", limit=50, retry_seconds=1e6)
    for number in range(1000):
        outbox.put("row", number)
    waiting, lost = outbox.close(0.2)
    assert [entry.content for entry in waiting] == list(range(50))
    assert lost == {"row": 950}  # found no room
    release.set()


def test_close_without_entries():
    assert Outbox(lambda _: None, "there", limit=1, retry_seconds=1).close(600) == ([], {})


def test_vital_entries_always_find_room():
    gate = threading.Event()
    outbox = Outbox(lambda _: gate.wait(), "there", limit=2, retry_seconds=1)
    for number in range(5):
        outbox.put("row", number)
    outbox.put("end", 0, vital=True)
    gate.set()
    assert outbox.close(600) == ([], {"row": 3})


def test_a_side_that_was_silent_before_the_end_gets_one_more_chance():
    attempts = []

    def send(entries):
        attempts.append(len(entries))
        raise TryAgainError("nobody there")

    outbox = Outbox(send, "there", limit=50, retry_seconds=60)
    outbox.put("row", 1)
    while not outbox._silent:
        time.sleep(0.001)
    outbox.put("row", 2)
    waiting, lost = outbox.close(600)  # returns long before
    assert [entry.content for entry in waiting] == [1, 2]
    assert lost == {}
    assert len(attempts) == 2


def test_an_attempt_from_before_the_end_is_not_the_last_chance():
    attempts, begun = [], threading.Event()

    def send(entries):
        attempts.append(len(entries))
        if len(attempts) == 2:
            begun.set()
            while not outbox._closing.is_set():
                time.sleep(0.001)
        if len(attempts) < 3:
            raise TryAgainError("not yet")

    outbox = Outbox(send, "there", limit=50, retry_seconds=0.01)
    outbox.put("row", 1)
    begun.wait()
    assert outbox.close(600) == ([], {})
    assert len(attempts) == 3


def test_a_side_that_falls_silent_at_the_end_is_tried_until_time_is_up():
    attempts = []

    def send(entries):
        attempts.append(len(entries))
        while len(attempts) == 2 and not outbox._closing.is_set():
            time.sleep(0.001)
        if len(attempts) in (2, 3):
            raise TryAgainError("busy")

    outbox = Outbox(send, "there", limit=50, retry_seconds=0.01)
    outbox.put("row", 1)
    while not attempts:
        time.sleep(0.001)
    outbox.put("end", 2)
    assert outbox.close(600) == ([], {})
    assert len(attempts) == 4
