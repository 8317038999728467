"""Modules, layers, losses and initializers."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import LOSS_LAYERS

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError, StateError

F = tn.functional
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 7)


def parameter(*shape, seed=0):
    return nn.Parameter(np.random.default_rng(seed).standard_normal(shape))


def names(module):
    return [name for name, _ in module.named_parameters()]


class Bag(nn.Module):
    """A module that holds what it is given."""

    def __init__(self, **contents):
        for name, value in contents.items():
            setattr(self, name, value)


# Walking


def test_parameters_are_found_in_attributes_lists_tuples_and_dicts_in_order_of_assignment():
    module = Bag(
        z=parameter(1),
        a=[parameter(1), (parameter(1), 3, "text"), None],
        d={"two": parameter(1), 1: [parameter(1)], "deep": {"er": Bag(w=parameter(1))}},
        m=Bag(w=parameter(1), inner=nn.Linear(2, 1)),
        number=3.0,
        array=np.ones(2),
        b=parameter(1),
    )
    assert names(module) == [
        "z",
        "a.0",
        "a.1.0",
        "d.two",
        "d.1.0",
        "d.deep.er.w",
        "m.w",
        "m.inner.weight",
        "m.inner.bias",
        "b",
    ]
    assert list(module.parameters()) == [p for _, p in module.named_parameters()]


def test_assigning_again_keeps_the_place_and_deleting_frees_it():
    module = Bag(a=parameter(1), b=parameter(1))
    module.a = parameter(2)
    assert names(module) == ["a", "b"]
    del module.a
    module.a = parameter(1)
    assert names(module) == ["b", "a"]


def test_a_shared_parameter_module_or_list_counts_once_under_its_first_name():
    w, layer = parameter(2), nn.Linear(2, 2)
    both = [w, layer]
    module = Bag(first=w, one=both, two=both, again=layer, last=[layer.weight])
    assert names(module) == ["first", "one.1.weight", "one.1.bias"]
    assert list(module.state_dict()) == names(module)
    assert [name for name, _ in module.named_modules()] == ["", "one.1"]


def test_a_layer_used_twice_is_trained_once_with_the_sum_of_both_gradients():
    layer = nn.Linear(2, 2, rng=np.random.default_rng(0))
    net = nn.Sequential(layer, nn.Tanh(), layer)
    assert names(net) == ["layers.0.weight", "layers.0.bias"]
    x, v = np.random.default_rng(1).standard_normal((2, 3, 2))
    net(x).backward(v)
    W, b = layer.weight.data, layer.bias.data
    h = np.tanh(x @ W + b)
    d = (v @ W.T) * (1 - h * h)
    np.testing.assert_allclose(layer.weight.grad, h.T @ v + x.T @ d, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(layer.bias.grad, (v + d).sum(axis=0), rtol=1e-12, atol=1e-14)


def test_modules_may_point_at_each_other():
    parent, child = Bag(w=parameter(1)), Bag(v=parameter(1))
    parent.child, child.parent = child, parent
    parent.late = parameter(1)
    assert names(parent) == ["w", "child.v", "late"]
    assert names(child) == ["v", "parent.w", "parent.late"]
    assert [name for name, _ in parent.named_modules()] == ["", "child"]
    assert len(list(parent.modules())) == 2
    parent.eval()
    assert not child.training
    assert repr(parent) == "Bag(\n  (child): Bag(\n    (parent): ...\n  )\n)"


def test_a_module_that_holds_itself():
    module = Bag(w=parameter(1))
    module.me = [module]
    assert names(module) == ["w"]
    assert list(module.modules()) == [module]


@pytest.mark.parametrize(
    "contents",
    [
        {"d": {"a.b": parameter(1), "a": {"b": parameter(1)}}},
        {"d": {1: parameter(1), "1": parameter(1)}},
    ],
)
def test_two_tensors_of_one_name_are_refused_rather_than_one_of_them_lost(contents):
    module = Bag(**contents)
    with pytest.raises(StateError, match=r"two different Tensors in Bag have the name 'd\."):
        module.state_dict()


def test_buffers_are_saved_and_not_trained():
    module = Bag(w=parameter(2), mean=tn.Tensor([1.0, 2.0]), count=tn.Tensor(3))
    assert names(module) == ["w"]
    assert [name for name, _ in module.named_buffers()] == ["mean", "count"]
    assert list(module.state_dict()) == ["w", "mean", "count"]


def test_results_kept_in_attributes_are_neither_parameters_nor_buffers():
    module = Bag(w=parameter(2))
    module.kept = module.w * 2
    assert list(module.state_dict()) == ["w"]


def test_children_are_the_modules_one_level_down():
    module = Bag(a=nn.Tanh(), b=[nn.ReLU(), {"k": nn.Sigmoid()}], c=Bag(inner=nn.Tanh()))
    assert [(name, type(m).__name__) for name, m in module.children()] == [
        ("a", "Tanh"),
        ("b.0", "ReLU"),
        ("b.1.k", "Sigmoid"),
        ("c", "Bag"),
    ]


@st.composite
def trees(draw, depth=3):
    """A module with a random tree of parameters, and the names expected of it."""

    def build(level):
        kind = draw(st.sampled_from(["parameter", "list", "tuple", "dict", "module", "other"] if level else ["other"]))
        if kind == "parameter":
            return parameter(1), [""]
        if kind == "other":
            return draw(st.sampled_from([None, 1, "text"])), []
        children = [build(level - 1) for _ in range(draw(st.integers(0, 3)))]
        keys = [str(i) for i in range(len(children))]
        if kind in {"dict", "module"}:
            keys = [f"k{i}" for i in draw(st.permutations(range(len(children))))]
        found = [f".{key}{rest}" for key, (_, inside) in zip(keys, children, strict=True) for rest in inside]
        values = [value for value, _ in children]
        if kind == "list":
            return values, found
        if kind == "tuple":
            return tuple(values), found
        contents = dict(zip(keys, values, strict=True))
        return (contents if kind == "dict" else Bag(**contents)), found

    value, expected = build(depth)
    return Bag(root=value), ["root" + name for name in expected]


@given(trees())
def test_names_are_the_paths_to_the_parameters_in_order(tree):
    module, expected = tree
    assert names(module) == expected
    assert len({id(p) for p in module.parameters()}) == len(expected)


# State


def network(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(3, 4, rng=rng, dtype=dtype), nn.Tanh(), nn.Linear(4, 2, rng=rng, dtype=dtype))


def snapshot(module):
    return {name: (t.data.copy(), t.data, t.grad) for name, t in module.named_tensors()}


def unchanged(module, before):
    after = snapshot(module)
    return list(after) == list(before) and all(
        np.array_equal(after[name][0], before[name][0]) and after[name][1] is before[name][1] for name in before
    )


@given(seeds, seeds)
def test_state_roundtrip_gives_the_same_network(a, b):
    one, two = network(a), network(b)
    state = one.state_dict()
    two.load_state_dict(state)
    x = np.random.default_rng(a).standard_normal((5, 3))
    assert np.array_equal(one(x).numpy(), two(x).numpy())
    assert all(np.array_equal(state[name], value) for name, value in two.state_dict().items())


def test_a_state_dict_is_a_copy_and_loading_copies_too():
    net = network()
    state = net.state_dict()
    for name in state:
        state[name] += 1
    assert not any(np.array_equal(state[name], t.data) for name, t in net.named_tensors())
    net.load_state_dict(state)
    for name in state:
        state[name] += 1
    assert not any(np.array_equal(state[name], t.data) for name, t in net.named_tensors())


def test_loading_writes_into_the_parameters_that_the_optimizer_holds():
    net = network()
    before = [(p, p.data) for p in net.parameters()]
    net.load_state_dict(network(1).state_dict())
    assert [(id(p), id(p.data)) for p in net.parameters()] == [(id(p), id(d)) for p, d in before]


def test_a_state_that_does_not_fit_names_every_entry_and_changes_nothing():
    net = network()
    before = snapshot(net)
    state = network(1).state_dict()
    del state["layers.0.bias"]
    state["layers.1.scale"] = np.ones(2)
    state["layers.2.weight"] = state["layers.2.weight"].T
    state["layers.2.bias"] = state["layers.2.bias"].astype(complex)
    with pytest.raises(StateError) as caught:
        net.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "the state does not fit Sequential, nothing was loaded:",
        "  missing: layers.0.bias (4,)",
        "  of another dtype: layers.2.bias is complex128, the module has float64: convert it first",
        "  of another shape: layers.2.weight is (2, 4), the module has (4, 2)",
        "  unexpected: layers.1.scale (2,)",
    ]
    assert unchanged(net, before)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape", "digits"])
def test_each_single_misfit_changes_nothing(damage):
    net = network(dtype=np.float32)
    before = snapshot(net)
    state = network(1, dtype=np.float32).state_dict()
    if damage == "missing":
        del state["layers.2.bias"]
    elif damage == "unexpected":
        state["more"] = np.ones(1)
    elif damage == "shape":
        state["layers.2.bias"] = state["layers.2.bias"][None, :]
    else:
        state["layers.2.bias"] = state["layers.2.bias"].astype(np.float64)
    with pytest.raises(StateError):
        net.load_state_dict(state)
    assert unchanged(net, before)


def test_loading_takes_lists_tensors_and_narrower_floats():
    module = Bag(w=parameter(2), v=parameter(2), u=parameter(2))
    module.load_state_dict({"w": [1, 2], "v": tn.Tensor([3.0, 4.0]), "u": np.array([5, 6], np.float32)})
    assert [t.tolist() for t in module.parameters()] == [[1, 2], [3, 4], [5, 6]]
    assert {t.dtype for t in module.parameters()} == {np.dtype(np.float64)}


def test_a_graph_from_before_loading_is_refused_where_it_needs_the_old_values():
    net = network()
    loss = net(np.ones((2, 3))).sum()
    net.load_state_dict(network(1).state_dict())
    with pytest.raises(GraphError, match="written to after"):
        loss.backward()
    assert all(p.grad is None for p in net.parameters())


def test_loading_a_buffer_leaves_graphs_that_hold_the_old_values_intact():
    module = Bag(w=parameter(2), scale=tn.Tensor([2.0, 3.0]))
    loss = (module.w * module.scale).sum()
    module.load_state_dict({"w": module.w.data.copy(), "scale": [5.0, 7.0]})
    loss.backward()
    assert module.w.grad.tolist() == [2, 3]
    assert module.scale.tolist() == [5, 7]


def test_deepcopy_and_pickle_give_independent_equal_networks():
    rng = np.random.default_rng(3)
    net = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.Dropout(0.3, rng=rng), nn.Linear(4, 1, rng=rng)).eval()
    net.again = net[2].weight  # sharing must survive
    net[0](np.ones((2, 3))).sum().backward()  # some parameters with a gradient, some without
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301 - our own bytes
        assert names(twin) == names(net)
        assert repr(twin) == repr(net)
        assert not any(m.training for m in twin.modules())
        assert twin.again is twin[2].weight
        assert twin[1].rng is not net[1].rng
        assert twin[1].rng.bit_generator.state == net[1].rng.bit_generator.state
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            assert type(q) is nn.Parameter
            assert np.array_equal(p.data, q.data)
            assert not np.shares_memory(p.data, q.data)
            assert p.requires_grad
            assert q.requires_grad
            assert (p.grad is None) == (q.grad is None)
            assert p.grad is None or (np.array_equal(p.grad, q.grad) and p.grad is not q.grad)
        twin[0].weight.data += 1
        assert not np.array_equal(twin[0].weight.data, net[0].weight.data)


def test_a_frozen_parameter_stays_frozen_in_a_copy():
    net = network()
    net[0].requires_grad_(False)
    assert names(copy.deepcopy(net)) == ["layers.2.weight", "layers.2.bias"]


def test_modules_die_when_dropped():
    net = network()
    net(np.ones((1, 3))).sum().backward()
    gone = weakref.ref(net[0].weight)
    del net
    assert gone() is None


# Modes, freezing, repr


def test_train_and_eval_reach_every_module_and_return_the_module():
    module = Bag(a=[nn.Dropout()], b={"x": Bag(c=nn.Dropout())})
    assert all(m.training for m in module.modules())
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    module.b["x"].train()
    assert [m.training for m in module.modules()] == [False, False, True, True]
    assert module.train(mode=False) is module
    assert not any(m.training for m in module.modules())
    assert module.train() is module
    assert all(m.training for m in module.modules())
    assert nn.Module.training is True


@given(seeds)
def test_frozen_parameters_get_no_gradient_and_are_not_moved(seed):
    net, all_free = network(seed), network(seed)
    x, v = np.random.default_rng(seed).standard_normal((2, 4, 3))
    optimizers = [
        tn.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
        tn.optim.AdamW(net.parameters(), lr=0.1),
    ]
    net(x).backward(v[:, :2])
    assert net[0].requires_grad_(False) is net[0]  # after a backward: the gradient must go
    frozen = net[0].weight.data.copy()
    assert names(net) == ["layers.2.weight", "layers.2.bias"]
    net.zero_grad()
    net(x).backward(v[:, :2])
    all_free(x).backward(v[:, :2])
    assert net[0].weight.grad is None
    assert net[0].bias.grad is None
    assert np.array_equal(net[2].weight.grad, all_free[2].weight.grad)
    moved = net[2].weight.data.copy()
    for optimizer in optimizers:
        optimizer.step()
    assert np.array_equal(net[0].weight.data, frozen)
    assert not np.array_equal(net[2].weight.data, moved)
    net.requires_grad_()
    assert len(names(net)) == 4
    net.zero_grad()
    net(x).backward(v[:, :2])
    assert net[0].weight.grad.shape == (3, 4)


def test_a_graph_recorded_before_freezing_gives_frozen_parameters_no_gradient():
    layer = nn.Linear(2, 1)
    loss = layer(np.ones((1, 2))).sum()
    layer.weight.requires_grad = False
    loss.backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_zero_grad_reaches_every_parameter():
    net = network()
    net(np.ones((1, 3))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_repr():
    net = nn.Sequential(
        nn.Linear(784, 100),
        nn.Sequential(nn.ReLU(), nn.Dropout(0.25)),
        np.tanh,
        Bag(head=[nn.Linear(100, 10, bias=False)], axis=nn.Softmax(axis=1)),
        nn.Flatten(),
        nn.CrossEntropyLoss(),
        nn.MSELoss("sum"),
        nn.Sigmoid(),
    )
    assert (
        repr(net)
        == """\
