"""Layers in the styles of notebooks: attributes, dicts, tuples, updates inside, lists of layers, networks."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tinygrad_nn.errors import ArgumentError, TinygradError
from tinygrad_nn.testing import GradientError, check_backward


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Attributes:
    """Gradients appear with the first backward."""

    def __init__(self, wrong=1.0):
        self.weights, self.bias, self.wrong = normal(3, 2), normal(1, 2), wrong

    def forward(self, x):
        self.x = x
        return x @ self.weights + self.bias

    def backward(self, g):
        self.d_weights = self.x.T @ g * self.wrong
        self.d_bias = g.sum(axis=0, keepdims=True)
        return g @ self.weights.T


class GradsDict:
    def __init__(self, wrong=1.0, names="{}"):
        self.params, self.grads = {"W": normal(3, 2), "b": normal(2)}, {}
        self.wrong, self.names = wrong, names

    def forward(self, x):
        self.cache = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, g):
        self.grads[self.names.format("W")] = self.cache.T @ g * self.wrong
        self.grads[self.names.format("b")] = g.sum(axis=0)
        return g @ self.params["W"].T


class CamelCase:
    def __init__(self, wrong=1.0):
        self.W, self.b, self.wrong = normal(3, 2), normal(2), wrong

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, g):
        self.dw, self.db = self.x.T @ g * self.wrong, g.sum(axis=0)
        return g @ self.W.T


class Returned:
    def __init__(self, wrong=1.0):
        self.W, self.b, self.wrong = normal(3, 2), normal(2), wrong

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, g):
        return g @ self.W.T, self.x.T @ g * self.wrong, g.sum(axis=0)


class UpdatesInside:
    def __init__(self, wrong=1.0, early=False):
        self.W, self.b, self.wrong, self.early = normal(3, 2), normal(2), wrong, early

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, output_gradient, learning_rate):
        dx = output_gradient @ self.W.T
        dW = self.x.T @ output_gradient * self.wrong
        self.W = self.W - learning_rate * dW
        self.b -= learning_rate * output_gradient.sum(axis=0)
        return output_gradient @ self.W.T if self.early else dx


class RateOnTheObject(UpdatesInside):
    def __init__(self, wrong=1.0):
        super().__init__(wrong)
        self.lr = 0.01

    def backward(self, g):
        return super().backward(g, self.lr)


class WithFlag(CamelCase):
    def forward(self, x, training):
        self.mask = np.random.default_rng(3).random(x.shape) < 0.5 if training else np.ones(x.shape)
        return super().forward(x * self.mask)

    def backward(self, g):
        return super().backward(g) * self.mask


class Network:
    """Lists of weights, and lists of their gradients; nothing returned."""

    def __init__(self, wrong=1.0):
        self.weights = [normal(3, 4), normal(4, 2)]
        self.biases = [normal(4), normal(2)]
        self.wrong = wrong

    def forward(self, x):
        self.activations = [x]
        for W, b in zip(self.weights, self.biases, strict=True):
            self.activations.append(np.tanh(self.activations[-1] @ W + b))
        return self.activations[-1]

    def backward(self, g):
        self.dweights, self.dbiases = [None, None], [None, None]
        for k in (1, 0):
            d = g * (1 - self.activations[k + 1] ** 2)
            self.dweights[k] = self.activations[k].T @ d * (self.wrong if k == 0 else 1)
            self.dbiases[k] = d.sum(axis=0)
            g = d @ self.weights[k].T


class Nested:
    def __init__(self, wrong=1.0):
        self.layers = [Attributes(wrong), Tanh()]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, g):
        for layer in reversed(self.layers):
            g = layer.backward(g)
        return g


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, g):
        return g * (1 - self.y**2)


STYLES = {
    "attributes": (Attributes, (), ["x", "weights", "bias"]),
    "dict of gradients": (GradsDict, (), ["x", "params.W", "params.b"]),
    "dict of dW": (lambda wrong=1.0: GradsDict(wrong, "d{}"), (), ["x", "params.W", "params.b"]),
    "another case": (CamelCase, (), ["x", "W", "b"]),
    "returned": (Returned, (), ["x", "W", "b"]),
    "learning rate taken": (UpdatesInside, (), ["x", "W", "b"]),
    "learning rate held": (RateOnTheObject, (), ["x", "W", "b"]),
    "flag on": (WithFlag, (True,), ["x", "W", "b"]),
    "flag off": (WithFlag, (False,), ["x", "W", "b"]),
    "network": (Network, (), ["weights[0]", "weights[1]", "biases[0]", "biases[1]"]),
    "layers inside": (Nested, (), ["x", "layers[0].weights", "layers[0].bias"]),
    "list of layers": (lambda wrong=1.0: [Tanh(), Attributes(wrong), Tanh()], (),
                       ["x", "layers[1].weights", "layers[1].bias"]),
}  # fmt: skip


@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_found_and_judged(style, used) -> None:
    make, rest, names = STYLES[style]
    x = normal(5, 3, seed=1)
    layer = make()
    if used and not isinstance(layer, list):
        layer.forward(x, *rest)
    report = check_backward(layer, x, *rest)
    assert [r.name for r in report.results] == names
    assert {r.verdict for r in report.results} == {"ok"}, str(report)
    assert not any("has no gradient" in text for text in report.skipped)
    with pytest.raises(GradientError) as caught:
        check_backward(make(1.5), x, *rest)
    report = caught.value.report
    assert [r.verdict == "WRONG" for r in report.results] == [n in {"W", "weights", "params.W", "weights[0]"} or
                                                             n.endswith(".weights") for n in names]  # fmt: skip
    assert [c.kind for c in report.causes] == ["factor"], str(report)


def test_names_may_be_given() -> None:
    class Odd(CamelCase):
        def backward(self, g):
            self.eins, self.zwei = self.x.T @ g, g.sum(axis=0)
            return g @ self.W.T

    report = check_backward(Odd(), normal(5, 3), parameters={"W": "eins", "b": "zwei"})
    assert [r.name for r in report.results] == ["x", "W", "b"]
    with pytest.raises(ArgumentError, match=r"gradient of W\? backward leaves eins of its shape"):
        check_backward(Odd(), normal(5, 3))
    with pytest.raises(ArgumentError, match="'drei', where there is nothing"):
        check_backward(Odd(), normal(5, 3), parameters={"W": "drei"})
    with pytest.raises(ArgumentError, match="no array"):
        check_backward(Odd(), normal(5, 3), parameters={"V": "eins"})
    nested = check_backward(Nested(), normal(5, 3), parameters={"layers.0.weights": "layers.0.d_weights"})
    assert [r.name for r in nested.results] == ["x", "layers.0.weights"]


def test_updates_that_break_a_contract() -> None:
    with pytest.raises(GradientError) as caught:
        check_backward(UpdatesInside(early=True), normal(5, 3))
    assert [c.kind for c in caught.value.report.causes] == ["updates-first"]

    class FixedRate(UpdatesInside):
        def backward(self, g):
            return super().backward(g, 0.01)

    class KeepsAndUpdates(CamelCase):
        def backward(self, g):
            dx = super().backward(g)
            self.W = self.W - 0.1 * self.dw
            return dx

    for layer, name in ((FixedRate(), "W, b"), (KeepsAndUpdates(), "W")):
        with pytest.raises(GradientError) as caught:
            check_backward(layer, normal(5, 3))
        assert caught.value.report.causes[0].kind == "mutates"
        assert f"changes {name}" in caught.value.report.causes[0].sentence


def test_what_cannot_be_called_is_said() -> None:
    class NeedsMore(CamelCase):
        def backward(self, g, targets):
            return super().backward(g - targets)

    class ReturnsOdd(Returned):
        def backward(self, g):
            return (*super().backward(g), np.ones(17))

    with pytest.raises(ArgumentError, match="takes targets beside"):
        check_backward(NeedsMore(), normal(5, 3))
    with pytest.raises(ArgumentError, match=r"shape \(17,\)"):
        check_backward(ReturnsOdd(), normal(5, 3))
    with pytest.raises(ArgumentError, match="no method forward"):
        check_backward([Tanh(), object()], normal(5, 3))


def test_the_layer_is_left_alone() -> None:
    layer = UpdatesInside()
    before = {name: np.copy(value) for name, value in vars(layer).items()}
    check_backward(layer, normal(5, 3))
    assert vars(layer).keys() == before.keys()
    assert all(np.array_equal(value, before[name]) for name, value in vars(layer).items())


NAMES = [
    "W/dW",
    "W/gradW",
    "w/w_grad",
    "weights/weightsGrad",
    "weights/weight_gradients",
    "W/W_g",
    "W/_dW",
    "_W/_dW",
    "_W/dW",
    "W/nabla_W",
    "W/dJdW",
    "W/dL_dW",
    "W/dE_dW",
    "W/deltaW",
    "W/Wgrad",
    "W/derivative_W",
    "coef_/coef_grad_",
    "W/W_bar",
    "W/adj_W",
    "W/Wdot",
    "kernel/dkernel",
]


class Named:
    """A parameter and its gradient under any two names."""

    def __init__(self, name, gradient, wrong=1.0):
        setattr(self, name, normal(3, 2))
        self._names, self._wrong = (name, gradient), wrong

    def forward(self, x):
        self.kept = x
        return x @ getattr(self, self._names[0])

    def backward(self, g):
        setattr(self, self._names[1], self._wrong * self.kept.T @ g)
        return g @ getattr(self, self._names[0]).T


@pytest.mark.parametrize(
    "names",
    NAMES,
)
def test_gradients_under_many_names(names) -> None:
    name, gradient = names.split("/")
    assert [r.name for r in check_backward(Named(name, gradient), normal(5, 3), mode="fast").results] == ["x", name]
    with pytest.raises(GradientError) as caught:
        check_backward(Named(name, gradient, 1.5), normal(5, 3), mode="fast")
    assert [r.name for r in caught.value.report.results if r.verdict == "WRONG"] == [name]


class Parameter:
    def __init__(self, value):
        self.value, self.grad = value, np.zeros_like(value)


class Objects:
    """Parameters are objects with a value and a gradient that adds up."""

    def __init__(self, wrong=1.0):
        self.W, self.b, self.wrong = Parameter(normal(3, 2)), Parameter(normal(2)), wrong

    def forward(self, x):
        self.x = x
        return x @ self.W.value + self.b.value

    def zero_grad(self):
        for p in (self.W, self.b):
            p.grad = np.zeros_like(p.value)

    def backward(self, g):
        self.W.grad += self.x.T @ g * self.wrong
        self.b.grad += g.sum(axis=0)
        return g @ self.W.value.T


class Slots:
    __slots__ = ("W", "dW", "wrong", "x")

    def __init__(self, wrong=1.0):
        self.W, self.dW, self.wrong = normal(3, 2), None, wrong

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, g):
        self.dW = self.x.T @ g * self.wrong
        return g @ self.W.T


class OnTheClass:
    W = normal(3, 2)

    def __init__(self, wrong=1.0):
        self.wrong = wrong

    forward, backward = Slots.forward, Slots.backward


class Properties:
    def __init__(self, wrong=1.0):
        self._held, self._left, self.wrong = {"W": normal(3, 2)}, {}, wrong

    @property
    def W(self):  # noqa: N802
        return self._held["W"]

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, g):
        self._left["W"] = self.x.T @ g * self.wrong
        return g @ self.W.T


class ReturnsDict(Returned):
    def backward(self, g):
        dx, dW, db = super().backward(g)
        return dx, {"db": db, "dW": dW}


class ReturnsPairs(Returned):
    def backward(self, g):
        dx, *rest = super().backward(g)
        return dx, tuple(rest)


@pytest.mark.parametrize("make", [Objects, Slots, OnTheClass, Properties, ReturnsDict, ReturnsPairs])
def test_parameters_in_odd_places(make) -> None:
    report = check_backward(make(), normal(5, 3))
    assert report.skipped == []
    assert {r.shape for r in report.results} >= {(5, 3), (3, 2)}
    with pytest.raises(GradientError) as caught:
        check_backward(make(1.5), normal(5, 3))
    assert [r.shape for r in caught.value.report.results if r.verdict == "WRONG"] == [(3, 2)]


class Loss:
    def __init__(self, wrong=1.0):
        self.wrong = wrong

    def forward(self, prediction, target):
        self.gap = prediction - target
        return np.mean(self.gap**2)

    def backward(self):
        return 2 * self.wrong * self.gap / self.gap.size


class LossWithUpstream(Loss):
    def backward(self, upstream=1.0):
        return upstream * super().backward()


@pytest.mark.parametrize("make", [Loss, LossWithUpstream])
def test_losses_need_no_upstream_and_no_gradient_of_the_target(make) -> None:
    report = check_backward(make(), normal(5, 3), normal(5, 3, seed=1))
    assert [r.name for r in report.results] == ["prediction"]
    assert report.skipped == ["target has no gradient: backward returns one array, that of prediction"]
    with pytest.raises(GradientError):
        check_backward(make(0.5), normal(5, 3), normal(5, 3, seed=1))


def test_a_layer_of_two_inputs_owes_two_gradients() -> None:
    class Product:
        def forward(self, a, b):
            self.b = b
            return a * b

        def backward(self, g):
            return g * self.b

    with pytest.raises(GradientError) as caught:
        check_backward(Product(), normal(5, 3), normal(5, 3, seed=1))
    assert [c.kind for c in caught.value.report.causes] == ["none"]


class Drop:
    def forward(self, x):
        self.mask = self.draw(x.shape)
        return x * self.mask

    def draw(self, shape):
        return np.random.rand(*shape) > 0.5  # noqa: NPY002 - as notebooks write it

    def backward(self, g):
        return g * self.mask


@pytest.mark.parametrize("seed", range(3))
def test_dropout_by_the_global_generator_also_in_a_helper(seed) -> None:
    assert check_backward(Drop(), normal(5, 3), seed=seed).ok
    assert check_backward([Attributes(), Drop()], normal(5, 3), seed=seed).ok


def test_layers_that_cannot_be_checked_say_why() -> None:
    class Silent(Tanh):
        def forward(self, x):
            self.y = x

    class Locked(Attributes):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    class NoUpstream(Tanh):
        def backward(self):
            return self.y

    class Keys(Returned):
        def backward(self, g):
            return dict(zip("xWb", super().backward(g), strict=True))

    for layer, text in (
        (Silent(), "returns a NoneType"),
        (Locked(), "cannot be copied"),
        (NoUpstream(), "takes no upstream gradient"),
        (Keys(), "returns a dict with 'x', 'W', 'b'"),
    ):
        with pytest.raises(TinygradError, match=text):
            check_backward(layer, normal(5, 3))


def test_the_line_of_reproduction_has_the_options() -> None:
    class Odd(CamelCase):
        def run(self, x):
            return self.forward(x)

        def back(self, g):
            self.eins = self.x.T @ g * 2
            return g @ self.W.T

    options = {"parameters": {"W": "eins"}, "forward": "run", "backward": "back"}
    with pytest.raises(GradientError) as caught:
        check_backward(Odd(), normal(5, 3), **options, seed=3)
    report = caught.value.report
    with pytest.raises(GradientError) as again:
        eval(report.repro, {"check_backward": check_backward, "layer": Odd(), "report": report})  # noqa: S307
    assert str(again.value) == str(report)
