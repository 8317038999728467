"""Rows for element-wise functions: each rule returns the result's shape, the engine undoes broadcasts."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.checks import item_of, known
from tinygrad_nn.derivatives.table import numpy_row, own, unbroadcast
from tinygrad_nn.errors import ArgumentError

__all__ = ["relu", "sigmoid", "stop_gradient"]

elementwise = functools.partial(numpy_row, broadcasts=True)

_ufunc: np.ufunc
_LOG2 = math.log(2)
_LOG10 = math.log(10)
_DEGREE = math.pi / 180


# Arithmetic

elementwise(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)
elementwise(np.subtract, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)
elementwise(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
elementwise(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
elementwise(np.negative, lambda g, _y, _x: -g)
elementwise(np.positive, lambda g, _y, _x: g)
elementwise(np.conjugate, lambda g, _y, _x: g)
elementwise(np.reciprocal, lambda g, y, _x: -g * y * y)
elementwise(np.square, lambda g, _y, x: g * 2 * x)
elementwise(np.sqrt, lambda g, y, _x: g / (2 * y + 0), note="inf at 0")  # + 0: at -0.0 too
elementwise(np.cbrt, lambda g, y, _x: g / (3 * y * y), note="inf at 0")
for _ufunc in (np.absolute, np.fabs):
    elementwise(_ufunc, lambda g, _y, x: g * np.sign(x), selects=True, note="0 at 0")


def _steepness(a: Any, b: Any, power: Callable[..., Any]) -> Any:
    """Return b a^(b-1); as b a^b / a where b - 1 may be rounded: that error, times log a, would show."""
    if isinstance(b, (int, float, np.floating)) and b % 1 == 0:
        return b * power(a, b - 1) if b else 0
    split = (b < 0.5) & (a != 0)
    slope = b * power(a, np.where(split, b, b - 1)) / np.where(split, a, 1)
    return np.where(b == 0, 0, slope)  # the result is the constant 1 there, and 0 * 0**-1 NaN


def _power_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)):
        b = a.dtype.type(b)  # as the forward reads it: 1.7 - 1 is not 0.7 in float32
    return g * _steepness(a, b, operator.pow)


def _power_exponent(g: Any, y: Any, a: Any, _b: Any) -> Any:
    # 0**b is constant for b > 0, and a negative base takes whole exponents only
    return g * y * np.log(np.where(a > 0, a, 1))


_flat_exponent = "with respect to the exponent: 0 where the base is 0 or negative"
elementwise(np.power, _power_base, _power_exponent, note=_flat_exponent)
elementwise(
    np.float_power,
    lambda g, _y, a, b: g * _steepness(a, b, np.float_power),
    _power_exponent,
    note=_flat_exponent,
)


def _whole(y: Any, a: Any, b: Any) -> Any:
    """How many times `b` was taken away from `a` to leave the remainder `y`."""
    return np.rint((a - y) / b)


for _ufunc in (np.remainder, np.fmod):
    elementwise(
        _ufunc,
        lambda g, _y, _a, _b: g,
        lambda g, y, a, b: -g * _whole(y, a, b),
        note="at whole multiples of the divisor: the slope next door, the jump left out",
    )

# Exponentials and logarithms

elementwise(np.exp, lambda g, y, _x: g * y)
elementwise(np.exp2, lambda g, y, _x: g * y * _LOG2)
elementwise(np.expm1, lambda g, _y, x: g * np.exp(x))
elementwise(np.log, lambda g, _y, x: g / x)
elementwise(np.log2, lambda g, _y, x: g / _LOG2 / x)
elementwise(np.log10, lambda g, _y, x: g / _LOG10 / x)
elementwise(np.log1p, lambda g, _y, x: g / (1 + x))

# Angles

elementwise(np.sin, lambda g, _y, x: g * np.cos(x))
elementwise(np.cos, lambda g, _y, x: -g * np.sin(x))
elementwise(np.tan, lambda g, y, _x: g * (1 + y * y))
elementwise(np.arcsin, lambda g, _y, x: g / np.sqrt((1 - x) * (1 + x)), note="inf at -1 and 1")
elementwise(np.arccos, lambda g, _y, x: -g / np.sqrt((1 - x) * (1 + x)), note="-inf at -1 and 1")

for _ufunc in (np.deg2rad, np.radians):
    elementwise(_ufunc, lambda g, _y, _x: g * _DEGREE)
for _ufunc in (np.rad2deg, np.degrees):
    elementwise(_ufunc, lambda g, _y, _x: g / _DEGREE)


def _length(a: Any, b: Any) -> Any:
    """Return sqrt(a^2 + b^2) without overflow: np.hypot, continued to complex numbers."""
    return np.hypot(a, b) if np.result_type(a, b).kind == "f" else np.sqrt(a * a + b * b)


_hypot_rules = (
    lambda g, y, a, _b: g * (a / np.where(y == 0, np.inf, y)),
    lambda g, y, _a, b: g * (b / np.where(y == 0, np.inf, y)),
)
_at_zero = "0 at (0, 0), at every order (for its square, which is smooth there, write a * a + b * b)"
length = own(_length, *_hypot_rules, name="length", broadcasts=True, selects=True, note=_at_zero)
elementwise(np.hypot, *_hypot_rules, selects=True, note=_at_zero)
elementwise(np.arctan, lambda g, _y, x: g / length(x, 1) / length(x, 1))
elementwise(
    np.arctan2,
    lambda g, _y, a, b: g * (b / length(a, b)) / length(a, b),
    lambda g, _y, a, b: -g * (a / length(a, b)) / length(a, b),
    note="nan at (0, 0), where there is no angle",
)


def _sinc(g: Any, _y: Any, x: Any) -> Any:
    # the quotient loses all digits near 0: the Taylor series in u = pi x takes its place for |u| < 1
    u = math.pi * x
    near = (u > -1) & (u < 1)
    v = np.where(near, u, 0)
    series = 0 * v
    for k in range(11, 0, -1):
        series = series * (v * v) + (-1) ** k * 2 * k / math.factorial(2 * k + 1)
    # pi x is rounded: whole turns come off x instead, and the cosine is a sine, exact at its zeros
    turn = x - 2 * np.rint(x / 2)
    cosine, sine = np.sin(math.pi * np.where(turn < 0, 0.5 + turn, 0.5 - turn)), np.sin(math.pi * turn)
    w = np.where(near, 1, u)
    return g * math.pi * np.where(near, series * v, (cosine - sine / w) / w)


numpy_row(np.sinc, _sinc, broadcasts=True)

# Hyperbolic functions

elementwise(np.sinh, lambda g, _y, x: g * np.cosh(x))
elementwise(np.cosh, lambda g, _y, x: g * np.sinh(x))
elementwise(np.arcsinh, lambda g, _y, x: g / length(x, 1))
elementwise(np.arccosh, lambda g, _y, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)), note="inf at 1")
elementwise(np.arctanh, lambda g, _y, x: g / ((1 - x) * (1 + x)), note="inf at -1 and 1")


def _over_cosh_squared(g: Any, x: Any) -> Any:
    """Return g / cosh(x)^2, which is 0 where cosh(x) overflows."""
    c = np.cosh(x)
    return g / c / c


# its own function, since cosh and sinh, by which it would be differentiated, overflow where it is 0
over_cosh_squared: Callable[..., Any] = own(
    _over_cosh_squared,
    lambda h, _y, _g, x: over_cosh_squared(h, x),
    lambda h, y, _g, x: h * y * (-2 * np.tanh(x)),
    name="over_cosh_squared",
    broadcasts=True,
)

# 1 - y*y rounds to 0 from |x| = 19 on
elementwise(np.tanh, lambda g, _y, x: over_cosh_squared(g, x))


def _sigmoid(x: Any) -> Any:
    """Return the logistic function 1 / (1 + exp(-x)), element-wise, without overflow.

    Takes and gives an array or Tensor of any shape; integers give float64.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 40.0]))
    array([0. , 0.5, 1. ])
    """
    if not (hasattr(x, "dtype") and x.dtype.kind in "fc"):
        x = np.asarray(x, complex if isinstance(x, complex) else float)  # small integers would wrap around in -x
    # e^min(x,0) / (e^min(x,0) + e^min(-x,0)): the larger term is 1, whichever side x lies on
    rising = np.exp(np.minimum(x, 0))
    return rising / (rising + np.exp(np.minimum(-x, 0)))


# s(-x) in place of 1 - s(x), which rounds to 0 from x = 37 on
sigmoid: Callable[..., Any] = own(
    _sigmoid, lambda g, y, x: g * (y * sigmoid(-x)), name="sigmoid", broadcasts=True, public=True
)


def _relu(x: Any) -> Any:
    """Return max(x, 0), element-wise, with gradient 0 at 0.

    Takes and gives an array or Tensor of any shape, and keeps its dtype.

    Examples
    --------
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return np.maximum(x, 0)


