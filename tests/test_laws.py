"""Laws that every row of the derivative table must obey, over the domains of domains.py."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from domains import DOMAINS, LAYOUTS, POINTS, Case, Draw, Point, name_of, relayout
from duck import Device, Duck, Guest, Later
from hypothesis import given, settings
from hypothesis import strategies as st
from test_device import NO_ARRAYS, NOT_ALWAYS

import tinygrad_nn as tn
from tinygrad_nn import engine
from tinygrad_nn.derivatives import elementwise, indexing, reductions, unbroadcast
from tinygrad_nn.derivatives.linalg import linear
from tinygrad_nn.derivatives.table import COMPOSITIONS, rows
from tinygrad_nn.errors import TinygradError
from tinygrad_nn.tensor import leaf

ROWS = {row.function: row for row in rows()}
PLAIN = {np.shape, np.ndim, np.size}  # what they give is no Tensor
DIFFERENTIABLE = [f for f in DOMAINS if f in COMPOSITIONS or ROWS[f].active]
SELECTING = [f for f in DOMAINS if f in ROWS and ROWS[f].selects]
CONSTANT = [f for f in DOMAINS if f in ROWS and not ROWS[f].active]

every_row = pytest.mark.parametrize("function", list(DOMAINS), ids=name_of)
every_derivative = pytest.mark.parametrize("function", DIFFERENTIABLE, ids=name_of)


def test_every_row_has_a_domain_and_every_domain_a_row() -> None:
    assert {name_of(f) for f in ROWS.keys() | COMPOSITIONS.keys() - PLAIN} == {name_of(f) for f in DOMAINS}
    assert not ROWS.keys() & COMPOSITIONS.keys()


def tensors(case: Case, dtype: Any = None) -> list[tn.Tensor]:
    return [leaf(a if dtype is None else a.astype(dtype)) for a in case.arrays]


def upstream(d: Draw, y: Any) -> np.ndarray:
    return d.rng.standard_normal(y.shape)


def vjp(case: Case, arrays: list[np.ndarray], v: np.ndarray) -> list[np.ndarray]:
    xs = [leaf(a) for a in arrays]
    return [g.numpy() for g in tn.gradients(case.call(*xs), xs, gradient=v)]


def directional(case: Case, k: int, u: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """The oracle: d/dt <v, f(x_k + t u)>, and its error bound, by complex step or in long double."""
    arrays = list(case.arrays)
    if case.complex_safe:
        h = 1e-30
        arrays = [a.astype(complex) for a in arrays]
        arrays[k] = arrays[k] + 1j * h * u
        slope = np.imag(case.call(*arrays)) / h
        return float(np.sum(v * slope)), 1e-12
    kind = np.longdouble if case.long_double else np.float64
    steps = [2.0**-e for e in range(3, 10)]
    table = []
    for h in steps:
        ends = []
        for t in (h, -h):
            moved = [a.astype(kind) for a in arrays]
            moved[k] = moved[k] + kind(t * 0.05) * u.astype(kind)
            ends.append(np.sum(v.astype(kind) * case.call(*moved)))
        table.append((ends[0] - ends[1]) / kind(2 * h * 0.05))
    for order in range(1, 5):  # Richardson: each pass removes one even power of h
        factor = kind(4) ** order
        table = [(factor * b - a) / (factor - 1) for a, b in itertools.pairwise(table)]
    return float(table[1]), 1e-12 if case.long_double else 1e-9


def close(a: Any, b: Any, scale: Any, tolerance: float) -> bool:
    return bool(np.all(np.abs(a - b) <= tolerance * (np.abs(scale) + 1e-300)))


@every_derivative
@given(data=st.data())
def test_gradient_of_a_random_projection_equals_the_oracle(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    for k, g in enumerate(vjp(case, case.arrays, v)):
        u = d.rng.standard_normal(case.arrays[k].shape)
        expected, tolerance = directional(case, k, u, v)
        assert g.shape == u.shape
        assert close(np.sum(g * u), expected, np.sum(np.abs(g * u)) + np.sum(np.abs(v)), tolerance), k


@every_row
@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32, np.float64, np.longdouble]))
def test_forward_equals_numpy(function: Any, data: st.DataObject, dtype: Any) -> None:
    case = DOMAINS[function](Draw(data))
    if not case.long_double:
        dtype = np.float64
    arrays = [a.astype(dtype) for a in case.arrays]
    xs, expected = [leaf(a) for a in arrays], case.call(*arrays)
    y = case.call(*xs)
    assert isinstance(y, tn.Tensor)
    assert not any(y is x for x in xs)
    assert y.dtype == np.asarray(expected).dtype
    assert y.shape == np.shape(expected)
    if function in ROWS:
        np.testing.assert_array_equal(y.numpy(), expected)  # bit for bit
    else:
        scale = float(np.max(np.abs(expected), initial=0)) + max(float(np.max(np.abs(a), initial=0)) for a in arrays)
        np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=16 * float(np.finfo(dtype).eps) * scale)


@pytest.mark.parametrize("function", CONSTANT, ids=name_of)
@given(data=st.data())
def test_rows_without_rules_pass_no_gradient(function: Any, data: st.DataObject) -> None:
    case = DOMAINS[function](Draw(data))
    assert not case.call(*tensors(case)).requires_grad


@every_derivative
@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32, np.float64, np.longdouble]))
def test_shape_and_dtype_are_kept(function: Any, data: st.DataObject, dtype: Any) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    if not case.long_double:
        dtype = d.pick(np.float32, np.float64)
    xs = tensors(case, dtype)
    y = case.call(*xs)
    assert case.widens or y.dtype == dtype
    for x, g in zip(xs, tn.gradients(y, xs, gradient=upstream(d, y).astype(dtype)), strict=True):
        assert g.shape == x.shape
        assert g.dtype == dtype
        assert isinstance(g.numpy(), np.ndarray)


@every_derivative
@given(data=st.data())
def test_inputs_and_upstream_survive_and_results_own_their_memory(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    arrays = [a.copy() for a in case.arrays]
    for a in arrays:
        a.flags.writeable = False
    xs = [leaf(a) for a in arrays]
    y = case.call(*xs)
    v = upstream(d, y)
    v.flags.writeable = False
    y.backward(v)
    grads = [x.grad for x in xs if x.grad is not None]
    held = [*arrays, v, y.numpy()]
    for k, g in enumerate(grads):
        assert not any(np.shares_memory(g, other) for other in [*held, *grads[:k]])
        assert g.flags.writeable or not g.size


@every_derivative
@given(data=st.data())
def test_some_arguments_may_be_plain_arrays(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    every = vjp(case, case.arrays, v)
    for k, expected in enumerate(every):
        x = leaf(case.arrays[k])
        y = case.call(*case.arrays[:k], x, *case.arrays[k + 1 :])
        if isinstance(y, tn.Tensor) and y.requires_grad:
            (g,) = tn.gradients(y, [x], gradient=v)
            np.testing.assert_array_equal(g.data, expected)
        else:
            np.testing.assert_array_equal(expected, 0)


@every_derivative
@given(data=st.data())
def test_byte_order_is_kept(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    swapped = [a.astype(a.dtype.newbyteorder()) for a in case.arrays]
    for a, native, g in zip(swapped, vjp(case, case.arrays, v), vjp(case, swapped, v), strict=True):
        assert g.dtype == a.dtype
        assert close(g, native, np.max(np.abs(native), initial=0) + np.sum(np.abs(v)), 1e-12)


TWO_SIDED = [f for f in DIFFERENTIABLE if isinstance(f, np.ufunc) and f.nin == 2 and f.signature is None]


@pytest.mark.parametrize("function", TWO_SIDED, ids=name_of)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_as_arguments(function: Any, dtype: Any) -> None:
    a = np.array([0.75, 1.25, 2.75], dtype)
    for number in (1, 0.5, 2.0):
        full = np.full(3, number, dtype)
        for of_number, of_array in (
            (lambda x, n=number: function(x, n), lambda x, n=full: function(x, n)),
            (lambda x, n=number: function(n, x), lambda x, n=full: function(n, x)),
        ):
            y = of_number(leaf(a))
            if isinstance(y, tuple):
                continue
            v = np.array([1.0, -2.0, 0.5], y.dtype)
            grads = []
            for call in (of_number, of_array):
                x = leaf(a)
                y = call(x)
                grads.append(tn.gradients(y, [x], gradient=v)[0].data if y.requires_grad else np.zeros(3, dtype))
            np.testing.assert_allclose(*grads, rtol=4 * np.finfo(dtype).eps)
            assert grads[0].dtype == dtype


@every_derivative
@given(data=st.data())
def test_linear_in_the_upstream(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    y = case.call(*case.arrays)
    v, w = upstream(d, y), upstream(d, y)
    first, second, both, twice = (vjp(case, case.arrays, g) for g in (v, w, v + w, 2 * v))
    for a, b, c, double in zip(first, second, both, twice, strict=True):
        np.testing.assert_array_equal(double, 2 * a)
        terms = np.max(np.abs(a), initial=0) + np.max(np.abs(b), initial=0) + np.sum(np.abs(v)) + np.sum(np.abs(w))
        assert close(a + b, c, terms, 1e-13)


@every_derivative
@given(data=st.data())
def test_every_upstream_layout_gives_the_same(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    for layout in LAYOUTS:
        other = relayout(v, layout)
        for a, b in zip(vjp(case, case.arrays, other.copy()), vjp(case, case.arrays, other), strict=True):
            assert close(a, b, np.max(np.abs(a), initial=0) + np.sum(np.abs(v)), 1e-14), layout


ASKING = {np.linalg.det}  # whether something holds for all values, which may not be there yet


@pytest.mark.parametrize("kind", [Guest, Device])
@every_row
@settings(max_examples=5)
@given(data=st.data())
def test_arrays_of_another_library_give_the_same_in_its_own_kind(
    function: Any, kind: type, data: st.DataObject
) -> None:
    if kind is Guest and function in ASKING:
        return
    d = Draw(data)
    case = DOMAINS[function](d)
    expected = np.asarray(case.call(*case.arrays))
    v = upstream(d, expected)
    xs = [leaf(kind(a)) for a in case.arrays]
    try:
        y = case.call(*xs)
    except TinygradError:
        if kind is Device and name_of(function) in NOT_ALWAYS:
            return
        raise
    found, expected = [y], [expected]
    if function in DIFFERENTIABLE:
        found += tn.gradients(y, xs, gradient=kind(v))
        expected += vjp(case, case.arrays, v)
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a.data, kind) or function in NO_ARRAYS
        assert a.dtype == b.dtype
        np.testing.assert_allclose(getattr(a.data, "array", a.data), b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [np.array, Guest, Device])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2, -3])
def test_an_average_counts_in_arrays_of_its_own_kind(kind: Any, axis: Any) -> None:
    a = np.arange(24.0).reshape(2, 3, 4)
    y, total = np.average(leaf(kind(a)), axis, returned=True)
    expected = np.average(a, axis, returned=True)
    for found, numbers in zip((y.data, total), expected, strict=True):
        assert isinstance(found, np.ndarray if kind is np.array else kind)
        np.testing.assert_array_equal(getattr(found, "array", found), np.asarray(numbers), strict=True)


PICKED = {
    "take": lambda array, of: np.take(of([1.0, 2.0, 3.0]), array([2, 0])),
    "compress": lambda array, of: np.compress(array([1, 0, 1]), of([1.0, 2.0, 3.0])),
    "extract": lambda array, of: np.extract(array([True, False, True]), of([1.0, 2.0, 3.0])),
    "delete": lambda array, of: np.delete(of([1.0, 2.0, 3.0]), array([1])),
    "insert": lambda array, of: np.insert(of([1.0, 2.0, 3.0]), array([1, 0]), of([5.0, 6.0])),
    "choose": lambda array, of: np.choose(array([1, 0]), [of([1.0, 2.0]), of([3.0, 4.0])]),
    "take_along_axis": lambda array, of: np.take_along_axis(of(np.eye(2)), array([[1, 0]]), 0),
}


@pytest.mark.parametrize("function", list(PICKED))
@pytest.mark.parametrize("of", [list, np.array, tn.Tensor])
def test_positions_and_conditions_may_be_tensors_and_what_is_picked_from_lists(function: str, of: Any) -> None:
    if function == "take" and of is not tn.Tensor:
        return  # NumPy does not ask the positions whether they are a Tensor
    y = PICKED[function](tn.Tensor, of)
    np.testing.assert_array_equal(getattr(y, "data", y), PICKED[function](np.array, np.array))


@pytest.mark.parametrize("options", [{"kind": "stable"}, {"stable": True}], ids=str)
def test_a_stable_sort_gives_equal_entries_their_gradients_in_order(options: Any) -> None:
    places = np.random.default_rng(0).integers(0, 3, 200).astype(float)
    x, v = leaf(places), np.arange(200.0)
    (g,) = tn.gradients(np.sort(x, **options), [x], gradient=v)
    np.testing.assert_array_equal(g.numpy()[np.argsort(places, kind="stable")], v)


EDGES = {
    "nothing left for var": (lambda x: np.var(x, ddof=3), np.array([1.0, 2.0])),
    "one less than nothing left for var": (lambda x: np.var(x, ddof=2), np.array([1.0])),
    "nothing left for var where": (lambda x: np.var(x, ddof=3, where=np.arange(3) < 2), np.arange(3.0)),
    "just nothing left for var where": (lambda x: np.var(x, ddof=2, where=np.arange(3) < 2), np.arange(3.0)),
    "var by an axis of one entry": (lambda x: np.var(x, 0), np.ones((1, 1, 3))),
    "var by the last axis of ones": (lambda x: np.var(x, -1), np.ones((1, 2, 1))),
    "median of nothing": (np.median, np.ones(0)),
    "medians of nothing": (lambda x: np.median(x, 0, keepdims=True), np.ones((0, 3))),
    "medians of nothing on a middle axis": (lambda x: np.median(x, 1), np.ones((3, 0, 2))),
    "medians of nothing on a far axis": (lambda x: np.median(x, -2), np.ones((3, 0, 2))),
    "nanmax of rows of NaN": (lambda x: np.nanmax(x, 1), np.array([[np.nan, np.nan], [0.0, np.nan], [1.0, 2.0]])),
    "nanmin of rows of NaN": (lambda x: np.nanmin(x, 1), np.array([[np.nan, np.nan], [0.0, np.nan], [1.0, 2.0]])),
    "nanmax of zeros": (lambda x: np.nanmax(x, 0), np.zeros((2, 2))),
    "nanmax and initial": (lambda x: np.nanmax(x, 1, initial=3.0), np.array([[np.nan, np.nan], [4.0, 2.0]])),
    "nanmin and initial": (lambda x: np.nanmin(x, 1, initial=3.0), np.array([[np.nan, np.nan], [4.0, 2.0]])),
    "norm of order 0": (lambda x: np.linalg.norm(x, 0, 1, keepdims=True), np.array([[1, 0]], np.float32)),
    "norm of order 0 along the first axis": (lambda x: np.linalg.norm(x, 0, 0, keepdims=True), np.eye(2)),
    "norm of order 0 of a vector": (lambda x: np.linalg.norm(x, 0, 1), np.eye(2)),
    "pad of integers with means": (lambda x: np.pad(x, 2, "mean"), np.array([[1, 4], [2, 9]])),
    "pad of integers with ramps": (lambda x: np.pad(x, 3, "linear_ramp", end_values=(7, -1.5)), np.array([1, 4, 2])),
    "pad of bools with means": (lambda x: np.pad(x, 1, "mean"), np.array([True, False, False])),
    "pad of integers, odd": (lambda x: np.pad(x, 9, "reflect", reflect_type="odd"), np.array([1, 4, 9])),
    "pad of infinity, odd": (lambda x: np.pad(x, (2, 0), "reflect", reflect_type="odd"), np.array([1, 2, 3, np.inf])),
    "pad of a number, odd": (lambda x: np.pad(x, (2, 3), "reflect", reflect_type="odd"), np.ones(1)),
    "pad by nothing of nothing": (lambda x: np.pad(x, 0, "mean"), np.ones((0, 2))),
    "pad by pairs of nothing": (lambda x: np.pad(x, [(0, 0)], "mean"), np.ones((1, 2))),
    "pad beside nothing": (lambda x: np.pad(x, [(0, 0), (1, 2)], "median"), np.ones((0, 2))),
    "choose of nothing": (lambda x: np.choose(np.zeros(0, int), [x, x]), np.ones(1)),
    "choose of bools": (lambda x: np.choose(np.array([True, False]), [x, 2 * x]), np.array([1.0, 2.0])),
    "delete of integers": (lambda x: np.delete(x, [0, 2]), np.arange(6)),
    "insert into single precision": (lambda x: np.insert(x, 1, [[2.5], [1.5]], axis=1), np.eye(2, dtype=np.float32)),
    "ediff1d of nothing": (lambda x: np.ediff1d(x, 1.5, [2]), np.ones(0)),
    "interp beside one sample": (lambda x: np.interp(x, [0.25], [2.0], -1, 5), np.array([-1.0, 0.25, 3.0])),
    "diff of bools": (np.diff, np.array([True, False, True, True])),
    "second diff of bools": (lambda x: np.diff(x, 2), np.array([True, False, True, True])),
    "no diff of bools": (lambda x: np.diff(x, 0), np.array([True, False])),
    "no turn of bools": (lambda x: np.rot90(x, 4), np.eye(2, dtype=bool)),
    "lower triangle of bools": (np.tril, np.ones((2, 3), bool)),
    "upper triangle of bools": (np.triu, np.ones((2, 3), bool)),
    "norm of integers": (lambda x: np.linalg.norm(x, 1), np.array([3, -4])),
    "norm of bools": (lambda x: np.linalg.norm(x, np.inf), np.eye(2, dtype=bool)),
    "norm of counts": (lambda x: np.linalg.vector_norm(x, ord=np.inf), np.array([3, 4], np.uint8)),
    "prod from double precision": (lambda x: np.prod(x, initial=np.float64(1.5)), np.ones(2, np.float32)),
    "var of small integers": (lambda x: np.var(x, where=np.arange(600) % 2 > 0), np.arange(600).astype(np.uint8)),
    "var in half precision": (lambda x: np.var(x, 2), np.arange(24, dtype=np.float16).reshape(2, 3, 4)),
    "var of bools": (lambda x: np.var(x, ddof=2, where=np.arange(4) > 0), np.array([True, False, True, True])),
    "average of integers": (lambda x: np.average(x, (-2,), x[:, 1], returned=True)[1], np.arange(4).reshape(2, 2)),
    "average by integers": (lambda x: np.average(x, 0, np.array([1, 2])), np.ones(2, np.float32)),
    "power 0 in single precision": (lambda x: np.linalg.matrix_power(x, 0), np.ones((2, 2), np.float32)),
    "a list of flags taken": (lambda x: np.take(x, [True, False]), np.array([1.0, 2.0])),
    "flags taken along an axis": (lambda x: np.take(x, np.array([True, True]), 1), np.array([[1.0, 2.0]])),
    "nothing taken": (lambda x: np.take(x, []), np.ones(2)),
    "mean in half precision": (np.mean, np.full(3000, 60, np.float16)),
    "mean of integers": (np.mean, np.arange(6)),
}


if hasattr(np, "cumulative_sum"):  # from NumPy 2.1 on
    EDGES["running sums of a number"] = (lambda x: np.cumulative_sum(x, include_initial=True), np.array(2.0))
    EDGES["running products of a number"] = (np.cumulative_prod, np.array(2.0))
    EDGES["and along its axis"] = (lambda x: np.cumulative_prod(x, axis=0, include_initial=True), np.array(2.0))


@pytest.mark.parametrize("edge", list(EDGES))
def test_edges_give_what_numpy_gives(edge: str) -> None:
    call, x = EDGES[edge]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t = tn.Tensor(x)
        y, expected = call(t), call(x)
    assert y is not t
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-14)
    assert y.dtype == expected.dtype


@pytest.mark.parametrize("options", [{}, {"where": np.ones(70000, bool)}], ids=["all", "where"])
def test_means_of_more_entries_than_half_precision_counts(options: Any) -> None:
    x = leaf(np.ones(70000, np.float16))
    (g,) = tn.gradients(np.mean(x, **options), [x])
    np.testing.assert_array_equal(g.numpy(), np.float16(1 / 70000))
    spread = np.var(leaf((np.arange(70000) % 2).astype(np.float16)), **options)
    assert spread.dtype == np.float16
    assert spread.item() == 0.25
    x = leaf(np.ones(140000, np.float16))
    (g,) = tn.gradients(reductions.mean_square(x), [x], gradient=np.float16(3))
    np.testing.assert_array_equal(g.numpy(), np.float16(6 / 140000))
    flat = np.var(leaf(np.ones((70000, 1), np.float16)), 0, ddof=1, keepdims=True, mean=np.zeros((1, 1), np.float16))
    assert flat.shape == (1, 1)
    assert flat.item() == 1


REDUCTIONS = [np.sum, np.mean, np.prod, np.max, np.min, np.ptp, np.var, np.std, np.median, np.linalg.norm]
REDUCTIONS += [np.nansum, np.nanmean, np.nanprod, np.nanmax, np.nanmin, np.nanvar, np.nanstd, np.cumsum, np.cumprod]


@pytest.mark.parametrize("function", REDUCTIONS, ids=name_of)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)], ids=str)
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_of_nothing_comes_what_numpy_gives_or_its_error(function: Any, shape: tuple[int, ...], axis: Any) -> None:
    x = leaf(np.ones(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = function(x.numpy(), axis=axis)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)[:20]):
                function(x, axis=axis)
            return
        y = function(x, axis=axis)
    np.testing.assert_array_equal(y.numpy(), np.asarray(expected), strict=True)
    (g,) = tn.gradients(y, [x], gradient=np.ones(y.shape))
    assert g.shape == shape


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_running_sums_of_a_number_are_a_vector_and_its_gradient_a_number(axis: Any) -> None:
    x = leaf(np.array(2.0))
    y = np.cumsum(x, axis)
    np.testing.assert_array_equal(y.numpy(), [2.0])
    (g,) = tn.gradients(y, [x], gradient=np.array([3.0]))
    np.testing.assert_array_equal(g.numpy(), 3.0, strict=True)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2, -3])
def test_size_counts_what_numpy_counts(axis: Any) -> None:
    x = np.zeros((2, 3, 4))
    assert np.size(leaf(x), axis) == np.size(x, axis)


@pytest.mark.parametrize("function", [np.maximum, np.minimum, np.fmax, np.fmin, np.clip], ids=name_of)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ties_share_an_upstream_of_any_layout(function: Any, layout: str) -> None:
    a = np.arange(6.0).reshape(2, 3)
    v = relayout(np.random.default_rng(0).standard_normal((2, 3)), layout)
    shares = [0.25, 0.25, 0.5] if function is np.clip else [0.5, 0.5]
    xs = [leaf(a) for _ in shares]
    for g, share in zip(tn.gradients(function(*xs), xs, gradient=v), shares, strict=True):
        np.testing.assert_array_equal(g.numpy(), v * share)


@pytest.mark.parametrize("function", [np.remainder, np.fmod], ids=name_of)
def test_second_derivatives_of_straight_lines_are_exactly_0(function: Any) -> None:
    xs = [leaf(np.array([7.3, -5.9, 1e16])), leaf(np.array([0.7, 1.3, 3.0]))]
    for k in range(2):
        firsts = tn.gradients(function(*xs), xs, gradient=np.ones(3), create_graph=True)
        (second,) = tn.gradients((firsts[k] * 1.5).sum() + xs[1].sum() * 0, [xs[1]])
        assert not second.numpy().any()


@pytest.mark.parametrize("point", POINTS, ids=lambda p: p.name)
def test_conventions_at_points_without_a_derivative(point: Point) -> None:
    xs = [leaf(np.array(a, float)) for a in point.arrays]
    y = point.call(*xs)
    for g, expected in zip(tn.gradients(y, xs, gradient=np.ones(y.shape)), point.grads, strict=True):
        np.testing.assert_allclose(g.numpy(), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3)], ids=str)
@pytest.mark.parametrize("dtypes", list(itertools.product([np.float32, np.float64], repeat=3)))
def test_a_linear_layer_widens_as_its_parts_do(shape: tuple[int, ...], dtypes: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s, dtype in zip((shape, (3, 4), (4,)), dtypes, strict=True)]
    expected = np.matmul(arrays[0], arrays[1]) + arrays[2]
    for y in (linear(*arrays), linear(*map(leaf, arrays)).data):
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("n", [0, 1, 7, 1024, 1025])
def test_a_biass_gradient_is_the_sum_over_the_rows_for_arrays_and_tensors(n: int, dtype: Any) -> None:
    rows = np.random.default_rng(n).standard_normal((n, 3)).astype(dtype)
    exact = np.array([math.fsum(column) for column in rows.T.astype(float)])
    size = np.abs(rows).sum(axis=0, dtype=float)
    for laid_out in (rows, np.asfortranarray(rows), np.repeat(rows, 2, axis=1)[:, ::2]):
        got = unbroadcast(laid_out, (3,))
        for shape in ((3,), (1, 3)):
            for part in (unbroadcast(laid_out, shape), unbroadcast(tn.Tensor(laid_out), shape).data):
                assert part.shape == shape
                np.testing.assert_array_equal(part.reshape(3), got)
        assert got.dtype == dtype
        assert np.all(np.abs(got - exact) <= max(n, 1) ** 0.5 * max(np.finfo(dtype).eps, 2.3e-16) * size)


class Once(Later):
    """It may be computed one time."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        assert not hasattr(self, "is_computed")
        self.is_computed = True
        return super().__array__(dtype, copy)


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_positions_are_computed_once_for_what_is_picked_and_its_gradient(mode: str) -> None:
    x, v = np.array([1.0, 2.0, 4.0]), np.array([0.5, -1.0, 2.0])
    given, t = Once([2, 0, 2]), leaf(x)
    y = np.take(t, given, mode=mode)
    assert given.is_computed
    np.testing.assert_array_equal(y.numpy(), [4.0, 1.0, 4.0])
    (g,) = tn.gradients(y, [t], gradient=v)
    np.testing.assert_array_equal(g.numpy(), [-1.0, 0.0, 2.5])


