"""Optimizers, learning-rate schedules and gradient clipping; the formulas and names are PyTorch's."""

from __future__ import annotations

from tinygrad_nn.optim.clipping import clip_grad_norm, clip_grad_value
from tinygrad_nn.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from tinygrad_nn.optim.schedules import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR, StepLR

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LRScheduler",
    "LinearLR",
    "Optimizer",
    "RMSprop",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm",
    "clip_grad_value",
]
