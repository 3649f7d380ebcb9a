"""What OpenCV cannot vouch for: formulas by hand, batches, messages, and where folded layers go."""

from pathlib import Path

import numpy as np
import pytest
from caffe_files import Net, mobilenet_ssd

from ssd.importers.caffe.convert import SUPPORTED, Converted, Options, convert, load
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

RGB = Options("RGB", None, True, None)


def stem() -> Net:
    net = Net((6, 7))
    net.conv("stem", "data", (3, 6), 1)
    return net


def run(net: Net, folder: Path, data: np.ndarray, options: Options = RGB) -> dict[str, np.ndarray]:
    """All compared outputs."""
    converted = convert(load(*net.save(folder)), options)
    values = {name: value.symbol for name, value in converted.outputs.items()}
    graph = mx.sym.Group(list(values.values()))
    args = {name: converted.arg_params[name] for name in graph.list_arguments() if name != "data"}
    executor = graph.bind(mx.cpu(), args=args | {"data": mx.nd.array(data)}, aux_states=converted.aux_params)
    return dict(zip(values, (output.asnumpy() for output in executor.forward()), strict=True))


def noise(batch: int = 2) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((batch, 3, 6, 7)).astype(np.float32)


def test_local_response_with_k(tmp_path: Path) -> None:
    """OpenCV leaves k out."""
    net = stem()
    net.layer("x", "LRN", "stem", "x", "lrn_param { local_size: 3 alpha: 0.3 beta: 0.75 k: 2 }")
    net.layer("same", "Power", "stem", "same")
    found = run(net, tmp_path, noise())
    squares = np.pad(found["same"] ** 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    sums = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    np.testing.assert_allclose(found["x"], found["same"] / (2 + 0.3 / 3 * sums) ** 0.75, atol=1e-5)


def test_normalization_over_a_whole_image_with_factors(tmp_path: Path) -> None:
    net = stem()
    factors = net.normal(6)
    net.layer("x", "Normalize", "stem", "x", "norm_param { channel_shared: false }", (factors,))
    net.layer("same", "Power", "stem", "same")
    found = run(net, tmp_path, noise())
    length = np.sqrt((found["same"] ** 2).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(found["x"], found["same"] / length * factors.reshape(1, 6, 1, 1), atol=1e-5)


def test_scale_by_a_second_array(tmp_path: Path) -> None:
    """As in squeeze-and-excitation: a factor per image and channel."""
    net = stem()
    net.layer("pool", "Pooling", "stem", "pool", "pooling_param { pool: AVE global_pooling: true }")
    net.layer("flat", "Flatten", "pool", "flat")
    net.layer("x", "Scale", "stem flat", "x", "scale_param { axis: 0 }")
    net.layer("same", "Power", "stem", "same")
    found = run(net, tmp_path, noise())
    np.testing.assert_allclose(found["x"], found["same"] * found["same"].mean(axis=(2, 3), keepdims=True), atol=1e-5)


def test_bias_and_scale_without_weights_of_a_channel(tmp_path: Path) -> None:
    net = stem()
    net.layer("a", "Scale", "stem", "a", "scale_param { num_axes: 0 bias_term: true }", (np.float32(3), np.float32(1)))
    net.layer("b", "Bias", "a", "b", "bias_param { axis: 2 num_axes: -1 }", (offset := net.normal(6, 7),))
    net.layer("same", "Power", "stem", "same")
    found = run(net, tmp_path, noise())
    np.testing.assert_allclose(found["b"], found["same"] * 3 + 1 + offset, atol=1e-5)


def test_transposed_dense_layer(tmp_path: Path) -> None:
    net = stem()
    weight = net.normal(42 * 6, 5)
    options = "inner_product_param { num_output: 5 transpose: true bias_term: false }"
    net.layer("x", "InnerProduct", "stem", "x", options, (weight,))
    net.layer("flat", "Flatten", "stem", "flat")
    found = run(net, tmp_path, noise())
    np.testing.assert_allclose(found["x"], found["flat"] @ weight, atol=1e-4)


def test_floor_rounding_of_newer_files(tmp_path: Path) -> None:
    net = stem()
    net.layer("x", "Pooling", "stem", "x", "pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR }")
    assert run(net, tmp_path, noise())["x"].shape == (2, 6, 3, 3)


def test_images_of_a_batch_do_not_mix(tmp_path: Path) -> None:
    net = mobilenet_ssd(width=8, side=160)
    data = np.random.default_rng(0).standard_normal((3, 3, 160, 160)).astype(np.float32)
    converted = convert(load(*net.save(tmp_path)), RGB)

    def outputs(batch: np.ndarray) -> list[np.ndarray]:
        names = converted.graph.list_arguments()
        args = {name: converted.arg_params[name] for name in names if name != "data"}
        executor = converted.graph.bind(mx.cpu(), args=args | {"data": mx.nd.array(batch)})
        return [output.asnumpy() for output in executor.forward()]

    together = outputs(data)
    for number in range(3):
        for ours, theirs in zip(outputs(data[number : number + 1]), together, strict=True):
            np.testing.assert_allclose(ours[0], theirs[number], atol=1e-5)


@pytest.mark.parametrize(
    "head",
    [
        'input: "data" input_dim: 10 input_dim: 3 input_dim: 6 input_dim: 7',
        'input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 7 }',
        'layer { name: "in" type: "Input" top: "data" input_param { shape: { dim: 1 dim: 3 dim: 6 dim: 7 } } }',
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 6, 7] } } } # comment {',
    ],
)
def test_ways_to_write_the_input(head: str, tmp_path: Path) -> None:
    net = stem()
    net.text = f"{head}\n" + net.text.split("input_dim: 7\n")[1]
    assert run(net, tmp_path, noise())["stem"].shape == (2, 6, 6, 7)


