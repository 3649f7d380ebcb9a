import json
from pathlib import Path

TINY = ["dataset.train=12", "dataset.val=5"]


def report(folder: Path) -> dict:
    (file,) = folder.glob("outputs/prepare/*/*/prepare.json")
    return json.loads(file.read_text())


def test_training_finds_what_was_prepared(ssd, tmp_path):
    done = ssd("job=prepare", *TINY)
    assert done.returncode == 0, done.stderr
    message = report(tmp_path)
    assert message["classes"] == ["circle", "rectangle", "triangle"]
    assert [split["images"] for split in message["splits"].values()] == [12, 5]
    assert "test has the images of val" in done.stderr
    assert message["splits"]["train"]["objects"] >= 12
    packed = sorted(tmp_path.glob("outputs/records/shapes/*-*"))
    assert [path.name.partition("-")[0] for path in packed] == ["train", "val"]
    stamp = (packed[0] / "train.rec").stat().st_mtime_ns
    done = ssd(*TINY, "epochs=1", "batch_size=4", "logger=[]")
    assert done.returncode == 0, done.stderr
    assert "packing" not in done.stderr
    assert sorted(tmp_path.glob("outputs/records/shapes/*-*")) == packed
    assert (packed[0] / "train.rec").stat().st_mtime_ns == stamp


def test_smaller_images_for_both(ssd, tmp_path):
    small = "training.max_side=64"
    done = ssd("job=prepare", "job.splits=[train]", small, *TINY)
    assert done.returncode == 0, done.stderr
    assert list(report(tmp_path)["splits"]) == ["train"]
    done = ssd(*TINY, small, "epochs=1", "batch_size=4", "logger=[]")
    assert done.returncode == 0, done.stderr
    assert "packing" not in done.stderr


def test_what_cannot_be_prepared_is_one_line(ssd, tmp_path):
    for overrides, part in (
        (["job.splits=[trian]"], "'trian' is no split, choose from train, val, test"),
        (["dataset=coco"], "dataset.root is not set"),
        (["dataset=voc", "dataset.download=true"], "names no archives"),
        (["dataset.max_images=0"], "dataset.max_images=0"),
    ):
        done = ssd("job=prepare", *overrides)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 2
        assert len(lines) == 1, done.stderr
        assert part in lines[0]
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs/records").exists()
