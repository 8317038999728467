"""Whether a name that the checker gave to a mutant is true: judged without the checker.

The mutant and the right rule run in long double, at fresh points, with fresh upstream gradients and in
other shapes (another length for every length, so that a factor 15 cannot pass for a size), and the named
equation between their gradients must hold to 1e-9 of the mismatch every time.  A name whose equation
fails once is a wrong name.  The equations stand here a second time, on purpose: nothing of the checker's
own code is asked.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Rule = Callable[..., Any]
Shapes = list[tuple[tuple[int, ...], bool]]
OTHER = {1: 1, 2: 3, 3: 4, 5: 7, 7: 6, 11: 13}
LEAST = 1e-12  # of the larger gradient: a mutant that differs by less is no mistake
CLOSE = 1e-9
SINGLE = ", for each sample alone"


@dataclass
class Setting:
    """A fresh point: what the right rule and the mutant give there, and every name that a cause may use."""

    inputs: list[Any]
    names: list[str]
    g: Any
    y: Any
    right: list[Any]
    wrong: list[Any]
    held: dict[str, Any]
    rule: Rule
    mutant: Rule


def draw(shapes: Shapes, rng: np.random.Generator, kind: Any = np.float64) -> list[Any]:
    return [
        np.asarray(rng.uniform(0.3, 1.7, s) * (rng.choice([-1, 1], s) if signed else 1), kind) for s, signed in shapes
    ]


def fresh(shapes: Shapes, rows: int | None) -> Shapes:
    """Other lengths everywhere; the first input's first length is `rows`, if given."""
    batch = shapes[0][0][0]
    change = {n: OTHER[n] for shape, _ in shapes for n in shape}
    if rows is not None:
        change[batch] = rows
    return [(tuple(change[n] for n in shape), signed) for shape, signed in shapes]


def setting(rule: Rule, mutant: Rule, shapes: Shapes, rng: np.random.Generator) -> Setting | None:
    """Run both rules at a fresh point; None where the mutant raises there."""
    inputs = draw(shapes, rng, np.longdouble)
    y, back = rule(*[x.copy() for x in inputs])
    g = np.asarray(rng.standard_normal(np.shape(y)) + 0.1, np.longdouble)
    right = [np.asarray(d) for d in back(g.copy())]
    held: dict[str, Any] = {}

    def note(frame: Any, event: str, _argument: Any) -> None:
        if event == "return" and frame.f_code.co_filename == rule.__code__.co_filename:
            for name, value in frame.f_locals.items():
                if isinstance(value, (int, float, np.floating, np.ndarray)):
                    held.setdefault(name, np.array(value))

    try:
        with np.errstate(all="ignore"):
            sys.setprofile(note)
            wrong = [np.asarray(d) for d in mutant(*[x.copy() for x in inputs])[1](g.copy())]
    except Exception:  # noqa: BLE001 - an edit may ask for shapes that do not fit here
        return None
    finally:
        sys.setprofile(None)
    names = list(rule.__code__.co_varnames[: rule.__code__.co_argcount])
    return Setting(inputs, names, g, y, right, wrong, held, rule, mutant)


def live(rule: Rule, mutant: Rule, inputs: list[Any], rng: np.random.Generator) -> bool | None:
    """Whether a mutant's gradients differ in long double, for three upstream gradients; None if it raises."""
    wide = [x.astype(np.longdouble) for x in inputs]
    y, back = rule(*wide)
    for _ in range(3):
        g = np.asarray(rng.standard_normal(np.shape(y)), np.longdouble)
        right = back(g.copy())
        try:
            with np.errstate(all="ignore"):
                wrong = mutant(*[x.copy() for x in wide])[1](g.copy())
                mutant(*[x.copy() for x in inputs])[1](g.astype(np.float64))
        except Exception:  # noqa: BLE001 - a mutant that raises needs no checker
            return None
        if not isinstance(wrong, tuple) or len(wrong) != len(right):
            return None
        if any(np.asarray(d).dtype.kind not in "fiu" for d in wrong):
            return None  # no numbers: the text of an einsum, for instance
        for a, b in zip(right, wrong, strict=True):
            a, b = np.asarray(a), np.asarray(b)  # noqa: PLW2901 - their arrays
            if a.shape != b.shape or not np.all(np.abs(a - b) <= LEAST * np.max(np.abs(a))):
                return True
    return False


