"""What rounding inside of a function does: each operation rounded otherwise, and the verdicts that rest on it."""

from __future__ import annotations

import numpy as np
import pytest
from checker_corpus import scored_layers, tuning_layers
from checker_corpus.blind import forward
from checker_corpus.kinked_networks import NETWORKS, rectified
from checker_corpus.referee import draw

from tinygrad_nn.testing import gradient_report
from tinygrad_nn.testing.watched import Watched, meets_kinks, rounded

RNG = np.random.default_rng


def spread(f, *arrays):
    """How much the values of a function move, in ulps of 1."""
    rng = RNG(0)
    values = [np.asarray(f(*rounded(list(arrays), rng))) for _ in range(20)]
    return np.max(np.ptp(values, axis=0)) / np.finfo(float).eps


def test_values_move_as_much_as_the_function_loses() -> None:
    x = RNG(0).uniform(1, 2, 6)
    assert 0 < spread(np.sin, x) < 4
    assert spread(lambda x: (1e6 + x) - 1e6, x) > 1e5
    assert spread(lambda x: 1 - np.exp(-x) / np.exp(-x), x) > 0
    assert spread(lambda x: np.log(1 - 1e-8 * x) * 1e8, x) > 1e6
    assert spread(lambda x: x.sum(axis=0, keepdims=True) * 1e6, x) > 1e6
    assert spread(lambda x: (1e6 * x) @ x - (1e6 * x).dot(x), x) > 1e5
    assert spread(lambda x: np.einsum("i,i->", 1e6 * x, x), x) > 1e6
    assert spread(lambda x: np.linalg.inv(np.outer(x, x) + 1e-6 * np.eye(6)), x) > 1e6


def test_what_is_exact_stays() -> None:
    n = RNG(0).integers(-9, 10, (4, 4)).astype(float)
    x = RNG(1).standard_normal((4, 4))
    for f in (lambda n: n @ n, lambda n: n * n - n, np.sum, lambda n: np.cumsum(n, axis=0), lambda n: n.max(axis=1)):
        assert spread(f, n) == 0
    for f in (
        np.abs,
        np.negative,
        np.max,
        lambda x: x - x,
        lambda x: x.T[1:3],
        lambda x: x.clip(0, 1),
        lambda x: np.where(x > 0, x, 0),
    ):
        assert spread(f, x) == 0


def test_results_keep_kind_shape_and_watch() -> None:
    (x,) = rounded([RNG(0).standard_normal((3, 4)) + 1j], RNG(1))
    y = np.exp(x).sum(axis=1)
    assert isinstance(y, Watched)
    assert (y.dtype, y.shape) == (np.complex128, (3,))
    assert np.allclose(y, np.exp(np.asarray(x)).sum(axis=1), rtol=1e-14)
    out = np.zeros((3, 4), complex)
    assert np.exp(x, out=out) is out
    assert np.allclose(out, np.exp(np.asarray(x)), rtol=1e-14)
    x += 1
    assert isinstance(x, Watched)
    np.add.at(x, [0, 0], 1.0)
    assert isinstance(np.modf(x.real)[0], Watched)


def test_a_narrower_dtype_inside_is_no_rounding_of_the_arrays() -> None:
    x = RNG(0).uniform(1, 2, 6)
    assert spread(lambda x: np.sin(x.astype(np.float32)), x) == 0
    assert spread(np.sin, x.astype(np.float32)) > 1e6


KINKED = {
    "an order": lambda x: x * (x > 0),
    "the larger": lambda x: np.maximum(x, 0),
    "the size": np.abs,
    "the sign": lambda x: x * np.sign(x),
    "bounds": lambda x: np.clip(x, 0, 5),
    "bounds of a method": lambda x: x.clip(0),
}


