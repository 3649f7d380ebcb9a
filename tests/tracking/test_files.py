from dataclasses import replace

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.runs.results import Results, read_metrics
from ssd.tracking.files import RunFiles, StepsCsv, Table, image_path
from ssd.utils.csv_cells import read

LOSS = {"train/loss": 2.5, "train/learning_rate": 0.001}


def started(writer, run):
    writer.start(run)
    return writer


def test_metrics_csv(run):
    files = started(RunFiles(), run)
    files.epoch(1, 100, LOSS)
    files.epoch(2, 200, {"train/loss": 1 / 3, "train/learning_rate": 0.0001})
    assert (run.folder / "metrics.csv").read_text() == (
        "epoch,step,train/loss,train/learning_rate\n1,100,2.5,0.001\n2,200,0.333333,0.0001\n"
    )


def test_columns_keep_their_place_when_others_appear(run):
    files = started(RunFiles(), run)
    files.epoch(1, 100, LOSS)
    files.epoch(2, 200, {"val/map_11pt": 0.25, **LOSS})
    files.epoch(3, 300, LOSS)
    assert (run.folder / "metrics.csv").read_text() == (
        "epoch,step,train/loss,train/learning_rate,val/map_11pt\n"
        "1,100,2.5,0.001,\n2,200,2.5,0.001,0.25\n3,300,2.5,0.001,\n"
    )


def test_resumed_run_replaces_the_epochs_it_repeats(run):
    first = started(RunFiles(), run)
    for epoch in (1, 2, 3):
        first.epoch(epoch, epoch * 100, {"train/loss": float(epoch)})
    with open(run.folder / "metrics.csv", "a") as file:
        file.write("4,40")  # killed in the middle of a row
    started(RunFiles(), run).epoch(3, 300, {"train/loss": 0.5})
    assert (run.folder / "metrics.csv").read_text() == "epoch,step,train/loss\n1,100,1\n2,200,2\n3,300,0.5\n"


def test_rows_beyond_the_step_a_run_goes_on_from_are_cut(run):
    """The fourth epoch of 100 steps was done up to step 30 when it was saved, and ran out of time before."""
    files, steps = started(RunFiles(), run), started(StepsCsv("steps.csv"), run)
    for step in (50, 100, 300, 330, 350):
        steps.step(1, step, LOSS)
    for epoch, step in ((1, 100), (3, 300), (4, 330)):
        files.epoch(epoch, step, LOSS)
    resumed = replace(run, resumed_at=330)
    steps = started(StepsCsv("steps.csv"), resumed)
    assert column(run, "steps.csv", 1) == ["50", "100", "300", "330"]
    started(RunFiles(), resumed)
    assert column(run, "metrics.csv", 0) == ["1", "3"]
    steps.step(4, 350, {**LOSS, "train/data_wait": 0.5})
    assert column(run, "steps.csv", 1) == ["50", "100", "300", "330", "350"]
    started(RunFiles(), replace(run, resumed_at=0))
    assert column(run, "metrics.csv", 0) == []


def column(run, file, place):
    return [line.split(",")[place] for line in (run.folder / file).read_text().splitlines()[1:]]


def test_metrics_json_follows_the_run(run):
    files = started(RunFiles(), run)
    values = {"val/map_11pt": np.float64(0.25), "val/ap_11pt/cat": float("nan")}
    best = Results(checkpoint="best", epoch=1, step=100, values=values)
    files.results(best)
    expected = {
        "job": "train", "status": "running", "reason": None, "split": "val", "checkpoint": "best", "epoch": 1,
        "step": 100, "map_11pt": 0.25, "ap_11pt/cat": None, "measured": {},
    }  # fmt: skip
    assert read_metrics(run.folder) == expected
    files.epoch(2, 200, {"train/loss": 2.0, "val/map_11pt": 0.125})  # no better: it is in metrics.csv
    assert read_metrics(run.folder) == expected
    files.close(replace(best, status="interrupted", reason="SIGTERM"))
    assert read_metrics(run.folder) == {**expected, "status": "interrupted", "reason": "SIGTERM"}


def test_run_that_fails_before_anything_is_measured_says_so(run):
    started(RunFiles(), run).close(Results("failed", "no GPU"))
    assert [file.name for file in run.folder.iterdir()] == ["metrics.json"]
    metrics = read_metrics(run.folder)
    assert (metrics["status"], metrics["reason"], metrics["checkpoint"], metrics["epoch"]) == (
        "failed", "no GPU", None, None)  # fmt: skip
    assert "map_11pt" not in metrics


def test_image_is_the_latest(run):
    files = started(RunFiles(), run)
    red = np.full((6, 8, 3), (255, 0, 0), np.uint8)
    files.image("val/sample 1", red // 2, 100)
    files.image("val/sample 1", red, 200)
    assert [path.name for path in (run.folder / "images").iterdir()] == ["val_sample_1.png"]
    np.testing.assert_array_equal(cv2.imread(str(run.folder / "images" / "val_sample_1.png"))[:, :, ::-1], red)


def test_a_run_of_an_earlier_version_goes_on_in_its_folder(run):
    (run.folder / "pictures").mkdir(parents=True)
    started(RunFiles(), run).image("val/sample 1", np.zeros((6, 8, 3), np.uint8), 100)
    assert [path.name for path in (run.folder / "pictures").iterdir()] == ["val_sample_1.png"]
    assert not (run.folder / "images").exists()


@given(st.text())
def test_image_stays_in_its_folder(tmp_path_factory, tag):
    folder = tmp_path_factory.getbasetemp()
    path = image_path(folder, tag)
    assert path.resolve().parent == (folder / "images").resolve()


def test_steps_csv(run):
    steps = started(StepsCsv("steps.csv"), run)
    steps.step(1, 10, LOSS)
    steps.step(1, 20, LOSS)
    assert (run.folder / "steps.csv").read_text() == (
        "epoch,step,train/loss,train/learning_rate\n1,10,2.5,0.001\n1,20,2.5,0.001\n"
    )
    assert steps.where() == str(run.folder / "steps.csv")


PRINTABLE = st.characters(exclude_categories=["Cs", "Cc"])
NAMES = st.text(PRINTABLE, min_size=1, max_size=8).filter(lambda name: name != "key")


@settings(deadline=None)  # it waits for a disk
@given(st.lists(st.dictionaries(NAMES, st.integers(-(10**9), 10**9), max_size=4), min_size=1, max_size=6))
def test_table_reads_back(tmp_path_factory, rows):
    """Whatever columns come and go, and however they are called."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    table = Table(path, key="key")
    for key, row in enumerate(rows):
        table.add({"key": key, **row})
    with open(path, newline="", encoding="utf-8") as file:
        _, found = read(file)
    message = [{name: value for name, value in row.items() if value != ""} for row in found]
    wrote = [{"key": key, **row} for key, row in enumerate(rows)]
    assert message == [{name: str(value) for name, value in row.items()} for row in wrote]


def test_names_that_a_spreadsheet_would_compute_come_back(tmp_path):
    path = tmp_path / "metrics.csv"
    Table(path, key="epoch").add({"epoch": 1, "=cmd": -0.5})
    Table(path, key="epoch").add({"epoch": 2, "=cmd": float("-inf"), "+x": -1e-5})
    assert path.read_text() == "epoch,'=cmd,'+x\n1,-0.5,\n2,-inf,-1e-05\n"
