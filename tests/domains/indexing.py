"""Domains of the rows in tinygrad_nn/derivatives/indexing.py."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from domains.base import Case, Draw, domain
from tinygrad_nn.derivatives import indexing, random


def an_index(d: Draw) -> tuple[tuple[int, ...], Any]:
    """A shape and an index into it: basic, advanced with repeats, mixed, or a mask."""
    shape, index = d.pick(
        ((4,), 2),
        ((4,), -1),
        ((4,), slice(1, None, 2)),
        ((4,), slice(None, None, -1)),
        ((4,), [0, 2, 2, 2]),
        ((4,), np.array([[0, 1], [3, 3]])),
        ((4,), np.array([True, False, True, True])),
        ((4,), np.array([], dtype=int)),
        ((3, 4), (1, 2)),
        ((3, 4), (slice(None), 1)),
        ((3, 4), (Ellipsis, None, 1)),
        ((3, 4), ([0, 2, 0, 0], [1, 1, 1, 3])),
        ((3, 4), (slice(None), [0, 0, -1])),
        ((3, 4), (np.array([0, 2]), slice(1, 3))),
        ((3, 4), np.arange(12).reshape(3, 4) % 3 == 0),
        ((3, 4), np.array(1)),
        ((2, 3, 4), (np.array([0, 0, 1]), slice(None), np.array([3, 3, 0]))),
        ((2, 3, 4), (0, slice(None), [1, 1])),
        ((2, 3, 4), (slice(None), np.array([True, False, True]))),
        ((2, 3, 4), (np.array([[0], [1]]), np.array([0, 2]))),
        ((), ()),
        ((), None),
        ((), Ellipsis),
    )
    return shape, index


@domain(indexing.getitem)
def getitem(d: Draw, function: Callable[..., Any]) -> Case:
    shape, index = an_index(d)
    return Case(lambda x: x[index], [d.values(shape)])


@domain(indexing.scatter)
def scatter(d: Draw, function: Callable[..., Any]) -> Case:
    shape, index = an_index(d)
    return Case(lambda g: function(g, index, shape), [d.values(np.zeros(shape)[index].shape)])


@domain(np.take)
def take(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (3, 2, 4))
    axis, mode = d.axis(len(shape), several=False), d.pick("raise", "wrap", "clip")
    indices = d.pick(1, [0, -1, 2, 2], np.array([[0, 1], [-2, 0]]))
    if axis is not None and shape[axis] == 2:
        indices = [1, 0, -2]
    if mode != "raise":
        indices = [7, -5, 0]
    return Case(lambda x: function(x, indices, axis=axis, mode=mode), [d.values(shape)])


@domain(np.compress)
def compress(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (3, 2, 4))
    axis = d.axis(len(shape), several=False)
    n = int(np.prod(shape)) if axis is None else shape[axis]
    condition = d.rng.integers(0, 2, n + d.pick(0, 0, -1))
    condition = d.pick(condition.tolist(), condition, condition > 0, np.append(condition, [0, 0]))
    if d.pick("function", "method") == "method":
        return Case(lambda x: x.compress(condition, axis), [d.values(shape)])
    if d.pick(False, False, True):  # the last entry of each row, or of all
        return Case(lambda x: function([0, 0, 0, 1], x), [d.values((4,))])
    return Case(lambda x: function(condition, x, axis), [d.values(shape)])


@domain(np.extract)
def extract(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    mask = d.rng.random(shape) < 0.6
    condition = d.pick(mask, mask.tolist())
    return Case(lambda x: function(condition, x), [d.values(shape)])


@domain(np.delete)
def delete(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (3, 4, 5))
    axis = d.axis(len(shape), several=False)
    obj = d.pick(1, -1, [0, 2, 2], [], slice(None, None, 2), np.array([-1, 0]))
    if axis is not None and shape[axis] == 4 and d.pick(True, False):
        obj = np.array([True, False, False, True])
    if axis is None and d.pick(True, False):
        return Case(lambda x: function(x, obj), [d.values(shape)])
    return Case(lambda x: function(x, obj, axis), [d.values(shape)])


def inserts_at_masks() -> bool:
    """Whether np.insert takes a mask for one; older NumPys warn, and take True for 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            np.insert(np.zeros(1), np.array([True]), 0.0)
        except FutureWarning:
            return False
    return True


MASKED: tuple[Any, ...] = (
    ((2, 3), np.array([True, False, True]), (2, 2), 1),
    ((2, 3), np.array([False, True, False]), (2, 1), 1),
)
if not inserts_at_masks():
    MASKED = ()


