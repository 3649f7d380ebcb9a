import numpy as np

from ssd.config import compose
from ssd.data.images import preprocess, read_image
from ssd.doctor.batches import augmented_batches


def test_batches_are_what_the_training_loader_gives(folder, tmp_path):
    cfg = compose(["augment=none", "data_shape=[64,96]"])
    cfg.dataset.classes = ["cat", "dog"]
    samples = folder.dataset().split("train")
    batches = augmented_batches(cfg, samples, 2, tmp_path)
    spec = cfg.backbone.input
    wanted = preprocess([read_image(sample.path) for sample in samples], 64, 96, spec.mean, spec.std)
    for data, label in batches:
        assert data.shape == (4, 3, 64, 96)
        for picture in data:  # in a new order every time
            assert np.abs(wanted - picture).max(axis=(1, 2, 3)).min() < 0.05
        real = label[label[:, :, 0] >= 0]
        assert len(real) == 8
        boxes = np.array([[10, 10, 50, 40], [60, 30, 80, 50]]) / [96, 64, 96, 64]
        np.testing.assert_allclose(np.unique(real[:, 1:5], axis=0), boxes, atol=1e-5)
    assert not [file for file in tmp_path.iterdir() if file.name != "voc"]
