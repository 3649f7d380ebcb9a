import signal
import subprocess
import sys
import threading

import pytest

from ssd.utils.signals import ONE_REQUEST, SIGNALS, StopSignals


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_others_at_once_or_of_another_kind_are_the_same_request(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("ssd.utils.signals.time", clock)
    before = [signal.getsignal(each) for each in SIGNALS]
    with StopSignals() as signals:
        assert signals.name is None
        for now in (0.0, ONE_REQUEST / 2):
            clock.now = now
            signal.raise_signal(number)
            assert signals.name == signal.Signals(number).name
        clock.now = 5 * ONE_REQUEST
        for other in set(SIGNALS) - {number}:
            signal.raise_signal(other)
        assert signals.name == signal.Signals(number).name
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_later_second_signal_ends_the_process_with_a_line(number: int) -> None:
    program = (
        "import signal, types, ssd.utils.signals as s\n"
        "clock = s.time = types.SimpleNamespace(monotonic=lambda: now); now = 0.0\n"
        "with s.StopSignals():\n"
        f"    signal.raise_signal({int(number)}); now = 2 * s.ONE_REQUEST; print('noted', flush=True)\n"
        f"    signal.raise_signal({int(number)})\n"
        "    print('never')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout) == (-number, "noted\n")
    assert done.stderr == f"{signal.Signals(number).name} again: ended at once, the latest steps are not saved\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_what_is_ignored_stays_so(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignals() as signals:  # as under nohup
            signal.raise_signal(number)
            assert signals.name is None
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_other_threads_leave_signals_alone() -> None:
    def enter() -> None:
        with StopSignals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers: list[object] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
