"""Training: `fit`, `evaluate` and `predict`, what they report, and callbacks."""

from __future__ import annotations

from tinygrad_nn.training.checkpoint import Checkpoint
from tinygrad_nn.training.history import History
from tinygrad_nn.training.inference import evaluate, predict
from tinygrad_nn.training.loop import fit
from tinygrad_nn.training.overview import Summary, summary
from tinygrad_nn.training.rates import LearningRate
from tinygrad_nn.training.state import State
from tinygrad_nn.training.stopping import EarlyStopping, StopOnNaN

__all__ = [
    "Checkpoint",
    "EarlyStopping",
    "History",
    "LearningRate",
    "State",
    "StopOnNaN",
    "Summary",
    "evaluate",
    "fit",
    "predict",
    "summary",
]
