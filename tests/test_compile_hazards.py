"""The footguns of a recorded program: each gives the right answer or a clear error, never a frozen value.

Each hazard is rated by what it would do if nothing were done about it: SILENT (wrong numbers and no
sign of it), LOUD (an error from NumPy that nobody understands), MILD (surprising, and documented).
"""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import contextvars
import copy
import functools
import gc
import importlib
import itertools
import math
import operator
import os
import pickle
import queue
import random
import sys
import threading
import time
import types
import warnings
import weakref

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn.compiler import compile  # noqa: A004
from tinygrad_nn.compiler.capture import Watch

GraphError = tn.errors.GraphError
F = tn.functional
SETTINGS = types.SimpleNamespace(scale=2.0)
lr = 0.5
table = np.arange(4.0)


def parameter(*values):
    return tn.Tensor(np.array(values), requires_grad=True)


def check(function, step, *args, parameters=()):
    """The compiled call gives what the eager one gives, gradients included."""
    for p in parameters:
        p.zero_grad()
    value = step(*args)
    grads = [p.grad.copy() for p in parameters]
    for p in parameters:
        p.zero_grad()
    expected = function(*args)
    expected.backward()
    np.testing.assert_allclose(value.data, expected.data, rtol=1e-12)
    for p, g in zip(parameters, grads, strict=True):
        np.testing.assert_allclose(g, p.grad, rtol=1e-12)


def refused(function, *args, match):
    with pytest.raises(GraphError, match=match):
        compile(function)(*args)


# Values that decide, or that leave the recording


def test_a_branch_on_a_value():
    """SILENT: the branch of the first call would be taken for ever."""
    w = parameter(1.0, 2.0)
    refused(lambda x: (x * w).sum() if x.sum() > 0 else (x - w).sum(), np.ones(2), match="branches on values")
    refused(lambda x: (x * w).sum() if w.data[0] > 0 else w.sum(), np.ones(2), match="branches on values")


def test_a_value_that_becomes_a_number():
    """SILENT: a branch that no data of the recording takes; the exits of a Tensor tell the tape."""
    with pytest.raises(GraphError, match=r"item\(\) of a Tensor.*branches on values"):
        Watch().leave("item()")


def test_a_loop_whose_length_is_a_value():
    """SILENT: the number of rounds would be frozen."""
    w = parameter(3.0)

    def loss(x):
        while x.item() < 10:
            x = x * w
        return x.sum()

    refused(loss, np.array([1.0]), match="branches on values")


@pytest.mark.parametrize(
    "leave",
    [
        lambda t: t.item(),
        float,
        lambda t: t.tolist(),
        lambda t: int(t.item() * 1e6),
        lambda t: np.asarray(t.data),
        lambda t: math.exp(t.data),
        lambda t: np.array([t.data, 1.0]),
    ],
)
def test_a_value_that_leaves_and_comes_back(leave):
    """SILENT: the number would be a constant of the program."""
    w = parameter(1.0, 2.0)
    refused(lambda x: (w * leave(x.sum())).sum(), np.array([1.0, 3.0]), match="freeze")


@pytest.mark.parametrize(
    "stay", [lambda t: t.numpy().max(), lambda t: t.data + 1, lambda t: np.exp(t.numpy()), lambda t: 2 / (1 + t.data)]
)
def test_arrays_that_leave_are_recorded_too(stay):
    """SILENT: what is computed from .data or .numpy() would be that of the first call."""
    w = parameter(1.0, 2.0)

    def loss(x):
        return (w * stay(x.sum()) + stay(w)).sum()

    step = compile(loss)
    for k in (1.0, 0.5):
        check(loss, step, tn.Tensor([k, 3.0]), parameters=[w])
        w.data = w.data * 1.5
    assert len(step._entries) == 1


@pytest.mark.parametrize(
    "decide",
    [
        lambda w, v: w.data.max() > 1e6,
        lambda w, v: np.isnan(w.data).any(),
        lambda w, v: np.array_equal(w.data, v),
        lambda w, v: (v > 1e6).any(),
        lambda w, v: max(v) > 1e6,
        lambda w, v: v[0] == 1e9,
        lambda w, v: 1e6 in v,
    ],
)
def test_comparisons_that_come_out_the_same_while_recording(decide):
    """SILENT: a branch that no data of the recording takes would never be taken."""
    w, v = parameter(1.0, 2.0), np.array([1.0, 2.0])
    refused(lambda x: (x * w).sum() * (2.0 if decide(w, v) else 1.0), np.ones(2), match="branches on values")


def test_a_parameter_that_leaves_and_comes_back():
    """SILENT: a weight decay computed from .data would stay that of the first call."""
    w = parameter(1.0, 2.0)
    refused(lambda x: (w * x).sum() * float(np.abs(w.data).sum()), np.ones(2), match="freeze")


def test_detach_is_fine():
    w = parameter(1.0, 2.0)

    def loss(x):
        return (w * x).sum() * w.detach().sum() + (x * tn.stop_gradient(w * x)).sum()

    step = compile(loss)
    for k in range(3):
        check(loss, step, np.array([1.0 + k, 2.0]), parameters=[w])
        w.data = w.data * 1.5


def test_printing_a_loss(capsys):
    """MILD: it prints when the function is recorded, and not at every call."""
    w = parameter(1.0, 2.0)

    def loss(x):
        y = (x * w).sum()
        print(f"loss {y:.1f}")  # noqa: T201
        return y

    step = compile(loss)
    step(np.ones(2))
    step(np.ones(2))
    assert capsys.readouterr().out == "loss 3.0\n"


def test_numpy_on_an_array_from_outside():
    """SILENT: the sum would be that of the first call, however the array changes."""
    w = parameter(1.0, 2.0)
    scale = np.array([1.0, 2.0])
    pair = (np.array([1.0, 2.0]), 2.0)

    def loss(x):
        return (x * w).sum() * scale.sum() * table[1:].max() * np.exp(pair[0]).mean()

    step = compile(loss)
    for array in (scale, table, pair[0]):
        check(loss, step, np.ones(2), parameters=[w])
        np.add(array, 1.5, out=array)
    check(loss, step, np.ones(2), parameters=[w])
    assert len(step._entries) == 1
    table[...] = np.arange(4.0)


def test_a_step_under_no_grad():
    """SILENT: `with no_grad(): step(x_val)` would add the gradients of the validation to those of the training."""
    w = parameter(1.0, 2.0)

    def loss(x):
        return np.square(x * w).sum()

    step, predict = compile(loss), compile(loss, backward=False)
    for _ in range(2):
        w.zero_grad()
        with tn.no_grad():
            with pytest.raises(GraphError, match=r"no_grad\(\) is around it: .* compile loss with backward=False"):
                step(np.ones(2))
            assert w.grad is None
            assert predict(np.ones(2)).item() == 5
        check(loss, step, np.ones(2), parameters=[w])
    assert predict.recordings == 1


TRANSFORMS = {
    "grad": tn.grad,
    "hessian": tn.hessian,
    "vjp": lambda f: lambda x: tn.vjp(f)(x)[1](1.0),
    "jvp": lambda f: lambda x: tn.jvp(f)(x, np.ones(2))[1],
    "hvp": lambda f: lambda x: tn.hvp(f)(x, np.ones(2)),
}


@pytest.mark.parametrize("anomaly", [False, True])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_compiled_function_inside_a_transform(name, anomaly):
    """SILENT: zeros, since a result without a graph depends on nothing."""
    w, x, transform = parameter(1.0, 2.0), np.array([0.3, -0.7]), TRANSFORMS[name]

    def energy(x):
        return (np.tanh(x * w) ** 2).sum()

    step, predict = compile(energy), compile(energy, backward=False)
    with tn.detect_anomaly() if anomaly else contextlib.nullcontext():
        for _ in range(2):
            w.zero_grad()
            expected, found = transform(energy)(x), transform(lambda x: predict(x) * 1.0)(x)
            np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)
            with pytest.raises(GraphError, match="has no graph: differentiate energy itself"):
                transform(step)(x)
            assert w.grad is None
            predict(x)
            step(x)


def test_gradients_of_a_model_whose_forward_is_compiled():
    """SILENT: zeros for every parameter, which stand in the model and not in the arguments."""
    net, x = tn.nn.Linear(2, 3, rng=np.random.default_rng(0)), np.ones((4, 2))
    predict = compile(net, backward=False)
    predict(x)
    found, expected = (tn.grad(lambda _net, f=f: np.square(f(x)).sum())(net) for f in (predict, net))
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-12)


def test_a_gradient_that_the_loss_reads():
    """SILENT: the gradient of the first call, or whether there was one."""
    w, v = parameter(1.0, 2.0), parameter(3.0, 4.0)
    w.grad = np.ones(2)
    for loss in (
        lambda x: (x * v).sum() * w.grad.sum(),
        lambda x: (x * v).sum() * (2.0 if w.grad is None else 1.0),
        lambda x: (x * w).sum() + np.sum(w.grad * v),
    ):
        refused(loss, np.ones(2), match=r"reads the \.grad of a Tensor")
    assert w.grad.tolist() == [1, 1]


