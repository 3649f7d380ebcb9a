"""What job=eval and job=deploy take over from the run whose model they measure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ssd.config import CONF, compose
from ssd.errors import UserError
from ssd.inherit import _literal, inherit
from ssd.overrides import normalise

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """run(words…): a run directory as Hydra leaves it, whose path is no grammar of Hydra's."""

    def make(*words: str) -> Path:
        folder = tmp_path / "a=b"
        (folder / ".hydra").mkdir(parents=True)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose("config", overrides=normalise(words), return_hydra_config=True)
        choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
        OmegaConf.save({"hydra": {"runtime": {"choices": choices}}}, folder / ".hydra" / "hydra.yaml")
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        OmegaConf.save(list(words), folder / ".hydra" / "overrides.yaml")
        return folder

    return make


def measured(run: Path, *words: str, job: str = "eval") -> Any:
    """The data set of job=eval of a run."""
    return OmegaConf.to_container(
        compose(inherit(normalise([f"job={job}", f"model={run}", *words]))).dataset, resolve=True
    )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dataset.val=7", "dataset.classes=[star,cross]"],
        ["dataset=voc", "dataset.root='my pictures'", "+dataset.mine=1", "epochs=3"],
        ["experiments=bccd", "dataset.root=cells"],
        ["experiments=bccd", "dataset.root=cells", "dataset.splits.val=[some]", "data_shape=512"],
        ["experiments=coco_mobilenet_512", "dataset.holdout.val=0.3"],
        ["experiments=sweep_grid", "hydra.mode=RUN"],
        ["dataset=concat", "+dataset@dataset.parts.a=voc07", "+dataset@dataset.parts.b=yolo", "dataset.parts.b.root=x"],
        ["dataset=voc07", "compat=mxnet_ssd"],
    ],
)
@pytest.mark.parametrize("job", ["eval", "deploy"])
def test_the_data_set_of_the_run_is_measured(words: list[str], job: str, run: Callable[..., Path]) -> None:
    task = [word for word in words if not word.startswith("hydra.")]
    expected = OmegaConf.to_container(compose(task).dataset, resolve=True)
    assert measured(run(*words), job=job) == expected


def test_no_more_of_a_recipe_is_taken_over_than_its_data_set(run: Callable[..., Path]) -> None:
    folder = run("experiments=sweep_grid", "epochs=3")
    cfg = compose(words := inherit(["job=eval", f"model='{folder}'"]))
    assert (cfg.job.name, cfg.epochs) == ("eval", compose([]).epochs)
    assert not [word for word in words if word.startswith(("hydra", "experiments"))]


def test_what_the_command_line_says_wins(run: Callable[..., Path]) -> None:
    folder = run("experiments=bccd", "dataset.root=cells")
    other = measured(folder, "dataset.root=other", "dataset.splits.val=[test]")
    assert (other["name"], other["root"], other["splits"]["val"]) == ("bccd", "other", ["test"])
    assert measured(folder, "dataset=shapes") == OmegaConf.to_container(compose([]).dataset, resolve=True)
    assert measured(folder, "experiments=voc_vgg16_300")["root"] == "cells"
    assert measured(folder, "experiments=voc_vgg16_300")["name"] == "voc0712"


def test_compat_is_that_of_the_run(run: Callable[..., Path]) -> None:
    folder = run("dataset=voc07", "compat=mxnet_ssd")
    assert measured(folder)["compat"] == "mxnet_ssd"
    assert measured(folder, "compat=null")["compat"] is None


def test_a_checkpoint_or_bundle_inside_of_a_run(run: Callable[..., Path]) -> None:
    folder = run("experiments=bccd", "dataset.root=cells")
    for inside in ("mxnet", "checkpoints/ssd-0012.params"):
        assert measured(folder / inside)["name"] == "bccd"
    assert measured(folder / "too" / "deep" / "x")["name"] == "shapes"


def test_other_jobs_and_models_inherit_nothing(run: Callable[..., Path], tmp_path: Path) -> None:
    folder = run("dataset.val=7")
    for words in (["job=demo", f"model={folder}"], ["epochs=3"], ["job=eval", f"model={tmp_path}/other"]):
        assert inherit(words) == words


def test_of_an_older_run_its_words_count(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- dataset=voc\n- epochs=3\n- dataset.root='my pictures'\n")
    words = ["job=eval", f"model={tmp_path}"]
    assert inherit(words) == ["dataset=voc", "dataset.root='my pictures'", *words]


def test_a_data_set_that_is_gone_is_told(run: Callable[..., Path]) -> None:
    folder = run("experiments=bccd")
    file = folder / ".hydra" / "hydra.yaml"
    file.write_text(file.read_text().replace("dataset: voc", "dataset: mine"))
    with pytest.raises(UserError, match="dataset=mine: no such choice"):
        measured(folder)


@given(VALUES)
def test_values_come_back_from_their_words(value: Any) -> None:
    assert OverridesParser.create().parse_override(f"++dataset.x={_literal(value)}").value() == value
