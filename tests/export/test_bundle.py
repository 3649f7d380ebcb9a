"""Deploy bundles: plain MXNet runs them, and damage is reported."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ssd.detection import Detector
from ssd.detection.bundle import read_bundle
from ssd.detection.open_model import open_model
from ssd.export.bundle import with_detection, write_bundle
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams
from ssd.symbol.graphs import inference_graph
from ssd.utils.errors import UserError

PLAIN = """
import sys, numpy as np
for name, kind in {"bool": bool, "int": int, "float": float, "object": object}.items():
    setattr(np, name, kind)  # MXNet 1.9.1 wants an older NumPy
import mxnet as mx, yaml
folder, source, target = sys.argv[1:]
about = yaml.safe_load(open(folder + "/model.yaml"))
levels = np.load(source)  # [B, 3, H, W], RGB 0..255
mean, std = (np.reshape(about["input"][key], (1, 3, 1, 1)) for key in ("mean", "std"))
symbol, args, aux = mx.model.load_checkpoint(folder + "/ssd", 0)
args["data"] = mx.nd.array((levels - mean) / std)
detection = symbol.bind(mx.cpu(), args=args, aux_states=aux, grad_req="null").forward()[0]
assert "ssd" not in sys.modules and about["classes"][0] == "class 0"
np.save(target, detection.asnumpy())
"""


def written(model, folder: Path) -> Path:
    spec = model.spec
    graph = inference_graph(model.symbol, DecodeParams(**spec.detection), spec.variances, spec.compat)
    return write_bundle(folder / "bundle", spec, graph, model.arg_params, model.aux_params)


@pytest.fixture(scope="module")
def bundle(random_model, tmp_path_factory) -> Path:
    return written(random_model("backbone=small", "data_shape=128"), tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_plain_mxnet_runs_it(random_model, images, compat: str, tmp_path: Path) -> None:
    model = random_model("backbone=small", "data_shape=128", f"compat={compat}")
    folder = written(model, tmp_path)
    detector = Detector(model, mx.cpu(), 4)
    raw = replace(model.spec, mean=[0, 0, 0], std=[1, 1, 1])
    levels = Detector(replace(model, spec=raw), mx.cpu(), 4).preprocess(images)
    np.save(tmp_path / "levels.npy", levels)
    command = [sys.executable, "-I", "-c", PLAIN, str(folder), str(tmp_path / "levels.npy"), str(tmp_path / "out.npy")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (model.spec.mean, model.spec.std))
    expected = detector.predict_batch((levels - mean) / std)
    for rows, ours in zip(np.load(tmp_path / "out.npy"), expected, strict=True):
        found = rows[rows[:, 0] >= 0]
        np.testing.assert_allclose(found[np.argsort(-found[:, 1], kind="stable")], ours, atol=1e-5)


def test_it_comes_back_as_it_was(random_model, bundle: Path, images) -> None:
    model = random_model("backbone=small", "data_shape=128")
    back = open_model(bundle)
    assert back.spec == model.spec
    expected = Detector(model, mx.cpu(), 2).predict(images)
    for finished in (False, True):
        for rows, ours in zip(
            Detector(open_model(bundle, finished), mx.cpu(), 2).predict(images), expected, strict=True
        ):
            np.testing.assert_allclose(rows, ours, rtol=1e-5, atol=1e-4)


def test_the_preprocessing_is_written_down(random_model, tmp_path: Path) -> None:
    model = random_model("backbone=small", "data_shape=128", "resize_mode=fit")
    content = (written(model, tmp_path / "bundle") / "model.yaml").read_text()
    about = yaml.safe_load(content)
    assert about["input"]["antialias"] is True
    steps = [line for line in content.splitlines() if line.startswith("- ")]
    assert len(steps) == len(about["preprocessing"]) == 8
    for part in (
        "8, 4, 2",
        "INTER_AREA",
        "INTER_LINEAR",
        "min(128 / width, 128 / height)",
        str(list(model.spec.input.border)),
    ):
        assert part in " ".join(about["preprocessing"]), part
    assert "x * 128 / target_width * (width - width % factor)" in about["boxes"]


@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
def test_bundles_that_do_not_name_their_averages_keep_what_inference_did(random_model, compat, tmp_path: Path) -> None:
    model = random_model("backbone=small", "data_shape=128", f"compat={compat or 'null'}")
    file = written(model, tmp_path / "bundle") / "model.yaml"
    about = yaml.safe_load(file.read_text())
    del about["input"]["antialias"], about["preprocessing"], about["boxes"]
    file.write_text(yaml.safe_dump(about))
    assert open_model(file.parent).spec.input.antialias == (compat is None)


def test_thresholds_of_a_loaded_bundle_can_be_changed(bundle: Path, images) -> None:
    model = read_bundle(bundle)
    some = replace(model, spec=replace(model.spec, detection={**model.spec.detection, "keep": 3}))
    assert [len(rows) for rows in Detector(some, mx.cpu(), 2).predict(images)] == [3, 3, 3]


def test_what_cannot_be_written(random_model, bundle: Path, tmp_path: Path) -> None:
    model = random_model("backbone=small", "data_shape=128")
    graph = inference_graph(model.symbol, DecodeParams(**model.spec.detection), model.spec.variances, None)
    with pytest.raises(UserError, match="exists already"):
        write_bundle(bundle, model.spec, graph, model.arg_params, model.aux_params)
    with pytest.raises(UserError, match="20 classes apart, 1 are named"):
        with_detection(graph, replace(model.spec, classes=["one"]))
    few = {name: array for name, array in model.arg_params.items() if name != "stage1_1_conv2d_weight"}
    with pytest.raises(UserError, match="missing: stage1_1_conv2d_weight"):
        write_bundle(tmp_path / "new", model.spec, graph, few, model.aux_params)
    with pytest.raises(UserError, match="answers cls_prob_output instead of"):
        write_bundle(tmp_path / "new", model.spec, graph[0], model.arg_params, model.aux_params)
    assert list(tmp_path.iterdir()) == []


def error(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        Detector(open_model(folder), mx.cpu(), 1, str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", ["ssd-symbol.json", "ssd-0000.params", "model.yaml"])
def test_damaged_files_are_told(bundle: Path, file: str, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    whole = (folder / file).read_bytes()
    for size in (0, 3, 100, len(whole) // 2):
        (folder / file).write_bytes(whole[:size])
        assert file in error(folder)
    (folder / file).write_bytes(b"\xff\x00" * 200)
    assert file in error(folder)
    if file != "model.yaml":
        (folder / file).unlink()
        assert file in error(folder)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"ssd": 7}, "does not know"),
        ({"classes": "cat"}, "classes is no list"),
        ({"classes": [1, 2]}, "not all text"),
        ({"classes": []}, "0 classes"),
        ({"input": {}}, "lacks 'height'"),
        ({"input.height": 10**9}, "an input side of"),
        ({"input.std": [1, 0, 1]}, "must be above 0"),
        ({"input.mean": [1, float("nan"), 1]}, "instead of 3 finite numbers"),
        ({"input.channel_order": "BGR"}, "BGR"),
        ({"detection.nms": 7}, "detection.nms_threshold=7"),
        ({"detection.surprise": 7}, "surprise"),
        ({"model.compat": "caffe"}, "compat or resize_mode"),
        ({"model.precision": "int4"}, "int4"),
        ({"model": None}, "damaged"),
        ({"classes": ["a", "b"]}, "tells 20 classes apart, 2 are named"),
    ],
)
def test_descriptions_that_make_no_sense(bundle: Path, change: dict, part: str, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    content = yaml.safe_load((folder / "model.yaml").read_text())
    for key, value in change.items():
        group, _, name = key.partition(".")
        if name:
            content[group][name] = value
        else:
            content[group] = value
    (folder / "model.yaml").write_text(yaml.safe_dump(content))
    assert part in error(folder)


def test_yaml_runs_no_code(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    (folder / "model.yaml").write_text(f"!!python/object/apply:os.system ['touch {tmp_path}/ran']")
    assert "cannot be read" in error(folder)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_a_bundle_is_no_model(bundle: Path) -> None:
    with pytest.raises(UserError, match="name the folder"):
        open_model(bundle / "ssd-0000.params")
