"""Rows for functions that sum or choose along axes, and the statistics made of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_nn.derivatives.indexing import fitted
from tinygrad_nn.derivatives.shaping import expand, line
from tinygrad_nn.derivatives.table import alike, composition, numpy_row, own
from tinygrad_nn.errors import ArgumentError, ShapeError

Axis = int | tuple[int, ...] | None
_REST = (slice(None),)


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many entries go into one entry of a reduction."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


def _counted(shape: tuple[int, ...], axis: Axis, where: Any) -> Any:
    """How many entries that `where` lets in go into each, with the axes kept."""
    return np.broadcast_to(where, shape).sum(axis=axis, keepdims=True)


def _choice(where: Any) -> dict[str, Any]:
    """``where=`` if it leaves something out; arrays of other libraries may not take it."""
    return {} if where is True else {"where": where}


def _let_in(part: Any, where: Any) -> Any:
    return part if where is True else np.where(where, part, 0)


# Sums

_add_up: Callable[..., Any] = np.add.reduce


def _sum(x: Any, axis: Axis = None, *, keepdims: bool = False, **rest: Any) -> Any:
    # the ufunc's own method: the numbers of np.sum in a third of the time
    if type(x) is np.ndarray and not rest:
        return _add_up(x, axis, None, None, keepdims)
    return x.sum(axis=axis, keepdims=keepdims, **rest)


def _sum_rule(
    g: Any, _y: Any, _a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = 0, where: Any = True
) -> Any:
    return _let_in(expand(g, _a.shape, axis), where)


def _mean(x: Any, axis: Axis = None, *, keepdims: bool = False, **rest: Any) -> Any:
    if type(x) is np.ndarray and x.size and x.dtype.char in "fdgFDG" and not rest:
        return _add_up(x, axis, None, None, keepdims) / _count(x.shape, axis)
    return x.mean(axis=axis, keepdims=keepdims, **rest)


def _mean_rule(g: Any, _y: Any, _a: Any, axis: Axis = None, *, keepdims: bool = False, where: Any = True) -> Any:
    if g.dtype == np.float16:
        g = g.astype(np.float32)  # half precision counts to 65504 only
    if where is True:
        return expand(g / _count(_a.shape, axis), _a.shape, axis)
    return _let_in(expand(g, _a.shape, axis) / _counted(_a.shape, axis, where).astype(g.dtype), where)


def _mean_square(x: Any) -> Any:
    """Return the mean of the squares of all entries."""
    return _mean(np.square(x))


def _mean_square_rule(g: Any, _y: Any, x: Any) -> Any:
    if g.dtype == np.float16:
        g = g.astype(np.float32)
    return g / (x.size / 2) * x


numpy_row(np.sum, _sum_rule, kernel=_sum)
numpy_row(np.mean, _mean_rule, kernel=_mean)
# one row for the two that a loss ends with, since a step of a small network pays for each row on its way
mean_square: Callable[..., Any] = own(_mean_square, _mean_square_rule, name="mean_square")

# Extremes


def _extremum(
    g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Any:
    chosen = (a == expand(y, a.shape, axis)) & where
    ties = chosen.sum(axis=axis, keepdims=keepdims).astype(g.dtype)
    if initial is not None:
        ties = ties + (y == initial)
    return np.where(chosen, expand(g / ties, a.shape, axis), 0)


for _function in (np.max, np.amax, np.min, np.amin, np.nanmax, np.nanmin):
    numpy_row(_function, _extremum, selects=True, note="ties share the gradient equally")

# Products


def _product(x: Any, axis: int) -> Any:
    """Return the product of `x` along one axis."""
    return x.prod(axis=axis)


def _before(x: Any, axis: int) -> Any:
    """The product of the entries before each one along an axis: 1, x0, x0 x1, ..."""
    ones = alike(np.ones((*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.dtype), x)
    return running_product(np.concatenate([ones, x[_REST * axis + (slice(None, -1),)]], axis), axis)


def _product_rule(g: Any, _y: Any, x: Any, axis: int) -> Any:
    # the product of all others, without a division: right where entries are 0
    if not x.shape[axis]:
        return x * 1
    others = _before(x, axis) * np.flip(_before(np.flip(x, axis), axis), axis)
    return np.expand_dims(g, axis) * others


def _running_product(x: Any, axis: int) -> Any:
    """Return the products of the entries up to each one along an axis."""
    return x.cumprod(axis=axis)


def _running_product_rule(g: Any, _y: Any, x: Any, axis: int) -> Any:
    # g_i + x_(i+1) (g_(i+1) + x_(i+2) (...)), times what stands before x_i: no division, so right at 0
    n = x.shape[axis]
    if not n:
        return g * 1
    at = [_REST * axis + (i,) for i in range(n)]
    sums = [g[at[n - 1]]]
    for i in range(n - 2, -1, -1):
        sums.append(g[at[i]] + x[at[i + 1]] * sums[-1])
    return _before(x, axis) * np.stack(sums[::-1], axis)


product: Callable[..., Any] = own(_product, _product_rule, name="product")
running_product: Callable[..., Any] = own(_running_product, _running_product_rule, name="running_product")


def _one_axis(a: Any, axis: Axis) -> tuple[Any, int]:
    """`a` with the axes to be reduced joined to one, and the number of that axis."""
    if axis is None:
        return a.reshape(-1), 0
    axes = normalize_axis_tuple(axis, a.ndim)
    if len(axes) == 1:
        return a, axes[0]
    rest = [i for i in range(a.ndim) if i not in axes]
    shape = (*(a.shape[i] for i in rest), _count(a.shape, axes))
    return a.transpose((*rest, *axes)).reshape(shape), len(rest)


def _kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape of a reduction that keeps its axes."""
    axes = (
        range(len(shape)) if axis is None else [i % len(shape) for i in (axis if isinstance(axis, tuple) else (axis,))]
    )
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