def test_no_grad_inside():
    """SILENT: what is computed under no_grad would be frozen, were it not recorded."""
    w = parameter(1.0, 2.0)

    def loss(x):
        with tn.no_grad():
            scale = (w * x).sum()
        return (w * x).sum() * scale

    step = compile(loss)
    for k in (1.0, 2.0):
        check(loss, step, np.full(2, k), parameters=[w])
        w.data = w.data * 1.5
    refused(lambda x: tn.no_grad()(lambda: (w * x).sum().item())() * (w * x).sum(), np.ones(2), match="branches")


def test_a_mask_as_index():
    """LOUD: the number of entries changes from call to call."""
    w = parameter(1.0, -2.0, 3.0)
    refused(lambda x: (x * w)[x > 0].sum(), np.array([1.0, 2.0, -3.0]), match="np.where")


def test_the_clock():
    """SILENT: the time of the first call."""
    w = parameter(1.0)
    refused(lambda x: (x * w).sum() * time.perf_counter(), np.ones(1), match="freeze")


# Chance


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.random(2),
        lambda rng: rng.normal(),
        lambda rng: np.random.random(2),  # noqa: NPY002
        lambda rng: random.random(),
        lambda rng: np.random.default_rng().random(2),
    ],
)
def test_a_generator_drawn_from_directly(draw):
    """SILENT: one draw for ever."""
    rng = np.random.default_rng(0)
    w = parameter(1.0, 2.0)
    refused(lambda x: (x * w * draw(rng)).sum(), np.ones(2), match="freeze")


def test_an_array_inside_a_tuple():
    """LOUD: nothing can be exchanged in a tuple, but its arrays are read where they are."""
    w = parameter(1.0, 2.0, 3.0)
    index = (np.array([0, 2]),)

    def loss(x):
        return (w[index] * x).sum()

    step = compile(loss)
    check(loss, step, np.array([1.0, 5.0]), parameters=[w])
    index[0][0] = 1
    check(loss, step, np.array([1.0, 5.0]), parameters=[w])


def _temperatures():
    yield from [1.0] * 100 + [2.0] * 100


def _counted():
    count = 0
    while True:
        count += 1
        yield 1.0 if count < 100 else 2.0


def _begun(iterator):
    next(iterator)
    return iterator


ITERATORS = {
    "generator": _temperatures,
    "generator in its course": lambda: _begun(_temperatures()),
    "generator that counts": lambda: _begun(_counted()),
    "list": lambda: iter([1.0] * 100 + [2.0]),
    "range": lambda: (1.0 + k // 100 for k in range(200)),
    "map": lambda: map(float, [1] * 100 + [2]),
    "zip": lambda: (a for a, _ in zip([1.0] * 100, range(100), strict=True)),
    "chain": lambda: itertools.chain([1.0] * 100, [2.0]),
    "cycle": lambda: itertools.cycle([1.0] * 100 + [2.0]),
    "repeat": lambda: itertools.repeat(1.0, 100),
    "count": lambda: itertools.count(1.0, 0.0),
}


@pytest.mark.parametrize("kind", ITERATORS)
def test_an_iterator_that_the_loss_takes_the_next_of(kind):
    """SILENT: a schedule's number for ever, if it was the same in all runs of the recording."""
    if kind == "generator in its course" and sys.version_info >= (3, 15):
        pytest.skip("where a generator is in a loop over a list cannot be seen there")
    w, values = parameter(1.0, 2.0), ITERATORS[kind]()
    if kind == "count":
        refused(lambda x: (x * w).sum() * (next(numbers) < 100), np.ones(2), match="takes the next of the iterator")
    else:
        refused(lambda x: (x * w).sum() * next(values), np.ones(2), match="takes the next of the iterator")
    step = compile(lambda x: (x * w).sum() * (2.0 if values is None else 1.0))
    for _ in range(2):  # what others take does not matter
        assert step(np.ones(2)).item() == 3
        next(values)
    assert step.recordings == 1


numbers = itertools.count()


def test_a_generator_made_inside():
    """SILENT: eager code draws the same numbers at each call, a program would go on drawing."""
    w = parameter(1.0, 2.0)
    refused(lambda x: F.dropout(x * w, rng=np.random.default_rng(0)).sum(), np.ones(2), match="generator")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dropout_draws_anew_as_eager_code_does(dtype):
    """SILENT: one mask for ever."""
    rng = np.random.default_rng(3)
    net = tn.nn.Sequential(tn.nn.Linear(6, 6, rng=rng, dtype=dtype), tn.nn.Dropout(0.5, rng=rng))

    def loss(x):
        return np.square(net(x)).sum()

    x = np.ones((3, 6), dtype)
    start = rng.bit_generator.state
    expected = [loss(x).item() for _ in range(4)]
    after = rng.bit_generator.state
    rng.bit_generator.state = start
    step = compile(loss)
    assert [step(x).item() for _ in range(4)] == pytest.approx(expected, rel=1e-12 if dtype == np.float64 else 1e-5)
    assert len(set(expected)) == 4
    assert rng.bit_generator.state == after


# What is around the function


def test_a_number_in_a_variable_an_attribute_or_a_global():
    """SILENT: the learning rate or factor of the first call."""
    global lr  # noqa: PLW0603
    factor = 1.0
    w = parameter(1.0, 2.0)
    options = {"power": [1.0]}

    def loss(x):
        return (x * w).sum() * factor * SETTINGS.scale * lr * options["power"][0]

    step = compile(loss)
    for change in range(8):
        factor = [1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.0, 1.0][change]
        SETTINGS.scale = [2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 2.0, 2.0][change]
        lr = [0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5, 0.5][change]
        options["power"][0] = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0][change]
        check(loss, step, np.ones(2), parameters=[w])
    assert len(step._entries) == 5


def test_a_number_that_is_passed():
    """SILENT if it were frozen; it is part of what a program is found by, and many give a warning."""
    w = parameter(1.0, 2.0)

    def loss(x, rate):
        return (x * w).sum() * rate

    step = compile(loss)
    for k in range(7):
        check(loss, step, np.ones(2), 0.5**k, parameters=[w])
    with pytest.warns(UserWarning, match="recorded 8 times"):
        check(loss, step, np.ones(2), 0.0, parameters=[w])
    check(loss, step, np.ones(2), -0.0, parameters=[w])
    assert len(step._entries) == 9


def test_a_nan_that_is_passed():
    """MILD: nan is not equal to itself, so every call would be recorded."""
    w = parameter(1.0, 2.0)
    step = compile(lambda x, fill: (x * w).sum() + np.where(np.isnan(fill), 0.0, fill))
    for _ in range(4):
        assert step(np.ones(2), float("nan")).item() == 3
    assert step.recordings == 1
    assert step(np.ones(2), 4.0).item() == 7


def test_a_number_passed_as_an_array_is_read_anew():
    w = parameter(1.0, 2.0)

    def loss(x, rate):
        return (x * w).sum() * rate

    step = compile(loss)
    for k in range(20):
        check(loss, step, np.ones(2), np.array(0.5**k), parameters=[w])
    assert len(step._entries) == 1


def test_a_helper_function_that_is_exchanged():
    """SILENT: the old function."""
    w = parameter(1.0, 2.0)
    activation = np.tanh

    def loss(x):
        return activation(x * w).sum()

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    activation = np.sin
    check(loss, step, np.ones(2), parameters=[w])


class Net(tn.nn.Module):
    """A network with everything that can change."""

    gain = 1.0

    def __init__(self):
        self.weight = parameter(1.0, 2.0)
        self.scale = parameter(1.5)
        self.offset = tn.Tensor([0.5, 0.25])
        self.one = tn.Tensor(2.0)
        self.raw = np.array([1.0, 3.0])
        self.power = 1

    def forward(self, x):
        y = x * self.weight * self.scale + self.offset * self.raw * self.one
        return (y if self.training else -y) ** self.power * self.gain

    def loss(self, x):
        return np.square(self(x)).sum()


def changes():
    def put(name, make):
        return lambda net: setattr(net, name, make())

    return {
        "parameter replaced": put("weight", lambda: parameter(3.0, 4.0)),
        "parameter of one entry replaced": put("scale", lambda: parameter(1.5)),
        "buffer replaced": put("offset", lambda: tn.Tensor([3.0, 4.0])),
        "buffer of one entry replaced": put("one", lambda: tn.Tensor(2.0)),
        "array replaced": put("raw", lambda: np.array([7.0, 8.0])),
        "number": put("power", lambda: 2),
        "kind of number": put("power", lambda: 1.0),
        "training": lambda net: net.eval(),
        "parameter's data": lambda net: setattr(net.weight, "data", np.array([9.0, 8.0])),
        "buffer's data": lambda net: setattr(net.offset, "data", np.array([9.0, 8.0])),
        "buffer of another shape": lambda net: setattr(net.offset, "data", np.array(9.0)),
        "written into": lambda net: net.raw.__setitem__(0, 5.0),
        "parameter written into": lambda net: net.weight.data.__setitem__(0, 5.0),
        "loaded": lambda net: net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()}),
        "unfrozen": lambda net: setattr(net.offset, "requires_grad", True),
        "frozen": lambda net: setattr(net.weight, "requires_grad", False),
        "frozen and back": lambda net: [setattr(net.weight, "requires_grad", r) for r in (False, True)],
        "class attribute": lambda net: setattr(Net, "gain", 3.0),
    }


