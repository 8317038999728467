"""Right backward passes whose mutants score the diagnosis: it was never tuned on them, nor were the mutants read."""

from __future__ import annotations

from typing import Any

import numpy as np


def springs(x, k):
    d = x[1:] - x[:-1]

    def pullback(g):
        f = g * k * d
        dx = np.zeros_like(x)
        dx[1:] += f
        dx[:-1] -= f
        return dx, g * (d * d).sum(axis=0) / 2

    return (k * d * d).sum(axis=0) / 2, pullback


def tempered(z, t):
    s = z / t[:, None]
    e = np.exp(s)
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(g):
        ds = p * (g - (g * p).sum(axis=1, keepdims=True))
        return ds / t[:, None], -(ds * s).sum(axis=1) / t

    return p, pullback


def channel_gate(x, w):
    m = x.mean(axis=2)
    s = 1 / (1 + np.exp(-m * w))

    def pullback(g):
        da = (g * x).sum(axis=2) * s * (1 - s)
        return g * s[:, :, None] + (da * w)[:, :, None] / x.shape[2], (da * m).sum(axis=0)

    return x * s[:, :, None], pullback


def sine_layer(x, W, b):
    z = x @ W + b

    def pullback(g):
        d = g * np.cos(z)
        return d @ W.T, x.T @ d, d.sum(axis=0)

    return np.sin(z), pullback


def hill(x, k):
    q, r = x**3, k**3
    s = q + r

    def pullback(g):
        return 3 * g * x**2 * r / s**2, -(3 * g * q * k**2 / s**2).sum(axis=0)

    return q / s, pullback


def geometric_mean(x):
    y = np.exp(np.log(x).mean(axis=1))

    def pullback(g):
        return ((g * y)[:, None] / (x * x.shape[1]),)

    return y, pullback


def overlap_loss(p, t):
    both = 2 * (p * t).sum()
    size = (p * p).sum() + (t * t).sum()

    def pullback(g):
        return -g * 2 * (t * size - both * p) / size**2, -g * 2 * (p * size - both * t) / size**2

    return 1 - both / size, pullback


def pair_density(x):
    d = x[:, None] - x
    w = np.exp(-(d * d).sum(axis=2))

    def pullback(g):
        return ((-2 * d * (w * (g[:, None] + g))[:, :, None]).sum(axis=1),)

    return w.sum(axis=1), pullback


def smoothing(x, a):
    s = [x[0]]
    for row in x[1:]:
        s.append(a * row + (1 - a) * s[-1])

    def pullback(g):
        dx, da, d = np.zeros_like(x), np.zeros_like(a), np.zeros_like(a)
        for i in range(len(x) - 1, 0, -1):
            d = d + g[i]
            dx[i] = a * d
            da = da + d * (x[i] - s[i - 1])
            d = (1 - a) * d
        dx[0] = d + g[0]
        return dx, da

    return np.stack(s), pullback


def two_exponentials(x, a, b):
    p = 1 / (1 + np.exp((b - a) * x))

    def pullback(g):
        return g * (p * a + (1 - p) * b), (g * p * x).sum(axis=0), (g * (1 - p) * x).sum(axis=0)

    return np.log(np.exp(a * x) + np.exp(b * x)), pullback


def additive_scores(a, b, v):
    h = np.tanh(a[:, None] + b)

    def pullback(g):
        dh = g[:, :, None] * v * (1 - h * h)
        return dh.sum(axis=1), dh.sum(axis=0), (g[:, :, None] * h).sum(axis=(0, 1))

    return h @ v, pullback


def complex_product(a, b, c, d):
    def pullback(g):
        r, i = g
        return r * c + i * d, i * c - r * d, r * a + i * b, i * a - r * b

    return np.stack([a * c - b * d, a * d + b * c]), pullback


def spread_of_scores(x, w):
    m = x @ w
    c = m - m.mean()

    def pullback(g):
        dm = 2 * g * c / c.size
        return dm[:, None] * w, x.T @ dm

    return (c * c).mean(), pullback


