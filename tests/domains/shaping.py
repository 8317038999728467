"""Domains of the rows in tinygrad_nn/derivatives/shaping.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from domains.base import Case, Draw, domain
from tinygrad_nn.derivatives import shaping


@domain(np.reshape)
def reshape(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    target = d.pick((math.prod(shape),), (1, *shape), (*shape[::-1], 1), shape)
    if math.prod(shape) and d.pick(True, False):
        target = (-1, *target[1:])
    return d.pick(
        Case(lambda x: function(x, target), [d.values(shape)]),
        Case(lambda x: x.reshape(target), [d.values(shape)]),
    )


@domain(np.ravel)
def ravel(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape())])


@domain(np.transpose)
def transpose(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    axes = d.draw(st.one_of(st.none(), st.permutations(range(len(shape)))))
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
    shape = d.shape()
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    small = np.sum(np.zeros(shape), axis=axis, keepdims=keepdims).shape
    return Case(lambda x: function(x, shape, axis), [d.values(small)])


@domain(shaping.cast)
def cast(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x, x.dtype), [d.values(d.shape())])


@domain(np.concatenate)
def concatenate(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    lengths = d.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    shapes = [
        (*shape[: axis % len(shape)], n, *shape[axis % len(shape) + 1 :]) if axis is not None else (n,) for n in lengths
    ]
    return Case(lambda *arrays: function(arrays, axis=axis), [d.values(s) for s in shapes])


@domain(np.stack)
def stack(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    axis = d.draw(st.integers(-len(shape) - 1, len(shape)))
    count = d.draw(st.integers(1, 3))
    return Case(lambda *arrays: function(list(arrays), axis), [d.values(shape) for _ in range(count)])
