"""Hypothesis strategies for tests of derivatives; Hypothesis must be installed.

Values come from ``default_rng(seed)`` with a drawn seed: arrays of floats drawn entry by entry shrink to 0 and
1, exactly where kinks and ties are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_nn.checks import choice, dtype_of, number, numbers, told, whole
from tinygrad_nn.errors import DTypeError

__all__ = [
    "HARD_POINTS",
    "arrays",
    "away_from_kinks",
    "axes",
    "broadcastable",
    "dtypes",
    "hard_points",
    "on_kinks",
    "positive_definite",
    "prime_shapes",
    "relayout",
    "simplex",
    "upstream",
]

PRIMES = (2, 3, 5, 7, 11)
HARD_POINTS = (0.0, -0.0, 5e-324, 2.2e-308, 1e-8, 1.0, 88.7, 709.7, -745.0, 1e16, 1e300)
LAYOUTS = ("C", "F", "reversed", "strided", "broadcast")


@st.composite
def prime_shapes(draw: st.DrawFn, *, min_dims: int = 1, max_dims: int = 3) -> tuple[int, ...]:
    """Shapes of pairwise distinct primes, so that a wrong factor tells which length it is.

    Shrinks to few axes and small primes.
    """
    least = whole("min_dims", min_dims, least=0, most=len(PRIMES))
    count = draw(st.integers(least, whole("max_dims", max_dims, least=least, most=len(PRIMES))))
    return tuple(draw(st.permutations(PRIMES[: count + 1]))[:count])


@st.composite
def broadcastable(draw: st.DrawFn, *, max_dims: int = 3) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pairs of shapes that broadcast: axes of the second are 1 or missing.

    Shrinks to equal shapes.
    """
    shape = draw(prime_shapes(max_dims=max_dims))
    other = tuple(1 if draw(st.booleans()) else n for n in shape)
    return shape, other[draw(st.integers(0, len(other))) :]


@st.composite
def arrays(draw: st.DrawFn, shape: Any = None, *, low: float = -2.0, high: float = 2.0, dtype: Any = float) -> Any:
    """Arrays of uniform numbers in [low, high); `shape` is a shape or a strategy of shapes."""
    low, dtype = number("low", low), dtype_of("dtype", dtype, "f")
    high = number("high", high, low)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.asarray(rng.uniform(low, high, _shape(draw, shape)), dtype=dtype)


def _shape(draw: st.DrawFn, shape: Any) -> tuple[int, ...]:
    if shape is None:
        shape = prime_shapes()
    found = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    if not isinstance(found, (tuple, list)):
        raise DTypeError(f"shape={told(found)} must be a tuple of lengths, such as (2, 3), or a strategy of them")
    return tuple(whole("a length of shape", n, least=0) for n in found)


@st.composite
def away_from_kinks(draw: st.DrawFn, shape: Any = None, *, gap: float = 0.1) -> Any:
    """Arrays whose entries differ from each other and from 0 by `gap` at least: no ties, nothing on a kink."""
    shape, gap = _shape(draw, shape), number("gap", gap, above=0)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = math.prod(shape)
    grid = rng.permutation(n + 2)[:n] - (n + 2) // 2 + 0.5
    return (grid * 4 * gap + rng.uniform(-gap, gap, n)).reshape(shape)


@st.composite
def on_kinks(draw: st.DrawFn, shape: Any = None) -> Any:
    """Arrays of small whole numbers: zeros and ties everywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(-2, 3, _shape(draw, shape)).astype(float)


@st.composite
def simplex(draw: st.DrawFn, shape: Any = None) -> Any:
    """Arrays of positive numbers that add up to 1 along the last axis."""
    values = draw(arrays(shape, low=0.1, high=1.0))
    return values / values.sum(axis=-1, keepdims=True)


@st.composite
def positive_definite(draw: st.DrawFn, *, max_side: int = 4) -> Any:
    """Symmetric matrices with eigenvalues of 0.5 and more."""
    n = draw(st.integers(1, whole("max_side", max_side)))
    a = draw(arrays((n, n)))
    return a @ a.T + 0.5 * np.eye(n)


@st.composite
def hard_points(draw: st.DrawFn, shape: Any = None) -> Any:
    """Arrays of numbers at which formulas overflow, underflow or cancel."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.choice(np.array(HARD_POINTS), _shape(draw, shape))


@st.composite
def upstream(draw: st.DrawFn, shape: tuple[int, ...], *, dtype: Any = float) -> Any:
    """Dense random upstream gradients of a shape, in every memory layout.

    Shrinks to plain arrays.
    """
    dtype = dtype_of("dtype", dtype, "f")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.asarray(rng.standard_normal(_shape(draw, shape)), dtype=dtype)
    return relayout(values, draw(st.sampled_from(LAYOUTS)))


def relayout(array: Any, layout: str) -> Any:
    """Return an array in another memory layout: "C", "F", "reversed", "strided" or "broadcast".

    The values stay, but for "broadcast", which repeats the first row.

    Examples
    --------
    >>> relayout(np.arange(6.0).reshape(2, 3), "F").strides
    (8, 16)
    """
    array, layout = np.asarray(numbers("array", array)), choice("layout", layout, LAYOUTS)
    if layout == "F":
        return np.asarray(array, order="F")
    if array.ndim and layout == "reversed":
        return array[::-1].copy()[::-1]
    if array.ndim and layout == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 7, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if array.ndim and array.shape[0] and layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape)
    return array


def dtypes() -> st.SearchStrategy[Any]:
    """The floating dtypes.

    Shrinks to float64.
    """
    return st.sampled_from([np.float64, np.float32, np.float16]).map(np.dtype)


def axes(ndim: int) -> st.SearchStrategy[Any]:
    """An axis, positive or negative, a tuple of axes, or None.

    Shrinks to None.
    """
    ndim = whole("ndim", ndim, least=0)
    several = st.lists(st.integers(0, max(ndim - 1, 0)), unique=True, max_size=ndim).map(tuple)
    one = st.integers(-ndim, ndim - 1) if ndim else st.none()
    return st.one_of(st.none(), one, several)
