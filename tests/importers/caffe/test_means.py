"""Means: levels, files of one level per channel, and whole images."""

from pathlib import Path

import numpy as np
import pytest
from caffe_files import blob

from ssd.importers.caffe.means import find_mean
from ssd.utils.errors import UserError


def test_levels_are_rgb() -> None:
    assert find_mean(None, "BGR", (4, 4)).levels == [0, 0, 0]
    assert find_mean([123, 117, 104], "BGR", (4, 4)).levels == [123, 117, 104]
    for wrong in ([1, 2], [1, 2, float("nan")]):
        with pytest.raises(UserError, match="three numbers"):
            find_mean(wrong, "BGR", (4, 4))


def test_an_even_image_is_its_levels(tmp_path: Path) -> None:
    """A file has the network's order: blue first."""
    image = np.ones((3, 8, 8)) * np.array([104, 117, 123]).reshape(3, 1, 1)
    (tmp_path / "mean.binaryproto").write_bytes(blob(image, "old"))
    mean = find_mean(str(tmp_path / "mean.binaryproto"), "BGR", (5, 5))
    assert mean.levels == [123, 117, 104]
    assert mean.image is None
    assert find_mean(str(tmp_path / "mean.binaryproto"), "RGB", (5, 5)).levels == [104, 117, 123]


def test_a_larger_image_is_cut_to_its_middle(tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(90, 130, (3, 8, 9)).astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(blob(image))
    mean = find_mean(str(tmp_path / "mean.binaryproto"), "BGR", (4, 5))
    assert mean.image is not None
    whole = mean.image + np.array(mean.levels).reshape(3, 1, 1)
    np.testing.assert_allclose(whole, image[::-1, 2:6, 2:7], rtol=1e-5)
    with pytest.raises(UserError, match="smaller than the input"):
        find_mean(str(tmp_path / "mean.binaryproto"), "BGR", (9, 9))
    (tmp_path / "gray.binaryproto").write_bytes(blob(image[:1]))
    with pytest.raises(UserError, match="1 channels"):
        find_mean(str(tmp_path / "gray.binaryproto"), "BGR", (4, 4))
