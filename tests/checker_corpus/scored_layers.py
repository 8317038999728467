"""Right backward passes whose mutants scored the diagnosis before scoring_layers.py did."""

from __future__ import annotations

from typing import Any

import numpy as np


def elliptic(a, b, W):
    u = a @ W
    r = np.sqrt(u * u + b * b)

    def pullback(g):
        d = g * u / r
        return d @ W.T, g * b / r, a.T @ d

    return r, pullback


def softmax_pool(x):
    e = np.exp(x)
    p = e / e.sum(axis=0)
    y = (p * x).sum(axis=0)

    def pullback(g):
        return (g * p * (1 + x - y),)

    return y, pullback


def exponential_decay(t, k, c):
    y = c * np.exp(-k * t)

    def pullback(g):
        return -g * k * y, -(g * t * y).sum(axis=0), (g * y / c).sum(axis=0)

    return y, pullback


def student_loss(x, m):
    d = x - m
    q = 1 + d * d

    def pullback(g):
        e = 2 * g * d / q / d.size
        return e, -e.sum(axis=0)

    return np.log(q).mean(), pullback


def maxout(x, W, V):
    u = x @ W
    v = x @ V
    big = (u.real > v.real) * 1.0

    def pullback(g):
        du = g * big
        dv = g * (1 - big)
        return du @ W.T + dv @ V.T, x.T @ du, x.T @ dv

    return u * big + v * (1 - big), pullback


def tensor_product(a, b):
    y = a[:, :, None] * b[:, None, :]

    def pullback(g):
        return (g * b[:, None, :]).sum(axis=2), (g * a[:, :, None]).sum(axis=1)

    return y, pullback


def contraction(x, T):
    y = np.einsum("ni,ijk->njk", x, T)

    def pullback(g):
        return np.einsum("njk,ijk->ni", g, T), np.einsum("njk,ni->ijk", g, x)

    return y, pullback


def lagged_difference(x):
    y = x[2:] - 0.5 * x[:-2]

    def pullback(g):
        d = np.zeros_like(x)
        d[2:] += g
        d[:-2] -= 0.5 * g
        return (d,)

    return y, pullback


def swish_layer(x, W, b):
    z = x @ W + b
    s = 1 / (1 + np.exp(-z))
    y = z * s

    def pullback(g):
        d = g * (s + y * (1 - s))
        return d @ W.T, x.T @ d, d.sum(axis=0)

    return y, pullback


def lorentzian(x, c, w):
    d = (x - c) / w
    y = 1 / (1 + d * d)

    def pullback(g):
        h = -2 * g * d * y * y / w
        return h, -h.sum(axis=0), -(h * d).sum(axis=0)

    return y, pullback


def interpolation(a, b, t):
    y = a + (b - a) * t[:, None]

    def pullback(g):
        return g * (1 - t[:, None]), g * t[:, None], (g * (b - a)).sum(axis=1)

    return y, pullback


def inner_products(x):
    def pullback(g):
        return ((g + g.T) @ x,)

    return x @ x.T, pullback


def normal_equations(x, y, W):
    r = x @ W - y

    def pullback(g):
        h = 2 * g * r / len(x)
        return h @ W.T, -h, x.T @ h

    return (r * r).sum() / len(x), pullback


def focal_loss(z, t):
    p = 1 / (1 + np.exp(-z))
    q = 1 - p

    def pullback(g):
        return g * t * (2 * p * q**2 * np.log(p) - q**3), -g * q**2 * np.log(p)

    return -t * q**2 * np.log(p), pullback


def harmonic(x):
    r = 1 / x
    y = x.shape[1] / r.sum(axis=1)

    def pullback(g):
        return ((g * y * y)[:, None] * r * r / x.shape[1],)

    return y, pullback


def entropy(z):
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    h = -(p * np.log(p)).sum(axis=1)

    def pullback(g):
        return (-g[:, None] * p * (np.log(p) + h[:, None]),)

    return h, pullback


def memory_read(q, K, V):
    w = 1 / (1 + np.exp(-(q @ K.T)))

    def pullback(g):
        dw = (g @ V.T) * w * (1 - w)
        return dw @ K, dw.T @ q, w.T @ g

    return w @ V, pullback


def chirp(a, f, t):
    phase = f * t + t**2
    y = a * np.sin(phase)

    def pullback(g):
        dp = g * a * np.cos(phase)
        return g * np.sin(phase), dp * t, dp * (f + 2 * t)

    return y, pullback


def residual_pair(x, W, V):
    h = np.tanh(x @ W)
    u = x + h @ V

    def pullback(g):
        dh = (g @ V.T) * (1 - h**2)
        return g + dh @ W.T, x.T @ dh, h.T @ g

    return u, pullback


def margins(x, W):
    s = x @ W
    m = s - s.mean(axis=1, keepdims=True)

    def pullback(g):
        ds = g - g.mean(axis=1, keepdims=True)
        return ds @ W.T, x.T @ ds

    return m, pullback


def _signed(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, True) for shape in shapes]


def _positive(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, False) for shape in shapes]


LAYERS: list[tuple[Any, list[tuple[tuple[int, ...], bool]]]] = [
    (elliptic, _signed((5, 3), (5, 7), (3, 7))),
    *[(f, _signed((5, 3))) for f in (softmax_pool, inner_products, entropy)],
    *[(f, _signed((5, 3), (3,), (3,))) for f in (exponential_decay, lorentzian)],
    (student_loss, _signed((5, 3), (3,))),
    *[(f, _signed((5, 3), (3, 7), (3, 7))) for f in (maxout,)],
    (tensor_product, _signed((5, 3), (5, 7))),
    (contraction, _signed((5, 3), (3, 7, 2))),
    (lagged_difference, _signed((11,))),
    (swish_layer, _signed((5, 3), (3, 7), (7,))),
    (interpolation, _signed((5, 3), (5, 3), (5,))),
    (normal_equations, _signed((5, 3), (5, 7), (3, 7))),
    (focal_loss, _signed((5, 3), (5, 3))),
    (harmonic, _positive((5, 3))),
    (memory_read, _signed((5, 3), (7, 3), (7, 2))),
    (chirp, _signed((7,), (7,), (7,))),
    (residual_pair, _signed((5, 3), (3, 7), (7, 3))),
    (margins, _signed((5, 3), (3, 7))),
]
