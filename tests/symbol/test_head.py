import pytest

from ssd.config.parts import network_config
from ssd.symbol.head import AUTO_STEP, head_layers, square_in_pixels
from ssd.utils.errors import UserError


def test_layers_are_read_field_by_field(configure):
    first, *_, last = head_layers(network_config(configure("vgg16_reduced", 300)))
    assert (first.source, first.scale, first.anchors_per_cell) == ("relu4_3", 20, 4)
    assert first.sizes == pytest.approx((0.1, 0.02**0.5))
    assert isinstance(first.scale, int)
    assert (last.source, last.filters, last.stride, last.pad, last.kernel, last.scale) == ("", 256, 1, 0, 3, None)


@pytest.mark.parametrize(
    ("shape", "step"),
    [("300", 8 / 300), ("512", 8 / 512), ("320", AUTO_STEP), ("608", AUTO_STEP), ("[300,512]", AUTO_STEP)],
)
def test_steps_hold_for_the_size_they_were_measured_at(configure, shape, step):
    assert head_layers(network_config(configure("vgg16_reduced", shape)))[0].step == step


def test_number_of_anchors_per_cell(configure):
    assert [layer.anchors_per_cell for layer in head_layers(network_config(configure("vgg16_reduced", 300)))] == [
        4,
        6,
        6,
        6,
        4,
        4,
    ]
    assert [layer.anchors_per_cell for layer in head_layers(network_config(configure("small", 128)))] == [5, 4, 4]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sizes", [[0.1, 0.2]], "head.sizes has 1 entries, head.from_layers 3"),
        ("from_layers", ["", "stage3_2_relu", ""], "must be a layer of the backbone"),
        ("steps", {"at": 128, "pixels": [8, 16]}, "head.steps.pixels has 2 entries, head.from_layers 3"),
    ],
)
def test_lists_that_do_not_fit(configure, field, value, message):
    cfg = configure("small", 128)
    cfg.head[field] = value
    with pytest.raises(UserError, match=message):
        head_layers(network_config(cfg))


def test_square_images_keep_their_sizes(configure):
    layer = head_layers(network_config(configure("vgg16_reduced", 300)))[4]
    assert square_in_pixels(layer, (3, 3), (300, 300)) is layer
    assert square_in_pixels(layer, (3, 6), (128, 256)) is layer
    tall = square_in_pixels(layer, (4, 1), (512, 300))  # the map is 4 times as high as wide, the image 1.7 times
    assert tall.sizes[0] / layer.sizes[0] == pytest.approx((512 / 300 / 4) ** 0.5)
    assert tall.ratios[1] / layer.ratios[1] == pytest.approx(512 / 300 / 4)