@pytest.mark.parametrize("name", KINKED)
def test_kinks_are_met_where_numbers_are_equal_only(name) -> None:
    f = KINKED[name]
    assert meets_kinks(lambda arrays: f(arrays[0]), [np.array([-1.0, 0.0, 2.0])])
    assert not meets_kinks(lambda arrays: f(arrays[0]), [np.array([-1.0, 0.5, 2.0])])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_ties_of_a_largest_entry(axis) -> None:
    x = np.array([[1.0, 2.0], [5.0, 4.0]])
    assert not meets_kinks(lambda arrays: arrays[0].max(axis=axis), [x])
    assert meets_kinks(lambda arrays: np.max(arrays[0], axis=axis), [x * 0])
    assert meets_kinks(lambda arrays: np.min(arrays[0], axis=1), [np.array([[1.0, 1.0], [3.0, 4.0]])])
    assert not meets_kinks(lambda arrays: np.min(arrays[0], axis=1), [np.array([[1.0, 2.0], [1.0, 4.0]])])


SATURATED = {
    "entropy": (scored_layers, (5, 8, 10, 11, 14)),
    "weighted_mean": (tuning_layers, (17,)),
}


@pytest.mark.parametrize("name", SATURATED)
def test_a_right_rule_is_not_blamed_for_what_its_forward_loses(name) -> None:
    """p is 1 to its last digit: 1 - p is lost in the function, in long double too, and the rule may keep it."""
    module, seeds = SATURATED[name]
    ((rule, shapes),) = [(rule, shapes) for rule, shapes in module.LAYERS if rule.__name__ == name]
    for seed in seeds:
        inputs = [100 * x for x in draw(shapes, RNG([1000, seed]))]
        report = gradient_report(forward(rule), *inputs, rule=rule, seed=seed)
        assert report.ok, str(report)


@pytest.mark.parametrize("row", range(3))
def test_a_saturated_row_hides_no_mistake_in_another(row) -> None:
    """The entropy of scores: two rows where p is 1 to its last digit, and one where it is not."""
    z = np.array([[80.0, -9.0, 3.0], [1.0, -70.0, 4.0], [-8.0, 90.0, 5.0]])
    z[row] /= 60

    def rule(factor):
        def ruled(z):
            y, back = scored_layers.entropy(z)
            return y, lambda g: tuple(d * np.where(np.arange(3)[:, None] == row, factor, 1) for d in back(g))

        return ruled

    fn = forward(scored_layers.entropy)
    right = gradient_report(fn, z, rule=rule(1))
    assert right.ok, str(right)
    for factor in (2, 1.001, 1 + 1e-8):
        assert gradient_report(fn, z, rule=rule(factor)).results[0].verdict == "WRONG"


def one_feature():
    (network,) = [n for n in NETWORKS if n.name == "one feature"]
    return network, network.inputs(RNG([1000, 7]))


def test_kinks_that_cancel_are_told_and_blame_nobody() -> None:
    """At x = 0 the network is smooth, with the slope 2, and relu'(0) = 0 for each unit gives 0."""
    network, inputs = one_feature()
    for report in (
        gradient_report(network.plain, *inputs, rule=network.rule, seed=7),
        gradient_report(network.call, *inputs, seed=7),
    ):
        assert report.ok, str(report)
        assert report.results[0].verdict == "KINK"
        assert "exactly here kinks meet" in report.notes[0]


@pytest.mark.parametrize("smooth", [np.tanh, lambda x: np.tanh(x) + 0 * rectified(x - 1)], ids=["none", "elsewhere"])
def test_wrong_exactly_here_is_wrong_where_no_kinks_meet(smooth) -> None:
    """A rule that is wrong at 0 alone, as one that guards against a division there."""
    x = np.array([-1.5, 0.0, 0.5, 2.0])

    def rule(x):
        return smooth(x), lambda g: (g * np.where(x == 0, 0.5, 1 - np.tanh(x) ** 2),)

    report = gradient_report(smooth, x, rule=rule)
    assert report.results[0].verdict == "WRONG", str(report)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", ["one feature", "rectified correlation", "hinge loss", "cross-entropy on top"])
