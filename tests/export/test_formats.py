"""What 8-bit exports are calibrated with."""

from dataclasses import replace

import numpy as np

from ssd.export.formats import renormalized


def test_images_are_normalized_anew(random_model) -> None:
    was = replace(random_model("backbone=small", "data_shape=128").spec, mean=[10.0, 20.0, 30.0], std=[2.0, 4.0, 5.0])
    wanted = replace(was, mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 10.0])
    levels = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)

    def normalized(spec) -> np.ndarray:
        mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
        return (levels - mean) / std

    (found,) = renormalized([normalized(was)], was, wanted)
    np.testing.assert_allclose(found, normalized(wanted), rtol=1e-4, atol=1e-4)
