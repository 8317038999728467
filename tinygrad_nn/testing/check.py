"""The public functions: check a function, a module or a layer, or compare two derivatives with the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_nn.checks import choice, function_of, whole
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing.checker import MODES, Checker
from tinygrad_nn.testing.problem import Problem, framework_problem, name_of, rule_problem, second_order
from tinygrad_nn.testing.report import GradientError, Report

__all__ = ["check_gradients", "compare", "gradient_report", "options", "raised", "run"]


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
        Of arrays, to an array, a number, or a tuple of them.  With `rule` it is plain NumPy (or
        any code that takes and gives arrays); without, it is run on Tensors.
    *inputs : arrays, Tensors, and lists, tuples or dicts of them
        Floating arrays are checked; everything else is passed on as it is.
    rule : function, optional
        The hand-written backward pass: ``rule(*inputs) -> (y, pullback)``, where ``pullback(g)``
        returns one gradient, or None, for each input, from the upstream gradient ``g``.  Without
        it, the framework's own derivative of `fn` is checked.
    wrt : name or position, or several, optional
        The inputs to check; all by default.
    order : {1, 2}
        2 checks the second derivatives, of functions of Tensors.
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
        If there is nothing to check, or `rule` returns something else than it must.

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
    if order == 2:
        problem = second_order(fn, inputs, wrt, seed)
    elif rule is not None:
        problem = rule_problem(fn, inputs, rule, wrt)
    else:
        problem = framework_problem(fn, inputs, wrt)
    given = (f", rule={name_of(rule)}" if rule is not None else "") + (", order=2" if order == 2 else "")
    return run(problem, "check_gradients", name_of(fn), inputs, given, seed, mode)


def options(seed: Any, mode: Any) -> tuple[int, str]:
    """The seed and mode that every check takes."""
    return whole("seed", seed, least=0), choice("mode", mode, MODES)


def run(
    problem: Problem, function: str, subject: str, inputs: Sequence[Any], given: str, seed: int, mode: str
) -> Report:
    """Check a problem, and add to the report how to repeat it."""
    count = len(problem.names)
    arguments = ", ".join([subject, *problem.names[:6], *(["..."] if count > 6 else [])])
    report = Report(call=f"{function}({arguments})", seed=seed, inputs=tuple(inputs))
    Checker(problem, seed, mode, report).run()
    wrong = [r.name for r in report.results if r.verdict == "WRONG"]
    only = f', wrt="{wrong[0]}"' if len(wrong) == 1 and count > 1 and function == "check_gradients" else ""
    report.repro = f'{function}({subject}, *report.inputs{given}, seed={seed}{only}, mode="{mode}")'
    return report


def raised(report: Report) -> Report:
    """The report itself, or a `GradientError` that carries it."""
    __tracebackhide__ = True
    if not report.ok:
        raise GradientError(report)
    return report


def compare(fn: Any, *inputs: Any, rule: Any, seed: int = 0) -> str:
    """Compare a hand-written rule, the framework's derivative of the same forward, and the oracle.

    `fn` must run on arrays and on Tensors.  Returns one sentence: which of the three disagrees with
    the two others.

    Examples
    --------
    >>> import numpy as np
    >>> compare(np.sin, np.ones(3), rule=lambda x: (np.sin(x), lambda g: (-g * np.cos(x),)))
    'the rule is wrong: the framework and the oracle agree (x0)'
    """
    rule = function_of("rule", rule)
    by_hand = gradient_report(fn, *inputs, rule=rule, seed=seed)
    by_tensors = gradient_report(fn, *inputs, seed=seed)
    names = [
        (a.name, a.verdict != "WRONG", b.verdict != "WRONG")
        for a, b in zip(by_hand.results, by_tensors.results, strict=True)
    ]
    hand = [name for name, a, _ in names if not a]
    tensors = [name for name, _, b in names if not b]
    if not hand and not tensors:
        return "all three agree"
    if hand and not tensors:
        return f"the rule is wrong: the framework and the oracle agree ({', '.join(hand)})"
    if tensors and not hand:
        return f"the framework is wrong: the rule and the oracle agree ({', '.join(tensors)})"
    agreed = _agree(fn, inputs, rule, seed)
    both = ", ".join(dict.fromkeys([*hand, *tensors]))
    if agreed:
        return f"the rule and the framework agree, the oracle does not ({both}): is a gradient stopped on purpose?"
    return f"all three differ ({both})"


def _agree(fn: Any, inputs: Sequence[Any], rule: Any, seed: int) -> bool:
    first, second = rule_problem(fn, inputs, rule), framework_problem(fn, inputs)
    rng = np.random.default_rng(seed)
    vs = [rng.standard_normal(y.shape) for y in first.outputs(first.points)]
    pairs = zip(first.gradients(first.points, vs), second.gradients(second.points, vs), strict=True)
    return all(
        a is not None and b is not None and a.shape == b.shape and np.allclose(a, b, rtol=1e-9) for a, b in pairs
    )
