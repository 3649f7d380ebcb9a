"""Files from strangers: whatever they hold, the answer is a network or one line, soon and in little memory."""

import random
import re
import time
from pathlib import Path

import pytest
from caffe_files import STANDARD, Net, blob, finish, head

from ssd.importers.caffe import text
from ssd.importers.caffe.convert import Options, convert, load
from ssd.importers.caffe.wire import read_mean
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

OPTIONS = Options("BGR", None, True, None)
CASES = 250
WORDS = re.compile(r"\s+|[{}:]|\"[^\"]*\"|[^\s{}:\"]+")
STRANGE = [
    "0", "-1", "1", "2", "7", "100", "4294967295", "2147483647", "99999999999999999999", "1e38", "nan", "inf", "1e-45",
    "10000", "true", "MAX", '""', '"data"', "{", "}", ":", "[", "]", ",", "#", "<", "\x00", "é", "'",
]  # fmt: skip


def everything() -> Net:
    """A small network with most kinds of layers."""
    net = Net((32, 48))
    net.conv("a", "data", (3, 8), 3, "pad: 1 stride: 4")
    net.relu(net.batch_norm("a", 8))
    net.layer("p", "Pooling", "a", "p", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }")
    net.layer("norm", "Normalize", "a", "norm", "norm_param { across_spatial: false channel_shared: true }",
              (net.normal(1),))  # fmt: skip
    net.conv("b", "p", (8, 8), 3, "pad: 1 dilation: 2", group=4, bias=False)
    net.layer("s", "Slice", "b", "s1 s2", "slice_param { slice_point: 3 axis: 1 }")
    net.layer("c", "Concat", "s2 s1", "c", "concat_param { axis: 1 }")
    net.layer("lrn", "LRN", "c", "lrn", "lrn_param { local_size: 5 alpha: 0.1 beta: 0.7 }")
    net.layer("pw", "Power", "lrn", "pw", "power_param { power: 1 scale: 2 shift: 0.5 }")
    net.layer("e", "Eltwise", "pw c", "e", "eltwise_param { operation: SUM coeff: 1 coeff: 2 }")
    net.layer("d", "Deconvolution", "e", "d", "convolution_param { num_output: 8 kernel_size: 2 stride: 2 }",
              (net.normal(8, 8, 2, 2), net.normal(8)))  # fmt: skip
    net.layer("cr", "Crop", "d e", "cr", "crop_param { axis: 2 offset: 1 offset: 0 }")
    net.layer("fc", "InnerProduct", "cr", "fc", "inner_product_param { num_output: 5 axis: 1 }",
              (net.normal(5, 120), net.normal(5)))  # fmt: skip
    for source in ("norm", "e"):
        head(net, source, 8, (4, 3, 3), "min_size: 8 max_size: 16 aspect_ratio: 2 flip: true clip: false step: 8")
    finish(net, ["norm", "e"], 3, STANDARD)
    return net


def changed_text(words: list[str], rng: random.Random) -> str:
    words = list(words)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(words))
        how = rng.randrange(6)
        if how == 0:
            words[place] = rng.choice(STRANGE)
        elif how == 1:
            del words[place : place + rng.choice([1, 1, 9])]
        elif how == 2:
            words.insert(place, rng.choice(words))
        else:
            numbers = [k for k, word in enumerate(words) if re.fullmatch(r"[\d.]+", word)]
            words[rng.choice(numbers)] = rng.choice(STRANGE[:14])
    return "".join(words)


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 8])):
        place = rng.randrange(min(len(changed), rng.choice([100, len(data)])) or 1)
        how = rng.randrange(5)
        if how == 0 and changed:
            changed[place] = rng.randrange(256)
        elif how == 1 and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif how == 2:
            del changed[place : place + rng.choice([1, 4, 100])]
        elif how == 3:
            changed[place:place] = rng.randbytes(rng.choice([1, 8]))
        else:
            changed = changed[: place + 1]
    return bytes(changed)


def check_message(error: UserError) -> None:
    assert "\n" not in str(error)


def answered(files: tuple[Path, Path]) -> bool:
    """Whether it converts; if so MXNet agrees about all sizes. Any exception but a UserError in one line fails."""
    try:
        converted = convert(load(*files), OPTIONS)
    except UserError as error:
        check_message(error)
        return False
    values = [value for value in converted.outputs.values() if value.symbol is not None]
    _, shapes, _ = mx.sym.Group([value.symbol for value in values]).infer_shape(data=converted.input_shape)
    assert [tuple(shape) for shape in shapes] == [value.shape for value in values]
    return True


