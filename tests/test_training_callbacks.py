"""Callbacks: early stopping, learning rates, the first NaN, and trainings that were broken off."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import ArgumentError, DTypeError, StateError
from tinygrad_nn.training import Checkpoint, EarlyStopping, LearningRate, StopOnNaN, steps

F = tn.functional
RNG = np.random.default_rng(1)
X, Y = RNG.standard_normal((10, 3)), RNG.random((10, 2))


class Net(tn.nn.Module):
    """Dropout with a generator, and a buffer that every training step changes."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.layers = [tn.nn.Linear(3, 4, rng=rng), tn.nn.Dropout(0.3, rng=rng), tn.nn.Linear(4, 2, rng=rng)]
        self.mean = tn.Tensor(np.zeros(4))

    def forward(self, x):
        hidden = np.tanh(self.layers[0](x))
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * hidden.mean(axis=0).detach()
        return self.layers[2](self.layers[1](hidden - self.mean))


def train(model, inputs=X, targets=Y, **options):
    options = {"loss": F.mse_loss, "epochs": 4, "compile": False, "progress": False, **options}
    if targets is not None:
        options = {"batch_size": 4, "rng": 0, **options}
    optimizer = options.pop("optimizer", None) or tn.optim.Adam(model.parameters(), lr=0.01)
    return tn.fit(model, inputs, targets, optimizer=optimizer, **options)


def same(a, b):
    states = a.state_dict(), b.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


# EarlyStopping


def expected_stop(values, patience, min_delta, sign):
    """The last epoch and the best one, from the definition."""
    best, best_epoch = -np.inf, -1
    for epoch, value in enumerate(values):
        if sign * value > best + min_delta:
            best, best_epoch = sign * value, epoch
        elif epoch - best_epoch >= patience:
            return epoch, best_epoch
    return len(values) - 1, best_epoch


@given(
    values=st.lists(st.integers(0, 6) | st.just(float("nan")), min_size=1, max_size=9),
    patience=st.integers(1, 4),
    min_delta=st.sampled_from([0, 1]),
    mode=st.sampled_from(["min", "max"]),
)
def test_early_stopping_ends_and_restores_by_its_definition(values, patience, min_delta, mode):
    states = []
    script = iter([values[0], *values])  # the rehearsal asks once

    def remember(state):
        states.append(state.model.state_dict())

    model = Net()
    stop = EarlyStopping("figure", patience=patience, min_delta=min_delta, mode=mode)
    history = train(model, epochs=len(values), batch_size=10, metrics={"figure": lambda p, t: next(script)},
                    callbacks=[remember, stop])  # fmt: skip
    last, best = expected_stop(values, patience, min_delta, 1 if mode == "max" else -1)
    assert history.epochs == last + 1
    assert stop.best_epoch == best
    assert bool(history.stopped) == (last - best >= patience)
    kept = states[best if best >= 0 else last]
    assert all(np.array_equal(kept[name], array) for name, array in model.state_dict().items())


def test_early_stopping_may_leave_the_model_alone():
    a, b = Net(), Net()
    history = train(a, epochs=9, callbacks=EarlyStopping("loss", patience=1, min_delta=9.0, restore=False))
    train(b, epochs=2)
    assert history.epochs == 2
    assert history.stopped.startswith("loss has not improved by more than 9 for 1 epochs; the best was")
    assert same(a, b)


def test_early_stopping_begins_anew_with_each_training():
    stop = EarlyStopping("loss", patience=2, min_delta=9.0)
    for seed in range(3):
        history = train(Net(seed), epochs=9, callbacks=stop)
        assert history.epochs == 3
        assert stop.best == history["loss"][0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"monitor": "val_los"}, r"mode=None for 'val_los'"),
        ({"monitor": "val_loss"}, "the history has loss, lr, seconds; give validation="),
        ({"monitor": "acc", "mode": "max"}, "monitors 'acc', the history has loss, lr, seconds$"),
        ({"patience": 0}, "patience=0"),
        ({"min_delta": -1}, "min_delta=-1"),
        ({"min_delta": float("nan")}, "min_delta=nan"),
        ({"mode": "auto"}, "mode='auto'"),
    ],
)
def test_early_stopping_says_what_is_wrong_before_anything_changes(options, match):
    model = Net()
    with pytest.raises(ArgumentError, match=match):
        train(model, callbacks=EarlyStopping(**options))
    assert same(model, Net())