def test_kinks_in_narrow_dtypes(name, dtype) -> None:
    (network,) = [n for n in NETWORKS if n.name == name]
    for seed in (0, 2, 6, 9, 11):
        inputs = [x.astype(dtype) for x in network.inputs(RNG([9, seed]))]
        report = gradient_report(network.plain, *inputs, rule=network.rule, seed=seed)
        assert report.ok, str(report)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_backward_that_cancels_does_not_depend_on_the_layout(dtype) -> None:
    """The forces of pairs upon each other add up to 0, and in another order to another 0."""
    x = RNG(0).uniform(0.3, 1.7, (5, 3)).astype(dtype)

    def density(x):
        d = x[:, None] - x
        return np.exp(-(d * d).sum(axis=2)).sum(axis=1)

    def rule(x):
        d = x[:, None] - x
        w = np.exp(-(d * d).sum(axis=2))
        return density(x), lambda g: ((-2 * d * (w * (g[:, None] + g))[:, :, None]).sum() * np.ones_like(x),)

    report = gradient_report(density, x, rule=rule)
    assert [c.kind for c in report.causes] not in (["layout"], [])


def test_single_numbers_are_watched() -> None:
    x = RNG(0).uniform(1, 2, 6)
    assert spread(lambda x: (1e6 + x[2]) - 1e6, x) > 1e5
    assert spread(lambda x: sum((1e6 + number) - 1e6 for number in x), x) > 1e5
    a, b = rounded([x[:2]], RNG(1))[0]
    assert isinstance(a * b, Watched)


def smoothed(x, a):
    """An exponential moving average; its rate is the sigmoid of a single number."""
    rate = 1 / (1 + np.exp(-a[0]))
    h = [x[0]]
    for each in x[1:]:
        h.append(rate * h[-1] + (1 - rate) * each)
    return np.stack(h)


def test_a_right_rule_of_a_saturated_number_is_not_blamed() -> None:
    def rule(x, a):
        rate, h = 1 / (1 + np.exp(-a[0])), smoothed(x, a)

        def backward(g):
            dx, drate, d = np.zeros_like(x), 0, 0
            for t in range(len(x) - 1, 0, -1):
                d = d + g[t]
                dx[t] = (1 - rate) * d
                drate = drate + d * (h[t - 1] - x[t])
                d = rate * d
            dx[0] = d + g[0]
            return dx, np.reshape(drate * rate * (1 - rate), (1,))

        return h, backward

    x = RNG(0).standard_normal(8)
    for seed in range(5):
        report = gradient_report(smoothed, x, np.array([30.0 + seed]), rule=rule, seed=seed)
        assert report.ok, str(report)


def pendulum(s, p):
    """Six steps of a driven pendulum: angles, for angle, speed and force, and for stiffness and friction."""
    angle, speed, force = s
    angles = []
    for _ in range(6):
        speed = speed + 0.1 * (-p[0] * np.sin(angle) - p[1] * speed + force)
        angle = angle + 0.1 * speed
        angles.append(angle)
    return np.stack(angles)


def swung(wrong):
    def rule(s, p):
        qs, vs = [s[0]], [s[1]]
        for _ in range(6):
            vs.append(vs[-1] + 0.1 * (-p[0] * np.sin(qs[-1]) - p[1] * vs[-1] + s[2]))
            qs.append(qs[-1] + 0.1 * vs[-1])

        def backward(g):
            dq = dv = dk = db = df = 0 * s[0]
            for t in reversed(range(6)):
                dq = dq + g[t]
                dv = dv + 0.1 * dq
                dk, db, df = dk - 0.1 * dv * np.sin(qs[t]), db - 0.1 * dv * vs[t], df + 0.1 * dv
                dq, dv = dq - 0.1 * dv * p[0] * np.cos(qs[t]) * wrong, dv * (1 - 0.1 * p[1])
            return np.stack([dq, dv, df]), np.stack([dk, db])

        return np.stack(qs[1:]), backward

    return rule