@pytest.mark.parametrize("name", changes())
def test_a_model_that_changes(name):
    """SILENT: the old layer, number, switch or array, or a gradient that goes to a Tensor nobody has."""
    net = Net()
    step = compile(net.loss)
    x = np.array([2.0, 3.0])
    try:
        for _ in range(2):
            check(net.loss, step, x, parameters=list(net.parameters()))
            check(net.loss, step, x + 1, parameters=list(net.parameters()))
            changes()[name](net)
            check(net.loss, step, x, parameters=list(net.parameters()))
    finally:
        Net.gain = 1.0


def test_what_is_read_of_a_tensor_or_an_array_but_its_numbers():
    """SILENT: a branch on whether a Tensor is frozen, or on the shape of an array."""
    w, other, table = parameter(1.0, 2.0), parameter(1.0), np.ones((2, 6))

    def loss(x):
        return (x * w).sum() * (2.0 if other.requires_grad else 3.0) * len(table)

    step = compile(loss)
    for requires_grad in (True, False, True):
        other.requires_grad = requires_grad
        check(loss, step, np.ones(2), parameters=[w])
        with warnings.catch_warnings():  # NumPy will forbid it one day
            warnings.simplefilter("ignore")
            table.shape = (3, 4) if requires_grad else (4, 3)
        check(loss, step, np.ones(2), parameters=[w])
    assert step.recordings == 5


def test_what_the_first_call_makes():
    """LOUD: which attribute changes, and what to do about one that is made once only, would not be said."""

    class Lazy(tn.nn.Module):
        def __init__(self):
            self.w = parameter(1.0, 2.0)

        @functools.cached_property
        def mask(self):
            return np.array([1.0, 0.0])

        def forward(self, x):
            return (x * self.w * self.mask).sum()

    net = Lazy()
    refused(net, np.ones(2), match=r"changes what net holds \(mask is new there; .* call the function itself before")
    net(np.ones(2))
    check(net, compile(net), np.ones(2), parameters=[net.w])


def test_layers_that_are_added():
    """SILENT: the new layer would be left out."""
    net = tn.nn.Sequential(tn.nn.Linear(2, 2, rng=np.random.default_rng(0)))

    def loss(x):
        return np.square(net(x)).sum()

    step = compile(loss)
    check(loss, step, np.ones((1, 2)), parameters=list(net.parameters()))
    net.layers.append(tn.nn.Tanh())
    check(loss, step, np.ones((1, 2)), parameters=list(net.parameters()))


def test_what_compile_cannot_see():
    """SILENT: it would not be noticed when such an array or parameter is exchanged."""
    hidden = queue.SimpleQueue()
    w = parameter(1.0, 2.0)

    def held():
        item = hidden.get()
        hidden.put(item)
        return item

    hidden.put(w)
    refused(lambda x: (x * held()).sum(), np.ones(2), match="cannot (see|find)")
    hidden.get()
    hidden.put(np.array([1.0, 2.0]))
    refused(lambda x: (x * w * held()).sum(), np.ones(2), match="cannot see")


def test_what_stays_as_it_was_and_the_documentation_says_so():
    """SILENT: a number behind a method of somebody else's class, in a variable of theirs, or in a file."""
    numbers = queue.SimpleQueue()
    numbers.put(1.0)
    w = parameter(1.0, 2.0)

    def number():
        value = numbers.get()
        numbers.put(value)
        return value

    step = compile(lambda x: (x * w).sum() * number())
    assert step(np.ones(2)).item() == 3
    numbers.get()
    numbers.put(2.0)
    assert step(np.ones(2)).item() == 3
    text = " ".join(compile.__doc__.split())
    assert "variables and classes of installed packages; what an object of their classes keeps" in text
    assert "Pass such a number as an argument" in text


# Where a number may stand: each gives a way to read it, and a way to change it


class Slotted:
    """Its attributes live in slots."""

    __slots__ = ("scale",)


class Method:
    """Its number comes from a method, a property and a class attribute."""

    base = 1.0

    def scale(self):
        return self.base

    @property
    def also(self):
        return self.scale() * type(self).base


_SCALE_0 = 1.0


class Twice:
    """A descriptor that reads an attribute of the object on which it stands."""

    def __get__(self, instance, owner=None):
        return instance.hidden * 2


class Described:
    """Its numbers are reached by a descriptor, and by names that are put together."""

    scale = Twice()
    class_0 = [1.0]  # noqa: RUF012

    def __init__(self):
        self.hidden = self.factor_0 = 1.0


class Listed(list):
    """A list with an attribute of its own."""

    scale = 1.0


class Slots(dict):
    """A dict with a slot, and an attribute that only its class's code puts a name together for."""

    __slots__ = ("_hidden", "scale")
    __match_args__ = ("scale",)

    def __getattr__(self, name):
        return object.__getattribute__(self, "_" + name)


def default(x, scale=1.0, *, other=(1.0,)):
    return x * scale * other[0]


