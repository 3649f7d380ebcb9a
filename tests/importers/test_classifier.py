"""A converted classifier runs, alone and in batches."""

from pathlib import Path

import numpy as np
import pytest

from ssd.checkpoint.model import ModelSpec
from ssd.importers.caffe.convert import write_network
from ssd.importers.classifier import Classifier
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

SPEC = ModelSpec(["dark", "bright"], 8, 8, [0.0] * 3, [255.0] * 3, "x", [0.1, 0.1, 0.2, 0.2], None, {}, True)


def written(folder: Path, outputs: int = 2) -> str:
    graph = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=outputs, name="fc")
    graph = mx.sym.softmax(graph, name="prob")
    weight = np.ones((outputs, 192), np.float32) * np.linspace(-1, 1, outputs)[:, None] / 192
    args = {"fc_weight": mx.nd.array(weight), "fc_bias": mx.nd.zeros(outputs), "stray": mx.nd.zeros(1)}
    return str(write_network(folder / "model", SPEC, graph, args, {}))


def test_scores_and_names(tmp_path: Path) -> None:
    classifier = Classifier.load(written(tmp_path))
    black, white = np.zeros((20, 30, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)
    scores = classifier.predict([black, white])
    assert scores.shape == (2, 2)
    np.testing.assert_allclose(scores[0], [0.5, 0.5], atol=1e-6)
    assert classifier.best(white, 1)[0][0] == "bright"
    assert "arg:stray" not in mx.nd.load(str(tmp_path / "model" / "network-0000.params"))


def test_networks_that_are_no_classifiers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected one score for each class"):
        Classifier.load(written(tmp_path, outputs=3))