Sequential(
  (0): Linear(784, 100)
  (1): Sequential(
    (0): ReLU()
    (1): Dropout(p=0.25)
  )
  (2): tanh
  (3): Bag(
    (head.0): Linear(100, 10, bias=False)
    (axis): Softmax(axis=1)
  )
  (4): Flatten()
  (5): CrossEntropyLoss()
  (6): MSELoss(reduction='sum')
  (7): Sigmoid()
)"""
    )


# Layers


class Affine(nn.Module):
    """A layer of one's own: __init__ and forward, and no more."""

    def __init__(self, n):
        self.scale = nn.Parameter(np.full(n, 2.0))
        self.shift = nn.Parameter(np.zeros(n))

    def forward(self, x):
        return x * self.scale + self.shift


def test_a_layer_of_ones_own_needs_only_init_and_forward():
    net = nn.Sequential(nn.Linear(3, 2), Affine(2))
    assert names(net) == ["layers.0.weight", "layers.0.bias", "layers.1.scale", "layers.1.shift"]
    x, v = np.random.default_rng(0).standard_normal((2, 5, 3))
    before = net[0](x).numpy()
    net(x).backward(v[:, :2])
    np.testing.assert_allclose(net[1].scale.grad, (v[:, :2] * before).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(net[1].shift.grad, v[:, :2].sum(axis=0), rtol=1e-12)
    optimizer = tn.optim.SGD(net.parameters(), lr=0.1)
    optimizer.step()
    np.testing.assert_allclose(net[1].shift.data, -0.1 * v[:, :2].sum(axis=0), rtol=1e-12)


def test_a_module_without_forward_says_so():
    with pytest.raises(DTypeError, match="Bag has no forward"):
        Bag()(1)


def test_forward_arguments_pass_through_call():
    class Two(nn.Module):
        def forward(self, a, *, b):
            return a, b

    assert Two()(1, b=2) == (1, 2)


@given(seeds, sizes, sizes, st.lists(sizes, max_size=3))
def test_linear_is_x_w_plus_b_for_any_batch_shape(seed, n_in, n_out, batch):
    rng = np.random.default_rng(seed)
    layer = nn.Linear(n_in, n_out, rng=rng)
    assert (layer.weight.shape, layer.bias.shape) == ((n_in, n_out), (n_out,))
    assert (layer.in_features, layer.out_features) == (n_in, n_out)
    x = rng.standard_normal((*batch, n_in))
    y = layer(x)
    assert isinstance(y, tn.Tensor)
    assert y.shape == (*batch, n_out)
    expected = np.einsum("...i,ij->...j", x, layer.weight.data) + layer.bias.data
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)
    v = rng.standard_normal(y.shape)
    t = tn.Tensor(x, requires_grad=True)
    layer(t).backward(v)
    rows, upstream = x.reshape(-1, n_in), v.reshape(-1, n_out)
    np.testing.assert_allclose(layer.weight.grad, rows.T @ upstream, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(layer.bias.grad, upstream.sum(axis=0), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(t.grad, v @ layer.weight.data.T, rtol=1e-11, atol=1e-12)


def test_linear_without_bias():
    layer = nn.Linear(3, 2, bias=False)
    assert layer.bias is None
    assert names(layer) == ["weight"]
    assert np.array_equal(layer(np.eye(3)).numpy(), layer.weight.data)


@given(seeds, sizes, sizes)
def test_linear_draws_the_weight_first_then_the_bias_from_plus_minus_one_over_root_in(seed, n_in, n_out):
    layer = nn.Linear(n_in, n_out, rng=np.random.default_rng(seed))
    rng, bound = np.random.default_rng(seed), 1 / math.sqrt(n_in)
    assert np.array_equal(layer.weight.data, rng.uniform(-bound, bound, (n_in, n_out)))
    assert np.array_equal(layer.bias.data, rng.uniform(-bound, bound, n_out))


def test_the_default_initial_values_fill_their_range():
    layer = nn.Linear(25, 4000, rng=np.random.default_rng(0))
    for values in (layer.weight.data, layer.bias.data):
        assert -0.2 <= values.min() < -0.199
        assert 0.199 < values.max() < 0.2
        assert abs(values.mean()) < 0.01


def test_linear_takes_initializers_for_weight_and_bias():
    rng = np.random.default_rng(5)
    layer = nn.Linear(3, 2, weight_init=nn.init.uniform(0, 1), bias_init=nn.init.constant(0.5), rng=rng)
    assert np.array_equal(layer.weight.data, np.random.default_rng(5).uniform(0, 1, (3, 2)))
    assert layer.bias.tolist() == [0.5, 0.5]


def test_two_layers_without_rng_differ():
    assert not np.array_equal(nn.Linear(3, 3).weight.data, nn.Linear(3, 3).weight.data)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bias", [(4, 2), (1, 2), (4, 1), (9, 3, 2), (3,)])
@pytest.mark.parametrize("x", [(3,), (1, 3)])
def test_a_bias_that_does_not_fit_is_refused_by_the_forward(x, bias, dtype):
    layer = nn.Linear(3, 2)
    layer.bias = tn.Tensor(np.ones(bias, dtype), requires_grad=True)
    if len(x) == 2 and bias == (1, 2):
        assert layer(np.ones(x)).shape == (1, 2)
        return
    with pytest.raises(ShapeError, match=r"linear .*shape"):
        layer(np.ones(x))


def test_linear_says_which_feature_count_it_takes():
    layer = nn.Linear(784, 10)
    with pytest.raises(ShapeError, match=r"^Linear\(784, 10\) takes \(\.\.\., 784\), got \(5, 783\)$"):
        layer(np.ones((5, 783)))
    with pytest.raises(ShapeError, match=r"got \(5, 28, 28\); flatten images with Flatten\(\) first$"):
        layer(tn.Tensor(np.ones((5, 28, 28))))
    with pytest.raises(ShapeError, match=r"got \(\)$"):
        nn.Linear(1, 1)(2.0)


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", None])
def test_linear_needs_positive_whole_sizes(value):
    with pytest.raises(ArgumentError, match="in_features"):
        nn.Linear(value, 2)
    with pytest.raises(ArgumentError, match="out_features"):
        nn.Linear(2, value)


ACTIVATIONS = [
    nn.Sigmoid(),
    nn.Tanh(),
    nn.ReLU(),
    nn.LeakyReLU(0.1),
    nn.ELU(),
    nn.SiLU(),
    nn.GELU(),
    nn.Softplus(),
    nn.Softmax(),
    nn.Dropout(0.5),
    nn.Flatten(),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("middle", [*ACTIVATIONS, np.tanh, F.softmax, F.log_softmax])
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.CrossEntropyLoss()])
def test_the_dtype_is_kept_through_layers_losses_and_gradients(dtype, middle, loss):
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 4, rng=rng, dtype=dtype), middle, nn.Linear(4, 2, rng=rng, dtype=dtype))
    x = tn.Tensor(rng.standard_normal((5, 3)).astype(dtype), requires_grad=True)
    y = net(x)
    value = loss(y, np.ones((5, 2), dtype))
    value.backward()
    assert {t.dtype for t in (y, value)} == {np.dtype(dtype)}
    assert {t.grad.dtype for t in (x, *net.parameters())} == {np.dtype(dtype)}
    listed = nn.MSELoss()(net(x), [[0.0, 1.0]] * 5)
    assert listed.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_initializers_give_the_dtype_asked_for(dtype):
    for init in (nn.init.uniform(0, 1), nn.init.normal(1), nn.init.constant(2), nn.init.xavier_uniform()):
        assert nn.Linear(3, 2, weight_init=init, dtype=dtype).weight.dtype == dtype


