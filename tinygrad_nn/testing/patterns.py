"""The families of causes: each tries its equations on a group of views and yields those that hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_nn.testing.expressions import epsilon, extra, local, multiples, region
from tinygrad_nn.testing.oracles import Oracle
from tinygrad_nn.testing.scales import scale_names
from tinygrad_nn.testing.terms import constant_gap, exchanged, quotient, residual, sums
from tinygrad_nn.testing.views import Found, Group, View, elsewhere

__all__ = ["FAMILIES", "ONE_SAMPLE", "missing", "shape", "special"]


# Seen at one point already

WHOLE = "every gradient value is a whole number: an integer buffer"


def shape(view: View) -> Found | None:
    """A gradient of another shape than its input: missing sums, lost axes."""
    g, x = view.analytic, view.x
    if g.shape == x.shape:
        return None
    said = f"the gradient has shape {g.shape}, the input {x.shape}"
    n = view.full
    if n is not None and g.ndim >= x.ndim:
        for count in range(1, g.ndim + 1):
            for axes in itertools.combinations(range(g.ndim), count):
                for keep in (True, False):
                    total = g.sum(axis=axes, keepdims=keep)
                    if total.shape == n.shape and _near(total, n):
                        return Found(
                            "shape", f"sum{axes}", f"{said}: missing sum over axis {axes}", "sum over broadcast axes"
                        )
    if n is not None and g.size == x.size and _near(g.reshape(x.shape), n):
        return Found("keepdims", "reshape", f"values right, {said}: reshape or keepdims=True is missing")
    if g.ndim == x.ndim and g.T.shape == x.shape:
        return Found("shape", "transposed", f"{said}: transposed?")
    return Found("shape", "shape", said, "a gradient has its input's shape")


def missing(view: View, rng: np.random.Generator) -> Found | None:
    """No gradient at all, or zeros."""
    if view.gradients[view.k] is None:
        return Found("none", "none", "no gradient returned, but the output depends on this input")
    if not np.any(view.analytic) and not any(np.any(v.analytic) for v in elsewhere(view, rng, 2, far=True)):
        return Found("zero", "zero", "the gradient is 0 everywhere, but the output depends on this input")
    return None


def special(view: View) -> Found | None:
    """Whole numbers in an integer array, or NaN or infinity exactly at special points."""
    if view.analytic.dtype.kind in "iu":
        a, n = view.analytic.ravel()[view.where], view.numeric
        if a.size >= 4 and any(np.array_equal(a, f(n)) for f in (np.trunc, np.round, np.floor)):
            return Found("cast", "integer", WHOLE, "np.zeros_like of an integer array, or astype(int)")
    bad = ~np.isfinite(view.analytic)
    if not bad.any():
        return None
    for name, array in view.arrays.items():
        if array.shape == bad.shape:
            for value in (0.0, 1.0):
                if np.array_equal(array == value, bad):
                    there = f"{name} == {value:g}"
                    return Found("nonfinite", there, f"NaN or infinity exactly where {there}")
    other = view.problem.gradients(list(view.oracle.points), [-v for v in view.oracle.vs])[view.k]
    if other is not None and not np.array_equal(np.isfinite(other), ~bad):
        said = "NaN or infinity for one sign of the upstream gradient only: a backward pass is linear in g"
        return Found("nonlinear", "sign", said, "look for a log, root or power of something that has g in it")
    return Found("nonfinite", "some", "NaN or infinity where the derivative is finite")


def _near(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    return bool(np.max(np.abs(a - b), initial=0) <= tolerance * max(float(np.max(np.abs(b), initial=0)), 1e-300))


# Confirmed at other points


def swapped(group: Group) -> Iterator[Found]:
    """The gradient of another input."""
    first = group.views[0]
    for j in first.problem.active:
        if j != first.k and all(v.oracle.points[j].shape == v.x.shape for v in group.views):
            other = group.gather(lambda v, j=j: v.numeric_of(j, v.where))
            if group.explains(other):
                name = first.problem.names[j]
                yield Found(
                    "swapped",
                    name,
                    f"this is the gradient of {name}",
                    "check the order of the gradients",
                    group.rest(other),
                )


def factor(group: Group) -> Iterator[Found]:
    """A constant factor, named by a number, a size or a ratio of sizes."""
    ratios = []
    for view in group.views:
        part = Group([view])
        a, n = part.a[part.informative], part.n[part.informative]
        if not a.size:
            return
        ratios.append(float(np.sum(a * n) / np.sum(n * n)))
    predicted = np.concatenate([r * v.numeric for r, v in zip(ratios, group.views, strict=True)])
    # one ratio a view explains a view of one entry always: only numbers with names count there
    if not group.explains(predicted) or any(r == 0 for r in ratios):
        return
    names = [scale_names(v, r) for v, r in zip(group.views, ratios, strict=True)]
    for text in names[0]:
        if all(text in other for other in names):
            hint = "a factor is missing, or one too many divides"
            if abs(ratios[0]) >= 1:
                hint = "the sign is wrong" if text == "-1" else "a factor that the forward does not have"
            yield Found("factor", text, f"analytic = {text} x numeric", hint, group.rest(predicted))
    if max(ratios) - min(ratios) <= 1e-8 * abs(ratios[0]):
        yield Found("factor", f"{ratios[0]:.10g}", f"analytic = {ratios[0]:.6g} x numeric", "", group.rest(predicted))


def _moves(a: Any) -> Iterator[tuple[str, Any]]:
    """A gradient's entries in other places, NaN where nothing moves in."""
    axes = range(a.ndim)
    if 2 <= a.ndim <= 4:
        for order in itertools.permutations(axes):
            if order != tuple(axes) and a.transpose(order).shape == a.shape:
                yield "transposed" if a.ndim == 2 else f"permuted: transpose{order}", a.transpose(order)
    for count in range(1, min(a.ndim, 3) + 1):
        for chosen in itertools.combinations(axes, count):
            if all(a.shape[c] > 1 for c in chosen):
                yield f"flipped along axis {', '.join(map(str, chosen))}", np.flip(a, chosen)
    for axis in axes:
        for by in (1, -1, 2, -2):
            if a.shape[axis] > 2 * abs(by):
                moved = np.roll(a, by, axis).astype(np.float64)
                edge = [slice(None)] * a.ndim
                edge[axis] = slice(0, by) if by > 0 else slice(by, None)
                moved[tuple(edge)] = np.nan
                yield f"shifted by {-by} along axis {axis} (off-by-one slice?)", moved
                yield f"rolled by {-by} along axis {axis}", np.roll(a, by, axis)
    if a.ndim >= 2 and min(a.shape) > 1:
        yield "read in Fortran order (reshape order)", a.ravel(order="F").reshape(a.shape)
        yield "written in Fortran order (reshape order)", a.ravel().reshape(a.shape, order="F")
        yield "reshaped instead of transposed", a.reshape(a.shape[::-1]).T


