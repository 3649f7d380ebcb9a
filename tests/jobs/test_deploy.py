"""job=deploy on the real command line, and its exports as model= of other jobs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from ssd.checkpoint.model import Model, ModelSpec, attach_spec
from ssd.config.compose import compose
from ssd.data.base import Sample
from ssd.detection.open_model import open_model
from ssd.evaluation.measure import EvalResult
from ssd.export.agreement import Agreement
from ssd.export.formats import FORMATS, Calibration
from ssd.jobs.common import check_fixed
from ssd.jobs.deploy import Exported, Job, Material, chosen, export, find_faults, find_losses, table
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.utils.errors import UserError

SHAPES = ["dataset=shapes", "dataset.max_images=12", "data_shape=128"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An untrained network for the generated shapes."""
    cfg = compose([])
    classes = ["circle", "rectangle", "triangle"]
    spec = ModelSpec.from_config(cfg, classes)
    graph = attach_spec(build_train(cfg, 3), spec)
    shapes, _, aux_shapes = graph.infer_shape(data=(1, 3, 128, 128), label=(1, 3, 6))
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in zip(graph.list_arguments(), shapes, strict=True):
        if name not in ("data", "label"):
            deviation = (2 / np.prod(shape[1:])) ** 0.5 if name.endswith("weight") else 0.1
            arrays[f"arg:{name}"] = mx.nd.array(rng.normal(1.0 * name.endswith("gamma"), deviation, shape))
    for name, shape in zip(graph.list_auxiliary_states(), aux_shapes, strict=True):
        arrays[f"aux:{name}"] = mx.nd.array(rng.uniform(0.8, 1.2, shape))
    folder = tmp_path / "trained"
    folder.mkdir()
    graph.save(str(folder / "ssd-symbol.json"))
    mx.nd.save(str(folder / "ssd-0007.params"), arrays)
    return folder / "ssd-0007.params"


@pytest.mark.slow
def test_every_format_and_every_job_with_them(ssd, checkpoint: Path, tmp_path: Path) -> None:
    overrides = ["job=deploy", f"model={checkpoint}", "deploy.format=[mxnet,onnx,int8,onnx_int8]", "deploy.images=3"]
    done = ssd(*overrides, *SHAPES, "deploy.calibration.images=6")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "deploy").glob("*/*")
    names = ["mxnet", "ssd.onnx", "int8", "ssd_int8.onnx"]
    assert {path.name for path in run.iterdir()} >= {*names, "config.yaml", "deploy.json"}
    assert not (run / "unchecked").exists()
    report = json.loads((run / "deploy.json").read_text())
    assert report["formats"]["onnx"]["agreement"]["before"] < 1e-5
    assert report["formats"]["mxnet"]["maps"] == report["maps"]
    assert OmegaConf.load(run / "config.yaml").job.name == "deploy"
    for line in ("trained", "mxnet", "onnx", "int8", "onnx_int8"):
        assert any(text.startswith(line) for text in done.stderr.splitlines()), line

    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8))
    for name in names[2:]:
        done = ssd("job=demo", f"model={run / name}", "source=a.png", "job.threshold=0.02")
        assert done.returncode == 0, done.stderr
    done = ssd("job=eval", f"model={run / 'ssd.onnx'}", *SHAPES, "logger=[]", "detection.max_detections=5")
    assert done.returncode == 0, done.stderr
    again = ssd("job=deploy", f"model={run / 'mxnet'}", "deploy.format=onnx", "deploy.measure=false", "source=a.png")
    assert again.returncode == 0, again.stderr
    done = ssd("job=deploy", f"model={run / 'ssd.onnx'}")
    assert done.returncode == 2
    assert "is exported already" in done.stderr.splitlines()[-1]


def test_a_dataset_that_does_not_fit(ssd, checkpoint: Path) -> None:
    done = ssd("job=deploy", f"model={checkpoint}", *SHAPES, "dataset.classes=[circle,star,cross]")
    assert done.returncode == 2
    assert "choose the dataset that fits the model" in done.stderr.splitlines()[-1]


def deploy(*overrides: str) -> DictConfig:
    return compose([f"deploy.{override}" for override in overrides]).deploy


