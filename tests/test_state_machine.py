"""Tensors in any order of calls, against a slow model that carries every derivative forward with its value.

The model knows no graph: beside each value it keeps the Jacobian with respect to every leaf, worked out
by the chain rule as the value is made.  Whatever is created, combined, indexed, written to, detached,
saved, loaded, compiled and walked back through: gradients are the model's, or the call raises an error of
ours, and it raises only where something was released or written since.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import tinygrad_nn as tn
from tinygrad_nn.errors import GraphError

SHAPES = [(), (3,), (2, 3), (1, 3), (2, 1)]
seeds = st.integers(0, 2**32 - 1)


class Value:
    """A Tensor, what it should hold, and its Jacobians: leaf -> array of shape (*value, *leaf)."""

    def __init__(self, tensor, array, jacobians, made, ancestors):
        self.tensor = tensor
        self.array = array
        self.jacobians = jacobians
        self.made = made
        self.ancestors = ancestors  # ids of the values that its graph goes through, its own too

    @property
    def needs(self):
        return bool(self.jacobians)


def through(slope, jacobian, inside):
    """The Jacobian of an element-wise function: its slope, entry by entry, times what is inside."""
    extra = jacobian.ndim - inside
    return slope.reshape(slope.shape + (1,) * extra) * jacobian


UNARY = {  # forward, and its slope
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2),
    "sin": (np.sin, np.cos),
    "square": (np.square, lambda a: 2 * a),
    "negative": (np.negative, lambda a: -np.ones_like(a)),
    "exp": (lambda a: np.exp(a * 0.1), lambda a: 0.1 * np.exp(a * 0.1)),
}
BINARY = {
    "add": (np.add, lambda a, b: (np.ones_like(a + b), np.ones_like(a + b))),
    "subtract": (np.subtract, lambda a, b: (np.ones_like(a - b), -np.ones_like(a - b))),
    "multiply": (np.multiply, lambda a, b: (b + 0 * a, a + 0 * b)),
}
SHAPING = {  # functions that are the same for each column of a Jacobian
    "sum": lambda a: np.sum(a, axis=0) if a.ndim else a,
    "mean": lambda a: np.mean(a, axis=-1, keepdims=True) if a.ndim else a,
    "reshape": lambda a: np.reshape(a, (-1,)),
    "transpose": np.transpose,
    "first": lambda a: a[0] if a.ndim else a[()],
    "reversed": lambda a: a[::-1] if a.ndim else a[...],
    "repeated": lambda a: a[[0, 0, 1]] if a.ndim and a.shape[0] > 1 else a[None],
    "doubled": lambda a: np.concatenate([a, a]) if a.ndim else np.stack([a, a]),
    "where": lambda a: np.where(np.arange(a.size).reshape(a.shape) % 2 == 0, a, 0.0),
}


class Machine(RuleBasedStateMachine):
    leaves = Bundle("leaves")
    values = Bundle("values")

    @initialize()
    def start(self):
        self.folder = tempfile.TemporaryDirectory()
        self.clock = 0
        self.written = {}  # leaf -> when
        self.released = set()  # ids of values whose graph may have been released
        self.gone = set()  # ids of those whose graph was
        self.grads = {}  # leaf -> what its Tensor's grad should be
        self.model = {}  # leaf -> its value

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def tick(self):
        self.clock += 1
        return self.clock

    def made(self, tensor, array, jacobians, parents):
        assert tensor.shape == array.shape
        value = Value(tensor, array, jacobians, self.tick(), set())
        assert tensor.requires_grad == bool(jacobians)
        value.ancestors = {id(value)}.union(*(p.ancestors for p in parents))
        value.parents = [p for p in parents if p.ancestors]  # so that no id is used twice
        return value

    @rule(target=leaves, seed=seeds, shape=st.sampled_from(SHAPES))
    def new_leaf(self, seed, shape):
        array = np.random.default_rng(seed).uniform(-1, 1, shape)
        value = Value(tn.Tensor(array.copy(), requires_grad=True), array, {}, self.tick(), set())
        value.jacobians = {value: np.eye(array.size).reshape(shape + shape)}
        self.grads[value] = None
        return value

    @rule(target=values, leaf=leaves, name=st.sampled_from(sorted(UNARY)))
    def use(self, leaf, name):
        forward, slope = UNARY[name]
        jacobian = through(slope(leaf.array), leaf.jacobians[leaf], leaf.array.ndim)
        return self.made(forward(leaf.tensor), np.asarray(forward(leaf.array)), {leaf: jacobian}, [])

    @rule(target=values, a=values, name=st.sampled_from(sorted(UNARY)))
    def unary(self, a, name):
        forward, slope = UNARY[name]
        jacobians = {leaf: through(slope(a.array), j, a.array.ndim) for leaf, j in a.jacobians.items()}
        return self.made(forward(a.tensor), np.asarray(forward(a.array)), jacobians, [a])

    @rule(target=values, a=values, b=values, name=st.sampled_from(sorted(BINARY)))
    def binary(self, a, b, name):
        forward, slopes = BINARY[name]
        try:
            array = np.asarray(forward(a.array, b.array))
        except ValueError:
            assume(False)
        assume(array.size <= 12)
        jacobians = {}
        for value, slope in zip((a, b), slopes(a.array, b.array), strict=True):
            for leaf, j in value.jacobians.items():
                tail = j.shape[value.array.ndim :]
                padded = j.reshape((1,) * (array.ndim - value.array.ndim) + j.shape)
                part = through(np.asarray(slope), np.broadcast_to(padded, array.shape + tail), array.ndim)
                jacobians[leaf] = jacobians[leaf] + part if leaf in jacobians else part
        return self.made(forward(a.tensor, b.tensor), array, jacobians, [a, b])

    @rule(target=values, leaf=leaves, name=st.sampled_from(sorted(SHAPING)))
    def use_shaped(self, leaf, name):
        return self.shaping(Value(leaf.tensor, leaf.array, leaf.jacobians, leaf.made, set()), name)

    @rule(target=values, a=values, name=st.sampled_from(sorted(SHAPING)))
    def shaping(self, a, name):
        forward = SHAPING[name]
        array, tensor = np.asarray(forward(a.array)), forward(a.tensor)
        assume(array.size <= 12 and tensor is not a.tensor)
        jacobians = {}
        for leaf, j in a.jacobians.items():
            columns = j.reshape(*a.array.shape, -1)
            parts = [np.asarray(forward(columns[..., k])) for k in range(columns.shape[-1])]
            jacobians[leaf] = np.stack(parts, axis=-1).reshape(array.shape + leaf.array.shape)
        return self.made(tensor, array, jacobians, [a])

    @rule(target=values, a=values)
    def detach(self, a):
        return self.made(a.tensor.detach(), a.array, {}, [])

    @rule(target=values, a=values)
    def without_recording(self, a):
        with tn.no_grad():
            return self.made(a.tensor * 2, a.array * 2, {}, [])

    @rule(leaf=leaves, seed=seeds, door=st.sampled_from(["data", "in place", "state", "optimizer", "file"]))
    def write(self, leaf, seed, door):
        new = np.random.default_rng(seed).uniform(-1, 1, leaf.array.shape)
        if door == "data":
            leaf.tensor.data = new.copy()
        elif door == "in place":
            data = leaf.tensor.data
            data[...] = new
            leaf.tensor.data = data
        elif door == "optimizer":
            if leaf.tensor.grad is None:
                return
            tn.optim.SGD([leaf.tensor], lr=0.5).step()
            new = leaf.array - 0.5 * self.grads[leaf]
        else:
            module = tn.nn.Module()
            module.p = leaf.tensor
            if door == "state":
                module.load_state_dict({"p": new})
            else:
                path = Path(self.folder.name, "p.npz")
                other = tn.nn.Module()
                other.p = tn.nn.Parameter(new)
                tn.save(path, model=other)
                tn.load(path, model=module)
        if door == "data":
            leaf.array = new
        else:  # views of the array see it, in the model as well
            leaf.array[...] = new
        self.written[leaf] = self.tick()

    @rule(leaf=leaves)
    def zero_grad(self, leaf):
        leaf.tensor.zero_grad()
        self.grads[leaf] = None

    @rule(a=values, seed=seeds, retain=st.booleans())
    def backward(self, a, seed, retain):
        g = np.random.default_rng(seed).standard_normal(a.array.shape)
        if not a.needs:
            try:
                a.tensor.backward(g)
            except GraphError:
                return
            raise AssertionError("a constant was walked back through")
        may_fail = bool(a.ancestors & self.released) or any(t > a_made(a) for t in self.written.values())
        try:
            a.tensor.backward(g, retain_graph=retain)
        except GraphError:
            assert may_fail
            return
        finally:
            if not retain:
                self.released |= a.ancestors
        assert id(a) not in self.gone
        if not retain:
            self.gone.add(id(a))
        for leaf, jacobian in a.jacobians.items():
            part = np.tensordot(g, jacobian, axes=a.array.ndim)
            self.grads[leaf] = part if self.grads[leaf] is None else self.grads[leaf] + part
        g[...] = np.nan  # the caller's array is the caller's

    @rule(a=values, seed=seeds, door=st.sampled_from(["data", "in place", "state", "optimizer", "file"]))
    def write_before_backward(self, a, seed, door):
        for leaf in a.jacobians:
            self.write(leaf, seed, door)
            break
        self.backward(a, seed, retain=True)

    @rule(a=values, seed=seeds)
    def backward_twice(self, a, seed):
        self.backward(a, seed, retain=True)
        self.backward(a, seed, retain=False)

    @rule(a=values, seed=seeds)
    def gradients_leave_everything_as_it_is(self, a, seed):
        if not a.needs:
            return
        g = np.random.default_rng(seed).standard_normal(a.array.shape)
        wanted = list(a.jacobians)
        try:
            found = tn.gradients(a.tensor, [leaf.tensor for leaf in wanted], gradient=g, retain_graph=True)
        except GraphError:
            assert a.ancestors & self.released or self.written
            return
        for leaf, part in zip(wanted, found, strict=True):
            expected = np.tensordot(g, a.jacobians[leaf], axes=a.array.ndim)
            np.testing.assert_allclose(part.numpy(), expected, rtol=1e-9, atol=1e-10)

    @rule(leaf=leaves, seed=seeds)
    def compiled_step(self, leaf, seed):
        x = np.random.default_rng(seed).standard_normal(leaf.array.shape)
        step = tn.compile(lambda x: np.sum(np.tanh(leaf.tensor) * x))
        for _ in range(2):
            loss = step(x)
            np.testing.assert_allclose(loss.item(), np.sum(np.tanh(leaf.array) * x), rtol=1e-9, atol=1e-12)
            part = x / np.cosh(leaf.array) ** 2
            self.grads[leaf] = part if self.grads[leaf] is None else self.grads[leaf] + part
            leaf.tensor.grad = leaf.tensor.grad.copy()  # the program's own is overwritten by its next call

    @rule(target=leaves, leaf=leaves)
    def copied(self, leaf):
        twin = Value(copy.deepcopy(leaf.tensor), leaf.array.copy(), {}, self.tick(), set())
        twin.jacobians = {twin: np.eye(twin.array.size).reshape(twin.array.shape * 2)}
        self.grads[twin] = None if self.grads[leaf] is None else self.grads[leaf].copy()
        return twin

    @invariant()
    def gradients_and_values_are_the_model_s(self):
        for leaf, grad in getattr(self, "grads", {}).items():
            np.testing.assert_allclose(leaf.tensor.data, leaf.array, rtol=1e-12, atol=1e-14)
            if grad is None:
                assert leaf.tensor.grad is None
            else:
                np.testing.assert_allclose(leaf.tensor.grad, grad, rtol=1e-9, atol=1e-10)


def a_made(value):
    """When the oldest value in a graph was made: a write after that may have hit what a rule reads."""
    return min([value.made, *(a_made(p) for p in value.parents)])


Machine.TestCase.settings = settings(
    max_examples=40 if settings().max_examples < 100 else 2000,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestStateMachine = Machine.TestCase
