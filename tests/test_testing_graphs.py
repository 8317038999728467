"""Recorded graphs with kinks and ties: right ones raise no alarm, a wrong rule is named, what is unreached is told."""

from __future__ import annotations

import numpy as np
import pytest
from checker_corpus import random_graphs

import tinygrad_nn as tn
from tinygrad_nn.functional import relu
from tinygrad_nn.testing import gradient_report

RNG = np.random.default_rng


@pytest.mark.parametrize("number", range(12))
def test_random_graphs_with_kinks(number) -> None:
    graph = random_graphs.graph(0, number)
    right = gradient_report(graph.right, *graph.inputs, seed=number)
    assert right.ok, str(right)
    if graph.exercised(RNG(number)):
        wrong = gradient_report(graph.wrong, *graph.inputs, seed=number)
        assert not wrong.ok, str(wrong)
        assert "(faulty)" in wrong.where


def test_random_graphs_hold_what_they_are_there_for() -> None:
    graphs = [random_graphs.graph(1, k) for k in range(400)]
    ops = {op.name for g in graphs for op, _ in g.steps}
    assert {"relu", "maximum", "where", "clip", "sort", "max", "rows", "sum", "multiply", "softmax"} <= ops
    assert {"x 1.001", "sign", "wrong axis", "missing term", "swapped branch", "loser", "tie twice"} <= {
        g.fault for g in graphs
    }
    reads = [[k for _, read in g.steps for k in read] for g in graphs]
    assert sum(len(set(r)) < len(r) for r in reads) > 50
    assert sum(g.exercised(RNG(k)) for k, g in enumerate(graphs[:100])) > 50


def by_hand(slope):
    def rule(x):
        return np.maximum(x, 0).sum(), lambda g: (g * slope(x),)

    return rule


MANY_AT_ONCE = {
    "sum of relu": lambda x: relu(x).sum(),
    "x, by two relus": lambda x: relu(x) - relu(-x),
    "x, by the larger half": lambda x: np.where(x > 0, x, 0) - relu(-x),
    "two relus of other slopes": lambda x: 3 * relu(x) - 2 * relu(-x),
    "twice the same": lambda x: np.maximum(x, x) + np.minimum(x, x),
    "a column through many units": lambda x: relu(x[:, None] * np.array([1.0, -1.0, 2.0])) @ np.array([2.0, 1.0, -3.0]),
}


@pytest.mark.parametrize("name", MANY_AT_ONCE)
@pytest.mark.parametrize("size", [5, 300])
def test_where_kinks_meet_the_chain_of_right_rules_is_right(name, size) -> None:
    x = np.where(np.arange(size) % 5 == 4, 1.5, 0.0)
    report = gradient_report(MANY_AT_ONCE[name], x)
    assert report.ok, str(report)


@pytest.mark.parametrize("size", [5, 300])
def test_where_many_units_stand_on_their_kinks_a_rule_by_hand_is_right(size) -> None:
    x = np.zeros(size)
    for slope in (lambda x: x > 0, lambda x: x >= 0, lambda x: (x > 0) + 0.5 * (x == 0)):
        report = gradient_report(lambda x: np.maximum(x, 0).sum(), x, rule=by_hand(slope))
        assert report.ok, str(report)


def opposite(x):
    up, down = np.maximum(x, 0), np.maximum(-x, 0)
    return up - down, lambda g: (g * (x > 0) + g * (x < 0),)


def test_a_rule_by_hand_may_be_wrong_where_its_own_kinks_meet_and_nowhere_else() -> None:
    x = np.array([0.0, 1.0, -2.0])
    report = gradient_report(lambda x: np.maximum(x, 0) - np.maximum(-x, 0), x, rule=opposite)
    assert report.ok, str(report)
    assert report.results[0].verdict == "KINK"
    report = gradient_report(lambda x: 1.0 * x, x, rule=lambda x: (1.0 * x, lambda g: (g * (x != 0),)))
    assert report.results[0].verdict == "WRONG"


def test_ties_of_two_inputs_share_once() -> None:
    a = RNG(0).integers(-2, 3, (4, 5)).astype(float)
    b = np.where(RNG(1).random((4, 5)) < 0.5, a, a + 1.0)

    def rule(tie):
        def pull(a, b):
            y = np.maximum(a, b)
            return y, lambda g: (
                g * ((a > b) + tie * (a == b)),
                g * ((b > a) + (tie if tie != 0.3 else 0.7) * (a == b)),
            )

        return pull

    for tie, right in ((0.5, True), (0.3, True), (1.0, False), (0.0, False)):
        report = gradient_report(np.maximum, a, b, rule=rule(tie))
        assert report.ok == right, str(report)


def test_a_wrong_rule_that_kinks_hide_in_the_whole_is_named() -> None:
    wrong = tn.differentiable(
        lambda x: np.maximum(x, 0), lambda g, _y, x: g * ((x > 0) + 2 * (x == 0)), broadcasts=True, name="odd_relu"
    )
    for seed in range(5):
        rng = RNG(seed)
        x, W, V = (rng.integers(-2, 3, s).astype(float) for s in ((5, 3), (3, 7), (7, 2)))
        report = gradient_report(lambda x, W, V: wrong(x @ W) @ V, x, W, V, seed=seed)
        assert not report.ok
        assert "odd_relu" in report.where
        assert "odd_relu" in str(report)


def test_what_no_gradient_reaches_is_told() -> None:
    def f(x):
        np.exp(x).sum()  # for a message, say
        return np.where(np.arange(4) < 9, np.sin(x), np.cos(x)) + relu(x) * np.array([1.0, 0.0, 0.0, 0.0])

    report = gradient_report(f, np.array([1.0, -1.0, 2.0, -3.0]))
    assert report.ok
    lines = [line.split(", ")[0] for line in report.coverage]
    assert lines == [
        "no gradient reaches node 0 (np.exp",
        "no gradient reaches node 1 (np.sum",
        "only zeros reach node 3 (np.cos",
        "the false side of node 4 (np.where",
        "x < 0 of node 5 (relu",
    ]
    assert gradient_report(lambda x: np.tanh(x) * 2, np.ones(3)).coverage == []


def test_the_numbers_of_a_wrong_rule_are_those_of_the_given_point() -> None:
    report = gradient_report(
        lambda x: np.abs(x) ** 3, np.array([2.0, 0.0]), rule=lambda x: (abs(x) ** 3, lambda g: (g,))
    )
    (result,) = report.results
    assert result.verdict == "WRONG"
    analytic, numeric = result.pair
    assert numeric == pytest.approx(analytic * {(0,): 12, (1,): 0}[result.index], rel=1e-9, abs=1e-9)
