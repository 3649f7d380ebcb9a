"""The container files: what they copy is there, what they install installs, what they start starts."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tools" / "docker").glob("Dockerfile.*"))
PYTHON_OF = {"ubuntu22.04": "3.10"}  # the Python of systems that images are made of
MINUTES = 9


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, its argument) in order; lines that go on are joined, comments left out."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def all_of(file: Path, name: str) -> list[str]:
    return [argument for instruction, argument in instructions(file) if instruction == name]


def copies(file: Path) -> list[tuple[list[str], str]]:
    """(sources, target) of every COPY."""
    overrides = [argument.split() for argument in all_of(file, "COPY")]
    return [(parts[:-1], parts[-1]) for parts in overrides]


def install_steps(file: Path) -> list[str]:
    """The RUN lines that do not change the system."""
    return [step for step in all_of(file, "RUN") if "apt-get" not in step]


def python_of(file: Path) -> str:
    """ "3.11", by the base image."""
    (image,) = all_of(file, "FROM")
    if match := re.match(r"python:(\d+\.\d+)", image):
        return match[1]
    return next(version for system, version in PYTHON_OF.items() if image.endswith(system))


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_there_is_one_for_cpus_and_one_for_gpus() -> None:
    assert [file.suffix for file in FILES] == [".cpu", ".cuda"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_it_copies_is_there(file: Path) -> None:
    sources = [source for parts, _ in copies(file) for source in parts]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not Path(source).is_absolute()
    needed = set(re.findall(r"[\w./]+\.(?:sh|cfg)", " ".join(install_steps(file)))) | {
        "setup.cfg",
        "README.md",
        "LICENSE",
    }
    assert needed <= set(sources), "what the steps name is copied"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_its_python_and_extras_are_ours(file: Path) -> None:
    major, minor = map(int, python_of(file).split("."))
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", setup()["options"]["python_requires"]).groups()  # type: ignore[union-attr]
    assert major == 3
    assert int(low) <= minor < int(high)
    assert (ROOT / "tools" / "requirements" / f"py{major}{minor}.txt").is_file()
    (argument,) = all_of(file, "ARG")
    name, extras = argument.split("=")
    assert f"${{{name}}}" in " ".join(install_steps(file))
    assert set(extras.split(",")) <= set(setup()["options.extras_require"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_names_no_host_and_starts_the_runner(file: Path) -> None:
    assert "://" not in file.read_text()
    for image in all_of(file, "FROM"):
        assert "." not in image.split("/")[0].split(":")[0]
        assert not image.endswith(":latest")
        assert ":" in image
    (entry,) = all_of(file, "ENTRYPOINT")
    assert re.fullmatch(r"python3?", json.loads(entry)[0])
    assert json.loads(entry)[1:] == ["-m", "ssd.run"]


def interpreter(version: str) -> str:
    """A Python of this version, or a skip."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return sys.executable
    found = shutil.which(f"python{version}")
    if not found:
        pytest.skip(f"the image has Python {version}, which is not here")
    return found


@pytest.mark.slow
def test_its_steps_install_what_runs() -> None:
    """Those of the CPU file, with nothing but what it copies, in an environment with nothing but pip."""
    file = FILES[0]
    with tempfile.TemporaryDirectory(prefix="ssd_docker_") as folder:
        work = Path(folder) / "ssd"
        work.mkdir()
        for sources, target in copies(file):
            for source in sources:
                place = work / target / Path(source).name if target.endswith("/") else work / target
                place.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, place)
        environment = Path(folder) / "environment"
        subprocess.run([interpreter(python_of(file)), "-m", "venv", str(environment)], check=True, timeout=900)
        arguments = dict(argument.split("=") for argument in all_of(file, "ARG"))
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        clean |= {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", **arguments}

        def run(*command: str, minutes: float = 2) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                command, cwd=work, env=clean, capture_output=True, text=True, timeout=900 * minutes, check=False
            )

        asked = run("python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "defusedxml")
        if asked.returncode:
            pytest.skip(f"no package registry answers: {asked.stderr.strip().splitlines()[-1]}")
        for step in install_steps(file):
            done = run("sh", "-c", step, minutes=MINUTES)
            assert done.returncode == 0, done.stderr[-3000:]
        entry = json.loads(all_of(file, "ENTRYPOINT")[0])
        done = run(*entry, "--help")
        assert done.returncode == 0, done.stderr
        assert "backbone" in done.stdout
        overrides = ["epochs=1", "dataset.train=8", "dataset.val=4", "batch_size=4", "logger=[]", "loader.workers=0"]
        done = run(*entry, *overrides, minutes=3)
        assert done.returncode == 0, done.stderr
        assert list(work.glob("outputs/train/*/*/checkpoints/*.params"))
