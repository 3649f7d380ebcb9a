"""What the gate refuses, leaves out, and says of every split."""

import csv
import json
import logging
import os

import pytest

from ssd.data.datasets.coco import COCO
from ssd.data.inspection.gate import LISTING, Gate
from ssd.data.inspection.looking import Known
from ssd.utils.errors import UserError


def test_sound_samples_pass_with_a_line_on_every_split(voc, caplog):
    caplog.set_level(logging.INFO)
    voc.add("d", [("dog", 11, 6, 30, 20)])
    voc.sets(train=["a", "b"], val=["c", "d"])
    admitted = Gate(voc.dataset, "refuse").admit(["train", "val"], None)
    assert {split: [sample.id for sample in samples] for split, samples in admitted.samples.items()} == {
        "train": ["a", "b"],
        "val": ["c", "d"],
    }
    assert admitted.skipped == {}
    assert "val:   2 images, 1 with objects, 1 objects" in caplog.text


def damage(voc):
    """Three images that cannot be used: a truncated file, another size than annotated, an unknown class."""
    data = (voc.root / "JPEGImages" / "a.jpg").read_bytes()
    (voc.root / "JPEGImages" / "a.jpg").write_bytes(data[:-40])
    voc.xml("b").write_bytes(voc.xml("b").read_bytes().replace(b">60<", b">61<"))
    voc.add("d", [("cow", 11, 6, 30, 20), ("dog", 11, 6, 30, 20)])
    voc.add("e", [("dog", 11, 6, 30, 20)])
    voc.sets(train=["a", "b", "c", "d", "e"])


def test_all_problems_are_named_at_once(voc, tmp_path, caplog):
    damage(voc)
    gate = Gate(lambda: voc.dataset(classes=["cat", "dog"]), "refuse")
    with pytest.raises(UserError, match=r"^.*d.xml: object 1: class 'cow' .*; and 2 more, all of them in .*csv"):
        gate.admit(["train"], tmp_path)
    with (tmp_path / LISTING).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["kind"], row["file"].rpartition("/")[2], row["object"]) for row in rows] == [
        ("train", "class", "d.xml", "1"),
        ("train", "unreadable_image", "a.jpg", ""),
        ("train", "image_size", "b.jpg", ""),
    ]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 3


def test_skip_leaves_whole_images_out_and_says_so(voc, tmp_path, caplog):
    damage(voc)
    admitted = Gate(lambda: voc.dataset(classes=["cat", "dog"]), "skip").admit(["train"], tmp_path)
    assert [sample.id for sample in admitted.samples["train"]] == ["c", "e"]
    assert [problem.kind for problem in admitted.skipped["train"]] == ["class", "unreadable_image", "image_size"]
    assert caplog.text.count("skipped: ") == 3


def test_an_annotation_that_cannot_be_read_does_not_hide_the_classes_of_others(voc, tmp_path):
    voc.xml("a").write_bytes(b"<annotation>")
    assert Gate(voc.dataset, "skip").classes == ("cat",)
    with pytest.raises(UserError, match=r"a.xml: not XML"):  # of a split that nobody uses
        Gate(voc.dataset, "refuse").admit(["val"], tmp_path)


def test_a_split_that_loses_everything_is_refused(voc, tmp_path):
    for name in ("a", "b", "c"):
        voc.xml(name).unlink()
    with pytest.raises(UserError, match="no image of train is left, all of them have problems: .*a.xml"):
        Gate(lambda: voc.dataset(classes=["cat", "dog"]), "skip").admit(["train"], tmp_path)


def test_boxes_that_are_dropped_are_still_named(voc, tmp_path, caplog):
    voc.add("a", [("dog", 11, 6, 30, 20), ("dog", 11, 6, 11, 20)])
    Gate(voc.dataset, "refuse").admit(["train"], tmp_path)
    assert "a.xml: object 2, box (11, 6, 11, 20), has no area" in caplog.text


def test_splits_that_share_images_are_named(voc, tmp_path, caplog, jpeg):
    caplog.set_level(logging.INFO)
    for seed, name in enumerate("abc"):
        voc.add(name, [("dog", 11, 6, 30, 20)], jpeg(60, 40, seed=seed))
    voc.sets(train=["a", "b", "c"], val=["a", "b"], test=["b", "a"])
    Gate(voc.dataset, "refuse").admit(["train", "val", "test"], tmp_path)
    assert "2 of the 2 images of val are in train, too" in caplog.text
    assert "test and val are the same 2 images" in caplog.text


def test_images_are_looked_at_again_only_when_they_change(voc, tmp_path, monkeypatch):
    from ssd.data.inspection import gate

    looked = []
    look_at_all = gate.look_at_all
    monkeypatch.setattr(gate, "look_at_all", lambda samples: looked.append(len(samples)) or look_at_all(samples))
    file = tmp_path / "records" / "sound.txt"

    def admit():
        Gate(voc.dataset, "refuse", Known(file)).admit(["train"], tmp_path)
        counts, looked[:] = sum(looked), []
        return counts

    assert [admit(), admit()] == [3, 0]
    (voc.root / "JPEGImages" / "a.jpg").write_bytes((voc.root / "JPEGImages" / "a.jpg").read_bytes() + b"\0")
    assert [admit(), admit()] == [1, 0]
    file.write_text("rubbish")
    assert [admit(), admit()] == [3, 0]


@pytest.mark.parametrize("damage", ["pipe", "device", "hex", "sizes", "bytes", "empty"])
def test_a_damaged_list_of_sound_images_is_made_again(voc, tmp_path, caplog, damage):
    file = tmp_path / "sound.txt"
    Gate(voc.dataset, "refuse", Known(file)).admit(["train"], tmp_path)
    good = file.read_text()
    head, *rows = (line.split(" ") for line in good.splitlines())
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    elif damage == "device":
        file.symlink_to("/dev/zero")
    elif damage == "empty":
        file.touch()
    else:
        changed = {"hex": ["z" * 32, "60", "40"], "sizes": [rows[0][1], "9999", "1"], "bytes": ["\0"]}[damage]
        file.write_text("\n".join(" ".join(row) for row in [head, *([row[0], *changed] for row in rows)]) + "\n")
    caplog.clear()
    Gate(voc.dataset, "refuse", Known(file)).admit(["train"], tmp_path)
    warned = caplog.text.count("cannot be used, the images are looked at again")
    assert warned == (damage not in ("sizes", "empty"))
    assert sorted(file.read_text().splitlines()) == sorted(good.splitlines())


def test_a_split_of_which_nothing_could_be_read_names_the_reason(tmp_path):
    entry = {"id": 1 << 70, "file_name": "a.jpg", "width": 60, "height": 40}
    node = {"images": [entry], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "x.json").write_text(json.dumps(node))

    def dataset():
        return COCO(str(tmp_path), None, {"train": {"annotations": "x.json"}}, "error",
                    {"val": 0.0, "test": 0.0, "seed": 0})  # fmt: skip

    with pytest.raises(UserError, match="too many digits for pycocotools; write it as text"):
        Gate(dataset, "refuse").admit(["train"], tmp_path)
