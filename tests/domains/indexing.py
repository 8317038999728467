"""Domains of the rows in tinygrad_nn/derivatives/indexing.py."""

from __future__ import annotations

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


# Random draws: no gradient


@domain(random.random_like)
def drawn(d: Draw, function: Callable[..., Any]) -> Case:
    seed = int(d.rng.integers(2**32))
    return Case(lambda x: function(x, np.random.default_rng(seed)), [d.values(d.shape())], smooth=False)