@composition(np.prod)
def _prod(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
    if where is not True:
        a = np.where(where, a, 1)
    y = product(*_one_axis(a, axis))
    if initial is not None:
        y = y * fitted("np.prod: initial", initial, y)
    return y.reshape(_kept(a.shape, axis)) if keepdims else y


@composition(np.cumprod)
def _cumprod(a: Any, axis: int | None = None) -> Any:
    return running_product(*line(a, axis))


# Running sums


def _cumsum_rule(g: Any, _y: Any, _a: Any, axis: int | None = None) -> Any:
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis).reshape(_a.shape)


numpy_row(np.cumsum, _cumsum_rule)


def _ordered(x: Any, axis: int | None) -> Any:
    """A number as a vector; what has more axes must say along which of them to run."""
    if axis is None and x.ndim > 1:
        raise ShapeError(f"running sums and products of an array of shape {x.shape} need axis=")
    return np.atleast_1d(x)


if hasattr(np, "cumulative_sum"):  # NumPy 2.1

    @composition(np.cumulative_sum)
    def _cumulative_sum(x: Any, /, *, axis: int | None = None, include_initial: bool = False) -> Any:
        x = _ordered(x, axis)
        y = np.cumsum(x, axis)
        if not include_initial:
            return y
        return np.concatenate([alike(np.zeros(_kept(x.shape, axis), x.dtype), x), y], axis)

    @composition(np.cumulative_prod)
    def _cumulative_prod(x: Any, /, *, axis: int | None = None, include_initial: bool = False) -> Any:
        x = _ordered(x, axis)
        y = np.cumprod(x, axis)
        if not include_initial:
            return y
        return np.concatenate([alike(np.ones(_kept(x.shape, axis), x.dtype), x), y], axis)


# Spread


def _root(x: Any) -> Any:
    """Return the square root, with derivative 0 at 0: the length of a vector that vanishes."""
    return np.sqrt(x)


root: Callable[..., Any] = own(
    _root,
    lambda g, y, _x: g / np.where(y == 0, np.inf, 2 * y),
    name="root",
    broadcasts=True,
    selects=True,
    note="0 at 0, at every order: the root in np.std (for std(x)**2, which is smooth there, write np.var(x))",
)


@composition(np.var)
def _var(
    a: Any,
    axis: Axis = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    where: Any = True,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    if correction is not None and ddof:
        raise ArgumentError(f"ddof={ddof} and correction={correction} are two names of one number: give one of them")
    ddof = ddof if correction is None else correction
    if a.dtype.kind in "iub":  # too small to count in
        a = a.astype(float)
    if a.dtype == np.float16:
        options = {"ddof": ddof, "keepdims": keepdims, "where": where, "mean": mean}
        return _var(a.astype(np.float32), axis, **options).astype(np.float16)
    chosen = _choice(where)
    if where is True:
        count: Any = _count(a.shape, axis)
        rest: Any = max(count - ddof, 0)
    else:
        count = _counted(a.shape, axis, where).astype(a.dtype)  # integers would widen float32
        rest = np.maximum(count - ddof, 0)
    if mean is None:
        mean = np.sum(a, axis, keepdims=True, **chosen) / count
    y = np.sum(np.square(a - mean), axis, keepdims=True, **chosen) / rest
    return y if keepdims else np.squeeze(y, tuple(range(a.ndim)) if axis is None else axis)


@composition(np.std)
@functools.wraps(_var)
def _std(*args: Any, **options: Any) -> Any:
    return root(_var(*args, **options))


@composition(np.ptp)
def _ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)


