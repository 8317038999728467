"""Optimizers of SciPy driven by exact derivatives: `tn.value_and_grad` as jac, `tn.hvp` as hessp.

The Rosenbrock function, and the network of XOR (2-3-1, tanh) as a function of one vector with its 13 parameters, each
by BFGS (first derivatives) and by a Newton method with a trust region (Hessian times vector, no Hessian is ever made).
Needs SciPy: pip install scipy.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import Parser

import tinygrad_nn as tn

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([[0.0], [1.0], [1.0], [0.0]])
SHAPES = ((2, 3), (3,), (3, 1), (1,))


def rosenbrock(x: Any) -> Any:
    """Compute sum 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2: 0 at ones, at the end of a bent valley."""
    return np.sum(100 * np.square(x[1:] - np.square(x[:-1])) + np.square(1 - x[:-1]))


def unpack(theta: Any) -> list[Any]:
    """Cut a vector into the weights and biases."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES])
    return [theta[end - np.prod(shape) : end].reshape(shape) for shape, end in zip(SHAPES, ends.tolist(), strict=True)]


def xor_loss(theta: Any) -> Any:
    """Compute the mean squared error of the network, with a little weight decay, which makes the minimum a point."""
    W1, b1, W2, b2 = unpack(theta)
    prediction = np.tanh(np.tanh(X @ W1 + b1) @ W2 + b2)
    return np.mean(np.square(prediction - Y)) + 1e-5 * np.sum(np.square(theta))


def minimize(function: Callable[[Any], Any], start: np.ndarray) -> dict[str, Any]:
    """Minimize a function by both methods."""
    from scipy import optimize  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415

    both, product = tn.value_and_grad(function), tn.hvp(function)
    return {
        "BFGS": optimize.minimize(both, start, jac=True, method="BFGS"),
        "trust-ncg": optimize.minimize(both, start, jac=True, hessp=product, method="trust-ncg"),
    }


def main() -> None:
    """Minimize both functions, and print what each method needed."""
    parser = Parser(__doc__)
    options = parser.parse_args()
    if importlib.util.find_spec("scipy") is None:
        print("This example needs SciPy: pip install scipy")
        return
    rng = np.random.default_rng(options.seed)
    size = 5 if options.quick else 50
    for name, function, start in (
        (f"Rosenbrock in {size} dimensions", rosenbrock, rng.uniform(-1, 1, size)),
        ("XOR 2-3-1, 13 parameters", xor_loss, rng.uniform(-1, 1, 13)),
    ):
        print(f"{name}: from {float(function(start)):.4g}")
        for method, found in minimize(function, start).items():
            slope = np.abs(tn.grad(function)(found.x)).max()
            products = f", {found.nhev} Hessian products" if "nhev" in found else ""
            print(
                f"  {method:10} {found.fun:.3e}  largest slope {slope:.1e}  {found.nfev} values and gradients{products}"
            )
        if function is xor_loss:
            W1, b1, W2, b2 = unpack(found.x)
            print("  answers   ", np.tanh(np.tanh(X @ W1 + b1) @ W2 + b2).ravel().round(3))


if __name__ == "__main__":
    main()
