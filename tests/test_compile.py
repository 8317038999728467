"""Compiled steps against eager ones: every layer, loss, activation and optimizer, and random networks."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import math
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import LOSS_LAYERS, PLAIN_LAYERS, layer_sample, loss_sample

import tinygrad_nn as tn
from tinygrad_nn.compiler import (
    compile,  # noqa: A004
    layout,
)

F = tn.functional


def agree(a, b, rtol=1e-12):
    for x, y in zip(a, b, strict=True):
        scale = np.max(np.abs(y), initial=0)
        assert np.max(np.abs(x - y), initial=0) <= rtol * scale + 1e-300, (x, y)


def fifty_steps(make, data, loss, optimizer, compiled, steps=50):
    """Train a fresh model, and give its parameters, its buffers and its losses."""
    model = make(np.random.default_rng(1))
    step = compile(lambda *batch: loss(model, *batch)) if compiled else None
    opt = optimizer(list(model.parameters()))
    losses = []
    for k in range(steps):
        batch = data(k)
        opt.zero_grad()
        if compiled:
            value = step(*batch)
        else:
            value = loss(model, *batch)
            value.backward()
        losses.append(value.item())
        opt.step()
    return [t.data.copy() for _, t in model.named_tensors()], losses


def both_ways(make, data, loss, optimizer=lambda p: tn.optim.SGD(p, lr=0.05)):
    eager, eager_losses = fifty_steps(make, data, loss, optimizer, compiled=False)
    compiled, losses = fifty_steps(make, data, loss, optimizer, compiled=True)
    agree(compiled, eager)
    agree([np.array(losses)], [np.array(eager_losses)])


def regression(k):
    rng = np.random.default_rng(k)
    return rng.standard_normal((6, 4)), rng.uniform(0.1, 0.9, (6, 3))


def classes(k):
    rng = np.random.default_rng(k)
    return rng.standard_normal((6, 4)), rng.integers(0, 3, 6)


def perceptron(rng):
    return tn.nn.Sequential(tn.nn.Linear(4, 5, rng=rng), tn.nn.Tanh(), tn.nn.Linear(5, 3, rng=rng))


def mse(model, x, y):
    return F.mse_loss(model(x), y)


OPTIMIZERS = [
    c
    for c in map(tn.optim.__dict__.get, tn.optim.__all__)
    if inspect.isclass(c) and issubclass(c, tn.optim.Optimizer) and c is not tn.optim.Optimizer
]


def required(function):
    return {p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty}


LOSSES = [f for f in map(F.__dict__.get, F.__all__) if "target" in inspect.signature(f).parameters]
ACTIVATIONS = [f for f in map(F.__dict__.get, F.__all__) if f not in LOSSES and required(f) <= {"x", "rng"}]


@pytest.mark.parametrize("kind", PLAIN_LAYERS)
def test_every_layer(kind):
    _, batch = layer_sample(kind, np.random.default_rng(0))
    shape = batch.shape[1:]
    numbers = batch.dtype.kind == "i"

    def make(rng):
        layer, _ = layer_sample(kind, rng)
        before = [tn.nn.Linear(4, math.prod(shape), rng=rng), lambda x: x.reshape((-1, *shape))]
        width = math.prod(layer(batch).shape[1:])
        return tn.nn.Sequential(*([] if numbers else before), layer, tn.nn.Flatten(), tn.nn.Linear(width, 3, rng=rng))

    def data(k):
        x, y = regression(k)
        return (np.random.default_rng(k).integers(5, size=batch.shape), y) if numbers else (x, y)

    both_ways(make, data, mse)
    check_sources(make, data, mse)


def text_of(parts):
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def check_sources(make, data, loss):
    """The source of a step, and of the model's inference, in training and in evaluation."""
    model = make(np.random.default_rng(1))
    parameters = list(model.parameters())
    named = {name.replace("layers.", "") for name, _ in model.named_parameters()}
    for mode in (True, False):
        model.train(mode)
        step, predict = compile(lambda *batch: loss(model, *batch)), compile(model, backward=False)
        step(*data(0))
        predict(data(0)[0])
        check_source(step, parameters, *data(1))
        check_source(predict, parameters, data(1)[0])
        assert {g.name for g in step._entries[0].built.program.gradients} == {f"d_model.{name}" for name in named}


