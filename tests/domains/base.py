"""For every row of the derivative table: calls that exercise it, drawn by Hypothesis.

A domain draws a `Case`: a function of arrays only (keywords and indices are fixed inside it), the
arrays to call it with, and which oracle can differentiate it.  The laws in test_laws.py run over
all domains, and that file fails for a row without a domain and for a domain without a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.extra.numpy as hnp
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
    """What a domain draws with: shapes and options from Hypothesis, values from a seeded generator."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def shape(self, min_dims: int = 0, max_dims: int = 3, min_side: int = 0) -> tuple[int, ...]:
        plain = [s for s in ((3,), (2, 3), (4, 2), (2, 3, 4), (4, 2, 3)) if min_dims <= len(s) <= max_dims]
        options: list[Any] = [
            st.sampled_from(plain),  # no two axes alike
            hnp.array_shapes(min_dims=max(min_dims, 1), max_dims=max_dims, min_side=min_side, max_side=4),
        ]
        return self.draw(st.one_of(options if min_dims else [st.just(()), *options]))

    def shapes(self, count: int, min_side: int = 0) -> tuple[tuple[int, ...], ...]:
        return self.draw(
            hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, min_side=min_side, max_side=4)
        ).input_shapes

    def axis(self, ndim: int, *, none: bool = True, several: bool = True) -> Any:
        """An axis, negative or not, a tuple of axes, or None."""
        options: list[Any] = [st.none()] if none else []
        if ndim:
            options += [st.integers(-ndim, ndim - 1), st.sampled_from([ndim - 1, -ndim, ndim // 2])]
        if several:
            options.append(
                st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim).map(
                    lambda axes: tuple(a - ndim if a % 2 else a for a in axes)
                )
                if ndim
                else st.just(())
            )
        return self.draw(st.one_of(options), label="axis")

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
