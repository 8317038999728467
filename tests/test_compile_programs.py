"""Random training programs, compiled against eager: what a step reads changes between its calls."""

from __future__ import annotations

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_programs import programs, run

import tinygrad_nn as tn
from tinygrad_nn.compiler import compile  # noqa: A004

SHAPES = [(2, 3), (1, 3), (2, 1), (1, 1)]


class Model(tn.nn.Module):
    """A random program over everything that a model can hold."""

    def __init__(self, steps, seed):
        rng = np.random.default_rng(seed)
        self.steps = steps
        self.w = tn.nn.Parameter(rng.standard_normal((2, 3)))
        self.parts = [tn.nn.Parameter(rng.standard_normal((1, 3))), {"b": tn.nn.Parameter(rng.standard_normal((2, 1)))}]
        self.mean = tn.Tensor(np.zeros(3))
        self.frozen = tn.Tensor(rng.standard_normal((1, 3)))
        self.raw = rng.standard_normal(3)
        self.pair = (rng.standard_normal((2, 1)), 1.5)
        self.factor = 1.0
        self.dropout = tn.nn.Dropout(0.25, rng=np.random.default_rng(seed))

    def forward(self, x):
        h = np.tanh(x) * self.w * self.factor + self.parts[0] * self.parts[1]["b"]
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * tn.stop_gradient(h).sum(axis=0)
        h = self.dropout(h - self.mean + self.frozen * self.pair[0])
        return run(self.steps, [h, self.parts[0] * self.raw]), h


def swapped(array):
    """The same shape, other numbers."""
    return np.sin(3 * array + 1)


def data(model):
    model.w.data = swapped(model.w.data)


def in_place(model):
    model.parts[0].data[...] = swapped(model.parts[0].data)


def parameter(model):
    model.parts[1]["b"] = tn.nn.Parameter(swapped(model.parts[1]["b"].data))


def tied(model):
    model.parts[0] = tn.nn.Parameter(model.parts[0].data) if model.parts[0] is model.w else model.parts[0]


def freeze(model):
    model.w.requires_grad = not model.w.requires_grad


def gradient(model):
    if model.w.grad is not None:
        model.w.data = model.w.grad


def moved(model):
    model.frozen = tn.Tensor(swapped(model.frozen.data))


def raw(model):
    model.raw *= -0.5


def pair(model):
    model.pair = (swapped(model.pair[0]), model.pair[1])


def pair_in_place(model):
    model.pair[0][...] = swapped(model.pair[0])


def number(model):
    model.factor = -model.factor if model.factor < 2 else 1


def kind_of_number(model):
    model.factor = int(model.factor) if isinstance(model.factor, float) else 2.5


def mode(model):
    model.train(not model.training)


def mode_of_a_layer(model):
    model.dropout.training = not model.dropout.training


def probability(model):
    model.dropout.p = 0.5 - model.dropout.p


def generator(model):
    model.dropout.rng = np.random.default_rng(7)


def reset(model):
    model.mean = tn.Tensor(np.zeros(3))


def load(model):
    model.load_state_dict({name: swapped(array) for name, array in model.state_dict().items()})


def shorter(model):
    model.steps = model.steps[:-1] or model.steps


def update(model):
    for p in model.parameters():
        if p.grad is not None:
            p.data -= 0.1 * p.grad


def zero(model):
    model.zero_grad()


CHANGES = [
    *(data, in_place, parameter, tied, freeze, gradient, moved, raw, pair, pair_in_place, number, kind_of_number, mode),
    *(mode_of_a_layer, probability, generator, reset, load, shorter, update, zero),
]
INPUTS = {
    "plain": lambda x: x,
    "view": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "narrow": lambda x: x.astype(np.float32),
    "whole": lambda x: np.round(x * 3).astype(int),
    "tensor": tn.Tensor,
    "read-only": lambda x: np.broadcast_to(x[:1], x.shape),
}


def close(a, b, narrow):
    scale = np.max(np.abs(b), initial=0) + 1e-3
    np.testing.assert_allclose(a, b, rtol=0, atol=(2e-4 if narrow else 1e-10) * scale)


@settings(max_examples=settings().max_examples // 2, phases=[Phase.generate])  # shrinking records anew, for minutes
@given(
    steps=programs(),
    seed=st.integers(0, 2**32 - 1),
    calls=st.lists(
        st.tuples(
            st.lists(st.sampled_from(CHANGES), max_size=3), st.sampled_from(SHAPES), st.sampled_from(sorted(INPUTS))
        ),
        min_size=2,
        max_size=6,
    ),
)
def test_compiled_and_eager_stay_the_same_whatever_changes(steps, seed, calls):
    eager, compiled = Model(steps, seed), Model(steps, seed)
    step, predict = compile(compiled), compile(compiled, backward=False)
    narrow = False
    with np.errstate(all="ignore"):
        for k, (changes, shape, form) in enumerate(calls):
            for change in changes:
                for model in (eager, compiled):
                    change(model)
            x = INPUTS[form](np.random.default_rng(k).standard_normal(shape))
            narrow = narrow or form == "narrow"
            if k % 3 == 2:
                with tn.no_grad():
                    expected = eager(x)
                found = predict(x)
            else:
                expected = eager(x)
                expected[0].backward()
                found = step(x)
            for a, b in zip(found, expected, strict=True):
                close(a.data, b.data, narrow)
            for (name, a), (_, b) in zip(compiled.named_tensors(), eager.named_tensors(), strict=True):
                close(a.data, b.data, narrow)
                assert (a.grad is None) == (b.grad is None), name
                if a.grad is not None:
                    close(a.grad, b.grad, narrow)
            assert compiled.dropout.rng.bit_generator.state == eager.dropout.rng.bit_generator.state
