"""Learning-rate schedules: each sets the rate of an optimizer by a formula of the number of its steps."""

from __future__ import annotations

import bisect
import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tinygrad_nn.checks import lengths, number, whole
from tinygrad_nn.errors import ArgumentError, DTypeError, StateError
from tinygrad_nn.optim.optimizers import Optimizer

__all__ = ["CosineAnnealingLR", "LRScheduler", "LinearLR", "SequentialLR", "StepLR"]


class LRScheduler:
    """What schedules share: they set ``group["lr"]`` of every group from the rate that it began with.

    That rate, `initial_lr`, is put into the group by the first schedule made for an optimizer.
    Call `step` once an epoch, or once a step of the optimizer, after it; ``tn.fit`` takes a
    schedule in the callback `LearningRate`.  A schedule of your own defines `rate`.

    Parameters
    ----------
    optimizer : Optimizer

    Attributes
    ----------
    last_epoch : int
        How often `step` was called.
    base_lrs : list of floats
        The rate that each group began with.

    Examples
    --------
    >>> from tinygrad_nn import nn, optim
    >>> class Halving(LRScheduler):
    ...     def rate(self, epoch, base):
    ...         return base / 2**epoch
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    >>> schedule = Halving(optimizer)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.05]
    """

    _links: tuple[str, ...] = ("optimizer",)  # attributes that are no state

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(f"{type(self).__name__} sets the rate of an Optimizer, got a {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lrs = [float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._set()

    def rate(self, epoch: int, base: float) -> float:
        """Return the learning rate after `epoch` steps, of a group that began with `base`."""
        raise DTypeError(f"{type(self).__name__} has no rate: define rate(self, epoch, base) in the class")

    def step(self) -> None:
        """Count one more epoch, and set the rates."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """Return the rates that were set last, one for each group."""
        return [self.rate(self.last_epoch, base) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the count, the first rates and the options."""
        return copy.deepcopy({name: value for name, value in vars(self).items() if name not in self._links})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the count, the first rates and the options of a schedule of the same kind, and set the rates.

        Raises
        ------
        StateError
            If the entries are not those of this schedule, or the number of groups is another one.
            Nothing has changed then.
        """
        self._check(state)
        self._restore(state)
        self._set()

    def _check(self, state: Mapping[str, Any]) -> None:
        ours = self.state_dict()
        if not isinstance(state, Mapping):
            raise StateError(f"the state of a schedule is a dict, got a {type(state).__name__}")
        if set(state) != set(ours) or len(state["base_lrs"]) != len(self.base_lrs):
            raise StateError(
                f"the state has the entries {sorted(state)}, {type(self).__name__} over {len(self.base_lrs)} group(s) "
                f"has {sorted(ours)}"
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update({name: copy.deepcopy(value) for name, value in state.items() if name not in self._links})

    def _set(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.get_last_lr(), strict=True):
            group["lr"] = rate

    def __repr__(self) -> str:
        hidden = {"optimizer", "base_lrs", "last_epoch"}
        options = (f"{name}={value!r}" for name, value in vars(self).items() if name not in hidden)
        return f"{type(self).__name__}({', '.join(options)})"


class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` every `step_size` epochs: base gamma^floor(epoch / step_size).

    Examples
    --------
    >>> from tinygrad_nn import nn, optim
    >>> schedule = StepLR(optim.SGD(nn.Linear(1, 1).parameters(), lr=0.8), step_size=2, gamma=0.5)
    >>> [schedule.rate(epoch, 0.8) for epoch in range(5)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = whole("step_size", step_size)
        self.gamma = number("gamma", gamma, 0)
        super().__init__(optimizer)

    def rate(self, epoch: int, base: float) -> float:
        """Return the learning rate after `epoch` steps, of a group that began with `base`."""
        return base * self.gamma ** (epoch // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """Follows half a cosine from the base rate down to `eta_min` at epoch `T_max` (Loshchilov and Hutter, 2017).

    The rate is eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2.  Beyond `T_max` it
    rises again, as in PyTorch.

    Examples
    --------
    >>> from tinygrad_nn import nn, optim
    >>> schedule = CosineAnnealingLR(optim.SGD(nn.Linear(1, 1).parameters(), lr=0.8), T_max=4)
    >>> [round(schedule.rate(epoch, 0.8), 4) for epoch in range(5)]
    [0.8, 0.6828, 0.4, 0.1172, 0.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = whole("T_max", T_max)
        self.eta_min = number("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def rate(self, epoch: int, base: float) -> float:
        """Return the learning rate after `epoch` steps, of a group that began with `base`."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LinearLR(LRScheduler):
    """Goes from base `start_factor` to base `end_factor` on a straight line of `total_iters` epochs: a warm-up.

    Examples
    --------
    >>> from tinygrad_nn import nn, optim
    >>> schedule = LinearLR(optim.SGD(nn.Linear(1, 1).parameters(), lr=0.8), start_factor=0.25, total_iters=3)
    >>> [round(schedule.rate(epoch, 0.8), 4) for epoch in range(5)]
    [0.2, 0.4, 0.6, 0.8, 0.8]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = number("start_factor", start_factor, high=1, above=0)
        self.end_factor = number("end_factor", end_factor, 0, 1)
        self.total_iters = whole("total_iters", total_iters)
        super().__init__(optimizer)

    def rate(self, epoch: int, base: float) -> float:
        """Return the learning rate after `epoch` steps, of a group that began with `base`."""
        share = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class SequentialLR(LRScheduler):
    """Follows one schedule after the other, each from its own epoch 0 on: the k-th ends at ``milestones[k]``.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : sequence of schedules of that optimizer
        Only the joined schedule is stepped.
    milestones : increasing sequence of ints, one fewer than schedules

    Examples
    --------
    A warm-up of 2 epochs, then half a cosine:

    >>> from tinygrad_nn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.8)
    >>> parts = [LinearLR(optimizer, 0.5, total_iters=2), CosineAnnealingLR(optimizer, 4)]
    >>> schedule = SequentialLR(optimizer, parts, [2])
    >>> [round(schedule.rate(epoch, 0.8), 4) for epoch in range(7)]
    [0.4, 0.6, 0.8, 0.6828, 0.4, 0.1172, 0.0]
    """

    _links = ("optimizer", "schedulers")

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        if not isinstance(schedulers, (list, tuple)):
            raise DTypeError(f"SequentialLR joins a list of schedules, got a {type(schedulers).__name__}")
        self.schedulers: list[LRScheduler] = list(schedulers)
        none = isinstance(milestones, (list, tuple)) and not milestones
        self.milestones = [] if none else list(lengths("milestones", milestones))
        for schedule in self.schedulers:
            if not isinstance(schedule, LRScheduler) or schedule.optimizer is not optimizer:
                raise ArgumentError(f"SequentialLR joins schedules of one optimizer, {schedule!r} is none of it")
        if len(self.milestones) != len(self.schedulers) - 1 or any(a >= b for a, b in pairwise(self.milestones)):
            raise ArgumentError(
                f"SequentialLR of {len(self.schedulers)} schedules takes {max(len(self.schedulers) - 1, 0)} increasing "
                f"milestones, got {self.milestones}"
            )
        super().__init__(optimizer)

    def rate(self, epoch: int, base: float) -> float:
        """Return the learning rate after `epoch` steps, of a group that began with `base`."""
        k = bisect.bisect_right(self.milestones, epoch)
        return self.schedulers[k].rate(epoch - self.milestones[k - 1] if k else epoch, base)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the count, the first rates, the milestones, and the states of the schedules."""
        return {**super().state_dict(), "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    def _check(self, state: Mapping[str, Any]) -> None:
        super()._check(state)
        if len(state["schedulers"]) != len(self.schedulers):
            raise StateError(f"the state is of {len(state['schedulers'])} schedules, here are {len(self.schedulers)}")
        for schedule, part in zip(self.schedulers, state["schedulers"], strict=True):
            schedule._check(part)  # noqa: SLF001 - of its own class

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        for schedule, part in zip(self.schedulers, state["schedulers"], strict=True):
            schedule._restore(part)  # noqa: SLF001 - of its own class
