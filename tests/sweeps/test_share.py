import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.compose import compose
from ssd.sweeps import share
from ssd.sweeps.share import one_by_one, part, take
from ssd.utils.errors import UserError


@given(st.integers(1, 40), st.integers(1, 40))
def test_parts_are_never_empty_and_overlap_only_when_there_are_too_few(items: int, count: int) -> None:
    parts = [part(range(items), index, count) for index in range(count)]
    assert all(parts)
    joined = [item for piece in parts for item in piece]
    assert set(joined) == set(range(items))
    if items >= count:
        assert joined == list(range(items))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_gpus_are_dealt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    configs = [compose(["device=gpu", "device.ids=[0,1,2,3]"]) for _ in range(2)]
    with take(configs[0], tmp_path, 2) as first, take(configs[1], tmp_path, 2) as second:
        assert [list(cfg.device.ids) for cfg in (first, second)] == [[0, 1], [2, 3]]
    with pytest.raises(UserError, match=r"sweep\.parallel=2"), take(compose(["device=gpu"]), tmp_path, 2):
        pass


def test_a_place_is_free_again_when_its_process_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "PAUSE", 0.01)
    code = (
        f"from pathlib import Path; from ssd.sweeps.share import _free_place; _free_place(Path({str(tmp_path)!r}), 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    index, handle = share._free_place(tmp_path, 1)
    os.close(handle)
    assert index == 0


def test_alone_a_job_keeps_everything(tmp_path: Path) -> None:
    cfg = compose(["device=gpu", "device.ids=[0,1]"])
    with take(cfg, tmp_path, 1) as own:
        assert list(own.device.ids) == [0, 1]
    assert not list(tmp_path.iterdir())


def test_launchers() -> None:
    assert one_by_one({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"})
    assert not one_by_one({"_target_": "hydra_plugins.ssd_sweeps.EachAlone", "cluster": "local"})
