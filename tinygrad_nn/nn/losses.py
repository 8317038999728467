"""Losses as modules, for those who like to name them once."""

from __future__ import annotations

from typing import Any

from tinygrad_nn import functional
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.nn.module import Module

__all__ = ["CrossEntropyLoss", "MSELoss"]


class _Loss(Module):
    """A loss with a reduction: "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in {"mean", "sum", "none"}:
            raise ArgumentError(f"reduction={reduction!r} is none of 'mean', 'sum', 'none'")
        self.reduction = reduction

    def extra_repr(self) -> str:
        """The reduction, if it is not the mean."""
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """The mean squared error, `tn.functional.mse_loss`."""

    def forward(self, prediction: Any, target: Any) -> Any:
        """Compare a prediction with a target of the same shape."""
        return functional.mse_loss(prediction, target, self.reduction)


class CrossEntropyLoss(_Loss):
    """The cross-entropy between logits and classes, `tn.functional.cross_entropy`."""

    def forward(self, logits: Any, target: Any) -> Any:
        """Compare logits (n, classes) with class indices (n,) or one-hot rows (n, classes)."""
        return functional.cross_entropy(logits, target, self.reduction)
