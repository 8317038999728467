"""Initializers: each makes a function ``(rng, shape, dtype) -> array`` for weights of shape (in, out)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tinygrad_nn.checks import dtype_of, function_of, lengths, number
from tinygrad_nn.conversion import check_generator
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
    low, high = number("low", low), number("high", high)
    if not low < high:
        raise ArgumentError(f"uniform needs low < high, got {low} and {high}")
    return functools.partial(_initialize, _uniform, (low, high))


def normal(std: float, mean: float = 0.0) -> Initializer:
    """Draw from a normal distribution."""
    std, mean = number("std", std, 0), number("mean", mean)
    return functools.partial(_initialize, _normal, (mean, std))


def constant(value: float) -> Initializer:
    """Set every entry to `value`."""
    value = number("value", value)
    return functools.partial(_initialize, _constant, (value,))


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs feed one output, and how many outputs one input feeds, for a shape (..., in, out)."""
    if len(shape) < 2:
        raise ArgumentError(f"this initializer is for weights of shape (in, out), got {shape}; biases take constant")
    field = math.prod(shape[:-2])
    return max(1, shape[-2] * field), max(1, shape[-1] * field)


def xavier_uniform() -> Initializer:
    """Draw from U(-a, a) with a = sqrt(6 / (in + out)) (Glorot and Bengio, 2010): for tanh and sigmoid."""
    return functools.partial(_initialize, _xavier_uniform, ())


def xavier_normal() -> Initializer:
    """Draw from N(0, 2 / (in + out)) (Glorot and Bengio, 2010): for tanh and sigmoid."""
    return functools.partial(_initialize, _xavier_normal, ())


def he_uniform() -> Initializer:
    """Draw from U(-a, a) with a = sqrt(6 / in) (He et al., 2015): for relu."""
    return functools.partial(_initialize, _he_uniform, ())


def he_normal() -> Initializer:
    """Draw from N(0, 2 / in) (He et al., 2015): for relu."""
    return functools.partial(_initialize, _he_normal, ())


# Functions of the module, not closures, so that initializers can be pickled


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Any:
    return rng.uniform(low, high, shape)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], mean: float, std: float) -> Any:
    return rng.normal(mean, std, shape)


def _constant(_rng: np.random.Generator, shape: tuple[int, ...], value: float) -> Any:
    return np.full(shape, value)


def _xavier_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    bound = math.sqrt(6 / sum(_fans(shape)))
    return rng.uniform(-bound, bound, shape)


def _xavier_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.normal(0, math.sqrt(2 / sum(_fans(shape))), shape)


def _he_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    bound = math.sqrt(6 / _fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


def _he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.normal(0, math.sqrt(2 / _fans(shape)[0]), shape)


def _initialize(
    draw: Callable[..., Any], options: tuple[float, ...], rng: np.random.Generator, shape: tuple[int, ...], dtype: Any
) -> Any:
    """Check what an initializer is given, and draw in float64 whatever the dtype."""
    rng, shape = check_generator(rng), lengths("shape", shape, least=0)
    return draw(rng, shape, *options).astype(dtype_of("dtype", dtype, "f"))


def drawn(
    name: str,
    initializer: Initializer | None,
    default: Initializer,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: Any,
) -> Any:
    """Return what an initializer, the user's own perhaps, gives for one parameter of a layer."""
    if initializer is None:
        return default(rng, shape, dtype)
    if isinstance(initializer, type):
        raise ArgumentError(
            f"{name} is a function initializer(rng, shape, dtype), got the class {initializer.__name__}"
        )
    values = function_of(name, initializer)(rng, shape, dtype)
    if getattr(values, "shape", None) != shape or values.dtype != dtype:
        raise ArgumentError(
            f"{name} gives an array of the shape and dtype that it is asked for, {shape} {dtype}; it gave "
            f"{getattr(values, 'shape', type(values).__name__)} {getattr(values, 'dtype', '')}"
        )
    return values
