"""Transforms: gradients of functions, nested to any order, over nested arguments and modules."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError

seeds = st.integers(0, 2**32 - 1)


def network(params, x, *, scale=1.0):
    h = np.tanh(x @ params["W"] + params["b"][0])
    return scale * np.mean(np.square(h @ params["b"][1]))


def draw(seed):
    rng = np.random.default_rng(seed)
    params = {"W": rng.standard_normal((3, 4)), "b": [rng.standard_normal(4), rng.standard_normal((4, 2))]}
    return rng, params, rng.standard_normal((5, 3))


def complex_step(f, x, u):
    return np.imag(f(x + 1e-30j * u)) / 1e-30


@given(seed=seeds)
def test_grad_of_nested_arguments_equals_complex_step(seed) -> None:
    rng, params, x = draw(seed)
    value, (grads, gx) = tn.value_and_grad(network, argnums=(0, 1))(params, x, scale=2.0)
    assert isinstance(value, np.ndarray)
    assert value == network(params, x, scale=2.0)
    assert type(grads["b"]) is list
    u = rng.standard_normal((4, 2))
    moved = complex_step(lambda v: network({**params, "b": [params["b"][0], v]}, x, scale=2.0), params["b"][1], u)
    assert np.sum(grads["b"][1] * u) == pytest.approx(moved, rel=1e-12)
    u = rng.standard_normal(x.shape)
    assert np.sum(gx * u) == pytest.approx(complex_step(lambda v: network(params, v, scale=2.0), x, u), rel=1e-12)


@given(seed=seeds)
def test_jvp_vjp_and_jacobian_agree_with_complex_step(seed) -> None:
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal((3, 2)), rng.standard_normal((4, 3))
    u, v = rng.standard_normal(x.shape), rng.standard_normal((4, 2))

    def f(x):
        return np.tanh(x @ w) * np.exp(-x[:, :2])

    expected = complex_step(f, x, u)
    y, dy = tn.jvp(f)(x, u)
    np.testing.assert_array_equal(y, f(x))
    np.testing.assert_allclose(dy, expected, rtol=1e-12, atol=1e-13)
    y, pullback = tn.vjp(f)(x)
    for g in (v, 2 * v):  # a pullback can be called again
        assert np.sum(pullback(g) * u) == pytest.approx(np.sum(g * expected), rel=1e-11, abs=1e-13)
    J = tn.jacobian(f)(x)
    assert J.shape == (4, 2, 4, 3)
    np.testing.assert_allclose(np.tensordot(J, u, 2), expected, rtol=1e-11, atol=1e-13)


@given(seed=seeds)
def test_hessian_and_hvp_are_symmetric_and_agree(seed) -> None:
    rng = np.random.default_rng(seed)
    x, v = rng.standard_normal(4), rng.standard_normal(4)

    def f(x):
        return np.sum(np.tanh(x) * np.roll(x, 1) ** 2) + np.prod(x)

    H = tn.hessian(f)(x)
    np.testing.assert_allclose(H, H.T, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(tn.hvp(f)(x, v), H @ v, rtol=1e-11, atol=1e-12)
    slope = tn.grad(f)
    h = 1e-6
    np.testing.assert_allclose(H @ v, (slope(x + h * v) - slope(x - h * v)) / (2 * h), rtol=1e-5, atol=1e-6)


@given(x=st.floats(-2, 2), order=st.integers(1, 5))
def test_nesting_to_any_order(x, order) -> None:
    f = np.sin
    for _ in range(order):
        f = tn.grad(f)
    assert float(f(x)) == pytest.approx(math.sin(x + order * math.pi / 2), abs=1e-14)


def test_the_variable_of_an_outer_transform_is_never_lost() -> None:
    x0, w0 = np.array([1.0, 2.0]), np.array([3.0, 4.0])

    def inner(w):
        slope = tn.grad(lambda x: np.sum(w * x**2))(x0)  # an array goes in, yet w is a variable
        assert isinstance(slope, tn.Tensor)
        return np.sum(slope**2)

    np.testing.assert_allclose(tn.grad(inner)(w0), 8 * w0 * x0**2)
    value_of = tn.grad(lambda w: tn.value_and_grad(lambda x: np.sum(w * x))(x0)[0])
    np.testing.assert_allclose(value_of(w0), x0)
    through_jvp = tn.grad(lambda w: np.sum(tn.jvp(lambda x: w * x**2)(x0, np.ones(2))[1]))
    np.testing.assert_allclose(through_jvp(w0), 2 * x0)
    through_vjp = tn.grad(lambda w: np.sum(tn.vjp(lambda x: w * x**2)(x0)[1](np.ones(2))))
    np.testing.assert_allclose(through_vjp(w0), 2 * x0)


def test_no_result_shares_memory_with_another() -> None:
    a, b, g = np.ones(2), np.ones(2), np.ones(2)
    _, pullback = tn.vjp(lambda a, b: (a + b).reshape(2, 1).T[0], (0, 1))(a, b)
    results = [*pullback(g), *pullback(g), *tn.grad(lambda a, b: np.sum(a + b), (0, 1))(a, b)]
    x, y = tn.Tensor(a, requires_grad=True), tn.Tensor(b, requires_grad=True)
    results += tn.gradients(x + y, [x, y], gradient=g)
    results += tn.gradients((x + y).reshape(2, 1), [x, y], gradient=g[:, None], create_graph=True)
    results += tn.gradients(x, [x], gradient=g, create_graph=True)
    results += [*tn.vjp(lambda a, b: a + b, (0, 1))(x, y)[1](g), *tn.jvp(lambda a: a)(a, g)[1:]]
    arrays = [r.numpy() if isinstance(r, tn.Tensor) else r for r in results] + [a, b, g]
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(arrays, 2))


def test_no_confusion_of_variables() -> None:
    # d/dx (x * d/dy (x + y)) = 1: the classic test against mixing up two levels
    assert tn.grad(lambda x: x * tn.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert tn.grad(lambda x: x * tn.grad(lambda y: x * y)(2.0))(3.0) == 6.0


def test_arrays_give_arrays_and_tensors_give_tensors() -> None:
    def f(x):
        return np.sum(x**3)

    x = np.array([1.0, 2.0])
    assert isinstance(tn.grad(f)(x), np.ndarray)
    g = tn.grad(f)(tn.Tensor(x))
    assert isinstance(g, tn.Tensor)
    assert not g.requires_grad
    t = tn.Tensor(x, requires_grad=True)
    tn.grad(f)(t).sum().backward()
    np.testing.assert_array_equal(t.grad, 6 * x)
    with tn.no_grad():
        np.testing.assert_array_equal(tn.grad(f)(x), 3 * x**2)
        assert not tn.grad(f)(t).requires_grad


def test_modules_as_arguments_and_as_functions() -> None:
    rng = np.random.default_rng(0)
    net = tn.nn.Sequential(tn.nn.Linear(3, 2, rng=rng), tn.nn.Tanh())
    x = rng.standard_normal((4, 3))

    def loss(model, x):
        return np.sum(model(x) ** 2)

    _, grads = tn.value_and_grad(loss)(net, x)
    assert list(grads) == [name for name, _ in net.named_parameters()]
    assert all(p.grad is None for p in net.parameters())
    loss(net, x).backward()
    for name, p in net.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad, rtol=1e-13)
    saliency = tn.grad(lambda x: net(x).sum())(x)
    np.testing.assert_allclose(np.asarray(saliency.data), (1 - net(x).data ** 2) @ net[0].weight.data.T)


def test_independent_inputs_give_zeros() -> None:
    x = np.ones((2, 3))
    np.testing.assert_array_equal(tn.grad(lambda x, y: np.sum(y))(x, 2.0), np.zeros((2, 3)))
    np.testing.assert_array_equal(tn.grad(lambda x: 3.0)(x), np.zeros((2, 3)))
    np.testing.assert_array_equal(tn.jacobian(lambda x: np.ones(2))(np.ones(3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(tn.jvp(lambda x: np.ones(2))(np.ones(3), np.ones(3))[1], np.zeros(2))
    np.testing.assert_array_equal(tn.hessian(lambda x: x.sum())(np.ones(2)), np.zeros((2, 2)))


def test_auxiliary_outputs() -> None:
    def f(x):
        y = x**2
        return y.sum(), {"y": y}

    x = np.array([1.0, 2.0])
    (value, aux), g = tn.value_and_grad(f, has_aux=True)(x)
    assert value == 5
    np.testing.assert_array_equal(aux["y"], x**2)
    assert isinstance(aux["y"], np.ndarray)
    g2, aux = tn.grad(f, has_aux=True)(x)
    np.testing.assert_array_equal(g, g2)
    with pytest.raises(ArgumentError, match="pair"):
        tn.grad(lambda x: x.sum(), has_aux=True)(x)


def test_nested_outputs_of_vjp_and_jvp() -> None:
    x = np.array([1.0, 2.0])
    y, pullback = tn.vjp(lambda x: {"a": x * 2, "b": (x**2, 1.0)})(x)
    np.testing.assert_array_equal(pullback({"a": np.ones(2), "b": (np.ones(2), 0.0)}), 2 + 2 * x)
    _, dy = tn.jvp(lambda x: (x * 2, x**2))(x, np.ones(2))
    np.testing.assert_array_equal(dy[1], 2 * x)
    assert y["b"][1] == 1.0


def test_clear_errors() -> None:
    x = np.ones(3)
    with pytest.raises(ShapeError, match=r"shape \(3,\)"):
        tn.grad(np.tanh)(x)
    with pytest.raises(DTypeError, match="int64"):
        tn.grad(np.sum)(np.arange(3))
    with pytest.raises(ArgumentError, match="argnums"):
        tn.grad(np.sum, argnums=1)(x)
    with pytest.raises(ShapeError, match="tangent"):
        tn.jvp(np.tanh)(x, np.ones(2))
    with pytest.raises(ShapeError, match="vector"):
        tn.hvp(lambda x: np.sum(x**2))(x, np.ones(2))
    t = tn.Tensor(x, requires_grad=True)
    with pytest.raises(ArgumentError, match="retain_graph"):
        tn.gradients((t * t).sum(), [t], create_graph=True, retain_graph=False)
    with pytest.raises(GraphError):
        tn.gradients(tn.Tensor(1.0), [t])


def test_metadata_and_float32() -> None:
    def f(x):
        """Say it."""
        return np.sum(x**2)

    assert tn.grad(f).__doc__ == "Say it."
    assert tn.grad(f)(np.ones(2, np.float32)).dtype == np.float32
    assert tn.hessian(f)(np.ones(2, np.float32)).dtype == np.float32


class Cubic(tn.nn.Module):
    """Its second derivative with respect to the parameter is 6 w x."""

    def __init__(self) -> None:
        self.w = tn.nn.Parameter(np.array([1.0, 2.0]))

    def forward(self, x):
        return np.sum(self.w**3 * x)


def test_higher_derivatives_with_respect_to_a_module() -> None:
    m, x, ones = Cubic(), np.ones(2), {"w": np.ones(2)}

    def f(m, x):
        return m(x)

    np.testing.assert_allclose(tn.hvp(f)(m, x, ones)["w"], [6, 12])
    np.testing.assert_allclose(tn.grad(lambda m: tn.grad(f)(m, x)["w"].sum())(m)["w"], [6, 12])
    np.testing.assert_allclose(tn.jacobian(lambda m: tn.grad(f)(m, x)["w"])(m)["w"], np.diag([6, 12]))
    np.testing.assert_allclose(tn.jvp(lambda m: tn.grad(f)(m, x)["w"])(m, ones)[1], [6, 12])
    np.testing.assert_allclose(tn.hessian(f)(m, x)["w"]["w"], np.diag([6, 12]))
    (listed,) = tn.grad(lambda ms: ms[0](x))([m])
    np.testing.assert_allclose(listed["w"], 3 * m.w.data**2)


def test_upstream_gradients_and_tangents_are_variables_too() -> None:
    x = np.array([1.0, 2.0])
    by_upstream = tn.grad(lambda g: tn.vjp(lambda z: z**3)(x)[1](g).sum())
    np.testing.assert_allclose(by_upstream(np.ones(2)), 3 * x**2)
    by_tangent = tn.grad(lambda t: tn.jvp(lambda z: z**3)(x, t)[1].sum())
    np.testing.assert_allclose(by_tangent(np.ones(2)), 3 * x**2)
    through_aux = tn.grad(lambda w: tn.grad(lambda z: (np.sum(z**2), w * 3), has_aux=True)(x)[1])
    assert through_aux(2.0) == 3


def test_hessians_of_nested_arguments_and_several_argnums() -> None:
    params = {"a": np.array([1.0, 2.0]), "b": np.array(3.0)}
    H = tn.hessian(lambda p: np.sum(p["a"] ** 2) * p["b"])(params)
    np.testing.assert_allclose(H["a"]["a"], 6 * np.eye(2))
    np.testing.assert_allclose(H["a"]["b"], 2 * params["a"])
    np.testing.assert_allclose(H["b"]["a"], 2 * params["a"])
    assert H["b"]["b"] == 0
    (_, xy), _ = tn.hessian(lambda x, y: x**2 * y, (0, 1))(2.0, 3.0)
    assert xy == 4


@pytest.mark.parametrize("result", [None, "a", True, 3, np.arange(2), (1.0, 2)], ids=repr)
def test_functions_that_give_nothing_to_differentiate(result) -> None:
    with pytest.raises(DTypeError, match="forgotten return"):
        tn.grad(lambda x: result)(2.0)


def test_argnums_and_nesting_are_checked() -> None:
    for argnums in ((0, 0), (1, -1), "x", 1.0):
        with pytest.raises(ArgumentError, match="argnums"):
            tn.grad(lambda x, y: x * y, argnums)(2.0, 3.0)
    m = Cubic()
    with pytest.raises(ArgumentError, match="twice"):
        tn.grad(lambda a, b: a(np.ones(2)) + b(np.ones(2)), (0, 1))(m, m)
    with pytest.raises(ShapeError, match="keys"):
        tn.hvp(lambda p: p["a"] ** 2)({"a": 1.0}, {"b": 1.0})
    with pytest.raises(DTypeError, match="complex128"):
        tn.grad(np.abs)(1j)