relu = own(_relu, lambda g, y, _x: g * (y > 0), name="relu", broadcasts=True, selects=True, public=True, note="0 at 0")

elementwise(
    np.logaddexp,
    lambda g, _y, a, b: g * sigmoid(a - b),
    lambda g, _y, a, b: g * sigmoid(b - a),
)
elementwise(
    np.logaddexp2,
    lambda g, _y, a, b: g * sigmoid((a - b) * _LOG2),
    lambda g, _y, a, b: g * sigmoid((b - a) * _LOG2),
)


def _stop_gradient(x: Any) -> Any:
    """Return `x` itself; no gradient flows through it.

    Takes and gives an array or Tensor of any shape and dtype; the values are shared, not copied.

    Examples
    --------
    >>> import tinygrad_nn as tn
    >>> x = tn.Tensor(3.0, requires_grad=True)
    >>> (x * tn.stop_gradient(x)).backward()
    >>> x.grad
    array(3.)
    """
    return x


stop_gradient = own(_stop_gradient, None, name="stop_gradient", public=True)


def _keep_zero(part: Any, g: Any) -> Any:
    """Return `part` with 0 for NaN where `g` is 0: no slope, not even an infinite one, is taken 0 times.

    The walk back calls it behind functions that select, such as `np.where`: without it the side
    that was not taken would give 0 * inf.
    """
    lost = np.isnan(part)
    if isinstance(lost, (np.ndarray, np.generic)) and not lost.any():
        return part  # saves a copy; of other libraries' arrays the answer may be far away
    return np.where(lost & (g == 0), 0, part)


