"""Handwritten digits: the systems B2 to B5, and what today's recipe makes of the same images.

  raw, normalized, standardized   B2, B3, B4: 784-100-50-10 with tanh, U[-0.5, 0.5), the mean squared
                                  error, learning rate 0.1, a step for each image, 35 epochs
  softmax                         B5: the softmax of numbers too large for exp, and its gradient
  modern                          784-100-50-10 with relu, He weights, cross-entropy, Adam, batches of
                                  32 images in float32, 20 epochs

The first 1,000 training images and the 10,000 test images of MNIST come with the package.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import Parser, progress, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn

PREPARE = {"raw": np.asarray, "normalized": tn.data.normalize, "standardized": tn.data.standardize}
PARTS = (*PREPARE, "softmax", "modern")
NOTEBOOK = {  # the mean error of the first and the last epoch, and the accuracy, that it printed
    "raw": ("B2 raw", "", 0.28),
    "normalized": ("B3 normalized", "0.241 -> 0.0080", 0.79),
    "standardized": ("B4 standardized", "0.272 -> 0.0095", 0.72),
}


@dataclass
class Result:
    """What a training came to: the mean error of each epoch, the seconds, the accuracy on the test images."""

    errors: list[float]
    seconds: float
    accuracy: float

    def __str__(self) -> str:
        return f"{self.errors[0]:.3f} -> {self.errors[-1]:.4f}"


def flat(images: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Make one row of each image: (n, height, width) to (n, height * width)."""
    return images.reshape(len(images), -1).astype(dtype)


def test(network: nn.Sequential, images: np.ndarray, labels: np.ndarray) -> float:
    """Print the classification report, one column a digit, and return the accuracy."""
    with tn.no_grad():
        scores = network(tn.Tensor(images))
    report = tn.metrics.classification_report(labels, scores)
    print(f"  {'digit':10}" + "".join(f"{name:>6}" for name in report.names) + "   macro  weighted")
    for name in ("precision", "recall", "f1"):
        macro, weighted = getattr(report.macro_average, name), getattr(report.weighted_average, name)
        digits = "".join(f"{value:6.2f}" for value in getattr(report, name))
        print(f"  {name:10}{digits}{macro:8.2f}{weighted:10.2f}")
    print(f"  {'support':10}" + "".join(f"{n:6d}" for n in report.support) + f"{report.support.sum():18d}")
    return report.accuracy