# LearningRate


class Halving:
    """A schedule object, of the kind that optimizers are given."""

    def __init__(self, optimizer):
        self.optimizer, self.count = optimizer, 0

    def step(self):
        self.count += 1
        for group in self.optimizer.param_groups:
            group["lr"] /= 2

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_learning_rates_by_a_function_and_by_an_object():
    rates = []
    spy = type("Spy", (), {"on_step_end": lambda self, state: rates.append(state.optimizer.param_groups[0]["lr"])})()
    history = train(Net(), epochs=2, callbacks=[LearningRate(lambda epoch: 0.1 * (epoch + 1)), spy])
    assert history["lr"] == [0.1, 0.2]
    assert rates == [0.1] * 3 + [0.2] * 3
    rates.clear()
    history = train(Net(), epochs=2, callbacks=[LearningRate(lambda step: 0.5**step, every="step"), spy])
    assert rates == [0.5**step for step in range(6)]
    assert history["lr"] == [0.25, 0.5**5]
    model = Net()
    optimizer = tn.optim.SGD(model.parameters(), lr=0.8)
    schedule = tn.optim.StepLR(optimizer, 2, gamma=0.5)
    assert train(model, epochs=5, optimizer=optimizer, callbacks=LearningRate(schedule))["lr"] == [
        0.8, 0.8, 0.4, 0.4, 0.2]  # fmt: skip
    for every, expected in (("epoch", [0.8, 0.4]), ("step", [0.2, 0.025])):
        model = Net()
        optimizer = tn.optim.SGD(model.parameters(), lr=0.8)
        schedule = LearningRate(Halving(optimizer), every=every)
        assert train(model, epochs=2, optimizer=optimizer, callbacks=schedule)["lr"] == expected


def test_gradients_are_clipped_before_the_step():
    norms = []

    class Clip:
        def on_gradients(self, state):
            tn.optim.clip_grad_norm(state.model.parameters(), 0.01)
            norms.append(np.sqrt(sum(np.sum(np.square(p.grad)) for p in state.model.parameters())))

    a, b = Net(), Net()
    for compiling in (False, True):
        train(a if compiling else b, callbacks=Clip(), optimizer=None, compile=compiling)
    assert max(norms) <= 0.01
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_allclose(x.data, y.data, rtol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "options", "error", "match"),
    [
        (0.1, {}, DTypeError, "a function of the epoch"),
        (Halving, {}, DTypeError, "a function of the epoch"),
        (abs, {"every": "batch"}, ArgumentError, "every='batch'"),
        (lambda epoch: -0.1, {}, ArgumentError, r"learning rate -0\.1 for epoch 0"),
        (lambda epoch: "slow", {}, DTypeError, "gave 'slow' as the learning rate for epoch 0"),
        (lambda epoch: None, {"every": "step"}, DTypeError, "gave None as the learning rate for step 0"),
        (Halving(tn.optim.SGD(Net().parameters())), {}, ArgumentError, "another optimizer"),
    ],
)
def test_learning_rate_errors(schedule, options, error, match):
    with pytest.raises(error, match=match):
        train(Net(), callbacks=LearningRate(schedule, **options))


def test_a_function_does_not_level_the_rates_of_groups():
    model = Net()
    groups = [{"params": model.layers[0].parameters(), "lr": 0.1}, {"params": model.layers[2].parameters(), "lr": 0.2}]
    with pytest.raises(ArgumentError, match=r"\[0\.1, 0\.2\]"):
        train(model, optimizer=tn.optim.SGD(groups), callbacks=LearningRate(lambda epoch: 0.1))


# StopOnNaN


class Log(tn.nn.Module):
    def forward(self, x):
        return np.log(x)


class Root(tn.nn.Module):
    def forward(self, x):
        return np.sqrt(np.square(x - x.detach()) + 0 * x)


def built(layer, p=0.0):
    rng = np.random.default_rng(0)
    return tn.nn.Sequential(tn.nn.Linear(3, 2, rng=rng), tn.nn.Dropout(p, rng=rng), layer)


