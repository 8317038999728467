"""Ten points in two classes, learned by three small networks: the systems A1, A2 and A3.

A1 is 2-2-2 and A2 is 2-3-2: sigmoids, weights and biases from U[0, 1), one step of gradient
descent with learning rate 0.5 for each point, half the squared error, 40 epochs.  A3 has a layer of
3 sigmoids and a linear layer of 2, the mean squared error, and 200 steps of Adam over all points.

One seed is shown in full; then many seeds are counted.  They train at once, as one network whose
weights have a leading axis: matmul and broadcasting do the rest, the training code is the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import Parser, progress, side_by_side, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn

POINTS = np.array(
    [
        [2.7810836, 2.550537003],
        [1.465489372, 2.362125076],
        [3.396561688, 4.400293529],
        [1.38807019, 1.850220317],
        [3.06407232, 3.005305973],
        [7.627531214, 2.759262235],
        [5.332441248, 2.088626775],
        [6.922596716, 1.77106367],
        [8.675418651, -0.242068655],
        [7.673756466, 3.508563011],
    ]
)
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
TARGETS = tn.data.one_hot(LABELS)


def predict(network: nn.Sequential) -> np.ndarray:
    """Return the outputs for the ten points: (10, 2), or (k, 10, 2) of k networks side by side."""
    with tn.no_grad():
        outputs: np.ndarray = network(POINTS).numpy()
    return outputs


def accuracy(outputs: np.ndarray) -> Any:
    """Return the share of points whose larger output is the right one, for each network."""
    return np.mean(outputs.argmax(axis=-1) == LABELS, axis=-1)


def error_sum(outputs: np.ndarray) -> Any:
    """Return half the squared error, summed over the points, for each network."""
    return 0.5 * np.square(outputs - TARGETS).sum(axis=(-2, -1))


# A1 and A2: gradient descent, point by point


def sigmoid_network(hidden: int, seed: int) -> nn.Sequential:
    """Build 2-hidden-2, drawn from U[0, 1) layer by layer, the weight before the bias."""
    rng = np.random.default_rng(seed)
    draw = nn.init.uniform(0, 1)
    return nn.Sequential(
        nn.Linear(2, hidden, weight_init=draw, bias_init=draw, rng=rng),
        nn.Sigmoid(),
        nn.Linear(hidden, 2, weight_init=draw, bias_init=draw, rng=rng),
        nn.Sigmoid(),
    )


def train(network: nn.Sequential, epochs: int) -> None:
    """Take a step of gradient descent for each point in turn.

    Of networks side by side the errors add up, so that each gets the gradient of its own error.
    """

    def error(output: Any, target: np.ndarray) -> Any:
        return functional.half_squared_error(output, np.broadcast_to(target, output.shape))

    optimizer = tn.optim.SGD(network.parameters(), lr=0.5)
    tn.fit(network, POINTS, TARGETS, loss=error, optimizer=optimizer, epochs=epochs, batch_size=1)


def train_by_hand(network: nn.Sequential, epochs: int, *, slip: bool = False) -> np.ndarray:
    """Train a copy of a network with the hand-derived formulas, and return the outputs.

    With ``slip``, the hidden delta is multiplied by the slope of the sigmoid twice, as in the
    notebook's A2.
    """
    W1, b1, W2, b2 = network.state_dict().values()
    for _ in range(epochs):
        for x, y in zip(POINTS, TARGETS, strict=True):
            a1 = 1 / (1 + np.exp(-(x @ W1 + b1)))
            a2 = 1 / (1 + np.exp(-(a1 @ W2 + b2)))
            slope1, slope2 = a1 * (1 - a1), a2 * (1 - a2)
            delta2 = (a2 - y) * slope2
            delta1 = (delta2 @ W2.T) * slope1
            if slip:
                delta1 = delta1 * slope1
            W2 -= 0.5 * np.outer(a1, delta2)
            b2 -= 0.5 * delta2
            W1 -= 0.5 * np.outer(x, delta1)
            b1 -= 0.5 * delta1
    a1 = 1 / (1 + np.exp(-(POINTS @ W1 + b1)))
    outputs: np.ndarray = 1 / (1 + np.exp(-(a1 @ W2 + b2)))
    return outputs


def show_gradient_descent(seed: int, count: int) -> tuple[float, float]:
    """Show A1 and A2 for one seed, and how many of ``count`` seeds learn.

    Returns A2's error sum for the seed, and the median one of the seeds that stick with the slip, if any.
    """
    print("A1 2-2-2 and A2 2-3-2: sigmoid, U[0, 1), gradient descent point by point, lr 0.5")
    a1, a2 = sigmoid_network(2, seed), sigmoid_network(3, seed)
    begin = time.perf_counter()
    train(a1, 40)
    train(a2, 40)
    seconds = time.perf_counter() - begin
    p1, p2 = predict(a1), predict(a2)
    print(f"\n  Seed {seed}, 40 epochs ({seconds:.2f} s for both)")
    print("                            ------- A1 -------     ------- A2 -------")
    print("       x1      x2  label    out 0  out 1 class     out 0  out 1 class")
    for x, label, q1, q2 in zip(POINTS, LABELS, p1, p2, strict=True):
        cells = "    ".join(f"{q[0]:6.3f} {q[1]:6.3f} {q.argmax():5d}" for q in (q1, q2))
        print(f"  {x[0]:7.3f} {x[1]:7.3f} {label:6d}   {cells}")
    print(f"  error sum                 {error_sum(p1):6.3f}                 {error_sum(p2):6.3f}")
    print(f"  accuracy                  {accuracy(p1):6.3f}                 {accuracy(p2):6.3f}")

    print(f"\n  Seeds 0 to {count - 1}: how many reach accuracy 1.0, and the median error sum")
    print("                              after 40 epochs     after 200 epochs")

    def row(name: str, *stages: np.ndarray) -> None:
        cells = (f"{np.sum(accuracy(s) == 1):11d} {np.median(error_sum(s)):8.3f}" for s in stages)
        print(f"  {name:24}{''.join(cells)}")

    learned = {}
    begin = time.perf_counter()
    for name, hidden in (("A1", 2), ("A2", 3)):
        networks = side_by_side([sigmoid_network(hidden, k) for k in range(count)])
        train(networks, 40)
        learned[name] = predict(networks)
        train(networks, 160)
        row(name, learned[name], predict(networks))
    seconds = time.perf_counter() - begin
    for slip in (False, True):
        name = "A2 by hand, slope twice" if slip else "A2 by hand"
        seeds = progress(range(count), name)
        learned[name] = np.stack([train_by_hand(sigmoid_network(3, k), 40, slip=slip) for k in seeds])
        row(name, learned[name])
    apart = np.abs(learned["A2"] - learned["A2 by hand"]).max()
    slips = learned["A2 by hand, slope twice"]
    stuck = slips[accuracy(slips) == 0.5]
    print(f"  A1 and A2 are {2 * count} networks side by side, trained in {seconds:.1f} s.  The formulas by hand")
    print(f"  give the same outputs as tinygrad_nn (at most {apart:.0e} apart).  With the notebook's slip, the")
    print(f"  slope of the sigmoid twice in the hidden delta, {len(stuck)} of {count} seeds stick at accuracy 0.5.")
    return float(error_sum(p2)), float(np.median(error_sum(stuck))) if len(stuck) else np.inf


# A3: Adam, all points at once


def a3_network(seed: int) -> nn.Sequential:
    """Build Dense(3, sigmoid), Dense(2, linear) with Keras's defaults: Xavier uniform, biases 0."""
    rng = np.random.default_rng(seed)
    draw: dict[str, Any] = {"weight_init": nn.init.xavier_uniform(), "bias_init": nn.init.constant(0)}
    return nn.Sequential(nn.Linear(2, 3, **draw, rng=rng), nn.Sigmoid(), nn.Linear(3, 2, **draw, rng=rng))