keep_zero = own(
    _keep_zero,
    lambda h, _y, part, g: np.where(np.isnan(part) & (g == 0), 0, h),
    name="keep_zero",
    selects=True,
)

# the same array under a new node: what a transform differentiates with respect to
alias: Callable[..., Any] = own(lambda x: x, lambda g, _y, _x: g, name="alias", broadcasts=True)


def _bounded(x: Any, low: float, high: float, what: str) -> Any:
    """Return `x` as it is, if no entry lies outside [low, high]; what a program has to check at each call."""
    real = np.real(known(what, x))
    if item_of(np.any(real < low)) or item_of(np.any(real > high)):
        raise ArgumentError(f"{what} from {low} to {high}, got {item_of(real.min()):.6g} to {item_of(real.max()):.6g}")
    return x


bounded: Callable[..., Any] = own(_bounded, lambda g, _y, _x, low, high, what: g, name="bounded")

# Choice

choice = functools.partial(elementwise, selects=True)

_ties = "ties share the gradient equally: 0.5 each"


def _share(g: Any, chosen: Any, tie: Any) -> Any:
    return np.where(tie, g * 0.5, np.where(chosen, g, 0))


choice(
    np.maximum,
    lambda g, _y, a, b: _share(g, a > b, a == b),
    lambda g, _y, a, b: _share(g, b > a, a == b),
    note=_ties + ", so maximum(x, 0) has gradient 0.5 at 0 (relu: 0)",
)
choice(
    np.minimum,
    lambda g, _y, a, b: _share(g, a < b, a == b),
    lambda g, _y, a, b: _share(g, b < a, a == b),
    note=_ties,
)
choice(
    np.fmax,
    lambda g, _y, a, b: _share(g, (a > b) | np.isnan(b), a == b),
    lambda g, _y, a, b: _share(g, (b > a) | np.isnan(a), a == b),
    note=_ties,
)
choice(
    np.fmin,
    lambda g, _y, a, b: _share(g, (a < b) | np.isnan(b), a == b),
    lambda g, _y, a, b: _share(g, (b < a) | np.isnan(a), a == b),
    note=_ties,
)
choice(
    np.where,
    None,
    lambda g, _y, condition, _a, _b: np.where(condition, g, 0),
    lambda g, _y, condition, _a, _b: np.where(condition, 0, g),
)


