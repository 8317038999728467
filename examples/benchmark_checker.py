"""The figures of the gradient checker: mistakes, blind mutants, oracles, cost, recorded graphs.

Mutants are single edits of the backward passes of layers on which the checker was not tuned, drawn with
--seed.  A mutant is live if its gradient differs from the right one at a random point.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import Parser

import tinygrad_nn as tn
from tinygrad_nn.testing import gradient_report
from tinygrad_nn.testing.oracles import Oracle
from tinygrad_nn.testing.problem import rule_problem

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from checker_corpus import MISTAKES, mutant_layers

Rule = Callable[..., Any]
SWAPS: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Add, ast.Div],
    ast.Div: [ast.Mult],
    ast.Gt: [ast.Lt],
    ast.Lt: [ast.Gt],
}
FUNCTIONS = {"sin": "cos", "cos": "sin", "exp": "log", "sum": "mean", "mean": "sum", "tanh": "sinh", "sqrt": "square"}


def edits(node: ast.AST, names: list[str]) -> Iterator[ast.AST]:
    """Every single edit of one node."""
    if isinstance(node, ast.BinOp):
        for kind in SWAPS.get(type(node.op), []):
            yield ast.BinOp(node.left, kind(), node.right)
        if isinstance(node.op, (ast.Mult, ast.Add, ast.Sub, ast.Div)):
            yield node.left
        if isinstance(node.op, (ast.Mult, ast.Add)):
            yield node.right
    elif isinstance(node, ast.Compare):
        for kind in SWAPS.get(type(node.ops[0]), []):
            yield ast.Compare(node.left, [kind()], node.comparators)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value * 2)
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    elif isinstance(node, ast.Attribute) and node.attr in FUNCTIONS:
        yield ast.Attribute(node.value, FUNCTIONS[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for other in names:
            if other != node.id:
                yield ast.Name(other, node.ctx)


class Edit(ast.NodeTransformer):
    """Replaces one node, found by its number."""

    def __init__(self, number: int, new: ast.AST) -> None:
        self.number, self.new, self.count = number, new, -1

    def visit(self, node: ast.AST) -> Any:
        """Count, and replace."""
        self.count += 1
        return self.new if self.count == self.number else self.generic_visit(node)


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Every single edit of the pullback of a rule."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))
    whole: Any = tree.body[0]
    place = next(i for i, part in enumerate(whole.body) if isinstance(part, ast.FunctionDef))
    pullback = whole.body[place]
    names = [a.arg for a in whole.args.args]
    names += [
        n.id
        for part in whole.body[:place]
        for n in ast.walk(part)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]
    names = [*dict.fromkeys([*names, "g"])]
    collected: list[ast.AST] = []

    class Collect(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            collected.append(node)
            return self.generic_visit(node)

    Collect().visit(copy.deepcopy(pullback))
    for number, node in enumerate(collected):
        for new in edits(node, names):
            changed = copy.deepcopy(tree)
            outer: Any = changed.body[0]
            outer.body[place] = Edit(number, new).visit(copy.deepcopy(pullback))
            text = ast.unparse(ast.fix_missing_locations(changed))
            space: dict[str, Any] = dict(vars(mutant_layers))
            exec(compile(text, rule.__code__.co_filename, "exec"), space)  # noqa: S102 - our own text, edited
            yield text, space[rule.__name__]


def live(rule: Rule, mutant: Rule, inputs: list[Any], rng: np.random.Generator) -> bool | None:
    """Whether a mutant's gradients differ; None if it raises."""
    y, right = rule(*inputs)
    g = rng.standard_normal(np.shape(y))
    try:
        other = mutant(*inputs)[1](g)
    except Exception:  # noqa: BLE001 - a mutant that raises needs no checker
        return None
    for a, b in zip(right(g), other, strict=False):
        if np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=1e-9, atol=0):
            return True
    return False


