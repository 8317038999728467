"""Rows for the parts of a matrix, and for norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_nn.derivatives.indexing import zeros
from tinygrad_nn.derivatives.shaping import expand
from tinygrad_nn.derivatives.table import alike, composition, numpy_row, own
from tinygrad_nn.errors import ArgumentError, ShapeError

__all__ = ["norm", "on_diagonal"]

composition(np.matrix_transpose)(lambda x, /: np.swapaxes(x, -1, -2))
composition(np.linalg.matrix_transpose)(lambda x, /: np.swapaxes(x, -1, -2))

# Diagonals and triangles


def _on_diagonal(x: Any, shape: tuple[int, ...], offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Return zeros of `shape` with the last axis of `x` along a diagonal: undoes np.diagonal."""
    *lead, n = x.shape
    rows, columns = shape[axis1], shape[axis2]
    y = zeros((*lead, rows * columns), x)
    start = max(offset, -offset * columns)
    y[..., start : start + n * (columns + 1) : columns + 1] = x  # so far apart among all entries of a matrix
    return np.moveaxis(y.reshape((*lead, rows, columns)), (-2, -1), (axis1, axis2))


# each is the other's derivative
on_diagonal: Callable[..., Any] = own(
    _on_diagonal,
    lambda g, _y, _x, shape, offset=0, axis1=0, axis2=1: np.diagonal(g, offset, axis1, axis2),
    name="on_diagonal",
)
numpy_row(
    np.diagonal,
    lambda g, _y, _a, offset=0, axis1=0, axis2=1: on_diagonal(g, _a.shape, offset, axis1, axis2),
)
composition(np.linalg.diagonal)(lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1))
composition(np.trace)(lambda a, offset=0, axis1=0, axis2=1: np.diagonal(a, offset, axis1, axis2).sum(axis=-1))
composition(np.linalg.trace)(lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1).sum(axis=-1))


@composition(np.diag)
def _diag(v: Any, k: int = 0) -> Any:
    if v.ndim not in (1, 2):
        raise ShapeError(f"np.diag takes a vector or a matrix, got shape {v.shape}")
    n = v.shape[0] + abs(k)
    return on_diagonal(v, (n, n), k) if v.ndim == 1 else np.diagonal(v, k)


composition(np.diagflat)(lambda v, k=0: _diag(np.reshape(v, (v.size,)), k))


def _below(m: Any, k: int) -> Any:
    """A mask of what lies on or below a diagonal; a vector stands for a square of such rows."""
    rows, columns = (m.shape * 2)[-2:]
    return alike(np.tri(rows, columns, k=k, dtype=bool), m)


composition(np.tril)(lambda m, k=0: np.where(_below(m, k), m, False))  # which keeps the dtype of bools too
composition(np.triu)(lambda m, k=0: np.where(_below(m, k - 1), False, m))

# Norms


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002 - NumPy's name
    """Return the root of the sum of squares, or of another power, along one axis, two, or all."""
    return np.linalg.norm(x, ord, axis, keepdims=keepdims)


def _norm_rule(
    g: Any,
    y: Any,
    x: Any,
    ord: Any = None,  # noqa: A002
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    g, y = expand(g, x.shape, axis), expand(y, x.shape, axis)
    size = np.where(y == 0, np.inf, y)
    if ord is None:
        return g * (x / size)
    # 0 also where x or (for p < 0) y is 0
    return g * np.where((x == 0) | (y == 0), 0, np.sign(x) * (np.abs(x) / size) ** (ord - 1))


norm: Callable[..., Any] = own(
    _norm,
    _norm_rule,
    name="np.linalg.norm",
    note="0 at the zero vector, at every order (for norm(x)**2, which is smooth there, write np.sum(x * x)); "
    "for ord p other than 2 also for every entry that is 0",
)


@composition(np.linalg.norm)
def _linalg_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002
    if x.dtype.kind in "iub":
        x = x.astype(float)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (int(axis),)
    if ord is None and (axis is None or len(axes) <= 2):
        return norm(x, None, axis if axis is None else axes, keepdims)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    raise ArgumentError(f"np.linalg.norm of {len(axes)} axes: give axis=, one of vectors or two of matrices")


def _vector_norm(x: Any, p: Any, axis: int, keepdims: bool) -> Any:
    if isinstance(p, str):
        raise ArgumentError(f"np.linalg.norm: ord={p!r} is for matrices, vectors take a number")
    if p == 0:
        return (x != 0).astype(x.dtype).sum(axis=axis, keepdims=keepdims)  # piecewise constant: no gradient
    if p in (1, np.inf, -np.inf):
        return _REDUCE[p](np.abs(x), axis=axis, keepdims=keepdims)
    return norm(x, None if p == 2 else float(p), axis, keepdims)


def _largest(x: Any, axis: Any, keepdims: bool) -> Any:
    initial: dict[str, Any] = {} if x.size else {"initial": 0}  # which arrays of other libraries may not take
    return np.max(x, axis=axis, keepdims=keepdims, **initial)


_REDUCE: dict[Any, Callable[..., Any]] = {1: np.sum, np.inf: _largest, -np.inf: np.min}
_SINGULAR: dict[Any, Callable[..., Any]] = {2: _largest, -2: np.min, "nuc": np.sum}


def _matrix_norm(x: Any, p: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if p in ("fro", "f"):
        return norm(x, None, axes, keepdims)
    if p in _SINGULAR:
        values = np.linalg.svdvals(np.moveaxis(x, axes, (-2, -1)))
        y = _SINGULAR[p](values, axis=-1, keepdims=False)
        return np.expand_dims(y, axes) if keepdims else y
    if p not in (1, -1, np.inf, -np.inf):
        raise ArgumentError(f"np.linalg.norm: ord={p!r} is none of 'fro', 'nuc', 1, -1, 2, -2, inf, -inf")
    rows, columns = axes if abs(p) == 1 else axes[::-1]
    y = _REDUCE[p * np.inf](np.abs(x).sum(axis=rows, keepdims=True), axis=columns, keepdims=True)
    return y if keepdims else np.squeeze(y, axes)


@composition(np.linalg.matrix_norm)
def _linalg_matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:  # noqa: A002
    return _linalg_norm(x, ord, (-2, -1), keepdims)


@composition(np.linalg.vector_norm)
def _linalg_vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:  # noqa: A002
    several = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    flat = np.moveaxis(x, several, range(len(several)))  # the axes to sum over become the first one
    rest = flat.shape[len(several) :]
    y = _linalg_norm(flat.reshape((int(np.prod(flat.shape[: len(several)])), *rest)), ord, 0)
    return np.expand_dims(y, several) if keepdims else y


@composition(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        values = np.linalg.svdvals(x)
        largest, smallest = values[..., 0], values[..., -1]
        return smallest / largest if p == -2 else largest / smallest
    return _matrix_norm(x, p, (-2, -1), keepdims=False) * _matrix_norm(np.linalg.inv(x), p, (-2, -1), keepdims=False)
