"""Causes that are expressions: a factor too many, another local derivative, an eps, a region."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn.testing.views import Found, Group, View

__all__ = ["epsilon", "extra", "functions", "local", "local_derivative", "multiples", "over", "region", "varies"]


def functions(name: str, d: Any) -> Iterator[tuple[str, Any]]:
    """Expressions that appear in derivatives, of one array."""
    yield name, d
    yield f"{name}**2", d * d
    yield f"{name}**3", d**3
    yield f"(1 - {name})", 1 - d
    yield f"(1 + {name})", 1 + d
    yield f"{name}*(1-{name})", d * (1 - d)
    yield f"(1 - {name}**2)", 1 - d * d
    yield f"(1 + {name}**2)", 1 + d * d
    yield f"(1 - 2*{name})", 1 - 2 * d
    if np.all(d > 0):
        yield f"sqrt({name})", np.sqrt(d)
        yield f"log({name})", np.log(d)
    if np.max(np.abs(d), initial=0) < 300:
        e = np.exp(d)
        s = 1 / (1 + 1 / e)
        t = np.tanh(d)
        yield f"exp({name})", e
        yield f"exp(-{name})", 1 / e
        yield f"(exp({name}) - 1)", e - 1
        yield f"(1 + exp({name}))", 1 + e
        yield f"sigmoid({name})", s
        yield f"sigmoid(-{name})", 1 - s
        yield f"sigmoid({name})*(1-sigmoid({name}))", s * (1 - s)
        yield f"tanh({name})", t
        yield f"(1 - tanh({name})**2)", 1 - t * t
        yield f"exp(-{name}**2)", np.exp(-d * d)
        yield f"exp(-{name}**2/2)", np.exp(-d * d / 2)
    yield f"sin({name})", np.sin(d)
    yield f"cos({name})", np.cos(d)
    yield f"abs({name})", np.abs(d)
    yield f"sign({name})", np.sign(d)


def over(text: str) -> str:
    """An expression's reciprocal, as text."""
    closed = text.startswith("(") or "*(" not in text
    return f"1/{text}" if closed else f"1/({text})"


def varies(d: Any) -> bool:
    """Whether an array is worth naming: finite and not constant."""
    return bool(d.size >= 2 and np.all(np.isfinite(d)) and np.ptp(d) > 1e-6 * np.max(np.abs(d)))


TIMES = (("", 1.0), ("-", -1.0), ("2*", 2.0), ("0.5*", 0.5), ("-2*", -2.0), ("-0.5*", -0.5))


def _expressions(group: Group) -> Iterator[tuple[str, Any]]:
    # the simplest expression of any array comes first
    with np.errstate(all="ignore"):
        lists = [functions(name, d) for name, d in group.dictionary() if d.dtype.kind == "f" and varies(d)]
        for level in itertools.zip_longest(*lists):
            for text, values in filter(None, level):
                if varies(values):
                    yield text, values


def extra(group: Group) -> Iterator[Found]:
    """An extra or missing factor that is an expression of an array in reach."""
    local = local_derivative(group)
    if local is not None and group.explains(group.n * local):
        yield Found(
            "ratio",
            "f'(x)",
            "the local derivative is applied twice",
            "multiply by it once",
            group.rest(group.n * local),
        )
    if (
        local is not None
        and varies(local)
        and group.explains(np.where(local != 0, group.n / np.where(local == 0, 1, local), group.a))
    ):
        yield Found(
            "local",
            "g",
            "the upstream gradient is passed on unchanged: the local derivative is missing",
            "multiply by f'(x)",
        )
    yield from multiples(group)


def multiples(group: Group) -> Iterator[Found]:
    """Numeric times, or divided by, an expression of an array in reach."""
    with np.errstate(all="ignore"):
        for text, d in _expressions(group):
            for mark, c in TIMES:
                for name, predicted in ((f"{mark}{text}", c * group.n * d), (f"{mark}{over(text)}", c * group.n / d)):
                    if group.explains(predicted):
                        yield Found("ratio", name, f"analytic / numeric = {name}", _hint(name), group.rest(predicted))


def _hint(factor: str) -> str:
    """What a factor too many may be."""
    square = re.fullmatch(r"\((1 - (\w+)\*\*2)\)", factor)
    logistic = re.fullmatch(r"((\w+)\*\(1-(\w+)\))", factor)
    known = square or logistic
    if known:
        name = "tanh" if square else "sigmoid"
        return f"{known[1]} is the derivative of a {name} with output {known[2]}: it is multiplied in once too often"
    return "this factor is multiplied in once too often, or divided out: check where it belongs"


