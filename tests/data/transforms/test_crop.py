from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.augment import Augment, Crop, Pad
from ssd.data.transforms.crop import (
    WHOLE,
    centers_inside,
    clipped,
    crop_candidates,
    expansions,
    inside,
    relative_to,
    sample_crops,
    valid_crops,
)
from ssd.ops.boxes import iou_matrix

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
    window, part = np.array(window), np.array(part)
    np.testing.assert_allclose(relative_to(inside(window, part), window), part, atol=1e-9)


@given(boxes, windows())
def test_relative_boxes_keep_their_place(corners, window):
    window = np.array(window)[None]
    np.testing.assert_allclose(inside(window, relative_to(corners, window)), corners, atol=1e-9)


@given(boxes, st.floats(1, 500), st.floats(1, 500))
def test_clipped_boxes_are_inside_and_no_larger(corners, width, height):
    moved = corners * 700 - 100
    cut = clipped(moved, width, height)
    assert ((cut >= 0) & (cut <= [width, height, width, height])).all()
    assert (cut[:, 2:] - cut[:, :2] <= moved[:, 2:] - moved[:, :2] + 1e-9).all()


@given(boxes, st.lists(windows(), min_size=1, max_size=4).map(np.array))
def test_centers_inside_is_what_it_says(corners, candidates):
    mask = centers_inside(corners, candidates)
    assert mask.shape == (len(corners), len(candidates))
    for n, (xmin, ymin, xmax, ymax) in enumerate(corners):
        for w, (left, top, right, bottom) in enumerate(candidates):
            assert mask[n, w] == (left <= (xmin + xmax) / 2 < right and top <= (ymin + ymax) / 2 < bottom)


@given(st.tuples(share, share, share), st.floats(1, 6))
def test_an_expansion_holds_the_image_and_keeps_its_proportions(draws, most):
    left, top, right, bottom = expansions(np.array([draws]), most)[0]
    assert left <= 0
    assert top <= 0
    assert min(right, bottom) >= 1 - 1e-9
    assert right - left == pytest.approx(bottom - top)
    assert right - left <= most + 1e-9
    assert (left, top, right, bottom) == WHOLE or right - left >= 1.05 - 1e-9


@given(st.integers(0, 999), st.lists(st.floats(0.2, 5), min_size=1, max_size=4).map(np.array))
def test_crops_keep_to_the_limits(seed, aspects):
    found = crop_candidates(np.random.default_rng(seed).random((len(aspects), 50, 4)), aspects, SSD)
    assert found.shape == (len(aspects), 50, 4)
    size = found[..., 2:] - found[..., :2]
    assert ((found >= 0) & (found <= 1 + 1e-9)).all()
    side = np.sqrt(size.prod(axis=2))
    assert (side <= 1 + 1e-9).all()
    aspects = aspects[:, None]
    fits = np.maximum(0.5 / aspects, side**2) <= np.minimum(2 / aspects, 1 / side**2)
    assert (side[fits] >= 0.3 - 1e-9).all()
    ratio = (size[..., 0] / size[..., 1] * aspects)[fits]
    assert ((ratio >= 0.5 - 1e-6) & (ratio <= 2 + 1e-6)).all()


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Boxes of several images, [P, N, 4] with rows of nan."""
    several = draw(st.lists(boxes, min_size=1, max_size=4))
    padded = np.full((len(several), 6, 4), np.nan)
    for row, corners in zip(padded, several, strict=True):
        row[: len(corners)] = corners
    return padded


@given(images(), st.integers(0, 999))
def test_qualifying_is_what_it_says(padded, seed):
    rng = np.random.default_rng(seed)
    overlaps = rng.choice(SSD.overlaps, len(padded))
    candidates = crop_candidates(rng.random((len(padded), 20, 4)), np.full(len(padded), 1.3), SSD)
    good = valid_crops(candidates, padded, overlaps)
    for number, corners in enumerate(padded):
        corners = corners[~np.isnan(corners[:, 0])]
        if not len(corners):
            assert good[number].all()
            continue
        near = iou_matrix(candidates[number], corners)
        certain = np.abs(near - overlaps[number]).min(axis=1) > 1e-9
        expected = (near >= overlaps[number]).any(axis=1) & centers_inside(corners, candidates[number]).any(axis=0)
        assert (good[number] == expected)[certain].all()


def augment(pad: float, crop: float) -> Augment:
    """With these probabilities."""
    return Augment(pad=Pad(pad, 4.0, 127), crop=replace(SSD, probability=crop))


@given(images(), st.integers(0, 999))
def test_a_crop_keeps_an_object(padded, seed):
    found = sample_crops(padded, np.full(len(padded), 0.8), augment(0, 1), np.random.default_rng(seed))
    for window, corners in zip(found, padded, strict=True):
        corners = corners[~np.isnan(corners[:, 0])]
        assert ((window >= 0) & (window <= 1 + 1e-9)).all()
        if len(corners) and tuple(window) != WHOLE:
            assert centers_inside(corners, window[None]).any()
            assert iou_matrix(window[None], corners).max() >= min(SSD.overlaps) - 1e-9


def test_no_crop_where_none_can_qualify():
    tiny = np.array([[[0.5, 0.5, 0.50001, 0.50001]]])
    found = sample_crops(tiny, np.ones(1), augment(0, 1), np.random.default_rng(0))
    assert tuple(found[0]) == WHOLE


def test_probabilities():
    nothing = np.full((4000, 1, 4), np.nan)
    for pad, crop in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.7)):
        found = sample_crops(nothing, np.ones(4000), augment(pad, crop), np.random.default_rng(0))
        size = found[:, 2] - found[:, 0]
        assert (size > 1).mean() == pytest.approx(pad * (3 - 0.05) / 3, abs=0.03)
        assert (size < 1).mean() == pytest.approx(crop, abs=0.03)
        assert (found == WHOLE).all(axis=1).mean() == pytest.approx(1 - pad - crop, abs=0.03)
