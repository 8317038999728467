"""Linear algebra beyond the laws: singular points, conventions, refusals, and what a product costs."""

from __future__ import annotations

import gc
import itertools
import re
import weakref

import numpy as np
import pytest
from domains import Draw, linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn import engine
from tinygrad_nn.derivatives.linalg import linear
from tinygrad_nn.errors import ArgumentError, NoDerivativeError, ShapeError


def gradient(function, x):
    t = tn.Tensor(x, requires_grad=True)
    return tn.gradients(function(t), [t])[0].numpy()


def hessian(function, x):
    """Second derivatives of a function with one result, a row for each entry of `x`."""
    t = tn.Tensor(x, requires_grad=True)
    (first,) = tn.gradients(function(t), [t], create_graph=True)
    rows = [tn.gradients(first[i], [t], retain_graph=True)[0].numpy() for i in np.ndindex(x.shape)]
    return np.reshape(rows, (x.size, x.size))


# Determinants


def cofactors(a):
    n = len(a)
    rest = [[j for j in range(n) if j != i] for i in range(n)]
    return np.array(
        [[(-1) ** (i + j) * np.linalg.det(a[np.ix_(rest[i], rest[j])]) for j in range(n)] for i in range(n)]
    )


@given(n=st.integers(1, 7), missing=st.integers(0, 2), data=st.data())
def test_det_has_the_cofactors_as_gradient_whatever_the_rank(n, missing, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    a = rng.integers(-3, 4, (n, n)).astype(float)
    for i in data.draw(st.permutations(range(n)))[:missing]:
        a[i] = 2 * a[(i + 1) % n] if data.draw(st.booleans()) else 0
    expected = cofactors(a)
    scale = np.max(np.abs(expected)) + np.linalg.norm(a) ** (n - 1)
    np.testing.assert_allclose(gradient(np.linalg.det, a), expected, atol=1e-13 * scale)


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((1, 1)),
        np.zeros((2, 2)),
        np.zeros((3, 3)),
        np.arange(9.0).reshape(3, 3),
        np.arange(1.0, 10).reshape(3, 3),
        np.array([[16.0, 2, 3, 13], [5, 11, 10, 8], [9, 7, 6, 12], [4, 14, 15, 1]]),
        np.diag([3.0, 2.0, 1.0, 0.0, 0.5]),
        np.eye(5),
    ],
    ids=lambda a: f"{a.shape[0]}: {a.ravel()[:3]}",
)
def test_second_derivatives_of_det_at_singular_matrices(a):
    n = len(a)
    expected = np.zeros((n * n, n * n))
    for p, q in np.ndindex(n * n, n * n):  # det is linear in each entry: differences are exact
        ends = []
        for s, t in itertools.product((1, -1), repeat=2):
            moved = a.copy()
            moved.flat[p] += s
            moved.flat[q] += t
            ends.append(s * t * np.linalg.det(moved))
        expected[p, q] = 0 if p == q else sum(ends) / 4
    np.testing.assert_allclose(hessian(np.linalg.det, a), expected, atol=1e-11 * (1 + np.abs(expected).max()))


def test_det_of_a_stack_with_singular_and_regular_matrices():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 6, 6))
    a[1, 2] = 0
    got = gradient(lambda t: np.linalg.det(t).sum(), a)
    for one, expected in zip(got, map(cofactors, a), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())


def test_second_derivatives_of_det_beside_a_singular_matrix():
    singular, regular = np.diag([3.0, 2.0, 1.0, 0.0, 0.5]), np.eye(5)
    beside = hessian(lambda t: np.linalg.det(np.stack([singular, t]))[1], regular)
    np.testing.assert_allclose(beside, hessian(np.linalg.det, regular), atol=1e-13)


def test_slogdet_passes_nothing_through_the_sign_and_refuses_singular_matrices():
    a = np.array([[2.0, 1.0], [1.0, 3.0]])
    assert not gradient(lambda t: np.linalg.slogdet(t).sign, a).any()
    t = tn.Tensor(np.ones((2, 2)), requires_grad=True)
    logabsdet = np.linalg.slogdet(t).logabsdet
    assert logabsdet.item() == -np.inf
    with pytest.raises(np.linalg.LinAlgError):
        logabsdet.backward()


# Norms


