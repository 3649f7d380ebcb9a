"""Names of earlier versions: every one is accepted wherever it may be written, and leads to something that exists."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from ssd.config.compose import compose, known_keys
from ssd.config.overrides import current_overrides, groups, in_grammar
from ssd.config.renamed import GROUPS, KEYS, NOTED, TARGETS, VALUES, VERSION, current_config, current_key
from ssd.runs.rerun import as_saved, saved_overrides
from ssd.runs.resume import resume_overrides
from ssd.runs.saved import read_config
from ssd.utils.errors import UserError

TABLE = {"epsilon": 0.5, "parts": [], "layers": {}}
# One leaf of every old key: (old, today, value as it is written with the old name, value of today).
CHANGED = {
    "detection.score": (0.125, 0.125),
    "detection.nms": (0.375, 0.375),
    "detection.topk": (7, 7),
    "detection.keep": (9, 9),
    "dataset.others": ("drop", "drop"),
    "dataset.images": (5, 5),
    "metric.gallery": (3, 3),
    "init.statistics": ("frozen", True),
    "init.rates": (0.5, 0.5),
    "init.names": (TABLE, TABLE),
    "guard.patience": (3, 3),
    "guard.min_gain": (0.25, 0.25),
    "guard.explode": (300, 300),
}
LEAVES = {"init.rates": "heads", "guard.explode": "window"}  # of keys that have keys below them
NEEDED = {"init.statistics": ["init.mode=pretrained"]}  # what else a value needs


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTED, "[]")


def cases(besides: str = "-") -> Iterator[Any]:
    """Of every alias its old key, that of today, the old value and that of today, and further overrides.

    besides: how the keys begin that are left out."""
    for key in (key for key in KEYS if not key.startswith(besides)):
        leaf = f".{LEAVES[key]}" if key in LEAVES else ""
        old, new = f"{key}{leaf}", current_key(f"{key}{leaf}")
        yield pytest.param(old, new, *CHANGED[key], NEEDED.get(key, []), id=key)


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def plain(value: Any) -> str:
    """A value as somebody writes it on a command line."""
    return value if isinstance(value, str) else in_grammar(value)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "deprecated" in record.getMessage()]


def test_the_table_is_whole() -> None:
    """Every old name leads to a key, a group or a class of today, and is none itself."""
    known = known_keys()
    assert set(KEYS) == set(CHANGED)
    assert set(KEYS.values()) <= set(known)
    assert not set(KEYS) & set(known)
    assert set(VALUES) <= set(KEYS)
    assert set(GROUPS.values()) <= set(groups())
    assert not set(GROUPS) & set(groups())
    for key in KEYS:
        assert current_key(current_key(key)) == current_key(key)


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_on_the_command_line(caplog, old: str, new: str, value: Any, today: Any, more: list[str]) -> None:
    for sign in ("", "++"):
        cfg = compose([*more, f"{sign}{old}={plain(value)}"])
        assert OmegaConf.select(cfg, new) == today
    assert lines(caplog) == [f"deprecated: {old} is called {new} since version {VERSION}"]


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases(besides="dataset."))
def test_in_a_dict_on_the_command_line(old: str, new: str, value: Any, today: Any, more: list[str]) -> None:
    # dataset={…} is read as a choice of the group.
    group, _, rest = old.partition(".")
    assert OmegaConf.select(compose([*more, f"{group}={in_grammar(nested(rest, value))}"]), new) == today


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_in_a_sweep(old: str, new: str, value: Any, today: Any, more: list[str]) -> None:
    before, after = plain(value), plain(today)
    assert current_overrides([f"{old}={before},{before}"]) == [f"{new}={after},{after}"]
    assert current_overrides([f"{old}=choice({before},{before})"]) == [f"{new}=choice({after},{after})"]


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_in_files_of_a_users_own(
    tmp_path: Path, caplog, old: str, new: str, value: Any, today: Any, more: list[str]
) -> None:
    (tmp_path / "experiments").mkdir()
    own = tmp_path / "experiments" / "mine.yaml"
    own.write_text("# @package _global_\n" + yaml.safe_dump(nested(old, value)))
    cfg = compose([*more, f"hydra.searchpath=[{tmp_path}]", "experiments=mine"])
    assert OmegaConf.select(cfg, new) == today
    assert lines(caplog) == [f"deprecated: {'.'.join(key_pair(old)[0])} is called {'.'.join(key_pair(old)[1])} since "
                             f"version {VERSION}"]  # fmt: skip
    own.write_text("# @package _global_\n" + yaml.safe_dump(merged(nested(old, value), nested(new, today))))
    with pytest.raises(UserError, match="two names of one key") as error:
        compose([*more, f"hydra.searchpath=[{tmp_path}]", "experiments=mine"])
    assert str(own) in str(error.value)


def key_pair(leaf: str) -> tuple[list[str], list[str]]:
    """The entry of the table that a leaf comes from."""
    old = next(key for key in KEYS if leaf == key or leaf.startswith(f"{key}."))
    return old.split("."), KEYS[old].split(".")


def merged(first: Any, second: Any) -> dict[str, Any]:
    both: Any = OmegaConf.to_container(OmegaConf.merge(first, second))
    return both


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_in_the_search_space_of_a_file(tmp_path: Path, old: str, new: str, value: Any, today: Any, more: Any) -> None:
    before, after = plain(value), plain(today)
    space = {"hydra": {"sweeper": {"params": {old: f"choice({before},{before})", "seed": "1,2"}}}}
    assert current_config(space)["hydra"]["sweeper"]["params"] == {new: f"choice({after},{after})", "seed": "1,2"}


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_in_a_saved_run(tmp_path: Path, caplog, old: str, new: str, value: Any, today: Any, more: list[str]) -> None:
    run = make_run(
        tmp_path, compose([*more, f"{new}={plain(today)}"]), [*more, f"{old}={plain(value)}"], new, old, value
    )
    assert OmegaConf.select(OmegaConf.create(read_config(run / "config.yaml")), new) == today
    said = [f"rerun={run}"]
    assert OmegaConf.select(as_saved(compose([*saved_overrides(said), *said])), new) == today
    assert f"{new}={plain(today)}" in resume_overrides([f"resume={run}"])
    # What is said anew counts, by its name of today.
    other = [f"resume={run}", f"{new}={plain(today)}"]
    assert [override for override in resume_overrides(other) if override.startswith(f"{new}=")] == other[1:]
    assert not [record for record in caplog.records if "deprecated" in record.getMessage()]


def make_run(tmp_path: Path, cfg: Any, overrides: list[str], new: str, old: str, value: Any) -> Path:
    """A run directory as a version with the old name wrote it."""
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    saved: Any = OmegaConf.to_container(cfg, resolve=True)
    holder = saved
    for name in new.split(".")[:-1]:
        holder = holder[name]
    holder.pop(new.rpartition(".")[2])
    (run / "config.yaml").write_text(yaml.safe_dump(merged(without_empty(saved), nested(old, value))))
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    entry = {"epoch": 1, "step": 4, "params": "ssd-0001.params", "states": "ssd-0001.states", "sha256": {}}
    index = {"kept": [entry], "last": entry, "finished": False, "words": overrides}
    (run / "checkpoints" / "checkpoints.json").write_text(json.dumps(index))
    return run


def without_empty(saved: dict[str, Any]) -> dict[str, Any]:
    """Whole groups of today have no part of them in an old file."""
    for old, new in KEYS.items():
        if old in LEAVES:
            holder = saved
            for name in new.split(".")[:-1]:
                holder = holder[name]
            holder.pop(new.rpartition(".")[2], None)
    return saved


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_two_names_at_once(old: str, new: str, value: Any, today: Any, more: list[str]) -> None:
    before, after = plain(value), plain(today)
    for overrides in ([f"{old}={before}", f"{new}={after}"], [f"{new}={after}", f"++{old}={before}"]):
        with pytest.raises(UserError, match="two names of one key") as error:
            compose(overrides)
        assert old in str(error.value)
        assert new in str(error.value)
    with pytest.raises(UserError, match="two names of one key"):
        current_config(merged(nested(old, value), nested(new, today)))


@pytest.mark.parametrize(("old", "new", "value", "today", "more"), cases())
def test_only_names_of_today_are_suggested(old: str, new: str, value: Any, today: Any, more: list[str]) -> None:
    for wrong in (f"{old}x", f"{new}x"):
        with pytest.raises(UserError) as error:
            compose([f"{wrong}={plain(value)}"])
        suggested = str(error.value).partition("did you mean ")[2].partition("?")[0].strip("'")
        assert suggested not in KEYS


def test_values_that_a_key_never_had() -> None:
    for wrong in (["init.statistics=fixed"], ["init.statistics=true"], ["init={statistics:1}"]):
        with pytest.raises(
            UserError, match="expected learn or frozen, or, as it is written today, init.freeze_bn=false"
        ):
            compose(["init.mode=pretrained", *wrong])
    with pytest.raises(UserError, match="init.statistics=None: expected learn or frozen"):
        current_config({"init": {"statistics": None}})


def test_groups(tmp_path: Path, caplog) -> None:
    table = compose(["weight_map=mobilenet_torch"]).init.weight_map
    assert "conv_1" in table.layers
    assert compose(["names=mobilenet_torch"]).init.weight_map == table
    assert current_overrides(["+names@init.names=a"]) == ["+weight_map@init.weight_map=a"]
    assert current_overrides(["+names=a", "~names", "~names=a", "names=a,b"]) == [
        "+weight_map=a", "~weight_map", "~weight_map=a", "weight_map=a,b"
    ]  # fmt: skip
    with pytest.raises(UserError, match="names and weight_map: two names of one key; leave out names"):
        compose(["names=mobilenet_torch", "weight_map=mobilenet_torch"])
    assert lines(caplog)[0] == f"deprecated: names is called weight_map since version {VERSION}"
    # A folder of a user's own, and a recipe that names a choice.
    for folder, text in (("names", "# @package init.names\nepsilon: 0.25\nparts: []\nlayers: {}\n"),
                         ("experiments", "# @package _global_\ndefaults:\n  - override /names: mine\n")):  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(text)
    for overrides in (["names=mine"], ["weight_map=mine"], ["experiments=mine"]):
        assert compose([f"hydra.searchpath=[{tmp_path}]", *overrides]).init.weight_map.epsilon == 0.25


def test_parts_of_a_concatenation() -> None:
    part = ["dataset=concat", "+dataset@dataset.parts.a=yolo"]
    cfg = compose([*part, "+dataset.parts.a.images=3", "+dataset.parts.b={others:drop,name:images}"])
    assert (cfg.dataset.parts.a.max_images, cfg.dataset.max_images) == (3, None)
    assert cfg.dataset.parts.b == {"unknown_classes": "drop", "name": "images"}
    saved = {"dataset": {"parts": [{"images": 3}, {"splits": {"train": {"images": "a"}}}]}}
    assert current_config(saved) == {"dataset": {"parts": [{"max_images": 3}, {"splits": {"train": {"images": "a"}}}]}}
    with pytest.raises(UserError, match="dataset.parts.0.images and dataset.parts.0.max_images: two names"):
        current_config({"dataset": {"parts": [{"images": 3, "max_images": 3}]}})


def test_a_folder_of_images_keeps_its_name() -> None:
    cfg = compose(["dataset=coco", "dataset.splits.train={annotations:a.json,images:b}"])
    assert cfg.dataset.splits.train == {"annotations": "a.json", "images": "b"}


def test_references_to_keys() -> None:
    assert compose(["metric.iou=${detection.nms}"]).metric.iou == 0.45
    assert current_config({"a": "${oc.select:detection.nms,1} ${b.detection.nms} detection.nms"}) == {
        "a": "${oc.select:detection.nms_threshold,1} ${b.detection.nms} detection.nms"
    }


def test_values_of_flags_and_plain_overrides_are_left_alone(caplog) -> None:
    overrides = ["--config-dir", "detection.nms=1", "model=detection.nms", "-m", "experiments/names"]
    assert current_overrides(overrides) == overrides
    assert not caplog.records


def test_what_moved_out_of_a_file_of_a_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEYS, "device.old", "training.log_every")
    with pytest.raises(UserError, match="training.log_every: was below device .* _global_"):
        current_config({"old": 3}, "device")


@pytest.mark.parametrize("target", TARGETS.values())
def test_targets_exist(target: str) -> None:
    module, _, name = target.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


def test_targets_of_a_configuration() -> None:
    old = {
        "dataset": {"_target_": "ssd.data.parts.Concat", "parts": [{"_target_": "ssd.data.voc.VOC", "root": "x"}]},
        "logger": {"csv": {"_target_": "ssd.tracking.files.StepsCsv"}},
        "source": "ssd.data.voc.VOC",
    }
    assert current_config(old) == {
        "dataset": {
            "_target_": "ssd.data.datasets.concat.Concat",
            "parts": [{"_target_": "ssd.data.datasets.voc.VOC", "root": "x"}],
        },
        "logger": {"csv": {"_target_": "ssd.tracking.files.StepsCsv"}},
        "source": "ssd.data.voc.VOC",
    }


@pytest.mark.parametrize(
    ("old", "current"),
    [
        ("dataset._target_=ssd.data.voc.VOC", "dataset._target_=ssd.data.datasets.voc.VOC"),
        ("+dataset.parts.a={_target_:ssd.data.rec.Rec}", "+dataset.parts.a={_target_:ssd.data.datasets.rec.Rec}"),
        ("dataset._target_=mine.ssd.data.voc.VOC", "dataset._target_=mine.ssd.data.voc.VOC"),
        ("dataset._target_=ssd.data.voc.VOC2", "dataset._target_=ssd.data.voc.VOC2"),
        ("model=ssd.data.voc.VOC", "model=ssd.data.voc.VOC"),
    ],
)
def test_targets_of_overrides(old: str, current: str) -> None:
    assert current_overrides([old]) == [current]


def test_the_line_goes_to_the_console_once(tmp_path: Path, run_in) -> None:
    done = run_in(tmp_path, "--cfg", "job", "detection.nms=0.25", "detection.keep=3")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"deprecated: detection.nms is called detection.nms_threshold since version {VERSION}",
        f"deprecated: detection.keep is called detection.max_detections since version {VERSION}",
    ]
    assert "nms_threshold: 0.25" in done.stdout
