"""A run directory as version 0.1 wrote it: resumed, repeated, evaluated, shown, deployed and compared by this one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from ssd.config.renamed import KEYS, TARGETS, VALUES

OVERRIDES = [
    "backbone=small", "data_shape=64", "dataset.train=16", "dataset.val=8", "batch_size=8", "epochs=2", "seed=3",
    "device.threads=1", "loader.workers=0", "logger=[csv]", "detection.score_threshold=0.02",
    "guard.loss_spike.factor=20", "metric.worst_images=2", "init.freeze_bn=false",
]  # fmt: skip
# What 0.1 did not have.
LATER = [("hooks",), ("cluster", "patience_s"), ("cluster", "on_hung"), ("loader", "patience_s"), ("loader", "on_hung")]
SPEC = {"backbone", "category_ids", "channel_order", "classes", "compat", "detection", "height", "mean", "resize_mode",
        "std", "variances", "width"}  # fmt: skip
OLD_TARGETS = {new: old for old, new in TARGETS.items()}


def old_key(key: str) -> str:
    for old, new in KEYS.items():
        if key == new or key.startswith(f"{new}."):
            return old + key[len(new) :]
    return key


def old_value(old: str, value: Any) -> Any:
    choices = VALUES.get(old)
    return value if choices is None else {today: text for text, today in choices.items()}[value]


def old_config(config: dict[str, Any]) -> dict[str, Any]:
    for old, new in KEYS.items():
        *way, last = new.split(".")
        node = config
        for name in way:
            node = node.get(name) or {}
        if last in node:
            group, name = old.split(".")
            config.setdefault(group, {})[name] = old_value(old, node.pop(last))
    config.pop("early_stopping", None)
    for *way, last in LATER:
        node = config
        for name in way:
            node = node.get(name) or {}
        node.pop(last, None)
    return config


def old_override(text: str) -> str:
    key, _, value = text.partition("=")
    old = old_key(key)
    return f"{old}={old_value(old, {'true': True, 'false': False}.get(value, value))}"


def write_as_0_1(run: Path) -> None:
    """Turns the run directory into one that version 0.1 could have written."""
    for name in ("config.yaml", ".hydra/config.yaml"):
        text = yaml.safe_dump(old_config(yaml.safe_load((run / name).read_text())), sort_keys=False)
        for new, old in OLD_TARGETS.items():
            text = text.replace(f"{new}\n", f"{old}\n")
        (run / name).write_text(text)
    overrides = [old_override(text) for text in yaml.safe_load((run / ".hydra/overrides.yaml").read_text())]
    (run / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
    index = json.loads((run / "checkpoints/checkpoints.json").read_text())
    index["words"] = [old_override(text) for text in index["words"]]
    (run / "checkpoints/checkpoints.json").write_text(json.dumps(index))
    graph = json.loads((run / "checkpoints/ssd-symbol.json").read_text())
    (data,) = (node for node in graph["nodes"] if "__ssd_model__" in node.get("attrs", {}))
    spec = json.loads(data["attrs"]["__ssd_model__"])
    data["attrs"]["__ssd_model__"] = json.dumps({key: value for key, value in spec.items() if key in SPEC})
    (run / "checkpoints/ssd-symbol.json").write_text(json.dumps(graph))
    if (run / "images").is_dir():
        (run / "images").rename(run / "pictures")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run_in: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    done = run_in(folder, *OVERRIDES, "hydra.run.dir=old")
    assert done.returncode == 0, done.stderr
    write_as_0_1(folder / "old")
    text = (folder / "old/config.yaml").read_text() + (folder / "old/.hydra/overrides.yaml").read_text()
    assert all(re.search(rf"\b{word}\b", text) for word in ("score", "explode", "gallery", "statistics", "min_gain"))
    assert not re.search("score_threshold|loss_spike|worst_images|freeze_bn|early_stopping|ssd.data.datasets", text)
    return folder


def passes(place: Path, run_in: Callable[..., Any], *overrides: str) -> str:
    done = run_in(place, *overrides)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr + done.stdout  # the user of the run has nothing to rename
    return str(done.stdout + done.stderr)


def numbers(file: Path, split: str) -> dict[str, float]:
    found = json.loads(file.read_text())["measured"][split]
    return {key: value for key, value in found.items() if key.startswith("map")}


def test_evaluated(place: Path, run_in: Callable[..., Any]) -> None:
    passes(place, run_in, "job=eval", "model=old", "hydra.run.dir=evaluated")
    assert numbers(place / "evaluated/metrics.json", "val") == pytest.approx(numbers(place / "old/metrics.json", "val"))


def test_shown_and_deployed(place: Path, run_in: Callable[..., Any]) -> None:
    cv2.imwrite(str(place / "a.png"), np.full((80, 60, 3), 128, np.uint8))
    passes(place, run_in, "job=demo", "model=old", "source=a.png", "hydra.run.dir=shown")
    assert (place / "shown/images/a.png").is_file()
    passes(place, run_in, "job=deploy", "model=old", "deploy.measure=false", "hydra.run.dir=deployed")


def test_repeated_and_compared(place: Path, run_in: Callable[..., Any]) -> None:
    passes(place, run_in, "rerun=old", "hydra.run.dir=again")
    assert numbers(place / "again/metrics.json", "val") == numbers(place / "old/metrics.json", "val")
    passes(place, run_in, "job=compare", "job.runs=[old,again]", "hydra.run.dir=compared")


def test_resumed(place: Path, run_in: Callable[..., Any]) -> None:
    passes(place, run_in, "resume=old", "epochs=3")
    assert json.loads((place / "old/checkpoints/checkpoints.json").read_text())["last"]["epoch"] == 3
    assert (place / "old/pictures").is_dir()
    assert not (place / "old/images").exists()
