"""How a failure is told: the golden layout, its limits for any number and size of inputs, and colour."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_nn import testing
from tinygrad_nn.testing import gradient_report
from tinygrad_nn.testing.report import KINDS, coloured

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


def fits_a_screen(report) -> bool:
    lines = str(report).splitlines()
    return len(lines) <= 25 and max(map(len, lines)) <= 120 and len(f"GradientError: {lines[0]}") <= 120


def test_nested_arguments_long_axes_and_many_causes_fit_a_screen() -> None:
    def fn(tree, a_parameter_whose_name_goes_on_for_a_very_long_time_indeed):
        arrays = tree["weights_of_the_network"]["first_layer"]
        return sum(np.sum(a**3) for a in arrays) + np.sum(a_parameter_whose_name_goes_on_for_a_very_long_time_indeed**2)

    def rule(tree, b):
        arrays = tree["weights_of_the_network"]["first_layer"]
        d = {"weights_of_the_network": {"first_layer": [g_of(a) for a in arrays]}}
        return fn(tree, b), lambda g: (d, g * b)

    def g_of(a):
        d = 3 * a**2
        d.flat[0] = np.nan if a.ndim == 7 else 1e300
        return d

    arrays = [np.ones((1, 2, 1, 3, 1, 1, 2, 1, 1, 2)) + k for k in range(9)] + [np.full((2, 3, 2, 3, 2, 3, 1), 1.5)]
    report = gradient_report(
        fn, {"weights_of_the_network": {"first_layer": arrays}}, np.arange(1.0, 9.0), rule=rule, mode="fast"
    )
    assert fits_a_screen(report)
    assert "more inputs" in str(report)
    for line in str(report).splitlines():
        if "WRONG" in line:
            assert line.endswith("entries")  # the verdict is never cut off
    shown = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [c["input"] for c in shown["causes"]] == [c.input for c in report.causes]
    assert {c["kind"] for c in shown["causes"]} <= set(KINDS)


def test_a_million_entries_fit_a_screen() -> None:
    def rule(x):
        def pullback(g):
            d = g * np.cos(x)
            d[..., 7] = 0
            return (d,)

        return np.sin(x), pullback

    report = gradient_report(np.sin, np.full((10, 10, 10, 100), 0.3), rule=rule, mode="fast")
    assert not report.ok
    assert fits_a_screen(report)


def test_every_kind_is_in_the_one_list() -> None:
    room = Path(testing.__file__).parent
    text = "\n".join(file.read_text("utf-8") for file in room.glob("*.py"))
    used = set(re.findall(r"(?:Found|Cause|blame)\(\s*\"([a-z-]+)\"", text))
    used |= {"dtype"}  # given by its verdict
    assert used == set(KINDS)


@pytest.mark.parametrize(
    ("environment", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": ""}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, True),
    ],
)
def test_the_environment_and_the_terminal_decide_about_colour(monkeypatch, environment, terminal, expected) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert coloured() is expected
    report = gradient_report(np.sin, np.ones(5), rule=lambda x: (np.sin(x), lambda g: (-g,)), mode="fast")
    assert ("\x1b[" in report.render()) is expected
