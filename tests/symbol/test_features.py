import pytest

from ssd.config.compose import compose
from ssd.config.parts import network_config
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.symbol.features import FeatureMap, build_features, feature_maps
from ssd.utils.errors import UserError


def test_shapes_and_anchors_of_the_maps(configure):
    assert feature_maps(configure("small", "[128,256]")) == [
        FeatureMap("stage3_2_relu", 64, 16, 32, 16 * 32 * 5),
        FeatureMap("stage4_2_relu", 128, 8, 16, 8 * 16 * 4),
        FeatureMap("multi_feat_2_conv_3x3_relu", 128, 4, 8, 4 * 8 * 4),
    ]


def test_extra_layer_narrows_first_but_not_below_the_minimum(configure):
    cfg = configure("small", 128)
    cfg.head.num_filters = [-1, -1, 512]
    shapes = dict(zip(*_argument_shapes(build_features(network_config(cfg))[-1].symbol), strict=True))
    assert shapes["multi_feat_2_conv_1x1_conv_weight"] == (256, 128, 1, 1)
    assert shapes["multi_feat_2_conv_3x3_conv_weight"] == (512, 256, 3, 3)
    cfg.head.num_filters = [-1, -1, 64]
    shapes = dict(zip(*_argument_shapes(build_features(network_config(cfg))[-1].symbol), strict=True))
    assert shapes["multi_feat_2_conv_1x1_conv_weight"] == (128, 128, 1, 1)


def test_extra_layer_is_named_by_its_kernel(configure):
    assert feature_maps(configure("vgg16_reduced", 512))[-1].name == "multi_feat_6_conv_4x4_relu"
    assert feature_maps(configure("vgg16_reduced", 512, "mxnet_ssd"))[-1].name == "multi_feat_6_conv_3x3_relu"


def test_resnet_taps(configure):
    assert [layer.name for layer in feature_maps(configure("resnet50", 300))][:2] == ["stage4_unit1_relu1", "relu1"]
    raw = feature_maps(configure("resnet50", 300, "mxnet_ssd"))
    assert [(layer.name, layer.channels) for layer in raw][:2] == [("_plus12", 1024), ("_plus15", 2048)]
    raw = feature_maps(configure("resnet101", 512, "mxnet_ssd"))
    assert [layer.name for layer in raw][:2] == ["_plus29", "_plus32"]


def test_unknown_layer_suggests_a_known_one(configure):
    cfg = configure("small", 128)
    cfg.head.from_layers = ["stage3_2_relu", "stage4_relu", ""]
    with pytest.raises(UserError, match="backbone small has no layer 'stage4_relu'; did you mean 'stage4_"):
        build_features(network_config(cfg))
    cfg.head.from_layers = ["stage3_2_relu", "zzz", ""]
    with pytest.raises(UserError, match="its last one is stage4_2_relu"):
        build_features(network_config(cfg))


def _argument_shapes(symbol):
    return symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 128, 128))[0]


@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_025", "densenet121"])
def test_normalized_head(backbone: str, compat: str | None) -> None:
    """Extra layers normalize, and the backbone's maps come after normalization and ReLU, also with compat."""
    cfg = compose([f"backbone={backbone}", "data_shape=300", "head=ssd_bn", f"compat={compat or 'null'}"])
    graph = build_train(cfg, 2)
    names = {*graph.list_arguments(), *graph.list_auxiliary_states()}
    extras = [number for number, source in enumerate(cfg.head.from_layers) if not source]
    for number in extras:
        for part in ("1x1", "3x3"):
            prefix = f"multi_feat_{number}_conv_{part}"
            assert {f"{prefix}_bn_gamma", f"{prefix}_bn_moving_var"} <= names
            assert f"{prefix}_conv_bias" not in names
    assert all("relu" in source for source in cfg.head.from_layers if source)


def test_weights_of_normalized_extra_layers_start_for_relus() -> None:
    module = mx.mod.Module(build_train(compose(["head=ssd_bn"]), 2), label_names=("label",))
    module.bind([("data", (1, 3, 128, 128))], [("label", (1, 2, 6))])
    module.init_params(mx.init.Xavier())
    weights = module.get_params()[0]["multi_feat_2_conv_3x3_conv_weight"].asnumpy()
    assert weights.std() == pytest.approx((2 / (weights.shape[0] * 9)) ** 0.5, rel=0.05)
