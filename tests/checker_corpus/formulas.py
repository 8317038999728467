"""Mistakes in a formula: another expression, a missing term, an eps, a branch."""

from __future__ import annotations

import numpy as np

from checker_corpus.base import away, mistake, normal, positive, sigmoid, softmax


@mistake("ratio", of="z", by="f'(x)")
def sigmoid_derivative_twice(rng):
    def rule(x):
        y = sigmoid(x)
        return y, lambda g: (g * (y * (1 - y)) ** 2,)

    return sigmoid, rule, (normal(rng, 5, 3),)


@mistake("ratio", of="W1", by="h*(1-h)")
def hidden_delta_multiplies_the_derivative_twice(rng):
    def rule(x, W1, W2):
        h = sigmoid(x @ W1)
        y = h @ W2

        def pullback(g):
            delta = (g @ W2.T) * h * (1 - h)
            dW1 = x.T @ (delta * h * (1 - h))
            return delta @ W1.T, dW1, h.T @ g

        return y, pullback

    return lambda x, W1, W2: sigmoid(x @ W1) @ W2, rule, (normal(rng, 5, 3), normal(rng, 3, 7), normal(rng, 7, 2))


@mistake("local", of="z", by="z*(1-z)")
def output_formula_with_the_pre_activation(rng):
    return sigmoid, lambda x: (sigmoid(x), lambda g: (g * x * (1 - x),)), (normal(rng, 5, 3),)


@mistake("local", of="x0", by="(1 - x0**2)")
def tanh_formula_with_the_pre_activation(rng):
    return np.tanh, lambda x: (np.tanh(x), lambda g: (g * (1 - x**2),)), (normal(rng, 5, 3),)


@mistake("nonlinear")
def relu_masks_by_the_sign_of_the_upstream(rng):
    return lambda x: np.maximum(x, 0), lambda x: (np.maximum(x, 0), lambda g: (g * (g > 0),)), (away(rng, 5, 3),)


@mistake("region", of="x", by="x < 0")
def elu_uses_the_output_on_the_negative_side(rng):
    f = lambda x: np.where(x > 0, x, np.exp(x) - 1)
    return f, lambda x: (f(x), lambda g: (g * np.where(x > 0, 1, np.exp(x) - 1),)), (away(rng, 5, 3),)


@mistake("ratio", of="x1", by="x1")
def quotient_without_the_square(rng):
    return np.divide, lambda a, b: (a / b, lambda g: (g / b, -g * a / b)), (normal(rng, 5, 3), positive(rng, 5, 3))


@mistake("eps", of="x", by="1e-05 1.5 0.5 1")
def eps_in_the_forward_only(rng):
    f = lambda x: 1 / np.sqrt(x + 1e-5)
    return f, lambda x: (f(x), lambda g: (-0.5 * g * x**-1.5,)), (positive(rng, 5, 3),)


@mistake("eps", of="p", by="1e-06 1 1 1")
def log_with_eps_in_the_forward_only(rng):
    f = lambda p: np.log(p + 1e-6)
    return f, lambda p: (f(p), lambda g: (g / p,)), (positive(rng, 11),)


@mistake("local", of="x", by="sigmoid(x)")
def product_rule_second_term_dropped(rng):
    f = lambda x: x * sigmoid(x)
    return f, lambda x: (f(x), lambda g: (g * sigmoid(x),)), (normal(rng, 5, 3),)


@mistake("residual", of="x", by="axis1")
def gradient_through_the_mean_dropped(rng):
    f = lambda x: x - x.mean(axis=1, keepdims=True)
    return f, lambda x: (f(x), lambda g: (g * 1,)), (normal(rng, 5, 3),)


@mistake("residual", of="W", by="0.1*g*W")
def weight_decay_missing(rng):
    f = lambda x, W: (x @ W).sum() + 0.05 * np.sum(W**2)

    def rule(x, W):
        ones = np.ones((x.shape[0], W.shape[1]))
        return f(x, W), lambda g: (g * ones @ W.T, g * x.T @ ones)

    return f, rule, (normal(rng, 5, 3), normal(rng, 3, 7))


@mistake("residual", of="x", by="g")
def residual_path_lost(rng):
    def rule(x, W):
        h = np.tanh(x @ W)
        return x + h, lambda g: ((g * (1 - h**2)) @ W.T, x.T @ (g * (1 - h**2)))

    return lambda x, W: x + np.tanh(x @ W), rule, (normal(rng, 5, 3), normal(rng, 3, 3))


@mistake("none", of="x1", by="none")
def second_gradient_is_none(rng):
    return np.multiply, lambda a, b: (a * b, lambda g: (g * b, None)), (normal(rng, 5, 3), normal(rng, 5, 3))


