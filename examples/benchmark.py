"""How long one training step takes: tinygrad_nn beside notebook code, hand-written NumPy and other libraries.

Tanh layers with bias and the mean squared error; a step is forward, backward and update.  All contestants
run in one process, in interleaved rounds, and the medians are printed, in microseconds: once with one
thread and once with two, each in a process of its own, since some libraries read the number of threads only
when they are loaded.  What is not installed is left out; NumPy alone is enough.

"by hand" is the best NumPy that we could write with the very formulas of the derivative table: matrix
products, sums and functions into arrays that were allocated once.  "by hand, 1 - y*y" takes the derivative of
tanh from its result, as textbooks do, which rounds to 0 in the tails.
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

import numpy as np
from _common import Parser
from _contestants import CONTESTANTS, Step, Workload

MNIST = (784, 100, 50, 10)
WORKLOADS = [
    Workload("XOR 2-3-1, batch 1, f64", (2, 3, 1), 1, np.float64),
    Workload("XOR 2-3-1, batch 4, f64", (2, 3, 1), 4, np.float64),
    Workload("784-100-50-10, batch 1, f64", MNIST, 1, np.float64),
    Workload("784-100-50-10, batch 32, f32", MNIST, 32, np.float32),
    Workload("784-100-50-10, batch 128, f32", MNIST, 128, np.float32),
    Workload("784-1024-1024-10, batch 256, f32", (784, 1024, 1024, 10), 256, np.float32),
]

OURS = ("notebook", "by hand", "by hand, 1 - y*y", "eager", "compiled", "matrix products")
NO_ADAM = ("by hand, 1 - y*y", "HIPS autograd", "MyGrad", "micrograd", "matrix products")

LIMITS = [  # contestant, divisor, workloads (by a part of the name), required
    ("compiled", "by hand", ("",), (1.05,)),
    ("compiled", "JAX jit", ("XOR 2-3-1, batch 4", "batch 32"), (1.25, 0.35)),
    ("compiled", "PyTorch", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.2, 0.6, 0.8)),
    ("eager", "PyTorch", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.5, 0.8, 0.95)),
    ("eager", "MyGrad", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.45, 0.7, 0.8)),
    ("eager", "HIPS autograd", ("XOR 2-3-1, batch 4", "batch 32", "batch 128"), (0.25, 0.4, 0.55)),
    ("compiled", "matrix products", ("1024",), (1.2,)),
    ("compiled", "notebook", ("784-100-50-10, batch 1,",), (1.0,)),
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
    counts = {name: max(1, int(0.02 / max(_time(step, 5), 1e-7))) for name, step in steps.items()}
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(rounds["compiled"]) < 5:
        for name, step in steps.items():
            step()  # caches warm up
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
    return {work.name: measure(work, names, 0.4 if quick else 8.0) for work in works}


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
                print(f"  {title:66}{ratio:8.2f}  <= {limit:.2f}{'' if ratio <= limit else '  missed'}")


def plot(results: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the table as bars on a logarithmic scale."""
    plt = importlib.import_module("matplotlib.pyplot")
    names = [name for name in CONTESTANTS if any(name in row for row in results.values())]
    figure, axes = plt.subplots(figsize=(11, 6))
    for k, name in enumerate(names):
        places = np.arange(len(results)) + 0.8 * k / len(names)
        axes.bar(places, [row.get(name, np.nan) for row in results.values()], 0.8 / len(names), label=name)
    axes.set(yscale="log", ylabel="microseconds for one training step")
    axes.set_xticks(np.arange(len(results)) + 0.4, list(results), rotation=20, ha="right")
    axes.legend(ncols=2)
    figure.tight_layout()
    figure.savefig(path)
    print(f"\nthe plot is in {path}")


def whole_runs() -> None:
    """Time as many steps as the notebooks take, one sample at a time."""
    print("\nSeconds for the notebooks' whole runs, one sample at a time")
    for work, count in ((WORKLOADS[0], 4000), (WORKLOADS[2], 35000)):
        steps = {name: CONTESTANTS[name](work) for name in ("notebook", "by hand", "eager", "compiled")}
        seconds = dict.fromkeys(steps, 0.0)
        for _ in range(10):
            for name, step in steps.items():
                seconds[name] += _time(step, count // 10) * (count // 10)
        cells = "   ".join(f"{name} {taken:.2f}" for name, taken in seconds.items())
        print(f"  {work.name}, {count} steps: {cells}   ratio {seconds['compiled'] / seconds['notebook']:.2f}")


def main() -> None:
    """Start a process for each number of threads, and print what they measured."""
    parser = Parser(__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the table with one thread into a picture")
    parser.add_argument("--runs", action="store_true", help="time the notebooks' whole runs too")
    parser.add_argument("--child", action="store_true", help="measure in this process, and print JSON")
    options = parser.parse_args()
    if options.child:
        if options.runs:
            whole_runs()
        else:
            print(json.dumps(run(quick=options.quick)))
        return
    for threads in (1, 2):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(threads))}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        command = [sys.executable, __file__, "--child", *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
        results = json.loads(done.stdout.splitlines()[-1])
        show(results, threads)
        if threads == 1 and options.plot:
            plot(results, options.plot)
        if threads == 1 and options.runs:
            subprocess.run([sys.executable, __file__, "--child", "--runs"], env=environment, check=True)  # noqa: S603


if __name__ == "__main__":
    main()
