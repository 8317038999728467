"""What rounding explains: of differences, of inputs moved by an ulp, inside of a function and inside of its rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.testing.oracles import ROUGH, Oracle, Slope, quiet
from tinygrad_nn.testing.problem import Arrays, Problem, widened
from tinygrad_nn.testing.watched import rounded, spread

__all__ = ["DOUBTFUL", "Excuses", "Miss", "along"]
__tracebackhide__ = True  # pytest shows the lines of the caller

DOUBTFUL = 1e-6  # a slope known no better than this may hide a wrong entry: look at parts
MANY = 10_000  # entries


@dataclass
class Miss:
    """A projection: along `u`, `analytic` against `slope.value`, right within `bound`."""

    u: Any
    analytic: float
    slope: Slope
    size: float
    bound: float

    @property
    def amount(self) -> float:
        """The difference."""
        return abs(self.analytic - self.slope.value)

    @property
    def failed(self) -> bool:
        """Whether the difference is beyond the tolerance and what the oracle can tell."""
        return bool(np.isfinite(self.slope.value)) and not self.amount <= self.bound

    def rough(self, limit: float = ROUGH) -> bool:
        """Whether the oracle's own error is larger than `limit`; never where both say exactly 0."""
        if not self.size and not self.slope.size and self.slope.value == 0:
            return False
        return not 10 * self.slope.error <= limit * max(self.slope.size, self.size)


def along(g: Any, u: Any) -> float:
    """The projection of a gradient, whatever stands at entries that `u` does not move."""
    return float(np.sum(np.where(u != 0, g * u, 0)))


