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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# NumPy reads this when it is imported.  Products as small as these gain nothing from several threads, and
# beside another busy program they lose a lot: the modern recipe then took 20 times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from _common import Parser, whole

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
    """What one training came to: the mean error of each epoch, the seconds, the report on the test images.

    For pictures also the network, the images it was tested on, and the sizes of the gradients of the loss over some
    training images, before and after.
    """

    errors: list[float]
    seconds: float
    report: tn.metrics.ClassificationReport
    network: nn.Sequential
    images: np.ndarray
    gradients: list[dict[str, np.ndarray]]


def flat(images: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Make one row of each image: (n, height, width) to (n, height * width)."""
    return images.reshape(len(images), -1).astype(dtype)


def gradient_sizes(network: nn.Sequential, loss: Callable[..., Any], x: np.ndarray, t: np.ndarray) -> dict[str, Any]:
    """Return the sizes of the gradients of the loss over some images, by parameter, and leave none behind."""
    loss(network(x), t).backward()
    sizes = {name: np.abs(p.grad) for name, p in network.named_parameters()}
    network.zero_grad()
    return sizes


def learn(
    network: nn.Sequential,
    optimizer: tn.optim.Optimizer,
    loss: Callable[..., Any],
    loader: tn.data.batches,
    epochs: int,
    some: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> Result:
    """Train a network, take the gradients for some images before and after, and test it."""
    before = gradient_sizes(network, loss, *some)
    history = tn.fit(network, loader, loss=loss, optimizer=optimizer, epochs=epochs)
    gradients = [before, gradient_sizes(network, loss, *some)]
    images, labels = test
    report = tn.metrics.classification_report(labels, tn.predict(network, images, batch_size=1000))
    return Result(history["loss"], sum(history["seconds"]), report, network, images, gradients)


# B2, B3, B4: gradient descent, image by image


def run_notebook(name: str, mnist: tn.data.Mnist, epochs: int, seeds: range) -> list[Result]:
    """Train and test B2, B3 or B4: training and test pixels each prepared with their own figures."""
    print(f"\n{NOTEBOOK[name][0]} pixels: tanh, mean squared error, lr 0.1, image by image, {epochs} epochs")
    if name == "raw":
        print("  Raw pixels saturate tanh: rounding alone then moves the accuracy by 0.1, so look at the range.")
    prepare = PREPARE[name]
    images, test_images = prepare(flat(mnist.train_images)), prepare(flat(mnist.test_images))
    targets = tn.data.one_hot(mnist.train_labels, 10)
    loader, some = tn.data.batches(images, targets, batch_size=1), (images[:100], targets[:100])
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
        test = test_images, mnist.test_labels
        return learn(network, optimizer, functional.mse_loss, loader, epochs, some, test)

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
    classes, some = int(mnist.train_labels.max()) + 1, (images[:100], mnist.train_labels[:100])
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
        test = test_images, mnist.test_labels
        return learn(network, optimizer, functional.cross_entropy, loader, epochs, some, test)

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


def draw(plots: Path, results: dict[str, list[Result]], mnist: tn.data.Mnist) -> None:
    """Write pictures of the first run of each training, and of what the last one sees."""
    import _pictures  # noqa: PLC0415 - only pictures need matplotlib

    first = {NOTEBOOK[name][0]: runs[0] for name, runs in results.items()}
    _pictures.curves(
        plots / "mnist_errors.png",
        {name: run.errors for name, run in first.items()},
        "mean error (modern: cross-entropy)",
    )
    flows = {
        f"{name}, {when}": run.gradients[k] for name, run in first.items() for k, when in enumerate(("new", "trained"))
    }
    _pictures.gradient_flow(plots / "mnist_gradients.png", flows)
    name, run = first.popitem()
    with tn.no_grad():
        predicted = run.network(run.images).numpy().argmax(axis=1)
    labels = mnist.test_labels
    matrix = tn.metrics.confusion_matrix(labels, predicted)
    title = f"{name}: {run.report.accuracy:.1%} of {len(labels):,} test images"
    _pictures.confusion(plots / "mnist_confusion.png", matrix, title)
    weight = next(iter(run.network.parameters())).numpy()
    size = mnist.test_images.shape[1:]
    _pictures.first_layer(plots / "mnist_weights.png", weight, size, f"{name}: weights of the first layer")
    right = predicted == labels
    picked = np.concatenate([np.flatnonzero(right)[:6], np.flatnonzero(~right)[:6]])
    slopes = _pictures.saliency(run.network, run.images[picked], predicted[picked]).reshape(-1, *size)
    shown = mnist.test_images[picked], labels[picked], predicted[picked]
    _pictures.digits(plots / "mnist_digits.png", *shown, slopes)


def main() -> None:
    """Run the systems and compare them with the notebook."""
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=whole(1), metavar="N", help="runs, from --seed on (default: 3; 1 with --data)")
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="epochs of every training")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--data", metavar="DIR", help="modern recipe, 10 epochs over all images of the IDX files in DIR"
    )
    parser.add_plots()
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
    if results and options.plots is not None:
        draw(options.plots, results, mnist)


if __name__ == "__main__":
    main()
