"""Causes that are terms: an array in the place of another, and terms that are missing, doubled or of another sign."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_nn.testing.expressions import functions, local_derivative, over, varies
from tinygrad_nn.testing.scales import scale_names, times
from tinygrad_nn.testing.views import Found, Group

__all__ = ["constant_gap", "exchanged", "quotient", "residual", "sums"]

MOST = 4_000_000  # numbers in one table of candidates
SIMPLE = (1.0, -1.0, 2.0, -2.0, 0.5, -0.5)

Terms = list[tuple[str, Any]]


def _names(group: Group) -> Terms:
    return [(name, d) for name, d in group.dictionary() if d.dtype.kind == "f" and varies(d)]


def _atoms(names: Terms) -> Terms:
    """Simple expressions of one array, as they stand in products."""
    found = list(names)
    for name, d in names:
        found += [
            (f"(1 - {name})", 1 - d),
            (f"(1 + {name})", 1 + d),
            (f"(2 - {name})", 2 - d),
            (f"{name}**2", d * d),
            (f"(1 - {name}**2)", 1 - d * d),
            (f"{name}*(1-{name})", d * (1 - d)),
            (over(name), 1 / d),
            (f"exp({name})", np.exp(d)),
            (f"(1 - exp({name}))", 1 - np.exp(d)),
        ]
    return [(text, d) for text, d in found if np.all(np.isfinite(d))]


def exchanged(group: Group) -> Iterator[Found]:
    """One expression in the place of another: analytic / numeric is the ratio of two."""
    chosen = group.informative
    with np.errstate(all="ignore"):
        names = _names(group)
        pool = [*names, *_atoms(names)[len(names) :]]
        for name, d in names:
            pool += [(t, v) for t, v in functions(name, d) if "exp(" in t and not t.startswith("(exp")]
            pool += [(f"(1 - exp(-{name}))", 1 - np.exp(-d)), (f"(2 + exp(-{name}))", 2 + np.exp(-d))]
        for (a, x), (b, y) in itertools.combinations(names, 2):
            pool += [(f"({a} - {b})", x - y), (f"({a} + {b})", x + y)]
        pool = [(t, d) for t, d in pool if varies(d) and not t.startswith("1/")]
        if not pool or len(pool) * len(pool) * chosen.sum() > 16 * MOST:
            return
        table = np.stack([d[chosen] for _, d in pool])
        ratio = group.a[chosen] / group.n[chosen]
        for (text, d), row in zip(pool, table, strict=True):
            if not d.all():  # what is divided by 0 says nothing
                continue
            quotient = ratio * row / table
            middle = np.median(quotient, axis=1)
            spread = np.max(np.abs(quotient - middle[:, None]), axis=1)
            for j in np.flatnonzero(spread <= 1e-6 * np.abs(middle)):
                other, e = pool[j]
                c = next((s for s in SIMPLE if abs(middle[j] - s) <= 1e-6), None)
                if c is not None and other != text and group.explains(c * group.n * e / d):
                    detail = f"{times([f'{c:g}'], c, other)[0]}/{over(text).removeprefix('1/')}"
                    yield Found(
                        "ratio",
                        detail,
                        f"analytic / numeric = {detail}",
                        f"{other} stands where {text} belongs?",
                        group.rest(c * group.n * e / d),
                    )


def quotient(group: Group) -> Iterator[Found]:
    """The quotient of two arrays in the place of the local derivative of an element-wise function."""
    if local_derivative(group) is None:
        return
    v = group.gather(lambda view: view.oracle.vs[0].ravel()[view.where])
    with np.errstate(all="ignore"):
        for (a, x), (b, y) in itertools.permutations([pair for pair in _names(group) if pair[0] != "g"], 2):
            if group.explains(v * x / y):
                text = f"{a}/{b}"
                yield Found(
                    "local",
                    text,
                    f"local derivative used: {text}",
                    "a summand of the product rule is missing?",
                    group.rest(v * x / y),
                )


def _table(terms: Terms, others: Terms) -> Terms:
    """Products of a term with each of the others."""
    return [(f"{s}*{t}", d * e) for s, d in terms for t, e in others]


def _reductions(group: Group) -> Terms:
    """The upstream gradient summed over an axis, alone and times each array that fits it; the axis is kept."""
    found: Terms = []
    first = group.views[0]
    if len(first.oracle.vs) > 1 or first.oracle.vs[0].ndim == 0:
        return found
    shape = first.oracle.vs[0].shape
    fits = [n for n, d in first.arrays.items() if n != "g" and d.dtype.kind == "f" and d.shape == shape and varies(d)]
    for axis in range(len(shape)):
        for name in ("", *fits):
            text = f"sum(g*{name}, {axis})" if name else f"sum(g, {axis})"

            def summed(view: Any, name: str = name, axis: int = axis) -> Any:
                g = view.oracle.vs[0]
                if name and (name not in view.arrays or view.arrays[name].shape != g.shape):
                    return None
                return view.at(np.sum(g * view.arrays[name] if name else g, axis=axis, keepdims=True))

            values = group.gather(summed)
            if values is not None and np.all(np.isfinite(values)):
                kept = np.empty([1 if k == axis else n for k, n in enumerate(shape)])
                found.append((f"{text}[..., None]" if first.trails(kept) else text, values))
    return found


def _upstream(group: Group) -> Terms:
    """The upstream gradient at the entries, also a single number."""
    values = group.gather(lambda view: view.at(view.oracle.vs[0]) if len(view.oracle.vs) == 1 else None)
    if values is None:
        return []
    return [("g[..., None]" if group.views[0].trails(group.views[0].oracle.vs[0]) else "g", values)]


def residual(group: Group) -> Iterator[Found]:
    """One term that is missing or too many: a product of up to four arrays in reach."""
    with np.errstate(all="ignore"):
        names = [(n, d) for n, d in _names(group) if n.partition("[")[0] != "g"]
        atoms = _atoms(names)
        upstream = _upstream(group)
        linear = [*upstream, *_reductions(group)]
        levels: list[Callable[[], Terms]] = [
            lambda: [*names, *linear],
            lambda: [*atoms[len(names) :], *_table([*linear, *names], atoms)],
            lambda: _table(_table(upstream, names), atoms),
            lambda: _table(_table(linear[len(upstream) :], names), atoms),
            lambda: _table(_table(_table(upstream, names), names), atoms),
        ]
        count = len(names)
        sizes = (count, count**2 * 8, count**2 * 8, count**2 * 8 * len(linear), count**3 * 8)
        for level, size in zip(levels, sizes, strict=True):
            if size * len(group.a) <= MOST:
                found = list(_single(group, level()))
                yield from found
                if found:
                    return


def _said(names: list[str]) -> Iterator[tuple[str, str]]:
    for text in names:
        yield text, f"a term is missing or too many: numeric - analytic = {text}"


HINT = "a path of the chain rule, a summand of the product rule, a sign, or a penalty term"


def _single(group: Group, terms: Terms) -> Iterator[Found]:
    chosen = group.valid & np.isfinite(group.a)
    lost = -group.gap[chosen]
    terms = [(t, d) for t, d in terms if np.all(np.isfinite(d[chosen]))]
    if not terms or not lost.size:
        return
    table = np.stack([d[chosen] for _, d in terms])
    weight = np.sum(table**2, axis=1)
    c = np.where(weight > 0, table @ lost / np.where(weight > 0, weight, 1), 0)
    left = np.max(np.abs(lost - c[:, None] * table), axis=1)
    for j in np.flatnonzero(left <= 1e-4 * np.max(np.abs(lost))):
        text, d = terms[j]
        predicted = group.n - c[j] * d
        big = np.abs(d[chosen]) > 1e-6 * np.max(np.abs(d[chosen]))
        if big.sum() >= 4 and group.explains(predicted):
            for key, said in _said(times(scale_names(group.views[0], float(c[j])), float(c[j]), text)):
                yield Found("residual", key, said, HINT, group.rest(predicted))


def sums(group: Group) -> Iterator[Found]:
    """Two terms with sums over an axis of the upstream gradient: the wrong axis, the wrong array in a sum."""
    chosen = group.valid & np.isfinite(group.a)
    lost = -group.gap[chosen]
    if lost.size < 8:
        return
    with np.errstate(all="ignore"):
        names = [(n, d) for n, d in _names(group) if n.partition("[")[0] != "g"]
        linear = [*_upstream(group), *_reductions(group)]
        terms = [(t, d) for t, d in [*linear, *_table(linear, names)] if np.all(np.isfinite(d[chosen])) and np.any(d)]
        if not terms or len(terms) ** 2 * lost.size > 16 * MOST:
            return
        table = np.stack([d[chosen] for _, d in terms])
        table = table / np.sqrt(np.sum(table**2, axis=1, keepdims=True))
        product, right = table @ table.T, table @ lost
        scale = np.max(np.abs(lost))
        for i in range(len(terms)):
            p = product[i]
            free = 1 - p**2
            a, b = (right[i] - p * right) / free, (right - p * right[i]) / free
            left = np.max(np.abs(lost - a[:, None] * table[i] - b[:, None] * table), axis=1)
            for j in np.flatnonzero((left <= 1e-5 * scale) & (free > 1e-6)):
                if j > i:
                    yield from _pair(group, terms[i], terms[j])


def _pair(group: Group, first: tuple[str, Any], second: tuple[str, Any]) -> Iterator[Found]:
    (s, d), (t, e) = first, second
    chosen = group.valid & np.isfinite(group.a)
    pair = np.stack([d[chosen], e[chosen]], axis=1)
    c = np.linalg.lstsq(pair, -group.gap[chosen], rcond=None)[0]
    predicted = group.n - c[0] * d - c[1] * e
    if not group.explains(predicted):
        return
    view = group.views[0]
    ones = [times(scale_names(view, float(x)), float(x), text) for x, text in zip(c, (s, t), strict=True)]
    for one, other in itertools.product(*ones):
        text = f"{one} - {other[1:]}" if other.startswith("-") else f"{one} + {other}"
        yield Found("residual", text, f"numeric - analytic = {text}", HINT, group.rest(predicted))


def constant_gap(group: Group) -> Iterator[Found]:
    """A gap that is constant along an axis: the gradient through a statistic is missing."""
    gaps = []
    for view in group.views:
        if view.full is None or view.analytic.shape != view.x.shape:
            return
        gaps.append(view.full - view.analytic)
    for axis, length in enumerate(gaps[0].shape):
        flat = all(float(np.max(np.ptp(gap, axis=axis))) <= 1e-6 * float(np.max(np.abs(gap))) for gap in gaps)
        if length > 1 and gaps[0].size >= 6 and flat:
            yield Found(
                "residual",
                f"axis{axis}",
                f"numeric - analytic is constant along axis {axis}: the "
                "part of the gradient through a mean, sum or max over that axis is missing",
                "differentiate the statistic too, or use the closed form",
            )
            return
