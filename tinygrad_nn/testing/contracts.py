"""Probes of what every backward pass owes its callers, each about one backward."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.testing.kinks import nudged
from tinygrad_nn.testing.oracles import quiet
from tinygrad_nn.testing.problem import Arrays, Problem
from tinygrad_nn.testing.report import Cause
from tinygrad_nn.testing.watched import rounded

__all__ = ["Probe", "changed_inputs", "layouts", "same"]
__tracebackhide__ = True  # pytest shows the lines of the caller


def same(a: Any, b: Any, *, factor: float = 100) -> bool:
    """Whether two gradients agree but for rounding, of narrow dtypes to `factor` ulps of the largest entry."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape:
        return False
    kind = np.result_type(a, b)
    eps = float(np.finfo(kind).eps) if kind.kind in "fc" else 0.0
    size = float(np.max(np.abs(a), initial=0, where=np.isfinite(a)))
    # numbers so small that they have few digits left are rounded in steps of their own
    steps = 4096 * float(np.finfo(kind).smallest_subnormal) if kind.kind in "fc" else 0.0
    fine = eps < 1e-12
    atol = max((1e4 if fine else factor) * eps * size, steps)
    with quiet():
        return bool(np.allclose(a, b, rtol=1e-9 if fine else factor * eps, atol=atol, equal_nan=True))


def all_same(first: Arrays, second: Arrays, *, factor: float = 100) -> bool:
    """Whether all gradients agree but for rounding."""
    return all(same(a, b, factor=factor) for a, b in zip(first, second, strict=True))


def all_equal(first: Arrays, second: Arrays) -> bool:
    """Whether all gradients are equal to the last bit."""
    return all(
        a is b if a is None or b is None else np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")
        for a, b in zip(first, second, strict=True)
    )


def copies(gs: Arrays) -> Arrays:
    """The gradients as they are now."""
    return [None if g is None else np.array(g) for g in gs]


def scaled(gs: Arrays, factor: float) -> Arrays:
    """The gradients times a number."""
    return [None if g is None else g * g.dtype.type(factor) if g.dtype.kind == "f" else g * factor for g in gs]


def changed_inputs(problem: Problem, points: Arrays) -> list[str]:
    """The names of the arrays that are no longer as in the problem's points."""
    return [
        name
        for name, now, before in zip(problem.names, points, problem.points, strict=True)
        if isinstance(now, np.ndarray) and not np.array_equal(now, before, equal_nan=now.dtype.kind in "fc")
    ]


def layouts(v: Any) -> list[tuple[str, Any, Any]]:
    """The same values in other memory layouts: the name, the array, and a plain array of its values."""
    found = []
    if v.ndim >= 2:
        found.append(("Fortran order", np.asarray(v, order="F"), v))
    if v.ndim and v.size > 1:
        wide = np.full((*v.shape[:-1], 2 * v.shape[-1]), 7.0).astype(v.dtype)
        wide[..., ::2] = v
        found.append(("a strided view", wide[..., ::2], v))
        found.append(("a reversed view", v[::-1].copy()[::-1], v))
        spread = np.broadcast_to(v[:1], v.shape)
        found.append(("a broadcast view", spread, spread.copy()))
    return found


