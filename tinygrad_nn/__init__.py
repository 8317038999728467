"""An autograd micro-framework on NumPy: readable in an evening, every derivative proven, fast.

Write ``import tinygrad_nn as tn``.  The rooms, in the order in which they build on each other:
`errors`, `derivatives`, `places`, `writes`, `engine`, `anomaly`, `methods`, `tensor`, `transforms`, `functional`,
`nn`, `optim`, `compiler`, `data`, `metrics`, `io`, `training`; and `testing`, which is imported by itself.
"""

from __future__ import annotations

from tinygrad_nn import data, errors, functional, io, metrics, nn, optim, training
from tinygrad_nn.anomaly import detect_anomaly
from tinygrad_nn.compiler import compile  # noqa: A004 - tn.compile is its name
from tinygrad_nn.derivatives import differentiable
from tinygrad_nn.drawing import draw
from tinygrad_nn.engine import no_grad
from tinygrad_nn.io import load, save
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.training import evaluate, fit, predict, summary
from tinygrad_nn.transforms import grad, gradients, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp

__version__ = "0.3.0"

__all__ = [
    "Tensor",
    "compile",
    "data",
    "detect_anomaly",
    "differentiable",
    "draw",
    "errors",
    "evaluate",
    "fit",
    "functional",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "io",
    "jacobian",
    "jvp",
    "load",
    "metrics",
    "nn",
    "no_grad",
    "optim",
    "predict",
    "save",
    "stop_gradient",
    "summary",
    "training",
    "value_and_grad",
    "vjp",
]
