"""Callbacks: what a training calls after each epoch, and at the other moments that have a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tinygrad_nn.checks import listed
from tinygrad_nn.errors import ArgumentError, DTypeError
from tinygrad_nn.training.checkpoint import Checkpoint
from tinygrad_nn.training.state import State

__all__ = ["HOOKS", "Hooks"]

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_step_begin",
    "on_gradients",
    "on_step_end",
    "on_epoch_end",
    "on_train_end",
)
"""The moments of a training.  The gradients are there, and the step not yet taken, at ``on_gradients``."""


class Hooks:
    """The callbacks of a training, sorted by the moments at which they are called.

    Attributes
    ----------
    checkpoints : those that write the training, after all others
    stateful : those whose state they write
    """

    def __init__(self, callbacks: Any) -> None:
        if callable(callbacks) or not isinstance(callbacks, Iterable):
            callbacks = () if callbacks is None else (callbacks,)
        callbacks = listed("callbacks", callbacks, "[tn.training.EarlyStopping()]")
        self.checkpoints = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        others = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        self.stateful = [c for c in others if hasattr(c, "state_dict") and hasattr(c, "load_state_dict")]
        self._at: dict[str, list[Callable[[State], Any]]] = {hook: [] for hook in HOOKS}
        for callback in others:
            self._sort_in(callback)

    def _sort_in(self, callback: Any) -> None:
        unknown = [name for name in dir(callback) if name.startswith("on_") and name not in HOOKS]
        if unknown:
            raise ArgumentError(f"{type(callback).__name__} has {unknown[0]}, which is none of {', '.join(HOOKS)}")
        if isinstance(callback, type):
            raise DTypeError(f"a callback is an object or a function, not the class: write {callback.__name__}(...)")
        found = [hook for hook in HOOKS if hasattr(callback, hook)]
        for hook in found:
            self._at[hook].append(getattr(callback, hook))
        if not found and callable(callback):
            self._at["on_epoch_end"].append(callback)
        elif not found and callable(getattr(callback, "step", None)):
            raise DTypeError(f"a schedule is no callback by itself: write LearningRate({type(callback).__name__}(...))")
        elif not found:
            raise DTypeError(
                f"a callback is a function of the state, called after each epoch, or an object with some of the "
                f"methods {', '.join(HOOKS)}; got {type(callback).__name__}"
            )

    def at(self, hook: str) -> list[Callable[[State], Any]]:
        """List what is called at a moment."""
        return self._at[hook]

    def call(self, hook: str, state: State) -> None:
        """Call what belongs to a moment, in the order given."""
        for function in self._at[hook]:
            function(state)
