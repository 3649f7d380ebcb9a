"""job=models lists what can be had by name; the name of a job alone runs it."""

import json
from pathlib import Path

import pytest

from ssd.config.compose import compose
from ssd.config.weights import read_entry, registered
from ssd.jobs.models import run
from ssd.run import with_job
from ssd.weights.cache import place_of


def test_all_names_are_listed_with_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    folder = place_of(read_entry("mxnet_ssd/resnet50_512"))
    folder.mkdir(parents=True)
    (folder / "ssd_resnet50-0000.params").write_bytes(bytes(2_500_000))
    run(compose(["job=models"]), tmp_path)
    rows = {row["name"]: row for row in json.loads((tmp_path / "models.json").read_text())}
    assert rows.keys() == set(registered())
    one = rows["mxnet_ssd/resnet50_512"]
    assert (one["kind"], one["size"], one["source"]) == ("detector", 2_500_000, "github.com")
    assert one["cached"] == str(folder / "ssd_resnet50-0000.params")
    assert "79.1" in one["accuracy"]
    other = rows["gluon/resnet50_v2"]
    assert (other["kind"], other["size"], other["cached"]) == ("backbone", None, None)
    (line,) = [line.split() for line in caplog.messages if line.startswith("mxnet_ssd/resnet50_512 ")]
    assert line[1:6] == ["detector", "backbone=resnet50", "data_shape=512", "compat=mxnet_ssd", "2.5"]
    assert line[-1] == "yes"
    assert str(tmp_path / "cache") in caplog.messages[-1]


def test_the_name_of_a_job_alone() -> None:
    assert with_job(["models"]) == ["job=models"]
    assert with_job(["train", "seed=1"]) == ["job=train", "seed=1"]
    for overrides in ([], ["--help"], ["seed=1", "models"], ["model"]):
        assert with_job(overrides) == overrides
