"""State: what callbacks see of a running training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_nn.nn import Module
from tinygrad_nn.optim import Optimizer
from tinygrad_nn.training.feeding import Batch
from tinygrad_nn.training.history import History

__all__ = ["State"]


@dataclass(eq=False, kw_only=True)
class State:
    """A running training, as callbacks see it.

    Attributes
    ----------
    model, loss, optimizer : what `fit` was given
    history : History
        The figures of all complete epochs.
    epochs : int
        How many there will be.
    epoch : int
        The running one, counted from 0.
    step : int
        Steps taken since the training began.
    batch : int
        Steps taken in this epoch.
    current : Batch
        What the running step takes: ``current.inputs`` (a tuple), ``current.target``, ``current.size``.
    value : float
        The loss of the running step.
    generators : list of Generators
        Those that the model, the loss and the data draw from.
    stop : bool or str
        Set it to end the training after the running step: True, or why.
    """

    model: Module
    loss: Callable[..., Any]
    optimizer: Optimizer
    history: History
    epochs: int
    epoch: int = 0
    step: int = 0
    batch: int = 0
    current: Batch | None = None
    value: float = float("nan")
    generators: list[np.random.Generator] = field(default_factory=list)
    stop: bool | str = False
