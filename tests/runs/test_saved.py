"""What somebody else's run directory may do to who uses it: nothing. The payload is a file that must not appear."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.targets import confined, literal, make, own
from ssd.data import make_dataset
from ssd.run import rerun_overrides as again_overrides
from ssd.runs.inherit import inherit
from ssd.runs.rerun import as_saved, saved_overrides
from ssd.runs.resume import resume_overrides
from ssd.runs.saved import allowed_overrides, literal_names, read_config, read_overrides
from ssd.tracking.events import make_writers
from ssd.utils.errors import UserError

SECRET = "${oc.env:HOME}"
RUNS = "mlflow.utils.process._exec_cmd"  # a function of an installed package that runs a program


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory of a training with default overrides."""
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints").mkdir()
    cfg = compose([])
    OmegaConf.save(cfg, tmp_path / "run" / "config.yaml", resolve=True)
    OmegaConf.save(cfg, tmp_path / "run" / ".hydra" / "config.yaml")
    choices = {"hydra": {"runtime": {"choices": {"dataset": "shapes", "backbone": "small"}}}}
    (tmp_path / "run" / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(choices))
    say(tmp_path / "run", [])
    return tmp_path / "run"


def say(folder: Path, overrides: list[Any]) -> None:
    """Overrides into all files that hold them."""
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    entry = {"epoch": 1, "step": 4, "params": "ssd-0001.params", "states": "ssd-0001.states", "sha256": {}}
    index = {"kept": [entry], "last": entry, "finished": False, "words": overrides}
    (folder / "checkpoints" / "checkpoints.json").write_text(json.dumps(index))


def resumed(folder: Path, *overrides: str) -> Any:
    return resume_overrides([f"resume={folder}", *overrides])


def rerun(folder: Path, *overrides: str) -> Any:
    said = [f"rerun={folder}", *overrides]
    return as_saved(compose([*saved_overrides(said), *said]))


def evaluated(folder: Path, *overrides: str) -> Any:
    return compose(inherit(["job=eval", f"model={folder}", *overrides]))


def call(marker: Path) -> dict[str, Any]:
    return {"_target_": RUNS, "cmd": ["touch", str(marker)]}


READERS = {"resume": resumed, "rerun": rerun, "model": evaluated}
CALLS = [
    f"dataset._target_={RUNS}",
    f"++dataset.x={{_target_: {RUNS}, cmd: [touch, x]}}",
    f"+dataset.x=[{{_target_: {RUNS}}}]",
    "+dataset.x={_recursive_: true}",
    "dataset._target_=run.payload.Mine",
    "dataset=../../run/payload",
    "+dataset@hydra.x=shapes",
    "dataset.root=${oc.env:HOME}",
    "dataset.root='a${oc.env:HOME}'",
    "dataset.root=???",
    "+dataset.x={archives: {a: {url: x}}, _target_: no.such}",
]
OTHERS = [
    f"+logger.x={{_target_: {RUNS}}}",
    "logger.csv._target_=os.system",
    f"backbone.network._target_={RUNS}",
    "cluster.ssh='sh -c x'",
    "cluster.hosts=[a,b]",
    "cluster.address=10.0.0.1",
    "cluster.folder=elsewhere",
    "+logger=/tmp/x",
    "hydraulic=1",
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("override", CALLS)
def test_overrides_of_a_run_call_and_evaluate_nothing(reader: str, override: str, run: Path) -> None:
    say(run, [override])
    with confined([]), pytest.raises(UserError) as error:
        READERS[reader](run)
    assert "\n" not in str(error.value)
    assert os.environ["HOME"] not in str(error.value).replace(str(run), "")


@pytest.mark.parametrize("reader", ["resume", "rerun"])
@pytest.mark.parametrize("override", OTHERS)
def test_overrides_beside_the_dataset(reader: str, override: str, run: Path) -> None:
    say(run, [override])
    with confined([]), pytest.raises(UserError):
        READERS[reader](run)


@pytest.mark.parametrize(
    "override",
    [f"+hydra.callbacks.x._target_={RUNS}", "hydra.searchpath=[/tmp]", "hydra/launcher=x", "dataset.download=true"],
)
def test_what_overrides_of_a_run_say_of_hydra_and_downloads_is_not_used_again(override: str) -> None:
    with confined([]):
        assert allowed_overrides([override, "epochs=3"], "run") == ["epochs=3"]


@pytest.mark.parametrize("overrides", [["batch_size=4"], ["logger=[csv,mlflow]"], ["+dataset.x=1"], ["~logger.mlflow"],
                                   ["dataset=concat", "+dataset@dataset.parts.a=voc07"], ["data_shape='512'"],
                                   ["dataset.root='my images'"], ["optimizer.final=${optimizer.learning_rate}"],
                                   ["logger.csv._target_=ssd.tracking.files.StepsCsv"]])  # fmt: skip
def test_ordinary_overrides_are_used_again(overrides: list[str]) -> None:
    with confined([]):
        assert allowed_overrides(overrides, "run") == overrides


def test_what_the_user_names_is_used(run: Path, tmp_path: Path) -> None:
    say(run, ["dataset=custom", "dataset._target_=my.Mine", "cluster.hosts=[a,b]"])
    with confined(["dataset._target_=my.Mine", "cluster.hosts=[c]"]):
        overrides = allowed_overrides(read_overrides(run / ".hydra" / "overrides.yaml"), "run")
        assert overrides == ["dataset=custom", "dataset._target_=my.Mine"]
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "own.yaml").write_text("# dataset._target_: a.Comment\n_target_: my.Mine  # it\n")
    with confined(["--config-dir", str(tmp_path / "mine")]):
        assert allowed_overrides(["dataset._target_=my.Mine"], "run")
        with pytest.raises(UserError, match=r"say it yourself: dataset._target_=a.Comment"):
            allowed_overrides(["dataset._target_=a.Comment"], "run")


