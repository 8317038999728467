"""Activations and losses: invariances, tails, targets, and gradients against two oracles."""

from __future__ import annotations

import math
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

F = tn.functional
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
spreads = st.sampled_from([0.1, 1.0, 10.0, 300.0])
reductions = st.sampled_from(["mean", "sum", "none"])
POINTWISE = [F.sigmoid, F.relu, F.tanh, F.leaky_relu, F.elu, F.silu, F.gelu, F.softplus]
NORMALISING = [F.softmax, F.log_softmax, F.logsumexp]


def draw(seed, shape, spread=1.0):
    return np.random.default_rng(seed).normal(0, spread, shape)


def leaf(array):
    return tn.Tensor(array, requires_grad=True)


def labels_for(rng, shape):
    return rng.integers(shape[-1], size=shape[:-1])


def one_hot(labels, classes):
    return (np.asarray(labels)[..., None] == np.arange(classes)).astype(float)


def axes(data, shape):
    return data.draw(st.integers(-len(shape), len(shape) - 1))


# softmax, log_softmax, logsumexp


@given(data=st.data(), seed=seeds, shape=shapes, spread=spreads)
def test_softmax_gives_probabilities_in_the_order_of_the_scores(data, seed, shape, spread):
    x, axis = draw(seed, shape, spread), axes(data, shape)
    p = F.softmax(x, axis=axis)
    assert p.shape == shape
    assert np.all((p >= 0) & (p <= 1))
    np.testing.assert_allclose(p.sum(axis=axis), 1, rtol=1e-14)
    assert np.all(np.diff(np.take_along_axis(p, x.argsort(axis=axis), axis), axis=axis) >= 0)


@pytest.mark.parametrize("function", NORMALISING)
@given(data=st.data(), seed=seeds, shape=shapes, shift=st.sampled_from([-1e6, -1024.0, 0.5, 1024.0, 1e6]))
def test_a_shift_of_all_scores_changes_only_logsumexp_and_by_just_that(function, data, seed, shape, shift):
    x, axis = np.round(draw(seed, shape, 4), 2), axes(data, shape)
    moved = function(x + shift, axis=axis) - (shift if function is F.logsumexp else 0)
    np.testing.assert_allclose(moved, function(x, axis=axis), rtol=0, atol=4e-16 * max(abs(shift), 40))


@given(data=st.data(), seed=seeds, shape=shapes, spread=spreads)
def test_the_three_fit_together(data, seed, shape, spread):
    x, axis = draw(seed, shape, spread), axes(data, shape)
    log_p, total = F.log_softmax(x, axis=axis), F.logsumexp(x, axis=axis, keepdims=True)
    np.testing.assert_allclose(np.exp(log_p), F.softmax(x, axis=axis), rtol=1e-12)
    np.testing.assert_allclose(log_p, x - total, rtol=1e-14, atol=2e-15 * (1 + abs(x).max()))
    assert np.array_equal(F.logsumexp(x, axis=axis), np.squeeze(total, axis=axis))


