"""How a failure is told: the golden layout, its limits for any number and size of inputs, and colour."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_nn.testing import gradient_report

GOLDEN = """\
check_gradients(power, x, W): 1 of 2 gradients is wrong
  input  shape    max|analytic|  max|numeric|  worst error  verdict
  0 x    (#, #)   #  #  # % at [#, #]  WRONG  #/# entries
  1 W    (#, #)   #  #  #  ok
  oracle: complex step, confirmed by # real differences; noise #, tolerance #; # runs, seed #
WHERE  half.<locals>.pullback (test_testing_report.py:#): the first wrong gradient is dx
WHY    x: factor: analytic = #/# x numeric, to #, confirmed on # samples
       -> a factor is missing, or one too many divides
FACTS  x[#, #]: analytic #, numeric #; ratio #; Taylor remainder order # (# = right)
REPRO  check_gradients(power, *report.inputs, rule=half, seed=#, wrt="x", mode="full")"""


def power(x, W):
    return x**2 @ W


def half(x, W):
    def pullback(g):
        dW = (x**2).T @ g
        dx = (g @ W.T) * x
        return dx, dW

    return power(x, W), pullback


def masked(text: str) -> str:
    """Without numbers and column widths, which differ in the last digits between machines."""
    text = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", text)
    return "\n".join(re.sub(r"(?<=\S) {2,}", "  ", line) for line in text.splitlines())


def test_golden_report() -> None:
    rng = np.random.default_rng(0)
    report = gradient_report(power, rng.standard_normal((7, 11)), rng.standard_normal((11, 3)), rule=half, seed=1)
    assert masked(str(report)).replace("W#", "W") == masked(GOLDEN)


@settings(max_examples=8)
@given(count=st.integers(1, 20), long=st.booleans())
def test_any_number_of_inputs_fits_a_screen(count: int, long: bool) -> None:
    inputs = [np.arange(1.0, 4.0 + k) for k in range(count)]
    names = [("a_very_long_name_of_an_input_" * 3 if long else "x") + str(k) for k in range(count)]
    given_as = dict(zip(names, inputs, strict=True))

    def fn(arrays):
        return sum(np.sum(a**3) for a in arrays.values())

    def rule(arrays):
        return fn(arrays), lambda g: ({name: g * 2 * a**2 for name, a in arrays.items()},)

    report = gradient_report(fn, given_as, rule=rule, mode="fast")
    lines = str(report).splitlines()
    assert not report.ok
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 120
    assert lines[-1].startswith("REPRO")
    assert len(f"GradientError: {lines[0]}") <= 120


def test_colour_is_only_where_it_is_asked_for() -> None:
    report = gradient_report(np.sin, np.ones(5), rule=lambda x: (np.sin(x), lambda g: (-g,)))
    assert "\x1b[" not in str(report)
    painted = report.render(colour=True)
    assert "\x1b[31mWRONG\x1b[0m" in painted
    assert re.sub(r"\x1b\[\d+m", "", painted) == str(report)