def score_mutants(seed: int, most: int) -> None:
    """Print how many live mutants are found, named, and named otherwise with another seed."""
    rng = np.random.default_rng([seed, 99])
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        for rule, shapes in mutant_layers.LAYERS:
            inputs = [rng.uniform(0.3, 1.7, s) * (rng.choice([-1, 1], s) if signed else 1) for s, signed in shapes]
            every = list(mutants(rule))
            for index in rng.permutation(len(every))[:most]:
                text, mutant = every[index]
                if not live(rule, mutant, inputs, rng):
                    continue
                counts["live"] += 1
                fn = lambda *a, rule=rule: rule(*a)[0]
                reports = [gradient_report(fn, *inputs, rule=mutant, seed=seed + k) for k in (0, 1)]
                counts["found"] += not reports[0].ok
                if reports[0].ok:
                    print("missed:", text)
                    continue
                first, second = (r.causes[0].kind for r in reports)
                counts["named"] += first != "unknown"
                counts["otherwise"] += first not in {"unknown", second}
                kinds[first] += 1
    total = max(counts["live"], 1)
    share = {name: f"{100 * counts[name] / total:.1f} %" for name in ("found", "named", "otherwise")}
    print(
        f"blind mutants of {len(mutant_layers.LAYERS)} layers: {counts['live']} live, {share['found']} found, "
        f"{share['named']} named, {share['otherwise']} named otherwise with another seed"
    )
    print("  ", dict(kinds.most_common()))


def score_corpus() -> None:
    """Print how many classic mistakes are found and named."""
    found = named = wrong = 0
    for mistake in MISTAKES:
        for seed in range(10):
            fn, rule, inputs = mistake.make(np.random.default_rng([seed, 7]))
            report = gradient_report(fn, *inputs, rule=rule, seed=seed)
            found += not report.ok
            kind = report.causes[0].kind if report.causes else "unknown"
            named += kind in mistake.kinds
            wrong += kind not in (*mistake.kinds, "unknown")
    runs = 10 * len(MISTAKES)
    print(
        f"classic mistakes: {len(MISTAKES)} x 10 seeds, {found}/{runs} found, {named}/{runs} named right, {wrong} wrong"
    )


def score_sensitivity() -> None:
    """Print the smallest uniform relative error that is always caught, and one wrong entry in a million."""
    for error in (1e-9, 1e-10, 1e-11, 1e-12):
        caught = 0
        for seed in range(20):
            x = np.random.default_rng(seed).standard_normal((5, 3))
            rule = lambda x, error=error: (np.sin(x), lambda g: (g * np.cos(x) * (1 + error),))
            caught += not gradient_report(np.sin, x, rule=rule, seed=seed).ok
        print(f"uniform relative error {error:.0e}: caught with {caught}/20 seeds")
    x = np.random.default_rng(0).standard_normal(1_000_000)
    caught = 0
    for seed in range(3):

        def rule(x: Any, seed: int = seed) -> Any:
            def pullback(g: Any) -> Any:
                d = g * np.cos(x)
                d[123_456 * (seed + 1)] *= -1
                return (d,)

            return np.sin(x), pullback

        caught += not gradient_report(np.sin, x, rule=rule, seed=seed).ok
    print(f"one wrong entry in 1,000,000: found with {caught}/3 seeds")