@pytest.mark.parametrize("layer", ACTIVATIONS)
def test_layers_without_parameters_give_arrays_for_arrays_and_the_same_numbers_for_tensors(layer):
    layer = copy.deepcopy(layer).eval()
    x = np.random.default_rng(0).standard_normal((4, 3))
    array, tensor = layer(x), layer(tn.Tensor(x))
    assert type(array) is np.ndarray
    assert isinstance(tensor, tn.Tensor)
    assert np.array_equal(array, tensor.numpy())


def test_layers_with_parameters_give_tensors_for_arrays_also_under_no_grad():
    net = network()
    with tn.no_grad():
        y = net(np.ones((2, 3)))
    assert isinstance(y, tn.Tensor)
    assert not y.requires_grad
    assert net(np.ones((2, 3))).requires_grad


def test_activations_are_those_of_functional():
    x = np.random.default_rng(0).normal(0, 3, (4, 3))
    assert np.array_equal(nn.Sigmoid()(x), F.sigmoid(x))
    assert np.array_equal(nn.Tanh()(x), np.tanh(x))
    assert np.array_equal(nn.ReLU()(x), F.relu(x))
    assert np.array_equal(nn.LeakyReLU(0.2)(x), F.leaky_relu(x, 0.2))
    assert np.array_equal(nn.ELU(0.3)(x), F.elu(x, 0.3))
    assert np.array_equal(nn.SiLU()(x), F.silu(x))
    assert np.array_equal(nn.GELU()(x), F.gelu(x))
    assert np.array_equal(nn.Softplus(2)(x), F.softplus(x, 2))
    assert np.array_equal(nn.Softmax()(x), F.softmax(x))
    assert np.array_equal(nn.Softmax(axis=0)(x), F.softmax(x, axis=0))
    np.testing.assert_allclose(nn.Softmax(axis=0)(x).sum(axis=0), 1, rtol=1e-14)


