import pytest

from ssd.config.compose import compose
from ssd.jobs import settle
from ssd.utils.cpu import cores_by_thread, physical_cores, usable_cores


def test_what_changes_results_gets_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (("3", 3), ("2,1", 2), ("", physical_cores())):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        cfg = compose(["loader=record"])
        settle(cfg)
        assert cfg.device.threads == expected
        assert cfg.loader.workers == usable_cores()
    cfg = compose(["device.threads=5"])
    settle(cfg)
    assert cfg.device.threads == 5
    assert cfg.loader.workers is None  # whose batches are the same at any number


def test_cores() -> None:
    assert 1 <= physical_cores() <= usable_cores()
    assert sorted(cpu for core in cores_by_thread() for cpu in core)
