"""Peak memory of one forward and backward, each contestant in a process of its own.

The figure is how far the process's peak resident memory rises, over a step on one sample that loads
everything that is loaded late, during the first step on the whole batch: what the graph holds, what the walk
works out, and the gradients.  Interpreter, library, network and batch are in memory before.  PyTorch's figure
differs from process to process, so it is the smallest of five.
"""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_nn as tn

REPEATS = 5
SIZES, BATCH = (784, 1024, 1024, 10), 4096
LIMITS = {"ReLU": 1.25, "Tanh": 1.5}


def ours(activation: str) -> Callable[[Any, Any], None]:
    """Build the step of tinygrad_nn, eager."""
    layers: list[Any] = []
    for n, m in itertools.pairwise(SIZES):
        layers += [tn.nn.Linear(n, m, dtype=np.float32), getattr(tn.nn, activation)()]
    net = tn.nn.Sequential(*layers)

    def step(x: Any, y: Any) -> None:
        net.zero_grad()
        tn.functional.mse_loss(net(x), y).backward()

    return step


def torchs(activation: str) -> Callable[[Any, Any], None]:
    """Build the step of PyTorch."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    layers: list[Any] = []
    for n, m in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(n, m), getattr(torch.nn, activation)()]
    net = torch.nn.Sequential(*layers)

    def step(x: Any, y: Any) -> None:
        net.zero_grad()
        torch.nn.functional.mse_loss(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()

    return step


CONTESTANTS = {"eager": ours, "PyTorch": torchs}


def peak() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    resource = importlib.import_module("resource")  # not on Windows
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def main(name: str, activation: str) -> None:
    """Measure in this process, and print MiB."""
    rng = np.random.default_rng(0)
    x, y = (rng.random((BATCH, n), dtype=np.float32) for n in (SIZES[0], SIZES[-1]))
    step = CONTESTANTS[name](activation)
    step(x[:1], y[:1])
    before = peak()
    step(x, y)
    print(peak() - before)


def measure() -> None:
    """Print the peak of each contestant, and the ratio beside what is required."""
    print(f"\nMiB for forward and backward of {'-'.join(map(str, SIZES))}, batch {BATCH}, f32 (rise of the peak)")
    for activation, limit in LIMITS.items():
        found = {}
        for name in CONTESTANTS:
            command = [sys.executable, __file__, name, activation]
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
            runs = [
                subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
                for _ in range(REPEATS)
            ]
            if all(done.returncode == 0 for done in runs):
                found[name] = min(float(done.stdout) for done in runs)
        cells = "   ".join(f"{name} {mib:.0f}" for name, mib in found.items())
        ratio = found["eager"] / found["PyTorch"] if len(found) == 2 else None
        verdict = "" if ratio is None else f"   ratio {ratio:.2f}  <= {limit}{'' if ratio <= limit else '  missed'}"
        print(f"  {activation}: {cells or 'not to be had on this system'}{verdict}")


if __name__ == "__main__":
    main(*sys.argv[1:])
