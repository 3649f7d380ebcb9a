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

from ssd.config.compose import compose
from ssd.config.overrides import in_grammar, normalize
from ssd.config.paths import CONF
from ssd.runs.inherit import inherit
from ssd.utils.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """run(overrides…): a run directory as Hydra leaves it, whose path is no grammar of Hydra's."""

    def make(*overrides: str) -> Path:
        folder = tmp_path / "a=b"
        (folder / ".hydra").mkdir(parents=True)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose("config", overrides=normalize(overrides), return_hydra_config=True)
        choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
        OmegaConf.save({"hydra": {"runtime": {"choices": choices}}}, folder / ".hydra" / "hydra.yaml")
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
        return folder

    return make


@pytest.fixture
def trained(run: Callable[..., Path]) -> Callable[..., Path]:
    """trained(overrides…): the run directory of a training that has begun."""

    def make(*overrides: str) -> Path:
        folder = run(*overrides)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(compose(overrides), resolve=True))
        return folder

    return make


def tuned(weights: Path, *overrides: str) -> Any:
    """The configuration of experiments=finetune from a model."""
    return compose(inherit(normalize(["experiments=finetune", f"init.weights={weights}", *overrides])))


def measured(run: Path, *overrides: str, job: str = "eval") -> Any:
    """The dataset of job=eval of a run."""
    return OmegaConf.to_container(
        compose(inherit(normalize([f"job={job}", f"model={run}", *overrides]))).dataset, resolve=True
    )


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["dataset.val=7", "dataset.classes=[star,cross]"],
        ["dataset=voc", "dataset.root='my images'", "+dataset.mine=1", "epochs=3"],
        ["experiments=bccd", "dataset.root=cells"],
        ["experiments=bccd", "dataset.root=cells", "dataset.splits.val=[some]", "data_shape=512"],
        ["experiments=coco_mobilenet_512", "dataset.holdout.val=0.3"],
        ["experiments=sweep_grid", "hydra.mode=RUN"],
        ["dataset=concat", "+dataset@dataset.parts.a=voc07", "+dataset@dataset.parts.b=yolo", "dataset.parts.b.root=x"],
        ["dataset=voc07", "compat=mxnet_ssd"],
    ],
)
@pytest.mark.parametrize("job", ["eval", "deploy"])
def test_the_dataset_of_the_run_is_measured(overrides: list[str], job: str, run: Callable[..., Path]) -> None:
    task = [override for override in overrides if not override.startswith("hydra.")]
    expected = OmegaConf.to_container(compose(task).dataset, resolve=True)
    assert measured(run(*overrides), job=job) == expected


def test_no_more_of_a_recipe_is_taken_over_than_its_dataset(run: Callable[..., Path]) -> None:
    folder = run("experiments=sweep_grid", "epochs=3")
    cfg = compose(overrides := inherit(["job=eval", f"model='{folder}'"]))
    assert (cfg.job.name, cfg.epochs) == ("eval", compose([]).epochs)
    assert not [override for override in overrides if override.startswith(("hydra", "experiments"))]


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
    for overrides in (["job=demo", f"model={folder}"], ["epochs=3"], ["job=eval", f"model={tmp_path}/other"]):
        assert inherit(overrides) == overrides


