"""XOR, learned by a network of two layers: the system B1.

2-3-1 with tanh, weights and biases from U[-0.5, 0.5), the mean squared error, 1000 epochs of
gradient descent with learning rate 0.1, one step for each of the four cases.

One seed is shown in full, beside the same start trained with Adam.  Then many seeds are counted,
because some end in a local minimum, and changes that could help are tried on the same seeds.  These
train at once, as one network whose weights have a leading axis.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import Parser, progress, side_by_side, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn

CASES = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TARGETS = np.array([[0.0], [1.0], [1.0], [0.0]])
EPOCHS = 1000
LEARNED, STUCK = 0.001, 0.1  # mean errors: learned below the first, stuck above the second


def build(seed: int, hidden: int = 3, weights: Any = None, biases: Any = None) -> nn.Sequential:
    """Build 2-hidden-1, drawn from U[-0.5, 0.5) layer by layer, the weight before the bias."""
    rng = np.random.default_rng(seed)
    draw = nn.init.uniform(-0.5, 0.5)
    inits: dict[str, Any] = {"weight_init": weights or draw, "bias_init": biases or draw}
    return nn.Sequential(
        nn.Linear(2, hidden, **inits, rng=rng),
        nn.Tanh(),
        nn.Linear(hidden, 1, **inits, rng=rng),
        nn.Tanh(),
    )


def train(
    network: nn.Sequential,
    optimizer: tn.optim.Optimizer,
    epochs: int,
    label: str = "training",
    *,
    compiled: bool = True,
) -> np.ndarray:
    """Take a step for each case in turn; return the mean error of each epoch.

    The errors are taken before each step: (epochs,), or (epochs, k) of k networks side by side.
    Without ``compiled`` the numbers are the same; it takes longer.
    """

    def loss(x: Any, target: Any) -> tuple[Any, Any]:
        output = network(x)
        squares = functional.mse_loss(output, np.broadcast_to(target, output.shape), "none")
        errors = squares.mean(axis=(-2, -1))  # the error of each network
        return errors.sum(), errors

    step = tn.compile(loss) if compiled else loss
    history = []
    for _ in progress(range(epochs), label):
        total: Any = 0.0
        for x, target in tn.data.batches(CASES, TARGETS, batch_size=1):
            optimizer.zero_grad()
            value, errors = step(x, target)
            if not compiled:
                value.backward()
            optimizer.step()
            total = total + errors.numpy()
        history.append(total / len(CASES))
    return np.array(history)


def show_one_seed(seed: int, plots: Path | None) -> np.ndarray:
    """Show one seed, as in the notebook and with Adam; return the notebook's mean errors."""
    print("XOR 2-3-1: tanh, U[-0.5, 0.5), mean squared error, gradient descent case by case, lr 0.1\n")
    begin = time.perf_counter()
    plain, other = build(seed), build(seed)
    history = train(plain, tn.optim.SGD(plain.parameters(), lr=0.1), EPOCHS)
    seconds = time.perf_counter() - begin
    with_adam = train(other, tn.optim.Adam(other.parameters(), lr=0.01), EPOCHS)
    title = f"Seed {seed}, {EPOCHS} epochs in {seconds:.1f} s"
    print(f"  {title:33}{'the notebook':>12}{'Adam, lr 0.01':>16}")
    for epoch in (1, 10, 100, 300, 1000):
        name = f"mean error, epoch {epoch}"
        print(f"    {name:31}{history[epoch - 1]:12.4f}{with_adam[epoch - 1]:16.4f}")
    with tn.no_grad():
        outputs = np.hstack([network(CASES).numpy() for network in (plain, other)])
    for (a, b), target, output in zip(CASES, TARGETS[:, 0], outputs, strict=True):
        name = f"{a:.0f} xor {b:.0f} = {target:.0f}, output"
        print(f"    {name:31}{output[0]:12.3f}{output[1]:16.3f}")
    if plots is not None:
        draw(plots, {"the notebook": (plain, history), "Adam, lr 0.01": (other, with_adam)})
    return history


