"""Layers: normalization, embedding, convolution, pooling; against formulas, plain loops and PyTorch."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import PLAIN_LAYERS, layer_sample

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.testing import check_gradients, check_module

F = tn.functional
seeds = st.integers(0, 2**32 - 1)


# Every layer


@pytest.mark.parametrize("kind", PLAIN_LAYERS)
def test_gradients_of_every_layer(kind):
    layer, x = layer_sample(kind, np.random.default_rng(1), batch=3)
    before = layer.state_dict()
    if kind is nn.Embedding:
        check_module(layer, x)
    else:
        check_module(layer, x, mode="fast")
    assert all(np.array_equal(before[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("kind", PLAIN_LAYERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layer_keeps_the_dtype(kind, dtype):
    layer, x = layer_sample(kind, np.random.default_rng(0))
    if "dtype" in inspect.signature(kind).parameters:
        values = {k: v for k, v in vars(layer).items() if k in inspect.signature(kind).parameters}
        values["bias"] = True
        layer = kind(**{k: v for k, v in values.items() if k in inspect.signature(kind).parameters}, dtype=dtype)
        assert {t.dtype for t in layer.parameters()} == {np.dtype(dtype)}
    elif kind is nn.Sequential:
        layer = kind(nn.Linear(5, 5, dtype=dtype))
    x = x if kind is nn.Embedding else tn.Tensor(x.astype(dtype), requires_grad=True)
    for _ in range(2):
        y = layer(x)
        y.sum().backward()
        assert y.dtype == dtype
        layer.eval()
    floating = [t for _, t in layer.named_tensors() if t.dtype.kind == "f"]
    assert {t.dtype for t in floating} <= {np.dtype(dtype)}
    assert all(p.grad.dtype == dtype for p in layer.parameters())


# Normalization


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@given(data=st.data(), seed=seeds, shape=shapes)
def test_layer_norm_is_its_formula_over_the_last_axes(data, seed, shape):
    rng = np.random.default_rng(seed)
    inner = shape[data.draw(st.integers(0, len(shape) - 1)) :]
    layer = nn.LayerNorm(inner if len(inner) > 1 else inner[0], eps=1e-3)
    layer.weight.data[...], layer.bias.data[...] = rng.standard_normal((2, *inner))
    x = 100 + rng.standard_normal(shape)
    expected = np.empty(shape)
    for place in np.ndindex(shape[: len(shape) - len(inner)]):
        part = x[place]
        expected[place] = (part - part.mean()) / np.sqrt(part.var() + 1e-3) * layer.weight.data + layer.bias.data
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-10, atol=1e-10)


def test_layer_norm_without_weight_or_bias():
    assert [n for n, _ in nn.LayerNorm(3, elementwise_affine=False).named_tensors()] == []
    assert [n for n, _ in nn.LayerNorm(3, bias=False).named_tensors()] == ["weight"]
    assert [n for n, _ in nn.LayerNorm((2, 3)).named_tensors()] == ["weight", "bias"]
    assert repr(nn.LayerNorm(3)) == "LayerNorm((3,))"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.LayerNorm(3)(np.ones((3, 2))), ShapeError, r"over \(3,\) takes \(\.\.\., 3\), got \(3, 2\)"),
        (lambda: nn.LayerNorm((2, 3))(np.ones(3)), ShapeError, r"takes \(\.\.\., 2, 3\), got \(3,\)"),
        (lambda: F.layer_norm(np.ones(3), 3, np.ones((1, 3))), ShapeError, r"a weight of that shape, got \(1, 3\)"),
        (lambda: F.layer_norm(np.ones(3), 3, None, np.ones(())), ShapeError, r"a bias of that shape, got \(\)"),
        (lambda: nn.LayerNorm(0), ArgumentError, "normalized_shape=0 must be a whole number, 1 or more"),
        (lambda: nn.LayerNorm(2.0), ArgumentError, "normalized_shape=2.0 must be"),
        (lambda: nn.LayerNorm(()), ArgumentError, r"normalized_shape=\(\) must be one whole number or more"),
        (lambda: nn.LayerNorm(2, eps=-1), ArgumentError, "eps >= 0"),
        (lambda: nn.BatchNorm1d((2, 3)), ArgumentError, "num_features=.* must be a whole number"),
        (lambda: nn.BatchNorm1d(2, momentum=2), ArgumentError, "momentum >= 0 and momentum <= 1"),
        (lambda: nn.BatchNorm1d(2)(np.ones((4, 3))), ShapeError, r"\(N, C\) or \(N, C, L\) with C = 2, got \(4, 3\)"),
        (lambda: nn.BatchNorm1d(2)(np.ones((4, 2, 3, 3))), ShapeError, r"got \(4, 2, 3, 3\)"),
        (lambda: nn.BatchNorm2d(2)(np.ones((4, 2))), ShapeError, r"takes \(N, C, H, W\)"),
        (lambda: nn.BatchNorm1d(2)(np.ones((1, 2))), ShapeError, "two or more values for each channel"),
        (lambda: nn.Embedding(3, 0), ArgumentError, "embedding_dim=0 must be a whole number, 1 or more"),
        (
            lambda: nn.Embedding(3, 2, padding_idx=3),
            ArgumentError,
            "padding_idx=3 must be a whole number, -3 or more and 2 or less",
        ),
        (lambda: nn.Embedding(3, 2)(np.array([3])), ArgumentError, "lie from 0 to 2, got 3 to 3"),
        (lambda: nn.Embedding(3, 2)([-1, 0]), ArgumentError, "got -1 to 0"),
        (lambda: nn.Embedding(3, 2)(np.ones(2)), DTypeError, r"are integers, got float64: write astype\(int\)"),
        (lambda: F.embedding([0], np.ones(3)), ShapeError, r"\(count, width\), got \(3,\)"),
        (lambda: F.embedding([0], np.ones((3, 2)), -4), ArgumentError, "padding_idx=-4 must be"),
    ],
)
def test_what_normalization_and_embedding_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


@given(
    seed=seeds,
    shape=st.sampled_from([(4, 3), (2, 3, 2), (1, 3, 4)]),
    momentum=st.sampled_from([0.1, 0.7, 0.0, 1.0, None]),
    affine=st.booleans(),
)
def test_batch_norm_normalizes_by_channel_and_keeps_running_statistics(seed, shape, momentum, affine):
    rng = np.random.default_rng(seed)
    layer = nn.BatchNorm1d(3, 1e-3, momentum, affine)
    mean, var, weight, bias = np.zeros(3), np.ones(3), np.ones(3), np.zeros(3)
    if affine:
        weight, bias = rng.standard_normal((2, 3))
        layer.load_state_dict({**layer.state_dict(), "weight": weight, "bias": bias})

    def formula(x, m, v):
        m, v, w, b = (a.reshape((3,) + (1,) * (x.ndim - 2)) for a in (m, v, weight, bias))
        return (x - m) / np.sqrt(v + 1e-3) * w + b

    for k in range(3):
        x = rng.normal(5, 2, shape)
        channels = np.moveaxis(x, 1, 0).reshape(3, -1)
        np.testing.assert_allclose(
            layer(tn.Tensor(x)).numpy(), formula(x, channels.mean(1), channels.var(1)), rtol=1e-9, atol=1e-12
        )
        rate = 1 / (k + 1) if momentum is None else momentum
        mean = (1 - rate) * mean + rate * channels.mean(1)
        var = (1 - rate) * var + rate * channels.var(1, ddof=1)
        np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var.data, var, rtol=1e-12)
        assert layer.num_batches_tracked.item() == k + 1
    layer.eval()
    x = rng.normal(5, 2, (1, *shape[1:]))
    np.testing.assert_allclose(layer(tn.Tensor(x)).numpy(), formula(x, mean, var), rtol=1e-9, atol=1e-12)
    assert layer.num_batches_tracked.item() == 3


def test_batch_norm_of_images_is_that_of_their_pixels_in_a_row():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5))
    rows, images = nn.BatchNorm1d(3), nn.BatchNorm2d(3)
    y = rows(x.reshape(2, 3, 20)).numpy()
    np.testing.assert_allclose(images(x).numpy().reshape(2, 3, 20), y, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(images.running_var.data, rows.running_var.data, rtol=1e-12)


def test_batch_norm_without_running_statistics_uses_the_batch_in_evaluation_too():
    layer = nn.BatchNorm1d(2, track_running_stats=False)
    x = np.random.default_rng(0).standard_normal((4, 2))
    y = layer(x).numpy()
    assert np.array_equal(layer.eval()(x).numpy(), y)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer(x[:1]).tolist() == [[0, 0]]


def test_running_statistics_are_buffers_bound_anew_and_without_a_graph():
    layer = nn.BatchNorm1d(2)
    held, x = layer.running_mean, tn.Tensor(np.random.default_rng(0).standard_normal((4, 2)), requires_grad=True)
    layer(x).sum().backward()
    assert held.tolist() == [0, 0]
    assert layer.running_mean is not held
    assert [name for name, _ in layer.named_buffers()] == ["running_mean", "running_var", "num_batches_tracked"]
    assert not any(b.requires_grad for _, b in layer.named_buffers())
    before = layer.state_dict()
    layer.eval()(x)
    with tn.no_grad():
        layer(x)
    assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())


# Embedding


@given(seed=seeds, shape=st.lists(st.integers(0, 4), max_size=3).map(tuple), padding=st.sampled_from([None, 0, 3, -1]))
def test_embedding_picks_rows_and_adds_up_their_gradients(seed, shape, padding):
    rng = np.random.default_rng(seed)
    layer = nn.Embedding(5, 2, padding, rng=np.random.default_rng(seed))
    expected = np.random.default_rng(seed).normal(0, 1, (5, 2))
    if padding is not None:
        expected[padding] = 0
    assert np.array_equal(layer.weight.data, expected)
    numbers = rng.integers(5, size=shape)
    for form in (numbers, tn.Tensor(numbers), numbers.astype(np.uint8)):
        layer.zero_grad()
        y = layer(form)
        v = rng.standard_normal(y.shape)
        y.backward(v)
        assert np.array_equal(y.numpy(), expected[numbers])
        sums = np.zeros((5, 2))
        for place, k in np.ndenumerate(numbers):
            if padding is None or k != padding % 5:
                sums[k] += v[place]
        np.testing.assert_allclose(layer.weight.grad, sums, rtol=1e-12, atol=1e-14)
        w = tn.Tensor(expected, requires_grad=True)
        F.embedding(form, w, padding).backward(v)
        picked = F.embedding(form, expected, padding)
        assert np.array_equal(picked.numpy() if isinstance(form, tn.Tensor) else picked, expected[numbers])
        assert np.array_equal(w.grad, layer.weight.grad)


# Convolution and pooling


@st.composite
def image_calls(draw, *, pooling):
    """Images, and the options of a convolution or pooling that fits them."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if draw(st.booleans()):
        stride = kernel
    dilation = (1, 1) if pooling or draw(st.booleans()) else draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.tuples(*(st.integers(0, k // 2 if pooling else 2) for k in kernel)))
    if not pooling and draw(st.integers(0, 3)) == 0:
        padding, stride = "same", (1, 1)
    size = [r + draw(st.integers(0, 4)) for r in reach]
    groups = 1 if pooling else draw(st.sampled_from([1, 1, 2, 3]))
    rng = np.random.default_rng(draw(seeds))
    x = rng.standard_normal((draw(st.integers(0, 2)), groups * draw(st.integers(1, 2)), *size))
    options = {"stride": stride, "padding": padding}
    if pooling:
        return x, kernel, options
    weight = rng.standard_normal((groups * draw(st.integers(1, 2)), x.shape[1] // groups, *kernel))
    bias = rng.standard_normal(len(weight)) if draw(st.booleans()) else None
    return x, weight, bias, {**options, "dilation": dilation, "groups": groups}


def padded_by_hand(x, padding, kernel, dilation=(1, 1), value=0.0):
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        before = [t // 2 for t in total]
    else:
        before, total = padding, [2 * p for p in padding]
    wide = np.full((*x.shape[:2], x.shape[2] + total[0], x.shape[3] + total[1]), value)
    wide[:, :, before[0] : before[0] + x.shape[2], before[1] : before[1] + x.shape[3]] = x
    return wide


def windows_by_hand(x, kernel, stride, dilation=(1, 1)):
    """Every window with its place in the result, one at a time."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    for i, top in enumerate(range(0, x.shape[2] - reach[0] + 1, stride[0])):
        for j, left in enumerate(range(0, x.shape[3] - reach[1] + 1, stride[1])):
            yield i, j, x[:, :, top : top + reach[0] : dilation[0], left : left + reach[1] : dilation[1]]


@settings(max_examples=80)
@given(image_calls(pooling=False))
def test_conv2d_is_the_sum_over_each_window(case):
    x, weight, bias, options = case
    y = F.conv2d(x, weight, bias, **options)
    stride, dilation, groups = options["stride"], options["dilation"], options["groups"]
    wide = padded_by_hand(x, options["padding"], weight.shape[2:], dilation)
    expected = np.full(y.shape, np.nan)
    inner, per_group = weight.shape[1], len(weight) // groups
    for i, j, window in windows_by_hand(wide, weight.shape[2:], stride, dilation):
        for o in range(len(weight)):
            first = o // per_group * inner
            sums = (window[:, first : first + inner] * weight[o]).sum(axis=(1, 2, 3))
            expected[:, o, i, j] = sums + (0 if bias is None else bias[o])
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
    if options["padding"] == "same":
        assert y.shape[2:] == x.shape[2:]


@pytest.mark.parametrize("name", ["max", "avg"])
@given(case=image_calls(pooling=True))
def test_pooling_takes_the_largest_or_the_mean_of_each_window(name, case):
    x, kernel, options = case
    y = getattr(F, f"{name}_pool2d")(x, kernel, **options)
    wide = padded_by_hand(x, options["padding"], kernel, value=0.0 if name == "avg" else -np.inf)
    expected = np.full(y.shape, np.nan)
    for i, j, window in windows_by_hand(wide, kernel, options["stride"]):
        expected[:, :, i, j] = window.mean(axis=(2, 3)) if name == "avg" else window.max(axis=(2, 3))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)


@settings(max_examples=15)
@given(image_calls(pooling=False), seeds)
def test_gradients_of_conv2d(case, seed):
    x, weight, bias, options = case
    arrays = [x, weight] if bias is None else [x, weight, bias]
    if x.size:
        check_gradients(lambda *arrays: F.conv2d(*arrays, **options), *arrays, seed=seed, mode="fast")


@pytest.mark.parametrize("name", ["max", "avg"])
@settings(max_examples=15)
@given(case=image_calls(pooling=True), seed=seeds)
def test_gradients_of_pooling(name, case, seed):
    x, kernel, options = case
    if x.size:
        function = getattr(F, f"{name}_pool2d")
        check_gradients(lambda x: function(x, kernel, **options), x, seed=seed, mode="fast")


def test_second_derivatives_of_images():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((2, 2, 2, 2))
    check_gradients(lambda x, w: np.tanh(F.conv2d(x, w, stride=2, padding=1)), x, weight, order=2, mode="fast")
    check_gradients(lambda x: np.square(F.max_pool2d(x, 2)), x, order=2, mode="fast")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(case=image_calls(pooling=False), seed=seeds)
def test_conv2d_equals_pytorchs(case, seed):
    torch = pytest.importorskip("torch")
    x, weight, bias, options = case
    ours = [a if a is None else tn.Tensor(a, requires_grad=True) for a in (x, weight, bias)]
    theirs = [a if a is None else torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    compare_with(F.conv2d(*ours, **options), torch.nn.functional.conv2d(*theirs, **options), ours, theirs, seed)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@given(case=image_calls(pooling=True), seed=seeds)
def test_pooling_equals_pytorchs(name, case, seed):
    torch = pytest.importorskip("torch")
    x, kernel, options = case
    ours, theirs = tn.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    their_y = getattr(torch.nn.functional, name)(theirs, kernel, **options)
    compare_with(getattr(F, name)(ours, kernel, **options), their_y, [ours], [theirs], seed)


def compare_with(y, their_y, ours, theirs, seed):
    np.testing.assert_allclose(y.numpy(), their_y.detach().numpy(), rtol=1e-11, atol=1e-12)
    v = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(v)
    their_y.backward(their_y.new_tensor(v))
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_equal_largest_entries_of_a_window_share_the_gradient():
    for padding in (0, 1):
        x = tn.Tensor(np.zeros((1, 1, 2, 2)), requires_grad=True)
        F.max_pool2d(x, 2, 2, padding).backward(np.full((1, 1, 1 + padding, 1 + padding), 8.0))
        assert x.grad.tolist() == [[[[2.0 * 4**padding] * 2] * 2]]
    x = tn.Tensor([[[[3.0, 1.0], [3.0, 2.0]]]], requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[0.5, 0], [0.5, 0]]]]


def test_pooling_drops_rows_and_columns_that_fill_no_window():
    x = np.arange(35.0).reshape(1, 1, 5, 7)
    assert nn.MaxPool2d(2)(x)[0, 0].tolist() == [[8, 10, 12], [22, 24, 26]]
    assert np.array_equal(nn.MaxPool2d(2)(x.astype(int)), nn.MaxPool2d(2)(x))


@given(seed=seeds, groups=st.sampled_from([1, 2]), bias=st.booleans())
def test_conv2d_draws_as_a_linear_layer_of_one_window_does(seed, groups, bias):
    layer = nn.Conv2d(4, 6, (2, 3), groups=groups, bias=bias, rng=np.random.default_rng(seed))
    rng, bound = np.random.default_rng(seed), 1 / np.sqrt(4 // groups * 6)
    weight = rng.uniform(-bound, bound, (4 // groups * 6, 6))
    assert layer.weight.shape == (6, 4 // groups, 2, 3)
    assert np.array_equal(layer.weight.data.reshape(6, -1), weight.T)
    assert layer.bias is None or np.array_equal(layer.bias.data, rng.uniform(-bound, bound, 6))


def test_conv2d_takes_initializers_that_count_the_window():
    layer = nn.Conv2d(8, 500, 3, weight_init=nn.init.he_uniform(), bias_init=nn.init.constant(0.5))
    bound = np.sqrt(6 / 72)
    assert 0.99 * bound < abs(layer.weight.data).max() <= bound
    assert set(layer.bias.tolist()) == {0.5}


def test_words_of_image_layers():
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.Conv2d(4, 6, (3, 2), 2, "valid", (1, 2), 2, bias=False),
        nn.MaxPool2d(2),
        nn.AvgPool2d((3, 2), 1, 1),
        nn.BatchNorm2d(6),
        nn.Embedding(5, 2, -1),
        nn.LeakyReLU(),
        nn.ELU(2),
        nn.GELU(),
        nn.Softplus(),
    )
    assert (
        repr(net)
        == """\
Sequential(
  (0): Conv2d(1, 16, (3, 3))
  (1): Conv2d(4, 6, (3, 2), stride=(2, 2), padding='valid', dilation=(1, 2), groups=2, bias=False)
  (2): MaxPool2d((2, 2))
  (3): AvgPool2d((3, 2), stride=(1, 1), padding=(1, 1))
  (4): BatchNorm2d(6)
  (5): Embedding(5, 2, padding_idx=4)
  (6): LeakyReLU(negative_slope=0.01)
  (7): ELU(alpha=2.0)
  (8): GELU()
  (9): Softplus(beta=1.0)
)"""
    )


IMAGES = np.ones((2, 3, 5, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3)(IMAGES[0]), ShapeError, r"\(N, C, H, W\), got \(3, 5, 5\); one image is x\[None"),
        (lambda: nn.Conv2d(2, 4, 3)(IMAGES), ShapeError, r"images \(2, 3, 5, 5\) .* got \(4, 2, 3, 3\)"),
        (
            lambda: nn.Conv2d(3, 4, 3, dilation=3)(IMAGES),
            ShapeError,
            "a kernel of 7 x 7 does not fit into images of 5",
        ),
        (lambda: nn.MaxPool2d((6, 1))(IMAGES), ShapeError, "a kernel of 6 x 1 does not fit"),
        (lambda: F.conv2d(IMAGES, np.ones((4, 3, 2, 2)), np.ones((1, 4))), ShapeError, r"a bias of shape \(4,\)"),
        (lambda: F.conv2d(IMAGES, np.ones((4, 1, 2, 2)), groups=3), ShapeError, "O a multiple of 3"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ArgumentError, r"Conv2d\(3, 4\) does not divide into 2 groups"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ArgumentError, "padding='full' is none of 'same', 'valid'"),
        (lambda: nn.Conv2d(3, 4, 3, 2, "same"), ArgumentError, "padding='same' needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), ArgumentError, "padding=-1 must be a whole number, 0 or more"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ArgumentError, r"kernel_size=\(3, 3, 3\) must be a whole number, or 2"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), ArgumentError, "stride=0 must be a whole number, 1 or more"),
        (lambda: nn.Conv2d(3, True, 3), ArgumentError, "out_channels=True must be a whole number"),
        (lambda: nn.MaxPool2d(2, padding=2), ArgumentError, "padding of half the kernel at most"),
        (lambda: F.avg_pool2d(IMAGES, (3, 1), padding=(1, 1)), ArgumentError, "half the kernel"),
    ],
)
def test_what_image_layers_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


# PyTorch


def torch_state(layer):
    """The layer's state for the layer of the same name in PyTorch."""
    torch = pytest.importorskip("torch")
    state = {name: torch.tensor(value.T if name == "weight" and isinstance(layer, nn.Linear) else value)
             for name, value in layer.state_dict().items()}  # fmt: skip
    return torch, state


@pytest.mark.parametrize("kind", [k for k in PLAIN_LAYERS if k not in {nn.Sequential, nn.Dropout, nn.Softmax}])
def test_every_layer_equals_pytorchs_in_values_gradients_and_state(kind):
    rng = np.random.default_rng(3)
    layer, x = layer_sample(kind, rng)
    for p in layer.parameters():
        p.data += rng.standard_normal(p.shape)
    torch, state = torch_state(layer)
    names = inspect.signature(kind).parameters
    values = {k: v for k, v in vars(layer).items() if k in names and k != "bias"}
    theirs = getattr(torch.nn, kind.__name__)(**values).double()
    theirs.load_state_dict(state)
    assert [n for n, _ in theirs.named_parameters()] == [n for n, _ in layer.named_parameters()]
    floating = x.dtype.kind == "f"
    for mode in (True, False):
        ours_x = tn.Tensor(x, requires_grad=floating)
        their_x = torch.tensor(x, requires_grad=floating)
        y, their_y = layer.train(mode)(ours_x), theirs.train(mode)(their_x)
        np.testing.assert_allclose(y.numpy(), their_y.detach().numpy(), rtol=1e-12, atol=1e-13)
        v = rng.standard_normal(y.shape)
        y.backward(v)
        their_y.backward(torch.tensor(v))
        if floating:
            np.testing.assert_allclose(ours_x.grad, their_x.grad.numpy(), rtol=1e-11, atol=1e-12)
        for (name, p), q in zip(layer.named_parameters(), theirs.parameters(), strict=True):
            g = q.grad.numpy()
            np.testing.assert_allclose(
                p.grad, g.T if name == "weight" and kind is nn.Linear else g, rtol=1e-11, atol=1e-12
            )
        _, after = torch_state(layer)
        for name, value in theirs.state_dict().items():
            np.testing.assert_allclose(after[name].numpy(), value.numpy(), rtol=1e-12, atol=1e-14)
