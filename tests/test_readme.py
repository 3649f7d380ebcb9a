"""The README is part of the product: its commands compose, its example backbone trains, its tables are complete."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from ssd.config import compose
from ssd.overrides import groups, normalise, sweep_points
from ssd.symbol import build_train

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"python -m ssd\.run ([^\n`]+)", README)


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
    blocks = re.findall(r"(?:^    .*\n|^\n)+", README, re.MULTILINE)
    code = next(block for block in blocks if "backbones/tiny.py" in block)
    config = next(block for block in blocks if "conf/backbone/tiny.yaml" in block)
    dedent = re.compile(r"^    ", re.MULTILINE)
    (tmp_path / "tiny.py").write_text(dedent.sub("", code))
    monkeypatch.syspath_prepend(str(tmp_path))
    backbone = yaml.safe_load(dedent.sub("", config))
    backbone["network"]["_target_"] = "tiny.build"
    cfg = OmegaConf.merge(compose([]), {"backbone": backbone})
    assert "stage4_relu_cls_pred_conv_weight" in build_train(cfg).list_arguments()


def test_files_it_shows_exist() -> None:
    for path in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / path).is_file(), path
