import signal
import subprocess
import sys
import threading

import pytest

from ssd.utils.signals import SIGNALS, StopSignals


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_next_would_kill(number: int) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with StopSignals() as signals:
        assert signals.name is None
        signal.raise_signal(number)
        assert signals.name == signal.Signals(number).name
        assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_second_signal_ends_the_process() -> None:
    program = (
        "import signal, ssd.utils.signals as s\n"
        "with s.StopSignals():\n"
        "    signal.raise_signal(signal.SIGINT); print('noted', flush=True); signal.raise_signal(signal.SIGTERM)\n"
        "    print('never')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "noted\n")


def test_other_threads_leave_signals_alone() -> None:
    def enter() -> None:
        with StopSignals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers: list[object] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