def test_changed_descriptions(tmp_path: Path) -> None:
    files = everything().save(tmp_path)
    words = WORDS.findall(files[0].read_text())
    good = 0
    for seed in range(CASES):
        files[0].write_text(changed_text(words, random.Random(seed)), encoding="utf-8")
        good += answered(files)
    assert 0 < good < CASES


def test_changed_weights(tmp_path: Path) -> None:
    files = everything().save(tmp_path)
    data = files[1].read_bytes()
    good = 0
    for seed in range(CASES):
        files[1].write_bytes(changed_bytes(data, random.Random(seed)))
        good += answered(files)
    assert 0 < good < CASES


def test_changed_means(tmp_path: Path) -> None:
    net = Net((8, 8))
    data, good = blob(net.normal(1, 3, 8, 8), "old"), 0
    for seed in range(CASES):
        (tmp_path / "mean.binaryproto").write_bytes(changed_bytes(data, random.Random(seed)))
        try:
            good += read_mean(tmp_path / "mean.binaryproto").size > 0
        except UserError as error:
            check_message(error)
    assert 0 < good < CASES


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("input_dim: 32", "input_dim: 2147483647", "too large"),
        ("input_dim: 32\ninput_dim: 48", "input_dim: 40000\ninput_dim: 40000", "too large"),
        ("input_dim: 32", "input_dim: 0", "its input is"),
        ("input_dim: 32", "input_dim: -5", "its input is"),
        ("pad: 1 stride: 4", "pad: 4000000000 stride: 1", "pad 4000000000: expected 0 to 10000"),
        ("pad: 1 stride: 4", "pad: 9000 stride: 1", "too large"),
        ("num_output: 8 kernel_size: 3", "num_output: 4294967295 kernel_size: 3", "num_output"),
        ("group: 4", "group: 0", "group 0"),
        ("kernel_size: 2 stride: 2", "kernel_size: 2 stride: 9999", "too large"),
        ("min_size: 8", "min_size: 1e30", "in pixels"),
        ("slice_point: 3", "slice_point: 9", "slice_point"),
        ("num_classes: 3", "num_classes: 4000000000", "num_classes"),
        ("aspect_ratio: 2", "aspect_ratio: 2 " * 1500, "aspect ratios"),
    ],
)
def test_sizes_that_would_not_fit(old: str, new: str, part: str, tmp_path: Path) -> None:
    files = everything().save(tmp_path)
    start = time.process_time()
    files[0].write_text(files[0].read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=part):
        convert(load(*files), OPTIONS)
    assert time.process_time() - start < 60


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("layer { " * 5000, "nested more than 32 deep"),
        ("x: [" * 5000, "nested more than 32 deep"),
        ("layer { name: '" + "{" * 100 + "' }", "layers that are not supported: no type"),
        ("layer { }\n" * 5001, "more than 5000 layers"),
        ("layer { type: 'Input' top: 'a' } layers { type: RELU }", "of the old form and of the new one"),
        ("name: 'x'", "holds no layers"),
        ("\x00\x01", "binary"),
        ("layer { type: 'ReLU' bottom: 'x' top: 'y' }", "found none"),
        ("input: 'data' input_dim: [1,3,8,8] layer { type: 'ReLU' bottom: 'x' top: 'y' }", "which no layer before"),
        ("input: 'data' input_dim: [1,1,8,8] layer { type: 'ReLU' bottom: 'data' top: 'y' }", "color images"),
        ("input: 'data' input_dim: [1,3,8,8] layer { type: 'ReLU' nonsense: 3 }", "no field named"),
    ],
)
def test_descriptions_that_are_none(content: str, part: str, tmp_path: Path) -> None:
    files = everything().save(tmp_path)
    files[0].write_text(content)
    with pytest.raises(UserError, match=part):
        load(*files)


def test_the_size_of_a_description_is_limited(tmp_path: Path) -> None:
    files = everything().save(tmp_path)
    files[0].write_text("#" * (text.MAX_BYTES + 1))
    with pytest.raises(UserError, match="too many for a network description"):
        load(*files)


def test_many_layers_that_write_over_one_array(tmp_path: Path) -> None:
    net = Net((8, 8))
    for number in range(4000):
        net.layer(f"r{number}", "ReLU", "data", "data")
    net.conv("x", "data", (3, 4), 3)
    start = time.process_time()
    assert answered(net.save(tmp_path))
    assert time.process_time() - start < 200
