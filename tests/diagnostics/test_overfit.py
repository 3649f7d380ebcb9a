"""The self-test of a network, by the real command line and as a function."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.config.compose import compose
from ssd.jobs import check
from ssd.utils.errors import UnsafeDataError, UserError

TINY = ["job=check", "dataset.train=10", "dataset.val=2", "loader.workers=0"]


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float]]:
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> dict[str, float]:
        try:
            check.run(compose([*TINY, *overrides]), tmp_path)
        finally:
            assert not list(tmp_path.glob("tmp*"))
        return json.loads((tmp_path / "check.json").read_text())

    return run


@pytest.mark.slow
def test_the_small_network_learns_eight_images_by_heart(tested: Callable[..., dict[str, float]]) -> None:
    numbers = tested("check.overfit=8")
    assert numbers["map_area"] == pytest.approx(1)
    assert numbers["steps"] <= 300


def test_a_network_that_cannot(tested: Callable[..., dict[str, float]], tmp_path: Path) -> None:
    """Anchors that meet no object; the exit code is that of data that are not safe to train on."""
    with pytest.raises(UnsafeDataError, match=r"small at 64x64 cannot overfit 4 images: mAP 0\..* of 4 ") as message:
        tested("check.overfit=4", "check.steps=4", "check.measure_every=2", "data_shape=64")
    assert message.value.exit_code == 1
    assert "\n" not in str(message.value)
    assert json.loads((tmp_path / "check.json").read_text())["map_area"] < 1


def test_nothing_to_learn(tested: Callable[..., dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "spread", lambda samples, number: [])
    with pytest.raises(UserError, match="check.overfit=8: there is no training image with an object"):
        tested("check.overfit=8")
