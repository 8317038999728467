"""Gradients against the backpropagation formulas that people derive by hand, written out in plain NumPy.

The notation is row vectors, batch first: Z = X W + b, A = f(Z), loss E, dA = dE/dA.  Every bound is
relative to the sum of the magnitudes of a formula's terms, which `Backward` carries along.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn

# The formulas: each activation, its derivative applied to dA, and the same with all terms made positive


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


FORWARD = {"sigmoid": sigmoid, "tanh": np.tanh, "softmax": softmax, "linear": lambda z: z}


def through_activation(name, dA, a):
    """dZ of dA, for an activation whose result was a."""
    if name == "sigmoid":
        return dA * (a * (1 - a))
    if name == "tanh":
        return dA * (1 - a**2)
    if name == "softmax":
        return a * (dA - np.sum(dA * a, axis=-1, keepdims=True))
    return dA


def magnitude_through_activation(name, dA, a):
    if name == "sigmoid":
        return dA * (a * (1 + a))
    if name == "tanh":
        return dA * (1 + a**2)
    if name == "softmax":
        return a * (dA + np.sum(dA * a, axis=-1, keepdims=True))
    return dA


LOSS = {
    "mse": lambda out, y: np.mean((y - out) ** 2),
    "half": lambda out, y: 0.5 * np.sum((out - y) ** 2),
    "cross_entropy": lambda out, y: -np.mean(np.sum(y * np.log(softmax(out)), axis=-1)),
}
LOSS_GRADIENT = {
    "mse": lambda out, y: 2 * (out - y) / y.size,
    "half": lambda out, y: out - y,
    "cross_entropy": lambda out, y: (softmax(out) - y) / len(y),
}
LOSS_MAGNITUDE = {
    "mse": lambda out, y: 2 * (abs(out) + abs(y)) / y.size,
    "half": lambda out, y: abs(out) + abs(y),
    "cross_entropy": lambda out, y: (softmax(out) + abs(y)) / len(y),
}


@dataclass
class Network:
    X: np.ndarray
    W: list
    b: list
    activations: list
    loss: str
    y: np.ndarray
    rng: np.random.Generator

    def forward(self):
        """The results of all layers, the input first."""
        A = [self.X]
        for W, b, name in zip(self.W, self.b, self.activations, strict=True):
            A.append(FORWARD[name](A[-1] @ W + b))
        return A

    def error(self):
        return LOSS[self.loss](self.forward()[-1], self.y)


class Backward:
    """dW, db of every layer and dX by hand, each with the magnitude of its terms."""

    def __init__(self, net):
        A = net.forward()
        dA = LOSS_GRADIENT[net.loss](A[-1], net.y)
        size = LOSS_MAGNITUDE[net.loss](A[-1], net.y)
        self.dW, self.db, self.dZ = [], [], []
        self.dW_size, self.db_size = [], []
        for layer in reversed(range(len(net.W))):
            name, before, a = net.activations[layer], A[layer], A[layer + 1]
            dZ = through_activation(name, dA, a)
            size = magnitude_through_activation(name, size, a)
            self.dZ.insert(0, dZ)
            self.dW.insert(0, before.T @ dZ)
            self.db.insert(0, dZ.sum(axis=0))
            self.dW_size.insert(0, abs(before).T @ size)
            self.db_size.insert(0, size.sum(axis=0))
            dA = dZ @ net.W[layer].T
            size = size @ abs(net.W[layer]).T
        self.dX, self.dX_size = dA, size


def assert_close(actual, expected, size, tolerance=1e-12):
    assert actual.shape == expected.shape
    assert np.all(abs(actual - expected) <= tolerance * size), np.max(abs(actual - expected) / size)


@st.composite
def networks(draw, losses=("mse", "half", "cross_entropy"), activations=("sigmoid", "tanh", "softmax"), depth=4):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = draw(st.integers(1, depth))
    sizes = draw(st.lists(st.integers(1, 6), min_size=layers + 1, max_size=layers + 1))
    names = draw(st.lists(st.sampled_from(activations), min_size=layers, max_size=layers))
    batch = draw(st.integers(1, 7))
    loss = draw(st.sampled_from(losses))
    if loss == "cross_entropy":
        names[-1] = "linear"
        y = np.eye(sizes[-1])[rng.integers(sizes[-1], size=batch)]
    else:
        if draw(st.booleans()):
            names[-1] = draw(st.sampled_from([*activations, "linear"]))
        y = rng.standard_normal((batch, sizes[-1]))
    return Network(
        X=rng.standard_normal((batch, sizes[0])),
        W=[rng.uniform(-2, 2, shape) for shape in itertools.pairwise(sizes)],
        b=[rng.uniform(-1, 1, n) for n in sizes[1:]],
        activations=names,
        loss=loss,
        y=y,
        rng=rng,
    )


# The same networks in tinygrad_nn: with NumPy's own functions on Tensors, and with layers

F = tn.functional
ACTIVATION = {"sigmoid": F.sigmoid, "tanh": np.tanh, "softmax": F.softmax, "linear": lambda z: z}
LAYER = {"sigmoid": [tn.nn.Sigmoid()], "tanh": [tn.nn.Tanh()], "softmax": [tn.nn.Softmax()], "linear": []}
CRITERION = {"mse": F.mse_loss, "half": F.half_squared_error, "cross_entropy": F.cross_entropy}


def parameter(array):
    return tn.Tensor(array.copy(), requires_grad=True)


def as_layers(net):
    layers = []
    for W, b, name in zip(net.W, net.b, net.activations, strict=True):
        linear = tn.nn.Linear(*W.shape)
        linear.load_state_dict({"weight": W, "bias": b})
        layers += [linear, *LAYER[name]]
    return tn.nn.Sequential(*layers)


@given(networks())
def test_every_gradient_of_layers_equals_the_formulas(net):
    model, X = as_layers(net), parameter(net.X)
    loss = CRITERION[net.loss](model(X), net.y)
    loss.backward()
    by_hand = Backward(net)
    assert math.isclose(loss.item(), net.error(), rel_tol=1e-12, abs_tol=1e-13)
    linears = [layer for layer in model if isinstance(layer, tn.nn.Linear)]
    for k, linear in enumerate(linears):
        assert_close(linear.weight.grad, by_hand.dW[k], by_hand.dW_size[k])
        assert_close(linear.bias.grad, by_hand.db[k], by_hand.db_size[k])
    assert_close(X.grad, by_hand.dX, by_hand.dX_size)


@given(networks())
def test_every_gradient_of_numpy_code_on_tensors_equals_the_formulas(net):
    A = X = parameter(net.X)
    Ws, bs = [parameter(W) for W in net.W], [parameter(b[None, :]) for b in net.b]  # b is (1, n) in the notebooks
    for W, b, name in zip(Ws, bs, net.activations, strict=True):
        A = ACTIVATION[name](np.dot(A, W) + b)
    if net.loss == "mse":
        E = np.mean(np.power(net.y - A, 2))
    elif net.loss == "half":
        E = 0.5 * np.sum((A - net.y) ** 2)
    else:
        E = -np.mean(np.sum(net.y * np.log(F.softmax(A)), axis=-1))
    E.backward()
    by_hand = Backward(net)
    # -mean(y log p) divides by p and multiplies by it again: its own rounding, not the rules'
    tolerance = 1e-12 if net.loss != "cross_entropy" else 1e-12 * max(1, 1e-2 / softmax(net.forward()[-1]).min())
    for k in range(len(Ws)):
        assert_close(Ws[k].grad, by_hand.dW[k], by_hand.dW_size[k], tolerance)
        assert_close(bs[k].grad, by_hand.db[k][None, :], by_hand.db_size[k][None, :], tolerance)
    assert_close(X.grad, by_hand.dX, by_hand.dX_size, tolerance)


@given(networks())
def test_every_gradient_equals_central_differences_of_the_plain_forward_pass(net):
    model, X = as_layers(net), parameter(net.X)
    CRITERION[net.loss](model(X), net.y).backward()
    by_hand = Backward(net)
    linears = [layer for layer in model if isinstance(layer, tn.nn.Linear)]
    checks = [(net.X, X.grad, by_hand.dX_size)]
    checks += [(net.W[k], linears[k].weight.grad, by_hand.dW_size[k]) for k in range(len(linears))]
    checks += [(net.b[k], linears[k].bias.grad, by_hand.db_size[k]) for k in range(len(linears))]
    h = 1e-5
    for array, gradient, size in checks:
        direction = net.rng.standard_normal(array.shape)
        before = array.copy()
        array[...] = before + h * direction
        above = net.error()
        array[...] = before - h * direction
        below = net.error()
        array[...] = before
        slope = (above - below) / (2 * h)
        scale = np.sum(size * abs(direction)) + abs(net.error())
        assert abs(np.sum(gradient * direction) - slope) <= 1e-6 * scale


@given(networks())
def test_the_delta_rules_are_the_gradients_of_the_layers_inputs(net):
    # dE/dZ of every layer, asked for in the middle of the graph
    A, Z = tn.Tensor(net.X), []
    for W, b, name in zip(net.W, net.b, net.activations, strict=True):
        Z.append(A @ parameter(W) + b)
        A = ACTIVATION[name](Z[-1])
    deltas = tn.gradients(CRITERION[net.loss](A, net.y), Z)
    by_hand = Backward(net)
    for layer, (delta, expected) in enumerate(zip(deltas, by_hand.dZ, strict=True)):
        size = by_hand.db_size[layer]  # the sum over the batch bounds every row
        assert_close(delta.numpy(), expected, np.broadcast_to(size, expected.shape))


@given(networks(losses=("half",), activations=("sigmoid",)))
def test_delta_rules_of_the_sigmoid_network(net):
    net.activations[-1] = "sigmoid"
    X, y = net.X[:1], net.y[:1]  # one sample, as the notebook trains
    W, b = [parameter(w) for w in net.W], [parameter(v) for v in net.b]
    a = [tn.Tensor(X)]
    for k in range(len(W)):
        a.append(F.sigmoid(a[-1] @ W[k] + b[k]))
    F.half_squared_error(a[-1], y).backward()
    values = [t.numpy() for t in a]
    s_prime = [v * (1 - v) for v in values]
    delta = (values[-1] - y) * s_prime[-1]
    size = (abs(values[-1]) + abs(y)) * (values[-1] * (1 + values[-1]))
    for k in reversed(range(len(W))):
        assert_close(b[k].grad, delta[0], size[0])
        assert_close(W[k].grad, np.outer(values[k][0], delta[0]), np.outer(abs(values[k][0]), size[0]))
        delta = (delta @ net.W[k].T) * s_prime[k]
        size = (size @ abs(net.W[k]).T) * (values[k] * (1 + values[k]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.floats(0.1, 20))
def test_softmax_with_cross_entropy_is_p_minus_y_over_n(seed, n, classes, spread):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, spread, (n, classes))
    labels = rng.integers(classes, size=n)
    y = np.eye(classes)[labels]
    p = softmax(z)
    for target in (labels, y):
        (dz,) = tn.gradients(F.cross_entropy(t := parameter(z), target), [t])
        assert_close(dz.numpy(), (p - y) / n, (p + y) / n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.floats(0.1, 20))
def test_softmax_by_its_formula_for_a_random_upstream_gradient(seed, n, classes, spread):
    rng = np.random.default_rng(seed)
    z, dp = rng.normal(0, spread, (n, classes)), rng.standard_normal((n, classes))
    p = softmax(z)
    (dz,) = tn.gradients(F.softmax(t := parameter(z)), [t], gradient=dp)
    expected = p * (dp - np.sum(dp * p, axis=-1, keepdims=True))
    assert_close(dz.numpy(), expected, p * (abs(dp) + np.sum(abs(dp) * p, axis=-1, keepdims=True)))


# Training sample by sample, written out neuron by neuron

POINTS = [
    (2.7810836, 2.550537003),
    (1.465489372, 2.362125076),
    (3.396561688, 4.400293529),
    (1.38807019, 1.850220317),
    (3.06407232, 3.005305973),
    (7.627531214, 2.759262235),
    (5.332441248, 2.088626775),
    (6.922596716, 1.77106367),
    (8.675418651, -0.242068655),
    (7.673756466, 3.508563011),
]
TARGETS = [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 5


def sample_by_sample(W, b, epochs, lr, f, slope, error_slope, *, samples, twice=False):
    """Per-sample gradient descent in plain Python; `twice` makes the notebook's mistake."""
    W = [[list(row) for row in layer] for layer in W]
    b = [list(layer) for layer in b]
    for _ in range(epochs):
        for x, y in samples:
            a = [list(x)]
            for weights, biases in zip(W, b, strict=True):
                a.append(
                    [
                        f(sum(a[-1][i] * weights[i][j] for i in range(len(weights))) + biases[j])
                        for j in range(len(biases))
                    ]
                )
            deltas = [[error_slope(o, t, len(y)) * slope(o) for o, t in zip(a[-1], y, strict=True)]]
            for k in range(len(W) - 1, 0, -1):
                incoming = [
                    sum(deltas[0][j] * W[k][i][j] for j in range(len(deltas[0]))) * slope(a[k][i])
                    for i in range(len(W[k]))
                ]
                if twice:
                    incoming = [d * slope(v) for d, v in zip(incoming, a[k], strict=True)]
                deltas.insert(0, incoming)
            for k, delta in enumerate(deltas):  # after all deltas are known
                for j, d in enumerate(delta):
                    b[k][j] -= lr * d  # once, not once for every weight
                    for i in range(len(W[k])):
                        W[k][i][j] -= lr * d * a[k][i]
    return [np.array(layer) for layer in W], [np.array(layer) for layer in b]


