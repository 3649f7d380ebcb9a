"""Commands that the program prints, as a shell and Hydra read them."""

import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ssd.config import commands
from ssd.config.commands import below, path_override, run_command, shell_command
from ssd.config.compose import compose
from ssd.config.overrides import composable

ODD = "what? now's 50% $HOME `id` é"


@pytest.fixture
def config_dirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """config_dirs(folder…): as if this were a run that has them from its command line."""

    def pretend(*folders: str) -> None:
        providers = ["command-line", *["hydra.searchpath in command-line"] * len(folders)]
        sources = [SimpleNamespace(provider="main", schema="file", path="/conf"),
                   *(SimpleNamespace(provider=provider, schema="file", path=folder)
                     for provider, folder in zip(providers, folders, strict=False))]  # fmt: skip
        hydra = SimpleNamespace(runtime=SimpleNamespace(config_sources=sources))
        monkeypatch.setattr(commands, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda: hydra))

    return pretend


def overrides_of(command: str) -> list[str]:
    """As a shell hands them over to ssd.run."""
    python, flag, module, *overrides = shlex.split(command)
    assert (Path(python).name, flag, module) == ("python", "-m", "ssd.run")
    return overrides


@pytest.mark.parametrize("name", [ODD, "a,b", "{x}", "null", "a b", "tab\there", "-x", "line\nbreak", "#1", "${x}"])
def test_a_path_comes_through_shell_and_grammar(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = overrides_of(run_command(path_override("model", tmp_path / name)))
    assert compose(overrides).model == name
    assert (
        subprocess.run(["bash", "-c", f"printf %s {shlex.join(overrides)}"], capture_output=True).stdout.decode()
        == (overrides[0])
    )


def test_a_path_outside_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert below(tmp_path / "there") == str(tmp_path / "there")
    assert below(tmp_path / "here" / "x") == "x"
    assert below("..x") == "..x"


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_every_configuration_folder_is_kept(count: int, config_dirs: Any, tmp_path: Path) -> None:
    folders = [tmp_path / f"{number} {ODD}" for number in range(count)]
    for number, folder in enumerate(folders):
        (folder / "dataset").mkdir(parents=True)
        (folder / "dataset" / f"mine{number}.yaml").write_text(f"defaults: [voc, _self_]\nname: of {number}\n")
    config_dirs(*map(str, folders))
    overrides = overrides_of(run_command())
    assert overrides.count("--config-dir") == min(count, 1)
    for number in range(count):
        assert compose([*composable(overrides), f"dataset=mine{number}"]).dataset.name == f"of {number}"


def test_a_folder_is_not_named_twice(config_dirs: Any) -> None:
    config_dirs("/a", "/b")
    assert overrides_of(run_command(config_dirs=["/b"])) == ["--config-dir", "/b", "hydra.searchpath=[/a]"]


def test_programs_are_those_of_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{here}:/usr/bin")
    assert shell_command("python", "-m", "x") == "python -m x"
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    assert shlex.split(shell_command("python", "-m", "x"))[0] == sys.executable
    # mlflow starts uvicorn by its name.
    assert shell_command("mlflow", "models", "serve") == f'PATH={here}:"$PATH" {here}/mlflow models serve'
    assert shell_command("mlflow", "ui") == f"{here}/mlflow ui"
    assert shell_command("nowhere-to-be-found", "a b", environment=["A=b c"]) == "A='b c' nowhere-to-be-found 'a b'"
