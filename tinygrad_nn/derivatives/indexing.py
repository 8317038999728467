"""Rows for picking, ordering and sliding: getitem and scatter are each the other's derivative."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tinygrad_nn.checks import item_of, known
from tinygrad_nn.derivatives.table import composition, numpy_row, own, plain
from tinygrad_nn.errors import ArgumentError, ShapeError

__all__ = ["getitem", "scatter", "within"]

_ALL = (slice(None),)


def _getitem(x: Any, index: Any) -> Any:
    """Return ``x[index]`` for any basic or advanced index."""
    return x[index]


def _repeats(index: Any) -> bool:
    """Whether an index can name one entry twice: integer arrays and lists of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, list) or (getattr(part, "ndim", 0) > 0 and part.dtype != np.bool_) for part in parts)


def _zeros(shape: tuple[int, ...], like: Any) -> Any:
    """Zeros of a shape, in an array of the kind of `like`."""
    return np.zeros(shape, like.dtype) if isinstance(like, np.ndarray) else np.zeros_like(like, shape=shape)


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with `g` added at `index`; entries named twice receive both."""
    y = _zeros(shape, g)
    if _repeats(index):
        np.add.at(y, index, g)
    elif type(y) is np.ndarray or not isinstance(index, tuple):
        y[index] = g
    else:  # other libraries' arrays may not assign to new axes
        index = tuple(part for part in index if part is not None)
        y[index] = g.reshape(y[index].shape)
    return y


getitem: Callable[..., Any] = own(
    _getitem, lambda g, _y, _x, index: scatter(g, index, _x.shape), name="getitem", selects=True
)
scatter: Callable[..., Any] = own(_scatter, lambda g, _y, _g, index, shape: getitem(g, index), name="scatter")


def _within(index: Any, length: int, what: str) -> Any:
    """Return `index` as it is, if every entry lies in [0, length); what a program has to check at each call."""
    if known(what, index).size:
        low, high = item_of(index.min()), item_of(index.max())
        if not (low >= 0 and high < length):
            raise ArgumentError(f"{what} lie from 0 to {length - 1}, got {low} to {high}")
    return index


within = own(_within, None, name="within")


def _positions(indices: Any) -> Any:
    """An index as an array: of NumPy's, or of another library that indexes at once."""
    indices = plain(indices)
    foreign = hasattr(indices, "__array_function__") and not hasattr(indices, "__dask_graph__")
    return indices if foreign else np.asarray(indices)


