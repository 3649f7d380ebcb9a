import json
import math
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssd.checkpoint.index import NAME, read_index
from ssd.checkpoint.model import find_params, load_params
from ssd.checkpoint.store import Checkpoints, RetentionPolicy, TrainPosition
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

METRIC = "val/map_11pt"
STEPS = 10  # of an epoch


def network() -> mx.sym.Symbol:
    return mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")


def values(number: float) -> tuple[dict, dict]:
    return {"fc_weight": mx.nd.ones((2, 3)) * number, "fc_bias": mx.nd.zeros(2)}, {"fc_mean": mx.nd.ones(1) * number}


def opened(folder: Path, last: int = 1, every: int | None = None) -> Checkpoints:
    checkpoints = Checkpoints(folder / "checkpoints", METRIC, RetentionPolicy(last, every))
    checkpoints.write_symbol(network())
    return checkpoints


def save_epoch(checkpoints: Checkpoints, epoch: int, metric: float | None) -> bool:
    states = {"optimizer/fc_weight:0": mx.nd.ones(1) * epoch}
    return checkpoints.save(TrainPosition(epoch, 0, epoch * STEPS), values(epoch), states, {METRIC: metric})


def save_step(checkpoints: Checkpoints, epoch: int, rest: int) -> None:
    step = epoch * STEPS + rest
    checkpoints.save(
        TrainPosition(epoch, rest, step), values(step), {"optimizer/fc_weight:0": mx.nd.ones(1) * step}, None
    )


def save_all(folder: Path, metrics: list[float | None], **keep: int) -> Checkpoints:
    checkpoints = opened(folder, **keep)
    checkpoints.begin(["seed=1"])
    for epoch, metric in enumerate(metrics, start=1):
        save_epoch(checkpoints, epoch, metric)
    return checkpoints


def files(folder: Path) -> set[str]:
    return {file.name for file in (folder / "checkpoints").iterdir()} - {"ssd-symbol.json", NAME}


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ([0.1, 0.3, 0.2], 2),
        ([0.3, 0.2, 0.1], 1),
        ([0.2, 0.2], 2),
        ([math.nan, 0.0], 2),
        ([0.5, math.nan], 1),
        ([0.5, None], 1),
        ([math.nan] * 2, 2),
    ],
)
def test_best_and_last_are_kept_and_found(tmp_path: Path, metrics: list[float | None], best: int) -> None:
    checkpoints = save_all(tmp_path, metrics)
    folder = tmp_path / "checkpoints"
    index = json.loads((folder / NAME).read_text())
    assert (index["best"]["epoch"], index["last"]["epoch"]) == (best, len(metrics))
    measured = metrics[best - 1] is not None
    assert checkpoints.standing == (("best", index["best"]) if measured else ("last", index["last"]))
    assert files(tmp_path) == {f"ssd-{best:04d}.params", *(f"ssd-{len(metrics):04d}.{k}" for k in ("params", "states"))}
    assert load_params(tmp_path)[0]["fc_weight"].asnumpy()[0, 0] == best
    assert load_params(folder / f"ssd-{len(metrics):04d}.params")[1]["fc_mean"].asscalar() == len(metrics)


def test_what_is_kept(tmp_path: Path) -> None:
    checkpoints = save_all(tmp_path, [0.1, 0.9, *[0.2] * 6], last=2, every=3)
    assert files(tmp_path) == {
        "ssd-0002.params",  # the best
        "ssd-0003.params", "ssd-0006.params",  # every third
        "ssd-0007.params", "ssd-0007.states", "ssd-0008.params", "ssd-0008.states",
    }  # fmt: skip
    save_step(checkpoints, 8, 4)
    assert files(tmp_path) >= {"ssd-0008.states", "ssd-0008+4.params", "ssd-0008+4.states"}
    assert "ssd-0007.params" not in files(tmp_path)
    assert checkpoints.best.name == "ssd-0002.params"