@domain(np.insert)
def insert(d: Draw, function: Callable[..., Any]) -> Case:
    shape, obj, values, axis = d.pick(
        ((3,), 1, (), 0),
        ((3,), 1, (2,), None),
        ((3,), [1], (2,), 0),
        ((3,), -1, (), None),
        ((2, 3), 3, (2,), None),
        ((2, 3), 3, (2,), 1),
        ((2, 3), 0, (3,), 0),
        ((2, 3), 1, (2, 1), 1),
        ((2, 3), [1], (2, 1), -1),
        ((2, 3), [3, 0, 0], (2, 3), 1),
        ((2, 3), [3, 0, 0], (3,), 1),
        ((2, 3), [2, 0], (), 1),
        ((2, 3), [2, 0], (2, 1), -2),
        ((2, 3), np.array([-1, 1]), (2, 2), 1),
        *MASKED,
        ((2, 3), slice(0, 3, 2), (2, 1), 1),
        ((2, 3), slice(1, 2), (2, 1), 1),
        ((2, 3), [], (), 1),
        ((2, 4, 3), 2, (2, 3), 1),
        ((2, 4, 3), 2, (2, 3), -2),
        ((2, 4, 3), [2, 1], (2, 2, 3), -2),
        ((2, 4, 3), 1, (2, 4), -1),
    )
    form = d.pick("both", "both", "default", "lists", "into a list")
    if form == "default" and axis is None:
        return Case(lambda a, v: function(a, obj, v), [d.values(shape), d.values(values)])
    if form == "lists":
        given = d.values(values).tolist()
        return Case(lambda a: function(a, obj, given, axis=axis), [d.values(shape)])
    if form == "into a list":
        given = d.values(shape).tolist()
        return Case(
            lambda v: function(given, obj, v, axis),
            [d.values(values)],
            complex_safe=False,
            long_double=False,
            widens=True,
        )
    return Case(lambda a, v: function(a, obj, v, axis), [d.values(shape), d.values(values)])


@domain(np.choose)
def choose(d: Draw, function: Callable[..., Any]) -> Case:
    shapes = d.shapes(d.integer(1, 4))
    mode = d.pick("raise", "wrap", "clip")
    low, high = (0, len(shapes)) if mode == "raise" else (-7, 8)
    numbers = d.rng.integers(low, high, d.pick((), np.broadcast_shapes(*shapes)))
    form = d.pick("function", "function", "default", "numbers", "one array", "one choice")
    if form == "one choice":
        return Case(lambda x: function([[0], [0]], [x], mode=mode), [d.values(d.pick((), (3,), (2, 1)))])
    if form == "default":
        wrapped = numbers % len(shapes)
        wrapped = wrapped.tolist() if wrapped.size else wrapped
        return Case(lambda *xs: function(wrapped, xs), [d.values(s) for s in shapes])
    if form == "numbers":
        return Case(
            lambda x: function([[1, 0, 2]], [0.5, 2.0, x], mode=mode), [d.values(d.pick((), (3,), (2, 1)))], widens=True
        )
    if form == "one array":
        return Case(lambda x: function([1, 0, 1], x, mode=mode), [d.values((2, 3))])
    return Case(lambda *xs: function(numbers, xs, mode=mode), [d.values(s) for s in shapes])


LAST_BY_DEFAULT = inspect.signature(np.take_along_axis).parameters["axis"].default == -1  # NumPy 2.3


@domain(np.take_along_axis)
def take_along_axis(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (3, 1, 4))
    axis = d.axis(len(shape), several=False)
    if axis is None:
        places = d.rng.integers(-12, 12, 5) % int(np.prod(shape))
        return Case(lambda x: function(x, places, None), [d.values(shape)])
    n = shape[axis]
    wanted = tuple(3 if i == axis % len(shape) else d.pick(1, m) for i, m in enumerate(shape))
    indices = d.rng.integers(-n, n, wanted)
    if axis % len(shape) == len(shape) - 1 and LAST_BY_DEFAULT and d.pick(True, False):
        return Case(lambda x: function(x, indices), [d.values(shape)])
    return Case(lambda x: function(x, indices, axis), [d.values(shape)])