@given(seed=seeds, n=st.integers(1, 6), spread=spreads)
def test_values_against_mpmath(seed, n, spread):
    x = draw(seed, (n,), spread)
    with mpmath.workdps(40):
        total = mpmath.fsum(mpmath.exp(mpmath.mpf(v)) for v in x)
        p = [float(mpmath.exp(mpmath.mpf(v)) / total) for v in x]
        log_p = [float(mpmath.mpf(v) - mpmath.log(total)) for v in x]
        expected = float(mpmath.log(total))
    # the exponent's rounding counts: exp(-600) has 600 times the error of its argument
    assert np.all(abs(F.softmax(x) - p) <= 1e-15 * (10 + np.ptp(x)) * np.array(p) + 1e-307)
    np.testing.assert_allclose(F.log_softmax(x), log_p, rtol=4e-15, atol=1e-15)
    np.testing.assert_allclose(F.logsumexp(x), expected, rtol=4e-15, atol=1e-15 * abs(x).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("far", [1e4, 3e38])
def test_far_scores_neither_overflow_nor_warn(dtype, far):
    x = np.array([[far, -far, 0], [-far, -far, -far], [0, 0, far], [far, far, far]], dtype)
    p = [[1, 0, 0], [1 / 3] * 3, [0, 0, 1], [1 / 3] * 3]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        if far < 1e38:  # the difference of the scores is a number
            np.testing.assert_allclose(F.softmax(x), p, rtol=1e-6)
            np.testing.assert_allclose(F.log_softmax(x)[0], [0, -2 * far, -far])
            np.testing.assert_allclose(F.logsumexp(x), [far, -far + math.log(3), far, far + math.log(3)], rtol=1e-6)
            t = leaf(x)
            F.cross_entropy(t, np.array([1, 0, 2, 0])).backward()
            np.testing.assert_allclose(t.grad, (p - one_hot([1, 0, 2, 0], 3)) / 4, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_allclose(F.softmax(x[1:]), p[1:], rtol=1e-6)
        for function in POINTWISE:
            t = leaf(x)
            y = function(t)
            y.backward(np.ones_like(x))
            assert np.all(np.isfinite(y.data))
            assert np.all(np.isfinite(t.grad))
        t = leaf(x)
        loss = F.binary_cross_entropy_with_logits(t, (x > 0).astype(dtype), "none")
        loss.backward(np.ones_like(x))
        assert loss.dtype == dtype
        assert np.all(np.isfinite(loss.data))
        assert np.all(np.isfinite(t.grad))
    assert {F.softmax(x[3]).dtype, F.log_softmax(x[3]).dtype, F.logsumexp(x[3]).dtype} == {np.dtype(dtype)}


def test_infinite_scores():
    x = np.array([0.0, -np.inf, 0.0])
    assert F.softmax(x).tolist() == [0.5, 0, 0.5]
    np.testing.assert_allclose(F.log_softmax(x), [-math.log(2), -np.inf, -math.log(2)])
    np.testing.assert_allclose(F.logsumexp(x), math.log(2))
    assert F.logsumexp(np.array([0.0, np.inf])) == np.inf


def test_logsumexp_over_all_axes():
    x = draw(0, (3, 4))
    np.testing.assert_allclose(F.logsumexp(x, axis=None), np.log(np.exp(x).sum()), rtol=1e-14)


# Arrays and Tensors


def calls(rng, shape):
    """Every function of the room on arrays of one shape: name, function of one argument, array."""
    x, y = rng.normal(0, 2, shape), rng.normal(0, 2, shape)
    probabilities = F.softmax(y)
    labels = labels_for(rng, shape)
    seed = int(rng.integers(2**32))
    yield "tanh", F.tanh, x
    yield "sigmoid", F.sigmoid, x
    yield "relu", F.relu, x
    yield "leaky_relu", lambda t: F.leaky_relu(t, 0.3), x
    yield "elu", lambda t: F.elu(t, 0.7), x
    yield "silu", F.silu, x
    yield "gelu", F.gelu, x
    yield "softplus", F.softplus, x
    yield "softplus, beta", lambda t: F.softplus(t, 2.5), x
    yield "softmax", F.softmax, x
    yield "log_softmax", F.log_softmax, x
    yield "logsumexp", F.logsumexp, x
    yield "logsumexp, keepdims", lambda t: F.logsumexp(t, axis=0, keepdims=True), x
    numbers = rng.integers(shape[0], size=(4, 2))
    last = rng.standard_normal((2, *shape[-1:]))
    yield "layer_norm", lambda t: F.layer_norm(t, shape), x
    yield "layer_norm, affine", lambda t: F.layer_norm(t, shape[-1], last[0], last[1], 1e-3), x
    yield "layer_norm, weight", lambda t: F.layer_norm(y, shape, t), x
    yield "embedding", lambda t: F.embedding(numbers, t.reshape((shape[0], -1))), x
    image = (1, 1, 1, x.size)
    kernel = rng.standard_normal((2, 1, 1, 1))
    yield "conv2d", lambda t: F.conv2d(t.reshape(image), kernel, last[0, :1].repeat(2), padding=1), x
    yield "conv2d, weight", lambda t: F.conv2d(np.ones((2, 1, 2, x.size)), t.reshape(image)), x
    yield "max_pool2d", lambda t: F.max_pool2d(t.reshape(image), (1, 2), padding=(0, 1)), x
    yield "avg_pool2d", lambda t: F.avg_pool2d(t.reshape(image), (1, 2), 1, (0, 1)), x
    yield "dropout", lambda t: F.dropout(t, 0.4, rng=np.random.default_rng(seed)), x
    yield "half_squared_error", lambda t: F.half_squared_error(t, y), x
    yield "half_squared_error, target", lambda t: F.half_squared_error(y, t), x
    for r in ("mean", "sum", "none"):
        yield f"mse_loss, {r}", lambda t, r=r: F.mse_loss(t, y, r), x
        yield f"mse_loss, target, {r}", lambda t, r=r: F.mse_loss(y, t, r), x
        yield f"cross_entropy, labels, {r}", lambda t, r=r: F.cross_entropy(t, labels, r), x
        yield f"cross_entropy, probabilities, {r}", lambda t, r=r: F.cross_entropy(t, probabilities, r), x
        yield f"cross_entropy, target, {r}", lambda t, r=r: F.cross_entropy(y, t, r), probabilities
        yield f"l1_loss, {r}", lambda t, r=r: F.l1_loss(t, y, r), x
        yield f"l1_loss, target, {r}", lambda t, r=r: F.l1_loss(y, t, r), x
        yield f"huber_loss, {r}", lambda t, r=r: F.huber_loss(t, y, r), x
        yield f"huber_loss, target, {r}", lambda t, r=r: F.huber_loss(y, t, r, 0.7), x
        yield f"nll_loss, {r}", lambda t, r=r: F.nll_loss(t, labels, r), x
        yield f"binary_cross_entropy, {r}", lambda t, r=r: F.binary_cross_entropy(t, probabilities, r), F.sigmoid(x)
        yield (
            f"binary_cross_entropy, target, {r}",
            lambda t, r=r: F.binary_cross_entropy(F.sigmoid(y), t, r),
            F.sigmoid(x),
        )
        yield f"bce, {r}", lambda t, r=r: F.binary_cross_entropy_with_logits(t, probabilities, r), x
        yield f"bce, target, {r}", lambda t, r=r: F.binary_cross_entropy_with_logits(y, t, r), F.sigmoid(x)


def test_every_function_of_the_room_is_among_the_calls():
    names = {name.split(",")[0] for name, _, _ in calls(np.random.default_rng(0), (2, 2))}
    assert names == {n.replace("binary_cross_entropy_with_logits", "bce") for n in F.__all__}


@given(seed=seeds, shape=shapes)
def test_arrays_give_arrays_with_the_same_numbers_as_tensors(seed, shape):
    for name, function, x in calls(np.random.default_rng(seed), shape):
        kept = x.copy()
        array, tensor, traced = function(x), function(tn.Tensor(x)), function(leaf(x))
        assert isinstance(array, np.ndarray | np.floating), name
        assert isinstance(tensor, tn.Tensor), name
        assert not tensor.requires_grad, name
        assert traced.requires_grad, name
        assert np.array_equal(array, tensor.numpy()), name
        assert np.array_equal(array, traced.numpy()), name
        assert np.array_equal(x, kept), name


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64, np.bool_])
def test_integers_count_as_the_numbers_that_they_are(dtype):
    info = None if dtype is np.bool_ else np.iinfo(np.int8 if dtype is np.int64 else dtype)
    x = np.array([[True, False, True]] if info is None else [[info.min, 3, min(info.max, 255)], [1, 0, 2]]).astype(
        dtype
    )
    y = x[:, ::-1]
    one_or_zero = (y > 1).astype(dtype)
    pairs = [
        *((lambda t, f=f: f(t), x) for f in NORMALISING),
        *((lambda t, f=f: f(t), x) for f in POINTWISE if f not in {F.relu, F.tanh}),  # NumPy's, which keep their dtype
        *((lambda t, f=f: f(t, y.astype(t.dtype)), x) for f in (F.mse_loss, F.half_squared_error)),
        (lambda t: F.binary_cross_entropy_with_logits(t, one_or_zero.astype(t.dtype)), x),
        *((lambda t, f=f: f(t, y.astype(t.dtype)), x) for f in (F.l1_loss, F.huber_loss)),
        (lambda t: F.binary_cross_entropy(t, one_or_zero.astype(t.dtype)), one_or_zero),
        (lambda t: F.nll_loss(t, np.zeros(len(x), np.uint8)), x),
        (lambda t: F.cross_entropy(t, one_or_zero.astype(t.dtype)), x),
        (lambda t: F.cross_entropy(t, np.zeros(len(x), np.uint8)), x),
        (lambda t: F.dropout(t, 0.5, rng=np.random.default_rng(0)), x),
    ]
    for function, array in pairs:
        expected = function(array.astype(np.float64))
        for result in (function(array), function(tn.Tensor(array)).numpy()):
            assert result.dtype == np.float64
            np.testing.assert_allclose(result, expected, rtol=1e-14)


