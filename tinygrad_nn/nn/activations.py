"""Activations as layers: each applies a function of `tn.functional`, entry by entry or along an axis."""

from __future__ import annotations

from typing import Any

from tinygrad_nn import functional
from tinygrad_nn.checks import number, whole
from tinygrad_nn.nn.module import Module

__all__ = ["ELU", "GELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


class Sigmoid(Module):
    """1 / (1 + exp(-x)), element-wise."""

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.sigmoid`."""
        return functional.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, element-wise."""

    def forward(self, x: Any) -> Any:
        """Apply `np.tanh`."""
        return functional.tanh(x)


class ReLU(Module):
    """max(x, 0), element-wise, with gradient 0 at 0."""

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.relu`."""
        return functional.relu(x)


class LeakyReLU(Module):
    """max(x, 0) + negative_slope min(x, 0), element-wise."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("negative_slope", negative_slope)

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.leaky_relu`."""
        return functional.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The slope on the left."""
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """max(x, 0) + alpha (exp(min(x, 0)) - 1), element-wise."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("alpha", alpha)

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.elu`."""
        return functional.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """The depth on the left."""
        return f"alpha={self.alpha}"


class SiLU(Module):
    """x times its sigmoid, element-wise."""

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.silu`."""
        return functional.silu(x)


class GELU(Module):
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), element-wise: the tanh form.

    PyTorch's default, approximate="none", differs from it by 4.74e-4 at most; it needs the error
    function, which NumPy lacks, and is refused.
    """

    def __init__(self, approximate: str = "tanh") -> None:
        self.approximate = functional.check_gelu_form(approximate)

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.gelu`."""
        return functional.gelu(x, self.approximate)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, element-wise."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = number("beta", beta, above=0)

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.softplus`."""
        return functional.softplus(x, self.beta)

    def extra_repr(self) -> str:
        """The steepness."""
        return f"beta={self.beta}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `axis`.

    Not before `CrossEntropyLoss`, which takes logits.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = whole("axis", axis, -64, 63)  # what NumPy can have

    def forward(self, x: Any) -> Any:
        """Apply `tn.functional.softmax`."""
        return functional.softmax(x, axis=self.axis)

    def extra_repr(self) -> str:
        """The axis."""
        return f"axis={self.axis}"
