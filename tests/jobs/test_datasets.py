"""Datasets chosen on the command line: real ones where they are there, and a format of one's own."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd.checkpoint.model import load_model
from ssd.evaluation.coco import NAMES
from ssd.mxnet_compat import mx

TINY = ["batch_size=4", "epochs=1", "logger=[]", "backbone=small", "data_shape=128", "dataset.max_images=8",
        "training.samples=0"]  # fmt: skip

MINE = '''
from pathlib import Path
import numpy as np
from ssd.data import Dataset, Sample

class Mine(Dataset):
    """One image per line of a text file: name, width, height, then class and corners."""

    classes = ("blob", "bar")

    def __init__(self, folder: str, listing: str) -> None:
        self.folder, self.listing = Path(folder), listing

    def split(self, name: str) -> list[Sample]:
        samples = []
        for line in (self.folder / self.listing).read_text().splitlines():
            image, width, height, *box = line.split()
            boxes = np.array([[*map(float, box), 0]], np.float32) if box else np.zeros((0, 6), np.float32)
            samples.append(Sample(image, self.folder / image, int(width), int(height), boxes))
        return samples
'''


@pytest.fixture
def mine(tmp_path: Path, jpeg) -> Path:
    (tmp_path / "my_module.py").write_text(MINE)
    lines = []
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(60, 40))
        lines.append(f"{number}.jpg 60 40" + (f" {number % 2} 5 5 40 30" if number % 3 else ""))
    (tmp_path / "all.txt").write_text("\n".join(lines))
    return tmp_path


def test_a_format_of_ones_own(ssd, mine):
    overrides = ["dataset=custom", "dataset._target_=my_module.Mine", "dataset.name=mine"]
    options = [f"+dataset.folder={mine}", "+dataset.listing=all.txt"]
    done = ssd(*overrides, *options, *TINY)
    assert done.returncode == 0, done.stderr
    (run,) = mine.glob("outputs/train/small_128_mine/*")
    assert load_model(run).spec.classes == ["blob", "bar"]
    overrides = ["job=eval", f"model={run}", "logger=[]"]  # with the dataset of the run
    done = ssd(*overrides)
    assert done.returncode == 2
    assert "if you trust it, say it yourself: dataset._target_=my_module.Mine" in done.stderr
    done = ssd(*overrides, "dataset._target_=my_module.Mine")
    assert done.returncode == 0, done.stderr


def test_a_format_that_is_not_there(ssd, mine):
    done = ssd("dataset=custom", "dataset._target_=my_module.Yours", *TINY)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "Yours" in done.stderr


def test_the_originals_records_train_unchanged(ssd, tmp_path, jpeg):
    for split in ("train", "val"):
        writer = mx.recordio.MXRecordIO(str(tmp_path / f"{split}.rec"), "w")
        for number in range(8):
            label = [2, 5, number % 2, 0.1, 0.2, 0.6, 0.7] if number % 3 else [2, 5, -1, -1, -1, -1, -1]
            writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), jpeg(60, 40)))
        writer.close()
    before = (tmp_path / "train.rec").read_bytes()
    done = ssd(
        "dataset=rec", f"dataset.root={tmp_path}", "dataset.names=[cat,dog]", "batch_size=4", "epochs=1", "logger=[]"
    )
    assert done.returncode == 0, done.stderr
    assert "packing" not in done.stderr
    assert (tmp_path / "train.rec").read_bytes() == before
    assert sorted(file.suffix for file in tmp_path.glob("outputs/records/rec/*/*")) == [".idx", ".lst"]


REAL = {
    "bccd": ["dataset=voc", "dataset.root={}/bccd/BCCD"],
    "voc2007_mini": ["dataset=voc07", "dataset.root={}/voc2007_mini/VOCdevkit"],
    "coco_tiny": ["dataset=coco2017", "dataset.root={}/coco_tiny"],
    "coco128_yolo": ["dataset=coco128", "dataset.root={}/coco128_yolo"],
    "both": ["dataset=concat", "+dataset@dataset.parts.voc=voc07", "+dataset@dataset.parts.coco=coco2017",
             "dataset.parts.voc.root={}/voc2007_mini/VOCdevkit", "dataset.parts.coco.root={}/coco_tiny",
             "dataset.classes=[person,motorbike,sofa]", "dataset.unknown_classes=drop"],
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_datasets_train_by_configuration_alone(name, ssd, shared, tmp_path):
    overrides = [override.format(shared / "data") for override in REAL[name]]
    done = ssd(*overrides, *TINY)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("outputs/train/*/*")
    spec = load_model(run).spec
    metrics = json.loads((run / "metrics.json").read_text())
    assert "map_area" in metrics
    expected = {"bccd": (3, None), "voc2007_mini": (20, None), "coco_tiny": (80, 90), "coco128_yolo": (80, None)}
    if name in expected:
        count, last = expected[name]
        assert len(spec.classes) == count
        assert (spec.category_ids[-1] if spec.category_ids else None) == last
    else:
        assert (spec.classes, spec.category_ids) == (["person", "motorbike", "sofa"], [1, 4, 63])


def test_pycocotools_gives_the_runs_numbers_on_the_datasets_own_file(ssd, shared, tmp_path):
    overrides = [override.format(shared / "data") for override in REAL["coco_tiny"]]
    overrides += [*TINY[:-2], "training.samples=0", "metric.coco=true", "metric.worst_images=0"]
    overrides += ["detection.score_threshold=0.001"]
    done = ssd(*overrides)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("outputs/train/*/*")
    metrics = json.loads((run / "metrics.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(shared / "data/coco_tiny/annotations/instances_val2017.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(run / "coco_results_val.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = [metrics[name] for name in NAMES]
    assert ours == evaluation.stats.tolist()
    assert any(ours)
