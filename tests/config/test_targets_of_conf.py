"""Classes and functions that the files of conf/ and experiments/ name."""

import importlib
import re
from pathlib import Path

import pytest

from ssd.config.paths import CONF

TARGET = re.compile(r"^[^#\n]*_target_: *([\w.]+)", re.MULTILINE)
FILES = [*CONF.rglob("*.yaml"), *(CONF.parent / "experiments").glob("*.yaml")]
TARGETS = sorted({name for file in FILES for name in TARGET.findall(file.read_text()) if name != "null"})


def test_there_are_some() -> None:
    assert {"ssd.data.datasets.voc.VOC", "hydra_plugins.ssd_sweeps.PerJobSubmitit"} <= set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_they_exist(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "ssd/sweeps/plugins"))
    module, _, name = target.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