def test_of_an_older_run_its_overrides_count(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- dataset=voc\n- epochs=3\n- dataset.root='my images'\n")
    overrides = ["job=eval", f"model={tmp_path}"]
    assert inherit(overrides) == ["dataset=voc", "dataset.root='my images'", *overrides]


def test_a_dataset_that_is_gone_is_told(run: Callable[..., Path]) -> None:
    folder = run("experiments=bccd")
    file = folder / ".hydra" / "hydra.yaml"
    file.write_text(file.read_text().replace("dataset: voc", "dataset: mine"))
    with pytest.raises(UserError, match="dataset=mine: no such choice"):
        measured(folder)


NETWORK = ("backbone", "head", "data_shape", "compat")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["backbone=mobilenet_025", "data_shape=300"],
        ["backbone=resnet50", "data_shape=[320,480]", "compat=mxnet_ssd"],
        ["experiments=voc_vgg16_300_plus", "device=cpu"],
        ["head=ssd_bn", "head.sizes=[[0.1,0.2],[0.3],[0.5,0.6]]", "head.ratios=[[1,2],[1],[1,3]]"],
        ["backbone.network.filters=[8,8,16,16]", "backbone.input.mean=[1,2,3]", "backbone.freeze=^stage1"],
    ],
)
def test_finetuning_takes_the_network_of_its_model(overrides: list[str], trained: Callable[..., Path]) -> None:
    cfg, expected = tuned(trained(*overrides), "dataset.root=mine"), compose(overrides)
    for node in NETWORK:
        assert OmegaConf.select(cfg, node) == OmegaConf.select(expected, node), node
    assert (cfg.init.mode, cfg.dataset.name, cfg.dataset.root) == ("finetune", "voc", "mine")


def test_finetuning_from_inside_of_a_run(trained: Callable[..., Path]) -> None:
    folder = trained("backbone=mobilenet_025", "data_shape=300", "head=ssd_bn")
    cfg = tuned(folder / "checkpoints" / "ssd-0012.params")
    assert (cfg.backbone.name, cfg.data_shape.name, cfg.head.batch_norm) == ("mobilenet_025", "300", True)


def test_finetuning_from_a_file_alone(checkpoint: Path, tmp_path: Path) -> None:
    """As it is copied, or in a deploy bundle: the graph says it."""
    for name in (checkpoint.name, "ssd-symbol.json"):
        (tmp_path / name).write_bytes((checkpoint.parent / name).read_bytes())
    cfg = tuned(tmp_path / checkpoint.name)
    assert (cfg.backbone.name, cfg.data_shape.height, cfg.data_shape.width) == ("small", 64, 64)
    assert tuned(tmp_path).data_shape.height == 64


def test_what_the_command_line_says_of_the_network_wins(trained: Callable[..., Path]) -> None:
    folder = trained("data_shape=256", "head.batch_norm=true")
    assert tuned(folder, "data_shape=128").data_shape.name == "128"
    assert tuned(folder, "data_shape=512").head == compose(["data_shape=512"]).head
    assert tuned(folder, "head.batch_norm=false").head.batch_norm is False
    assert tuned(folder, "backbone=small").data_shape.name == "256"
    with pytest.raises(UserError, match="backbone=mobilenet: init.weights=.*a model of backbone small") as caught:
        tuned(folder, "backbone=mobilenet")
    assert "\n" not in str(caught.value)


def test_only_where_it_is_asked_for(trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = trained("backbone=mobilenet_025")
    for overrides in (
        ["init.mode=pretrained", f"init.weights={folder}"],
        ["experiments=finetune", f"init.weights={folder}", "init.network=config"],
        ["experiments=finetune", f"init.weights={tmp_path}/nowhere"],
        ["experiments=finetune"],
    ):
        assert inherit(normalize(overrides)) == normalize(overrides)
    asked = ["init.mode=pretrained", "init.network=weights", f"init.weights={folder}"]
    assert compose(inherit(normalize(asked))).backbone.name == "mobilenet_025"


def test_a_sweep_over_models_of_one_network(trained: Callable[..., Path], checkpoint: Path) -> None:
    folder = trained("data_shape=64")
    overrides = normalize(["experiments=finetune", f"init.weights='{folder}','{checkpoint}'", "seed=1,2"])
    assert "data_shape.height=64" in inherit(overrides)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(compose(["data_shape=128"]), resolve=True))
    with pytest.raises(UserError, match="have different networks"):
        inherit(overrides)


@given(VALUES)
def test_values_come_back_from_their_overrides(value: Any) -> None:
    assert OverridesParser.create().parse_override(f"++dataset.x={in_grammar(value)}").value() == value