def train_adam(network: nn.Sequential, epochs: int, lr: float) -> None:
    """Take ``epochs`` steps of Adam on the mean squared error over all points, of each network side by side."""

    def error(output: Any, target: np.ndarray) -> Any:
        squares = functional.mse_loss(output, np.broadcast_to(target, output.shape), "none")
        return squares.mean(axis=(-2, -1)).sum()  # the mean of each network, the sum over networks

    optimizer = tn.optim.Adam(network.parameters(), lr=lr)
    tn.fit(network, POINTS, TARGETS, loss=error, optimizer=optimizer, epochs=epochs, batch_size=len(POINTS))


def mean_error(outputs: np.ndarray) -> Any:
    """Return the mean squared error of each network."""
    return np.square(outputs - TARGETS).mean(axis=(-2, -1))


def show_adam(seed: int, count: int) -> float:
    """Show A3 for one seed and what helps it over ``count`` seeds; return the seconds of one training."""
    print("\nA3: Dense(3, sigmoid), Dense(2, linear), mean squared error, Adam, all points at once\n")
    network = a3_network(seed)
    print(tn.summary(network, (2,)))
    before = tn.evaluate(network, POINTS, TARGETS, loss=functional.mse_loss, metrics=[tn.metrics.accuracy])
    history = tn.fit(
        network,
        POINTS,
        TARGETS,
        loss=functional.mse_loss,
        optimizer=tn.optim.Adam(network.parameters(), lr=0.001),
        epochs=200,
        batch_size=len(POINTS),
    )
    after = tn.evaluate(network, POINTS, TARGETS, loss=functional.mse_loss, metrics=[tn.metrics.accuracy])
    seconds = sum(history["seconds"])
    print(
        f"\n  Seed {seed}, lr 0.001, 200 epochs in {seconds:.3f} s: error {before['loss']:.3f} -> "
        f"{after['loss']:.3f}, accuracy {before['accuracy']:.1f} -> {after['accuracy']:.1f}"
    )
    title = f"Seeds 0 to {count - 1}"
    print(f"\n  {title:22}{'accuracy 1.0':>18}{'accuracy 0.5':>15}{'median error':>15}")
    for lr, epochs in ((0.001, 200), (0.001, 2000), (0.01, 200), (0.1, 200)):
        networks = side_by_side([a3_network(k) for k in range(count)])
        train_adam(networks, epochs, lr)
        outputs = predict(networks)
        right, half = (np.sum(accuracy(outputs) == share) for share in (1, 0.5))
        name = f"lr {lr}, {epochs} epochs"
        print(f"  {name:22}{right:18d}{half:15d}{np.median(mean_error(outputs)):15.3f}")
    print("  Adam moves a weight by about lr in a step: 200 steps of 0.001 cannot carry one far.")
    return seconds


