"""A small convolutional network on 1,000 handwritten digits, tested on 10,000.

Two convolutions, each with relu and a maximum over squares of 2 x 2, then two fully connected layers:
some 52,000 parameters, far more than there are images.  What keeps them from learning the images by heart
is that no image is seen twice: in every epoch each is turned, scaled and shifted a little, at random.
The same network without that is trained beside it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more threads only wait for each other on small arrays

import numpy as np
from _common import Parser, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn

BATCH = 50


def build(rng: np.random.Generator) -> nn.Sequential:
    """Build the network; its convolutions keep the size of the image, the maxima halve it."""
    options: dict[str, Any] = {"weight_init": nn.init.he_uniform(), "dtype": np.float32, "rng": rng}
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same", **options),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding="same", **options),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 64, **options),
        nn.ReLU(),
        nn.Dropout(0.3, rng=rng),
        nn.Linear(64, 10, **options),
    )


def moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn images (n, h, w) by up to 15 degrees, scale them by up to 15 %, and shift them by up to 2 pixels."""
    n, height, width = images.shape
    angle, scale = np.radians(rng.uniform(-15, 15, n)), rng.uniform(0.85, 1.15, n)
    down, across = rng.uniform(-2, 2, (2, n, 1, 1))
    cosine, sine = (f(angle)[:, None, None] / scale[:, None, None] for f in (np.cos, np.sin))
    i, j = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2
    # where each new pixel comes from, and how far beyond the pixel above and left of that place
    rows = cosine * i - sine * j + (height - 1) / 2 + down
    columns = sine * i + cosine * j + (width - 1) / 2 + across
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    below, right = rows - top, columns - left
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)))  # beyond the edges there is nothing

    def pixel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return wide[np.arange(n)[:, None, None], np.clip(a + 1, 0, height + 1), np.clip(b + 1, 0, width + 1)]

    upper = (1 - right) * pixel(top, left) + right * pixel(top, left + 1)
    lower = (1 - right) * pixel(top + 1, left) + right * pixel(top + 1, left + 1)
    result: np.ndarray = ((1 - below) * upper + below * lower).astype(images.dtype)
    return result


def train(mnist: tn.data.Mnist, seed: int, epochs: int, *, augment: bool) -> tuple[nn.Sequential, tn.training.History]:
    """Train a network by Adam, with a warm-up and half a cosine as its learning rate."""
    rng = np.random.default_rng(seed)
    network = build(rng)
    images = (mnist.train_images / 255).astype(np.float32)

    def batches(_epoch: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        epoch = moved(images, rng) if augment else images
        return tn.data.batches(epoch[:, None], mnist.train_labels, batch_size=BATCH, rng=rng, drop_last=True)

    steps = epochs * (len(images) // BATCH)
    optimizer = tn.optim.Adam(network.parameters(), lr=0.003)
    parts = [tn.optim.LinearLR(optimizer, 0.1, total_iters=20), tn.optim.CosineAnnealingLR(optimizer, steps - 20)]
    rate = tn.training.LearningRate(tn.optim.SequentialLR(optimizer, parts, [20]), every="step")
    history = tn.fit(
        network,
        batches,
        loss=functional.cross_entropy,
        optimizer=optimizer,
        epochs=epochs,
        callbacks=rate,
        compile=True,
    )
    return network, history


def main() -> None:
    """Train with and without moved images, and compare."""
    parser = Parser(__doc__)
    parser.add_argument("--epochs", type=whole(2), metavar="N", help="with moved images (default: 60)")
    parser.add_plots()
    options = parser.parse_args()
    epochs = options.epochs or (3 if options.quick else 60)
    mnist = tn.data.load_mnist_subset()
    count = 1000 if options.quick else len(mnist.test_images)
    test_images = (mnist.test_images[:count, None] / 255).astype(np.float32)

    print(f"{len(mnist.train_images)} images by {BATCH}, Adam, {epochs} epochs; tested on {count}")
    histories = {}
    for name, augment in (("as they are", False), ("moved at random", True)):
        begin = time.perf_counter()
        network, history = train(mnist, options.seed, epochs, augment=augment)
        seconds = time.perf_counter() - begin
        scores = tn.predict(network, test_images, batch_size=500)
        report = tn.metrics.classification_report(mnist.test_labels[:count], scores)
        histories[name] = history
        print(
            f"  {name:16} mean error {history['loss'][0]:.3f} -> {history['loss'][-1]:.4f}   "
            f"accuracy {report.accuracy:.4f}   {seconds:.1f} s",
            flush=True,
        )
    print(report)
    if options.plots is not None:
        draw(options.plots, histories)


def draw(plots: Path, histories: dict[str, tn.training.History]) -> None:
    """Write a picture of the mean errors."""
    import _pictures  # noqa: PLC0415 - only pictures need matplotlib

    series = {name: history["loss"] for name, history in histories.items()}
    _pictures.curves(plots / "cnn_errors.png", series, "cross-entropy")


if __name__ == "__main__":
    main()
