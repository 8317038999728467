"""Mistakes of state: caches, buffers, memory, and what is done to the upstream gradient."""

from __future__ import annotations

import numpy as np

from checker_corpus.base import away, mistake, normal


class Scale:
    def __init__(self, rng):
        self.x = None
        self.d = np.zeros((5, 3))
        self.mask = None
        self.kept = None


@mistake("stale")
def backward_reads_what_a_later_forward_overwrote(rng):
    layer = Scale(rng)

    def rule(x):
        layer.x = x
        return x**2, lambda g: (g * 2 * layer.x,)

    return lambda x: x**2, rule, (normal(rng, 5, 3),)


@mistake("stale")
def activation_in_a_reused_buffer(rng):
    buffer = np.zeros((5, 3))

    def rule(x):
        np.tanh(x, out=buffer)
        return buffer.copy(), lambda g: (g * (1 - buffer**2),)

    return np.tanh, rule, (normal(rng, 5, 3),)


@mistake("accumulates")
def buffer_not_cleared(rng):
    def rule(x):
        d = np.zeros_like(x)

        def pullback(g):
            nonlocal d
            d = d + g * 2 * x
            return (d,)

        return x**2, pullback

    return lambda x: x**2, rule, (normal(rng, 5, 3),)


@mistake("accumulates")
def weight_gradient_added_on(rng):
    def rule(x, W):
        dW = np.zeros_like(W)

        def pullback(g):
            dW[...] += x.T @ g
            return g @ W.T, dW

        return x @ W, pullback

    return np.matmul, rule, (normal(rng, 5, 3), normal(rng, 3, 7))


@mistake("mutates", of="x1")
def update_applied_inside_the_backward(rng):
    def rule(x, W):
        def pullback(g):
            dx, dW = g @ W.T, x.T @ g
            W[...] -= 0.1 * dW
            return dx, dW

        return x @ W, pullback

    return np.matmul, rule, (normal(rng, 5, 3), normal(rng, 3, 7))


@mistake("mutates", of="x0")
def forward_sorts_its_input(rng):
    def rule(x):
        order = np.argsort(x)
        x.sort()

        def pullback(g):
            d = np.zeros_like(g)
            d[order] = g
            return (d,)

        return x.copy(), pullback

    return np.sort, rule, (normal(rng, 7),)


@mistake("mutates-upstream")
def upstream_multiplied_in_place(rng):
    def rule(x):
        def pullback(g):
            g *= np.cos(x)
            return (g,)

        return np.sin(x), pullback

    return np.sin, rule, (normal(rng, 5, 3),)


@mistake("mutates-upstream")
def relu_writes_zeros_into_the_upstream(rng):
    def rule(x):
        def pullback(g):
            g[x < 0] = 0
            return (g,)

        return np.maximum(x, 0), pullback

    return lambda x: np.maximum(x, 0), rule, (away(rng, 5, 3),)


@mistake("layout")
def upstream_read_in_memory_order(rng):
    def rule(x):
        return x.reshape(-1).reshape(x.shape) * 2, lambda g: (2 * g.ravel(order="K").reshape(x.shape),)

    return lambda x: 2 * x, rule, (normal(rng, 5, 3),)


@mistake("layout")
def input_read_in_memory_order(rng):
    def rule(x):
        kept = x.ravel(order="K").copy()
        return x**2, lambda g: (2 * g * kept.reshape(x.shape),)

    return lambda x: x**2, rule, (normal(rng, 5, 3),)


@mistake("nonlinear")
def gradient_clipped_inside_the_backward(rng):
    return np.sin, lambda x: (np.sin(x), lambda g: (np.clip(g * np.cos(x), -5, 5),)), (normal(rng, 5, 3),)


@mistake("nonlinear")
def upstream_used_twice(rng):
    return np.sin, lambda x: (np.sin(x), lambda g: (g * g * np.cos(x),)), (normal(rng, 5, 3),)


@mistake("nonlinear")
def gradient_normalised(rng):
    return (
        np.sin,
        lambda x: (np.sin(x), lambda g: (g * np.cos(x) / np.linalg.norm(g * np.cos(x)),)),
        (normal(rng, 5, 3),),
    )


@mistake("ignores-upstream")
def upstream_ignored(rng):
    return lambda x: np.sum(x**2), lambda x: (np.sum(x**2), lambda g: (2 * x,)), (normal(rng, 5, 3),)


@mistake("frozen", of="x0")
def mask_made_once(rng):
    layer = Scale(rng)

    def rule(x):
        if layer.kept is None:
            layer.kept = np.cos(x)
        kept = layer.kept
        return np.sin(x), lambda g: (g * kept,)

    return np.sin, rule, (normal(rng, 5, 3),)


@mistake("random")
def forward_that_cannot_be_repeated(rng):
    state = [0.0]

    def fn(x):
        state[0] += 0.1
        return x * state[0]

    def rule(x):
        y = fn(x)
        now = state[0]
        return y, lambda g: (g * now,)

    return fn, rule, (normal(rng, 5, 3),)


@mistake("dtype", of="x0")
def complex_gradient_of_a_real_input(rng):
    return np.sin, lambda x: (np.sin(x), lambda g: (g * np.cos(x).astype(complex),)), (normal(rng, 5, 3),)


@mistake("unrepeatable")
def backward_pops_from_a_list(rng):
    def rule(x):
        kept = [x, x * 0]

        def pullback(g):
            return (g * 2 * kept.pop(0),)

        return x**2, pullback

    return lambda x: x**2, rule, (normal(rng, 5, 3),)
