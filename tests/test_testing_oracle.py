"""The numerical oracle against exact slopes from mpmath, which share no code with it."""

from __future__ import annotations

import numpy as np
import pytest
from checker_corpus.smooth import FUNCTIONS, SCALES, exact_slope, lost

from tinygrad_nn.testing.oracles import Oracle
from tinygrad_nn.testing.problem import rule_problem

LONG = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


def test_there_are_as_many_functions_as_promised() -> None:
    assert len({f.name for f in FUNCTIONS if f.limit <= 1e-12}) >= 33
    assert any(f.limit == 1e-9 for f in FUNCTIONS)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_errors_are_small_and_never_beyond_ten_times_their_estimate(function, scale) -> None:
    for seed in range(3):
        rng = np.random.default_rng([seed, 11])
        x = function.point(rng, scale)
        problem = rule_problem(function.call, (x,), None)
        with np.errstate(all="ignore"):
            y = problem.outputs([x])[0]
        if not np.all(np.isfinite(y)):
            continue
        v = rng.standard_normal(y.shape)
        v += np.copysign(0.5, v)
        directions = [x * rng.standard_normal(x.shape) for _ in range(2)]
        for methods in ({}, {0: "ladder"}):
            oracle = Oracle(problem, [x], [v])
            oracle.methods = dict(methods)
            for number, u in enumerate(directions):
                true, size = exact_slope(function, x, u, v)
                if not 1e-200 < size < 1e200:
                    continue
                slope = oracle.slope(0, u, guard=not number)
                error = abs(slope.value - true)
                assert error <= 10 * slope.error
                # smaller slopes than 1e-10 of the values lie within reach of the values' own rounding
                if not methods and LONG and size > 1e-10 * np.sum(np.abs(v * y)):
                    assert error <= max(function.limit, own_loss(function, x, u, v)) * size


def own_loss(function, x, u, v) -> float:
    """What the function itself loses in float64, where that is more than a tenth of the usual limit."""
    own = lost(function, x, u, v)
    return own if own > 1e-13 else 0.0


@pytest.mark.skipif(not LONG, reason="long double is float64 here")
@pytest.mark.parametrize("seed", [93, 108, 193, 363, 750, 2259, 2450])
def test_of_a_saturated_softmax_no_more_is_lost_than_it_loses_itself(seed) -> None:
    (function,) = [f for f in FUNCTIONS if f.name == "softmax"]
    rng = np.random.default_rng([seed, 0, 11])
    x = function.point(rng, 1e3)
    v, u = rng.standard_normal(x.shape) + 0.1, x * rng.standard_normal(x.shape)
    true, size = exact_slope(function, x, u, v)
    own = lost(function, x, u, v)
    slope = Oracle(rule_problem(function.call, (x,), None), [x], [v]).slope(0, u)
    assert own > 1e-13
    assert abs(slope.value - true) <= own * size
