"""What a check found, and how it is told: at most 25 lines of 120 columns, whatever the sizes."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from tinygrad_nn.checks import flag, told
from tinygrad_nn.errors import ArgumentError, TinygradError

__all__ = [
    "CONTRACT",
    "KINDS",
    "KINK",
    "NOT_COMPARED",
    "OK",
    "VAGUE",
    "WRONG",
    "Cause",
    "GradientError",
    "InputReport",
    "Report",
]

OK = "ok"
WRONG = "WRONG"
KINK = "KINK"
VAGUE = "VAGUE"
CONTRACT = "CONTRACT"
NOT_COMPARED = "not compared"

WIDTH = 120
LINES = 25
COLOURS = {WRONG: "31", CONTRACT: "31", KINK: "33", VAGUE: "33", OK: "32"}


KINDS = {
    "factor": "analytic = a constant x numeric: a number, a size, a ratio of sizes",
    "ratio": "analytic / numeric is an expression of arrays in reach: a factor too many, one in the place of another",
    "local": "another expression in the place of the derivative of an element-wise function",
    "residual": "numeric - analytic is a term: missing, doubled, or of another sign",
    "region": "wrong only where an array has some sign or size, or at the edge of an axis",
    "eps": "a small constant in a denominator on one side only",
    "permuted": "the right numbers in the wrong places: transposed, flipped, shifted, another reshape order",
    "swapped": "the gradient of another input",
    "jvp": "J v in place of J^T v",
    "diagonal": "only the diagonal of the Jacobian",
    "scatter": "rows used more than once keep one contribution",
    "sum-axis": "summed over another axis than the one that was broadcast",
    "shape": "a gradient of another shape than its input's, such as a missing sum",
    "keepdims": "right values in another shape",
    "none": "no gradient, though the output depends on the input",
    "zero": "zeros, though the output depends on the input",
    "nonfinite": "NaN or infinity where the derivative is finite",
    "cast": "rounded to a narrower float, or to whole numbers",
    "dtype": "a gradient that is no real number",
    "node": "wrong in one recorded call by itself, where the whole is at a kink or too rough to tell",
    "ties": "right next door, wrong at a tie or kink",
    "forward": "the rule's own forward computes something else",
    "nonlinear": "not linear in the upstream gradient",
    "ignores-upstream": "the same for every upstream gradient",
    "stale": "changed by another forward in between",
    "frozen": "right at the first call, wrong at a later one",
    "accumulates": "a second backward adds to the first",
    "unrepeatable": "a second backward gives other numbers",
    "overwrites": "a later backward writes into what an earlier one returned",
    "updates-first": "parameters are updated before the input's gradient is worked out from them",
    "empty": "a batch without samples gives gradients of other shapes",
    "mutates": "an input is changed in place",
    "mutates-upstream": "the upstream gradient is changed in place",
    "layout": "depends on how the upstream gradient or the inputs lie in memory",
    "aliased": "one array passed twice gives something else than two equal ones",
    "random": "two forwards of the same inputs differ",
    "unknown": "no known pattern fits",
}


@dataclass
class Cause:
    """One reason for a failure.

    Attributes
    ----------
    kind : a stable word, a key of `KINDS`
    input : the name of the input, or "" for the function as a whole
    sentence : what was found
    evidence : how well it explains the numbers
    hint : what to look for in the code
    detail : what the kind leaves open, as a stable text: the factor, the expression, the axis
    """

    kind: str
    input: str
    sentence: str
    evidence: str = ""
    hint: str = ""
    detail: str = ""


@dataclass
class InputReport:
    """The verdict on the gradient of one input, and the numbers behind it.

    `error` is the largest difference relative to the larger of both gradients; where only
    projections were compared, relative to the sum of the magnitudes of their terms.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str = OK
    analytic: float = 0.0
    numeric: float = 0.0
    error: float = 0.0
    index: tuple[int, ...] | None = None
    pair: tuple[float, float] | None = None
    wrong: int = 0
    looked: int = 0
    oracle: str = ""
    noise: float = 0.0
    taylor: float | None = None
    note: str = ""