class Excuses:
    """Tells which misses of a `Problem` rounding explains, for one upstream gradient and a tolerance."""

    def __init__(self, problem: Problem, vs: Arrays, rng: np.random.Generator, tolerance: float) -> None:
        self.problem = problem
        self.vs = vs
        self.rng = rng
        self.tolerance = tolerance
        self.narrow = tolerance > 1e-12

    def excused(self, oracle: Oracle, k: int, failed: list[Miss]) -> bool:
        """Whether rounding explains every miss: of differences, of inputs moved by an ulp, or inside the rule."""
        with quiet():
            wide = self._wide_gradient(oracle, k)
            return all(self._excuse(oracle, k, self._sharper(oracle, k, miss), wide) for miss in failed)

    def only_narrow(self, oracle: Oracle, k: int, failed: list[Miss]) -> bool:
        """Whether a rule for a narrow dtype is right in float64, and not much further off than the tolerance here."""
        if not self.narrow:
            return False
        with quiet():
            wide = self._wide_gradient(oracle, k)
        return wide is not None and all(
            abs(along(wide, m.u) - m.slope.value) <= 1e-7 * m.size + 10 * m.slope.error
            and m.amount <= 10 * self.tolerance * max(m.size, m.slope.size)
            for m in failed
        )

    def _excuse(self, oracle: Oracle, k: int, miss: Miss, wide: Any) -> bool:
        if not miss.failed or self._right_when_wide(oracle, k, miss, wide) or self._as_continued(oracle, k, miss):
            return True
        if self._wrong_when_wide(oracle, k, miss, wide):
            return False
        # beyond what confirmed the complex step, what differences do not see excuses nothing
        settled = miss.slope.method.startswith("complex") and miss.amount > oracle.confirmed_to(miss.slope)
        rows = [] if settled else oracle.romberg(np.float64, k, miss.u)
        real = min(rows, key=lambda s: s.error, default=None)
        # a function that stands still does so within an ulp of its outputs only
        limit = 0.0 if real is None else 40 * max(abs(real.value - miss.slope.value), real.error)
        limit = max(limit, 2.0**-52 * oracle.noise())
        if real is not None and limit > 1e-3 * max(real.size, miss.slope.size):
            # differences this rough excuse what is small against the outputs' own rounding only
            limit = min(limit, 1e4 * 2.0**-52 * oracle.noise())
        if miss.amount <= limit or miss.amount <= 20 * self._spread(oracle, k, miss.u):
            return True
        return miss.amount <= 10 * self._inside(oracle, k, miss)

    def _as_continued(self, oracle: Oracle, k: int, miss: Miss) -> bool:
        """Whether the rule agrees with the complex step, and differences, which do not, are rough: as in chaos."""
        if miss.slope.method.startswith("complex") or not miss.rough(DOUBTFUL):
            return False
        found = oracle.complex_step(k, miss.u)
        return found is not None and abs(found.value - miss.analytic) <= self.tolerance * min(found.size, miss.size)

    def _sharper(self, oracle: Oracle, k: int, miss: Miss) -> Miss:
        """The same with the complex step in long double, where there is one: what is left is the rule's own."""
        slope = oracle.sharper(k, miss.u, miss.slope) if miss.slope.terms else None
        if slope is None:
            return miss
        bound = self.tolerance * miss.size + 10 * slope.error
        return Miss(miss.u, miss.analytic, slope, miss.size, bound)

    def _wide_gradient(self, oracle: Oracle, k: int) -> Any:
        """What the same rule gives in a wider dtype; None where it takes none."""
        x = self.problem.points[k]
        kind = np.float64 if self.narrow else np.longdouble
        if np.finfo(kind).eps >= np.finfo(x.dtype).eps:
            return None
        points = widened(oracle.points, kind)
        try:
            g = self.problem.gradients(points, [v.astype(kind) for v in self.vs])[k]
        except Exception:  # noqa: BLE001 - a rule for narrow dtypes only
            return None
        return g if g is not None and g.shape == x.shape else None

    def _right_when_wide(self, oracle: Oracle, k: int, miss: Miss, wide: Any) -> bool:
        """Whether the rule in a wider dtype is right: then rounding makes the difference.

        Where that is known to a part of the difference only, and in narrow dtypes, which code may cast to by name,
        the difference must look like rounding, too.
        """
        if wide is None:
            return False
        left = abs(along(wide, miss.u) - miss.slope.value)
        if not self.narrow and left <= min(self.tolerance * miss.size + 10 * miss.slope.error, 0.1 * miss.amount):
            return True
        tolerance = 1e-7 if self.narrow else self.tolerance
        if not left <= max(tolerance * miss.size + 10 * miss.slope.error, 0.01 * miss.amount):
            return False
        info = np.finfo(self.problem.points[k].dtype)
        eps = float(info.eps)
        # what is smaller than all numbers with full digits may be 0
        slack = 1e3 * self.tolerance * miss.size + 64 * eps * oracle.noise() + float(info.tiny * np.sum(np.abs(miss.u)))
        return miss.amount <= slack or miss.amount <= slack + 20 * self._spread(oracle, k, miss.u, eps)

    def _wrong_when_wide(self, oracle: Oracle, k: int, miss: Miss, wide: Any) -> bool:
        """Whether a rule for a narrow dtype is as wrong in float64, where rounding does not explain it."""
        if not self.narrow or wide is None:
            return False
        size = float(np.sum(np.abs(wide * miss.u)))
        there = Miss(miss.u, along(wide, miss.u), miss.slope, size, self.tolerance * size + 10 * miss.slope.error)
        if not there.failed or there.amount < 0.1 * miss.amount:
            return False
        other = Oracle(self.problem, widened(oracle.points, np.float64), self.vs)
        other.learn(oracle)
        return there.amount > 20 * self._spread(other, k, miss.u) and there.amount > 10 * self._inside(other, k, there)

    def _spread(self, oracle: Oracle, k: int, u: Any, eps: float = 2.0**-52) -> float:
        """How much the projection's miss moves when inputs and upstream gradient move by a few ulps."""

        def moved(a: Any) -> Any:
            return np.asarray(a * (1 + eps * self.rng.integers(-3, 4, a.shape)), dtype=a.dtype)

        values: list[float] = []
        for trial in range(9):  # the point itself last: where few digits are left, four others may agree by chance
            at_last = trial == 8 or len(values) == 4
            points = [p if at_last or j not in self.problem.active else moved(p) for j, p in enumerate(oracle.points)]
            ys = self.problem.outputs_or_none(points)
            if ys is None or not all(np.all(np.isfinite(y) | (v == 0)) for y, v in zip(ys, self.vs, strict=True)):
                continue  # an ulp beyond the edge of the domain
            vs = self.vs if at_last else [moved(v) for v in self.vs]
            g = self.problem.gradients(points, vs)[k]
            slope = Oracle(self.problem, points, vs)
            slope.learn(oracle)
            n = slope.slope(k, u, guard=False).value if oracle.methods.get(k) == "complex" else 0.0
            values.append((0.0 if g is None else along(g, u)) - n)
            if at_last:
                break
        return max(values) - min(values) if values else 0.0

    def _inside(self, oracle: Oracle, k: int, miss: Miss) -> float:
        """How much the rule's projection and the oracle's move when each operation inside is rounded otherwise.

        Where p is 1 but for its last digits, neither 1 - p nor log(p) tells what it was, whatever the inputs do; and
        a wider dtype only moves the place.
        """
        rng = np.random.default_rng(3)
        vs = [v.astype(np.result_type(v, oracle.points[k])) for v in self.vs]

        def analytic() -> float:
            g = self.problem.gradients(rounded(oracle.points, rng), rounded(vs, rng))[k]
            return 0.0 if g is None else along(g, miss.u)

        # one number may well be rounded to the same twice, many are not
        far = miss.amount if np.count_nonzero(miss.u) > MANY else 0.0
        return spread(analytic, far) + spread(lambda: oracle.rounded(k, miss.u, miss.slope, rng), far)