@given(seed=seeds, shape=shapes)
def test_float32_stays_float32_in_values_and_gradients(seed, shape):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, *shape)).astype(np.float32)
    p, labels = F.softmax(y), labels_for(rng, shape)
    for function in (
        *POINTWISE,
        *NORMALISING,
        lambda t: F.dropout(t, 0.5, rng=rng),
        lambda t: F.mse_loss(t, y),
        lambda t: F.mse_loss(t, y.tolist()),
        lambda t: F.half_squared_error(t, y),
        lambda t: F.l1_loss(t, y.tolist()),
        lambda t: F.huber_loss(t, y, delta=0.3),
        lambda t: F.binary_cross_entropy(F.sigmoid(t), p),
        lambda t: F.nll_loss(t, labels),
        lambda t: F.cross_entropy(t, p),
        lambda t: F.cross_entropy(t, p.tolist()),
        lambda t: F.cross_entropy(t, labels),
        lambda t: F.binary_cross_entropy_with_logits(t, p),
    ):
        t = leaf(x)
        loss = function(t)
        assert loss.dtype == np.float32
        loss.backward(np.ones(loss.shape))
        assert t.grad.dtype == np.float32


# Gradients


@given(seed=seeds, shape=shapes)
def test_gradients_along_random_directions_equal_complex_step(seed, shape):
    rng = np.random.default_rng(seed)
    for name, function, x in calls(rng, shape):
        if name.split(",")[0] in {"relu", "bce", "softplus", "l1_loss"} and "bce, target" not in name:
            continue  # kinks, and np.logaddexp and np.abs of complex numbers
        t, u = leaf(x), rng.standard_normal(shape)
        y = function(t)
        v = rng.standard_normal(y.shape)
        y.backward(v)
        h = 1e-30
        slope = np.imag(function(x + 1j * h * u)) / h
        scale = np.sum(abs(v) * (abs(slope) + 1)) + np.sum(abs(t.grad * u))
        assert abs(np.sum(t.grad * u) - np.sum(v * slope)) <= 1e-13 * scale, name


