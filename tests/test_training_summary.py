"""The table of a model's layers: what it shows, counts, and leaves alone."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError


class Custom(nn.Module):
    """Own parameters and a buffer, layers in a list and a dict, one shared, one tied, one frozen, one unused."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.scale = nn.Parameter(np.ones(4))
        self.count = tn.Tensor(np.zeros(1, np.int32))
        self.shared = nn.Linear(4, 4, rng=rng)
        self.tied = nn.Linear(4, 4, bias=False, rng=rng)
        self.tied.weight = self.shared.weight
        self.more = {"frozen": nn.Linear(4, 3, rng=rng).requires_grad_(False), "drop": nn.Dropout(0.5, rng=rng)}
        self.norm = nn.BatchNorm1d(3)
        self.unused = [nn.Linear(1000, 2, rng=rng)]

    def forward(self, x, z):
        self.count = self.count + 1
        x = self.tied(self.shared(self.shared(x * self.scale)))
        x = self.norm(self.more["drop"](self.more["frozen"](x)))
        return {"sum": x + z, "pairs": np.concatenate([x, z])}


TABLE = """\
Custom of inputs (n, 4), (n, 3)
-----------------------------------------------------------------------------------------------
layer        kind                      output                       parameters  buffers   bytes
-----------------------------------------------------------------------------------------------
(itself)     Custom()                  sum: (n, 3), pairs: (2n, 3)           4        1      36
shared       Linear(4, 4)              (n, 4), 2 calls                      20        0     160
tied         Linear(4, 4, bias=False)  (n, 4)                                0        0       0
more.frozen  Linear(4, 3)              (n, 3)                               15        0     120
more.drop    Dropout(p=0.5)            (n, 3)                                0        0       0
norm         BatchNorm1d(3)            (n, 3)                                6        7     104
unused.0     Linear(1000, 2)           not called                        2,002        0  16,016
-----------------------------------------------------------------------------------------------
total                                                                    2,047        8  16,436
trainable 2,032, frozen 15"""


def test_a_custom_model_as_a_table():
    assert str(tn.summary(Custom(), [(4,), (3,)])) == TABLE


def test_the_notebooks_model_has_9_and_8_parameters():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2))
    found = tn.summary(model, (2,))
    assert [layer.parameters for layer in found.layers] == [9, 0, 8]
    assert [layer.output for layer in found.layers] == ["(n, 3)", "(n, 3)", "(n, 2)"]
    assert (found.parameters, found.trainable, found.frozen, found.buffers, found.nbytes) == (17, 17, 0, 0, 136)


