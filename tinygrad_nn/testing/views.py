"""What diagnosis looks at: gradients at chosen entries, and every array that was around when they were made."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.tensor import Tensor
from tinygrad_nn.testing.kinks import typical
from tinygrad_nn.testing.oracles import Oracle, quiet
from tinygrad_nn.testing.problem import Arrays, Problem

__all__ = ["Found", "Group", "View", "elsewhere", "narrowed", "resized", "traced"]

MOST_BY_LADDER = 96


@dataclass
class Found:
    """One equation that holds: a stable kind, a key that must come out again elsewhere, and words."""

    kind: str
    key: str
    sentence: str
    hint: str = ""
    rest: float = 0.0


@dataclass
class View:
    """The gradient of input `k` at one point, and the entries (flat positions) that are compared.

    Attributes
    ----------
    problem, oracle : what is differentiated, and where
    gradients : the analytic gradients of all inputs
    k : the input looked at
    where : the flat positions of the entries
    """

    problem: Problem
    oracle: Oracle
    gradients: Arrays
    k: int
    where: Any

    @property
    def x(self) -> Any:
        """The input."""
        return self.oracle.points[self.k]

    @functools.cached_property
    def analytic(self) -> Any:
        """The gradient under test, zeros for None."""
        g = self.gradients[self.k]
        return np.zeros(self.x.shape) if g is None else np.asarray(g)

    @functools.cached_property
    def numeric(self) -> Any:
        """The oracle's gradient at the entries."""
        return self.numeric_of(self.k, self.where)

    def numeric_of(self, k: int, where: Any) -> Any:
        """The oracle's gradient of input `k` at flat positions."""
        x = self.oracle.points[k]
        found = np.full(len(where), np.nan)
        ladder = self.oracle.methods.get(k) in {"ladder", "finer"}
        for row, entry in enumerate(where):
            if ladder and row >= MOST_BY_LADDER:
                break
            u = np.zeros(x.shape)
            step = (abs(float(x.flat[entry])) or typical(x)) if ladder else 1.0
            u.flat[entry] = step
            found[row] = self.oracle.slope(k, u, guard=False).value / step
        return found

    @property
    def complete(self) -> bool:
        """Whether every entry is compared."""
        return len(self.where) == self.x.size and bool(np.all(np.isfinite(self.numeric)))

    @functools.cached_property
    def full(self) -> Any:
        """The oracle's whole gradient, or None where it is too large."""
        return self.numeric.reshape(self.x.shape) if self.complete else None

    @functools.cached_property
    def outputs(self) -> Arrays:
        """The outputs at this point."""
        with quiet():
            return self.problem.outputs(list(self.oracle.points))

    def forward_slope(self, u: Any) -> Arrays:
        """J u for each output, by complex step or a central difference; NaN where the function refuses to go."""
        points = self.oracle.points
        beyond = [np.full(y.shape, np.nan) for y in self.outputs]
        if self.oracle.methods.get(self.k) != "ladder":
            arrays = [p.astype(complex) if isinstance(p, np.ndarray) and p.dtype.kind == "f" else p for p in points]
            arrays[self.k] = np.asarray(arrays[self.k] + 1e-30j * u)
            ys = self.problem.outputs_or_none(arrays)
            return beyond if ys is None else [np.imag(y) / 1e-30 for y in ys]
        ends = []
        for h in (1e-5, -1e-5):
            arrays = list(points)
            arrays[self.k] = np.asarray(arrays[self.k] + h * u)
            ends.append(self.problem.outputs_or_none(arrays) or beyond)
        return [(a - b) / 2e-5 for a, b in zip(*ends, strict=True)]

    @functools.cached_property
    def arrays(self) -> dict[str, Any]:
        """Every floating array and number in reach: inputs, upstream, outputs, what the backward kept."""
        found: dict[str, Any] = {}
        for name, p in zip(self.problem.names, self.oracle.points, strict=True):
            if isinstance(p, (float, np.ndarray)):
                found[name] = np.asarray(p)
        count = len(self.oracle.vs)
        for j, (v, y) in enumerate(zip(self.oracle.vs, self.outputs, strict=True)):
            found["g" if count == 1 else f"g[{j}]"] = v
            found["y" if count == 1 else f"y[{j}]"] = y
        held = [id(v) for v in found.values()]
        for name, value in traced(self.problem, self.oracle.points, self.oracle.vs).items():
            known = any(v.shape == value.shape and np.array_equal(v, value) for v in found.values())
            if name not in found and id(value) not in held and not known:
                found[name] = value
        return found

    def trails(self, array: Any) -> bool:
        """Whether an array fits only with an axis of length 1 behind its own."""
        if not 0 < array.ndim < self.x.ndim:
            return False
        return any(a not in {1, b} for a, b in zip(array.shape[::-1], self.x.shape[::-1], strict=False))

    def at(self, array: Any) -> Any:
        """An array's values at the compared entries, broadcast; None where it does not fit."""
        shape = self.x.shape
        while array.ndim > len(shape) and array.shape[0] == 1:
            array = array[0]
        for candidate in (array, array[..., None] if 0 < array.ndim < len(shape) else None):
            if candidate is None or candidate.ndim > len(shape):
                continue
            try:
                if np.broadcast_shapes(candidate.shape, shape) == shape:
                    return np.broadcast_to(candidate, shape).ravel()[self.where]
            except ValueError:
                continue
        return None


