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

from tinygrad_nn.derivatives import elementwise, indexing, random, shaping
from tinygrad_nn.derivatives.table import TABLE

LAYOUTS = ("C", "F", "reversed", "strided", "broadcast")


@dataclass
class Case:
    """One call: ``call(*arrays)`` runs on arrays of any inexact dtype and on Tensors."""

    call: Callable[..., Any]
    arrays: list[np.ndarray]
    smooth: bool = True  # derivatives of every order exist at these arrays
    complex_safe: bool = True  # the NumPy kernels involved continue analytically to complex numbers
    long_double: bool = True  # they take long double


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
        return self.draw(
            hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=4)
            if min_dims
            else st.one_of(st.just(()), hnp.array_shapes(min_dims=1, max_dims=max_dims, min_side=min_side, max_side=4))
        )

    def shapes(self, count: int, min_side: int = 0) -> tuple[tuple[int, ...], ...]:
        return self.draw(
            hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, min_side=min_side, max_side=4)
        ).input_shapes

    def axis(self, ndim: int, *, none: bool = True, several: bool = True) -> Any:
        """An axis, negative or not, a tuple of axes, or None."""
        options: list[Any] = [st.none()] if none else []
        if ndim:
            options.append(st.integers(-ndim, ndim - 1))
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
    return TABLE[function].name if function in TABLE else repr(function)


# Element-wise

UNARY: dict[Callable[..., Any], tuple[float, float]] = {
    np.negative: (-2, 2),
    np.positive: (-2, 2),
    np.square: (-2, 2),
    np.exp: (-3, 3),
    np.tanh: (-4, 4),
    elementwise.sigmoid: (-6, 6),
    np.reciprocal: (0.3, 3),
    np.sqrt: (0.2, 4),
    np.log: (0.2, 4),
    np.expm1: (-2, 2),
    np.log1p: (-0.7, 2),
    np.sin: (-4, 4),
    np.cos: (-4, 4),
    np.sinh: (-3, 3),
    np.cosh: (-3, 3),
}


@domain(*UNARY)
def unary(d: Draw, function: Callable[..., Any]) -> Case:
    low, high = UNARY[function]
    return Case(function, [d.values(d.shape(), low, high)])


@domain(np.absolute, elementwise.relu)
def with_kink_at_zero(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.spread(d.shape())], complex_safe=False)


@domain(np.add, np.subtract, np.multiply)
def binary(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(s) for s in d.shapes(2)])


@domain(np.divide)
def divide(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    return Case(function, [d.values(first), d.values(second, 0.4, 3)])


@domain(np.power)
def power(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    if d.pick("both", "scalar") == "both":
        return Case(function, [d.values(first, 0.3, 2), d.values(second)])
    exponent = d.pick(0, 1, 2, 3, -1, -2, 0.5, 0.0, 1.0, -1.5, 2.0)
    base = d.values(first, 0.3, 2) if exponent != int(exponent) else d.spread(first)
    if d.pick("function", "operator") == "operator":
        return Case(lambda x: x**exponent, [base])
    return Case(lambda x: np.power(x, exponent), [base])


@domain(np.logaddexp)
def logaddexp(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(s) for s in d.shapes(2)], complex_safe=False)


@domain(np.maximum, np.minimum)
def choice(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    return Case(function, [d.spread(first), d.spread(second, 0.5)])


@domain(elementwise.keep_zero)
def keep_zero(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    g = np.where(d.rng.random(shape) < 0.3, 0, d.rng.standard_normal(shape))
    return Case(lambda part: function(part, g), [d.values(shape)])


@domain(np.where)
def where(d: Draw, function: Callable[..., Any]) -> Case:
    condition, first, second = d.shapes(3)
    mask = d.rng.random(condition) < 0.5
    return Case(lambda a, b: function(mask, a, b), [d.values(first), d.values(second)])


@domain(np.clip)
def clip(d: Draw, function: Callable[..., Any]) -> Case:
    x, low, high = d.shapes(3)
    form = d.pick("both", "arrays", "low", "high", "keyword", "method")
    if form == "arrays":
        # distinct grids: no entry lies on a bound
        return Case(
            function,
            [d.spread(x), np.asarray(d.spread(low, 1 / 3) - 1), np.asarray(d.spread(high, 2 / 3) + 1)],
        )
    calls = {
        "both": lambda a: function(a, -0.75, 0.75),
        "low": lambda a: function(a, -0.75, None),
        "high": lambda a: function(a, None, 0.75),
        "keyword": lambda a: function(a, a_min=None, a_max=0.75),
        "method": lambda a: a.clip(-0.75, 0.75),
    }
    return Case(calls[form], [d.spread(x)])


# Reductions


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


# Products


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


# Shapes


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


# Indexing


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


# Rows without a derivative: positions, masks, constants


@domain(*(f for f, row in TABLE.items() if row.own and not row.active and isinstance(f, np.ufunc)))
def without_gradient(d: Draw, function: Any) -> Case:
    shapes = d.shapes(function.nin)
    arrays = [np.round(d.values(s)) for s in shapes]
    if function.__name__.startswith(("bitwise", "invert")):
        return Case(lambda *xs: function(*(x > 0 for x in xs)), arrays, smooth=False)
    return Case(function, arrays, smooth=False)


@domain(np.argmax, np.argmin, np.all, np.any)
def position(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis = d.axis(len(shape), several=False)
    return Case(lambda x: function(x, axis=axis), [d.values(shape)], smooth=False)


@domain(elementwise.stop_gradient)
def stopped(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape())], smooth=False)


@domain(random.random_like)
def drawn(d: Draw, function: Callable[..., Any]) -> Case:
    seed = int(d.rng.integers(2**32))
    return Case(lambda x: function(x, np.random.default_rng(seed)), [d.values(d.shape())], smooth=False)
