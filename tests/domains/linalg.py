"""Domains of the rows in tinygrad_nn/derivatives/linalg.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from domains.base import Case, Draw, domain, relayout


def matmul_shapes(d: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    n, k, m = (d.draw(st.integers(0, 4)) for _ in range(3))
    lead_a, lead_b = d.shapes(2)
    a, b = (*lead_a, n, k), (*lead_b, k, m)
    form = d.pick("matrices", "vector @ matrix", "matrix @ vector", "vectors")
    return ((k,) if form.startswith("vector") else a), ((k,) if form.endswith(("vector", "vectors")) else b)


@domain(np.matmul)
def matmul(d: Draw, function: Callable[..., Any]) -> Case:
    a, b = matmul_shapes(d)
    return Case(function, [d.values(a), d.values(b)])


@domain(np.dot)
def dot(d: Draw, function: Callable[..., Any]) -> Case:
    k = d.draw(st.integers(0, 3))
    a = (*d.shape(max_dims=2), k)
    b = d.pick((k,), (k, 2), (3, k, 2), (2, 3, k, 1))
    if d.pick(True, False, False):
        a, b = d.pick(((), b), (a, ()), ((), ()))
    return Case(function, [d.values(a), d.values(b)])


@domain(np.tensordot)
def tensordot(d: Draw, function: Callable[..., Any]) -> Case:
    a, b, axes = d.pick(
        ((2, 3), (3, 4), 1),
        ((2, 3, 4), (3, 4, 2), 2),
        ((2, 3), (4,), 0),
        ((2, 3, 4), (4, 5, 2), ([0, 2], [2, 0])),
        ((2, 3, 4), (3, 2), ([1, 0], [0, 1])),
        ((2, 3), (5, 3), (1, 1)),
        ((2, 3), (5, 3), (-1, -1)),
        ((2, 3, 4), (4, 3, 5), ((1, -1), (1, 0))),
    )
    return Case(lambda x, y: function(x, y, axes), [d.values(a), d.values(b)])


def matrices(d: Draw) -> np.ndarray:
    """A stack of matrices far from singular."""
    n = d.draw(st.integers(1, 4))
    lead = d.pick((), (2,), (2, 1))
    a = d.rng.uniform(-0.5, 0.5, (*lead, n, n)) + 1.5 * np.eye(n) * d.pick(1, -1)
    return relayout(a, d.pick("C", "F", "strided"))


@domain(np.linalg.inv)
def inverse(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [matrices(d)], long_double=False)


@domain(np.linalg.slogdet)
def slogdet(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda a: function(a)[1], [matrices(d)], complex_safe=False, long_double=False)