def test_formats_are_a_name_or_a_list() -> None:
    assert list(chosen(deploy("format=onnx"))) == ["onnx"]
    assert list(chosen(deploy("format=[int8,mxnet]"))) == ["int8", "mxnet"]
    for wrong in ("tensorrt", "[onnx,tensorrt]", "[]"):
        with pytest.raises(UserError, match="expected mxnet, onnx, int8, onnx_int8"):
            chosen(deploy(f"format={wrong}"))


def test_the_input_of_onnx_files() -> None:
    assert chosen(deploy("format=onnx"))["onnx"].write == FORMATS["onnx"].write
    fixed = chosen(deploy("format=[onnx,mxnet]", "input=fixed"))
    assert fixed["onnx"].write == FORMATS["onnx"].fixed
    assert fixed["mxnet"] == FORMATS["mxnet"]
    with pytest.raises(UserError, match=r"deploy.input=any: expected image or fixed"):
        chosen(deploy("input=any"))


def test_a_limit_below_zero() -> None:
    with pytest.raises(UserError, match=r"deploy.max_map_loss=-0.1: expected a difference of mAP, 0 or more"):
        chosen(deploy("max_map_loss=-0.1"))


def test_what_is_not_installed_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssd.export.onnx.export", None)
    monkeypatch.delattr("ssd.export.onnx.export", raising=False)
    with pytest.raises(UserError, match=r"pip install 'ssd\[onnx\]'"):
        chosen(deploy("format=[mxnet,onnx_int8]"))


def job(name: str, measured: EvalResult | None = None) -> Job:
    spec = ModelSpec.from_config(compose([]), ["a"])
    material = Material([], [], "val", Calibration(lambda: [], "minmax"))
    return Job(Model(spec, None, {}, {}), FORMATS[name], material, measured)


def agreed(before: float, differing: int) -> Agreement:
    return Agreement(1, before, 100, differing, 0, 10, 10)


@pytest.mark.parametrize(
    ("name", "agreement", "faults"),
    [
        ("onnx", agreed(1e-5, 0), []),
        ("onnx", agreed(1e-3, 0), ["differs by 0.001 before suppression"]),
        ("mxnet", agreed(0, 2), ["2 of 100 boxes differ"]),
        ("int8", agreed(0.3, 90), []),
    ],
)
def test_what_fails(name: str, agreement: Agreement, faults: list[str]) -> None:
    found = find_faults(job(name), agreement)
    assert len(found) == len(faults)
    for text, part in zip(found, faults, strict=True):
        assert text.startswith(part)


BOX = [10.0, 10, 50, 50]


def split(images: int, lost: int) -> EvalResult:
    """One object in each image, all found but those of the first `lost` images."""
    samples = [Sample(str(n), Path(f"{n}.jpg"), 60, 60, np.array([[0, *BOX, 0]], np.float32)) for n in range(images)]
    rows = [np.array([[0, 0.9 - n / 1e4, *BOX]], np.float32) for n in range(images)]
    for number in range(lost):
        rows[number] = rows[number][:0]
    return EvalResult.of(samples, rows, ["a"], compose([]).metric)


@pytest.mark.parametrize(
    ("name", "images", "lost", "overrides", "outcome"),
    [
        ("int8", 40, 0, [], None),
        ("int8", 40, 1, [], False),  # 0.025 of mAP, and one object
        ("int8", 40, 8, [], True),
        ("int8", 1000, 3, [], None),  # 0.003
        ("int8", 1000, 10, [], True),  # 0.01, and more than chance
        ("int8", 1000, 10, ["deploy.max_map_loss=0.02"], None),
        ("onnx", 40, 1, [], False),
        ("onnx", 1000, 10, [], True),
    ],
)
def test_a_loss_counts_where_the_split_can_tell(name, images, lost, overrides, outcome) -> None:
    """outcome: None for no remark, else whether it fails by it."""
    losses = find_losses(compose(overrides), job(name, split(images, 0)), split(images, lost))
    area = [(text, fails) for text, fails in losses if text.startswith("map_area")]
    assert [fails for _, fails in area] == ([] if outcome is None else [outcome])
    if outcome is not None:
        text = area[0][0]
        assert f"map_area is {1 - lost / images:.4f} instead of 1.0000" in text
        assert f"from {images} images: " in text
        if not outcome:
            assert text.endswith("within what these images can decide")
        elif name == "int8":
            for way in ("deploy.max_map_loss=", "deploy.split=", "deploy.calibration.method="):
                assert way in text


