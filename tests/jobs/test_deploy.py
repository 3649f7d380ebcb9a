"""job=deploy on the real command line, and its exports as model= of other jobs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.config import compose
from ssd.engine import mx
from ssd.errors import UserError
from ssd.interop.agreement import Agreement
from ssd.interop.formats import FORMATS, Calibration
from ssd.interop.models import open_model
from ssd.jobs.common import check_fixed
from ssd.jobs.deploy import Exported, Job, Material, chosen, export, find_faults, table
from ssd.model import Model, ModelSpec, stamp
from ssd.symbol import build_train

SHAPES = ["dataset=shapes", "dataset.images=12", "data_shape=128"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An untrained network for the generated shapes."""
    cfg = compose([])
    classes = ["circle", "rectangle", "triangle"]
    spec = ModelSpec.from_config(cfg, classes)
    graph = stamp(build_train(cfg, 3), spec)
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
    words = ["job=deploy", f"model={checkpoint}", "deploy.format=[mxnet,onnx,int8,onnx_int8]", "deploy.images=3"]
    done = ssd(*words, *SHAPES, "deploy.calibration.images=6")
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
    done = ssd("job=eval", f"model={run / 'ssd.onnx'}", *SHAPES, "logger=[]", "detection.keep=5")
    assert done.returncode == 0, done.stderr
    again = ssd("job=deploy", f"model={run / 'mxnet'}", "deploy.format=onnx", "deploy.measure=false", "source=a.png")
    assert again.returncode == 0, again.stderr
    done = ssd("job=deploy", f"model={run / 'ssd.onnx'}")
    assert done.returncode == 2
    assert "is exported already" in done.stderr.splitlines()[-1]


def test_a_data_set_that_does_not_fit(ssd, checkpoint: Path) -> None:
    done = ssd("job=deploy", f"model={checkpoint}", *SHAPES, "dataset.classes=[circle,star,cross]")
    assert done.returncode == 2
    assert "choose the data set that fits the model" in done.stderr.splitlines()[-1]


def test_formats_are_a_name_or_a_list() -> None:
    assert list(chosen("onnx")) == ["onnx"]
    assert list(chosen(["int8", "mxnet"])) == ["int8", "mxnet"]
    for wrong in ("tensorrt", ["onnx", "tensorrt"], []):
        with pytest.raises(UserError, match="choose from mxnet, onnx, int8, onnx_int8"):
            chosen(wrong)


def test_what_is_not_installed_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssd.interop.onnx.export", None)
    monkeypatch.delattr("ssd.interop.onnx.export", raising=False)
    with pytest.raises(UserError, match=r"pip install 'ssd\[onnx\]'"):
        chosen(["mxnet", "onnx_int8"])


def job(name: str, maps: dict[str, float]) -> Job:
    spec = ModelSpec.from_config(compose([]), ["a"])
    return Job(Model(spec, None, {}, {}), FORMATS[name], Material([], [], Calibration(lambda: [], "minmax")), maps)


def agreed(before: float, differing: int) -> Agreement:
    return Agreement(1, before, 100, differing, 0, 10, 10)


@pytest.mark.parametrize(
    ("name", "agreement", "value", "faults"),
    [
        ("onnx", agreed(1e-5, 0), 0.8005, []),
        ("onnx", agreed(1e-3, 0), 0.8, ["differs by 0.001 before suppression"]),
        ("mxnet", agreed(0, 2), 0.8, ["2 of 100 boxes differ"]),
        ("onnx", agreed(0, 0), 0.797, ["map_11pt is 0.7970 instead of 0.8000"]),
        ("int8", agreed(0.3, 90), 0.797, []),
        ("int8", agreed(0.3, 90), 0.79, ["map_11pt is 0.7900 instead of 0.8000, more than 0.005 off"]),
        ("int8", agreed(0.3, 90), 0.81, ["map_11pt is 0.8100"]),
        ("int8", agreed(0.3, 90), float("nan"), ["map_11pt is nan"]),
    ],
)
def test_what_fails(name: str, agreement: Agreement, value: float, faults: list[str]) -> None:
    found = find_faults(job(name, {"map_11pt": 0.8}), agreement, {"map_11pt": value})
    assert len(found) == len(faults)
    for text, part in zip(found, faults, strict=True):
        assert text.startswith(part)


def test_a_failure_is_in_the_table() -> None:
    good = Exported("runs/mxnet", 1.5, agreed(0, 0), {"map_11pt": 0.8}, [])
    bad = Exported("runs/ssd.onnx", 1.5, agreed(1, 3), {"map_11pt": 0.1}, ["differs"])
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
        ("mxnet_ssd", {"nms": 0.6}, "detection.nms is 0.45"),
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
    material = Material(images, [], Calibration(lambda: [], "minmax"))
    cfg = compose(["job=deploy"])
    done = export(cfg, tmp_path, Job(model, replace(right, write=write_other), material, {}))
    assert any("before suppression" in fault for fault in done.faults)
    assert not (tmp_path / "mxnet").exists()
    assert not (tmp_path / "unchecked").exists()
    assert export(cfg, tmp_path, Job(model, right, material, {})).faults == []
    assert (tmp_path / "mxnet" / "model.yaml").is_file()
    with pytest.raises(ZeroDivisionError):
        export(cfg, tmp_path, Job(model, replace(right, write=lambda *_: 1 / 0), material, {}))
    assert not (tmp_path / "unchecked").exists()