@given(seed=seeds, shape=shapes)
def test_gradients_along_random_directions_equal_central_differences_in_long_double(seed, shape):
    rng = np.random.default_rng(seed)
    for name, function, x in calls(rng, shape):
        t, u = leaf(x), rng.standard_normal(shape)
        y = function(t)
        v = rng.standard_normal(y.shape)
        y.backward(v)
        h = np.longdouble(1e-6)
        if name in {"relu", "leaky_relu", "elu"}:
            u = np.where(abs(x) > 1e-4, u, 0)  # not across the kink
        if name.startswith("binary_cross_entropy"):
            h = np.longdouble(1e-9)  # steep near 0
        above, below = (function(x.astype(np.longdouble) + s * h * u) for s in (1, -1))
        slope = (above - below) / (2 * h)
        scale = np.sum(abs(v) * (abs(slope) + 1)) + np.sum(abs(t.grad * u))
        assert abs(np.sum(t.grad * u) - np.sum(v * slope)) <= 1e-9 * scale, name


@given(seed=seeds, n=st.integers(1, 4), classes=st.integers(1, 4))
def test_second_derivatives_of_losses_equal_their_formulas(seed, n, classes):
    rng = np.random.default_rng(seed)
    x, u = rng.standard_normal((2, n, classes))
    labels = rng.integers(classes, size=n)
    t = leaf(x)
    (g,) = tn.gradients(F.cross_entropy(t, labels), [t], create_graph=True)
    (hvp,) = tn.gradients((g * u).sum(), [t])
    p = F.softmax(x)
    np.testing.assert_allclose(hvp.numpy(), p * (u - np.sum(p * u, axis=-1, keepdims=True)) / n, rtol=0, atol=1e-13)
    t = leaf(x)
    (g,) = tn.gradients(F.binary_cross_entropy_with_logits(t, rng.random((n, classes)), "sum"), [t], create_graph=True)
    (hvp,) = tn.gradients((g * u).sum(), [t])
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(hvp.numpy(), s * (1 - s) * u, rtol=0, atol=1e-13)


# Activations of one entry each


def test_slopes_at_0_are_those_of_pytorch():
    t = leaf(np.array([0.0, -0.0]))
    for function, slope in (
        (F.leaky_relu, 0.01),
        (lambda x: F.leaky_relu(x, 3.0), 3.0),
        (F.elu, 1.0),
        (lambda x: F.elu(x, 0.5), 0.5),
        (F.silu, 0.5),
        (F.gelu, 0.5),
        (F.softplus, 0.5),
    ):
        (g,) = tn.gradients(function(t), [t], gradient=np.array([1.0, 2.0]))
        assert g.tolist() == [slope, 2 * slope]


@given(seed=seeds, shape=shapes, spread=spreads)
def test_activations_equal_their_formulas(seed, shape, spread):
    x = draw(seed, shape, spread)
    with np.errstate(over="ignore"):
        s = 1 / (1 + np.exp(-x))
        softplus = np.where(x > 30, x, np.log1p(np.exp(x)))
    close = {"rtol": 1e-12, "atol": 1e-15}
    np.testing.assert_allclose(F.leaky_relu(x, 0.2), np.where(x > 0, x, 0.2 * x), **close)
    np.testing.assert_allclose(F.elu(x, 0.7), np.where(x > 0, x, 0.7 * (np.exp(np.minimum(x, 0)) - 1)), **close)
    np.testing.assert_allclose(F.silu(x), x * s, **close)
    np.testing.assert_allclose(F.softplus(x), softplus, **close)
    np.testing.assert_allclose(F.softplus(x / 4, 4), softplus / 4, **close)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(F.gelu(x), x / 2 * (1 + np.tanh(inner)), rtol=1e-12, atol=1e-14)


