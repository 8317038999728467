"""Domains of the rows in tinygrad_nn/derivatives/shaping.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from domains.base import Case, Draw, domain
from tinygrad_nn.derivatives import shaping


@domain(np.reshape)
def reshape(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    target = d.pick((math.prod(shape),), (1, *shape), (*shape[::-1], 1), shape)
    if math.prod(shape) and d.pick(True, False):
        target = (-1, *target[1:])
    order = d.pick("C", "F")
    if d.pick(False, False, True):
        return Case(lambda x: function(x, (3, -1), order="F"), [d.values((2, 3, 2))])
    if d.pick("function", "method") == "method":
        return Case(lambda x: x.reshape(target), [d.values(shape)])
    return Case(lambda x: function(x, target, order=order), [d.values(shape)])


@domain(np.ravel)
def ravel(d: Draw, function: Callable[..., Any]) -> Case:
    order = d.pick("C", "F", "default")
    if order == "default":
        return Case(function, [d.values(d.shape())])
    return Case(lambda x: function(x, order), [d.values(d.shape())])


@domain(np.atleast_1d, np.atleast_2d, np.atleast_3d)
def atleast(d: Draw, function: Callable[..., Any]) -> Case:
    if d.pick(False, False, True):
        return Case(lambda x: function(x, [0.5, 1.5])[1] + x, [d.values(())], widens=True)
    if d.pick(True, False):
        return Case(lambda x, y: function(x, y)[1], [d.values(d.shape()), d.values(d.shape())])
    return Case(function, [d.values(d.shape())])


@domain(np.copy)
def copy(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape())])


@domain(np.flip, np.flipud, np.fliplr)
def flip(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=0 if function is np.flip else 2)
    if function is np.flip:
        axis = d.axis(len(shape))
        return Case(lambda x: function(x, axis), [d.values(shape)])
    return Case(function, [d.values(shape)])


@domain(np.roll)
def roll(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    if d.pick(False, False, True):
        shift, axis = d.pick(((1, -2), (0, -1)), ((2, 1), -1), (1, (0, -1)))
    else:
        shift = d.integer(-5, 5)
    return Case(lambda x: function(x, shift, axis), [d.values(shape)])


@domain(np.rot90)
def rot90(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=2)
    k, axes = d.integer(-3, 5), d.pick((0, 1), (1, 0), (-1, 0))
    if d.pick(False, False, True):
        return Case(function, [d.values(shape)])
    return Case(lambda x: function(x, k, axes), [d.values(shape)])


@domain(np.broadcast_arrays)
def broadcast_arrays(d: Draw, function: Callable[..., Any]) -> Case:
    which = d.pick(0, 1)
    return Case(lambda a, b: function(a, b)[which], [d.values(s) for s in d.shapes(2)])


@domain(np.rollaxis)
def rollaxis(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((2, 3), (2, 4, 3))
    n = len(shape)
    axis, start = d.integer(-n, n - 1), d.integer(-n, n)
    if d.pick(False, False, True):
        return Case(lambda x: function(x, axis), [d.values(shape)])
    return Case(lambda x: function(x, axis, start), [d.values(shape)])


@domain(np.meshgrid)
def meshgrid(d: Draw, function: Callable[..., Any]) -> Case:
    shapes = [d.pick((), (3,), (2,), (4,), (2, 2)) for _ in range(d.integer(1, 4))]
    which = d.integer(0, len(shapes) - 1)
    options = d.pick({}, {"indexing": "ij"}, {"indexing": "xy"}, {"sparse": True}, {"sparse": True, "indexing": "ij"})
    if d.pick(False, False, True):
        return Case(lambda x: function(x, [0.5, 1.5], copy=False, **options)[0], [d.values((3,))])
    return Case(lambda *xs: function(*xs, **options)[which], [d.values(s) for s in shapes])


@domain(np.repeat)
def repeat(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    n = math.prod(shape) if axis is None else shape[axis]
    repeats = d.pick(0, 2, 3, d.rng.integers(0, 3, n))
    if d.pick("function", "method") == "method":
        return Case(lambda x: x.repeat(repeats, axis), [d.values(shape)])
    return Case(lambda x: function(x, repeats, axis), [d.values(shape)])


@domain(np.tile)
def tile(d: Draw, function: Callable[..., Any]) -> Case:
    reps = d.pick(2, (2,), (1, 2), (2, 0), (2, 1, 3), ())
    return Case(lambda x: function(x, reps), [d.values(d.shape())])


PADS_BY_NAME = np.lib.NumpyVersion(np.__version__) >= "2.2.0"  # a dict of widths


def widths_of(d: Draw, n: int) -> Any:
    """Widths for n axes: for all alike, for each its own, for one only, none."""
    one = [(0, 0)] * (n - 1)
    return d.pick(2, (0, 3), (3, 0), [(2, 1), *one], [*one, (1, 8)], [(1 + k, 2) for k in range(n)], 0, [(0, 0)])


def pad_by_ramps(d: Draw, function: Callable[..., Any]) -> Case:
    if d.seldom():
        # NumPy asks the array alone whether it is a Tensor
        return Case(lambda x: function(np.stack([x, 2 * x]), (1, 3), "linear_ramp", end_values=x), [d.values((2,))])
    shape = d.pick((3,), (4,), (1,), (2, 4), (4, 3), (3, 1), (2, 1, 3))
    n = len(shape)
    width = d.pick([(1 + k, 2) for k in range(n)], widths_of(d, n))
    ends = [(k + 0.5, -0.75 - k) for k in range(n)]
    options = d.pick({}, {"end_values": 1}, {"end_values": (-1, 2.5)}, {"end_values": ends}, {"end_values": ends})
    return Case(lambda x: function(x, width, "linear_ramp", **options), [d.values(shape)])


def pad_by_statistics(d: Draw, function: Callable[..., Any]) -> Case:
    mode = d.pick("mean", "maximum", "minimum", "median")
    shape = d.pick((3,), (4,), (1,), (2, 4), (4, 3), (3, 1), (2, 1, 3))
    n = len(shape)
    width = widths_of(d, n)
    if mode == "median" and n > 1:  # of one axis: a mean of two medians may come close to a third one
        width = d.pick([(2, 1)] + [(0, 0)] * (n - 1), [(0, 0)] * (n - 1) + [(1, 8)])
    each = [(k + 1, 9) for k in range(n)]
    options = d.pick({}, {"stat_length": None}, {"stat_length": d.pick(1, 2, (3, 1), each, each)})
    x = d.values(shape) if mode == "mean" else d.spread(shape)
    return Case(lambda x: function(x, width, mode, **options), [x], complex_safe=mode == "mean")


def pad_by_odd_reflections(d: Draw, function: Callable[..., Any]) -> Case:
    mode = d.pick("reflect", "symmetric")
    shape = d.pick((3,), (4,), (1,), (2, 4), (4, 3), (3, 1), (2, 1, 3))
    width = d.pick(widths_of(d, len(shape)), [(0, 0)] * (len(shape) - 1) + [(8, 5)])  # more than there are entries
    return Case(lambda x: function(x, width, mode, reflect_type="odd"), [d.values(shape)])


def pad_by_entries(d: Draw, function: Callable[..., Any]) -> Case:
    mode = d.pick("constant", "constant", "edge", "reflect", "symmetric", "wrap")
    shape = d.shape(min_dims=1, max_dims=2, min_side=0 if mode == "constant" else 2)
    width = d.pick(1, (1, 2), [(2, 0)] + [(0, 3)] * (len(shape) - 1))
    options = {"constant_values": d.pick(0, 2.5)} if mode == "constant" else {}
    form = d.pick("axes", "default", "named") if mode == "constant" else d.pick("axes", "axes", "named")
    if form == "default":
        return Case(lambda x: function(x, width), [d.values(shape)])
    if form == "named" and PADS_BY_NAME:
        named = d.pick({-1: (1, 2)}, {0: 2}, {1: (0, 3), 0: 1}, {1: (2, 1)}, {-2: 1})
        return Case(lambda x: function(x, named, mode, **options), [d.values((2, 3))])
    return Case(lambda x: function(x, width, mode, **options), [d.values(shape)])


@domain(np.pad)
def pad(d: Draw, function: Callable[..., Any]) -> Case:
    make = d.pick(pad_by_entries, pad_by_entries, pad_by_ramps, pad_by_ramps, pad_by_statistics, pad_by_odd_reflections)
    return make(d, function)


@domain(shaping.pad_constant)
def pad_constant(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x, (1, 2)), [d.values(d.shape(min_dims=1))])


@domain(np.vstack, np.hstack, np.dstack, np.column_stack)
def joined(d: Draw, function: Callable[..., Any]) -> Case:
    n = d.integer(1, 3)
    shapes = d.pick([(n,), (n,)], [(n, 2), (n, 2), (n, 2)], [(n,)])
    if d.pick(False, False, True):
        return Case(lambda x: function([x, [0.5] * n]), [d.values((n,))], widens=True)
    if function is not np.column_stack:
        shapes = d.pick(shapes, [(n, 2, 2)] * 2, [(), ()])
    return Case(lambda *xs: function(xs), [d.values(s) for s in shapes])


@domain(np.append)
def append(d: Draw, function: Callable[..., Any]) -> Case:
    if d.pick(True, False):
        return Case(function, [d.values(d.shape()), d.values(d.shape())])
    if d.pick(True, False):
        return Case(lambda a: function(a, [0.5, -1.5]), [d.values(d.shape())], widens=True)
    axis = d.pick(1, -1, 0, -2)
    second = (2, 1) if axis in (1, -1) else (4, 3)
    return Case(lambda a, b: function(a, b, axis=axis), [d.values((2, 3)), d.values(second)])


@domain(np.split, np.array_split, np.vsplit, np.hsplit, np.dsplit)
def split(d: Draw, function: Callable[..., Any]) -> Case:
    sections, which = d.pick(2, [1, 3], (2,)), d.pick(0, -1)
    if function in (np.split, np.array_split):
        axis = d.pick(0, 1, -1, -2)
        if function is np.array_split:
            sections = d.pick(sections, 3)
        if d.pick(False, False, True):
            return Case(lambda x: function(x, sections)[which], [d.values((4, 6))])
        return Case(lambda x: function(x, sections, axis)[which], [d.values((4, 6))])
    if function is np.hsplit and d.pick(True, False):
        return Case(lambda x: function(x, sections)[which], [d.values((4,))])
    return Case(lambda x: function(x, sections)[which], [d.values((4, 4, 4))])


if hasattr(np, "unstack"):

    @domain(np.unstack)
    def unstack(d: Draw, function: Callable[..., Any]) -> Case:
        axis, which = d.pick(0, 1, -1, -2), d.pick(0, -1)
        if d.pick(False, False, True):
            return Case(lambda x: function(x)[which], [d.values((2, 3))])
        return Case(lambda x: function(x, axis=axis)[which], [d.values((2, 3))])

    @domain(np.astype)
    def astype(d: Draw, function: Callable[..., Any]) -> Case:
        options = d.pick({}, {"copy": True})
        return Case(
            lambda x: function(x, np.result_type(x.dtype, np.longdouble), **options), [d.values(d.shape())], widens=True
        )


@domain(np.zeros_like, np.ones_like)
def like(d: Draw, function: Callable[..., Any]) -> Case:
    options = d.pick({}, {"shape": (2, 3)})
    return Case(lambda x: function(x, **options), [d.values(d.shape())])


@domain(np.empty_like)
def empty_like(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: np.zeros_like(function(x)), [d.values(d.shape())])  # the values themselves are garbage


@domain(np.full_like)
def full_like(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    options = d.pick({}, {"shape": (2, 3)})
    # NumPy asks the first argument alone whether it is a Tensor
    if d.pick(True, False):
        return Case(lambda value: function(np.broadcast_to(value - 1, (2, 4, 3)), value), [d.values((4, 3))])
    return Case(lambda value: function(np.broadcast_to(value - 1, shape), value, **options), [d.values(())])


@domain(np.transpose)
def transpose(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    axes = d.pick(None, d.permuted(range(len(shape))))
    if axes is not None:
        axes = tuple(a - len(shape) if a % 2 else a for a in axes)
    return Case(lambda x: function(x, axes), [d.values(shape)])


@domain(np.swapaxes, np.moveaxis)
def swapaxes(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    first, second = (
        d.axis(len(shape), none=False, several=False),
        d.axis(len(shape), none=False, several=False),
    )
    return Case(lambda x: function(x, first, second), [d.values(shape)])


@domain(np.expand_dims)
def expand_dims(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    axis = d.pick(0, -1, (0, -1), (0, 1))
    return Case(lambda x: function(x, axis), [d.values(shape)])


@domain(np.squeeze)
def squeeze(d: Draw, function: Callable[..., Any]) -> Case:
    shape, axis = d.pick(((1, 3, 1), None), ((1, 3, 1), 0), ((1, 3, 1), (0, -1)), ((), None), ((2,), None))
    return Case(lambda x: function(x, axis=axis), [d.values(shape)])


@domain(np.broadcast_to)
def broadcast_to(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    target = np.broadcast_shapes(first, second)
    return Case(lambda x: function(x, target), [d.values(first)])


@domain(shaping.expand)
def expand(d: Draw, function: Callable[..., Any]) -> Case:
    if d.pick(False, False, True):
        return Case(lambda x: function(x, (2, 4, 3)), [d.values(d.pick((3,), (4, 1), (2, 1, 3)))])
    shape = d.shape()
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    small = np.sum(np.zeros(shape), axis=axis, keepdims=keepdims).shape
    return Case(lambda x: function(x, shape, axis), [d.values(small)])


@domain(shaping.cast)
def cast(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x, np.result_type(x.dtype, np.longdouble)), [d.values(d.shape())], widens=True)


@domain(np.concatenate)
def concatenate(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    lengths = [d.side(most=3) for _ in range(d.integer(1, 4))]
    if axis is None:  # in one line, whatever their shapes
        shapes = [d.pick((n,), (n, 2), (2, n, 1), ()) for n in lengths]
    else:
        shapes = [(*shape[: axis % len(shape)], n, *shape[axis % len(shape) + 1 :]) for n in lengths]
    if d.pick(False, False, True):
        return Case(lambda *arrays: function(arrays), [d.values((n, 2)) for n in lengths])
    return Case(lambda *arrays: function(arrays, axis=axis), [d.values(s) for s in shapes])


@domain(np.stack)
def stack(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    axis = d.integer(-len(shape) - 1, len(shape))
    count = d.integer(1, 3)
    if d.pick(False, False, True):
        return Case(lambda *arrays: function(list(arrays)), [d.values(shape) for _ in range(count)])
    return Case(lambda *arrays: function(list(arrays), axis), [d.values(shape) for _ in range(count)])
