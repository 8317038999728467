"""The verdict on the gradient of one input: projections, edges of the domain, kinks and ties, what is too rough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn.testing.excuses import DOUBTFUL, Excuses, Miss, along
from tinygrad_nn.testing.kinks import allowed_at_kink, around, cuts, direction, directions, hair, neighbours
from tinygrad_nn.testing.oracles import ROUGH, Oracle, quiet
from tinygrad_nn.testing.problem import Arrays, Problem, widened
from tinygrad_nn.testing.report import KINK, OK, VAGUE, WRONG, Cause, InputReport

__all__ = ["Judge", "tolerance_for"]
__tracebackhide__ = True  # pytest shows the lines of the caller

TOLERANCES = {2: 1e-2, 4: 2e-6, 8: 1e-12}
MOST_PARTS = 64
UNDERFLOW = 1e-276  # a slope below this, times the tiny step of the complex step, is no normal number
MOST_RUNS = 2500
PIECES = 16
MOST_STRAYS = 64


def tolerance_for(problem: Problem) -> float:
    """The tolerance of the narrowest floating dtype among the checked inputs."""
    return max(TOLERANCES.get(problem.points[k].dtype.itemsize, 1e-12) for k in problem.active)


def entries(count: Any) -> str:
    """How many entries, and the verb."""
    return f"{count} {'entry is' if count == 1 else 'entries are'}"


def outside(g: Any, pieces: Any, relative: float) -> Any:
    """The entries of a gradient beyond those of all gradients around."""
    low, high = pieces.min(axis=0), pieces.max(axis=0)
    slack = relative * (np.abs(low) + np.abs(high) + 0.01 * np.max(np.abs(pieces)))
    return np.flatnonzero((g < low - slack) | (g > high + slack))


class Judge:
    """Judges the gradients of a `Problem` at its points, for one upstream gradient.

    Attributes
    ----------
    oracle : at the points of the problem
    causes, notes : what was found besides the verdicts
    at : for inputs that turned out wrong at another point only, the oracle and the gradients there
    chosen : for inputs at the edge of the domain, a mask of the entries that are not
    """

    def __init__(
        self, problem: Problem, vs: Arrays, gradients: Arrays, rng: np.random.Generator, *, full: bool
    ) -> None:
        self.problem = problem
        self.vs = vs
        self.gradients = gradients
        self.rng = rng
        self.full = full
        self.tolerance = tolerance_for(problem)
        self.narrow = self.tolerance > 1e-12
        self.excuses = Excuses(problem, vs, rng, self.tolerance)
        self.oracle = Oracle(problem, problem.points, vs)
        self.causes: list[Cause] = []
        self.notes: list[str] = []
        self.at: dict[int, tuple[Oracle, Arrays]] = {}
        self.chosen: dict[int, Any] = {}
        self._nearby: list[Oracle] | None = None
        self._pieces: list[Arrays] = []
        self._beside: list[Arrays] = []
        self._beside_vs = vs

    def judge(self, k: int) -> InputReport:
        """The verdict on one input."""
        x, g = self.problem.points[k], self.gradients[k]
        result = InputReport(self.problem.names[k], x.shape, str(x.dtype))
        if not x.size and (g is None or g.shape == x.shape):
            result.note = "no entries"
            return result
        if g is None:
            g = np.zeros(x.shape)
            result.note = "no gradient returned (None)"
        if g.dtype.kind not in "fiu":
            result.verdict, result.note = WRONG, f"the gradient is {g.dtype}"
            self.causes.append(Cause("dtype", result.name, result.note))
            return result
        if g.shape == x.shape and not np.all(np.isfinite(x)):
            self.notes.append(f"{result.name}: {entries(np.sum(~np.isfinite(x)))} NaN or infinite, and not checked")
            g = np.where(np.isfinite(x), g, 0)
        chosen = np.isfinite(g)
        result.analytic = float(np.max(np.abs(g), initial=0, where=chosen))
        if g.shape != x.shape:
            result.verdict = WRONG
            result.note = f"the gradient has shape {g.shape}, the input {x.shape}"
            return result
        if not np.all(chosen) and not self._no_derivative(k, g, chosen, result):
            return result
        g = np.where(chosen, g, 0)
        chosen &= np.isfinite(x)
        us = directions(x, self.rng, 3 if self.full else 1)
        misses = self.misses(self.oracle, k, g, chosen, us)
        if not all(np.isfinite(m.slope.value) for m in misses):
            chosen &= ~self._edges(k, chosen)
            count = int(np.sum(~chosen & np.isfinite(x)))
            if count:
                self.notes.append(f"{result.name}: {entries(count)} at the edge of the domain, and not checked")
            misses = self.misses(Oracle(self.problem, self.problem.points, self.vs), k, g, chosen, us)
            if not chosen.any():
                result.verdict, result.note = VAGUE, "every entry lies at the edge of the domain"
                return result
        if not np.all(chosen):
            self.chosen[k] = chosen
        self._numbers(result, misses)
        self._decide(k, g, chosen, misses, result)
        return result

    def _decide(self, k: int, g: Any, chosen: Any, misses: list[Miss], result: InputReport) -> None:
        """Set the verdict on projections: a kink, a mistake, or what is right as far as one can tell."""
        failed = [m for m in misses if m.failed]
        if any(m.slope.kink for m in misses):
            self._at_kink(k, g, misses, result)
        elif failed and self.excuses.only_narrow(self.oracle, k, failed):
            result.note = f"right in float64: {result.dtype} rounds more than usual"
        elif failed and not self.excuses.excused(self.oracle, k, failed):
            result.verdict = WRONG
        else:
            if failed or any(m.rough() for m in misses):
                result.verdict = VAGUE
                result.note = "rounding hides the difference"
            if self.full and (failed or any(m.rough(max(DOUBTFUL, self.tolerance)) for m in misses)):
                self._by_parts(k, g, chosen, result)

    def _numbers(self, result: InputReport, misses: list[Miss]) -> None:
        sizes = [max(m.size, m.slope.size) for m in misses]
        result.oracle = misses[0].slope.method
        result.noise = max((m.slope.error / s for m, s in zip(misses, sizes, strict=True) if s), default=0.0)
        result.numeric = result.analytic
        result.error = max((m.amount / s for m, s in zip(misses, sizes, strict=True) if s), default=0.0)

    def misses(self, oracle: Oracle, k: int, g: Any, chosen: Any, us: Arrays, *, guard: bool = True) -> list[Miss]:
        """The projections of a gradient along `us`, with all but the `chosen` entries left in place.

        The first of them is guarded by real differences.
        """
        found = []
        wide = g.astype(np.float64)
        for number, u in enumerate(us):
            u = np.where(chosen, u, 0.0)  # noqa: PLW2901 - entries without a derivative are not moved
            slope = oracle.slope(k, u, guard=guard and not number)
            terms = wide * u
            size = float(np.sum(np.abs(terms)))
            bound = self.tolerance * size + 10 * slope.error + UNDERFLOW
            found.append(Miss(u, float(np.sum(terms)), slope, size, bound))
        return found

    # Edges of the domain

    def _no_derivative(self, k: int, g: Any, finite: Any, result: InputReport) -> bool:
        """Whether entries with a gradient that is not finite have no finite derivative either."""
        bad = np.flatnonzero(~finite)
        for entry in bad[:6]:
            u = np.zeros(g.shape)
            u.flat[entry] = max(abs(float(self.problem.points[k].flat[entry])), 1e-3)
            slope = self.oracle.slope(k, u)
            if not slope.size and not slope.jump and any(not np.all(v) for v in self.vs):
                continue  # it moves nothing but outputs that are left out, as they are not finite
            if np.isfinite(slope.value) and slope.error <= 1e-3 * max(slope.size, abs(slope.value), slope.jump):
                index = tuple(int(i) for i in np.unravel_index(entry, g.shape))
                result.index, result.pair = index, (float(g.flat[entry]), slope.value / float(u.flat[entry]))
                result.wrong, result.looked, result.error = len(bad), g.size, float("inf")
                result.verdict = WRONG
                return False
        self.oracle.methods.pop(k, None)  # learned where the function may be special
        result.note = f"{entries(len(bad))} at the edge of the domain: no finite derivative, not checked"
        self.notes.append(f"{result.name}: {result.note}")
        return True

    def _edges(self, k: int, chosen: Any) -> Any:
        """The entries that cannot move both ways without leaving the domain, found by halving."""
        x = np.asarray(self.problem.points[k], dtype=np.float64)
        step = 2.0**-29 * np.where(x == 0, np.max(np.abs(x), initial=0) or 1.0, np.abs(x))
        bad = np.zeros(x.shape, dtype=bool)

        refused = False

        def outside(mask: Any) -> list[Any]:
            nonlocal refused
            found = []
            for sign in (1, -1):
                arrays = widened(self.problem.points, np.float64)
                arrays[k] = x + np.where(mask, sign * step, 0)
                ys = self.problem.outputs_or_none(arrays)
                if ys is None:
                    refused = True
                    found.append([v != 0 for v in self.vs])
                else:
                    found.append([~np.isfinite(y) & (v != 0) for y, v in zip(ys, self.vs, strict=True)])
            return [up | down for up, down in zip(*found, strict=True)]

        with quiet():
            hit = outside(chosen)
            whose = not refused and len(hit) == 1 and hit[0].shape == x.shape  # an error does not tell which entry
            if whose and not any(h.any() for h in outside(chosen & ~hit[0])):
                return hit[0]
            parts = [np.flatnonzero(chosen)]
            for _ in range(4 * MOST_PARTS):
                if not parts:
                    break
                where = parts.pop()
                mask = np.zeros(x.shape, dtype=bool)
                mask.flat[where] = True
                if not any(h.any() for h in outside(mask)):
                    continue
                if len(where) == 1:
                    bad |= mask
                else:
                    parts += [where[: len(where) // 2], where[len(where) // 2 :]]
        for where in parts:
            bad.flat[where] = True
        return bad

    # What is too rough

    def _by_parts(self, k: int, g: Any, chosen: Any, result: InputReport) -> None:
        """Halve the input until each part is either sharp enough to be judged, or a single rough entry."""
        whole = direction(self.problem.points[k], self.rng).ravel()
        where = np.flatnonzero(chosen)  # known to be rough as a whole
        parts = [where[: len(where) // 2], where[len(where) // 2 :]] if len(where) > 1 else [where]
        unseen, runs = 0, self.problem.evaluations
        for _ in range(MOST_PARTS):
            if not parts or self.problem.evaluations > runs + MOST_RUNS:
                break
            where = parts.pop(0)
            u = np.zeros(g.shape)
            u.flat[where] = whole[where]
            oracle = Oracle(self.problem, self.problem.points, self.vs)
            (miss,) = self.misses(oracle, k, g, True, [u])
            sharp = not miss.rough(DOUBTFUL if len(where) > 1 else ROUGH)
            if miss.failed and not self.excuses.excused(oracle, k, [miss]):
                result.verdict, result.note = WRONG, ""
                return
            if sharp and not miss.failed:
                continue
            if len(where) == 1:
                unseen += miss.rough() or miss.failed
            else:
                parts += [where[: len(where) // 2], where[len(where) // 2 :]]
        unseen += sum(len(where) for where in parts)
        result.verdict = VAGUE if unseen else OK
        result.note = f"{unseen} of {g.size} entries too rough to tell" if unseen else ""

    # Kinks

    def _at_kink(self, k: int, g: Any, misses: list[Miss], result: InputReport) -> None:
        """At a kink, the gradient next door must be right, and the one here a mixture of those around."""
        result.verdict = KINK
        result.note = "a kink or tie: left and right slope differ"
        _, elsewhere = self.next_door(k)
        if elsewhere is not None:
            result.verdict, result.note = WRONG, ""
            self.at[k] = elsewhere
            return
        here, *others = self._around()
        if here is not self.gradients and here[k] is not None and here[k].shape == g.shape:
            g = np.where(np.isfinite(here[k]), here[k], g)
        near_by = [d[k] for d in others if d[k] is not None and d[k].shape == g.shape]
        near_by = [d for d in near_by if np.all(np.isfinite(d))]
        if len(near_by) < PIECES // 2:
            return
        pieces = np.array(near_by)
        relative = max(1e-4, 100 * float(np.finfo(pieces.dtype).eps))
        # what rounding makes look like a kink agrees with the oracle all the same
        us = [m.u for m in misses if m.failed]
        strays = outside(g, pieces, relative)
        if len(strays) <= MOST_STRAYS:
            pieces = np.array([*pieces, *self._alone(k, strays)])
            us += cuts(g.shape, self.rng)
        else:  # too many ties for each to be the largest once: only what all of them share
            us += [np.ones(g.shape)]
        moved = [(u, u != 0) for u in us]
        mixed = all(allowed_at_kink(along(g, u), pieces[:, at] * u[at], relative) for u, at in moved if at.any())
        mixed = mixed and self._shared(relative)
        odd = [
            int(e) for e in strays[:MOST_STRAYS] if e in outside(g, pieces, relative) and self._own_output(k, int(e))
        ]
        if mixed and not odd:
            return
        result.verdict = WRONG
        result.note = "wrong exactly here, right next door"
        if odd:
            value, sides = float(g.flat[odd[0]]), pieces.reshape(len(pieces), -1)[:, odd[0]]
            result.index = tuple(int(i) for i in np.unravel_index(odd[0], g.shape))
            result.pair = value, float(np.clip(value, sides.min(), sides.max()))
            result.wrong, result.looked = 1, g.size
        self.causes.append(
            Cause(
                "ties",
                result.name,
                "wrong exactly here, right next door: no mixture of the gradients around this point",
                hint="at ties (max, sort, clip) share the gradient or give it to one, never to each",
            )
        )

    def _around(self) -> list[Arrays]:
        """The gradients here, and a hair away; in float64 where the rule takes it, as narrow numbers often tie."""
        if not self._pieces and self.narrow:
            with contextlib.suppress(Exception):  # a rule for narrow dtypes only
                points, vs = (widened(a, np.float64) for a in (self.problem.points, self.vs))
                self._pieces = [self.problem.gradients(points, vs), *self._at_a_hair(points, vs)]
        if not self._pieces:
            self._pieces = [self.gradients, *self._at_a_hair(self.problem.points, self.vs)]
        return self._pieces

    def _at_a_hair(self, points: Arrays, vs: Arrays) -> list[Arrays]:
        self._beside, self._beside_vs = list(around(self.problem, points, self.rng, PIECES)), vs
        return [self.problem.gradients(p, vs) for p in self._beside]

    def next_door(self, k: int) -> tuple[bool, tuple[Oracle, Arrays] | None]:
        """Whether the gradient of an input is right at smooth points around this one, and where it is not."""
        if self._nearby is None:
            self._nearby = neighbours(self.problem, self.problem.points, self.vs, self.rng)
        right = False
        for near in self._nearby:
            gradients = self.problem.gradients(near.points, self.vs)
            x, g = near.points[k], gradients[k]
            there = np.zeros(x.shape) if g is None else g
            if there.shape != x.shape or there.dtype.kind not in "fiu" or not np.all(np.isfinite(there)):
                continue
            found = self.misses(near, k, there, True, [direction(x, self.rng)])
            if found[0].slope.kink:
                continue
            if found[0].failed and not self.excuses.excused(near, k, found):
                return False, (near, gradients)
            right = True
        return right, None

    def _shared(self, relative: float) -> bool:
        """Whether what ties of several inputs share adds up: all of them are moved together."""
        active = self.problem.active
        sums = [[np.zeros(1) if d[j] is None else d[j].ravel() for j in active] for d in self._around()]
        here, *terms = [np.concatenate(parts) for parts in sums]
        if len(active) < 2 or not all(t.shape == here.shape and np.all(np.isfinite(t)) for t in [here, *terms]):
            return True
        return allowed_at_kink(float(here.sum()), np.array(terms), relative)

    def _alone(self, k: int, entries: Any) -> Iterator[Any]:
        """The gradients beside the point with one entry moved most: among many ties, only that makes it the largest."""
        x = self.problem.points[k]
        for entry in entries:
            for sign in (1, -1):
                moved = list(self._beside[-1])
                moved[k] = moved[k].copy()
                moved[k].flat[entry] = x.flat[entry] + 3 * sign * hair(x).flat[entry]
                with quiet():
                    ys = self.problem.outputs_or_none(moved)
                    alone = None if ys is None else self.problem.gradients(moved, self._beside_vs)[k]
                if alone is not None and alone.shape == x.shape and np.all(np.isfinite(alone)):
                    yield alone

    def _own_output(self, k: int, entry: int) -> bool:
        """Whether an entry moves the output in its own place only; beside an axis of length 1 nobody can tell."""
        moved = list(self.problem.points)
        moved[k] = moved[k].copy()
        moved[k].flat[entry] += 1e3 * hair(moved[k]).flat[entry]
        ys, base = self.problem.outputs_or_none(moved), self.problem.outputs(self.problem.points)
        places = [np.flatnonzero(a != b) for a, b in zip(ys or [], base, strict=False)]
        alone = 1 not in moved[k].shape and all(y.shape == moved[k].shape for y in base)
        return alone and {int(i) for p in places for i in p} <= {entry}