@composition(np.average)
def _average(a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    a = a if hasattr(a, "shape") else np.asarray(a)
    axes = None if axis is None else normalize_axis_tuple(axis, a.ndim)
    if weights is None:
        y = np.mean(a, axes, keepdims=keepdims)
        total = alike(np.full(y.shape, _count(a.shape, axes), y.dtype), y)
        return (y, total) if returned else y
    weights = weights if hasattr(weights, "shape") else np.asarray(weights)
    weights = weights.astype(np.result_type(a.dtype, weights.dtype, np.float64 if a.dtype.kind in "iub" else a.dtype))
    if weights.shape != a.shape:
        if axes is None or weights.shape != tuple(a.shape[i] for i in axes):
            raise ShapeError(
                f"np.average of shape {a.shape} along axis={axis} takes weights of that shape, got {weights.shape}"
            )
        weights = weights.transpose([axes.index(i) for i in sorted(axes)])
        weights = weights.reshape(tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))
    total = np.sum(np.broadcast_to(weights, a.shape), axes, keepdims=keepdims)
    y = np.sum(a * weights, axes, keepdims=keepdims) / total
    return (y, total) if returned else y


@composition(np.median)
def _median(a: Any, axis: Axis = None, *, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    flat, one = _one_axis(a, axis)
    n = flat.shape[one]
    if not n:
        return np.mean(a, axis, keepdims=keepdims)
    ordered = np.sort(flat, one)
    y = np.mean(ordered[_REST * one + (slice((n - 1) // 2, n // 2 + 1),)], one)
    # NaN sorts to the end: where the last entry is NaN, so is the median
    last = ordered[_REST * one + (n - 1,)]
    y = np.where(np.isnan(last), last, y)
    return y.reshape(_kept(a.shape, axis)) if keepdims else y


# The same without NaN


def _without_nan(a: Any, value: float) -> Any:
    return np.where(np.isnan(a), value, a)


@composition(np.nansum)
def _nansum(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
    first = {} if initial is None else {"initial": initial}
    return np.sum(_without_nan(a, 0), axis, keepdims=keepdims, **first, **_choice(where))


@composition(np.nanprod)
def _nanprod(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
    return _prod(_without_nan(a, 1), axis, keepdims=keepdims, initial=initial, where=where)


@composition(np.nanmean)
def _nanmean(a: Any, axis: Axis = None, *, keepdims: bool = False, where: Any = True) -> Any:
    return np.mean(_without_nan(a, 0), axis, keepdims=keepdims, where=_present(a, where))


def _present(a: Any, where: Any) -> Any:
    return ~np.isnan(a) & where


@composition(np.nanvar)
@functools.wraps(_var)
def _nanvar(a: Any, axis: Axis = None, *, where: Any = True, **options: Any) -> Any:
    return _var(_without_nan(a, 0), axis, where=_present(a, where), **options)


@composition(np.nanstd)
@functools.wraps(_var)
def _nanstd(*args: Any, **options: Any) -> Any:
    return root(_nanvar(*args, **options))


# Positions and predicates have no gradient


def _argmax(a: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    return np.argmax(a, axis, keepdims=keepdims)


def _argmin(a: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    return np.argmin(a, axis, keepdims=keepdims)


def _all(a: Any, axis: Axis = None, *, keepdims: bool = False, where: Any = True) -> Any:
    return np.all(a, axis, keepdims=keepdims, **_choice(where))


def _any(a: Any, axis: Axis = None, *, keepdims: bool = False, where: Any = True) -> Any:
    return np.any(a, axis, keepdims=keepdims, **_choice(where))


def _count_nonzero(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.count_nonzero(a, axis, keepdims=True) if keepdims else np.count_nonzero(a, axis)


numpy_row(np.argmax, None, kernel=_argmax)
numpy_row(np.argmin, None, kernel=_argmin)
numpy_row(np.all, None, kernel=_all)
numpy_row(np.any, None, kernel=_any)
numpy_row(np.count_nonzero, None, kernel=_count_nonzero)
