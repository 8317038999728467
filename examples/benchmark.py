"""How long one training step takes: tinygrad_nn beside notebook code, hand-written NumPy and other libraries.

Tanh layers with bias and the mean squared error; a step is forward, backward and update.  All contestants
run in one process, in interleaved rounds of 20 milliseconds each, and the medians are printed, in
microseconds: once with one thread and once with two, each in a process of its own, since some libraries read
the number of threads only when they are loaded.  For one thread the process is held on one core, where the
system can do that: JAX uses the others too, whatever it is told.  Then come the notebooks' whole runs, one
sample at a time, counts of what the engine does for one operation, and the peak memory of a large batch.
What is not installed is left out; NumPy alone is enough.

"by hand" is the best NumPy that we could write with the very formulas of the derivative table: matrix
products, sums and functions into arrays that were allocated once, by names that were looked up once.
"by hand, dW kept" leaves the gradients there to be read after the update, as the others do: "by hand"
overwrites them with lr dW, which takes no other array.  "by hand, 1 - y*y" takes the derivative of tanh
from its result, as textbooks do, which rounds to 0 in the tails.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import _counts
import _memory
import numpy as np
from _common import Parser
from _contestants import CONTESTANTS, Step, Workload

import tinygrad_nn as tn

MNIST = (784, 100, 50, 10)
WORKLOADS = [
    Workload("XOR 2-3-1, batch 1, f64", (2, 3, 1), 1, np.float64),
    Workload("XOR 2-3-1, batch 4, f64", (2, 3, 1), 4, np.float64),
    Workload("784-100-50-10, batch 1, f64", MNIST, 1, np.float64),
    Workload("784-100-50-10, batch 32, f32", MNIST, 32, np.float32),
    Workload("784-100-50-10, batch 128, f32", MNIST, 128, np.float32),
    Workload("784-1024-1024-10, batch 256, f32", (784, 1024, 1024, 10), 256, np.float32),
]

OURS = ("notebook", "by hand", "by hand, dW kept", "by hand, 1 - y*y", "eager", "compiled", "matrix products")
NO_ADAM = ("by hand, dW kept", "by hand, 1 - y*y", "HIPS autograd", "MyGrad", "micrograd", "matrix products")

LIMITS = [  # contestant, divisor, workloads (by a part of the name), required
    ("compiled", "by hand", ("",), (1.05,)),
    ("compiled", "by hand, dW kept", ("",), (None,)),
    ("compiled", "JAX jit", ("XOR 2-3-1, batch 4", "batch 32"), (1.25, 0.35)),
    ("compiled", "PyTorch", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.2, 0.6, 0.8)),
    ("eager", "PyTorch", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.5, 0.8, 0.95)),
    ("eager", "MyGrad", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.45, 0.7, 0.8)),
    ("eager", "HIPS autograd", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.25, 0.4, 0.55)),
    ("compiled", "matrix products", ("1024",), (1.2,)),
]


def measure(work: Workload, names: list[str], seconds: float) -> dict[str, float]:
    """Time the contestants in interleaved rounds; the median of each, in microseconds."""
    steps: dict[str, Step] = {}
    for name in names:
        if work.adam and name in NO_ADAM:
            continue
        try:
            step = CONTESTANTS[name](work)
            for _ in range(3):
                step()
            steps[name] = step
        except ImportError:
            continue
        except Exception as error:  # noqa: BLE001 - another library's failure leaves it out
            print(f"  {name}: {type(error).__name__}: {str(error)[:90]}", file=sys.stderr)
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    counts = {name: max(1, int(0.02 / max(_time(step, 3), 1e-7))) for name, step in steps.items()}
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(rounds["compiled"]) < 5:
        for name, step in steps.items():
            step()  # after the others, the caches are cold
            rounds[name].append(_time(step, counts[name]))
    return {name: median(times) * 1e6 for name, times in rounds.items()}


def _time(step: Step, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begin) / count


def run(*, quick: bool) -> dict[str, dict[str, float]]:
    """Measure every workload with the threads that this process has."""
    names = [name for name in CONTESTANTS if not quick or name in OURS]
    works = WORKLOADS[:4] if quick else WORKLOADS + [w._replace(name=w.name + ", Adam", adam=True) for w in WORKLOADS]
    return {work.name: measure(work, names, 0.4 if quick else 6.0) for work in works}


def show(results: dict[str, dict[str, float]], threads: int) -> None:
    """Print the table, and the ratios beside what is required of them."""
    names = [name for name in CONTESTANTS if any(name in row for row in results.values())]
    print(f"\nMicroseconds for one training step, {threads} thread{'s' * (threads > 1)}\n")
    print(" " * 40 + "".join(f"{part:>14}" for part in (name.split()[0] for name in names)))
    print(" " * 40 + "".join(f"{part:>14}" for part in (" ".join(name.split()[1:]) for name in names)))
    for work, row in results.items():
        cells = (f"{row[name]:14.1f}" if name in row else " " * 13 + "-" for name in names)
        print(f"{work:40}" + "".join(cells))
    if threads > 1:
        return
    print("\nRatios" + " " * 62 + "measured  required")
    for name, divisor, parts, limits in LIMITS:
        for work, row in results.items():
            part = next((k for k, p in enumerate(parts) if p in work), None)
            if part is not None and "Adam" not in work and name in row and divisor in row:
                ratio, limit = row[name] / row[divisor], limits[min(part, len(limits) - 1)]
                title = f"{name} / {divisor}: {work}"
                required = "" if limit is None else f"<= {limit:.2f}{'' if ratio <= limit else '  missed'}"
                print(f"  {title:66}{ratio:8.2f}  {required}".rstrip())


def plot(results: dict[str, dict[str, float]], folder: Path) -> None:
    """Draw how many times as long as the best hand-written NumPy each contestant takes."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    plt = importlib.import_module("matplotlib.pyplot")
    works = [work for work in results if "Adam" not in work]
    names = [n for n in CONTESTANTS if any(n in results[work] for work in works) and n not in ("by hand", "micrograd")]
    figure, axes = plt.subplots(figsize=(12, 6), layout="constrained")
    colors = plt.get_cmap("tab20").colors
    for k, name in enumerate(names):
        places = np.arange(len(works)) + 0.85 * (k + 0.5) / len(names)
        heights = [results[work].get(name, np.nan) / results[work]["by hand"] for work in works]
        bars = axes.bar(places, heights, 0.85 / len(names), label=name, color=colors[k % 20])
        if name in ("eager", "compiled"):
            axes.bar_label(bars, [f"{h:.2g}" for h in heights], fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8, zorder=0)
    axes.set(yscale="log", ylabel="times the best hand-written NumPy", title="One training step with SGD, one thread")
    axes.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20], minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(np.arange(len(works)) + 0.425, [work.replace(", ", "\n", 1) for work in works])
    axes.legend(ncols=2)
    path = folder / "benchmark.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"\nthe plot is in {path}")


