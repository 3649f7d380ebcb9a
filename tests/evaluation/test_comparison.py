import json
from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.evaluation.compare_page import compare_page
from ssd.evaluation.comparison import FOOTNOTE, differing, find_runs, folded, result_rows, shown, unchanged
from ssd.jobs.compare import lines_of, table_of
from ssd.runs.results import Conditions, Results
from ssd.utils.errors import UserError

VAL = Conditions("shapes", "val", 90, 200, "0f", 0.5, None, thresholds="val")
TEST = replace(VAL, split="test", images=30, fingerprint="1e", thresholds="val")


def make_run(folder, ap, how=VAL, test=None, results=None, **config):
    """A run directory as training leaves it; how: None is one of an earlier version."""
    folder.mkdir(parents=True)
    base = {
        "optimizer": {"name": "adam", "learning_rate": 0.1},
        "backbone": {"name": "small", "freeze": None},
        "head": {"sizes": [[0.1]]},
        "dataset": {"name": "shapes"},
        "logger": {"csv": {"file": folder.name}},
        "epochs": 2,
    }
    OmegaConf.save(OmegaConf.merge(base, config), folder / "config.yaml")
    if how is None:
        metrics = {"map_11pt": ap, "map_area": None, "epoch": 2, "ap_11pt/x": ap}
        curves = "curves.json"
    else:
        split = how.split
        values = {f"{split}/map_11pt": ap, f"{split}/map_area": float("nan"), f"{split}/f1": ap}
        measured = {split: how}
        if test is not None:
            values["test/map_11pt"], measured["test"] = test, TEST
        metrics = Results("finished", None, split, "best", 2, 20, values, measured).to_json("train") | (results or {})
        curves = f"curves_{split}.json"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "metrics.csv").write_text("epoch,train/loss,val/map_11pt\n1,3.5,\n2,2.5,0.25\n")
    curve = {"recall": [0.2, 0.5], "precision": [0.4, 0.8]}
    (folder / curves).write_text(json.dumps({"x": curve, "y": {"recall": [], "precision": []}}))
    return folder


@pytest.mark.parametrize("how", [VAL, None], ids=["", "of an earlier version"])
def test_best_first_with_short_names_and_what_was_measured(tmp_path, how):
    make_run(tmp_path / "train/a/1", 0.5, how)
    make_run(tmp_path / "train/a/2", 0.75, how)
    found = find_runs(str(tmp_path / "train/*/*"))
    runs = found.runs
    assert [run.name for run in runs] == ["2", "1"]
    assert (found.ranking.groups, found.ranking.split, found.letters) == ([[0, 1]], "val", ["", ""])
    assert runs[0].splits == ["val"]
    assert result_rows(runs)["val map_11pt"] == ["0.7500", "0.5000"]
    assert result_rows(runs)["epoch"] == ["2", "2"]
    assert np.isnan(runs[0].metric("val", "map_area"))
    assert runs[0].epochs["train/loss"].tolist() == [3.5, 2.5]
    np.testing.assert_array_equal(runs[0].epochs["val/map_11pt"], [np.nan, 0.25])
    assert runs[0].precision is not None
    np.testing.assert_allclose(runs[0].precision[[0, 20, 50, 51]], [0.4, 0.4, 0.4, 0])  # the mean with a class at 0
    said = "\n".join(lines_of(found, 80))
    assert ("of an earlier version do not say" in said) == (how is None)
    assert said.startswith("ranked by mAP (11-point) on val" + (", measured alike: 90 images of shapes" if how else ""))


def test_relative_and_absolute_names_of_runs_together(tmp_path, monkeypatch):
    make_run(tmp_path / "here/1", 0.5)
    make_run(tmp_path / "here/2", 0.75)
    make_run(tmp_path / "there/3", 0.25)
    monkeypatch.chdir(tmp_path / "here")
    found = find_runs(["1", str(tmp_path / "here/2"), "../there/3", "./1", str(tmp_path / "here/1")])
    assert [run.name for run in found.runs] == ["here/2", "here/1", "there/3"]  # each once


def test_keys_that_differ_without_those_that_follow(tmp_path):
    folders = [
        make_run(tmp_path / "1", 0.5),
        make_run(tmp_path / "2", 0.4, optimizer={"learning_rate": 0.2}),
        make_run(tmp_path / "3", 0.3, backbone={"name": "vgg", "freeze": "^conv"}, head={"sizes": [[0.2]]}),
    ]
    pair = find_runs([str(folder) for folder in folders[:2]]).runs
    assert differing(pair) == {"optimizer.learning_rate": [0.1, 0.2]}
    assert unchanged(pair) == ["backbone", "head", "dataset", "epochs"]
    three = differing(find_runs([str(folder) for folder in folders]).runs)
    assert set(three) == {"optimizer.learning_rate", "backbone.name"}


