"""Training: `fit`, `evaluate` and `predict`, what they report, and callbacks."""

from __future__ import annotations

from tinygrad_nn.training.history import History
from tinygrad_nn.training.inference import evaluate, predict
from tinygrad_nn.training.loop import fit
from tinygrad_nn.training.state import State

__all__ = ["History", "State", "evaluate", "fit", "predict"]