def draw(plots: Path, trained: dict[str, tuple[nn.Sequential, np.ndarray]]) -> None:
    """Write pictures of networks and their mean errors, and of the graph of one loss."""
    import _pictures  # noqa: PLC0415 - only pictures need matplotlib

    def answers(network: nn.Sequential) -> Any:
        return lambda grid: network(grid).numpy()[:, 0]

    panels = {f"{name}: error {errors[-1]:.4f}": answers(network) for name, (network, errors) in trained.items()}
    with tn.no_grad():
        _pictures.boundaries(plots / "xor_boundary.png", panels, CASES, TARGETS[:, 0].astype(int), (0, 0.5, 1))
    series = {name: errors for name, (_, errors) in trained.items()}
    _pictures.curves(plots / "xor_errors.png", series, "mean squared error")
    network = next(iter(trained.values()))[0]
    names = {"net": network, "x": CASES, "y": TARGETS}
    graph = tn.draw(functional.mse_loss(network(CASES), TARGETS), names)
    graph.save(plots / ("xor_graph.svg" if shutil.which("dot") else "xor_graph.dot"))


def show_many_seeds(count: int, *, quick: bool) -> np.ndarray:
    """Count how many seeds learn, with changes too; return the notebook's mean errors (epochs, count)."""
    sgd, adam = tn.optim.SGD, tn.optim.Adam
    wide, xavier, zero = nn.init.uniform(-1, 1), nn.init.xavier_uniform(), nn.init.constant(0)
    trials: list[tuple[str, dict[str, Any], Any, float, int]] = [
        ("as in the notebook", {}, sgd, 0.1, EPOCHS),
        ("Adam, lr 0.01", {}, adam, 0.01, EPOCHS),
        ("Adam, lr 0.01, Xavier, biases 0", {"weights": xavier, "biases": zero}, adam, 0.01, EPOCHS),
        ("Xavier, biases 0", {"weights": xavier, "biases": zero}, sgd, 0.1, EPOCHS),
        ("U[-1, 1)", {"weights": wide, "biases": wide}, sgd, 0.1, EPOCHS),
        ("8 hidden units", {"hidden": 8}, sgd, 0.1, EPOCHS),
        ("3 times the epochs", {}, sgd, 0.1, 3 * EPOCHS),
    ]
    if quick:
        del trials[2:]
    title = f"Seeds 0 to {count - 1}, last mean error"
    print(f"\n  {title:36}below {LEARNED}   between   above {STUCK} (median)")
    begin = time.perf_counter()
    histories = []
    for name, options, optimizer, lr, epochs in trials:
        networks = side_by_side([build(seed, **options) for seed in range(count)])
        histories.append(train(networks, optimizer(networks.parameters(), lr=lr), epochs, name))
        last = histories[-1][-1]
        stuck = last[last > STUCK]
        below, above = np.sum(last < LEARNED), len(stuck)
        median = f"({np.median(stuck):.3f})" if above else ""
        print(f"    {name:34}{below:11d}{count - below - above:10d}{above:12d} {median}".rstrip())
    seconds = time.perf_counter() - begin
    print(f"  {len(trials) * count} networks, {count} side by side, in {seconds:.1f} s.  Above {STUCK} lies a local")
    print("  minimum: more epochs do not leave it; another start or Adam seldom ends there.")
    return histories[0]


def main() -> None:
    """Run the system and compare it with the notebook."""
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=whole(1), metavar="N", help="count over N seeds (default: 100)")
    parser.add_plots()
    options = parser.parse_args()
    count = options.seeds or (10 if options.quick else 100)

    own = show_one_seed(options.seed, options.plots)
    every = show_many_seeds(count, quick=options.quick)
    learned = every[:, every[-1] < LEARNED]
    print(f"\nBeside the notebook, {EPOCHS} epochs       first error   last error")
    print("  the notebook                               0.988       0.0003")
    name = f"here, seed {options.seed}"
    print(f"  {name:34}{own[0]:14.3f}{own[-1]:13.4f}")
    if learned.size:
        first, last = np.median(learned[[0, -1]], axis=1)
        name = f"here, {learned.shape[1]} of {count} seeds that learned"
        print(f"  {name:34}{first:14.3f}{last:13.4f}  (medians)")


if __name__ == "__main__":
    main()
