"""The pytest plugin and the strategies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn
from tinygrad_nn.testing import check_gradients, strategies

ROOT = Path(tinygrad_nn.__file__).parent
TEST = """
import numpy as np

def test_right(gradcheck):
    assert gradcheck(np.sin, np.ones(5), rule=lambda x: (np.sin(x), lambda g: (g * np.cos(x),))).ok

def test_wrong(gradcheck):
    gradcheck(np.sin, np.arange(1.0, 6.0), rule=lambda x: (np.sin(x), lambda g: (-g * np.cos(x),)))
"""
LAZY = """
import sys

def test_nothing_is_loaded():
    assert "numpy" not in sys.modules and not any(name.split(".")[0] == "tinygrad_nn" for name in sys.modules)
"""


def run(folder: Path, *options: str, hypothesis: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"]
    # a module of its own beside the package, as it is installed; found before one that is installed
    shutil.copy(ROOT / "testing" / "plugin.py", folder / "tinygrad_nn_pytest.py")
    if not any(entry.name == "tinygrad_nn" for entry in entry_points(group="pytest11")):
        command += ["-p", "tinygrad_nn_pytest"]
    return subprocess.run(
        [*command, *options, *([] if hypothesis else ["-p", "no:hypothesispytest"]), "-p", "no:cacheprovider", "."],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_fixture_reports_in_a_section_of_its_own_with_frames_hidden(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    for mode in ("fast", "full"):
        done = run(tmp_path, f"--gradcheck={mode}")
        assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
        assert "- gradient check -" in done.stdout
        assert "factor: analytic = -1 x numeric" in done.stdout
        assert f'mode="{mode}"' in done.stdout
        assert "testing/check.py" not in done.stdout
        assert "checker.py" not in done.stdout


ANYWHERE = """
import numpy as np, pytest
from hypothesis import given, settings, strategies as st

@settings(max_examples=3, deadline=None, database=None)
@given(st.integers(0, 9))
def test_hypothesis(gradcheck, seed):
    gradcheck(np.sin, np.random.default_rng(seed).standard_normal(5))

@pytest.fixture(scope="module")
def checked(gradcheck):
    return gradcheck(np.sin, np.ones(5))

def test_fixture_of_a_module(checked):
    assert checked.ok

def test_refused(gradcheck):
    gradcheck(np.sin, np.arange(3))

@pytest.mark.parametrize("n", [1, 2])
def test_seeds(gradcheck, n):
    print("seed", gradcheck(np.sin, np.ones(5)).seed)
"""


def test_the_fixture_serves_hypothesis_and_wide_fixtures_and_hides_frames(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(ANYWHERE)
    done = run(tmp_path, "-s", hypothesis=True)
    assert "1 failed, 4 passed" in done.stdout, done.stdout + done.stderr
    assert "no input to check: give floating-point arrays (x0 is int64)" in done.stdout
    assert "problem.py" not in done.stdout
    assert "problem.py" in run(tmp_path, "--full-trace").stdout
    seeds = [line.split()[-1] for line in done.stdout.splitlines() if "seed" in line and line.split()[-1].isdigit()]
    assert len(set(seeds)) == 2


def test_the_section_is_coloured_as_pytest_is(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    assert "\x1b[31mWRONG\x1b[0m" in run(tmp_path, "--color=yes").stdout
    assert "\x1b[" not in run(tmp_path, "--color=no").stdout


RULES = """
import numpy as np

def square(x, c):
    def pullback(g):
        return 2 * g * x * c, (g * x**2).sum(axis=0)

    return x**2 * c, pullback

def test_one_gradient_only(gradcheck):
    gradcheck(lambda x, c: x**2 * c, np.ones((4, 3)), np.ones(3), rule=square, wrt=0)

def test_another_way_to_look():
    assert square(np.array([[3.0]]), np.ones(1))[1](np.ones((1, 1)))[0] == 6

def test_local_rule(gradcheck):
    def rule(x):
        def pullback(g):
            return (g * np.cos(x) * 1,)

        return np.sin(x), pullback

    gradcheck(np.sin, np.arange(1.0, 6.0), rule=rule)

def test_wrong_as_it_is(gradcheck):
    gradcheck(np.sin, np.ones(3), rule=lambda x: (np.sin(x), lambda g: (g,)))
"""


def test_mutants_that_the_tests_do_not_notice_are_listed(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(RULES)
    done = run(tmp_path, "--gradcheck-mutants")
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    lines = done.stdout.partition("gradient check mutants")[2].splitlines()
    square = next(k for k, line in enumerate(lines) if line.startswith("square ("))
    local = next(k for k, line in enumerate(lines) if line.startswith("test_local_rule.<locals>.rule ("))
    survivors = lines[square + 1 : local]
    assert " 0 noticed" not in lines[square]
    assert survivors, done.stdout
    assert sum("2 * g * x * c, " in s.partition("->")[2] for s in survivors) > 5  # the gradient of c is not looked at
    assert ", 0 not noticed, 1 no mistake" in lines[local], done.stdout  # * 1 left out
    assert "its tests fail as they are" in done.stdout


def test_mutants_need_one_process(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(RULES)
    done = run(tmp_path, "--gradcheck-mutants", "-n", "2")
    assert done.returncode == 4
    assert "leave out -n" in done.stderr


def test_plugin_loads_neither_numpy_nor_the_package(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(LAZY)
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@given(data=st.data())
def test_strategies_keep_their_promises(data) -> None:
    shape = data.draw(strategies.prime_shapes())
    assert len(set(shape)) == len(shape)
    big, small = data.draw(strategies.broadcastable())
    assert np.broadcast_shapes(big, small) == big
    apart = data.draw(strategies.away_from_kinks(shape))
    assert np.min(np.abs(apart)) >= 0.1
    assert np.min(np.diff(np.sort(apart.ravel())), initial=1) >= 0.1
    kinks = data.draw(strategies.on_kinks(shape))
    assert np.array_equal(kinks, np.round(kinks))
    np.testing.assert_allclose(data.draw(strategies.simplex(shape)).sum(axis=-1), 1)
    matrix = data.draw(strategies.positive_definite())
    assert np.min(np.linalg.eigvalsh(matrix)) > 0.49
    assert data.draw(strategies.upstream(shape)).shape == shape
    assert set(data.draw(strategies.hard_points(shape)).ravel()) <= set(strategies.HARD_POINTS)
    axis = data.draw(strategies.axes(len(shape)))
    assert np.sum(np.ones(shape), axis=axis).size >= 1
    assert data.draw(strategies.dtypes()).kind == "f"


@given(shapes=strategies.broadcastable(), data=st.data())
def test_strategies_feed_the_checker(shapes, data) -> None:
    check_gradients(np.multiply, *[data.draw(strategies.arrays(s)) for s in shapes], mode="fast")
