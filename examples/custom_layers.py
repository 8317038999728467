"""Three layers of one's own: an LSTM cell, a residual block, and attention with several heads.

Each is a class with ``__init__`` and ``forward``, no more.  Each is checked first: all its gradients,
for its parameters and inputs, against an oracle that knows no derivative rule.  Then it learns
something small that the layers below it could not do alone: to remember, to be deep, to look elsewhere.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more threads only wait for each other on small arrays

import numpy as np
from _common import Parser, progress

import tinygrad_nn as tn
from tinygrad_nn import functional, nn
from tinygrad_nn.testing import check_module


class LSTMCell(nn.Module):
    """One step of a long short-term memory (Hochreiter and Schmidhuber, 1997): what to forget, to add, to show."""

    def __init__(self, inputs: int, hidden: int, rng: np.random.Generator) -> None:
        self.hidden = hidden
        self.gates = nn.Linear(inputs + hidden, 4 * hidden, rng=rng)

    def forward(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        """Take an input (n, inputs) and the state (n, hidden) twice; give the next state."""
        forget, add, show, new = np.split(self.gates(np.concatenate([x, h], axis=1)), 4, axis=1)
        c = functional.sigmoid(forget) * c + functional.sigmoid(add) * np.tanh(new)
        return functional.sigmoid(show) * np.tanh(c), c


class ResidualBlock(nn.Module):
    """x + f(x), with f two layers after a normalization (He et al., 2016): depth that gradients pass unweakened."""

    def __init__(self, features: int, rng: np.random.Generator, *, skip: bool = True) -> None:
        self.norm = nn.LayerNorm(features)
        self.inner = nn.Linear(features, features, rng=rng)
        self.outer = nn.Linear(features, features, rng=rng)
        self.skip = skip

    def forward(self, x: Any) -> Any:
        """Map (..., features) to (..., features)."""
        y = self.outer(functional.silu(self.inner(self.norm(x))))
        return x + y if self.skip else y


class MultiHeadAttention(nn.Module):
    """Every position mixes what it finds at those that match it (Vaswani et al., 2017), in several ways at once."""

    def __init__(self, features: int, heads: int, rng: np.random.Generator) -> None:
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(features, features, rng=rng) for _ in range(4))

    def forward(self, x: Any) -> Any:
        """Map (n, positions, features) to the same shape."""
        n, positions, features = x.shape
        shape = (n, positions, self.heads, features // self.heads)
        q, k, v = (part(x).reshape(shape).transpose((0, 2, 1, 3)) for part in (self.query, self.key, self.value))
        scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(shape[-1])
        mixed = functional.softmax(scores) @ v  # (n, heads, positions, features per head)
        return self.out(mixed.transpose((0, 2, 1, 3)).reshape(x.shape))


# What they learn


class Memory(nn.Module):
    """Reads a sequence by an LSTM cell, and gives a score at its end."""

    def __init__(self, hidden: int, rng: np.random.Generator) -> None:
        self.cell = LSTMCell(1, hidden, rng)
        self.score = nn.Linear(hidden, 1, rng=rng)

    def forward(self, x: Any) -> Any:
        """Map (n, length, 1) to (n, 1)."""
        h = c = np.zeros((x.shape[0], self.cell.hidden))
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], h, c)
        return self.score(h)


class Reverser(nn.Module):
    """Names at each position the token of the mirrored one, by one attention over tokens and positions."""

    def __init__(self, tokens: int, length: int, rng: np.random.Generator) -> None:
        self.token = nn.Embedding(tokens, 32, rng=rng)
        self.position = nn.Parameter(rng.standard_normal((length, 32)))
        self.attention = MultiHeadAttention(32, 4, rng)
        self.norm = nn.LayerNorm(32)
        self.score = nn.Linear(32, tokens, rng=rng)

    def forward(self, numbers: Any) -> Any:
        """Map (n, length) to scores (n, length, tokens)."""
        x = self.token(numbers) + self.position
        return self.score(self.norm(self.attention(x)))


def first_signs(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Make sequences of 12 numbers; the answer is whether the first is positive."""
    while True:
        x = rng.standard_normal((64, 12, 1))
        yield x, (x[:, 0] > 0).astype(float)


