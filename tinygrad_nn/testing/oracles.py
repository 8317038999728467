"""The numerical oracle: slopes along a direction, each with an estimate of its own error.

A ladder.  The complex step is exact where a function continues analytically, and silently wrong
where it does not (abs, sign, conj); four real differences with one Richardson step guard it.  Where
the two disagree, or a function takes no complex numbers, Romberg's extrapolation over a window of
steps in long double, then in float64, takes over.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.testing.problem import Arrays, Problem

__all__ = ["Oracle", "Slope", "quiet"]

TINY_STEP = 1e-30
GUARD_STEPS = (2.0**-10, 2.0**-11)
AGREEMENT = 1e-9
WINDOWS = ((5, 14), (13, 22), (21, 30))
EPS = float(np.finfo(np.float64).eps)


@dataclass
class Slope:
    """A derivative along a direction.

    Attributes
    ----------
    value : the slope of <v, f>
    error : the oracle's own bound of its error
    size : the sum of the magnitudes of the terms that make up `value`
    method : "complex step", "long double" or "float64"
    jump : the difference between right and left slope, summed in magnitude; 0 where smooth
    """

    value: float
    error: float
    size: float
    method: str
    jump: float = 0.0

    @property
    def kink(self) -> bool:
        """Whether left and right slope differ."""
        return self.jump > 0


@contextmanager
def quiet() -> Iterator[None]:
    """Run user code without warnings, except that a lost imaginary part is an error."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield


