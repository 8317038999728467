"""The engine: what is recorded, the walk back, what is kept alive, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.derivatives.table import TABLE
from tinygrad_nn.engine import Tape, recording
from tinygrad_nn.errors import ArgumentError, GraphError, RuleError
from tinygrad_nn.tensor import leaf


def parameter(*shape: int, seed: int = 0) -> tn.Tensor:
    return tn.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def test_gradients_add_up_until_zeroed() -> None:
    x = parameter(3)
    for times in (1, 2, 3):
        (x * x).sum().backward()
        np.testing.assert_array_equal(x.grad, times * 2 * x.data)
    x.zero_grad()
    assert x.grad is None


def test_a_tensor_used_many_times_gets_the_sum() -> None:
    x = parameter(3)
    y = x * x + x * x.sum() + x
    y.sum().backward()
    np.testing.assert_allclose(x.grad, 2 * x.data + x.data.sum() + x.data.sum() + 1, rtol=1e-14)


def test_only_leaves_get_gradients() -> None:
    x = parameter(3)
    y = x * 2
    y.sum().backward()
    assert y.grad is None
    assert not y.is_leaf
    assert x.is_leaf


def test_second_backward_needs_retain_graph() -> None:
    x = parameter(3)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(x.grad, 4 * x.data)
    with pytest.raises(GraphError, match="retain_graph=True"):
        loss.backward()
    np.testing.assert_array_equal(x.grad, 4 * x.data)


def test_a_walk_into_a_released_graph_is_refused() -> None:
    x = parameter(3)
    h = x * x
    h.sum().backward()
    with pytest.raises(GraphError, match="released"):
        (h * 2).sum().backward()


def test_a_failed_backward_leaves_every_gradient_as_it_was() -> None:
    x, w = parameter(3), parameter(3, seed=1)
    (x * w).sum().backward()
    before = x.grad.copy(), w.grad.copy()
    bad = tn.differentiable(lambda a: a * 1, lambda g, _y, _a: g[:-1])
    with pytest.raises(RuleError, match=r"shape \(3,\), it returned shape \(2,\)"):
        (bad(x) * w).sum().backward()
    np.testing.assert_array_equal(x.grad, before[0])
    np.testing.assert_array_equal(w.grad, before[1])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda g, _y, _x: None, "NoneType"),
        (lambda g, _y, _x: 1.0, "float"),
        (lambda g, _y, _x: g.sum(), r"returned shape \(\)"),
        (lambda g, _y, _x: g * 1j, "complex128 for an argument of float64"),
    ],
)
def test_impossible_rules_are_named(rule: object, message: str) -> None:
    bad = tn.differentiable(lambda x: x * 1, rule, name="bad")
    with pytest.raises(RuleError, match=f"rule of bad for argument 0.*{message}"):
        bad(parameter(3)).sum().backward()


def test_a_broadcasting_rule_must_return_the_result_s_shape() -> None:
    bad = tn.differentiable(np.add.__call__, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g.sum(0), broadcasts=True)
    with pytest.raises(RuleError, match="result's shape"):
        bad(parameter(2, 3), parameter(3)).sum().backward()


def test_backward_on_constants_and_on_several_entries() -> None:
    with pytest.raises(GraphError, match="requires_grad=True"):
        tn.Tensor(1.0).backward()
    with pytest.raises(GraphError, match=r"shape \(3,\)"):
        parameter(3).backward()
    with tn.no_grad():
        y = parameter(3).sum()
    with pytest.raises(GraphError, match="no_grad"):
        y.backward()


def test_a_leaf_can_be_the_root() -> None:
    x, v = parameter(3), np.arange(3.0)
    x.backward(v)
    np.testing.assert_array_equal(x.grad, v)
    assert not np.shares_memory(x.grad, v)


def test_writing_to_a_needed_leaf_before_backward_is_refused() -> None:
    w, x = parameter(3), parameter(3, seed=1)
    loss = (w * x).sum()
    w.data -= 0.1
    with pytest.raises(GraphError, match=r"shape \(3,\) was written to after np.multiply"):
        loss.backward()
    assert x.grad is None
    (w * x).sum().backward()


def test_writing_through_a_view_of_a_leaf_is_noticed_too() -> None:
    w = parameter(3, 2)
    loss = np.tanh(w.T).sum()
    w.data += 1
    with pytest.raises(GraphError, match=r"np\.tanh"):
        loss.backward()


@pytest.mark.parametrize("share", [lambda w: w.detach(), tn.stop_gradient, lambda w: w.numpy()])
def test_writing_to_what_a_constant_shares_is_noticed_too(share) -> None:
    w, x = parameter(3), parameter(3, seed=1)
    loss = (x * share(w)).sum()
    w.data -= 1
    with pytest.raises(GraphError, match=r"np\.multiply"):
        loss.backward()


def test_writing_to_a_leaf_whose_values_no_rule_reads_is_fine() -> None:
    b = parameter(3)
    loss = (b + 1).sum()
    b.data -= 0.1
    loss.backward()
    np.testing.assert_array_equal(b.grad, np.ones(3))


def test_setting_other_data_is_noticed_and_checked() -> None:
    w = parameter(3)
    loss = (w * w).sum()
    w.data = np.zeros(3)
    with pytest.raises(GraphError):
        loss.backward()
    with pytest.raises(ValueError, match="keeps its shape"):
        w.data = np.zeros(4)


def test_only_what_the_rules_read_is_kept() -> None:
    x = np.ones((4, 5))
    w, b = parameter(5, 3), parameter(3)
    product = x @ w
    alive = weakref.ref(product.data)
    y = product + b
    del product
    assert alive() is None  # the sum's rules read nothing
    z = np.tanh(y)
    held = weakref.ref(y.data)
    del y
    assert held() is not None  # tanh reads its argument
    z.sum().backward()
    assert held() is None  # and lets it go in the walk


def test_old_losses_keep_no_graph_alive() -> None:
    w = parameter(5)
    h = w * 3
    held = weakref.ref(h._node)
    loss = h.sum()
    del h
    losses = [loss]
    loss.backward()
    del loss
    assert held() is None
    assert len(losses) == 1


@pytest.mark.parametrize("requires_grad", [True, False])
def test_long_chains_are_walked_and_freed_without_recursion_or_cycles(requires_grad: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        x = tn.Tensor(1.0, requires_grad=requires_grad)
        y = x
        for _ in range(50_000):
            y = y + 1.0
        node = weakref.ref(y._node) if requires_grad else None
        if requires_grad:
            y.backward(retain_graph=True)
            assert x.grad == 1
        del y
        assert node is None or node() is None
    finally:
        gc.enable()


def test_a_join_of_many_is_walked_once() -> None:
    # a rule called anew for each of n arrays, with all of them as arguments, would take n * n steps
    x = tn.Tensor(1.0, requires_grad=True)
    np.stack([x * float(k) for k in range(20_000)]).sum().backward()
    assert x.grad == 20_000 * 19_999 / 2


# What is recorded


def test_no_grad_as_context_and_decorator() -> None:
    x = parameter(3)

    @tn.no_grad()
    def f(y: tn.Tensor) -> tn.Tensor:
        """Docstring."""
        return y * 2

    with tn.no_grad():
        assert not (x * 2).requires_grad
        with tn.no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    assert not f(x).requires_grad
    assert (f.__name__, f.__doc__) == ("f", "Docstring.")


def test_no_grad_decorates_generators_step_by_step() -> None:
    x = parameter(3)

    @tn.no_grad()
    def steps():
        received = yield x * 1
        try:
            yield received * x
        except KeyError:
            yield x * 2
        return x * 3

    generator = steps()
    assert not next(generator).requires_grad
    assert (x * 1).requires_grad  # between two steps recording is on
    assert not generator.send(2.0).requires_grad
    assert not generator.throw(KeyError()).requires_grad
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert not stop.value.value.requires_grad
    assert (x * 1).requires_grad


def test_no_grad_belongs_to_a_thread_and_a_task() -> None:
    x = parameter(3)
    seen = []
    with tn.no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 1).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]

    @tn.no_grad()
    async def quiet() -> bool:
        await asyncio.sleep(0)
        return (x * 1).requires_grad

    async def loud() -> bool:
        await asyncio.sleep(0)
        return (x * 1).requires_grad

    async def both() -> list[bool]:
        return await asyncio.gather(quiet(), loud(), quiet())

    assert asyncio.run(both()) == [False, True, False]


def test_a_tape_takes_note_of_everything_and_changes_nothing() -> None:
    w, x = parameter(3), tn.Tensor(np.arange(3.0))
    tape = Tape()
    with recording(tape):
        constant = x * 2
        loss = (w * constant).sum()
    assert [call.row.name for call in tape.calls] == ["np.multiply", "np.multiply", "np.sum"]
    assert tape.calls[0].result is constant.data
    assert tape.calls[1].args[1] is constant.data
    assert not constant.requires_grad
    loss.backward()
    np.testing.assert_array_equal(w.grad, 2 * x.data)


# differentiable


@given(seed=st.integers(0, 2**32 - 1))
def test_pullback_form_equals_rules_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, v = rng.standard_normal((3, 4))

    @tn.differentiable
    def by_hand(x, y, scale=1.0):
        return x * y * scale, lambda g: (g * y * scale, g * x * scale)

    by_rules = tn.differentiable(
        lambda x, y, *, scale=1.0: x * y * scale,
        lambda g, _y, _a, b, *, scale=1.0: g * b * scale,
        lambda g, _y, a, _b, *, scale=1.0: g * a * scale,
        broadcasts=True,
        name="by_rules",
    )
    np.testing.assert_array_equal(by_hand(a, b), a * b)
    results = []
    for f in (by_hand, by_rules):
        x, y = tn.Tensor(a, True), tn.Tensor(b, True)
        f(x, y, scale=3.0).backward(v)
        results.append((x.grad, y.grad))
    np.testing.assert_array_equal(results[0], results[1])


def test_pullbacks_may_say_none_and_are_first_order_only() -> None:
    half = tn.differentiable(lambda x, y: (x * y, lambda g: (g * y, None)))
    x, y = parameter(3), parameter(3, seed=1)
    half(x, y).sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert y.grad is None
    with pytest.raises(GraphError, match="first derivatives only"):
        tn.gradients(half(x, y).sum(), [x], create_graph=True)


def test_wrong_pullbacks_are_named() -> None:
    with pytest.raises(RuleError, match=r"must return \(y, pullback\)"):
        tn.differentiable(lambda x: x * 2, name="forgot")(parameter(3))
    short = tn.differentiable(lambda x, y: (x * y, lambda g: (g,)), name="short")
    with pytest.raises(RuleError, match="2 arguments, it returned a tuple of 1"):
        short(parameter(3), parameter(3)).sum().backward()


def test_a_pullback_that_reuses_its_buffer_does_not_leak_it() -> None:
    buffer = np.empty(3)

    @tn.differentiable
    def twice(x):
        def pullback(g):
            np.multiply(g, 2, out=buffer)
            return (buffer,)

        return x * 2, pullback

    x = parameter(3)
    twice(x).backward(np.ones(3))
    assert not np.shares_memory(x.grad, buffer)


def test_numpy_functions_get_rows_once() -> None:
    with pytest.raises(ArgumentError, match=r"np\.tanh has a derivative already"):
        tn.differentiable(np.tanh, lambda g, _y, _x: g)
    try:
        assert tn.differentiable(np.i0, lambda g, _y, x: g * 2 * x) is np.i0
        x = parameter(3)
        np.i0(x).sum().backward()
        np.testing.assert_array_equal(x.grad, 2 * x.data)
    finally:
        TABLE.pop(np.i0)


def test_several_outputs_with_and_without_gradients_for_each() -> None:
    a = parameter(3, 3)
    result = np.linalg.slogdet(a)
    assert type(result).__name__ == "SlogdetResult"
    (result.logabsdet * 2).backward()
    np.testing.assert_allclose(a.grad, 2 * np.linalg.inv(a.data).T, rtol=1e-12)

    pair = tn.differentiable(lambda x: (x * 2, x * x), lambda g, y, x: g[0] * 2 + g[1] * 2 * x + 0 * y[0], name="pair")
    x = leaf(np.array([1.0, 2.0]))
    first, second = pair(x)
    (first * second).sum().backward()
    np.testing.assert_allclose(x.grad, 6 * x.data**2)
    first, second = pair(x)
    (g,) = tn.gradients(second.sum(), [x], create_graph=True)
    (h,) = tn.gradients((g * g).sum(), [x])
    np.testing.assert_allclose(h.data, 8 * x.data)


# gradients


def test_gradients_of_computed_tensors_and_independent_inputs() -> None:
    x, z = parameter(3), parameter(2)
    h = x * 2
    loss = (h * h).sum()
    gh, gx, gz = tn.gradients(loss, [h, x, z])
    np.testing.assert_array_equal(gh.data, 2 * h.data)
    np.testing.assert_array_equal(gx.data, 4 * h.data)
    np.testing.assert_array_equal(gz.data, np.zeros(2))
    assert x.grad is None


def test_gradient_penalty_reaches_the_parameters() -> None:
    rng = np.random.default_rng(0)
    w, x = parameter(3, 2), leaf(rng.standard_normal((4, 3)))

    def penalty(weight):
        (g,) = tn.gradients(np.tanh(x @ weight).sum(), [x], create_graph=True)
        return (g * g).sum()

    penalty(w).backward()
    u = rng.standard_normal(w.shape)
    h = 1e-6
    up, down = (penalty(leaf(w.data + t * u)).item() for t in (h, -h))
    assert np.sum(w.grad * u) == pytest.approx((up - down) / (2 * h), rel=1e-7)


def test_gradients_refuses_constants() -> None:
    x = parameter(3)
    with pytest.raises(GraphError, match=r"xs\[1\] of shape \(2,\)"):
        tn.gradients((x * x).sum(), [x, tn.Tensor(np.ones(2))])
    with pytest.raises(TypeError, match=r"gradients\(y, \[x\]\)"):
        tn.gradients((x * x).sum(), x)