def score_cost() -> None:
    """Print the cost of a default pass over 18,000 parameters in 4 inputs."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s) / 10 for s in ((2, 120), (120, 130), (130,), (130, 15))]

    def net(x: Any, W1: Any, b1: Any, W2: Any) -> Any:
        return np.tanh(x @ W1 + b1) @ W2

    def rule(x: Any, W1: Any, b1: Any, W2: Any) -> Any:
        h = np.tanh(x @ W1 + b1)

        def pullback(g: Any) -> Any:
            d = (g @ W2.T) * (1 - h**2)
            return d @ W1.T, x.T @ d, d.sum(axis=0), h.T @ g

        return h @ W2, pullback

    for name, option in (("hand-written rule", {"rule": rule}), ("framework", {})):
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            report = gradient_report(net, *inputs, **option)
            times.append(time.perf_counter() - begin)
        parameters = sum(p.size for p in inputs[1:])
        print(
            f"default pass, {parameters} parameters, {name}: {report.evaluations} runs, "
            f"{1000 * np.median(times):.0f} ms"
        )


def score_graphs(seed: int) -> None:
    """Print how often the faulty node of a random recorded graph is named, and how often a clean one is flagged."""
    wrong = tn.differentiable(np.sin.__call__, lambda g, _y, x: g * np.cos(x) * 1.1, broadcasts=True, name="faulty")
    unary = [np.tanh, np.sin, np.exp, np.square, tn.functional.sigmoid, np.negative]
    hit = flagged = 0
    count = 100
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        length = int(rng.integers(4, 16))
        program = [(int(rng.integers(len(unary))), int(rng.integers(3))) for _ in range(length)]
        bad = int(rng.integers(length))

        def run(x: Any, bad: int | None, program: Any = program) -> Any:
            values = [x * 0.5]
            for at, (which, how) in enumerate(program):
                value = np.tanh(values[-1])
                value = wrong(value) if at == bad else unary[which](value)
                values.append(value if how else value + values[len(values) // 2])
            return values[-1]

        x = rng.standard_normal((3, 4))
        report = gradient_report(lambda x, run=run, bad=bad: run(x, bad), x, seed=k, mode="fast")
        hit += "(faulty)" in report.where
        flagged += not gradient_report(lambda x, run=run: run(x, None), x, seed=k, mode="fast").ok
    print(f"random graphs: faulty node named in {hit}/{count}, clean ones flagged {flagged}/{count}")


def score_oracle() -> None:
    """Print the oracle's worst error, relative to the slope's terms, and against its own estimate."""
    import mpmath  # noqa: PLC0415 - only this part needs it

    mpmath.mp.dps = 50
    names = ["exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "log", "log1p", "log10", "cbrt"]
    pairs = [*zip(names, names, strict=True), ("arctan", "atan"), ("arcsinh", "asinh")]
    functions = {name: (getattr(np, name), getattr(mpmath, other)) for name, other in pairs}
    formulas = (
        "x**2, x**3, 1/x, x**2.5, 1/(1+x*x), x*exp(x), exp(-x*x), 1/(1+exp(-x)), log(1+exp(x)), sin(x)/x, x*tanh(x), "
        "sqrt(1+x*x), exp(sin(x)), x/(1+abs(x)), abs(x)*x, log(x)*x, cos(x*x), exp(-x), x**-3"
    )
    used = ("exp", "log", "sin", "cos", "tanh", "sqrt")
    spaces = [
        {**{n: getattr(m, n) for n in used}, "abs": a, "__builtins__": {}}
        for m, a in ((np, np.abs), (mpmath, mpmath.fabs))
    ]
    for text in formulas.split(", "):
        code = compile(f"lambda x: {text}", "formula", "eval")
        functions[text] = (eval(code, spaces[0]), eval(code, spaces[1]))  # noqa: S307 - our own text
    worst, beaten, checks, vague = (0.0, ""), (0.0, ""), 0, 0
    with np.errstate(all="ignore"):
        for name, (f, exact) in functions.items():
            for scale in (1e-4, 1.0, 100.0):
                for k in range(5):
                    x = scale * np.random.default_rng(k).uniform(0.5, 2, 1)
                    problem = rule_problem(f, (x,), None)
                    slope = Oracle(problem, [x], [np.ones(1)]).slope(0, x.copy())
                    try:
                        true = float(mpmath.diff(exact, mpmath.mpf(float(x[0]))) * mpmath.mpf(float(x[0])))
                    except (ValueError, OverflowError):
                        continue
                    if not np.isfinite(slope.value) or not np.isfinite(true) or abs(true) < 1e-290:
                        continue
                    checks += 1
                    if slope.error > 1e-6 * abs(true):
                        vague += 1
                        continue
                    error = abs(slope.value - true)
                    worst = max(worst, (error / abs(true), f"{name} at {x[0]:.3g} ({slope.method})"))
                    beaten = max(beaten, (error / max(slope.error, 1e-300), f"{name} at {x[0]:.3g} ({slope.method})"))
    print(f"oracle: {len(functions)} functions, {checks} checks, {vague} of them called vague, "
          f"worst error {worst[0]:.1e} ({worst[1]}), "
          f"largest error over its estimate {beaten[0]:.2g} ({beaten[1]})")  # fmt: skip


def main() -> None:
    """Print every figure."""
    parser = Parser(__doc__)
    options = parser.parse_args()
    score_sensitivity()
    score_cost()
    score_graphs(options.seed)
    score_oracle()
    score_corpus()
    score_mutants(options.seed, 6 if options.quick else 40)


if __name__ == "__main__":
    main()
