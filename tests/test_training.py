"""fit, evaluate and predict against loops written by hand; what they check, restore and report."""

from __future__ import annotations

import functools
import io
import json
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import PLAIN_LAYERS, layer_sample

import tinygrad_nn as tn
from tinygrad_nn.engine import current_recording
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError, TinygradError
from tinygrad_nn.training import History, steps
from tinygrad_nn.training.progress import Bar

F = tn.functional
OPTIMIZERS = {
    "sgd": lambda p: tn.optim.SGD(p, lr=0.1),
    "momentum": lambda p: tn.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: tn.optim.Adam(p, lr=0.01),
    "adamw": lambda p: tn.optim.AdamW(p, lr=0.01),
}
LOSSES = {
    "mse": (F.mse_loss, 2),
    "module": (tn.nn.MSELoss("sum"), 2),
    "bce": (F.binary_cross_entropy_with_logits, 2),
    "classes": (F.cross_entropy, 1),
}


def net(seed=0, dtype=np.float64, p=0.2):
    rng = np.random.default_rng(seed)
    return tn.nn.Sequential(
        tn.nn.Linear(3, 4, dtype=dtype, rng=rng),
        tn.nn.Tanh(),
        tn.nn.Dropout(p, rng=rng),
        tn.nn.Linear(4, 2, dtype=dtype, rng=rng),
    )


def data(n=10, ndim=2, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3)).astype(dtype)
    return x, (rng.random((n, 2)).astype(dtype) if ndim == 2 else rng.integers(0, 2, n))


def train(model, *arrays, epochs=3, **options):
    options = {"loss": F.mse_loss, "batch_size": 4, "compile": False, "progress": False, **options}
    optimizer = options.pop("optimizer", None) or tn.optim.SGD(model.parameters(), lr=0.1)
    return tn.fit(model, *arrays, optimizer=optimizer, epochs=epochs, **options)


def same(a, b):
    states = a.state_dict(), b.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


# The loop


