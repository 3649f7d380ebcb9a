"""Stochastic gradient descent as it is quickest on a CPU."""

from typing import Any

from ssd.mxnet_compat import mx

NAME = "sgdonebyone"  # by which MXNet finds the class


@mx.optimizer.register
class SgdOneByOne(mx.optimizer.SGD):  # type: ignore[misc]
    """MXNet's SGD with an operator per array, which uses all vector units. That for several at once, which the class
    itself takes to save kernel launches on a GPU, needs 1.7 times as long for large arrays on a CPU."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.aggregate_num = 0

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        self._update_count(index)
        options = {"lr": self._get_lr(index), "wd": self._get_wd(index), "rescale_grad": self.rescale_grad}
        if self.clip_gradient:
            options["clip_gradient"] = self.clip_gradient
        if state is None:
            mx.nd.sgd_update(weight, grad, out=weight, **options)
        else:
            mx.nd.sgd_mom_update(weight, grad, state, out=weight, momentum=self.momentum, **options)

    def update_multi_precision(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        self.update(index, weight, grad, state)  # on a CPU, parameters are float32
