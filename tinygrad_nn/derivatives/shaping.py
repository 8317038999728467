"""Rows for functions that move entries without changing them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tinygrad_nn.checks import choice, whole
from tinygrad_nn.derivatives.table import alike, composition, numpy_row, own, plain, unbroadcast
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["cast", "expand", "line", "shaped"]

_ALL = (slice(None),)


def shaped(a: Any) -> Any:
    """Return an array or Tensor as it is, and a list or number as an array."""
    return a if hasattr(a, "shape") else np.asarray(a)


def line(a: Any, axis: int | None) -> tuple[Any, int]:
    """Return an array and the axis to work along, counted from the front: None stands for all entries in one line."""
    return (a.reshape(-1), 0) if axis is None else (a, normalize_axis_index(axis, a.ndim))


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
expand: Callable[..., Any] = own(_expand, _expand_rule, name="expand")


def _cast(x: Any, to: Any) -> Any:
    """Convert to another dtype, and the gradient back."""
    return x.astype(to)


cast: Callable[..., Any] = own(_cast, lambda g, _y, _x, to: g.astype(_x.dtype), name="astype")


if hasattr(np, "unstack"):  # of NumPy 2.1, from which on np.astype takes other arrays than its own

    @composition(np.astype)
    def _astype(x: Any, to: Any, /, *, copy: bool = True) -> Any:
        return x.astype(to)


# The same entries in another shape


def _check_order(order: Any) -> None:
    if not isinstance(order, str) or order not in ("C", "F"):
        raise ArgumentError(
            f"order={order!r} depends on the memory layout, which Tensors do not promise: use 'C' or 'F'"
        )


def _reshape_kernel(a: Any, shape: Any, order: str = "C") -> Any:
    _check_order(order)
    return _reshaped(a, shape, order)


def _reshaped(a: Any, shape: Any, order: Any) -> Any:
    """A reshape that names the order only where it is not C: other libraries' arrays may know no other."""
    return a.reshape(shape) if order == "C" else np.reshape(a, shape, order)


def _ravel_kernel(a: Any, order: Any = "C") -> Any:
    _check_order(order)
    return a.ravel() if order == "C" else np.ravel(a, order)


numpy_row(np.reshape, lambda g, _y, _a, shape, order="C": _reshaped(g, _a.shape, order), kernel=_reshape_kernel)
numpy_row(np.ravel, lambda g, _y, _a, order="C": _reshaped(g, _a.shape, order), kernel=_ravel_kernel)
numpy_row(np.expand_dims, lambda g, _y, _a, axis: g.reshape(_a.shape))
numpy_row(np.squeeze, lambda g, _y, _a, axis=None: g.reshape(_a.shape))


def _atleast(ndim: int) -> Callable[..., Any]:
    def reshape(*arrays: Any) -> Any:
        results = tuple(_with_axes(a, ndim) for a in arrays)
        return results[0] if len(results) == 1 else results

    return reshape


def _with_axes(a: Any, ndim: int) -> Any:
    a = shaped(a)
    shape = a.shape
    if ndim == 3 and len(shape) in (1, 2):  # NumPy puts a vector, or a matrix, before a new last axis
        shape = (1, *shape, 1) if len(shape) == 1 else (*shape, 1)
    return a.reshape((1,) * (ndim - len(shape)) + shape)


for _ndim, _function in ((1, np.atleast_1d), (2, np.atleast_2d), (3, np.atleast_3d)):
    composition(_function)(_atleast(_ndim))

# The same entries on other axes


def _transpose(g: Any, _y: Any, _a: Any, axes: Any = None) -> Any:
    if axes is None:
        return g.transpose()
    inverse = [0] * g.ndim
    for i, axis in enumerate(axes):
        inverse[axis] = i
    return g.transpose(inverse)


numpy_row(np.transpose, _transpose)
numpy_row(np.swapaxes, lambda g, _y, _a, axis1, axis2: np.swapaxes(g, axis1, axis2))
numpy_row(np.moveaxis, lambda g, _y, _a, source, destination: np.moveaxis(g, destination, source))


@composition(np.rollaxis)
def _rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis = normalize_axis_index(axis, a.ndim)
    start = start if start == a.ndim else normalize_axis_index(start, a.ndim)
    return np.moveaxis(a, axis, start - (axis < start))