def test_positions_in_another_librarys_array_pick_from_its_arrays() -> None:
    t = leaf(Guest([1.0, 2.0, 4.0]))
    y = np.take(t, Guest([2, 0, 2]))
    assert isinstance(y.data, Guest)
    (g,) = tn.gradients(y, [t], gradient=Guest([0.5, -1.0, 2.0]))
    np.testing.assert_array_equal(g.data.array, [-1.0, 0.0, 2.5])


UNKNOWN = {
    "bounds": (lambda x: elementwise.bounded(x, 0, 1, "it takes numbers"), "^it takes numbers within bounds"),
    "classes": (lambda x: indexing.within(x, 3, "it takes classes that"), "^it takes classes within bounds"),
    "a Cholesky factor": (np.linalg.cholesky, "Dask"),
}


@pytest.mark.parametrize("call", list(UNKNOWN))
def test_what_asks_for_values_that_are_computed_later_is_refused(call: str) -> None:
    make, message = UNKNOWN[call]
    with pytest.raises(TinygradError, match=message):
        make(tn.Tensor(Later(np.eye(2))))


@pytest.mark.parametrize("step", [1e-30, -1e-30])
def test_bounds_are_those_of_the_real_part(step: float) -> None:
    ends = np.array([0.0, 1.0]) + 1j * step
    np.testing.assert_array_equal(elementwise.bounded(ends, 0, 1, "it takes numbers"), ends)


