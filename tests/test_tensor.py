"""Tensor: what goes in, what comes out, operators, protocols, and the exits that are refused."""

from __future__ import annotations

import copy
import math
import operator
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import DetachError, DTypeError, GraphError, NoDerivativeError, ShapeError

MASK = np.array([[True, True, False, True], [True, True, True, False]])
BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]


def t(data, requires_grad=True, dtype=None):
    return tn.Tensor(data, requires_grad, dtype)


def test_shares_arrays_and_reads_lists() -> None:
    a = np.arange(3.0)
    assert tn.Tensor(a).data is a
    assert tn.Tensor([1, 2]).dtype == np.int64
    assert tn.Tensor([[1.0, 2]], dtype=np.float32).dtype == np.float32
    assert tn.Tensor(2.5).shape == ()
    assert tn.Tensor(np.float32(2)).dtype == np.float32


@pytest.mark.parametrize(
    "data",
    ["text", ["a", "b"], [object()], [[1.0], [1.0, 2.0]], None, np.array(["2020-01-01"], "datetime64[D]"),
     np.zeros(2, [("a", float)]), np.ma.masked_array([1.0, 2.0], [True, False]), {"a": 1}],
    ids=lambda d: type(d).__name__,
)  # fmt: skip
def test_refuses_what_is_not_a_plain_array_of_numbers(data) -> None:
    with pytest.raises(DTypeError):
        tn.Tensor(data)


def test_refuses_gradients_of_what_is_not_real() -> None:
    for data in ([1, 2], [True], [1j]):
        with pytest.raises(DTypeError, match="real floating"):
            tn.Tensor(data, requires_grad=True)
    with pytest.raises(DTypeError, match="imaginary"):
        tn.Tensor([1j], dtype=float)
    with pytest.raises(DetachError, match="detach"):
        tn.Tensor(t([1.0]))


@given(
    seed=st.integers(0, 2**32 - 1),
    op=st.sampled_from(BINARY),
    dtype=st.sampled_from([np.float32, np.float64]),
    other=st.sampled_from(["scalar", "int", "array", "tensor", "numpy scalar", "list"]),
)
def test_operators_on_both_sides_equal_numpy(seed, op, dtype, other) -> None:
    rng = np.random.default_rng(seed)
    a = rng.uniform(0.5, 2, (2, 3)).astype(dtype)
    values = {
        "scalar": 1.5, "int": 2, "array": rng.uniform(0.5, 2, 3), "numpy scalar": np.float64(1.5),
        "list": [1.0, 2.0, 3.0],
    }  # fmt: skip
    b = values.get(other, values["array"])
    tb = t(b) if other == "tensor" else b
    for result, expected in ((op(t(a), tb), op(a, b)), (op(tb, t(a)), op(b, a))):
        assert isinstance(result, tn.Tensor)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.numpy(), expected)


def test_unary_operators_and_masks() -> None:
    x = t([-1.0, 2.0])
    np.testing.assert_array_equal((-x).data, [1, -2])
    np.testing.assert_array_equal((+x).data, [-1, 2])
    np.testing.assert_array_equal(abs(x).data, [1, 2])
    mask = (x > 0) & ~(x > 3) | (x < -5)
    assert mask.dtype == bool
    assert not mask.requires_grad
    np.testing.assert_array_equal(x[mask].data, [2])
    assert bool((x == 2).any())
    assert 2.0 in x
    assert 5.0 not in x


def test_matmul_with_an_array_on_the_left() -> None:
    w = t(np.arange(6.0).reshape(2, 3))
    x = np.ones((4, 2))
    (x @ w).sum().backward()
    np.testing.assert_array_equal(w.grad, np.full((2, 3), 4.0))


def test_in_place_is_a_new_tensor_or_an_error() -> None:
    x = t([1.0, 2.0])
    y = x
    y += 1
    assert y is not x
    np.testing.assert_array_equal(x.data, [1, 2])
    with pytest.raises(GraphError, match="in place"):
        x[0] = 3.0
    a = np.zeros(2)
    with pytest.raises(NoDerivativeError, match="out"):
        a += x
    with pytest.raises(NoDerivativeError, match="out"):
        np.add(x, 1, out=a)


