"""The recipes that tools/benchmarks/recipe.py compares."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ssd.config.compose import compose

FILE = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "recipe.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_recipe", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_every_recipe_composes(recipe: ModuleType) -> None:
    bccd, voc = recipe.DATA_SETS.values()
    for number, overrides in enumerate(recipe.recipes().values()):
        data = (bccd, voc)[number % 2]
        cfg = compose([*recipe.START, *data, *overrides, "init.weights=w.npz", "dataset.root=x", "seed=0"])
        assert cfg.backbone.name == "mobilenet_025"


def test_a_step_of_the_ladder_changes_what_it_says(recipe: ModuleType) -> None:
    overrides = ["augment=ssd", "optimizer=sgd", "optimizer.wd=0.1", "batch_size=32"]
    assert recipe.merged(overrides, ["batch_size=16"]) == [*overrides[:3], "batch_size=16"]
    assert recipe.merged(overrides, ["optimizer.wd=0"])[1:] == ["optimizer=sgd", "batch_size=32", "optimizer.wd=0"]
    assert recipe.merged(overrides, ["optimizer=adam"]) == ["augment=ssd", "batch_size=32", "optimizer=adam"]


def test_the_table(recipe: ModuleType, tmp_path: Path) -> None:
    runs = [recipe.Run("bccd", name, seed) for name in ("original", "cosine") for seed in (0, 1)]
    for run, value in zip(runs, (0.5, 0.6, 0.7, 0.7), strict=True):
        folder = run.folder(tmp_path) / "test"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"map_11pt": value, "map_area": value}))
    lines = [line.split() for line in recipe.table("bccd", runs, tmp_path)[1:]]
    assert lines[0][:4] == ["original", "55.00", "±", "7.07"]
    assert lines[1][0] == "cosine"
    assert lines[1][4] == "+15.00"
    assert lines[1][-1] == "2"
