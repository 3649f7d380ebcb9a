"""AdaDelta with a learning rate, so that schedules, warm-up and factors on the rate of a group apply to it."""

from typing import Any

from ssd.mxnet_compat import mx

NAME = "scaledadadelta"  # by which MXNet finds the class


@mx.optimizer.register
class ScaledAdaDelta(mx.optimizer.AdaDelta):  # type: ignore[misc]
    """Zeiler 2012, algorithm 1, times the learning rate, with weight decay as a part of the gradient: the update of
    torch.optim.Adadelta.

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
