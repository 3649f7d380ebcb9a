from ssd.mxnet_compat import mx
from ssd.symbol.layers import biased_conv, conv_bn_relu, norm_relu


def test_bias_of_the_head_learns_twice_as_fast():
    conv = biased_conv(mx.sym.Variable("data"), "c", 4, 3, (2, 1))
    assert conv.infer_shape(data=(1, 2, 8, 8))[1] == [(1, 4, 4, 4)]
    bias = conv.attr_dict()["c_bias"]
    assert bias["__lr_mult__"] == "2.0"
    assert bias["__init__"] == '["constant", {"value": 0.0}]'


def test_names_of_conv_bn_relu():
    layer = conv_bn_relu(mx.sym.Variable("data"), "a", 6, (3, 3), (2, 2), (1, 1), groups=3, fix_gamma=False)
    assert layer.list_arguments() == ["data", "a_conv2d_weight", "a_batchnorm_gamma", "a_batchnorm_beta"]
    assert layer.name == "a_relu"
    assert layer.infer_shape(data=(1, 3, 9, 8))[1] == [(1, 6, 5, 4)]
    assert layer.attr_dict()["a_batchnorm"]["fix_gamma"] == "False"


def test_names_of_norm_relu():
    layer = norm_relu(mx.sym.Variable("data"), "unit_", 2)
    assert layer.name == "unit_relu2"
    assert layer.list_auxiliary_states() == ["unit_bn2_moving_mean", "unit_bn2_moving_var"]
