"""The README is part of the product: its commands compose, its example backbone trains, its tables are complete."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from ssd.checkpoint.model import load_model
from ssd.config.compose import compose
from ssd.config.overrides import groups, normalise, sweep_points
from ssd.data.images import read_image
from ssd.detection import Detector
from ssd.export.formats import FORMATS, Calibration
from ssd.symbol import build_train

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"python -m ssd\.run ([^\n`]+)", README)


def block_with(text: str) -> str:
    """The code that contains it, not indented."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", README, re.MULTILINE)
    return re.sub(r"^    ", "", next(block for block in blocks if text in block), flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command: str) -> None:
    if "backbone=tiny" in command:
        pytest.skip("the example backbone, tested below")
    words = [word for word in shlex.split(command) if word != "-m"]
    for point in sweep_points(normalise(words)):
        compose(point)


@pytest.mark.parametrize("group", [name for name in groups() if name not in ("head", "experiments")])
def test_every_choice_is_in_the_table(group: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{group}`"))
    for choice in groups()[group]:
        assert choice == "any" or f"`{choice}`" in row, choice


def test_the_example_backbone_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.py").write_text(block_with("backbones/tiny.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    backbone = yaml.safe_load(block_with("conf/backbone/tiny.yaml"))
    backbone["network"]["_target_"] = "tiny.build"
    cfg = OmegaConf.merge(compose([]), {"backbone": backbone})
    assert "stage4_relu_cls_pred_conv_weight" in build_train(cfg).list_arguments()


def test_files_it_shows_exist() -> None:
    for path in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("size", [(300, 530), (90, 70)], ids=["four times the input", "about the input"])
@pytest.mark.parametrize(("name", "text"), [("onnx", "InferenceSession"), ("mxnet", "load_checkpoint")])
def test_exports_run_without_this_package(name, text, size, checkpoint: Path, tmp_path: Path) -> None:
    """The examples as they stand, in a process that cannot import ssd, against the detector of the checkpoint."""
    format_ = FORMATS[name]
    format_.write(load_model(checkpoint), tmp_path / format_.name, Calibration(lambda: [], "minmax"))
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture)
    code = f"import sys\nsys.modules['ssd'] = None\n{block_with(text)}\nnumpy.save('rows.npy', rows)\n"
    (tmp_path / "example.py").write_text(f"import numpy\n{code}")
    done = subprocess.run(
        [sys.executable, "-I", "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    rows = np.load(tmp_path / "rows.npy")
    rows = rows[rows[:, 0] >= 0]
    (expected,) = Detector.load(str(checkpoint)).predict([read_image(tmp_path / "photo.jpg")])
    assert len(rows) == len(expected) > 3
    np.testing.assert_allclose(rows[:, :2], expected[:, :2], rtol=0, atol=1e-4)
    np.testing.assert_allclose(rows[:, 2:], expected[:, 2:], rtol=0, atol=0.01)