@pytest.mark.parametrize("kind", LOSS_LAYERS)
def test_every_loss_layer(kind):
    before, target = loss_sample(kind)
    data = classes if target == "classes" else regression
    both_ways(perceptron, data, lambda model, x, y: kind()(before(model(x)), y))
    check_sources(perceptron, data, lambda model, x, y: kind()(before(model(x)), y))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss):
    before, target = loss_sample(loss)
    for data in (
        (classes, regression) if loss is F.cross_entropy else (classes,) if target == "classes" else (regression,)
    ):
        both_ways(perceptron, data, lambda model, x, y: loss(before(model(x)), y))
        check_sources(perceptron, data, lambda model, x, y: loss(before(model(x)), y))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_of_class_numbers(reduction):
    both_ways(perceptron, classes, lambda model, x, y: F.cross_entropy(model(x), y, reduction) * 0.1)


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_every_activation(function):
    rng = np.random.default_rng(5)
    options = {"rng": rng} if "rng" in inspect.signature(function).parameters else {}

    def loss(model, x, y):
        return np.square(function(model(x), **options) - (y[:, 0] if function is F.logsumexp else y)).mean()

    state = rng.bit_generator.state
    eager = fifty_steps(perceptron, regression, loss, lambda p: tn.optim.SGD(p, lr=0.05), compiled=False)
    rng.bit_generator.state = state
    compiled = fifty_steps(perceptron, regression, loss, lambda p: tn.optim.SGD(p, lr=0.05), compiled=True)
    agree(compiled[0], eager[0])


def test_every_other_function_is_compiled_in_its_layer():
    others = [f for f in map(F.__dict__.get, F.__all__) if f not in {*LOSSES, *ACTIVATIONS}]
    layers = {kind.__name__.lower() for kind in PLAIN_LAYERS}
    assert {f.__name__.replace("_", "") for f in others} <= layers


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer(kind):
    both_ways(perceptron, regression, mse, lambda p: kind(p, lr=0.01))


def test_a_schedule_and_a_hand_written_update():
    def train(compiled):
        model = perceptron(np.random.default_rng(0))
        step = compile(lambda x, y: mse(model, x, y))
        for k in range(50):
            model.zero_grad()
            if compiled:
                step(*regression(k))
            else:
                mse(model, *regression(k)).backward()
            for p in model.parameters():
                p.data -= 0.1 / (k + 1) * p.grad
        return [p.data for p in model.parameters()]

    agree(train(True), train(False))


def inside_transforms():
    """Losses with derivatives in them, of x (3,) and w (3,)."""

    def by_gradients(x, w, create_graph):
        x = tn.Tensor(x, requires_grad=True)
        y = np.tanh(x * w).sum()
        (g,) = tn.gradients(y, [x], create_graph=create_graph, retain_graph=True)
        return np.square(g).sum() + y

    return {
        "grad": lambda x, w: np.square(tn.grad(lambda z: np.tanh(z * w).sum())(x)).sum(),
        "value_and_grad": lambda x, w: (tn.value_and_grad(lambda z: np.sin(z).sum())(x)[1] * w).sum(),
        "gradients": lambda x, w: by_gradients(x, w, create_graph=False),
        "gradients with a graph": lambda x, w: by_gradients(x, w, create_graph=True),
        "hvp": lambda x, w: (tn.hvp(lambda z: np.tanh(z * w).sum())(x, np.arange(3.0)) * w).sum(),
        "jvp": lambda x, w: np.square(tn.jvp(lambda z: np.tanh(z * w))(x, np.arange(3.0))[1]).sum(),
        "jacobian": lambda x, w: (tn.jacobian(lambda z: np.tanh(z * w))(x) * np.arange(3.0)).sum(),
        "hessian": lambda x, w: (tn.hessian(lambda z: np.tanh(z * w).sum())(x)).sum(),
        "stop_gradient": lambda x, w: (tn.stop_gradient(w) * w * x).sum(),
        "no_grad": lambda x, w: (tn.no_grad()(lambda z: np.tanh(z * w))(x) * w).sum(),
        "a Tensor of another dtype": lambda x, w: (tn.Tensor(x, dtype=np.float32) * w).sum(),
    }


@pytest.mark.parametrize("name", inside_transforms())
def test_transforms_inside_a_compiled_loss(name):
    loss = inside_transforms()[name]
    w = tn.Tensor([0.5, -1.0, 2.0], requires_grad=True)
    step = compile(loss)
    for k in range(3):
        x = np.random.default_rng(k).standard_normal(3)
        w.zero_grad()
        value = step(x, w)
        compiled = w.grad
        w.zero_grad()
        expected = loss(x, w)
        expected.backward()
        agree([value.data, compiled], [expected.data, w.grad])
        w.data = w.data * 0.9
    assert step.recordings == 1


# Random networks

SMOOTH = [np.tanh, F.sigmoid, F.relu, F.softmax, np.square, lambda x: x * 0.5, lambda x: -x, np.sin, np.exp]


