"""Why a gradient is wrong: equations between the analytic and the numeric gradient, tried one by one.

A name is given only when its equation explains the mismatch to 1e-4 on at least four informative
entries, and again at a second point and for a second batch size.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import numpy as np

from tinygrad_nn.testing import patterns
from tinygrad_nn.testing.report import Cause
from tinygrad_nn.testing.views import Found, Group, View, elsewhere, narrowed, resized

__all__ = ["View", "explain"]

UNKNOWN = "no known pattern fits"
SINGLE = ", for each sample alone"


class _Samples:
    """The groups on which an explanation must hold; those beside the first are made when one holds there."""

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        self.view = view
        self.rng = rng
        self.few = int(np.sum(Group([view]).informative)) < 6
        self.extra = 8 if view.x.size < 2 else 4
        self.main = Group([view, *elsewhere(view, rng, self.extra)] if self.few else [view])
        first = view.oracle.points[0]
        self.batch = first.shape[0] if np.ndim(first) else 0

    @functools.cached_property
    def others(self) -> list[Group]:
        """Far away, with fewer samples, and with another length in the place of every other one."""
        view, rng = self.view, self.rng
        count = self.extra + 1 if self.few else 2
        second = elsewhere(view, rng, count, far=True)
        second = second if len(second) == count else elsewhere(view, rng, count)
        found = [Group(second)] if second else []
        for rows in (self.batch - 1, self.batch - 2):
            times = self.extra + 1 if self.few else 1
            smaller = [resized(view, rng, slice(0, rows)) for _ in range(times)] if rows > 1 else []
            if smaller and all(s is not None for s in smaller):
                found.append(Group([s for s in smaller if s is not None]))
                break
        narrow = [Group(views) for views in narrowed(view, rng, self.extra + 1 if self.few else 1)]
        return found + [g for g in narrow if int(np.sum(g.informative)) >= 4]

    @functools.cached_property
    def single(self) -> list[Group]:
        """Two samples, each alone: the sum over a batch hides what belongs to each."""
        singles = [resized(self.view, self.rng, slice(j, j + 1)) for j in range(2)] if self.batch > 1 else []
        return [Group([s]) for s in singles if s is not None]


def explain(view: View, rng: np.random.Generator, tolerance: float) -> Cause:
    """Name the reason for a wrong gradient, or say that no known pattern fits."""
    name = view.problem.names[view.k]
    direct = patterns.shape(view) or patterns.missing(view, rng) or patterns.special(view)
    if direct is not None:
        return Cause(direct.kind, name, direct.sentence, "", direct.hint, direct.key)
    if not np.all(np.isfinite(view.analytic)):
        return Cause("nonfinite", name, "NaN or infinity where the derivative is finite")
    samples = _Samples(view, rng)
    for family in patterns.FAMILIES:
        found = _agreed(family, samples.main, lambda: samples.others)
        if found is not None:
            return _cause(found, name, 1 + len(samples.others))
    for family in patterns.ONE_SAMPLE:
        if len(samples.single) == 2:
            found = _agreed(family, samples.single[0], lambda: samples.single[1:])
            if found is not None:
                found.sentence += SINGLE
                return _cause(found, name, 2)
    return Cause("unknown", name, UNKNOWN, _facts(samples.main, tolerance))


def _cause(found: Found, name: str, count: int) -> Cause:
    evidence = f"to {max(found.rest, 1e-16):.0e}, confirmed on {count} samples"
    return Cause(found.kind, name, found.sentence, evidence, found.hint, found.key)


def _agreed(
    family: Callable[[Group], Iterator[Found]], group: Group, others: Callable[[], list[Group]]
) -> Found | None:
    """The first explanation of a group that holds for all others too."""
    if int(np.sum(group.informative)) < 4:
        return None
    with contextlib.suppress(FloatingPointError, np.linalg.LinAlgError):
        first = list(family(group))
        if first and others() and all(int(np.sum(g.informative)) >= 4 for g in others()):
            keys = [{f.key for f in family(other)} for other in others()]
            for found in first:
                if all(found.key in known for known in keys):
                    agreed = [f.key for f in first if all(f.key in known for known in keys)]
                    if found.kind == "factor":
                        same = [key for key in dict.fromkeys(agreed) if key != found.key and _is_a_length(key)]
                        found.sentence += f" ({' = '.join([found.key, *same[:3]])})" if same else ""
                    return found
    return None


def _is_a_length(text: str) -> bool:
    """Whether a factor names one length or size, and no number beside it."""
    return text.count("shape") + text.count("size") == 1 and "- 1" not in text and not text[-1].isdigit()


def _facts(group: Group, tolerance: float) -> str:
    ratio = group.a[group.informative] / group.n[group.informative]
    wrong = np.abs(group.gap) > max(10 * tolerance, 1e-9) * np.maximum(np.abs(group.a), np.abs(group.n))
    return (
        f"{int(wrong.sum())} of {len(group.a)} entries differ, ratios {ratio.min():.3g} to {ratio.max():.3g}"
        if (ratio.size)
        else f"{int(wrong.sum())} of {len(group.a)} entries differ"
    )