def true_name(cause: Any, rule: Rule, mutant: Rule, shapes: Shapes, rng: np.random.Generator) -> bool:
    """Whether what a cause says holds between the mutant's gradient and the right one, everywhere."""
    few = 9 if len(shapes[0][0]) > 1 else None
    places = [shapes, fresh(shapes, None), fresh(shapes, None), fresh(shapes, few)]
    if SINGLE in cause.sentence:
        places = [fresh(shapes, 1)] * 4
    tried = [setting(rule, mutant, there, rng) for there in places]
    known = [s for s in tried if s is not None]
    if tried[0] is None or not known:
        return False
    return JUDGES[cause.kind](cause, known) if cause.kind in JUDGES else False


# The equations, one for each kind


def _place(cause: Any, s: Setting) -> int:
    return s.names.index(cause.input)


def _gradients(cause: Any, s: Setting) -> tuple[Any, Any]:
    k = _place(cause, s)
    return s.wrong[k], s.right[k]


def equal(found: Any, said: Any, gap: Any) -> bool:
    """Whether two arrays are the same, to `CLOSE` of the largest mismatch and of the numbers' own rounding."""
    found, said = np.asarray(found), np.asarray(said)
    if found.shape != said.shape:
        return False
    scale = np.max(np.abs(gap), initial=0)
    return bool(scale > 0 and np.max(np.abs(found - said), initial=0) <= CLOSE * scale)


def space(s: Setting) -> dict[str, Any]:
    functions = {n: getattr(np, n) for n in ("exp", "log", "sin", "cos", "tanh", "abs", "sign", "sqrt")}
    functions["sum"] = lambda d, axis: np.sum(d, axis=axis, keepdims=True)
    functions |= {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "pi": np.pi, "e": math.e}
    return {**functions, **s.held, "y": np.asarray(s.y), "g": s.g, **dict(zip(s.names, s.inputs, strict=True))}


def values(text: str, s: Setting, shape: tuple[int, ...]) -> Iterator[Any]:
    """An expression's values, in every way in which they can be spread over the gradient's shape."""
    names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    known = space(s)
    if not names <= set(known):
        return
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(eval(text, {"__builtins__": {}}, known))  # noqa: S307 - the checker's own text
    except ValueError:  # arrays that do not fit each other
        return
    while found.ndim > len(shape) and found.shape[0] == 1:
        found = found[0]
    for candidate in (found, found[..., None]):
        try:
            yield np.broadcast_to(candidate, shape)
        except ValueError:
            continue


def _everywhere(cause: Any, settings: list[Setting], said: Callable[[Any, Setting], Iterator[Any]]) -> bool:
    """Whether in every setting one of the arrays that `said` gives is the mutant's gradient."""
    for s in settings:
        a, n = _gradients(cause, s)
        if a.shape != n.shape or not any(equal(a, predicted, a - n) for predicted in said(cause, s)):
            return False
    return True


def _factor(cause: Any, s: Setting) -> Iterator[Any]:
    n = _gradients(cause, s)[1]
    for value in values(cause.detail, s, ()):
        yield value * n


def _ratio(cause: Any, s: Setting) -> Iterator[Any]:
    k = _place(cause, s)
    n = s.right[k]
    if cause.detail == "f'(x)":
        yield n * n / s.g if n.shape == s.g.shape else np.full(n.shape, np.nan)
        return
    for d in values(cause.detail, s, n.shape):
        with np.errstate(all="ignore"):
            yield n * d


def _local(cause: Any, s: Setting) -> Iterator[Any]:
    n = _gradients(cause, s)[1]
    if cause.detail in {"g", "1"}:
        yield s.g
    elif n.shape == s.g.shape:
        for d in values(cause.detail, s, n.shape):
            yield s.g * d


def _residual(cause: Any, settings: list[Setting]) -> bool:
    if cause.detail.startswith("axis"):
        axis = int(cause.detail[4:])
        gaps = [n - a for a, n in (_gradients(cause, s) for s in settings)]
        return all(np.max(np.ptp(gap, axis=axis)) <= CLOSE * np.max(np.abs(gap)) for gap in gaps)
    for s in settings:
        a, n = _gradients(cause, s)
        if a.shape != n.shape or not any(equal(n - a, said, n - a) for said in values(cause.detail, s, n.shape)):
            return False
    return True


def _swapped(cause: Any, s: Setting) -> Iterator[Any]:
    yield s.right[s.names.index(cause.detail)]