def test_sequential_takes_plain_functions_and_behaves_as_a_sequence():
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    net = nn.Sequential(first, np.tanh, lambda x: 2 * x, last)
    assert len(net) == 4
    assert net[0] is first
    assert net[-1] is last
    assert list(net)[1] is np.tanh
    x = np.random.default_rng(0).standard_normal((5, 3))
    assert np.array_equal(net(x).numpy(), last(2 * np.tanh(first(x))).numpy())
    assert [name for name, _ in net.children()] == ["0", "3"]
    assert nn.Sequential()(x) is x


def test_sequential_refuses_what_cannot_be_called():
    with pytest.raises(DTypeError, match="argument 1 is a list"):
        nn.Sequential(nn.Tanh(), [nn.Tanh()])


@given(seeds, st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_flatten_keeps_the_batch(seed, shape):
    x = np.random.default_rng(seed).standard_normal(shape)
    y = nn.Flatten()(x)
    assert y.shape == (shape[0], math.prod(shape[1:]))
    assert np.array_equal(y.ravel(), x.ravel())
    t = tn.Tensor(x, requires_grad=True)
    nn.Flatten()(t).backward(2 * y)
    assert np.array_equal(t.grad, 2 * x)


def test_flatten_needs_a_batch():
    with pytest.raises(ShapeError, match="batch"):
        nn.Flatten()(3.0)


# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_p_and_keeps_the_mean(p):
    n = 200_000
    y = nn.Dropout(p, rng=np.random.default_rng(0))(np.ones(n))
    dropped = np.mean(y == 0)
    assert abs(dropped - p) < 5 * math.sqrt(p * (1 - p) / n)
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    assert abs(y.mean() - 1) < 5 * math.sqrt(p / (1 - p) / n)
    pairs = (y[:-1] == 0) & (y[1:] == 0)  # neighbours are independent
    assert abs(pairs.mean() - p * p) < 0.01


def test_dropout_in_evaluation_and_with_p_0_returns_its_input():
    for x in (np.ones(5), tn.Tensor(np.ones(5), requires_grad=True)):
        assert nn.Dropout(0.5).eval()(x) is x
        assert nn.Dropout(0)(x) is x


def test_dropout_draws_a_new_mask_at_each_call_and_the_same_ones_from_the_same_seed():
    x = np.ones(100)
    one, two = (nn.Dropout(0.5, rng=np.random.default_rng(7)) for _ in range(2))
    first, second = one(x), one(x)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, two(tn.Tensor(x)).numpy())
    assert np.array_equal(second, two(x))
    assert not np.array_equal(nn.Dropout(0.5)(x), nn.Dropout(0.5)(x))