def rings(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Make points of the plane; the answer is whether they lie in every second one of six rings."""
    while True:
        radius, angle = 3 * np.sqrt(rng.random(128)), rng.uniform(0, 2 * np.pi, 128)
        x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        yield x, (np.floor(2 * radius) % 2)[:, None]


def mirrored(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Make rows of 8 of 10 tokens; the answer is the row from its end to its beginning."""
    while True:
        x = rng.integers(10, size=(64, 8))
        yield x, x[:, ::-1].copy()


def right_signs(scores: np.ndarray, answers: np.ndarray) -> float:
    """Return the share of scores on the right side of 0."""
    return float(np.mean((scores > 0) == answers))


def right_tokens(scores: np.ndarray, answers: np.ndarray) -> float:
    """Return the share of positions whose highest score is that of the answer."""
    return float(np.mean(scores.argmax(axis=-1) == answers))


def learn(
    model: nn.Module,
    loss: Callable[..., Any],
    right: Callable[[np.ndarray, np.ndarray], float],
    data: Iterator[tuple[np.ndarray, np.ndarray]],
    steps: int,
    label: str,
) -> tuple[float, float]:
    """Train by Adam, each step compiled; return the shares of right answers to unseen data, before and after."""
    optimizer = tn.optim.Adam(model.parameters(), lr=0.005)
    schedule = tn.optim.CosineAnnealingLR(optimizer, steps)
    step = tn.compile(lambda x, y: loss(model(x), y))
    unseen = [next(data) for _ in range(8)]

    def share() -> float:
        with tn.no_grad():
            return float(np.mean([right(model(x).numpy(), y) for x, y in unseen]))

    before = share()
    for _ in progress(range(steps), label):
        optimizer.zero_grad()
        step(*next(data))
        tn.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return before, share()


def check(name: str, layer: nn.Module, *inputs: np.ndarray) -> None:
    """Check all gradients of a layer, and say how far off the worst is."""
    begin = time.perf_counter()
    report = check_module(layer, *inputs, mode="fast")  # raises GradientError, with a report, if one is wrong
    seconds = time.perf_counter() - begin
    print(f"\n{name}: {len(report.results)} gradients checked in {seconds:.2f} s, all right")


def trial(title: str, names: Sequence[str], models: Sequence[nn.Module], steps: int, *task: Any) -> None:
    """Train models on one task and print a line each."""
    loss, right, make, seed = task
    print(f"  {title}, {steps} steps")
    for name, model in zip(names, models, strict=True):
        begin = time.perf_counter()
        before, after = learn(model, loss, right, make(np.random.default_rng(seed)), steps, name)
        print(f"    {name:34} right {before:.3f} -> {after:.3f}   {time.perf_counter() - begin:.1f} s", flush=True)


def main() -> None:
    """Check and train the three layers."""
    parser = Parser(__doc__)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    steps, seed = (40 if options.quick else 600), options.seed
    signs = functional.binary_cross_entropy_with_logits, right_signs

    check("LSTM cell", LSTMCell(3, 4, rng), *(rng.standard_normal((2, n)) for n in (3, 4, 4)))
    trial(
        "the sign of the first of 12 numbers",
        ["LSTM, 16 hidden units"],
        [Memory(16, rng)],
        steps,
        *signs,
        first_signs,
        seed,
    )

    check("Residual block", ResidualBlock(4, rng), rng.standard_normal((3, 4)))
    deep = [
        nn.Sequential(
            nn.Linear(2, 16, rng=rng),
            *(ResidualBlock(16, rng, skip=skip) for _ in range(12)),
            nn.Linear(16, 1, rng=rng),
        )
        for skip in (True, False)
    ]
    trial(
        "every second of six rings, 12 blocks", ["with x + f(x)", "with f(x) alone"], deep, steps, *signs, rings, seed
    )

    check("Multi-head attention", MultiHeadAttention(4, 2, rng), rng.standard_normal((2, 3, 4)))
    task = functional.cross_entropy, right_tokens, mirrored, seed
    trial("rows of 8 tokens reversed", ["one attention, 4 heads"], [Reverser(10, 8, rng)], steps, *task)


if __name__ == "__main__":
    main()
