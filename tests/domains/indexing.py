"""Domains of the rows in tinygrad_nn/derivatives/indexing.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

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
    indices = d.pick(1, [0, 2, 2], np.array([[0, 1], [1, 0]]))
    if axis is not None and shape[axis] == 2:
        indices = [1, 0, 1]
    if mode != "raise":
        indices = [7, -5, 0]
    return Case(lambda x: function(x, indices, axis=axis, mode=mode), [d.values(shape)])


@domain(np.take_along_axis)
def take_along_axis(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (3, 1, 4))
    axis = d.axis(len(shape), none=len(shape) == 1, several=False)
    n = shape[0 if axis is None else axis]
    wanted = tuple(3 if axis is None or i == axis % len(shape) else d.pick(1, m) for i, m in enumerate(shape))
    indices = d.rng.integers(-n, n, wanted)
    return Case(lambda x: function(x, indices, axis), [d.values(shape)])


@domain(np.select)
def select(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    masks = [d.rng.random(shape) < 0.5 for _ in range(2)]
    default = d.pick(0, 1.5)
    return Case(lambda a, b: function(masks, [a, b], default), [d.values(shape), d.values(shape)])


@domain(np.sort)
def sort(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis, options = d.axis(len(shape), several=False), d.pick({}, {"kind": "stable"}, {"stable": True})
    return Case(lambda x: function(x, axis, **options), [d.spread(shape)])


@domain(np.partition)
def partition(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((5,), (3, 4))
    axis = d.axis(len(shape), several=False)
    # the order of the others is left open
    return Case(lambda x: np.take(function(x, 1, axis), 1, 0 if axis is None else axis), [d.spread(shape)])


@domain(np.argsort)
def argsort(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    return Case(lambda x: function(x, axis), [d.spread(shape)])


@domain(np.argpartition)
def argpartition(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x, 1), [d.spread((3, 4))])


@domain(np.searchsorted)
def searchsorted(d: Draw, function: Callable[..., Any]) -> Case:
    side = d.pick("left", "right")
    return Case(lambda a, v: function(a, v, side), [np.arange(5.0), d.values(d.shape())])


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
        ((2, 4, 3), (3, 2), (1, 2)),
        ((2, 4, 3), (2, 2), (-1, 1)),
        ((5,), (2, 3), (0, 0)),
    )
    return Case(lambda x: function(x, window, axis=axis), [d.values(shape)])


@domain(indexing.fold)
def fold(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda g: function(g, (2, 3), None, (4, 4)), [d.values((3, 2, 2, 3))])


@domain(np.convolve, np.correlate)
def convolve(d: Draw, function: Callable[..., Any]) -> Case:
    n, m = d.draw(st.integers(1, 6)), d.draw(st.integers(1, 6))
    mode = d.pick("full", "same", "valid")
    return Case(
        lambda a, v: function(a, v, mode), [d.values((n,)), d.values((m,))], complex_safe=function is np.convolve
    )


# Random draws: no gradient


@domain(random.random_like)
def drawn(d: Draw, function: Callable[..., Any]) -> Case:
    seed = int(d.rng.integers(2**32))
    return Case(lambda x: function(x, np.random.default_rng(seed)), [d.values(d.shape())])
