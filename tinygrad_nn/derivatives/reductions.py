"""Rows for functions that sum or choose along axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.shaping import expand
from tinygrad_nn.derivatives.table import numpy_row

Axis = int | tuple[int, ...] | None


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many entries go into one entry of a reduction."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


# x.sum() rather than np.sum(x): the same numbers in half the time


def _sum(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return x.sum(axis=axis, keepdims=keepdims)


def _mean(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return x.mean(axis=axis, keepdims=keepdims)


numpy_row(np.sum, lambda g, _y, _a, axis=None, *, keepdims=False: expand(g, _a.shape, axis), kernel=_sum)
numpy_row(
    np.mean,
    lambda g, _y, _a, axis=None, *, keepdims=False: expand(g / _count(_a.shape, axis), _a.shape, axis),
    kernel=_mean,
)


def _extremum(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    chosen = a == expand(y, a.shape, axis)
    ties = chosen.sum(axis=axis, keepdims=keepdims)
    return np.where(chosen, expand(g / ties, a.shape, axis), 0)


_ties = "ties share the gradient equally"
numpy_row(np.max, _extremum, selects=True, note=_ties)
numpy_row(np.min, _extremum, selects=True, note=_ties)

# Positions and predicates have no gradient

for _function in (np.argmax, np.argmin, np.all, np.any):
    numpy_row(_function, None)
