"""Importing an ImageNet backbone: an .npz of PyTorch's names, made up here."""

import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.config.paths import CONF
from ssd.importers.npz import load_npz
from ssd.mxnet_compat import mx
from ssd.symbol.backbones import mobilenet
from ssd.utils.errors import UserError

NAMES = OmegaConf.load(CONF / "weight_map" / "mobilenet_torch.yaml")
UNITS = [6, 6, 2]  # of the three stages; the first of all is a plain convolution
EPSILON = 1e-5


def backbone() -> mx.sym.Symbol:
    with mx.name.NameManager():
        return mobilenet.build(mx.sym.Variable("data"), multiplier=0.25, fix_gamma=False)


def state_dict() -> dict[str, np.ndarray]:
    """What PyTorch would write of a MobileNet x0.25, of random numbers."""
    rng = np.random.default_rng(0)
    widths = [8, *(int(filters * 0.25) for filters, _ in mobilenet.LAYERS)]
    arrays: dict[str, np.ndarray] = {}
    number = 0

    def layer(convolution: str, normalization: str, shape: tuple[int, ...]) -> None:
        arrays[f"{convolution}.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for name in ("weight", "bias", "running_mean"):
            arrays[f"{normalization}.{name}"] = rng.normal(0.5, 0.2, shape[0]).astype(np.float32)
        arrays[f"{normalization}.running_var"] = rng.uniform(1e-4, 1, shape[0]).astype(np.float32)
        arrays[f"{normalization}.num_batches_tracked"] = np.array(7)

    for stage, units in enumerate(UNITS, start=1):
        for unit in range(units):
            name = f"stage{stage}.{unit}"
            if number == 0:
                layer(f"{name}.0", f"{name}.1", (8, 3, 3, 3))
            else:
                layer(f"{name}.0", f"{name}.1", (widths[number - 1], 1, 3, 3))
                layer(f"{name}.3", f"{name}.4", (widths[number], widths[number - 1], 1, 1))
            number += 1
    return arrays | {"fc.weight": np.zeros((10, 256), np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "weights.npz", **state_dict())
    return tmp_path / "weights.npz"


def test_every_parameter_of_the_backbone_is_there(file: Path) -> None:
    symbol = backbone()
    args, aux = load_npz(file, NAMES, symbol)
    assert args.keys() == set(symbol.list_arguments()) - {"data"}
    assert aux.keys() == set(symbol.list_auxiliary_states())
    shapes, _, _ = symbol.infer_shape(data=(1, 3, 64, 64))
    for name, shape in zip(symbol.list_arguments(), shapes, strict=True):
        assert name == "data" or args[name].shape == shape
    given = state_dict()
    np.testing.assert_array_equal(args["conv_8_conv2d_weight"].asnumpy(), given["stage2.1.3.weight"])
    np.testing.assert_array_equal(aux["conv_14_dw_batchnorm_moving_var"].asnumpy(), given["stage3.1.1.running_var"])


def test_the_network_computes_what_theirs_would(file: Path) -> None:
    """Its first layers in numpy, with their epsilon, which is a hundredth of ours."""
    symbol = backbone()
    args, aux = load_npz(file, NAMES, symbol)
    image = np.random.default_rng(1).normal(0, 1, (1, 3, 4, 4)).astype(np.float32)
    outputs = symbol.get_internals()["conv_1_relu_output"]
    executor = outputs.simple_bind(mx.cpu(), data=image.shape, grad_req="null")
    executor.copy_params_from(args, aux, allow_extra_params=True)
    found = executor.forward(data=mx.nd.array(image))[0].asnumpy()[0]
    given = state_dict()
    padded = np.pad(image[0], ((0, 0), (1, 1), (1, 1)))
    wanted = np.zeros((8, 2, 2))
    for y, x in np.ndindex(2, 2):
        window = padded[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
        wanted[:, y, x] = (given["stage1.0.0.weight"] * window).sum(axis=(1, 2, 3))
    scale = given["stage1.0.1.weight"] / np.sqrt(given["stage1.0.1.running_var"] + EPSILON)
    wanted = (wanted - given["stage1.0.1.running_mean"][:, None, None]) * scale[:, None, None]
    wanted = np.maximum(wanted + given["stage1.0.1.bias"][:, None, None], 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_training_starts_from_it(file: Path) -> None:
    from ssd.training.trainer import Trainer

    class Data:
        provide_data = [mx.io.DataDesc("data", (2, 3, 128, 128))]
        provide_label = [mx.io.DataDesc("label", (2, 2, 6))]

    words = ["backbone=mobilenet_025", "init.mode=pretrained", f"init.weights={file}", "weight_map=mobilenet_torch"]
    trainer = Trainer(trainer_config(compose(words)), ["a"], Data(), 10)
    given = state_dict()
    np.testing.assert_array_equal(trainer.params()[0]["conv_1_conv2d_weight"].asnumpy(), given["stage1.0.0.weight"])


def damage(kind: str, file: Path) -> None:
    if kind == "cut short":
        file.write_bytes(file.read_bytes()[:5000])
    elif kind == "no archive":
        file.write_bytes(b"hello")
    elif kind == "objects":
        np.savez(file, **(state_dict() | {"stage1.0.0.weight": np.array([{}], dtype=object)}))
    elif kind == "other names":
        np.savez(file, **{f"module.{name}": array for name, array in state_dict().items()})
    elif kind == "missing":
        file.unlink()


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("cut short", "cannot be read"),
        ("no archive", "cannot be read"),
        ("objects", "cannot be read"),
        ("other names", "has no array 'stage1.0.0.weight'"),
        ("missing", "does not exist"),
    ],
)
def test_bad_files_are_told_in_one_line(kind: str, part: str, file: Path) -> None:
    damage(kind, file)
    with pytest.raises(UserError, match=re.escape(part)) as caught:
        load_npz(file, NAMES, backbone())
    assert "\n" not in str(caught.value)


def test_files_that_would_fill_the_memory_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.importers.npz.MOST_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to"):
        load_npz(file, NAMES, backbone())


@pytest.mark.parametrize("names", [{}, {"layers": [], "parts": [], "epsilon": 1}, {"layers": {"a": ["b"]}}])
def test_tables_that_are_none(file: Path, names: dict) -> None:
    with pytest.raises(UserError, match="init.weight_map"):
        load_npz(file, names, backbone())


def test_the_real_one(shared: Path) -> None:
    """The table names every array of the published file but its classifier and counters."""
    path = shared / "data/mobilenet025_imagenet/mobilenetV1X0.25_imagenet.npz"
    args, aux = load_npz(path, NAMES, backbone())
    with np.load(path) as arrays:
        rest = [name for name in arrays if not name.startswith("fc.") and not name.endswith("num_batches_tracked")]
    assert len(args) + len(aux) == len(rest)


def test_arrays_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    name = "stage1.0.0.weight"
    honest = state_dict()

    def message(content: bytes, compression: int = zipfile.ZIP_STORED) -> str:
        np.savez(tmp_path / "other.npz", **{key: array for key, array in honest.items() if key != name})
        with zipfile.ZipFile(tmp_path / "other.npz", "a", compression) as archive:
            archive.writestr(f"{name}.npy", content)
        with pytest.raises(UserError) as caught:
            load_npz(tmp_path / "other.npz", NAMES, backbone())
        return str(caught.value)

    def npy(shape: tuple[int, ...], dtype: str, content: bytes = b"") -> bytes:
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": dtype})
        return out.getvalue() + content

    assert "claims (1000000000000,) numbers" in message(npy((10**12,), "<f4"))
    assert "claims (-1, -4) numbers" in message(npy((-1, -4), "<f4", b"x" * 16))
    assert "instead of numbers" in message(npy((1,), "<U4", b"x" * 16))
    assert "instead of numbers" in message(npy((1,), "|O", b"x" * 8))
    assert "unpacks to 17 MB" in message(npy((1 << 24,), "|u1", bytes(1 << 24)), zipfile.ZIP_DEFLATED)
    assert "cannot be read as arrays" in message(b"\x93NUMPY\x07\x00" + b"x" * 100)
    assert "cannot be read as arrays" in message(npy((2,), "<f4")[:40])


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(UserError, match="is a pipe"):
        load_npz(tmp_path / "a.npz", NAMES, backbone())