def test_differences_of_chaos_blame_no_rule_that_the_complex_step_confirms() -> None:
    rng = RNG([41, 0])
    inputs = 1e3 * rng.standard_normal(3), 1e3 * rng.uniform(0.5, 1.5, 2)
    for seed in range(3):
        assert gradient_report(pendulum, *inputs, rule=swung(1), seed=seed).ok
    assert not gradient_report(pendulum, *inputs, rule=swung(1.1)).ok
    for seed in range(3):
        inputs = RNG(seed).standard_normal(3), RNG(seed).uniform(0.5, 1.5, 2)
        assert not gradient_report(pendulum, *inputs, rule=swung(1 + 1e-9), seed=seed).ok


def test_differences_that_see_little_hide_no_mistake() -> None:
    """Steps of the size of the inputs leap over what a robust loss of their difference does."""

    def loss(p, t):
        return np.log1p(np.square(p - t)).sum(axis=1)

    def rule(p, t):
        def backward(g):
            d = g[:, None] * 2 * (p - t) / (1 + np.square(p - t))
            return d, -d * (1 + 1e-8)

        return loss(p, t), backward

    for seed in range(4):
        p, t = RNG(seed).standard_normal((2, 5, 4)) + 1e3
        report = gradient_report(loss, p, t, rule=rule, seed=seed)
        assert [r.verdict for r in report.results] == ["ok", "WRONG"], str(report)


@pytest.mark.parametrize("offset", [0, 30, 100])
def test_rounding_in_float16_hides_no_mistake_that_float64_has_too(offset) -> None:
    """A standardized row without what flows through its mean; ulps of 100 in float16 are 1/16."""

    def standardized(x):
        c = x - x.mean(axis=1, keepdims=True)
        return c / np.sqrt((c * c).mean(axis=1, keepdims=True) + x.dtype.type(1e-3))

    def with_mean(weight):
        def rule(x):
            c, y = x - x.mean(axis=1, keepdims=True), standardized(x)
            i = 1 / np.sqrt((c * c).mean(axis=1, keepdims=True) + x.dtype.type(1e-3))

            def backward(g):
                mean = x.dtype.type(weight) * g.mean(axis=1, keepdims=True)
                return (i * (g - mean - y * (g * y).mean(axis=1, keepdims=True)),)

            return y, backward

        return rule

    x = (RNG(0).standard_normal((4, 6)) + offset).astype(np.float16)
    for seed in range(4):
        assert gradient_report(standardized, x, rule=with_mean(1), seed=seed).ok
        assert not gradient_report(standardized, x, rule=with_mean(0), seed=seed).ok


