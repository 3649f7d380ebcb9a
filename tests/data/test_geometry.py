import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.augment import Crop
from ssd.data.geometry import (
    WHOLE,
    centres_inside,
    clipped,
    crop_candidates,
    expansion,
    inside,
    qualifying,
    relative_to,
    sample_crop,
)
from ssd.evaluation.boxes import iou_matrix

SSD = Crop(1.0, [0.1, 0.3, 0.5, 0.7, 0.9], [0.3, 1.0], [0.5, 2.0], 25)
share = st.floats(0, 1)


@st.composite
def windows(draw: st.DrawFn, low: float = -3, high: float = 4) -> tuple[float, float, float, float]:
    """At least a hundredth wide and high."""
    left, top = draw(st.floats(low, high - 0.01)), draw(st.floats(low, high - 0.01))
    return left, top, draw(st.floats(left + 0.01, high)), draw(st.floats(top + 0.01, high))


boxes = st.lists(windows(0, 1), max_size=6).map(lambda rows: np.array(rows).reshape(-1, 4))


@given(windows(), windows())
def test_inside_undoes_relative_to(window, part):
    np.testing.assert_allclose(relative_to(np.array(inside(window, part)), window), part, atol=1e-9)


@given(boxes, windows())
def test_relative_boxes_keep_their_place(corners, window):
    back = [inside(window, tuple(row)) for row in relative_to(corners, window)]
    np.testing.assert_allclose(np.reshape(back, (-1, 4)), corners, atol=1e-9)


@given(boxes, st.floats(1, 500), st.floats(1, 500))
def test_clipped_boxes_are_inside_and_no_larger(corners, width, height):
    moved = corners * 700 - 100
    cut = clipped(moved, width, height)
    assert ((cut >= 0) & (cut <= [width, height, width, height])).all()
    assert (cut[:, 2:] - cut[:, :2] <= moved[:, 2:] - moved[:, :2] + 1e-9).all()


@given(boxes, st.lists(windows(), min_size=1, max_size=4).map(np.array))
def test_centres_inside_is_what_it_says(corners, candidates):
    mask = centres_inside(corners, candidates)
    assert mask.shape == (len(corners), len(candidates))
    for n, (xmin, ymin, xmax, ymax) in enumerate(corners):
        for w, (left, top, right, bottom) in enumerate(candidates):
            assert mask[n, w] == (left <= (xmin + xmax) / 2 < right and top <= (ymin + ymax) / 2 < bottom)


@given(st.tuples(share, share, share), st.floats(1, 6))
def test_an_expansion_holds_the_picture_and_keeps_its_proportions(draws, most):
    left, top, right, bottom = expansion(np.array(draws), most)
    assert left <= 0
    assert top <= 0
    assert min(right, bottom) >= 1 - 1e-9
    assert right - left == pytest.approx(bottom - top)
    assert right - left <= most + 1e-9
    assert (left, top, right, bottom) == WHOLE or right - left >= 1.05 - 1e-9


@given(st.integers(0, 999), st.floats(0.2, 5))
def test_crops_keep_to_the_limits(seed, aspect):
    found = crop_candidates(np.random.default_rng(seed).random((50, 4)), aspect, SSD)
    size = found[:, 2:] - found[:, :2]
    assert ((found >= 0) & (found <= 1 + 1e-9)).all()
    side = np.sqrt(size.prod(axis=1))
    assert (side <= 1 + 1e-9).all()
    fits = np.maximum(0.5 / aspect, side**2) <= np.minimum(2 / aspect, 1 / side**2)
    assert (side[fits] >= 0.3 - 1e-9).all()
    ratio = size[:, 0] / size[:, 1] * aspect
    assert ((ratio[fits] >= 0.5 - 1e-6) & (ratio[fits] <= 2 + 1e-6)).all()


@given(boxes, st.integers(0, 999), st.sampled_from(SSD.overlaps))
def test_qualifying_is_what_it_says(corners, seed, overlap):
    candidates = crop_candidates(np.random.default_rng(seed).random((20, 4)), 1.3, SSD)
    good = qualifying(candidates, corners, overlap)
    if not len(corners):
        assert good.all()
        return
    near = iou_matrix(candidates, corners)
    certain = np.abs(near - overlap).min(axis=1) > 1e-9
    expected = (near >= overlap).any(axis=1) & centres_inside(corners, candidates).any(axis=0)
    assert (good == expected)[certain].all()


@given(boxes, st.integers(0, 999))
def test_a_sampled_crop_keeps_an_object(corners, seed):
    found = sample_crop(corners, 0.8, SSD, np.random.default_rng(seed))
    if found is None:
        assert len(corners)
    elif len(corners):
        assert centres_inside(corners, np.array([found])).any()
        assert iou_matrix(np.array([found]), corners).max() >= min(SSD.overlaps) - 1e-9


def test_no_crop_where_none_can_qualify():
    tiny = np.array([[0.5, 0.5, 0.50001, 0.50001]])
    assert sample_crop(tiny, 1.0, SSD, np.random.default_rng(0)) is None