def _moved(cause: Any, settings: list[Setting]) -> bool:
    """The mutant's gradient with its entries elsewhere is the right one."""
    for s in settings:
        a, n = _gradients(cause, s)
        text = cause.detail
        known = np.ones(n.shape, bool)
        if text == "transposed":
            moved = a.T
        elif text.startswith("permuted: transpose"):
            moved = a.transpose(ast.literal_eval(text.removeprefix("permuted: transpose")))
        elif text.startswith("flipped along axis"):
            moved = np.flip(a, tuple(int(i) for i in text.removeprefix("flipped along axis ").split(",")))
        elif text.startswith(("shifted by", "rolled by")):
            words = text.split()
            by, axis = -int(words[2]), int(words[5])
            moved = np.roll(a, by, axis)
            if words[0] == "shifted":
                edge = [slice(None)] * a.ndim
                edge[axis] = slice(0, by) if by > 0 else slice(by, None)
                known[tuple(edge)] = False
        elif text.startswith("read in Fortran"):
            moved = a.ravel(order="F").reshape(a.shape)
        elif text.startswith("written in Fortran"):
            moved = a.ravel().reshape(a.shape, order="F")
        elif text == "reshaped instead of transposed":
            moved = a.reshape(a.shape[::-1]).T
        else:
            return False
        if moved.shape != n.shape or not equal(moved[known], n[known], a - n):
            return False
    return True


def tangent(s: Setting, k: int, u: Any) -> Any:
    """J u by differences of long doubles of sixth order, good to about 1e-14."""
    total = 0.0
    for times, weight in ((1, 45), (2, -9), (3, 1)):
        ends = []
        for sign in (1, -1):
            inputs = list(s.inputs)
            inputs[k] = inputs[k] + sign * times * np.longdouble(2.0**-12) * u
            ends.append(np.asarray(s.rule(*inputs)[0]))
        total = total + weight * (ends[0] - ends[1])
    return total / (60 * np.longdouble(2.0**-12))


def _product(cause: Any, s: Setting) -> Iterator[Any]:
    k = _place(cause, s)
    shape = s.inputs[k].shape
    if s.g.size == s.inputs[k].size:
        yield tangent(s, k, s.g.reshape(shape)).reshape(shape)


def _diagonal(cause: Any, s: Setting) -> Iterator[Any]:
    k = _place(cause, s)
    if s.g.shape == s.inputs[k].shape:
        found = np.zeros(s.g.shape, np.longdouble)
        for entry in range(s.g.size):
            u = np.zeros(s.g.shape, np.longdouble)
            u.flat[entry] = 1
            found.flat[entry] = tangent(s, k, u).flat[entry] * s.g.flat[entry]
        yield found


def _sum_axis(cause: Any, s: Setting) -> Iterator[Any]:
    k = _place(cause, s)
    x, y = s.inputs[k], np.asarray(s.y)
    inputs = list(s.inputs)
    inputs[k] = np.broadcast_to(x, y.shape).copy()
    each = np.asarray(s.rule(*inputs)[1](s.g)[k])
    words = cause.detail.split()
    if words[0] == "summed":
        total = each.sum(axis=ast.literal_eval(cause.detail.removeprefix("summed over axis ")))
        if total.size == x.size:
            yield total.reshape(x.shape)
    else:
        part = np.take(each, int(words[1]), axis=int(words[4]))
        if part.size == x.size:
            yield part.reshape(x.shape)


def _shape(cause: Any, settings: list[Setting]) -> bool:
    for s in settings:
        a, n = _gradients(cause, s)
        if a.shape == n.shape:
            return False
        if cause.detail.startswith("sum"):
            axes = ast.literal_eval(cause.detail[3:])
            sums = [a.sum(axis=axes), a.sum(axis=axes, keepdims=True)] if max(axes) < a.ndim else []
            if not any(total.shape == n.shape and np.allclose(total, n, rtol=1e-9) for total in sums):
                return False
        elif cause.detail in {"reshape", "transposed"}:
            other = a.T if cause.detail == "transposed" else a.reshape(n.shape) if a.size == n.size else a
            if other.shape != n.shape or not np.allclose(other, n, rtol=1e-9):
                return False
    return True