@pytest.mark.parametrize("key", ["logger", "backbone.network", "dataset", "augment"])
def test_a_saved_configuration_calls_nothing(key: str, run: Path, tmp_path: Path) -> None:
    cfg = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(cfg, f"{key}.evil" if key == "logger" else key, call(tmp_path / "marker"))
    OmegaConf.save(cfg, run / "config.yaml")
    with confined([]), pytest.raises(UserError, match=f"say it yourself: {key}"):
        rerun(run)
    assert not (tmp_path / "marker").exists()


def test_machines_and_programs_of_a_saved_configuration_are_not_used(run: Path) -> None:
    saved = read_config(run / "config.yaml")
    saved["cluster"] |= {"ssh": "sh -c x", "hosts": ["a", "b"]}
    saved["dataset"] |= {"download": True, "mirror": "http://127.0.0.1:9"}
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    with confined([]):
        cfg = rerun(run)
    assert cfg.cluster == compose([]).cluster
    assert (cfg.dataset.download, cfg.dataset.mirror) == (False, None)


@pytest.mark.parametrize("text", [SECRET, "${batch_size", "a\\${x}", "${batch_size}"])
def test_a_saved_name_stays_what_it_is(text: str, run: Path) -> None:
    saved = read_config(run / "config.yaml")
    saved["dataset"]["classes"] = [text]
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    cfg = rerun(run)
    assert list(cfg.dataset.classes) == [text]
    assert yaml.safe_load(OmegaConf.to_yaml(cfg, resolve=True))["dataset"]["classes"] == [text]