def samples(work: Workload) -> list[tuple[Any, Any]]:
    """The notebooks' own samples: the four of XOR, or 1,000 digits."""
    if work.sizes[0] == 2:
        inputs = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        targets = np.array([[0.0], [1], [1], [0]])
    else:
        digits = tn.data.load_mnist_subset()
        inputs = tn.data.normalize(digits.train_images.reshape(1000, -1))
        targets = tn.data.one_hot(digits.train_labels)
    return [(inputs[k : k + 1], targets[k : k + 1]) for k in range(len(inputs))]


def whole_runs() -> None:
    """Time the notebooks' trainings, one sample at a time: the epochs of all contestants in turn."""
    print("\nSeconds for the notebooks' whole runs, one sample at a time, one thread")
    for work, epochs in ((WORKLOADS[0], 1000), (WORKLOADS[2], 35)):
        steps = {name: CONTESTANTS[name](work) for name in ("notebook", "by hand", "eager", "compiled")}
        seconds = dict.fromkeys(steps, 0.0)
        data = samples(work)
        for _ in range(epochs):
            for name, step in steps.items():
                begin = time.perf_counter()
                for x, y in data:
                    step(x, y)
                seconds[name] += time.perf_counter() - begin
        cells = "   ".join(f"{name} {taken:.2f}" for name, taken in seconds.items())
        ratio = seconds["compiled"] / seconds["notebook"]
        limit = "  <= 1.00" + "  missed" * (ratio > 1) if epochs == 35 else ""
        print(f"  {work.name}, {epochs * len(data)} steps: {cells}   compiled / notebook {ratio:.2f}{limit}")


def main() -> None:
    """Start a process for each number of threads, and print what they measured."""
    parser = Parser(__doc__)
    parser.add_plots()
    parser.add_argument("--child", choices=("steps", "runs"), help="measure that in this process")
    options = parser.parse_args()
    if options.child and os.environ.get("OMP_NUM_THREADS") == "1" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.child == "runs":
        whole_runs()
        return
    if options.child:
        print(json.dumps(run(quick=options.quick)))
        return
    for threads in (1, 2):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(threads))}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        command = [sys.executable, __file__, "--child"]
        steps = [*command, "steps", *(["--quick"] if options.quick else [])]
        done = subprocess.run(steps, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
        results = json.loads(done.stdout.splitlines()[-1])
        show(results, threads)
        sys.stdout.flush()
        if threads == 1 and options.plots:
            plot(results, options.plots)
        if threads == 1 and not options.quick:
            subprocess.run([*command, "runs"], env=environment, check=True)  # noqa: S603
    _counts.measure()
    if not options.quick:
        _memory.measure()


if __name__ == "__main__":
    main()
