"""Losses as modules, for those who like to name them once."""

from __future__ import annotations

from typing import Any

from tinygrad_nn import functional
from tinygrad_nn.checks import choice, number
from tinygrad_nn.nn.module import Module

__all__ = ["BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "NLLLoss"]


class _Loss(Module):
    """A loss with a reduction: "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = choice("reduction", reduction, ("mean", "sum", "none"))

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


class L1Loss(_Loss):
    """The mean absolute error, `tn.functional.l1_loss`."""

    def forward(self, prediction: Any, target: Any) -> Any:
        """Compare a prediction with a target of the same shape."""
        return functional.l1_loss(prediction, target, self.reduction)


class HuberLoss(_Loss):
    """Squared errors near 0 and absolute ones from `delta` on, `tn.functional.huber_loss`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = number("delta", delta, above=0)

    def forward(self, prediction: Any, target: Any) -> Any:
        """Compare a prediction with a target of the same shape."""
        return functional.huber_loss(prediction, target, self.reduction, self.delta)

    def extra_repr(self) -> str:
        """The reduction, if it is not the mean, and delta."""
        return ", ".join(filter(None, [super().extra_repr(), f"delta={self.delta}"]))


class BCELoss(_Loss):
    """The cross-entropy of yes/no probabilities, `tn.functional.binary_cross_entropy`."""

    def forward(self, probabilities: Any, target: Any) -> Any:
        """Compare probabilities with targets in [0, 1], of one shape."""
        return functional.binary_cross_entropy(probabilities, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """The cross-entropy of yes/no scores, `tn.functional.binary_cross_entropy_with_logits`."""

    def forward(self, logits: Any, target: Any) -> Any:
        """Compare logits with targets in [0, 1], of one shape."""
        return functional.binary_cross_entropy_with_logits(logits, target, self.reduction)


class NLLLoss(_Loss):
    """The negative log-likelihood of classes, `tn.functional.nll_loss`."""

    def forward(self, log_probabilities: Any, target: Any) -> Any:
        """Compare log-probabilities (..., classes) with class indices (...)."""
        return functional.nll_loss(log_probabilities, target, self.reduction)
