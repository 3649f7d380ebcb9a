"""The command line as a person uses it: real processes, real files."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.checkpoint.model import load_params
from ssd.detection import Detector
from ssd.detection.open_model import KINDS

TINY = ["dataset.train=24", "dataset.val=8", "batch_size=8", "epochs=2", "training.log_every=1", "training.samples=2"]


def ssd(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """`python -m ssd.run overrides…` in an empty environment of its own: outputs/ appears in `folder`."""
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "ssd.run", *overrides],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(working folder, run directory, what was said) of a training with everything on."""
    folder = tmp_path_factory.mktemp("work")
    done = ssd(folder, *TINY)
    assert done.returncode == 0, done.stderr
    return folder, only(folder, "outputs/train/small_128_shapes/*"), done.stderr


@pytest.fixture(scope="module")
def voc(trained: tuple[Path, Path, str]) -> Path:
    """The generated dataset as any VOC folder."""
    return only(trained[0], "outputs/datasets/*")


def test_a_run_directory_holds_what_is_promised(trained: tuple[Path, Path, str]) -> None:
    _, run, said = trained
    assert {"config.yaml", "metrics.json", "metrics.csv", "steps.csv", "ssd.log", "checkpoints", "images"} <= {
        file.name for file in run.iterdir()
    }
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for key in (
        "train/loss",
        "train/cross_entropy",
        "train/smooth_l1",
        "train/learning_rate",
        "val/map_11pt",
        "val/map_area",
    ):
        assert all(math.isfinite(float(row[key])) for row in rows), key
    metrics = json.loads((run / "metrics.json").read_text())
    best = json.loads((run / "checkpoints" / "checkpoints.json").read_text())["best"]
    assert metrics["map_11pt"] == best["val/map_11pt"]  # read back from the file, it measures the same
    assert metrics["epoch"] == best["epoch"]
    assert list((run / "tensorboard").iterdir())
    for place in ("images", "tensorboard --logdir", "mlflow ui", "checkpoint", "report.html"):
        assert place in said
    assert {"report.html", "classes_val.csv", "curves_val.png", "curves_val.json", "coco_results_val.json", "voc"} <= {
        file.name for file in run.iterdir()
    }
    assert {"precision", "recall", "f1", "mean_iou", "cost/missed"} <= set(metrics)
    assert float(rows[0]["val/seconds"]) > 0
    assert "Traceback" not in said
    assert "stopped recording" not in said
    assert len(list((run / "images").glob("val_sample_*.png"))) == 2


def test_eval_of_a_run_gives_the_same_numbers(trained: tuple[Path, Path, str]) -> None:
    folder, run, _ = trained
    done = ssd(folder, "job=eval", f"model={run}", "logger=[]")
    assert done.returncode == 0, done.stderr
    measured = json.loads((only(folder, "outputs/eval/small_128_shapes/*") / "metrics.json").read_text())
    trained_metrics = json.loads((run / "metrics.json").read_text())
    assert measured == trained_metrics | {"job": "eval"}  # to the last digit
    lines = done.stderr.splitlines()
    assert lines[0] == "job=eval on the val split of shapes"
    assert lines[-1].startswith("val   mAP 11-point ")
    assert "best checkpoint, epoch" in lines[-1]
    assert "the same images as test" in lines[-1]


def test_eval_of_a_checkpoint_file_on_a_voc_folder(trained: tuple[Path, Path, str], voc: Path) -> None:
    folder, run, _ = trained
    file = sorted((run / "checkpoints").glob("*.params"))[-1]
    done = ssd(
        folder, "job=eval", f"model={file}", "dataset=voc", f"dataset.root={voc}", "logger=[]", "job.split=train"
    )
    assert done.returncode == 0, done.stderr
    assert "the 24 images of train" in done.stderr
    place = Path(only_line(done.stderr, "files ").split()[1])
    metrics = json.loads((place / "metrics.json").read_text())
    assert (metrics["split"], metrics["checkpoint"]) in (("train", "best"), ("train", "last"))