def _bind_clip(x: Any, *bounds: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for i, names in enumerate((("a_min", "min"), ("a_max", "max"))):
        for name in names:
            if name in named and len(bounds) <= i:
                bounds = (*bounds, *[None] * (i - len(bounds)), named.pop(name))
    return (x, *bounds, *[None] * (2 - len(bounds))), named


def _below(g: Any, a: Any, high: Any) -> Any:
    """The part of `g` that passes minimum(a, high) on its way to `a`."""
    return g if high is None else _share(g, a < high, a == high)


def _clip_x(g: Any, _y: Any, x: Any, low: Any, high: Any) -> Any:
    g = _below(g, x, high)
    return g if low is None else _share(g, x > low, x == low)


def _clip_low(g: Any, _y: Any, x: Any, low: Any, high: Any) -> Any:
    return _share(_below(g, low, high), low > x, x == low)


def _clip_high(g: Any, _y: Any, x: Any, low: Any, high: Any) -> Any:
    above = x if low is None else np.maximum(x, low)
    return _share(g, high < above, above == high)


choice(
    np.clip,
    _clip_x,
    _clip_low,
    _clip_high,
    bind=_bind_clip,
    note="minimum(maximum(x, low), high), and " + _ties,
)

# NumPy's signature has copy=, which Tensors do anyway


choice(
    np.nan_to_num,
    lambda g, _y, x, copy=True, nan=0.0, posinf=None, neginf=None: np.where(np.isfinite(x), g, 0),
    note="0 at nan and infinities",
)
choice(np.heaviside, None, lambda g, _y, x, _h: np.where(x == 0, g, 0), note="no gradient flows to the first argument")
numpy_row(np.modf, lambda g, _y, _x: g[0], note="no gradient flows through the whole part; the jumps are left out")
numpy_row(
    np.divmod,
    lambda g, _y, _a, _b: unbroadcast(g[1], _a.shape),
    lambda g, y, a, b: unbroadcast(-g[1] * _whole(y[1], a, b), b.shape),
    note="no gradient flows through the quotient",
)

# Steps, comparisons and logic: no gradient flows, since between jumps they are constant

_STEPS: list[np.ufunc] = [np.sign, np.floor, np.ceil, np.trunc, np.rint]
_PREDICATES: list[np.ufunc] = [np.logical_not, np.invert, np.isnan, np.isfinite, np.isinf, np.signbit]
_COMPARISONS: list[np.ufunc] = [np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal]
_LOGIC: list[np.ufunc] = [np.logical_and, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor]
for _ufunc in (*_STEPS, *_PREDICATES):
    elementwise(_ufunc, None, note="no gradient flows")
for _ufunc in (*_COMPARISONS, *_LOGIC, np.floor_divide):
    elementwise(_ufunc, None, None, note="no gradient flows")
for _compare in (np.isclose, np.allclose, np.array_equal):
    numpy_row(_compare, None, None, note="no gradient flows")
for _round in (np.round, np.around):
    numpy_row(_round, None, note="no gradient flows")
numpy_row(np.fix, None, kernel=lambda x, /: np.trunc(x), note="no gradient flows")