def permuted(group: Group) -> Iterator[Found]:
    """The right numbers in the wrong places."""
    lists = [dict(_moves(v.analytic)) for v in group.views]
    for name in lists[0]:
        if all(name in each for each in lists):
            moved = np.concatenate([each[name].ravel()[v.where] for each, v in zip(lists, group.views, strict=True)])
            known = np.isfinite(moved)
            if known.mean() > 0.4 and group.explains(moved, group.n, known):
                hint = "apply the inverse of what the forward does to the axes"
                yield Found("permuted", name, f"the right numbers in the wrong places: {name}", hint)


def jacobian_product(group: Group) -> Iterator[Found]:
    """J v in place of J^T v: the forward applied to the upstream gradient."""

    def product(view: View) -> Any:
        v = view.oracle.vs[0]
        if len(view.oracle.vs) > 1 or v.size != view.x.size or v.size < 2:
            return None
        return view.forward_slope(v.reshape(view.x.shape))[0].ravel()[view.where]

    predicted = group.gather(product)
    if predicted is not None and group.explains(predicted):
        yield Found(
            "jvp", "jvp", "J v, not J^T v", "missing .T, inverse permutation or reversal", group.rest(predicted)
        )


def diagonal(group: Group) -> Iterator[Found]:
    """Only the diagonal of the Jacobian."""

    def own(view: View) -> Any:
        v = view.oracle.vs[0]
        if len(view.oracle.vs) > 1 or v.shape != view.x.shape or not 2 <= v.size <= 128:
            return None
        found = np.zeros(v.size)
        for entry in range(v.size):
            u = np.zeros(v.shape)
            u.flat[entry] = 1
            found[entry] = view.forward_slope(u)[0].flat[entry] * v.flat[entry]
        return found[view.where]

    predicted = group.gather(own)
    if predicted is not None and group.explains(predicted):
        yield Found(
            "diagonal",
            "diagonal",
            "only the diagonal of the Jacobian: outputs depend on other entries too",
            "add the terms across entries, as in y * (g - sum(g * y))",
            group.rest(predicted),
        )


def scatter(group: Group) -> Iterator[Found]:
    """Rows used more than once keep one contribution."""
    view = group.views[0]
    if view.full is None or not view.x.ndim:
        return
    rows = view.x.shape[0]
    for name, index in view.arrays.items():
        whole = index.dtype.kind in "iu" and index.size > 1 and index.min() >= -rows and index.max() < rows
        if not whole:
            continue
        counts = np.bincount(index.ravel() % rows, minlength=rows)
        gap = np.abs(view.analytic - view.full).reshape(rows, -1).max(axis=1)
        wrong = gap > 1e-6 * np.max(np.abs(view.full))
        if wrong.any() and np.array_equal(wrong, counts > 1):
            yield Found(
                "scatter",
                name,
                f"rows that {name} names more than once keep ONE contribution: overwritten",
                "use np.add.at(d, index, g) in place of d[index] = g or d[index] += g",
            )


