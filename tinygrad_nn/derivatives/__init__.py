"""The derivative table: for every function its vector-Jacobian products, in plain NumPy."""

from __future__ import annotations

from tinygrad_nn.derivatives import (
    calculus,
    decompositions,
    elementwise,
    indexing,
    linalg,
    matrices,
    random,
    reductions,
    shaping,
)
from tinygrad_nn.derivatives.table import COMPOSITIONS, TABLE, Blank, Row, Traced, differentiable, unbroadcast

__all__ = [
    "COMPOSITIONS",
    "TABLE",
    "Blank",
    "Row",
    "Traced",
    "calculus",
    "decompositions",
    "differentiable",
    "elementwise",
    "indexing",
    "linalg",
    "matrices",
    "random",
    "reductions",
    "shaping",
    "unbroadcast",
]
