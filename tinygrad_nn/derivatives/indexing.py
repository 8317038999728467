"""Rows for picking, ordering and sliding: getitem and scatter are each the other's derivative."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_nn.checks import choice, item_of, known
from tinygrad_nn.derivatives.shaping import line, shaped
from tinygrad_nn.derivatives.table import composition, numpy_row, own, plain
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["fitted", "getitem", "scatter", "within", "zeros"]

_ALL = (slice(None),)


def _getitem(x: Any, index: Any) -> Any:
    """Return ``x[index]`` for any basic or advanced index."""
    return x[index]


def _parts(index: Any) -> tuple[Any, ...]:
    """What an index has for one axis after the other."""
    return index if isinstance(index, tuple) else (index,)


def _repeats(index: Any) -> bool:
    """Whether an index can name one entry twice: integer arrays and lists of integers can."""
    return any(
        isinstance(part, list) or (getattr(part, "ndim", 0) > 0 and part.dtype != np.bool_) for part in _parts(index)
    )


def zeros(shape: tuple[int, ...], like: Any) -> Any:
    """Return zeros of `shape` in an array of the kind and dtype of `like`."""
    return np.zeros(shape, like.dtype) if isinstance(like, np.ndarray) else np.zeros_like(like, shape=shape)


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with `g` added at `index`; entries named twice receive both."""
    y = zeros(shape, g)
    if _repeats(index):
        np.add.at(y, index, g)
    elif type(y) is np.ndarray:
        y[index] = g
    else:  # other libraries' arrays may not assign to new axes
        places = tuple(part for part in _parts(index) if part is not None)
        y[places] = g.reshape(y[places].shape)
    return y


getitem: Callable[..., Any] = own(
    _getitem, lambda g, _y, _x, index: scatter(g, index, _x.shape), name="getitem", selects=True
)
scatter: Callable[..., Any] = own(_scatter, lambda g, _y, _g, index, shape: getitem(g, index), name="scatter")


def _within(numbers: Any, length: int, what: str) -> Any:
    """Return `numbers` as they are, if all lie in [0, length); what a program has to check at each call."""
    if known(what, numbers).size:
        low, high = item_of(numbers.min()), item_of(numbers.max())
        if not (low >= 0 and high < length):
            raise ArgumentError(f"{what} lie from 0 to {length - 1}, got {low} to {high}")
    return numbers


within = own(_within, None, name="within")


def _positions(indices: Any) -> Any:
    """An index as an array: of NumPy's, or of another library that indexes at once."""
    indices = plain(indices)
    foreign = hasattr(indices, "__array_function__") and not hasattr(indices, "__dask_graph__")
    if not foreign:
        indices = np.asarray(indices)
    # flags are the numbers 0 and 1, and no mask; and an empty list has no dtype of its own
    return indices if indices.size and indices.dtype.kind != "b" else indices.astype(int)


def _brought_within(indices: Any, length: int, mode: str, name: str) -> Any:
    """Positions as a mode of np.take and np.choose sees them."""
    if choice(name, mode, ("raise", "wrap", "clip")) == "raise":
        return indices
    return indices % length if mode == "wrap" else np.clip(indices, 0, length - 1)


