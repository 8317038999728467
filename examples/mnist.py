"""Handwritten digits: the systems B2 to B5, and what today's recipe makes of the same images.

  raw, normalized, standardized   B2, B3, B4: 784-100-50-10 with tanh, U[-0.5, 0.5), the mean squared
                                  error, learning rate 0.1, a step for each image, 35 epochs
  softmax                         B5: the softmax of numbers too large for exp, and its gradient
  modern                          784-100-50-10 with relu, He weights, cross-entropy, Adam, batches of
                                  32 images in float32, 20 epochs

The first 1,000 training images and the 10,000 test images of MNIST come with the package.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# NumPy reads this when it is imported.  Products as small as these gain nothing from several threads, and
# beside another busy program they lose a lot: the modern recipe then took 20 times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from _common import Parser, progress, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn

PREPARE: dict[str, Callable[..., np.ndarray]] = {
    "raw": np.asarray,
    "normalized": tn.data.normalize,
    "standardized": tn.data.standardize,
}
PARTS = (*PREPARE, "softmax", "modern")
NOTEBOOK = {  # what it printed: the mean error of the first and the last epoch, and the accuracy
    "raw": ("B2 raw", "-", "0.28"),
    "normalized": ("B3 normalized", "0.241 -> 0.0080", "0.79"),
    "standardized": ("B4 standardized", "0.272 -> 0.0095", "0.72"),
    "modern": ("modern recipe", "-", "-"),
}


@dataclass
class Result:
    """What one training came to: the mean error of each epoch, the seconds, the report on the test images."""

    errors: list[float]
    seconds: float
    report: tn.metrics.ClassificationReport


def flat(images: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Make one row of each image: (n, height, width) to (n, height * width)."""
    return images.reshape(len(images), -1).astype(dtype)


def train(
    network: nn.Sequential,
    optimizer: tn.optim.Optimizer,
    loss: Callable[..., Any],
    loader: tn.data.batches,
    epochs: int,
    label: str,
) -> tuple[list[float], float]:
    """Train; return the mean error of each epoch, taken before each step, and the seconds."""
    errors = []
    begin = time.perf_counter()
    for _ in progress(range(epochs), label):
        total = 0.0
        for x, target in loader:
            error = loss(network(x), target)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            total += error.item()
        errors.append(total / len(loader))
    return errors, time.perf_counter() - begin


def evaluate(network: nn.Sequential, images: np.ndarray, labels: np.ndarray) -> tn.metrics.ClassificationReport:
    """Classify images and compare with their labels."""
    with tn.no_grad():
        return tn.metrics.classification_report(labels, network(images))


# B2, B3, B4: gradient descent, image by image


def run_notebook(name: str, mnist: tn.data.Mnist, epochs: int, seeds: range) -> list[Result]:
    """Train and test B2, B3 or B4: training and test pixels each prepared with their own figures."""
    print(f"\n{NOTEBOOK[name][0]} pixels: tanh, mean squared error, lr 0.1, image by image, {epochs} epochs")
    if name == "raw":
        print("  Raw pixels saturate tanh: rounding alone then moves the accuracy by 0.1, so look at the range.")
    prepare = PREPARE[name]
    images, test_images = prepare(flat(mnist.train_images)), prepare(flat(mnist.test_images))
    loader = tn.data.batches(images, tn.data.one_hot(mnist.train_labels, 10), batch_size=1)
    draw = nn.init.uniform(-0.5, 0.5)

    def one(seed: int) -> Result:
        rng = np.random.default_rng(seed)
        network = nn.Sequential(
            nn.Linear(784, 100, weight_init=draw, bias_init=draw, rng=rng),
            nn.Tanh(),
            nn.Linear(100, 50, weight_init=draw, bias_init=draw, rng=rng),
            nn.Tanh(),
            nn.Linear(50, 10, weight_init=draw, bias_init=draw, rng=rng),
            nn.Tanh(),
        )
        optimizer = tn.optim.SGD(network.parameters(), lr=0.1)
        errors, seconds = train(network, optimizer, functional.mse_loss, loader, epochs, f"{name}, seed {seed}")
        return Result(errors, seconds, evaluate(network, test_images, mnist.test_labels))

    return show(one, seeds)


# B5


def run_softmax(seed: int) -> None:
    """Compare the softmax, and its gradient, with the formulas written down directly."""
    v = np.array([1000.0, 1001.0, 1002.0])
    upstream = np.random.default_rng(seed).normal(size=3)
    with np.errstate(over="ignore", invalid="ignore"):  # it overflows, which is what is shown here
        direct = np.exp(v) / np.exp(v).sum()
    x = tn.Tensor(v, requires_grad=True)
    y = functional.softmax(x)
    y.backward(upstream)
    p = y.numpy()
    print("\nB5 softmax of (1000, 1001, 1002), and its gradient for a random dp")
    for name, values in (
        ("exp(v) / sum(exp(v))", direct),
        ("functional.softmax(v)", p),
        ("its backward", x.grad),
        ("p (dp - sum(dp p))", p * (upstream - np.sum(upstream * p))),
    ):
        print(f"  {name:22}" + "".join(f"{value:10.5f}" for value in values))


# Today's recipe