def stopped(model, match, *, inputs=X, compiling=False, epochs=3, optimizer=None, loss=F.mse_loss):
    before = model.state_dict()
    stop = StopOnNaN()
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match=match) as caught:
        history = train(model, inputs, callbacks=stop, compile=compiling, epochs=epochs, optimizer=optimizer, loss=loss)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert history.stopped == str(caught[0].message)
    return history, before


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (Log(), r"^step 1 \(epoch 1, batch 1\), layers\.2 \(Log\): np\.log made nan from finite values"),
        (Root(), r"^step 1 \(epoch 1, batch 1\), layers\.2 \(Root\): the derivative of np\.sqrt made -?inf"),
        (np.log, r"^step 1 .*, Sequential \(the model\): np\.log made nan"),
    ],
)
def test_the_layer_of_the_first_nan_is_named(layer, match, compiling):
    model = built(layer)
    history, before = stopped(model, match, compiling=compiling)
    assert (history.steps, history.epochs) == (0, 0)
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


def test_a_nan_in_the_loss_belongs_to_the_loss():
    stopped(built(np.tanh), r", the loss: np\.log made nan", loss=lambda p, t: np.log(-np.square(p)).mean())


def test_a_nan_that_only_one_mask_gives_is_found_again():
    def fails_when_dropped(x):
        return np.log(np.abs(x) + np.where(x.detach().numpy()[:1, :1] == 0, -1e9, 1.0))

    generator = np.random.default_rng(5)
    model = built(fails_when_dropped)
    model[1].p, model[1].rng = 0.25, generator
    history, _ = stopped(model, r", Sequential \(the model\): np\.log made nan", epochs=20)
    assert history.steps > 0


def test_a_nan_of_the_data_or_of_an_update():
    wrong = X.copy()
    wrong[7, 1] = np.nan
    history, _ = stopped(built(np.tanh), r"\(epoch 1, batch \d\), the batch: its inputs hold NaN", inputs=wrong)
    assert history.steps < 3
    model = built(np.tanh)
    model[0].weight.data = np.full((3, 2), np.nan)
    stopped(model, r"layers\.0\.weight: holds NaN or infinity, from the beginning")
    model = built(Same := np.positive)
    huge = tn.optim.SGD(model.parameters(), lr=1e308)
    stopped(model, r"holds NaN or infinity, since the update of step \d|made -?(inf|nan)", optimizer=huge, epochs=9)
    assert Same is np.positive


def test_finite_trainings_are_left_alone():
    a, b = Net(), Net()
    train(a, callbacks=StopOnNaN())
    train(b)
    assert same(a, b)


# Checkpoint


class Crash(Exception):  # noqa: N818 - no error of a program
    """Something that ends a training."""


class Crasher:
    """Crashes at the n-th moment of a kind, counted over the callback's life."""

    def __init__(self, hook, moments):
        self.moments, self.count = set(moments), 0
        setattr(self, hook, self.call)

    def call(self, state):
        self.count += 1
        if self.count in self.moments:
            raise Crash


class Stateful:
    """A callback with a state of its own, which it changes in every step."""

    def __init__(self):
        self.sum = 0.0

    def on_step_end(self, state):
        self.sum = self.sum * 0.5 + state.value

    def state_dict(self):
        return {"sum": self.sum}

    def load_state_dict(self, state):
        self.sum = state["sum"]


