import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.parts import InputSpec
from ssd.data.base import Size
from ssd.data.transforms.preprocess import preprocess
from ssd.data.transforms.resize import Rectangle, compute_resize, eval_resize, letterbox_region

sizes = st.builds(Size, st.integers(1, 3000), st.integers(1, 3000))
modes = st.sampled_from(["force", "fit"])
sides = st.integers(1, 600)
mean, std = st.just((123.4, 117.0, 104.0)), st.just((1.0, 1.0, 1.0))
specs = st.builds(InputSpec, sides, sides, mean, std, modes, st.booleans())


@st.composite
def corners_in(draw: st.DrawFn, size: Size) -> np.ndarray:
    rows = draw(st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
    shares = np.sort(np.reshape(rows, (-1, 2, 2)), axis=1).reshape(-1, 4)
    return shares * (size * 2)


@st.composite
def views(draw: st.DrawFn):
    """(window, image, region, flipped, reduce)"""
    left, top = draw(st.floats(-2, 0.9)), draw(st.floats(-2, 0.9))
    window = (left, top, left + draw(st.floats(0.05, 4)), top + draw(st.floats(0.05, 4)))
    x, y = draw(st.integers(0, 300)), draw(st.integers(0, 300))
    region = Rectangle(x, y, x + draw(st.integers(1, 300)), y + draw(st.integers(1, 300)))
    return window, draw(sizes), region, draw(st.booleans()), draw(st.booleans())


@given(st.data())
def test_boxes_go_to_the_input_and_back(data):
    size, spec = data.draw(sizes), data.draw(specs)
    corners = data.draw(corners_in(size))
    placement = eval_resize(size, spec)
    there = placement.to_input(corners)
    # In shares of the input, which is what a network learns and answers
    assert (there >= -1e-9).all()
    limit = np.array((spec.width, spec.height) * 2)
    beyond = placement.factor * limit / np.array((*placement.source.size,) * 2)  # a cut-off remainder, see `reduced`
    assert (there <= limit + beyond).all()
    np.testing.assert_allclose(placement.to_image(there), corners, atol=1e-4)


@given(st.data())
def test_boxes_of_views_go_there_and_back(data):
    window, size, region, flipped, reduce = data.draw(views())
    placement = compute_resize(window, size, region, flipped, reduce)
    if placement is None:
        assert max(window[:2]) >= 1 or min(window[2:]) <= 0
        return
    corners = data.draw(corners_in(size))
    back = placement.to_image(placement.to_input(corners))
    np.testing.assert_allclose(back, corners, atol=1e-4)


@given(views())
def test_views_stay_in_image_and_region(view):
    window, size, region, flipped, reduce = view
    placement = compute_resize(window, size, region, flipped, reduce)
    if placement is None:
        return
    source, target, factor = placement.source, placement.target, placement.factor
    assert region.left <= target.left < target.right <= region.right
    assert region.top <= target.top < target.bottom <= region.bottom
    assert 0 <= source.left < source.right <= max(1, size.width // factor)
    assert 0 <= source.top < source.bottom <= max(1, size.height // factor)
    assert factor == 1 or reduce
    if factor > 1:  # as many pixels as are shown, but for a rounded edge
        assert source.size.width >= target.size.width - 1
        assert source.size.height >= target.size.height - 1
    if max(window[:2]) <= 0 and min(window[2:]) >= 1:  # the whole image, whatever is around it
        assert source == (0, 0, size.width // factor, size.height // factor)


@given(sizes, specs)
def test_fit_keeps_proportions_and_force_fills_the_input(size, spec):
    region = letterbox_region(size, spec)
    assert (region.left, region.top) == (0, 0)
    if spec.resize_mode == "force":
        assert region.size == (spec.width, spec.height)
    else:
        assert region.right == spec.width or region.bottom == spec.height
        scale = min(spec.width / size.width, spec.height / size.height)
        assert abs(region.right - max(1, scale * size.width)) <= 0.5 + 1e-9
        assert abs(region.bottom - max(1, scale * size.height)) <= 0.5 + 1e-9


@pytest.mark.parametrize("mode", ["force", "fit"])
@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (120, 40)])
@pytest.mark.parametrize("size", [Size(50, 37), Size(90, 150), Size(701, 400)])
def test_pixels_lie_where_boxes_say(mode, shape, size):
    """A white box on black: what preprocess() makes bright is the box, moved by the placement."""
    spec = InputSpec(*shape, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), mode, antialias=True)
    box = np.array([[0.3, 0.2, 0.8, 0.7]]) * (size * 2)
    image = np.zeros((size.height, size.width, 3), np.uint8)
    xmin, ymin, xmax, ymax = np.rint(box[0]).astype(int)
    cv2.rectangle(image, (xmin, ymin), (xmax - 1, ymax - 1), (255, 255, 255), cv2.FILLED)
    bright = preprocess([image], spec)[0, 0]
    moved = eval_resize(size, spec).to_input(np.array([[xmin, ymin, xmax, ymax]]))[0]
    rows, columns = bright.sum(axis=1) / bright.max(), bright.sum(axis=0) / bright.max()
    width, height = rows.max(), columns.max()
    assert (width, height) == pytest.approx((moved[2] - moved[0], moved[3] - moved[1]), abs=1)
    center = [(np.arange(len(line)) + 0.5) @ line / line.sum() for line in (columns, rows)]
    assert center == pytest.approx([(moved[0] + moved[2]) / 2, (moved[1] + moved[3]) / 2], abs=0.5)
