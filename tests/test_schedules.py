"""Learning-rate schedules and gradient clipping, by formulas written down here, and against PyTorch's."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.errors import ArgumentError, DTypeError, StateError, TinygradError
from tinygrad_nn.optim import (
    SGD,
    Adam,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    RMSprop,
    SequentialLR,
    StepLR,
    clip_grad_norm,
    clip_grad_value,
)

seeds = st.integers(0, 2**32 - 1)


def optimizer_of(*rates):
    return SGD([{"params": [tn.Tensor([1.0], requires_grad=True)], "lr": rate} for rate in rates])


def course(schedule, steps):
    """The rates of all groups, before the first step and after each."""
    found = [[group["lr"] for group in schedule.optimizer.param_groups]]
    for _ in range(steps):
        schedule.step()
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
        assert found[-1] == schedule.get_last_lr()
    return np.array(found)


def warm_up_and_cosine(optimizer):
    parts = [LinearLR(optimizer, 0.1, total_iters=4), CosineAnnealingLR(optimizer, 6), StepLR(optimizer, 2, 0.5)]
    return SequentialLR(optimizer, parts, [4, 10])


SCHEDULES = {
    "step": (lambda o: StepLR(o, 3, 0.5), lambda t: 0.5 ** (t // 3)),
    "cosine": (lambda o: CosineAnnealingLR(o, 7), lambda t: (1 + math.cos(math.pi * t / 7)) / 2),
    "linear": (lambda o: LinearLR(o, 0.2, 0.8, 5), lambda t: 0.2 + 0.6 * min(t, 5) / 5),
    "default": (LinearLR, lambda t: (1 + 2 * min(t, 5) / 5) / 3),
    "joined": (
        warm_up_and_cosine,
        lambda t: (
            0.1 + 0.9 * t / 4
            if t < 4
            else (1 + math.cos(math.pi * (t - 4) / 6)) / 2
            if t < 10
            else 0.5 ** ((t - 10) // 2)
        ),
    ),
}
every_schedule = pytest.mark.parametrize("name", list(SCHEDULES))


@every_schedule
def test_rates_follow_the_formula_in_every_group(name):
    make, factor = SCHEDULES[name]
    found = course(make(optimizer_of(0.4, 2.0)), 20)
    expected = [[0.4 * factor(t), 2.0 * factor(t)] for t in range(21)]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-16)


def test_cosine_ends_at_eta_min():
    found = course(CosineAnnealingLR(optimizer_of(0.5), 10, eta_min=0.1), 10)[:, 0]
    assert found[0] == 0.5
    np.testing.assert_allclose(found[5], 0.3)
    np.testing.assert_allclose(found[10], 0.1)
    assert np.all(np.diff(found) < 0)


@every_schedule
def test_rates_equal_pytorchs(name):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.lr_scheduler
    w = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w], lr=0.4)
    made = {
        "step": lambda: theirs.StepLR(optimizer, 3, 0.5),
        "cosine": lambda: theirs.CosineAnnealingLR(optimizer, 7),
        "linear": lambda: theirs.LinearLR(optimizer, 0.2, 0.8, 5),
        "default": lambda: theirs.LinearLR(optimizer),
        "joined": lambda: theirs.SequentialLR(
            optimizer,
            [
                theirs.LinearLR(optimizer, 0.1, total_iters=4),
                theirs.CosineAnnealingLR(optimizer, 6),
                theirs.StepLR(optimizer, 2, 0.5),
            ],
            [4, 10],
        ),
    }[name]()
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(20):
        optimizer.step()
        made.step()
        expected.append(optimizer.param_groups[0]["lr"])
    found = course(SCHEDULES[name][0](optimizer_of(0.4)), 20)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("kept", range(0, 13, 4))
def test_a_training_broken_off_goes_on_where_it_was(name, kept):
    make = SCHEDULES[name][0]
    expected = course(make(optimizer_of(0.4, 2.0)), 16)
    first = make(optimizer_of(0.4, 2.0))
    course(first, kept)
    saved, options = first.state_dict(), first.optimizer.state_dict()
    untouched = copy.deepcopy(saved)
    course(first, 2)
    assert saved == untouched

    optimizer = optimizer_of(0.4, 2.0)
    second = make(optimizer)
    optimizer.load_state_dict(options)
    second.load_state_dict(saved)
    np.testing.assert_array_equal(course(second, 16 - kept), expected[kept:])

    optimizer = optimizer_of(9.0, 9.0)  # the optimizer first, the schedule made from what it loaded
    optimizer.load_state_dict(options)
    third = make(optimizer)
    third.load_state_dict(saved)
    np.testing.assert_array_equal(course(third, 16 - kept), expected[kept:])
    assert third.state_dict() == second.state_dict()


def test_a_state_goes_through_a_file(tmp_path):
    schedule = warm_up_and_cosine(optimizer_of(0.4))
    course(schedule, 5)
    tn.save(tmp_path / "run.npz", optimizer=schedule.optimizer, schedule=schedule.state_dict())
    other = warm_up_and_cosine(optimizer_of(1.0))
    other.load_state_dict(tn.load(tmp_path / "run.npz", optimizer=other.optimizer)["schedule"])
    np.testing.assert_array_equal(course(other, 9), course(schedule, 9))


def test_states_that_do_not_fit_change_nothing():
    schedule = warm_up_and_cosine(optimizer_of(0.4))
    course(schedule, 3)
    good = schedule.state_dict()
    inner = copy.deepcopy(good)
    del inner["schedulers"][2]["gamma"]
    for bad, message in (
        (StepLR(optimizer_of(0.1), 2).state_dict(), "SequentialLR over 1 group"),
        ({**good, "more": 1}, "more"),
        ({**good, "schedulers": good["schedulers"][:2]}, "of 2 schedules, here are 3"),
        (inner, "StepLR over 1 group"),
        ({**good, "base_lrs": [0.1, 0.2]}, "over 1 group"),
    ):
        with pytest.raises(StateError, match=message):
            schedule.load_state_dict({**bad, "last_epoch": 9})
        assert schedule.state_dict() == good
        assert schedule.optimizer.param_groups[0]["lr"] == schedule.get_last_lr()[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: StepLR(o, 0), ArgumentError, "step_size"),
        (lambda o: StepLR(o, 2, -0.1), ArgumentError, "gamma >= 0"),
        (lambda o: CosineAnnealingLR(o, 2.5), ArgumentError, "T_max"),
        (lambda o: CosineAnnealingLR(o, 2, -1), ArgumentError, "eta_min >= 0"),
        (lambda o: LinearLR(o, 0), ArgumentError, "start_factor > 0"),
        (lambda o: LinearLR(o, 1, 1.5), ArgumentError, "end_factor <= 1"),
        (lambda o: LinearLR(o, total_iters=0), ArgumentError, "total_iters"),
        (lambda o: SequentialLR(o, [StepLR(o, 1)], [3]), ArgumentError, "of 1 schedules takes 0 increasing"),
        (
            lambda o: SequentialLR(o, [StepLR(o, 1)] * 3, [3, 3]),
            ArgumentError,
            "2 increasing milestones",
        ),
        (lambda o: SequentialLR(o, [StepLR(optimizer_of(1), 1)], []), ArgumentError, "schedules of one optimizer"),
        (lambda o: SequentialLR(o, [], []), ArgumentError, "of 0 schedules"),
        (lambda o: StepLR([o], 1), DTypeError, "StepLR sets the rate of an Optimizer, got a list"),
        (LRScheduler, DTypeError, r"define rate\(self, epoch, base\)"),
    ],
)
def test_what_schedules_refuse(make, error, message):
    optimizer = optimizer_of(0.4)
    with pytest.raises(error, match=message):
        make(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.4


def test_schedules_show_their_options():
    optimizer = optimizer_of(0.4)
    assert repr(StepLR(optimizer, 2)) == "StepLR(step_size=2, gamma=0.1)"
    assert repr(SequentialLR(optimizer, [StepLR(optimizer, 2)], [])) == (
        "SequentialLR(schedulers=[StepLR(step_size=2, gamma=0.1)], milestones=[])"
    )


def test_a_schedule_in_fit():
    rng = np.random.default_rng(0)
    model = tn.nn.Linear(2, 1, rng=rng)
    optimizer = Adam(model.parameters(), lr=0.1)
    x = rng.standard_normal((8, 2))
    rate = tn.training.LearningRate(StepLR(optimizer, 2, 0.5))
    history = tn.fit(
        model, x, x[:, :1], loss=tn.functional.mse_loss, optimizer=optimizer, epochs=4, callbacks=rate, progress=False
    )
    assert history["lr"] == [0.1, 0.1, 0.05, 0.05]


# Clipping


def parameters(rng, *shapes, scale=1.0, dtype=np.float64):
    found = []
    for shape in shapes:
        p = tn.Tensor(np.zeros(shape, dtype), requires_grad=True)
        p.grad = (scale * rng.standard_normal(shape)).astype(dtype)
        found.append(p)
    return found


NORMS = st.sampled_from([0.5, 1.0, 2.0, 3.0, math.inf])


@given(seed=seeds, p=NORMS, max_norm=st.sampled_from([0.0, 0.1, 1.0, 1e3]), scale=st.sampled_from([1e-3, 1.0, 1e200]))
def test_clip_grad_norm_scales_all_gradients_together(seed, p, max_norm, scale):
    rng = np.random.default_rng(seed)
    params = parameters(rng, (2, 3), (), (4,), scale=scale)
    params.append(tn.Tensor([1.0], requires_grad=True))
    before = np.concatenate([q.grad.ravel() for q in params[:3]])
    arrays = [q.grad for q in params]
    unit = before / scale
    expected = scale * (abs(unit).max() if p == math.inf else np.sum(abs(unit) ** p) ** (1 / p))
    norm = clip_grad_norm(iter(params), max_norm, p)
    assert isinstance(norm, float)
    np.testing.assert_allclose(norm, expected, rtol=1e-13)
    after = np.concatenate([q.grad.ravel() for q in params[:3]])
    np.testing.assert_allclose(after, before * min(1, max_norm / (norm + 1e-6)), rtol=1e-13)
    assert all(a is q.grad for a, q in zip(arrays, params, strict=True))
    assert norm > max_norm or np.array_equal(after, before)


@given(seed=seeds, p=NORMS, max_norm=st.sampled_from([0.1, 1.0, 1e3]))
def test_clip_grad_norm_equals_pytorchs(seed, p, max_norm):
    torch = pytest.importorskip("torch")
    params = parameters(np.random.default_rng(seed), (2, 3), (4,))
    theirs = [torch.nn.Parameter(torch.tensor(q.data)) for q in params]
    for a, b in zip(params, theirs, strict=True):
        b.grad = torch.tensor(a.grad)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, p)
    np.testing.assert_allclose(clip_grad_norm(params, max_norm, p), float(expected), rtol=1e-12)
    for a, b in zip(params, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12)


@given(seed=seeds, value=st.sampled_from([0.0, 0.3, 5.0]))
def test_clip_grad_value_bounds_every_entry(seed, value):
    params = parameters(np.random.default_rng(seed), (2, 3), ())
    before = [q.grad.copy() for q in params]
    clip_grad_value([*params, tn.Tensor(1.0, requires_grad=True)], value)
    for q, g in zip(params, before, strict=True):
        assert np.array_equal(q.grad, np.clip(g, -value, value))


def test_clipping_keeps_the_dtype_and_counts_a_parameter_once():
    (w,) = parameters(np.random.default_rng(0), (3,), dtype=np.float32)
    before = w.grad.copy()
    norm = clip_grad_norm([w, w], 0.1)
    np.testing.assert_allclose(norm, np.linalg.norm(before.astype(float)), rtol=1e-6)
    assert w.grad.dtype == np.float32
    np.testing.assert_allclose(w.grad, before * 0.1 / norm, rtol=1e-5)
    clip_grad_value(w, 0.01)
    assert w.grad.dtype == np.float32
    assert clip_grad_norm(tn.Tensor([0.0], requires_grad=True), 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_gradients_that_are_not_finite_are_refused_or_scaled_as_pytorch_scales_them(bad, p):
    params = parameters(np.random.default_rng(0), (3,), (2,))
    params[1].grad[1] = bad
    before = [q.grad.copy() for q in params]
    with pytest.raises(ArgumentError, match="error_if_nonfinite=False"):
        clip_grad_norm(params, 1.0, p)
    assert all(np.array_equal(q.grad, g, equal_nan=True) for q, g in zip(params, before, strict=True))
    norm = clip_grad_norm(params, 1.0, p, error_if_nonfinite=False)
    assert norm == math.inf or math.isnan(norm)
    after = np.concatenate([q.grad for q in params])
    assert np.all((after == 0) | np.isnan(after))


@pytest.mark.parametrize(
    "call",
    [
        lambda: clip_grad_norm([], -1.0),
        lambda: clip_grad_norm([], math.nan),
        lambda: clip_grad_norm([], 1.0, 0),
        lambda: clip_grad_norm([], 1.0, math.nan),
        lambda: clip_grad_value([], -1.0),
        lambda: clip_grad_norm([np.ones(2)], 1.0),
        lambda: clip_grad_norm(3, 1.0),
        lambda: clip_grad_norm([], 1.0, "two"),
    ],
)
def test_what_clipping_refuses(call):
    with pytest.raises(TinygradError):
        call()


# Optimizers and PyTorch's


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (RMSprop, {}),
        (RMSprop, {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
        (RMSprop, {"momentum": 0.8, "centered": True, "weight_decay": 0.01}),
        (RMSprop, {"centered": True}),
        (Adam, {"weight_decay": 0.1}),
        (tn.optim.AdamW, {}),
    ],
)
def test_optimizers_equal_pytorchs(kind, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    w = tn.Tensor(rng.standard_normal((3, 2)), requires_grad=True)
    their_w = torch.nn.Parameter(torch.tensor(w.data.copy()))
    optimizer, theirs = (
        kind([w], lr=0.05, **options),
        getattr(torch.optim, kind.__name__)([their_w], lr=0.05, **options),
    )
    for _ in range(30):
        w.grad = rng.standard_normal((3, 2))
        their_w.grad = torch.tensor(w.grad)
        optimizer.step()
        theirs.step()
        np.testing.assert_allclose(w.data, their_w.detach().numpy(), rtol=1e-11, atol=1e-12)
