"""An autograd micro-framework on NumPy: readable in an evening, every derivative proven, fast.

Write ``import tinygrad_nn as tn``.  The rooms, in the order in which they build on each other:
`errors`, `derivatives`, `engine`, `tensor`, `transforms`, `functional`, `nn`, `optim`, `data`,
`metrics`.
"""

from __future__ import annotations

from tinygrad_nn import data, errors, functional, metrics, nn, optim
from tinygrad_nn.derivatives import differentiable
from tinygrad_nn.engine import no_grad
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.transforms import gradients, stop_gradient

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "data",
    "differentiable",
    "errors",
    "functional",
    "gradients",
    "metrics",
    "nn",
    "no_grad",
    "optim",
    "stop_gradient",
]
