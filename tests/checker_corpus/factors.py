"""Mistakes by a constant factor."""

from __future__ import annotations

import numpy as np

from checker_corpus.base import mistake, normal, positive, sigmoid, softmax


@mistake("factor", of="x", by="1/2")
def mse_without_the_2(rng):
    t = normal(rng, 5, 3)
    return (
        lambda x: ((x - t) ** 2).mean(),
        lambda x: (((x - t) ** 2).mean(), lambda g: (g * (x - t) / x.size,)),
        (normal(rng, 5, 3),),
    )


@mistake("factor", of="x", by="2")
def half_squared_error_with_a_2(rng):
    t = normal(rng, 7)
    f = lambda x: 0.5 * np.sum((x - t) ** 2)
    return f, lambda x: (f(x), lambda g: (2 * g * (x - t),)), (normal(rng, 7),)


def _cross_entropy(z, labels):
    p = softmax(z)
    return -np.log(p[np.arange(len(labels)), labels]).mean()


@mistake("factor", of="z", by="z.shape[0]")
def cross_entropy_not_divided_by_the_batch(rng):
    def rule(z, labels):
        p = softmax(z)
        p[np.arange(len(labels)), labels] -= 1
        return _cross_entropy(z, labels), lambda g: (g * p, None)

    return _cross_entropy, rule, (normal(rng, 7, 3), rng.integers(0, 3, 7))


@mistake("factor", of="z", by="z.shape[0]/z.shape[1]")
def cross_entropy_divided_by_the_classes(rng):
    def rule(z, labels):
        p = softmax(z)
        p[np.arange(len(labels)), labels] -= 1
        return _cross_entropy(z, labels), lambda g: (g * p / z.shape[1], None)

    return _cross_entropy, rule, (normal(rng, 7, 3), rng.integers(0, 3, 7))


@mistake("factor", of="x0", by="2")
def sqrt_without_one_half(rng):
    return np.sqrt, lambda x: (np.sqrt(x), lambda g: (g / np.sqrt(x),)), (positive(rng, 5, 2),)


@mistake("factor", of="x", by="x.shape[0]/x.shape[1]")
def mean_over_axis_0_divides_by_the_wrong_length(rng):
    f = lambda x: x.mean(axis=0)
    return f, lambda x: (f(x), lambda g: (np.broadcast_to(g, x.shape) / x.shape[1],)), (normal(rng, 5, 3),)


@mistake("factor", of="x", by="x.shape[1]")
def mean_as_sum(rng):
    f = lambda x: x.mean(axis=1)
    return f, lambda x: (f(x), lambda g: (np.repeat(g[:, None], x.shape[1], axis=1),)), (normal(rng, 5, 3),)


@mistake("factor", of="x", by="1/x.shape[0]")
def mean_divided_by_the_size_of_everything(rng):
    f = lambda x: x.mean(axis=1)
    return f, lambda x: (f(x), lambda g: (np.repeat(g[:, None], x.shape[1], axis=1) / x.size,)), (normal(rng, 5, 3),)


@mistake("factor", of="b", by="x.shape[1]")
def bias_updated_once_for_each_weight(rng):
    def rule(x, W, b):
        def pullback(g):
            db = np.zeros_like(b)
            for _ in range(x.shape[1]):
                db += g.sum(axis=0)
            return g @ W.T, x.T @ g, db

        return x @ W + b, pullback

    return lambda x, W, b: x @ W + b, rule, (normal(rng, 7, 3), normal(rng, 3, 5), normal(rng, 5))


@mistake("factor", of="x", by="x.shape[0]/32")
def mean_over_a_hard_coded_batch_of_32(rng):
    f = lambda x, w: ((x @ w) ** 2).mean()
    return (
        f,
        lambda x, w: (f(x, w), lambda g: (g * 2 / 32 * np.outer(x @ w, w), g * 2 / 32 * x.T @ (x @ w))),
        (normal(rng, 5, 3), normal(rng, 3)),
    )


@mistake("factor", of="x1", by="-1")
def subtract_without_the_minus(rng):
    return np.subtract, lambda a, b: (a - b, lambda g: (g * 1, g * 1)), (normal(rng, 5, 3), normal(rng, 5, 3))


@mistake("factor", of="x0", by="-1")
def cos_without_the_minus(rng):
    return np.cos, lambda x: (np.cos(x), lambda g: (g * np.sin(x),)), (normal(rng, 5, 3),)


@mistake("factor", of="x", by="2/3")
def cube_with_factor_2(rng):
    return lambda x: x**3, lambda x: (x**3, lambda g: (g * 2 * x**2,)), (normal(rng, 11),)


@mistake("factor", of="x", by="x.shape[0]/(x.shape[0] - 1)")
def variance_with_ddof(rng):
    f = lambda x: ((x - x.mean(axis=0)) ** 2).mean(axis=0)
    return f, lambda x: (f(x), lambda g: (g * 2 * (x - x.mean(axis=0)) / (x.shape[0] - 1),)), (normal(rng, 7, 3),)


@mistake("factor", of="x", by="0.6")
def dropout_mask_not_rescaled(rng):
    mask = rng.random((7, 5)) < 0.6
    f = lambda x: x * mask / 0.6
    return f, lambda x: (f(x), lambda g: (g * mask,)), (normal(rng, 7, 5),)


@mistake("factor", of="x", by="temperature")
def temperature_forgotten(rng):
    temperature = 2.5

    def rule(x):
        h = np.tanh(x / temperature)
        return h, lambda g: (g * (1 - h**2),)

    return lambda x: np.tanh(x / temperature), rule, (normal(rng, 5, 3),)


@mistake("factor", of="x", by="log(2)")
def log2_as_natural_logarithm(rng):
    return lambda x: np.log(x) / np.log(2), lambda x: (np.log(x) / np.log(2), lambda g: (g / x,)), (positive(rng, 11),)


@mistake("factor", of="q", by="sqrt(q.shape[1])")
def attention_without_the_root_of_d(rng):
    f = lambda q, k: q @ k.T / np.sqrt(q.shape[1])
    return (
        f,
        lambda q, k: (f(q, k), lambda g: (g @ k, g.T @ q / np.sqrt(q.shape[1]))),
        (normal(rng, 5, 3), normal(rng, 7, 3)),
    )


@mistake("factor", of="x", by="1/2")
def both_uses_of_an_input_counted_once(rng):
    f = lambda x: x @ x.T
    return f, lambda x: (f(x), lambda g: ((g + g.T) @ x / 2,)), (normal(rng, 5, 3),)


@mistake("factor", of="W", by="2")
def weight_decay_without_the_half(rng):
    f = lambda W: 0.5 * 0.1 * np.sum(W**2)
    return f, lambda W: (f(W), lambda g: (g * 0.2 * W,)), (normal(rng, 5, 3),)


@mistake("factor", of="x", by="3")
def softplus_with_beta(rng):
    f = lambda x: np.log(1 + np.exp(3 * x)) / 3
    return f, lambda x: (f(x), lambda g: (g * sigmoid(3 * x) * 3,)), (normal(rng, 5, 3),)


@mistake("factor", of="x", by="180/pi")
def degrees_not_converted(rng):
    f = lambda x: np.sin(x * np.pi / 180)
    return f, lambda x: (f(x), lambda g: (g * np.cos(x * np.pi / 180),)), (100 * normal(rng, 11),)