@composition(np.take)
def _take(a: Any, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Any:
    a, axis = line(shaped(a), axis)
    return a[_ALL * axis + (_brought_within(_positions(indices), a.shape[axis], mode, "np.take: mode"),)]


@composition(np.compress)
def _compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    if np.ndim(condition) != 1:
        raise ShapeError(f"np.compress takes a condition with one axis, got {np.ndim(condition)}: use np.extract")
    return _take(a, np.flatnonzero(condition), axis)


composition(np.extract)(lambda condition, arr: _take(arr, np.flatnonzero(condition)))


@composition(np.delete)
def _delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    arr, axis = line(shaped(arr), axis)
    return arr[_ALL * axis + (np.delete(np.arange(arr.shape[axis]), plain(obj)),)]


def fitted(name: str, value: Any, like: Any) -> Any:
    """Return `value` in the dtype of another array, into which NumPy would convert it whatever is lost."""
    value = shaped(value)
    if not np.can_cast(value.dtype, like.dtype, "same_kind"):
        raise DTypeError(f"{name} of {value.dtype} does not fit among entries of {like.dtype}: convert it by astype()")
    return value.astype(like.dtype)


@composition(np.insert)
def _insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    arr, axis = line(shaped(arr), axis)
    obj, values, n = plain(obj), fitted("np.insert: a value", values, arr), arr.shape[axis]
    values = values.reshape((1,) * (arr.ndim - values.ndim) + values.shape)
    if not isinstance(obj, slice) and np.ndim(obj) == 0:
        values = np.moveaxis(values, 0, axis)  # as arr[:, 0] = values would take them, for one number
    values = np.broadcast_to(values, (*arr.shape[:axis], values.shape[axis], *arr.shape[axis + 1 :]))
    order = np.insert(np.arange(n), obj, np.arange(n, n + values.shape[axis]))
    return np.concatenate([arr, values], axis)[_ALL * axis + (order,)]


def _along(shape: tuple[int, ...], indices: Any, axis: int) -> tuple[Any, ...]:
    """The index that picks `indices` along one axis, and each entry's own place along the others."""
    n = len(shape)
    places = [np.arange(m).reshape((1,) * i + (m,) + (1,) * (n - i - 1)) for i, m in enumerate(shape)]
    return (*places[:axis], indices, *places[axis + 1 :])


@composition(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr, axis = line(shaped(arr), axis)
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
    for condition, chosen in zip(condlist[::-1], choicelist[::-1], strict=True):
        y = np.where(condition, chosen, y)
    return y


@composition(np.choose)
def _choose(a: Any, choices: Any, *, mode: str = "raise") -> Any:
    a, choices = shaped(plain(a)), list(choices)
    if not choices or a.dtype.kind not in "iub":
        raise ArgumentError(
            f"np.choose takes integers and at least one choice, got {a.dtype} and {len(choices)} choices"
        )
    a = within(_brought_within(a, len(choices), mode, "np.choose: mode"), len(choices), "the numbers of choices")
    # arrays first: a number has no dtype of its own
    (_, first), *others = sorted(enumerate(choices), key=lambda pair: not hasattr(pair[1], "shape"))
    y = np.broadcast_to(first, np.broadcast_shapes(a.shape, *(np.shape(c) for c in choices)))
    for k, one in others:
        y = np.where(a == k, one, y)
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
    a, axis = line(a, axis)
    return _take_along_axis(a, np.argsort(a, axis, **_given(kind=kind, stable=stable, descending=descending)), axis)


@composition(np.partition)
def _partition(a: Any, kth: Any, axis: int | None = -1) -> Any:
    a, axis = line(a, axis)
    return _take_along_axis(a, np.argpartition(a, kth, axis), axis)


# Windows


def _places(shape: tuple[int, ...], window_shape: Any, axis: Any) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """Each place in a window, and the index of the entries that all windows have in that place."""
    sizes = tuple(window_shape) if np.iterable(window_shape) else (window_shape,)
    axes = normalize_axis_tuple(range(len(shape)) if axis is None else axis, len(shape), allow_duplicate=True)
    for place in itertools.product(*map(range, sizes)):
        index = []
        for i, n in enumerate(shape):
            start = sum(p for p, j in zip(place, axes, strict=True) if j == i)
            used = sum(m - 1 for m, j in zip(sizes, axes, strict=True) if j == i)
            index.append(slice(start, start + n - used))
        yield place, tuple(index)


def _fold(g: Any, window_shape: Any, axis: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of `shape` with every window of `g` added where it was taken from."""
    y = zeros(shape, g)
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
    a, v = shaped(a), shaped(v)
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ShapeError(f"np.convolve takes two vectors with entries, got shapes {a.shape} and {v.shape}")
    choice("np.convolve: mode", mode, ("full", "same", "valid"))
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
    a, v = shaped(a), shaped(v)
    swapped = v.shape[0] > a.shape[0]
    y = _convolve(a, np.flip(v), mode)
    if not swapped or mode == "full":
        return y
    return np.flip(_convolve(v, np.flip(a), mode))
