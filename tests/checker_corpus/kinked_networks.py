"""Networks with kinks, right backward passes by hand and on Tensors; integer inputs put many units on their kinks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn import functional


@dataclass
class Network:
    """``call(*inputs)`` on arrays and Tensors, ``rule(*inputs)`` by hand or None, and the shapes of the inputs."""

    name: str
    call: Callable[..., Any]
    rule: Callable[..., Any] | None
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self, rng: np.random.Generator) -> list[Any]:
        """Whole numbers from -2 to 2."""
        return [rng.integers(-2, 3, shape).astype(float) for shape in self.shapes]

    def plain(self, *inputs: Any) -> Any:
        """The forward on arrays: of the rule, where there is one."""
        return self.call(*inputs) if self.rule is None else self.rule(*inputs)[0]


def rectified(z: Any) -> Any:
    """By the real part, so that the complex step passes."""
    return z * (z.real > 0)


def two_layers(x, W, V):
    z = x @ W
    h = rectified(z)

    def pullback(g):
        d = (g @ V.T) * (z > 0)
        return d @ W.T, x.T @ d, h.T @ g

    return h @ V, pullback


def one_at_zero(x, W, V):
    """With the slope 1 at 0."""
    z = x @ W
    h = rectified(z)

    def pullback(g):
        d = (g @ V.T) * (z >= 0)
        return d @ W.T, x.T @ d, h.T @ g

    return h @ V, pullback


def three_layers(x, W, b, V, c, U):
    z = x @ W + b
    h = rectified(z)
    u = h @ V + c
    k = rectified(u)

    def pullback(g):
        e = (g @ U.T) * (u > 0)
        d = (e @ V.T) * (z > 0)
        return d @ W.T, x.T @ d, d.sum(axis=0), h.T @ e, e.sum(axis=0), k.T @ g

    return k @ U, pullback


def residual_block(x, W, V):
    z = x @ W
    h = rectified(z)

    def pullback(g):
        d = (g @ V.T) * (z > 0)
        return g + d @ W.T, x.T @ d, h.T @ g

    return x + h @ V, pullback


def leaky(x, W, V):
    z = x @ W
    s = np.where(z.real > 0, 1, 0.1)

    def pullback(g):
        d = (g @ V.T) * s
        return d @ W.T, x.T @ d, (z * s).T @ g

    return (z * s) @ V, pullback


def absolute(x, W, V):
    z = x @ W
    s = np.sign(z.real)

    def pullback(g):
        d = (g @ V.T) * s
        return d @ W.T, x.T @ d, (z * s).T @ g

    return (z * s) @ V, pullback


def hinge(x, W, t):
    m = 1 - t * (x @ W)
    on = m.real > 0

    def pullback(g):
        d = g * on / len(x)
        e = -d * t
        return e @ W.T, x.T @ e, -d * (x @ W)

    return (m * on).sum() / len(x), pullback


def absolute_error(x, W, y):
    r = x @ W - y

    def pullback(g):
        d = g * np.sign(r) / r.size
        return d @ W.T, x.T @ d, -d

    return (r * np.sign(r.real)).sum() / r.size, pullback


def pooled_rows(x, W):
    """The largest rectified unit of each sample; the first of equals takes the gradient."""
    z = x @ W
    h = rectified(z)
    rows, best = np.arange(len(z)), np.argmax(h.real, axis=1)

    def pullback(g):
        d = np.zeros(z.shape)
        d[rows, best] = g
        d = d * (z > 0)
        return d @ W.T, x.T @ d

    return h[rows, best], pullback


def filtered(x, k):
    """A rectified correlation along a sequence."""
    m = len(k)
    windows = np.lib.stride_tricks.sliding_window_view(x, m)
    z = windows @ k

    def pullback(g):
        d = g * (z > 0)
        dx = np.zeros(len(x))
        for i in range(m):
            dx[i : i + len(d)] += d * k[i]
        return dx, windows.T @ d

    return rectified(z), pullback


def gated(x, W, V):
    z, u = x @ W, x @ V
    h = rectified(z)

    def pullback(g):
        d, e = g * u * (z > 0), g * h
        return d @ W.T + e @ V.T, x.T @ d, x.T @ e

    return h * u, pullback


def scored(x, W, V):
    """A softmax cross-entropy, for class 0, on rectified units."""
    z = x @ W
    h = rectified(z)
    s = h @ V
    e = np.exp(s - s.real.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(g):
        q = p.copy()
        q[:, 0] -= 1
        q = q * g / len(x)
        d = (q @ V.T) * (z > 0)
        return d @ W.T, x.T @ d, h.T @ q

    return -np.log(p[:, 0]).sum() / len(x), pullback


relu = functional.relu
DEEP = ((5, 3), (3, 7), (7,), (7, 4), (4,), (4, 2))
SHALLOW = ((5, 3), (3, 7), (7, 2))
SQUARE = ((5, 3), (3, 7), (7, 3))

NETWORKS = [
    Network("two layers", lambda x, W, V: relu(x @ W) @ V, two_layers, SHALLOW),
    Network("two layers, slope 1 at 0", lambda x, W, V: (x @ W - np.minimum(x @ W, 0)) @ V, one_at_zero, SHALLOW),
    Network("two layers of np.maximum", lambda x, W, V: np.maximum(x @ W, 0) @ V, None, SHALLOW),
    Network("one sample", lambda x, W, V: relu(x @ W) @ V, two_layers, ((1, 3), (3, 7), (7, 2))),
    Network("one feature", lambda x, W, V: relu(x @ W) @ V, two_layers, ((6, 1), (1, 5), (5, 1))),
    Network("two features", lambda x, W, V: relu(x @ W) @ V, two_layers, ((4, 2), (2, 3), (3, 1))),
    Network("wide", lambda x, W, V: relu(x @ W) @ V, two_layers, ((9, 11), (11, 30), (30, 4))),
    Network("three layers with biases", lambda x, W, b, V, c, U: relu(relu(x @ W + b) @ V + c) @ U, three_layers, DEEP),
    Network("residual block", lambda x, W, V: x + relu(x @ W) @ V, residual_block, SQUARE),
    Network("leaky units", lambda x, W, V: functional.leaky_relu(x @ W, 0.1) @ V, leaky, SHALLOW),
    Network("elu units", lambda x, W, V: functional.elu(x @ W, 0.5) @ V, None, SHALLOW),
    Network("absolute values", lambda x, W, V: np.abs(x @ W) @ V, absolute, SHALLOW),
    Network("units from 0 to 6", lambda x, W, V: np.clip(x @ W, 0, 6) @ V, None, SHALLOW),
    Network("the larger of two", lambda x, W, V: np.maximum(x @ W, x @ V), None, ((5, 3), (3, 7), (3, 7))),
    Network("gated units", lambda x, W, V: relu(x @ W) * (x @ V), gated, ((5, 3), (3, 7), (3, 7))),
    Network("pooled units", lambda x, W: np.max(relu(x @ W), axis=1), pooled_rows, ((5, 3), (3, 7))),
    Network(
        "rectified correlation",
        lambda x, k: relu(np.lib.stride_tricks.sliding_window_view(x, 3) @ k),
        filtered,
        ((11,), (3,)),
    ),
    Network("hinge loss", lambda x, W, t: np.sum(relu(1 - t * (x @ W))) / len(x), hinge, ((5, 3), (3, 2), (5, 2))),
    Network("absolute error", lambda x, W, y: functional.l1_loss(x @ W, y), absolute_error, ((5, 3), (3, 2), (5, 2))),
    Network(
        "cross-entropy on top",
        lambda x, W, V: functional.cross_entropy(relu(x @ W) @ V, np.zeros(x.shape[0], int)),
        scored,
        SHALLOW,
    ),
]
