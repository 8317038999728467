"""Verdicts where a projection alone does not decide: rounding, kinks and ties, edges of the domain, chance."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_nn.testing import gradient_report

RNG = np.random.default_rng


def elementwise(f, slope):
    return lambda x: (f(x), lambda g: (g * slope(x),))


def relu(x):
    return np.maximum(x, 0)


def clip(x):
    return np.clip(x, -1, 1)


AT_KINKS = {
    "relu'(0) = 0": (relu, lambda x: x > 0, True),
    "relu'(0) = 1": (relu, lambda x: x >= 0, True),
    "relu'(0) = 1/2": (relu, lambda x: (x > 0) + 0.5 * (x == 0), True),
    "relu'(0) = 2": (relu, lambda x: (x > 0) + 2.0 * (x == 0), False),
    "relu'(0) = -1": (relu, lambda x: (x > 0) - 1.0 * (x == 0), False),
    "relu'(0) = 1.01": (relu, lambda x: (x > 0) + 1.01 * (x == 0), False),
    "relu' = 1.001 where x > 0": (relu, lambda x: (x > 0) * 1.001, False),
    "abs'(0) = 0": (np.abs, np.sign, True),
    "abs'(0) = -1": (np.abs, lambda x: np.where(x > 0, 1.0, -1.0), True),
    "abs'(0) = 3": (np.abs, lambda x: np.sign(x) + 3 * (x == 0), False),
    "clip' = 1 at the bounds": (clip, lambda x: np.abs(x) <= 1, True),
    "clip' = 0 at the bounds": (clip, lambda x: np.abs(x) < 1, True),
    "clip' = -1 at one bound": (clip, lambda x: (np.abs(x) < 1) - 1.0 * (x == 1), False),
}


@pytest.mark.parametrize("name", AT_KINKS)
def test_at_a_kink_anything_between_both_sides_is_right(name) -> None:
    f, slope, right = AT_KINKS[name]
    for seed in range(10):
        x = RNG([seed, 1]).integers(-2, 3, (5, 4)).astype(float)
        report = gradient_report(f, x, rule=elementwise(f, slope), seed=seed)
        assert report.ok == right, str(report)
        assert report.results[0].verdict == ("KINK" if right else "WRONG")


def shares(x):
    m = x == x.max(axis=1, keepdims=True)
    return m, m.sum(axis=1, keepdims=True)


AT_TIES = {
    "shared": (lambda m, n: m / n, True),
    "to the first": (lambda m, n: m & (np.cumsum(m, axis=1) == 1), True),
    "to each": (lambda m, n: m, False),
    "to none": (lambda m, n: m & (n == 1), False),
    "shared, twice": (lambda m, n: m / n * (1 + (n > 1)), False),
}


@pytest.mark.parametrize("name", AT_TIES)
def test_at_a_tie_the_shares_add_up(name) -> None:
    share, right = AT_TIES[name]
    for seed in range(10):
        x = RNG([seed, 2]).integers(-1, 2, (5, 4)).astype(float)

        def rule(x):
            return x.max(axis=1), lambda g: (g[:, None] * share(*shares(x)),)

        report = gradient_report(lambda x: x.max(axis=1), x, rule=rule, seed=seed)
        assert report.ok == right, str(report)
        assert right or report.causes[0].kind == "ties"


def test_ties_of_everything() -> None:
    x = np.zeros((3, 4))
    for f in (np.min, np.max):

        def rule(x, each, f=f):
            m = x == f(x)
            return f(x), lambda g: (g * m / (1 if each else m.sum()),)

        assert gradient_report(f, x, rule=lambda x: rule(x, False)).ok
        assert not gradient_report(f, x, rule=lambda x: rule(x, True)).ok


def safe_root(x):
    return np.where(x > 0, 0.5 / np.sqrt(np.where(x > 0, x, 1)), 0)


AT_EDGES = {
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "sqrt, 0 at 0": (np.sqrt, safe_root),
    "x**1.5": (lambda x: x**1.5, lambda x: 1.5 * x**0.5),
    "log": (np.log, lambda x: 1 / x),
    "arcsin": (lambda x: np.arcsin(x / 3), lambda x: 1 / np.sqrt(9 - x * x)),
}


@pytest.mark.parametrize("name", AT_EDGES)
@pytest.mark.parametrize("reduce", [lambda y: y, np.sum], ids=["elementwise", "sum"])
def test_entries_at_the_edge_of_the_domain_hide_no_others(name, reduce) -> None:
    f, slope = AT_EDGES[name]
    x = np.array([0.0, 1.0, 2.0, 0.0, 3.0, 0.5])
    if name == "log" and reduce is np.sum:
        x = x[[1, 2, 4]]

    def rule(factor):
        return lambda x: (reduce(f(x)), lambda g: (g * slope(x) * factor,))

    for seed in range(5):
        with np.errstate(all="ignore"):
            right = gradient_report(lambda x: reduce(f(x)), x, rule=rule(1), seed=seed)
            wrong = [
                gradient_report(lambda x: reduce(f(x)), x, rule=rule(factor), seed=seed)
                for factor in (1.001, np.where(x == 2, 1.1, 1))
            ]
        assert right.ok, str(right)
        assert [w.results[0].verdict for w in wrong] == ["WRONG", "WRONG"], str(wrong)


def test_a_formula_that_cancels_is_not_wrong() -> None:
    formulas = {
        "exp(x) - 1": (lambda x: np.exp(x) - 1, np.exp),
        "log(1 + x)": (lambda x: np.log(1 + x), lambda x: 1 / (1 + x)),
        "1 - cos(x)": (lambda x: 1 - np.cos(x), np.sin),
        "sqrt(1 + x*x) - 1": (lambda x: np.sqrt(1 + x * x) - 1, lambda x: x / np.sqrt(1 + x * x)),
    }
    for name, (f, slope) in formulas.items():
        for scale in (1.0, 1e-3, 1e-6, 1e-9, 1e-12):
            x = scale * RNG(0).uniform(0.3, 2, 5)
            right = gradient_report(f, x, rule=elementwise(f, slope))
            assert right.ok, (name, str(right))
            wrong = gradient_report(f, x, rule=elementwise(f, lambda x, slope=slope: 1.01 * slope(x)))
            assert not wrong.ok or wrong.results[0].verdict == "VAGUE", (name, str(wrong))
            assert not wrong.ok or scale < 1e-9


def solve_rule(factor):
    def rule(a, b):
        y = np.linalg.solve(a, b)

        def pullback(g):
            w = np.linalg.solve(a.T, g)
            return -np.outer(w, y) * factor, w * factor

        return y, pullback

    return rule


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10, 1e14])
def test_an_ill_conditioned_system_is_vague_at_worst(condition) -> None:
    for seed in range(3):
        rng = RNG([seed, 3])
        q, p = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
        inputs = q * np.geomspace(1, 1 / condition, 5) @ p, rng.standard_normal(5)
        right = gradient_report(np.linalg.solve, *inputs, rule=solve_rule(1), seed=seed)
        assert right.ok, str(right)
        assert gradient_report(np.linalg.solve, *inputs, seed=seed).ok
        wrong = gradient_report(np.linalg.solve, *inputs, rule=solve_rule(1.01), seed=seed)
        assert not wrong.ok or condition > 1e10, str(wrong)


@pytest.mark.parametrize("factor", [1, 1.5, 1.001, 1 + 1e-6])
def test_one_rough_entry_hides_no_others(factor) -> None:
    def f(x):
        return np.concatenate([(1e16 + x[:1]) - 1e16, np.sin(x[1:])])

    def rule(x):
        def pullback(g):
            d = g * np.where(np.arange(len(x)) > 0, np.cos(x), 1)
            d[3] *= factor
            return (d,)

        return f(x), pullback

    for seed in range(3):
        report = gradient_report(f, RNG(seed).standard_normal(40), rule=rule, seed=seed)
        assert report.ok == (factor == 1), str(report)


def test_right_by_chance_is_told_from_frozen() -> None:
    by_chance = gradient_report(lambda x: x**3, np.ones(6), rule=lambda x: (x**3, lambda g: (g * 3 * x,)))
    assert by_chance.causes[0].kind == "ratio"
    assert "by chance" in by_chance.results[0].note

    cache = {}

    def frozen(x):
        slope = cache.setdefault("slope", np.cos(x))
        return np.sin(x), lambda g: (g * slope,)

    def in_a_default(x, kept=[]):  # noqa: B006 - the mistake
        kept.append(np.cos(x))
        return np.sin(x), lambda g: (g * kept[0],)

    class Frozen:
        slope = None

        def __call__(self, x):
            self.slope = np.cos(x) if self.slope is None else self.slope
            return np.sin(x), lambda g: (g * self.slope,)

    for rule in (frozen, in_a_default, Frozen()):
        report = gradient_report(np.sin, RNG(0).standard_normal(6), rule=rule)
        assert [c.kind for c in report.causes] == ["frozen"], str(report)


def test_an_empty_batch_is_tried() -> None:
    def swapped(x):
        return np.tanh(x), lambda g: ((g.T * (1 - np.tanh(x.T) ** 2)).reshape(x.shape[::-1]).T if len(x) else g.T,)

    def raises(x):
        return np.tanh(x), lambda g: (g * (1 - np.tanh(x) ** 2) + 0 * g[0],)

    x = RNG(0).standard_normal((5, 3))
    assert [c.kind for c in gradient_report(np.tanh, x, rule=swapped).causes] == ["empty"]
    report = gradient_report(np.tanh, x, rule=raises)
    assert report.ok
    assert any("empty batch" in note for note in report.notes)


def test_results_that_a_later_backward_overwrites() -> None:
    buffer = np.empty((5, 3))

    def rule(x):
        return np.sin(x), lambda g: (np.multiply(g, np.cos(x), out=buffer),)

    report = gradient_report(np.sin, RNG(0).standard_normal((5, 3)), rule=rule)
    assert [c.kind for c in report.causes] == ["overwrites"]


def test_an_upstream_gradient_of_zeros_gives_zeros() -> None:
    def rule(x):
        return np.sin(x), lambda g: (g * np.cos(x) * (np.max(np.abs(g)) / np.max(np.abs(g))),)

    report = gradient_report(np.sin, RNG(0).standard_normal((5, 3)), rule=rule)
    assert [c.kind for c in report.causes] == ["nonlinear"]
    assert "zeros" in report.causes[0].sentence


def refusing(function, low, high):
    """The function, with an error for every argument outside [low, high], as libraries raise it."""

    def strict(x):
        if np.any((np.real(x) < low) | (np.real(x) > high)):
            raise ValueError("outside of the domain")
        return function(x)

    return strict


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("complex_too", [True, False])
@pytest.mark.parametrize("edge", [0.5, 1e-12, 0.0])
def test_an_error_beyond_the_edge_of_the_domain_is_no_failure(edge, complex_too, factor) -> None:
    root = refusing(np.sqrt, 0, np.inf)

    def fn(x):
        if np.iscomplexobj(x) and not complex_too:
            raise TypeError("real numbers only")
        return root(x)

    x = np.array([edge, 1.0, 2.0, 3.0])
    rule = elementwise(fn, lambda x: factor / (2 * np.sqrt(x)))
    with np.errstate(divide="ignore"):
        assert gradient_report(fn, x, rule=rule).ok == (factor == 1)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("seed", range(3))
def test_a_matrix_that_is_hardly_positive_definite(gap, seed) -> None:
    a = np.array([[1.0, 1 - gap], [1 - gap, 1.0]]) / 2
    assert gradient_report(lambda a: np.linalg.cholesky(a + a.T), a, seed=seed).ok


def log_of_rest(scores):
    return np.log(1 - 1 / (1 + np.exp(-scores)))


@pytest.mark.parametrize("seed", range(3))
def test_what_a_forward_loses_inside_is_vague_at_worst(seed) -> None:
    """1 - p has a few digits left where p is nearly 1, which neither inputs moved by an ulp nor outputs show."""
    scores = np.array([-3.0, 2.0, 26.0, 28.0, -60.0]) * RNG(seed).uniform(0.95, 1.05, 5)
    exact = lambda x: -1 / (1 + np.exp(-x))
    right = gradient_report(lambda x: np.sum(log_of_rest(x)), scores, rule=summed(log_of_rest, exact), seed=seed)
    assert right.ok
    for entry in (0, 1):  # and hides no mistake elsewhere
        rule = summed(log_of_rest, lambda x, entry=entry: exact(x) * np.where(np.arange(5) == entry, 1.001, 1))
        wrong = gradient_report(lambda x: np.sum(log_of_rest(x)), scores, rule=rule, seed=seed)
        assert wrong.results[0].verdict == "WRONG"


@pytest.mark.parametrize(("low", "high", "seeds"), [(25, 30, (10,)), (30, 34, (13,)), (34, 36, (14,))])
def test_stairs_of_rounding_are_no_kinks(low, high, seeds) -> None:
    for seed in seeds:
        rng = RNG([seed, 77])
        scores = np.concatenate([rng.uniform(-4, 4, 3), rng.uniform(low, high, 2)])
        rules = [
            summed(log_of_rest, lambda x, entry=entry: -np.where(np.arange(5) == entry, 1.001, 1) / (1 + np.exp(-x)))
            for entry in (None, 0, 1, 2)
        ]
        verdicts = [
            gradient_report(lambda x: np.sum(log_of_rest(x)), scores, rule=rule, seed=seed).results[0].verdict
            for rule in rules
        ]
        assert verdicts[0] in {"ok", "VAGUE"}
        assert verdicts[1:] == ["WRONG"] * 3


@pytest.mark.parametrize("seed", [1, 17])
def test_a_ripple_is_not_stepped_over(seed) -> None:
    """x + sin(x W) of large numbers: all but the smallest steps see x alone."""

    def f(x, W):
        return x + np.sin(x @ W)

    def rule(factor):
        def ruled(x, W):
            def pullback(g):
                d = g * np.cos(x @ W)
                return g + d @ W.T * factor, x.T @ d

            return f(x, W), pullback

        return ruled

    rng = RNG([0, seed])
    inputs = [1e4 * rng.uniform(0.3, 1.7, s) * rng.choice([-1, 1], s) for s in ((5, 3), (3, 3))]
    right = gradient_report(f, *inputs, rule=rule(1), seed=seed)
    assert right.ok, str(right)
    assert not gradient_report(f, *inputs, rule=rule(1.001), seed=seed).ok


def softmax(z):
    e = np.exp(z - np.max(np.real(z), axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_rule(factor):
    def rule(z):
        y = softmax(z)
        return y, lambda g: (y * (g - np.sum(g * y, axis=-1, keepdims=True)) * factor,)

    return rule


@pytest.mark.parametrize(("scale", "shape", "seed"), [(100, (6, 5), 8), (300, (5, 3), 7)])
def test_the_rounding_of_a_saturated_rule_is_its_own(scale, shape, seed) -> None:
    """What a rule loses near saturation, the same rule in long double keeps."""
    z = scale * RNG([0, seed]).standard_normal(shape)
    right = gradient_report(softmax, z, rule=softmax_rule(1), seed=seed)
    assert right.ok, str(right)
    wrong = gradient_report(softmax, z, rule=softmax_rule(1.5), seed=seed)
    assert not wrong.ok or scale > 100, str(wrong)  # beyond, all of it is smaller than an ulp of the outputs


def summed(f, slope):
    return lambda x: (np.sum(f(x)), lambda g: (g * slope(x),))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_entry_that_is_not_finite_is_counted_as_one(bad) -> None:
    def rule(x):
        return np.sin(x), lambda g: (np.where(np.arange(7) == 4, bad, g * np.cos(x)),)

    (result,) = gradient_report(np.sin, RNG(0).standard_normal(7), rule=rule).results
    assert (result.verdict, result.wrong, result.looked, result.index) == ("WRONG", 1, 7, (4,))
    assert result.error == np.inf


@pytest.mark.parametrize("dtype", ["U8", "O", "M8[s]", "S3", "c16"])
def test_a_gradient_that_is_no_real_number_is_told(dtype) -> None:
    def rule(a, b):
        return a * b, lambda g: (g * b, np.zeros(3, dtype))

    report = gradient_report(lambda a, b: a * b, RNG(0).standard_normal(3), RNG(1).standard_normal(3), rule=rule)
    assert [r.verdict for r in report.results] == ["ok", "WRONG"]
    assert [c.kind for c in report.causes] == ["dtype"]


@pytest.mark.parametrize("seed", range(5))
def test_gradients_below_the_rounding_of_the_outputs(seed) -> None:
    """A saturated softmax stands still, and its rule leaves what rounding leaves."""

    z = np.array([[170.0, -50.0, 75.0], [130.0, -90.0, 170.0]]) + RNG(seed).standard_normal((2, 3))
    assert gradient_report(softmax, z, rule=softmax_rule(1), seed=seed).ok


def test_subnormal_gradients_are_linear_but_for_their_rounding() -> None:
    rule = elementwise(lambda x: np.sin(x) * 1e-318, lambda x: np.cos(x) * 1e-318)
    causes = gradient_report(lambda x: np.sin(x) * 1e-318, RNG(0).standard_normal(5), rule=rule).causes
    assert "nonlinear" not in [c.kind for c in causes]