@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    frozen=st.sets(st.integers(0, 3)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_layers_add_up_to_the_model(widths, frozen, dtype):
    layers = []
    for k, (a, b) in enumerate(itertools.pairwise(widths)):
        layer = nn.Linear(a, b, dtype=dtype).requires_grad_(k not in frozen)
        layers.append(nn.Sequential(layer, nn.BatchNorm1d(b, dtype=dtype)) if k % 2 else layer)
    model = nn.Sequential(*layers, nn.Tanh())
    for k, layer in enumerate(layers):
        layer.requires_grad_(k not in frozen)
    found = tn.summary(model, (widths[0],))
    tensors = [t for _, t in model.named_tensors()]
    assert found.trainable == sum(p.size for p in model.parameters())
    assert found.parameters == sum(t.size for t in tensors if isinstance(t, nn.Parameter))
    assert found.parameters + found.buffers == sum(t.size for t in tensors)
    assert found.nbytes == sum(t.data.nbytes for t in tensors)
    assert found.layers[-1].output == f"(n, {widths[-1]})"
    names = dict(model.named_modules())
    assert all(layer.name in names for layer in found.layers)


@pytest.mark.parametrize(
    ("function", "output"),
    [
        (lambda x: x.reshape(-1), "(6n,)"),
        (lambda x: np.concatenate([x, np.ones((2, 2, 3))]), "(n+2, 2, 3)"),
        (lambda x: x.reshape((-1, 3))[1:], "(2n-1, 3)"),
        (lambda x: x.sum(), "()"),
        (lambda x: (x, [x[0], 3]), "(n, 2, 3), (2, 3), int"),
        (lambda x: x[0] if len(x) == 2 else x, "of varying dimensions"),
        (lambda x: None, "NoneType"),
    ],
)
def test_what_grows_with_the_batch_is_n(function, output):
    class Model(nn.Module):
        def forward(self, x):
            return function(x)

    assert tn.summary(Model(), (2, 3)).layers == (("(itself)", "Model()", output, 0, 0, 0),)


class Failing(nn.Module):
    """Has float32 parameters, and fails, so that the note tells what it was given."""

    def __init__(self):
        self.inner = nn.Linear(2, 2, dtype=np.float32)

    def forward(self, *inputs):
        raise RuntimeError


@pytest.mark.parametrize(
    ("shapes", "dtype", "given_inputs"),
    [
        ((2,), None, "(2, 2) float32"),
        ([(2,), ()], [np.int64, bool], "(2, 2) int64, (2,) bool"),
        (((2,), (3, 4)), np.float16, "(2, 2) float16, (2, 3, 4) float16"),
    ],
)
def test_inputs_have_the_models_dtype_or_the_one_given(shapes, dtype, given_inputs):
    with pytest.raises(RuntimeError) as caught:
        tn.summary(Failing(), shapes, dtype=dtype)
    assert caught.value.__notes__ == [f"(summary called it with zeros of {given_inputs})"]


def test_an_embedding_takes_integers():
    shown = str(tn.summary(nn.Sequential(nn.Embedding(10, 4), nn.Flatten()), (5,), dtype=np.int64))
    assert "layers.0  Embedding(10, 4)  (n, 5, 4)          40" in shown


def snapshot(model):
    tensors = {name: (id(t), t.data.tobytes(), t.requires_grad) for name, t in model.named_tensors()}
    modes = [vars(m).get("training") for m in model.modules()]
    return tensors, modes, model.more["drop"].rng.bit_generator.state, model.count.numpy().tolist()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails):
    model = Custom()
    model.norm.training = True
    before = snapshot(model)
    keys = [list(vars(m)) for m in model.modules()]
    if fails:
        with pytest.raises(ShapeError) as caught:
            tn.summary(model, [(5,), (3,)])
        assert caught.value.__notes__ == ["(summary called it with zeros of (2, 5) float64, (2, 3) float64)"]
    else:
        tn.summary(model, [(4,), (3,)])
    assert snapshot(model) == before
    assert [list(vars(m)) for m in model.modules()] == keys
    model(np.ones((2, 4)), np.ones((2, 3)))["sum"].sum().backward()  # nothing is recorded still, or watched


def test_html_for_notebooks():
    class Escaped(nn.Module):
        def extra_repr(self):
            return "<b>"

        def forward(self, x):
            return x

    html = tn.summary(Escaped(), (2,))._repr_html_()
    assert "Escaped(&lt;b&gt;)" in html
    assert html.count("<tr>") == 3
    assert re.sub(r"<[^>]*>", "", html).endswith("trainable 0, frozen 0")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((3, (2,)), {}, DTypeError, "a model is a Module"),
        ((nn.Tanh(), 2), {}, ArgumentError, r"input_shape=2: .* such as \(784,\)"),
        ((nn.Tanh(), (2, None)), {}, ArgumentError, "whole numbers"),
        ((nn.Tanh(), (2, -1)), {}, ArgumentError, "whole numbers"),
        ((nn.Tanh(), (2,)), {"dtype": "U3"}, DTypeError, "a dtype of numbers"),
        ((nn.Tanh(), (2,)), {"dtype": "float65"}, DTypeError, "dtype='float65' must be a dtype"),
        ((nn.Tanh(), (2,)), {"dtype": [object]}, DTypeError, "a dtype of numbers"),
        ((nn.Tanh(), []), {}, ArgumentError, "input_shape is an empty list"),
        ((nn.Tanh(), (2,)), {"dtype": [float, int]}, ArgumentError, "2 dtypes for 1 inputs"),
    ],
)
def test_errors(arguments, options, error, match):
    with pytest.raises(error, match=match):
        tn.summary(*arguments, **options)


def test_the_model_is_called_in_evaluation_mode():
    class Wider(nn.Module):
        def forward(self, x):
            return np.concatenate([x, x], axis=1) if self.training else x

    assert tn.summary(Wider().train(), (2,)).layers[0].output == "(n, 2)"