def test_eval_decodes_and_measures_as_the_command_line_says(trained: tuple[Path, Path, str]) -> None:
    folder, run, _ = trained
    overrides = ["job=eval", f"model={run}", "logger=[]", "compat=mxnet_ssd", "metric.compat=mxnet_ssd"]
    done = ssd(folder, *overrides, "metric.coco=true", "detection.max_detections=1", "metric.worst_images=1")
    assert done.returncode == 0, done.stderr
    place = Path(only_line(done.stderr, "files ").split()[1])
    metrics, trained_metrics = (json.loads((where / "metrics.json").read_text()) for where in (place, run))
    assert set(metrics) >= set(trained_metrics) | {"AP", "AP50", "AP75", "APsmall", "AR100"}
    assert OmegaConf.load(place / "config.yaml").detection.max_detections == 1
    assert "metric.compat=mxnet_ssd" in (place / "report.html").read_text()
    done = ssd(folder, *overrides, "detection.flip=true")
    assert done.returncode == 2
    assert "detection.flip" in only_line(done.stderr, "error: ")


def test_compare_lists_results_and_what_differs(trained: tuple[Path, Path, str]) -> None:
    folder, run, _ = trained
    done = ssd(folder, *TINY, "optimizer.learning_rate=0.01", "epochs=1", "logger=[]")
    assert done.returncode == 0, done.stderr
    done = ssd(folder, "job=compare", "job.runs=outputs/train/small_128_shapes/*")
    assert done.returncode == 0, done.stderr
    out = only(folder, "outputs/compare/runs/*")
    rows = list(csv.DictReader((out / "compare.csv").open()))
    values = {row["run"]: row for row in rows}
    assert values[run.name]["map_11pt"] == f"{json.loads((run / 'metrics.json').read_text())['map_11pt']:.4f}"
    assert {row["optimizer.learning_rate"] for row in rows} == {"0.01", "0.003"}
    assert "learning_rate" in (out / "compare.html").read_text()
    assert "optimizer.learning_rate" in done.stderr
    wrong = ssd(folder, "job=compare", "job.runs=[nowhere,there]")
    assert wrong.returncode == 2
    assert "nowhere" in only_line(wrong.stderr, "error: ")


def test_demo_writes_images_and_boxes(trained: tuple[Path, Path, str], voc: Path, tmp_path: Path) -> None:
    folder, run, _ = trained
    photos = tmp_path / "my photos"
    photos.mkdir()
    for image in sorted((voc / "JPEGImages").iterdir())[:3]:
        shutil.copy(image, photos)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = ssd(folder, "job=demo", f"model={run}", f"source={photos}", "job.threshold=0.05")
    assert done.returncode == 0, done.stderr
    assert "broken.jpg" in done.stderr
    out = sorted(folder.glob("outputs/demo/small_128_shapes/*"))[-1]
    found = json.loads((out / "detections.json").read_text())
    assert len(found["images"]) == len(list((out / "images").iterdir())) == 3
    image = cv2.imread(str(photos / found["images"][0]["file"]))[:, :, ::-1]
    boxes = Detector.load(str(run)).predict([image])[0]
    kept = boxes[boxes[:, 1] >= 0.05]
    assert len(found["images"][0]["detections"]) == len(kept)
    np.testing.assert_allclose([d["box"] for d in found["images"][0]["detections"]], kept[:, 2:], atol=0.01)


def test_starting_from_another_runs_weights(trained: tuple[Path, Path, str]) -> None:
    folder, run, _ = trained
    overrides = ["init.mode=pretrained", f"init.weights={run}", "init.freeze=^stage[12]"]
    overrides += ["dataset.classes=[circle,rectangle]", "epochs=1", "logger=[]"]
    done = ssd(folder, *TINY[:3], *overrides)
    assert done.returncode == 0, done.stderr
    assert "re-initialized  stage3_2_relu_cls_pred_conv_weight" in done.stderr
    assert "frozen:" in done.stderr
    new = sorted(folder.glob("outputs/train/small_128_shapes/*"))[-1]
    np.testing.assert_array_equal(
        load_params(new)[0]["stage1_1_conv2d_weight"].asnumpy(), load_params(run)[0]["stage1_1_conv2d_weight"].asnumpy()
    )
    assert not list((new).glob("tensorboard*"))
    assert (new / "metrics.csv").is_file()


