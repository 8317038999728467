"""Callbacks that end a training: `EarlyStopping` when nothing improves, `StopOnNaN` when numbers break."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_nn.anomaly import _unfinite, _Watch
from tinygrad_nn.checks import entries_of, number, whole
from tinygrad_nn.compiler.snapshot import Snapshot
from tinygrad_nn.compiler.world import World
from tinygrad_nn.derivatives import Row
from tinygrad_nn.engine import Node, recording
from tinygrad_nn.errors import AnomalyError, ArgumentError, DTypeError
from tinygrad_nn.nn import Module
from tinygrad_nn.nn.module import watching
from tinygrad_nn.training.state import State

__all__ = ["EarlyStopping", "StopOnNaN"]


class EarlyStopping:
    """Ends a training that no longer improves, and gives the model the parameters and buffers of its best epoch.

    Whichever way the training ends, early or not, the model then is as it was after its best epoch.

    Parameters
    ----------
    monitor : str
        A name of the history.
    patience : int
        After so many epochs in a row without improvement the training ends.
    min_delta : float
        An improvement is larger than this.
    mode : {"min", "max"}, optional
        Whether less or more is better; names that end in ``loss`` mean less, others have to say.
    restore : bool
        Whether the model gets its best state back.

    Attributes
    ----------
    best : float
        The best figure so far.
    best_epoch : int
        Its epoch, counted from 0 as ``history[monitor]`` is.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> x = np.linspace(-1, 1, 8)[:, np.newaxis]
    >>> model = tn.nn.Linear(1, 1, rng=np.random.default_rng(0))
    >>> stop = EarlyStopping("loss", patience=3, min_delta=0.01)
    >>> history = tn.fit(model, x, x, loss=tn.functional.mse_loss, epochs=100, callbacks=stop,
    ...                  optimizer=tn.optim.SGD(model.parameters(), lr=0.5))
    >>> history.epochs, stop.best_epoch, history.stopped
    (7, 3, 'loss has not improved by more than 0.01 for 3 epochs; the best was 0.00787 in epoch 4')
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore: bool = True,
    ) -> None:
        if not isinstance(monitor, str):
            raise DTypeError(f"monitor is the name of a figure in the history, got a {type(monitor).__name__}")
        if mode is None and monitor.endswith("loss"):
            mode = "min"
        if not isinstance(mode, str) or mode not in ("min", "max"):
            raise ArgumentError(f"mode={mode!r} for {monitor!r}: say 'min' if less of it is better, 'max' if more is")
        self.monitor = monitor
        self.patience = whole("patience", patience)
        self.min_delta = number("min_delta", min_delta, 0)
        self.mode = mode
        self.restore = restore
        self._reset()

    def _reset(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = -1
        self._state: dict[str, Any] | None = None

    def on_train_begin(self, state: State) -> None:
        """Check the name to monitor, and forget an earlier training."""
        if self.monitor not in state.history:
            raise ArgumentError(
                f"EarlyStopping monitors {self.monitor!r}, the history has {', '.join(state.history)}"
                + ("; give validation= for names with val_" if self.monitor.startswith("val_") else "")
            )
        self._reset()

    def on_epoch_end(self, state: State) -> None:
        """Compare the epoch with the best one."""
        value = state.history[self.monitor][-1]
        better = self.best - value if self.mode == "min" else value - self.best
        if better > self.min_delta:
            self.best, self.best_epoch = value, state.epoch
            self._state = state.model.state_dict() if self.restore else None
        elif state.epoch - self.best_epoch >= self.patience:
            much = f" by more than {self.min_delta:g}" if self.min_delta else ""
            best = f"; the best was {self.best:.3g} in epoch {self.best_epoch + 1}" if self.best_epoch >= 0 else ""
            state.stop = f"{self.monitor} has not improved{much} for {self.patience} epochs{best}"

    def on_train_end(self, state: State) -> None:
        """Give the model its best state."""
        if self._state is not None:
            state.model.load_state_dict(self._state)

    def state_dict(self) -> dict[str, Any]:
        """Return the best figure, its epoch and the model's state there."""
        return {"best": self.best, "best_epoch": self.best_epoch, "model": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        state = entries_of("state", state, ("best", "best_epoch", "model"))
        self.best, self.best_epoch, self._state = state["best"], state["best_epoch"], state["model"]


class StopOnNaN:
    """Ends a training at the first NaN or infinity in the loss or a gradient, and says where it began.

    The step is not taken, so the parameters are the last good ones.  The step is repeated with every value looked
    at (as in `tn.detect_anomaly`), to name the layer, the function, and whether it was the forward pass or the
    gradient; this is the reason in ``history.stopped``, and a warning.  Looking at the gradients costs a few
    microseconds a step.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> model = tn.nn.Sequential(tn.nn.Linear(1, 1, weight_init=tn.nn.init.constant(-1.0)), np.log)
    >>> x = np.ones((4, 1))
    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     history = tn.fit(model, x, x, loss=tn.functional.mse_loss, epochs=3, callbacks=StopOnNaN(),
    ...                      optimizer=tn.optim.SGD(model.parameters()))
    >>> print(history.stopped)
    step 1 (epoch 1, batch 1), Sequential (the model): np.log made nan from finite values...
    """

    def __init__(self) -> None:
        self._before: list[Any] = []

    def on_step_begin(self, state: State) -> None:
        """Note where the generators stand, to repeat the step."""
        self._before = [generator.bit_generator.state for generator in state.generators]

    def on_gradients(self, state: State) -> None:
        """Look at the loss and the gradients."""
        parameters = dict(state.model.named_parameters())
        if math.isfinite(state.value) and not any(_unfinite(p.grad) for p in parameters.values()):
            return
        where = f"step {state.step + 1} (epoch {state.epoch + 1}, batch {state.batch + 1})"
        state.stop = f"{where}, {self._find(state, parameters)}"
        warnings.warn(state.stop, RuntimeWarning, stacklevel=7)

    def _find(self, state: State, parameters: dict[str, Any]) -> str:
        """Say where the first NaN or infinity comes from."""
        batch = state.current
        assert batch is not None  # noqa: S101 - a step is running
        for name, part in (("inputs hold", batch.inputs), ("target holds", batch.target)):
            if _unfinite(part):
                return f"the batch: its {name} NaN or infinity; see np.isfinite"
        for name, p in parameters.items():
            if _unfinite(p.data):
                return f"{name}: holds NaN or infinity, " + (
                    f"since the update of step {state.step}: is the learning rate too high?"
                    if state.step
                    else "from the beginning"
                )
        return self._repeat(state)

    def _repeat(self, state: State) -> str:
        """Repeat the step on what it began with, looking at every value."""
        batch = state.current
        assert batch is not None  # noqa: S101
        search = _Search(state.model, state.loss)
        after = [generator.bit_generator.state for generator in state.generators]
        world = World(("model", state.model), ("loss", state.loss))
        try:
            _set(state.generators, self._before)
            with Snapshot(world, lambda array: array, advance=False), recording(search), watching(search.call):
                state.loss(state.model(*batch.inputs), batch.target).backward()
        except AnomalyError as error:
            return f"{search.place}: {error}"
        finally:
            _set(state.generators, after)
        return (
            f"the loss is {state.value}, or a gradient is not finite, which did not recur when the step was repeated: "
            f"it hangs on a buffer, on a generator that is out of sight, or on rounding at the end of the range"
        )


def _set(generators: list[np.random.Generator], states: list[Any]) -> None:
    for generator, was in zip(generators, states, strict=True):
        generator.bit_generator.state = was


class _Search(_Watch):
    """The watch of `detect_anomaly` that also knows the layer in which each call was made."""

    def __init__(self, model: Module, loss: Any) -> None:
        super().__init__(nan=True, writes=False)
        self._names = {id(m): f"{name} ({type(m).__name__})" for name, m in model.named_modules()}
        self._names[id(model)] = f"{type(model).__name__} (the model)"
        self._names.setdefault(id(loss), "the loss")
        self._running = ["the loss"]
        self._places: weakref.WeakKeyDictionary[Node, str] = weakref.WeakKeyDictionary()
        self.place = ""

    def call(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module, and know of it meanwhile."""
        self._running.append(self._names.get(id(module), self._running[-1]))
        try:
            return module.forward(*args, **kwargs)
        finally:
            self._running.pop()

    def add(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, node: Node | None) -> None:
        """Look at the values of one call."""
        self.place = self._running[-1]
        if node is not None:
            self._places[node] = self.place
        super().add(row, args, kwargs, result, node)

    def derived(self, node: Node, k: int, g: Any, part: Any, total: Any) -> None:
        """Look at the gradient that one rule gave."""
        self.place = self._places.get(node, "the loss")
        super().derived(node, k, g, part, total)
