"""Names of folders, files and classes are text, whatever Hydra's grammar or YAML would make of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.overrides import composable, normalize, override, sweep_points, value_of
from ssd.config.text import is_text, load_yaml, quoted

# What the grammar or YAML reads as an integer, a float, a truth value, nothing, base 8, 16 and 60.
ODD = ["2024", "1e3", "0x10", "010", "1_000", "-3", "0.50", ".5", "true", "False", "yes", "no", "nan", "inf", "12:30"]
KEYS = [
    "dataset.root", "dataset.name", "dataset.splits.train", "dataset.names", "model", "source", "training.records",
    "init.freeze", "logger.mlflow.experiment", "logger.mlflow.register", "logger.csv.file",
]  # fmt: skip


def value(key: str, *overrides: str) -> Any:
    return OmegaConf.select(compose(["dataset=yolo", *overrides]), key)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("key", KEYS)
def test_on_the_command_line_and_from_python(key: str, text: str) -> None:
    assert value(key, f"{key}={text}") == text


@pytest.mark.parametrize("text", [*ODD, "null"])
def test_in_lists_null_is_a_name_too(text: str) -> None:
    assert value("dataset.classes", f"dataset.classes=[{text},b]") == [text, "b"]
    assert value("dataset.splits.train", f"dataset.splits={{train:[{text}],val:null}}") == [text]


def test_null_alone_stays_null() -> None:
    assert value("dataset.classes", "dataset.classes=null") is None
    assert value("dataset.splits", "dataset.splits={train:7,val:null}") == {"train": "7", "val": None, "test": None}
    assert value("dataset.root", "dataset.root='null'") == "null"


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (["dataset.classes=1"], "dataset.classes", ["1"]),
        (["dataset.classes=cat"], "dataset.classes", ["cat"]),
        (["job=check", "job.splits=val"], "job.splits", ["val"]),
        (["job=demo", "job.save=csv"], "job.save", ["csv"]),
        (["job=compare", "job.runs=[2024]"], "job.runs", ["2024"]),
        (["job=compare", "job.runs=2024"], "job.runs", "2024"),
        (["job=convert", "job.classes=[1,2]"], "job.classes", ["1", "2"]),
    ],
)
def test_one_value_is_a_list_of_one_where_a_list_belongs(overrides: list[str], key: str, expected: Any) -> None:
    assert value(key, *overrides) == expected


def test_numbers_stay_numbers() -> None:
    cfg = compose(["dataset=csv", "dataset.header=false", "dataset.columns.image=0", "epochs=7", "job=benchmark",
                   "job.data_shapes=[300]", "+dataset.year=2024"])  # fmt: skip
    assert (cfg.job.classes, compose(["job=benchmark", "job.classes=7"]).job.classes) == (20, 7)
    assert (cfg.dataset.columns.image, cfg.epochs, cfg.job.data_shapes, cfg.dataset.year) == (0, 7, [300], 2024)


def test_parts_of_a_concatenation() -> None:
    overrides = [
        "dataset=concat",
        "+dataset@dataset.parts.a=voc",
        "dataset.parts.a.root=2007",
        "dataset.parts.a.classes=3",
    ]
    part = compose(overrides).dataset.parts.a
    assert (part.root, part.classes) == ("2007", ["3"])


@pytest.mark.parametrize("item", ["dataset.root=2023,1e3", "dataset.root=choice(2023,1e3)"])
def test_in_sweeps(item: str) -> None:
    points = list(sweep_points(normalize(["dataset=voc", item])))
    assert [compose(point).dataset.root for point in points] == ["2023", "1e3"]


@given(st.sampled_from(KEYS), st.text(max_size=20).filter(bool))
def test_any_text_comes_back_from_its_override(key: str, text: str) -> None:
    (item,) = normalize([override(key, text)])
    parsed = OverridesParser.create().parse_override(item).value()
    assert OmegaConf.create({"x": parsed}).x == text
    assert value_of([item], key) == text


def test_overrides_are_written_as_a_person_would() -> None:
    for text in ("outputs/my run", "2024", "a=b.params", "what? now", "ssd_300-0000.params"):
        assert override("model", text) == f"model={text}"
    for text, item in {"a,b": "'a,b'", "null": "'null'", "[x]": "'[x]'", "it's ${x}": "'it\\'s \\${x}'"}.items():
        assert override("model", text) == f"model={item}"


@given(st.sampled_from(["dataset.root", "dataset.classes", "epochs", "dataset"]), st.text(max_size=20))
def test_what_was_settled_stays(key: str, text: str) -> None:
    once = normalize([f"{key}={text}"])
    assert normalize(once) == once


YAML = """\
defaults: [voc, _self_]
name: 2024
root: 1e3
classes: [010, yes, No, 12:30, null, "1", 0x1F, 1_000, ~, 2024-01-01]
splits: {train: 2007, val: null}
holdout: {val: 0.5, test: 0.0, seed: 010}
"""


def test_in_yaml_files() -> None:
    read = load_yaml(YAML, "dataset.")
    assert (read.name, read.root, read.splits) == ("2024", "1e3", {"train": "2007", "val": None})
    assert read.classes == ["010", "yes", "No", "12:30", "null", "1", "0x1F", "1_000", "~", "2024-01-01"]
    assert read.holdout == {"val": 0.5, "test": 0.0, "seed": 8}
    assert load_yaml("") == {}


def test_in_files_of_a_config_dir(tmp_path: Path) -> None:
    for name, text in {
        "dataset/2024.yaml": YAML,
        "experiments/mine.yaml": "# @package _global_\ndefaults:\n  - override /data_shape: 512\n"
        "  - override /dataset: 2024\ndataset:\n  root: 007\nepochs: 010\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    cfg = compose(composable(["--config-dir", str(tmp_path), "experiments=mine"]))
    assert (cfg.dataset.name, cfg.dataset.root, cfg.data_shape.height, cfg.epochs) == ("2024", "007", 512, 8)
    assert cfg.dataset.classes[0] == "010"


def test_of_a_saved_configuration() -> None:
    """rerun= and eval read what a run wrote."""
    cfg = compose(["dataset=voc", f"dataset.classes=[{','.join([*ODD, 'null'])}]", "dataset.root=2024"])
    assert OmegaConf.create(OmegaConf.to_yaml(cfg)).dataset == cfg.dataset


def test_every_text_of_the_schema_is_known() -> None:
    for key in ("model", "init.weights", "resume", "compat", "backbone.name", "head.from_layers"):
        assert is_text(key)
    for key in ("epochs", "data_shape.height", "job.tolerance", "dataset.holdout.val", "job.threshold"):
        assert not is_text(key)


def test_interpolations_in_names_are_not_resolved() -> None:
    assert OmegaConf.create({"x": OverridesParser.create().parse_override(f"x={quoted('${y}')}").value()}).x == "${y}"


def test_a_run_in_a_folder_of_digits(tmp_path: Path) -> None:
    overrides = ["job=prepare", "dataset.root=2024", "dataset.train=4", "dataset.val=2", "dataset.image_size=32",
             "training.records=1e3", "hydra.run.dir=010"]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "ssd.run", *overrides], cwd=tmp_path, env=os.environ, text=True,
                          capture_output=True, timeout=900)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"2024", "1e3", "010"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "010" / "prepare.json").read_text())["classes"]