class Group:
    """Several views of one gradient, compared as one: small arrays need more than one to be informative."""

    def __init__(self, views: list[View]) -> None:
        self.views = views
        self.a = np.concatenate([v.analytic.ravel()[v.where].astype(np.float64) for v in views])
        self.n = np.concatenate([v.numeric for v in views])
        self.valid = np.isfinite(self.n)
        self.gap = self.a - self.n
        self.top = float(np.max(np.abs(self.n), initial=0, where=self.valid))
        self.informative = self.valid & np.isfinite(self.a) & (np.abs(self.n) > 1e-6 * self.top)

    def explains(self, predicted: Any, actual: Any = None, where: Any = None) -> bool:
        """Whether `predicted` is the analytic gradient, to 1e-4 of what is to be explained."""
        actual = self.a if actual is None else actual
        chosen = self.valid & np.isfinite(self.a)
        chosen = chosen if where is None else chosen & where
        if not np.all(np.isfinite(predicted[chosen])):
            return False
        gap = float(np.max(np.abs(self.gap[chosen]), initial=0))
        if chosen.sum() < 4 or not gap:
            return False
        left = np.abs(predicted - actual)[chosen]
        own = 1e-4 * np.abs(self.gap[chosen]) + 1e-7 * gap
        return bool(np.mean(left <= own) > 0.97 and np.max(left) <= 1e-4 * gap)

    def rest(self, predicted: Any) -> float:
        """The largest relative difference that is left."""
        chosen = self.informative & np.isfinite(predicted)
        size = np.abs(self.a[chosen])
        return float(np.max(np.abs(predicted - self.a)[chosen] / np.where(size > 0, size, 1), initial=0))

    def gather(self, make: Any) -> Any:
        """One array a view, at the compared entries, joined; None as soon as one view has none."""
        parts = []
        for view in self.views:
            part = make(view)
            if part is None:
                return None
            parts.append(np.asarray(part, dtype=np.float64))
        return np.concatenate(parts)

    def dictionary(self) -> Iterator[tuple[str, Any]]:
        """Every array in reach that fits, by name, at the compared entries."""
        for name in self.views[0].arrays:
            if name == self.views[0].problem.names[self.views[0].k] or all(name in v.arrays for v in self.views):
                values = self.gather(lambda v, name=name: v.at(v.arrays[name]) if name in v.arrays else None)
                raw = self.views[0].arrays[name]
                title = f"{name}[..., None]" if self.views[0].trails(raw) else name
                # the gradient under test explains itself
                if values is not None and not np.allclose(values, self.a, rtol=1e-12, atol=0, equal_nan=True):
                    yield title, values


def elsewhere(view: View, rng: np.random.Generator, count: int = 1, *, far: bool = False) -> list[View]:
    """Views of the same gradient at other points with other upstream gradients."""
    found = []
    problem = view.problem
    low, high = (0.3, 2.5) if far else (0.75, 1.3)
    for _ in range(4 * count):
        points = [
            np.asarray(p * rng.uniform(low, high, p.shape) + rng.standard_normal(p.shape) * (p == 0), dtype=p.dtype)
            if j in problem.active
            else p
            for j, p in enumerate(view.oracle.points)
        ]
        made = _view(view, points, rng)
        if made is not None:
            found.append(made)
        if len(found) == count:
            break
    return found


