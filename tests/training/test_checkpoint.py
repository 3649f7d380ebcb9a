import json
import math
from pathlib import Path

import pytest

from ssd.engine import mx
from ssd.errors import UserError
from ssd.model import load_params
from ssd.training.checkpoint import Checkpoints


def network() -> mx.sym.Symbol:
    return mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")


def values(number: float) -> tuple[dict, dict]:
    return {"fc_weight": mx.nd.ones((2, 3)) * number, "fc_bias": mx.nd.zeros(2)}, {"fc_mean": mx.nd.ones(1) * number}


def save_all(folder: Path, metrics: list[float]) -> Checkpoints:
    checkpoints = Checkpoints(folder / "checkpoints", network(), "val/map_11pt")
    for epoch, metric in enumerate(metrics, start=1):
        checkpoints.save(epoch, values(epoch), {"fc_weight:0": mx.nd.ones(1)}, {"val/map_11pt": metric})
    return checkpoints


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ([0.1, 0.3, 0.2], 2),
        ([0.3, 0.2, 0.1], 1),
        ([0.2, 0.2], 2),
        ([math.nan, 0.0], 2),
        ([0.5, math.nan], 1),
        ([math.nan] * 2, 2),
    ],
)
def test_best_and_last_are_kept_and_found(tmp_path: Path, metrics: list[float], best: int) -> None:
    checkpoints = save_all(tmp_path, metrics)
    folder = tmp_path / "checkpoints"
    index = json.loads((folder / "checkpoints.json").read_text())
    assert (index["best"]["epoch"], index["last"]["epoch"], checkpoints.best_epoch) == (best, len(metrics), best)
    kept = {f"ssd-{epoch:04d}.{kind}" for epoch in {best, len(metrics)} for kind in ("params", "states")}
    assert {file.name for file in folder.iterdir()} == kept | {"ssd-symbol.json", "checkpoints.json"}
    assert load_params(tmp_path)[0]["fc_weight"].asnumpy()[0, 0] == best
    assert load_params(folder / f"ssd-{len(metrics):04d}.params")[1]["fc_mean"].asscalar() == len(metrics)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    checkpoints = save_all(tmp_path, [0.5])
    with pytest.raises(UserError, match=r"fc_weight is not finite.*ssd-0001.params"):
        checkpoints.save(2, values(math.inf), {}, {"val/map_11pt": 0.6})
    assert checkpoints.best_epoch == 1
    assert not (tmp_path / "checkpoints" / "ssd-0002.params").exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = save_all(tmp_path, [0.5])

    def half(path: str, arrays: dict) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(mx.nd, "save", half)
    with pytest.raises(OSError, match="space"):
        checkpoints.save(2, values(2), {}, {"val/map_11pt": 0.6})
    monkeypatch.undo()
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == [
        "checkpoints.json", "ssd-0001.params", "ssd-0001.states", "ssd-symbol.json",
    ]  # fmt: skip
    assert load_params(tmp_path)[0]["fc_weight"].asnumpy()[0, 0] == 1
