from dataclasses import replace

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.config.parts import input_spec, loader_config
from ssd.data.images import read_image
from ssd.data.transforms.preprocess import preprocess
from ssd.diagnostics.batches import augmented_batches


@pytest.mark.parametrize("loader", ["fast", "record"])
def test_batches_are_what_the_training_loader_gives(loader, folder, tmp_path):
    cfg = compose(["augment=none", "data_shape=[64,96]", f"loader={loader}"])
    cfg.dataset.classes = ["cat", "dog"]
    samples = folder.dataset().split("train")
    batches = augmented_batches(loader_config(cfg), samples, 2, tmp_path)
    spec = replace(input_spec(cfg), mean=(0.0,) * 3, std=(1.0,) * 3)
    wanted = preprocess([read_image(sample.path) for sample in samples], spec).transpose(0, 2, 3, 1)
    for pixels, label in batches:
        assert pixels.shape == (4, 64, 96, 3)
        for image in pixels:  # in a new order every time
            assert np.abs(wanted - image).max(axis=(1, 2, 3)).min() < 3
        real = label[label[:, :, 0] >= 0]
        assert len(real) == 8
        boxes = np.array([[10, 10, 50, 40], [60, 30, 80, 50]]) / [96, 64, 96, 64]
        np.testing.assert_allclose(np.unique(real[:, 1:5], axis=0), boxes, atol=1e-5)
    assert not [file for file in tmp_path.iterdir() if file.name != "voc"]