class Augmented:
    """Batches of the user's own making, drawn from a generator it holds."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __iter__(self):
        for _ in range(3):
            k = self.rng.integers(0, 10, 4)
            yield X[k] + self.rng.normal(size=(4, 3)), Y[k]


SOURCES = {
    "shuffled": lambda: (X, Y, {"rng": 3}),
    "in order": lambda: (X, Y, {"rng": None}),
    "loader": lambda: (tn.data.batches(X, Y, batch_size=4, rng=np.random.default_rng(2)), None, {}),
    "own": lambda: (Augmented(4), None, {}),
    "function": lambda: (
        lambda epoch: tn.data.batches(X, Y, batch_size=4, rng=np.random.default_rng([7, epoch])),
        None,
        {},
    ),
}


def start(path, source, crasher=None, epochs=4, every=None, compiling=False, **options):
    """One start of a script: everything is made anew, and `fit` is called."""
    model = Net()
    extra = tn.nn.Parameter(np.ones(2))
    optimizer = tn.optim.Adam([*model.parameters(), extra], lr=0.02)
    inputs, targets, given_options = SOURCES[source]()
    stop = EarlyStopping("val_loss", patience=2)
    mine = Stateful()
    warm = tn.optim.LinearLR(optimizer, 0.5, total_iters=3)
    schedule = tn.optim.SequentialLR(optimizer, [warm, tn.optim.CosineAnnealingLR(optimizer, 8)], [3])
    callbacks = [stop, LearningRate(schedule, every="step"), mine, *([crasher] if crasher else [])]
    if path is not None:
        callbacks.insert(0, Checkpoint(path, every=every))
    history = train(
        model, inputs, targets, loss=lambda p, t: F.mse_loss(p * extra, t), optimizer=optimizer, epochs=epochs,
        validation=(X, Y), metrics={"mean": lambda p, t: p.mean()}, callbacks=callbacks, compile=compiling,
        **given_options, **options,
    )  # fmt: skip
    figures = {name: values for name, values in history.to_dict().items() if name != "seconds"}
    state = (*model.state_dict().values(), extra.data, *(g.bit_generator.state["state"]["state"] for g in [
        model.layers[1].rng]))  # fmt: skip
    return history, (figures, history.stopped, history.steps, history.compiled_steps, mine.sum, stop.best_epoch), state


def equal(a, b):
    assert a[1] == b[1]
    return all(np.array_equal(x, y) for x, y in zip(a[2], b[2], strict=True))


@pytest.fixture(scope="module")
def unbroken():
    found = {}

    def get(source, compiling):
        if (source, compiling) not in found:
            found[source, compiling] = start(None, source, compiling=compiling)
        return found[source, compiling]

    return get


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=12)
@given(
    hook=st.sampled_from(["on_step_begin", "on_gradients", "on_step_end", "on_epoch_begin", "on_epoch_end"]),
    moments=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    every=st.sampled_from([None, 1, 2, 5]),
)
def test_a_broken_training_ends_as_an_unbroken_one(source, unbroken, tmp_path_factory, hook, moments, every):
    path = tmp_path_factory.mktemp("run") / "run.npz"
    crasher = Crasher(hook, moments)
    for _ in range(len(moments) + 1):
        try:
            result = start(path, source, crasher, every=every)
            break
        except Crash:
            pass
    assert equal(result, unbroken(source, compiling=False))
    assert [p.name for p in path.parent.iterdir()] == ["run.npz"]
    again = start(path, source, every=every)  # a finished training is only read
    assert equal(again, result)


@pytest.mark.parametrize("compiling", [True, "auto"])
def test_compiled_trainings_go_on_bit_for_bit(compiling, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "PAYS_AFTER", 3)
    expected = unbroken("shuffled", compiling)
    assert expected[0].compiled_steps > 0
    for moment in (2, 5, 8, 10):
        path = tmp_path / f"{moment}.npz"
        with pytest.raises(Crash):
            start(path, "shuffled", Crasher("on_gradients", [moment]), every=2, compiling=compiling)
        assert equal(start(path, "shuffled", every=2, compiling=compiling), expected)


def test_more_epochs_train_on(tmp_path):
    path = tmp_path / "run.npz"
    assert start(path, "shuffled", epochs=2)[0].epochs == 2
    assert equal(start(path, "shuffled", epochs=4), start(None, "shuffled", epochs=4))


def test_ctrl_c_writes_the_place_in_the_epoch(tmp_path):
    class Press:
        def on_gradients(self, state):
            if state.step == 4:
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        history = start(tmp_path / "run.npz", "shuffled", Press())[0]
    finally:
        signal.signal(signal.SIGINT, before)
    assert (history.interrupted, history.steps, history.epochs) == (True, 5, 1)
    place = tn.load(tmp_path / "run.npz")["training"]["place"]
    assert place == [1, 2, 5]
    assert equal(start(tmp_path / "run.npz", "shuffled"), start(None, "shuffled"))


def test_an_iterator_goes_on_where_it_stood(tmp_path):
    def run(path, crasher=None):
        model = Net()
        callbacks = [*([Checkpoint(path, every=1)] if path else []), *([crasher] if crasher else [])]
        train(model, iter(Augmented(2)), None, epochs=1, callbacks=callbacks)
        return model

    with pytest.raises(Crash):
        run(tmp_path / "run.npz", Crasher("on_gradients", [2]))
    assert same(run(tmp_path / "run.npz"), run(None))


KILLED = """
import sys, time, numpy as np, tinygrad_nn as tn
rng = np.random.default_rng(0)
x, y = rng.random((64, 20)), rng.random((64, 4))
net = tn.nn.Sequential(tn.nn.Linear(20, 30, rng=rng), tn.nn.Dropout(0.2, rng=rng), tn.nn.Linear(30, 4, rng=rng))
class Show:
    def on_step_end(self, state):
        print(state.step, flush=True)
        time.sleep(0.001)
