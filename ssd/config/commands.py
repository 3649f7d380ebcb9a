"""Commands for a person to copy: quoted for the shell, with the program that this environment has."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ssd.config.overrides import override, search_path

STARTS_OTHERS = ("mlflow", "models")  # what starts another program of its environment (uvicorn) by name
COMMAND_LINE = ("command-line", "hydra.searchpath in command-line")  # where Hydra has a folder of configuration from


def shell_command(program: str, *arguments: str | Path, environment: Sequence[str] = ()) -> str:
    """A line that a shell takes as it is. environment: NAME=value in front of it."""
    names = [f"{name}={shlex.quote(value)}" for name, _, value in (one.partition("=") for one in environment)]
    found = _program(program)
    if (program, *arguments[:1]) == STARTS_OTHERS and found != program:
        names.insert(0, f'PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    return " ".join([*names, shlex.join([found, *map(str, arguments)])])


def module_command(module: str, *arguments: str | Path) -> str:
    """python -m module arguments…"""
    return shell_command("python", "-m", module, *arguments)


def run_command(*arguments: str, config_dirs: Sequence[str | Path] = ()) -> str:
    """python -m ssd.run arguments…, with the configuration folders of this run, behind those of `config_dirs`."""
    return module_command("ssd.run", *_flags([*map(str, config_dirs), *own_config_dirs()]), *arguments)


def task_overrides() -> list[str]:
    """The overrides of this job as Hydra has taken them, but for its own; none where Hydra does not run."""
    return [str(one) for one in HydraConfig.get().overrides.task] if HydraConfig.initialized() else []


def own_config_dirs() -> list[str]:
    """Folders beside conf/ that the command line of this run names, in Hydra's order."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [source.path for source in sources if source.provider in COMMAND_LINE and source.schema == "file"]


def path_override(key: str, path: str | Path) -> str:
    """key=path, relative to the working directory where it lies below."""
    return override(key, below(path))


def below(path: str | Path) -> str:
    """A path as a person writes it here: relative where it lies in the working directory, else absolute."""
    relative = os.path.relpath(path)
    return str(Path(path).absolute()) if relative.split(os.sep)[0] == os.pardir else relative


def _flags(folders: Sequence[str]) -> list[str]:
    """Hydra takes one --config-dir; others go into its search path."""
    first, *others = list(dict.fromkeys(folders)) or [""]
    flags = ["--config-dir", first] if first else []
    return [*flags, search_path([str(Path(folder).absolute()) for folder in others])] if others else flags


def _program(name: str) -> str:
    """A program of this environment by its name if the shell finds that one, else by its absolute path."""
    here = Path(sys.executable).parent
    found = shutil.which(name)
    if found is not None and Path(found).absolute().parent == here.absolute():
        return name
    own = Path(sys.executable) if name == "python" else here / name
    return str(own.absolute()) if own.is_file() else name
