"""Right backward passes whose mutants the diagnosis was tuned on; scoring_layers.py has those that score it."""

from __future__ import annotations

from typing import Any

import numpy as np


def softsign(x):
    d = 1 + np.abs(x.real) if x.dtype.kind != "c" else 1 + x * np.sign(x.real)

    def pullback(g):
        return (g / d**2,)

    return x / d, pullback


def gaussian(x):
    y = np.exp(-x * x)

    def pullback(g):
        return (-2 * g * x * y,)

    return y, pullback


def softplus(x):
    def pullback(g):
        return (g / (1 + np.exp(-x)),)

    return np.log(1 + np.exp(x)), pullback


def swish(x):
    s = 1 / (1 + np.exp(-x))

    def pullback(g):
        return (g * (s + x * s * (1 - s)),)

    return x * s, pullback


def mish(x):
    t = np.tanh(np.log(1 + np.exp(x)))

    def pullback(g):
        s = 1 / (1 + np.exp(-x))
        return (g * (t + x * s * (1 - t * t)),)

    return x * t, pullback


def affine(x, W, b):
    def pullback(g):
        return g @ W.T, x.T @ g, g.sum(axis=0)

    return x @ W + b, pullback


def bilinear(x, A, y):
    def pullback(g):
        return (g[:, None] * (y @ A.T)), (x * g[:, None]).T @ y, (g[:, None] * (x @ A))

    return ((x @ A) * y).sum(axis=1), pullback


def squared_distance(a, b):
    d = a - b

    def pullback(g):
        return 2 * g[:, None] * d, -2 * g[:, None] * d

    return (d * d).sum(axis=1), pullback


def dot_attention(q, k):
    c = 1 / np.sqrt(q.shape[1])

    def pullback(g):
        return c * (g @ k), c * (g.T @ q)

    return c * (q @ k.T), pullback


def log_softmax(z):
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(g):
        return (g - p * g.sum(axis=1, keepdims=True),)

    return np.log(p), pullback


def softmax(z):
    e = np.exp(z)
    y = e / e.sum(axis=1, keepdims=True)

    def pullback(g):
        return (y * (g - (g * y).sum(axis=1, keepdims=True)),)

    return y, pullback


def rms_norm(x, w):
    r = np.sqrt((x * x).mean(axis=1, keepdims=True))
    n = x / r

    def pullback(g):
        h = g * w
        return (h - n * (h * n).mean(axis=1, keepdims=True)) / r, (g * n).sum(axis=0)

    return n * w, pullback


def centred(x):
    def pullback(g):
        return (g - g.mean(axis=0, keepdims=True),)

    return x - x.mean(axis=0, keepdims=True), pullback


def gated(a, b):
    s = 1 / (1 + np.exp(-b))

    def pullback(g):
        return g * s, g * a * s * (1 - s)

    return a * s, pullback


def two_layers(x, W1, W2):
    h = np.tanh(x @ W1)

    def pullback(g):
        d = (g @ W2.T) * (1 - h * h)
        return d @ W1.T, x.T @ d, h.T @ g

    return h @ W2, pullback


def residual(x, W):
    h = np.sin(x @ W)

    def pullback(g):
        d = g * np.cos(x @ W)
        return g + d @ W.T, x.T @ d

    return x + h, pullback


def huber(x):
    s = np.sqrt(1 + x * x)

    def pullback(g):
        return (g * x / s,)

    return s - 1, pullback


def mean_squares(p, t):
    def pullback(g):
        return 2 * g * (p - t) / p.size, -2 * g * (p - t) / p.size

    return ((p - t) ** 2).mean(), pullback


def logistic_loss(z, t):
    s = 1 / (1 + np.exp(-z))

    def pullback(g):
        return g * (s - t) / len(z), -g * z / len(z)

    return (np.log(1 + np.exp(z)) - t * z).sum() / len(z), pullback


def quotient(a, b):
    def pullback(g):
        return g / b, -g * a / b**2

    return a / b, pullback


def log_sum_exp(x):
    e = np.exp(x)
    s = e.sum(axis=1, keepdims=True)

    def pullback(g):
        return (g[:, None] * e / s,)

    return np.log(s[:, 0]), pullback


