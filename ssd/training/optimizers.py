"""Optimizers that MXNet lacks: SGD as it is quickest on a CPU, and AdaDelta with a learning rate."""

from typing import Any

from ssd.mxnet_compat import mx


def optimizer_name(name: str, device: str) -> str:
    """By which MXNet finds the class. name: as configured; device: "cpu" or "gpu"."""
    replaced = {"adadelta": ScaledAdaDelta} | ({"sgd": UnfusedSGD} if device == "cpu" else {})
    return replaced[name].__name__.lower() if name in replaced else name


@mx.optimizer.register
class UnfusedSGD(mx.optimizer.SGD):  # type: ignore[misc]
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


@mx.optimizer.register
class ScaledAdaDelta(mx.optimizer.AdaDelta):  # type: ignore[misc]
    """Zeiler 2012, algorithm 1, times the learning rate, so that schedules and factors of groups apply, with weight
    decay as a part of the gradient: the update of torch.optim.Adadelta.

        g = clip(rescale_grad * gradient, clip_gradient) + wd * weight
        squares = rho * squares + (1 - rho) * g^2
        delta = sqrt(deltas + epsilon) / sqrt(squares + epsilon) * g
        deltas = rho * deltas + (1 - rho) * delta^2
        weight -= learning rate * delta

    MXNet's own, whose states these are, does not read the learning rate, and subtracts wd * weight whatever it is.
    """

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        self._update_count(index)
        rate, decay = self._get_lr(index), self._get_wd(index)
        gradient = grad * self.rescale_grad
        if self.clip_gradient is not None:
            gradient = mx.nd.clip(gradient, -self.clip_gradient, self.clip_gradient)
        gradient += decay * weight
        squares, deltas = state
        squares[:] = self.rho * squares + (1 - self.rho) * gradient**2
        delta = mx.nd.sqrt(deltas + self.epsilon) / mx.nd.sqrt(squares + self.epsilon) * gradient
        deltas[:] = self.rho * deltas + (1 - self.rho) * delta**2
        weight -= rate * delta
