"""What a run says its numbers are: of which epoch, step and split, and how it ended."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssd.checkpoint.index import read_index
from ssd.config.compose import compose
from ssd.data.datasets.shapes import Shapes
from ssd.evaluation.measure import evaluate
from ssd.jobs import eval as evaluation
from ssd.jobs import train, training_evaluation
from ssd.runs.results import measured_of
from ssd.tracking.events import Pruned, Writer
from ssd.training.losses import read_losses
from ssd.training.trainer import Trainer
from ssd.utils.errors import InterruptedRun, UserError

TINY = [
    "dataset=voc", "data_shape=64", "batch_size=4", "epochs=3", "training.samples=1", "training.log_every=3",
    "metric.worst_images=1", "loader.workers=0", "logger=[]", "device.threads=1",
]  # fmt: skip
STEPS = 3  # of an epoch
SPLITS = {"train": slice(0, 12), "val": slice(12, 16), "test": slice(16, 22)}
ABOUT = ("status", "split", "checkpoint", "epoch", "step")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC folder with a test split of its own."""
    options = {"classes": ["circle", "rectangle"], "image_size": 64, "max_objects": 2, "seed": 0, "compat": None}
    shapes = Shapes(name="shapes", root=str(tmp_path_factory.mktemp("drawn")), train=18, val=4, **options)
    names = [sample.id for split in ("train", "val") for sample in shapes.split(split)]
    root = Path(shapes.split("train")[0].path).parents[1]
    for split, part in SPLITS.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names[part]))
    return root


