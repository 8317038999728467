"""Functions with their exact derivative: each in NumPy, for the oracle, and once more in mpmath, for the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

__all__ = ["FUNCTIONS", "SCALES", "Smooth", "exact_slope", "lost"]

SCALES = (1.0, 1e-4, 1e3)
DIGITS = 60

Numbers = list[Any]


@dataclass
class Smooth:
    """One function of an array of shape `shape`, smooth where it is asked.

    Attributes
    ----------
    name : its formula
    call : in NumPy
    exact : in mpmath, of the entries as a flat list, to a list of the outputs' entries
    shape : of the input
    limit : the largest relative error that the oracle may make; larger where a kernel takes neither complex
        numbers nor long double, infinite where the formula cancels in every precision
    """

    name: str
    call: Callable[[Any], Any]
    exact: Callable[[Numbers], Numbers]
    shape: tuple[int, ...] = (1,)
    limit: float = 1e-12

    def point(self, rng: np.random.Generator, scale: float) -> Any:
        """Positive entries of one size; square matrices with a strong diagonal."""
        x = rng.uniform(0.5, 2, self.shape)
        return scale * (x + 4 * np.eye(len(x)) if x.ndim == 2 else x)


def exact_slope(function: Smooth, x: Any, u: Any, v: Any) -> tuple[float, float]:
    """The slope of <v, f> along u, and the sum of the magnitudes of its terms."""
    with mpmath.workdps(DIGITS):
        xs, us = ([mpmath.mpf(float(n)) for n in a.ravel()] for a in (x, u))
        step = mpmath.mpf(10) ** (-DIGITS // 3) * min(1, min(abs(n) for n in xs) ** 2)
        ends = [function.exact([a + s * step * b for a, b in zip(xs, us, strict=True)]) for s in (1, -1)]
        terms = [mpmath.mpf(float(w)) * (a - b) / (2 * step) for w, a, b in zip(v.ravel(), *ends, strict=True)]
        return float(mpmath.fsum(terms)), float(mpmath.fsum(map(abs, terms)))


def lost(function: Smooth, x: Any, u: Any, v: Any) -> float:
    """How much of its slope the function itself loses in float64, as a part of the sum of the slope's terms.

    Its formula runs in mpmath a little off the real axis, in 60 digits and in 49 to 53 bits, and the imaginary parts
    are compared: without steps, and with nothing of the oracle's.  0 where they are no derivative, as for abs.
    """
    slope, size = exact_slope(function, x, u, v)
    with mpmath.workdps(DIGITS):
        step = mpmath.mpf(10) ** -DIGITS
        points = [mpmath.mpc(float(a), step * float(b)) for a, b in zip(x.ravel(), u.ravel(), strict=True)]

        def terms() -> Numbers:
            ys = function.exact(points)
            return [mpmath.mpf(float(w)) * mpmath.im(y) / step for w, y in zip(v.ravel(), ys, strict=True)]

        try:
            right = terms()
        except (AttributeError, TypeError, ValueError):  # made for real numbers only
            return 0.0
        if not abs(mpmath.fsum(right) - slope) <= 1e-12 * size:
            return 0.0
        gaps = []
        for bits in range(49, 54):
            with mpmath.workprec(bits):
                rough = terms()
            gap = mpmath.fsum(abs(a - b) for a, b in zip(rough, right, strict=True))
            gaps.append(float(gap) * 2.0 ** (bits - 53) / size)
    return max(gaps) if max(gaps) < 1 else 0.0  # some of mpmath's own imaginary parts are noise alone


def _formulas() -> Iterator[Smooth]:
    plain = (
        "exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "log", "log1p", "log10",
        "cbrt", "arctan", "arcsinh",
    )  # fmt: skip
    names = {"arctan": "atan", "arcsinh": "asinh"}
    for name in plain:
        other = getattr(mpmath, names.get(name, name))
        yield Smooth(name, getattr(np, name), lambda xs, other=other: [other(xs[0])])
    texts = (
        "x**2", "x**3", "1/x", "x**2.5", "x**-3", "1/(1+x*x)", "x*exp(x)", "exp(-x*x)", "exp(-x)", "1/(1+exp(-x))",
        "log(1+exp(x))", "sin(x)/x", "x*tanh(x)", "sqrt(1+x*x)", "exp(sin(x))", "x/(1+abs(x))", "abs(x)*x", "log(x)*x",
        "cos(x*x)", "exp(x)-1", "(1-cos(x))/(x*x)", "log(cosh(x))", "sqrt(1+x)-1", "x*x*x-3*x+abs(x)",
        "x/(1+exp(-1.702*x))", "exp(-abs(x))", "sqrt(x*x)", "tanh(x)**3",
    )  # fmt: skip
    used = ("exp", "log", "sin", "cos", "tanh", "cosh", "sqrt")
    spaces = [{n: getattr(m, n) for n in used} for m in (np, mpmath)]
    for text in texts:
        code = compile(f"lambda x: {text}", "formula", "eval")
        numeric, exact = (eval(code, {**space}) for space in spaces)  # noqa: S307 - our own text
        limit = np.inf if text in {"cos(x*x)", "(1-cos(x))/(x*x)"} else 1e-12
        yield Smooth(text, numeric, lambda xs, exact=exact: [exact(xs[0])], limit=limit)


def _mean(xs: Numbers) -> Any:
    return mpmath.fsum(xs) / len(xs)


def _variance(xs: Numbers) -> Any:
    m = _mean(xs)
    return mpmath.fsum((x - m) ** 2 for x in xs) / len(xs)


def _softmax(xs: Numbers) -> Numbers:
    es = [mpmath.exp(x) for x in xs]
    return [e / mpmath.fsum(es) for e in es]


def _square(xs: Numbers) -> Any:
    n = int(len(xs) ** 0.5)
    return mpmath.matrix(n, n, force_type=mpmath.mpf) if not xs else mpmath.matrix(
        [xs[i * n : (i + 1) * n] for i in range(n)]
    )  # fmt: skip


def _symmetric(a: Any) -> Any:
    return (a + a.T) / 2


def _lower(a: Any) -> Any:
    return a.T @ a + np.eye(len(a)) * np.trace(a.T @ a)


def softmax(x: Any) -> Any:
    """With the usual shift, by the real part, so that complex numbers pass."""
    e = np.exp(x - np.max(np.real(x)))
    return e / np.sum(e)


def _arrays() -> Iterator[Smooth]:
    n = (5,)
    yield Smooth("var", np.var, lambda xs: [_variance(xs)], n)
    yield Smooth("std", np.std, lambda xs: [mpmath.sqrt(_variance(xs))], n)
    yield Smooth("norm", np.linalg.norm, lambda xs: [mpmath.norm(xs)], n)
    yield Smooth("prod", np.prod, lambda xs: [mpmath.fprod(xs)], n)
    yield Smooth("softmax", softmax, _softmax, n)
    yield Smooth(
        "logaddexp",
        lambda x: np.logaddexp(x[0], x[1]),
        lambda xs: [mpmath.log(mpmath.exp(xs[0]) + mpmath.exp(xs[1]))],
        n,
    )
    yield Smooth("arctan2", lambda x: np.arctan2(x[0], x[1]), lambda xs: [mpmath.atan2(xs[0], xs[1])], n)
    yield Smooth("hypot", lambda x: np.hypot(x[0], x[1]), lambda xs: [mpmath.hypot(xs[0], xs[1])], n)
    yield Smooth(
        "x - mean over std",
        lambda x: (x - x.mean()) / x.std(),
        lambda xs: [(x - _mean(xs)) / mpmath.sqrt(_variance(xs)) for x in xs],
        n,
    )
    yield Smooth("cumsum of x*x", lambda x: np.cumsum(x * x),
                 lambda xs: [mpmath.fsum(x * x for x in xs[: k + 1]) for k in range(len(xs))], n)  # fmt: skip
    yield Smooth("det", np.linalg.det, lambda xs: [mpmath.det(_square(xs))], (3, 3))
    yield Smooth("inv", np.linalg.inv, lambda xs: list(_square(xs) ** -1), (3, 3))
    yield Smooth("x @ x.T", lambda x: x @ x.T, lambda xs: list(_square(xs) * _square(xs).T), (3, 3))


def _kernels() -> Iterator[Smooth]:
    """NumPy's kernels that take neither complex numbers (or drop the imaginary part) nor long double."""
    yield Smooth(
        "eigvalsh", lambda x: np.linalg.eigvalsh((x + x.T) / 2),
        lambda xs: list(mpmath.eigsy(_symmetric(_square(xs)), eigvals_only=True)), (3, 3), 1e-9,
    )  # fmt: skip
    yield Smooth(
        "singular values", lambda x: np.linalg.svd(x, compute_uv=False),
        lambda xs: list(mpmath.svd_r(_square(xs), compute_uv=False)), (3, 3), 1e-9,
    )  # fmt: skip
    yield Smooth(
        "nuclear norm", lambda x: np.linalg.norm(x, "nuc"),
        lambda xs: [mpmath.fsum(mpmath.svd_r(_square(xs), compute_uv=False))], (3, 3), 1e-9,
    )  # fmt: skip
    yield Smooth(
        "log det by slogdet of float64", lambda x: np.linalg.slogdet(np.asarray(x, dtype=_float(x)))[1],
        lambda xs: [mpmath.log(abs(mpmath.det(_square(xs))))], (3, 3), 1e-9,
    )  # fmt: skip
    yield Smooth(
        "cholesky", lambda x: np.linalg.cholesky(_lower(_real(x))),
        lambda xs: _cholesky(_square(xs)), (3, 3), 1e-9,
    )  # fmt: skip


def _real(x: Any) -> Any:
    return np.asarray(x, dtype=_float(x))


def _float(x: Any) -> Any:
    """Complex numbers are refused, as by a kernel of doubles."""
    if x.dtype.kind == "c" or x.dtype.itemsize > 8:
        raise TypeError("doubles only")
    return np.float64


def _cholesky(a: Any) -> Numbers:
    b = a.T * a
    b = b + mpmath.eye(3) * (b[0, 0] + b[1, 1] + b[2, 2])
    return list(mpmath.cholesky(b))


FUNCTIONS: list[Smooth] = [*_formulas(), *_arrays(), *_kernels()]
