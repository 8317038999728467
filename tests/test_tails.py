"""Accuracy where formulas break: saturation, overflow, third derivatives at zero."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn.derivatives.elementwise import length
from tinygrad_nn.tensor import leaf

mpmath.mp.dps = 50


def slope(f, x, dtype=float):
    x = leaf(np.asarray(x, dtype=dtype))
    (g,) = tn.gradients(f(x), [x], gradient=np.ones(x.shape, dtype))
    return g.data


def exact_tanh(x):
    return mpmath.sech(mpmath.mpf(float(x))) ** 2


def exact_sigmoid(x):
    x = mpmath.mpf(float(x))
    return 1 / ((1 + mpmath.exp(-x)) * (1 + mpmath.exp(x)))


@pytest.mark.parametrize(
    ("f", "exact", "far"), [(np.tanh, exact_tanh, 340), (tn.functional.sigmoid, exact_sigmoid, 690)]
)
def test_derivatives_keep_their_digits_in_the_tails(f, exact, far) -> None:
    points = np.concatenate([np.linspace(-40, 40, 161), np.linspace(-far, far, 101), [1e-300, -1e-8, 20.0, -40.0]])
    for x, g in zip(points, slope(f, points), strict=True):
        assert g == pytest.approx(float(exact(x)), rel=1e-12), x


@pytest.mark.parametrize("f", [np.tanh, tn.functional.sigmoid])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_no_warning_and_no_nan_on_the_whole_float_range(f, dtype) -> None:
    top = np.finfo(dtype).max
    points = np.array([0, 1, 1e2, 1e4, top / 4, top, np.finfo(dtype).tiny], dtype)
    points = np.concatenate([points, -points, np.array([np.inf, -np.inf], dtype)])
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        x = leaf(points)
        y = f(x)
        (g,) = tn.gradients(y, [x], gradient=tn.Tensor(np.ones_like(points)), create_graph=True)
        assert np.isfinite(g.data).all()
        assert np.isfinite(y.data).all()
        (second,) = tn.gradients(g, [x], gradient=np.ones_like(points))
        assert np.isfinite(second.data).all()


@pytest.mark.parametrize("x", [[-300, 0, 2], [True, False], np.array([0, 200], np.uint8), np.array([-128], np.int8), 3])
def test_sigmoid_of_whole_numbers_is_that_of_floats(x) -> None:
    expected = tn.functional.sigmoid(np.asarray(x, float))
    np.testing.assert_array_equal(tn.functional.sigmoid(x), expected)
    assert tn.functional.sigmoid(x).dtype == expected.dtype
    assert tn.functional.sigmoid(1 + 2j) == tn.functional.sigmoid(np.array([1 + 2j]))[0]


def test_lengths_continue_to_complex_numbers_in_either_argument() -> None:
    h, step = np.sqrt(13) ** -1, 1e-30j
    assert length(np.array(2.0), np.array(3.0) + step).imag == pytest.approx(3 * h * 1e-30)
    assert length(np.array(2.0) + step, np.array(3.0)).imag == pytest.approx(2 * h * 1e-30)


def test_third_derivatives_at_zero() -> None:
    for f, third in ((np.tanh, -2.0), (tn.functional.sigmoid, -0.125), (np.sinh, 1.0)):
        x = leaf(np.array(0.0))
        y = f(x)
        for _ in range(3):
            (y,) = tn.gradients(y, [x], create_graph=True)
        assert y.item() == pytest.approx(third, rel=1e-14)


@pytest.mark.parametrize("f", [np.tanh, tn.functional.sigmoid])
@pytest.mark.parametrize("h", [1e-30, -1e-30])
def test_complex_step_through_the_backward(f, h) -> None:
    points = np.array([-30.0, -5.0, -1.0, 0.0, 0.5, 3.0, 30.0])
    x = leaf(points + 1j * h)
    (g,) = tn.gradients(f(x), [x], gradient=np.ones(points.shape, complex))
    seconds = g.data.imag / h
    x = leaf(points)
    (first,) = tn.gradients(f(x), [x], gradient=np.ones(points.shape), create_graph=True)
    (expected,) = tn.gradients(first.sum(), [x])
    np.testing.assert_allclose(seconds, expected.data, rtol=1e-13, atol=1e-300)


def test_the_side_that_was_not_taken_gives_no_nan() -> None:
    points = np.array([-1.0, 0.0, 4.0, 1e3])
    cases = [
        (lambda x: np.where(x > 0, np.sqrt(x), 0), [0, 0, 0.25, 0.5 / np.sqrt(1e3)]),
        (lambda x: np.where(x > 0, np.log(x), 0), [0, 0, 0.25, 1e-3]),
        (lambda x: np.where(x < 700, np.exp(x), 0), [np.exp(-1), 1, np.exp(4), 0]),
        (lambda x: np.where(x < 700, x * np.exp(x), 0), [0, 1, 5 * np.exp(4), 0]),
        (lambda x: np.where(x != 0, 1 / x, 0), [-1, 0, -1 / 16, -1e-6]),
        (lambda x: np.maximum(np.sqrt(x), 1.0)[2:], [0, 0, 0.25, 0.5 / np.sqrt(1e3)]),
        (lambda x: tn.functional.relu(np.sqrt(x))[1:], [0, 0, 0.25, 0.5 / np.sqrt(1e3)]),
    ]
    for f, expected in cases:
        with np.errstate(all="ignore"):  # the forward warns, as plain NumPy does
            x = leaf(points)
            y = f(x)
        (g,) = tn.gradients(y.sum(), [x], create_graph=True)
        np.testing.assert_allclose(g.data, expected, rtol=1e-14)
        (second,) = tn.gradients(g.sum(), [x])
        assert np.isfinite(second.data).all()


def test_infinite_slopes_are_infinite_without_a_warning() -> None:
    assert slope(np.sqrt, [0.0]) == np.inf