@pytest.fixture
def run(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """run(overrides…) trains in tmp_path/run, or evaluates with job=eval in tmp_path/eval; returns the directory."""
    monkeypatch.chdir(tmp_path)

    def do(*overrides: str, folder: str = "run") -> Path:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        job = evaluation if "job=eval" in overrides else train
        job.run(compose([*TINY, f"dataset.root={drawn}", *overrides]), place)
        return place

    return do


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """measures(mAP, …): what the validations of the next training measure, one after the other."""

    def so(*values: float) -> None:
        message: Iterator[float] = iter(values)

        def measured(*about: Any) -> Any:
            found = evaluate(*about)
            value = next(message, None)
            return found if value is None else replace(found, voc={**found.voc, "map_11pt": value})

        monkeypatch.setattr(training_evaluation, "evaluate", measured)

    return so


def metrics_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


def about(folder: Path) -> tuple[Any, ...]:
    metrics = metrics_of(folder)
    return tuple(metrics[name] for name in ABOUT)


def test_the_best_checkpoint_is_measured_on_the_test_split_once(run, measures, caplog, drawn, tmp_path) -> None:
    caplog.set_level(logging.INFO)
    measures(0.25, 0.5, 0.125)
    folder = run("logger=tensorboard")
    metrics = metrics_of(folder)
    assert about(folder) == ("finished", "val", "best", 2, 2 * STEPS)
    best = read_index(folder / "checkpoints/checkpoints.json")["best"]
    assert (best["epoch"], best["step"]) == (2, 2 * STEPS)
    how = measured_of(metrics)
    assert (how["val"].images, how["test"].images) == (4, 6)
    assert how["val"].fingerprint != how["test"].fingerprint
    assert [how[split].thresholds for split in ("val", "test")] == ["val", "val"]
    assert (how["val"].optimistic, how["test"].optimistic) == (True, False)
    assert {name.removeprefix("test/") for name in metrics if name.startswith("test/")} == {
        name for name in metrics if name in ("map_11pt", "map_area", "precision", "recall", "f1", "mean_iou")
        or name.startswith(("ap_11pt/", "ap_area/", "cost/"))
    }  # fmt: skip
    assert caplog.text.count("the 6 images of test") == 1
    assert caplog.messages[-2].startswith("val   mAP 11-point ")
    assert "from val itself (4 images; best checkpoint, epoch 2, step 6)" in caplog.messages[-2]
    assert caplog.messages[-1].startswith(f"test  mAP 11-point {metrics['test/map_11pt']:.4f}")
    assert "from val (6 images; best checkpoint, epoch 2, step 6)" in caplog.messages[-1]
    files = {file.name for file in folder.iterdir()} | {file.name for file in (folder / "voc").iterdir()}
    for split in ("val", "test"):
        assert {f"classes_{split}.csv", f"curves_{split}.json", f"curves_{split}.png", f"coco_results_{split}.json",
                f"comp4_det_{split}_circle.txt"} <= files  # fmt: skip
    assert len((folder / "voc/comp4_det_test_circle.txt").read_text().split()) > 0
    pages = {
        split: (folder / name).read_text() for split, name in (("val", "report.html"), ("test", "report_test.html"))
    }
    assert "voc, test: 6 images measured" in pages["test"]
    assert "best F1 on val." in pages["test"]
    assert "this very split: optimistic" in pages["val"]
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0, "images": 0}).Reload()
    final = {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    assert final["final/map_11pt"] == [(6, pytest.approx(metrics["map_11pt"]))]
    assert final["final/test/map_11pt"] == [(6, pytest.approx(metrics["test/map_11pt"]))]
    assert final["final/step"] == [(6, 6)]
    assert [event.step for event in board.Tensors("val/pr/circle")] == [3, 6, 9]
    assert [event.step for event in board.Tensors("test/pr/circle")] == [6]

    again = metrics_of(run("job=eval", f"model={folder}", "job.split=test", folder="eval"))
    assert (again["split"], again["checkpoint"], again["epoch"], again["step"]) == ("test", "best", 2, 6)
    for name in again:
        if name.startswith(("map_", "ap_", "cost/")):
            assert again[name] == metrics[f"test/{name}"], name
    assert measured_of(again)["test"].key == how["test"].key
    assert measured_of(again)["test"].optimistic  # chosen on test: nobody gave it others
    assert caplog.messages[-1].startswith("test  mAP 11-point ")
    assert "from test itself" in caplog.messages[-1]
    assert (tmp_path / "eval/classes_test.csv").is_file()


def test_the_test_split_is_left_alone_when_told(run, drawn) -> None:
    folder = run("training.test=false", "epochs=1")
    assert set(metrics_of(folder)["measured"]) == {"val"}
    assert not (folder / "report_test.html").exists()


def test_a_test_split_that_is_val_again_is_said_and_not_measured_twice(run, caplog) -> None:
    caplog.set_level(logging.INFO)
    folder = run("dataset.splits.test=[val]", "epochs=1")
    metrics = metrics_of(folder)
    assert set(metrics["measured"]) == {"val"}
    assert metrics["measured"]["val"]["same_images"] == "test"
    assert caplog.text.count("images of val") == 1
    assert "test and val are the same 4 images" in caplog.text
    assert caplog.messages[-1].endswith("the same images as test)")
    assert "val and test are the same images: neither" in (folder / "report.html").read_text()
    run("dataset.splits.test=[val]", "job=eval", f"model={folder}", "job.split=test", folder="eval")
    assert caplog.messages[-1].startswith("test ")
    assert caplog.messages[-1].endswith("the same images as val)")


def test_the_test_split_of_a_dataset_without_one_is_called_val(run, drawn, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    shutil.copytree(drawn, tmp_path / "plain", ignore=shutil.ignore_patterns("ImageSets"))
    overrides = [f"dataset.root={tmp_path / 'plain'}", "epochs=1"]
    folder = run(*overrides)
    assert set(metrics_of(folder)["measured"]) == {"val"}
    assert metrics_of(folder)["measured"]["val"]["same_images"] is None
    measured = metrics_of(run(*overrides, "job=eval", f"model={folder}", "job.split=test", folder="eval"))
    assert (measured["split"], list(measured["measured"])) == ("val", ["val"])
    assert "the dataset has no test split of its own: these are the images of val" in caplog.messages
    assert caplog.messages[-1].startswith("val ")
    assert (tmp_path / "eval/classes_val.csv").is_file()
    held = metrics_of(run(*overrides, "dataset.holdout.test=0.2", folder="held"))
    assert held["measured"]["test"]["images"] == 4


def test_an_interrupted_run_keeps_the_best_epoch_so_far(run, measures, monkeypatch) -> None:
    measures(0.5, 0.25)
    interrupt_at(monkeypatch, 2 * STEPS + 1)
    with pytest.raises(InterruptedRun):
        run()
    folder = Path("run")
    assert about(folder) == ("interrupted", "val", "best", 1, STEPS)
    metrics = metrics_of(folder)
    assert metrics["map_11pt"] == 0.5
    assert metrics["reason"].startswith("SIGTERM: stopped and saved after step 7")
    assert metrics["measured"]["val"]["thresholds"] is None  # of rates, which come at the end


def test_a_run_interrupted_before_it_was_validated_has_no_numbers(run, monkeypatch) -> None:
    interrupt_at(monkeypatch, 2)
    with pytest.raises(InterruptedRun):
        run()
    assert about(Path("run")) == ("interrupted", "val", "last", 1, 2)
    assert "map_11pt" not in metrics_of(Path("run"))
    assert metrics_of(Path("run"))["measured"] == {}


def test_a_run_that_time_ended_names_the_epoch_under_way(run, caplog) -> None:
    caplog.set_level(logging.INFO)
    folder = run("max_hours=1e-7")
    assert about(folder) == ("finished", "val", "best", 1, 1)
    assert metrics_of(folder)["reason"] == "max_hours=1e-07 are over"
    assert "epoch 1, step 1" in caplog.messages[-1]


def test_a_failed_run_keeps_the_best_epoch_so_far(run, measures, monkeypatch) -> None:
    measures(0.5, 0.25)
    count = 0

    def spoiled(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        losses = read_losses(*arguments)
        return losses if count <= 2 * STEPS else replace(losses, cross_entropy_sum=math.nan)

    monkeypatch.setattr("ssd.training.trainer.read_losses", spoiled)
    with pytest.raises(UserError, match="not finite"):
        run()
    assert about(Path("run")) == ("failed", "val", "best", 1, STEPS)
    assert "not finite" in metrics_of(Path("run"))["reason"]


@pytest.mark.parametrize(("values", "best"), [((0.5, 0.25), 1), ((0.25, 0.5), 2)])
def test_a_pruned_run_keeps_the_best_epoch_and_its_checkpoint(values, best, run, measures, monkeypatch) -> None:
    class Pruner(Writer):
        def epoch(self, epoch, step, values):
            if epoch == 2:
                raise Pruned("no hope")

    monkeypatch.setattr("ssd.jobs.common.trial_writers", lambda metric: {"study": Pruner()})
    measures(*values)
    with pytest.raises(Pruned):
        run()
    assert about(Path("run")) == ("pruned", "val", "best", best, best * STEPS)
    assert metrics_of(Path("run"))["reason"] == "no hope"
    index = read_index(Path("run/checkpoints/checkpoints.json"))
    assert (index["best"]["epoch"], index["last"]["epoch"]) == (best, 2)


def test_a_resumed_run_goes_on_from_the_best_epoch_before(run, measures, monkeypatch) -> None:
    measures(0.5)
    interrupt_at(monkeypatch, STEPS + 1)
    with pytest.raises(InterruptedRun):
        run()
    measures(0.25, 0.125, 0.5)
    folder = run("resume=run")
    assert about(folder) == ("finished", "val", "best", 1, STEPS)
    assert metrics_of(folder)["reason"] is None


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGTERM while this step is taken."""
    import signal

    take = Trainer.backward

    def taken(self: Trainer, batch: Any, number: int, probe: Any) -> Any:
        if number == step - 1:
            monkeypatch.setattr(Trainer, "backward", take)
            signal.raise_signal(signal.SIGTERM)
        return take(self, batch, number, probe)

    monkeypatch.setattr(Trainer, "backward", taken)