def places():
    """Give a reader and a writer of one number for every place that code can read from."""
    slotted, unset = Slotted(), Slotted()
    slotted.scale = 1.0
    module = types.ModuleType("settings")
    module.scale = module.scale_0 = 1.0
    method = Method()
    inner = {"scale": 1.0}
    proxy = types.MappingProxyType(inner)
    variable = contextvars.ContextVar("variable", default=1.0)
    options = argparse.Namespace(scale=1.0)
    chain = collections.ChainMap({}, {"scale": 1.0})
    os.environ["TINYGRAD_NN_SCALE"] = "1.0"
    sys.modules["tinygrad_nn_settings"] = imported = types.ModuleType("settings_of_a_test")
    imported.scale = 1.0
    bound = functools.partial(default, scale=1.0)
    local = threading.local()
    local.scale = 1.0
    user = collections.UserDict(scale=1.0)
    nested = [(1.0, {"a": [1.0]})]
    data = bytearray([1])
    function = types.FunctionType(default.__code__, {}, "function", (1.0,))
    function.__kwdefaults__ = {"other": (1.0,)}
    function.scale = 1.0
    schedule = tn.optim.SGD([parameter(1.0)], lr=1.0)
    package = types.ModuleType("settings")
    package.inner = types.ModuleType("settings.inner")
    package.inner.train = types.ModuleType("settings.inner.train")
    package.inner.train.scale = 1.0
    described = Described()
    listed, slots = Listed([1.0]), Slots()
    slots.scale = slots._hidden = 1.0
    factory = collections.defaultdict(lambda: 1.0)
    named = functools.partial(getattr, described, "factor_0")
    getter = operator.attrgetter("factor_0")
    caller = operator.methodcaller("scale")
    seen = inner.values()
    cached = functools.partial(lambda: holder.cell)
    holder = types.SimpleNamespace(cell=1.0)
    get = user.get

    def imports():
        import tinygrad_nn_settings  # type: ignore[import-not-found]  # noqa: PLC0415

        return tinygrad_nn_settings.scale

    def by_keyword():
        match described:
            case Described(factor_0=1.0):
                return 1.0
        return 2.5

    def by_position():
        match slots:
            case Slots(scale):
                return scale

    def write_factory(value):
        factory.default_factory = lambda: value

    def write_default(value):
        function.__defaults__ = (value,)

    def write_keyword(value):
        function.__kwdefaults__ = {"other": (value,)}

    def write_code(value):
        function.__code__ = (default if value == 1.0 else lambda x, scale=1.0, *, other=(1.0,): x * 3.0).__code__

    return {
        "slot": (lambda: slotted.scale, lambda v: setattr(slotted, "scale", v)),
        "slot that was empty": (lambda: getattr(unset, "scale", 1.0), lambda v: setattr(unset, "scale", v)),
        "module in a closure": (lambda: module.scale, lambda v: setattr(module, "scale", v)),
        "variable that a module gets": (
            lambda: getattr(module, "later", 1.0),
            lambda v: setattr(module, "later", v),
        ),
        "module imported inside": (imports, lambda v: setattr(imported, "scale", v)),
        "module in a package": (
            lambda: package.inner.train.scale,
            lambda v: setattr(package.inner.train, "scale", v),
        ),
        "module imported by its name": (
            lambda: importlib.import_module("tinygrad_nn_settings").scale,
            lambda v: setattr(imported, "scale", v),
        ),
        "descriptor": (lambda: described.scale, lambda v: setattr(described, "hidden", v)),
        "name that is put together": (
            lambda: getattr(described, f"factor_{0}"),
            lambda v: setattr(described, "factor_0", v),
        ),
        "name in a module that is put together": (
            lambda: getattr(module, f"scale_{0}"),
            lambda v: setattr(module, "scale_0", v),
        ),
        "name in a class that is put together": (
            lambda: getattr(Described, f"class_{0}")[0],
            lambda v: Described.class_0.__setitem__(0, v),
        ),
        "global whose name is put together": (
            lambda: globals()["_SCALES"[:-1] + "_0"],
            lambda v: globals().__setitem__("_SCALE_0", v),
        ),
        "name that is chosen": (
            lambda: getattr(described, "nothing" if described is None else "factor" + "_0"[:2], None),
            lambda v: setattr(described, "factor_0", v),
        ),
        "names that are listed": (
            lambda: sum(getattr(described, name) for name in dir(described) if name.startswith("fac")),
            lambda v: setattr(described, "factor_0", v),
        ),
        "case by keyword": (by_keyword, lambda v: setattr(described, "factor_0", v)),
        "case by position": (by_position, lambda v: setattr(slots, "scale", v)),
        "slot of a dict": (lambda: slots.scale, lambda v: setattr(slots, "scale", v)),
        "object.__getattribute__": (lambda: slots.hidden, lambda v: setattr(slots, "_hidden", v)),
        "attribute of a list": (lambda: listed.scale, lambda v: setattr(listed, "scale", v)),
        "entry of a list of one's own": (lambda: sum(listed), lambda v: listed.__setitem__(0, v)),
        "factory of a dict": (lambda: factory.default_factory() * 1, write_factory),
        "getattr in a partial": (named, lambda v: setattr(described, "factor_0", v)),
        "text of format": (
            lambda: float("{0.factor_0}".format(described)),  # noqa: UP030, UP032
            lambda v: setattr(described, "factor_0", v),
        ),
        "attrgetter": (lambda: getter(described), lambda v: setattr(described, "factor_0", v)),
        "methodcaller": (lambda: caller(method), lambda v: setattr(method, "base", v)),
        "text of eval": (
            lambda: eval("SETTINGS.scale * 1.0"),  # noqa: S307
            lambda v: setattr(SETTINGS, "scale", v),
        ),
        "view of a dict": (lambda: sum(seen), lambda v: inner.__setitem__("scale", v)),
        "method": (lambda: method.also, lambda v: setattr(Method, "scale", lambda self: v)),
        "class attribute": (lambda: method.also, lambda v: setattr(Method, "base", v)),
        "attribute over a class's": (lambda: method.scale() * 1, lambda v: setattr(method, "base", v)),
        "proxy": (lambda: proxy["scale"], lambda v: inner.__setitem__("scale", v)),
        "context variable": (variable.get, variable.set),
        "environment": (
            lambda: float(os.environ["TINYGRAD_NN_SCALE"]),
            lambda v: os.environ.__setitem__("TINYGRAD_NN_SCALE", str(v)),
        ),
        "command line": (lambda: options.scale, lambda v: setattr(options, "scale", v)),
        "chain": (lambda: chain["scale"], lambda v: chain.__setitem__("scale", v)),
        "user's dict": (lambda: user["scale"], lambda v: user.__setitem__("scale", v)),
        "bound method of a dict": (lambda: get("scale"), lambda v: user.__setitem__("scale", v)),
        "keyword of a partial": (lambda: bound(1.0), lambda v: bound.keywords.__setitem__("scale", v)),
        "thread's own": (lambda: local.scale, lambda v: setattr(local, "scale", v)),
        "nested": (lambda: nested[0][1]["a"][0], lambda v: nested[0][1]["a"].__setitem__(0, v)),
        "tuple": (lambda: nested[0][0], lambda v: nested.__setitem__(0, (v, {"a": [1.0]}))),
        "bytes": (lambda: data[0] * 1.0, lambda v: data.__setitem__(0, int(v * 2))),
        "default": (lambda: function(1.0), write_default),
        "keyword default": (lambda: function(1.0), write_keyword),
        "code": (lambda: function(1.0), write_code),
        "attribute of a function": (lambda: function.scale, lambda v: setattr(function, "scale", v)),
        "foreign object": (lambda: schedule.param_groups[0]["lr"], lambda v: schedule.param_groups[0].update(lr=v)),
        "function in a partial": (cached, lambda v: setattr(holder, "cell", v)),
    }


@pytest.mark.parametrize("name", places())
def test_a_number_anywhere(name):
    """SILENT: the number of the first call for ever."""
    w = parameter(1.0, 2.0)
    read, write = places()[name]

    def loss(x):
        return (x * w).sum() * read()

    step = compile(loss)
    try:
        for value in (1.0, 2.5, 1.0):
            write(value)
            for k in (1.0, 2.0):
                check(loss, step, np.full(2, k), parameters=[w])
        assert len(step._entries) <= 3
    finally:
        Method.base, Method.scale = 1.0, METHOD_SCALE
        os.environ.pop("TINYGRAD_NN_SCALE")


METHOD_SCALE = Method.scale


def test_globals_that_appear_later():
    """SILENT: the name would go on meaning the built-in, or what `except NameError` gave."""
    space = {"np": np, "w": parameter(1.0, 2.0)}
    exec(  # noqa: S102
        "def loss(x):\n"
        "    try:\n"
        "        y = (x * w).sum() * scale\n"
        "    except NameError:\n"
        "        y = (x * w).sum()\n"
        "    return y * abs(-2.0)",
        space,
    )
    step = compile(space["loss"])
    check(space["loss"], step, np.ones(2), parameters=[space["w"]])
    space["scale"] = 3.0
    check(space["loss"], step, np.ones(2), parameters=[space["w"]])
    space["abs"] = lambda x: 7.0
    check(space["loss"], step, np.ones(2), parameters=[space["w"]])
    del space["scale"]
    check(space["loss"], step, np.ones(2), parameters=[space["w"]])
    assert len(step._entries) == 4


def test_two_functions_that_read_other_variables_of_one_module():
    """SILENT: only what the first one reads would be looked after."""
    module = types.ModuleType("settings")
    module.a, module.b = 1.0, 1.0
    w = parameter(1.0)

    def helper():
        return module.b

    def loss(x):
        return (x * w).sum() * module.a * helper()

    step = compile(loss)
    for name in ("a", "b"):
        check(loss, step, np.ones(1), parameters=[w])
        setattr(module, name, 3.0)
    check(loss, step, np.ones(1), parameters=[w])


def test_layers_in_another_order():
    """SILENT: dicts that hold the same in another order are equal."""
    w = parameter(1.0, 2.0)
    layers = {"sin": np.sin, "square": np.square}

    def loss(x):
        y = x * w
        for layer in layers.values():
            y = layer(y)
        return y.sum()

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    layers["sin"] = layers.pop("sin")
    check(loss, step, np.ones(2), parameters=[w])


class Trainer:
    """Keeps much that its loss does not read."""

    def __init__(self):
        self.w = parameter(1.0, 2.0)
        self.history = []
        self.steps = 0
        self.scale = 1.0

    def loss(self, x):
        return (x * self.w).sum() * self.scale

    def fit(self, step):
        for k in range(9):
            self.steps += 1
            self.history.append(step(np.full(2, float(k))).item())


def test_what_an_object_keeps_and_the_function_does_not_read():
    """MILD: recording anew at every call would be slow."""
    trainer = Trainer()
    step = compile(trainer.loss)
    trainer.fit(step)
    assert len(step._entries) == 1
    trainer.scale = 2.0
    check(trainer.loss, step, np.ones(2), parameters=[trainer.w])


def test_what_a_module_keeps_and_its_forward_does_not_read():
    """MILD: recording anew at every call, since a Module looks through all its attributes for parameters."""

    class Net(tn.nn.Module):
        def __init__(self):
            self.w = parameter(1.0, 2.0)
            self.losses, self.count, self.best = [], 0, {}

        def forward(self, x):
            return np.square(x * self.w).sum() + 0.1 * sum((p * p).sum() for p in self.parameters())

    net = Net()
    step = compile(net)
    for k in range(4):
        check(net, step, np.full(2, 1.0 + k), parameters=[net.w])
        net.losses.append(0.5)
        net.best[k] = 0.5
        net.count += 1
    assert step.recordings == 1
    net.v = parameter(3.0)  # which parameters() gives from now on
    check(net, step, np.ones(2), parameters=[net.w, net.v])


def test_a_parameter_that_is_its_gradient():
    """SILENT: the program writes gradients into the arrays that it handed out, parameters by then."""
    for view in (lambda g: g, lambda g: g[::-1], lambda g: g.reshape(2)):
        w, v = parameter(1.0, 2.0), parameter(1.0, 2.0)

        def loss(x, w):
            return (np.square(w) * x).sum()

        step = compile(loss)
        x = np.array([1.0, 3.0])
        for _ in range(3):
            step(x, w)
            loss(x, v).backward()
            for p in (w, v):
                p.data = view(p.grad)
            assert w.data.tolist() == v.data.tolist()
            assert w.grad.tolist() == v.grad.tolist()
            before = w.data.copy()
            w.zero_grad()
            v.zero_grad()
            step(x, w)
            loss(x, v).backward()
            assert w.data.tolist() == before.tolist()
            assert w.grad.tolist() == v.grad.tolist()


