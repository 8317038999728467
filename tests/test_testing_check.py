"""The checker's doors: what they take, what they report, and that they change nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, RuleError, TinygradError
from tinygrad_nn.testing import (
    GradientError,
    check_backward,
    check_gradients,
    check_module,
    compare,
    gradient_report,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def SIN(x):  # noqa: N802 - a function of our own, since np.sin has its row
    return np.sin(x)


def half_square(x):
    return x**2, lambda g: (g * x,)


def test_error_is_an_assertion_and_carries_the_report() -> None:
    with pytest.raises(AssertionError) as caught:
        check_gradients(np.square, normal(5, 3), rule=half_square)
    assert isinstance(caught.value, GradientError)
    assert isinstance(caught.value, TinygradError)
    report = caught.value.report
    assert not report.ok
    assert not report
    assert report.causes[0].kind == "factor"
    assert "1/2" in report.causes[0].sentence
    assert report.results[0].verdict == "WRONG"
    assert report.to_dict()["causes"][0]["kind"] == "factor"
    assert "half_square" in report.where
    assert 'seed=0, mode="full"' in report.repro


def test_import_of_the_package_does_not_load_the_checker() -> None:
    code = "import sys, tinygrad_nn; print([m for m in sys.modules if 'testing' in m and 'tinygrad' in m])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_python_without_asserts_checks_the_same() -> None:
    code = (
        "import numpy as np; from tinygrad_nn.testing import *\n"
        "try:\n    check_gradients(np.square, np.arange(1., 6), rule=lambda x: (x * x, lambda g: (g * x,)))\n"
        "except GradientError: print('raised')"
    )
    assert subprocess.check_output([sys.executable, "-O", "-c", code], text=True).strip() == "raised"


def test_same_seed_same_report() -> None:
    first, second = (gradient_report(np.square, normal(5, 3), rule=half_square, seed=3) for _ in range(2))
    assert str(first) == str(second)
    assert first.to_dict() == second.to_dict()


def test_nested_arguments_integers_and_options_pass_through() -> None:
    def fn(data, parameters, scale):
        x, rows = data
        return np.tanh(x[rows] @ parameters["W"]) * scale + parameters["b"]

    inputs = ((normal(5, 3), np.array([0, 2, 2])), {"W": normal(3, 4, seed=1), "b": normal(4, seed=2)}, 2.0)
    report = check_gradients(fn, *inputs)
    assert [r.name for r in report.results] == ["data[0]", "parameters['W']", "parameters['b']"]
    assert len(report.skipped) == 2


def test_nested_gradients_of_a_rule() -> None:
    def rule(pair):
        a, b = pair
        return a * b, lambda g: ((g * b, g * a),)

    assert check_gradients(lambda pair: pair[0] * pair[1], (normal(5), normal(5, seed=1)), rule=rule).ok


def test_several_outputs() -> None:
    def fn(x):
        return np.sin(x), np.sum(x**2)

    def rule(x):
        return fn(x), lambda g: (g[0] * np.cos(x) + g[1] * 2 * x,)

    def wrong(x):
        return fn(x), lambda g: (g[0] * np.cos(x),)

    assert check_gradients(fn, normal(5), rule=rule).ok
    assert check_gradients(fn, normal(5)).ok
    assert not gradient_report(fn, normal(5), rule=wrong).ok


def test_wrt_by_name_and_position() -> None:
    def rule(a, b):
        return a * b, lambda g: (g * b, g * b)

    assert check_gradients(np.multiply, normal(5), normal(5, seed=1), rule=rule, wrt=0).ok
    assert not gradient_report(lambda a, b: a * b, normal(5), normal(5, seed=1), rule=rule, wrt="b").ok
    with pytest.raises(ArgumentError, match="wrt"):
        check_gradients(lambda a: a, normal(5), rule=rule, wrt="c")


def test_arguments_that_cannot_be_checked() -> None:
    with pytest.raises(ArgumentError, match="floating-point"):
        check_gradients(np.negative, np.arange(3))
    with pytest.raises(ArgumentError, match="order"):
        check_gradients(np.sin, normal(3), order=3)
    with pytest.raises(ArgumentError, match="mode"):
        check_gradients(np.sin, normal(3), mode="slow")
    with pytest.raises(RuleError, match="pullback"):
        check_gradients(np.sin, normal(3), rule=np.sin)
    with pytest.raises(RuleError, match=r"for each input \(x0\), not a tuple of 2"):
        check_gradients(np.sin, normal(3), rule=lambda x: (np.sin(x), lambda g: (g * np.cos(x), g)))


def test_second_order_of_right_and_wrong_rules() -> None:
    check_gradients(lambda x, W: np.tanh(x @ W), normal(5, 3), normal(3, 2), order=2)

    def drops_curvature(g, _y, x):
        return g * tn.stop_gradient(np.cos(x))

    wrong = tn.differentiable(SIN, drops_curvature, broadcasts=True)
    assert gradient_report(wrong, normal(5)).ok
    assert not gradient_report(wrong, normal(5), order=2).ok


def test_a_relative_error_of_1e_10_is_caught() -> None:
    for seed in range(20):
        x = normal(5, 3, seed=seed)
        report = gradient_report(
            np.tanh, x, rule=lambda x: (np.tanh(x), lambda g: (g / np.cosh(x) ** 2 * (1 + 1e-10),)), seed=seed
        )
        assert not report.ok


def test_one_wrong_entry_in_many_is_found_and_bisected() -> None:
    x = normal(100_000)

    def rule(x):
        def pullback(g):
            d = g * np.cos(x)
            d[77_777] *= 1.5
            return (d,)

        return np.sin(x), pullback

    report = gradient_report(np.sin, x, rule=rule, mode="fast")
    assert report.results[0].verdict == "WRONG"
    assert report.results[0].index == (77_777,)


def test_a_default_pass_is_cheap() -> None:
    def net(x, W1, b1, W2):
        return np.tanh(x @ W1 + b1) @ W2

    def rule(x, W1, b1, W2):
        h = np.tanh(x @ W1 + b1)

        def pullback(g):
            d = (g @ W2.T) * (1 - h**2)
            return d @ W1.T, x.T @ d, d.sum(axis=0), h.T @ g

        return h @ W2, pullback

    inputs = normal(2, 120), normal(120, 130, seed=1) / 10, normal(130, seed=2), normal(130, 15, seed=3)
    check_gradients(net, *inputs, rule=rule)
    begin = time.perf_counter()
    report = check_gradients(net, *inputs, rule=rule)
    assert report.evaluations <= 150
    assert time.perf_counter() - begin < 0.5  # the benchmark prints the figure; a busy machine is allowed here


class Dropout:
    def __init__(self, rng):
        self.rng = rng

    def __call__(self, x):
        return x * (self.rng.random(x.shape) < 0.5) * 2


def test_random_functions_are_repeated_with_their_generators_restored() -> None:
    layer = Dropout(np.random.default_rng(0))
    before = layer.rng.bit_generator.state

    def rule(x):
        mask = (layer.rng.random(x.shape) < 0.5) * 2
        return x * mask, lambda g: (g * mask,)

    assert check_gradients(layer, normal(5, 3), rule=rule).ok
    assert check_gradients(nn.Dropout(0.5, rng=layer.rng), normal(5, 3)).ok
    del before


def test_inputs_are_left_alone() -> None:
    x = normal(5, 3)
    kept = x.copy()
    x.flags.writeable = False
    check_gradients(np.tanh, x)
    np.testing.assert_array_equal(x, kept)


def test_float32_rules_that_are_right_and_wrong() -> None:
    x = normal(5, 3).astype(np.float32)
    assert check_gradients(np.tanh, x, rule=lambda x: (np.tanh(x), lambda g: (g * (1 - np.tanh(x) ** 2),))).ok
    wrong = lambda x: (np.tanh(x), lambda g: (g * np.float32(1.001) * (1 - np.tanh(x) ** 2),))
    assert not gradient_report(np.tanh, x, rule=wrong).ok


# Modules and layers


def test_modules_in_both_modes_are_left_as_they_were() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2), nn.Softmax())
    net.layers[2].train(False)
    state = net.state_dict()
    held = list(net.parameters())
    check_module(net, normal(5, 3))
    check_module(net, normal(5, 3), loss=lambda y: tn.functional.mse_loss(y, np.ones((5, 2))))
    assert [m.training for m in net.modules()] == [True, True, True, False, True, True]
    assert all(a is b for a, b in zip(held, net.parameters(), strict=True))
    assert all(np.array_equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_wrong_op_inside_a_module_is_located() -> None:
    wrong = tn.differentiable(lambda x: x * x, lambda g, _y, x: g * x, broadcasts=True, name="wrong")

    class Hidden(nn.Module):
        def __init__(self) -> None:
            self.W = nn.Parameter(normal(3, 4))

        def forward(self, x):
            h = np.tanh(x @ self.W)
            return wrong(h).sum(axis=1)

    with pytest.raises(GradientError) as caught:
        check_module(Hidden(), normal(5, 3))
    assert "wrong" in caught.value.report.where
    assert "test_testing_check.py" in caught.value.report.where
    assert "Hidden.forward" in caught.value.report.where


def test_coverage_names_branches_that_were_never_reached() -> None:
    report = check_gradients(tn.functional.relu, np.abs(normal(5, 3)) + 0.1)
    assert "x < 0 of node 0 (relu" in report.coverage[0]


class Dense:
    def __init__(self, scale=1.0, accumulate=False):
        self.W, self.b = normal(3, 2), normal(2)
        self.dW, self.db = np.zeros((3, 2)), np.zeros(2)
        self.scale, self.accumulate = scale, accumulate

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, g):
        self.dW = self.x.T @ g + (self.dW if self.accumulate else 0)
        self.db = g.sum(axis=0) * self.scale
        return g @ self.W.T


def test_layers_in_the_notebook_style() -> None:
    layer = Dense()
    assert [r.name for r in check_backward(layer, normal(5, 3)).results] == ["x", "W", "b"]
    assert not hasattr(layer, "x")
    for wrong, kind in ((Dense(scale=3.0), "factor"), (Dense(accumulate=True), "accumulates")):
        with pytest.raises(GradientError) as caught:
            check_backward(wrong, normal(5, 3))
        assert caught.value.report.causes[0].kind == kind
    with pytest.raises(ArgumentError, match="no method backwards"):
        check_backward(layer, normal(5, 3), backward="backwards")


def test_three_way_comparison_names_the_odd_one_out() -> None:
    right = lambda x: (np.sin(x), lambda g: (g * np.cos(x),))
    wrong = lambda x: (np.sin(x), lambda g: (-g * np.cos(x),))
    odd = tn.differentiable(SIN, lambda g, _y, x: -g * np.cos(x), broadcasts=True)
    x = normal(5)
    assert compare(np.sin, x, rule=right) == "all three agree"
    assert compare(np.sin, x, rule=wrong).startswith("the rule is wrong")
    assert compare(odd, x, rule=right).startswith("the framework is wrong")
    assert compare(odd, x, rule=wrong).startswith("the rule and the framework agree")


@pytest.mark.parametrize("seed", range(10))
def test_a_mean_far_from_zero_is_no_kink(seed) -> None:
    def layer_norm(x):
        s = x.std()
        h = (x - x.mean()) / s
        return h, lambda g: ((g - g.mean() - h * (g * h).mean()) / s,)

    x = np.random.default_rng(seed).normal(size=7) + 100
    assert gradient_report(lambda x: layer_norm(x)[0], x, rule=layer_norm).ok


def test_inputs_that_are_no_arrays_are_passed_on_when_a_gradient_is_wrong() -> None:
    def drop(x, generator):
        mask = generator.random(x.shape) > 0.5
        return x * mask * 2, lambda g: (g * mask, None)

    x = np.random.default_rng(0).standard_normal(20)
    report = gradient_report(lambda *a: drop(*a)[0], x, np.random.default_rng(3), rule=drop)
    assert not report.ok