@pytest.mark.parametrize("leave", [np.asarray, np.array, lambda x: np.array([x, x]), np.sort_complex])
def test_no_silent_way_to_an_array(leave) -> None:
    with pytest.raises((DetachError, NoDerivativeError)):
        leave(t([1.0, 2.0]))


@pytest.mark.parametrize("convert", [float, int, complex, math.exp, math.floor])
def test_no_silent_way_to_a_number(convert) -> None:
    with pytest.raises(DetachError, match=r"\.item\(\)"):
        convert(t(2.0))
    assert convert(t(2.0).detach()) == convert(2.0)


def test_the_named_exits() -> None:
    x = t([[1.5]])
    assert x.item() == 1.5
    assert x.numpy() is x.data
    assert x.tolist() == [[1.5]]
    y = (x * 2).detach()
    assert not y.requires_grad
    assert f"{x:.3f} {t(2.0):>5}" == "1.500   2.0"
    assert [10, 20, 30][tn.Tensor(1)] == 20
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        t([1.0, 2.0]).item()


def test_truth_length_and_iteration() -> None:
    assert bool(t(1.0))
    with pytest.raises(ShapeError, match="ambiguous"):
        bool(t([1.0, 2.0]))
    x = t([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    first, second = x
    (first * second).sum().backward()
    np.testing.assert_array_equal(x.grad, [[3, 4], [1, 2]])
    with pytest.raises(ShapeError):
        len(t(1.0))
    with pytest.raises(ShapeError):
        list(t(1.0))


def test_repr_says_what_it_is() -> None:
    x = t([1.0, 2.0])
    assert repr(x) == "Tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "Tensor([2., 4.], from=np.multiply)"
    assert repr(tn.Tensor(np.float32([1]))) == "Tensor([1.], dtype=float32)"
    assert repr(tn.Tensor(np.zeros((0, 2)))) == "Tensor([], shape=(0, 2))"


def test_hashing_by_identity_and_equality_by_entry() -> None:
    x, y = t([1.0]), t([1.0])
    assert len({x, y, x}) == 2
    assert (x == y).item() is True


def test_requires_grad_freezes_and_unfreezes_leaves() -> None:
    x = t([1.0])
    (x * 2).sum().backward()
    x.requires_grad = False
    assert x.grad is None
    assert not (x * 2).requires_grad
    x.requires_grad = True
    assert x.grad is None
    with pytest.raises(GraphError, match="detach"):
        (x * 2).requires_grad = False


def test_grad_can_be_set_and_is_checked() -> None:
    x = t([1.0, 2.0])
    x.grad = np.ones(2)
    x.grad *= 2
    np.testing.assert_array_equal(x.grad, [2, 2])
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        x.grad = np.ones(3)
    with pytest.raises(GraphError):
        (x * 2).grad = np.ones(2)


def test_copy_and_pickle_leaves_only() -> None:
    x = tn.nn.Parameter([1.0, 2.0])
    (x * x).sum().backward()
    for clone in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):  # noqa: S301 - our own bytes
        assert type(clone) is tn.nn.Parameter
        assert clone.requires_grad
        np.testing.assert_array_equal(clone.data, x.data)
        np.testing.assert_array_equal(clone.grad, x.grad)
        assert not np.shares_memory(clone.data, x.data)
    with pytest.raises(GraphError, match="detach"):
        copy.deepcopy(x * 2)


# NumPy functions


def test_functions_without_a_row_say_how_to_add_one() -> None:
    with pytest.raises(NoDerivativeError, match=r"np\.i0 has no derivative.*\n.*\n.*tn\.differentiable\(np\.i0"):
        np.i0(t([1.0]))
    with pytest.raises(NoDerivativeError, match=r"np\.add\.outer"):
        np.add.outer(t([1.0]), t([1.0]))


def test_keywords_are_bound_refused_or_passed_on() -> None:
    x = t([[1.0, 5.0]])
    np.testing.assert_array_equal(np.sum(a=x, axis=1).data, [6])
    np.testing.assert_array_equal(np.dot(a=x, b=t([1.0, 1.0])).data, [6])
    with pytest.raises(NoDerivativeError, match="dtype="):
        np.sum(x, dtype=np.float32)
    with pytest.raises(NoDerivativeError, match="positional"):
        np.sum(x, 0, None, None, True)
    with pytest.raises(NoDerivativeError, match="where="):
        np.exp(x, where=np.array([[True, False]]))
    low = t(2.0)
    np.clip(x, a_min=low, a_max=None).sum().backward()
    assert low.grad == 1


def test_tensors_inside_indices_are_unwrapped() -> None:
    x = t(np.arange(6.0).reshape(2, 3))
    x[tn.Tensor([0, 1, 1]), tn.Tensor([0, 2, 2])].sum().backward()
    np.testing.assert_array_equal(x.grad, [[1, 0, 0], [0, 0, 2]])
    with pytest.raises(DTypeError, match="integers or bools"):
        x[tn.Tensor(1.0)]


def test_matrices_and_text_are_refused_next_to_tensors() -> None:
    for other in (np.ma.masked_array([1.0]), ["a"], np.array(["a"])):
        with pytest.raises(TypeError):
            t([1.0]) + other


METHODS = {
    "sum": [{"axis": 1, "keepdims": True, "initial": 2.0, "where": MASK}],
    "mean": [{"axis": 0, "keepdims": True, "where": MASK}],
    "prod": [{"axis": 1, "keepdims": True, "initial": 2.0, "where": MASK}],
    "max": [{"axis": 1, "keepdims": True, "initial": -9.0, "where": MASK}],
    "min": [{"axis": 1, "keepdims": True, "initial": 9.0, "where": MASK}],
    "var": [{"axis": 1, "ddof": 1, "keepdims": True, "where": MASK}],
    "std": [{"axis": 1, "ddof": 1, "keepdims": True, "where": MASK}],
    "all": [{"axis": 1, "keepdims": True, "where": MASK}],
    "any": [{"axis": 1, "keepdims": True, "where": MASK}],
    "argmax": [{"axis": 1, "keepdims": True}],
    "argmin": [{"axis": 0, "keepdims": True}],
    "cumsum": [{"axis": 0}, {}],
    "cumprod": [{"axis": 0}, {}],
    "argsort": [{"axis": 0}, {"kind": "stable"}, {"stable": True}],
    "searchsorted": [],
    "trace": [{"offset": 1, "axis1": 1, "axis2": 0}],
    "diagonal": [{"offset": 1, "axis1": 1, "axis2": 0}],
    "take": [{"indices": [0, 4], "axis": 1, "mode": "clip"}],
    "repeat": [{"repeats": 2, "axis": 1}],
    "round": [{"decimals": 1}],
    "clip": [{"min": -0.5, "max": 0.5}, {"max": 0.5}],
    "reshape": [{"order": "F"}],
    "ravel": [{"order": "F"}],
    "flatten": [{"order": "F"}],
    "transpose": [{}],
    "squeeze": [{"axis": None}],
    "swapaxes": [],
    "dot": [],
    "copy": [{}],
    "nonzero": [{}],
}
ARGUMENTS = {"reshape": [(4, 2), ((2, -1),)], "swapaxes": [(0, 1)], "dot": [(np.ones((4, 2)),)], "transpose": [(1, 0)]}


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_what_numpys_take(name) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4))
    calls = [((), options) for options in METHODS[name]] + [(args, {}) for args in ARGUMENTS.get(name, ())]
    if name == "reshape":
        calls = [((4, 2), options) for options in METHODS[name]] + calls[1:]
    if name == "searchsorted":
        x, sorter = np.array([3.0, 1.0, 2.0]), np.array([1, 2, 0])
        calls = [((2.5,), {"side": "right", "sorter": sorter})]
    assert calls
    for args, options in calls:
        got, expected = getattr(t(x), name)(*args, **options), getattr(x, name)(*args, **options)
        for one, other in zip(*([r] if name != "nonzero" else r for r in (got, expected)), strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-14)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "var", "std", "all", "any"])
