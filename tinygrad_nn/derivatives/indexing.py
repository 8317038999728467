"""Rows for picking entries: getitem, and scatter, each the other's derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import own

__all__ = ["getitem", "scatter"]


def _getitem(x: Any, index: Any) -> Any:
    """Return ``x[index]`` for any basic or advanced index."""
    return x[index]


def _repeats(index: Any) -> bool:
    """Whether an index can name one entry twice: integer arrays and lists of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, list) or (isinstance(part, np.ndarray) and part.dtype != np.bool_ and part.ndim > 0)
        for part in parts
    )


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with `g` added at `index`; entries named twice receive both."""
    y = np.zeros(shape, g.dtype)
    if _repeats(index):
        np.add.at(y, index, g)
    else:
        y[index] = g
    return y


getitem: Callable[..., Any] = own(
    _getitem, lambda g, _y, _x, index: scatter(g, index, _x.shape), name="getitem", selects=True
)
scatter: Callable[..., Any] = own(_scatter, lambda g, _y, _g, index, shape: getitem(g, index), name="scatter")
