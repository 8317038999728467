"""How long one training step takes on a GPU: tinygrad_nn on arrays of CuPy beside PyTorch, on the same card.

The workloads are those of benchmark.py that a GPU is asked for; a step is forward, backward and update (SGD), eager on
both sides, in float32.  Steps are queued on the card and counted when it has finished all of a round; rounds of both
are interleaved, and the median is printed, in microseconds.  PyTorch multiplies in full float32, as CuPy does (no
TF32).  Before the timing both losses are compared.

Needs an NVIDIA GPU, CuPy (pip install "tinygrad-nn[cupy]") and PyTorch.  No GPU was at hand when it was written: with
``--on cpu`` the same code runs on NumPy's arrays and PyTorch's processor, which tries it, and says nothing of a GPU.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from _common import Parser
from _contestants import LR, Workload, network

import tinygrad_nn as tn

WORKLOADS = [
    Workload("784-100-50-10, batch 32, f32", (784, 100, 50, 10), 32, np.float32),
    Workload("784-1024-1024-10, batch 256, f32", (784, 1024, 1024, 10), 256, np.float32),
]
Trial = tuple[Callable[[], Any], Callable[[], None]]  # a step that gives its loss, and what waits for the card


def on_cupy(work: Workload, on: str) -> Trial:
    """Make a step of tinygrad_nn, on the card or on NumPy's arrays."""
    cupy: Any = importlib.import_module("cupy" if on == "gpu" else "numpy")
    net, _, x, y = network(work)
    net.to(cupy.asarray)
    x, y = cupy.asarray(x), cupy.asarray(y)
    optimizer = tn.optim.SGD(net.parameters(), lr=LR)

    def step() -> Any:
        optimizer.zero_grad()
        loss = tn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, cupy.cuda.Device().synchronize if on == "gpu" else lambda: None


def on_torch(work: Workload, on: str) -> Trial:
    """Make the same step of PyTorch, with the same weights."""
    torch: Any = importlib.import_module("torch")
    device = "cuda" if on == "gpu" else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    parameters, x, y = work.arrays()
    layers: list[Any] = []
    for w, b in zip(parameters[::2], parameters[1::2], strict=True):
        linear = torch.nn.Linear(*w.shape)
        linear.load_state_dict({"weight": torch.from_numpy(w.T.copy()), "bias": torch.from_numpy(b)})
        layers += [linear, torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers).to(device)
    x, y = (torch.from_numpy(a).to(device) for a in (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def step() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, torch.cuda.synchronize if on == "gpu" else lambda: None


def measure(trials: dict[str, Trial], rounds: int, steps: int) -> dict[str, float]:
    """Time the trials in interleaved rounds; the median of each, in microseconds a step."""
    found: dict[str, list[float]] = {name: [] for name in trials}
    for number in range(rounds + 1):
        for name, (step, wait) in trials.items():
            wait()
            begin = time.perf_counter()
            for _ in range(steps):
                step()
            wait()
            if number:  # the first round compiles kernels, and makes room
                found[name].append((time.perf_counter() - begin) / steps * 1e6)
    return {name: median(times) for name, times in found.items()}


def missing() -> str:
    """Say what there is not for a measurement on a GPU, if anything."""
    try:
        cupy: Any = importlib.import_module("cupy")
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        return f"{error.name} is not installed"
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no device: {error}"
    return "" if devices and torch.cuda.is_available() else "CuPy or PyTorch finds no device"


def main() -> None:
    """Measure both, and print the ratio."""
    parser = Parser(__doc__)
    parser.add_argument("--on", choices=("gpu", "cpu"), default="gpu", help="cpu tries the code without a GPU")
    options = parser.parse_args()
    if options.on == "gpu" and (lacking := missing()):
        print(f"Nothing was measured: {lacking}. This needs an NVIDIA GPU, CuPy and PyTorch; --on cpu tries the code.")
        return
    if options.on == "gpu":
        properties = importlib.import_module("cupy").cuda.runtime.getDeviceProperties(0)
        print(f"on one {properties['name'].decode()}")
    else:
        print("on the processor, which says nothing of a GPU")
    rounds, steps = (2, 2) if options.quick else (15, 50)
    for work in WORKLOADS:
        trials = {"tinygrad_nn": on_cupy(work, options.on), "PyTorch": on_torch(work, options.on)}
        losses = [float(step().item()) for step, _ in trials.values()]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        times = measure(trials, rounds, steps)
        ours, theirs = times.values()
        print(f"  {work.name:34}tinygrad_nn {ours:9.0f} us   PyTorch {theirs:9.0f} us   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
