"""Whether this machine can compute in the 16 bits that training.precision asks for, and what it needs for it."""

import ctypes
import logging
import os
import platform
from pathlib import Path

from ssd.config.parts import TrainerConfig
from ssd.graph_passes.mixed_precision import FULL
from ssd.mxnet_compat import mx
from ssd.symbol.losses import divides_itself
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

DEVICES = {"bfloat16": "cpu", "float16": "gpu"}  # of MXNet 1.9.1 with kernels for them
INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
ISA = "DNNL_MAX_CPU_ISA"  # read by oneDNN when it first computes something
WITH_KERNELS = ("", "ALL", "DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_AMX")  # its values that leave those of bfloat16
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # Linux on x86-64


def prepare(config: TrainerConfig) -> None:
    """Call before the first network is bound. Errors: UserError saying what is missing."""
    precision, device, network = config.precision, config.device.name, config.network
    if precision == FULL:
        return
    asked = f"training.precision={precision}"
    if DEVICES[precision] != device:
        other = next((name for name, where in DEVICES.items() if where == device), FULL)
        raise UserError(
            f"{asked}: device={device} has no kernels for it, only device={DEVICES[precision]}; try {other}"
        )
    if precision == "float16":
        if divides_itself(network.compat, network.loss.classification):
            raise UserError(
                f"{asked}: with compat={network.compat} gradients are too small for 16 bits before they are sums"
            )
        return
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        raise UserError(f"{asked}: this MXNet is built without oneDNN (MKLDNN), which has the kernels; use {FULL}")
    found = cpu_flags()
    if not found.intersection(INSTRUCTIONS):
        best = next((flag for flag in ("avx512f", "avx2") if flag in found), "neither avx512f nor avx2")
        raise UserError(f"{asked}: this processor has no {' or '.join(INSTRUCTIONS)} (it has {best}); use {FULL}")
    if (held := os.environ.get(ISA, "")).upper() not in WITH_KERNELS:
        raise UserError(f"{asked}: {ISA}={held} in the environment holds oneDNN to fewer instructions; use {FULL}")
    if "amx_bf16" in found and not _allow_amx():
        log.info("%s without AMX: the system does not allow it", asked)


def cpu_flags(file: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Instruction sets of this machine, empty where nobody says."""
    if not file.is_file():
        return set()
    lines = file.read_text(errors="replace").splitlines()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _allow_amx() -> bool:
    """Whether AMX may be used. oneDNN 2.4 does not use it unless it is configured to, and does not ask Linux for the
    registers, without which the first instruction ends the process."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    if ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) != 0:
        return False
    if ISA not in os.environ:
        os.environ[ISA] = "AVX512_CORE_AMX"
        one = mx.nd.ones((1, 1, 1, 1))
        mx.nd.Convolution(one, one, no_bias=True, kernel=(1, 1), num_filter=1).wait_to_read()
        del os.environ[ISA]  # which child processes would inherit, but not the permission
    return True
