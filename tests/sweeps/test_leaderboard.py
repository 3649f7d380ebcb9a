import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ssd.runs.results import Conditions, Results
from ssd.sweeps.leaderboard import collect, common_overrides, make_leaderboard
from ssd.sweeps.outcome import FAILED, FINISHED, INTERRUPTED, PRUNED

Job = Callable[..., Path]
EPOCHS = "epoch,train/images_per_second\n1,10\n2,90\n3,110\n"


@pytest.fixture
def folder(job: Job, tmp_path: Path) -> Path:
    """A sweep of six: two good ones, one without a value, one pruned, one failed, one interrupted."""
    rate = "optimizer.learning_rate=0.0015892794664021446"
    metrics = '{"map_11pt": 0.5, "map_area": 0.4, "epoch": 3}'
    job(0, [rate, "data_shape='128'", "epochs=3"], state=FAILED, reason="KeyError: 'x'")
    job(1, ["a=1", "data_shape='128'", "epochs=3"], metrics, EPOCHS, state=FINISHED, value=0.5, seconds=61.2,
        parameters=554968)  # fmt: skip
    job(2, [rate, "data_shape='256'", "epochs=3"], '{"map_11pt": 0.75}', state=FINISHED, value=0.75, seconds=9.0)
    job(3, ["a=3", "data_shape='128'", "epochs=3"], '{"map_11pt": 0.9}', state=PRUNED, reason="after epoch 1")
    job(4, ["a=4", "data_shape='128'", "epochs=3"], state=INTERRUPTED, reason="interrupted")
    job(10, ["a=5", "data_shape='128'", "epochs=3"], state=FINISHED)
    return tmp_path


def test_best_first_and_what_did_not_finish_below(folder: Path) -> None:
    rows = collect(folder)
    assert [row.outcome.number for row in rows] == [2, 1, 10, 0, 3, 4]
    assert rows[1].speed == 100  # the first epoch, in which kernels are chosen, left out
    assert rows[0].name == "optimizer.learning_rate=0.001589 data_shape=256"


def test_the_files(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert make_leaderboard(folder) == 1
    rows = list(csv.DictReader((folder / "leaderboard.csv").open()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "", "", ""]
    assert rows[0]["words"] == "optimizer.learning_rate=0.0015892794664021446 data_shape='256'"  # to use again
    assert (rows[1]["value"], rows[1]["map_area"], rows[1]["seconds"], rows[1]["images_per_second"]) == (
        "0.5", "0.4", "61.2", "100.0")  # fmt: skip
    assert rows[3]["reason"] == "KeyError: 'x'"
    text = (folder / "leaderboard.md").read_text()
    assert text.startswith("All with `epochs=3`.\n\n|")
    assert "- failed: `optimizer.learning_rate=0.001589 data_shape=128`: KeyError: 'x' (0_job)" in text
    assert "- pruned: `a=3 data_shape=128`: after epoch 1" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in table}) == 1  # in columns, as text too
    assert "0.55 M" in table[3]
    assert all(line in caplog.text for line in table)
    image = cv2.imread(str(folder / "leaderboard.png"))
    assert image.shape[1] == 11 * 120
    assert image.std() > 10


def metrics_of(value: float, split: str = "val", images: int = 90, **test: float) -> str:
    conditions = Conditions("pets", split, images, 200, "0f", 0.5, None)
    values = {f"{split}/map_11pt": value, **{f"test/{name}": value for name, value in test.items()}}
    results = Results("finished", None, split, "best", 3, 30, values, {split: conditions})
    return json.dumps(results.to_json("train"))


def test_jobs_that_were_measured_otherwise_are_ranked_apart(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, (value, images) in enumerate([(0.9, 30), (0.5, 90), (0.75, 90)]):
        job(number, [f"a={number}"], metrics_of(value, images=images), state=FINISHED, value=value)
    job(3, ["a=3"], metrics_of(0.95, images=7), state=PRUNED)
    with caplog.at_level(logging.INFO):
        make_leaderboard(tmp_path)
    first = "Ranked within groups only, whose numbers do not compare: number of images (30, 90)."
    assert (tmp_path / "leaderboard.md").read_text().splitlines()[0] == caplog.messages[0] == first
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").open()))
    assert [(row["job"], row["group"], row["rank"]) for row in rows] == [
        ("2", "A", "1"), ("1", "A", "2"), ("0", "B", "1"), ("3", "", "")]  # fmt: skip
    assert any(line.startswith("| B1") and "`a=0`" in line for line in caplog.messages)
    assert (tmp_path / "leaderboard.png").is_file()


def test_trainings_and_evaluations_of_several_splits(job: Job, tmp_path: Path) -> None:
    job(0, ["job.split=val"], metrics_of(0.5), state=FINISHED, value=0.5)
    job(1, ["job.split=test"], metrics_of(0.75, "test", 30), state=FINISHED, value=0.75)
    make_leaderboard(tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "do not compare: split (test, val)" in text
    assert "test mAP" not in text


def test_the_test_split_stands_beside_what_the_jobs_are_ranked_by(job: Job, tmp_path: Path) -> None:
    job(0, ["a=0"], metrics_of(0.5, map_11pt=0.375), state=FINISHED, value=0.5)
    job(1, ["a=1"], metrics_of(0.25, map_11pt=0.4375), state=FINISHED, value=0.25)
    make_leaderboard(tmp_path)
    header, _, best, _ = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert "test mAP 11pt" in header
    assert [cell.strip() for cell in best.split("|")[1:7]] == ["1", "`a=0`", "val", "0.5000", "", "0.3750"]


def test_nothing_finished(job: Job, tmp_path: Path) -> None:
    job(0, ["a=1"], state=FAILED, reason="no")
    assert make_leaderboard(tmp_path) == 1
    assert "No job finished." in (tmp_path / "leaderboard.md").read_text()
    assert (tmp_path / "leaderboard.png").is_file()


def test_a_folder_without_jobs_gets_none(tmp_path: Path) -> None:
    assert make_leaderboard(tmp_path) == 0
    assert not list(tmp_path.iterdir())


def test_common_overrides() -> None:
    assert common_overrides([["a=1", "b=2"], ["a=1", "b=3"]]) == ["a=1"]
    assert common_overrides([["a=1"]]) == []
    assert common_overrides([]) == []


def test_many_long_names_and_reasons_stay_readable(job: Job, tmp_path: Path) -> None:
    for number in range(60):
        job(number, [f"some.very.long.key.of.the.configuration={'x' * 100}{number}"], state=FINISHED, value=number / 60)
    for number in range(60, 90):
        job(number, [f"a={number}"], state=FAILED, reason="y" * 290)
    assert make_leaderboard(tmp_path) == 30
    image = cv2.imread(str(tmp_path / "leaderboard.png"))
    assert image.shape[0] < 3000