@pytest.mark.parametrize("order", [None, 1, 2, 3, 0.5, -1, -0.5, np.inf, -np.inf])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.filterwarnings("ignore:divide by zero")  # NumPy's own, for negative orders
def test_norms_of_zero_vectors_have_gradient_0_at_every_order(order, keepdims):
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    t = tn.Tensor(x, requires_grad=True)
    y = np.linalg.norm(t, order, axis=1, keepdims=keepdims)
    (first,) = tn.gradients(y.sum(), [t], create_graph=True)
    assert not first.numpy()[0].any()
    assert first.numpy()[1].any()
    (second,) = tn.gradients((first * first).sum() + 0 * t.sum(), [t])
    assert not second.numpy()[0].any()
    assert np.isfinite(second.numpy()).all()


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3), 2)), ids=str)
@pytest.mark.parametrize("order", ["fro", "nuc", 1, 2, np.inf, -1, -2, -np.inf])
def test_norms_of_matrices_that_lie_on_any_two_axes(order, axes):
    a = np.random.default_rng(0).standard_normal((2, 3, 4))
    (rest,) = {0, 1, 2} - set(axes)
    matrices = [a.take(i, rest) if axes[0] < axes[1] else a.take(i, rest).T for i in range(a.shape[rest])]
    y = np.linalg.norm(tn.Tensor(a), order, axes)
    np.testing.assert_allclose(y.numpy(), [np.linalg.norm(m, order) for m in matrices], rtol=1e-13)
    each = [gradient(lambda t: np.linalg.norm(t, order), m) for m in matrices]
    expected = np.stack(each if axes[0] < axes[1] else [g.T for g in each], rest)
    found = gradient(lambda t: np.linalg.norm(t, order, axes).sum(), a)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order", ["fro", "nuc", 1, 2, np.inf, -1, -2, -np.inf])
def test_norms_of_the_zero_matrix_have_gradient_0(order):
    assert not gradient(lambda t: np.linalg.norm(t, order), np.zeros((2, 3))).any()


@pytest.mark.parametrize("order", [0.5, 0.9, 1.5, 3, -1, -2])
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_an_entry_of_0_gets_gradient_0_and_spoils_no_other(order):
    x = np.array([0.0, 2.0, -3.0])
    g = gradient(lambda t: np.linalg.norm(t, order), x)
    assert g[0] == 0
    if order > 0:
        np.testing.assert_allclose(g[1:], gradient(lambda t: np.linalg.norm(t, order), x[1:]), rtol=1e-14)
    else:  # the norm is 0 wherever the first entry is
        assert not g.any()


def test_second_derivative_of_the_norm_where_an_entry_is_0():
    x = np.array([0.0, 3.0, 4.0])
    expected = np.eye(3) / 5 - np.outer(x, x) / 125
    np.testing.assert_allclose(hessian(np.linalg.norm, x), expected, atol=1e-15)


def test_norm_of_order_0_counts_and_has_no_gradient():
    x = tn.Tensor([[1.0, 0.0, -2.0]], requires_grad=True)
    y = np.linalg.norm(x, 0, axis=1)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.numpy(), [2.0])
    assert y.dtype == np.float64


def test_largest_singular_values_share_the_gradient():
    np.testing.assert_allclose(gradient(lambda t: np.linalg.norm(t, 2), 3 * np.eye(2)), np.eye(2) / 2)


def test_empty_vectors_have_norm_0():
    for order in (None, 1, 2, 3, np.inf):
        assert gradient(lambda t, p=order: np.linalg.norm(t, p), np.zeros(0)).shape == (0,)
        assert np.linalg.norm(tn.Tensor(np.zeros(0)), order).item() == 0


# Decompositions


def test_equal_eigenvalues_and_singular_values_keep_gradients_finite():
    eye = 2 * np.eye(3)
    np.testing.assert_allclose(gradient(lambda t: np.linalg.eigh(t)[0].sum(), eye), np.eye(3))
    np.testing.assert_allclose(gradient(lambda t: np.linalg.svdvals(t).sum(), eye), np.eye(3))
    for function in (lambda t: np.linalg.eigh(t)[1].sum(), lambda t: np.linalg.svd(t)[0].sum()):
        assert np.isfinite(gradient(function, eye)).all()


