"""The numerical oracle: slopes along a direction, each with an estimate of its own error.

A ladder.  The complex step is exact where a function continues analytically, and silently wrong
where it does not (abs, sign, conj); four real differences with one Richardson step guard it, and two
more complex steps at points an ulp away measure how much of it is rounding.  Where that is not good
enough, or a function takes no complex numbers, Romberg's extrapolation over windows of steps in long
double, then in float64, takes over; of all rungs the one with the smallest error is believed.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_nn.testing.extrapolation import RATIO, Ends, Table
from tinygrad_nn.testing.problem import Arrays, Problem, widened
from tinygrad_nn.testing.watched import rounded

__all__ = ["ROUGH", "Oracle", "Slope", "quiet"]
__tracebackhide__ = True  # pytest shows the lines of the caller

TINY_STEP = 1e-30
GUARD_STEPS = (2.0**-10, 2.0**-11)
AGREEMENT = 1e-9
JUMP = 1e-4  # of the slope: the difference of right and left slope at a kink
ROUGH = 1e-3  # a slope known no better than this tells nothing
# windows of ten steps, the first 2**-5 ... 2**-12; the smallest are for what turns many times within the others
FIRST, SMALLER, SMALLEST, LARGER = 5, (13, 21), 30, (-3, -11, -19)
ROWS = 10
GOOD = {np.longdouble: 1e-13, np.float64: 1e-12}
SHARP = "complex step in long double"
BRANCH = 1e-15  # an imaginary part beyond it is no derivative
EPS = float(np.finfo(np.float64).eps)


@dataclass
class Slope:
    """A derivative along a direction.

    Attributes
    ----------
    value : the slope of <v, f>
    error : the oracle's own bound of its error
    size : the sum of the magnitudes of the terms that make up `value`
    method : "complex step", "complex step in long double", "long double" or "float64"
    jump : the difference between right and left slope, summed in magnitude; 0 where smooth
    terms : what adds up to `value`, for each output; only of the complex step
    step : the smallest step of the differences it is made of; 0 for the complex step
    """

    value: float
    error: float
    size: float
    method: str
    jump: float = 0.0
    terms: Arrays = field(default_factory=list, repr=False)
    step: float = 0.0

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


def _floating(y: Any) -> Any:
    """The dtype of an output, or float64 where that holds no NaN."""
    return y.dtype if y.dtype.kind in "fc" else np.float64


def weighed(v: Any, y: Any) -> Any:
    """``v * y``, and 0 where the upstream gradient leaves an output out, whatever the output is."""
    found = v * y
    return found if np.all(v) else np.where(v != 0, found, 0)


def weigh(v: Any, y: Any, *, dense: bool) -> Any:
    """The same of two arrays of one dtype, in place where `v` has no zeros: they may be large."""
    if not dense:
        return weighed(v, y)
    y *= v
    return y


def _differ(a: Slope, b: Slope) -> bool:
    """Whether two slopes are further apart than their errors tell."""
    return abs(a.value - b.value) > 10 * (a.error + b.error)


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
        self.methods: dict[int, str] = {}  # "complex", "ladder", or "finer": a ladder that the complex step agrees with
        self.doubt: dict[int, tuple[float, float]] = {}
        self._widened: dict[Any, Arrays] = {}
        self._base: dict[Any, Arrays] = {}
        self._weighing: dict[Any, list[tuple[Any, bool]]] = {}
        self._lost: Arrays | None = None

    def learn(self, other: Oracle) -> None:
        """Take over which inputs the complex step is right for."""
        self.methods = dict(other.methods)
        self.doubt = dict(other.doubt)

    def _arrays(self, dtype: Any) -> Arrays:
        if dtype not in self._widened:
            self._widened[dtype] = widened(self.points, dtype)
        return self._widened[dtype]

    def _outputs(self, dtype: Any, k: int, step: Any) -> Arrays:
        """The outputs a step away; NaN where the function refuses to go, though it takes the point itself."""
        arrays = list(self._arrays(dtype))
        arrays[k] = np.asanyarray(arrays[k] + step)
        if dtype in {np.complex128, np.clongdouble}:
            return self.problem.outputs(arrays)
        base = self._at_base(dtype)
        return self.problem.outputs_or_none(arrays) or [np.full(y.shape, np.nan, _floating(y)) for y in base]

    def _weights(self, dtype: Any) -> list[tuple[Any, bool]]:
        """The upstream gradients in another dtype, and whether they have no zeros."""
        if dtype not in self._weighing:
            self._weighing[dtype] = [(v.astype(dtype), bool(np.all(v))) for v in self.vs]
        return self._weighing[dtype]

    def _at_base(self, dtype: Any) -> Arrays:
        if dtype not in self._base:
            self._base[dtype] = self.problem.outputs(list(self._arrays(dtype)))
        return self._base[dtype]

    def noise(self) -> float:
        """The sum of |v y|: the outputs' own rounding is this times the machine epsilon."""
        return float(
            sum(np.sum(np.abs(weighed(v, y))) for v, y in zip(self.vs, self._at_base(np.float64), strict=True))
        )

    def _inside(self, dtype: Any, k: int, u: Any) -> float:
        """How far rounding inside moves those outputs that a direction moves: as float64 and long double differ.

        No input moved by an ulp shows that 1 - p has no digits left where p is nearly 1; the same forward in long
        double does, here and beside.
        """
        if self._lost is None:
            self._lost = self._losses()
        if not self._lost:
            return 0.0
        ups, downs = (self._outputs(dtype, k, dtype(sign) * u) for sign in (0.5, -0.5))
        still = [(up == down) & np.isfinite(up) for up, down in zip(ups, downs, strict=True)]
        lost = sum(float(np.sum(gap[~s])) for gap, s in zip(self._lost, still, strict=True))
        return lost * float(np.finfo(dtype).eps) / EPS

    def _losses(self) -> Arrays:
        """|v y| that float64 loses of each output; an empty list where there is no long double to tell."""
        rng = np.random.default_rng(2)
        found = [np.zeros(v.shape) for v in self.vs]
        for size in (0.0, 2.0**-30, 2.0**-24) if np.finfo(np.longdouble).eps < EPS else ():
            floats = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in self.points]
            points = [
                a * (1 + size * rng.uniform(-1, 1, a.shape)) if f else a
                for a, f in zip(self._arrays(np.float64), floats, strict=True)
            ]
            wide = [a.astype(np.longdouble) if f else a for a, f in zip(points, floats, strict=True)]
            plain, sharp = self.problem.outputs_or_none(points), self.problem.outputs_or_none(wide)
            if plain is None or sharp is None:
                return []
            gaps = [np.abs(weighed(v, y - s)) for v, y, s in zip(self.vs, plain, sharp, strict=True)]
            found = [np.fmax(old, np.where(np.isfinite(g), g, 0)) for old, g in zip(found, gaps, strict=True)]
        return found

    def slope(self, k: int, u: Any, *, guard: bool = True) -> Slope:
        """Differentiate along `u` in input `k`; without `guard`, trust what was learned about the input."""
        with quiet():
            known = self.methods.get(k)
            if known != "ladder":
                found = self.complex_step(k, u)
                if found is not None and np.isfinite(found.value):
                    if known and (known == "finer" or not guard):
                        relative, size = self.doubt[k]
                        found.error = relative * max(found.size, size * self._weight(k, u))
                        return found if known == "complex" else self._ladder(k, u, found)
                    return self._guarded(k, u, found)
                self.methods[k] = "ladder"
            return self._ladder(k, u)

    def _guarded(self, k: int, u: Any, found: Slope) -> Slope:
        """The complex step where real differences confirm it, else the better of both."""
        noise = found.error = max(found.error, self._rounding_of_complex(k, u, found))
        good = noise <= GOOD[np.longdouble] * found.size
        if not (good and self._confirmed(k, u, found)):
            wide = self.sharper(k, u, found)
            noise = found.error = max(noise, 0.0 if wide is None else abs(wide.value - found.value))
            good = noise <= GOOD[np.longdouble] * found.size
            real = self._ladder(k, u, found)
            gap = abs(real.value - found.value)
            agree = gap <= 10 * (real.error + noise) and not real.kink
            if not agree or not (good or noise <= real.error):
                self.methods[k] = "finer" if agree else "ladder"
                self._remember(k, u, found)
                return real
            if real.error <= 1e-6 * real.size or not self._confirmed_elsewhere(k):
                # no better than the two agree: that much may lack an analytic continuation
                found.error = max(noise, gap, real.error)
        self.methods[k] = "complex"
        self._remember(k, u, found)
        return found

    def _remember(self, k: int, u: Any, found: Slope) -> None:
        """Keep how rough the complex step is for an input, for other directions."""
        weight = self._weight(k, u)
        self.doubt[k] = found.error / found.size if found.size else 0.0, found.size / weight if weight else 0.0

    def _confirmed_elsewhere(self, k: int) -> bool:
        """Whether real differences confirm the complex step at two points further off, where less may cancel."""
        rng = np.random.default_rng(1)
        for _ in range(2):
            points = [
                np.asarray(p * rng.uniform(0.5, 1.5, p.shape) + (p == 0) * rng.standard_normal(p.shape), dtype=p.dtype)
                if isinstance(p, np.ndarray) and p.dtype.kind == "f"
                else p
                for p in self.points
            ]
            other = Oracle(self.problem, points, self.vs)
            u = np.asarray(points[k] * rng.standard_normal(points[k].shape), dtype=np.float64)
            found = other.complex_step(k, u)
            try:
                real = other._ladder(k, u)
            except Exception:  # noqa: BLE001 - the other point lies outside the domain
                return False
            if found is None or real.kink or not abs(real.value - found.value) <= 1e-6 * real.size - real.error:
                return False
        return True

    def _weight(self, k: int, u: Any) -> float:
        """The length of a direction in units of the input's entries."""
        x = np.abs(np.asarray(self.points[k], dtype=np.float64))
        known = np.where(x > 0, x, np.max(x, initial=0) or 1.0)
        return float(np.sqrt(np.mean(np.square(u / known))))

    def _rounding_of_complex(self, k: int, u: Any, found: Slope) -> float:
        """How far complex steps at two opposite points an ulp away leave a straight line, summed over the outputs."""
        rng = np.random.default_rng(0)
        moves = [
            np.maximum(np.spacing(np.abs(a.real)), 1e-300) * rng.choice((-2.0, -1.0, 1.0, 2.0), a.shape)
            if isinstance(a, np.ndarray) and a.dtype.kind == "c"
            else None
            for a in self._arrays(np.complex128)
        ]
        bends = [-2 * t for t in found.terms]
        for sign, factor in ((1, TINY_STEP * 1.37), (-1, TINY_STEP * 0.61)):
            arrays = [
                a if m is None else np.asarray(a + sign * m)
                for a, m in zip(self._arrays(np.complex128), moves, strict=True)
            ]
            arrays[k] = np.asarray(arrays[k] + 1j * factor * u)
            ys = self.problem.outputs_or_none(arrays)
            if ys is None or any(y.shape != b.shape for y, b in zip(ys, bends, strict=True)):
                return float("inf")
            bends = [b + weighed(v, np.imag(y) / factor) for v, y, b in zip(self.vs, ys, bends, strict=True)]
        bend = 2 * float(sum(np.sum(np.abs(b)) for b in bends))
        return bend if np.isfinite(bend) else float("inf")

    def sharper(self, k: int, u: Any, found: Slope) -> Slope | None:
        """The complex step in long double, where it agrees with the one in float64 but for rounding; None elsewhere."""
        if np.finfo(np.longdouble).eps >= EPS:
            return None
        wide = self.complex_step(k, u, np.clongdouble)
        if wide is None or any(t.dtype != np.longdouble for t in wide.terms):
            return None
        gap = sum(float(np.sum(np.abs(a - b))) for a, b in zip(wide.terms, found.terms, strict=True))
        if not gap <= ROUGH * wide.size:
            return None
        wide.error = 16 * float(np.finfo(np.longdouble).eps) * (gap / EPS + wide.size)
        wide.method, wide.terms = SHARP, []
        return wide

    def rounded(self, k: int, u: Any, slope: Slope, rng: np.random.Generator) -> float:
        """A slope with each operation of the function rounded otherwise; NaN where that leads out of its domain.

        In the place of a slope by differences, the function's value over the step: both move alike.
        """
        kind, pair = (np.longdouble, np.clongdouble) if "long double" in slope.method else (np.float64, np.complex128)
        other = Oracle(self.problem, rounded(widened(self.points, kind), rng), self.vs)
        if slope.step:
            ys = other._at_base(kind)
            return sum(float(np.sum(weighed(v, y))) for v, y in zip(self.vs, ys, strict=True)) / slope.step
        found = other.complex_step(k, u, pair)
        # on the other side of a branch cut, the imaginary part is no derivative
        return found.value if found is not None and abs(found.value) * TINY_STEP < BRANCH else np.nan

    def complex_step(self, k: int, u: Any, dtype: Any = np.complex128) -> Slope | None:
        """The complex step; None where the function does not let imaginary parts through."""
        try:
            ys = self._outputs(dtype, k, 1j * TINY_STEP * u)
        except Exception:  # noqa: BLE001 - whatever the user's function says to complex numbers, the ladder goes on
            return None
        if not any(y.dtype.kind == "c" for y in ys):
            return None
        terms = [weighed(v, np.imag(y) / TINY_STEP) for v, y in zip(self.vs, ys, strict=True)]
        size = float(sum(np.sum(np.abs(t)) for t in terms))
        found = Slope(float(sum(np.sum(t) for t in terms)), 4 * EPS * size, size, "complex step")
        found.terms = terms
        return found

    def confirmed_to(self, found: Slope) -> float:
        """How much of a complex step real differences confirm; a term that is not analytic may be as small as that."""
        return AGREEMENT * found.size + 4 * EPS * self.noise() / GUARD_STEPS[1]

    def _confirmed(self, k: int, u: Any, found: Slope) -> bool:
        """Whether four real differences agree with the complex step, and show no kink."""
        wide, narrow = (self._ends(np.float64, k, u, h) for h in GUARD_STEPS)
        if wide is None or narrow is None:
            return False
        real = (4 * narrow.value - wide.value) / 3
        rounding = 4 * EPS * self.noise() / narrow.step
        if rounding > 1e-6 * found.size and found.size:
            return False
        return bool(
            abs(real - found.value) <= AGREEMENT * found.size + rounding
            and not self._jump(wide, narrow, np.float64, found.size)
        )

    def _ends(self, dtype: Any, k: int, u: Any, h: float, ghosts: Arrays | None = None) -> Ends | None:
        """The outputs at both ends of a step; None where the function does not keep the dtype."""
        step = dtype(h) * u
        ups, downs = self._outputs(dtype, k, step), self._outputs(dtype, k, -step)
        if any(y.dtype.kind == "f" and y.dtype != np.dtype(dtype) for y in ups):
            return None
        ends = Ends(h, dtype(0), [], 0.0, 0.0)
        for up, down, ghost in zip(ups, downs, ghosts or (), strict=False):
            ends.lost += float(np.sum(ghost[up == down]))
        for (v, dense), up, down, middle in zip(self._weights(dtype), ups, downs, self._at_base(dtype), strict=True):
            if up.dtype.kind != "f":
                continue
            terms = weigh(v, up - down, dense=dense)
            terms /= 2 * dtype(h)
            even = up - middle
            even += down - middle
            even = weigh(v, even, dense=dense)
            even /= dtype(h)
            top = weigh(v, np.maximum(np.abs(up), np.abs(down)), dense=dense)
            ends.value += np.sum(terms)
            ends.size += float(np.sum(np.abs(terms)))
            ends.height += float(np.sum(np.abs(top)))
            ends.even.append(even)
        return ends

    def _jump(self, wide: Ends, narrow: Ends, dtype: Any, size: float) -> float:
        """The difference of right and left slope that stays as the step shrinks; 0 where it is rounding."""
        # even part / h is f''h where f is smooth and constant at a kink: ratio e(h/ratio) - e(h) leaves the constant
        ratio = wide.step / narrow.step
        left = [np.abs(ratio * b - a) / (ratio - 1) for a, b in zip(wide.even, narrow.even, strict=True)]
        jump = float(sum(np.sum(j) for j in left))
        # the outputs are rounded, which large steps hide, and so are the inputs, which looks the same at every step
        rounding = float(np.finfo(dtype).eps) * self.noise() * (64 / narrow.step + 4)
        return jump if jump > JUMP * size + rounding else 0.0

    def _ladder(self, k: int, u: Any, expected: Slope | None = None) -> Slope:
        """The best slope by extrapolation; `expected`: the complex step, where it is in doubt."""
        found: list[Slope] = []
        if np.finfo(np.longdouble).eps < EPS:
            try:
                found = self.romberg(np.longdouble, k, u, expected)
            except Exception:  # noqa: BLE001 - LAPACK and others refuse long double: float64 goes on
                found = []
        if not found:
            found = self.romberg(np.float64, k, u, expected)
        if not found:
            return Slope(float("nan"), float("inf"), 0.0, "float64")
        best = min(found, key=lambda s: (s.error, s.jump))
        if best.jump and self._stairs(k, u):
            best.jump = 0.0
        return best

    def _stairs(self, k: int, u: Any) -> bool:
        """Whether rounding inside the function makes what looks like a kink: long double shows another one, or none."""
        if np.finfo(np.longdouble).eps >= EPS:
            return False
        try:
            plain, sharp = (self._ends(kind, k, u, GUARD_STEPS[0]) for kind in (np.float64, np.longdouble))
        except Exception:  # noqa: BLE001 - LAPACK and others refuse long double
            return False
        if plain is None or sharp is None:
            return False
        pairs = list(zip(plain.even, sharp.even, strict=True))
        lasting = sum(float(np.sum(np.abs(b[np.abs(a - b) <= 0.5 * np.abs(b)]))) for a, b in pairs)
        return not lasting > JUMP * sharp.size

    def romberg(self, dtype: Any, k: int, u: Any, expected: Slope | None = None) -> list[Slope]:
        """Extrapolate over windows of steps, until one is accurate; an empty list where nothing is finite."""
        ghosts = None if expected is None else self._ghosts(dtype, k, u, expected.terms)
        inside = self._inside(dtype, k, u)
        found: list[Slope] = []
        for first in (FIRST, *SMALLER, SMALLEST, *LARGER):
            best = min(found, key=lambda s: s.error, default=None)
            # the complex step may lie; or these steps leap beyond a kink, and are as sure of another slope, or of none
            apart = best is not None and expected is not None and _differ(best, expected)
            if best is not None and best.error <= GOOD[dtype] * best.size and not apart:
                break
            # neither a slope nor rounding: there may be something that only smaller steps see
            lost = any(np.isinf(s.error) for s in found)
            if first == SMALLEST and not lost and best is not None and best.error <= ROUGH * best.size:
                continue
            # large steps may miss what is there: they refine what is known, and decide nothing
            if first in LARGER and expected is None and (best is None or np.isinf(best.error)):
                break
            slope = self._window(dtype, k, u, first, ghosts, inside)
            if slope is None:
                continue
            best = best or slope
            gaps = [abs(slope.value - best.value) - 10 * (slope.error + best.error)]
            if expected is not None:
                gaps.append(abs(slope.value - expected.value) - 10 * (slope.error + expected.error))
            if first in LARGER:
                if max(gaps) > 0:
                    continue
                slope.error = max(slope.error, abs(slope.value - best.value) - best.error)
            for other in found:
                self._contradicted(slope, other, expected, smallest=first == SMALLEST)
            found.append(slope)
        return [s for s in found if np.isfinite(s.value)]

    def _contradicted(self, slope: Slope, other: Slope, expected: Slope | None, *, smallest: bool) -> None:
        """Raise the errors of two smooth windows of different slopes, one of them sure: a stair, a bend, a ripple.

        Where the complex step agrees with one of them, that one is right.  Without it, the smallest steps may as
        well stand on one stair of rounding as see what the others step over.
        """
        pair = slope, other
        gap = float(abs(slope.value - other.value))
        doubt = [s.error for s in pair]
        if (not smallest and (slope.jump or other.jump)) or all(s.error > ROUGH * s.size for s in pair):
            return
        if not gap > 10 * (min(doubt) if smallest else sum(doubt)):
            return
        for s in pair:
            if expected is None or _differ(s, expected):
                s.error = max(s.error, gap)

    def _ghosts(self, dtype: Any, k: int, u: Any, expected: Arrays) -> Arrays:
        """Sizes of terms that may be there although an output does not move: steps below the rounding inside.

        An output that stands still over the largest step, where it should move visibly, is really constant.
        """
        h = 2.0**-FIRST
        ups, downs = (self._outputs(dtype, k, sign * dtype(h) * u) for sign in (1, -1))
        return [
            np.where((up == down) & (np.abs(e) * h > 1e-3 * np.abs(v) * (1 + np.abs(up))), 0, np.abs(e))
            for e, up, down, v in zip(expected, ups, downs, self.vs, strict=True)
        ]

    def _window(
        self, dtype: Any, k: int, u: Any, first: int, ghosts: Arrays | None = None, inside: float = 0.0
    ) -> Slope | None:
        """The slope by one window of steps; NaN where too few are finite, None where the dtype is refused."""
        eps = float(np.finfo(dtype).eps)
        rows: list[Ends] = []
        table = Table(eps, inside)
        for h in (2.0**-first * RATIO**-i for i in range(ROWS)):
            try:
                ends = self._ends(dtype, k, u, h, ghosts)
            except np.linalg.LinAlgError:  # so large a step leaves the matrices that have a decomposition
                ends = Ends(h, dtype(np.nan), [], 0.0, 0.0)
            if ends is None:
                return None
            if not np.isfinite(ends.value):
                rows, table = [], Table(eps, inside)
                continue
            rows.append(ends)
            table.add(ends)
            if len(rows) >= ROWS - 3 and table.best()[1] <= 0.1 * GOOD[dtype] * ends.size:
                break
        method = "long double" if dtype is np.longdouble else "float64"
        if len(rows) < 3:
            return Slope(float("nan"), float("inf"), 0.0, method)
        value, error, row = table.best()
        size, step, height = rows[row].size, rows[row].step, rows[row].height
        jump = self._lasting_jump(rows, dtype, rows[-1].size)
        if error > 1e-3 * size and error * step > max(1e6 * eps * height, 100 * inside):
            error = float("inf")  # neither a slope nor rounding: the steps are too large for what is there
        return Slope(float(value), error + 4 * EPS * size, size, method, jump, step=step)

    def _lasting_jump(self, rows: list[Ends], dtype: Any, size: float) -> float:
        """The jump of the slope that is the same at every step; rounding grows, curvature shrinks with it."""
        last = rows[-5:]
        jumps = [self._jump(a, b, dtype, size) for a, b in itertools.pairwise(last)]
        return min(jumps) if max(jumps) <= 3 * min(jumps) else 0.0
