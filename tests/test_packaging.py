"""What pip installs: the version, and a wheel that runs without the checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import ssd

ROOT = Path(__file__).resolve().parents[1]


def test_version_line() -> None:
    """Of an editable installation, where this is one: its metadata and the package have one version."""
    done = subprocess.run([sys.executable, "-m", "ssd.run", "--version"], capture_output=True, text=True, check=True)
    engine = next(found for name in ("mxnet", "mxnet-cu112", "mxnet-cu102", "mxnet-cu101") if (found := of(name)))
    assert done.stdout == f"ssd {ssd.__version__} (MXNet {engine}, Hydra {version('hydra-core')})\n"
    assert version("ssd") == ssd.__version__


def of(name: str) -> str | None:
    try:
        return version(name)
    except ImportError:
        return None


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel of this checkout."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("ssd", "conf", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-a", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_has_every_module_and_configuration(unpacked: Path) -> None:
    modules = {path.relative_to(ROOT) for path in (ROOT / "ssd").rglob("*.py") if "conf" not in path.parts}
    files = {Path("ssd", path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    recipes = {Path("ssd", "conf", path.relative_to(ROOT)) for path in (ROOT / "experiments").rglob("*.yaml")}
    inside = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert modules | files | recipes | {Path("ssd/py.typed")} <= inside
    assert {path.parts[0] for path in inside} == {"ssd", f"ssd-{ssd.__version__}.dist-info"}


def test_a_wheel_runs(unpacked: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    for overrides in (["--help"], ["--cfg", "job", "experiments=voc_vgg16_300"]):
        done = subprocess.run(
            [sys.executable, "-m", "ssd.run", *overrides], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
    code = "import ssd.config.paths as paths; print(paths.CONF)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(unpacked / "ssd" / "conf")
