import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.config.parts import network_config
from ssd.ops.boxes import iou_matrix
from ssd.symbol import build_test, build_train
from ssd.symbol.anchors import AnchorGrid, anchor_grids, best_ious


@pytest.mark.parametrize(
    ("backbone", "shape", "compat"),
    [
        ("small", 128, None),
        ("small", "[128,256]", None),
        ("small", 512, None),
        ("vgg16_reduced", 300, None),  # steps in pixels
        ("vgg16_reduced", "[300,512]", None),  # a last map of other proportions than the image
        ("vgg16_reduced", "[300,512]", "mxnet_ssd"),
        ("vgg16_reduced", 512, "mxnet_ssd"),  # anchors outside of the image
        ("resnet50", 512, None),
        ("mobilenet_025", "[160,96]", None),
    ],
)
def test_equal_to_the_anchors_of_the_network(configure, anchors_of, backbone, shape, compat):
    cfg = configure(backbone, shape, compat)
    network = anchors_of(build_train(cfg, 3) if compat else build_test(cfg, 3), cfg)
    ours = np.concatenate([grid.boxes() for grid in anchor_grids(network_config(cfg))])
    np.testing.assert_allclose(ours, network, atol=1e-6)
    assert len(ours) == sum(grid.count for grid in anchor_grids(network_config(cfg)))


def test_by_hand():
    grid = AnchorGrid("two cells", 1, 2, (1, 0.5), np.array([[0.5, 0.5], [0.25, 1.0]]))
    assert grid.boxes().tolist() == [
        [0, 0.25, 0.5, 0.75],
        [0.125, 0, 0.375, 1],
        [0.5, 0.25, 1, 0.75],
        [0.625, 0, 0.875, 1],
    ]
    found = best_ious([grid], np.array([[0, 0.25, 0.5, 0.75], [0.5, 0, 1, 1], [0.6, 0.3, 0.6, 0.3]]))
    np.testing.assert_allclose(found, [[1], [0.5], [0]])


coordinate = st.floats(-0.2, 1.2)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(coordinate, coordinate, st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=8),
    st.sampled_from([((3, 5), None), ((1, 1), None), ((4, 4), (0.26, 0.26)), ((2, 2), (1, 1))]),
    st.lists(st.tuples(st.floats(0.02, 1.2), st.floats(0.02, 1.2)), min_size=1, max_size=3),
)
def test_the_nearest_cell_is_the_best(boxes, cells, shapes):
    (rows, columns), step = cells
    grid = AnchorGrid("any", rows, columns, step or (1 / rows, 1 / columns), np.array(shapes))
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes])
    np.testing.assert_allclose(
        best_ious([grid], corners)[:, 0], iou_matrix(corners, grid.boxes()).max(axis=1), atol=1e-9
    )


def test_no_boxes_and_no_grids():
    grid = AnchorGrid("one", 1, 1, (1, 1), np.ones((1, 2)))
    assert best_ious([grid], np.zeros((0, 4))).shape == (0, 1)
    assert best_ious([], np.zeros((3, 4))).shape == (3, 0)