@mistake("zero", of="z", by="zero")
def softmax_backward_of_zeros(rng):
    return softmax, lambda z: (softmax(z), lambda g: (np.zeros_like(z),)), (normal(rng, 5, 3),)


@mistake("cast", of="x0", by="float32")
def float32_inside_a_float64_backward(rng):
    return np.sin, lambda x: (np.sin(x), lambda g: (g * np.cos(x.astype(np.float32)),)), (normal(rng, 11, 3),)


@mistake("cast", of="x", by="integer")
def gradient_buffer_of_integers(rng):
    def rule(x, n):
        def pullback(g):
            d = np.zeros_like(n)
            d[:] = 10 * g * np.cos(x)
            return d, None

        return 10 * np.sin(x), pullback

    return lambda x, n: 10 * np.sin(x), rule, (normal(rng, 11), np.arange(11))


@mistake("nonfinite", of="x0", by="x0 == 0")
def product_backward_divides_by_the_input(rng):
    x = positive(rng, 7)
    x[3] = 0
    return np.prod, lambda x: (np.prod(x), lambda g: (g * np.prod(x) / x,)), (x,)


@mistake("nonfinite", of="x0", by="x0 == 0")
def absolute_value_as_x_over_abs(rng):
    x = away(rng, 7)
    x[2] = 0
    return np.abs, lambda x: (np.abs(x), lambda g: (g * x / np.abs(x),)), (x,)


@mistake("ties", of="x0")
def max_gives_the_gradient_to_every_tie(rng):
    x = np.array([1.0, 3.0, 3.0, 2.0, 3.0])
    return np.max, lambda x: (np.max(x), lambda g: (g * (x == x.max()),)), (x,)


@mistake("ties", of="x")
def max_over_rows_with_ties(rng):
    x = rng.integers(0, 3, (5, 4)).astype(float)
    x[0] = [2, 2, 1, 0]
    f = lambda x: np.max(x, axis=1)
    return f, lambda x: (f(x), lambda g: (g[:, None] * (x == x.max(axis=1, keepdims=True)),)), (x,)


@mistake("local", "region", of="x", by="x < 0")
def leaky_relu_with_relu_mask(rng):
    f = lambda x: np.where(x > 0, x, 0.1 * x)
    return f, lambda x: (f(x), lambda g: (g * (x > 0),)), (away(rng, 5, 3),)


@mistake("region", of="x", by="x > 1")
def clip_gradient_passes_above_the_bound(rng):
    f = lambda x: np.clip(x, -1, 1)
    x = np.array([-1.5, -0.5, 0.3, 1.7, 0.6, -2.1, 1.2, 2.2])
    return f, lambda x: (f(x), lambda g: (g * (x > -1),)), (rng.permutation(x),)


@mistake("ratio", "local", of="x0", by="g")
def exp_forgets_the_output(rng):
    return np.exp, lambda x: (np.exp(x), lambda g: (g * 1,)), (normal(rng, 5, 3),)


@mistake("ratio", of="x", by="x")
def power_with_the_same_exponent(rng):
    return lambda x: x**2.5, lambda x: (x**2.5, lambda g: (g * 2.5 * x**2.5,)), (positive(rng, 5, 3),)


@mistake("ratio", "local", of="x0", by="f'(x)")
def log_derivative_squared(rng):
    return np.log, lambda x: (np.log(x), lambda g: (g / x**2,)), (positive(rng, 5, 3),)


@mistake("local", of="x", by="y/x")
def gelu_without_the_density_term(rng):
    f = lambda x: x * sigmoid(1.702 * x)
    rule = lambda x: (f(x), lambda g: (g * sigmoid(1.702 * x),))
    return f, rule, (normal(rng, 5, 3),)


@mistake("residual", of="x", by="axis1")
def layer_norm_with_constant_statistics(rng):
    def f(x):
        c = x - x.mean(axis=1, keepdims=True)
        return c * 2.0

    return f, lambda x: (f(x), lambda g: (g * 2.0,)), (normal(rng, 5, 3),)


@mistake("residual", of="x", by="-g")
def skip_connection_counted_twice(rng):
    def rule(x):
        h = np.sin(x)
        return x + h, lambda g: (2 * g + g * np.cos(x),)

    return lambda x: x + np.sin(x), rule, (normal(rng, 5, 3),)


@mistake("residual", of="z", by="sum(g, 1)*(1 - exp(y))")
def log_softmax_without_the_softmax(rng):
    def f(z):
        return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))

    return f, lambda z: (f(z), lambda g: (g - g.sum(axis=-1, keepdims=True),)), (normal(rng, 5, 3),)


@mistake("forward")
def the_rule_computes_another_forward(rng):
    return np.sinh, lambda x: (np.cosh(x), lambda g: (g * np.cosh(x),)), (normal(rng, 5, 3),)