def local_derivative(group: Group) -> Any:
    """The derivative of an element-wise function at the entries; None where entries mix."""

    def own(view: View) -> Any:
        v = view.oracle.vs[0]
        if len(view.oracle.vs) > 1 or v.shape != view.x.shape or not v.all():
            return None
        numeric = view.numeric / v.ravel()[view.where]
        ones = view.forward_slope(np.ones(view.x.shape))[0].ravel()[view.where]
        scale = np.max(np.abs(numeric), initial=0, where=np.isfinite(numeric))
        return numeric if np.allclose(numeric, ones, rtol=1e-6, atol=1e-6 * scale, equal_nan=True) else None

    return group.gather(own)


def local(group: Group) -> Iterator[Found]:
    """Another expression in the place of the local derivative of an element-wise function."""
    if local_derivative(group) is None:
        return
    v = group.gather(lambda view: view.oracle.vs[0].ravel()[view.where])
    if group.explains(v):
        yield Found(
            "local", "1", "local derivative used: 1 (the upstream gradient is passed on unchanged)", "multiply by f'(x)"
        )
    with np.errstate(all="ignore"):
        for name, d in group.dictionary():
            if d.dtype.kind == "f" and varies(d):
                masks = [(f"({name} > 0)", (d > 0) * 1.0), (f"({name} < 0)", (d < 0) * 1.0)]
                for text, values in [*functions(name, d), *masks]:
                    for mark, c in TIMES:
                        for form, each in ((f"{mark}{text}", c * values), (f"{mark}{over(text)}", c / values)):
                            if np.all(np.isfinite(each)) and group.explains(v * each):
                                hint = "compare with the derivative of the forward: of the input, or of the output?"
                                yield Found("local", form, f"local derivative used: {form}", hint, group.rest(v * each))


def epsilon(group: Group) -> Iterator[Found]:
    """A small constant in the denominator on one side only."""
    if local_derivative(group) is None:
        return
    v = group.gather(lambda view: view.oracle.vs[0].ravel()[view.where])
    chosen = group.informative
    found: list[tuple[bool, bool, Found]] = []
    with np.errstate(all="ignore"):
        for power in (1.0, 0.5, 1.5, 2.0, 3.0):
            a, n = np.abs(group.a[chosen] / v[chosen]), np.abs(group.n[chosen] / v[chosen])
            scale = 1.0
            for text, values in (("1", np.ones(len(v))), *_expressions(group)):
                weight = np.abs(values[chosen])
                for constant in (1.0, 0.5, 2.0):
                    shift = (constant * weight / n) ** (scale / power) - (constant * weight / a) ** (scale / power)
                    middle = float(np.median(shift))
                    spread = float(np.max(np.abs(shift - middle), initial=0))
                    if np.isfinite(spread) and 1e-13 < abs(middle) < 0.2 and spread <= 1e-4 * abs(middle):
                        side = "forward but not in the backward" if middle > 0 else "backward but not in the forward"
                        words = f"eps is in the {side} (power {power:g}, times {text})"
                        said = f"denominators differ by {abs(middle):.3g}: {words}"
                        key = f"{middle:.3g} {power:g} {constant:g} {text}"
                        uneven = abs(float(f"{middle:.1g}") - middle) > 1e-4 * abs(middle)
                        found.append((spread > 1e-7 * abs(middle), uneven, Found("eps", key, said)))
    # an exact one first, since others come close where eps is small; then a round one, as people write them
    yield from (f for _, _, f in sorted(found, key=lambda triple: triple[:2]))


def region(group: Group) -> Iterator[Found]:
    """Right in one region and wrong in another."""
    top = np.max(np.abs(group.gap), initial=0, where=group.valid)
    size = np.maximum(np.abs(group.a), np.abs(group.n))
    wrong = (np.abs(group.gap) > 1e-8 * np.maximum(size, 1e-4 * top))[group.valid]
    if min(wrong.sum(), (~wrong).sum()) < 2:
        return
    with np.errstate(all="ignore"):
        for name, d in group.dictionary():
            if d.dtype.kind == "f" and varies(d):
                values = d[group.valid]
                for bound in (0.0, 1.0, -1.0, 0.5, 2.0):
                    for sign, mask in (("<", values < bound), (">", values > bound)):
                        if np.array_equal(mask, wrong):
                            said = f"wrong only where {name} {sign} {bound:g}"
                            yield Found(
                                "region", f"{name} {sign} {bound:g}", said, "that branch of the backward is wrong"
                            )
    for axis in range(group.views[0].x.ndim):
        place = group.gather(lambda v, axis=axis: np.unravel_index(v.where, v.x.shape)[axis])[group.valid]
        lengths = {v.x.shape[axis] for v in group.views}
        if len(lengths) > 1 or max(lengths) < 2:
            continue
        last = lengths.pop() - 1
        for text, mask in (
            (f"first entry of axis {axis}", place == 0),
            (f"last entry of axis {axis}", place == last),
            (f"inside of axis {axis}", (place > 0) & (place < last)),
            (f"both ends of axis {axis}", (place == 0) | (place == last)),
        ):
            if np.array_equal(mask, wrong):
                yield Found("region", text, f"wrong only at the {text}", "off by one, or an edge that is treated apart")