@pytest.mark.parametrize("file", ["config.yaml", ".hydra/overrides.yaml", ".hydra/config.yaml", ".hydra/hydra.yaml"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a: [1, {", b"- 3\n- [a]\n", b"x: 1\n", b"? [a]\n: 1\n", b"&a [*a]\n"]
)
def test_damaged_files_are_one_line(file: str, content: bytes, run: Path) -> None:
    (run / file).write_bytes(content)
    for reader in (resumed, rerun, evaluated):
        try:
            with confined([]):
                reader(run)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - those that do not read this file may pass


@pytest.mark.parametrize("overrides", [3, "epochs=3", [3], [["a"]], {"a": 1}, ["epochs=1,2"], ["=", "a='"]])
def test_a_damaged_index_is_one_line(overrides: Any, run: Path) -> None:
    say(run, overrides)
    with pytest.raises(UserError):
        resumed(run)


@given(st.text())
def test_texts_stay_what_they_are(text: str) -> None:
    if text != "???":
        assert OmegaConf.to_container(OmegaConf.create(literal({"a": [text]})), resolve=True) == {"a": [text]}


@given(st.text(alphabet="${}\\:ax'?"))
def test_texts_arrive_in_what_is_made(text: str) -> None:
    if text != "???":
        assert make({"_target_": "builtins.dict", "a": text, "b": [text]}, "x", "x") == {"a": text, "b": [text]}


def test_the_mark_of_a_missing_value_is_no_class() -> None:
    with pytest.raises(UserError, match=r"class '\?\?\?'"):
        literal_names(["cat", "???"])


def test_nothing_is_imported_before_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "payload_of_a_stranger.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with confined([]):
        with pytest.raises(UserError, match="say it yourself: dataset._target_=payload_of_a_stranger.Mine"):
            make_dataset({"_target_": "payload_of_a_stranger.Mine"})
        with pytest.raises(UserError, match="say it yourself: logger.x._target_=payload_of_a_stranger.Mine"):
            make_writers({"x": {"_target_": "payload_of_a_stranger.Mine"}})
        with pytest.raises(UserError, match=r"dataset.x.0._target_=os.system"):
            make_dataset({"_target_": "ssd.data.datasets.shapes.Shapes", "x": [{"_target_": "os.system"}]})
    assert "payload_of_a_stranger" not in sys.modules


def test_the_programs_own_targets_are_those_of_conf() -> None:
    assert own("logger") >= {"ssd.tracking.files.StepsCsv", "ssd.tracking.tensorboard.Monitoring"}
    assert all(name.startswith("ssd.") for group in ("dataset", "logger", "backbone") for name in own(group))


def test_labels_are_no_interpolations(run_in: Callable[..., Any], jpeg: Callable[[int, int], bytes], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A training on a CSV file whose classes look like interpolations, by the command line."""
    monkeypatch.setenv("TOKEN", "tok-s3cr3t")
    (tmp_path / "images").mkdir()
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for number in range(8):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(jpeg(64, 60 + number))
        label = ("${oc.env:TOKEN}", "${batch_size")[number % 2]
        lines.append(f"{number}.jpg,64,{60 + number},{label},5,5,40,40")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    overrides = ["dataset=csv", "dataset.root=.", "dataset.folder=images", "dataset.splits={train: train.csv}",
             "data_shape=64", "batch_size=2", "epochs=1", "training.samples=0", "loader.workers=0", "device.threads=1",
             "logger=[csv,tensorboard]", "hydra.run.dir=out"]  # fmt: skip
    done: subprocess.CompletedProcess[str] = run_in(tmp_path, *overrides)
    assert done.returncode == 0, done.stderr
    assert read_config(tmp_path / "out" / "config.yaml")["dataset"]["classes"] == ["${batch_size", "${oc.env:TOKEN}"]
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert not [file for file in files if b"tok-s3cr3t" in file.read_bytes()]
    assert "tok-s3cr3t" not in done.stderr


MINE = ["+logger.mine={_target_: mine.Writer}", "+logger.mine._target_=mine.Writer"]


@pytest.mark.parametrize("saved", MINE)
@pytest.mark.parametrize("again", [resumed, rerun], ids=["resume", "rerun"])
def test_what_the_user_takes_out_may_name_anything(run: Path, saved: str, again: Callable[..., Any]) -> None:
    say(run, ["logger=[csv]", saved])
    key = "rerun" if again is rerun else "resume"
    for typed in ([], ["~logger.min"], ["~logger.mine.inner"], ["++logger.mine.a=1"]):
        with confined([f"{key}={run}", *typed]), pytest.raises(UserError, match="mine.Writer"):
            again(run, *typed)
    with confined([f"{key}={run}", "~logger.mine"]):
        assert "mine" not in written(run, again, "~logger.mine")
    for typed in ("++logger.mine._target_=ssd.tracking.files.CSV", "+logger.mine={_target_: ssd.tracking.files.CSV}"):
        with confined([f"{key}={run}", typed]):
            assert written(run, again, typed).mine._target_ == "ssd.tracking.files.CSV"


def written(run: Path, again: Callable[..., Any], *typed: str) -> Any:
    """The loggers of a run that is resumed or made again."""
    if again is resumed:
        overrides = [override for override in resumed(run, *typed) if not override.startswith("hydra.")]
        return compose(overrides).logger
    said = [f"rerun={run}", *typed]
    front = [override for override in again_overrides(said) if not override.startswith("hydra.")]
    return as_saved(compose([*front, *said])).logger


def test_what_was_taken_out_before_stays_out(run: Path) -> None:
    say(run, ["logger=[csv]", MINE[0], "~logger.mine"])
    with confined([f"resume={run}"]):
        assert list(written(run, resumed)) == ["csv"]
    say(run, ["logger=[csv]", "~logger.mine", MINE[0]])
    with confined([f"resume={run}"]), pytest.raises(UserError, match="mine.Writer"):
        resumed(run)
