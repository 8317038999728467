"""The figures of the gradient checker, measured here: found, named, false alarms, sensitivity, cost, oracle.

One row a measure: what torch.autograd.gradcheck does with the same rules (where torch is installed), what
this checker must reach, and what it reaches.  Blind mutants are single edits of the backward passes in
tests/checker_corpus/scoring_layers.py, on which the diagnosis was not tuned; a mutant is live if its gradient
differs from the right one in long double.  A name counts as wrong unless its equation holds at fresh
points, in fresh shapes, in long double (tests/checker_corpus/referee.py).  --quick draws less of everything.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import Parser, progress
from _torch_check import found_by_torch, installed, torch_function

import tinygrad_nn as tn
from tinygrad_nn.testing import GradientError, check_module, gradient_report
from tinygrad_nn.testing.oracles import Oracle
from tinygrad_nn.testing.problem import rule_problem

if missing := [name for name in ("hypothesis", "mpmath", "pytest") if importlib.util.find_spec(name) is None]:
    sys.exit(f"this takes what the tests take; missing: {', '.join(missing)}; pip install -e '.[test]'")

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import samples  # after the path to it
import test_testing_right_code as right
from checker_corpus import (
    MISTAKES,
    blind,
    examined_layers,
    random_graphs,
    referee,
    scored_layers,
    scoring_layers,
    tuning_layers,
)
from checker_corpus.kinked_networks import NETWORKS
from checker_corpus.smooth import FUNCTIONS, SCALES, exact_slope, lost
from domains import DOMAINS, Draw, name_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as start
from hypothesis import strategies as st

EVERY_SCALE = (1e-4, 1e-2, 1.0, 1e2, 1e4)


@dataclass
class Row:
    """One line of the table."""

    measure: str
    torch: str
    required: str
    reached: str


@dataclass
class Options:
    """How much is drawn."""

    seed: int
    quick: bool

    def count(self, full: int, quick: int) -> int:
        """How many draws."""
        return quick if self.quick else full


Measure = Callable[[Options], Iterator[Row]]


def by_torch(text: str) -> str:
    """What torch reached, or that it is not here."""
    return text if installed() else "not installed"


def share(part: int, whole: int) -> str:
    """A count and its percentage."""
    return f"{part}/{whole} ({100 * part / max(whole, 1):.2f} %)"


def mistakes(options: Options) -> Iterator[Row]:
    """Classic mistakes: found with every seed, named right, named wrong."""
    seeds = options.count(10, 2)
    found = named = wrong = by_gradcheck = 0
    for mistake in progress(MISTAKES, "classic mistakes"):
        every = True
        for seed in range(options.seed, options.seed + seeds):
            fn, rule, inputs = mistake.make(np.random.default_rng([seed, 7]))
            report = gradient_report(fn, *inputs, rule=rule, seed=seed)
            every = every and not report.ok
            cause = report.causes[0] if report.causes else None
            right_name = cause is not None and mistake.named_by(cause)
            named += right_name
            wrong += cause is not None and cause.kind != "unknown" and not right_name
        found += every
        fn, rule, inputs = mistake.make(np.random.default_rng([options.seed, 7]))
        by_gradcheck += installed() and found_by_torch(rule, inputs)
    count, runs = len(MISTAKES), seeds * len(MISTAKES)
    yield Row(
        f"{count} classic mistakes, found with each of {seeds} seeds",
        by_torch(share(by_gradcheck, count)),
        "all",
        share(found, count),
    )
    yield Row("  named right by the first line", "none", ">= 95 %", share(named, runs))
    yield Row("  named wrong", "-", "0", share(wrong, runs))


def mutants(options: Options) -> Iterator[Row]:
    """Blind mutants of layers that the diagnosis was not tuned on."""
    layers = scoring_layers.LAYERS
    trials = list(blind.trials(layers, options.seed, options.count(1000, 6)))
    live = [t for t in trials if t.live]
    kinds = Counter(t.cause.kind for t in live if t.cause is not None)
    rules = dict(layers)
    torch_found = sum(
        installed() and found_by_torch(t.mutant.function, referee.draw(rules[t.rule], np.random.default_rng(k)))
        for k, t in enumerate(live)
    )
    for t in live:
        if not t.found or (t.named and not t.true):
            said = f"{t.cause.kind} {t.cause.detail} for {t.cause.input}" if t.cause is not None else "nothing"
            print(f"{'wrong name' if t.found else 'missed'}: {t.layer}: {t.mutant.after}: {said}", file=sys.stderr)
    equation = [t for t in live if t.cause is not None and t.cause.kind not in {"nonlinear", "ignores-upstream"}]
    total = len(live)
    yield Row(
        f"{total} live blind mutants of {len(layers)} layers: found",
        by_torch(share(torch_found, total)),
        "100 %",
        share(sum(t.found for t in live), total),
    )
    yield Row("  named", "none", ">= 60 %", share(sum(t.named for t in live), total))
    yield Row("  named, of those linear in g", "none", "-", share(sum(t.named for t in equation), len(equation)))
    yield Row("  named wrong", "-", "<= 1 %", share(sum(t.named and not t.true for t in live), total))
    raising, same = sum(t.live is None for t in trials), sum(t.live is False for t in trials)
    yield Row("  left out: raise an error / no mistake", "-", "-", f"{raising} / {same} of {len(trials)}")
    yield Row("  first lines", "-", "-", ", ".join(f"{k} {n}" for k, n in kinds.most_common()))


def _alarm(report: Any) -> int:
    return int(not report.ok or bool(report.causes))


def _takes(call: Callable[..., Any], arrays: list[Any]) -> bool:
    """Whether arrays lie in a function's domain: it takes them, and gives finite numbers."""
    try:
        with np.errstate(all="ignore"):
            ys = call(*arrays)
        return all(np.all(np.isfinite(y)) for y in (ys if isinstance(ys, (tuple, list)) else [ys]))
    except Exception:  # noqa: BLE001 - a function may refuse by any error
        return False