@dataclass
class Report:
    """What `check_gradients` found: truthy exactly when every gradient is right.

    Attributes
    ----------
    call : the call as text
    results : one `InputReport` for each checked input
    causes : one `Cause` or more for each failure, the most telling first
    where : the file and line of the first wrong backward, if it was found
    coverage : recorded calls that no gradient reached, and branches that no entry with a gradient took
    skipped, notes : what was not checked and why; what is worth knowing
    seed, evaluations, tolerance : how the check ran
    inputs : what the function was called with
    """

    call: str
    results: list[InputReport] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    where: str = ""
    coverage: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seed: int = 0
    evaluations: int = 0
    tolerance: float = 0.0
    repro: str = ""
    inputs: tuple[Any, ...] = field(default=(), compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether no gradient is wrong and no contract is broken."""
        return not any(r.verdict in {WRONG, CONTRACT} for r in self.results) and not self.causes

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> InputReport:
        found = [r for r in self.results if isinstance(name, str) and r.name == name]
        if not found:
            raise ArgumentError(f"{told(name)} is no checked input: they are {', '.join(r.name for r in self.results)}")
        return found[0]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the inputs as plain dicts, lists, strings and numbers; NaN and infinity as text."""
        return {
            "ok": self.ok,
            "call": self.call,
            "results": [_plain(vars(r)) for r in self.results],
            "causes": [dict(vars(c)) for c in self.causes],
            "where": self.where,
            "coverage": list(self.coverage),
            "skipped": list(self.skipped),
            "notes": list(self.notes),
            "seed": self.seed,
            "evaluations": self.evaluations,
            "tolerance": self.tolerance,
            "repro": self.repro,
        }

    def __str__(self) -> str:
        return self.render(colour=False)

    def render(self, colour: bool | None = None) -> str:
        """Return the report as text; `colour` None: as NO_COLOR and FORCE_COLOR say, else on a terminal."""
        colour = coloured() if colour is None else flag("colour", colour)
        lines = [self._headline(), *self._table(), *self._oracle()]
        if self.where:
            lines += wrap(f"WHERE  {self.where}", 2)
        for k, cause in enumerate(self.causes[:3]):
            about = f"{middle(cause.input, 50)}: " if cause.input else ""
            evidence = f", {cause.evidence}" if cause.evidence else ""
            lines += wrap(f"{'WHY' if not k else '':5}  {about}{cause.kind}: {cause.sentence}{evidence}", 2)
            if cause.hint and (not k or cause.hint != self.causes[k - 1].hint):
                lines += wrap(f"       -> {cause.hint}", 2)
        if len(self.causes) > 3:
            lines.append(f"       ... and {len(self.causes) - 3} more in report.causes")
        lines += self._facts()
        lines += [clip(f"NOTE   {text}") for text in self.notes[:2]]
        lines += [clip(f"COVER  {text}") for text in self.coverage[:2]]
        if self.skipped:
            lines.append(clip(f"SKIP   {'; '.join(self.skipped)}"))
        repro = [clip(f"REPRO  {self.repro}")] if self.repro and not self.ok else []
        text = "\n".join([*lines[: LINES - len(repro)], *repro])
        return paint(text) if colour else text

    def _headline(self) -> str:
        wrong = sum(r.verdict == WRONG for r in self.results)
        count = len(self.results)
        if wrong:
            said = f"{wrong} of {count} gradients {'is' if wrong == 1 else 'are'} wrong"
        elif self.ok:
            said = "the gradient is right" if count == 1 else f"all {count} gradients are right"
            if any(r.verdict == VAGUE for r in self.results):
                said = "nothing wrong found, but the numbers are too rough to tell everywhere (VAGUE)"
        elif all(r.note == NOT_COMPARED for r in self.results):
            said = "nothing was compared"
        elif any(c.kind == "node" for c in self.causes):
            said = "the rule of one recorded call is wrong"
        else:
            said = "the numbers are right, but the backward pass breaks a contract"
        room = WIDTH - len(said) - 17  # "GradientError: " goes in front
        return f"{clip(self.call, room)}: {said}"

    def _table(self) -> list[str]:
        shown = sorted(self.results, key=lambda r: r.verdict not in {WRONG, CONTRACT})[:7]
        order = {id(r): k for k, r in enumerate(self.results)}
        cells = [("input", "shape", "max|analytic|", "max|numeric|", "worst error", "verdict")]
        for r in sorted(shown, key=lambda r: order[id(r)]):
            worst = f"{percent(r.error)}" + (f" at {list(r.index)}" if r.index is not None and r.wrong else "")
            verdict = r.verdict + (f"  {r.wrong}/{r.looked} entries" if r.wrong else "")
            name = middle(f"{order[id(r)]} {r.name}", 22)
            cells.append(
                (name, clip(str(r.shape), 18), f"{r.analytic:.3g}", f"{r.numeric:.3g}", clip(worst, 21), verdict)
            )
        widths = [max(len(row[k]) for row in cells) for k in range(5)]
        lines = ["  " + "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]]) for row in cells]
        left = [r for r in self.results if not any(r is s for s in shown)]
        if left:
            wrong = sum(r.verdict in {WRONG, CONTRACT} for r in left)
            lines.append(f"  ... {len(left)} more inputs, {wrong} of them wrong")
        return [clip(line) for line in lines]

    def _oracle(self) -> list[str]:
        methods = sorted({r.oracle for r in self.results if r.oracle})
        if not methods:
            return []
        noise = max(r.noise for r in self.results)
        confirmed = ", confirmed by 4 real differences" if "complex step" in methods else ""
        said = f"  oracle: {' and '.join(methods)}{confirmed}; noise {noise:.0e}, tolerance {self.tolerance:.0e}"
        return [clip(f"{said}; {self.evaluations} runs, seed {self.seed}")]

    def _facts(self) -> list[str]:
        lines: list[str] = []
        told = [r for r in self.results if r.verdict == WRONG] + [
            r for r in self.results if r.verdict == VAGUE and r.note
        ]
        for r in told[:3]:
            facts = []
            if r.pair is not None and r.index is not None:
                analytic, numeric = r.pair
                place = middle(f"{r.name}{list(r.index) if r.index else ''}", 36)
                facts.append(f"{place}: analytic {analytic:.7g}, numeric {numeric:.7g}")
                if numeric and analytic == analytic:  # noqa: PLR0124 - not NaN
                    facts.append(f"ratio {analytic / numeric:.3g}")
            elif r.note:
                facts.append(f"{middle(r.name, 36)}: {r.note}")
            if r.taylor is not None:
                facts.append(f"Taylor remainder order {r.taylor:.2f} (2 = right)")
            if facts:
                lines.append(clip(f"{'FACTS' if not lines else '':5}  {'; '.join(facts)}"))
        return lines


class GradientError(TinygradError, AssertionError):
    """A derivative that is wrong, or a backward pass that breaks a contract; `report` says which.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_nn.testing import check_gradients
    >>> try:
    ...     check_gradients(np.sin, np.ones(3), rule=lambda x: (np.sin(x), lambda g: (-g * np.cos(x),)))
    ... except GradientError as error:
    ...     error.report.causes[0].kind
    'factor'
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report
        self.brief = False  # test runners that show the report elsewhere set it

    def __str__(self) -> str:
        text = str(self.report)
        return text.split("\n", maxsplit=1)[0] if self.brief else text


def percent(error: float) -> str:
    """A relative error for people: per cent when it is large, a power of ten when it is small."""
    return f"{100 * error:.3g} %" if error >= 0.001 else f"{error:.0e}"


def coloured() -> bool:
    """Whether standard output takes colours: NO_COLOR and FORCE_COLOR decide before the terminal does."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def middle(text: str, width: int) -> str:
    """At most `width` columns: the beginning and the end."""
    if len(text) <= width:
        return text
    left = (width - 3) // 2
    return f"{text[:left]}...{text[len(text) - (width - 3 - left) :]}"


def clip(text: str, width: int = WIDTH) -> str:
    """At most `width` columns."""
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def wrap(text: str, most: int) -> list[str]:
    """At most `most` lines of the report's width, continued under the text."""
    lines: list[str] = []
    while text and len(lines) < most:
        room = WIDTH
        if len(text) <= room or len(lines) == most - 1:
            lines.append(clip(text))
            break
        cut = text.rfind(" ", 20, room)
        cut = cut if cut > 0 else room
        lines.append(text[:cut])
        text = "       " + text[cut:].strip()
    return lines


def paint(text: str) -> str:
    """The same text with the verdicts in colour."""
    for word, code in COLOURS.items():
        text = text.replace(f"  {word}", f"  \x1b[{code}m{word}\x1b[0m")
    for head in ("WHERE", "WHY", "FACTS", "REPRO"):
        text = text.replace(f"\n{head} ", f"\n\x1b[1m{head}\x1b[0m ")
    return text