def notebook_a2(W, b, epochs, **options):
    return sample_by_sample(
        W,
        b,
        epochs,
        0.5,
        lambda z: 1 / (1 + math.exp(-z)),
        lambda a: a * (1 - a),
        lambda a, t, _n: a - t,
        samples=list(zip(POINTS, TARGETS, strict=True)),
        **options,
    )


def train(model, samples, loss, lr, epochs):
    optimizer = tn.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in samples:
            optimizer.zero_grad()
            loss(model(np.array([x])), np.array([y])).backward()
            optimizer.step()


def two_layers(sizes, activation, initial, rng):
    init = tn.nn.init.uniform(*initial)
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [tn.nn.Linear(n_in, n_out, weight_init=init, bias_init=init, rng=rng), activation()]
    return tn.nn.Sequential(*layers)


def start(model):
    linears = [layer for layer in model if isinstance(layer, tn.nn.Linear)]
    return [m.weight.data.copy() for m in linears], [m.bias.data.copy() for m in linears]


def assert_same_weights(model, by_hand, tolerance):
    for actual, expected in zip(start(model), by_hand, strict=True):
        for a, e in zip(actual, expected, strict=True):
            assert np.max(abs(a - e)) <= tolerance * np.max(abs(e))


@pytest.mark.parametrize("seed", range(3))
def test_training_of_notebook_a2_by_hand_gives_the_same_weights(seed):
    model = two_layers((2, 3, 2), tn.nn.Sigmoid, (0, 1), np.random.default_rng(seed))
    expected = notebook_a2(*start(model), epochs=6)
    train(model, list(zip(POINTS, TARGETS, strict=True)), F.half_squared_error, 0.5, 6)
    assert_same_weights(model, expected, 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_training_of_notebook_b1_by_hand_gives_the_same_weights(seed):
    samples = [((0, 0), (0,)), ((0, 1), (1,)), ((1, 0), (1,)), ((1, 1), (0,))]
    model = two_layers((2, 3, 1), tn.nn.Tanh, (-0.5, 0.5), np.random.default_rng(seed))
    expected = sample_by_sample(
        *start(model), 20, 0.1, math.tanh, lambda a: 1 - a * a, lambda a, t, n: 2 * (a - t) / n, samples=samples
    )
    train(model, samples, F.mse_loss, 0.1, 20)
    assert_same_weights(model, expected, 1e-12)


def error_and_accuracy(W, b):
    out = np.array(POINTS)
    for weights, biases in zip(W, b, strict=True):
        out = sigmoid(out @ weights + biases)
    wrong = 0.5 * np.sum((out - TARGETS) ** 2)
    return wrong, np.mean(out.argmax(axis=1) == np.argmax(TARGETS, axis=1))


def test_the_double_derivative_of_the_notebook_trains_clearly_worse():
    right, wrong = [], []
    for seed in range(8):
        model = two_layers((2, 3, 2), tn.nn.Sigmoid, (0, 1), np.random.default_rng(seed))
        mistaken = notebook_a2(*start(model), epochs=40, twice=True)
        train(model, list(zip(POINTS, TARGETS, strict=True)), F.half_squared_error, 0.5, 40)
        right.append(error_and_accuracy(*start(model)))
        wrong.append(error_and_accuracy(*mistaken))
    right, wrong = np.array(right), np.array(wrong)
    assert np.all(right[:, 0] < wrong[:, 0])
    assert 3 * right[:, 0].mean() < wrong[:, 0].mean()
    assert np.all(right[:, 1] == 1)
    assert np.sum(wrong[:, 1] < 1) >= 2


@given(networks(losses=("half",), activations=("sigmoid",)))
def test_the_double_derivative_of_the_notebook_differs_by_a_factor_of_four_or_more(net):
    n = net.rng.integers(2, 6)
    net.W = [net.rng.uniform(0, 1, (net.X.shape[1], n)), net.rng.uniform(0, 1, (n, net.y.shape[1]))]
    net.b = [net.rng.uniform(0, 1, n), net.rng.uniform(0, 1, net.y.shape[1])]
    net.activations = ["sigmoid", "sigmoid"]
    X, hidden, out = net.forward()
    delta = (((out - net.y) * out * (1 - out)) @ net.W[1].T) * hidden * (1 - hidden)
    mistaken = delta * hidden * (1 - hidden)  # s' once more
    W = [parameter(w) for w in net.W]
    z = X @ W[0] + net.b[0]
    (dz,) = tn.gradients(F.half_squared_error(F.sigmoid(F.sigmoid(z) @ W[1] + net.b[1]), net.y), [z])
    assert np.linalg.norm(mistaken) <= 0.26 * np.linalg.norm(dz.numpy())
    size = np.full(delta.shape, abs(delta).max())
    assert_close(dz.numpy(), delta, size)
    with pytest.raises(AssertionError):
        assert_close(dz.numpy(), mistaken, size)