def test_a_key_that_a_run_does_not_have_is_not_null(tmp_path):
    make_run(tmp_path / "1", 0.5, extra={"key": None})
    make_run(tmp_path / "2", 0.75)
    assert differing(find_runs(str(tmp_path / "*")).runs) == {"extra.key": ["–", None]}


def test_only_what_was_measured_alike_is_ranked(tmp_path):
    make_run(tmp_path / "1", 0.5)
    make_run(tmp_path / "2", 0.75)
    make_run(tmp_path / "3", 0.9, replace(VAL, iou=0.3))
    found = find_runs(str(tmp_path / "*"))
    assert [run.name for run in found.runs] == ["2", "1", "3"]
    assert (found.ranking.groups, found.ranking.split, found.letters) == ([[0, 1], [2]], None, ["A", "A", "B"])
    first = lines_of(found, 80)[0]
    assert first == "ranked within groups only, whose numbers do not compare: metric.iou (0.3, 0.5)"
    page = compare_page(found).decode()
    assert page.index(first[1:]) < page.index("<table")
    assert "<b>0.7500</b>" in page
    assert "<b>0.9000</b>" not in page
    assert page.count("<h2>mAP, 11-point, on val, runs 1, 2</h2>") == 1
    assert page.count("<h2>mAP, 11-point, on val, runs 3</h2>") == 1


def test_runs_of_other_validations_are_ranked_by_the_test_split_they_share(tmp_path):
    make_run(tmp_path / "1", 0.5, test=0.25)
    make_run(tmp_path / "2", 0.75, replace(VAL, fingerprint="2", holdout={"seed": 1}), test=0.125)
    found = find_runs(str(tmp_path / "*"))
    assert [run.name for run in found.runs] == ["1", "2"]
    assert found.ranking.notes == [
        "val was not measured alike, its numbers do not compare: images; dataset.holdout",
        "ranked by mAP (11-point) on test, measured alike: 30 images of shapes, IoU 0.5",
    ]
    page = compare_page(found).decode()
    assert "<b>0.2500</b>" in page
    assert "<b>0.7500</b>" not in page


def test_numbers_of_a_training_and_of_an_evaluation_on_another_split(tmp_path):
    make_run(tmp_path / "train", 0.5, test=0.25)
    make_run(tmp_path / "eval", 0.375, TEST)
    rows = result_rows(find_runs(str(tmp_path / "*")).runs)
    assert rows["test map_11pt"] == ["0.3750", "0.2500"]
    assert rows["val map_11pt"] == ["", "0.5000"]
    assert "val f1 *" in rows  # at thresholds of val itself
    assert "test f1" in rows


def test_same_images_are_said(tmp_path):
    for name in ("1", "2"):
        make_run(tmp_path / name, 0.5, replace(VAL, same_images="test"))
    notes = find_runs(str(tmp_path / "*")).ranking.notes
    assert notes[1] == "test and val are the same images, and the checkpoints were chosen on them"


def test_page_and_table(tmp_path):
    make_run(tmp_path / "1", 0.5, test=0.125)
    make_run(tmp_path / "2", 0.75, results={"status": "interrupted", "reason": "SIGTERM"}, dataset={"name": "<voc>"})
    found = find_runs(str(tmp_path / "*"))
    page = compare_page(found).decode()
    assert "&lt;voc&gt;" in page
    assert "interrupted: SIGTERM" in page
    assert FOOTNOTE in page
    assert page.count("<svg") == 3  # mAP and loss over epochs, precision over recall
    header, *rows = table_of(found)
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["run"] for row in table] == ["2", "1"]
    known = {"split": "val", "checkpoint": "best", "epoch": "2", "step": "20", "map_11pt": "0.7500", "map_area": ""}
    assert {name: table[0][name] for name in known} == known
    assert (table[0]["status"], table[0]["dataset.name"], table[1]["test/map_11pt"]) == (
        "interrupted",
        "<voc>",
        "0.1250",
    )