def test_gelu_lies_as_near_to_the_one_with_erf_as_documented():
    x = np.linspace(-8, 8, 3201)
    exact = np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    difference = abs(F.gelu(x) - exact)
    assert 4.72e-4 < difference.max() < 4.74e-4
    assert abs(abs(x[difference.argmax()]) - 2.7) < 0.01


@pytest.mark.parametrize("kind", [tn.nn.GELU, lambda form: F.gelu(np.zeros(1), form)])
def test_gelu_refuses_the_form_that_it_does_not_have(kind):
    with pytest.raises(ArgumentError, match="approximate='tanh' only, got 'none'"):
        kind("none")


@pytest.mark.parametrize("beta", [0, -1.0, math.nan])
@pytest.mark.parametrize("kind", [tn.nn.Softplus, lambda beta: F.softplus(np.zeros(1), beta)])
def test_softplus_needs_a_positive_beta(kind, beta):
    with pytest.raises(ArgumentError, match="beta > 0"):
        kind(beta)


# Mean squared error


@given(seed=seeds, shape=shapes)
def test_squared_errors_and_their_reductions(seed, shape):
    x, y = draw(seed, (2, *shape))
    each = [(a - b) ** 2 for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    np.testing.assert_allclose(F.mse_loss(x, y), math.fsum(each) / len(each), rtol=1e-14)
    np.testing.assert_allclose(F.mse_loss(x, y, "sum"), math.fsum(each), rtol=1e-14)
    np.testing.assert_allclose(F.mse_loss(x, y, "none"), np.reshape(each, shape), rtol=1e-14)
    np.testing.assert_allclose(F.half_squared_error(x, y), 0.5 * math.fsum(each), rtol=1e-14)


PAIRED = [
    F.mse_loss,
    F.half_squared_error,
    F.l1_loss,
    F.huber_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
]


@pytest.mark.parametrize("loss", PAIRED)
@pytest.mark.parametrize(
    ("one", "two"), [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3), (3,)), ((1,), ()), ((2, 3), (3, 2)), ((1, 3), (2, 3))]
)
def test_losses_never_broadcast(loss, one, two):
    for wrap in (np.asarray, tn.Tensor, leaf):
        with pytest.raises(ShapeError, match="must have one shape") as caught:
            loss(wrap(np.zeros(one)), np.zeros(two))
        assert str(one) in str(caught.value)
        assert str(two) in str(caught.value)
        with pytest.raises(ShapeError):
            loss(np.zeros(one), wrap(np.zeros(two)))
    with pytest.raises(ShapeError):
        loss(np.zeros(one), np.zeros(two).tolist())


@pytest.mark.parametrize("loss", PAIRED)
def test_targets_may_be_lists_and_keep_their_fractions(loss):
    whole = np.array([1, 0 if loss is F.binary_cross_entropy else 2])
    fractions = [0.5, 0.25]
    expected = loss(whole.astype(float), np.array(fractions))
    assert loss(whole, fractions) == expected
    assert loss(tn.Tensor(whole), fractions).item() == expected
    assert loss(whole.tolist(), fractions) == expected
    assert loss(1.0, 0.5) == loss(np.array(1.0), np.array(0.5))


@pytest.mark.parametrize("loss", [loss for loss in (*PAIRED, F.cross_entropy) if loss is not F.half_squared_error])
@pytest.mark.parametrize("reduction", ["avg", "", None, True])
def test_unknown_reductions(loss, reduction):
    with pytest.raises(ArgumentError, match="is none of 'mean', 'sum', 'none'"):
        loss(np.zeros((2, 3)), np.zeros((2, 3)), reduction)


# Absolute errors, Huber's loss


def reduced(each, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](each)


@given(seed=seeds, shape=shapes, reduction=reductions, delta=st.sampled_from([0.1, 0.5, 1.0, 2.5]), spread=spreads)
def test_absolute_and_huber_losses_are_their_formulas(seed, shape, reduction, delta, spread):
    x, y = draw(seed, (2, *shape), spread)
    e = abs(x - y)
    np.testing.assert_allclose(F.l1_loss(x, y, reduction), reduced(e, reduction), rtol=1e-13)
    huber = np.where(e <= delta, e * e / 2, delta * (e - delta / 2))
    np.testing.assert_allclose(F.huber_loss(x, y, reduction, delta), reduced(huber, reduction), rtol=1e-12)
    t = leaf(x)
    loss = F.huber_loss(t, y, reduction, delta)
    v = np.random.default_rng(seed).standard_normal(loss.shape)
    loss.backward(v)
    slope = np.clip(x - y, -delta, delta) * v / (e.size if reduction == "mean" else 1)
    np.testing.assert_allclose(t.grad, slope, rtol=1e-11, atol=1e-14)