def test_a_sweep_runs_every_combination_and_survives_a_failing_job(tmp_path: Path) -> None:
    done = ssd(tmp_path, "-m", "backbone=small,mobilenet_025", "data_shape=64,128", "dataset.train=8", "dataset.val=4",
               "epochs=1", "batch_size=4", "logger=[]")  # fmt: skip
    assert done.returncode == 2
    assert "64 is no preset" in done.stderr
    assert not (tmp_path / "outputs").exists()
    done = ssd(tmp_path, "-m", "backbone=small,vgg16_reduced", "data_shape=128", "dataset.train=8", "dataset.val=4",
               "epochs=1", "batch_size=4", "logger=[]")  # fmt: skip
    assert done.returncode != 0
    assert "error: backbone vgg16_reduced at data shape 128x128" in done.stderr
    assert (only(tmp_path, "outputs/multirun/*/0_small_128_shapes") / "metrics.json").is_file()


@pytest.fixture
def broken(voc: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to break, as tmp_path/data."""
    shutil.copytree(voc, tmp_path / "data")
    return tmp_path / "data"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def damage(kind: str, data: Path) -> None:
    """Makes one thing of a VOC folder wrong."""
    first = (data / "ImageSets/Main/train.txt").read_text().split()[0]
    xml = data / "Annotations" / f"{first}.xml"
    image = next((data / "JPEGImages").glob(f"{first}.*"))
    match kind:
        case "empty split":
            (data / "ImageSets/Main/train.txt").write_text("\n")
        case "unreadable image":
            image.write_bytes(image.read_bytes()[:200])
        case "XML that is not XML":
            xml.write_text("{}")
        case "label outside the image":
            edit(xml, "<xmax>", "<xmax>9")
        case "unknown class":
            edit(xml, "<name>", "<name>x")


@pytest.mark.parametrize(
    ("kind", "overrides", "part"),
    [
        ("missing root", ["dataset.root=nowhere"], "nowhere: no such folder"),
        ("root not given", ["dataset.root=null"], "dataset.root"),
        ("empty split", [], "train.txt"),
        ("unreadable image", [], "truncated"),
        ("XML that is not XML", [], "xml"),
        ("unknown class", ["dataset.classes=[circle,rectangle,triangle]"], "did you mean"),
        ("label outside the image", [], "dataset.out_of_range"),
        ("batch larger than the dataset", ["batch_size=100"], "batch_size=24 or less"),
        ("weights are not there", ["init.mode=finetune", "init.weights=nowhere-0001.params"], "nowhere-0001.params"),
        ("shape too small", ["backbone=vgg16_reduced"], "at least"),
        ("freeze matches nothing", ["init.freeze=^fc"], "freeze"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    kind: str, overrides: list[str], part: str, broken: Path, tmp_path: Path
) -> None:
    damage(kind, broken)
    done = ssd(tmp_path, "dataset=voc", f"dataset.root={broken}", "batch_size=8", "epochs=1", "logger=[]", *overrides)
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert part in lines[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/train/*/*/checkpoints"))
    assert not list(tmp_path.glob("outputs/records/*/*-*"))


LONG = "n" * 300


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ([f"hydra.run.dir={LONG}"], f"{LONG}: File name too long"),
        (["-m", f"hydra.sweep.subdir={LONG}", "seed=1,2"], f"{LONG}: File name too long"),
        ([f"dataset.root={LONG}", "dataset=csv"], f"{LONG}: File name too long"),
        ([f"resume={LONG}"], "File name too long"),
        (["job=eval", f"model={LONG}"], "File name too long"),
        (["job=compare", f"job.runs=[a,{LONG}]"], f"{LONG}: File name too long"),
        ([f"training.records={LONG}", "loader=record"], "File name too long"),
        (["hydra.run.dir=/dev/null"], "/dev/null: File exists"),
        ([b"hydra.run.dir=out\xff"], r"hydra.run.dir=out\xff: is not UTF-8 text"),
        ([b"dataset.root=\xff", "dataset=csv"], r"dataset.root=\xff: is not UTF-8 text"),
        (["dataset=csv", "dataset.root='a\nb\x1b[2J'"], r"dataset.root a b\x1b[2J: no such folder"),
    ],
)
def test_paths_that_no_file_can_have_are_one_line(overrides: list[str], part: str, tmp_path: Path) -> None:
    done = ssd(tmp_path, "batch_size=8", "epochs=1", "logger=[]", *overrides)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert part in lines[0]


def test_models_that_do_not_fit_are_one_line(trained: tuple[Path, Path, str], voc: Path, tmp_path: Path) -> None:
    folder, run, _ = trained
    copy = tmp_path / "checkpoints"
    shutil.copytree(run / "checkpoints", copy)
    file = sorted(copy.glob("*.params"))[-1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    edit(voc / "ImageSets/Main/val.txt", "", "")
    cases = [
        (["job=eval", f"model={file}"], "is not what was written"),
        (["job=eval"], f"job=eval needs model=: {KINDS}"),
        (["job=deploy"], "job=deploy needs model=: a run directory, a prefix-0012.params file or a deploy bundle"),
        (["job=eval", "model=nowhere"], f"nowhere: does not exist; name {KINDS}"),
        (["job=eval", f"model={run}", "dataset=shapes", "dataset.classes=[circle,star]"], "knows 3 classes"),
        (["job=demo", f"model={run}", "source=nowhere.jpg"], "nowhere.jpg: not found"),
        (["job=demo", f"model={run}"], "source="),
        (["init.mode=pretrained", f"init.weights={file}", *TINY], "is not what was written"),
    ]
    for overrides, part in cases:
        done = ssd(folder, *overrides, "logger=[]")
        assert done.returncode == 2, (overrides, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, done.stderr
        assert part in lines[0]
        assert "Traceback" not in done.stderr


def test_a_loss_that_explodes_stops_and_names_the_batch(tmp_path: Path) -> None:
    done = ssd(
        tmp_path,
        *TINY,
        "optimizer=sgd",
        "optimizer.learning_rate=1e30",
        "schedule=constant",
        "schedule.warmup=0",
        "logger=[]",
    )
    assert done.returncode == 2
    error = only_line(done.stderr, "error: ")
    assert "not finite" in error
    assert ".jpg" in error
    assert "optimizer.clip_gradient" in error


def only_line(text: str, start: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith(start)]
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize("overrides", [["--help"], ["--cfg", "job", "backbone=resnet50", "data_shape=512"]])
def test_information_is_printed_without_running(overrides: list[str], tmp_path: Path) -> None:
    done = ssd(tmp_path, *overrides)
    assert done.returncode == 0, done.stderr
    for part in ("resnet50", "data_shape"):
        assert part in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_completion_of_the_console_script(tmp_path: Path) -> None:
    script = subprocess.run(
        [sys.executable, "-m", "ssd.run", "-sc", "install=bash"], capture_output=True, text=True, check=True
    )
    assert "complete" in script.stdout
    query = subprocess.run(
        [sys.executable, "-m", "ssd.run", "-sc", "query=bash"], capture_output=True, text=True, check=True,
        env={**os.environ, "COMP_LINE": "ssd backbone=mobilenet_", "COMP_POINT": "23"},
    )  # fmt: skip
    assert set(query.stdout.split()) == {"backbone=mobilenet_025", "backbone=mobilenet_050"}
