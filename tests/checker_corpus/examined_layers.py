"""Right backward passes whose mutants scored the diagnosis once; the wrong names were then read and mended."""

from __future__ import annotations

from typing import Any

import numpy as np


def layer_norm(x, w, b):
    c = x - x.mean(axis=1, keepdims=True)
    s = np.sqrt((c * c).mean(axis=1, keepdims=True) + 1e-3)
    n = c / s

    def pullback(g):
        h = g * w
        dx = (h - h.mean(axis=1, keepdims=True) - n * (h * n).mean(axis=1, keepdims=True)) / s
        return dx, (g * n).sum(axis=0), g.sum(axis=0)

    return n * w + b, pullback


def batch_norm(x, w, b):
    c = x - x.mean(axis=0)
    r = 1 / np.sqrt((c * c).mean(axis=0) + 1e-3)
    n = c * r

    def pullback(g):
        dn = g * w
        dx = r * (dn - dn.mean(axis=0) - n * (dn * n).mean(axis=0))
        return dx, (g * n).sum(axis=0), g.sum(axis=0)

    return w * n + b, pullback


def soft_cross_entropy(z, t):
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    n = len(z)

    def pullback(g):
        return g * (p * t.sum(axis=1, keepdims=True) - t) / n, -g * np.log(p) / n

    return -(t * np.log(p)).sum() / n, pullback


def gated_recurrent_step(x, h, W, U):
    u = 1 / (1 + np.exp(-(x @ W)))
    c = np.tanh(h @ U)

    def pullback(g):
        du = g * (c - h) * u * (1 - u)
        dc = g * u * (1 - c**2)
        return du @ W.T, g * (1 - u) + dc @ U.T, x.T @ du, h.T @ dc

    return (1 - u) * h + u * c, pullback


def correlation(x, k):
    m = k.shape[0]
    n = x.shape[0] - m + 1
    y = 0
    for j in range(m):
        y = y + x[j : j + n] * k[j]

    def pullback(g):
        dx = np.zeros_like(x)
        dk = np.zeros_like(k)
        for j in range(m):
            dx[j : j + n] += g * k[j]
            dk[j] = (g * x[j : j + n]).sum()
        return dx, dk

    return y, pullback


def rectified_layer(x, W, b):
    z = x @ W + b
    mask = z.real > 0

    def pullback(g):
        d = g * mask
        return d @ W.T, x.T @ d, d.sum(axis=0)

    return z * mask, pullback


def squared_hinge(s, t):
    m = 1 - t * s
    a = m * (m.real > 0)

    def pullback(g):
        d = 2 * g * a / s.size
        return -d * t, -d * s

    return (a * a).sum() / s.size, pullback


def log_cosh(p, t):
    d = p - t

    def pullback(g):
        e = g * np.tanh(d) / d.shape[0]
        return e, -e

    return np.log(np.cosh(d)).sum() / d.shape[0], pullback


def poisson_loss(z, k):
    r = np.exp(z)

    def pullback(g):
        return g * (r - k) / z.size, -g * z / z.size

    return (r - k * z).mean(), pullback


def gaussian_likelihood(x, mu, v):
    d = x - mu
    w = np.exp(-v)

    def pullback(g):
        dx = g[:, None] * d * w
        return dx, -dx, g[:, None] * 0.5 * (1 - d * d * w)

    return 0.5 * (v + d * d * w).sum(axis=1), pullback


def radial_kernel(a, b):
    d = a[:, None, :] - b[None, :, :]
    k = np.exp(-0.5 * (d * d).sum(axis=2))

    def pullback(g):
        w = (g * k)[:, :, None] * d
        return -w.sum(axis=1), w.sum(axis=0)

    return k, pullback


def low_rank(x, U, V):
    h = x @ U

    def pullback(g):
        dh = g @ V
        return dh @ U.T, x.T @ dh, g.T @ h

    return h @ V.T, pullback


def unit_rows(x):
    r = np.sqrt((x * x).sum(axis=1, keepdims=True))
    y = x / r

    def pullback(g):
        return ((g - y * (g * y).sum(axis=1, keepdims=True)) / r,)

    return y, pullback


def attention(q, k, v):
    s = 1 / np.sqrt(q.shape[1])
    e = np.exp(s * (q @ k.T))
    a = e / e.sum(axis=1, keepdims=True)

    def pullback(g):
        da = g @ v.T
        dz = s * a * (da - (da * a).sum(axis=1, keepdims=True))
        return dz @ k, dz.T @ q, a.T @ g

    return a @ v, pullback


def scale_and_shift(x, c, A, B):
    s = c @ A
    t = c @ B

    def pullback(g):
        ds = g * x
        return g * (1 + s), ds @ A.T + g @ B.T, c.T @ ds, c.T @ g

    return x * (1 + s) + t, pullback


