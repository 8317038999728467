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


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"]
    if not any(entry.name == "tinygrad_nn" for entry in entry_points(group="pytest11")):
        # not installed: a module of its own beside the package, as it would be
        shutil.copy(ROOT / "testing" / "plugin.py", folder / "tinygrad_nn_pytest.py")
        command += ["-p", "tinygrad_nn_pytest"]
    return subprocess.run(
        [*command, *options, "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "."],
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