@domain(np.select)
def select(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    masks = [d.rng.random(shape) < 0.5 for _ in range(2)]
    options = d.pick({}, {"default": 1.5})
    return Case(lambda a, b: function(masks, [a, b], **options), [d.values(shape), d.values(shape)])


@domain(np.sort)
def sort(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis, options = d.axis(len(shape), several=False), d.pick({}, {"kind": "stable"}, {"stable": True})
    if d.pick(False, False, True):
        return Case(lambda x: function(x, **options), [d.spread(shape)])
    return Case(lambda x: function(x, axis, **options), [d.spread(shape)])


@domain(np.partition)
def partition(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((5,), (3, 4), (3, 2, 4))
    axis = d.axis(len(shape), several=False)
    # the order of the others is left open
    if d.pick(False, False, True):
        return Case(lambda x: np.take(function(x, 1), 1, -1), [d.spread(shape)])
    return Case(lambda x: np.take(function(x, 1, axis), 1, 0 if axis is None else axis), [d.spread(shape)])


@domain(np.argsort)
def argsort(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    form = d.pick("axis", "default", "ties")
    if form == "ties":  # so many that an order which is not stable shows
        options = d.pick({"kind": "stable"}, {"stable": True})
        ties = d.rng.integers(0, 3, (2, 64, 2)).astype(float)
        return Case(lambda x: function(x, 1, **options), [ties])
    if form == "default":
        return Case(function, [d.spread(shape)])
    return Case(lambda x: function(x, axis), [d.spread(shape)])


@domain(np.argpartition)
def argpartition(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((3, 4), (3, 2, 4))
    axis = d.axis(len(shape), several=False)
    if d.pick(True, False):
        return Case(lambda x: function(x, 1), [d.spread(shape)])
    return Case(lambda x: function(x, 1, axis), [d.spread(shape)])


@domain(np.searchsorted)
def searchsorted(d: Draw, function: Callable[..., Any]) -> Case:
    places = np.round(d.values(d.shape(min_side=1), -1, 6))  # some meet the numbers that are searched
    form = d.pick("left", "right", "default", "sorter")
    if form == "default":
        return Case(function, [np.arange(5.0), places])
    if form == "sorter":
        sorter = d.rng.permutation(5)
        return Case(lambda a, v: function(a, v, sorter=sorter), [np.argsort(sorter).astype(float), places])
    return Case(lambda a, v: function(a, v, form), [np.arange(5.0), places])


@domain(np.nonzero)
def nonzero(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x)[0], [np.round(d.values(d.shape(min_dims=1)))])


@domain(np.flatnonzero)
def flatnonzero(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [np.round(d.values(d.shape(min_dims=1)))])


@domain(np.lib.stride_tricks.sliding_window_view)
def windows(d: Draw, function: Callable[..., Any]) -> Case:
    shape, window, axis = d.pick(
        ((5,), 2, None),
        ((5,), 5, 0),
        ((4, 3), (2, 3), None),
        ((4, 3), 2, -1),
        ((4, 3), 2, (1,)),
        ((4, 3), (2,), 1),
        ((4, 3), np.int64(2), np.int64(0)),
        ((2, 4, 3), 2, 1),
        ((2, 4, 3), 2, -2),
        ((3, 2, 4), 2, -3),
        ((2, 4, 3), (3, 2), (1, 2)),
        ((2, 4, 3), (2, 2), (-1, 1)),
        ((5,), (2, 3), (0, 0)),
    )
    return Case(lambda x: function(x, window, axis=axis), [d.values(shape)])


@domain(indexing.fold)
def fold(d: Draw, function: Callable[..., Any]) -> Case:
    window, axis, shape, given = d.pick(
        ((2, 3), None, (4, 4), (3, 2, 2, 3)),
        (2, 1, (2, 4, 3), (2, 3, 3, 2)),
        (2, -2, (2, 4, 3), (2, 3, 3, 2)),
        (2, -3, (3, 2, 4), (2, 2, 4, 2)),
        ((2, 3), (-1, 1), (2, 4, 3), (2, 2, 2, 2, 3)),
    )
    return Case(lambda g: function(g, window, axis, shape), [d.values(given)])


@domain(np.convolve, np.correlate)
def convolve(d: Draw, function: Callable[..., Any]) -> Case:
    n, m = d.integer(1, 6), d.integer(1, 6)
    mode = d.pick("full", "same", "valid")
    form = d.pick("any", "default", "shorter", "list")
    if form == "default":
        return Case(function, [d.values((n,)), d.values((m,))], complex_safe=function is np.convolve)
    if form == "list":
        numbers = [0.5, -1.5, 2.0]
        if d.pick(True, False):
            return Case(lambda a: function(a, numbers, mode), [d.values((n,))], complex_safe=False, widens=True)
        return Case(lambda v: function(numbers, v, mode), [d.values((m,))], complex_safe=False, widens=True)
    if form == "shorter":  # an even number of entries, and no more than in the other vector
        n, m, mode = d.pick(2, 4), d.pick(4, 5, 6), d.pick("same", "same", "valid", "full")
        if d.pick(True, False):
            n, m = m, n
    return Case(
        lambda a, v: function(a, v, mode), [d.values((n,)), d.values((m,))], complex_safe=function is np.convolve
    )


@domain(indexing.within)
def within(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x, 3, "entries"), [d.values(d.shape(), 0.0, 2.9)])


# Random draws: no gradient


@domain(random.random_like)
def drawn(d: Draw, function: Callable[..., Any]) -> Case:
    seed = int(d.rng.integers(2**32))
    return Case(lambda x: function(x, np.random.default_rng(seed)), [d.values(d.shape())])