def run_modern(mnist: tn.data.Mnist, epochs: int, seeds: range) -> list[Result]:
    """Train and test the modern recipe: the training pixels' figures prepare the test pixels too."""
    count = len(mnist.train_images)
    print(f"\nModern recipe: relu, cross-entropy, Adam, lr 0.001, {count} images by 32, {epochs} epochs")
    scale = tn.data.Normalizer(mnist.train_images)
    images, test_images = (scale(flat(part, np.float32)) for part in (mnist.train_images, mnist.test_images))
    classes = int(mnist.train_labels.max()) + 1
    options: dict[str, Any] = {
        "weight_init": nn.init.he_uniform(),
        "bias_init": nn.init.constant(0),
        "dtype": np.float32,
    }

    def one(seed: int) -> Result:
        rng = np.random.default_rng(seed)
        network = nn.Sequential(
            nn.Linear(images.shape[1], 100, **options, rng=rng),
            nn.ReLU(),
            nn.Linear(100, 50, **options, rng=rng),
            nn.ReLU(),
            nn.Linear(50, classes, **options, rng=rng),
        )
        optimizer = tn.optim.Adam(network.parameters(), lr=0.001)
        loader = tn.data.batches(images, mnist.train_labels, batch_size=32, rng=rng)
        errors, seconds = train(network, optimizer, functional.cross_entropy, loader, epochs, f"modern, seed {seed}")
        return Result(errors, seconds, evaluate(network, test_images, mnist.test_labels))

    return show(one, seeds)


# What is printed


def show(one: Callable[[int], Result], seeds: range) -> list[Result]:
    """Run ``one`` for each seed and print a line each, and the classification report of the first."""
    results = []
    for seed in seeds:
        result = one(seed)
        results.append(result)
        print(
            f"  seed {seed:<4}  mean error {result.errors[0]:.3f} -> {result.errors[-1]:.4f}   "
            f"accuracy {result.report.accuracy:.4f}   {result.seconds:.2f} s",
            flush=True,
        )
    report = results[0].report
    name = f"seed {seeds[0]}"
    print(f"  {name:9}" + "".join(f"{digit:>6}" for digit in report.names) + "   macro  weighted")
    for name in ("precision", "recall", "f1"):
        cells = "".join(f"{value:6.2f}" for value in getattr(report, name))
        macro, weighted = getattr(report.macro_average, name), getattr(report.weighted_average, name)
        print(f"  {name:9}{cells}{macro:8.2f}{weighted:10.2f}")
    print(f"  {'support':9}" + "".join(f"{n:6d}" for n in report.support) + f"{report.support.sum():18d}")
    return results


def compare(results: dict[str, list[Result]], *, quick: bool) -> None:
    """Print the median results, and the lowest and highest accuracy, beside the notebook's."""
    count = max(len(runs) for runs in results.values())
    remark = f" (medians of {count} runs)" if count > 1 else ""
    print(f"\nBeside the notebook{remark}{'; a quick run, not comparable' if quick else ''}")
    print("                   ------ notebook ------   ---------------- here -----------------")
    print("                        mean error    acc.       mean error    acc.  low..high  seconds")
    seconds = {}
    for name, runs in results.items():
        title, *theirs = NOTEBOOK[name]
        first, last, seconds[name] = np.median([(r.errors[0], r.errors[-1], r.seconds) for r in runs], axis=0)
        here = [r.report.accuracy for r in runs]
        ours = f"{first:.3f} -> {last:.4f}{np.median(here):8.2f}{min(here):7.2f}..{max(here):.2f}"
        print(f"  {title:15}{theirs[0]:>17}{theirs[1]:>8}  {ours}{seconds[name]:9.2f}")
    slow = [seconds[name] for name in seconds if name != "modern"]
    if slow and "modern" in seconds:
        ratio = np.mean(slow) / seconds["modern"]
        print(f"  The modern recipe (its error is the cross-entropy) takes 1/{ratio:.0f} of the others' time.")


def main() -> None:
    """Run the systems and compare them with the notebook."""
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=whole(1), metavar="N", help="runs, from --seed on (default: 3; 1 with --data)")
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="epochs of every training")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--data", metavar="DIR", help="modern recipe, 10 epochs over all images of the IDX files in DIR"
    )
    options = parser.parse_args()
    if options.data is not None and options.only not in (None, ["modern"]):
        parser.error("argument --data: for the modern recipe only, so leave out --only")
    try:
        mnist = tn.data.load_mnist_subset() if options.data is None else tn.data.load_mnist(options.data)
    except (OSError, tn.errors.FileFormatError) as error:
        parser.error(f"argument --data: {error}")
    if options.quick:
        mnist = tn.data.Mnist(*(part[:n] for part, n in zip(mnist, (200, 200, 1000, 1000), strict=True)))
    few = options.quick or options.data is not None
    seeds = range(options.seed, options.seed + (options.seeds or (1 if few else 3)))
    print(f"MNIST: {len(mnist.train_images)} training images, {len(mnist.test_images)} test images", flush=True)

    def epochs(usual: int) -> int:
        return options.epochs or (2 if options.quick else usual)

    results = {}
    for name in options.only or (PARTS if options.data is None else ["modern"]):
        if name == "softmax":
            run_softmax(options.seed)
        elif name == "modern":
            results[name] = run_modern(mnist, epochs(20 if options.data is None else 10), seeds)
        else:
            results[name] = run_notebook(name, mnist, epochs(35), seeds)
    if results:
        compare(results, quick=options.quick)


if __name__ == "__main__":
    main()