class Oracle:
    """Slopes of <v, f> at one point; what it learns about f there is kept for later slopes.

    Parameters
    ----------
    problem : Problem
    points : the arrays at which to differentiate
    vs : the upstream gradient, one array for each output
    """

    def __init__(self, problem: Problem, points: Arrays, vs: Arrays) -> None:
        self.problem = problem
        self.points = points
        self.vs = [np.asarray(v, dtype=np.float64) for v in vs]
        self.methods: dict[int, str] = {}
        self.doubt: dict[int, float] = {}
        self._widened: dict[Any, Arrays] = {}
        self._base: dict[Any, Arrays] = {}

    def learn(self, other: Oracle) -> None:
        """Take over which inputs the complex step is right for."""
        self.methods = dict(other.methods)
        self.doubt = dict(other.doubt)

    def _arrays(self, dtype: Any) -> Arrays:
        if dtype not in self._widened:
            self._widened[dtype] = [
                a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in self.points
            ]
        return self._widened[dtype]

    def _outputs(self, dtype: Any, k: int, step: Any) -> Arrays:
        arrays = list(self._arrays(dtype))
        arrays[k] = np.asarray(arrays[k] + step)
        return self.problem.outputs(arrays)

    def _at_base(self, dtype: Any) -> Arrays:
        if dtype not in self._base:
            self._base[dtype] = self.problem.outputs(list(self._arrays(dtype)))
        return self._base[dtype]

    def noise(self) -> float:
        """The sum of |v y|: the outputs' own rounding is this times the machine epsilon."""
        return float(sum(np.sum(np.abs(v * y)) for v, y in zip(self.vs, self._at_base(np.float64), strict=True)))

    def slope(self, k: int, u: Any, *, guard: bool = True) -> Slope:
        """Differentiate along `u` in input `k`; without `guard`, trust what was learned about the input."""
        with quiet():
            known = self.methods.get(k)
            if known != "ladder":
                found = self._complex(k, u)
                if found is not None and np.isfinite(found.value):
                    found.error += self.doubt.get(k, 0.0) * found.size
                    if not guard and known:
                        return found
                    if self._confirmed(k, u, found):
                        self.methods[k] = "complex"
                        return found
                    real = self._ladder(k, u)
                    agrees = abs(real.value - found.value) <= 10 * real.error + AGREEMENT * real.size
                    if agrees and real.error <= 1e-6 * real.size and not real.kink:
                        # as accurate as the two agree: where f is flat, its formula may cancel
                        self.methods[k] = "complex"
                        self.doubt[k] = abs(real.value - found.value) / real.size
                        found.error += self.doubt[k] * found.size
                        return found
                    self.methods[k] = "ladder"
                    return real
                self.methods[k] = "ladder"
            return self._ladder(k, u)

    def _complex(self, k: int, u: Any) -> Slope | None:
        """The complex step; None where the function does not let imaginary parts through."""
        try:
            ys = self._outputs(np.complex128, k, 1j * TINY_STEP * u)
        except Exception:  # noqa: BLE001 - whatever the user's function says to complex numbers, the ladder goes on
            return None
        if not any(y.dtype.kind == "c" for y in ys):
            return None
        terms = [v * (np.imag(y) / TINY_STEP) for v, y in zip(self.vs, ys, strict=True)]
        size = float(sum(np.sum(np.abs(t)) for t in terms))
        return Slope(float(sum(np.sum(t) for t in terms)), 4 * EPS * size, size, "complex step")

    def _confirmed(self, k: int, u: Any, found: Slope) -> bool:
        """Whether four real differences agree with the complex step, and show no kink."""
        wide, narrow = (self._ends(np.float64, k, u, h) for h in GUARD_STEPS)
        if wide is None or narrow is None:
            return False
        real = (4 * narrow[0] - wide[0]) / 3
        rounding = 4 * EPS * self.noise() / GUARD_STEPS[1]
        if rounding > 1e-6 * found.size and found.size:
            return False
        return bool(
            abs(real - found.value) <= AGREEMENT * found.size + rounding
            and not self._jump(wide[1], narrow[1], GUARD_STEPS[1], np.float64, found.size)
        )

    def _ends(self, dtype: Any, k: int, u: Any, h: float) -> tuple[Any, Arrays, float] | None:
        """The central difference at step `h`, the even part of each output, and the sum of magnitudes."""
        step = dtype(h) * u
        ups, downs = self._outputs(dtype, k, step), self._outputs(dtype, k, -step)
        if any(y.dtype.kind == "f" and y.dtype != np.dtype(dtype) for y in ups):
            return None
        value, size = dtype(0), 0.0
        even = []
        for v, up, down, middle in zip(self.vs, ups, downs, self._at_base(dtype), strict=True):
            if up.dtype.kind != "f":
                continue
            terms = v.astype(dtype) * (up - down) / (2 * dtype(h))
            value = value + np.sum(terms)
            size += float(np.sum(np.abs(terms)))
            even.append(v * ((up - middle) + (down - middle)) / dtype(h))
        return value, even, size

    def _jump(self, wide: Arrays, narrow: Arrays, h: float, dtype: Any, size: float) -> float:
        """The difference of right and left slope that stays as the step shrinks; 0 where it is rounding."""
        # even part / h is f''h where f is smooth and constant at a kink: 2 e(h/2) - e(h) leaves the constant
        left = [np.abs(2 * b - a) for a, b in zip(wide, narrow, strict=True)]
        jump = float(sum(np.sum(j) for j in left))
        rounding = float(np.finfo(dtype).eps) * self.noise() / h
        return jump if jump > 1e-4 * size + 64 * rounding else 0.0

    def _ladder(self, k: int, u: Any) -> Slope:
        found = []
        if np.finfo(np.longdouble).eps < EPS:
            try:
                found = self.romberg(np.longdouble, k, u)
            except Exception:  # noqa: BLE001 - LAPACK and others refuse long double: float64 goes on
                found = []
        if not found:
            found = self.romberg(np.float64, k, u)
        if not found:
            return Slope(float("nan"), float("inf"), 0.0, "float64")
        return min(found, key=lambda s: (s.error, s.jump))

    def romberg(self, dtype: Any, k: int, u: Any) -> list[Slope]:
        """Extrapolate over windows of steps, until one is accurate; an empty list where nothing is finite."""
        method = "long double" if dtype is np.longdouble else "float64"
        eps = float(np.finfo(dtype).eps)
        best: list[Slope] = []
        for first, last in WINDOWS:
            rows: list[tuple[float, Any, Arrays, float]] = []
            for e in range(first, last):
                ends = self._ends(dtype, k, u, 2.0**-e)
                if ends is None:
                    return []
                if np.isfinite(ends[0]):
                    rows.append((2.0**-e, *ends))
                else:
                    rows.clear()
            if len(rows) < 3:
                continue
            value, error = _extrapolate([(h, d) for h, d, _, _ in rows], eps * self.noise())
            size = rows[-1][3]
            jump = self._jump(rows[-2][2], rows[-1][2], rows[-1][0], dtype, size)
            best.append(Slope(float(value), error + 4 * EPS * size, size, method, jump))
            if error <= 1e-13 * size:
                break
        return best


def _extrapolate(rows: list[tuple[float, Any]], rounding: float) -> tuple[Any, float]:
    """Romberg's table over halved steps: the entry that claims the smallest error, and that error."""
    best, smallest = rows[0][1], float("inf")
    above: list[Any] = []
    for h, difference in rows:
        line = [difference]
        for m, old in enumerate(above):
            factor = type(difference)(4) ** (m + 1)
            line.append((factor * line[m] - old) / (factor - 1))
            error = float(max(abs(line[m + 1] - line[m]), abs(line[m + 1] - old))) + rounding / h
            if error < smallest:
                best, smallest = line[m + 1], error
        above = line
    return best, smallest
