"""For every row of the derivative table: calls that exercise it, drawn by Hypothesis.

A domain draws a `Case`: a function of arrays only (keywords and indices are fixed inside it), the
arrays to call it with, and which oracle can differentiate it.  The laws in test_laws.py run over
all domains, and that file fails for a row without a domain and for a domain without a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_nn.derivatives.table import TABLE

LAYOUTS = ("C", "F", "reversed", "strided", "broadcast")


@dataclass
class Case:
    """One call: ``call(*arrays)`` runs on arrays of any inexact dtype and on Tensors."""

    call: Callable[..., Any]
    arrays: list[np.ndarray]
    complex_safe: bool = True  # the NumPy kernels involved continue analytically to complex numbers
    long_double: bool = True  # they take long double
    widens: bool = False  # the result's dtype is wider than the arguments', as in NumPy


def relayout(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values, up to the entries that a stride of 0 makes equal, in another memory layout."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "reversed" and array.ndim:
        return array[::-1].copy()[::-1]
    if layout == "strided" and array.ndim:
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 7.0, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "broadcast" and array.ndim and array.shape[0]:
        return np.broadcast_to(array[:1], array.shape)
    return array


class Draw:
    """What a domain draws with.

    Hypothesis gives the seed only: what it builds up piece by piece is often empty, or a case once
    more, and a law learns nothing from either.
    """

    def __init__(self, data: st.DataObject) -> None:
        self.rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))

    def integer(self, low: int, high: int) -> int:
        """A whole number, `low` and `high` among them."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, *options: Any) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def seldom(self) -> bool:
        return self.integer(1, 4) == 1

    def permuted(self, items: Sequence[Any]) -> list[Any]:
        return [items[i] for i in self.rng.permutation(len(items))]

    def side(self, least: int = 0, most: int = 4) -> int:
        """The length of an axis, seldom 0 or 1."""
        return self.integer(least, most) if self.seldom() else self.integer(min(2, most), most)

    def shape(self, min_dims: int = 0, max_dims: int = 3, min_side: int = 0) -> tuple[int, ...]:
        known = [s for s in ((3,), (2, 3), (4, 2), (2, 3, 4), (4, 2, 3)) if min_dims <= len(s) <= max_dims]
        if known and self.pick(True, False):
            return self.pick(*known)  # no two axes alike
        return tuple(self.side(min_side) for _ in range(self.integer(min_dims, max_dims)))

    def shapes(self, count: int, min_side: int = 0) -> tuple[tuple[int, ...], ...]:
        """Shapes that broadcast with each other."""
        whole = self.shape(min_side=min_side)
        cuts = [self.pick(0, 0, self.integer(0, len(whole))) for _ in range(count)]
        return tuple(tuple(1 if self.seldom() else n for n in whole[cut:]) for cut in cuts)

    def axis(self, ndim: int, *, none: bool = True, several: bool = True) -> Any:
        """An axis, negative or not, a tuple of axes, or None."""
        kinds = ["none"] * none + ["one"] * 3 * (ndim > 0) + ["several"] * several
        kind = self.pick(*kinds)
        if kind == "none":
            return None
        if kind == "one":
            far = self.integer(ndim // 2, ndim - 1), self.integer(-ndim, -1 - ndim // 2)
            axis = self.pick(self.integer(-ndim, ndim - 1), *far)
            return self.pick(axis, axis, axis, axis, np.int64(axis))
        return tuple(i - ndim * self.pick(0, 1) for i in self.permuted(range(ndim))[: self.integer(0, ndim)])

    def values(
        self, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0, *, layouts: Any = LAYOUTS
    ) -> np.ndarray:
        return relayout(self.rng.uniform(low, high, shape), self.pick(*layouts))

    def spread(self, shape: tuple[int, ...], shift: float = 0.0) -> np.ndarray:
        """Values at least 0.06 apart from each other, from zero, and from those of another shift."""
        n = math.prod(shape)
        grid = self.rng.permutation(n + 6)[:n] - (n + 6) // 2
        values = 0.25 * (grid + 0.5 + shift) + self.rng.uniform(-0.02, 0.02, n)
        return relayout(values.reshape(shape), self.pick("C", "F", "reversed", "strided"))


def beside_lists(d: Draw, case: Case) -> Case:
    """A call of two arrays, sometimes with one of them given as nested lists."""
    k = d.pick(0, 1)
    if not d.seldom() or not case.arrays[k].size:
        return case
    lists = case.arrays[k].tolist()
    call = (lambda x: case.call(lists, x)) if k == 0 else (lambda x: case.call(x, lists))
    return Case(call, [case.arrays[1 - k]], case.complex_safe, case.long_double, widens=True)


Domain = Callable[[Draw], Case]
DOMAINS: dict[Callable[..., Any], Domain] = {}


def domain(*functions: Callable[..., Any]) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Declare the domain of one or more rows; it is told which one it is drawn for."""

    def declare(make: Callable[..., Case]) -> Callable[..., Case]:
        for function in functions:
            assert function not in DOMAINS, function
            DOMAINS[function] = lambda d, function=function: make(d, function)
        return make

    return declare


def name_of(function: Callable[..., Any]) -> str:
    return TABLE[function].name if function in TABLE else f"{function.__module__}.{function.__name__}"
