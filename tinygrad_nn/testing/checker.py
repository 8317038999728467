"""One check from beginning to end: forward, probes, projections, and for what fails the entries and the reasons."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing import diagnose, locate
from tinygrad_nn.testing.contracts import Probe, all_same
from tinygrad_nn.testing.kinks import allowed_at_kink, direction, directions, neighbours
from tinygrad_nn.testing.oracles import Oracle, Slope, quiet
from tinygrad_nn.testing.problem import Arrays, Problem
from tinygrad_nn.testing.report import CONTRACT, KINK, OK, VAGUE, WRONG, Cause, InputReport, Report

__all__ = ["Checker", "tolerance_for"]

MODES = ("fast", "full")
MOST_ENTRIES = 512
WORK = 2_000_000  # entries of a forward times number of forwards, for the largest inputs
TOLERANCES = {2: 1e-2, 4: 2e-6, 8: 1e-12}


def tolerance_for(problem: Problem) -> float:
    """The tolerance of the narrowest floating dtype among the checked inputs."""
    return max(TOLERANCES.get(problem.points[k].dtype.itemsize, 1e-12) for k in problem.active)


@dataclass
class Miss:
    """A projection that did not come out: along `u`, `analytic` against `slope.value`, beyond `bound`."""

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
        return not self.amount <= self.bound


class Checker:
    """Checks a `Problem` with one seed and fills a `Report`.

    Parameters
    ----------
    problem : Problem
    seed : int
    mode : "fast" (one direction an input, the shortest probes) or "full"
    report : what to fill
    """

    def __init__(self, problem: Problem, seed: int, mode: str, report: Report) -> None:
        if mode not in MODES:
            raise ArgumentError(f"mode={mode!r} is none of {MODES}")
        self.problem = problem
        self.full = mode == "full"
        self.report = report
        shapes = [p.shape for p in problem.points if isinstance(p, np.ndarray)]
        self.rng = np.random.default_rng([seed, zlib.crc32(repr(shapes).encode())])
        self.tolerance = tolerance_for(problem)
        self.narrow = self.tolerance > 1e-12
        self.nearby: list[Oracle] | None = None

    def run(self) -> Report:
        """Check everything once."""
        problem, report = self.problem, self.report
        report.tolerance = self.tolerance
        report.skipped = problem.skipped
        with quiet():
            ys = problem.outputs(self._fresh())
            again = problem.outputs(self._fresh())
        if not all_same(ys, again):
            report.causes.append(
                Cause(
                    "random",
                    "",
                    "two forwards of the same inputs differ, also after every random generator in reach was restored",
                    hint="make the generator an argument, an attribute or a global of the function",
                )
            )
        self.vs = [self._upstream(y) for y in ys]
        if not all(np.all(np.isfinite(y)) for y in ys):
            report.notes.append("the forward is not finite everywhere: those outputs are left out")
        probe = Probe(problem, self.vs, self.rng)
        probe.run(full=self.full)
        report.notes += probe.notes
        report.causes += probe.causes
        self._same_forward(ys, probe.outputs)
        self.gradients = probe.gradients
        self.oracle = Oracle(problem, problem.points, self.vs)
        for k in problem.active:
            report.results.append(self._judge(k))
        if probe.causes:
            for result in report.results:
                result.verdict = CONTRACT if result.verdict in {OK, VAGUE} else result.verdict
        self._second_point(probe)
        wrong = [k for k, r in zip(problem.active, report.results, strict=True) if r.verdict == WRONG]
        if wrong:
            self._explain(wrong)
        locate.fill(self.problem, report, self.vs, wrong, self._node_is_right)
        report.evaluations = problem.evaluations
        return report

    def _fresh(self) -> Arrays:
        return [np.array(p) if isinstance(p, np.ndarray) else p for p in self.problem.points]

    def _upstream(self, y: Any) -> Any:
        """Random and dense, never ones, and exactly 0 where the output is not finite or not a float."""
        kind = y.dtype if y.dtype.kind == "f" else np.dtype(np.float64)
        v = np.asarray(self.rng.standard_normal(y.shape))
        v = v + np.copysign(0.5, v)
        if y.dtype.kind not in "fc":
            v = np.zeros(y.shape)
        return np.where(np.isfinite(y), v, 0.0).astype(np.float64 if kind.itemsize > 8 else kind)

    def _same_forward(self, ys: Arrays, others: Arrays) -> None:
        """The rule's own forward must compute what the function computes."""
        if len(ys) != len(others) or any(y.shape != o.shape for y, o in zip(ys, others, strict=False)):
            said = f"outputs of shapes {[o.shape for o in others]}, the function {[y.shape for y in ys]}"
        elif all_same(ys, others) or any(c.kind == "random" for c in self.report.causes):
            return
        else:
            gap = max(float(np.max(np.abs(y - o), initial=0)) for y, o in zip(ys, others, strict=True))
            said = f"other values than the function: they differ by up to {gap:.3g}"
        self.report.causes.append(
            Cause("forward", "", f"the rule's own forward returns {said}", hint="differentiate the same function")
        )

    def _node_is_right(self, node: Problem) -> bool:
        """Whether the rule of one recorded call is right at its recorded arguments."""
        inner = Checker(node, 0, "fast", Report(""))
        inner.vs = [inner._upstream(y) for y in node.outputs(node.points)]
        inner.gradients = node.gradients(node.points, inner.vs)
        inner.oracle = Oracle(node, node.points, inner.vs)
        return not any(inner._judge(k).verdict == WRONG for k in node.active)

    # Projections

    def _judge(self, k: int) -> InputReport:
        """The verdict on one input."""
        x, g = self.problem.points[k], self.gradients[k]
        result = InputReport(self.problem.names[k], x.shape, str(x.dtype))
        if not x.size:
            result.note = "no entries"
            return result
        if g is None:
            g = np.zeros(x.shape)
            result.note = "no gradient returned (None)"
        if g.dtype.kind not in "fiub":
            self._wrong(result, f"the gradient is {g.dtype}", "dtype")
            return result
        finite = np.isfinite(g)
        result.analytic = float(np.max(np.abs(g), initial=0, where=finite))
        if g.shape != x.shape:
            result.verdict = WRONG
            result.note = f"the gradient has shape {g.shape}, the input {x.shape}"
            return result
        if not np.all(finite) and not self._edge(k, g, finite, result):
            return result
        g = np.where(finite, g, 0)
        misses = self._misses(self.oracle, k, g, finite, directions(x, self.rng, 3 if self.full else 1))
        slopes = [m.slope for m in misses]
        result.oracle = slopes[0].method
        result.noise = max((s.error / s.size for s in slopes if s.size), default=0.0)
        result.numeric = result.analytic
        result.error = max(
            (m.amount / max(m.size, m.slope.size) for m in misses if max(m.size, m.slope.size)), default=0.0
        )
        failed = [m for m in misses if m.failed]
        if any(s.kink for s in slopes):
            self._at_kink(k, misses, result)
        elif failed and not self._excused(self.oracle, k, failed):
            result.verdict = WRONG
        elif failed or any(10 * s.error > 1e-3 * max(s.size, m.size) for s, m in zip(slopes, misses, strict=True)):
            result.verdict = VAGUE
            result.note = "rounding hides the difference"
        return result

    def _wrong(self, result: InputReport, note: str, kind: str) -> None:
        result.verdict, result.note = WRONG, note
        self.report.causes.append(Cause(kind, result.name, note))

    def _misses(self, oracle: Oracle, k: int, g: Any, finite: Any, us: Arrays) -> list[Miss]:
        found = []
        wide = g.astype(np.float64)
        for number, u in enumerate(us):
            u = np.where(finite, u, 0.0)  # noqa: PLW2901 - entries without a derivative are not moved
            slope = oracle.slope(k, u, guard=not number)
            terms = wide * u
            size = float(np.sum(np.abs(terms)))
            bound = self.tolerance * size + 10 * slope.error
            found.append(Miss(u, float(np.sum(terms)), slope, size, bound if np.isfinite(slope.value) else np.inf))
        return found

    def _edge(self, k: int, g: Any, finite: Any, result: InputReport) -> bool:
        """Whether entries with a gradient that is not finite have no finite derivative either."""
        bad = np.flatnonzero(~finite)
        for entry in bad[:6]:
            u = np.zeros(g.shape)
            u.flat[entry] = max(abs(float(self.problem.points[k].flat[entry])), 1e-3)
            slope = self.oracle.slope(k, u)
            if np.isfinite(slope.value) and slope.error <= 1e-3 * max(slope.size, abs(slope.value), slope.jump):
                index = tuple(int(i) for i in np.unravel_index(entry, g.shape))
                result.index, result.pair = index, (float(g.flat[entry]), slope.value / float(u.flat[entry]))
                result.wrong, result.looked, result.error = len(bad), g.size, float("inf")
                result.verdict = WRONG
                return False
        result.note = f"{len(bad)} entries lie at the edge of the domain: no finite derivative, none checked"
        self.report.notes.append(f"{result.name}: {result.note}")
        return True

    def _excused(self, oracle: Oracle, k: int, failed: list[Miss]) -> bool:
        """Whether rounding explains every miss: that of real differences, or of inputs moved by an ulp."""
        with quiet():
            if self._right_when_wide(oracle, k, failed):
                return True
            for miss in failed:
                real = min(oracle.romberg(np.float64, k, miss.u), key=lambda s: s.error, default=None)
                limit = 0.0 if real is None else 40 * max(abs(real.value - miss.slope.value), real.error)
                if real is not None and limit > 1e-3 * max(real.size, miss.slope.size):
                    # differences this rough excuse what is small against the outputs' own rounding only
                    limit = min(limit, 1e4 * 2.0**-52 * oracle.noise())
                if miss.amount > limit and miss.amount > 20 * self._spread(oracle, k, miss.u):
                    return False
        return True

    def _right_when_wide(self, oracle: Oracle, k: int, failed: list[Miss]) -> bool:
        """Whether the same rule in a wider dtype is right, and this one off by no more than its rounding."""
        x = self.problem.points[k]
        kind = np.float64 if self.narrow else np.longdouble
        eps = float(np.finfo(x.dtype).eps)
        if np.finfo(kind).eps >= eps:
            return False
        wide = [p.astype(kind) if isinstance(p, np.ndarray) and p.dtype.kind == "f" else p for p in oracle.points]
        try:
            g = self.problem.gradients(wide, [v.astype(kind) for v in self.vs])[k]
        except Exception:  # noqa: BLE001 - a rule for narrow dtypes only
            return False
        if g is None or g.shape != x.shape:
            return False
        tolerance = 1e-7 if self.narrow else self.tolerance
        for miss in failed:
            left = abs(float(np.sum(g * miss.u)) - miss.slope.value)
            right = left <= max(tolerance * miss.size + 10 * miss.slope.error, 0.01 * miss.amount)
            slack = 1e3 * self.tolerance * miss.size + 64 * eps * oracle.noise()
            if not right or (miss.amount > slack and miss.amount > slack + 20 * self._spread(oracle, k, miss.u, eps)):
                return False
        return True

    def _spread(self, oracle: Oracle, k: int, u: Any, eps: float = 2.0**-52) -> float:
        """How much the projection's miss moves when inputs and upstream gradient move by a few ulps."""

        def moved(a: Any) -> Any:
            return np.asarray(a * (1 + eps * self.rng.integers(-3, 4, a.shape)), dtype=a.dtype)

        values = []
        for _ in range(4):
            points = [moved(p) if j in self.problem.active else p for j, p in enumerate(oracle.points)]
            vs = [moved(v) for v in self.vs]
            g = self.problem.gradients(points, vs)[k]
            slope = Oracle(self.problem, points, vs)
            slope.learn(oracle)
            n = slope.slope(k, u, guard=False).value if oracle.methods.get(k) == "complex" else 0.0
            values.append((0.0 if g is None else float(np.sum(g * u))) - n)
        return max(values) - min(values)

    def _at_kink(self, k: int, misses: list[Miss], result: InputReport) -> None:
        """At a kink, the gradient next door must be right, and the one here a mixture of those around."""
        if self.nearby is None:
            self.nearby = neighbours(self.problem, self.problem.points, self.vs, self.rng)
        result.verdict = KINK
        result.note = "a kink or tie: left and right slope differ"
        for near in self.nearby:
            g = self.problem.gradients(near.points, self.vs)[k]
            g = np.zeros(result.shape) if g is None else g
            if g.shape != result.shape or not np.all(np.isfinite(g)):
                continue
            found = self._misses(near, k, g, True, [direction(near.points[k], self.rng)])
            if found[0].failed and not found[0].slope.kink and not self._excused(near, k, found):
                result.verdict, result.note = WRONG, ""
                self.oracle, self.gradients = near, self.problem.gradients(near.points, self.vs)
                return
        for miss in misses:
            if not miss.failed:  # what rounding makes look like a kink agrees with the oracle all the same
                continue
            values = [near.slope(k, miss.u, guard=False).value for near in self.nearby]
            if not allowed_at_kink(miss.analytic, [v for v in values if np.isfinite(v)]):
                result.verdict = WRONG
                result.note = "wrong exactly here, right next door"
                self.report.causes.append(
                    Cause(
                        "ties",
                        result.name,
                        "wrong exactly here, right next door: no mixture of the gradients around this point",
                        hint="at ties (max, sort, clip) share the gradient or give it to one, never to each",
                    )
                )
                return

    def _second_point(self, probe: Probe) -> None:
        """Right here and wrong at the next call nearby: something was computed once and never again."""
        if probe.second is None:
            return
        points, gradients = probe.second
        oracle = Oracle(self.problem, points, self.vs)
        oracle.learn(self.oracle)
        for k, result in zip(self.problem.active, self.report.results, strict=True):
            g = gradients[k]
            if result.verdict != OK or g is None or g.shape != result.shape or not np.all(np.isfinite(g)) or not g.size:
                continue
            found = self._misses(oracle, k, g, True, [direction(points[k], self.rng)])
            if found[0].slope.kink or not found[0].failed:
                continue
            if self._misses_again(oracle, k) and not self._excused(oracle, k, found):
                result.verdict = WRONG
                result.note = "right at the first call, wrong at the second"
                self.report.causes.append(
                    Cause(
                        "frozen",
                        result.name,
                        "right at the first call, wrong at a second call with other inputs",
                        hint="something is computed once and never refreshed: a cache, a default argument, a global",
                    )
                )

    def _misses_again(self, oracle: Oracle, k: int) -> bool:
        """Whether a fresh, guarded look finds the gradient at the second point wrong too."""
        g = self.problem.gradients(oracle.points, self.vs)[k]
        fresh = Oracle(self.problem, oracle.points, self.vs)
        return g is not None and self._misses(fresh, k, g, True, [direction(oracle.points[k], self.rng)])[0].failed

    # Entries and reasons

    def _explain(self, wrong: list[int]) -> None:
        """Look at the entries of what failed, measure the Taylor order, and ask for the reason."""
        told = {c.input for c in self.report.causes}
        general = any(c.input == "" for c in self.report.causes)
        with quiet():
            for k in wrong:
                result = self.report.results[self.problem.active.index(k)]
                if result.name in told and result.note:
                    continue
                view = diagnose.View(self.problem, self.oracle, self.gradients, k, self._sample(k))
                self._entries(view, result)
                if not general:
                    self.report.causes.append(diagnose.explain(view, self.rng, self.tolerance))
        self.report.causes.sort(key=lambda c: c.kind == "unknown")

    def _entries(self, view: diagnose.View, result: InputReport) -> None:
        g, x = view.analytic, self.problem.points[view.k]
        if g.shape != x.shape:
            return
        a, n = g.ravel()[view.where].astype(np.float64), view.numeric
        gap = np.abs(a - n)
        size = np.maximum(np.abs(a), np.abs(n))
        scale = np.where(size > 0, size, 1.0)
        bad = ~(gap <= max(10 * self.tolerance, 1e-9) * np.maximum(scale, 1e-6 * np.max(size, initial=0)))
        if not bad.any():
            bad = gap == gap.max()
        first = int(
            np.argmax(np.where(bad, np.where(np.isfinite(gap), gap / scale, np.inf) * (size > 1e-3 * np.max(size)), -1))
        )
        result.wrong, result.looked = int(bad.sum()), len(a)
        result.error = float(gap[first] / scale[first])
        result.index = tuple(int(i) for i in np.unravel_index(view.where[first], x.shape))
        result.pair = float(a[first]), float(n[first])
        result.numeric = float(np.max(np.abs(n)))
        result.taylor = self._taylor(view)

    def _sample(self, k: int) -> Any:
        """At most 512 entries: all, or those found by bisection and a random sample."""
        n = self.problem.points[k].size
        total = sum(p.size for p in self.problem.points if isinstance(p, np.ndarray))
        most = max(16, min(MOST_ENTRIES, WORK // total))
        if n <= most:
            return np.arange(n)
        chosen = self.rng.choice(n, most * 7 // 8, replace=False)
        g = self.gradients[k]
        if g is not None and g.shape == self.problem.points[k].shape and np.all(np.isfinite(g)):
            start = self._bisect(k, g.ravel().astype(np.float64), n)
            chosen = np.union1d(chosen, np.arange(max(start - most // 16, 0), min(start + most // 16, n)))
        return chosen

    def _bisect(self, k: int, g: Any, n: int) -> int:
        """One wrong entry, by halving: one projection a step."""
        low, high = 0, n
        shape = self.problem.points[k].shape
        whole = direction(self.problem.points[k], self.rng).ravel()
        while high - low > 1:
            middle = (low + high) // 2
            u = np.zeros(n)
            u[low:middle] = whole[low:middle]
            slope = self.oracle.slope(k, u.reshape(shape), guard=False)
            size = float(np.sum(np.abs(g * u)))
            if abs(float(np.sum(g * u)) - slope.value) > self.tolerance * size + 10 * slope.error:
                high = middle
            else:
                low = middle
        return low

    def _taylor(self, view: diagnose.View) -> float | None:
        """The order of f(x + h u) - f(x) - h <g, u> as h shrinks: 2 where the gradient is right."""
        g = view.analytic
        if not np.all(np.isfinite(g)):
            return None
        points, k = self.oracle.points, view.k
        u = direction(points[k], self.rng)
        remainders = []
        for h in (2.0**-8, 2.0**-9, 2.0**-10):
            ends = []
            for step in (h, 0.0):
                arrays = [
                    p.astype(np.float64) if isinstance(p, np.ndarray) and p.dtype.kind == "f" else p for p in points
                ]
                arrays[k] = np.asarray(arrays[k] + step * u)
                ends.append(self.problem.outputs(arrays))
            change = sum(float(np.sum(v * (a - b))) for v, a, b in zip(self.vs, *ends, strict=True))
            remainders.append(abs(change - h * float(np.sum(g * u))))
        if not remainders[0] or not remainders[2] or not np.all(np.isfinite(remainders)):
            return None
        return float(np.log2(remainders[0] / remainders[2]) / 2)