def channel_filter(x, w, b):
    def pullback(g):
        return g[:, :, None] * w, np.einsum("nc,nck->ck", g, x), g.sum(axis=0)

    return np.einsum("nck,ck->nc", x, w) + b, pullback


def parabola(x, a, b, c):
    slope = a * x + b

    def pullback(g):
        return g * (slope + a * x), g * x * x, g * x, g

    return slope * x + c, pullback


def rounded_laplace(x, m, s):
    d = x - m
    r = np.sqrt(d * d + s * s)

    def pullback(g):
        dx = g * d / (r * s)
        return dx, -dx.sum(axis=0), (g * (1 / r - r / s**2 + 1 / s)).sum(axis=0)

    return r / s + np.log(s), pullback


def leapfrog(q, p, k):
    v = p - 0.1 * k * q

    def pullback(g):
        dv = g[1] + 0.2 * g[0]
        return g[0] - 0.1 * k * dv, dv, -0.1 * (q * dv).sum(axis=0)

    return np.stack([q + 0.2 * v, v]), pullback


def doubled(x, w):
    def pullback(g):
        d = g.reshape(len(x), -1, 2).sum(axis=2)
        return d * w, (d * x).sum(axis=0)

    return np.repeat(x * w, 2, axis=1), pullback


def soft_minimum(x):
    e = np.exp(-x)
    s = e.sum(axis=1)

    def pullback(g):
        return (g[:, None] * e / s[:, None],)

    return -np.log(s), pullback


def von_mises(t, m, k):
    c = np.cos(t - m)
    y = np.exp(k * c)

    def pullback(g):
        dt = -g * y * k * np.sin(t - m)
        return dt, -dt.sum(axis=0), (g * y * c).sum(axis=0)

    return y, pullback


def product_pool(x, U, V):
    a, b = x @ U, x @ V

    def pullback(g):
        da, db = g * b, g * a
        return da @ U.T + db @ V.T, x.T @ da, x.T @ db

    return a * b, pullback


def elman(x, h, W, U, b):
    y = np.tanh(x @ W + h @ U + b)

    def pullback(g):
        d = g * (1 - y * y)
        return d @ W.T, d @ U.T, x.T @ d, h.T @ d, d.sum(axis=0)

    return y, pullback


def shares(x):
    s = x.sum(axis=0)
    y = x / s

    def pullback(g):
        return ((g - (g * y).sum(axis=0)) / s,)

    return y, pullback


def _signed(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, True) for shape in shapes]


def _positive(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, False) for shape in shapes]


LAYERS: list[tuple[Any, list[tuple[tuple[int, ...], bool]]]] = [
    (springs, _signed((5, 3), (3,))),
    (tempered, _signed((5, 3)) + _positive((5,))),
    (channel_gate, _signed((5, 3, 7), (3,))),
    (sine_layer, _signed((5, 3), (3, 7), (7,))),
    (hill, _positive((5, 3), (3,))),
    *[(f, _positive((5, 3))) for f in (geometric_mean, shares)],
    (overlap_loss, _signed((5, 3), (5, 3))),
    *[(f, _signed((5, 3))) for f in (pair_density, soft_minimum)],
    (smoothing, _signed((7, 3)) + _positive((3,))),
    *[(f, _signed((5, 3), (3,), (3,))) for f in (two_exponentials, von_mises)],
    (additive_scores, _signed((5, 3), (7, 3), (3,))),
    (complex_product, _signed((7,), (7,), (7,), (7,))),
    (spread_of_scores, _signed((5, 3), (3,))),
    (channel_filter, _signed((5, 3, 7), (3, 7), (3,))),
    (parabola, _signed((7,), (7,), (7,), (7,))),
    (rounded_laplace, _signed((5, 3), (3,)) + _positive((3,))),
    (leapfrog, _signed((5, 3), (5, 3), (3,))),
    (doubled, _signed((5, 3), (3,))),
    (product_pool, _signed((5, 3), (3, 7), (3, 7))),
    (elman, _signed((5, 3), (5, 11), (3, 7), (11, 7), (7,))),
]