def test_eight_bits_may_gain() -> None:
    worse, better = split(100, 20), split(100, 0)
    assert find_losses(compose([]), job("int8", worse), better) == []
    assert [fails for _, fails in find_losses(compose([]), job("onnx", worse), better)] == [True, True]


def test_without_objects_nothing_is_lost() -> None:
    nothing = EvalResult.of([], [], ["a"], compose([]).metric)
    assert find_losses(compose([]), job("int8", nothing), nothing) == []
    assert find_losses(compose([]), job("int8"), None) == []


def test_a_failure_is_in_the_table() -> None:
    good = Exported("runs/mxnet", 1.5, agreed(0, 0), {"map_11pt": 0.8}, [], [])
    bad = Exported("runs/ssd.onnx", 1.5, agreed(1, 3), {"map_11pt": 0.1}, ["differs"], [])
    lines = table({"map_11pt": 0.8}, {"mxnet": good, "onnx": bad})
    assert "runs/mxnet" in lines[2]
    assert lines[3].endswith("FAILED")
    assert len({len(line) - len(line.split()[-1]) for line in lines[:1] + lines[2:]}) == 1  # columns line up


@pytest.mark.parametrize(
    ("compat", "asked", "part"),
    [
        (None, {"nms": 0.6}, None),
        (None, {"compat": "mxnet_ssd"}, "compat is None"),
        ("mxnet_ssd", {"compat": "mxnet_ssd"}, None),
        ("mxnet_ssd", {"nms": 0.6}, "detection.nms_threshold is 0.45"),
        ("mxnet_ssd", {"compat": None}, "compat is mxnet_ssd"),
    ],
)
def test_what_is_fixed_inside_of_a_deployed_model(compat: str | None, asked: dict, part: str | None) -> None:
    spec = ModelSpec.from_config(compose([f"compat={compat or 'null'}"]), ["a"])
    if part is None:
        check_fixed(spec, asked, "x")
    else:
        with pytest.raises(UserError, match=part):
            check_fixed(spec, asked, "x")


def test_a_wrong_export_never_gets_its_name(checkpoint: Path, tmp_path: Path) -> None:
    model = open_model(checkpoint)
    assert isinstance(model, Model)
    right = FORMATS["mxnet"]

    def write_other(model: Model, path: Path, calibration: Calibration) -> None:
        args = {name: array * 1.01 for name, array in model.arg_params.items()}
        right.write(replace(model, arg_params=args), path, calibration)

    images = [np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)]
    material = Material(images, [], "val", Calibration(lambda: [], "minmax"))
    cfg = compose(["job=deploy"])
    done = export(cfg, tmp_path, Job(model, replace(right, write=write_other), material, None))
    assert any("before suppression" in fault for fault in done.faults)
    assert not (tmp_path / "mxnet").exists()
    assert not (tmp_path / "unchecked").exists()
    assert export(cfg, tmp_path, Job(model, right, material, None)).faults == []
    assert (tmp_path / "mxnet" / "model.yaml").is_file()
    with pytest.raises(ZeroDivisionError):
        export(cfg, tmp_path, Job(model, replace(right, write=lambda *_: 1 / 0), material, None))
    assert not (tmp_path / "unchecked").exists()
    (tmp_path / "unchecked" / "mxnet").mkdir(parents=True)  # as a killed job leaves it, beside what one before has made
    (tmp_path / "unchecked" / "mxnet" / "half").touch()
    (tmp_path / "mxnet" / "old").touch()
    assert export(cfg, tmp_path, Job(model, right, material, None)).faults == []
    assert not (tmp_path / "unchecked").exists()
    assert {path.name for path in (tmp_path / "mxnet").iterdir()}.isdisjoint({"half", "old"})
