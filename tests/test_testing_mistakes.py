"""Classic mistakes: each is found with every seed and called by its name, input, and factor, expression or axis."""

from __future__ import annotations

import numpy as np
import pytest
from checker_corpus import MISTAKES

from tinygrad_nn.testing import gradient_report
from tinygrad_nn.testing.oracles import Oracle
from tinygrad_nn.testing.problem import rule_problem
from tinygrad_nn.testing.views import View, resized


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_found_and_named(mistake) -> None:
    for seed in range(3):  # ten in examples/benchmark_checker.py
        fn, rule, inputs = mistake.make(np.random.default_rng([seed, 7]))
        report = gradient_report(fn, *inputs, rule=rule, seed=seed)
        assert not report.ok
        assert mistake.named_by(report.causes[0]), str(report)
        lines = str(report).splitlines()
        assert len(lines) <= 25
        assert max(map(len, lines)) <= 120


def test_the_corpus_is_as_long_as_promised() -> None:
    assert len(MISTAKES) >= 67
    assert len({m.name for m in MISTAKES}) == len(MISTAKES)
    loose = {m.name for m in MISTAKES if not m.detail and m.kinds[0] in {"factor", "ratio", "local", "residual", "eps"}}
    assert loose == set()


ONLY_IN_FLOAT64 = {"log_with_eps_in_the_forward_only", "float32_inside_a_float64_backward"}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_what_is_found_in_float32_is_named_as_in_float64(mistake) -> None:
    fn, rule, inputs = mistake.make(np.random.default_rng([0, 7]))
    narrow = [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in inputs]
    report = gradient_report(fn, *narrow, rule=rule)
    assert report.ok == (mistake.name in ONLY_IN_FLOAT64), str(report)
    assert report.ok or mistake.named_by(report.causes[0]), str(report)


@pytest.mark.parametrize("factor", [2, 1.05, 4 / 3, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_factor_is_named_in_narrow_dtypes(dtype, factor) -> None:
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(dtype)
    (cause,) = gradient_report(np.sin, x, rule=lambda x: (np.sin(x), lambda g: (g * np.cos(x) * factor,))).causes
    assert cause.kind == "factor"
    assert cause.detail in {"4/3" if factor == 4 / 3 else str(factor), "factor"}  # the number, or the variable


def kernel(x, z):
    """Of two sets of points, as many of each as one likes."""
    return np.exp(-np.sum(np.square(x[:, None] - z), axis=-1) / 2)


@pytest.mark.parametrize(
    ("factor", "name"), [(lambda _: 0.8, "0.8"), (lambda z: 1 / len(z), "1/z.shape[0]"), (lambda _: 0.2, "0.2")]
)
def test_a_number_is_no_length_by_chance(factor, name) -> None:
    def rule(x, z):
        y = kernel(x, z)

        def backward(g):
            w = (g * y)[..., None] * (x[:, None] - z) * factor(z)
            return -w.sum(axis=1), w.sum(axis=0)

        return y, backward

    rng = np.random.default_rng(0)
    report = gradient_report(kernel, rng.standard_normal((4, 3)), rng.standard_normal((5, 3)), rule=rule)
    assert [(c.kind, c.detail) for c in report.causes] == [("factor", name)] * 2, str(report)


def test_upstream_gradients_keep_the_shapes_of_the_outputs_for_one_sample() -> None:
    def f(x):
        return x.mean(axis=1, keepdims=True), np.tanh(x.sum(axis=0))

    x, rng = np.random.default_rng(0).standard_normal((4, 3)), np.random.default_rng(1)
    problem = rule_problem(f, (x,), lambda x: (f(x), lambda gs: (gs[0] / 3 + gs[1] * np.ones((len(x), 1)),)))
    vs = [np.ones(y.shape) for y in f(x)]
    view = resized(View(problem, Oracle(problem, [x], vs), problem.gradients([x], vs), 0, np.arange(12)), rng, slice(1))
    assert view is not None
    assert [v.shape for v in view.oracle.vs] == [y.shape for y in view.outputs] == [(1, 1), (3,)]


def ridge(W, X, t):
    r = X @ W - t
    return np.sum(r * r) / 2 + 1e-3 * np.sum(W * W) / 2


@pytest.mark.parametrize(
    ("term", "kinds"),
    [
        (lambda W: 0 * W, {"residual"}),
        (lambda W: 1e-3 * W + 1e-3 * np.sin(3 * W) * W[::-1], {"unknown"}),
    ],
)
def test_a_small_term_is_no_rounding(term, kinds) -> None:
    def rule(W, X, t):
        r = X @ W - t
        return ridge(W, X, t), lambda g: (g * (X.T @ r + term(W)), g * r @ W.T, -g * r)

    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4, 3)), rng.standard_normal((6, 4)), 1e4 * rng.standard_normal((6, 3))
    for seed in range(3):
        report = gradient_report(ridge, *inputs, rule=rule, seed=seed)
        assert {c.kind for c in report.causes} == kinds, str(report)