def cosine(a, b):
    m = np.sqrt((a * a).sum(axis=1, keepdims=True))
    n = np.sqrt((b * b).sum(axis=1, keepdims=True))
    c = (a * b).sum(axis=1, keepdims=True) / (m * n)

    def pullback(g):
        return g * (b / (m * n) - c * a / m**2), g * (a / (m * n) - c * b / n**2)

    return c, pullback


def standardised(x):
    m = x.mean(axis=0)
    s = np.sqrt(((x - m) ** 2).mean(axis=0))
    z = (x - m) / s

    def pullback(g):
        return ((g - g.mean(axis=0) - z * (g * z).mean(axis=0)) / s,)

    return z, pullback


def moving_average(x, v, w):
    n = x.shape[0] - 1
    y = v * x[:n] + w * x[1:]

    def pullback(g):
        dx = np.zeros_like(x)
        dx[:n] += v * g
        dx[1:] += w * g
        return dx, (g * x[:n]).sum(keepdims=True), (g * x[1:]).sum(keepdims=True)

    return y, pullback


def hinge(s, t):
    m = 1 - t * s

    def pullback(g):
        d = g * (m > 0) / len(s)
        return -d * t, -d * s

    return (m * (m.real > 0)).sum() / len(s), pullback


def relative_entropy(p, t):
    def pullback(g):
        return -g * t / p / p.shape[0], g * (np.log(t / p) + 1) / p.shape[0]

    return (t * np.log(t / p)).sum() / p.shape[0], pullback


def moments(x):
    m = x.mean(axis=0)
    q = (x * x).mean(axis=0)

    def pullback(g):
        return ((g[0] + 2 * x * g[1]) / x.shape[0],)

    return np.stack([m, q]), pullback


def smooth_distance(a, b):
    d = a[:, None, :] - b[None, :, :]
    r = np.sqrt(1 + d * d)

    def pullback(g):
        w = g[:, :, None] * d / r
        return w.sum(axis=1), -w.sum(axis=0)

    return r.sum(axis=2), pullback


def recurrence(x, W):
    h = np.tanh(x)
    k = np.tanh(x + h @ W)

    def pullback(g):
        d = g * (1 - k * k)
        return d + (d @ W.T) * (1 - h * h), h.T @ d

    return k, pullback


def weighted_mean(x, w):
    e = np.exp(w)
    p = e / e.sum()

    def pullback(g):
        dp = (g * x).sum(axis=1)
        return g * p[:, None], p * (dp - (p * dp).sum())

    return x * p[:, None], pullback


def cumulative(x, c):
    y = np.cumsum(x * c, axis=0)

    def pullback(g):
        d = np.cumsum(g[::-1], axis=0)[::-1]
        return d * c, (d * x).sum(axis=0)

    return y, pullback


def relu_pair(x, W, V):
    z = x @ W
    h = z * (z.real > 0)

    def pullback(g):
        d = (g @ V.T) * (z > 0)
        return d @ W.T, x.T @ d, h.T @ g

    return h @ V, pullback


def _signed(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, True) for shape in shapes]


LAYERS: list[tuple[Any, list[tuple[tuple[int, ...], bool]]]] = [
    *[
        (f, _signed((5, 3)))
        for f in (softsign, gaussian, softplus, swish, mish, log_softmax, softmax, centred, huber, log_sum_exp)
    ],
    *[(f, _signed((5, 3), (5, 3))) for f in (squared_distance, gated, mean_squares, logistic_loss, cosine, quotient)],
    (affine, _signed((5, 3), (3, 7), (7,))),
    *[(f, _signed((5, 3))) for f in (standardised, moments)],
    *[(f, _signed((5, 3), (5, 3))) for f in (hinge,)],
    (relative_entropy, [((5, 3), False), ((5, 3), False)]),
    (moving_average, _signed((11,), (1,), (1,))),
    (smooth_distance, _signed((5, 3), (7, 3))),
    (recurrence, _signed((5, 3), (3, 3))),
    (weighted_mean, _signed((5, 3), (5,))),
    (cumulative, _signed((5, 3), (3,))),
    (relu_pair, _signed((5, 3), (3, 7), (7, 2))),
    (bilinear, _signed((5, 3), (3, 7), (5, 7))),
    (dot_attention, _signed((5, 3), (7, 3))),
    (rms_norm, _signed((5, 3), (3,))),
    (two_layers, _signed((5, 3), (3, 7), (7, 2))),
    (residual, _signed((5, 3), (3, 3))),
]