def test_a_computed_tensor_outside():
    """SILENT: its graph from before would get no gradient."""
    w = parameter(1.0, 2.0)
    v = w * 2
    refused(lambda x: (x * v).sum(), np.ones(2), match="detach")
    with pytest.raises(tn.errors.DetachError, match="detach"):
        compile(lambda x: (x * w).sum())(v)


# State that the step changes


class Running(tn.nn.Module):
    """Normalises by a running mean, as batch normalisation does."""

    def __init__(self, size):
        self.scale = tn.nn.Parameter(np.ones(size))
        self.mean = tn.Tensor(np.zeros(size))
        self.count = tn.Tensor(np.array(0.0))

    def forward(self, x):
        if self.training:
            self.mean = self.mean * 0.9 + tn.stop_gradient(x).mean(axis=0) * 0.1
            self.count = self.count + 1
        return (x - self.mean) * self.scale / (self.count + 1)


def test_running_statistics():
    """SILENT: the running mean would stay that of the first call, or be updated at the recording too."""

    def train(compiled):
        net = Running(2)

        def loss(x):
            return np.square(net(x)).sum()

        step = compile(loss)
        seen = []
        for k in range(12):
            net.train(k % 4 < 2)
            if k == 7:
                net.mean = tn.Tensor([5.0, 6.0])
            x = np.random.default_rng(k).standard_normal((4, 2))
            net.zero_grad()
            value = step(x) if compiled else loss(x)
            if not compiled:
                value.backward()
            seen += [value.item(), *net.scale.grad, *net.mean.data, net.count.item()]
        if compiled:
            assert len(step._entries) == 2
        return seen

    np.testing.assert_allclose(train(True), train(False), rtol=1e-12)


def test_a_number_that_the_step_counts():
    """SILENT: it would be counted at the recording only."""
    net = tn.nn.Sequential(tn.nn.Linear(2, 2))
    net.steps = 0

    def loss(x):
        net.steps += 1
        return net(x).sum()

    refused(loss, np.ones((1, 2)), match="net.steps")
    assert net.steps == 0


def test_other_things_that_a_step_does():
    """SILENT: they would be done at the recording only, and then several times."""
    w = parameter(1.0, 2.0)
    seen = []
    total = 0.0
    raw = np.zeros(2)
    optimizer = tn.optim.SGD([w], lr=0.1)

    def remember(x):
        seen.append(1)
        return (x * w).sum()

    def count(x):
        nonlocal total
        total += 1
        return (x * w).sum()

    def write(x):
        raw[...] += 1
        return (x * w).sum()

    def write_argument(x):
        x.data[...] = 1
        return (x * w).sum()

    def write_parameter(x):
        w.data[...] = 1
        return (x * w).sum()

    def replace(x):
        w.data = w.data * 2
        return (x * w).sum()

    def backward(x):
        y = (x * w).sum()
        y.backward()
        optimizer.step()
        return y

    def freeze(x):
        w.requires_grad = False
        return (x * w).sum()

    for function in (remember, count, write, write_argument, write_parameter, replace, backward, freeze):
        refused(function, np.array([3.0, 4.0]), match="to compile")
        assert (seen, total, raw.tolist(), w.data.tolist(), w.grad) == ([], 0, [0, 0], [1, 2], None), function
        assert w.requires_grad


def test_recording_has_no_effect():
    """SILENT: generators, buffers and gradients would be those after several runs."""
    rng = np.random.default_rng(0)
    net = tn.nn.Sequential(Running(2), tn.nn.Dropout(0.5, rng=rng))
    net[0].scale.grad = np.array([1.0, 2.0])
    before = {k: v.copy() for k, v in net.state_dict().items()}
    held = dict(net.named_tensors())
    state, legacy, python = rng.bit_generator.state, np.random.get_state(), random.getstate()  # noqa: NPY002

    def loss(x):
        if x.shape[0] == 3:
            net(x)
            raise KeyError("in the middle")
        return net(x).sum() * rng.random()

    for batch, error in ((3, KeyError), (2, GraphError)):
        with pytest.raises(error):
            compile(loss)(np.ones((batch, 2)))
        assert rng.bit_generator.state == state
        assert random.getstate() == python
        assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), legacy, strict=True))  # noqa: NPY002
        assert dict(net.named_tensors()) == held
        assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())
        assert net[0].scale.grad.tolist() == [1, 2]


# Arguments


def test_the_same_array_twice():
    """SILENT: both would be read from the first argument for ever."""
    w = parameter(1.0, 2.0)

    def loss(x, y):
        return (w * x - y).sum() * x.sum()

    step = compile(loss)
    x = np.array([1.0, 5.0])
    check(loss, step, x, x, parameters=[w])
    check(loss, step, x, x[::-1], parameters=[w])
    check(loss, step, w.data, x, parameters=[w])
    assert len(step._entries) == 1


def test_a_gradient_as_argument():
    """SILENT: the program would overwrite what it reads."""
    w = parameter(1.0, 2.0)

    def loss(x):
        return (np.square(w) * x).sum() * x.sum()

    step = compile(loss)
    step(np.array([1.0, 5.0]))
    for view in (lambda a: a, lambda a: a[::-1]):
        g = w.grad
        x = view(g).copy()
        w.zero_grad()
        step(view(g))
        compiled = w.grad.copy()
        w.zero_grad()
        loss(x).backward()
        assert compiled.tolist() == w.grad.tolist()
        w.zero_grad()
        step(np.array([1.0, 5.0]))


def test_layouts():
    """SILENT: a view made once of an array laid out in another way."""
    w = parameter(1.0, 2.0, 3.0)

    def loss(x):
        return np.tanh(x.reshape((3, 2)).T @ w).sum() + (x.ravel()[:3] * w).sum()

    step = compile(loss)
    big = np.random.default_rng(0).standard_normal((6, 8))
    for x in (big[:2, :3], big[::3, ::3], big.T[:2, :3], np.asfortranarray(big[:2, :3]), big[:2, 2::-1]):
        check(loss, step, x, parameters=[w])
    check(loss, step, np.broadcast_to(big[0, :3], (2, 3)), parameters=[w])
    assert len(step._entries) == 1


def test_shapes_and_dtypes():
    w = parameter(1.0, 2.0)

    def loss(x):
        return np.tanh(x * w).sum()

    step = compile(loss)
    for x in (np.ones(2), np.ones((3, 2)), np.ones((3, 2), np.float32), np.ones((3, 2), int), np.ones((0, 2))):
        check(loss, step, x, parameters=[w])
    check(loss, step, tn.Tensor(np.ones(2)), parameters=[w])
    assert len(step._entries) == 6


def test_lists_and_masked_arrays():
    w = parameter(1.0, 2.0)
    step = compile(lambda x: (np.stack(x) * w).sum())
    assert step([np.array(1.0), np.array(3.0)]).item() == 7
    assert step([np.array(2.0), np.array(3.0)]).item() == 8
    with pytest.raises(tn.errors.TinygradError):
        compile(lambda x: (x * w).sum())(np.ma.masked_array([1.0, 2.0]))


def test_infinities_and_nan():
    """SILENT: a limit that was taken away, a factor that overflows."""
    w = parameter(1.0, 2.0, -1.0, 400.0, 1e200)

    def loss(x):
        return np.tanh(x * w).sum() + F.sigmoid(x * w).sum() + F.relu(x * w * 1e-200).sum()

    step = compile(loss)
    for x in (1.0, 20.0, 400.0, 1e5, np.inf, np.nan):
        with np.errstate(all="ignore"):
            check(loss, step, np.full(5, x), parameters=[w])


def test_other_data_that_gives_nan():
    """LOUD: only one of the runs that are compared has a NaN that a gradient of 0 meets."""
    w = parameter(1.0, 2.0)
    big = np.array([700.0, 1.0])

    def loss(x):
        y = np.exp(w * big) * x + w
        return F.relu(-(y + y)).sum() + w.sum()

    with np.errstate(all="ignore"):
        check(loss, compile(loss), np.array([1e-300, 1.0]), parameters=[w])


def test_what_the_forward_warns_of():
    """MILD: the forward warns as eager code does, the backward is silent as it is."""
    w = parameter(1.0, 0.0)

    def loss(x):
        return np.sqrt(x * w).sum()

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    with pytest.warns(RuntimeWarning, match="invalid value"):
        step(-np.ones(2))


def test_what_the_forward_does_not_warn_of():
    """MILD: a slope inside the loss is silent in eager code, and so is what the user has silenced."""
    w = parameter(0.5, -1.5)

    def steep(x):
        slope = tn.grad(lambda z: np.tanh(z * w).sum())(x)
        return np.square(slope).sum() + (x * w).sum()

    def silenced(x):
        with np.errstate(all="ignore"):
            root = np.where(x > 0, np.sqrt(x), 0)
        return (root * w).sum()

    for loss, scale in ((steep, 1e4), (silenced, -1.0)):  # warnings are errors here
        step = compile(loss)
        x = scale * np.array([1.0, -2.0])
        check(loss, step, x, parameters=[w])
        check(loss, step, 3 * x, parameters=[w])
        namespace = {}
        exec(step.source, namespace)  # noqa: S102
        value, (slope,) = namespace["step"](x, w.data)
        w.zero_grad()
        np.testing.assert_array_equal(value, step(x).data)
        np.testing.assert_array_equal(slope, w.grad)

    def warns(x):
        return np.sqrt(x * w).sum() + steep(x)

    step = compile(warns)
    check(warns, step, np.array([1.0, -2.0]), parameters=[w])
    with pytest.warns(RuntimeWarning, match="invalid value"):
        step(np.array([1.0, 2.0]))


