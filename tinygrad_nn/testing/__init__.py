"""The gradient checker: says whether a derivative is wrong, where, and why.

``from tinygrad_nn import testing`` (``import tinygrad_nn`` alone does not load it).  `check_gradients`
is the door for functions.
"""

from __future__ import annotations

from tinygrad_nn.testing.check import check_gradients, compare, gradient_report
from tinygrad_nn.testing.layers import check_backward, check_module
from tinygrad_nn.testing.report import Cause, GradientError, InputReport, Report

__all__ = [
    "Cause",
    "GradientError",
    "InputReport",
    "Report",
    "check_backward",
    "check_gradients",
    "check_module",
    "compare",
    "gradient_report",
]