@given(
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    loss=st.sampled_from(sorted(LOSSES)),
    batch_size=st.integers(1, 12),
    n=st.integers(1, 11),
    seed=st.none() | st.integers(0, 5),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_fit_equals_a_loop_by_hand_bit_for_bit(optimizer, loss, batch_size, n, seed, dtype):
    function, ndim = LOSSES[loss]
    x, y = data(n, ndim, dtype)
    mine, theirs = net(dtype=dtype), net(dtype=dtype)
    history = train(
        mine, x, y, loss=function, optimizer=OPTIMIZERS[optimizer](mine.parameters()), batch_size=batch_size, rng=seed
    )

    opt = OPTIMIZERS[optimizer](theirs.parameters())
    rng = None if seed is None else np.random.default_rng(seed)
    means = []
    for _ in range(3):
        total = 0.0
        order = np.arange(n) if rng is None else rng.permutation(n)
        for start in range(0, n, batch_size):
            part = order[start : start + batch_size]
            value = function(theirs(x[part]), y[part])
            opt.zero_grad()
            value.backward()
            opt.step()
            total += value.item() * len(part)
        means.append(total / n)
    assert same(mine, theirs)
    assert history["loss"] == means
    assert history.epochs == 3
    assert history.steps == 3 * -(-n // batch_size)
    assert history.compiled_steps == 0


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(steps, "PAYS_AFTER", 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.usefixtures("at_once")
def test_compiled_steps_equal_eager_ones(optimizer, loss):
    function, ndim = LOSSES[loss]
    x, y = data(10, ndim)
    results = {}
    for compiling in (False, "auto", True):
        model = net()
        chosen = OPTIMIZERS[optimizer](model.parameters())
        metrics = {"mean": lambda p, t: np.mean(p)}
        history = train(
            model, x, y, epochs=5, loss=function, optimizer=chosen, compile=compiling, rng=0, metrics=metrics,
            validation=(x, y),
        )  # fmt: skip
        # the last batch of 2 has come once by the second epoch, and is compiled from then on as well
        assert history.compiled_steps == {False: 0, "auto": 12, True: 15}[compiling]
        results[compiling] = [*model.state_dict().values(), history["loss"], history["mean"], history["val_loss"]]
    for compiling in ("auto", True):
        for a, b in zip(results[compiling], results[False], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", PLAIN_LAYERS)
def test_every_layer_trains_compiled_as_eager_and_evaluates_as_called(kind):
    results = []
    for compiling in (False, True):
        rng = np.random.default_rng(0)
        layer, x = layer_sample(kind, rng, batch=8)
        width = tn.predict(layer, x).reshape(8, -1).shape[1]
        model = tn.nn.Sequential(layer, tn.nn.Flatten(), tn.nn.Linear(width, 2, rng=rng))
        y = rng.random((8, 2))
        history = train(model, x, y, compile=compiling, rng=1, batch_size=3, validation=(x, y))
        figures = tn.evaluate(model, x, y, loss=F.mse_loss, batch_size=3)
        assert figures["loss"] == history["val_loss"][-1]
        assert tn.summary(model, x.shape[1:], dtype=x.dtype).layers[-1].output == "(n, 2)"
        results.append([*model.state_dict().values(), history["loss"], history["val_loss"]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


class Branching(tn.nn.Module):
    """A forward that cannot be compiled, since it branches on values."""

    def __init__(self):
        self.inner = net(p=0.0)

    def forward(self, x):
        y = self.inner(x)
        return y * 2 if y.numpy().sum() > 0 else y


@pytest.mark.usefixtures("at_once")
def test_auto_goes_on_where_compiling_fails_and_true_says_so():
    x, y = data()
    auto, eager = Branching(), Branching()
    assert train(auto, x, y, compile="auto", rng=0).compiled_steps == 0
    train(eager, x, y, rng=0)
    assert same(auto, eager)
    with pytest.raises(GraphError, match=r"np\.where"):
        train(Branching(), x, y, compile=True)


@pytest.mark.usefixtures("at_once")
def test_auto_gives_up_on_what_is_recorded_again_and_again():
    x, y = data()
    count = [0]

    def loss(prediction, target):
        return F.mse_loss(prediction, target) * (1.0 + count[0])

    def change(state):
        count[0] += 1

    history = train(net(), x, y, loss=loss, epochs=30, batch_size=10, compile="auto", callbacks=change)
    assert 0 < history.compiled_steps <= steps.RECORDINGS + 1


@pytest.mark.usefixtures("at_once")
def test_a_wrong_label_is_found_in_every_epoch():
    x, y = data(8, 1)
    later = y.copy()
    later[0] = -1
    with pytest.raises(ArgumentError, match="got -1 to"):
        train(net(), lambda epoch: [(x, y if epoch < 4 else later)], loss=F.cross_entropy, batch_size=None, epochs=9,
              compile="auto")  # fmt: skip
    with pytest.raises(ArgumentError, match="got -1 to"):
        train(net(), [(x, y), (x, later)], loss=F.cross_entropy, batch_size=None, compile="auto")


def test_batches_come_from_arrays_lists_loaders_functions_and_iterators():
    x, y = data()
    pairs = list(tn.data.batches(x, y, batch_size=4))
    given_as = {
        "arrays": {"inputs": x, "targets": y, "batch_size": 4},
        "lists": {"inputs": x.tolist(), "targets": y.tolist(), "batch_size": 4},
        "tensors": {"inputs": tn.Tensor(x), "targets": tn.Tensor(y), "batch_size": 4},
        "loader": {"inputs": tn.data.batches(x, y, batch_size=4)},
        "list of batches": {"inputs": pairs},
        "batches of Tensors": {"inputs": [[tn.Tensor(a), tn.Tensor(b)] for a, b in pairs]},
        "function": {"inputs": lambda epoch: (pair for pair in pairs)},
        "iterator": {"inputs": iter(pairs * 3)},
    }
    results = []
    for name, given_options in given_as.items():
        model = net()
        options = {"batch_size": None, "targets": None, "epochs": 1 if name == "iterator" else 3, **given_options}
        history = train(model, options.pop("inputs"), options.pop("targets"), **options)
        assert history.steps == 9
        results.append(model)
    assert all(same(results[0], other) for other in results)


def test_shuffling_loader_equals_shuffled_arrays():
    x, y = data()
    a, b = net(), net()
    train(a, x, y, rng=3)
    train(b, tn.data.batches(x, y, batch_size=4, rng=np.random.default_rng(3)), batch_size=None)
    assert same(a, b)


@pytest.mark.parametrize("compiling", [False, True])
def test_the_same_seed_gives_the_same_numbers(compiling):
    x, y = data()
    a, b, c = net(), net(), net()
    train(a, x, y, rng=5, compile=compiling)
    train(b, x, y, rng=np.random.default_rng(5), compile=compiling)
    train(c, x, y, rng=6, compile=compiling)
    assert same(a, b)
    assert not same(a, c)


def test_several_inputs_and_targets():
    class Both(tn.nn.Module):
        def __init__(self):
            self.a, self.b = tn.nn.Linear(3, 2), tn.nn.Linear(2, 2)

        def forward(self, x, z):
            return self.a(x), self.b(z)

    def loss(prediction, target):
        return F.mse_loss(prediction[0], target[0]) + F.mse_loss(prediction[1], target[1])

    x, y = data()
    model = Both()
    metrics = {"second": lambda p, t: np.mean((p[1] - t[1]) ** 2)}
    history = train(model, (x, y), (y, y), loss=loss, metrics=metrics, validation=0.2, epochs=30)
    assert history["loss"][-1] < history["loss"][0]
    figures = tn.evaluate(model, (x[8:], y[8:]), (y[8:], y[8:]), loss=loss, metrics=metrics)
    assert figures == {"loss": history["val_loss"][-1], "second": history["val_second"][-1]}
    first, second = tn.predict(model, (x, y), batch_size=3)
    np.testing.assert_allclose(first, model.a(x).numpy(), rtol=1e-14)
    np.testing.assert_allclose(second, model.b(y).numpy(), rtol=1e-14)


# Validation and metrics


def share_above(prediction, target):
    return np.mean(prediction > target)


@given(fraction=st.floats(0.05, 0.95), n=st.integers(2, 25))
@settings(max_examples=10)
def test_a_fraction_is_split_off_the_end(fraction, n):
    x, y = data(n)
    held = round(n * fraction)
    if not 0 < held < n:
        with pytest.raises(ArgumentError, match="leaves none"):
            train(net(), x, y, validation=fraction)
        return
    a, b = net(), net()
    first = train(a, x, y, validation=fraction, rng=0, metrics=[share_above])
    second = train(b, x[:-held], y[:-held], validation=(x[-held:], y[-held:]), rng=0, metrics=[share_above])
    assert same(a, b)
    assert list(first) == ["loss", "share_above", "val_loss", "val_share_above", "lr", "seconds"]
    assert all(first[name] == second[name] for name in first if name != "seconds")


def test_validation_changes_nothing_but_the_history():
    x, y = data()
    a, b = net(), net()
    with_it = train(a, x, y, rng=0, validation=[(x[:4], y[:4]), (x[4:], y[4:])])
    without = train(b, x, y, rng=0)
    assert same(a, b)
    assert with_it["loss"] == without["loss"]


def test_training_metrics_are_means_over_batches_weighted_by_size():
    x, y = data()
    model = net(p=0.0)
    optimizer = tn.optim.SGD(model.parameters(), lr=0.0)
    history = train(model, x, y, optimizer=optimizer, epochs=1, metrics={"above": share_above})
    assert history["above"] == [pytest.approx(share_above(model(x).numpy(), y))]


@given(batch_size=st.integers(1, 12))
@settings(max_examples=6)
def test_evaluate_and_predict_are_what_they_say(batch_size):
    x, y = data()
    model = net()
    model.eval()
    expected = model(x).numpy()
    model.train()
    np.testing.assert_allclose(tn.predict(model, x, batch_size=batch_size), expected, rtol=1e-12)
    figures = tn.evaluate(model, x, y, loss=F.mse_loss, metrics=[share_above], batch_size=batch_size)
    assert figures["share_above"] == share_above(expected, y)
    assert figures["loss"] == pytest.approx(np.mean((expected - y) ** 2), rel=1e-12)
    np.testing.assert_allclose(tn.predict(model, tn.data.batches(x, batch_size=batch_size)), expected, rtol=1e-12)
    loader = tn.data.batches(x, y, batch_size=batch_size)
    assert tn.evaluate(model, loader, metrics=[share_above]) == {"share_above": share_above(expected, y)}


def test_metrics_of_evaluate_see_all_samples_at_once():
    x, y = data()
    sizes = []
    tn.evaluate(net(), x, y, metrics={"count": lambda p, t: sizes.append((p.shape, t.shape)) or 0}, batch_size=3)
    assert sizes == [((10, 2), (10, 2))]


# What is restored


class Spy(tn.nn.Module):
    """Notes its mode and whether a gradient is recorded; fails when told to."""

    def __init__(self):
        self.inner = tn.nn.Linear(3, 2, rng=np.random.default_rng(0))
        self.notes = set()
        self.fails = False

    def forward(self, x):
        if self.fails:
            raise RuntimeError("told to")
        y = self.inner(x)
        SEEN.add((self.training, self.inner.training, y.requires_grad))
        return y


SEEN = set()


def modes(model):
    return [vars(m).get("training") for m in model.modules()]


@pytest.mark.parametrize("outer", [True, False])
def test_modes_and_recording_are_restored(outer):
    x, y = data()
    model = Spy()
    model.inner.training = False
    before = modes(model)
    with tn.no_grad() if not outer else warnings.catch_warnings():
        calls = {
            "fit": (lambda: train(model, x, y), {(True, True, True)}),
            "evaluate": (lambda: tn.evaluate(model, x, y, loss=F.mse_loss), {(False, False, False)}),
            "predict": (lambda: tn.predict(model, x), {(False, False, False)}),
        }
        for call, expected in calls.values():
            SEEN.clear()
            call()
            assert expected == SEEN
            assert modes(model) == before
            model.fails = True
            with pytest.raises(RuntimeError):
                call()
            model.fails = False
            assert modes(model) == before
            assert current_recording() is outer


def test_detect_anomaly_holds_inside_fit():
    def loss(prediction, target):
        return np.sqrt(F.mse_loss(prediction, prediction.detach()) + target.sum() * 0)

    with tn.detect_anomaly(), pytest.raises(tn.errors.AnomalyError, match=r"derivative of np\.sqrt made inf"):
        train(net(), X, Y, loss=loss, compile=True)


def everything(model, optimizer, *generators):
    state = model.state_dict(), optimizer.state_dict(), [g.bit_generator.state for g in generators], modes(model)
    return json.dumps(state, default=lambda a: a.tolist())


def no_loss(prediction, target):
    return np.square(prediction.numpy() - target).mean()


X, Y = data()
WRONG = {
    "model": ({"model": lambda x: x}, DTypeError, "a model is a Module"),
    "epochs": ({"epochs": -1}, ArgumentError, "epochs=-1"),
    "epochs of another type": ({"epochs": 2.0}, ArgumentError, "epochs=2.0"),
    "batch_size": ({"batch_size": 0}, ArgumentError, "batch_size=0"),
    "compile": ({"compile": "yes"}, ArgumentError, "compile='yes'"),
    "progress": ({"progress": "bar"}, ArgumentError, "progress='bar'"),
    "rng": ({"rng": "seed"}, DTypeError, "rng='seed'"),
    "seed": ({"rng": -1}, ArgumentError, "rng=-1 must be a seed, which is a whole number from 0 on"),
    "generator": ({"rng": "0"}, DTypeError, "rng='0' must be a seed"),
    "lengths": ({"targets": Y[:-1]}, ShapeError, "same first axis"),
    "empty": ({"inputs": X[:0], "targets": Y[:0]}, ShapeError, "1 sample or more"),
    "no batches": ({"inputs": [], "targets": None, "batch_size": None}, ShapeError, "no batches"),
    "no targets": ({"targets": None}, ArgumentError, "targets are needed"),
    "batch": ({"inputs": [X], "targets": None, "batch_size": None}, ShapeError, r"a pair \(inputs, target\)"),
    "no samples": ({"inputs": [(X[:0], Y[:0])], "targets": None, "batch_size": None}, ShapeError, r"no samples.*0, 3"),
    "compile as a number": ({"compile": 1}, ArgumentError, "compile=1"),
    "metrics by name": ({"metrics": "accuracy"}, DTypeError, r"be a list, such as \[tn\.metrics\.accuracy\]"),
    "metrics of another type": ({"metrics": 3}, DTypeError, "metrics=3 must be a list"),
    "size of batches": ({"inputs": [(X, Y)], "targets": None}, ArgumentError, "batch_size is for arrays"),
    "used up": ({"inputs": iter([(X, Y)]), "targets": None, "batch_size": None}, ArgumentError, "is an iterator"),
    "gradient": ({"inputs": tn.Tensor(X, requires_grad=True)}, DTypeError, "detach"),
    "fraction": ({"validation": 1.5}, ArgumentError, "validation=1.5"),
    "fraction of batches": (
        {"inputs": [(X, Y)], "targets": None, "batch_size": None, "validation": 0.5}, ArgumentError, "splits arrays",
    ),
    "validation": ({"validation": (X, Y, X)}, ArgumentError, "a tuple of 3"),
    "validation lengths": ({"validation": (X, Y[1:])}, ShapeError, "same first axis"),
    "validation iterator": ({"validation": iter([(X, Y)])}, ArgumentError, "validation is an iterator"),
    "validation shapes": ({"validation": (X, Y[:, :1])}, ShapeError, "one shape"),
    "validation columns": ({"validation": (X[:, :2], Y)}, ShapeError, r"takes \(\.\.\., 3\), got \(4, 2\)"),
    "validation batches": ({"validation": [X]}, ShapeError, r"a pair \(inputs, target\)"),
    "empty validation": ({"validation": lambda epoch: []}, ShapeError, "no batches"),
    "dict": ({"targets": {"y": Y}}, DTypeError, "targets are an array of samples.*got a dict: several"),
    "function and targets": ({"inputs": lambda epoch: [(X, Y)]}, DTypeError, "got a function.*without targets"),
    "dict in a batch": ({"inputs": [(X, {"y": Y})], "targets": None, "batch_size": None}, DTypeError, "got a dict"),
    "ragged batch": ({"inputs": [([[1.0], [2.0, 3.0]], Y)], "targets": None, "batch_size": None}, DTypeError, "a list"),
    "optimizer": ({"optimizer": "adam"}, DTypeError, "an Optimizer"),
    "optimizer class": ({"optimizer": tn.optim.Adam}, DTypeError, r"Adam\(model.parameters\(\)\)"),
    "other parameters": ({"optimizer": tn.optim.SGD(net().parameters())}, ArgumentError, "none of the parameters"),
    "loss": ({"loss": "mse"}, DTypeError, "loss is a function"),
    "loss class": ({"loss": tn.nn.MSELoss}, DTypeError, "loss is a function"),
    "loss by entry": ({"loss": tn.nn.MSELoss("none")}, ShapeError, r"shape \(4, 2\)"),
    "loss outside": ({"loss": no_loss}, DTypeError, "no gradient"),
    "detached": ({"loss": lambda p, t: F.mse_loss(p.detach(), t)}, GraphError, "detached"),
    "shapes": ({"targets": Y[:, :1]}, ShapeError, "one shape"),
    "metric": ({"metrics": ["accuracy"]}, DTypeError, "a metric is a function"),
    "lambda": ({"metrics": [lambda p, t: 0]}, ArgumentError, "my_name"),
    "twice": ({"metrics": [share_above, share_above]}, ArgumentError, "each its own"),
    "metric's name": ({"metrics": {"loss": share_above}}, ArgumentError, "history's own"),
    "metric's value": ({"metrics": {"above": lambda p, t: p > t}}, DTypeError, "above gave an array"),
    "callback": ({"callbacks": [3]}, DTypeError, "a callback is a function"),
    "schedule": (
        {"callbacks": tn.optim.StepLR(tn.optim.SGD(net().parameters()), 2)}, DTypeError, r"LearningRate\(StepLR\(",
    ),
    "hook": ({"callbacks": [type("Logger", (), {"on_epoch": 1})()]}, ArgumentError, "Logger has on_epoch"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said_before_anything_changes(case):
    options, error, match = WRONG[case]
    model, rng = net(), np.random.default_rng(0)
    optimizer = tn.optim.Adam(model.parameters())
    options = {"inputs": X, "targets": Y, "model": model, "optimizer": optimizer, "rng": rng, **options}
    if options["targets"] is None and case != "no targets":
        options["rng"] = None
    before = everything(model, optimizer, rng, model[2].rng)
    with pytest.raises(error, match=match) as caught:
        train(options.pop("model"), options.pop("inputs"), options.pop("targets"), **options)
    assert isinstance(caught.value, TinygradError)
    assert everything(model, optimizer, rng, model[2].rng) == before
    assert all(p.grad is None for p in model.parameters())


def test_the_rehearsal_leaves_no_trace_in_buffers_or_generators():
    class Counting(tn.nn.Module):
        def __init__(self):
            self.inner = net()
            self.count = tn.Tensor(np.zeros(1))

        def forward(self, x):
            self.count = self.count + 1
            return self.inner(x)

    model = Counting()
    train(model, X, Y, epochs=2, batch_size=10)
    assert model.count.numpy() == [2]


def test_no_epochs_change_nothing():
    model = net()
    history = train(model, X, Y, epochs=0)
    assert same(model, net())
    assert (history.epochs, history.steps, list(history)) == (0, 0, ["loss", "lr", "seconds"])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tn.evaluate(net(), X, Y), "loss= or metrics="),
        (lambda: tn.evaluate(net(), X, loss=F.mse_loss), "targets are needed"),
        (lambda: tn.evaluate(net(), X, Y, loss=3), "loss is a function"),
        (lambda: tn.evaluate(net(), X, Y, loss=tn.nn.MSELoss), "loss is a function"),
        (lambda: tn.evaluate(3, X, Y), "a model is a Module"),
        (lambda: tn.predict(net(), X[:0]), "1 sample or more"),
        (lambda: tn.predict(net(), iter([])), "no batches"),
        (lambda: tn.predict(net(), X, batch_size=0), "batch_size=0"),
        (lambda: tn.predict(tn.nn.Sequential(net(), np.mean), X), r"gave shape \(\)"),
        (lambda: tn.predict(net(), iter([X]), batch_size=3), "is for arrays"),
        (lambda: tn.predict(net(), 3), "iterable of batches"),
    ],
)
def test_errors_of_evaluate_and_predict(call, match):
    with pytest.raises(TinygradError, match=match):
        call()


def test_a_parameter_without_a_gradient_is_named_once():
    class Unused(tn.nn.Module):
        def __init__(self):
            self.used, self.unused = net(p=0.0), tn.nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.warns(UserWarning, match="no gradient reached unused.weight, unused.bias in the first step") as caught:
        train(Unused(), X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    model = Unused()
    model.unused.requires_grad_(False)
    train(model, X, Y)


def test_a_parameter_that_thaws_outside_the_optimizer_is_named_once():
    model = net(p=0.0)
    model[0].requires_grad_(False)  # before the optimizer is made
    before = model[0].weight.data.copy()
    with pytest.warns(UserWarning, match=r"layers\.0\.weight, layers\.0\.bias began to require") as caught:
        train(model, X, Y, epochs=4, callbacks=lambda state: model[0].requires_grad_(state.epoch != 1))
    assert (len(caught), caught[0].filename) == (1, __file__)
    np.testing.assert_array_equal(model[0].weight.data, before)
    model = net(p=0.0)
    optimizer = tn.optim.SGD(model.parameters(), lr=0.1)
    model[0].requires_grad_(False)
    train(model, X, Y, epochs=2, optimizer=optimizer, callbacks=lambda state: model[0].requires_grad_(True))
    assert not np.array_equal(model[0].weight.data, before)


def test_trying_the_validation_leaves_no_trace():
    def drawn(rng):
        x = rng.standard_normal((8, 3))
        return x, np.tanh(x[:, :2])

    rng, model = np.random.default_rng(5), net(p=0.0)
    optimizer = tn.optim.SGD(model.parameters(), lr=0.1)
    found = train(model, lambda epoch: [drawn(rng)], epochs=3, batch_size=None, validation=lambda epoch: [drawn(rng)],
                  optimizer=optimizer)  # fmt: skip
    rng, model = np.random.default_rng(5), net(p=0.0)
    optimizer = tn.optim.SGD(model.parameters(), lr=0.1)
    for value in found["val_loss"]:
        x, y = drawn(rng)
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        assert tn.evaluate(model, *drawn(rng), loss=F.mse_loss)["loss"] == value


def test_gradients_of_parameters_outside_the_optimizer_do_not_add_up():
    model = net(p=0.0)
    train(model, X, Y, batch_size=10, epochs=3, optimizer=tn.optim.SGD(model[3].parameters(), lr=0.0))
    one = net(p=0.0)
    F.mse_loss(one(X), Y).backward()
    np.testing.assert_array_equal(model[0].weight.grad, one[0].weight.grad)


# Ctrl-C


@pytest.fixture
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


class Press:
    """Presses Ctrl-C in one step, or twice in it."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def on_gradients(self, state):
        if state.step == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_after_the_step(handler):
    model, other = net(), net()
    history = train(model, X, Y, callbacks=Press(4))
    assert history.interrupted
    assert (history.steps, history.epochs) == (5, 1)  # three steps an epoch
    assert "interrupted after step 5" in repr(history)
    train(other, lambda epoch: list(tn.data.batches(X, Y, batch_size=4))[: 3 if epoch == 0 else 2], batch_size=None,
          epochs=2)  # fmt: skip
    assert same(model, other)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_raises_at_once(handler):
    model = net()
    with pytest.raises(KeyboardInterrupt):
        train(model, X, Y, callbacks=Press(4, times=2))
    assert signal.getsignal(signal.SIGINT) is handler
    assert modes(model) == modes(net())


def test_another_handler_is_left_alone(handler):
    def own(number, frame):
        presses.append(number)

    presses = []
    signal.signal(signal.SIGINT, own)
    assert not train(net(), X, Y, callbacks=Press(4)).interrupted
    assert presses == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own


def test_threads_train_without_a_handler(handler):
    models = [net() for _ in range(3)]
    threads = [threading.Thread(target=train, args=(model, X, Y), kwargs={"rng": 0}) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    train(other := net(), X, Y, rng=0)
    assert all(same(model, other) for model in models)


# Callbacks


class Diary:
    """Writes down what it is called for."""

    def __init__(self):
        self.entries = []

    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)
        return functools.partial(self.write, name)

    def __dir__(self):
        return ["write"]

    def write(self, name, state):
        grads = all(p.grad is not None for p in state.model.parameters())
        self.entries.append((name.removeprefix("on_"), state.epoch, state.batch, state.step, grads))


def test_callbacks_come_at_their_moments():
    diary = Diary()
    epochs = []
    train(net(), X, Y, epochs=2, batch_size=5, callbacks=[diary, lambda state: epochs.append(state.history.epochs)])
    step = [("step_begin", 0, 0), ("gradients", 0, 0), ("step_end", 0, 1)]
    assert [entry[:3] for entry in diary.entries[:5]] == [("train_begin", 0, 0), ("epoch_begin", 0, 0), *step]
    assert [entry[3] for entry in diary.entries if entry[0] == "step_end"] == [1, 2, 3, 4]
    assert all(entry[4] for entry in diary.entries if entry[0] == "gradients")
    assert [entry[0] for entry in diary.entries].count("epoch_end") == 2
    assert diary.entries[-1][:4] == ("train_end", 2, 0, 4)
    assert epochs == [1, 2]


@pytest.mark.parametrize(("hook", "steps_taken", "epochs"), [("on_gradients", 4, 1), ("on_step_end", 5, 1)])
def test_stop_ends_the_training(hook, steps_taken, epochs):
    def stop(state):
        if state.step == 4 + (hook == "on_step_end"):
            state.stop = "enough"

    callback = type("Stopper", (), {hook: staticmethod(stop)})()
    history = train(net(), X, Y, callbacks=[callback])
    assert (history.steps, history.epochs, history.stopped) == (steps_taken, epochs, "enough")
    assert not history.interrupted
    assert repr(history).endswith(f"stopped after step {steps_taken}: enough")


def test_stop_after_an_epoch_keeps_its_figures():
    def stop(state):
        state.stop = state.history["loss"][-1] < 10

    history = train(net(), X, Y, callbacks=stop)
    assert (history.epochs, history.steps, history.stopped) == (1, 3, "True")


# History


def test_history_is_data():
    history = train(net(), X, Y, validation=(X, Y), metrics=[share_above])
    plain = json.loads(json.dumps(history.to_dict()))
    assert plain == dict(history)
    assert {len(values) for values in plain.values()} == {3}
    assert all(isinstance(value, float) for values in plain.values() for value in values)
    history.to_dict()["loss"].clear()
    assert history.epochs == 3
    assert history["lr"] == [0.1] * 3


def test_history_as_a_table():
    assert repr(History({"loss": [0.5, 1e-5], "lr": [0.1, 0.01]})).splitlines() == [
        "epoch   loss    lr",
        "    1    0.5   0.1",
        "    2  1e-05  0.01",
    ]
    long = repr(History({"loss": [1 / k for k in range(1, 13)]})).splitlines()
    assert [row.split()[0] for row in long] == ["epoch", "1", "2", "3", "...", "10", "11", "12"]
    assert repr(History({"loss": []})) == "History of 0 epochs: loss"


def test_groups_have_their_own_learning_rates():
    model = net()
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[3].parameters()}]
    history = train(model, X, Y, optimizer=tn.optim.SGD(groups, lr=0.1))
    assert (history["lr"], history["lr_1"]) == ([0.5] * 3, [0.1] * 3)


def test_history_plots_itself(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where it is installed

    history = train(net(), X, Y, validation=(X, Y), metrics=[share_above])
    axes = history.plot(Figure().add_subplot())
    assert [line.get_label() for line in axes.lines] == ["loss", "val_loss"]
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), np.c_[[1, 2, 3], history["val_loss"]])
    for name in ("curve.svg", "curve.png"):
        history.plot(tmp_path / name, names=["share_above"])
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ArgumentError, match="not \\['acc'\\]"):
        history.plot(names=["acc"])


# Progress


def test_lines_of_progress(capsys, monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    model = net(p=0.0)
    model.load_state_dict({name: np.zeros_like(a) for name, a in model.state_dict().items()})
    # only the last bias moves: 1 - b shrinks to 3/4 in each step, so the first loss is (4 + 4 (3/4)^2 + 2 (3/4)^4) / 10
    train(model, X, np.ones((10, 2)), epochs=3, progress="lines", optimizer=tn.optim.SGD(model.parameters(), lr=0.25),
          metrics=[share_above], validation=(X, 0 * Y))  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/3  loss 0.6883  share_above 0.0000  val_loss 0.3342  val_share_above 1.0000  lr 0.25  0.00 s",
        "epoch 2/3  loss 0.1225  share_above 0.0000  val_loss 0.6757  val_share_above 1.0000  lr 0.25  0.00 s",
        "epoch 3/3  loss 0.0218  share_above 0.0000  val_loss 0.8555  val_share_above 1.0000  lr 0.25  0.00 s",
    ]


def test_long_trainings_print_few_lines(capsys):
    train(net(), X, Y, epochs=150, batch_size=10, progress="lines")
    numbers = [int(row.split("/")[0].removeprefix("epoch")) for row in capsys.readouterr().out.splitlines()]
    assert numbers == [1, *range(10, 151, 10)]


def test_progress_is_quiet_without_a_terminal_and_tells_why_it_ended(capsys):
    train(net(), X, Y, progress=True)
    assert capsys.readouterr() == ("", "")

    def stop(state):
        state.stop = "enough"

    train(net(), X, Y, progress="lines", callbacks=stop)
    assert capsys.readouterr().out.splitlines()[-1] == "enough"


TERMINAL = """
import sys, numpy as np, tinygrad_nn as tn
sys.stderr.isatty = lambda: True
if {hidden}:
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
x = np.ones((4, 2))
model = tn.nn.Linear(2, 1)
tn.fit(model, {inputs}, loss=tn.functional.mse_loss, optimizer=tn.optim.SGD(model.parameters()), epochs=3)
"""


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("inputs", ["x, x[:, :1]", "lambda epoch: iter([(x, x[:, :1])] * 2)"])
def test_a_terminal_shows_a_bar_if_tqdm_is_there_else_lines(hidden, inputs):
    if not hidden:
        pytest.importorskip("tqdm")
    code = TERMINAL.format(hidden=hidden, inputs=inputs)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    if hidden:
        assert done.stdout.count("epoch ") == 3
        assert done.stderr == ""
    else:
        assert done.stdout == ""
        assert "epoch 3/3: 100%" in done.stderr
        assert "loss=" in done.stderr


def test_figures_of_validation_are_seen_in_a_terminal_of_80_columns():
    tqdm = pytest.importorskip("tqdm").tqdm
    shown = io.StringIO()
    bar = Bar(functools.partial(tqdm, file=shown, ncols=80, mininterval=0))
    bar.begin(10, 0, 0, 50)
    bar.epoch(1, {"loss": 0.5, "accuracy": 0.25, "val_loss": 0.75, "val_accuracy": 0.5, "lr": 0.1, "seconds": 1}, 50)
    bar.step()
    bar.end("")
    last = shown.getvalue().split("\r")[-1].rstrip()
    assert "val_loss=0.7500, val_accuracy=0.5000" in last
    assert len(last) <= 80