def test_gradients_inside_the_loss_that_share_memory():
    """LOUD: which gradients are copied apart hung on where Python put its objects."""
    net = tn.nn.Sequential(tn.nn.Linear(3, 4), np.tanh, tn.nn.Linear(4, 2))
    parameters = list(net.parameters())

    def loss(x):
        first = np.square(net(x)).mean() + parameters[1].sum() + parameters[3].sum()
        slopes = tn.gradients(first, parameters, create_graph=True)
        return first + 0.1 * sum((g * g).sum() for g in slopes)

    for _ in range(5):
        check(loss, compile(loss), np.random.default_rng(0).standard_normal((5, 3)), parameters=parameters)


def test_a_generator_passed_by_its_name():
    """LOUD: random_like(x, rng=rng) could not be compiled."""
    w, rng = parameter(1.0, 2.0), np.random.default_rng(0)

    def loss(x):
        return (F.random_like(x, rng=rng) * w).sum()

    step, state = compile(loss), rng.bit_generator.state
    values = [step(np.ones(2)).item() for _ in range(3)]
    rng.bit_generator.state = state
    assert values == [loss(np.ones(2)).item() for _ in range(3)]


def test_an_array_made_inside_that_is_indexed_by_an_input():
    """LOUD: np.eye(n)[labels]; the message says what to write."""
    w, labels = parameter(1.0, 2.0, 3.0), np.array([0, 2])
    refused(lambda y: (np.eye(3)[y] * w).sum(), labels, match=r"tn\.Tensor\(table\)\[t\]")

    def loss(y):
        return (tn.Tensor(np.eye(3))[y] * w).sum() + ((y[:, None] == np.arange(3)) * w).sum()

    step = compile(loss)
    check(loss, step, labels, parameters=[w])
    check(loss, step, np.array([1, 1]), parameters=[w])


# Calls


@pytest.mark.parametrize("make", [lambda x: {1, 2}, lambda x: types.SimpleNamespace(x=x), lambda x: lambda: x])
def test_a_result_that_a_program_cannot_make(make):
    """SILENT: the object of the first call; the message has to say which, and what to return instead."""
    w = parameter(1.0, 2.0)
    name = type(make(0)).__name__
    refused(lambda x: ((x * w).sum(), make(x)), np.ones(2), match=f"returns a {name} .* tuples, lists and dicts")
    kept = make(0)
    assert compile(lambda x: ((x * w).sum(), kept))(np.ones(2))[1] is kept


def test_a_result_kept_across_calls():
    """SILENT: results would change under the caller's hands. Gradients do, and the documentation says so."""
    w = parameter(1.0, 2.0)

    def loss(x):
        y = x * w
        return y.sum(), y, y[::-1], x, w, given

    given = np.array([4.0])
    step = compile(loss)
    first = step(np.array([1.0, 1.0]))
    assert [type(t) for t in first] == [tn.Tensor] * 3 + [np.ndarray, tn.Tensor, np.ndarray]
    values = [t.copy() for t in first]
    gradient = w.grad
    w.zero_grad()
    given += 1
    step(np.array([5.0, 6.0]))
    assert all((t == v).all() for t, v in zip(first, values, strict=True))
    assert gradient is w.grad


def test_an_exception_in_the_middle():
    """SILENT: half of the gradients would be new."""
    w = parameter(1.0, 2.0)

    def loss(x):
        return np.linalg.inv(x).sum() * (w * w).sum()

    step = compile(loss)
    good, singular = np.array([[2.0, 1.0], [1.0, 3.0]]), np.ones((2, 2))
    for _ in range(2):
        w.zero_grad()
        step(good)
        before = w.grad.copy()
        with pytest.raises(np.linalg.LinAlgError):
            step(singular)
        assert w.grad.tolist() == before.tolist()
        check(loss, step, good * 1.5, parameters=[w])


def test_a_step_inside_a_step():
    """SILENT: the inner backward would run when the outer function is recorded, and then never."""
    w = parameter(1.0, 2.0)
    inner = compile(lambda x: (x * w).sum())
    refused(lambda x: inner(x) + (x * w).sum(), np.ones(2), match="inside")
    forward = compile(lambda x: x * w, backward=False)
    step = compile(lambda x: forward(x).sum())
    check(lambda x: (x * w).sum(), step, np.array([3.0, 4.0]), parameters=[w])


def test_a_step_inside_its_own_call():
    """SILENT: the inner call would overwrite the buffers of the outer one."""
    w = parameter(1.0, 2.0)
    again = queue.SimpleQueue()

    @tn.differentiable
    def noisy(x):
        if not again.empty():
            again.get()(np.array([50.0, 60.0]))
        return x * 2, lambda g: (g * 2,)

    predict = compile(lambda x: np.exp(np.sin(noisy(np.tanh(x * w)))), backward=False)
    x = np.array([0.5, 0.25])
    expected = predict(x).data.copy()
    again.put(predict)
    assert predict(x).data.tolist() == expected.tolist()


