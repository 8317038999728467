"""Optimizers against the published formulas, in closed form over the whole history of gradients."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, StateError
from tinygrad_nn.optim import SGD, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm, clip_grad_value

seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
rates = st.floats(1e-3, 0.5)
decays = st.just(0.0) | st.floats(1e-3, 0.5)

ADAM = {
    "lr": rates,
    "betas": st.tuples(st.floats(0, 0.95), st.floats(0, 0.9999)),
    "eps": st.floats(1e-10, 1e-2),
}
MOMENTUM = {"lr": rates, "momentum": st.floats(0.1, 0.95), "weight_decay": decays}
RMS = {"lr": rates, "alpha": st.floats(0.5, 0.99), "eps": st.floats(1e-10, 1e-2)}
OPTIMIZERS = {
    "SGD": (SGD, {"lr": rates, "weight_decay": decays}),
    "momentum": (SGD, MOMENTUM),
    "nesterov": (SGD, {**MOMENTUM, "nesterov": st.just(True)}),
    "RMSprop": (RMSprop, RMS),
    "RMSprop, all": (RMSprop, {**RMS, "momentum": st.floats(0.1, 0.95), "centered": st.just(True)}),
    "Adam": (Adam, ADAM),  # its weight decay has a test of its own: the sign of g + decay * w may hang on one bit
    "AdamW": (AdamW, {**ADAM, "weight_decay": decays}),
}
DEFAULTS = {
    SGD: {"lr": 0.001, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    RMSprop: {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False},
    Adam: {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
    AdamW: {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01},
}
every_optimizer = pytest.mark.parametrize("name", list(OPTIMIZERS))


def options_of(data, name):
    return data.draw(st.fixed_dictionaries(OPTIMIZERS[name][1]))


def faded(history, rate):
    """The sum of a history, each step back smaller by a rate."""
    past = np.stack(history)
    powers = np.longdouble(rate) ** np.arange(len(history) - 1, -1, -1)
    return np.tensordot(powers, past, 1)


def published(kind, w, gradients, options):
    """The weights after a list of gradients, None where a step had none, and the length of the way."""
    o = {**DEFAULTS[kind], **options}
    w, way, history, scaled = w.astype(np.longdouble), abs(w), [], []
    for gradient in gradients:
        if gradient is None:
            continue
        g = gradient.astype(np.longdouble)
        if kind is SGD:
            g = g + o["weight_decay"] * w
        history.append(g)
        if kind is SGD:
            velocity = faded(history, o["momentum"])
            step = g + o["momentum"] * velocity if o["nesterov"] else velocity
            change = o["lr"] * step
        elif kind is RMSprop:
            square = (1 - np.longdouble(o["alpha"])) * faded([past**2 for past in history], o["alpha"])
            if o["centered"]:
                square = square - ((1 - np.longdouble(o["alpha"])) * faded(history, o["alpha"])) ** 2
            scaled.append(g / (np.sqrt(square) + o["eps"]))
            change = o["lr"] * faded(scaled, o["momentum"])
        else:
            b1, b2 = (np.longdouble(b) for b in o["betas"])
            t = len(history)
            m = (1 - b1) * faded(history, b1) / (1 - b1**t)
            v = (1 - b2) * faded([past**2 for past in history], b2) / (1 - b2**t)
            change = o["lr"] * m / (np.sqrt(v) + o["eps"]) + o["lr"] * o["weight_decay"] * w
        w, way = w - change, way + abs(change)
    return w, way


def some_gradients(rng, shape, steps, dtype=np.float64, missing=0.0):
    return [
        None if rng.random() < missing else np.array(rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 2), dtype)
        for _ in range(steps)
    ]


def leaf(rng, shape, dtype=np.float64):
    return tn.Tensor(np.array(rng.standard_normal(shape), dtype), requires_grad=True)


def run(optimizer, params, gradients):
    for step in zip(*gradients, strict=True):
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else g.copy()
        optimizer.step()


def all_states(optimizer):
    return [values for _, values in sorted(optimizer.state_dict()["state"].items())]


def same_state(one, two):
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(all_states(one), all_states(two), strict=True)
    )


@every_optimizer
@given(data=st.data(), seed=seeds, shape=shapes)
def test_trajectories_follow_the_published_formulas(name, data, seed, shape):
    kind, rng = OPTIMIZERS[name][0], np.random.default_rng(seed)
    options = options_of(data, name)
    p = leaf(rng, shape)
    gradients = some_gradients(rng, shape, 24, missing=0.1)
    expected, way = published(kind, p.data.copy(), gradients, options)
    run(kind([p], **options), [p], [gradients])
    assert np.all(abs(p.data - expected) <= 1e-13 * (way + 1e-3))


@every_optimizer
@given(data=st.data(), seed=seeds, shape=shapes)
def test_float32_stays_float32(name, data, seed, shape):
    kind, rng = OPTIMIZERS[name][0], np.random.default_rng(seed)
    options = options_of(data, name)
    as_numpy = {
        k: np.float64(v) if isinstance(v, float) else tuple(map(np.float64, v)) if isinstance(v, tuple) else v
        for k, v in options.items()
    }
    p, q = (leaf(np.random.default_rng(seed), shape, np.float32) for _ in range(2))
    gradients = some_gradients(rng, shape, 20, np.float32)
    expected, way = published(kind, p.data.copy(), gradients, options)
    optimizer = kind([p], **options)
    run(optimizer, [p], [gradients])
    run(kind([q], **as_numpy), [q], [gradients])  # NumPy's scalars as options widen nothing either
    assert p.dtype == q.dtype == np.float32
    assert np.array_equal(p.data, q.data)
    assert np.all(abs(p.data - expected) <= 2e-5 * (way + 1e-3))
    arrays = [v for values in all_states(optimizer) for v in values.values() if isinstance(v, np.ndarray)]
    assert all(a.dtype == np.float32 and a.shape == shape for a in arrays)


@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
@given(data=st.data(), seed=seeds, shape=shapes, decay=st.floats(1e-3, 0.5))
def test_the_weight_decay_is_added_to_the_gradient(name, data, seed, shape, decay):
    kind = OPTIMIZERS[name][0]
    rng = np.random.default_rng(seed)
    options = options_of(data, name)
    p, q = (leaf(np.random.default_rng(seed), shape) for _ in range(2))
    one, two = kind([p], **options, weight_decay=decay), kind([q], **options)
    for g in some_gradients(rng, shape, 20):
        run(two, [q], [[np.array(g + decay * q.data)]])
        run(one, [p], [[g]])
        assert np.array_equal(p.data, q.data)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_default_options_are_pytorchs_and_lr_0_001(kind):
    p = leaf(np.random.default_rng(0), (2,))
    (group,) = kind([p]).param_groups
    assert {k: v for k, v in group.items() if k != "params"} == DEFAULTS[kind]
    assert group["params"] == [p]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_a_constant_gradient_leaves_rmsprop_finite_where_rounding_makes_its_variance_negative(alpha):
    p = tn.Tensor(np.zeros(50), requires_grad=True)
    g = np.random.default_rng(0).standard_normal(50)
    run(RMSprop([p], lr=1e-9, alpha=alpha, centered=True), [p], [[g] * 200])
    assert np.all(np.isfinite(p.data))
    assert np.all(np.sign(p.data) == -np.sign(g))


def test_the_first_step_of_adam_is_lr_times_the_sign_whatever_the_scale():
    p = tn.Tensor(np.zeros(4), requires_grad=True)
    run(Adam([p], lr=0.5, eps=1e-30), [p], [[np.array([1e-8, -3.0, 1e8, 0.0])]])
    np.testing.assert_allclose(p.data, [-0.5, 0.5, -0.5, 0], rtol=1e-12)


def test_decoupled_decay_is_not_scaled_by_the_gradient():
    for scale in (1e-3, 1e3):
        p = tn.Tensor(np.full(1, 10.0), requires_grad=True)
        run(AdamW([p], lr=0.1, weight_decay=0.5, eps=1e-30), [p], [[np.array([scale])]])
        np.testing.assert_allclose(p.data, 10 * (1 - 0.05) - 0.1, rtol=1e-12)


@every_optimizer
def test_steps_descend_on_a_quadratic(name):
    rng = np.random.default_rng(0)
    p = leaf(rng, (3,))
    options = {"momentum": {"momentum": 0.8}, "nesterov": {"momentum": 0.8, "nesterov": True}}.get(name, {})
    optimizer = OPTIMIZERS[name][0]([p], lr=0.05, **options)
    target = np.array([1.0, -2.0, 0.5])
    for _ in range(400):
        optimizer.zero_grad()
        tn.functional.mse_loss(p, target).backward()
        optimizer.step()
    assert np.max(abs(p.data - target)) < 0.05


# Which parameters move


@every_optimizer
@given(data=st.data(), seed=seeds)
def test_parameters_without_gradient_are_skipped_and_keep_their_state(name, data, seed):
    kind, rng = OPTIMIZERS[name][0], np.random.default_rng(seed)
    options = options_of(data, name)
    p, still = leaf(rng, (3,)), leaf(rng, (2,))
    before, gradients = still.data.copy(), some_gradients(rng, (3,), 20)
    expected, way = published(kind, p.data.copy(), gradients, options)
    optimizer = kind([still, p], **options)
    run(optimizer, [still, p], [[None] * 20, gradients])
    assert np.array_equal(still.data, before)  # not even its weight decays
    assert 0 not in optimizer.state_dict()["state"]
    assert np.all(abs(p.data - expected) <= 1e-13 * (way + 1e-3))


@every_optimizer
@given(data=st.data(), seed=seeds)
def test_groups_have_their_own_options_and_take_the_others_from_the_defaults(name, data, seed):
    kind, rng = OPTIMIZERS[name][0], np.random.default_rng(seed)
    common, special = options_of(data, name), options_of(data, name)
    chosen = data.draw(st.sets(st.sampled_from(sorted(special))))
    special = {k: v for k, v in special.items() if k in chosen}
    params = [leaf(rng, shape) for shape in ((2,), (2, 3), ())]
    gradients = [some_gradients(rng, p.shape, 20) for p in params]
    expected = [
        published(kind, p.data.copy(), g, {**common, **(special if k else {})})
        for k, (p, g) in enumerate(zip(params, gradients, strict=True))
    ]
    optimizer = kind([{"params": params[0]}, {"params": iter(params[1:]), **special}], **common)
    run(optimizer, params, gradients)
    for p, (w, way) in zip(params, expected, strict=True):
        assert np.all(abs(p.data - w) <= 1e-13 * (way + 1e-3))


@every_optimizer
def test_options_are_read_at_every_step(name):
    rng = np.random.default_rng(0)
    p = leaf(rng, (3,))
    optimizer = OPTIMIZERS[name][0]([p], lr=0.1)
    run(optimizer, [p], [some_gradients(rng, (3,), 2)])
    before = p.data.copy()
    optimizer.param_groups[0]["lr"] = 0.0
    run(optimizer, [p], [some_gradients(rng, (3,), 2)])
    assert np.array_equal(p.data, before)


def test_parameters_may_come_from_a_generator():
    net = tn.nn.Sequential(tn.nn.Linear(2, 3), tn.nn.Linear(3, 1))
    optimizer = SGD(net.parameters(), lr=0.1)
    assert optimizer.param_groups[0]["params"] == list(net.parameters())


def test_zero_grad_sets_every_gradient_to_none():
    params = [leaf(np.random.default_rng(k), (2,)) for k in range(3)]
    for p in params[:2]:
        p.grad = np.ones(2)
    SGD([{"params": params[:1]}, {"params": params[1:]}]).zero_grad()
    assert all(p.grad is None for p in params)


# In place, and what graphs notice of it


@every_optimizer
@given(data=st.data(), seed=seeds, shape=shapes)
def test_updates_happen_in_place_and_leave_gradients_alone(name, data, seed, shape):
    rng = np.random.default_rng(seed)
    options = {**options_of(data, name), "weight_decay": 0.1}
    p = leaf(rng, shape)
    array, optimizer = p.data, OPTIMIZERS[name][0]([p], **options)
    for g in some_gradients(rng, shape, 3):
        before = array.copy()
        p.grad = g
        kept = g.copy()
        optimizer.step()
        assert p.data is array
        assert p.grad is g
        assert np.array_equal(g, kept)
        assert not np.array_equal(array, before)


@every_optimizer
def test_backward_through_a_graph_from_before_the_step_is_refused_where_it_needs_the_old_values(name):
    rng = np.random.default_rng(0)
    w, b = leaf(rng, (3,)), leaf(rng, (3,))
    optimizer = OPTIMIZERS[name][0]([w, b], lr=0.1)
    x = rng.standard_normal(3)
    needs_old_values = (w * w * x).sum()
    views_old_values = (w.reshape(3, 1) * tn.Tensor(x[None, :], requires_grad=True)).sum()
    through_the_result = np.exp(w + b).sum()
    needs_none = (2 * w + b).sum()
    (w * x).sum().backward()
    gradient = w.grad.copy()
    optimizer.step()
    for loss in (needs_old_values, views_old_values):
        with pytest.raises(GraphError, match="written to after"):
            loss.backward()
        assert np.array_equal(w.grad, gradient)
    through_the_result.backward()
    needs_none.backward()
    assert np.max(abs(b.grad)) > 1
    (w * w).sum().backward()  # recorded after the step


def test_a_step_without_gradient_invalidates_nothing():
    w = leaf(np.random.default_rng(0), (3,))
    loss = (w * w).sum()
    SGD([w], lr=0.1).step()
    loss.backward()
    np.testing.assert_array_equal(w.grad, 2 * w.data)


# State


@every_optimizer
@given(data=st.data(), seed=seeds)
def test_a_broken_off_run_resumes_bit_for_bit(name, data, seed):
    kind, rng = OPTIMIZERS[name][0], np.random.default_rng(seed)
    options, other = options_of(data, name), options_of(data, name)
    cut = data.draw(st.integers(0, 24))
    start = [np.array(rng.standard_normal(shape)) for shape in ((2, 3), (4,), ())]
    gradients = [some_gradients(rng, w.shape, 24, missing=0.2) for w in start]

    def fresh(values):
        return [tn.Tensor(w.copy(), requires_grad=True) for w in values]

    def groups(params):
        return [{"params": params[:1], "lr": 0.01}, {"params": params[1:]}]

    whole = fresh(start)
    uninterrupted = kind(groups(whole), **options)
    run(uninterrupted, whole, gradients)

    first = fresh(start)
    broken_off = kind(groups(first), **options)
    run(broken_off, first, [g[:cut] for g in gradients])
    state = broken_off.state_dict()
    second = fresh([p.data for p in first])
    resumed = kind(groups(second), **other)
    run(broken_off, first, [g[cut:] for g in gradients])  # the saved state must not move with it
    resumed.load_state_dict(state)
    run(resumed, second, [g[cut:] for g in gradients])
    for p, q, r in zip(whole, second, first, strict=True):
        assert np.array_equal(p.data, q.data)
        assert np.array_equal(p.data, r.data)
    assert same_state(uninterrupted, resumed)
    assert repr(resumed) == repr(uninterrupted)


@every_optimizer
def test_a_loaded_state_is_a_copy(name):
    rng = np.random.default_rng(0)
    p, q = leaf(rng, (3,)), leaf(rng, (3,))
    kind = OPTIMIZERS[name][0]
    options = {"momentum": 0.9} if kind is SGD else {}
    one, two = kind([p], **options), kind([q], **options)
    run(one, [p], [some_gradients(rng, (3,), 3)])
    state = one.state_dict()
    kept = copy.deepcopy(state)
    two.load_state_dict(state)
    run(two, [q], [some_gradients(rng, (3,), 3)])
    assert str(state) == str(kept)


@every_optimizer
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301 - our own
def test_a_copy_together_with_its_parameters_goes_on_where_the_original_stood(name, duplicate):
    rng = np.random.default_rng(0)
    kind = OPTIMIZERS[name][0]
    params = [leaf(rng, (3,)), leaf(rng, ())]
    options = {"lr": 0.1, **({"momentum": 0.9} if kind is SGD else {})}
    optimizer = kind(params, **options)
    run(optimizer, params, [some_gradients(rng, p.shape, 5) for p in params])
    twins, twin = duplicate((params, optimizer))
    gradients = [some_gradients(rng, p.shape, 5) for p in params]
    run(optimizer, params, gradients)
    run(twin, twins, gradients)
    for p, q in zip(params, twins, strict=True):
        assert p is not q
        assert np.array_equal(p.data, q.data)
    assert same_state(optimizer, twin)


def trained(kind, shapes, **options):
    rng = np.random.default_rng(0)
    params = [leaf(rng, shape) for shape in shapes]
    optimizer = kind(params, **options)
    run(optimizer, params, [some_gradients(rng, shape, 2) for shape in shapes])
    return optimizer


def changed(state, *path, to):
    state = copy.deepcopy(state)
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return state


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    adam = trained(Adam, [(2,), (3,)])
    good = adam.state_dict()
    misfits = [
        ({}, "'state' and 'param_groups'"),
        ({**good, "more": 1}, "'state' and 'param_groups'"),
        (trained(Adam, [(2,)]).state_dict(), "parameter groups"),
        (trained(Adam, [(3,), (2,)]).state_dict(), r"m of parameter 0 has shape \(3,\).*, the parameter \(2,\)"),
        (changed(good, "state", 1, "v", to=np.zeros(3, np.float32)), "dtype float32, the parameter .* and float64"),
        (trained(SGD, [(2,), (3,)], momentum=0.9).state_dict(), "the state is of SGD, this is Adam"),
        ({**trained(SGD, [(2,), (3,)]).state_dict(), "optimizer": "Adam"}, "options"),
        (trained(AdamW, [(2,), (3,)]).state_dict(), "the state is of AdamW, this is Adam"),
        (changed(good, "state", 2, to=good["state"][1]), "parameter 2"),
        (changed(good, "state", "0", to=good["state"][1]), "parameter '0'"),
        (changed(good, "param_groups", 0, "params", to=[1, 0]), "parameter groups"),
        (changed(good, "param_groups", 0, "more", to=1), "options"),
        (changed(good, "param_groups", to=[]), "parameter groups"),
    ]
    before = repr(adam), str(good)
    for state, message in misfits:
        with pytest.raises(StateError, match=message):
            adam.load_state_dict(state)
        assert (repr(adam), str(adam.state_dict())) == before
    with pytest.raises(ArgumentError, match="lr"):
        adam.load_state_dict(changed(good, "param_groups", 0, "lr", to=-1.0))
    assert (repr(adam), str(adam.state_dict())) == before
    adam.load_state_dict(good)
    assert (repr(adam), str(adam.state_dict())) == before
    adam.load_state_dict({name: entry for name, entry in good.items() if name != "optimizer"})  # of whatever class
    assert (repr(adam), str(adam.state_dict())) == before


# Errors


def test_what_an_optimizer_refuses_to_train():
    p, q = leaf(np.random.default_rng(0), (2,)), leaf(np.random.default_rng(1), (2,))
    net = tn.nn.Linear(2, 1)
    for nothing in ([], iter([]), {}):
        with pytest.raises(ArgumentError, match="at least one parameter"):
            SGD(nothing)
    used_up = net.parameters()
    list(used_up)
    with pytest.raises(ArgumentError, match="used up"):
        SGD(used_up)
    for twice in ([p, q, p], [{"params": [p]}, {"params": [q, p]}]):
        with pytest.raises(ArgumentError, match=r"shape \(2,\) is given twice"):
            SGD(twice)
    with pytest.raises(DTypeError, match=r"write \[p\]"):
        SGD(p)
    for wrong in ([np.ones(2)], [p, "w"], [p * 2], [{"params": [3.0]}], [{"params": [p]}, q], [q, {"params": [p]}]):
        with pytest.raises(DTypeError, match="leaf Tensors"):
            SGD(wrong)
    for group in ({"lr": 0.1}, {"params": [p], "momentun": 0.9}, {"params": [p], "betas": (0.9, 0.99)}):
        with pytest.raises(ArgumentError, match="a parameter group has 'params' and some of"):
            SGD([group])


@pytest.mark.parametrize("kind", DEFAULTS)
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_rates_and_decays_are_finite_and_not_negative(kind, option, value):
    p = leaf(np.random.default_rng(0), (2,))
    with pytest.raises(ArgumentError, match=f"{kind.__name__} needs {option} >= 0, got"):
        kind([p], **{option: value})
    with pytest.raises(ArgumentError, match=option):
        kind([{"params": [p], option: value}])
    kind([p], **{option: 0})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SGD, {"momentum": 1}, "0 <= momentum < 1"),
        (SGD, {"momentum": -0.1}, "0 <= momentum < 1"),
        (SGD, {"momentum": math.nan}, "0 <= momentum < 1"),
        (SGD, {"nesterov": True}, "nesterov=True needs a momentum"),
        (Adam, {"betas": (1, 0.9)}, "0 <= beta < 1"),
        (Adam, {"betas": (0.9, -0.1)}, "0 <= beta < 1"),
        (Adam, {"betas": (0.9, math.nan)}, "0 <= beta < 1"),
        (Adam, {"betas": (0.9,)}, "two betas"),
        (AdamW, {"betas": (0.9, 0.9, 0.9)}, "AdamW needs two betas"),
        (Adam, {"eps": 0}, "eps"),
        (AdamW, {"eps": math.nan}, "eps"),
    ],
)
def test_options_out_of_range(kind, options, message):
    p = leaf(np.random.default_rng(0), (2,))
    with pytest.raises(ArgumentError, match=message):
        kind([p], **options)
    with pytest.raises(ArgumentError, match=message):
        kind([{"params": [p], **options}])


SPOILED = [
    *((kind, "lr", value) for kind in DEFAULTS for value in (-1.0, math.nan, math.inf, "0.1", None, np.array([0.1]))),
    *((kind, "weight_decay", -0.1) for kind in DEFAULTS),
    *((SGD, "momentum", 1.0), (SGD, "momentum", "0.9"), (SGD, "nesterov", True), (SGD, "nesterov", 1)),
    *((Adam, "betas", (0.9,)), (AdamW, "betas", (0.9, 1.0)), (Adam, "eps", 0), (RMSprop, "alpha", 2.0)),
    *((RMSprop, "momentum", -0.1), (RMSprop, "centered", None)),
]


@pytest.mark.parametrize(("kind", "option", "value"), SPOILED)
def test_an_option_that_is_spoiled_later_is_refused_before_anything_moves(kind, option, value):
    rng = np.random.default_rng(0)
    p, q = leaf(rng, (2,)), leaf(rng, (3,))
    optimizer = kind([{"params": [p]}, {"params": [q]}])
    run(optimizer, [p, q], [[np.ones(2)], [np.ones(3)]])
    good, before, state = optimizer.param_groups[1][option], [p.data.copy(), q.data.copy()], optimizer.state_dict()
    for _ in range(2):
        optimizer.param_groups[1][option] = value
        with pytest.raises((ArgumentError, DTypeError), match=option.rstrip("s")):
            optimizer.step()
        del optimizer.param_groups[1][option]
        with pytest.raises(ArgumentError, match=rf"lacks \['{option}'\]"):
            optimizer.step()
        np.testing.assert_array_equal(np.concatenate([p.data, q.data]), np.concatenate(before))
    optimizer.param_groups[1][option] = good
    assert str(optimizer.state_dict()["state"]) == str(state["state"])
    optimizer.step()
    assert np.all(p.data < before[0])
    assert np.all(q.data < before[1])


def test_a_parameter_moved_to_another_dtype_stops_the_groups_before_it_too():
    first, second = tn.nn.Linear(2, 2), tn.nn.Linear(2, 1)
    optimizer = SGD([{"params": list(layer.parameters())} for layer in (first, second)], lr=0.1)
    second.to(np.float32)
    for p in (*first.parameters(), *second.parameters()):
        p.grad = np.ones_like(p.data)
    before = first.weight.data.copy()
    with pytest.raises(StateError, match="was moved to another kind of array"):
        optimizer.step()
    np.testing.assert_array_equal(first.weight.data, before)


def test_another_list_of_parameters_in_a_group():
    rng = np.random.default_rng(0)
    p, q = leaf(rng, (2,)), leaf(rng, (2,))
    optimizer = SGD([p], lr=0.5)
    optimizer.param_groups[0]["params"] = [q]
    p.grad = q.grad = np.ones(2)
    before = p.data.copy(), q.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(p.data, before[0])
    np.testing.assert_array_equal(q.data, before[1] - 0.5)


# Optimizers of one's own


def test_an_optimizer_of_ones_own_has_the_options_that_it_names():
    class Sign(Optimizer):
        def __init__(self, params, size):
            super().__init__(params, {"size": size})

        def update(self, data, grad, state, group):
            data -= group["size"] * np.sign(grad)

    p = tn.Tensor([1.0, -1.0], requires_grad=True)
    run(Sign([p], 0.25), [p], [[np.array([5.0, -7.0])]])
    assert p.data.tolist() == [0.75, -0.75]


def test_an_optimizer_of_ones_own_defines_update():
    class SignSGD(Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr, "weight_decay": 0.0})

        def update(self, data, grad, state, group):
            state["steps"] = state.get("steps", 0) + 1
            data -= group["lr"] * np.sign(grad)

    p = tn.Tensor([1.0, -1.0], requires_grad=True)
    optimizer = SignSGD([p])
    run(optimizer, [p], [[np.array([5.0, -7.0])] * 3])
    np.testing.assert_allclose(p.data, [0.7, -0.7])
    assert optimizer.state_dict()["state"] == {0: {"steps": 3}}
    q = tn.Tensor([1.0], requires_grad=True)
    q.grad = np.ones(1)
    with pytest.raises(DTypeError, match="has no update"):
        Optimizer([q], {"lr": 0.1, "weight_decay": 0.0}).step()


def test_an_update_of_ones_own_is_taken_in_a_plain_sgd_too():
    class Signed(SGD):
        def update(self, data, grad, state, group):
            super().update(data, np.sign(grad), state, group)

    p = tn.Tensor([1.0, -1.0], requires_grad=True)
    run(Signed([p], lr=0.1), [p], [[np.array([5.0, -7.0])]])
    np.testing.assert_allclose(p.data, [0.9, -0.9])


def test_plain_sgd_takes_parameters_of_every_dtype_and_a_rate_that_changes():
    rng = np.random.default_rng(0)
    dtypes = [np.float32, np.float64, np.float32, np.float16, np.longdouble]
    params = [leaf(rng, (n, 2), dtype) for n, dtype in zip([3, 700, 4, 1, 2], dtypes, strict=True)]
    optimizer = SGD(params, lr=0.5)
    for rate in (0.5, 0.25, 1):
        optimizer.param_groups[0]["lr"] = rate
        before = [p.data.copy() for p in params]
        for p in params:
            p.grad = rng.standard_normal(p.shape).astype(p.dtype)
        optimizer.step()
        for p, old in zip(params, before, strict=True):
            assert p.dtype == old.dtype
            np.testing.assert_array_equal(p.data, old - np.array(rate, p.dtype) * p.grad)


def test_repr():
    p, q = leaf(np.random.default_rng(0), (2,)), leaf(np.random.default_rng(0), (2,))
    assert repr(SGD([{"params": p}, {"params": [q], "lr": 0.5}])) == (
        "SGD({'lr': 0.001, 'momentum': 0.0, 'nesterov': False, 'weight_decay': 0.0}, "
        "{'lr': 0.5, 'momentum': 0.0, 'nesterov': False, 'weight_decay': 0.0})"
    )


@pytest.mark.parametrize("kind", [Adam, AdamW, RMSprop])
def test_an_eps_that_vanishes_in_the_parameters_dtype_is_refused(kind):
    p = tn.Tensor(np.ones(3, np.float16), requires_grad=True)
    with pytest.raises(ArgumentError, match=r"eps=1e-08 is 0 in float16"):
        kind([p])
    optimizer = kind([p], eps=1e-4)
    p.grad = np.full(3, 1e-4, np.float16)
    optimizer.step()
    assert np.all(np.isfinite(p.data))


def test_one_array_as_the_gradient_of_two_parameters_is_clipped_once():
    p, q = (tn.Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    p.grad = q.grad = np.full(2, 10.0)
    assert clip_grad_norm([p, q], 1.0) == pytest.approx(20)
    np.testing.assert_allclose(p.grad, np.full(2, 0.5), rtol=1e-6)


def test_clipping_nothing_is_told():
    layer = tn.nn.Linear(2, 2)
    used_up = layer.parameters()
    list(used_up)
    for clip in (clip_grad_norm, clip_grad_value):
        with pytest.raises(ArgumentError, match="was a generator used up before"):
            clip(used_up, 1.0)
