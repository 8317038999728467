"""Points without a derivative, ties, and tails: what the table's notes promise there.

The other domains stay away from them, since the oracles know no convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.derivatives import elementwise, matrices, reductions

NAN, INF = np.nan, np.inf


@dataclass
class Point:
    """A call, its arguments, and the gradient of the sum of its result with respect to each."""

    name: str
    call: Callable[..., Any]
    arrays: list[Any]
    grads: list[Any]


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same without the warnings that NumPy itself gives in the forward."""

    def call(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return call


def _ties(function: Callable[..., Any], larger: bool) -> Point:
    a, b = [1.0, 2.0, 3.0, 0.0, -1.0], [1.0, 3.0, 2.0, 0.0, -1.0]
    first = [0.5, 0.0, 1.0, 0.5, 0.5] if larger else [0.5, 1.0, 0.0, 0.5, 0.5]
    return Point(function.__name__, function, [a, b], [first, [1 - g for g in first]])


def _sinc_slope(x: float) -> float:
    """The derivative of sinc near 0, by its series with many terms."""
    u, term, total = np.pi * x, 1.0, 0.0
    for k in range(1, 30):
        term *= -u * u / ((2 * k) * (2 * k + 1))
        total += 2 * k * term
    return float(total / x)


def _sinc_far(whole: float, rest: float) -> float:
    """The derivative of sinc at whole + rest, where cos(pi x) and sin(pi x) depend on the rest only."""
    x, sign = whole + rest, (-1) ** int(whole)
    return float(sign * (np.cos(np.pi * rest) - np.sin(np.pi * rest) / (np.pi * x)) / x)


POINTS = [
    _ties(np.maximum, larger=True),
    _ties(np.minimum, larger=False),
    _ties(np.fmax, larger=True),
    _ties(np.fmin, larger=False),
    Point("fmax of NaN", np.fmax, [[NAN, 1.0], [1.0, NAN]], [[0, 1], [1, 0]]),
    Point("fmin of NaN", np.fmin, [[NAN, 1.0], [1.0, NAN]], [[0, 1], [1, 0]]),
    Point("clip at bounds", lambda x: np.clip(x, -1, 1), [[-2.0, -1.0, 0.0, 1.0, 2.0]], [[0, 0.5, 1, 0.5, 0]]),
    Point("clip at low", lambda x: np.clip(x, -1, None), [[-2.0, -1.0, 0.0]], [[0, 0.5, 1]]),
    Point("clip at high", lambda x: np.clip(x, None, 1), [[0.0, 1.0, 2.0]], [[1, 0.5, 0]]),
    Point(
        "clip by arrays",
        np.clip,
        [[0.0, 0.0, 1.0, 5.0, 0.0, 1.0], [0.0, 1.0, 0.0, 3.0, 2.0, 1.0], [1.0, 2.0, 1.0, 3.0, 2.0, 1.0]],
        [[0.5, 0, 0.5, 0, 0, 0.25], [0.5, 1, 0, 0, 0.5, 0.25], [0, 0, 0.5, 1, 0.5, 0.5]],
    ),
    Point(
        "clip of crossed bounds",
        np.clip,
        [[0.0, 5.0, 3.0], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0]],
        [[0, 0, 0]] * 2 + [[1, 1, 1]],
    ),
    Point("absolute", np.absolute, [[-1.0, 0.0, 2.0]], [[-1, 0, 1]]),
    Point("fabs", np.fabs, [[-1.0, 0.0, 2.0]], [[-1, 0, 1]]),
    Point("relu", elementwise.relu, [[-1.0, 0.0, 2.0]], [[0, 0, 1]]),
    Point("sqrt", np.sqrt, [[0.0, 0.25]], [[INF, 1]]),
    Point("sqrt of -0", np.sqrt, [[-0.0]], [[INF]]),
    Point("absolute of sqrt", lambda x: np.absolute(np.sqrt(x)), [[0.0, 0.25]], [[0, 1]]),
    Point("fabs of sqrt", lambda x: np.fabs(np.sqrt(x)), [[0.0, 0.25]], [[0, 1]]),
    Point("hypot of sqrt", lambda x: np.hypot(np.sqrt(x), np.sqrt(x)), [[0.0]], [[0]]),
    Point("length of sqrt", lambda x: elementwise.length(np.sqrt(x), 0), [[0.0, 0.25]], [[0, 1]]),
    Point("root of sqrt", lambda x: reductions.root(np.sqrt(x)), [[0.0]], [[0]]),
    Point("nan_to_num of sqrt", lambda x: np.nan_to_num(np.sqrt(x) * INF), [[0.25]], [[0]]),
    Point("cbrt", np.cbrt, [[0.0, 1.0]], [[INF, 1 / 3]]),
    Point("root", reductions.root, [[0.0, 0.25]], [[0, 1]]),
    Point("power of whole numbers", lambda a: a**2, [[0.0, -1.5, 2.0]], [[0, -3, 4]]),
    Point("power 0", lambda a: np.power(a, 0), [[0.0, -1.5, 2.0]], [[0, 0, 0]]),
    Point("power 1", lambda a: np.power(a, 1), [[0.0, -1.5, 2.0]], [[1, 1, 1]]),
    Point(
        "power of arrays",
        np.power,
        [[0.0, 0.0, 0.0, -2.0, -2.0, 2.0, 1.0], [0.0, 1.0, 2.0, 2.0, 0.0, 3.0, 5.0]],
        [[0, 1, 0, -4, 0, 12, 5], [0, 0, 0, 0, 0, 8 * np.log(2), 0]],
    ),
    Point("power that underflows", np.power, [[1e-200, 1e-300], [2.0, 1.25]], [[2e-200, 1.25e-75], [0, 0]]),
    Point("hypot", np.hypot, [[0.0, 3.0], [0.0, 4.0]], [[0, 0.6], [0, 0.8]]),
    Point("length", elementwise.length, [[0.0, 3.0], [0.0, 4.0]], [[0, 0.6], [0, 0.8]]),
    Point("arctan2", np.arctan2, [[0.0, 3e200], [1.0, 4e200]], [[1, 4 / 25e200], [0, -3 / 25e200]]),
    Point("arcsin", np.arcsin, [[-1.0, 1.0]], [[INF, INF]]),
    Point("arccos", np.arccos, [[-1.0, 1.0]], [[-INF, -INF]]),
    Point("arccosh", np.arccosh, [[1.0]], [[INF]]),
    Point("arcsinh far out", np.arcsinh, [[1e200, -1e200]], [[1e-200, 1e-200]]),
    Point(
        "sinc",
        np.sinc,
        [[0.0, 1e-9, 0.1, 0.3, -0.3, 0.318, -0.318]],
        [[0, *map(_sinc_slope, (1e-9, 0.1, 0.3, -0.3, 0.318, -0.318))]],
    ),
    Point("sinc at 1 / pi", np.sinc, [[1 / np.pi, -1 / np.pi]], [[_sinc_slope(1 / np.pi), _sinc_slope(-1 / np.pi)]]),
    Point(
        "sinc far out",
        np.sinc,
        [[2.0**20 + 0.25, -(2.0**20) - 0.25, 2.0**20 + 1.25, 0.75, 1.25, 2.0]],
        [
            [
                *map(_sinc_far, (2.0**20, -(2.0**20), 2.0**20 + 1), (0.25, -0.25, 0.25)),
                *map(_sinc_far, (1, 1, 2), (-0.25, 0.25, 0)),
            ]
        ],
    ),
    Point(
        "tanh far out",
        np.tanh,
        [[20.0, -20.0, 300.0, 800.0]],
        [[4 * np.exp(-40), 4 * np.exp(-40), 4 * np.exp(-600), 0]],
    ),
    Point("sigmoid far out", elementwise.sigmoid, [[40.0, -40.0, 700.0]], [[np.exp(-40), np.exp(-40), np.exp(-700)]]),
    Point("logaddexp far out", np.logaddexp, [[40.0], [0.0]], [[1], [np.exp(-40)]]),
    Point("nan_to_num", np.nan_to_num, [[NAN, INF, -INF, 1.0]], [[0, 0, 0, 1]]),
    Point("keep_zero", lambda p: elementwise.keep_zero(p, np.array([0.0, 1.0, 0.0])), [[NAN, 2.0, 3.0]], [[0, 1, 1]]),
    Point("keep_zero of other NaN", lambda p: elementwise.keep_zero(p, np.array([1.0, 0.0])), [[NAN, 2.0]], [[1, 1]]),
    Point("remainder at a multiple", np.remainder, [[6.0, 5.0], [3.0, -3.0]], [[1, 1], [-2, 2]]),
    Point("fmod at a multiple", np.fmod, [[6.0, -5.0], [3.0, 3.0]], [[1, 1], [-2, 1]]),
    Point("max of ties", np.max, [[1.0, 1.0, 0.0]], [[0.5, 0.5, 0]]),
    Point("max and initial", lambda x: np.max(x, initial=1), [[1.0, 1.0, 0.0]], [[1 / 3, 1 / 3, 0]]),
    Point("max, with initial as large", lambda x: np.max(x, initial=2), [[2.0, 1.0, 0.0]], [[0.5, 0, 0]]),
    Point("max below initial", lambda x: np.max(x, initial=3), [[1.0, 1.0, 0.0]], [[0, 0, 0]]),
    Point(
        "min of ties along an axis",
        lambda x: np.min(x, axis=0, keepdims=True),
        [[[1.0, 1.0], [1.0, 2.0]]],
        [[[0.5, 1], [0.5, 0]]],
    ),
    Point(
        "max of ties under where",
        lambda x: np.max(x, initial=-9, where=np.array([True, False, True])),
        [[1.0, 1.0, 1.0]],
        [[0.5, 0, 0.5]],
    ),
    Point("norm of a zero vector", matrices.norm, [[0.0, 0.0]], [[0, 0]]),
    Point("norm of order 3 at 0", lambda x: matrices.norm(x, 3.0), [[0.0, 2.0]], [[0, 1]]),
    Point("norm of order 1/2 at 0", lambda x: matrices.norm(x, 0.5), [[0.0, 2.0]], [[0, 1]]),
    Point("norm of order -1 at 0", _quiet(lambda x: matrices.norm(x, -1.0, 0)), [[0.0, 2.0]], [[0, 0]]),
    Point("median of NaN", np.median, [[1.0, NAN, 3.0]], [[0, 1, 0]]),
    Point("median of an even number", np.median, [[1.0, 4.0, 3.0, 9.0]], [[0, 0.5, 0.5, 0]]),
    Point("nanmax", np.nanmax, [[NAN, 2.0, 1.0]], [[0, 1, 0]]),
    Point("nanmean", np.nanmean, [[NAN, 2.0, 1.0]], [[0, 0.5, 0.5]]),
    Point("std of equal numbers", np.std, [[2.0, 2.0, 2.0]], [[0, 0, 0]]),
    Point("svdvals of rank 1", np.linalg.svdvals, [[[3.0, 0.0], [0.0, 0.0]]], [[[1, 0], [0, 0]]]),
    Point("eigvalsh of equal eigenvalues", np.linalg.eigvalsh, [np.eye(2)], [np.eye(2)]),
    Point("eigh of equal eigenvalues", lambda a: np.linalg.eigh(a)[1], [np.eye(2)], [np.zeros((2, 2))]),
    Point(
        "interp at samples",
        lambda x: np.interp(x, [0.0, 1.0, 3.0], [0.0, 2.0, 3.0]),
        [[1.0, 0.0, 3.0]],
        [[0.5, 2, 0.5]],
    ),
    Point(
        "interp of one sample",
        np.interp,
        [[0.0, 1.0, 2.0], [1.0], [5.0]],
        [[0, 0, 0], [0], [3]],
    ),
    Point(
        "norm of order 0 as a factor",
        lambda x: np.linalg.norm(x, 0, 1, keepdims=True) * x,
        [[[0.0, 2.0], [3.0, 4.0]]],
        [[[1, 1], [2, 2]]],
    ),
    Point(
        "norm of order 0 along the first axis",
        lambda x: np.linalg.norm(x, 0, 0) * x,
        [[[0.0, 2.0], [1.0, -1.0]]],
        [[[1, 2]] * 2],
    ),
    Point("gradient of a list", lambda h: np.gradient([1.0, 3.0, 7.0], h), [2.0], [-9 / 4]),
    Point("prod of zeros", np.prod, [[0.0, 0.0, 2.0]], [[0, 0, 0]]),
]
