"""Mistakes of place: the right numbers, elsewhere or summed wrongly."""

from __future__ import annotations

import numpy as np

from checker_corpus.base import mistake, normal


@mistake("permuted", of="x1", by="transposed")
def weight_gradient_transposed(rng):
    return np.matmul, lambda x, W: (x @ W, lambda g: (g @ W.T, (x.T @ g).T)), (normal(rng, 5, 3), normal(rng, 3, 3))


@mistake("jvp", "permuted", of="x", by="permuted: transpose(1, 2, 0)")
def transpose_backward_with_the_same_permutation(rng):
    f = lambda x: x.transpose(1, 2, 0)
    return f, lambda x: (f(x), lambda g: (g.transpose(1, 2, 0),)), (normal(rng, 3, 3, 3),)


def _correlate(x, k):
    return np.stack([(x[i : i + k.size] * k).sum() for i in range(x.size - k.size + 1)])


@mistake("permuted", of="k", by="flipped along axis 0")
def kernel_gradient_flipped(rng):
    def rule(x, k):
        def pullback(g):
            dx = np.zeros_like(x)
            for i in range(g.size):
                dx[i : i + k.size] += g[i] * k
            dk = np.stack([(x[j : j + g.size] * g).sum() for j in range(k.size)])
            return dx, dk[::-1]

        return _correlate(x, k), pullback

    return _correlate, rule, (normal(rng, 11), normal(rng, 5))


@mistake("jvp", of="x0", by="jvp")
def cumsum_not_reversed(rng):
    return np.cumsum, lambda x: (np.cumsum(x), lambda g: (np.cumsum(g),)), (normal(rng, 7),)


@mistake("swapped", of="x0", by="x1")
def multiply_returns_the_gradients_of_each_other(rng):
    return np.multiply, lambda a, b: (a * b, lambda g: (g * a, g * b)), (normal(rng, 5, 3), normal(rng, 5, 3))


@mistake("swapped", of="a", by="b")
def gradients_in_the_wrong_order(rng):
    f = lambda a, b: np.sin(a) * np.exp(b)
    return (
        f,
        lambda a, b: (f(a, b), lambda g: (g * np.sin(a) * np.exp(b), g * np.cos(a) * np.exp(b))),
        (normal(rng, 7), normal(rng, 7)),
    )


@mistake("scatter", of="W", by="index")
def embedding_overwrites(rng):
    index = np.array([1, 4, 1, 0, 6, 4, 1])

    def rule(W, index):
        def pullback(g):
            d = np.zeros_like(W)
            d[index] = g
            return d, None

        return W[index], pullback

    return lambda W, index: W[index], rule, (normal(rng, 7, 3), index)


@mistake("scatter", of="x", by="index")
def fancy_index_adds_without_add_at(rng):
    index = np.array([2, 2, 5, 0, 3, 5])

    def rule(x):
        def pullback(g):
            d = np.zeros_like(x)
            d[index] += g
            return (d,)

        return x[index], pullback

    return lambda x: x[index], rule, (normal(rng, 7),)


@mistake("permuted", of="x", by="shifted by 1 along axis 0 (off-by-one slice?)")
def pad_backward_off_by_one(rng):
    f = lambda x: np.pad(x, (2, 2))
    return f, lambda x: (f(x), lambda g: (g[1:-3],)), (normal(rng, 11),)


@mistake("shape", of="x1", by="sum(0,)")
def bias_gradient_not_summed(rng):
    return np.add, lambda x, b: (x + b, lambda g: (g * 1, g * 1)), (normal(rng, 5, 3), normal(rng, 3))


@mistake("sum-axis", of="a", by="summed over axis (0,)")
def column_summed_over_the_wrong_axis(rng):
    f = lambda a, b: a * b
    rule = lambda a, b: (a * b, lambda g: ((g * b).sum(axis=0)[:, None], g * a))
    return f, rule, (normal(rng, 5, 1), normal(rng, 5, 5))


@mistake("sum-axis", of="x1", by="entry 0 of axis 0 only, in place of the sum")
def row_gradient_from_the_first_sample_only(rng):
    return np.multiply, lambda x, s: (x * s, lambda g: (g * s, (g * x)[0])), (normal(rng, 5, 3), normal(rng, 3))


@mistake("keepdims", of="x0", by="reshape")
def column_gradient_without_keepdims(rng):
    return (
        np.multiply,
        lambda a, b: (a * b, lambda g: ((g * b).sum(axis=1), g * a)),
        (normal(rng, 5, 1), normal(rng, 5, 3)),
    )


@mistake("factor", of="x1", by="1/x0.shape[0]")
def bias_gradient_averaged(rng):
    return np.add, lambda x, b: (x + b, lambda g: (g * 1, g.mean(axis=0))), (normal(rng, 5, 3), normal(rng, 3))


@mistake("permuted", of="x", by="read in Fortran order (reshape order)")
def reshape_read_in_fortran_order(rng):
    f = lambda x: x.reshape(-1) * np.arange(1.0, x.size + 1)
    return (
        f,
        lambda x: (f(x), lambda g: ((g * np.arange(1.0, x.size + 1)).reshape(x.shape, order="F"),)),
        (normal(rng, 5, 3),),
    )


@mistake("jvp", "permuted", of="x", by="jvp")
def roll_backward_rolls_the_same_way(rng):
    f = lambda x: np.roll(x, 2)
    return f, lambda x: (f(x), lambda g: (np.roll(g, 2),)), (normal(rng, 11),)


@mistake("jvp", of="x", by="jvp")
def triangular_not_transposed(rng):
    A = np.tril(normal(rng, 5, 5))
    return lambda x: A @ x, lambda x: (A @ x, lambda g: (A @ g,)), (normal(rng, 5),)


@mistake("jvp", of="x", by="jvp")
def solve_without_the_transpose(rng):
    A = normal(rng, 5, 5) + 5 * np.eye(5)
    B = np.linalg.inv(A)
    return lambda x: B @ x, lambda x: (B @ x, lambda g: (np.linalg.solve(A, g),)), (normal(rng, 5),)


@mistake("permuted", of="x", by="flipped along axis 1")
def flip_backward_forgotten(rng):
    f = lambda x: x[:, ::-1] * 2
    return f, lambda x: (f(x), lambda g: (g * 2,)), (normal(rng, 5, 3),)


@mistake("diagonal", of="z", by="diagonal")
def softmax_with_the_diagonal_only(rng):
    def softmax(z):
        e = np.exp(z)
        return e / e.sum(axis=-1, keepdims=True)

    def rule(z):
        y = softmax(z)
        return y, lambda g: (g * y * (1 - y),)

    return softmax, rule, (normal(rng, 5, 3),)


@mistake("region", of="x", by="first entry of axis 0")
def first_row_forgotten(rng):
    def rule(x):
        def pullback(g):
            d = np.zeros_like(x)
            for i in range(1, len(x)):
                d[i] = g[i] * 2 * x[i]
            return (d,)

        return x**2, pullback

    return lambda x: x**2, rule, (normal(rng, 5, 3),)


@mistake("region", of="x0", by="last entry of axis 1")
def last_column_forgotten(rng):
    def rule(x):
        def pullback(g):
            d = g * np.exp(x)
            d[:, -1] = g[:, -1]
            return (d,)

        return np.exp(x), pullback

    return np.exp, rule, (normal(rng, 5, 3),)


@mistake("permuted", of="x0", by="transposed")
def attention_values_transposed(rng):
    return np.matmul, lambda a, v: (a @ v, lambda g: ((g @ v.T).T, a.T @ g)), (normal(rng, 3, 3), normal(rng, 3, 7))