def test_huber_and_absolute_loss_where_their_pieces_meet_and_far_out():
    t = leaf(np.array([0.0, 2.0, -2.0, 1e300, -1e300]))
    F.huber_loss(t, np.zeros(5), "sum", delta=2.0).backward()
    assert t.grad.tolist() == [0, 2, -2, 2, -2]
    t.zero_grad()
    F.l1_loss(t, np.zeros(5), "sum").backward()
    assert t.grad.tolist() == [0, 1, -1, 1, -1]


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("loss", [tn.nn.HuberLoss, lambda **options: F.huber_loss(np.ones(1), np.ones(1), **options)])
def test_huber_needs_a_positive_delta(loss, delta):
    with pytest.raises(ArgumentError, match="delta > 0"):
        loss(delta=delta)


# Cross-entropy


@given(seed=seeds, shape=shapes, spread=spreads, reduction=reductions)
def test_indices_one_hot_rows_and_probabilities_agree(seed, shape, spread, reduction):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(0, spread, shape), labels_for(rng, shape)
    rows = one_hot(labels, shape[-1])
    results = {}
    forms = {
        "indices": labels,
        "uint8": labels.astype(np.uint8),
        "Tensor": tn.Tensor(labels),
        "list": labels.tolist(),
        "one-hot": rows,
        "one-hot int": rows.astype(int),
        "one-hot bool": rows.astype(bool),
        "one-hot list": rows.tolist(),
        "one-hot Tensor": tn.Tensor(rows),
        "probabilities": 0.5 * rows + 0.5 * rows,
    }
    for form, target in forms.items():
        t = leaf(x)
        loss = F.cross_entropy(t, target, reduction)
        v = np.random.default_rng(seed).standard_normal(loss.shape)
        loss.backward(v)
        results[form] = loss.numpy(), t.grad
    value, gradient = results.pop("indices")
    scale = 1 + abs(value).max()
    for form, (other, slope) in results.items():
        np.testing.assert_allclose(other, value, rtol=1e-14, atol=1e-15 * scale, err_msg=form)
        np.testing.assert_allclose(slope, gradient, rtol=1e-13, atol=1e-15, err_msg=form)


@given(seed=seeds, shape=shapes, spread=spreads, reduction=reductions)
def test_cross_entropy_is_the_mean_of_minus_log_softmax_at_the_class(seed, shape, spread, reduction):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(0, spread, shape), labels_for(rng, shape)
    each = np.array(
        [
            mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(v) - mpmath.mpf(row[k])) for v in row))
            for row, k in zip(x.reshape(-1, shape[-1]), labels.ravel(), strict=True)
        ],
        float,
    )
    expected = {"mean": each.mean(), "sum": each.sum(), "none": each.reshape(shape[:-1])}[reduction]
    np.testing.assert_allclose(
        F.cross_entropy(x, labels, reduction), expected, rtol=1e-13, atol=1e-15 * (1 + abs(x).max()) * each.size
    )


@given(seed=seeds, shape=shapes)
def test_cross_entropy_with_probabilities_is_linear_in_them_and_least_at_the_softmax(seed, shape):
    rng = np.random.default_rng(seed)
    x, p, q = rng.standard_normal((3, *shape))
    p, q = F.softmax(p), F.softmax(q)
    mixed = F.cross_entropy(x, 0.25 * p + 0.75 * q)
    np.testing.assert_allclose(mixed, 0.25 * F.cross_entropy(x, p) + 0.75 * F.cross_entropy(x, q), rtol=1e-13)
    assert F.cross_entropy(np.log(p), p) <= F.cross_entropy(x, p) * (1 + 1e-14)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([0, 3], ArgumentError, "class indices that lie from 0 to 2, got 0 to 3"),
        ([-1, 0], ArgumentError, "lie from 0 to 2, got -1 to 0"),
        ([0.0, 1.0], DTypeError, r"class indices that are integers, got float64: write astype\(int\)"),
        ([True, False], DTypeError, "class indices that are integers, got bool"),
        ([[0], [1]], ShapeError, r"class indices of shape \(2,\) or one-hot rows of shape \(2, 3\).*\(2, 1\)"),
        ([0, 1, 2], ShapeError, r"has shape \(3,\)"),
        ([[1, 0], [0, 1]], ShapeError, r"has shape \(2, 2\)"),
        (1, ShapeError, r"has shape \(\)"),
        (["a", "b"], DTypeError, "cross_entropy takes arrays of numbers"),
    ],
)
def test_targets_that_cross_entropy_refuses(target, error, message):
    x = draw(0, (2, 3))
    for logits in (x, leaf(x)):
        for form in (target, np.array(target), *([] if "a" in str(target) else [tn.Tensor(target)])):
            with pytest.raises(error, match=message):
                F.cross_entropy(logits, form)