def train(
    network: nn.Sequential, optimizer: tn.optim.Optimizer, loss: Any, loader: tn.data.batches, epochs: int, label: str
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


def run_notebook(name: str, mnist: tn.data.Mnist, epochs: int, seed: int) -> Result:
    """Train and test B2, B3 or B4: training and test pixels each prepared with their own figures."""
    prepare = PREPARE[name]
    print(f"\n{NOTEBOOK[name][0]} pixels: tanh, mean squared error, lr 0.1, image by image, {epochs} epochs", flush=True)
    images, test_images = prepare(flat(mnist.train_images)), prepare(flat(mnist.test_images))
    rng = np.random.default_rng(seed)
    draw: dict[str, Any] = {"weight_init": nn.init.uniform(-0.5, 0.5), "bias_init": nn.init.uniform(-0.5, 0.5)}
    network = nn.Sequential(
        nn.Linear(784, 100, **draw, rng=rng),
        nn.Tanh(),
        nn.Linear(100, 50, **draw, rng=rng),
        nn.Tanh(),
        nn.Linear(50, 10, **draw, rng=rng),
        nn.Tanh(),
    )
    optimizer = tn.optim.SGD(network.parameters(), lr=0.1)
    loader = tn.data.batches(images, tn.data.one_hot(mnist.train_labels, 10), batch_size=1)
    errors, seconds = train(network, optimizer, functional.mse_loss, loader, epochs, name)
    result = Result(errors, seconds, test(network, test_images, mnist.test_labels))
    print(f"  mean error {result}, accuracy {result.accuracy:.4f}, {seconds:.1f} s")
    return result


def run_modern(mnist: tn.data.Mnist, epochs: int, seed: int) -> Result:
    """Train and test the modern recipe: test pixels are prepared with the figures of the training pixels."""
    count = len(mnist.train_images)
    print(
        f"\nModern recipe: relu, cross-entropy, Adam, lr 0.001, {count} images in batches of 32, {epochs} epochs",
        flush=True,
    )
    images, test_images = flat(mnist.train_images, np.float32), flat(mnist.test_images, np.float32)
    prepare = tn.data.Normalizer(images)
    rng = np.random.default_rng(seed)
    draw: dict[str, Any] = {"weight_init": nn.init.he_uniform(), "bias_init": nn.init.constant(0), "dtype": np.float32}
    network = nn.Sequential(
        nn.Linear(images.shape[1], 100, **draw, rng=rng),
        nn.ReLU(),
        nn.Linear(100, 50, **draw, rng=rng),
        nn.ReLU(),
        nn.Linear(50, int(mnist.train_labels.max()) + 1, **draw, rng=rng),
    )
    optimizer = tn.optim.Adam(network.parameters(), lr=0.001)
    loader = tn.data.batches(prepare(images), mnist.train_labels, batch_size=32, rng=rng)
    errors, seconds = train(network, optimizer, functional.cross_entropy, loader, epochs, "modern")
    result = Result(errors, seconds, test(network, prepare(test_images), mnist.test_labels))
    print(f"  mean cross-entropy {result}, accuracy {result.accuracy:.4f}, {seconds:.1f} s")
    return result


def run_softmax(seed: int) -> None:
    """Compare the softmax, and its gradient, with the formulas written down directly."""
    v = np.array([1000.0, 1001.0, 1002.0])
    upstream = np.random.default_rng(seed).normal(size=3)
    with np.errstate(over="ignore", invalid="ignore"):  # what is shown here
        direct = np.exp(v) / np.exp(v).sum()
    x = tn.Tensor(v, requires_grad=True)
    p = functional.softmax(x)
    p.backward(upstream)
    formula = p.numpy() * (upstream - np.sum(upstream * p.numpy()))
    print("\nB5 softmax of (1000, 1001, 1002)")
    for name, values in (
        ("exp(v) / sum(exp(v))", direct),
        ("functional.softmax", p.numpy()),
        ("its gradient", x.grad),
        ("p (dp - sum(dp p))", formula),
    ):
        print(f"  {name:22}" + "".join(f"{value:10.5f}" for value in values))


def compare(results: dict[str, Result], *, quick: bool) -> None:
    """Print the results beside the notebook's."""
    remark = "   (a quick run: not comparable)" if quick else ""
    print(f"\nBeside the notebook{remark}")
    print("                   ------ notebook ------   ---------- here ----------")
    print("                   mean error    accuracy   mean error    accuracy  seconds")
    for name, result in results.items():
        title, error, accuracy = NOTEBOOK.get(name, ("modern recipe", "", None))
        theirs = f"{error or '-':>15}{'-' if accuracy is None else f'{accuracy:.2f}':>8}"
        ours = f"{result!s:>18}{result.accuracy:9.4f}{result.seconds:9.1f}"
        print(f"  {title:15} {theirs} {ours}")
    slow = [result.seconds for name, result in results.items() if name in NOTEBOOK]
    if slow and "modern" in results:
        times = np.mean(slow) / results["modern"].seconds
        print(f"  The modern recipe (its error is the cross-entropy) took a {times:.0f}th of the others' time.")


def main() -> None:
    """Run the systems and compare them with the notebook."""
    parser = Parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="epochs of every training")
    parser.add_argument(
        "--data", metavar="DIR", help="train the modern recipe on all images of the four IDX files there (10 epochs)"
    )
    options = parser.parse_args()
    if options.data is not None and options.only not in (None, ["modern"]):
        parser.error("--data is for the modern recipe only: leave out --only, or write --only modern")
    parts = options.only or (["modern"] if options.data else PARTS)
    try:
        mnist = tn.data.load_mnist(options.data) if options.data is not None else tn.data.load_mnist_subset()
    except (OSError, tn.errors.FileFormatError) as error:
        parser.error(str(error))
    if options.quick:
        mnist = tn.data.Mnist(*(part[:n] for part, n in zip(mnist, (200, 200, 1000, 1000), strict=True)))
    print(f"MNIST: {len(mnist.train_images)} training images, {len(mnist.test_images)} test images, seed {options.seed}")

    def epochs(usual: int) -> int:
        return options.epochs or (2 if options.quick else usual)

    results = {}
    for name in PARTS:
        if name not in parts:
            continue
        if name in NOTEBOOK:
            results[name] = run_notebook(name, mnist, epochs(35), options.seed)
        elif name == "softmax":
            run_softmax(options.seed)
        else:
            results[name] = run_modern(mnist, epochs(10 if options.data else 20), options.seed)
    if results:
        compare(results, quick=options.quick)


if __name__ == "__main__":
    main()