# The same entries in another order

numpy_row(np.flip, lambda g, _y, _m, axis=None: np.flip(g, axis))
composition(np.flipud)(lambda m: np.flip(m, 0))
composition(np.fliplr)(lambda m: np.flip(m, 1))


def _roll(g: Any, _y: Any, _a: Any, shift: Any, axis: Any = None) -> Any:
    back = tuple(-s for s in shift) if isinstance(shift, (tuple, list)) else -shift
    return np.roll(g, back, axis)


numpy_row(np.roll, _roll)


@composition(np.rot90)
def _rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    first, second = normalize_axis_tuple(axes, m.ndim)
    k %= 4
    if k == 2:
        return np.flip(m, (first, second))
    if k == 1:
        return np.swapaxes(np.flip(m, second), first, second)
    return np.flip(np.swapaxes(m, first, second), second) if k else np.copy(m)


# Repeated entries


def _broadcast_to(array: Any, shape: Any) -> Any:
    return np.broadcast_to(array, shape)


numpy_row(
    np.broadcast_to,
    lambda g, _y, _array, shape: unbroadcast(g, _array.shape),
    kernel=_broadcast_to,
)


@composition(np.broadcast_arrays)
def _broadcast_arrays(*args: Any) -> tuple[Any, ...]:
    shape = np.broadcast_shapes(*(np.shape(a) for a in args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@composition(np.meshgrid)
def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    axes = list(range(len(xi)))
    if choice("np.meshgrid: indexing", indexing, ("xy", "ij")) == "xy":
        axes[:2] = axes[1::-1]
    grids = [shaped(x).reshape((1,) * i + (-1,) + (1,) * (len(xi) - 1 - i)) for x, i in zip(xi, axes, strict=True)]
    return tuple(grids) if sparse else _broadcast_arrays(*grids)


@composition(np.repeat)
def _repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    a, axis = line(a, axis)
    if np.asarray(plain(repeats)).dtype.kind not in "iub":
        raise DTypeError(f"np.repeat: repeats={repeats!r} must be whole numbers")
    return a[_ALL * axis + (np.repeat(np.arange(a.shape[axis]), plain(repeats)),)]


@composition(np.tile)
def _tile(A: Any, reps: Any) -> Any:
    reps = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    shape = (1,) * (len(reps) - A.ndim) + A.shape
    reps = (1,) * (len(shape) - len(reps)) + reps
    pairs = tuple(n for pair in zip(reps, shape, strict=True) for n in pair)
    apart = A.reshape(tuple(n for m in shape for n in (1, m)))
    return np.broadcast_to(apart, pairs).reshape(tuple(r * m for r, m in zip(reps, shape, strict=True)))


def _pad_constant(array: Any, pad_width: Any, *, constant_values: Any = 0) -> Any:
    """Surround an array with constants."""
    return np.pad(array, pad_width, constant_values=constant_values)


def _pad_rule(g: Any, _y: Any, _array: Any, pad_width: Any, *, constant_values: Any = 0) -> Any:
    widths = np.broadcast_to(pad_width, (_array.ndim, 2))
    return g[tuple(slice(int(w[0]), int(w[0]) + n) for w, n in zip(widths, _array.shape, strict=True))]


pad_constant = own(_pad_constant, _pad_rule, name="pad_constant")


_STATISTICS: dict[str, Callable[..., Any]] = {
    "maximum": np.max,
    "minimum": np.min,
    "mean": np.mean,
    "median": np.median,
}
_PAD_OPTIONS: dict[str, dict[str, Any]] = {  # "empty" would leave what the memory holds
    "constant": {"constant_values": 0},
    "edge": {},
    "linear_ramp": {"end_values": 0},
    **{name: {"stat_length": None} for name in _STATISTICS},
    "reflect": {"reflect_type": "even"},
    "symmetric": {"reflect_type": "even"},
    "wrap": {},
}


@composition(np.pad)
def _pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    usual = _PAD_OPTIONS[choice("np.pad: mode", mode, tuple(_PAD_OPTIONS))]
    if options.keys() - usual.keys():
        raise ArgumentError(
            f"np.pad with mode={mode!r} takes {'=, '.join(usual) or 'no option'}, got {', '.join(options)}"
        )
    if isinstance(pad_width, dict):
        named = {axis % array.ndim: np.broadcast_to(width, 2) for axis, width in pad_width.items()}
        pad_width = [tuple(named.get(axis, (0, 0))) for axis in range(array.ndim)]
    if mode == "constant":
        return pad_constant(array, pad_width, **(usual | options))
    if "reflect_type" in options:
        choice("np.pad: reflect_type", options["reflect_type"], ("even", "odd"))
    if not np.any(pad_width):
        return pad_constant(array, 0)
    value: Any = next(iter((usual | options).values()), None)
    values = np.broadcast_to(value, (array.ndim, 2))
    for axis, pair in enumerate(np.broadcast_to(pad_width, (array.ndim, 2))):
        widths = tuple(whole("pad_width", width, 0) for width in pair)
        if any(widths):
            array = _padded(array, axis, widths, mode, values[axis])
    return array


def _padded(array: Any, axis: int, widths: tuple[int, ...], mode: str, values: Any) -> Any:
    """Pad one axis in any mode but constant; `values` are the mode's option for either end."""
    n = array.shape[axis]
    if not n:
        raise ShapeError(f"np.pad finds nothing to repeat on axis {axis} of shape {array.shape}: use mode='constant'")
    if mode in ("linear_ramp", *_STATISTICS) or (values[0] == "odd" and n > 1):
        first = _ahead(array, axis, widths[0], mode, values[0])
        last = _ahead(np.flip(array, axis), axis, widths[1], mode, values[1])
        return np.concatenate([first, array, np.flip(last, axis)], axis)
    # the other modes repeat entries: padding their numbers says which
    numbers: Any = np.pad(np.arange(n), widths, mode)  # type: ignore[call-overload]
    return array[_ALL * axis + (numbers,)]


def _ahead(array: Any, axis: int, width: int, mode: str, value: Any) -> Any:
    """What a mode puts before the first entries of an axis."""
    lead = _ALL * axis
    if not width:
        return array[(*lead, slice(0))]
    if mode == "linear_ramp":
        value = value.astype(np.result_type(array.dtype, np.float16))
        steps = alike(np.arange(width, dtype=value.dtype).reshape((-1,) + (1,) * (array.ndim - axis - 1)), array)
        ramp = value + (array[(*lead, slice(1))] - value) / width * steps
        return (np.floor(ramp) if array.dtype.kind in "iu" else ramp).astype(array.dtype)
    if mode in _STATISTICS:
        length = None if value is None else whole("stat_length", value)
        y = _STATISTICS[mode](array[(*lead, slice(length))], axis=axis, keepdims=True)
        y = (np.rint(y) if array.dtype.kind in "iu" else y).astype(array.dtype)
        return np.broadcast_to(y, (*array.shape[:axis], width, *array.shape[axis + 1 :]))
    if array.dtype.kind == "b":
        raise DTypeError("np.pad with reflect_type='odd' subtracts, which bools do not: convert them by astype()")
    skipped = int(mode == "reflect")
    period = array.shape[axis] - skipped
    for done in range(0, width, period):  # turned about the first entry, and again about what is the first then
        part = array[(*lead, slice(skipped, skipped + min(period, width - done)))]
        array = np.concatenate([2 * array[(*lead, slice(1))] - np.flip(part, axis), array], axis)
    return array[(*lead, slice(width))]


# Joining: bound to kernels that take the arrays one by one


def _concatenate(axis: int | None, *arrays: Any) -> Any:
    return np.concatenate(arrays, axis=axis)


def _concatenate_rule(g: Any, _y: Any, axis: int | None, *_arrays: Any) -> list[Any]:
    if axis is None:
        g, axis, lengths = g.reshape(-1), 0, [math.prod(a.shape) for a in _arrays]
    else:
        lengths = [a.shape[axis] for a in _arrays]
    before = _ALL * (axis % g.ndim)
    ends = itertools.accumulate(lengths)
    parts = [g[(*before, slice(end - n, end))] for n, end in zip(lengths, ends, strict=True)]
    return [part.reshape(a.shape) for part, a in zip(parts, _arrays, strict=True)]


def _bind_concatenate(arrays: Any, axis: int | None = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (axis, *arrays), {}


numpy_row(np.concatenate, _concatenate_rule, kernel=_concatenate, variadic=True, splits=True, bind=_bind_concatenate)


def _stack(axis: int, *arrays: Any) -> Any:
    return np.stack(arrays, axis=axis)


def _stack_rule(g: Any, _y: Any, axis: int, *_arrays: Any) -> list[Any]:
    before = _ALL * (axis % g.ndim)
    return [g[(*before, k)] for k in range(len(_arrays))]


def _bind_stack(arrays: Any, axis: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    arrays = tuple(arrays)
    shapes = {np.shape(a) for a in arrays}
    if len(shapes) > 1:
        raise ShapeError(f"np.stack needs arrays of one shape, got {sorted(shapes)}")
    return (axis, *arrays), {}


numpy_row(np.stack, _stack_rule, kernel=_stack, variadic=True, splits=True, bind=_bind_stack)


def _pieces(arrays: Any, ndim: int) -> list[Any]:
    return [_with_axes(a, ndim) for a in arrays]


@composition(np.vstack)
def _vstack(tup: Any) -> Any:
    return np.concatenate(_pieces(tup, 2), 0)


@composition(np.hstack)
def _hstack(tup: Any) -> Any:
    pieces = _pieces(tup, 1)
    return np.concatenate(pieces, 0 if pieces[0].ndim == 1 else 1)


@composition(np.dstack)
def _dstack(tup: Any) -> Any:
    return np.concatenate(_pieces(tup, 3), 2)


@composition(np.column_stack)
def _column_stack(tup: Any) -> Any:
    return np.concatenate([a.reshape(-1, 1) if np.ndim(a) < 2 else a for a in _pieces(tup, 1)], 1)


@composition(np.append)
def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([shaped(a) for a in (arr, values)], axis)


# Taking apart: slices


@composition(np.array_split)
def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    axis = normalize_axis_index(axis, ary.ndim)
    n = ary.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ArgumentError(f"the number of sections must be positive, got {sections}")
        sizes = [n // sections + (k < n % sections) for k in range(sections)]
        cuts = [sum(sizes[:k]) for k in range(sections + 1)]
    else:
        cuts = [0, *indices_or_sections, n]
    return [ary[_ALL * axis + (slice(a, b),)] for a, b in itertools.pairwise(cuts)]


@composition(np.split)
def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if np.ndim(indices_or_sections) == 0 and indices_or_sections > 0 and ary.shape[axis] % indices_or_sections:
        raise ShapeError(
            f"axis {axis} of shape {ary.shape} does not divide into {indices_or_sections} equal parts: "
            f"use np.array_split"
        )
    return _array_split(ary, indices_or_sections, axis)


composition(np.vsplit)(lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0))
composition(np.hsplit)(lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1))
composition(np.dsplit)(lambda ary, indices_or_sections: _split(ary, indices_or_sections, 2))

if hasattr(np, "unstack"):  # NumPy 2.1

    @composition(np.unstack)
    def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
        return tuple(x[_ALL * normalize_axis_index(axis, x.ndim) + (k,)] for k in range(x.shape[axis]))


# What is asked of a shape, not of the entries; and arrays made in the shape of another

composition(np.shape)(lambda a: a.shape)
composition(np.ndim)(lambda a: a.ndim)


@composition(np.size)
def _size(a: Any, axis: int | None = None) -> int:
    return int(a.size if axis is None else a.shape[axis])


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    def kernel(a: Any, *, shape: Any = None) -> Any:
        return make(a, shape=shape)

    return kernel


def _full_like(a: Any, fill_value: Any, *, shape: Any = None) -> Any:
    return np.full_like(a, fill_value, shape=shape)


_MAKERS: list[Callable[..., Any]] = [np.zeros_like, np.ones_like, np.empty_like]
for _make in _MAKERS:
    numpy_row(_make, None, kernel=_like(_make), note="no gradient flows")
numpy_row(
    np.full_like,
    None,
    lambda g, _y, _a, _fill_value, *, shape=None: unbroadcast(g, _fill_value.shape),
    kernel=_full_like,
    note="no gradient flows to the first argument",
)
numpy_row(np.copy, lambda g, _y, _a: g, kernel=lambda a: a.copy())