def test_a_linear_layer_multiplies_as_matmul_does() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3)), rng.standard_normal((5, 3, 4)), rng.standard_normal((1, 4))
    np.testing.assert_allclose(linear(x, w, b), np.matmul(x, w) + b)
    x, w, b = (Duck(a) for a in (x, w[0], b[0]))  # whose arrays know nothing but the functions of the protocol
    np.testing.assert_allclose(linear(x, w, b).array, np.matmul(x.array, w.array) + b.array)


steep = tn.differentiable(lambda x: x * 1, lambda g, _y, _x: g * np.inf, broadcasts=True)


@pytest.mark.parametrize("function", SELECTING, ids=name_of)
@given(data=st.data())
def test_an_infinite_slope_behind_what_was_not_taken_gives_no_nan(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    xs = tensors(case)
    grads = tn.gradients(case.call(*(steep(x) for x in xs)), xs, gradient=v)
    for direct, g in zip(vjp(case, case.arrays, v), grads, strict=True):
        np.testing.assert_array_equal(g.numpy(), np.where(direct == 0, 0, np.copysign(np.inf, direct)))


@every_derivative
@given(data=st.data())
def test_rules_read_arrays_and_tensors_alike(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    xs = tensors(case)
    recorded = tn.gradients(case.call(*xs), xs, gradient=v, create_graph=True)
    for a, b in zip(vjp(case, case.arrays, v), recorded, strict=True):
        # NumPy 2.0's power gives the last digit by how an array lies in memory
        np.testing.assert_allclose(a, b.numpy(), rtol=4 * np.finfo(a.dtype).eps, atol=0, strict=True)
    held = [v, *(x.numpy() for x in xs), *(g.numpy() for g in recorded)]
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(held[-len(xs) :], 2))
    assert not any(np.shares_memory(g.numpy(), other) for g in recorded for other in held[: -len(xs)])


@every_derivative
@given(data=st.data())
def test_second_order_by_two_routes(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = upstream(d, case.call(*case.arrays))
    k = d.integer(0, len(case.arrays) - 1)
    xs = tensors(case)
    firsts = tn.gradients(case.call(*xs), xs, gradient=tn.Tensor(v), create_graph=True)
    ws = [d.rng.standard_normal(x.shape) for x in xs]
    u = d.rng.standard_normal(xs[k].shape)
    total = sum(((g * w).sum() for g, w in zip(firsts, ws, strict=True)), start=xs[k].sum() * 0)
    (by_tensors,) = tn.gradients(total, [xs[k]])

    if case.complex_safe:
        h = 1e-30
        arrays = [a.astype(complex) for a in case.arrays]
        arrays[k] = arrays[k] + 1j * h * u
        seconds = [np.imag(g) / h for g in vjp(case, arrays, v.astype(complex))]
        tolerance = 1e-10
    else:
        h = 1e-4
        ends = []
        for t in (h, -h):
            arrays = [a.copy() for a in case.arrays]
            arrays[k] = arrays[k] + t * u
            ends.append(vjp(case, arrays, v))
        seconds = [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]
        tolerance = 1e-5
    expected = sum(np.sum(s * w) for s, w in zip(seconds, ws, strict=True))
    scale = sum(np.sum(np.abs(s * w)) for s, w in zip(seconds, ws, strict=True))
    scale += np.sum(np.abs(by_tensors.numpy() * u)) + np.sum(np.abs(v))
    assert close(np.sum(by_tensors.numpy() * u), expected, scale, tolerance)


@every_derivative
@settings(max_examples=8)
@given(data=st.data())
def test_float32_stays_float32_inside_the_rules_and_at_second_order(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    casts = []

    def noted(part: Any, shape: Any, node: Any, k: int, parent: Any) -> Any:
        if parent.dtype == np.float32:
            casts.append((node.row.name, part.dtype))
        return fit(part, shape, node, k, parent)

    xs = tensors(case, np.float32)
    y = case.call(*xs)
    if y.dtype != np.float32:
        return
    v = tn.Tensor(upstream(d, y).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        fit = engine._fit
        patch.setattr(engine, "_fit", noted)
        firsts = tn.gradients(y, xs, gradient=v, create_graph=True)
        tn.gradients(sum((g * 2).sum() for g in firsts) + xs[0].sum(), xs)
    assert casts == []


@every_derivative
@settings(max_examples=6)
@given(data=st.data())
def test_third_order_by_two_routes(function: Any, data: st.DataObject) -> None:
    d = Draw(data)
    case = DOMAINS[function](d)
    if not case.complex_safe:
        return
    v = upstream(d, case.call(*case.arrays))
    k = d.integer(0, len(case.arrays) - 1)
    ws, us = ([d.rng.standard_normal(a.shape) for a in case.arrays] for _ in range(2))

    def second(arrays: list[np.ndarray]) -> tuple[list[tn.Tensor], tn.Tensor]:
        """The variables, and a weighted sum of second derivatives with respect to them."""
        xs = [leaf(a) for a in arrays]
        y, gradient = case.call(*xs), v.astype(arrays[k].dtype)
        for weights in (ws, us):
            grads = tn.gradients(y, xs, gradient=gradient, create_graph=True)
            y, gradient = sum(((g * w).sum() for g, w in zip(grads, weights, strict=True)), start=xs[k].sum() * 0), None
        return xs, y

    u = d.rng.standard_normal(case.arrays[k].shape)
    xs, total = second(case.arrays)
    (by_tensors,) = tn.gradients(total, [xs[k]])
    moved = [a.astype(complex) for a in case.arrays]
    moved[k] = np.asarray(moved[k] + 1e-30j * u)
    expected = np.imag(second(moved)[1].numpy()) / 1e-30
    scale = np.sum(np.abs(by_tensors.numpy() * u)) + np.sum(np.abs(v)) + np.abs(total.numpy())
    assert close(np.sum(by_tensors.numpy() * u), expected, scale, 1e-9)
