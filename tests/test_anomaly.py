"""detect_anomaly: who made the first NaN, and what was overwritten between forward and backward."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import AnomalyError, DTypeError, GraphError

HERE = re.escape("test_anomaly.py")


def parameter(*shape, seed=0):
    return tn.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def this_line():
    return inspect.currentframe().f_back.f_lineno


# NaN and infinity

BREAKING = {  # what makes a value that is not finite out of finite ones, and its function
    "log": (lambda x: np.log(x - x), "np.log"),
    "divide": (lambda x: x / (x - x), "np.divide"),
    "exp": (lambda x: np.exp(x * 0 + 1e4), "np.exp"),
    "multiply": (lambda x: (x * 0 + 1e200) * 1e200, "np.multiply"),
    "sum": (lambda x: np.sum((x * 0 + 1) * 1e308), "np.sum"),
    "arccosh": (lambda x: np.arccosh(x * 0), "np.arccosh"),
    "slogdet": (lambda x: np.linalg.slogdet(x * np.zeros((2, 1)))[1], "np.linalg.slogdet"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", BREAKING)
@pytest.mark.parametrize("needs_grad", [True, False])
def test_the_first_function_that_breaks_is_named_with_its_line(case, needs_grad) -> None:
    function, name = BREAKING[case]
    x = parameter(2) if needs_grad else tn.Tensor(np.ones(2))
    line = inspect.getsourcelines(function)[1]
    with (
        tn.detect_anomaly(),
        pytest.raises(AnomalyError, match=rf"^{re.escape(name)} made -?(inf|nan) .*{HERE}:{line}\)"),
    ):
        np.tanh(function(np.tanh(x)))


def test_ranges_and_places_are_told() -> None:
    x = tn.Tensor(np.array([[3.0, -1.0], [0.0, 8.0]]), requires_grad=True)
    with tn.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(AnomalyError) as caught:
        np.log(x)
    text = str(caught.value)
    assert "argument 0: (2, 2) float64, from -1 to 8" in text
    assert "result: (2, 2) float64, from 1.09861 to 2.07944, 2 of 4 not finite, the first at [0, 1]: nan" in text


BACKWARD = {  # finite forward, and a derivative that is not
    "np.sqrt": lambda x: np.sqrt(x * 0).sum(),
    "np.power": lambda x: np.power(x * 0, 0.5).sum(),
    "np.arcsin": lambda x: np.arcsin(x * 0 + 1).sum(),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_the_first_rule_that_breaks_is_named_and_no_gradient_changes(name) -> None:
    x = parameter(3)
    line = inspect.getsourcelines(BACKWARD[name])[1]
    with tn.detect_anomaly():
        y = BACKWARD[name](x)
        assert np.isfinite(y.item())
        with pytest.raises(AnomalyError, match=rf"^the derivative of {name}.* made inf .*{HERE}:{line}\)"):
            y.backward()
    assert x.grad is None


def test_a_sum_of_gradients_that_overflows_is_named() -> None:
    x = parameter(2)
    with tn.detect_anomaly():
        h = x * 1
        y = (h * 1e308 + h * 1e308).sum() * 0.5
        with pytest.raises(AnomalyError, match=r"the sum of gradients became inf") as caught:
            y.backward(np.array(2.0))
    assert "the sum: (2,) float64, 2 of 2 not finite" in str(caught.value)


def test_a_parameter_that_an_update_broke_is_named() -> None:
    net = tn.nn.Sequential(tn.nn.Linear(2, 3), tn.nn.Tanh())
    net[0].weight.data[1, 2] = np.nan
    with tn.detect_anomaly(), pytest.raises(AnomalyError, match=r"^net\.layers\.0\.weight, argument 1 of linear"):
        net(np.ones((4, 2)))


def test_values_that_came_in_are_passed_on() -> None:
    x = parameter(3)
    mask = np.array([0.0, -np.inf, 0.0])
    with tn.detect_anomaly():
        y = np.exp(x + mask).sum()
        y.backward()
    np.testing.assert_array_equal(x.grad, np.exp(x.data + mask))


def test_outside_and_after_it_nothing_is_looked_at() -> None:
    x = tn.Tensor([0.0], requires_grad=True)
    with pytest.raises(AnomalyError), tn.detect_anomaly(), np.errstate(all="ignore"):
        np.log(x)
    with np.errstate(all="ignore"):
        assert np.log(x).item() == -np.inf
        with tn.detect_anomaly(check_nan=False):
            assert np.log(x).item() == -np.inf


def test_transforms_are_looked_at_to_any_order() -> None:
    with tn.detect_anomaly():
        with pytest.raises(AnomalyError, match=r"np\.sqrt"):
            tn.grad(lambda x: np.sqrt(x) * 2)(0.0)
        assert tn.grad(tn.grad(np.sqrt))(1.0) == -0.25
        with pytest.raises(AnomalyError):
            tn.grad(tn.grad(lambda x: np.power(x, 1.5)))(0.0)


def test_a_compiled_step_runs_step_by_step() -> None:
    w = parameter(3)
    step = tn.compile(lambda x: np.log(w * w * x).sum())
    x = np.array([1.0, 2.0, 3.0])
    expected = step(x).item()
    grad, w.grad = w.grad.copy(), None
    with tn.detect_anomaly():
        value = step(x)
        assert value.item() == expected
        assert not value.requires_grad
        np.testing.assert_array_equal(w.grad, grad)
        with np.errstate(all="ignore"), pytest.raises(AnomalyError, match=r"np\.log made"):
            step(x * 0)


def test_where_it_may_not_be_entered() -> None:
    with tn.no_grad(), pytest.raises(GraphError, match="no_grad"), tn.detect_anomaly():
        pass

    def loss(x):
        with tn.detect_anomaly():
            return (x * w).sum()

    w = parameter(3)
    with pytest.raises(GraphError, match="enter it around the call"):
        tn.compile(loss)(np.ones(3))
    with tn.detect_anomaly(), tn.detect_anomaly():
        loss(np.ones(3)).backward()


# Writes

DOORS = {  # each writes into what `w` or the caller's array holds
    "data": lambda w, _x: w.data.__setitem__(0, 7.0),
    "a view": lambda w, _x: w.data.T[:1].__iadd__(1.0),
    "numpy": lambda w, _x: w.numpy().fill(2.0),
    "the caller's array": lambda _w, x: x.__imul__(3.0),
    "a NumPy function": lambda _w, x: np.add(x, 1.0, out=x),
}


@pytest.mark.parametrize("door", DOORS)
def test_raw_writes_are_caught_and_placed_between_two_lines(door) -> None:
    base = np.random.default_rng(0).standard_normal((3, 3))
    x = base[:, :]
    w = parameter(3, 3)
    with tn.detect_anomaly():
        y = (w * tn.Tensor(x, requires_grad=True)).sum()
        before = this_line() - 1
        DOORS[door](w, base if "caller" in door else x)
        z = np.tanh(y)
        after = this_line() - 1
        with pytest.raises(GraphError) as caught:
            z.backward()
    text = str(caught.value)
    assert re.search(
        rf"argument [01],?( w,)? of shape \(3, 3\) was overwritten after np\.multiply in .*{HERE}:{before}\)", text
    )
    assert re.search(rf"between .*{HERE}:{before}\) and .*{HERE}:{after}\)", text)
    assert w.grad is None


def test_a_write_just_before_backward_is_placed_there() -> None:
    w = parameter(3)
    with tn.detect_anomaly():
        y = np.square(w).sum()
        w.data[1] = 5
        with pytest.raises(
            GraphError, match=r"its argument 0, w, of shape \(3,\).* and the backward in .*test_anomaly"
        ):
            y.backward()


def test_a_result_that_a_rule_reads_is_watched_too() -> None:
    w = parameter(3)
    with tn.detect_anomaly():
        h = np.exp(w)
        y = h.sum()
        h.numpy()[:] = 0
        with pytest.raises(GraphError, match="its result of shape"):
            y.backward()


def test_what_a_hand_written_backward_reads_is_watched() -> None:
    @tn.differentiable
    def double(x):
        return x * 2, lambda g: (g * 2,)

    w = parameter(3)
    with tn.detect_anomaly():
        y = double(w).sum()
        w.data[:] = 0
        with pytest.raises(GraphError, match="argument 0, w, of shape"):
            y.backward()


@given(seed=st.integers(0, 2**32 - 1), layout=st.sampled_from(["C", "F", "strided", "reversed", "swapped"]))
def test_writes_that_no_rule_reads_and_writes_after_backward_are_fine(seed, layout) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((4, 6))
    a = {"C": a, "F": np.asfortranarray(a), "strided": a[:, ::2], "reversed": a[::-1], "swapped": a.astype(">f8")}[
        layout
    ]
    w, b = tn.Tensor(a, requires_grad=True), tn.Tensor(np.ones(a.shape), requires_grad=True)
    with tn.detect_anomaly():
        y = (np.tanh(w) + b).sum()
        b.data[:] = 3  # an addition reads nothing
        y.backward(retain_graph=True)
        grad = w.grad.copy()
        w.data[0, 0] += 1
        with pytest.raises(GraphError, match=r"np\.tanh"):
            y.backward()
        np.testing.assert_array_equal(w.grad, grad)
        np.tanh(w).sum().backward()


def test_our_own_doors_name_the_parameter_without_it() -> None:
    net = tn.nn.Sequential(tn.nn.Linear(2, 2), tn.nn.Linear(2, 2))
    optimizer = tn.optim.SGD(net.parameters(), lr=0.1)
    first = net(np.ones((3, 2))).sum()
    second = net(np.ones((3, 2))).sum()
    first.backward()
    optimizer.step()
    with pytest.raises(GraphError, match=r"^net\.layers\.1\.weight of shape \(2, 2\) was written to after linear"):
        second.backward()


def test_it_keeps_nothing_alive() -> None:
    import weakref  # noqa: PLC0415 - here only

    w = parameter(3)
    with tn.detect_anomaly():
        for _ in range(3):
            h = np.exp(w * 2)
            alive = weakref.ref(h.data)
            h.sum().backward()
            del h
            assert alive() is None


@pytest.mark.parametrize("name", ["check_nan", "check_writes"])
def test_its_switches_are_true_or_false(name: str) -> None:
    with pytest.raises(DTypeError, match=f"{name}=3 must be True or False"):
        tn.detect_anomaly(**{name: 3})  # type: ignore[arg-type]
