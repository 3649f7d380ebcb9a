"""Every translated operator answers what MXNet's does, for batches of any size."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from ssd.export.onnx.builder import OPSET, Builder
from ssd.export.onnx.export import _translate
from ssd.export.onnx.operators import OPERATORS
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

D = mx.sym.Variable("data")
S = mx.sym

CASES = {
    "convolution": S.Convolution(D, kernel=(3, 2), num_filter=5, stride=(2, 1), pad=(1, 0), name="n"),
    "convolution, no bias": S.Convolution(D, kernel=(3, 3), num_filter=4, no_bias=True, name="n"),
    "convolution, groups": S.Convolution(D, kernel=(3, 3), num_filter=8, num_group=4, dilate=(2, 2), name="n"),
    "deconvolution": S.Deconvolution(D, kernel=(4, 4), num_filter=6, stride=(2, 2), pad=(1, 1), num_group=2, name="n"),
    "deconvolution, adj": S.Deconvolution(D, kernel=(3, 3), num_filter=2, stride=(2, 2), adj=(1, 1), name="n"),
    "dense": S.FullyConnected(D, num_hidden=7, name="n"),
    "dense, no bias": S.FullyConnected(D, num_hidden=7, no_bias=True, name="n"),
    "batch norm": S.BatchNorm(D, fix_gamma=False, eps=2e-5, name="n"),
    "batch norm, fixed": S.BatchNorm(D, name="n"),
    "relu": S.Activation(D, act_type="relu", name="n"),
    "sigmoid": S.Activation(D, act_type="sigmoid", name="n"),
    "tanh": S.Activation(D, act_type="tanh", name="n"),
    "softrelu": S.Activation(D, act_type="softrelu", name="n"),
    "softsign": S.Activation(D, act_type="softsign", name="n"),
    "leaky": S.LeakyReLU(D, act_type="leaky", slope=0.1, name="n"),
    "elu": S.LeakyReLU(D, act_type="elu", slope=0.3, name="n"),
    "prelu": S.LeakyReLU(D, act_type="prelu", name="n"),
    "lrn": S.LRN(D, nsize=3, alpha=0.5, beta=0.75, knorm=2, name="n"),
    "l2 channel": S.L2Normalization(D, mode="channel", name="n"),
    "l2 instance": S.L2Normalization(D, mode="instance", name="n"),
    "l2 spatial": S.L2Normalization(D, mode="spatial", eps=0.1, name="n"),
    "max valid": S.Pooling(D, kernel=(2, 2), stride=(2, 2), name="n"),
    "max full": S.Pooling(D, kernel=(2, 2), stride=(2, 2), pooling_convention="full", name="n"),
    "max full, padded": S.Pooling(D, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pooling_convention="full", name="n"),
    "avg valid": S.Pooling(D, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type="avg", name="n"),
    "avg full": S.Pooling(D, kernel=(3, 2), stride=(2, 2), pool_type="avg", pooling_convention="full", name="n"),
    "avg full, padded": S.Pooling(
        D, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", pooling_convention="full", name="n"
    ),
    "avg of the image": S.Pooling(
        D, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False, name="n"
    ),
    "global": S.Pooling(D, kernel=(1, 1), global_pool=True, pool_type="avg", name="n"),
    "global max": S.Pooling(D, kernel=(1, 1), global_pool=True, name="n"),
    "softmax": S.softmax(D, axis=1, name="n"),
    "softmax activation": S.SoftmaxActivation(D, mode="channel", name="n"),
    "softmax output": S.SoftmaxOutput(D, multi_output=True, name="n"),
    "upsampling": S.UpSampling(D, scale=2, sample_type="nearest", name="n"),
    "dropout": S.Dropout(D, p=0.5, name="n"),
    "identity": S.identity(S.BlockGrad(D), name="n"),
    "cast": S.exp(S.Cast(D, dtype="float32"), name="n"),
    "concat": S.Concat(D, D * 2, dim=1, name="n"),
    "crop, center": S.Crop(D, S.Pooling(D, kernel=(3, 3), name="p"), center_crop=True, name="n"),
    "crop, offset": S.Crop(D, h_w=(3, 4), offset=(1, 2), name="n"),
    "flatten": S.Flatten(D, name="n"),
    "reshape": S.Reshape(D, shape=(0, -1, 2), name="n"),
    "reshape, codes": S.Reshape(D, shape=(0, -3, -2), name="n"),
    "split": S.Concat(*S.SliceChannel(D, num_outputs=2, axis=1, name="s"), dim=2, name="n"),
    "split, squeezed": S.Concat(*S.SliceChannel(D, num_outputs=4, axis=1, squeeze_axis=True), dim=1, name="n"),
    "sum of many": S.add_n(D, D, D, name="n"),
    "clip": S.clip(D, a_min=-0.5, a_max=0.25, name="n"),
    "expand and squeeze": S.squeeze(S.expand_dims(D, axis=2), axis=2, name="n"),
    "slice": S.slice(D, begin=(None, 1), end=(None, 3), name="n"),
    "slice axis": S.slice_axis(D, axis=-1, begin=-3, end=None, name="n"),
    "square": S.square(D, name="n"),
    "transpose": S.transpose(D, axes=(0, 2, 3, 1), name="n"),
    "max over": S.max(D, axis=1, keepdims=True, name="n"),
    "mean over": S.mean(D, axis=(2, 3), name="n"),
    "sum over": S.sum(D, axis=2, name="n"),
    "min over": S.min(D, axis=3, name="n"),
    "numbers": (1 - (D * 2 + 1) / 3 - 4) + 2 / (S.exp(D) ** 2),
    "two": (D + S.exp(D)) * (D - S.exp(D)) / (S.exp(D) + 1),
    "spread": S.broadcast_add(
        S.broadcast_mul(D, S.mean(D, axis=1, keepdims=True)), S.Variable("bias", shape=(1, 4, 1, 1))
    ),
    "spread too": S.broadcast_div(
        S.broadcast_sub(D, S.mean(D, axis=1, keepdims=True)), S.Variable("x_gamma", shape=(1,))
    ),
    "larger": S.broadcast_maximum(D, S.broadcast_minimum(S.abs(D), S.sqrt(S.abs(D)))),
    "signs": S.log(S.sigmoid(S.negative(S.relu(S.tanh(D))))),
}


def parameters(symbol):
    shapes, _, aux_shapes = symbol.infer_shape(data=SHAPE)
    rng = np.random.default_rng(0)
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    values = {}
    for name, shape in zip(names, [*shapes, *aux_shapes], strict=True):
        positive = name.endswith(("gamma", "var"))
        values[name] = (rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 1, shape)).astype(np.float32)
    del values["data"]
    return values


SHAPE = (1, 4, 8, 7)


def translated(symbol):
    values = parameters(symbol)
    builder = Builder()
    outputs = _translate(builder, symbol, values, {"data": "images"}, SHAPE[1:])
    images = onnx.helper.make_tensor_value_info("images", 1, ("batch", *SHAPE[1:]))
    infos = [onnx.helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = onnx.helper.make_graph(builder.nodes, "test", [images], infos, builder.constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return model, values


@pytest.mark.parametrize("name", CASES)
def test_operator(name):
    symbol = CASES[name]
    model, values = translated(symbol)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        data = np.random.default_rng(batch).normal(0, 1, (batch, *SHAPE[1:])).astype(np.float32)
        aux = {key: mx.nd.array(values[key]) for key in symbol.list_auxiliary_states()}
        args = {key: mx.nd.array(values[key]) for key in symbol.list_arguments() if key not in ("data", "n_label")}
        args["data"] = mx.nd.array(data)
        if "n_label" in symbol.list_arguments():
            args["n_label"] = mx.nd.zeros((batch, *SHAPE[2:]))
        expected = symbol.bind(mx.cpu(), args=args, aux_states=aux, grad_req="null").forward()[0].asnumpy()
        (answer,) = session.run(None, {"images": data})
        assert answer.shape == expected.shape
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_every_operator_is_tried():
    tried = set()
    for symbol in CASES.values():
        tried |= {node["op"] for node in json.loads(symbol.tojson())["nodes"]}
    assert set(OPERATORS) - tried == {
        "MakeLoss",
        "concat",
        "identity",
        "_maximum",
        "_minimum",
    }  # others' names, or trivial


def test_unknown_operators_are_named():
    symbol = S.ROIPooling(
        S.argsort(D, name="sorted"), S.Variable("rois"), pooled_size=(1, 1), spatial_scale=1, name="r"
    )
    with pytest.raises(UserError, match=r"cannot be exported to ONNX: ROIPooling \(of r\), argsort \(of sorted\)"):
        _translate(Builder(), symbol, {}, {"data": "images"}, SHAPE[1:])


@pytest.mark.parametrize(
    ("symbol", "part"),
    [
        (S.Pooling(D, kernel=(2, 2), pool_type="sum", name="n"), "Pooling n: pool_type=sum"),
        (S.Deconvolution(D, kernel=(2, 2), num_filter=2, target_shape=(9, 8), name="n"), "target_shape"),
        (S.LeakyReLU(D, act_type="gelu", name="n"), "act_type=gelu"),
        (S.BatchNorm(D, axis=2, name="n"), "axis=2"),
        (S.sum(D, name="n"), "all axes"),
        (S.slice(D, begin=(0,), end=(4,), step=(2,), name="n"), "step"),
        (S.Reshape(D, shape=(-3, -2), name="n"), "first axis"),
        (S.Cast(D, dtype="float16", name="n"), "dtype=float16"),
        (S.softmax(D, temperature=2.0, name="n"), "temperature"),
        (S.squeeze(S.expand_dims(D, axis=1), name="n"), "no axis"),
    ],
)
def test_options_that_have_no_form_are_told(symbol, part):
    with pytest.raises(UserError, match=part):
        translated(symbol)
