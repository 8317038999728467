"""Domains of the rows in tinygrad_nn/derivatives/elementwise.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from domains.base import LAYOUTS, Case, Draw, domain, relayout
from tinygrad_nn.derivatives import elementwise
from tinygrad_nn.derivatives.table import TABLE

UNARY: dict[Callable[..., Any], tuple[float, float]] = {
    np.negative: (-2, 2),
    np.positive: (-2, 2),
    np.square: (-2, 2),
    np.reciprocal: (0.3, 3),
    np.sqrt: (0.2, 4),
    np.exp: (-3, 3),
    np.exp2: (-3, 3),
    np.expm1: (-2, 2),
    np.log: (0.2, 4),
    np.log2: (0.2, 4),
    np.log10: (0.2, 4),
    np.log1p: (-0.7, 2),
    np.sin: (-4, 4),
    np.cos: (-4, 4),
    np.tan: (-1.2, 1.2),
    np.arcsin: (-0.9, 0.9),
    np.arccos: (-0.9, 0.9),
    np.arctan: (-4, 4),
    np.sinh: (-3, 3),
    np.cosh: (-3, 3),
    np.tanh: (-4, 4),
    np.arcsinh: (-4, 4),
    np.arccosh: (1.2, 4),
    np.arctanh: (-0.9, 0.9),
    np.sinc: (-2, 2),
    elementwise.sigmoid: (-6, 6),
    elementwise.alias: (-2, 2),
}
REAL_UNARY: dict[Callable[..., Any], tuple[float, float]] = {
    np.cbrt: (0.2, 4),
    np.conjugate: (-2, 2),
    np.deg2rad: (-400, 400),
    np.radians: (-400, 400),
    np.rad2deg: (-4, 4),
    np.degrees: (-4, 4),
}


@domain(*UNARY)
def unary(d: Draw, function: Callable[..., Any]) -> Case:
    low, high = UNARY[function]
    return Case(function, [d.values(d.shape(), low, high)])


@domain(*REAL_UNARY)
def real_unary(d: Draw, function: Callable[..., Any]) -> Case:
    low, high = REAL_UNARY[function]
    return Case(function, [d.values(d.shape(), low, high)], complex_safe=False)


@domain(np.absolute, np.fabs, elementwise.relu)
def with_kink_at_zero(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.spread(d.shape())], complex_safe=False)


@domain(np.add, np.subtract, np.multiply)
def binary(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(s) for s in d.shapes(2)])


@domain(np.divide)
def divide(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    return Case(function, [d.values(first), d.values(second, 0.4, 3)])


@domain(np.float_power)
def float_power(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    return Case(function, [d.values(first, 0.3, 2), d.values(second)], widens=True)


@domain(np.remainder, np.fmod)
def remainder(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    # multiples of 0.25 plus 0.125 are never near a whole multiple of 0.75 or -1.5
    a, b = d.spread(first), d.pick(0.75, -1.5) * (1 + 0.001 * d.rng.random(second))
    return Case(function, [a, np.asarray(b)], complex_safe=False)


@domain(np.divmod)
def divmod_(d: Draw, function: Callable[..., Any]) -> Case:
    case = remainder(d, np.remainder)
    return Case(lambda a, b: function(a, b)[1], case.arrays, complex_safe=False)


@domain(np.modf)
def modf(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x)[0], [d.spread(d.shape())], complex_safe=False)


@domain(np.heaviside)
def heaviside(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    steps = d.rng.integers(-1, 2, first).astype(float)
    return Case(lambda h: function(np.asarray(steps, h.dtype), h), [d.values(second)], complex_safe=False)


@domain(np.nan_to_num)
def nan_to_num(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    holes = d.rng.choice([0.0, 0.0, np.nan, np.inf, -np.inf], shape)
    options = {"posinf": 2.0, "neginf": -3.0} | d.pick({}, {"nan": 1.0}, {"copy": True})
    return Case(lambda x: function(x + holes.astype(x.dtype), **options), [d.values(shape)], complex_safe=False)


@domain(np.hypot, elementwise.length, np.arctan2)
def plane(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    arrays = [d.values(first, 0.3, 2), d.values(second, -2, -0.3)]
    return Case(function, arrays, complex_safe=function is elementwise.length)


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


@domain(np.logaddexp, np.logaddexp2)
def logaddexp(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(s) for s in d.shapes(2)], complex_safe=False)


@domain(np.maximum, np.minimum, np.fmax, np.fmin)
def choice(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    return Case(function, [d.spread(first), d.spread(second, 0.5)])


@domain(elementwise.over_cosh_squared)
def over_cosh_squared(d: Draw, function: Callable[..., Any]) -> Case:
    g, x = d.shapes(2)
    return Case(function, [d.values(g), d.values(x, -4, 4)])


@domain(elementwise.keep_zero)
def keep_zero(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    g = np.where(d.rng.random(shape) < 0.3, 0, d.rng.standard_normal(shape))
    g = relayout(g, d.pick(*LAYOUTS))
    holes = np.where((g == 0) & (d.rng.random(shape) < 0.5), np.nan, 0)
    return Case(lambda part: function(part + holes.astype(part.dtype), g), [d.values(shape)], complex_safe=False)


@domain(np.where)
def where(d: Draw, function: Callable[..., Any]) -> Case:
    condition, first, second = d.shapes(3)
    mask = d.rng.random(condition) < 0.5
    return Case(lambda a, b: function(mask, a, b), [d.values(first), d.values(second)])


NEWER_CLIP = ("min and max", "min", "max") if "max" in inspect.signature(np.clip).parameters else ()  # NumPy 2.1


@domain(np.clip)
def clip(d: Draw, function: Callable[..., Any]) -> Case:
    x, low, high = d.shapes(3)
    form = d.pick("both", "arrays", "low", "high", "keywords", "high keyword", "low keyword", "method", *NEWER_CLIP)
    form = d.pick(form, "low array", "high array")
    if form == "arrays":
        # distinct grids: no entry lies on a bound
        return Case(
            function,
            [d.spread(x), np.asarray(d.spread(low, 1 / 3) - 1), np.asarray(d.spread(high, 2 / 3) + 1)],
        )
    calls = {
        "both": lambda a: function(a, -0.75, 0.75),
        "low": lambda a: function(a, -0.75, None),
        "low array": lambda a, low: function(a, low, None),
        "high array": lambda a, high: function(a, None, high),
        "high": lambda a: function(a, None, 0.75),
        "keywords": lambda a: function(a, a_min=None, a_max=0.75),
        "high keyword": lambda a: function(a, -0.75, a_max=0.75),
        "low keyword": lambda a: function(a, a_max=None, a_min=-0.75),
        "min and max": lambda a: function(a, max=0.75, min=-0.75),
        "min": lambda a: function(a, min=-0.75),
        "max": lambda a: function(a, max=0.75),
        "method": lambda a: a.clip(-0.75, 0.75),
    }
    return Case(calls[form], [d.spread(x), *([d.spread(low, 1 / 3)] if form.endswith("array") else [])])


# Rows without a derivative: positions, masks, constants


@domain(*(f for f, row in TABLE.items() if row.own and not row.active and isinstance(f, np.ufunc)))
def without_gradient(d: Draw, function: Any) -> Case:
    shapes = d.shapes(function.nin)
    arrays = [np.asarray(np.round(d.values(s))) for s in shapes]
    if function is np.floor_divide:
        arrays[1] = d.spread(shapes[1])
    if function.__name__.startswith(("bitwise", "invert")):
        return Case(lambda *xs: function(*(x > 0 for x in xs)), arrays)
    return Case(function, arrays)


@domain(np.isclose, np.allclose)
def close(d: Draw, function: Callable[..., Any]) -> Case:
    first, second = d.shapes(2)
    options = d.pick({}, {"rtol": 0.3}, {"atol": 0.3}, {"equal_nan": True})
    left, right = d.pick((0.0, 0.0), (0.0, np.nan), (np.nan, np.nan))
    a, b = np.round(d.values(first)), np.round(d.values(second))
    return Case(lambda x, y: function(x + left, y + right, **options), [a, b])


@domain(np.array_equal)
def array_equal(d: Draw, function: Callable[..., Any]) -> Case:
    x, hole, options = np.round(d.values(d.shape())), d.pick(0.0, np.nan), d.pick({}, {"equal_nan": True})
    y = d.pick(x, x + 1, np.round(d.values(d.shape())))
    return Case(lambda a, b: function(a + hole, b + hole, **options), [x, y])


@domain(np.round, np.around)
def rounded(d: Draw, function: Callable[..., Any]) -> Case:
    decimals = d.pick(0, 1, -1)
    return Case(lambda x: function(x, decimals), [d.values(d.shape())])


@domain(np.fix)
def fix(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape())])


@domain(elementwise.bounded)
def bounded(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda x: function(x, -2, 2, "entries"), [d.values(d.shape(), -1.9, 1.9)])


@domain(elementwise.stop_gradient)
def stopped(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape())])
