"""A network that tells what an image shows, as job=convert writes it for one that is no detector.

classifier = Classifier.load("outputs/convert/SqueezeNet_deploy/…/model/network-0000.params")
scores = classifier.predict([image])[0]       # [C]; classifier.classes names them
"""

from collections.abc import Sequence

import numpy as np

from ssd.checkpoint.model import Model, check_params, load_model
from ssd.data.transforms.preprocess import preprocess
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError


class Classifier:
    """Not thread-safe: one per thread."""

    def __init__(self, model: Model, source: str = "in memory") -> None:
        check_params(model.symbol, model, source)
        shape = (1, 3, model.spec.height, model.spec.width)
        _, outputs, _ = model.symbol.infer_shape(data=shape)
        if len(outputs) != 1 or int(np.prod(outputs[0])) != len(model.spec.classes):
            given = " and ".join(str(tuple(output)) for output in outputs)
            raise UserError(f"model {source}: gives {given}, expected one score for each class")
        self.spec = model.spec
        self.classes = model.spec.classes
        self._model = model

    @classmethod
    def load(cls, model: str) -> "Classifier":
        """From a .params file with its symbol file beside it. Errors: UserError, see load_model."""
        return cls(load_model(model), model)

    def predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [B, C], what the network says of each class. images: HxWx3 uint8 RGB of any sizes."""
        data = mx.nd.array(preprocess(images, self.spec.input))
        model = self._model
        executor = model.symbol.bind(
            mx.cpu(), args={**model.arg_params, "data": data}, aux_states=model.aux_params, grad_req="null"
        )
        return executor.forward(is_train=False)[0].asnumpy().reshape(len(images), -1)

    def best(self, image: np.ndarray, count: int) -> list[tuple[str, float]]:
        """The `count` classes with the highest scores, best first."""
        scores = self.predict([image])[0]
        return [(self.classes[index], float(scores[index])) for index in np.argsort(-scores)[:count]]
