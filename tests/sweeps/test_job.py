"""Jobs of real sweeps: what fails is listed with its reason, and the others go on, whatever the launcher."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.sweeps.outcome import read_all

Sweep = Callable[..., tuple[int, str, Path]]
ACTS = "+logger.acts._target_=acts.Acts"


@pytest.mark.slow
def test_a_failed_and_a_killed_job_leave_the_others_alone(sweep: Sweep) -> None:
    code, said, folder = sweep(ACTS, "+logger.acts.kind=dies,nothing", "init.freeze=null,nowhere")
    assert code == 1, said
    ended = {outcome.number: outcome for outcome in read_all(folder).values()}
    assert [ended[number].state for number in range(4)] == ["failed", "failed", "finished", "failed"]
    assert "SIGKILL" in ended[0].reason
    assert "init.freeze=nowhere: matches no parameter" in ended[1].reason
    assert ended[2].value is not None
    assert ended[2].parameters
    for part in ("SIGKILL", "init.freeze=nowhere", "mAP 11pt", "leaderboard"):
        assert part in said
    rows = list(csv.DictReader((folder / "leaderboard.csv").open()))
    assert [(row["rank"], row["job"]) for row in rows] == [("1", "2"), ("", "0"), ("", "1"), ("", "3")]
    metrics = json.loads((folder / "2_small_128_shapes" / "metrics.json").read_text())
    assert float(rows[0]["map_11pt"]) == metrics["map_11pt"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_at_the_same_time_share_the_cores(launcher: str, sweep: Sweep) -> None:
    code, said, folder = sweep(ACTS, f"hydra/launcher={launcher}", "+logger.acts.kind=nothing,dies,nothing",
                               "sweep.parallel=2")  # fmt: skip
    assert code == 1, said
    assert [outcome.state for outcome in read_all(folder).values()] == ["finished", "failed", "finished"]
    assert (folder / "leaderboard.png").is_file()
    cores = [set((job / "cores").read_text().split()) for job in read_all(folder)]
    usable = len(os.sched_getaffinity(0))
    assert all(len(part) == max(1, usable // 2) for part in cores)
    if usable > 1:
        assert not cores[0] & cores[1]