def test_steps_that_leap_beyond_a_kink_blame_no_right_rule() -> None:
    """A margin loss of points far from the origin: steps of their size find no slope at all, and are sure of it."""

    def margins(a, p, n):
        return 1 + np.square(a - p) - np.square(a - n)

    def loss(a, p, n):
        return np.maximum(margins(a, p, n), 0).sum()

    def rule(a, p, n):
        def backward(g):
            d = 2 * g * (margins(a, p, n) > 0)
            return d * (n - p), d * (p - a), d * (a - n)

        return loss(a, p, n), backward

    for seed in range(4):
        inputs = RNG([31, seed]).standard_normal((3, 6)) + 1e6
        report = gradient_report(loss, *inputs, rule=rule, seed=seed)
        assert not {r.verdict for r in report.results} & {"WRONG"}, str(report)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_underflows_in_a_narrow_dtype_is_not_blamed(dtype) -> None:
    """A Gaussian kernel of points so far apart that it is 0 in the dtype, and a tiny number in float64."""

    def kernel(x, z):
        return np.exp(-np.square(x[:, None] - z).sum(axis=-1) / 2)

    def rule(x, z):
        y = kernel(x, z)

        def backward(g):
            w = (g * y)[..., None] * (x[:, None] - z)
            return -w.sum(axis=1), w.sum(axis=0)

        return y, backward

    far = {np.float16: 4, np.float32: 9}[dtype]
    for seed in range(4):
        x, z = RNG(seed).uniform(-1, 1, (4, 3)).astype(dtype), (far + RNG(seed).uniform(0, 1, (5, 3))).astype(dtype)
        report = gradient_report(kernel, x, z, rule=rule, seed=seed)
        assert report.ok, str(report)
    report = gradient_report(kernel, x, z - dtype(far), rule=lambda x, z: (kernel(x, z), lambda _: (0 * x, 0 * z)))
    assert [r.verdict for r in report.results] == ["WRONG", "WRONG"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_rule_that_is_right_in_float64_is_right_with_every_seed(dtype) -> None:
    """Two saturated steps of a recurrent cell: 1 - h**2 keeps few digits, which some directions see more of."""

    def cell(x, W, U):
        return np.tanh(np.tanh(x @ W) @ U)

    def rule(x, W, U):
        h = np.tanh(x @ W)
        y = np.tanh(h @ U)

        def backward(g):
            d = g * (1 - y**2)
            e = (d @ U.T) * (1 - h**2)
            return e @ W.T, x.T @ e, h.T @ d

        return y, backward

    inputs = [(1.5 * RNG([5, j]).standard_normal(s)).astype(dtype) for j, s in enumerate([(1, 3), (3, 4), (4, 4)])]
    for seed in range(8):
        report = gradient_report(cell, *inputs, rule=rule, seed=seed)
        assert [r.verdict for r in report.results] == ["ok"] * 3, str(report)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_stale_cache_shows_in_every_dtype(dtype) -> None:
    """The other forward is a few percent off, which float16 must not take for rounding."""
    kept = {}

    def layer(x, W):
        return np.tanh(x @ W)

    def rule(x, W):
        kept["y"] = layer(x, W)

        def backward(g):
            d = g * (1 - kept["y"] ** 2)
            return d @ W.T, x.T @ d

        return kept["y"], backward

    def own(x, W):
        y = layer(x, W)
        return y, lambda g: ((g * (1 - y * y)) @ W.T, x.T @ (g * (1 - y * y)))

    for seed in range(8):
        inputs = [RNG([seed, j]).standard_normal(s).astype(dtype) for j, s in enumerate([(4, 3), (3, 2)])]
        assert [c.kind for c in gradient_report(layer, *inputs, rule=rule, seed=seed).causes] == ["stale"]
        assert gradient_report(layer, *inputs, rule=own, seed=seed).ok


def test_slopes_too_small_for_the_complex_step_blame_no_right_rule() -> None:
    """A Matern kernel of points far apart: some entries of its gradient are 1e-220, others 1e-300."""

    def kernel(x, z):
        r = np.sqrt(np.square(x[:, None] - z - 3.0).sum(axis=-1))
        return (1 + np.sqrt(3.0) * r) * np.exp(-np.sqrt(3.0) * r)

    def rule(x, z):
        d = x[:, None] - z - 3.0
        r = np.sqrt(np.square(d).sum(axis=-1))

        def backward(g):
            w = (g * -3 * np.exp(-np.sqrt(3.0) * r))[..., None] * d
            return w.sum(axis=1), -w.sum(axis=0)

        return kernel(x, z), backward

    rng = RNG([41, 0])
    x, z = ((1e3 * rng.uniform(0.3, 2, shape)).astype(np.float32) for shape in [(4, 2), (3, 2)])
    for seed in range(4):
        report = gradient_report(kernel, x, z, rule=rule, seed=seed)
        assert report.ok, str(report)


@pytest.mark.parametrize("seed", range(3))
def test_a_small_term_that_is_not_analytic_blames_no_rule(seed) -> None:
    """The complex step misses the size of a number, by less than the differences that confirm it tell."""

    def f(x):
        return x + 4e-10 * np.abs(x) ** 2

    x = RNG(seed).uniform(0.5, 1, (5, 3))
    right = gradient_report(f, x, rule=lambda x: (f(x), lambda g: (g * (1 + 8e-10 * x),)), seed=seed)
    assert right.ok, str(right)
    assert not gradient_report(f, x, rule=lambda x: (f(x), lambda g: (g * (1 + 2e-8 * x),)), seed=seed).ok
