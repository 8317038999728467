"""What was written to between forward and backward, and rules that write: an error, or the right numbers."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn import writes
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, RuleError, StateError
from tinygrad_nn.io import archive
from tinygrad_nn.nn import module


def leaf(*shape, seed=0):
    return tn.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def constant(a):
    c = tn.Tensor([1.0, 2.0])
    return (a * c).sum(), c


def detached(a):
    d = a.detach()
    return (a * a).sum(), d


def result(a):
    y = np.exp(a)
    return y.sum(), y


def one_of_several(a):
    _, vectors = np.linalg.eigh(a.reshape(1, 2).T @ a.reshape(1, 2) + np.diag([1.0, 2.0]))
    return (vectors[0] * a).sum(), vectors


@pytest.mark.parametrize("make", [constant, detached, result, one_of_several])
def test_a_write_in_place_through_data_is_noticed_also_without_a_leaf(make) -> None:
    a = leaf(2)
    loss, written = make(a)
    written.data += 1
    del written
    with pytest.raises(GraphError, match=r"was written to after .* used it"):
        loss.backward()
    assert a.grad is None
    make(a)[0].backward()  # what is computed after the write is right to differentiate
    assert a.grad.shape == (2,)


def test_a_write_that_no_derivative_reads_or_that_came_before_is_no_error() -> None:
    a, mean, scale = leaf(3), tn.Tensor(np.zeros(3)), tn.Tensor(np.ones(3))
    scale.data *= 2
    loss = ((a - mean) * scale).sum()
    mean.data += 1
    scale.data = np.full(3, 7.0)  # another array: the graph keeps the old one
    loss.backward()
    np.testing.assert_array_equal(a.grad, np.full(3, 2.0))


def test_stamps_of_arrays_go_with_the_arrays() -> None:
    before = len(writes._arrays)
    c = tn.Tensor(np.ones(3))
    for _ in range(100):
        c.data += 1
    assert len(writes._arrays) == before + 1
    del c
    gc.collect()
    assert len(writes._arrays) == before


def test_freezing_and_unfreezing_lose_no_gradient_of_a_graph_recorded_before() -> None:
    a, b = leaf(3), leaf(3, seed=1)
    loss = (a * b).sum()
    a.requires_grad = False
    a.requires_grad = True
    loss.backward()
    np.testing.assert_array_equal(a.grad, b.data)
    frozen, other = leaf(3), leaf(3, seed=1)
    loss = (frozen * other).sum()
    frozen.requires_grad = False
    loss.backward(retain_graph=True)
    frozen.requires_grad = True
    assert frozen.grad is None  # what arrived while it was frozen is dropped
    loss.backward()
    np.testing.assert_array_equal(frozen.grad, other.data)


def test_a_frozen_tensor_of_another_shape_starts_anew() -> None:
    a = leaf(3)
    a.requires_grad = False
    a.data = np.ones((2, 2))
    a.requires_grad = True
    (a * 3).sum().backward()
    np.testing.assert_array_equal(a.grad, np.full((2, 2), 3.0))


# Rules of the user


def into_upstream(g, _y, _x):
    g *= 2
    return g


def into_argument(g, _y, x):
    x *= 2
    return g * x


def into_result(g, y, _x):
    y += 1
    return g * y


@pytest.mark.parametrize("rule", [into_upstream, into_argument, into_result])
def test_a_rule_that_writes_into_what_it_is_given_is_an_error(rule) -> None:
    f = tn.differentiable(lambda x: x * 2, rule, broadcasts=True, name="f")
    a, upstream = leaf(3), np.ones(3)
    before = a.data.copy()
    with pytest.raises(RuleError, match=r"the rule of f writes into what it was given"):
        f(a).backward(upstream)
    np.testing.assert_array_equal(upstream, np.ones(3))
    np.testing.assert_array_equal(a.data, before)
    assert a.grad is None
    assert upstream.flags.writeable
    assert a.data.flags.writeable


def test_a_pullback_that_writes_into_its_upstream_gradient_is_an_error() -> None:
    @tn.differentiable
    def double(x):
        def pullback(g):
            g *= 2
            return (g,)

        return x * 2, pullback

    with pytest.raises(RuleError, match=r"the rule of double writes"):
        double(leaf(3)).sum().backward()


def test_a_rule_that_returns_one_array_again_and_again_gives_the_right_gradients() -> None:
    buffer = np.zeros(3)

    def rule(g, _y, _x):
        np.multiply(g, 2, out=buffer)
        return buffer

    f = tn.differentiable(lambda x: x * 2, rule, broadcasts=True)
    a, b = leaf(3), leaf(3, seed=1)
    (f(a) + f(b) * 3).sum().backward()
    np.testing.assert_array_equal(a.grad, np.full(3, 2.0))
    np.testing.assert_array_equal(b.grad, np.full(3, 6.0))
    buffer[:] = 0
    np.testing.assert_array_equal(b.grad, np.full(3, 6.0))


def test_rules_of_the_user_run_only_where_a_gradient_is_wanted() -> None:
    ran = []

    def rule(k):
        def run(g, _y, a, b):
            ran.append(k)
            return g * (b, a)[k]

        return run

    f = tn.differentiable(lambda a, b: a * b, rule(0), rule(1), broadcasts=True)
    a, b = leaf(3), leaf(3, seed=1)
    (ga,) = tn.gradients(f(a, b * 1).sum(), [a])
    np.testing.assert_array_equal(ga.numpy(), b.data)
    assert ran == [0]


# Modules and optimizers


def test_a_computed_tensor_does_not_take_the_place_of_a_parameter() -> None:
    layer = tn.nn.Linear(2, 2)
    with pytest.raises(GraphError, match=r"weight is a parameter.*self\.weight\.data = "):
        layer.weight = layer.weight * 2
    layer.kept = layer.weight * 2  # under another name
    layer.weight = tn.nn.Parameter(np.ones((2, 2)))
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_parameters_that_would_not_be_found_are_errors() -> None:
    with pytest.raises(DTypeError, match=r"Shared\.weight stands in the class.*self\.weight = "):
        type("Shared", (tn.nn.Module,), {"weight": tn.nn.Parameter(np.ones(2))})
    with pytest.raises(DTypeError, match=r"Shared\.layers stands in the class"):
        type("Shared", (tn.nn.Module,), {"layers": [tn.nn.Tanh(), tn.nn.Linear(2, 2)]})
    type("Fine", (tn.nn.Module,), {"scale": tn.Tensor(2.0), "act": tn.nn.Tanh()})
    net = tn.nn.Sequential(tn.nn.Tanh())
    for item in (leaf(2), tn.nn.Linear(2, 2)):
        with pytest.raises(DTypeError, match=r"parts is a set, which has no order"):
            net.parts = {item}


def test_a_state_of_views_of_the_module_itself_is_copied_first() -> None:
    net = tn.nn.Sequential(tn.nn.Linear(2, 2), tn.nn.Linear(2, 2))
    first, second = (layer.weight.data.copy() for layer in net)
    swapped = {name: net[1 - int(name.split(".")[1])] for name, _ in net.named_parameters()}
    net.load_state_dict({name: getattr(other, name.split(".")[2]).data for name, other in swapped.items()})
    np.testing.assert_array_equal(net[0].weight.data, second)
    np.testing.assert_array_equal(net[1].weight.data, first)


def test_an_optimizer_of_nothing_that_can_be_trained_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"no parameter requires a gradient"):
        tn.optim.SGD([tn.Tensor([1.0])])
    tn.optim.SGD([tn.Tensor([1.0]), leaf(1)])  # frozen ones among others
    still = tn.Tensor(np.broadcast_to(np.ones(1), (3,)), requires_grad=True)
    with pytest.raises(ArgumentError, match=r"shape \(3,\) is read-only"):
        tn.optim.SGD([leaf(3), still])


@pytest.mark.parametrize(
    "make",
    [
        tn.optim.Adam,
        tn.optim.AdamW,
        lambda params: tn.optim.RMSprop(params, centered=True),
        lambda params: tn.optim.SGD(params, momentum=0.9),
    ],
)
def test_a_state_in_which_something_is_missing_is_refused(make) -> None:
    p = leaf(3)
    optimizer = make([p])
    p.grad = np.ones(3)
    optimizer.step()
    needed = optimizer.entries(optimizer.param_groups[0])
    assert set(needed) <= set(optimizer.state_dict()["state"][0])
    for name in needed:
        for wrong in (None, "a text", 1.5 if name != "step" else np.ones(3)):
            state = optimizer.state_dict()
            state["state"][0][name] = wrong
            before = optimizer.state_dict()
            with pytest.raises(StateError, match=rf"{name}"):
                optimizer.load_state_dict(state)
            assert repr(optimizer.state_dict()) == repr(before)


@pytest.mark.parametrize("rate", [np.array(0.1), "0.1", None, float("nan"), -1.0])
def test_a_rate_that_is_no_number_changes_nothing(rate) -> None:
    p = leaf(3)
    optimizer = tn.optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = np.ones(3)
    optimizer.param_groups[0]["lr"] = rate
    before = p.data.copy()
    with pytest.raises(ArgumentError, match=r"lr"):
        optimizer.step()
    np.testing.assert_array_equal(p.data, before)
    assert not optimizer.state.get(p)


def test_a_backward_that_breaks_off_where_gradients_are_added_changes_none() -> None:
    class Full:
        def __add__(self, other):
            raise MemoryError

    leaves = [leaf(3, seed=k) for k in range(3)]
    loss = sum(((p * p).sum() for p in leaves), tn.Tensor(0.0))
    leaves[1]._node.grad = Full()
    with pytest.raises(MemoryError):
        loss.backward()
    assert leaves[0].grad is None
    assert leaves[2].grad is None


def test_what_breaks_off_a_save_comes_out_as_it_is(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.npz"
    tn.save(path, x=np.zeros(3), y=np.zeros(3))
    before = path.read_bytes()
    write = archive.npy.write_array

    def stopped(member, array, **options):
        write(member, array, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(archive.npy, "write_array", stopped)
    with pytest.raises(KeyboardInterrupt):
        tn.save(path, x=np.ones(3), y=np.ones(3))
    gc.collect()  # nothing is left that would close itself later
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    assert path.read_bytes() == before


def test_a_load_that_breaks_off_is_taken_back(monkeypatch) -> None:
    net = tn.nn.Sequential(tn.nn.Linear(2, 2), tn.nn.BatchNorm1d(2))
    before = net.state_dict()
    fill, count = module._fill, iter(range(100))

    def stopped(t, values):
        fill(t, values)
        if next(count) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_fill", stopped)
    with pytest.raises(KeyboardInterrupt):
        net.load_state_dict({name: array + 1 for name, array in before.items()})
    assert repr(net.state_dict()) == repr(before)


def test_a_read_only_parameter_is_told_before_anything_is_loaded() -> None:
    net = tn.nn.Sequential(tn.nn.Linear(2, 2), tn.nn.Linear(2, 2))
    net[1].weight.data.flags.writeable = False
    before = net.state_dict()
    with pytest.raises(StateError, match=r"read-only: layers\.1\.weight \(2, 2\)"):
        net.load_state_dict({name: array + 1 for name, array in before.items()})
    assert repr(net.state_dict()) == repr(before)
