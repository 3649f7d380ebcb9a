import dataclasses
import importlib.util
import logging

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.util.tensor_util import make_ndarray

from ssd.runs.results import Results
from ssd.tracking import Events
from ssd.tracking.graph_nodes import GraphNode
from ssd.tracking.tensorboard import Monitoring, TensorBoard
from ssd.utils.errors import UserError

RED = np.full((6, 8, 3), (255, 0, 0), np.uint8)
NODES = [
    GraphNode("data", "Input", [], [(2, 3, 8, 8)], {}),
    GraphNode("conv/1", "Convolution", ["data"], [(2, 4, 8, 8)], {"num_filter": "4"}),
    GraphNode("loss", "Loss", ["conv/1", "data:1"], [], {}),
]


def make(interval: int = 0, pattern: str = ".*") -> TensorBoard:
    return TensorBoard(folder="tensorboard", curve_points=11, monitor=Monitoring(interval, pattern))


def read(run) -> EventAccumulator:
    everything = {"images": 0, "histograms": 0, "scalars": 0, "tensors": 0}
    return EventAccumulator(str(run.folder / "tensorboard"), size_guidance=everything).Reload()


def series(board, tag):
    return [(event.step, event.value) for event in board.Scalars(tag)]


@pytest.fixture
def board(run):
    """What TensorBoard sees of a small run."""
    writer = make()
    writer.start(run)
    writer.graph(NODES)
    writer.step(1, 10, {"train/loss": 3.0, "train/learning_rate": np.float32(0.5)})
    writer.step(1, 20, {"train/loss": 2.0, "train/learning_rate": 0.25})
    writer.image("val/sample_0", RED, 20)
    writer.curve("val/pr/cat", np.array([1, 0.5, 2 / 3]), np.array([0.25, 0.25, 0.5]), np.array([0.9, 0.5, 0.5]), 4, 20)
    writer.epoch(1, 20, {"train/loss": 2.5, "val/map_11pt": 0.5, "val/ap_11pt/traffic light": 0.5,
                         "val/ap_11pt/cat": float("nan")})  # fmt: skip
    writer.image("val/sample_0", RED // 2, 20)
    values = {"val/map_11pt": 0.5, "val/map_area": float("nan"), "val/ap_11pt/cat": 1.0, "test/map_11pt": 0.25}
    writer.close(Results("finished", epoch=1, step=10, values=values))
    assert writer.where().endswith(f"tensorboard --logdir {run.folder / 'tensorboard'}")
    return read(run)


def test_scalars(board):
    assert series(board, "train/loss") == [(10, 3.0), (20, 2.0)]
    assert series(board, "train/learning_rate") == [(10, 0.5), (20, 0.25)]
    assert series(board, "train_epoch/loss") == [(20, 2.5)]
    assert series(board, "val/map_11pt") == [(20, 0.5)]
    assert series(board, "val/ap_11pt/traffic_light") == [(20, 0.5)]
    assert series(board, "train/epoch") == [(10, 1.0), (20, 1.0), (20, 1.0)]
    assert "val/ap_11pt/cat" not in board.Tags()["scalars"]


def test_final_numbers(board):
    final = {tag: series(board, tag) for tag in board.Tags()["scalars"] if tag.startswith("final/")}
    assert final == {
        "final/map_11pt": [(10, 0.5)],  # at the step of the best epoch, not of the last
        "final/test/map_11pt": [(10, 0.25)],
        "final/epoch": [(10, 1.0)],
        "final/step": [(10, 10.0)],
    }


def test_a_run_that_went_on_has_one_final_value(run):
    for resumed_at, best, value in ((None, 20, 0.5), (30, 40, 0.75)):
        writer = make()
        writer.start(dataclasses.replace(run, resumed_at=resumed_at))
        for step in range(1, 31):
            writer.step(1, (resumed_at or 0) + step, {"train/loss": 1.0})
        writer.close(Results("finished", epoch=1, step=best, values={"val/map_11pt": value}))
    assert series(read(run), "final/map_11pt") == [(40, 0.75)]


def test_the_best_epoch_shown_again_at_the_end_is_not_shown_twice(run):
    writer = make()
    writer.start(run)
    for step in (10, 20, 10):
        writer.curve("val/pr/cat", np.ones(1), np.ones(1), np.ones(1), 1, step)
    writer.close(Results("finished"))
    assert [event.step for event in read(run).Tensors("val/pr/cat")] == [10, 20]


def test_image_can_be_decoded_and_is_shown_once_a_step(board):
    (event,) = board.Images("val/sample_0")
    assert (event.step, event.width, event.height) == (20, 8, 6)
    decoded = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_allclose(decoded, RED, atol=2)


def test_pr_curve(board):
    (event,) = board.Tensors("val/pr/cat")
    assert event.step == 20
    found, false, _, missed, precision, recall = make_ndarray(event.tensor_proto)
    np.testing.assert_array_equal(found, [2] * 6 + [1] * 4 + [0])
    np.testing.assert_array_equal(false, [1] * 6 + [0] * 4 + [0])
    np.testing.assert_array_equal(missed, 4 - found)
    np.testing.assert_allclose(precision, [2 / 3] * 6 + [1] * 4 + [0], rtol=1e-6)
    np.testing.assert_allclose(recall, found / 4, rtol=1e-6)
    assert board.SummaryMetadata("val/pr/cat").plugin_data.plugin_name == "pr_curves"


def test_configuration_is_text(board):
    (event,) = board.Tensors("config/text_summary")
    assert event.tensor_proto.string_val[0].startswith(b"```yaml\n")
    assert b"device:\n  name: cpu" in event.tensor_proto.string_val[0]


def test_hyper_parameters_belong_to_the_run(board):
    tags = ("_hparams_/session_start_info", "_hparams_/session_end_info")
    assert {board.SummaryMetadata(tag).plugin_data.plugin_name for tag in tags} == {"hparams"}
    assert b"device" in board.SummaryMetadata(tags[0]).plugin_data.content


def test_graph(board):
    graph = board.Graph()
    assert [(node.name, node.op, list(node.input)) for node in graph.node] == [
        ("data", "Input", []), ("conv/1", "Convolution", ["data"]), ("loss", "Loss", ["conv/1", "data:1"]),
    ]  # fmt: skip
    conv = graph.node[1].attr
    assert conv["num_filter"].s == b"4"
    assert [[dim.size for dim in shape.dim] for shape in conv["_output_shapes"].list.shape] == [[2, 4, 8, 8]]


def test_histogram(run):
    writer = make(interval=5)
    writer.start(run)
    values = np.array([3, 4, np.nan, np.inf], np.float32)
    writer.histogram("weights/conv1_weight", values, 5)
    writer.histogram("gradients/conv1_weight", np.full(4, -np.inf, np.float32), 5)
    writer.histogram("gradients/conv1_weight", np.zeros(4, np.float32), 10)
    writer.histogram("gradients/conv1_weight", np.zeros(0, np.float32), 15)
    writer.close(Results("finished"))
    board = read(run)
    (event,) = board.Histograms("weights/conv1_weight")
    found = event.histogram_value
    assert (event.step, found.min, found.max, found.num, found.sum, found.sum_squares) == (5, 3, 4, 2, 7, 25)
    assert series(board, "rms/weights/conv1_weight") == [(5, pytest.approx(12.5**0.5))]
    assert series(board, "not_finite/weights/conv1_weight") == [(5, 0.5)]
    assert series(board, "not_finite/gradients/conv1_weight") == [(5, 1.0)]
    assert [event.step for event in board.Histograms("gradients/conv1_weight")] == [10]


def test_histograms_are_wanted_at_the_interval_only():
    assert [step for step in range(1, 31) if make(interval=10, pattern="^weights").wants_histograms(step)] == [
        10,
        20,
        30,
    ]
    assert make(interval=10, pattern="^weights").wants_histograms(10).pattern == "^weights"
    assert not any(make(interval=0).wants_histograms(step) for step in range(1, 31))


@pytest.mark.parametrize(("options", "message"), [
    ((-1, ".*"), "interval=-1"),
    ((1, "("), r"pattern=\(: not a regular expression"),
])  # fmt: skip
def test_wrong_monitoring_is_told(options, message):
    with pytest.raises(UserError, match=f"logger.tensorboard.monitor.{message}"):
        Monitoring(*options)


def steps(run, first: int, last: int, value: float) -> TensorBoard:
    """A run that tells of the steps first to last, in the way of a training, and is killed."""
    writer = make(interval=10)
    writer.start(run)
    for step in range(first, last + 1):
        writer.step(1, step, {"train/loss": value})
        if step % 10 == 0:
            writer.histogram("weights/a", np.full(3, value, np.float32), step)
            writer.image("val/sample_1", RED, step)
            writer.curve("val/pr/cat", np.ones(1), np.ones(1), np.ones(1), 1, step)
    return writer


def test_a_resumed_run_goes_on_without_overlap(run):
    steps(run, 1, 37, 1.0).step(1, 37, {"only/before": 1.0})
    folder = run.folder / "tensorboard"
    live = EventMultiplexer().AddRunsFromDirectory(str(run.folder)).Reload()  # a TensorBoard that watches
    with open(next(folder.iterdir()), "ab") as file:
        file.write(b"half a rec")
    writer = steps(dataclasses.replace(run, resumed_at=20), 21, 50, 2.0)
    writer.close(Results("finished", values={"val/map_11pt": 0.5}))
    board = read(run)
    expected = [(step, 1.0 if step <= 20 else 2.0) for step in range(1, 51)]
    assert series(board, "train/loss") == expected
    assert [event.step for event in board.Histograms("weights/a")] == [10, 20, 30, 40, 50]
    assert [event.step for event in board.Images("val/sample_1")] == [10, 20, 30, 40, 50]
    assert [event.step for event in board.Tensors("val/pr/cat")] == [10, 20, 30, 40, 50]
    assert "only/before" not in board.Tags()["scalars"]
    assert [event.step for event in board.Tensors("config/text_summary")] == [0, 20]
    assert series(board, "final/map_11pt") == [(50, 0.5)]
    for multiplexer in (live, EventMultiplexer().AddRunsFromDirectory(str(run.folder))):
        multiplexer.Reload()
        assert [event.step for event in multiplexer.Tensors("tensorboard", "train/loss")] == list(range(1, 51))


def test_a_full_disk_leaves_the_training_alone(run, caplog, monkeypatch):
    writer = make()
    events = Events({"tensorboard": writer})
    events.start(run)
    writer.file.close()
    monkeypatch.setattr(writer.file, "_file", open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    for step in range(1, 40):
        events.step(1, step, {"train/loss": 1.0})
    assert [message.split(";")[0] for message in caplog.messages] == [
        "tensorboard stopped recording: OSError: [Errno 28] No space left on device"
    ]


def test_names_of_classes_cause_no_chatter(run, caplog):
    writer = make()
    writer.start(run)
    with caplog.at_level(logging.INFO):
        writer.epoch(1, 20, {"val/ap_11pt/traffic light": 0.5, "val/ap_11pt/cat": float("nan")})
        writer.image("an image", RED, 20)
    writer.close(Results("finished"))
    assert caplog.messages == []


def test_the_page_may_not_be_installed(run, monkeypatch):
    writer = TensorBoard("tensorboard", 127, Monitoring(0, ".*"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert writer.where().endswith("tensorboard  # needs pip install 'ssd[dashboard]'")