def draw(plots: Path, seed: int) -> None:
    """Write a picture of what A1, A2 and A3 answer in the plane."""
    import _pictures  # noqa: PLC0415 - only pictures need matplotlib

    a1, a2, a3 = sigmoid_network(2, seed), sigmoid_network(3, seed), a3_network(seed)
    train(a1, 40)
    train(a2, 40)
    train_adam(a3, 200, 0.1)

    def answers(network: nn.Sequential) -> Any:
        return lambda grid: np.diff(network(grid).numpy())[:, 0]

    trained = {"A1, 40 epochs": a1, "A2, 40 epochs": a2, "A3, Adam, lr 0.1": a3}
    with tn.no_grad():
        panels = {name: answers(network) for name, network in trained.items()}
        _pictures.boundaries(plots / "ten_points_boundary.png", panels, POINTS, LABELS, (-1, 0, 1))


def main() -> None:
    """Run the three systems and compare them with the notebook."""
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=whole(1), metavar="N", help="count over N seeds (default: 100)")
    parser.add_plots()
    options = parser.parse_args()
    count = options.seeds or (10 if options.quick else 100)

    right, stuck = show_gradient_descent(options.seed, count)
    seconds = show_adam(options.seed, count)
    if options.plots is not None:
        draw(options.plots, options.seed)
    print("\nBeside the notebook                               notebook      here")
    if stuck < np.inf:
        print(f"  A2 error sum with the slope twice, if stuck         2.73  {stuck:8.2f}  (median)")
    print(f"  A2 error sum with the right formula                    -  {right:8.2f}  (seed {options.seed})")
    print(f"  A3 seconds for 200 epochs                        7 to 11  {seconds:8.2f}")


if __name__ == "__main__":
    main()
