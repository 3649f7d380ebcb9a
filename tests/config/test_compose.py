"""Every choice of every group composes; what is wrong is reported in one line."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ssd.config.compose import compose, explain
from ssd.config.overrides import flags_first, groups, normalize, override, sweep_points
from ssd.config.resolvers import anchor_scales
from ssd.utils.errors import UserError

CHOICES = [f"{group}={choice}" for group, names in groups().items() for choice in names if choice != "any"]
BACKBONES = groups()["backbone"]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_resolves(choice: str) -> None:
    cfg = compose([choice])
    assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)


@pytest.mark.parametrize(("backbone", "shape"), itertools.product(BACKBONES, ["300", "512"]))
def test_every_backbone_has_a_head_for_both_tiers(backbone: str, shape: str) -> None:
    cfg = compose([f"backbone={backbone}", f"data_shape={shape}"])
    layers = len(cfg.head.from_layers)
    assert layers >= 2
    assert all(len(cfg.head[key]) == layers for key in ("sizes", "ratios", "strides", "pads", "num_filters", "kernels"))


def test_the_two_commands_as_written() -> None:
    cfg = compose(["backbone=resnet50", "data_shape=512"])
    assert (cfg.backbone.name, cfg.data_shape.height, cfg.data_shape.tier) == ("resnet50", 512, "large")
    overrides = normalize(["backbone=resnet50,mobilenet", "data_shape=300,512"])
    points = {tuple(point) for point in sweep_points(overrides)}
    assert len(points) == 3  # every value once
    assert {compose(point).data_shape.height for point in points} == {300, 512}


def test_free_shapes() -> None:
    cfg = compose(["data_shape=400"])
    assert (cfg.data_shape.height, cfg.data_shape.width, cfg.data_shape.tier) == (400, 400, "small")
    cfg = compose(["data_shape=[448,640]"])
    assert (cfg.data_shape.height, cfg.data_shape.width, cfg.data_shape.tier) == (448, 640, "large")
    assert cfg.data_shape.name == "448x640"


def test_sides_of_a_preset_are_in_its_name() -> None:
    assert compose(["data_shape=300"]).data_shape.name == "300"
    assert compose(["data_shape=300", "data_shape.height=200"]).data_shape.name == "200x300"


def test_one_field_of_the_head_can_be_overridden() -> None:
    cfg = compose(["backbone=resnet50", "data_shape=512", "head.normalization=[20,-1,-1,-1,-1,-1]"])
    assert cfg.head.normalization[0] == 20
    assert cfg.head.sizes == compose(["backbone=resnet50", "data_shape=512"]).head.sizes


def test_compat_changes_the_head_where_the_original_was_wrong() -> None:
    overrides = ["backbone=resnet50", "data_shape=512"]
    assert compose([*overrides, "compat=mxnet_ssd"]).head.from_layers[0] == "_plus12"
    assert compose(overrides).head.from_layers[0] != "_plus12"


@pytest.mark.parametrize(
    "value", ["runs/lr=0.1/ssd-0003.params", "my photos (2)/*.jpg", "^conv[12]_", "it's.jpg", "a\\b.jpg"]
)
def test_values_that_are_no_grammar_are_meant_literally(value: str) -> None:
    assert compose([f"source={value}"]).source == value


def test_flags_go_in_front_of_overrides() -> None:
    overrides = [
        "seed=1",
        "--config-dir",
        "my conf",
        "-m",
        "epochs=2",
        "--cfg",
        "job",
        "--config-dir=x",
        "batch_size=4",
    ]
    assert flags_first(overrides) == [
        "--config-dir", "my conf", "-m", "--cfg", "job", "--config-dir=x", "seed=1", "epochs=2", "batch_size=4",
    ]  # fmt: skip


def test_loggers_are_selectable() -> None:
    assert not compose(["logger=[]"]).logger
    assert list(compose(["logger=tensorboard"]).logger) == ["tensorboard"]
    assert list(compose(["logger=[csv,mlflow]"]).logger) == ["csv", "mlflow"]


def test_anchor_scales_are_the_papers() -> None:
    six = [[0.1, 0.1414], [0.2, 0.272], [0.37, 0.447], [0.54, 0.6192], [0.71, 0.7904], [0.88, 0.9612]]
    seven = [
        [0.07, 0.1025],
        [0.15, 0.2121],
        [0.3, 0.3674],
        [0.45, 0.5196],
        [0.6, 0.6708],
        [0.75, 0.8216],
        [0.9, 0.9721],
    ]
    for golden, ours in ((six, anchor_scales(0.2, 0.9, 6)), (seven, anchor_scales(0.15, 0.9, 7))):
        assert [[round(value, 4) for value in layer] for layer in ours] == golden


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["backbone=resnet5"], ["backbone=resnet5", "did you mean 'resnet50'?", "mobilenet_025"]),
        (["optimzer.lr=1"], ["optimzer.lr", "no key"]),
        (["optimizer.learning_rat=1"], ["did you mean 'optimizer.learning_rate'?"]),
        (["batchsize=4"], ["did you mean 'batch_size'?"]),
        (["job=trian"], ["did you mean 'train'?", "demo"]),
        (["epochs=many"], ["epochs=many", "Integer"]),
        (["epochs=0"], ["epochs=0", "at least 1"]),
        (["data_shape=[300]"], ["data_shape=[300]", "data_shape=300", "[height,width]"]),
        (["data_shape=[300,300,3]"], ["data_shape=[300,300,3]", "[height,width]"]),
        (["data_shape=[]"], ["data_shape=[]", "[height,width]"]),
        (["data_shape="], ["data_shape=:", "[height,width]"]),
        (["data_shape=-5"], ["data_shape=-5", "whole pixels"]),
        (["data_shape=300.5"], ["data_shape=300.5", "whole pixels"]),
        (["data_shape=[300,abc]"], ["data_shape=[300,abc]", "whole pixels"]),
        (["data_shape=[300,300],[444,444]"], ["[300,300] is no preset"]),
        (["data_shape=99999"], ["99999x99999", "at most 4096"]),
        (["data_shape=0"], ["0x0", "at least 1 pixel"]),
        (["device.threads=0"], ["device.threads=0: must be at least 1"]),
        (["device.threads=100000"], ["device.threads=100000: must be at most 1024"]),
        (["loader.workers=1000"], ["loader.workers=1000: must be at most 256"]),
        (["cluster=local", "cluster.workers=1000"], ["cluster.workers=1000: must be at most 256"]),
        (["data_shape.height=0"], ["0x128", "at least 1 pixel"]),
        (["data_shape.width=99999"], ["128x99999", "at most 4096"]),
        (["resume="], ["resume=", "empty"]),
        (["dataset.root="], ["dataset.root=", "empty"]),
        (["dataset.root=[2024]"], ["dataset.root=['2024']", "one name"]),
        (["dataset.name=null"], ["dataset.name=null", "expected a name"]),
        (["dataset.root=a,b"], ["needs -m", "\"dataset.root='a,b'\""]),
        (["dataset.name={a:1}"], ["dataset.name=", "one name"]),
        (["backbone=resnet50,mobilenet"], ["needs -m"]),
        (["data_shape=300,444"], ["444 is no preset"]),
        (["compat=caffe"], ["mxnet_ssd"]),
        (["metric.compat=voc"], ["metric.compat=voc", "mxnet_ssd"]),
        (["metric.iou=50"], ["metric.iou=50", "less than 1"]),
        (["metric.worst_images=-1"], ["metric.worst_images=-1", "0 for none"]),
        (["resize_mode=shrink"], ["force", "fit"]),
        (["loader=quick"], ["loader=quick", "fast, record"]),
        (["loader.workers=-1"], ["at least 0"]),
        (["loader=record", "loader.workers=0"], ["at least 1"]),
        (["loader.prefetch=0"], ["at least 1"]),
        (["device.ids=[0,0]"], ["once"]),
        (["device.ids=[]"], ["at least one"]),
        (["batch_size=1", "device.ids=[0,1]"], ["expected at least the number of devices"]),
        (["head.sizes=[[0.1,0.2]]"], ["head.sizes has 1 entries"]),
        (["dataset=vok"], ["did you mean 'voc'?"]),
        (["epochs"], ["epochs"]),
        (["epochs=[1"], ["epochs='[1'", "Integer"]),
        (["+nothing=1"], ["nothing", "no key"]),
        (["~epochs"], ["epochs"]),
    ],
)
def test_mistakes_are_told_in_one_line(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@given(st.sampled_from(["backbone", "data_shape", "epochs", "a.b"]), st.text(max_size=12))
def test_normalize_never_fails_but_for_data_shapes(key: str, value: str) -> None:
    try:
        out = normalize([f"{key}={value}"])
    except UserError:
        assert key == "data_shape"
    else:
        assert all("=" in item for item in out)


@given(st.text())
def test_explain_is_always_one_line(text: str) -> None:
    assert len(explain(ValueError(text), ["a=b"]).splitlines()) <= 1


def test_composing_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys; from ssd.config import compose; compose(['backbone=resnet50', 'data_shape=512']); import ssd.run;"
        "heavy = 'mxnet', 'mlflow', 'cv2', 'matplotlib', 'tensorboardX', 'optuna', 'joblib', 'submitit'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_one_threshold_for_what_is_shown_and_served() -> None:
    cfg = compose(["job=demo"])
    assert cfg.job.threshold == cfg.threshold == compose([]).threshold
    assert compose(["job=demo", "threshold=0.3"]).job.threshold == 0.3
    assert compose(["job=demo", "job.threshold=0.3"]).threshold == cfg.threshold
    for wrong in ("1.5", "-0.1", "nan"):
        with pytest.raises(UserError, match="threshold=.*: expected a score from 0 to 1"):
            compose([f"threshold={wrong}"])


def test_the_folder_of_a_job_is_named_after_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("outputs/small_128_shapes/2026-01-31_12-00-00.000000", "mine", "deep/mine too"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("")
    names = {"outputs/small_128_shapes/2026-01-31_12-00-00.000000": "small_128_shapes", "mine": "mine",
             "deep/mine too": "mine too", "mine/checkpoints/ssd-0001.params": "mine", "else/x.onnx": "x"}  # fmt: skip
    for model, name in names.items():
        cfg = compose(["job=eval", override("model", model)])
        assert OmegaConf.create({"x": "${ssd.run_name:}", **cfg}).x == name
