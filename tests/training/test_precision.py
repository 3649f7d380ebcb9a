"""Training in bfloat16 where the processor can, and what is reported where it cannot."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.tracking import Events, Writer
from ssd.training import precision
from ssd.training.monitor import Monitor
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

CLASSES = ["a", "b", "c"]
BFLOAT16 = "training.precision=bfloat16"


@pytest.fixture
def able(settings) -> None:
    """Skips where bfloat16 cannot run."""
    try:
        precision.prepare(trainer_config(settings(BFLOAT16)))
    except UserError as error:
        pytest.skip(str(error))


def trained(cfg: DictConfig, batches: Any, steps: int) -> tuple[list[float], Trainer]:
    mx.random.seed(7)
    trainer = Trainer(trainer_config(cfg), CLASSES, batches, 100)
    return [trainer.step(batches.batch(step % 3), step).loss for step in range(steps)], trainer


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("overrides", [[], ["device.ids=[0,1]", "head=ssd_bn"], ["compat=mxnet_ssd"]], ids=str)
def test_the_first_losses_are_those_of_float32(settings, noise, overrides: list[str]) -> None:
    losses, full = trained(settings("optimizer.learning_rate=0.002", *overrides), noise(64), 10)
    low, trainer = trained(settings("optimizer.learning_rate=0.002", BFLOAT16, *overrides), noise(64), 10)
    assert low == pytest.approx(losses, rel=0.05)
    assert low != losses
    assert losses[-1] < 0.8 * losses[0]
    assert trainer.symbol.tojson() == full.symbol.tojson()  # what is saved
    arrays = [*trainer.params()[0].values(), *trainer.params()[1].values(), *trainer.state()["optimizer"].values()]
    assert {np.dtype(array.dtype) for array in arrays} == {np.dtype(np.float32)}


@pytest.mark.usefixtures("able")
def test_passes_add_up(settings, noise) -> None:
    """A cast's gradient by itself would not: it ignores what is there."""
    gradients = []
    for passes in (1, 2):
        cfg = settings(BFLOAT16, "loss.classification=focal", f"training.accumulate={passes}")
        cfg.init.freeze_bn = True  # every image by itself
        trainer = trained(cfg, noise(64), 0)[1]
        trainer.backward(noise(64).batch(0), 0)
        gradients.append({name: devices[0].asnumpy() for name, devices in trainer.module.gradients.items()})
    for name, wanted in gradients[0].items():
        assert np.linalg.norm(gradients[1][name] - wanted) <= 0.03 * np.linalg.norm(wanted) + 1e-6, name


class Curious(Writer):
    def __init__(self) -> None:
        self.heard: dict[str, np.ndarray] = {}

    def wants_histograms(self, step: int) -> re.Pattern[str] | None:
        return re.compile(".")

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        self.heard[tag] = values


@pytest.mark.usefixtures("able")
def test_histograms_are_named_and_typed_as_in_float32(settings, noise, loop_steps) -> None:
    heard = []
    for overrides in ([], [BFLOAT16]):
        trainer, curious = trained(settings(*overrides), noise(64), 0)[1], Curious()
        events = Events({"curious": curious})
        assert loop_steps(trainer, [Monitor(trainer, events)], events, [noise(64).batch(0)])[0].finite
        heard.append(curious.heard)
    assert heard[0].keys() == heard[1].keys()
    feature = "activations/stage1_1_conv2d"
    assert heard[1][feature] == pytest.approx(heard[0][feature], abs=0.05)


def test_nothing_of_it_reaches_child_processes(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """AMX is allowed to a process, not to those it starts: told to use it, oneDNN would end them."""
    monkeypatch.delenv(precision.ISA, raising=False)
    code = (
        "import os; from ssd.config import compose; from ssd.config.parts import trainer_config\n"
        "from ssd.utils.errors import UserError\n"
        "from ssd.training import precision\n"
        f"try: precision.prepare(trainer_config(compose(['{BFLOAT16}'])))\n"
        "except UserError: pass\n"
        "print(precision.ISA in os.environ)"
    )
    root = Path(precision.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("overrides", "flags", "part"),
    [
        ([BFLOAT16], "fpu avx2", "this processor has no avx512_bf16 or amx_bf16 (it has avx2); use float32"),
        ([BFLOAT16], "avx2 avx512f", "(it has avx512f)"),
        ([BFLOAT16], "", "(it has neither avx512f nor avx2)"),
        ([BFLOAT16, "device=gpu"], "avx512_bf16", "device=gpu has no kernels for it, only device=cpu; try float16"),
        (
            ["training.precision=float16"],
            "avx512_bf16",
            "device=cpu has no kernels for it, only device=gpu; try bfloat",
        ),
        (["training.precision=float16", "device=gpu", "compat=mxnet_ssd"], "", "gradients are too small for 16 bits"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    settings, monkeypatch, overrides: list[str], flags: str, part: str
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: set(flags.split()))
    with pytest.raises(UserError) as caught:
        precision.prepare(trainer_config(settings(*overrides)))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("held", "refused"), [("AVX2", True), ("avx512_core", True), ("AVX512_CORE_BF16", False), ("ALL", False)]
)
def test_onednn_held_to_fewer_instructions(settings, monkeypatch, held: str, refused: bool) -> None:
    monkeypatch.setenv(precision.ISA, held)
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx512_bf16"})
    with pytest.raises(UserError, match=f"DNNL_MAX_CPU_ISA={held}.*use float32") if refused else nullcontext():
        precision.prepare(trainer_config(settings(BFLOAT16)))


def test_an_mxnet_without_onednn(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: False)
    with pytest.raises(UserError, match="built without oneDNN"):
        precision.prepare(trainer_config(settings(BFLOAT16)))


def test_a_system_that_does_not_allow_amx(settings, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.delenv(precision.ISA, raising=False)
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx512_bf16", "amx_bf16"})
    monkeypatch.setattr(precision.platform, "system", lambda: "Darwin")
    precision.prepare(trainer_config(settings(BFLOAT16)))
    assert "without AMX" in caplog.text


def test_flags_of_a_processor(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert precision.cpu_flags(file) == {"fpu", "avx2", "amx_bf16"}
    assert precision.cpu_flags(tmp_path / "absent") == set()