@given(seeds, st.floats(0, 0.95), st.sampled_from([np.float32, np.float64]))
def test_the_gradient_of_dropout_has_the_mask_of_the_forward_pass(seed, p, dtype):
    rng = np.random.default_rng(seed)
    x = tn.Tensor(rng.uniform(1, 2, (6, 5)).astype(dtype), requires_grad=True)
    v = rng.standard_normal((6, 5)).astype(dtype)
    y = nn.Dropout(p, rng=rng)(x)
    y.backward(v)
    scale = dtype(1 / (1 - p))
    assert y.dtype == x.grad.dtype == dtype
    np.testing.assert_allclose(x.grad, np.where(y.numpy() == 0, 0, v * scale), rtol=1e-6)
    np.testing.assert_allclose(y.numpy(), np.where(x.grad == 0, 0, x.data * scale), rtol=1e-6)


def test_dropout_of_whole_numbers_does_not_drop_everything():
    y = nn.Dropout(0.5, rng=np.random.default_rng(0))(np.ones(1000, int))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert 400 < np.count_nonzero(y) < 600


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, math.nan])
def test_dropout_needs_a_probability_below_1(p):
    with pytest.raises(ArgumentError, match="p >= 0 and p < 1"):
        nn.Dropout(p)
    with pytest.raises(ArgumentError, match="p >= 0 and p < 1"):
        F.dropout(np.ones(2), p, rng=np.random.default_rng(0))


