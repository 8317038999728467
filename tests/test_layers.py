"""Layers: normalization, embedding, convolution, pooling; against formulas, plain loops and PyTorch."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import PLAIN_LAYERS, layer_sample

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.testing import check_module

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
        (lambda: nn.LayerNorm(0), ArgumentError, "normalized_shape is a whole number of 1 or more"),
        (lambda: nn.LayerNorm(2.0), ArgumentError, "got 2.0"),
        (lambda: nn.LayerNorm(()), ArgumentError, r"got \(\)"),
        (lambda: nn.LayerNorm(2, eps=-1), ArgumentError, "0 <= eps"),
        (lambda: nn.BatchNorm1d((2, 3)), ArgumentError, "num_features is a whole number"),
        (lambda: nn.BatchNorm1d(2, momentum=2), ArgumentError, "momentum from 0 to 1"),
        (lambda: nn.BatchNorm1d(2)(np.ones((4, 3))), ShapeError, r"\(N, C\) or \(N, C, L\) with C = 2, got \(4, 3\)"),
        (lambda: nn.BatchNorm1d(2)(np.ones((4, 2, 3, 3))), ShapeError, r"got \(4, 2, 3, 3\)"),
        (lambda: nn.BatchNorm2d(2)(np.ones((4, 2))), ShapeError, r"takes \(N, C, H, W\)"),
        (lambda: nn.BatchNorm1d(2)(np.ones((1, 2))), ShapeError, "two or more values for each channel"),
        (lambda: nn.Embedding(3, 0), ArgumentError, "embedding_dim is a whole number of 1 or more, got 0"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ArgumentError, "padding_idx=3 is none of the 3 rows"),
        (lambda: nn.Embedding(3, 2)(np.array([3])), ArgumentError, "lie from 0 to 2, got 3 to 3"),
        (lambda: nn.Embedding(3, 2)([-1, 0]), ArgumentError, "got -1 to 0"),
        (lambda: nn.Embedding(3, 2)(np.ones(2)), DTypeError, r"are integers, got float64: write astype\(int\)"),
        (lambda: F.embedding([0], np.ones(3)), ShapeError, r"\(count, width\), got \(3,\)"),
        (lambda: F.embedding([0], np.ones((3, 2)), -4), ArgumentError, "padding_idx=-4"),
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
