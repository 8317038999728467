"""A training that is killed at random moments, and started again each time, ends as an unbroken one, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import tinygrad_nn as tn

KILLS = 10 if settings().max_examples < 100 else 200

TRAINING = """
import sys
import numpy as np
import tinygrad_nn as tn

path, epochs = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
model = tn.nn.Sequential(
    tn.nn.Linear(6, 8, rng=rng), tn.nn.BatchNorm1d(8), tn.nn.Tanh(),
    tn.nn.Dropout(0.3, rng=rng), tn.nn.Linear(8, 2, rng=rng),
)
optimizer = tn.optim.Adam(model.parameters(), lr=0.01)
data = np.random.default_rng(1)
x = data.standard_normal((40, 6))
y = np.tanh(x[:, :2])
print("ready", flush=True)
tn.fit(
    model, x, y, loss=tn.functional.mse_loss, optimizer=optimizer, epochs=epochs, batch_size=7, rng=2, progress=False,
    callbacks=[tn.training.Checkpoint(path, every=3)],
)
print("done", flush=True)
"""


def start(path, epochs):
    environment = {**os.environ, "PYTHONPATH": str(Path(tn.__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(path), str(epochs)], stdout=subprocess.PIPE, env=environment, text=True
    )


def whole(path, epochs):
    """Run a training to its end; how long it took from when it was ready."""
    process = start(path, epochs)
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    rest, _ = process.communicate(timeout=120)
    assert rest == "done\n"
    assert process.returncode == 0
    return time.monotonic() - begin


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_and_started_again(tmp_path) -> None:
    epochs = 4 * KILLS
    expected, broken = tmp_path / "unbroken.npz", tmp_path / "broken.npz"
    seconds = whole(expected, epochs)
    moments = np.random.default_rng(0)
    kills = writes = 0
    before = b""
    while kills < KILLS:
        process = start(broken, epochs)
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 1.5 * seconds / KILLS))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=120)
        if rest == "done\n":  # it was faster than the signal
            break
        kills += 1
        if broken.exists():  # the old file or the new one, never half
            assert "training" in tn.load(broken)
            now = broken.read_bytes()
            writes += now != before
            before = now
    assert kills >= KILLS // 2
    assert writes > 1, "nothing was learned between the kills"
    whole(broken, epochs)
    one, other = tn.load(expected), tn.load(broken)
    assert one["model"].keys() == other["model"].keys()
    for name, array in one["model"].items():
        np.testing.assert_array_equal(array, other["model"][name], err_msg=name)
    np.testing.assert_equal(other["optimizer"], one["optimizer"])
    left = {p.name for p in tmp_path.iterdir()} - {expected.name, broken.name}
    assert all(name.startswith((".", "broken")) for name in left)