def test_several_inputs_are_too_many(tmp_path: Path) -> None:
    net = stem()
    net.text += 'input: "im_info" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1\n'
    with pytest.raises(UserError, match="found 2"):
        load(*net.save(tmp_path))


def test_all_that_is_not_supported_in_one_message(tmp_path: Path) -> None:
    net = stem()
    net.layer("roi", "ROIPooling", "stem", "roi", "roi_pooling_param { pooled_w: 6 }")
    for number in range(5):
        net.layer(f"py{number}", "Python", "roi", f"y{number}")
    net.layer("loss", "SoftmaxWithLoss", "roi", "loss")
    with pytest.raises(UserError) as caught:
        load(*net.save(tmp_path))
    assert "ROIPooling (roi); Python (py0, py1, py2 and 2 more); SoftmaxWithLoss (loss)" in str(caught.value)
    assert "use the deploy one" in str(caught.value)
    assert "Convolution" in SUPPORTED


def test_all_layers_that_cannot_be_converted_in_one_message(tmp_path: Path) -> None:
    net = stem()
    net.layer("no_weights", "Convolution", "stem", "a", "convolution_param { num_output: 4 kernel_size: 1 }")
    net.layer("after", "ReLU", "a", "b")
    net.layer("p", "Pooling", "stem", "c", "pooling_param { pool: STOCHASTIC kernel_size: 2 }")
    net.layer("moved", "Permute", "stem", "d", "permute_param { order: 1 order: 0 }")
    with pytest.raises(UserError) as caught:
        convert(load(*net.save(tmp_path)), RGB)
    text = str(caught.value)
    assert "'no_weights' (Convolution): the caffemodel has no weight for it" in text
    assert "'p' (Pooling): stochastic pooling" in text
    assert "'moved' (Permute): it mixes the images of a batch" in text
    assert "after" not in text


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        (("x", "Eltwise", "stem small", "x"), "it joins arrays"),
        (("x", "Concat", "stem small", "x"), "along axis 1"),
        (("x", "Crop", "small stem", "x"), "offset 0"),
        (("x", "Slice", "stem", "a b c d"), "cut into 4 equal parts"),
        (("x", "Flatten", "stem", "x", "flatten_param { axis: 7 }"), "axis 7"),
        (("x", "Reshape", "stem", "x", "reshape_param { shape { dim: 0 dim: 5 dim: -1 dim: -1 } }"), "shape"),
        (("x", "Reshape", "stem", "x", "reshape_param { shape { dim: 0 dim: 5 } }"), "cannot become"),
        (("x", "ReLU", "stem small", "x"), "it reads 2 arrays"),
        (("x", "ReLU", "stem", "x y"), "it writes 2 arrays"),
        (("x", "BatchNorm", "stem", "x", "batch_norm_param { use_global_stats: false }"), "statistics of the batch"),
        (("x", "LRN", "stem", "x", "lrn_param { local_size: 4 }"), "even"),
        (("x", "Pooling", "stem", "x", "pooling_param { kernel_size: 2 pad: 2 }"), "not smaller than its kernel"),
        (("x", "Pooling", "stem", "x", "pooling_param { kernel_size: 20 }"), "larger than its input"),
    ],
)
def test_layers_that_make_no_sense(layer: tuple[str, ...], part: str, tmp_path: Path) -> None:
    net = stem()
    net.conv("small", "stem", (6, 6), 3)
    net.layer(*layer)
    with pytest.raises(UserError, match=part):
        convert(load(*net.save(tmp_path)), RGB)


def test_layers_of_training_are_left_out(tmp_path: Path) -> None:
    net = stem()
    net.layer("d", "Data", "", "label", "include { phase: TRAIN }")
    net.layer("acc", "Accuracy", "stem", "acc", "exclude { phase: TEST }")
    net.layer("x", "ReLU", "stem", "x", "include { phase: TEST }")
    net.layer("quiet", "Silence", "stem", "")
    assert list(convert(load(*net.save(tmp_path)), RGB).outputs) == ["x"]


def test_an_output_beside_the_detections_is_compared_too(tmp_path: Path) -> None:
    net = mobilenet_ssd(width=16, side=128)
    net.conv("extra", "conv0", (2, 4), 1)
    converted = convert(load(*net.save(tmp_path)), RGB)
    assert "extra" in converted.outputs
    assert "extra_weight" in converted.arg_params
    assert "extra_weight" not in converted.graph.list_arguments()


@pytest.mark.parametrize("fold", [True, False])
def test_the_table_says_where_layers_went(fold: bool, tmp_path: Path) -> None:
    converted: Converted = convert(
        load(*mobilenet_ssd(width=16, side=128).save(tmp_path)), Options("BGR", None, fold, None)
    )
    rows = {row.name: row for row in converted.rows}
    assert rows["conv1/dw/bn"].note == ("folded into conv1/dw" if fold else "")
    assert (rows["conv0"].shapes, rows["conv0"].numbers) == ("1x2x64x64", 54)
    assert rows["conv11_mbox_priorbox"].note == "constant"
    batch_norms = [name for name in converted.graph.list_auxiliary_states() if name.endswith("moving_mean")]
    assert len(batch_norms) == (0 if fold else 35)
