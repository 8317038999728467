"""The network of the MNIST notebook (784-100-50-10) trained over a cluster of worker processes.

The images lie in chunks in the memory of the workers, the parameters here.  A batch is several chunks: each worker
computes the loss and the gradients of its own, the sums come back, and the optimizer takes its step.  The code of the
training is that of one process; only the arrays differ.  The table shows what that costs and gains.

A step is some hundred tasks of Dask's: they cost 60 ms of processor time before anything is computed, and are sent
around besides.  The network of the notebook needs a millisecond, so that it is hundreds of times slower here, with two
workers as with one.  A cluster is for data that fit into no one memory, and for batches that take seconds to compute:
with ``--data DIR --width 1024`` and all 60,000 images an epoch took 9.6 s with one worker, 6.1 s with two, and 7.2 s
on one core without a cluster, on an idle machine of two cores.
Needs Dask: pip install "tinygrad-nn[dask]".
"""

from __future__ import annotations

import importlib.util
import os
from statistics import median
from typing import Any, TypeAlias

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a core for each worker

import numpy as np
from _common import Parser, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn

CHUNKS = 10  # of the training set; a batch is two of them


Widths: TypeAlias = "tuple[int, int]"


def build(seed: int, widths: Widths) -> nn.Sequential:
    """Build the network: tanh between fully connected layers, class scores at the end."""
    options: dict[str, Any] = {"dtype": np.float32, "rng": np.random.default_rng(seed)}
    first, second = widths
    return nn.Sequential(
        nn.Linear(784, first, **options),
        nn.Tanh(),
        nn.Linear(first, second, **options),
        nn.Tanh(),
        nn.Linear(second, 10, **options),
    )


def train(
    images: Any, targets: Any, seed: int, epochs: int, widths: Widths
) -> tuple[nn.Sequential, tn.training.History]:
    """Train on arrays of NumPy or of Dask, in order: the images of MNIST are mixed already."""
    network = build(seed, widths)
    optimizer = tn.optim.Adam(network.parameters(), lr=0.003)
    batch = 2 * -(-len(images) // CHUNKS)
    options: dict[str, Any] = {"optimizer": optimizer, "epochs": epochs, "batch_size": batch, "compile": False}
    return network, tn.fit(network, images, targets, loss=functional.cross_entropy, **options)


def train_on_cluster(
    images: np.ndarray, targets: np.ndarray, workers: int, seed: int, epochs: int, widths: Widths
) -> tuple[nn.Sequential, tn.training.History]:
    """Train with the data in chunks that so many worker processes hold."""
    import dask.array as da  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415
    import distributed  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415

    rows = -(-len(images) // CHUNKS)
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(n_workers=workers, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        print(f"  {workers} worker process(es), dashboard at {cluster.dashboard_link}", flush=True)

        def scattered(array: np.ndarray) -> Any:
            parts = [array[start : start + rows] for start in range(0, len(array), rows)]
            futures = client.scatter(parts, hash=False)  # one after the other to each worker
            chunks = [da.from_delayed(f, p.shape, p.dtype) for f, p in zip(futures, parts, strict=True)]
            return da.concatenate(chunks)

        return train(scattered(images), scattered(targets), seed, epochs, widths)


def main() -> None:
    """Train in this process, with one worker and with two, and compare."""
    parser = Parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="a folder with the complete IDX files (default: 1,000 images)")
    parser.add_argument("--width", type=whole(1), metavar="N", help="of both hidden layers (default: 100 and 50)")
    parser.add_argument("--epochs", type=whole(2), metavar="N", help="(default: 10)")
    options = parser.parse_args()
    if not all(importlib.util.find_spec(name) for name in ("dask", "distributed")):
        print('This example needs Dask: pip install "tinygrad-nn[dask]"')
        return
    try:
        mnist = tn.data.load_mnist(options.data) if options.data else tn.data.load_mnist_subset()
    except (OSError, tn.errors.TinygradError) as error:
        parser.error(str(error))
    epochs = options.epochs or (2 if options.quick else 10)
    images, test_images = (
        (a.reshape(len(a), -1) / 255).astype(np.float32) for a in (mnist.train_images, mnist.test_images)
    )
    targets = tn.data.one_hot(mnist.train_labels, 10, np.float32)

    widths = (options.width, options.width) if options.width else (100, 50)
    layers = "-".join(map(str, (784, *widths, 10)))
    print(f"{layers}, {len(images)} images in {CHUNKS} chunks, 5 batches an epoch, Adam, {epochs} epochs")
    found = {"this process": train(images, targets, options.seed, epochs, widths)}
    for workers in (1, 2):
        name = f"{workers} worker{'s' * (workers > 1)}"
        found[name] = train_on_cluster(images, targets, workers, options.seed, epochs, widths)

    print(f"\n  {'':14}{'s an epoch':>12}{'images a s':>12}{'speed':>8}{'loss':>10}{'accuracy':>10}")
    seconds = {name: median(history["seconds"][1:]) for name, (_, history) in found.items()}  # the first warms up
    for name, (network, history) in found.items():
        accuracy = tn.metrics.accuracy(mnist.test_labels, tn.predict(network, test_images, batch_size=1000))
        print(
            f"  {name:14}{seconds[name]:12.3f}{len(images) / seconds[name]:12.0f}"
            f"{seconds['1 worker'] / seconds[name]:8.2f}{history['loss'][-1]:10.5f}{accuracy:10.4f}"
        )
    print(f"Speed is relative to one worker, on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
