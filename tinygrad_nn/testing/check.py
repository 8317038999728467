"""The public functions: check a function, a module or a layer, or compare two derivatives with the oracle."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.checks import choice, function_of, whole
from tinygrad_nn.engine import recording
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing.checker import MODES, Checker
from tinygrad_nn.testing.contracts import same
from tinygrad_nn.testing.oracles import quiet
from tinygrad_nn.testing.problem import Problem, framework_problem, name_of, rule_problem, second_order
from tinygrad_nn.testing.report import KINK, VAGUE, WRONG, GradientError, Report

__all__ = ["Subject", "check_gradients", "compare", "gradient_report", "options", "raised", "run"]
__tracebackhide__ = True  # pytest shows the lines of the caller


def check_gradients(
    fn: Any,
    *inputs: Any,
    rule: Any = None,
    wrt: Any = None,
    order: int = 1,
    seed: int = 0,
    mode: str = "full",
) -> Report:
    """Check the gradients of `fn` at `inputs`, and raise `GradientError` if one is wrong.

    Parameters
    ----------
    fn : function
        Of arrays, to an array, a number, or a tuple, list or dict of them.  With `rule` it is plain
        NumPy (or any code that takes and gives arrays); without, it is run on Tensors.
    *inputs : arrays, Tensors, and lists, tuples, dicts or dataclasses of them
        Floating arrays are checked, copies of them; everything else is passed on as it is, and listed
        in ``report.skipped``.
    rule : function, optional
        The hand-written backward pass: ``rule(*inputs) -> (y, pullback)``, where ``pullback(g)``
        returns one gradient, or None, for each input, from the upstream gradient ``g``.  Gradients
        have the structure of the inputs, ``g`` has that of ``y``.  Without `rule`, the framework's
        own derivative of `fn` is checked.
    wrt : name or position, or several, optional
        The arguments to check, or one array in an argument, such as ``"params['W']"``; all by default.
    order : {1, 2}
        2 checks the second derivatives too, of functions of Tensors.
    seed : int
        Of directions and upstream gradients; the report prints it.
    mode : {"full", "fast"}
        "fast" takes one direction for each input, and the shortest probes only.

    Returns
    -------
    Report

    Raises
    ------
    GradientError
        If a gradient is wrong or the backward pass breaks a contract; `report` tells.
    ArgumentError, RuleError
        If there is nothing to check, or `rule` returns something else than it must.  What `fn` and
        `rule` raise is passed on.

    Examples
    --------
    >>> import numpy as np
    >>> def rule(x):
    ...     y = np.tanh(x)
    ...     return y, lambda g: (g * (1 - y**2),)
    >>> check_gradients(np.tanh, np.array([0.5, -1.0]), rule=rule).ok
    True

    The framework's own derivative, here of a function of two Tensors:

    >>> report = check_gradients(lambda x, W: np.tanh(x @ W), np.ones((2, 3)), np.ones((3, 4)) / 3)
    >>> [r.verdict for r in report.results]
    ['ok', 'ok']
    """
    __tracebackhide__ = True
    return raised(gradient_report(fn, *inputs, rule=rule, wrt=wrt, order=order, seed=seed, mode=mode))


def gradient_report(
    fn: Any,
    *inputs: Any,
    rule: Any = None,
    wrt: Any = None,
    order: int = 1,
    seed: int = 0,
    mode: str = "full",
) -> Report:
    """Return what `check_gradients` finds, and raise nothing for a wrong gradient.

    Takes the same arguments.

    Examples
    --------
    >>> import numpy as np
    >>> report = gradient_report(np.square, np.arange(1.0, 8.0), rule=lambda x: (x * x, lambda g: (g * x,)))
    >>> report.ok, report.causes[0].kind, report.causes[0].sentence
    (False, 'factor', 'analytic = 1/2 x numeric')
    """
    seed, mode = options(seed, mode)
    order = whole("order", order, 1, 2)
    if rule is not None:
        rule = function_of("rule", rule)
    if rule is not None and order == 2:
        raise ArgumentError("order=2 differentiates the framework's own gradient: leave rule out")
    if rule is not None:
        problem, given = rule_problem(fn, inputs, rule, wrt), f", rule={in_code(rule, 'rule')}"
    else:
        problem, given = framework_problem(fn, inputs, wrt), ""
    subject = Subject("check_gradients", name_of(fn), in_code(fn, "fn"), given, wrt)
    report = run(problem, subject, inputs, seed, mode)
    if order == 1:
        return report
    if not report.ok:
        report.notes.insert(0, "the first derivatives are wrong: the second were not checked")
        return report
    subject = Subject("check_gradients", name_of(fn), in_code(fn, "fn"), ", order=2", wrt)
    return run(second_order(fn, inputs, wrt, seed), subject, inputs, seed, mode)


def options(seed: Any, mode: Any) -> tuple[int, str]:
    """The seed and mode that every check takes."""
    return whole("seed", seed, least=0), choice("mode", mode, MODES)


@dataclass
class Subject:
    """How a check is written: the function that checks, what it checks in messages and in code, and its options."""

    function: str
    title: str
    code: str
    options: str = ""
    wrt: Any = None


def in_code(fn: Any, otherwise: str) -> str:
    """The name by which a caller would write a function; `otherwise` where it has none."""
    name = getattr(fn, "__name__", "")
    if getattr(fn, "__module__", "") == "numpy" or isinstance(fn, np.ufunc):
        return f"np.{name}"
    return name if isinstance(fn, types.FunctionType) and name.isidentifier() else otherwise


def run(problem: Problem, subject: Subject, inputs: Sequence[Any], seed: int, mode: str) -> Report:
    """Check a problem, and add to the report how to repeat it."""
    count = len(problem.names)
    arguments = ", ".join([subject.title, *problem.names[:6], *(["..."] if count > 6 else [])])
    second = ", order=2" if "order=2" in subject.options else ""
    report = Report(call=f"{subject.function}({arguments}{second})", seed=seed, inputs=tuple(inputs))
    Checker(problem, seed, mode, report).run()
    wrong = [r.name for r in report.results if r.verdict == "WRONG"]
    narrow = len(wrong) == 1 and len(report.results) > 1 and subject.function == "check_gradients"
    wrt = wrong[0] if narrow else subject.wrt
    only = "" if wrt is None else f", wrt={_quoted(wrt)}"
    report.repro = (
        f'{subject.function}({subject.code}, *report.inputs{subject.options}, seed={seed}{only}, mode="{mode}")'
    )
    return report


def _quoted(wrt: Any) -> str:
    """The `wrt` of a call, in the quotes of the rest of the line."""
    if isinstance(wrt, str):
        return repr(wrt) if '"' in wrt else f'"{wrt}"'
    return str(wrt) if isinstance(wrt, (int, np.integer)) else f"[{', '.join(_quoted(item) for item in wrt)}]"


def raised(report: Report) -> Report:
    """The report itself, or a `GradientError` that carries it."""
    __tracebackhide__ = True
    if not report.ok:
        raise GradientError(report)
    return report


def compare(fn: Any, *inputs: Any, rule: Any, wrt: Any = None, seed: int = 0, mode: str = "full") -> str:
    """Compare a hand-written rule, the framework's derivative of the same forward, and the oracle.

    `fn` must run on arrays and on Tensors; the other arguments are those of `check_gradients`.  Returns
    one sentence: which of the three disagrees with the two others.

    Examples
    --------
    >>> import numpy as np
    >>> compare(np.sin, np.ones(3), rule=lambda x: (np.sin(x), lambda g: (-g * np.cos(x),)))
    'the rule is wrong: the framework and the oracle agree (x0)'
    """
    rule = function_of("rule", rule)
    by_hand = gradient_report(fn, *inputs, rule=rule, wrt=wrt, seed=seed, mode=mode)
    by_tensors = gradient_report(fn, *inputs, wrt=wrt, seed=seed, mode=mode)
    for report in (by_hand, by_tensors):
        apart = [c.sentence for c in report.causes if c.kind in {"forward", "random"}]
        if apart:
            return f"nothing can be compared: {apart[0]}"
    hand = [r.name for r in by_hand.results if r.verdict == WRONG]
    tensors = [r.name for r in by_tensors.results if r.verdict == WRONG]
    if hand and not tensors:
        return f"the rule is wrong: the framework and the oracle agree ({', '.join(hand)})"
    if tensors and not hand:
        return f"the framework is wrong: the rule and the oracle agree ({', '.join(tensors)})"
    apart = _apart(fn, inputs, rule, wrt, seed)
    if hand:
        both = ", ".join(dict.fromkeys([*hand, *tensors]))
        if not any(name in apart for name in [*hand, *tensors]):
            return f"the rule and the framework agree, the oracle does not ({both}): is a gradient stopped on purpose?"
        return f"all three differ ({both})"
    text = "all three agree"
    pairs = list(zip(by_hand.results, by_tensors.results, strict=True))
    for verdict, said in ((KINK, "both are right next door to a kink"), (VAGUE, "the oracle is too rough to tell")):
        names = [a.name for a, b in pairs if verdict in {a.verdict, b.verdict}]
        odd = [name for name in names if name in apart]
        if odd:
            text = f"{said}; here the rule and the framework differ ({', '.join(odd)})"
        elif names and verdict == VAGUE:
            text = f"the rule and the framework agree; {said} ({', '.join(names)})"
    for who, report in (("rule", by_hand), ("framework", by_tensors)):
        if report.causes:
            text += f", but the {who} breaks a contract: {report.causes[0].sentence}"
    return text


def _apart(fn: Any, inputs: Sequence[Any], rule: Any, wrt: Any, seed: int) -> list[str]:
    """The inputs for which the rule and the framework give different gradients."""
    rng = np.random.default_rng(seed)
    with quiet(), recording(True):
        found = []
        vs: list[Any] | None = None
        for problem in (rule_problem(fn, inputs, rule, wrt), framework_problem(fn, inputs, wrt)):
            vs = (
                [rng.standard_normal(y.shape).astype(y.dtype) for y in problem.outputs(problem.points)]
                if vs is None
                else vs
            )
            found.append(problem.gradients(problem.points, vs))
            problem.rewind()
    return [
        name
        for k, name in enumerate(problem.names)
        if k in problem.active
        and not same(*(g[k] if g[k] is not None else np.zeros(problem.points[k].shape) for g in found))
    ]