@st.composite
def networks(draw):
    widths = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    batch = draw(st.integers(0, 4))
    functions = draw(st.lists(st.sampled_from(SMOOTH), min_size=len(widths) - 1, max_size=len(widths) - 1))
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float32]))
    bias = draw(st.booleans())
    residual = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    layers = [tn.nn.Linear(a, b, bias, rng=rng, dtype=dtype) for a, b in itertools.pairwise(widths)]
    x = rng.standard_normal((batch, widths[0])).astype(dtype)
    y = rng.standard_normal((batch, widths[-1])).astype(dtype)

    def loss(x, y):
        for layer, f in zip(layers, functions, strict=True):
            h = f(layer(x))
            x = h + x if residual and h.shape == x.shape else h
        return np.square(x - y).sum() * 0.5, x

    return layers, loss, x, y


@given(networks())
def test_random_networks(case):
    layers, loss, x, y = case
    parameters = [p for layer in layers for p in layer.parameters()]
    step = compile(loss)
    rtol = 1e-12 if x.dtype == np.float64 else 1e-4
    for scale in (1, -0.5):
        for p in parameters:
            p.zero_grad()
        value, out = step(x * x.dtype.type(scale), y)
        compiled = [p.grad.copy() for p in parameters]
        for p in parameters:
            p.zero_grad()
        expected, expected_out = loss(x * x.dtype.type(scale), y)
        expected.backward()
        agree([value.data, out.data], [expected.data, expected_out.data], rtol)
        agree(compiled, [p.grad for p in parameters], rtol)
        for p in parameters:
            p.data *= 0.9
    check_source(step, parameters, x, y)


def check_source(step, parameters, *batch):
    """Executing the source with the same arrays gives the same numbers, and it needs NumPy only."""
    entry = step._entries[0]
    built = entry.built
    space = dict(step.given)
    exec(step.source, space)  # noqa: S102
    states = {id(g): g.bit_generator.state for g in step.given.values()}
    leaves = [a for a in batch if isinstance(a, (np.ndarray, tn.Tensor))]

    def array_of(value):
        if value.role in ("input", "array"):
            return np.asarray(leaves[value.source] if value.role == "input" else value.source)
        holder, key = entry._places.get(id(value.source), ([value.source], 0))
        return holder[key].data.copy()

    arguments = [array_of(value) for value in built.source.arguments]
    found = space["step"](*arguments)
    results, gradients = found if built.program.gradients else (found, ())
    results = results if isinstance(results, tuple) else (results,)
    for g in step.given.values():
        g.bit_generator.state = states[id(g)]
    for p in parameters:
        p.zero_grad()
    value = step(*batch)
    np.testing.assert_array_equal(results[0], (value[0] if isinstance(value, tuple) else value).data)
    for p, gradient in zip(built.parameters, gradients, strict=True):
        np.testing.assert_array_equal(gradient, p.grad)
    for (holder, key), buffer in zip(built.rebound, results[len(results) - len(built.rebound) :], strict=True):
        np.testing.assert_array_equal(buffer, holder[key].data)
    assert set(re.findall(r"^(?:import|from) (\w+)", step.source, re.MULTILINE)) - sys.stdlib_module_names == {"numpy"}
    assert max(map(len, step.source.splitlines())) <= 120


@pytest.mark.skipif(not importlib.util.find_spec("ruff"), reason="the formatter")
def test_sources_are_formatted(tmp_path):
    for kind in PLAIN_LAYERS:
        layer, batch = layer_sample(kind, np.random.default_rng(0))
        w = tn.Tensor(np.ones(1), requires_grad=True)
        step = compile(lambda x, layer=layer, w=w: np.square(layer(x) * w).sum())
        step(batch)
        (tmp_path / f"{kind.__name__}.py").write_text(step.source)
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--diff",
        "--isolated",
        "--no-cache",
        "--line-length=120",
        str(tmp_path),
    ]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@given(st.recursive(st.sampled_from(["name", "0.5", "'a, (b'"]), lambda part: st.lists(part, max_size=30).map(text_of)))
def test_lines_that_are_broken_say_the_same(expression):
    statement = f"    value = np.function({expression}, {expression})  # (3, 4)"
    broken = layout.laid_out(statement)
    assert ast.dump(ast.parse(textwrap.dedent(broken))) == ast.dump(ast.parse(textwrap.dedent(statement)))
    assert broken.count("#") == 1
    assert max(map(len, broken.splitlines())) <= 120 or "(" not in broken.split("(", 2)[-1]


def test_source_reads_as_the_formulas():
    model = perceptron(np.random.default_rng(0))
    step = compile(lambda x, y: tn.functional.mse_loss(model(x), y))
    x, y = regression(0)
    step(x, y)
    backward = step.source[step.source.index("def backward") : step.source.index("return forward")]
    slope = r"np.cosh\((\w+), out=\1\).*\n *np.divide\(d_tanh\w*, \1, out=(\w+)\).*\n *np.divide\(\2, \1, out=d_\1\)"
    assert re.search(slope, backward)  # dZ = dA / cosh(Z)^2
    assert re.search(r"np.dot\((d_\w+), \w*weight.T, out=d_tanh\w*\)", backward)  # dA = dZ W^T
    assert "number" not in step.source