def test_many_keys_are_readable_on_a_narrow_console_and_whole_in_the_files(tmp_path):
    """Keys are rows; a table of names and a long list become one row each, with a digest."""
    for number in range(12):
        names = {f"layer{place}": [f"there{number}.{place}"] for place in range(30)}
        classes = [f"class {place}" for place in range(20 + number % 2)]
        make_run(tmp_path / f"run {number}", number / 100, init={"weight_map": {"layers": names}}, seed=number,
                 labels={"classes": classes}, note="a very long text " * 9)  # fmt: skip
    found = find_runs(str(tmp_path / "*"))
    lines = lines_of(found, 80)
    start = lines.index("")
    body = lines[start:]
    assert all(len(line) <= 80 for line in body)
    rows = folded(differing(found.runs))
    assert set(rows) == {"init.weight_map.layers.* (30 keys)", "seed", "labels.classes"}
    assert rows["labels.classes"][0].startswith("21 items, ")
    assert rows["labels.classes"][0] == rows["labels.classes"][2] != rows["labels.classes"][1]
    assert len(set(rows["init.weight_map.layers.* (30 keys)"])) == 12
    assert sum("val map_11pt" in line for line in body) > 1  # in blocks of as many runs as fit
    assert all(str(number) in "".join(body) for number in range(1, 13))
    header = table_of(found)[0]
    assert "init.weight_map.layers.layer29" in header


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (0.001, "0.001"), (5 / 6, "0.833333"), (True, "true"), ("x", "x"), ([1, 2], "[1, 2]"), ({}, "{}")],
)
def test_short_values_are_shown_as_they_are(value, text):
    assert shown(value) == text


def test_a_group_of_which_many_keys_differ_becomes_one_row():
    different = {f"augment.{part}.probability": [0.5, place] for place, part in enumerate("abcdefghi")}
    different |= {"augment.name": ["mild", "ssd"], "optimizer.wd": [0.0, None], "optimizer.name": ["adam", "sgd"]}
    rows = folded(different)
    assert list(rows) == ["augment.* (9 keys)", "augment.name", "optimizer.wd", "optimizer.name"]
    assert [value.partition(",")[0] for value in rows["augment.* (9 keys)"]] == ["9 set", "9 set"]
    assert rows["optimizer.wd"] == ["0", "null"]


def test_runs_without_results_are_listed_with_the_reason(tmp_path):
    make_run(tmp_path / "1", 0.5)
    make_run(tmp_path / "2", 0.75)
    make_run(tmp_path / "3", 0.5)
    (tmp_path / "3" / "metrics.json").write_text("{")
    make_run(tmp_path / "4", 0.5, results={"status": "interrupted", "map_11pt": None})
    make_run(tmp_path / "5", 0.5)
    (tmp_path / "5" / "metrics.json").unlink()
    (tmp_path / "6" / ".hydra").mkdir(parents=True)
    make_run(tmp_path / "7", 0.5)
    (tmp_path / "7" / "config.yaml").write_text("{")
    make_run(tmp_path / "8", 0.5)
    (tmp_path / "8" / "config.yaml").write_text("a: &a [x]\nb: *a")
    make_run(tmp_path / "9", 0.5, results={"map_11pt": 0.5, "val/f1": "high"})
    (tmp_path / "no run").mkdir()
    found = find_runs(str(tmp_path / "*"))
    assert [run.name for run in found.runs] == ["2", "1"]
    reasons = dict(found.left_out)
    assert list(reasons) == ["3", "4", "5", "6", "7", "8", "9"]
    for name, part in (("3", "cannot be read"), ("4", "(interrupted): nothing was measured"), ("5", "no metrics.json"),
                       ("6", "no config.yaml"), ("7", "cannot be read"), ("8", "is an anchor"),
                       ("9", "val/f1 is no number")):  # fmt: skip
        assert part in reasons[name]
    lines = lines_of(found, 80)
    assert f"left out: 5: {reasons['5']}" in lines
    assert "Left out: 5: no metrics.json" in compare_page(found).decode()


def test_wrong_runs_are_told(tmp_path):
    run = make_run(tmp_path / "1", 0.5)
    for wanted, part in ((None, "job.runs="), (str(tmp_path / "*"), "1 runs"), ([str(run), "nowhere"], "nowhere")):
        with pytest.raises(UserError, match=part):
            find_runs(wanted)
    broken = make_run(tmp_path / "2", 0.5)
    (broken / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"1 runs with results found, comparing takes two; 2: .*cannot be read"):
        find_runs(str(tmp_path / "*"))


def test_runs_of_a_split_of_another_name_are_ranked_by_it(tmp_path):
    for name in "ab":
        make_run(tmp_path / name, 0.5, replace(VAL, split="dev"))
    found = find_runs([str(tmp_path / name) for name in "ab"])
    assert found.ranking.notes == ["ranked by mAP (11-point) on dev"]
    assert b"Ranked by mAP (11-point) on dev" in compare_page(found)
