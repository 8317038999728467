"""Single edits of backward passes: what they are, that live ones are found, and that names given to them are true."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from checker_corpus import blind, examined_layers, referee, scored_layers, scoring_layers, tuning_layers

from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing import Cause, gradient_report
from tinygrad_nn.testing.mutants import mutants

SEEN = [*scored_layers.LAYERS, *examined_layers.LAYERS, *tuning_layers.LAYERS]
EVERY = [*scoring_layers.LAYERS, *SEEN]


def half(x):
    return 0.5 * x @ x, lambda g: (g * x,)


def by_rows(scale):
    def rule(x, W, *, power=2):
        y = scale * (x @ W) ** power

        def pullback(g):
            """Text is left alone."""
            d = g * scale * power * (x @ W) ** (power - 1)
            return d @ W.T, x.T @ d

        return y, pullback

    return rule


@pytest.mark.parametrize(("rule", "shapes"), EVERY, ids=lambda v: getattr(v, "__name__", ""))
def test_layers_are_right_and_fresh_shapes_fit_them(rule, shapes) -> None:
    rng = np.random.default_rng(0)
    for there in (shapes, referee.fresh(shapes, None)):
        point = referee.setting(rule, rule, there, rng)
        for k, x in enumerate(point.inputs):
            u = rng.standard_normal(x.shape)
            expected = np.sum(point.g * referee.tangent(point, k, u))
            assert abs(np.sum(point.right[k] * u) - expected) <= 1e-12 * np.sum(np.abs(point.right[k] * u))


def test_no_layer_is_both_tuned_on_and_scored() -> None:
    assert len(scoring_layers.LAYERS) >= 20
    assert not {f.__name__ for f, _ in scoring_layers.LAYERS} & {f.__name__ for f, _ in SEEN}


def test_a_sample_of_blind_mutants_is_found_and_named_truly() -> None:
    found = list(blind.trials(scoring_layers.LAYERS, 0, 4))
    live = [t for t in found if t.live]
    assert len(live) > 50
    assert [t.mutant.after for t in live if not t.found] == []
    named = [t for t in live if t.named]
    assert len(named) >= 0.6 * len(live)
    assert sum(not t.true for t in named) <= 0.01 * len(live)
    for t in live:
        lines = str(t.report).splitlines()
        assert len(lines) <= 25
        assert max(map(len, lines)) <= 120


def test_the_referee_knows_a_wrong_name() -> None:
    rng = np.random.default_rng(1)
    rule, shapes = next(pair for pair in tuning_layers.LAYERS if pair[0].__name__ == "two_layers")
    mutant = next(m for m in mutants(rule) if m.after == "d = g @ W2.T * (1 + h * h)").function
    cause = gradient_report(
        blind.forward(rule), *referee.draw(shapes, rng), rule=mutant, seed=0
    ).causes[0]  # fmt: skip
    truth = Cause(
        "ratio", "W1", "analytic / numeric = (1 + h**2)/(1 - h**2)" + referee.SINGLE, detail="(1 + h**2)/(1 - h**2)"
    )
    assert cause.kind == "unknown" or referee.true_name(cause, rule, mutant, shapes, rng)
    assert referee.true_name(truth, rule, mutant, shapes, rng)
    wrong = [
        dataclasses.replace(truth, sentence="analytic / numeric = (1 + h**2)/(1 - h**2)"),  # not summed over the batch
        dataclasses.replace(truth, detail="(1 + h**2)"),
        dataclasses.replace(truth, detail="(1 + x**2)/(1 - h**2)"),
        Cause("factor", "W1", "", detail="2"),
        Cause("nonlinear", "", ""),
        Cause("swapped", "W1", "", detail="W2"),
        Cause("permuted", "x", "", detail="flipped along axis 0"),
        Cause("residual", "W1", "", detail="h*g"),
        Cause("jvp", "x", ""),
        Cause("zero", "x", ""),
        Cause("invented", "x", ""),
    ]
    assert [c for c in wrong if referee.true_name(c, rule, mutant, shapes, rng)] == []


def test_the_referee_tells_a_size_from_a_number() -> None:
    def rule(x):
        n = x.shape[1]

        def pullback(g):
            return (np.repeat(g[:, None], n, axis=1) / n,)

        return x.mean(axis=1), pullback

    mutant = next(m for m in mutants(rule) if m.after == "return (np.repeat(g[:, None], n, axis=1) * n,)").function
    rng = np.random.default_rng(0)
    shapes = [((5, 3), True)]
    cause = gradient_report(lambda x: x.mean(axis=1), *referee.draw(shapes, rng), rule=mutant).causes[0]
    assert (cause.kind, cause.detail) == ("factor", "x.shape[1]**2")
    assert referee.true_name(cause, rule, mutant, shapes, rng)
    assert not referee.true_name(dataclasses.replace(cause, detail="9"), rule, mutant, shapes, rng)


def test_a_mutant_is_the_rule_with_one_edit_and_its_closure() -> None:
    rule = by_rows(3.0)
    x, W = np.ones((2, 3)), np.arange(12.0).reshape(3, 4) / 10
    y, back = rule(x, W)
    found = list(mutants(rule))
    assert len(found) > 20
    assert len({(m.line, m.after) for m in found}) >= 0.9 * len(found)
    for mutant in found:
        assert mutant.before != mutant.after
        assert mutant.code is mutant.function.__code__
        np.testing.assert_array_equal(mutant.function(x, W)[0], y)  # what is edited is the backward pass
    assert any("x.T @ x" in m.after or "g.T @ d" in m.after for m in found)
    g = np.ones_like(y)
    changed = [m for m in found if "g / scale" in m.after]
    assert changed
    np.testing.assert_allclose(changed[0].function(x, W)[1](g)[0], back(g)[0] / 9)


def test_the_edited_code_fits_the_function_it_came_from() -> None:
    rule = by_rows(2.0)
    before = rule.__code__
    mutant = next(m for m in mutants(rule) if "x.T + d" not in m.after and "W.T" in m.before)
    try:
        rule.__code__ = mutant.code
    finally:
        rule.__code__ = before


@pytest.mark.parametrize("function", [np.sin, len, lambda x: x])
def test_no_source_no_mutants(function) -> None:
    with pytest.raises(ArgumentError, match="no source to edit"):
        list(mutants(function))


def test_a_lambda_inside_a_rule_is_edited() -> None:
    assert {m.after for m in mutants(half)} >= {"(g / x,)", "(g + x,)", "(x * x,)"}
