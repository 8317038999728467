"""Domains of the rows in tinygrad_nn/derivatives/reductions.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from domains.base import Case, Draw, domain


@domain(np.sum, np.mean)
def reduction(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=int(function is np.mean))
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    return Case(lambda x: function(x, axis=axis, keepdims=keepdims), [d.values(shape)])


@domain(np.max, np.min)
def extremum(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    return Case(lambda x: function(x, axis=axis, keepdims=keepdims), [d.spread(shape)])


# Positions and predicates: no gradient


@domain(np.argmax, np.argmin, np.all, np.any)
def position(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis = d.axis(len(shape), several=False)
    return Case(lambda x: function(x, axis=axis), [d.values(shape)], smooth=False)
