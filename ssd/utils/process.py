"""How a process ended."""

import signal


def died(code: int) -> str:
    """Why a process ended that could not say it itself, from its exit code."""
    if code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
