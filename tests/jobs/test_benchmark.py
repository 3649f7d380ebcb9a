"""job=benchmark: from the command line, and its mistakes."""

import csv
import json
from pathlib import Path

import pytest

from ssd.config.compose import compose
from ssd.jobs.benchmark import planned, run
from ssd.utils.errors import UserError


def test_a_grid_from_the_command_line(ssd, tmp_path: Path) -> None:
    overrides = ["job.backbones=[small]", "job.data_shapes=[[64,96]]", "job.batches=[2,1]", "job.rounds=1"]
    done = ssd("job=benchmark", *overrides, "job.seconds=0.01", "job.threads=[1]")
    assert done.returncode == 0, done.stderr
    (out,) = tmp_path.glob("outputs/benchmark/*/*")
    assert {file.name for file in out.iterdir()} >= {"benchmark.csv", "benchmark.png", "metrics.json", "config.yaml"}
    rows = list(csv.DictReader((out / "benchmark.csv").open()))
    assert [(row["backbone"], row["data_shape"], row["threads"], row["batch"]) for row in rows] == [
        ("small", "64x96", "1", "1"),
        ("small", "64x96", "1", "2"),
    ]
    for row in rows:
        assert float(row["images_per_second"]) > 0
        assert float(row["p50_ms"]) <= float(row["p90_ms"]) <= float(row["p99_ms"])
        assert not row["error"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics)[:3] == ["job", "status", "reason"]
    assert list(metrics)[3:] == [f"images_per_second/small 64x96 mxnet 1 threads batch {batch}" for batch in (1, 2)]
    assert "images_per_second" in done.stderr


def test_when_everything_fails_the_reason_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.benchmark.grid.run_task", lambda *_: {"error": "no room"})
    with pytest.raises(UserError, match="nothing could be measured; the first reason: no room"):
        run(compose(["job=benchmark"]), tmp_path)
    assert "no room" in (tmp_path / "benchmark.csv").read_text()


def planned_by(*overrides: str):
    cfg = compose(["job=benchmark", *overrides])
    from omegaconf import OmegaConf

    return planned(cfg, OmegaConf.to_container(cfg.job, resolve=True))


def test_axes() -> None:
    plan = planned_by("job.backbones=[small,resnet50]", "job.data_shapes=[300,[320,480]]", "compat=mxnet_ssd")
    assert [(item.backbone, item.data_shape) for item in plan.networks] == [
        ("small", "300"),
        ("small", "320x480"),
        ("resnet50", "300"),
        ("resnet50", "320x480"),
    ]
    assert plan.networks[3].overrides == ("backbone=resnet50", "data_shape=[320,480]", "compat=mxnet_ssd")
    compose(plan.networks[3].overrides)
    (own,) = planned_by("backbone=mobilenet", "data_shape=300", "head.min_filter=64").networks
    assert (own.backbone, own.data_shape, own.overrides) == ("mobilenet", "300", ())


def test_the_table_of_the_original() -> None:
    plan = planned_by("experiments=speed_table")
    assert [(item.backbone, item.data_shape) for item in plan.networks] == [("vgg16_reduced", "300")]
    assert list(plan.batches) == [1, 8, 16]
    assert plan.stage == "forward"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["job.formats=[tensorrt]"], "job.formats: 'tensorrt' is no format, choose from mxnet"),
        (["job.formats=[]"], r"job.formats=\[\]: expected a list"),
        (["job.batches=[0]"], "job.batches: 0 must be a whole number from 1 on"),
        (["job.batches=[one]"], "job.batches: one must be"),
        (["job.threads=[-1]"], "job.threads: -1 must be"),
        (["job.backbones=[vgg17]"], "job.backbones: 'vgg17' is none of"),
        (["job.stage=all"], "job.stage=all: expected forward, boxes, images"),
        (["job.rounds=0"], "job.rounds=0: expected more than 0"),
        (["model=somewhere", "job.backbones=[small]"], "leave them out, or model="),
    ],
)
def test_mistakes(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned_by(*overrides)