def _view(view: View, points: Arrays, rng: np.random.Generator) -> View | None:
    """The view at another point; None where the function or its gradient is not defined there."""
    problem = view.problem
    try:
        with quiet():
            ys = problem.outputs(points)
            vs = [
                np.asarray(rng.standard_normal(y.shape) + 0.25, dtype=y.dtype if y.dtype.kind == "f" else np.float64)
                * (y.dtype.kind in "fc")
                for y in ys
            ]
            # a single number changes its sign, so that no name holds for one sign only
            vs = [-np.copysign(v, w) if v.size == w.size == 1 else v for v, w in zip(vs, view.oracle.vs, strict=True)]
            gs = problem.gradients(points, vs)
    except Exception:  # noqa: BLE001 - another point may lie outside the domain
        return None
    if not all(np.all(np.isfinite(y)) for y in ys):
        return None
    oracle = Oracle(problem, points, vs)
    oracle.learn(view.oracle)
    size = points[view.k].size
    where = (
        view.where
        if size == view.x.size
        else np.arange(size)
        if size <= len(view.where)
        else rng.choice(size, len(view.where), replace=False)
    )
    return View(problem, oracle, gs, view.k, where)


def resized(view: View, rng: np.random.Generator, rows: slice) -> View | None:
    """The view of fewer samples: `rows` of every input that has the batch along its first axis."""
    points = view.oracle.points
    arrays = [j for j, p in enumerate(points) if isinstance(p, np.ndarray) and p.ndim]
    if not arrays:
        return None
    batch = points[arrays[0]].shape[0]
    together = [j for j in arrays if points[j].shape[0] == batch]
    count = len(range(*rows.indices(batch)))
    if not 0 < count < batch:
        return None
    for group in (together, [j for j in together if points[j].ndim >= 2 or points[j].dtype.kind != "f"], together[:1]):
        smaller = [p[rows].copy() if j in group else p for j, p in enumerate(points)]
        made = _view(view, smaller, rng)
        if made is None or made.analytic.shape != made.x.shape:
            continue
        shapes = [(y.shape, z.shape) for y, z in zip(view.outputs, made.outputs, strict=True)]
        if all(z in {y, *_shortened(y, batch, count)} for y, z in shapes):
            return made
    return None


def _shortened(shape: tuple[int, ...], batch: int, count: int) -> list[tuple[int, ...]]:
    """The shapes with `count` in the place of one length that is the batch's."""
    return [(*shape[:k], count, *shape[k + 1 :]) for k, n in enumerate(shape) if n == batch]


def narrowed(view: View, rng: np.random.Generator, count: int) -> Iterator[list[View]]:
    """Views with another length in the place of one, along every axis that has it: `count` for each length.

    Not for the batch's, which `resized` makes shorter, where it stands first only.
    """
    points = view.oracle.points
    arrays = [j for j, p in enumerate(points) if isinstance(p, np.ndarray) and p.ndim]
    batch = points[arrays[0]].shape[0] if arrays else 0
    lengths = [n for j in arrays for axis, n in enumerate(points[j].shape) if axis or n != batch or points[j].ndim == 1]
    for length in dict.fromkeys(lengths):
        if length < 3:
            continue
        smaller = list(points)
        for j in arrays:
            smaller[j] = points[j][tuple(slice(0, n - 1 if n == length else n) for n in points[j].shape)].copy()
        made = [_view(view, smaller, rng) for _ in range(count)]
        fits = [v for v in made if v is not None and v.analytic.shape == v.x.shape and np.any(v.analytic)]
        if len(fits) == count:
            yield fits


def traced(problem: Problem, points: Arrays, vs: Arrays) -> dict[str, Any]:
    """The local floating arrays and numbers of the rule and of its backward pass, by their names in the code."""
    found: dict[str, Any] = {}
    home = getattr(getattr(_function(problem.subject), "__code__", None), "co_filename", None)
    package = __file__.rsplit("/", 1)[0].rsplit("\\", 1)[0]

    def note(frame: Any, event: str, _argument: Any) -> Any:
        file = frame.f_code.co_filename
        if file != home or file.startswith(package):
            return None
        if event == "return":
            for name, value in frame.f_locals.items():
                value = value.numpy() if isinstance(value, Tensor) else value  # noqa: PLW2901 - its array
                if isinstance(value, (float, np.floating)) or (
                    isinstance(value, np.ndarray) and value.dtype.kind == "f"
                ):
                    found.setdefault(name, np.array(value, dtype=np.float64))
                elif isinstance(value, np.ndarray) and value.dtype.kind in "iub":
                    found.setdefault(name, value.copy())
        return note

    before = sys.gettrace()
    try:
        sys.settrace(note)
        problem.gradients(points, vs)
    except Exception:  # noqa: BLE001, S110 - what was seen until then is what there is
        pass
    finally:
        sys.settrace(before)
    return found


def _function(subject: Any) -> Any:
    """The Python function inside a callable object."""
    for name in ("__wrapped__", "__func__", "backward"):
        if hasattr(subject, name):
            return _function(getattr(subject, name))
    return subject
