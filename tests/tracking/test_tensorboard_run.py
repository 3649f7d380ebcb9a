"""A real training, as TensorBoard sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CLASSES = ["circle", "rectangle", "triangle"]
STEPS = 4  # two epochs of two
OVERRIDES = [
    "dataset.train=16",
    "dataset.val=4",
    "batch_size=8",
    "epochs=2",
    "training.log_every=1",
    "training.samples=2",
    "logger=tensorboard",
    "logger.tensorboard.monitor.interval=2",
    r"logger.tensorboard.monitor.pattern='stage1_1_conv2d_weight|stage3_2_relu$'",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, run_in: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("work")
    done = run_in(folder, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    assert "stopped recording" not in done.stderr
    (found,) = folder.glob("outputs/train/*/*")
    return found


@pytest.fixture(scope="module")
def board(run: Path) -> EventAccumulator:
    everything = {"images": 0, "histograms": 0, "scalars": 0, "tensors": 0}
    return EventAccumulator(str(run / "tensorboard"), size_guidance=everything).Reload()


def test_every_tag_is_there(board: EventAccumulator) -> None:
    tags = board.Tags()
    numbers = ["loss", "cross_entropy", "smooth_l1", "learning_rate", "images_per_second", "data_wait"]
    every_step = [f"train/{name}" for name in [*numbers, "epoch"]]
    every_epoch = [f"train_epoch/{name}" for name in numbers] + ["val/map_11pt", "val/map_area", "val/seconds"]
    names = ("epoch", "f1", "map_11pt", "map_area", "mean_iou", "precision", "recall", "step")
    final = [f"final/{name}" for name in names]
    arrays = ["weights/stage1_1_conv2d_weight", "gradients/stage1_1_conv2d_weight", "activations/stage3_2_relu"]
    # A class that the four images lack has no AP, and no curve worth the name.
    present = {tag.removeprefix("val/ap_11pt/") for tag in tags["scalars"] if tag.startswith("val/ap_11pt/")}
    assert present
    assert present <= set(CLASSES)
    every_epoch += [f"val/{kind}/{name}" for kind in ("ap_11pt", "ap_area") for name in present]
    undefined = {f"final/{name}" for name in ("f1", "mean_iou", "precision", "recall")}  # where nothing is found
    expected = {*every_step, *every_epoch, *final, *(f"rms/{tag}" for tag in arrays)}
    assert set(tags["scalars"]) | undefined == expected
    for tag in every_step[:-1]:
        assert [event.step for event in board.Scalars(tag)] == [1, 2, 3, 4], tag
    for tag in every_epoch:
        assert [event.step for event in board.Scalars(tag)] == [2, 4], tag
    assert sorted(tags["histograms"]) == sorted(arrays)
    for tag in arrays:
        assert [event.step for event in board.Histograms(tag)] == [2, 4]
    assert sorted(tags["images"]) == ["val/sample_1", "val/sample_2"]
    assert tags["graph"]
    curves = {tag for tag in tags["tensors"] if tag.startswith("val/pr/")}
    assert curves == {f"val/pr/{name}" for name in CLASSES}
    for tag in curves:
        assert [event.step for event in board.Tensors(tag)] == [2, 4]
    assert {"config/text_summary", "classes/text_summary"} <= set(tags["tensors"])
    for name in ("session_start_info", "session_end_info"):
        assert board.SummaryMetadata(f"_hparams_/{name}").plugin_data.plugin_name == "hparams"


def test_images_are_the_same_every_epoch_and_in_their_colors(board: EventAccumulator, run: Path) -> None:
    for tag in ("val/sample_1", "val/sample_2"):
        events = board.Images(tag)
        assert [event.step for event in events] == [2, 4]
        saved = cv2.imread(str(run / "images" / f"{tag.replace('/', '_')}.png"))[:, :, ::-1]
        truth = saved[:, :128].astype(float)  # the left half shows the ground truth, which stays the same
        for event in events:
            image = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
            assert image.shape == saved.shape
            difference = np.abs(image[:, :128] - truth).mean()
            swapped = np.abs(image[:, :128, ::-1] - truth).mean()
            assert difference < 6
            assert swapped > 2 * difference


def test_graph_is_that_of_the_network(board: EventAccumulator) -> None:
    nodes = {node.name: node for node in board.Graph().node}
    assert {"data", "label", "stage1_1/conv2d/weight", "loss/cls_prob"} <= nodes.keys()
    shape = nodes["stage3_2/relu"].attr["_output_shapes"].list.shape[0]
    assert [dim.size for dim in shape.dim] == [8, 64, 16, 16]