def _rows(options: Options) -> tuple[int, int]:
    """Alarms on rows of the derivative table at every scale that their domains reach, and the runs."""
    counts = Counter[str]()
    each = options.count(20, 1)

    def check(function: Any) -> None:
        @start(options.seed)
        @settings(max_examples=each, database=None, deadline=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(data=st.data())
        def draw(data: Any) -> None:
            case = DOMAINS[function](Draw(data))
            for scale in EVERY_SCALE:
                arrays = [x * scale if x.dtype.kind == "f" else x for x in case.arrays]
                if not _takes(case.call, arrays):
                    continue
                seed = counts["runs"]
                counts["runs"] += 1
                check = lambda a=arrays, c=case, k=seed: gradient_report(c.call, *a, seed=k)
                counts["alarms"] += _counted(f"{name_of(function)} at scale {scale:g}", check)

        draw()

    for function in progress(right.DIFFERENTIABLE, "rows of the table"):
        check(function)
    return counts["alarms"], counts["runs"]


def _layers(options: Options) -> tuple[int, int]:
    """Alarms on the package's layers and losses at every scale, and the runs."""
    alarms = runs = 0
    for kind in progress(samples.PLAIN_LAYERS, "layers"):
        for scale in EVERY_SCALE:
            for seed in range(options.count(20, 1)):
                rng = np.random.default_rng([options.seed, seed])
                layer, x = samples.layer_sample(kind, rng)
                x = x * scale if x.dtype.kind == "f" else x
                if x.dtype.kind == "f" or list(layer.parameters()):
                    runs += 1
                    alarms += _counted(kind.__name__, lambda m=layer, x=x, k=seed: check_module(m, x, seed=k))
    for kind in samples.LOSS_LAYERS:
        for scale in EVERY_SCALE:
            for seed in range(options.count(20, 1)):
                rng = np.random.default_rng([options.seed, seed])
                before, wanted = samples.loss_sample(kind)
                target = rng.integers(3, size=5) if wanted == "classes" else rng.random((5, 3))
                scores = scale * rng.standard_normal((5, 3))
                runs += 1
                function = lambda s, k=kind, b=before, t=target: k()(b(s), t)
                alarms += _counted(kind.__name__, lambda f=function, s=scores, k=seed: gradient_report(f, s, seed=k))
    return alarms, runs


def _counted(name: str, check: Callable[[], Any]) -> int:
    """1 for an alarm, also where the check itself raises."""
    try:
        report = check()
    except GradientError as error:
        report = error.report
    except Exception as error:  # noqa: BLE001 - whatever it raises is told, and counted
        print(f"raised: {name}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if _alarm(report):
        print(f"alarm: {name}\n{report}", file=sys.stderr)
    return _alarm(report)


def _hand_written(options: Options) -> tuple[int, int]:
    """Alarms on right rules by hand, at every scale, and the runs."""
    alarms = runs = 0
    rules = [(fn, rule, [(s, True) for s in shapes]) for fn, rule, shapes in right.HAND_WRITTEN.values()]
    rules += [
        (blind.forward(rule), rule, s)
        for module in (scoring_layers, scored_layers, examined_layers, tuning_layers)
        for rule, s in module.LAYERS
    ]
    for fn, rule, shapes in progress(rules, "right rules"):
        for scale in EVERY_SCALE:
            for seed in range(options.count(20, 1)):
                inputs = [scale * x for x in referee.draw(shapes, np.random.default_rng([options.seed, seed]))]
                with np.errstate(all="ignore"):
                    if not np.all(np.isfinite(fn(*inputs))):
                        continue
                    report = gradient_report(fn, *inputs, rule=rule, seed=seed)
                runs += 1
                alarms += _alarm(report)
                if _alarm(report):
                    print(f"alarm: {rule.__name__} at scale {scale:g}\n{report}", file=sys.stderr)
    return alarms, runs


def _integers(options: Options) -> tuple[int, int, int, int]:
    """Alarms on networks with kinks at integer inputs, and the runs; torch's, and its runs."""
    alarms = by_gradcheck = runs = rules = 0
    for network in progress(NETWORKS, "networks at integers"):
        for seed in range(options.count(20, 2)):
            inputs = network.inputs(np.random.default_rng([options.seed, seed]))
            checks = [lambda i=inputs, n=network, k=seed: gradient_report(n.call, *i, seed=k)]
            if network.rule is not None:
                checks.append(lambda i=inputs, n=network, k=seed: gradient_report(n.plain, *i, rule=n.rule, seed=k))
                by_gradcheck += installed() and found_by_torch(network.rule, inputs)
                rules += 1
            alarms += sum(_counted(network.name, check) for check in checks)
            runs += len(checks)
    return alarms, runs, by_gradcheck, rules


def alarms(options: Options) -> Iterator[Row]:
    """False alarms."""
    for name, measure in (
        ("rows of the derivative table, scales 1e-4 to 1e4", _rows),
        ("layers and losses, scales 1e-4 to 1e4", _layers),
        ("right rules by hand, scales 1e-4 to 1e4", _hand_written),
    ):
        count, runs = measure(options)
        yield Row(f"alarms or names: {name}", "-", "0", f"{count} of {runs}")
    count, runs, by_gradcheck, rules = _integers(options)
    yield Row(
        f"alarms or names: {len(NETWORKS)} networks with kinks at integers",
        by_torch(f"{by_gradcheck} of {rules}"),
        "0",
        f"{count} of {runs}",
    )


def sensitivity(options: Options) -> Iterator[Row]:
    """The smallest uniform relative error caught with every seed, and one wrong entry in a million."""
    smallest = by_gradcheck = float("inf")
    seeds = options.count(20, 5)
    for error in (1e-1, 1e-2, 1e-3, 1e-4, *(10.0**-e for e in range(5, 14))):
        rule = lambda x, error=error: (np.sin(x), lambda g: (g * np.cos(x) * (1 + error),))
        points = [np.random.default_rng([options.seed, seed]).standard_normal((5, 3)) for seed in range(seeds)]
        if all(not gradient_report(np.sin, x, rule=rule, seed=k).ok for k, x in enumerate(points)):
            smallest = min(smallest, error)
        if installed() and all(found_by_torch(rule, [x]) for x in points):
            by_gradcheck = min(by_gradcheck, error)
    yield Row(
        f"smallest uniform relative error caught, {seeds} seeds",
        by_torch(f"{by_gradcheck:.0e}"),
        "<= 1e-10",
        f"{smallest:.0e}",
    )
    found = torch_found = 0
    count = options.count(100, 2)
    for seed in progress(range(options.seed, options.seed + count), "one wrong entry in 1,000,000"):
        rng = np.random.default_rng([seed, 5])
        x = rng.standard_normal(1_000_000)
        entry = int(rng.integers(x.size))

        def rule(x: Any, entry: int = entry) -> Any:
            def pullback(g: Any) -> Any:
                d = g * np.cos(x)
                d[entry] *= -1
                return (d,)

            return np.sin(x), pullback

        found += not gradient_report(np.sin, x, rule=rule, seed=seed).ok
        torch_found += installed() and found_by_torch(rule, [x], fast=True)
    yield Row(
        f"one wrong entry in 1,000,000, {count} seeds",
        by_torch(f"{share(torch_found, count)} fast mode"),
        ">= 99 %",
        share(found, count),
    )


def cost(options: Options) -> Iterator[Row]:
    """A default pass over 18,000 parameters in 4 inputs."""
    rng = np.random.default_rng(options.seed)
    inputs = [rng.standard_normal(s) / 10 for s in ((2, 120), (120, 130), (130,), (130, 15))]
    forwards = 0

    def net(x: Any, W1: Any, b1: Any, W2: Any) -> Any:
        return np.tanh(x @ W1 + b1) @ W2

    def rule(x: Any, W1: Any, b1: Any, W2: Any) -> Any:
        nonlocal forwards
        forwards += 1
        h = np.tanh(x @ W1 + b1)

        def pullback(g: Any) -> Any:
            d = (g @ W2.T) * (1 - h**2)
            return d @ W1.T, x.T @ d, d.sum(axis=0), h.T @ g

        return h @ W2, pullback

    reached = "not installed"
    if installed():
        import torch  # noqa: PLC0415 - only where it is

        tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
        begin = time.perf_counter()
        torch.autograd.gradcheck(torch_function(rule), tensors)
        reached = f"{forwards} forwards, {time.perf_counter() - begin:.2f} s"
    parameters = sum(p.size for p in inputs)
    for name, option in (("rule by hand", {"rule": rule}), ("framework", {})):
        times = []
        for _ in range(15):
            begin = time.perf_counter()
            report = gradient_report(net, *inputs, **option)
            times.append(time.perf_counter() - begin)
        yield Row(
            f"cost, {parameters} parameters in 4 inputs, {name}",
            reached if option else "-",
            "<= 150, <= 50 ms",
            f"{report.evaluations} runs, {1000 * np.median(times):.0f} ms",
        )


def oracle(options: Options) -> Iterator[Row]:
    """The oracle's error against mpmath, and against its own estimate.

    Where the function itself, in float64, loses more than a tenth of what is required, as a saturated softmax does,
    the oracle's error is compared with that loss.
    """
    worst: dict[float, tuple[float, str]] = {}
    loss, losses = (0.0, ""), 0
    beaten, checks = (0.0, ""), 0
    for function in progress(FUNCTIONS, "oracle"):
        for scale in SCALES:
            for seed in range(options.count(10, 2)):
                rng = np.random.default_rng([options.seed, seed, 11])
                x = function.point(rng, scale)
                problem = rule_problem(function.call, (x,), None)
                with np.errstate(all="ignore"):
                    y = problem.outputs([x])[0]
                v, u = rng.standard_normal(y.shape) + 0.1, x * rng.standard_normal(x.shape)
                if not np.all(np.isfinite(y)):
                    continue
                true, size = exact_slope(function, x, u, v)
                if not 1e-200 < size < 1e200:
                    continue
                slope = Oracle(problem, [x], [v]).slope(0, u)
                checks += 1
                error = abs(slope.value - true)
                beaten = max(beaten, (error / max(slope.error, 1e-300), f"{function.name} at {scale:g}"))
                if size > 1e-10 * np.sum(np.abs(v * y)):
                    own = lost(function, x, u, v) if function.limit == 1e-12 else 0.0
                    if own > 0.1 * function.limit:
                        losses += 1
                        loss = max(loss, (error / size / own, f"{function.name} at {scale:g}"))
                        continue
                    said = (error / size, f"{function.name} at {scale:g}")
                    worst[function.limit] = max(worst.get(function.limit, (0.0, "")), said)
    names = {1e-12: "complex or long double", 1e-9: "kernels of neither", np.inf: "cancels in every precision"}
    for limit, (error, where) in sorted(worst.items()):
        functions = sum(f.limit == limit for f in FUNCTIONS)
        required = f"<= {limit:.0e}" if np.isfinite(limit) else "-"
        yield Row(
            f"oracle error, {functions} functions x 3 scales, {names[limit]}", "-", required, f"{error:.1e} ({where})"
        )
    yield Row(
        f"  over the function's own loss in float64, where that is > 1e-13, {losses} checks",
        "-",
        "<= 1",
        f"{loss[0]:.2g} ({loss[1]})",
    )
    yield Row(
        f"oracle error over its own estimate, {checks} checks", "no estimate", "<= 10", f"{beaten[0]:.2g} ({beaten[1]})"
    )


def graphs(options: Options) -> Iterator[Row]:
    """The faulty node of a random recorded graph, and clean graphs."""
    wrong = tn.differentiable(np.sin.__call__, lambda g, _y, x: g * np.cos(x) * 1.1, broadcasts=True, name="faulty")
    unary = [np.tanh, np.sin, np.exp, np.square, tn.functional.sigmoid, np.negative]
    hit = flagged = 0
    count = options.count(250, 20)
    for k in progress(range(count), "graphs"):
        rng = np.random.default_rng([options.seed, k])
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
    yield Row(f"faulty node named, {count} random graphs", "not offered", ">= 99 %", share(hit, count))
    yield Row("  clean graphs flagged", "not offered", "0", f"{flagged} of {count}")


def kinks(options: Options) -> Iterator[Row]:
    """Graphs with kinks, ties, integers, selections, reductions and reuse: half right, half with one wrong rule."""
    count = options.count(1000, 20)
    found = named = exercised = flagged = 0
    for k in progress(range(count), "graphs with kinks"):
        graph = random_graphs.graph(options.seed, k)
        if k % 2:
            flagged += _counted(f"graph {k}", lambda g=graph, k=k: gradient_report(g.right, *g.inputs, seed=k))
        elif graph.exercised(np.random.default_rng([options.seed, k, 19])):
            report = gradient_report(graph.wrong, *graph.inputs, seed=k)
            exercised += 1
            found += not report.ok
            named += not report.ok and "(faulty)" in report.where
            if report.ok or "(faulty)" not in report.where:
                print(f"graph {k}, {graph.fault} in step {graph.at}: {report}", file=sys.stderr)
    yield Row(f"graphs with kinks, {exercised} wrong rules exercised: found", "not offered", ">= 99 %",
              share(found, exercised))  # fmt: skip
    yield Row("  the faulty node named", "not offered", ">= 99 %", share(named, exercised))
    yield Row("  right graphs flagged", "not offered", "0", f"{flagged} of {count // 2}")


MEASURES: tuple[Measure, ...] = (mistakes, mutants, alarms, sensitivity, cost, oracle, graphs, kinks)


def main() -> None:
    """Measure everything and print the table."""
    parser = Parser(__doc__, quick="about a minute")
    names = [m.__name__ for m in MEASURES]
    parser.add_argument("--only", choices=names, action="append", help="this measure only (repeat for several)")
    given_options = parser.parse_args()
    options = Options(given_options.seed, given_options.quick)
    rows = [Row("measure", "torch.autograd.gradcheck", "required", "reached")]
    for measure in MEASURES:
        if given_options.only is None or measure.__name__ in given_options.only:
            rows += measure(options)
    widths = [max(len(getattr(row, name)) for row in rows) for name in list(inspect.get_annotations(Row))[:3]]
    for row in rows:
        print(" | ".join(t.ljust(w) for t, w in zip((row.measure, row.torch, row.required), widths, strict=True)),
              row.reached, sep=" | ")  # fmt: skip


if __name__ == "__main__":
    main()
