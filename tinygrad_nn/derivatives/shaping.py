"""Rows for functions that move entries without changing them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import composition, numpy_row, own, unbroadcast
from tinygrad_nn.errors import ShapeError

__all__ = ["expand"]


def _expand(x: Any, shape: tuple[int, ...], axis: Any = None) -> Any:
    """Repeat `x` to `shape`, after putting back the reduced axes `axis`: undoes the shape of a sum."""
    if axis is not None and x.ndim != len(shape):
        x = np.expand_dims(x, axis)
    if type(x) is not np.ndarray and not isinstance(x, np.generic):
        return np.broadcast_to(x, shape)
    # a filled array: for small ones ten times cheaper than broadcast_to
    y = np.empty(shape, x.dtype)
    y[...] = x
    return y


def _expand_rule(g: Any, _y: Any, _x: Any, shape: tuple[int, ...], axis: Any = None) -> Any:
    if axis is None or _x.ndim == len(shape):
        return unbroadcast(g, _x.shape)
    return g.sum(axis=axis)


# the reverse of a reduction: `axis` says where the axes go that the reduction has dropped
expand = own(_expand, _expand_rule, name="expand")

numpy_row(np.broadcast_to, lambda g, _y, _array, shape: unbroadcast(g, _array.shape))
numpy_row(np.reshape, lambda g, _y, _a, shape: g.reshape(_a.shape))
numpy_row(np.expand_dims, lambda g, _y, _a, axis: g.reshape(_a.shape))
numpy_row(np.squeeze, lambda g, _y, _a, axis=None: g.reshape(_a.shape))
numpy_row(np.ravel, lambda g, _y, _a: g.reshape(_a.shape))
numpy_row(np.swapaxes, lambda g, _y, _a, axis1, axis2: np.swapaxes(g, axis1, axis2))
numpy_row(np.moveaxis, lambda g, _y, _a, source, destination: np.moveaxis(g, destination, source))


def _transpose(g: Any, _y: Any, _a: Any, axes: Any = None) -> Any:
    if axes is None:
        return g.transpose()
    inverse = [0] * g.ndim
    for i, axis in enumerate(axes):
        inverse[axis] = i
    return g.transpose(inverse)


numpy_row(np.transpose, _transpose)


def _cast(x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


# the engine casts a gradient back to its argument's width
cast = own(_cast, lambda g, _y, _x, dtype: g.astype(_x.dtype), name="astype")

# Joining: bound to kernels that take the arrays one by one


def _concatenate(axis: int | None, *arrays: Any) -> Any:
    return np.concatenate(arrays, axis=axis)


def _concatenate_rule(g: Any, _y: Any, k: int, axis: int | None, *_arrays: Any) -> Any:
    if axis is None:
        g, axis, lengths = g.reshape(-1), 0, [math.prod(a.shape) for a in _arrays]
    else:
        lengths = [a.shape[axis] for a in _arrays]
    start = sum(lengths[:k])
    part = g[(slice(None),) * (axis % g.ndim) + (slice(start, start + lengths[k]),)]
    return part.reshape(_arrays[k].shape)


def _bind_sequence(arrays: Any, axis: int | None = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (axis, *arrays), {}


numpy_row(np.concatenate, _concatenate_rule, kernel=_concatenate, variadic=True, bind=_bind_sequence)


def _stack(axis: int, *arrays: Any) -> Any:
    return np.stack(arrays, axis=axis)


def _stack_rule(g: Any, _y: Any, k: int, axis: int, *_arrays: Any) -> Any:
    return g[(slice(None),) * (axis % g.ndim) + (k,)]


def _bind_stack(arrays: Any, axis: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    arrays = tuple(arrays)
    shapes = {np.shape(a) for a in arrays}
    if len(shapes) > 1:
        raise ShapeError(f"np.stack needs arrays of one shape, got {sorted(shapes)}")
    return (axis, *arrays), {}


numpy_row(np.stack, _stack_rule, kernel=_stack, variadic=True, bind=_bind_stack)


# What is asked of a shape, not of the entries

composition(np.shape)(lambda a: a.shape)
composition(np.ndim)(lambda a: a.ndim)


@composition(np.size)
def _size(a: Any, axis: int | None = None) -> int:
    return int(a.size if axis is None else a.shape[axis])
