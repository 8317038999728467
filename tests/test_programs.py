"""Random differentiable programs: expression graphs with reuse, broadcasting and indexing, against complex step."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.tensor import leaf

UNARY = [
    np.tanh,
    np.sin,
    np.exp,
    tn.functional.sigmoid,
    np.square,
    lambda x: np.log(1.5 + np.square(np.sin(x))),
    lambda x: x[::-1],
    lambda x: x[np.array([0, 0, -1])],
    lambda x: x[..., :1] * x,
    lambda x: np.swapaxes(x, 0, -1),
    lambda x: x.reshape(-1)[: x.shape[0]].reshape(-1, 1),
    lambda x: x - x.mean(axis=0),
    lambda x: np.cumsum(x, axis=-1) / x.shape[-1],
    lambda x: tn.functional.softmax(x, axis=-1),
    lambda x: tn.functional.logsumexp(x, axis=0, keepdims=True),
    lambda x: np.where(np.arange(x.shape[-1]) % 2 == 0, x, 0.5 * x),
    lambda x: np.prod(x, axis=0, keepdims=True),
    lambda x: np.einsum("ij,kj->ik", x, x) / x.shape[1],
    lambda x: np.pad(x, ((0, 1), (1, 0)), "edge"),
    lambda x: np.repeat(x, 2, axis=0)[1:],
    lambda x: np.concatenate([x, x * 2], axis=0)[: x.shape[0] + 1],
]
BINARY = [
    np.add,
    np.subtract,
    np.multiply,
    lambda a, b: a / (2 + np.square(b)),
    lambda a, b: np.tanh(a) * b + a,
]


@st.composite
def programs(draw):
    """Steps of a program: each takes earlier results by number, so that results are used again."""
    steps = []
    for k in range(draw(st.integers(1, 9))):
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(UNARY)), [draw(st.integers(0, k + 1))]))
        else:
            steps.append((draw(st.sampled_from(BINARY)), [draw(st.integers(0, k + 1)), draw(st.integers(0, k + 1))]))
    return steps


def run(steps, arrays):
    """Each step's result, tamed to moderate size; a pair of shapes that do not broadcast is summed first."""
    values = list(arrays)
    for function, numbers in steps:
        inputs = [values[n] for n in numbers]
        if len(inputs) == 2:
            try:
                np.broadcast_shapes(*(x.shape for x in inputs))
            except ValueError:
                inputs[1] = inputs[1].sum(axis=-1, keepdims=True).sum(axis=0, keepdims=True)
        y = function(*inputs)
        values.append(y / (1 + y.size) if y.size > 64 else np.sin(y))
        values[-1] = values[-1][:6, :6]
    return sum((v * (k + 1)).sum() for k, v in enumerate(values))


@given(steps=programs(), seed=st.integers(0, 2**32 - 1))
def test_gradients_of_random_programs_equal_complex_step(steps, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((2, 3)), rng.standard_normal((1, 3))]
    xs = [leaf(a) for a in arrays]
    grads = tn.gradients(run(steps, xs), xs)
    for k, g in enumerate(grads):
        u = rng.standard_normal(g.shape)
        moved = [a.astype(complex) for a in arrays]
        moved[k] = moved[k] + 1e-30j * u
        expected = run(steps, moved).imag / 1e-30
        scale = np.sum(np.abs(g.data * u)) + 1
        assert abs(np.sum(g.data * u) - expected) <= 1e-11 * scale


@given(steps=programs(), seed=st.integers(0, 2**32 - 1))
def test_second_derivatives_of_random_programs_equal_complex_step(steps, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((2, 3)), rng.standard_normal((1, 3))]
    v = rng.standard_normal((2, 3))
    product = tn.hvp(lambda x: run(steps, [x, arrays[1]]))(arrays[0], v)
    z = [leaf(a.astype(complex)) for a in arrays]
    z[0] = leaf(arrays[0] + 1e-30j * v)
    (g,) = tn.gradients(run(steps, z), [z[0]])
    expected = g.data.imag / 1e-30
    assert np.all(np.abs(product - expected) <= 1e-9 * (1 + np.max(np.abs(expected))))
