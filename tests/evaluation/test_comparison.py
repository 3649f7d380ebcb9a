import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.errors import UserError
from ssd.evaluation.comparison import differing, find_runs, metric_names
from ssd.evaluation.report.compare import compare_page
from ssd.jobs.compare import aligned, table_of


def make_run(folder, ap, **config):
    """A run directory as training leaves it."""
    folder.mkdir(parents=True)
    base = {
        "optimizer": {"learning_rate": 0.1},
        "backbone": {"name": "small", "freeze": None},
        "head": {"sizes": [[0.1]]},
        "dataset": {"name": "shapes"},
        "logger": {"csv": {"file": folder.name}},
    }
    OmegaConf.save(OmegaConf.merge(base, config), folder / "config.yaml")
    (folder / "metrics.json").write_text(json.dumps({"map_11pt": ap, "map_area": None, "epoch": 2, "ap_11pt/x": ap}))
    (folder / "metrics.csv").write_text("epoch,train/loss,val/map_11pt\n1,3.5,\n2,2.5,0.25\n")
    curve = {"recall": [0.2, 0.5], "precision": [0.4, 0.8]}
    (folder / "curves.json").write_text(json.dumps({"x": curve, "y": {"recall": [], "precision": []}}))
    return folder


def test_best_first_with_short_names_and_what_was_measured(tmp_path):
    make_run(tmp_path / "train/a/1", 0.5)
    make_run(tmp_path / "train/a/2", 0.75)
    (tmp_path / "train/a/unfinished").mkdir()
    runs = find_runs(str(tmp_path / "train/*/*"))
    assert [run.name for run in runs] == ["2", "1"]
    assert metric_names(runs) == ["map_11pt", "map_area", "epoch"]
    assert np.isnan(runs[0].metric("map_area"))
    assert runs[0].epochs["train/loss"].tolist() == [3.5, 2.5]
    np.testing.assert_array_equal(runs[0].epochs["val/map_11pt"], [np.nan, 0.25])
    assert runs[0].precision is not None
    np.testing.assert_allclose(runs[0].precision[[0, 20, 50, 51]], [0.4, 0.4, 0.4, 0])  # the mean with a class at 0


def test_keys_that_differ_without_those_that_follow(tmp_path):
    folders = [
        make_run(tmp_path / "1", 0.5),
        make_run(tmp_path / "2", 0.4, optimizer={"learning_rate": 0.2}),
        make_run(tmp_path / "3", 0.3, backbone={"name": "vgg", "freeze": "^conv"}, head={"sizes": [[0.2]]}),
    ]
    pair = differing(find_runs([str(folder) for folder in folders[:2]]))
    assert pair == {"optimizer.learning_rate": [0.1, 0.2]}
    three = differing(find_runs([str(folder) for folder in folders]))
    assert set(three) == {"optimizer.learning_rate", "backbone.name"}


def test_page_and_table(tmp_path):
    make_run(tmp_path / "1", 0.5)
    make_run(tmp_path / "2", 0.75, dataset={"name": "<voc>"})
    runs = find_runs(str(tmp_path / "*"))
    page = compare_page(runs).decode()
    assert "&lt;voc&gt;" in page
    assert "different data sets" in page
    assert page.count("<svg") == 3  # mAP and loss over epochs, precision over recall
    header, rows = table_of(runs)
    assert header == ["run", "map_11pt", "map_area", "epoch", "dataset.name"]
    assert rows == [["2", "0.7500", "", "2", "<voc>"], ["1", "0.5000", "", "2", "shapes"]]


def test_lines_on_the_console_are_no_wider_than_said():
    lines = aligned([["run", "map", "a.very.long.key"], ["first", "0.5", "x"]], 12)
    assert lines == ["run    map", "first  0.5", "(not shown: a.very.long.key)"]


def test_wrong_runs_are_told(tmp_path):
    run = make_run(tmp_path / "1", 0.5)
    for wanted, part in ((None, "job.runs="), (str(tmp_path / "*"), "1 runs"), ([str(run), "nowhere"], "nowhere")):
        with pytest.raises(UserError, match=part):
            find_runs(wanted)
    broken = make_run(tmp_path / "2", 0.5)
    (broken / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        find_runs(str(tmp_path / "*"))