def rotation(a, b, phi):
    c = np.cos(phi)
    s = np.sin(phi)

    def pullback(g):
        u, v = g[0], g[1]
        return c * u + s * v, c * v - s * u, u * (-s * a - c * b) + v * (c * a - s * b)

    return np.stack([c * a - s * b, s * a + c * b]), pullback


def arctan_layer(x, W):
    z = x @ W

    def pullback(g):
        d = g / (1 + z**2)
        return d @ W.T, x.T @ d

    return np.arctan(z), pullback


def attentive_mean(x, w):
    e = np.exp(x @ w)
    a = e / e.sum()
    y = a @ x

    def pullback(g):
        ds = a * ((x - y) @ g)
        return a[:, None] * g + ds[:, None] * w, x.T @ ds

    return y, pullback


def tied_autoencoder(x, W):
    h = np.tanh(x @ W)

    def pullback(g):
        d = (g @ W) * (1 - h * h)
        return d @ W.T, x.T @ d + g.T @ h

    return h @ W.T, pullback


def power_mean(x):
    m = (x**3).mean(axis=1)
    y = m ** (1 / 3)

    def pullback(g):
        return ((g * m ** (-2 / 3))[:, None] * x**2 / x.shape[1],)

    return y, pullback


def highway(x, W, V):
    t = 1 / (1 + np.exp(-(x @ V)))
    h = np.tanh(x @ W)

    def pullback(g):
        dh = g * t * (1 - h * h)
        dt = g * (h - x) * t * (1 - t)
        return g * (1 - t) + dh @ W.T + dt @ V.T, x.T @ dh, x.T @ dt

    return t * h + (1 - t) * x, pullback


def discounted_sum(x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[i] = x[i] + (0.9 * y[i - 1] if i else 0)

    def pullback(g):
        dx = g.copy()
        for i in range(len(x) - 2, -1, -1):
            dx[i] = g[i] + 0.9 * dx[i + 1]
        return (dx,)

    return y, pullback


def beta_mixture(a, b, w):
    s = 1 / (1 + np.exp(-w))

    def pullback(g):
        return g * s, g * (1 - s), (g * (a - b) * s * (1 - s)).sum(axis=0)

    return s * a + (1 - s) * b, pullback


def divergence(p, q):
    r = np.log(p / q)

    def pullback(g):
        return g[:, None] * (r + 1), -g[:, None] * p / q

    return (p * r).sum(axis=1), pullback


def pooled(x):
    n = x.shape[1]
    m = x.mean(axis=1)
    v = ((x - m[:, None]) ** 2).mean(axis=1)

    def pullback(g):
        return (g[0][:, None] / n + 2 * g[1][:, None] * (x - m[:, None]) / n,)

    return np.stack([m, v]), pullback


def bilinear_form(x, A):
    y = x @ A

    def pullback(g):
        d = g[:, None] * x
        return d @ (A + A.T), x.T @ d

    return (y * x).sum(axis=1), pullback


def _signed(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, True) for shape in shapes]


def _positive(*shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], bool]]:
    return [(shape, False) for shape in shapes]


LAYERS: list[tuple[Any, list[tuple[tuple[int, ...], bool]]]] = [
    *[(f, _signed((5, 3), (3,), (3,))) for f in (layer_norm, batch_norm)],
    *[(f, _signed((5, 3))) for f in (unit_rows, discounted_sum, pooled)],
    *[(f, _signed((5, 3), (5, 3))) for f in (squared_hinge, log_cosh, poisson_loss)],
    *[(f, _positive((5, 3), (5, 3))) for f in (soft_cross_entropy, divergence)],
    (power_mean, _positive((5, 3))),
    (gaussian_likelihood, _signed((5, 3), (5, 3), (5, 3))),
    (gated_recurrent_step, _signed((5, 3), (5, 7), (3, 7), (7, 7))),
    (correlation, _signed((11,), (3,))),
    (rectified_layer, _signed((5, 3), (3, 7), (7,))),
    (radial_kernel, _signed((5, 3), (7, 3))),
    (low_rank, _signed((5, 3), (3, 2), (7, 2))),
    (attention, _signed((5, 3), (7, 3), (7, 2))),
    (scale_and_shift, _signed((5, 3), (5, 2), (2, 3), (2, 3))),
    (rotation, _signed((7,), (7,), (7,))),
    (arctan_layer, _signed((5, 3), (3, 7))),
    (attentive_mean, _signed((5, 3), (3,))),
    (tied_autoencoder, _signed((5, 3), (3, 7))),
    (highway, _signed((5, 3), (3, 3), (3, 3))),
    (beta_mixture, _signed((5, 3), (5, 3), (3,))),
    (bilinear_form, _signed((5, 3), (3, 3))),
]