class Probe:
    """Runs the backward pass in the ways that callers will, and collects the broken contracts.

    After `run`, `gradients` holds what the first backward returned, and `second` the point and the
    gradients of a second call nearby.
    """

    def __init__(self, problem: Problem, vs: Arrays, rng: np.random.Generator) -> None:
        self.problem = problem
        self.vs = vs
        self.rng = rng
        self.causes: list[Cause] = []
        self.notes: list[str] = []
        self.outputs: Arrays = []
        self.gradients: Arrays = []
        self.raw: Arrays = []
        self.second: tuple[Arrays, Arrays] | None = None

    @property
    def numbers(self) -> bool:
        """Whether every gradient is an array of numbers, which the probes can compare."""
        return all(g.dtype.kind in "biufc" for g in self.gradients if g is not None)

    def blame(self, kind: str, sentence: str, hint: str = "", name: str = "") -> None:
        """Take note of one broken contract; the first of a kind is enough."""
        if not any(c.kind == kind for c in self.causes):
            self.causes.append(Cause(kind, name, sentence, "", hint))

    def run(self, *, full: bool) -> None:
        """Run all probes, or only those that belong to every check."""
        with quiet():
            self._first()
            cause = self.problem.contract(self.vs) if self.problem.contract is not None else None
            if cause is not None:
                self.causes.insert(0, cause)
            if self.numbers and all(np.all(np.isfinite(g)) for g in self.gradients if g is not None):
                self._linear()
            if full and self.numbers:
                self._another()
                self._layouts()
                self._same_array()

    def _first(self) -> None:
        points = [np.array(p) if isinstance(p, np.ndarray) else p for p in self.problem.points]
        vs = [np.array(v) for v in self.vs]
        ys, self.back = self.problem.pulled(points)
        self.outputs = [np.array(y) for y in ys]
        self._unchanged(points, "the forward pass")
        raw = self.back(vs)
        self.raw, self.gradients = raw, copies(raw)
        self._unchanged(points, "the backward pass")
        if not all(np.array_equal(v, w, equal_nan=True) for v, w in zip(vs, self.vs, strict=True)):
            self.blame(
                "mutates-upstream",
                "the backward pass changes the upstream gradient in place",
                "another path may still need it: write g = g * ..., not g *= ...",
            )
        self._aliases(raw, vs, points)
        if not self.numbers:
            return
        again = self._again([np.array(v) for v in self.vs])
        if again is None or all_same(again, self.gradients):
            return
        if all_same(again, scaled(self.gradients, 2)) or any(
            g is not None and np.any(g) and same(h, 2 * g) for h, g in zip(again, self.gradients, strict=True)
        ):
            self.blame(
                "accumulates",
                "a second backward returns 2x the first: the buffer is not cleared",
                "start each backward from zeros: dW = ..., not dW += ...",
            )
        else:
            self.blame(
                "unrepeatable",
                "a second backward with the same upstream gradient returns other numbers",
                "the backward pass consumes or changes what the forward pass kept, or draws at random",
            )

    def _unchanged(self, points: Arrays, who: str) -> None:
        for name in changed_inputs(self.problem, points):
            self.blame("mutates", f"{who} changes {name} in place", f"work on a copy of {name}", name)

    def _aliases(self, raw: Arrays, vs: Arrays, points: Arrays) -> None:
        held = [("the upstream gradient", v) for v in vs]
        held += [(n, p) for n, p in zip(self.problem.names, points, strict=True) if isinstance(p, np.ndarray)]
        for name, g in zip(self.problem.names, raw, strict=True):
            if g is None:
                continue
            held_by = [other for other, h in held if g.size and np.may_share_memory(g, h)]
            if held_by:
                self.notes.append(f"the gradient of {name} shares memory with {held_by[0]}: never write into either")
            held.append((f"the gradient of {name}", g))

    def _again(self, vs: Arrays, what: str = "a second backward") -> Arrays | None:
        """Another backward of the first forward; None where the pass may run once only, or takes no such array."""
        try:
            return copies(self.back(vs))
        except Exception as error:  # noqa: BLE001 - refusing a second backward is allowed, and said
            text = f"{what} raises {type(error).__name__}"
            if text not in self.notes:
                self.notes.append(text)
            return None

    def _linear(self) -> None:
        if any(c.kind in {"accumulates", "unrepeatable"} for c in self.causes):
            return
        half = any(v.dtype == np.float16 for v in self.vs)
        nothing = self._again([np.zeros_like(v) for v in self.vs])
        if nothing is not None and any(g is not None and not np.all(np.isfinite(g)) for g in nothing):
            self.blame(
                "nonlinear",
                "an upstream gradient of zeros gives NaN or infinity: a backward pass is linear in g",
                "look for a division by the size of g",
            )
            return
        factor = -2.0 if half else -1024.0
        other = self._again([np.asarray(factor * v, dtype=v.dtype) for v in self.vs])
        if other is not None and not self.problem.keeps_state and not all_equal(self.raw, self.gradients):
            self.blame(
                "overwrites",
                "a later backward overwrites the gradients that an earlier one returned",
                "return fresh arrays: the caller may still hold the old ones",
            )
        if other is None or all_same(other, scaled(self.gradients, factor)):
            return
        if all_same(other, self.gradients):
            self.blame(
                "ignores-upstream",
                "the backward pass ignores the upstream gradient",
                "multiply by g: the loss need not be this function's plain sum",
            )
            return
        if any(g is not None and np.any(g) and np.array_equal(g, np.round(g)) for g in self.gradients):
            return  # whole numbers: rounding, which the diagnosis names
        self.blame(
            "nonlinear",
            f"backward({factor:g} g) is not {factor:g} backward(g): a backward pass is linear in g",
            "look for clipping, a mask made from the sign of g (instead of the input's), or g used twice",
        )

    def _another(self) -> None:
        """Another forward in between must leave the first backward alone, and give its own gradients."""
        points = nudged(self.problem, self.problem.points, self.rng)[0]
        try:
            _, back = self.problem.pulled(points)
        except Exception:  # noqa: BLE001 - outside the domain: the nudge proves nothing
            return
        later = None if self.problem.keeps_state or self.causes else self._again([np.array(v) for v in self.vs])
        if later is not None and not all_same(later, self.gradients, factor=8):
            self.blame(
                "stale",
                "the backward changes after ANOTHER forward ran: it reads state that both share",
                "keep what backward needs in local variables of this call, not on self or in a global",
            )
            return
        try:
            self.second = points, copies(back([np.array(v) for v in self.vs]))
        except Exception:  # noqa: BLE001 - the same error will be told at the main point if it is one
            return

    def _layouts(self) -> None:
        if self.causes:
            return
        if self.problem.keeps_state:
            _, self.back = self.problem.pulled([np.array(p) for p in self.problem.points])
        for k, v in enumerate(self.vs):
            for name, array, values in layouts(v):
                vs = [np.array(w) for w in self.vs]
                plain = self.gradients
                if values is not v:
                    vs[k] = values
                    plain = self._again(vs) or plain
                vs[k] = array
                what = f"the upstream gradient as {name}"
                self._equal(functools.partial(self._again, vs, f"a backward with {what}"), plain, what)
        inputs = [np.asarray(p, order="F") if isinstance(p, np.ndarray) else p for p in self.problem.points]
        if any(isinstance(p, np.ndarray) and p.ndim >= 2 for p in inputs):
            vs = [np.array(v) for v in self.vs]
            self._equal(lambda: self.problem.pulled(inputs)[1](vs), self.gradients, "the inputs in Fortran order")

    def _equal(self, run: Callable[[], Arrays | None], plain: Arrays, what: str) -> None:
        hint = "look for ravel(order='K'), reshape of a transposed array, or .data and stride tricks"
        try:
            found = run()
        except Exception as error:  # noqa: BLE001 - told as a broken contract
            self.blame("layout", f"{what}: the backward pass raises {type(error).__name__}", hint)
            return
        if found is not None and not all_same(found, plain) and not self._rounding(found, plain):
            self.blame("layout", f"{what} gives another gradient, although the values are the same", hint)

    def _rounding(self, found: Arrays, plain: Arrays) -> bool:
        """Whether two gradients differ by no more than operations rounded otherwise make of one: where all cancels."""
        rng, (points, vs) = np.random.default_rng(4), (self.problem.points, self.vs)
        try:
            others = [copies(self.problem.gradients(rounded(points, rng), rounded(vs, rng))) for _ in range(5)]
            spreads = [np.max(np.ptp(gs, axis=0), initial=0) for gs in zip(*others, strict=True)]
            gaps = [np.max(np.abs(a - b), initial=0) for a, b in zip(found, plain, strict=True)]
        except Exception:  # noqa: BLE001 - code that takes plain arrays only, or a gradient that is None
            return False
        return all(gap <= 10 * spread for gap, spread in zip(gaps, spreads, strict=True))

    def _same_array(self) -> None:
        """One array passed twice must give what two equal arrays give."""
        points = self.problem.points
        pairs = [
            (i, j)
            for i in self.problem.active
            for j in self.problem.active
            if i < j and points[i].shape == points[j].shape and points[i].dtype == points[j].dtype
        ]
        if not pairs or self.causes:
            return
        i, j = pairs[0]
        shared = [np.array(p) if isinstance(p, np.ndarray) else p for p in points]
        apart = [np.array(p) if isinstance(p, np.ndarray) else p for p in points]
        shared[j] = shared[i]
        apart[j] = apart[i].copy()
        try:
            expected = self.problem.pulled(apart)[1]([np.array(v) for v in self.vs])
        except Exception:  # noqa: BLE001 - equal values may lie outside the domain
            return
        names = self.problem.names
        found = copies(self.problem.pulled(shared)[1]([np.array(v) for v in self.vs]))
        if not all_same(found, copies(expected)):
            self.blame(
                "aliased", f"the same array passed as {names[i]} and {names[j]} gives other gradients than a copy"
            )

    def empty(self) -> None:
        """Try a batch without samples: the backward gives gradients of the inputs' shapes, or refuses."""
        points = self.problem.points
        batch = next((p.shape[0] for p in points if isinstance(p, np.ndarray) and p.ndim), 0)
        if self.causes or not batch:
            return
        rows = [k for k, p in enumerate(points) if isinstance(p, np.ndarray) and p.ndim and p.shape[0] == batch]
        for group in (rows, rows[:1]):
            empty = [p[:0].copy() if k in group else p for k, p in enumerate(points)]
            with quiet():
                ys = self.problem.outputs_or_none(empty)
            # no longer a function of a batch, such as a sum over it: nothing to ask
            if (
                ys is None
                or len(ys) != len(self.vs)
                or any(y.shape == v.shape or not y.ndim or y.shape[0] for y, v in zip(ys, self.vs, strict=True))
            ):
                continue
            vs = [np.zeros(y.shape, v.dtype) for y, v in zip(ys, self.vs, strict=True)]
            try:
                with quiet():
                    found = self.problem.pulled(empty)[1](vs)
                shapes = [(self.problem.names[k], np.shape(found[k]), empty[k].shape) for k in self.problem.active
                          if found[k] is not None]  # fmt: skip
                odd = [name for name, shape, right in shapes if shape != right]
                said = f"gives gradients of other shapes than the inputs ({', '.join(odd)})" if odd else ""
            except Exception as error:  # noqa: BLE001 - refusing is allowed, and said
                said = ""
                self.notes.append(
                    f"for an empty batch the backward raises {type(error).__name__}, the forward does not"
                )
            if said:
                hint = "keep axes explicit: reshape(len(x), ...) where reshape(-1, ...) cannot tell"
                self.blame("empty", f"for a batch without samples the backward pass {said}", hint)
            return