def test_in_the_middle_of_the_first_epoch_the_last_is_the_best_there_is(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    save_step(checkpoints, 0, 4)
    assert find_params(tmp_path).name == checkpoints.best.name == "ssd-0000+4.params"
    assert find_params(tmp_path / "checkpoints" / "ssd-0000+4.params").is_file()
    assert save_epoch(checkpoints, 1, 0.1)


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    checkpoints = save_all(tmp_path, [0.3, 0.2])
    save_step(checkpoints, 2, 7)
    again = opened(tmp_path)
    saved = again.resume(["seed=1"])
    assert saved is not None
    assert saved.step == 27
    assert saved.params[0]["fc_weight"].asnumpy()[0, 0] == saved.states["optimizer/fc_weight:0"].asscalar() == 27
    assert again.standing[1]["epoch"] == 1
    assert not save_epoch(again, 3, 0.25)
    assert save_epoch(again, 4, 0.3)


def test_nothing_saved_yet_is_a_new_beginning(tmp_path: Path) -> None:
    assert opened(tmp_path).resume([]) is None


@pytest.mark.parametrize("kind", ["params", "states"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: file.write_bytes(b"\0" + file.read_bytes()[1:]),
        Path.unlink,
    ],
    ids=["truncated", "changed", "gone"],
)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(
    tmp_path: Path, kind: str, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The damaged one was the best: what was the best before it is, too."""
    save_all(tmp_path, [0.4, 0.2, 0.3, 0.5], last=2)
    harm(tmp_path / "checkpoints" / f"ssd-0004.{kind}")
    again = opened(tmp_path, last=2)
    saved = again.resume([])
    assert saved is not None
    assert saved.step == 30
    assert f"ssd-0004.{kind}" in caplog.text
    assert "resuming from the one before, step 30" in caplog.text
    assert again.standing[1]["epoch"] == 1
    assert load_params(again.best)[0]["fc_weight"].asnumpy()[0, 0] == 1
    assert not any(name.startswith("ssd-0004") for name in files(tmp_path))
    save_epoch(again, 4, 0.5)
    assert again.standing[1]["epoch"] == 4


def test_all_damaged(tmp_path: Path) -> None:
    save_all(tmp_path, [0.1, 0.2], last=2)
    for file in (tmp_path / "checkpoints").glob("*.params"):
        file.write_bytes(b"x")
    with pytest.raises(UserError, match="none of its 2 checkpoints can be read"):
        opened(tmp_path).resume([])


def test_a_damaged_best_is_told_and_sought_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_all(tmp_path, [0.9, 0.2])
    (tmp_path / "checkpoints" / "ssd-0001.params").write_bytes(b"x")
    with pytest.raises(UserError, match="checksum differs.*name another checkpoint"):
        load_params(tmp_path)
    again = opened(tmp_path)
    assert again.resume([]) is not None
    assert "the best one is sought anew" in caplog.text
    assert save_epoch(again, 3, 0.1)


def test_drafts_of_a_killed_writer_go(tmp_path: Path) -> None:
    save_all(tmp_path, [0.1])
    folder = tmp_path / "checkpoints"
    for stray in (".ssd-0002.params.0123456789ab.tmp", "ssd-0002.params"):
        (folder / stray).write_bytes(b"half")
    opened(tmp_path).resume([])
    assert files(tmp_path) == {"ssd-0001.params", "ssd-0001.states"}


def test_a_finished_run_is_known_as_such(tmp_path: Path) -> None:
    checkpoints = save_all(tmp_path, [0.1, 0.2])
    assert not checkpoints.complete(2)
    checkpoints.finish()
    assert read_index(tmp_path / "checkpoints" / NAME)["finished"]
    again = opened(tmp_path)
    assert again.complete(2)
    assert not again.complete(3)  # more were asked for


def test_a_new_run_in_an_old_folder_replaces_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_all(tmp_path, [0.1, 0.2])
    assert save_epoch(save_all(tmp_path, []), 1, 0.05)
    assert "replaced" in caplog.text
    assert files(tmp_path) == {"ssd-0001.params", "ssd-0001.states"}


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    checkpoints = save_all(tmp_path, [0.5])
    with pytest.raises(UserError, match=r"fc_weight is not finite.*ssd-0001.params"):
        checkpoints.save(TrainPosition(2, 0, 20), values(math.inf), {}, {METRIC: 0.6})
    assert checkpoints.standing[1]["epoch"] == 1
    assert not (tmp_path / "checkpoints" / "ssd-0002.params").exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may become larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size", [0, 100, 299])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, size: int) -> None:
    """299: all but the last byte fits, which MXNet does not notice."""
    checkpoints = save_all(tmp_path, [0.5])
    whole = (tmp_path / "checkpoints" / "ssd-0001.params").stat().st_size
    before = {name: (tmp_path / "checkpoints" / name).read_bytes() for name in files(tmp_path) | {NAME}}
    message = "cannot write .*ssd-0002.*File too large"  # a limit of the process, not of the disk
    with largest_file(whole - 1 if size == 299 else size), pytest.raises(UserError, match=message):
        save_epoch(checkpoints, 2, 0.6)
    assert {name: (tmp_path / "checkpoints" / name).read_bytes() for name in files(tmp_path) | {NAME}} == before
    saved = opened(tmp_path).resume([])
    assert saved is not None
    assert saved.step == STEPS
    assert save_epoch(checkpoints, 2, 0.6)  # there is room again


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = save_all(tmp_path, [0.5])

    def half(path: str, arrays: dict) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mx.nd, "save", half)
    with pytest.raises(UserError, match="No space left on device; step 10 is saved"):
        save_epoch(checkpoints, 2, 0.6)
    monkeypatch.undo()
    assert files(tmp_path) == {"ssd-0001.params", "ssd-0001.states"}
    assert load_params(tmp_path)[0]["fc_weight"].asnumpy()[0, 0] == 1