def _unsummed(view: View) -> Any:
    """The gradient of the input broadcast to the output's shape; None where that makes another function."""
    y, x = view.outputs[0], view.x
    if len(view.outputs) > 1 or y.size > 400 or y.size <= x.size or not x.size:
        return None
    points = list(view.oracle.points)
    try:
        points[view.k] = np.broadcast_to(x, y.shape).copy()
        oracle = type(view.oracle)(view.problem, points, view.oracle.vs)
        wide = View(view.problem, oracle, [], view.k, np.arange(y.size))
        return wide.numeric.reshape(y.shape) if wide.outputs[0].shape == y.shape else None
    except Exception:  # noqa: BLE001 - the function does not take the wider input
        return None


def _other_sums(view: View) -> dict[str, Any]:
    """That gradient summed over every choice of axes, and its first and last entries, by name."""
    found: dict[str, Any] = {}
    each = _unsummed(view)
    if each is None:
        return found
    for count in range(1, each.ndim + 1):
        for axes in itertools.combinations(range(each.ndim), count):
            total = each.sum(axis=axes)
            if total.size == view.x.size:
                found[f"summed over axis {axes}"] = total.reshape(view.x.shape)
    for axis in range(each.ndim):
        for place in (0, -1):
            part = np.take(each, place, axis=axis)
            if part.size == view.x.size:
                found[f"entry {place} of axis {axis} only, in place of the sum"] = part.reshape(view.x.shape)
    return found


def wrong_axis(group: Group) -> Iterator[Found]:
    """Summed over another axis than the one that was broadcast."""
    lists = [_other_sums(v) for v in group.views]
    for name in lists[0]:
        if all(name in each for each in lists):
            predicted = np.concatenate(
                [each[name].ravel()[v.where] for each, v in zip(lists, group.views, strict=True)]
            )
            if group.explains(predicted):
                yield Found(
                    "sum-axis",
                    name,
                    f"{name}: not the broadcast axis",
                    "sum over the axes of length 1",
                    group.rest(predicted),
                )


def cast(group: Group) -> Iterator[Found]:
    """Rounded to a narrower float, or to whole numbers."""
    a, n = group.a[group.informative], group.n[group.informative]
    wide = group.views[0].x.dtype == np.float64
    if not wide or a.size < 4:
        return
    error = np.abs(a - n) / np.maximum(np.abs(n), 0.1 * group.top)
    rounded = any(np.array_equal(a, f(n)) for f in (np.trunc, np.round, np.floor))
    if rounded and not np.array_equal(a, n) and np.unique(a).size > 2:
        yield Found("cast", "integer", WHOLE, "np.zeros_like of an integer array, or astype(int)")
    for kind, name, low in ((np.float32, "float32", 1e-10), (np.float16, "float16", 1e-6)):
        eps = float(np.finfo(kind).eps)
        exact = np.array_equal(a, a.astype(kind).astype(np.float64))
        mixed = name == "float32" and (a > n).any() and (a < n).any() and low < np.median(error) < eps
        small = np.max(error) < 100 * eps and np.median(error) < eps
        if small and (exact or (mixed and _irregular(group.views[0], eps))):
            yield Found(
                "cast",
                name,
                f"the error has the size of {name} rounding ({np.median(error):.0e})",
                f"a {name} array or constant takes part in a float64 backward pass",
            )
            return


def _irregular(view: View, eps: float) -> bool:
    """Whether an error jumps as the inputs move by a few `eps`: a small term of a formula hardly changes."""
    rng = np.random.default_rng(5)
    points = [
        p * (1 + 8 * eps * rng.uniform(-1, 1, p.shape)) if j in view.problem.active else p
        for j, p in enumerate(view.oracle.points)
    ]
    oracle = Oracle(view.problem, points, view.oracle.vs)
    oracle.learn(view.oracle)
    moved = View(view.problem, oracle, view.problem.gradients(points, view.oracle.vs), view.k, view.where)
    gap, other = Group([view]).gap, Group([moved]).gap
    return bool(np.nanmedian(np.abs(other - gap)) > 0.05 * np.nanmedian(np.abs(gap)))


Family = Callable[[Group], Iterator[Found]]
FAMILIES: tuple[Family, ...] = (
    factor,
    swapped,
    permuted,
    scatter,
    jacobian_product,
    wrong_axis,
    epsilon,
    region,
    extra,
    local,
    quotient,
    exchanged,
    constant_gap,
    diagonal,
    residual,
    cast,  # of a size only, which small terms have, too
    sums,
)
ONE_SAMPLE: tuple[Family, ...] = (factor, multiples, exchanged, residual)
