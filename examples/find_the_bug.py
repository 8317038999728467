"""Two mistakes of hand-written backpropagation, found and explained by the gradient checker.

  twice      the hidden delta is multiplied by the derivative of the sigmoid a second time
  bias       the bias gradient is added once for each weight, in the loop over the weights

Both are plain NumPy: the checker needs the forward pass, and the rule (y, pullback) that goes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _common import Parser

from tinygrad_nn.testing import check_gradients, gradient_report

Arrays = tuple[Any, ...]


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z)), element-wise."""
    return 1 / (1 + np.exp(-z))


def network(x: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> Any:
    """Two layers: x (n, 3) to y (n, 2)."""
    return sigmoid(sigmoid(x @ W1 + b1) @ W2 + b2)


def twice(x: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> tuple[Any, Callable[[Any], Arrays]]:
    """The derivative of the hidden sigmoid is in delta1 already, and is multiplied in again for W1 and b1."""
    h = sigmoid(x @ W1 + b1)
    y = sigmoid(h @ W2 + b2)

    def backward(g: Any) -> Arrays:
        delta2 = g * y * (1 - y)
        dW2 = h.T @ delta2
        db2 = delta2.sum(axis=0)
        delta1 = (delta2 @ W2.T) * h * (1 - h)
        dx = delta1 @ W1.T
        dW1 = x.T @ (delta1 * h * (1 - h))
        db1 = (delta1 * h * (1 - h)).sum(axis=0)
        return dx, dW1, db1, dW2, db2

    return y, backward


def bias(x: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> tuple[Any, Callable[[Any], Arrays]]:
    """The bias of the first layer gets its gradient once for each of its inputs."""
    h = sigmoid(x @ W1 + b1)
    y = sigmoid(h @ W2 + b2)

    def backward(g: Any) -> Arrays:
        delta2 = g * y * (1 - y)
        delta1 = (delta2 @ W2.T) * h * (1 - h)
        dW1 = np.zeros_like(W1)
        db1 = np.zeros_like(b1)
        for i in range(x.shape[1]):
            dW1[i] = x[:, i] @ delta1
            db1 += delta1.sum(axis=0)
        return delta1 @ W1.T, dW1, db1, h.T @ delta2, delta2.sum(axis=0)

    return y, backward


def fixed(x: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> tuple[Any, Callable[[Any], Arrays]]:
    """The same without the mistakes."""
    h = sigmoid(x @ W1 + b1)
    y = sigmoid(h @ W2 + b2)

    def backward(g: Any) -> Arrays:
        delta2 = g * y * (1 - y)
        delta1 = (delta2 @ W2.T) * h * (1 - h)
        return delta1 @ W1.T, x.T @ delta1, delta1.sum(axis=0), h.T @ delta2, delta2.sum(axis=0)

    return y, backward


def main() -> None:
    """Check the three rules and print the reports."""
    options = Parser(__doc__).parse_args()
    rng = np.random.default_rng(options.seed)
    inputs = [rng.standard_normal(shape) for shape in ((5, 3), (3, 4), (4,), (4, 2), (2,))]
    for rule in (twice, bias):
        print(gradient_report(network, *inputs, rule=rule, seed=options.seed).render(), end="\n\n")
    print(check_gradients(network, *inputs, rule=fixed, seed=options.seed).render())


if __name__ == "__main__":
    main()
