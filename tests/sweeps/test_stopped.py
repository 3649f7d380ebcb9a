"""A job that is stopped (SIGSTOP) when its sweep is ended."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ssd.sweeps import job
from ssd.sweeps.outcome import INTERRUPTED, read


def test_a_child_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Stopped(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(["sleep", "600"], stdin=subprocess.PIPE)
            started.append(self)
            self.interrupted = False

        def wait(self, timeout: float | None = None) -> int:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return super().wait(timeout)

    hydra = {"job": {"num": 0}, "launcher": {"_target_": "x.BasicLauncher"}}
    monkeypatch.setattr(job.HydraConfig, "get", lambda: job.OmegaConf.create(hydra))
    monkeypatch.setattr(job, "task_overrides", lambda: ["seed=0"])
    monkeypatch.setattr(job, "EXIT_TIMEOUT", 0.01)
    monkeypatch.setattr(job, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": Stopped}))
    with pytest.raises(KeyboardInterrupt):
        job.run_apart(job.OmegaConf.create({}), tmp_path / "0")
    assert started[0].poll() == -9
    assert read(tmp_path / "0").state == INTERRUPTED