# What a call returns


def test_inference():
    model = perceptron(np.random.default_rng(0))
    predict = compile(model, backward=False)
    x, _ = regression(0)
    np.testing.assert_array_equal(predict(x).data, model(x).data)
    assert not predict(x).requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_results_come_back_in_the_structure_they_had():
    w = tn.Tensor([1.0, 2.0], requires_grad=True)

    def loss(x, *, weights):
        y = x["a"] * w
        return {"loss": y.sum(), "others": [y, (weights[0] + 1, "text", None, 3)]}

    step = compile(loss)
    for k in (1.0, 2.0):
        w.zero_grad()
        result = step({"a": np.array([k, 4.0])}, weights=[np.array([k])])
        assert result["loss"].item() == k + 8
        assert result["others"][0].tolist() == [k, 8]
        assert result["others"][1][0].tolist() == [k + 1]
        assert result["others"][1][1:] == ("text", None, 3)
        assert w.grad.tolist() == [k, 4]


def test_gradients_add_up_as_in_eager():
    w = tn.Tensor([1.0, 2.0], requires_grad=True)
    step = compile(lambda x: np.square(w * x).sum())
    for n in range(1, 4):
        step(np.array([1.0, 1.0]))
        assert w.grad.tolist() == [2.0 * n, 4.0 * n]
    w.zero_grad()
    step(np.array([1.0, 1.0]))
    assert w.grad.tolist() == [2, 4]


def test_a_parameter_as_argument_gets_its_gradient():
    w = tn.Tensor([1.0, 2.0], requires_grad=True)
    v = tn.Tensor([3.0, 2.0], requires_grad=True)
    step = compile(lambda p, x: np.square(p * x).sum())
    step(w, np.ones(2))
    step(v, np.ones(2))
    assert w.grad.tolist() == [2, 4]
    assert v.grad.tolist() == [6, 4]


def test_a_model_as_argument():
    models = [perceptron(np.random.default_rng(k)) for k in (0, 1)]
    step = compile(mse)
    for model in models:
        for k in range(2):
            model.zero_grad()
            value = step(model, *regression(k))
            compiled = [p.grad.copy() for p in model.parameters()]
            model.zero_grad()
            expected = mse(model, *regression(k))
            expected.backward()
            agree([value.data], [expected.data])
            agree(compiled, [p.grad for p in model.parameters()])


def test_the_cache_is_bounded():
    w = tn.Tensor([1.0], requires_grad=True)
    step = compile(lambda x: (w * x).sum(), cache=3)
    for n in range(1, 8):
        assert step(np.ones(n)).item() == n
        assert len(step._entries) == min(n, 3)


def test_words():
    w = tn.Tensor(np.ones((3, 2)), requires_grad=True)
    step = compile(lambda x: np.tanh(x @ w).sum())
    with pytest.raises(tn.errors.GraphError, match="no program yet"):
        step.source  # noqa: B018
    step(np.ones((5, 3)))
    assert "def forward(x, w):" in step.source
    assert "np.dot(x, w, out=dot)  # (5, 2)" in step.source
    assert "np.dot(x.T, " in step.source
    text = step.explain()
    assert "buffers" in text
    assert "parameters: w" in text
    assert repr(step) == "<compiled <lambda>, 1 program>"
    for wrong in (3, step):
        with pytest.raises(tn.errors.ArgumentError):
            compile(wrong)
    with pytest.raises(tn.errors.ArgumentError):
        compile(abs, cache=0)


@pytest.mark.parametrize("target", [np.array([0.0, 1.0, 1.0]), np.ones(3), np.zeros(3), np.array([0.25, 0.5, 1.0])])
def test_a_loss_that_takes_probabilities_only(target) -> None:
    w = tn.Tensor(np.array([0.5, -1.0, 2.0]), requires_grad=True)
    loss = lambda x, y: tn.functional.binary_cross_entropy_with_logits(w * x, y)
    step = tn.compile(loss)
    for y in (target, target[::-1]):
        x = np.array([1.0, 2.0, -1.0])
        w.grad = None
        value = step(x, y)
        found, w.grad = w.grad.copy(), None
        expected = loss(x, y)
        expected.backward()
        assert value.item() == expected.item()
        np.testing.assert_allclose(found, w.grad, rtol=1e-12)
    with pytest.raises(tn.errors.ArgumentError, match="probabilities"):
        step(x, target + 1.5)
