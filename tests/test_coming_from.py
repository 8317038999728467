"""The page for those who come from elsewhere: both sides of its tables, run."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn.errors import DetachError, GraphError, ShapeError, TinygradError

PAGE = (Path(tn.__file__).parent / "COMING_FROM.md").read_text("utf-8")
SAME = re.findall(r"^\| `(.*?)` \| `(.*?)` \|$", PAGE, re.MULTILINE)


def leaf(values, dtype=None):
    return tn.Tensor(np.array(values, dtype), requires_grad=True)


@pytest.mark.parametrize(("there", "here"), SAME)
def test_the_same_in_numpys_words(there, here):
    torch = pytest.importorskip("torch")
    values, labels = np.random.default_rng(0).standard_normal((2, 3)), np.array([2, 0])
    t = torch.from_numpy(values).requires_grad_()
    x = leaf(values)
    known = {"torch": torch, "F": torch.nn.functional}
    a = eval(there, known | {"t": t, "k": torch.from_numpy(labels)})  # noqa: S307 - our own page
    b = eval(here, {"np": np, "tn": tn, "x": x, "k": labels})  # noqa: S307
    if isinstance(b, tn.Tensor):
        g = np.random.default_rng(1).standard_normal(b.shape)
        np.testing.assert_allclose(b.numpy(), a.detach().numpy(), rtol=1e-12)
        (a * torch.from_numpy(g)).sum().backward()
        (b * g).sum().backward()
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-12, atol=1e-15)
    else:
        assert b == (tuple(a) if isinstance(b, tuple) else a)


def test_the_page_has_the_rows_that_are_tested_here():
    assert len(SAME) == 14
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[2:]
    rows = [len(re.findall(r"^\| ", section, re.MULTILINE)) - 1 for section in sections]
    assert rows == [15, 7, 14]  # whoever adds a row adds its claim below


def test_what_differs_in_pytorch():
    torch = pytest.importorskip("torch")

    class Bare(torch.nn.Module):
        def __init__(self):
            self.inner = torch.nn.Linear(1, 1)

    assert torch.tensor([1.0]).dtype == torch.float32
    assert (torch.tensor([1.0]) * np.float64(2)).dtype == torch.float32
    assert torch.nn.Linear(3, 4).weight.shape == (4, 3)
    with pytest.raises(AttributeError):
        Bare()
    assert "0.weight" in torch.nn.Sequential(torch.nn.Linear(1, 1)).state_dict()
    t = torch.tensor([2.0, 2.0], requires_grad=True)
    t.max(dim=0).values.backward()
    assert t.grad.tolist() == [1, 0]
    with pytest.raises(RuntimeError):
        t.numpy()
    t.requires_grad = False
    assert t.grad is not None
    same = t
    same[0] = 1
    same.add_(1)
    same += 1
    assert t.tolist() == [3, 4]
    with pytest.warns(UserWarning, match="target size"):
        torch.nn.functional.mse_loss(torch.zeros(4, 1), torch.ones(4))
    t = torch.tensor([0.0, 4.0], requires_grad=True)
    torch.where(t > 0, torch.sqrt(t), 0 * t).sum().backward()
    assert t.grad.isnan().tolist() == [True, False]
    one = torch.ones(1, dtype=torch.float64)
    assert torch.nn.functional.gelu(one).item() == pytest.approx(0.5 * (1 + math.erf(math.sqrt(0.5))))


def test_what_differs_from_pytorch_here():
    class Bare(tn.nn.Module):
        def __init__(self):
            self.inner = tn.nn.Linear(1, 1)

    assert tn.Tensor([1.0]).dtype == np.float64
    assert (tn.Tensor(np.float32([1])) * np.float64(2)).dtype == np.float64
    assert (tn.Tensor(np.float32([1])) * 2.0).dtype == np.float32
    assert tn.nn.Linear(3, 4).weight.shape == (3, 4)
    assert len(list(Bare().parameters())) == 2
    assert "layers.0.weight" in tn.nn.Sequential(tn.nn.Linear(1, 1)).state_dict()
    x = leaf([2.0, 2.0])
    x.max(axis=0).backward()
    assert x.grad.tolist() == [0.5, 0.5]
    assert type(x.grad) is np.ndarray
    assert type(x.numpy()) is np.ndarray
    x.requires_grad = False
    assert x.grad is None
    with pytest.raises(ShapeError):
        tn.functional.mse_loss(np.zeros((4, 1)), np.ones(4))
    x = leaf([0.0, 4.0])
    np.where(x > 0, np.sqrt(x), 0 * x).sum().backward()
    assert x.grad.tolist() == [0, 0.25]
    one = 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715))
    assert tn.functional.gelu(np.ones(1)) == pytest.approx(one)
    draws = [tn.nn.Linear(2, 2, rng=np.random.default_rng(0)).weight.numpy() for _ in range(2)]
    assert np.array_equal(*draws)


def test_what_differs_from_numpy():
    x = leaf([1.0, 2.0])
    with pytest.raises(GraphError, match=r"x\.data|t\.data"):
        x[0] = 1
    with pytest.raises(TinygradError):
        np.add(x, 1, out=np.zeros(2))
    with pytest.raises(DetachError):
        np.asarray(x)
    for exit_ in (math.exp, float):
        with pytest.raises(DetachError):
            exit_(x[0])
    with pytest.raises(TinygradError, match="differentiable"):
        np.unwrap(x)
    same = x
    same += 1
    assert x.numpy().tolist() == [1, 2]
    assert same.numpy().tolist() == [2, 3]
    zero = leaf([0.0])
    np.maximum(zero, 0).sum().backward()
    assert zero.grad == 0.5
    zero.grad = None
    tn.functional.relu(zero).sum().backward()
    assert zero.grad == 0
    with pytest.raises(TinygradError):
        leaf([1, 2])


def defaults(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def test_what_differs_in_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    keras = pytest.importorskip("keras")
    layers, optimizers = keras.layers, keras.optimizers
    assert list(defaults(keras.losses.mean_squared_error)) == ["y_true", "y_pred"]
    assert defaults(keras.Model.fit)["shuffle"] is True
    stopping = defaults(keras.callbacks.EarlyStopping)
    assert (stopping["patience"], stopping["restore_best_weights"]) == (0, False)
    assert defaults(keras.losses.CategoricalCrossentropy)["from_logits"] is False
    assert defaults(keras.losses.BinaryCrossentropy)["from_logits"] is False
    dense = defaults(layers.Dense)
    assert (dense["kernel_initializer"], dense["bias_initializer"]) == ("glorot_uniform", "zeros")
    assert keras.config.image_data_format() == "channels_last"
    norm = defaults(layers.BatchNormalization)
    assert (norm["momentum"], norm["epsilon"], defaults(layers.LeakyReLU)["negative_slope"]) == (0.99, 0.001, 0.3)
    assert defaults(optimizers.Adam)["epsilon"] == defaults(optimizers.RMSprop)["epsilon"] == 1e-7


def test_what_differs_from_keras_here():
    assert list(defaults(tn.functional.mse_loss))[:2] == ["prediction", "target"]
    assert defaults(tn.fit)["rng"] is None
    stopping = defaults(tn.training.EarlyStopping)
    assert (stopping["patience"], stopping["restore"]) == (5, True)
    assert tn.functional.cross_entropy(np.zeros((1, 2)), np.array([1])) == pytest.approx(math.log(2))
    bound = np.abs(tn.nn.Linear(100, 1000, rng=np.random.default_rng(0)).weight.numpy()).max()
    assert bound == pytest.approx(0.1, rel=1e-3)
    assert tn.nn.Conv2d(3, 8, 3)(np.zeros((1, 3, 5, 7))).shape == (1, 8, 3, 5)
    norm = defaults(tn.nn.BatchNorm1d)
    assert (norm["momentum"], norm["eps"], defaults(tn.nn.LeakyReLU)["negative_slope"]) == (0.1, 0.00001, 0.01)
    assert defaults(tn.optim.Adam)["eps"] == defaults(tn.optim.RMSprop)["eps"] == 1e-8


@pytest.mark.parametrize("shuffled", [False, True])
def test_which_samples_are_held_back_and_shuffled(shuffled):
    seen = []

    class Watching(tn.nn.Module):
        def __init__(self):
            self.inner = tn.nn.Linear(1, 1)

        def forward(self, x):
            seen.append((self.training, np.ravel(x.numpy() if isinstance(x, tn.Tensor) else x).tolist()))
            return self.inner(x)

    net, x = Watching(), np.arange(10.0)[:, np.newaxis]
    sgd = tn.optim.SGD(net.parameters(), lr=1e-9)
    rng = 0 if shuffled else None
    kwargs = {"loss": tn.functional.mse_loss, "optimizer": sgd, "epochs": 1, "validation": 0.2, "rng": rng}
    tn.fit(net, x, x, batch_size=10, compile=False, **kwargs)
    order = [values for training, values in seen if training][-1]
    assert sorted(order) == list(range(8))
    assert (order != list(range(8))) == shuffled
    assert [8, 9] in [values for training, values in seen if not training]