# Losses


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@given(seed=seeds)
def test_losses_are_those_of_functional(reduction, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 4, 3))
    labels = rng.integers(3, size=4)
    assert np.array_equal(nn.MSELoss(reduction)(x, y), F.mse_loss(x, y, reduction))
    p = F.sigmoid(y)
    assert np.array_equal(nn.L1Loss(reduction)(x, y), F.l1_loss(x, y, reduction))
    assert np.array_equal(nn.HuberLoss(reduction, 0.3)(x, y), F.huber_loss(x, y, reduction, 0.3))
    assert np.array_equal(nn.BCELoss(reduction)(p, p[::-1]), F.binary_cross_entropy(p, p[::-1], reduction))
    assert np.array_equal(nn.BCEWithLogitsLoss(reduction)(x, p), F.binary_cross_entropy_with_logits(x, p, reduction))
    assert np.array_equal(nn.NLLLoss(reduction)(x, labels), F.nll_loss(x, labels, reduction))
    assert np.array_equal(nn.CrossEntropyLoss(reduction)(x, labels), F.cross_entropy(x, labels, reduction))
    assert np.array_equal(nn.CrossEntropyLoss(reduction)(x, y), F.cross_entropy(x, y, reduction))
    t = tn.Tensor(x, requires_grad=True)
    loss = nn.CrossEntropyLoss(reduction)(t, labels)
    loss.backward(np.ones(loss.shape))
    expected = (F.softmax(x) - np.eye(3)[labels]) / (4 if reduction == "mean" else 1)
    np.testing.assert_allclose(t.grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", LOSS_LAYERS)
def test_losses_know_three_reductions(loss):
    with pytest.raises(ArgumentError, match="'avg' is none of 'mean', 'sum', 'none'"):
        loss("avg")


# Initializers


@given(seeds, st.integers(1, 300), st.integers(1, 300))
def test_initializers_have_their_range_and_moments(seed, n_in, n_out):
    shape, n = (n_in, n_out), n_in * n_out

    def draw(init):
        return init(np.random.default_rng(seed), shape, np.float64)

    bounds = {
        nn.init.uniform(-0.5, 0.5): 0.5,
        nn.init.xavier_uniform(): math.sqrt(6 / (n_in + n_out)),
        nn.init.he_uniform(): math.sqrt(6 / n_in),
    }
    for init, bound in bounds.items():
        values = draw(init)
        assert values.shape == shape
        assert np.all(abs(values) <= bound)
        assert abs(values.mean()) <= 6 * bound / math.sqrt(3 * n)
        # the standard deviation of the mean of squares is bound^2 sqrt(4/45 / n)
        assert abs(np.mean(values**2) - bound**2 / 3) <= 6 * bound**2 * math.sqrt(4 / 45 / n)
    deviations = {
        nn.init.normal(0.3): 0.3,
        nn.init.xavier_normal(): math.sqrt(2 / (n_in + n_out)),
        nn.init.he_normal(): math.sqrt(2 / n_in),
    }
    for init, std in deviations.items():
        values = draw(init)
        assert values.shape == shape
        assert abs(values.mean()) <= 6 * std / math.sqrt(n)
        assert abs(np.mean(values**2) - std**2) <= std**2 * (12 * math.sqrt(2 / n) + 24 / n)


def test_initializers_in_closed_form():
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    assert np.array_equal(nn.init.normal(2.0, mean=5.0)(rng, (3, 4), float), again.normal(5, 2, (3, 4)))
    assert nn.init.constant(3)(rng, (2,), np.float32).tolist() == [3, 3]
    # the fans of (height, width, in, out) count the field
    bound = math.sqrt(6 / (2 * 3 * (4 + 5)))
    values = nn.init.xavier_uniform()(rng, (2, 3, 4, 5), float)
    assert values.shape == (2, 3, 4, 5)
    assert 0.9 * bound < abs(values).max() <= bound


def test_initializers_refuse_what_makes_no_sense():
    with pytest.raises(ArgumentError, match="low < high"):
        nn.init.uniform(1, 0)
    with pytest.raises(ArgumentError, match="std >= 0"):
        nn.init.normal(-1)
    for init in (nn.init.xavier_uniform(), nn.init.xavier_normal(), nn.init.he_uniform(), nn.init.he_normal()):
        with pytest.raises(ArgumentError, match="biases take constant"):
            nn.Linear(3, 2, bias_init=init)


def test_parameters_copy_their_data():
    array = np.zeros(2)
    p = nn.Parameter(array)
    array += 1
    assert p.tolist() == [0, 0]
    assert p.requires_grad
    assert not nn.Parameter(array, requires_grad=False).requires_grad
    assert nn.Parameter([1, 2], dtype=np.float32).dtype == np.float32
    with pytest.raises(DTypeError, match="real floating"):
        nn.Parameter([1, 2])


@pytest.mark.parametrize("name", [n for n in tn.nn.init.__all__ if n != "Initializer"])
def test_initializers_can_be_pickled(name):
    make = getattr(tn.nn.init, name)
    required = [p for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    initializer = make(*(0.5 * (k + 1) for k in range(len(required))))
    again = pickle.loads(pickle.dumps(initializer))  # noqa: S301 - its own bytes
    one, other = (f(np.random.default_rng(0), (3, 2), np.float32) for f in (initializer, again))
    np.testing.assert_array_equal(one, other, strict=True)


def test_a_wrong_number_of_inputs_says_what_the_forward_takes():
    x = np.ones((4, 3))
    for module in (tn.nn.Linear(3, 2), tn.nn.Sequential(tn.nn.Linear(3, 2))):
        with pytest.raises(DTypeError, match=r"is called as its forward\(x\): too many positional arguments"):
            module(x, x)
        with pytest.raises(DTypeError, match=r"is called as its forward.*missing a required argument: 'x'"):
            module()
    with pytest.raises(DTypeError, match=r"MSELoss is called as its forward.*missing a required argument: 'target'"):
        tn.nn.MSELoss()(x)

    class Broken(tn.nn.Module):
        def forward(self, x):
            return x + len(3)

    with pytest.raises(TypeError, match=r"object of type 'int' has no len"):  # its own error
        tn.nn.Sequential(Broken())(x)