def test_cross_entropy_of_a_single_row_and_of_images():
    x = draw(0, (3,))
    np.testing.assert_allclose(F.cross_entropy(x, 1), -F.log_softmax(x)[1])
    np.testing.assert_allclose(F.cross_entropy(x, np.int64(1)), -F.log_softmax(x)[1])
    t = leaf(x)
    F.cross_entropy(t, 1).backward()
    np.testing.assert_allclose(t.grad, F.softmax(x) - one_hot(1, 3), rtol=1e-14)
    images, labels = draw(0, (2, 4, 5, 3)), np.random.default_rng(0).integers(3, size=(2, 4, 5))
    assert F.cross_entropy(images, labels, "none").shape == (2, 4, 5)
    with pytest.raises(ShapeError, match="classes along the last axis"):
        F.cross_entropy(1.0, 0)


@given(seed=seeds, shape=shapes, reduction=reductions)
def test_nll_loss_after_log_softmax_is_the_cross_entropy(seed, shape, reduction):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal(shape), labels_for(rng, shape)
    expected = F.cross_entropy(x, labels, reduction)
    for target in (labels, labels.astype(np.uint8), labels.tolist()):
        assert np.array_equal(F.nll_loss(F.log_softmax(x), target, reduction), expected)
    for loss, scores in ((F.nll_loss, F.log_softmax(x)), (F.cross_entropy, x)):
        assert np.array_equal(loss(scores, tn.Tensor(labels), reduction).numpy(), expected)
    t = leaf(x)
    loss = F.nll_loss(t, labels, reduction)
    v = rng.standard_normal(loss.shape)
    loss.backward(v)
    rows = labels.size if reduction == "mean" else 1
    np.testing.assert_allclose(t.grad, -one_hot(labels, shape[-1]) * v[..., None] / rows, rtol=1e-14)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([0, 3], ArgumentError, "nll_loss takes class indices that lie from 0 to 2, got 0 to 3"),
        ([0.0, 1.0], DTypeError, "are integers, got float64"),
        ([[1, 0, 0], [0, 1, 0]], ShapeError, r"class indices \(\.\.\.\), got \(2, 3\) and \(2, 3\)"),
        ([0], ShapeError, r"got \(2, 3\) and \(1,\)"),
    ],
)
def test_targets_that_nll_loss_refuses(target, error, message):
    for x in (draw(0, (2, 3)), leaf(draw(0, (2, 3)))):
        with pytest.raises(error, match=message):
            F.nll_loss(x, np.array(target))
    with pytest.raises(ShapeError):
        F.nll_loss(1.0, 0)


# Binary cross-entropy