@composition(np.take)
def _take(a: Any, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Any:
    a, axis = (a.reshape(-1), 0) if axis is None else (a, normalize_axis_index(axis, a.ndim))
    indices = _positions(indices)
    if mode == "wrap":
        indices = indices % a.shape[axis]
    elif mode == "clip":
        indices = np.clip(indices, 0, a.shape[axis] - 1)
    elif mode != "raise":
        raise ArgumentError(f"np.take: mode={mode!r} is none of 'raise', 'wrap', 'clip'")
    return a[_ALL * axis + (indices,)]


def _along(shape: tuple[int, ...], indices: Any, axis: int) -> tuple[Any, ...]:
    """The index that picks `indices` along one axis, and each entry's own place along the others."""
    n = len(shape)
    places = [np.arange(m).reshape((1,) * i + (m,) + (1,) * (n - i - 1)) for i, m in enumerate(shape)]
    return (*places[:axis], indices, *places[axis + 1 :])


@composition(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr, axis = (arr.reshape(-1), 0) if axis is None else (arr, normalize_axis_index(axis, arr.ndim))
    if np.ndim(indices) != arr.ndim:
        raise ShapeError(
            f"np.take_along_axis needs indices with {arr.ndim} axes, as the array has; got {np.ndim(indices)}"
        )
    return arr[_along(arr.shape, _positions(indices), axis)]


@composition(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist) or not condlist:
        raise ArgumentError(f"np.select needs as many conditions as choices, got {len(condlist)} and {len(choicelist)}")
    y = default
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        y = np.where(condition, choice, y)
    return y


# Order: positions have no gradient, and picking by them has


def _argsort(
    a: Any, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None, descending: bool | None = None
) -> Any:
    return np.argsort(a, axis, **_given(kind=kind, stable=stable, descending=descending))


def _given(**options: Any) -> dict[str, Any]:
    """The options that a call gives: `descending` is for NumPy from 2.5 on only."""
    return {name: value for name, value in options.items() if value is not None}


def _argpartition(a: Any, kth: Any, axis: int | None = -1) -> Any:
    return np.argpartition(a, kth, axis)


def _searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    return np.searchsorted(a, v, side, sorter)


numpy_row(np.argsort, None, kernel=_argsort)
numpy_row(np.argpartition, None, kernel=_argpartition)
numpy_row(np.searchsorted, None, None, kernel=_searchsorted)
numpy_row(np.nonzero, None)
numpy_row(np.flatnonzero, None)


@composition(np.sort)
def _sort(
    a: Any, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None, descending: bool | None = None
) -> Any:
    a, axis = (a.reshape(-1), 0) if axis is None else (a, axis)
    return _take_along_axis(a, np.argsort(a, axis, **_given(kind=kind, stable=stable, descending=descending)), axis)


@composition(np.partition)
def _partition(a: Any, kth: Any, axis: int | None = -1) -> Any:
    a, axis = (a.reshape(-1), 0) if axis is None else (a, axis)
    return _take_along_axis(a, np.argpartition(a, kth, axis), axis)


# Windows


def _places(shape: tuple[int, ...], window_shape: Any, axis: Any) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """Each place in a window, and the index of the entries that all windows have in that place."""
    sizes = (window_shape,) if isinstance(window_shape, int) else tuple(window_shape)
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = [i % len(shape) for i in axes]
    for place in itertools.product(*map(range, sizes)):
        index = []
        for i, n in enumerate(shape):
            start = sum(p for p, j in zip(place, axes, strict=True) if j == i)
            used = sum(m - 1 for m, j in zip(sizes, axes, strict=True) if j == i)
            index.append(slice(start, start + n - used))
        yield place, tuple(index)


def _fold(g: Any, window_shape: Any, axis: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with every window of `g` added where it was taken from."""
    y = _zeros(shape, g)
    for place, index in _places(shape, window_shape, axis):
        y[index] += g[(Ellipsis, *place)]
    return y


def _windows(x: Any, window_shape: Any, axis: Any = None) -> Any:
    return _window_view(x, window_shape, axis)


_window_view = np.lib.stride_tricks.sliding_window_view
fold: Callable[..., Any] = own(
    _fold, lambda g, _y, _g, window_shape, axis, shape: _window_view(g, window_shape, axis), name="fold"
)
numpy_row(
    _window_view,
    lambda g, _y, _x, window_shape, axis=None: fold(g, window_shape, axis, _x.shape),
    kernel=_windows,
)


@composition(np.convolve)
def _convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = (x if hasattr(x, "shape") else np.asarray(x) for x in (a, v))
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ShapeError(f"np.convolve takes two vectors with entries, got shapes {a.shape} and {v.shape}")
    if mode not in ("full", "same", "valid"):
        raise ArgumentError(f"np.convolve: mode={mode!r} is none of 'full', 'same', 'valid'")
    if v.shape[0] > a.shape[0]:
        a, v = v, a
    n, m = a.shape[0], v.shape[0]
    y = _window_view(np.pad(a, m - 1), m) @ np.flip(v)
    if mode == "full":
        return y
    if mode == "valid":
        return y[m - 1 : n]
    return y[(m - 1) // 2 : (m - 1) // 2 + n]


@composition(np.correlate)
def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = (x if hasattr(x, "shape") else np.asarray(x) for x in (a, v))
    swapped = v.shape[0] > a.shape[0]
    y = _convolve(a, np.flip(v), mode)
    if not swapped or mode == "full":
        return y
    return np.flip(_convolve(v, np.flip(a), mode))
