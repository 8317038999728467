"""LearningRate: a schedule as a callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_nn.checks import choice, entries_of
from tinygrad_nn.errors import ArgumentError, DTypeError
from tinygrad_nn.training.state import State

__all__ = ["LearningRate"]


class LearningRate:
    """Sets the learning rate in the course of a training.

    Parameters
    ----------
    schedule : function, or object with ``step()``
        A function of the number of the epoch (or step), counted from 0, that gives the learning rate of all
        parameter groups; or a schedule made for the optimizer, such as `tn.optim.CosineAnnealingLR`, whose
        ``step()`` is called after each.
    every : {"epoch", "step"}

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> x = np.ones((4, 1))
    >>> model = tn.nn.Linear(1, 1)
    >>> history = tn.fit(model, x, x, loss=tn.functional.mse_loss, optimizer=tn.optim.SGD(model.parameters()),
    ...                  epochs=3, callbacks=LearningRate(lambda epoch: 0.1 / 2**epoch))
    >>> history["lr"]
    [0.1, 0.05, 0.025]
    """

    def __init__(self, schedule: Any, *, every: str = "epoch") -> None:
        self._steps = callable(getattr(schedule, "step", None))
        if isinstance(schedule, type) or not (self._steps or callable(schedule)):
            raise DTypeError(
                f"LearningRate takes a function of the epoch or a schedule object with step(), got {schedule!r}"
            )
        self.schedule = schedule
        self.every = choice("every", every, ("epoch", "step"))

    def on_train_begin(self, state: State) -> None:
        """Check that the schedule fits the optimizer."""
        if self._steps and getattr(self.schedule, "optimizer", state.optimizer) is not state.optimizer:
            raise ArgumentError("the schedule of LearningRate was made for another optimizer than the one of fit")
        rates = {float(group["lr"]) for group in state.optimizer.param_groups}
        if not self._steps and len(rates) > 1:
            raise ArgumentError(
                f"the parameter groups have the learning rates {sorted(rates)}, a function would give them all one: "
                f"use a schedule object, or set group['lr'] in a callback of your own"
            )

    def on_epoch_begin(self, state: State) -> None:
        """Set the rate of the epoch."""
        if self.every == "epoch":
            self._set(state, state.epoch)

    def on_step_begin(self, state: State) -> None:
        """Set the rate of the step."""
        if self.every == "step":
            self._set(state, state.step)

    def on_step_end(self, state: State) -> None:
        """Move a schedule object on."""
        if self.every == "step" and self._steps:
            self.schedule.step()

    def on_epoch_end(self, state: State) -> None:
        """Move a schedule object on."""
        if self.every == "epoch" and self._steps:
            self.schedule.step()

    def _set(self, state: State, count: int) -> None:
        if not self._steps:
            given = self.schedule(count)
            try:
                rate = float(given)
            except (TypeError, ValueError):
                raise DTypeError(f"the schedule gave {given!r} as the learning rate for {self.every} {count}") from None
            if not 0 <= rate < float("inf"):
                raise ArgumentError(f"the schedule gave the learning rate {rate} for {self.every} {count}")
            for group in state.optimizer.param_groups:
                group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Return the state of a schedule object that has one."""
        return {"schedule": self.schedule.state_dict()} if hasattr(self.schedule, "state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if hasattr(self.schedule, "load_state_dict"):
            self.schedule.load_state_dict(entries_of("state", state, ("schedule",))["schedule"])