@given(seed=seeds, shape=shapes, reduction=reductions)
def test_binary_cross_entropy_of_probabilities_is_its_formula(seed, shape, reduction):
    p, t = np.random.default_rng(seed).uniform(0.01, 0.99, (2, *shape))
    each = -t * np.log(p) - (1 - t) * np.log(1 - p)
    np.testing.assert_allclose(F.binary_cross_entropy(p, t, reduction), reduced(each, reduction), rtol=1e-12)
    with_logits = F.binary_cross_entropy_with_logits(np.log(p / (1 - p)), t, reduction)
    np.testing.assert_allclose(F.binary_cross_entropy(p, t, reduction), with_logits, rtol=1e-12)
    x = leaf(p)
    loss = F.binary_cross_entropy(x, t, reduction)
    v = np.random.default_rng(seed).standard_normal(loss.shape)
    loss.backward(v)
    slope = (p - t) / (p * (1 - p)) * v / (p.size if reduction == "mean" else 1)
    np.testing.assert_allclose(x.grad, slope, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_of_certain_probabilities(dtype):
    p = leaf(np.array([0, 1, 0, 1, 1e-44, np.nan], dtype))
    loss = F.binary_cross_entropy(p, np.array([0, 1, 1, 0, 1, 0], dtype), "none")
    assert loss.data[:5].tolist() == [0, 0, 100, 100, 100]
    assert np.isnan(loss.data[5])
    loss.backward(np.ones(6, dtype))
    assert p.grad[:5].tolist() == [1, -1, 0, 0, 0]


@pytest.mark.parametrize("p", [-1e-9, 1.5])
def test_binary_cross_entropy_refuses_logits(p):
    for x in (np.array([0.5, p]), leaf([0.5, p])):
        with pytest.raises(ArgumentError, match=r"\(without _with_logits\) takes probabilities from 0 to 1, got"):
            F.binary_cross_entropy(x, np.ones(2))
    step = tn.compile(lambda x: F.binary_cross_entropy(x * weight, np.ones(2)))
    weight = leaf(np.ones(2))
    step(np.array([0.5, 0.5]))
    with pytest.raises(ArgumentError, match="takes probabilities"):
        step(np.array([0.5, p]))


@pytest.mark.parametrize("target", [-1.0, 1.0 + 1e-9])
@pytest.mark.parametrize("loss", [F.binary_cross_entropy, F.binary_cross_entropy_with_logits])
def test_binary_cross_entropy_refuses_targets_that_are_no_probabilities(loss, target):
    x = leaf([0.25, 0.5])
    with pytest.raises(ArgumentError, match="takes targets that are probabilities from 0 to 1, got"):
        loss(x, np.array([1.0, target]))
    step = tn.compile(lambda t: loss(x, t))
    step(np.array([1.0, 0.5]))
    with pytest.raises(ArgumentError, match="takes targets"):
        step(np.array([1.0, target]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@given(seed=seeds, shape=shapes)
def test_losses_equal_pytorchs(reduction, seed, shape):
    torch = pytest.importorskip("torch")
    TF = torch.nn.functional
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, *shape))
    p, q = F.sigmoid(x), F.sigmoid(y)
    labels = labels_for(rng, shape)
    rows = (-1, shape[-1])  # PyTorch has the classes on the second axis
    shaped = labels.shape if reduction == "none" else ()
    for ours, theirs, given_x in (
        (lambda t: F.l1_loss(t, y, reduction), lambda t: TF.l1_loss(t, torch.tensor(y), reduction=reduction), x),
        (
            lambda t: F.huber_loss(t, y, reduction, 0.5),
            lambda t: TF.huber_loss(t, torch.tensor(y), reduction=reduction, delta=0.5),
            x,
        ),
        (
            lambda t: F.binary_cross_entropy(t, q, reduction),
            lambda t: TF.binary_cross_entropy(t, torch.tensor(q), reduction=reduction),
            p,
        ),
        (
            lambda t: F.nll_loss(t, labels, reduction),
            lambda t: TF.nll_loss(t.reshape(rows), torch.tensor(labels.ravel()), reduction=reduction).reshape(shaped),
            x,
        ),
    ):
        a, b = leaf(given_x), torch.tensor(given_x, requires_grad=True)
        loss, other = ours(a), theirs(b)
        np.testing.assert_allclose(loss.numpy(), other.detach().numpy(), rtol=1e-12, atol=1e-14)
        v = rng.standard_normal(loss.shape)
        loss.backward(v)
        other.backward(torch.tensor(v))
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-11, atol=1e-13)


@given(seed=seeds, spread=st.sampled_from([1.0, 30.0, 700.0, 1e5]))
def test_binary_cross_entropy_keeps_its_digits_in_both_tails(seed, spread):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, spread, 6)
    t = np.array([0.0, 1.0, 0.0, 1.0, rng.random(), rng.random()])
    expected, slopes = [], []
    with mpmath.workdps(60):
        for logit, target in zip(map(mpmath.mpf, x), map(mpmath.mpf, t), strict=True):
            yes, no = mpmath.log1p(mpmath.exp(-logit)), mpmath.log1p(mpmath.exp(logit))
            expected.append(float(target * yes + (1 - target) * no))
            slopes.append(float((1 - target) / (1 + mpmath.exp(-logit)) - target / (1 + mpmath.exp(logit))))
    a = leaf(x)
    loss = F.binary_cross_entropy_with_logits(a, t, "none")
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-14, atol=1e-320)
    loss.backward(np.ones(6))
    # both tails to full precision where the target is 0 or 1, absolutely in between
    error, size = abs(a.grad - slopes), np.abs(slopes)
    assert np.all(error[:4] <= 2e-15 * (2 + abs(x[:4])) * size[:4] + 1e-307)
    assert np.all(error[4:] <= 1e-15)


@given(seed=seeds, shape=shapes, reduction=reductions)
def test_binary_cross_entropy_is_the_cross_entropy_of_two_classes(seed, shape, reduction):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(0, 5, shape), rng.integers(2, size=shape)
    pairs = np.stack([np.zeros(shape), x], axis=-1)
    for target in (labels, labels.astype(float), labels.astype(bool), labels.tolist()):
        np.testing.assert_allclose(
            F.binary_cross_entropy_with_logits(x, target, reduction),
            F.cross_entropy(pairs, labels, reduction),
            rtol=1e-12,
            atol=1e-14,
        )


# Dropout as a function (its statistics: test_nn.py)


def test_dropout_with_p_0_returns_its_input_and_draws_nothing():
    rng, x = np.random.default_rng(0), np.ones(3)
    assert F.dropout(x, 0, rng=rng) is x
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_no_function_warns_on_ordinary_input():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, function, x in calls(np.random.default_rng(0), (3, 4)):
            function(leaf(x)).sum().backward()