def test_threads():
    """SILENT: two threads would write into the same buffers."""
    w = parameter(*np.linspace(0, 1, 400))
    predict = compile(lambda x: np.tanh(np.sin(x * w) * w).sum(), backward=False)
    inputs = [np.linspace(k, k + 1, 400) for k in range(4)]
    expected = [predict(x).item() for x in inputs]
    wrong = []

    def work(k):
        wrong.extend(k for _ in range(300) if predict(inputs[k]).item() != expected[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_method():
    """LOUD: one program would serve all objects."""

    class Model(tn.nn.Module):
        @compile
        def loss(self, x):
            return x.sum()

    with pytest.raises(GraphError, match="bound method"):
        Model().loss(np.ones(2))


# Functions of the user's own

CUBE_SCALE = 1.0
cube = tn.differentiable(
    lambda x: x**3 * CUBE_SCALE, lambda g, _y, x: g * 3 * x**2 * CUBE_SCALE, broadcasts=True, name="cube"
)


def test_rules_of_the_users_own():
    """SILENT: a number that a rule reads would be frozen."""
    global CUBE_SCALE  # noqa: PLW0603
    w = parameter(1.0, 2.0)

    def loss(x):
        return cube(x * w).sum()

    step = compile(loss)
    for scale in (1.0, 2.0, 1.0):
        CUBE_SCALE = scale
        check(loss, step, np.array([1.0, 3.0]), parameters=[w])


FACTOR = 3.0


# fmt: off
def on_one_line(x): return x * 2.0
def on_one_line_after_another(x): y = x * 2.0; return y  # noqa: E702, RET504
# fmt: on


def with_an_expression(x, factor=FACTOR - 1.0):
    return x * factor


def with_a_keyword(x, *, factor=FACTOR - 1.0):
    return x * factor


def with_a_text(x, name="it's"):
    return x * len(name) / len("  # noqa")  # noqa: RUF100


def with_text_over_lines(x):
    return x * len("""
 """)


def with_a_default(x, factor=2.0):
    return x * factor


def _in_a_loop():
    found = []
    for k in (1.0, 2.0):

        def scale(x, k=k):
            return x * k

        found.append(scale)
    return found


@pytest.mark.parametrize(
    "kernel",
    [
        *(on_one_line, on_one_line_after_another, with_an_expression, with_a_keyword, with_a_text),
        *(with_text_over_lines, with_a_default, *_in_a_loop()),
    ],
)
def test_kernels_of_the_users_own_written_in_every_way(kernel):
    """LOUD: IndentationError or NameError in the program, into which the text of a kernel is put."""
    factor = kernel(1.0)
    scaled = tn.differentiable(kernel, lambda g, _y, _x: g * factor, broadcasts=True, name="scaled")
    w, x = parameter(1.0, 2.0), np.array([3.0, -1.0])

    def loss(x):
        return (scaled(x * w) * x).sum()

    step = compile(loss)
    check(loss, step, x, parameters=[w])
    space = dict(step.given)
    exec(step.source, space)  # noqa: S102
    np.testing.assert_allclose(space["step"](x, w.data)[0], loss(x).data, rtol=1e-12)


def test_a_kernel_whose_default_changes():
    """SILENT: the text of a function gives the default that it was written with."""
    scaled = tn.differentiable(
        with_a_default, lambda g, _y, _x: g * with_a_default.__defaults__[0], broadcasts=True, name="scaled"
    )
    w = parameter(1.0, 2.0)

    def loss(x):
        return scaled(x * w).sum()

    step = compile(loss)
    try:
        for value in (2.0, 5.0, 2.0):
            with_a_default.__defaults__ = (value,)
            check(loss, step, np.ones(2), parameters=[w])
    finally:
        with_a_default.__defaults__ = (2.0,)


def test_a_kernel_whose_file_was_edited(tmp_path):
    """SILENT: the program would compute as the file says now, and not as the function that was imported does."""
    file = tmp_path / "kernels.py"
    space = {"__name__": "kernels_of_a_test"}
    exec(builtins.compile("def kernel(x):\n    return x * 2.0\n", str(file), "exec"), space)  # noqa: S102
    file.write_text("def kernel(x):\n    return x * 3.0\n", "utf-8")
    scaled = tn.differentiable(space["kernel"], lambda g, _y, _x: g * 2.0, broadcasts=True, name="scaled")
    w = parameter(1.0, 2.0)

    def loss(x):
        return scaled(x * w).sum()

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    assert [*step.given] == ["kernel"]


CONTEXT = contextvars.ContextVar("CONTEXT", default=1.0)


def test_rules_that_read_a_context_variable():
    """SILENT: the backward would see the variable's default, and not what the caller has set."""
    w = parameter(1.0, 2.0)
    weighted = tn.differentiable(
        lambda g: g * CONTEXT.get(), lambda g, _y, _x: g * CONTEXT.get(), broadcasts=True, name="weighted"
    )
    doubled = tn.differentiable(lambda x: 2 * x, lambda g, _y, _x: 2 * weighted(g), broadcasts=True, name="doubled")

    def loss(x):
        return doubled(x * w).sum()

    step = compile(loss)

    def run():
        for value in (2.5, -1.0):
            CONTEXT.set(value)
            for k in (1.0, 3.0):
                check(loss, step, np.full(2, k), parameters=[w])
        with np.errstate(all="raise"):
            step(np.array([np.inf, 0.0]))  # and its slopes warn of nothing all the same

    contextvars.copy_context().run(run)


def test_a_backward_pass_of_the_users_own():
    """SILENT: the pullback of the first call."""
    w = parameter(1.0, 2.0)

    @tn.differentiable
    def square(x):
        return x * x, lambda g: (2 * g * x,)

    refused(lambda x: square(x * w).sum(), np.ones(2), match="square brings its own backward")
    predict = compile(lambda x: square(x * w).sum(), backward=False)
    assert [predict(np.full(2, k)).item() for k in (1.0, 2.0)] == [5, 20]


def test_losses_that_are_none():
    w = parameter(1.0, 2.0)
    with pytest.raises(tn.errors.DTypeError, match="returns its loss"):
        compile(lambda x: 3.0)(np.ones(2))
    with pytest.raises(GraphError, match="one number"):
        compile(lambda x: x * w)(np.ones(2))
    with pytest.raises(GraphError, match="backward=False"):
        compile(np.sum)(np.ones(2))
    step = compile(lambda: (w * w).sum() + 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step().item() == 5
        assert step().item() == 5
    alone = parameter(3.0)
    assert compile(lambda: alone)().item() == 3
    assert alone.grad.tolist() == [1]


class Normed(tn.nn.Module):
    """Keeps a running mean: a buffer that its forward rebinds."""

    def __init__(self) -> None:
        self.w = tn.nn.Parameter(np.ones(2))
        self.mean = tn.Tensor(np.zeros(2))

    def forward(self, x):
        m = self.mean
        if self.training:
            m = x.mean(axis=0)
            self.mean = self.mean * 0.9 + m * 0.1
        return (((x - m) * self.w) ** 2).sum()


def test_the_first_eval_of_a_module_with_buffers_is_noticed() -> None:
    """Rated high: `training` is a class attribute until the first eval() puts it on the module."""
    x = np.arange(8.0).reshape(4, 2)
    compiled, eager = Normed(), Normed()
    step = tn.compile(compiled)
    for module, call in ((compiled, step), (eager, eager)):
        call(x)
        module.eval()
        module.result = call(x).item()
    assert compiled.result == pytest.approx(eager.result, rel=1e-12)
    np.testing.assert_allclose(compiled.mean.data, eager.mean.data)


def test_new_and_equal_looking_entries_are_changes() -> None:
    """Rated high: a dict beside a mask or a frozen Tensor, numbers that are equal and of another type."""
    w = tn.Tensor(np.ones((3, 2)), requires_grad=True)
    x = np.ones((4, 3), np.float32)
    held = {"mask": tn.Tensor(np.ones(2)), "p": w}
    step = tn.compile(lambda x: ((x @ held["p"] * held["mask"]) ** 2).sum() * held.get("scale", 1.0))
    before = step(x).item()
    held["scale"] = 10.0
    assert step(x).item() == pytest.approx(10 * before)

    number = {"a": 2.0}
    w32 = tn.Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    scaled = tn.compile(lambda x: ((x @ w32) * number["a"]).sum())
    assert scaled(x).dtype == np.float32
    number["a"] = np.float64(2.0)
    assert scaled(x).dtype == np.float64

    first, second = (tn.Tensor(np.ones(1), requires_grad=True) for _ in range(2))
    lists = {"l": [first]}
    chosen = tn.compile(lambda x: (x.sum() * lists["l"][0]).sum())
    chosen(x)
    first.grad = None
    lists["l"] = [second]
    chosen(x)
    assert first.grad is None
    assert second.grad is not None


class Kept(tn.nn.Module):
    """Holds compiled functions: of a method, and of a layer."""

    def __init__(self):
        self.layer = tn.nn.Linear(3, 2, rng=np.random.default_rng(0))
        self.step = compile(self.loss)
        self.predict = compile(self.layer, backward=False)

    def loss(self, x):
        return np.square(self.layer(x)).mean()


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
        lambda model: pickle.loads(pickle.dumps(model.step)).function.__self__,  # noqa: S301
    ],
)
def test_a_model_that_holds_its_step_is_copied_and_pickled(copied):
    """LOUD: PicklingError, for programs that could only serve the parameters that they were recorded with."""
    model, x = Kept(), np.ones((4, 3))
    for warm in (False, True):
        if warm:
            model.step(x)
            model.predict(x)
        twin = copied(model)
        twin.zero_grad()
        twin.layer.weight.data = twin.layer.weight.data * 2
        assert twin.step.function.__self__ is twin
        check(twin.loss, twin.step, x, parameters=list(twin.parameters()))
        np.testing.assert_allclose(twin.predict(x).data, twin.layer(x).data, rtol=1e-12)
        assert not np.shares_memory(twin.layer.weight.data, model.layer.weight.data)
    again = copy.copy(model.step)
    check(model.loss, again, x, parameters=list(model.parameters()))
    assert (again.recordings, model.step.recordings) == (1, 1)


def test_a_copied_module_gets_programs_of_its_own() -> None:
    """Rated high: a module that holds its compiled step, copied."""

    class Trained(tn.nn.Module):
        def __init__(self) -> None:
            self.layer = tn.nn.Linear(3, 1, rng=np.random.default_rng(0))
            self.step = tn.compile(self.loss)

        def loss(self, x):
            return (self.layer(x) ** 2).sum()

    x = np.ones((4, 3))
    original = Trained()
    original.step(x)
    original.zero_grad()
    twin = copy.deepcopy(original)
    twin.layer.weight.data = twin.layer.weight.data * 10
    assert twin.step(x).item() == pytest.approx(twin.loss(x).item())
    assert original.layer.weight.grad is None
    assert twin.layer.weight.grad is not None


@pytest.mark.parametrize("key", [("a", 1), frozenset({2}), 2.5, None, object()], ids=lambda key: type(key).__name__)
def test_keys_that_cannot_be_written_down(key):
    """LOUD: an entry of a dict under a key that has no source text is watched all the same."""
    w = tn.Tensor(np.ones(3), requires_grad=True)
    settings = {key: 2.0, "w": w}
    step = tn.compile(lambda x: (settings["w"] * x * settings[key]).sum())
    assert step(np.ones(3)).item() == 6.0
    settings[key] = 3.0
    assert step(np.ones(3)).item() == 9.0


# Threads


def in_threads(count, work):
    """Run work(k) in threads that start at once, and raise what they raised."""
    barrier = threading.Barrier(count)
    errors = []

    def run(k):
        barrier.wait()
        try:
            work(k)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_first_calls_in_several_threads():
    """SILENT: a thread would read the copies that another one records with."""
    net = tn.nn.Sequential(tn.nn.Linear(3, 4, rng=np.random.default_rng(0)), tn.nn.Tanh())
    inputs = [np.full((n, 3), 0.1 * n) for n in range(1, 6)]
    expected = [net(x).data for x in inputs]
    for _ in range(5):
        predict = compile(net, backward=False)
        predict(inputs[0])

        def work(k, predict=predict):
            for n in range(20):
                for j in (0, (k + n) % 5):
                    np.testing.assert_allclose(predict(inputs[j]).data, expected[j], rtol=1e-12)

        in_threads(4, work)
        assert predict.recordings == 5


def test_a_program_that_is_recorded_while_another_is_put_first():
    """MILD: the new program would be lost, and recorded again."""
    predict = compile(lambda x: x * 2.0, backward=False)
    for n in (1, 2):
        predict(np.ones(n))
    recording = threading.Thread(target=predict, args=(np.ones(3),))

    class Limit:
        """The length of the cache; meanwhile another thread comes by."""

        def __index__(self):
            if recording.ident is None:
                recording.start()
                recording.join(0.2)
            return 16

    predict._limit = Limit()
    predict(np.ones(1))
    recording.join()
    predict(np.ones(3))
    assert predict.recordings == 3


def test_training_in_several_threads():
    """SILENT: gradients of one model in another, or lost."""

    def train(k, compiled):
        net = tn.nn.Sequential(tn.nn.Linear(3, 2, rng=np.random.default_rng(k)), tn.nn.Tanh())
        optimizer = tn.optim.SGD(net.parameters(), lr=0.1)
        step = compile(lambda x: np.square(net(x)).mean())
        for n in range(12):
            x = np.full((1 + n % 3, 3), 0.1 * n)
            optimizer.zero_grad()
            if compiled:
                step(x)
            else:
                np.square(net(x)).mean().backward()
            optimizer.step()
        return [p.data for p in net.parameters()]

    expected = [train(k, compiled=False) for k in range(4)]
    found = [None] * 4

    def work(k):
        found[k] = train(k, compiled=True)

    in_threads(4, work)
    for a, b in zip(expected, found, strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-12)


def test_the_warning_names_what_changes():
    """MILD: recording at every call is slow, and the reason is not easily found."""
    trainer = Trainer()
    trainer.seen = [0]

    def loss(x):
        return trainer.loss(x) * len(trainer.seen)

    step = compile(loss)

    def run():
        for _ in range(8):
            trainer.seen.append(0)
            step(np.ones(2))

    with pytest.warns(UserWarning, match=r"since trainer\.seen changes"):
        run()


class Own(np.ndarray):
    """A subclass that computes in ways of its own."""

    def dot(self, *_args, **_options):
        raise AssertionError


def test_an_argument_of_a_subclass():
    """SILENT: a program would compute as the subclass does; eager Tensors hold plain arrays."""
    w = parameter(1.0, 2.0)
    x = np.array([[3.0, 4.0], [5.0, 6.0]])

    def loss(x):
        return np.square(x @ w[:, None]).sum()

    step = compile(loss)
    check(loss, step, x.view(Own), parameters=[w])
    check(loss, step, 2 * x, parameters=[w])
    check(loss, step, (3 * x).view(Own), parameters=[w])
    assert step.recordings == 2


def _memmap(folder):
    array = np.memmap(folder / "x", dtype=float, mode="w+", shape=(3,))
    array[:] = [1.0, 2.0, 4.0]
    return array


WRITTEN = {
    "text": (lambda _: np.array(["a", "b"]), lambda a: 3.0 if a[0] == "a" else 5.0, "b"),
    "objects": (lambda _: np.array([1.5, "k"], object), lambda a: a[0], 4.0),
    "fields": (lambda _: np.array([(1.5, 2)], [("x", float), ("n", int)]), lambda a: a["x"], (4.0, 2)),
    "dates": (lambda _: np.array(["2020-01-04"], "M8[D]"), lambda a: a.astype(float), np.datetime64("2021-01-01")),
    "masked": (lambda _: np.ma.masked_array([1.5, 2.0], [False, True]), lambda a: a.filled(7.0), np.ma.masked),
    "subclass": (lambda _: np.array([1.0, 2.0]).view(np.recarray), lambda a: a, 4.0),
    "memmap": (_memmap, lambda a: a, 4.0),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_array_of_another_kind_that_is_written_to(kind, tmp_path):
    """SILENT: what came out of an array of texts, objects or fields, masked or mapped from a file, would stay."""
    make, read, value = WRITTEN[kind]
    array, w = make(tmp_path), parameter(2.0)

    def loss(x):
        return np.sum(w * x * read(array))

    step = compile(loss)
    x = np.array([3.0])
    check(loss, step, x, parameters=[w])
    before = loss(x).item()
    array[0] = value
    check(loss, step, x, parameters=[w])
    check(loss, step, x, parameters=[w])
    assert loss(x).item() != before
    assert step.recordings == (1 if kind == "memmap" else 2)


POLYNOMIALS = {
    "poly1d": (np.poly1d, "coeffs"),
    "Polynomial": (np.polynomial.Polynomial, "coef"),
    "Chebyshev": (np.polynomial.Chebyshev, "coef"),
}


@pytest.mark.parametrize("kind", POLYNOMIALS)
def test_a_polynomial_whose_coefficients_are_written_to(kind):
    """SILENT: coefficients inside an object of NumPy's would stay; what it computes from them itself is refused."""
    make, name = POLYNOMIALS[kind]
    polynomial, w = make([1.5, 2.0, 0.5]), parameter(2.0)

    def loss(x):
        return np.sum(w * x * getattr(polynomial, name))

    step = compile(loss)
    x = np.array([3.0])
    check(loss, step, x, parameters=[w])
    getattr(polynomial, name)[0] = 4.0
    check(loss, step, x, parameters=[w])
    assert step.recordings == 1
    refused(lambda x: np.sum(w * x) * polynomial(np.array([2.0, 3.0]))[0], x, match="of a Tensor")


def test_the_arrays_of_a_recording():
    """MILD: every intermediate result of every run would stay in memory until the collector comes by."""
    net = tn.nn.Sequential(tn.nn.Linear(3, 4), np.tanh, tn.nn.Linear(4, 2))
    seen = queue.SimpleQueue()  # what is put there is not looked after

    def loss(x):
        hidden = net(x)
        seen.put(weakref.ref(hidden._array))
        return np.square(hidden).mean(), {"hidden": [hidden]}

    step = compile(loss)
    gc.collect()
    gc.disable()
    try:
        _, aux = step(np.ones((5, 3)))
        kept = weakref.ref(aux["hidden"][0]._array)
        del aux
        assert kept() is None
        assert seen.qsize() > 1
        assert all(seen.get()() is None for _ in range(seen.qsize()))
    finally:
        gc.enable()


def test_the_order_of_a_dict():
    """SILENT: a loop over a dict, or over keywords, takes them in their order."""
    w, x, y = parameter(1.0, 2.0), np.array([1.0, -1.0]), np.array([3.0, 0.5])

    def loss(parts=None, **others):
        return sum((k + 1) * (w * part).sum() for k, part in enumerate((parts or others).values()))

    step = compile(loss)
    for parts in ({"a": x, "b": y}, {"b": y, "a": x}, {"a": x, "b": y}):
        check(loss, step, parts, parameters=[w])
        w.zero_grad()
        np.testing.assert_array_equal(step(**parts).data, loss(**parts).data)
    assert step.recordings == 4


FUNCTIONS = {
    "np.vectorize": np.vectorize,
    "np.frompyfunc": lambda function: np.frompyfunc(function, 1, 1),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_of_the_users_inside_one_of_numpys(kind):
    """SILENT: what the inner function reads would stay."""
    w, factors = parameter(1.0, 2.0), [2.0]
    wrapped = FUNCTIONS[kind](lambda v: v * factors[0])

    def loss(x):
        return (x * w).sum() * float(wrapped(3.0))

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    factors[0] = 5.0
    check(loss, step, np.ones(2), parameters=[w])


def test_bytes_behind_a_memoryview():
    """SILENT: what is written to them would not be read."""
    w, held = parameter(1.0, 2.0), bytearray(np.ones(2).tobytes())
    seen = memoryview(held)

    def loss(x):
        return (x * w * np.frombuffer(seen)).sum()

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    held[:8] = np.array(4.0).tobytes()
    check(loss, step, np.ones(2), parameters=[w])


def test_an_object_whose_getattr_raises_something_else():
    """LOUD: a KeyError from looking for attributes that nobody named."""
    w = parameter(1.0, 2.0)

    class Options:
        def __init__(self):
            self.values = {"scale": 2.0}

        def __getattr__(self, name):
            return self.__dict__["values"][name]

    options = Options()

    def loss(x):
        return (x * w).sum() * options.scale

    step = compile(loss)
    check(loss, step, np.ones(2), parameters=[w])
    options.values["scale"] = 3.0
    check(loss, step, np.ones(2), parameters=[w])


def test_parameters_of_the_other_byte_order():
    """MILD: gradients would be in the machine's byte order, and not in the parameter's."""
    order = ">" if sys.byteorder == "little" else "<"
    w = tn.Tensor(np.array([[1.0], [2.0]], f"{order}f8"), requires_grad=True)

    def loss(x):
        return np.square(x @ w).sum()

    step = compile(loss)
    for x in (np.ones((3, 2)), np.ones((3, 2), f"{order}f4")):
        check(loss, step, x, parameters=[w])
        w.zero_grad()
        step(x)
        assert w.grad.dtype == w.dtype
        w.zero_grad()
        assert step(x).dtype == loss(x).dtype
    space = {}
    exec(step.source, space)  # noqa: S102
    value, (slope,) = space["step"](x, w.data)
    np.testing.assert_array_equal(value, loss(x).data)
    assert slope.dtype == w.dtype
