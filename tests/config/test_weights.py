"""The registry of published weights, and what a configuration takes from it."""

import hashlib
from pathlib import Path

import pytest
import yaml
from mxnet.gluon.model_zoo import model_store

from ssd.config import weights
from ssd.config.compose import compose
from ssd.config.overrides import groups
from ssd.config.parts import weights_request
from ssd.config.paths import CONF
from ssd.config.targets import confined
from ssd.config.weights import chosen, is_registered, read_entry, registered
from ssd.utils.errors import UserError

ENTRIES = {name: read_entry(name) for name in registered()}
BACKBONES = [name for name in groups()["backbone"] if compose([f"backbone={name}"]).backbone.weights]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_says_what_it_is(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.about
    assert not entry.about.endswith(" ")
    assert entry.url or entry.made_by
    assert (entry.mean is None) == (entry.std is None)
    if entry.detector:
        assert entry.overrides
        assert (CONF / "dataset" / f"{entry.classes}.yaml").is_file()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_and_entries_name_each_other(backbone: str) -> None:
    cfg = compose([f"backbone={backbone}"]).backbone
    assert all(cfg.name in read_entry(name).backbones for name in cfg.weights)
    of_it = {name for name, entry in ENTRIES.items() if cfg.name in entry.backbones and not entry.detector}
    assert of_it == set(cfg.weights)


def test_names_and_checksums_of_the_zoo_are_mxnets() -> None:
    entries = {name.partition("/")[2]: entry for name, entry in ENTRIES.items() if name.startswith("gluon/")}
    assert entries.keys() == model_store._model_sha1.keys() - {"alexnet"}
    for name, entry in entries.items():
        assert entry.sha1 == model_store._model_sha1[name]
        file = f"{name}-{model_store.short_hash(name)}"
        url = model_store._url_format.format(repo_url=model_store.apache_repo_url, file_name=file)
        assert (entry.url, entry.member, entry.architecture) == ((url,), f"{file}.params", name)


def test_the_first_one_is_what_imagenet_means() -> None:
    for backbone, name in (("resnet50", "gluon/resnet50_v2"), ("vgg16_reduced", "mxnet_ssd/vgg16_reduced")):
        request = weights_request(compose([f"backbone={backbone}", "init.weights=imagenet"]))
        assert request is not None
        assert request.entry.name == name
    assert weights_request(compose(["backbone=resnet50", "init.weights=./gluon/resnet50_v2"])) is None
    assert weights_request(compose(["backbone=resnet50"])) is None


def test_a_name_is_all_that_a_pretrained_start_needs() -> None:
    assert compose(["backbone=resnet50", "init.weights=imagenet"]).init.mode == "pretrained"
    assert compose(["init.weights=outputs/train/run"]).init.mode == "pretrained"
    assert compose([]).init.mode == "scratch"
    assert compose(["init.weights=outputs/train/run", "init.mode=finetune"]).init.mode == "finetune"


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if not entry.detector])
def test_input_and_options_come_with_the_weights(name: str) -> None:
    entry = ENTRIES[name]
    if entry.backbones[0] not in groups()["backbone"]:
        pytest.skip("a backbone of gluon's model zoo that has no file of its own")
    plain = compose([f"backbone={entry.backbones[0]}"]).backbone
    cfg = compose([f"backbone={entry.backbones[0]}", f"init.weights={name}"]).backbone
    assert list(cfg.input.mean) == list(plain.input.mean if entry.mean is None else entry.mean)
    assert list(cfg.input.std) == list(plain.input.std if entry.std is None else entry.std)
    assert {key: cfg.network[key] for key in entry.options or {} if key in cfg.network}.items() <= (
        entry.options or {}
    ).items()


def test_what_the_user_says_of_the_input_stays() -> None:
    cfg = compose(["backbone=resnet50", "init.weights=imagenet", "backbone.input.mean=[1,2,3]"])
    assert list(cfg.backbone.input.mean) == [1, 2, 3]
    assert list(cfg.backbone.input.std) == [58.395, 57.12, 57.375]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["init.weights=imagenet"], "backbone=small has no published weights"),
        (["backbone=resnet50", "init.weights=gluon/vgg16"], "weights of backbone=vgg16_reduced, not of resnet50"),
        (["backbone=resnet50", "init.weights=imagenet", "init.mode=scratch"], "say what for"),
        (
            ["backbone=mobilenet", "init.weights=imagenet", "backbone.network.fix_gamma=true"],
            "fix_gamma=false, is true",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(overrides: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelled_name_has_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'gluon/resnet50_v2'"):
        read_entry("gluon/resnet50v2")


@pytest.mark.parametrize(
    "name", ["gluon", "/gluon/vgg16", "gluon/../gluon/vgg16", "../weights/gluon/vgg16", "gluon/vgg16/", ""]
)
def test_paths_are_no_names(name: str) -> None:
    assert not is_registered(name)
    assert chosen(name, []) is None


def test_a_directory_of_the_user_goes_first(tmp_path: Path) -> None:
    for name in ("gluon/vgg16", "mine/vgg"):
        (tmp_path / "weights" / name).parent.mkdir(parents=True, exist_ok=True)
        entry = {"backbones": ["vgg16_reduced"], "format": "gluon", "url": ["http://here/x.params"], "layout": "vgg16"}
        (tmp_path / "weights" / f"{name}.yaml").write_text(f"# Mine.\n{yaml.safe_dump(entry)}")
    with confined(["--config-dir", str(tmp_path), "init.weights=mine/vgg"]):
        assert {"gluon/vgg16", "gluon/vgg19", "mine/vgg"} <= set(registered())
        assert read_entry("gluon/vgg16").about == "Mine."
    assert not is_registered("mine/vgg")


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"fromat": "x"}, "fromat: unknown key (did you mean 'format'?)"),
        ({"format": "pickle"}, "format=pickle: expected one of gluon, gluoncv_ssd, mxnet, safetensors, npz"),
        ({"backbones": []}, "of backbones at least one"),
        ({"backbones": "vgg16"}, "backbones: expected a list"),
        ({"url": []}, "url: expected an address"),
        ({"sha1": "44"}, "sha1: expected 8 digits or more"),
        ({"sha1": 12345678}, "sha1: expected text"),
        ({"size": -1}, "size=-1: expected bytes"),
        ({"mean": [1, 2]}, "mean: expected three numbers"),
        ({"std": [1, 0, 1]}, "std: expected numbers above 0"),
        ({"member": "../x"}, "member=../x: expected the name of a file"),
        ({"options": ["x"]}, "options: expected keys and values"),
    ],
)
def test_damaged_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict, part: str) -> None:
    entry = {"backbones": ["vgg16_reduced"], "format": "gluon", "url": ["http://here/x.params"]}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "x.yaml").write_text(yaml.safe_dump({**entry, **changed}))
    monkeypatch.setattr(weights, "folders", lambda: [tmp_path])
    with pytest.raises(UserError) as caught:
        read_entry("own/x")
    assert part in str(caught.value)
    assert str(tmp_path / "own" / "x.yaml") in str(caught.value)


def test_checksums_have_lengths_that_exist() -> None:
    lengths = {len(hashlib.sha1(b"").hexdigest()), 8}
    assert {len(entry.sha1) for entry in ENTRIES.values() if entry.sha1} <= lengths