history = tn.fit(net, x, y, loss=tn.functional.mse_loss, optimizer=tn.optim.Adam(net.parameters()), epochs=25,
    batch_size=16, rng=rng, progress=False, callbacks=[Show(), *map(tn.training.Checkpoint, sys.argv[2:])])
print(sum(history["loss"]), *(a.tobytes().hex() for a in net.state_dict().values()))
"""


def test_a_killed_process_goes_on(tmp_path):
    def run(*arguments, kill_after=None):
        command = [sys.executable, "-c", KILLED, "run", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for text in process.stdout:
                if kill_after is not None and text.strip() == str(kill_after):
                    time.sleep(0.0007 * (kill_after % 5))
                    process.kill()
            process.wait()
        return text

    path = str(tmp_path / "run.npz")
    for step in (31, 57):
        run(path, kill_after=step)
    assert tn.load(path)["training"]["place"][0] >= 10
    assert run(path) == run()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"source": "in order"}, "shuffled there, 10 samples by 4, in order here"),
        ({"batch_size": 5}, "inputs: 10 samples by 4, shuffled there, 10 samples by 5"),
        ({"compiling": True}, "compile: False there, True here"),
        ({"crasher": Stateful()}, "callbacks with a state"),
    ],
)
def test_other_arguments_are_refused(change, match, tmp_path):
    path = tmp_path / "run.npz"
    start(path, "shuffled", epochs=1)
    with pytest.raises(StateError, match=match):
        start(path, **{"source": "shuffled", **change})


def test_another_model_or_optimizer_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "run.npz"
    train(Net(), epochs=1, callbacks=Checkpoint(path))
    model = tn.nn.Linear(3, 2)
    before = model.state_dict()
    with pytest.raises(StateError, match="generators: 2 there, 1 here"):
        train(model, callbacks=Checkpoint(path))
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    model = Net()
    model.layers[2] = tn.nn.Linear(4, 2, bias=False, rng=np.random.default_rng(0))
    before = model.state_dict()
    with pytest.raises(StateError, match=r"unexpected: layers\.2\.bias"):
        train(model, callbacks=Checkpoint(path))
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    model = Net()
    with pytest.raises(StateError, match=r"optimizer: Adam\(.*'lr': 0\.01.* there, SGD"):
        train(model, callbacks=Checkpoint(path), optimizer=tn.optim.SGD(model.parameters()))
    assert same(model, Net())
    history = train(model, epochs=2, callbacks=Checkpoint(path, resume=False))
    assert history.steps == 6


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("run.txt",), ArgumentError, r"\.npz or a \.safetensors"),
        ((3,), DTypeError, "the path of a file"),
        (("nowhere/run.npz",), ArgumentError, "'nowhere' of a checkpoint does not exist"),
        (("run.npz", 0), ArgumentError, "every=0"),
    ],
)
def test_checkpoint_errors(arguments, error, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        Checkpoint(arguments[0], every=arguments[1] if arguments[1:] else None)


def test_a_file_of_another_kind_is_refused(tmp_path):
    model = Net()
    tn.save(tmp_path / "model.npz", model=model)
    with pytest.raises(StateError, match="not written by a Checkpoint: it has model"):
        train(model, callbacks=Checkpoint(tmp_path / "model.npz"))
    assert same(model, Net())


def test_generators_that_cannot_be_saved_are_refused(tmp_path):
    model = Net()
    model.layers[1].other = np.random.RandomState(0)
    with pytest.raises(ArgumentError, match="not RandomState"):
        train(model, callbacks=Checkpoint(tmp_path / "run.npz"))
    train(model, epochs=1)
