"""Rows for element-wise functions: each rule returns the result's shape, the engine undoes broadcasts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import numpy_row, own

__all__ = ["relu", "sigmoid", "stop_gradient"]

elementwise = functools.partial(numpy_row, broadcasts=True)


@functools.cache
def log_max(dtype: np.dtype[Any]) -> float:
    """The logarithm of the dtype's largest number: as far as exp goes without overflow."""
    return float(np.log(np.finfo(dtype).max))


# Arithmetic

elementwise(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)
elementwise(np.subtract, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)
elementwise(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
elementwise(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
elementwise(np.negative, lambda g, _y, _x: -g)
elementwise(np.positive, lambda g, _y, _x: g)
elementwise(np.reciprocal, lambda g, y, _x: -g * y * y)
elementwise(np.square, lambda g, _y, x: g * 2 * x)
elementwise(np.sqrt, lambda g, y, _x: g / (2 * y), note="inf at 0")
elementwise(np.absolute, lambda g, _y, x: g * np.sign(x), selects=True, note="0 at 0")
elementwise(np.sign, None, note="no gradient flows: constant between jumps")


def _power_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    # where b is 0 the result is the constant 1, whatever a is: without the mask 0 * 0**-1 is NaN
    if isinstance(b, (int, float)):
        return g * 0 if b == 0 else g * b * a ** (b - 1)
    constant = b == 0
    return g * np.where(constant, 0, b * a ** np.where(constant, 1, b - 1))


def _power_exponent(g: Any, y: Any, a: Any, _b: Any) -> Any:
    # 0**b is constant for b > 0, and a negative base takes whole exponents only
    return g * y * np.log(np.where(a > 0, a, 1))


elementwise(
    np.power,
    _power_base,
    _power_exponent,
    note="with respect to the exponent: 0 where the base is 0 or negative",
)

# Exponentials

elementwise(np.exp, lambda g, y, _x: g * y)
elementwise(np.log, lambda g, _y, x: g / x)
elementwise(np.expm1, lambda g, _y, x: g * np.exp(x))
elementwise(np.log1p, lambda g, _y, x: g / (1 + x))
elementwise(np.sin, lambda g, _y, x: g * np.cos(x))
elementwise(np.cos, lambda g, _y, x: -g * np.sin(x))
elementwise(np.sinh, lambda g, _y, x: g * np.cosh(x))
elementwise(np.cosh, lambda g, _y, x: g * np.sinh(x))


def _tanh(g: Any, _y: Any, x: Any) -> Any:
    # 1 - y*y rounds to 0 from |x| = 19 on; 1/cosh is right as far as cosh does not overflow
    limit = log_max(x.dtype)
    r = 1 / np.cosh(x.clip(-limit, limit))
    return g * (r * r)


elementwise(np.tanh, _tanh)


def _sigmoid(x: Any) -> Any:
    """Return the logistic function 1 / (1 + exp(-x)), element-wise, without overflow.

    Takes and gives an array or Tensor of any shape; integers give float64.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 40.0]))
    array([0. , 0.5, 1. ])
    """
    # e^min(x,0) / (e^min(x,0) + e^min(-x,0)): the larger term is 1, whichever side x lies on
    rising = np.exp(np.minimum(x, 0))
    return rising / (rising + np.exp(np.minimum(-x, 0)))


# s(-x) in place of 1 - s(x), which rounds to 0 from x = 37 on
sigmoid: Callable[..., Any] = own(_sigmoid, lambda g, y, x: g * (y * sigmoid(-x)), name="sigmoid", broadcasts=True)


def _relu(x: Any) -> Any:
    """Return max(x, 0), element-wise, with gradient 0 at 0.

    Takes and gives an array or Tensor of any shape, and keeps its dtype.

    Examples
    --------
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return np.maximum(x, 0)


relu = own(_relu, lambda g, y, _x: g * (y > 0), name="relu", broadcasts=True, selects=True, note="0 at 0")

elementwise(np.logaddexp, lambda g, _y, a, b: g * sigmoid(a - b), lambda g, _y, a, b: g * sigmoid(b - a))


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


stop_gradient = own(_stop_gradient, None, name="stop_gradient")


def _keep_zero(part: Any, g: Any) -> Any:
    """Return `part` with 0 for NaN where `g` is 0: no slope, not even an infinite one, is taken 0 times.

    The walk back calls it behind functions that select, such as `np.where`: without it the side
    that was not taken would give 0 * inf.
    """
    lost = np.isnan(part)
    return np.where(lost & (g == 0), 0, part) if lost.any() else part


keep_zero = own(
    _keep_zero,
    lambda h, _y, part, g: np.where(np.isnan(part) & (g == 0), 0, h),
    None,
    name="keep_zero",
    broadcasts=True,
    selects=True,
)

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


def _above(x: Any, low: Any) -> Any:
    return x if low is None else np.maximum(x, low)


def _below_high(g: Any, x: Any, low: Any, high: Any) -> Any:
    """The gradient that passes minimum(., high) on its way to maximum(x, low)."""
    return g if high is None else _share(g, _above(x, low) < high, _above(x, low) == high)


def _clip_x(g: Any, _y: Any, x: Any, low: Any, high: Any) -> Any:
    g = _below_high(g, x, low, high)
    return g if low is None else _share(g, x > low, x == low)


def _clip_low(g: Any, _y: Any, x: Any, low: Any, high: Any) -> Any:
    return _share(_below_high(g, x, low, high), low > x, x == low)


def _clip_high(g: Any, _y: Any, x: Any, low: Any, high: Any) -> Any:
    return _share(g, high < _above(x, low), _above(x, low) == high)


choice(
    np.clip,
    _clip_x,
    _clip_low,
    _clip_high,
    bind=_bind_clip,
    note="minimum(maximum(x, low), high), and " + _ties,
)

# Comparisons and logic: a mask has no gradient

_COMPARISONS: list[np.ufunc] = [np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal]
_LOGIC: list[np.ufunc] = [
    np.logical_and,
    np.logical_or,
    np.logical_xor,
    np.bitwise_and,
    np.bitwise_or,
    np.bitwise_xor,
]
_PREDICATES: list[np.ufunc] = [np.logical_not, np.invert, np.isnan, np.isfinite, np.isinf, np.signbit]
for _ufunc in (*_COMPARISONS, *_LOGIC):
    elementwise(_ufunc, None, None)
for _ufunc in _PREDICATES:
    elementwise(_ufunc, None)