def test_methods_refuse_places_to_write_into_and_conversions(name) -> None:
    for options in ({"out": np.zeros(())}, {"dtype": np.float32}):
        with pytest.raises(NoDerivativeError, match=next(iter(options))):
            getattr(t([1.0, 2.0]), name)(**options)


def test_astype_keeps_the_gradient_between_floats() -> None:
    x = t(np.float32([1, 2]))
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    (y * np.array([3.0, 4.0])).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [3, 4])
    with pytest.raises(DTypeError, match="cut the graph"):
        x.astype(int)


def test_float32_stays_with_python_numbers_and_follows_numpy_otherwise() -> None:
    x = t(np.float32([1, 2]))
    assert (x * 2.0 + 1).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert (x * np.array(2.0)).dtype == (x.data * np.array(2.0)).dtype


def test_a_notebook_s_forward_is_differentiable_as_it_stands() -> None:
    def forward(X, W1, b1, W2, b2, y):
        A1 = np.tanh(X @ W1 + b1)
        A2 = 1 / (1 + np.exp(-(np.dot(A1, W2) + b2)))
        return np.mean(np.power(y - A2, 2))

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5, 3)), rng.random((5, 2))
    arrays = [rng.standard_normal(s) for s in ((3, 4), (1, 4), (4, 2), (1, 2))]
    params = [t(a) for a in arrays]
    loss = forward(X, *params, y)
    loss.backward()
    assert loss.item() == forward(X, *arrays, y)
    for k, p in enumerate(params):
        u = rng.standard_normal(p.shape)
        moved = [a + (1e-30j * u if j == k else 0) for j, a in enumerate(arrays)]
        assert np.sum(p.grad * u) == pytest.approx(forward(X, *moved, y).imag / 1e-30, rel=1e-12)