@pytest.mark.parametrize("order", [0, 1, 2])
def test_pinv_of_the_identity_and_of_regular_matrices_is_the_inverse(order):
    rng = np.random.default_rng(order)
    a = np.eye(3) + 0.3 * order * rng.standard_normal((3, 3))
    w = rng.standard_normal((3, 3))
    np.testing.assert_allclose(
        gradient(lambda t: (np.linalg.pinv(t) * w).sum(), a),
        gradient(lambda t: (np.linalg.inv(t) * w).sum(), a),
        rtol=1e-11,
        atol=1e-11,
    )
    function = lambda t: (np.linalg.pinv(t) * w).sum()
    np.testing.assert_allclose(
        hessian(function, a), hessian(lambda t: (np.linalg.inv(t) * w).sum(), a), rtol=1e-9, atol=1e-9
    )


@given(data=st.data())
def test_pinv_of_matrices_without_full_rank_at_the_rank_that_rcond_sets(data):
    d = Draw(data)
    n, m = d.pick((3, 3), (4, 3), (3, 4))
    rank = d.pick(1, 2)
    u, vh = (linalg.orthogonal(d, (), k) for k in (n, m))
    a = (u[:, :rank] * (1 + np.arange(rank))) @ vh[:rank]
    hermitian = n == m and d.pick(True, False)
    if hermitian:
        a = (u[:, :rank] * (1 + np.arange(rank))) @ u[:, :rank].T
    options = {d.pick("rcond", "rtol"): 0.1, "hermitian": hermitian}
    w, v = d.rng.standard_normal((m, n)), d.rng.standard_normal((n, m))
    g = gradient(lambda t: (np.linalg.pinv(t, **options) * w).sum(), a)
    slopes = []
    for h in (1e-3, 5e-4):
        ends = [np.sum(w * np.linalg.pinv(a + s * h * v, **options)) for s in (1, -1)]
        slopes.append((ends[0] - ends[1]) / (2 * h))
    expected = (4 * slopes[1] - slopes[0]) / 3
    np.testing.assert_allclose(np.sum(g * v), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("x", "b"), [((4, 3), (2, 5)), ((4, 3), (7,)), ((4, 3), (4, 4, 5)), ((2, 4, 3), (7, 1, 1, 5))])
def test_a_bias_that_does_not_fit_is_a_clear_error(x, b):
    product = (*x[:-1], 5)
    text = (
        f"linear adds a bias of shape {b} to a product x @ w of shape {product}, which it does not fit: a bias has "
        f"shape (5,), one entry for each output"
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}"):
        linear(tn.Tensor(np.ones(x)), np.ones((3, 5)), np.ones(b))


def test_svd_with_all_vectors_of_a_long_matrix_is_a_clear_error():
    a = tn.Tensor(np.ones((3, 2)), requires_grad=True)
    with pytest.raises(ArgumentError, match="full_matrices=False"):
        np.linalg.svd(a)
    assert np.linalg.svd(a, compute_uv=False).shape == (2,)


@pytest.mark.parametrize(
    "a", [np.zeros((2, 2)), -np.zeros((2, 2)), np.diag([1.0, 0.0, -2.0]), np.ones((3, 3))], ids=str
)
def test_svd_of_singular_symmetric_matrices_has_orthogonal_vectors(a):
    u, s, vh = (x.numpy() for x in np.linalg.svd(tn.Tensor(a), hermitian=True))
    np.testing.assert_allclose(u * s @ vh, a, atol=1e-15)
    np.testing.assert_allclose(vh @ vh.T, np.eye(len(a)), atol=1e-15)
    np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False, hermitian=True), atol=1e-15)
    if np.all(np.linalg.svd(np.zeros((1, 1)), hermitian=True).Vh):  # older ones gave vectors of 0 for values of 0
        np.testing.assert_array_equal(vh, np.linalg.svd(a, hermitian=True).Vh)


@pytest.mark.parametrize(
    ("root", "square"),
    [
        (np.linalg.norm, lambda x: np.sum(x * x)),
        (lambda x: np.hypot(x[0], x[1]), lambda x: x[0] * x[0] + x[1] * x[1]),
        (np.std, np.var),
    ],
)
def test_lengths_of_0_have_derivative_0_at_every_order(root, square):
    zero = np.zeros(2)
    for function in (root, lambda x: root(x) ** 2):  # the notes say so, and what to write instead
        assert not gradient(function, zero).any()
        assert not hessian(function, zero).any()
    assert hessian(square, zero).any()
    x = np.array([3.0, -1.0])
    np.testing.assert_allclose(hessian(lambda x: root(x) ** 2, x), hessian(square, x), atol=1e-14)


