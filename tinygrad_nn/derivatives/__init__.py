"""The derivative table: for every function its vector-Jacobian products, in plain NumPy."""

from __future__ import annotations

from tinygrad_nn.derivatives import elementwise, indexing, linalg, random, reductions, shaping
from tinygrad_nn.derivatives.table import COMPOSITIONS, TABLE, Blank, Row, Traced, differentiable, unbroadcast

__all__ = [
    "COMPOSITIONS",
    "TABLE",
    "Blank",
    "Row",
    "Traced",
    "differentiable",
    "elementwise",
    "indexing",
    "linalg",
    "random",
    "reductions",
    "shaping",
    "unbroadcast",
]
