"""What users pass and return: nested arguments and results, dtypes, random and stateful functions, odd rules."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import json
import pickle
import threading
import warnings

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import RuleError, TinygradError
from tinygrad_nn.testing import GradientError, check_backward, check_gradients, check_module, compare, gradient_report


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


X = normal(5, 3)


def by(pullback, fn=np.sin):
    """A rule with this pullback of the input and the upstream gradient."""
    return lambda x: (fn(x), lambda g: pullback(x, g))


RIGHT = by(lambda x, g: (g * np.cos(x),))
Pair = collections.namedtuple("Pair", "W b")  # noqa: PYI024 - as users write it


@dataclasses.dataclass(frozen=True)
class Frozen:
    W: np.ndarray
    b: np.ndarray
    size: int = 3


def get(p, name):
    return p[name] if isinstance(p, dict) else p[name == "b"] if type(p) in {list, tuple} else getattr(p, name)


STRUCTURES = {
    "dict": (lambda W, b: {"W": W, "b": b}, ["x", "p['W']", "p['b']"]),
    "ordered": (lambda W, b: collections.OrderedDict(W=W, b=b), ["x", "p['W']", "p['b']"]),
    "list": (lambda W, b: [W, b], ["x", "p[0]", "p[1]"]),
    "tuple": (lambda W, b: (W, b), ["x", "p[0]", "p[1]"]),
    "namedtuple": (Pair, ["x", "p.W", "p.b"]),
    "dataclass": (Frozen, ["x", "p.W", "p.b"]),
}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_arguments_and_results_of_every_structure(kind) -> None:
    make, names = STRUCTURES[kind]
    p = make(normal(3, 2), normal(2))

    def fn(x, p):
        return make(x @ get(p, "W"), np.tanh(x @ get(p, "W") + get(p, "b")))

    def rule(x, p, factor=1):
        W = get(p, "W")
        y = np.tanh(x @ W + get(p, "b"))

        def pullback(g):
            assert type(g) is type(p)
            d = get(g, "b") * (1 - y * y)
            return (get(g, "W") + d) @ W.T, make(x.T @ (get(g, "W") + d), factor * d.sum(axis=0))

        return make(x @ W, y), pullback

    assert [r.name for r in check_gradients(fn, X, p, rule=rule).results] == names
    assert [r.name for r in check_gradients(fn, X, p).results] == names
    wrong = gradient_report(fn, X, p, rule=lambda x, p: rule(x, p, 3))
    assert [r.name for r in wrong.results if r.verdict == "WRONG"] == names[2:]
    assert [c.kind for c in wrong.causes] == ["factor"]
    for wrt, chosen in ((1, names[1:]), ("p", names[1:]), (names[2], names[2:]), ([0, names[1]], names[:2])):
        assert [r.name for r in check_gradients(fn, X, p, rule=rule, wrt=wrt).results] == chosen
    with pytest.raises(RuleError, match="p"):
        gradient_report(fn, X, p, rule=lambda x, p: (fn(x, p), lambda g: (x, 3)))
    none = gradient_report(fn, X, p, rule=lambda x, p: (fn(x, p), lambda g: (rule(x, p)[1](g)[0], None)))
    assert [c.kind for c in none.causes] == ["none", "none"]


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ({"W": 1.0}, r"p holds \['W'\], \['b'\], the gradient \['W'\]"),
        ({"W": 1.0, "b": 1.0, "c": 1.0}, r"the gradient \['W'\], \['b'\], \['c'\]"),
        ({"dW": 1.0, "db": 1.0}, "another structure"),
        ([1.0, 2.0], "another structure"),
        (np.ones((2, 2)), r"must be a dict as the input is, not a ndarray of shape \(2, 2\)"),
        ({"W": [[1.0], [1.0, 2.0]], "b": None}, r"p\['W'\] is no array"),
    ],
)
def test_gradients_of_another_structure_are_refused(part, match) -> None:
    def fn(p):
        return p["W"].sum() + p["b"].sum()

    with pytest.raises(RuleError, match=match):
        gradient_report(fn, {"W": X, "b": X}, rule=lambda p: (fn(p), lambda g: (part,)))


def test_a_dict_may_leave_out_what_has_no_gradient() -> None:
    p = {"W": X, "count": 3, "index": np.arange(2)}
    rule = lambda p: (p["W"][p["index"]] * p["count"], lambda g: ({"W": put(p, g)},))

    def put(p, g):
        d = np.zeros_like(p["W"])
        d[p["index"]] = g * p["count"]
        return d

    report = check_gradients(lambda p: rule(p)[0], p, rule=rule)
    assert report.skipped == ["p['count'] is a int", "p['index'] is int64"]


ODD_RULES = {
    "no function": (3, TinygradError, "rule"),
    "nothing": (lambda x: None, RuleError, "it returned a NoneType"),
    "a gradient": (lambda x: (x, x), RuleError, r"it returned a tuple of 2 \(ndarray, ndarray\)"),
    "too many": (by(lambda x, g: (g, g)), RuleError, r"for each input \(x0\), not a tuple of 2"),
    "a dict": (by(lambda x, g: {"x": g}), None, "dtype"),
    "ragged": (by(lambda x, g: ([[1.0], [1.0, 2.0]],)), RuleError, "is no array"),
    "two arguments": (lambda x: (np.sin(x), lambda a, b: (a,)), RuleError, "pullback must take one argument"),
    "text": (by(lambda x, g: ("hello",)), None, "dtype"),
    "complex": (by(lambda x, g: (g * np.cos(x) + 0j,)), None, "dtype"),
    "bool": (by(lambda x, g: (g * np.cos(x) > 0,)), None, "dtype"),
    "integers": (by(lambda x, g: ((g * np.cos(x)).astype(int),)), None, "cast"),
    "a Tensor": (by(lambda x, g: (tn.Tensor(g * np.cos(x)),)), None, ""),
    "a list": (by(lambda x, g: [g * np.cos(x)]), None, ""),
    "an array": (by(lambda x, g: g * np.cos(x)), None, ""),
}


@pytest.mark.parametrize("name", ODD_RULES)
def test_rules_that_return_odd_things(name) -> None:
    rule, error, text = ODD_RULES[name]
    if error is not None:
        with pytest.raises(error, match=text):
            gradient_report(np.sin, X, rule=rule)
    else:
        assert [c.kind for c in gradient_report(np.sin, X, rule=rule).causes] == [text] * bool(text)


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)
REFUSED = {
    "a masked array": (lambda: gradient_report(np.sin, np.ma.array([1.0, 2.0])), "MaskedArray"),
    "a matrix": (lambda: gradient_report(np.sin, np.ones((2, 2)).view(np.matrix)), "matrix"),
    "complex": (lambda: gradient_report(np.sin, X + 1j), "real and imaginary part two inputs"),
    "a complex result": (lambda: gradient_report(lambda x: np.exp(1j * x), X, rule=RIGHT), "returns complex128"),
    "an integer result": (lambda: gradient_report(np.argmax, X), "returns int64: there is no derivative"),
    "no result": (lambda: gradient_report(lambda x: None, X, rule=RIGHT), "returns a NoneType"),
    "half a result": (lambda: gradient_report(lambda x: (x, None), X), r"a NoneType \(result\[1\]\)"),
    "no outputs": (lambda: gradient_report(lambda x: (), X), "returns nothing"),
    "text": (lambda: gradient_report(lambda x: "y", X), "returns a str"),
    "a list in itself": (lambda: gradient_report(np.add, X, ENDLESS), "hold itself"),
    "wrt of an integer": (lambda: gradient_report(lambda x, i: x[i], X, np.arange(2), wrt=["x", "i"]), "i is int64"),
    "wrt that is no name": (lambda: gradient_report(np.sin, X, wrt=1.0), "must name inputs"),
    "wrt that is a bool": (lambda: gradient_report(np.sin, X, wrt=True), "must name inputs"),
    "wrt too far": (lambda: gradient_report(np.sin, X, wrt=1), "names none"),
    "nothing in wrt": (lambda: gradient_report(np.sin, X, wrt=[]), "not in wrt"),
    "an order that is a list": (lambda: gradient_report(np.sin, X, order=[1]), "order="),
    "an order that is a bool": (lambda: gradient_report(np.sin, X, order=True), "order="),
    "a negative seed": (lambda: gradient_report(np.sin, X, seed=-1), "seed=-1 must be"),
    "no seed": (lambda: gradient_report(np.sin, X, seed=None), "seed=None must be"),
    "a loss that is none": (lambda: check_module(nn.Linear(3, 2), X, loss=3), "loss"),
    "a class of layers": (lambda: check_backward(nn.Linear, X), "got the class Linear"),
    "no layers": (lambda: check_backward([], X), "no layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_is_refused_with_a_reason(name) -> None:
    call, text = REFUSED[name]
    with pytest.raises(TinygradError, match=text):
        call()


def test_numpy_numbers_are_taken_as_positions_and_seeds() -> None:
    for wrt in (np.int64(1), np.array([1]), range(1, 2)):
        report = check_gradients(np.multiply, X, X + 1, wrt=wrt, seed=np.int64(3))
        assert [r.name for r in report.results] == ["x1"]
        json.dumps(report.to_dict(), allow_nan=False)


# The surroundings


def test_inside_no_grad_gradients_are_checked_all_the_same() -> None:
    with tn.no_grad():
        assert check_gradients(np.sin, X).ok
        assert check_gradients(np.sin, X, order=2).ok
        assert check_module(nn.Linear(3, 2), X).ok
        assert compare(np.sin, X, rule=RIGHT) == "all three agree"


@pytest.mark.parametrize(
    ("x", "pullback"),
    [
        (np.array([1e-300, 1.0, 4.0]), lambda x, g: (g / x,)),
        (np.array([1.0, np.inf, 2.0]), lambda x, g: (g / x,)),
        (np.array([1.0, np.nan, 2.0]), lambda x, g: (g / x,)),
        (np.array([0.0, 1.0, 2.0]), lambda x, g: (g / x,)),
        (np.array([1.0, 3.0, 2.0]), lambda x, g: (g / x * np.inf,)),
        (np.array([1.0, 3.0, 2.0]), lambda x, g: (g / x * 1e300,)),
    ],
)
def test_floating_point_errors_and_warnings_stay_inside(x, pullback) -> None:
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        report = gradient_report(np.log, x, rule=by(pullback, np.log))
    assert report.ok == (pullback(np.ones(1), np.ones(1))[0][0] == 1)


def test_generators_stand_where_they_stood() -> None:
    held = np.random.default_rng(0)

    def masked(x, mask):
        return x * mask, lambda g: (g * mask,)

    drop = lambda x: masked(x, held.random(x.shape) < 0.5)
    legacy = lambda x: masked(x, np.random.rand(*x.shape) < 0.5)  # noqa: NPY002
    layer = nn.Dropout(0.5, rng=np.random.default_rng(1))
    for rule, state in (
        (drop, lambda: held.bit_generator.state),
        (legacy, lambda: np.random.get_state(legacy=False)["state"]["pos"]),  # noqa: NPY002
    ):
        before = state()
        assert check_gradients(lambda x, rule=rule: rule(x)[0], X, rule=rule).ok
        assert state() == before
    before = layer.rng.bit_generator.state
    check_module(layer, X)
    assert layer.rng.bit_generator.state == before


@pytest.mark.parametrize("seed", range(5))
def test_random_functions_out_of_reach_are_named_and_nothing_else_is(seed) -> None:
    def noise(x):
        return x * np.random.default_rng().standard_normal(x.shape)

    report = gradient_report(noise, X, rule=lambda x: (noise(x), lambda g: (g,)), seed=seed)
    assert [c.kind for c in report.causes] == ["random"]
    assert str(report).splitlines()[0].endswith("nothing was compared")


@pytest.mark.parametrize("seed", range(5))
def test_masks_that_depend_on_the_dtype(seed) -> None:
    x = X.astype(np.float32)
    report = check_module(nn.Dropout(0.5, rng=np.random.default_rng(seed)), x)
    assert report.ok
    layer = nn.Dropout(0.5, rng=np.random.default_rng(seed))
    twice = tn.differentiable(lambda x: x + 0, lambda g, _y, _x: 2 * g, broadcasts=True)
    report = gradient_report(lambda x: layer(twice(x)), x)
    assert not report.ok
    assert any("depends on the dtype" in note for note in report.notes)


def test_a_function_that_changes_its_input_is_named() -> None:
    def fn(x):
        x[0] = 0
        return np.sin(x)

    x = X.copy()
    report = gradient_report(fn, x, rule=RIGHT)
    assert [(c.kind, c.input) for c in report.causes] == [("mutates", "x")]
    np.testing.assert_array_equal(x, X)


def test_a_module_that_changes_its_weight_is_named_and_left_alone() -> None:
    class Decays(nn.Module):
        def __init__(self) -> None:
            self.W = nn.Parameter(normal(3, 2))

        def forward(self, x):
            self.W.data *= 0.9
            return x @ self.W

    module = Decays()
    before = module.W.numpy().copy()
    with pytest.raises(GradientError) as caught:
        check_module(module, X)
    assert [(c.kind, c.input) for c in caught.value.report.causes] == [("mutates", "W")]
    np.testing.assert_array_equal(module.W.numpy(), before)


def test_a_frozen_parameter_is_said_to_be_left_out() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net.layers[0].weight.requires_grad = False
    assert check_module(net, X).skipped == ["layers.0.weight does not require a gradient"]


def test_outputs_that_are_finite_nowhere_prove_nothing() -> None:
    report = gradient_report(lambda x: x * np.nan, X, rule=by(lambda x, g: (g,), lambda x: x * np.nan))
    assert [r.verdict for r in report.results] == ["VAGUE"]
    assert "finite nowhere" in str(report)


def test_constants_have_the_derivative_0() -> None:
    constant = lambda x: np.ones(3)
    assert [r.verdict for r in gradient_report(constant, X, rule=by(lambda x, g: (0 * x,), constant)).results] == ["ok"]
    assert not gradient_report(constant, X, rule=by(lambda x, g: (x,), constant)).ok


def test_empty_arrays_have_gradients_of_their_shape() -> None:
    empty = np.zeros((0, 3))
    assert check_gradients(np.sin, empty, rule=RIGHT).ok
    report = gradient_report(np.sin, empty, rule=by(lambda x, g: (np.zeros(7),)))
    assert [c.kind for c in report.causes] == ["shape"]


# Functions of other libraries, through arrays


def only_float64(fn):
    """As kernels of other libraries are: neither complex numbers nor long double."""

    def kernel(x):
        if x.dtype != np.float64:
            raise TypeError("float64 only")
        return fn(x)

    return kernel


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_rule(x):
    y = softmax(x)
    return y, lambda g: (y * (g - (g * y).sum(axis=1, keepdims=True)),)


def normalized(x):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


def normalized_rule(x):
    h, s = normalized(x), np.sqrt(x.var(axis=0) + 1e-5)
    return h, lambda g: ((g - g.mean(axis=0) - h * (g * h).mean(axis=0)) / s,)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("fn", "rule"), [(softmax, softmax_rule), (normalized, normalized_rule)])
def test_smooth_functions_that_shifts_leave_alone_have_no_kinks(fn, rule, seed) -> None:
    x = normal(5, 3, seed=seed)
    report = gradient_report(only_float64(fn), x, rule=lambda x: (fn(x), rule(x)[1]), seed=seed)
    assert [r.verdict for r in report.results] == ["ok"]


@pytest.mark.parametrize("far", [0.0, 1.0, 1e6, 1e12])
def test_kinks_beside_large_outputs_stay_kinks(far) -> None:
    fn = only_float64(lambda x: np.maximum(x, 0) + far)
    report = gradient_report(fn, np.array([-1.0, 0.0, 1.0, 2.0]), rule=lambda x: (fn(x), lambda g: (g * (x > 0),)))
    assert [r.verdict for r in report.results] == ["KINK"]


def test_a_backward_that_takes_no_reversed_view_is_said_to() -> None:
    def rule(x):
        def pullback(g):
            if min(g.strides) < 0:
                raise ValueError("negative strides")
            return (g * np.cos(x),)

        return np.sin(x), pullback

    report = check_gradients(np.sin, X, rule=rule)
    assert report.notes == ["a backward with the upstream gradient as a reversed view raises ValueError"]


# Second derivatives and comparisons


def test_order_2_looks_at_the_first_derivatives_too() -> None:
    def op(rule):
        return tn.differentiable(lambda x: np.sin(x), rule, broadcasts=True)  # noqa: PLW0108 - a row of its own

    for rule, kind in (
        (lambda g, _y, x: 2 * g * np.cos(x), "factor"),
        (lambda g, _y, x: g * tn.stop_gradient(np.cos(x)), "zero"),
        (lambda g, _y, x: g * np.cos((x + tn.stop_gradient(x)) / 2), "factor"),
    ):
        assert [c.kind for c in gradient_report(op(rule), X, order=2).causes] == [kind]
    report = check_gradients(np.sin, X, order=2)
    assert "order=2" in str(report).splitlines()[0]
    for linear in (lambda x: 3 * x, tn.functional.relu, lambda x: np.ones(3)):
        assert [r.verdict for r in check_gradients(linear, X, order=2).results] == ["ok"]


def test_comparisons_that_do_not_come_down_to_right_or_wrong() -> None:
    relu = tn.functional.relu
    right = lambda x: (relu(x), lambda g: (g * (x > 0),))
    other = lambda x: (relu(x), lambda g: (g * (x >= 0),))
    at_kink = np.array([-1.0, 0.0, 1.0, 2.0])
    assert compare(relu, at_kink, rule=right) == "all three agree"
    assert "rule and the framework differ (x0)" in compare(relu, at_kink, rule=other).replace("x)", "x0)")
    writes = by(lambda x, g: (np.multiply(g, np.cos(x), out=g),))
    assert "the rule breaks a contract: the backward pass changes the upstream" in compare(np.sin, X, rule=writes)
    assert "nothing can be compared" in compare(
        np.sin, X, rule=by(lambda x, g: (g * np.cos(x),), lambda x: np.sin(x) + 1)
    )
    far = lambda x: np.sin(x) + 1e15
    assert "too rough to tell" in compare(far, X, rule=by(lambda x, g: (g * np.cos(x),), far))
    both = lambda a, b: (a * b, lambda g: (g * b, g * b))
    assert "(b)" in compare(lambda a, b: a * b, X, X + 1, rule=both)
    assert compare(lambda a, b: a * b, X, X + 1, rule=both, wrt="a") == "all three agree"


# Reports


def half(a, b):
    return product(a, b), lambda g: (g * b, g * a / 2)


def product(a, b):
    return a * b


@pytest.mark.parametrize("wrt", [None, "b", ["b"], 1, [0, 1]])
def test_the_line_of_reproduction_reproduces(wrt) -> None:
    report = gradient_report(product, X, X + 1, rule=half, wrt=wrt, seed=7, mode="fast")
    with pytest.raises(GradientError) as caught:
        eval(report.repro, {"check_gradients": check_gradients, "report": report, "product": product, "half": half})  # noqa: S307
    assert [c.sentence for c in caught.value.report.causes] == [c.sentence for c in report.causes]
    assert caught.value.report.where == report.where
    assert caught.value.report.repro == report.repro


def test_functions_without_a_name_are_written_as_fn_and_rule() -> None:
    report = gradient_report(lambda a, b: a * b, X, X + 1, rule=functools.partial(half))
    names = {"check_gradients": check_gradients, "report": report, "fn": product, "rule": half}
    with pytest.raises(GradientError):
        eval(report.repro, names)  # noqa: S307
    assert "np.sin" in gradient_report(np.sin, X, rule=RIGHT).repro


def test_reports_travel() -> None:
    report = gradient_report(product, X, X + 1, rule=half, seed=7)
    error, other = pickle.loads(pickle.dumps((GradientError(report), report)))  # noqa: S301 - its own bytes
    assert str(error) == str(report)
    assert other == report
    assert len(repr(other)) < 2000
    assert other.to_dict() == copy.deepcopy(report).to_dict() == report.to_dict()


def test_threads_find_the_same() -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(gradient_report(product, X, X + 1, rule=half, seed=7).to_dict()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [gradient_report(product, X, X + 1, rule=half, seed=7).to_dict()] * 4


def test_a_wrong_entry_among_many_is_bisected_in_few_runs() -> None:
    def rule(x):
        def pullback(g):
            d = g * np.cos(x)
            d[77_777] *= 1.5
            return (d,)

        return np.sin(x), pullback

    report = gradient_report(np.sin, normal(80_000), rule=rule)
    assert report.results[0].index == (77_777,)
    assert report.evaluations < 300
