"""No alarm and no name on right code: every row of the table, layers, scales, kinks, narrow dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checker_corpus.kinked_networks import NETWORKS, Network
from domains import DOMAINS, Draw, name_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_nn import functional
from tinygrad_nn.derivatives.table import rows
from tinygrad_nn.testing import check_gradients, gradient_report

ROWS = {row.function: row for row in rows()}
DIFFERENTIABLE = [f for f in DOMAINS if f in ROWS and ROWS[f].active]


@pytest.mark.parametrize("function", DIFFERENTIABLE, ids=name_of)
@settings(max_examples=10)
@given(data=st.data())
def test_every_row_of_the_table(function: Any, data: st.DataObject) -> None:
    case = DOMAINS[function](Draw(data))
    seed = data.draw(st.integers(0, 2**32 - 1))
    report = gradient_report(case.call, *case.arrays, seed=seed)
    assert report.ok, str(report)
    assert report.causes == []


@pytest.mark.parametrize("function", DIFFERENTIABLE, ids=name_of)
@settings(max_examples=4)
@given(data=st.data())
def test_second_derivatives_of_every_row(function: Any, data: st.DataObject) -> None:
    case = DOMAINS[function](Draw(data))
    report = gradient_report(case.call, *case.arrays, order=2, mode="fast")
    assert report.ok, str(report)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softmax(z: Any) -> Any:
    e = np.exp(z - z.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid_rule(x):
    y = sigmoid(x)
    return y, lambda g: (g * y * (1 - y),)


def tanh_rule(x):
    y = np.tanh(x)
    return y, lambda g: (g * (1 - y**2),)


def softmax_rule(x):
    y = softmax(x)
    return y, lambda g: (y * (g - (g * y).sum(axis=-1, keepdims=True)),)


def linear(x, W, b):
    return x @ W + b


def linear_rule(x, W, b):
    return x @ W + b, lambda g: (g @ W.T, x.T @ g, g.sum(axis=0))


def norm(x):
    c = x - x.mean(axis=0)
    return c / np.sqrt((c**2).mean(axis=0) + 1e-5)


def norm_rule(x):
    c = x - x.mean(axis=0)
    s = np.sqrt((c**2).mean(axis=0) + 1e-5)
    y = c / s
    return y, lambda g: ((g - g.mean(axis=0) - y * (g * y).mean(axis=0)) / s,)


def relu_net(x, W1, W2):
    return np.maximum(x @ W1, 0) @ W2


def relu_net_rule(x, W1, W2):
    z = x @ W1
    h = np.maximum(z, 0)

    def pullback(g):
        d = (g @ W2.T) * (z > 0)
        return d @ W1.T, x.T @ d, h.T @ g

    return h @ W2, pullback


HAND_WRITTEN = {
    "sigmoid": (sigmoid, sigmoid_rule, ((5, 3),)),
    "tanh": (np.tanh, tanh_rule, ((5, 3),)),
    "softmax": (softmax, softmax_rule, ((5, 3),)),
    "linear": (linear, linear_rule, ((5, 3), (3, 7), (7,))),
    "norm": (norm, norm_rule, ((7, 3),)),
    "relu_net": (relu_net, relu_net_rule, ((5, 3), (3, 7), (7, 2))),
}


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1, 10, 100, 1e4])
@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_layers_at_every_scale(name: str, scale: float) -> None:
    fn, rule, shapes = HAND_WRITTEN[name]
    for seed in range(20):
        rng = np.random.default_rng([seed, 1])
        inputs = [scale * rng.standard_normal(s) for s in shapes]
        report = gradient_report(fn, *inputs, rule=rule, seed=seed)
        assert report.ok, str(report)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_layers_in_narrow_dtypes(name: str, dtype: Any) -> None:
    fn, rule, shapes = HAND_WRITTEN[name]
    for seed in range(20):
        rng = np.random.default_rng([seed, 2])
        report = gradient_report(fn, *[rng.standard_normal(s).astype(dtype) for s in shapes], rule=rule, seed=seed)
        assert report.ok, str(report)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_networks_with_kinks_at_integer_inputs(network: Network) -> None:
    """At 3 and 15 to 17, units that are coupled by equal weights get no mixture of the gradients around."""
    for seed in (0, 3, 15, 16, 17):
        inputs = network.inputs(np.random.default_rng([0, seed]))
        report = gradient_report(network.call, *inputs, seed=seed)
        assert report.ok, str(report)
        if network.rule is not None:
            report = gradient_report(network.plain, *inputs, rule=network.rule, seed=seed)
            assert report.ok, str(report)


@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
@pytest.mark.parametrize(
    "fn",
    [
        functional.softmax,
        functional.log_softmax,
        functional.logsumexp,
        functional.sigmoid,
        functional.relu,
        np.tanh,
        lambda x: functional.cross_entropy(x, np.array([0, 2, 1, 1, 0])),
        lambda x: functional.mse_loss(x, np.ones((5, 3))),
        lambda x: functional.binary_cross_entropy_with_logits(x, np.ones((5, 3))),
    ],
)
def test_functions_of_the_package_at_every_scale(fn: Any, scale: float) -> None:
    for seed in range(20):
        x = scale * np.random.default_rng([seed, 4]).standard_normal((5, 3))
        check_gradients(fn, x, seed=seed)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_kinks_and_ties_by_convention(value: float) -> None:
    x = np.full((3, 4), value)
    for fn in (
        np.abs,
        functional.relu,
        lambda x: np.maximum(x, value),
        lambda x: np.max(x, axis=1),
        lambda x: np.clip(x, value, 2),
        np.min,
    ):
        assert gradient_report(fn, x).ok, str(gradient_report(fn, x))
