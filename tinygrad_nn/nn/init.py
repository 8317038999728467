"""Initializers: each makes a function ``(rng, shape, dtype) -> array`` for weights of shape (in, out)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tinygrad_nn.errors import ArgumentError

__all__ = [
    "Initializer",
    "constant",
    "he_normal",
    "he_uniform",
    "normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
]

# np.random is loaded when it is first named, so that the import of the package does not wait for it
Initializer: TypeAlias = "Callable[[np.random.Generator, tuple[int, ...], Any], Any]"


def uniform(low: float, high: float) -> Initializer:
    """Draw uniformly from [low, high): the notebooks use (0, 1) and (-0.5, 0.5).

    Examples
    --------
    >>> uniform(-0.5, 0.5)(np.random.default_rng(0), (1, 3), float).round(3)
    array([[ 0.137, -0.23 , -0.459]])
    """
    if not low < high:
        raise ArgumentError(f"uniform needs low < high, got {low} and {high}")
    return lambda rng, shape, dtype: rng.uniform(low, high, shape).astype(dtype)


def normal(std: float, mean: float = 0.0) -> Initializer:
    """Draw from a normal distribution."""
    if std < 0:
        raise ArgumentError(f"normal needs std >= 0, got {std}")
    return lambda rng, shape, dtype: rng.normal(mean, std, shape).astype(dtype)


def constant(value: float) -> Initializer:
    """Set every entry to `value`."""
    return lambda _rng, shape, dtype: np.full(shape, value, dtype)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs feed one output, and how many outputs one input feeds, for a shape (..., in, out)."""
    if len(shape) < 2:
        raise ArgumentError(f"this initializer is for weights of shape (in, out), got {shape}; biases take constant")
    field = math.prod(shape[:-2])
    return max(1, shape[-2] * field), max(1, shape[-1] * field)


def xavier_uniform() -> Initializer:
    """Draw from U(-a, a) with a = sqrt(6 / (in + out)) (Glorot and Bengio, 2010): for tanh and sigmoid."""
    return lambda rng, shape, dtype: _symmetric(rng, shape, dtype, math.sqrt(6 / sum(_fans(shape))))


def xavier_normal() -> Initializer:
    """Draw from N(0, 2 / (in + out)) (Glorot and Bengio, 2010): for tanh and sigmoid."""
    return lambda rng, shape, dtype: rng.normal(0, math.sqrt(2 / sum(_fans(shape))), shape).astype(dtype)


def he_uniform() -> Initializer:
    """Draw from U(-a, a) with a = sqrt(6 / in) (He et al., 2015): for relu."""
    return lambda rng, shape, dtype: _symmetric(rng, shape, dtype, math.sqrt(6 / _fans(shape)[0]))


def he_normal() -> Initializer:
    """Draw from N(0, 2 / in) (He et al., 2015): for relu."""
    return lambda rng, shape, dtype: rng.normal(0, math.sqrt(2 / _fans(shape)[0]), shape).astype(dtype)


def _symmetric(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, bound: float) -> Any:
    return rng.uniform(-bound, bound, shape).astype(dtype)