def test_named_results_are_kept():
    a = tn.Tensor([[2.0, 0.5], [0.5, 1.0]], requires_grad=True)
    assert np.linalg.eigh(a).eigenvalues.shape == (2,)
    assert np.linalg.svd(a).S.shape == np.linalg.svd(a, hermitian=True).S.shape == (2,)
    assert np.linalg.slogdet(a).logabsdet.requires_grad


# Products


def cost(lengths):
    """The fewest multiplications that a chain of matrices takes, by trying every order."""
    if len(lengths) == 2:
        return 0
    return min(
        lengths[0] * lengths[i] * lengths[-1] + cost(lengths[: i + 1]) + cost(lengths[i:])
        for i in range(1, len(lengths) - 1)
    )


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), ends=st.sampled_from(["", "first", "last", "both"]))
def test_multi_dot_multiplies_in_the_cheapest_order(seed, ends):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, rng.integers(4, 8)).tolist()
    if ends in ("first", "both"):
        lengths[0] = 1
    if ends in ("last", "both"):
        lengths[-1] = 1
    arrays = [np.full(shape, 0.1) for shape in itertools.pairwise(lengths)]
    if ends in ("first", "both"):
        arrays[0] = arrays[0][0]
    if ends in ("last", "both"):
        arrays[-1] = arrays[-1][:, 0]
    tape = engine.Tape()
    with engine.recording(tape):
        y = np.linalg.multi_dot([tn.Tensor(a) for a in arrays])
    np.testing.assert_allclose(y.numpy(), np.linalg.multi_dot(arrays))
    assert sum(c.result.size * c.args[1].shape[0] for c in tape.calls) == cost(lengths)


def test_lists_and_numbers_meet_tensors_in_products():
    t = tn.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    other = [4.0, 5.0, 6.0]
    for function in (np.inner, np.outer, np.kron, np.cross, np.dot, np.vdot, np.linalg.cross, np.linalg.outer):
        for call in (lambda x, f=function: f(x, other), lambda x, f=function: f(other, x)):
            np.testing.assert_array_equal(call(t).numpy(), call(t.numpy()))
            assert call(t).requires_grad
    np.testing.assert_array_equal(np.inner(t, 2.0).numpy(), np.inner(t.numpy(), 2.0))
    np.testing.assert_array_equal(np.kron(2, t).numpy(), np.kron(2, t.numpy()))
    np.testing.assert_array_equal(np.einsum("i,i", other, t).numpy(), 32.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.dot(t, 2.5),
        lambda t: np.dot(2.5, t),
        lambda t: np.inner(t, 2.5),
        lambda t: np.tensordot(t, 2.5, axes=0),
        lambda t: np.tensordot(2.5, t, axes=0),
        lambda t: np.einsum("i,->i", t, 2.5),
        lambda t: np.einsum(",i", 2.5, t),
        lambda t: np.kron(2.5, t),
        lambda t: np.outer(2.5, t),
        lambda t: np.vdot(t[:1], 2.5),
    ],
)
def test_plain_numbers_in_products_have_gradients_of_every_order(call):
    t = tn.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    (first,) = tn.gradients((call(t) * call(t)).sum(), [t], create_graph=True)
    (second,) = tn.gradients(first[0], [t])
    np.testing.assert_allclose(second.numpy(), [12.5, 0, 0])


def test_no_product_leaves_a_cycle_that_keeps_tensors_alive():
    t = tn.Tensor(np.eye(3), requires_grad=True)
    gc.disable()
    try:
        seen = weakref.ref(np.linalg.multi_dot([t, t, t, t]))
        assert seen() is None
        y = np.linalg.norm(np.linalg.svd(np.einsum("ij,jk", t, t) + np.diag([1.0, 2.0, 3.0])).U, 1)
        (first,) = tn.gradients(y, [t], create_graph=True)
        seen, node = weakref.ref(first), weakref.ref(first._node)
        del y, first
        assert seen() is None
        assert node() is None
    finally:
        gc.enable()


