"""What cannot work is one line before anything is looked at, packed or measured."""

from pathlib import Path

import pytest

from ssd.config.compose import compose
from ssd.jobs.preflight import check_start
from ssd.mxnet_compat import mx
from ssd.tracking.mlflow import writer as mlflow_writer
from ssd.utils.errors import UserError
from tests.jobs.conftest import Run

FINE = ["dataset.root=nowhere", "logger=[]"]  # no dataset is opened


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        check_start(compose([*FINE, *overrides]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("job", ["train", "eval", "demo", "deploy", "check", "anchors", "prepare", "benchmark"])
def test_what_works_passes(job: str) -> None:
    check_start(compose([*FINE, f"job={job}"]))


@pytest.mark.parametrize("overrides", [
    ["job=train"], ["job=eval"], ["job=demo"], ["job=deploy"], ["job=benchmark"], ["job=check", "check.overfit=2"],
])  # fmt: skip
def test_a_gpu_that_is_not_there(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 1)
    assert "GPU 3 is not there, MXNet sees 1" in refused("device=gpu", "device.ids=[0,3]", *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data_shape=10"], "at least 16 pixels"),
        (["job=anchors", "data_shape=[300,200]", "backbone=vgg16_reduced"], "at least 268 pixels"),
        (["job=check", "data_shape.height=10"], "at least 16 pixels"),
        (["augment.multi_scale.factors=[0.5]", "data_shape=300", "backbone=vgg16_reduced"], "at least 268 pixels"),
        (["head.from_layers=[nosuch,stage4_2_relu,'']"], "no layer 'nosuch'"),
        (["init.freeze=nosuch"], "init.freeze=nosuch: matches no parameter"),
        (["init.freeze=stage["], "init.freeze=stage[: not a regular expression"),
        (["init.mode=pretrained", "init.weights=nowhere"], "init.weights: model nowhere: does not exist"),
        (["init.mode=pretrained", "init.weights=no.npz", "weight_map=mobilenet_torch"], "no.npz: there is no"),
        (["init.mode=finetune"], "needs init.weights"),
        (["loader=record", "augment=ssd_plus"], "use loader=fast"),
        (["loader=record", "resize_mode=fit"], "use loader=fast"),
        (["augment.mirror=7"], "augment.mirror"),
        (["+optimizer.nosuch=1"], "optimizer adam: "),
        (["schedule=step", "schedule.milestones=[80]"], "schedule.milestones"),
        (["training.precision=float16"], "training.precision=float16"),
        (["job=deploy", "deploy.calibration.method=nosuch"], "deploy.calibration.method=nosuch"),
        (["logger=tensorboard", "logger.tensorboard.monitor.pattern=["], "monitor.pattern"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=mlruns"], "logger.mlflow.tracking_uri"),
        (["job=eval", "logger=mlflow", "logger.mlflow.register=a/b"], "logger.mlflow.register"),
    ],
)
def test_keys_that_do_not_go_together(overrides: list[str], message: str) -> None:
    assert message in refused(*overrides)


def test_weights_of_another_network(checkpoint: Path) -> None:
    overrides = ["init.mode=pretrained", f"init.weights={checkpoint}"]
    check_start(compose([*FINE, *overrides]))
    assert "none of its" in refused(*overrides, "backbone=mobilenet_025")


def test_weights_that_say_nothing_of_their_classes(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "ssd-0001.params").write_bytes(checkpoint.read_bytes())
    overrides = [f"init.weights={tmp_path}/ssd-0001.params"]
    check_start(compose([*FINE, *overrides, "init.mode=pretrained"]))
    assert "says nothing of its classes" in refused(*overrides, "init.mode=finetune")


@pytest.mark.parametrize("job", ["train", "prepare"])
def test_records_that_cannot_be_written(job: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refused(f"job={job}", f"training.records={tmp_path}/file/records")
    assert message.startswith(f"training.records={tmp_path}/file/records: {tmp_path}/file is not a directory")


def test_a_logger_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_writer.importlib.util, "find_spec", lambda name: None)
    assert "pip install mlflow" in refused("logger=mlflow")


def damaged(kind: str, checkpoint: Path, folder: Path) -> list[str]:
    """Overrides that start from weights which somebody has damaged."""
    file = folder / "ssd-0001.params"
    arrays = mx.nd.load(str(checkpoint))
    first = next(iter(arrays))
    if kind == "nan":
        arrays[first][:] = float("nan")
    elif kind == "whole numbers":
        arrays[first] = arrays[first].astype("int8")
    elif kind == "other shapes":
        arrays = {name: mx.nd.ones((1, 2)) for name in arrays}
    mx.nd.save(str(file), arrays)
    data = file.read_bytes()
    if kind == "dimensions":  # -1 of them, which ends MXNet's own parser
        file.write_bytes(data[:32] + (2**32 - 1).to_bytes(4, "little") + data[36:])
    elif kind == "cut short":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "graph":
        text = checkpoint.with_name("ssd-symbol.json").read_text()
        assert '"num_group": "1"' in text or '"kernel": "(3, 3)"' in text
        text = text.replace('"kernel": "(3, 3)"', '"kernel": "(3, 3)", "num_group": "0"')
        (folder / "ssd-symbol.json").write_text(text)
    return ["init.mode=pretrained", f"init.weights={file}"]


DAMAGES = {
    "nan": "NaN or infinite values in",
    "whole numbers": "holds int8, weights are floating numbers",
    "other shapes": "none of its",
    "dimensions": "has -1 dimensions",
    "cut short": "it ends too early",
    "graph": "num_group=0",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_weights_to_start_from(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    assert DAMAGES[kind] in refused(*damaged(kind, checkpoint, tmp_path))


@pytest.mark.parametrize("kind", ["nan", "dimensions", "graph"])
def test_damaged_weights_are_one_line_of_the_command_line(
    kind: str, checkpoint: Path, tmp_path: Path, ssd: Run
) -> None:
    done = ssd(*FINE, "backbone=small", "data_shape=64", *damaged(kind, checkpoint, tmp_path))
    assert done.returncode == UserError.exit_code
    assert DAMAGES[kind] in done.stderr
    assert "Traceback" not in done.stderr
