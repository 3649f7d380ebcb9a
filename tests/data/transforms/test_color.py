import cv2
import numpy as np
import pytest

from ssd.config.augment import read_augment
from ssd.data.transforms.color import ColorJitter, apply_jitter, sample_shifts

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)


def slowly(image: np.ndarray, shift: ColorJitter) -> np.ndarray:
    """Number by number, as the description says it."""
    hls = cv2.cvtColor(image, cv2.COLOR_BGR2HLS).astype(int)
    for channel, (amount, highest) in enumerate([(shift.hue, 180), (shift.illumination, 255), (shift.saturation, 255)]):
        hls[..., channel] = np.minimum(np.maximum(hls[..., channel] + amount, 0), highest)
    colored = cv2.cvtColor(hls.astype(np.uint8), cv2.COLOR_HLS2BGR).astype(float)
    return np.clip(np.rint(colored * shift.contrast), 0, 255)


@pytest.mark.parametrize("amounts", [(17, -30, 31, 1.4), (-17, 31, -31, 0.6), (0, 5, 0, 1.0)])
def test_shifted(amounts):
    shift = ColorJitter(*amounts, contrast_first=False)
    assert np.abs(apply_jitter(IMAGE, shift) - slowly(IMAGE, shift)).max() <= 1


def test_nothing_to_do_is_nothing_done():
    assert apply_jitter(IMAGE, ColorJitter(0, 0, 0, 1.0, contrast_first=False)) is IMAGE


def test_the_order_matters():
    first, last = (apply_jitter(IMAGE, ColorJitter(0, 31, 0, 1.5, order)) for order in (True, False))
    assert np.abs(first.astype(int) - last).max() > 10


def test_draws(make_cfg):
    augment = read_augment(make_cfg("ssd").augment)
    rng = np.random.default_rng(0)
    shifts = sample_shifts(augment, 4000, rng)
    for name, highest in (("hue", 17), ("illumination", 31), ("saturation", 31)):
        values = np.array([getattr(shift, name) for shift in shifts])
        assert abs(values).max() == highest  # 18 and 32 cut to whole levels are never reached
        # Half of the draws, and of the others those that are cut to zero
        assert (values == 0).mean() == pytest.approx(0.5 + 0.5 / (highest + 1), abs=0.03)
    contrast = np.array([shift.contrast for shift in shifts])
    assert (contrast == 1).mean() == pytest.approx(0.5, abs=0.03)
    assert contrast.min() == pytest.approx(0.5, abs=0.01)
    assert contrast.max() == pytest.approx(1.5, abs=0.01)
    assert not any(shift.contrast_first for shift in shifts)