def test_remainders_and_rounding_as_operators() -> None:
    x = t([5.5, -2.5])
    np.testing.assert_array_equal((x % 2).data, [1.5, 1.5])
    np.testing.assert_array_equal((7 % x).data, 7 % x.data)
    np.testing.assert_array_equal((x // 2).data, [2, -2])
    np.testing.assert_array_equal(round(x).data, [6, -2])
    quotient, rest = divmod(x, 2)
    (rest * np.array([1.0, 2.0])).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 2])
    np.testing.assert_array_equal(quotient.data, [2, -2])
    y = t([5.5, -2.5])
    divmod(y, 2)[0].sum().backward()
    np.testing.assert_array_equal(y.grad, [0, 0])  # the quotient is constant between its jumps


def test_an_index_is_one_integer() -> None:
    with pytest.raises((DTypeError, DetachError)):
        np.arange(3.0)[tn.Tensor([1])]
    assert np.arange(3.0)[tn.Tensor(1)] == 1.0


def test_only_numbers_beside_tensors() -> None:
    from fractions import Fraction  # noqa: PLC0415 - this test alone

    for other in (Fraction(1, 2), np.array([1, 2], dtype=object), [[1.0], [1.0, 2.0]]):
        with pytest.raises(DTypeError):
            t([1.0, 2.0]) * other


def test_gradients_of_numbers_stay_arrays() -> None:
    x = t(2.0)
    for _ in range(2):
        (x * x).backward()
        assert type(x.grad) is np.ndarray
    assert x.grad == 8


def test_memory_orders_are_not_promised() -> None:
    for order in ("A", "K"):
        with pytest.raises(ValueError, match="memory layout"):
            np.reshape(t([[1.0, 2.0]]).T, -1, order=order)
        with pytest.raises(ValueError, match="memory layout"):
            np.ravel(t([[1.0, 2.0]]), order=order)


def test_complex_numbers_are_named() -> None:
    with pytest.raises(RuntimeError, match="complex numbers reached"):
        np.abs(t(2.0) * 1j).backward()