def test_products_that_conjugate_do_so_for_complex_data():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3)) + 1j, 2j + rng.standard_normal((2, 3))
    for function in (np.vdot, np.vecdot, np.linalg.vecdot):
        np.testing.assert_array_equal(function(tn.Tensor(a), b).numpy(), function(a, b))


def test_matrix_power_0_is_the_identity_and_stays_in_the_graph():
    a = np.array([[np.inf, 1.0], [0.0, np.nan]])
    np.testing.assert_array_equal(np.linalg.matrix_power(tn.Tensor(a), 0).numpy(), np.eye(2))
    assert not gradient(lambda t: np.linalg.matrix_power(t, 0).sum(), a).any()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t: np.matmul(t, t, out=np.empty((2, 2))), NoDerivativeError),
        (lambda t: np.matmul(t, t, axis=0), NoDerivativeError),
        (lambda t: np.dot(t, t, out=np.empty((2, 2))), NoDerivativeError),
        (lambda t: np.outer(t, t, out=np.empty((4, 4))), NoDerivativeError),
        (lambda t: np.trace(t, dtype=float), NoDerivativeError),
        (lambda t: np.linalg.trace(t, dtype=float), NoDerivativeError),
        (lambda t: np.einsum("ij,jk", t, t, out=np.empty((2, 2))), NoDerivativeError),
        (lambda t: np.einsum("ij,jk", t, t, dtype=float), NoDerivativeError),
        (lambda t: np.einsum("ij,jk", t, t, order="F"), NoDerivativeError),
        (lambda t: np.linalg.multi_dot([t, t], out=np.empty((2, 2))), NoDerivativeError),
        (lambda t: np.linalg.multi_dot([t]), ShapeError),
        (lambda t: np.linalg.multi_dot([t, t[0], t]), ShapeError),
        (lambda t: np.linalg.matrix_power(t[0], 2), ShapeError),
        (lambda t: np.linalg.matrix_power(t, 0.5), TypeError),
        (lambda t: np.linalg.outer(t, t), ShapeError),
        (lambda t: np.linalg.cross(t, t), ShapeError),
        (lambda t: np.cross(t[:, :1], t), ShapeError),
        (lambda t: np.diag(np.expand_dims(t, 0)), ShapeError),
        (lambda t: np.linalg.norm(t, "fro", axis=0), ArgumentError),
        (lambda t: np.linalg.norm(t, 3), ArgumentError),
        (lambda t: np.linalg.norm(t, axis=(0, 1, 2)), ArgumentError),
        (lambda t: np.linalg.inv(t * 0), np.linalg.LinAlgError),
        (lambda t: np.linalg.solve(t * 0, t), np.linalg.LinAlgError),
        (lambda t: np.linalg.cholesky(-t), np.linalg.LinAlgError),
    ],
)
def test_what_cannot_be_is_a_clear_error(call, error):
    with pytest.raises(error):
        call(tn.Tensor([[2.0, 1.0], [1.0, 2.0]], requires_grad=True))


@pytest.mark.parametrize("part", ["u", "vh"])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_small_singular_value_of_a_square_matrix_divides_no_rounding(part: str, seed: int) -> None:
    # all of the space is spanned, so what leaves it is rounding, which must not be divided by 1e-12
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    a = tn.Tensor((left * [1, 0.5, 1e-12]) @ right, requires_grad=True)
    found = np.linalg.svd(a)
    upstream = rng.standard_normal((3, 3))
    (g,) = tn.gradients(({"u": found.U, "vh": found.Vh}[part] * upstream).sum(), [a])
    inside = found.U.numpy().T @ g.numpy() @ found.Vh.numpy().T
    small = inside[:, 2] if part == "u" else inside[2]
    assert np.all(np.abs(small) <= 1e-10)  # 1e-12 times gaps of up to 4 and upstream gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_svd_of_a_symmetric_matrix_keeps_the_dtype(dtype: type) -> None:
    x = np.array([[2, 1], [1, -3]], dtype)
    for one, other in zip(np.linalg.svd(tn.Tensor(x), hermitian=True), np.linalg.svd(x, hermitian=True), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one.data, other, rtol=1e-5)