def _region(cause: Any, settings: list[Setting]) -> bool:
    for s in settings:
        a, n = _gradients(cause, s)
        if a.shape != n.shape:
            return False
        wrong = np.abs(a - n) > 1e-12 * np.maximum(np.abs(a), np.abs(n))
        place, _, axis = cause.detail.partition(" of axis ")
        if axis:
            at = np.indices(n.shape)[int(axis)]
            last = n.shape[int(axis)] - 1
            masks = {
                "first entry": at == 0,
                "last entry": at == last,
                "inside": (at > 0) & (at < last),
                "both ends": (at == 0) | (at == last),
            }
            fits = np.array_equal(masks[place], wrong)
        else:
            fits = any(np.array_equal(mask, wrong) for mask in values(cause.detail, s, n.shape))
        if not fits:
            return False
    return True


def _eps(cause: Any, settings: list[Setting]) -> bool:
    constant, power, times, text = cause.detail.split(" ", 3)
    shifts = []
    for s in settings:
        a, n = _gradients(cause, s)
        if a.shape != n.shape or n.shape != s.g.shape:
            return False
        fits = False
        for weight in values(text, s, n.shape):
            root = [(float(times) * np.abs(weight * s.g / d)) ** (1 / np.longdouble(power)) for d in (n, a)]
            shift = root[0] - root[1]
            middle = np.median(shift)
            if np.max(np.abs(shift - middle)) <= 1e-6 * abs(middle):
                shifts.append(float(middle))
                fits = True
                break
        if not fits:
            return False
    return all(abs(c - float(constant)) <= 0.01 * abs(float(constant)) for c in shifts)


def _zero(cause: Any, settings: list[Setting]) -> bool:
    sizes = [[np.max(np.abs(d)) for d in _gradients(cause, s)] for s in settings]
    return all(a <= LEAST * n for a, n in sizes)


def _nonfinite(cause: Any, settings: list[Setting]) -> bool:
    return all(
        not np.all(np.isfinite(_gradients(cause, s)[0])) and np.all(np.isfinite(_gradients(cause, s)[1]))
        for s in settings
    )


def _again(s: Setting, g: Any) -> list[Any]:
    with np.errstate(all="ignore"):
        return [np.asarray(d) for d in s.mutant(*[x.copy() for x in s.inputs])[1](g)]


def _differ(first: list[Any], second: list[Any]) -> bool:
    return any(
        a.shape != b.shape or not np.all(np.abs(a - b) <= CLOSE * np.max(np.abs(a), initial=0))
        for a, b in zip(first, second, strict=True)
    )


def _nonlinear(_cause: Any, settings: list[Setting]) -> bool:
    return all(_differ(_again(s, -3 * s.g), [-3 * d for d in s.wrong]) for s in settings)


def _ignores(_cause: Any, settings: list[Setting]) -> bool:
    return all(not _differ(_again(s, -3 * s.g), s.wrong) for s in settings)


def _mutates(cause: Any, settings: list[Setting]) -> bool:
    for s in settings:
        inputs, g = [x.copy() for x in s.inputs], s.g.copy()
        with np.errstate(all="ignore"):
            s.mutant(*inputs)[1](g)
        changed = [not np.array_equal(a, b, equal_nan=True) for a, b in zip(inputs, s.inputs, strict=True)]
        upstream = not np.array_equal(g, s.g, equal_nan=True)
        if not (upstream if cause.kind == "mutates-upstream" else any(changed)):
            return False
    return True


def _repeats(_cause: Any, settings: list[Setting]) -> bool:
    for s in settings:
        back = s.mutant(*[x.copy() for x in s.inputs])[1]
        first = [np.array(d) for d in back(s.g.copy())]
        if not _differ(first, [np.asarray(d) for d in back(s.g.copy())]):
            return False
    return True


def _by_equation(said: Callable[[Any, Setting], Iterator[Any]]) -> Callable[[Any, list[Setting]], bool]:
    return lambda cause, settings: _everywhere(cause, settings, said)


JUDGES: dict[str, Callable[[Any, list[Setting]], bool]] = {
    "factor": _by_equation(_factor),
    "ratio": _by_equation(_ratio),
    "local": _by_equation(_local),
    "swapped": _by_equation(_swapped),
    "jvp": _by_equation(_product),
    "diagonal": _by_equation(_diagonal),
    "sum-axis": _by_equation(_sum_axis),
    "residual": _residual,
    "permuted": _moved,
    "shape": _shape,
    "keepdims": _shape,
    "region": _region,
    "eps": _eps,
    "zero": _zero,
    "none": _zero,
    "nonfinite": _nonfinite,
    "nonlinear": _nonlinear,
    "ignores-upstream": _ignores,
    "mutates": _mutates,
    "mutates-upstream": _mutates,
    "accumulates": _repeats,
    "unrepeatable": _repeats,
}
