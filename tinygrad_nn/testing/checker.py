"""One check from beginning to end: forward, probes, projections, and for what fails the entries and the reasons."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from tinygrad_nn.engine import recording
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing import diagnose, locate
from tinygrad_nn.testing.contracts import Probe, all_same, changed_inputs
from tinygrad_nn.testing.judge import Judge, tolerance_for
from tinygrad_nn.testing.kinks import direction
from tinygrad_nn.testing.oracles import Oracle, quiet
from tinygrad_nn.testing.problem import Arrays, Problem, widened
from tinygrad_nn.testing.report import CONTRACT, KINK, NOT_COMPARED, OK, VAGUE, WRONG, Cause, InputReport, Report
from tinygrad_nn.testing.watched import meets_kinks

__all__ = ["Checker"]
__tracebackhide__ = True  # pytest shows the lines of the caller

MODES = ("fast", "full")
MOST_ENTRIES = 512
WORK = 2_000_000  # entries of a forward times number of forwards, for the largest inputs


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
        self.problem = problem
        self.full = mode == "full"
        self.report = report
        shapes = [p.shape for p in problem.points if isinstance(p, np.ndarray)]
        self.rng = np.random.default_rng([seed, zlib.crc32(repr(shapes).encode())])

    def run(self) -> Report:
        """Check everything once; generators are left where they were."""
        self.report.skipped = self.problem.skipped
        self.tolerance = self.report.tolerance = tolerance_for(self.problem)
        try:
            with quiet(), recording(True):  # also inside of no_grad
                ys = self._outputs()
                if ys is not None:
                    self._check(ys)
        finally:
            self.problem.rewind()
        self.report.evaluations = self.problem.evaluations
        return self.report

    def _outputs(self) -> Arrays | None:
        """What the function returns; None where nothing can be compared, and the report says why."""
        problem, report = self.problem, self.report
        points = self._fresh()
        ys = [np.array(y) for y in problem.outputs(points)]
        odd = [str(y.dtype) for y in ys if y.dtype.kind == "c"]
        if odd:
            raise ArgumentError(
                f"{problem.title} returns {odd[0]}, which is not checked: return its real and its imaginary part"
            )
        if not any(y.dtype.kind == "f" for y in ys):
            held = ", ".join(str(y.dtype) for y in ys) or "nothing"
            raise ArgumentError(f"{problem.title} returns {held}: there is no derivative to check")
        changed = changed_inputs(problem, points)
        again = problem.outputs(self._fresh())
        if changed:
            hint = f"work on a copy of {changed[0]}"
            report.causes.append(Cause("mutates", changed[0], f"the function changes {changed[0]} in place", "", hint))
        elif len(ys) != len(again) or not all_same(ys, again):
            report.causes.append(
                Cause(
                    "random",
                    "",
                    "two forwards of the same inputs differ, also after every random generator in reach was restored",
                    hint="make the generator an argument, an attribute or a global of the function",
                )
            )
        elif any(y.size for y in ys) and not any(np.any(np.isfinite(y)) for y in ys if y.dtype.kind == "f"):
            report.notes.append("the forward is finite nowhere: nothing to compare")
        else:
            return self._widened(ys)
        for k in problem.active:
            x = problem.points[k]
            verdict = CONTRACT if report.causes else VAGUE
            report.results.append(InputReport(problem.names[k], x.shape, str(x.dtype), verdict, note=NOT_COMPARED))
        report.where = locate.source_of(problem.subject) if report.causes else ""
        return None

    def _widened(self, ys: Arrays) -> Arrays:
        """The outputs; those of the same inputs in float64 where random draws depend on the dtype."""
        problem = self.problem
        if self.tolerance <= 1e-12 or not problem.random_state:
            return ys
        wide = widened(problem.points, np.float64)
        found = problem.outputs_or_none(self._arrays_of(wide))
        if found is None or len(found) != len(ys):
            return ys
        gaps = [(np.abs(a - b), np.abs(b)) for a, b in zip(ys, found, strict=True) if a.shape == b.shape and a.size]
        if all(np.max(gap) <= 0.05 * np.max(size) for gap, size in gaps):
            return ys
        problem.points = wide
        self.tolerance = self.report.tolerance = tolerance_for(problem)
        self.report.notes.append("checked in float64: what the function draws at random depends on the dtype")
        return found

    def _check(self, ys: Arrays) -> None:
        problem, report = self.problem, self.report
        self.vs = [self._upstream(y) for y in ys]
        if not all(np.all(np.isfinite(y)) for y in ys):
            report.notes.append("the forward is not finite everywhere: those outputs are left out")
        probe = Probe(problem, self.vs, self.rng)
        probe.run(full=self.full)
        report.causes += probe.causes
        self._same_forward(ys, probe.outputs)
        self.gradients = probe.gradients
        self.judge = Judge(problem, self.vs, self.gradients, self.rng, full=self.full)
        for k in problem.active:
            report.results.append(self.judge.judge(k))
        report.causes += self.judge.causes
        report.notes += self.judge.notes
        self._second_point(probe)
        if self.full and report.ok:
            probe.empty()
            report.causes += probe.causes
        report.notes = probe.notes + report.notes
        tape = locate.recorded(problem, self.vs)
        report.coverage = locate.coverage(tape)
        nodes = self._by_nodes(tape)
        if probe.causes:
            for result in report.results:
                result.verdict = CONTRACT if result.verdict in {OK, VAGUE} else result.verdict
        wrong = [k for k, r in zip(problem.active, report.results, strict=True) if r.verdict == WRONG]
        if wrong:
            self._explain(wrong)
        if not report.ok:
            report.where = locate.where(problem, tape, nodes, self.vs, wrong)

    def _fresh(self) -> Arrays:
        return self._arrays_of(self.problem.points)

    @staticmethod
    def _arrays_of(points: Arrays) -> Arrays:
        return [np.array(p) if isinstance(p, np.ndarray) else p for p in points]

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
        elif all_same(ys, others):
            return
        else:
            gap = max(float(np.max(np.abs(y - o), initial=0)) for y, o in zip(ys, others, strict=True))
            said = f"other values than the function: they differ by up to {gap:.3g}"
        self.report.causes.append(
            Cause("forward", "", f"the rule's own forward returns {said}", hint="differentiate the same function")
        )

    def _by_nodes(self, tape: locate.LinesTape) -> locate.Nodes:
        """Let the recorded calls decide, one by one, where the whole does not: at kinks, and where it is vague.

        Where kinks meet, the chain rule of right rules need be no mixture of the gradients around: the usual 0 for
        each unit makes relu(x) - relu(-x), which is x, stand still at 0.  And a wrong rule may look like a mixture.
        """
        results, at = self.report.results, self.judge.at
        if all(r.verdict == OK for r in results):
            return locate.Nodes()
        with quiet():
            nodes = locate.judged(tape, self._verdict_of)
            wrong = [(k, r) for k, r in zip(self.problem.active, results, strict=True) if r.verdict == WRONG]
            doubtful = [(k, r) for k, r in wrong if nodes.wrong is None and k not in at and np.isfinite(r.error)]
            if not tape.reached:  # a rule by hand: only what it does at kinks that the function itself has
                told = {c.input for c in self.report.causes if c.kind == "ties"}
                doubtful = [(k, r) for k, r in doubtful if r.name not in told]
                doubtful = doubtful if doubtful and self._has_kinks() else []
            here = [r for k, r in doubtful if self.judge.next_door(k)[0]]
        for result in here if nodes.every else []:
            result.verdict = KINK
            result.note = "right next door; exactly here kinks meet, and what comes out need not be the derivative"
            self.report.notes.append(f"{result.name}: {result.note}")
            self.report.causes = [c for c in self.report.causes if c.input != result.name or c.kind != "ties"]
        if nodes.wrong is not None and not wrong:
            self.report.causes.append(
                Cause(
                    "node",
                    "",
                    "the rule of one recorded call is wrong by itself, though kinks or rounding hide it in the whole",
                    hint="WHERE says which: check that function alone",
                )
            )
        return nodes

    def _has_kinks(self) -> bool:
        """Whether the function has kinks or ties at the point: run on Tensors where it can be, else on arrays."""
        problem = self.problem
        if problem.by_framework is None:
            return False
        try:
            tape = locate.recorded(problem.by_framework(), self.vs)
        except Exception:  # noqa: BLE001 - made for arrays only
            try:
                return meets_kinks(problem.outputs, self._fresh())
            except Exception:  # noqa: BLE001 - and for those only that are nothing else
                return False
        tape.calls = [c for c in tape.calls if c.row.selects or c.row.name in locate.COMPARISONS]
        return locate.judged(tape, self._verdict_of).kinks

    def _verdict_of(self, node: Problem) -> str:
        """The worst verdict on the rule of one recorded call at its recorded arguments."""
        vs = [self._upstream(y) for y in node.outputs(node.points)]
        judge = Judge(node, vs, node.gradients(node.points, vs), np.random.default_rng(0), full=False)
        found = {judge.judge(k).verdict for k in node.active}
        return WRONG if WRONG in found else KINK if KINK in found else OK

    def _second_point(self, probe: Probe) -> None:
        """Right here and wrong at the next call nearby: computed once and never again, or right here by chance."""
        if probe.second is None:
            return
        points, gradients = probe.second
        oracle = Oracle(self.problem, points, self.vs)
        oracle.learn(self.judge.oracle)
        for k, result in zip(self.problem.active, self.report.results, strict=True):
            if result.verdict != OK or not self._wrong_at(oracle, k, gradients):
                continue
            fresh = Oracle(self.problem, points, self.vs)
            if not self._wrong_at(fresh, k, self.problem.gradients(points, self.vs)):
                continue
            result.verdict = WRONG
            untouched = self.problem.untouched
            first = None if untouched is None else untouched.gradients(points, self.vs)
            if first is not None and self._wrong_at(fresh, k, first):
                result.note = "right at the given point by chance, wrong at others"
                self.report.notes.append(f"{result.name}: {result.note}; the numbers are those of another point")
                self.judge.at[k] = fresh, gradients
                continue
            result.note = "right at the first call, wrong at the second"
            self.report.causes.append(
                Cause(
                    "frozen",
                    result.name,
                    "right at the first call, wrong at a second call with other inputs",
                    hint="something is computed once and never refreshed: a cache, a default argument, a global",
                )
            )

    def _wrong_at(self, oracle: Oracle, k: int, gradients: Arrays) -> bool:
        """Whether one projection at another point fails, where there is neither a kink nor rounding."""
        g, x = gradients[k], oracle.points[k]
        if g is None or g.shape != x.shape or not np.all(np.isfinite(g)) or not g.size:
            return False
        found = self.judge.misses(oracle, k, g, True, [direction(x, self.rng)])
        return found[0].failed and not found[0].slope.kink and not self.judge.excuses.excused(oracle, k, found)

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
                oracle, gradients = self.judge.at.get(k, (self.judge.oracle, self.gradients))
                chosen = self.judge.chosen.get(k)
                if chosen is not None and k not in self.judge.at:
                    gradients = [np.where(chosen, g, 0) if j == k else g for j, g in enumerate(gradients)]
                view = diagnose.View(self.problem, oracle, gradients, k, np.arange(0))
                view.where = self._sample(view)
                if chosen is not None and k not in self.judge.at:
                    view.where = view.where[chosen.flat[view.where]]
                self._entries(view, result)
                if not general:
                    self.report.causes.append(diagnose.explain(self._widely(view), self.rng, self.tolerance))
        self.report.causes.sort(key=lambda c: c.kind == "unknown")

    def _widely(self, view: diagnose.View) -> diagnose.View:
        """The view in float64 of a rule for a narrow dtype that is as wrong there: less rounding to see through."""
        problem, oracle, k = self.problem, view.oracle, view.k
        if self.tolerance <= 1e-12 or view.analytic.shape != view.x.shape:
            return view
        points = widened(oracle.points, np.float64)
        try:
            gradients = problem.gradients(points, [v.astype(np.float64) for v in oracle.vs])
        except Exception:  # noqa: BLE001 - a rule for narrow dtypes only
            return view
        wide = diagnose.View(problem, Oracle(problem, points, oracle.vs), gradients, k, view.where)
        wide.oracle.learn(oracle)
        if wide.analytic.shape != view.x.shape:
            return view
        here, there = (v.analytic.ravel()[v.where].astype(np.float64) for v in (view, wide))
        same = np.max(np.abs(here - there), initial=0) <= 0.1 * np.max(np.abs(here - view.numeric), initial=0)
        return wide if same else view

    def _entries(self, view: diagnose.View, result: InputReport) -> None:
        g, x = view.analytic, view.x
        if g.shape != x.shape:
            return
        known = np.isfinite(view.numeric)  # not beyond the edge of the domain, nor beyond what is looked at
        if not known.any():
            return
        where, n = view.where[known], view.numeric[known]
        a = g.ravel()[where].astype(np.float64)
        gap = np.abs(a - n)
        size = np.maximum(np.abs(a), np.abs(n))
        scale = np.where(size > 0, size, 1.0)
        largest = float(np.max(size, initial=0, where=np.isfinite(size)))
        bad = ~(gap <= max(10 * self.tolerance, 1e-9) * np.maximum(scale, 1e-6 * largest))
        if not bad.any():
            bad = gap == gap.max()
        first = int(
            np.argmax(np.where(bad, np.where(np.isfinite(gap), gap / scale * (size > 1e-3 * largest), np.inf), -1))
        )
        result.wrong, result.looked = int(bad.sum()), len(a)
        result.error = float(gap[first] / scale[first]) if np.isfinite(gap[first]) else float("inf")
        result.index = tuple(int(i) for i in np.unravel_index(where[first], x.shape))
        result.pair = float(a[first]), float(n[first])
        result.numeric = float(np.max(np.abs(n)))
        result.taylor = self._taylor(view)

    def _sample(self, view: diagnose.View) -> Any:
        """At most 512 entries: all, or those found by bisection and a random sample."""
        n = view.x.size
        total = sum(p.size for p in self.problem.points if isinstance(p, np.ndarray))
        most = max(16, min(MOST_ENTRIES, WORK // max(total, 1)))
        if n <= most:
            return np.arange(n)
        chosen = self.rng.choice(n, most * 7 // 8, replace=False)
        if view.analytic.shape == view.x.shape and np.all(np.isfinite(view.analytic)):
            start = self._bisect(view)
            chosen = np.union1d(chosen, np.arange(max(start - most // 16, 0), min(start + most // 16, n)))
        return chosen

    def _bisect(self, view: diagnose.View) -> int:
        """One wrong entry, by halving: one projection a step."""
        low, high = 0, view.x.size
        whole = direction(view.x, self.rng).ravel()
        while high - low > 1:
            middle = (low + high) // 2
            u = np.zeros(view.x.size)
            u[low:middle] = whole[low:middle]
            u = u.reshape(view.x.shape)
            (miss,) = self.judge.misses(view.oracle, view.k, view.analytic, True, [u], guard=False)
            if miss.failed:
                high = middle
            else:
                low = middle
        return low

    def _taylor(self, view: diagnose.View) -> float | None:
        """The order of f(x + h u) - f(x) - h <g, u> as h shrinks: 2 where the gradient is right."""
        g = view.analytic
        if not np.all(np.isfinite(g)):
            return None
        points, k = view.oracle.points, view.k
        u = direction(points[k], self.rng)
        remainders = []
        for h in (2.0**-8, 2.0**-9, 2.0**-10):
            ends = []
            for step in (h, 0.0):
                arrays = widened(points, np.float64)
                arrays[k] = np.asarray(arrays[k] + step * u)
                ys = self.problem.outputs_or_none(arrays)
                if ys is None:
                    return None
                ends.append(ys)
            change = sum(float(np.sum(v * (a - b))) for v, a, b in zip(self.vs, *ends, strict=True))
            remainders.append(abs(change - h * float(np.sum(g * u))))
        if not remainders[0] or not remainders[2] or not np.all(np.isfinite(remainders)):
            return None
        return float(np.log2(remainders[0] / remainders[2]) / 2)
