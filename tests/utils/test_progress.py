import io
import logging
import sys

from ssd.utils import progress as module
from ssd.utils.progress import progress


def test_lines_where_there_is_no_terminal(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("packing train", 30) as done:
        done(10)
    with progress("x.tar", 3_000_000, in_bytes=True) as done:
        done(1_000_000)
    with progress("unpacking", None) as done:
        done(5)
    assert [record.message for record in caplog.records] == [
        "packing train: 10 of 30",
        "x.tar: 1 MB of 3 MB",
        "unpacking: 5",
    ]


def test_seldom(caplog):
    caplog.set_level(logging.INFO)
    with progress("packing train", 30) as done:
        for number in range(30):
            done(number)
    assert not caplog.records


def test_a_bar_on_a_terminal(monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("packing train", 30) as done:
        done(30)
    assert "packing train" in sys.stderr.getvalue()
    assert "30/30" in sys.stderr.getvalue()
    assert not caplog.records
