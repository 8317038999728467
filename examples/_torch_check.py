"""torch.autograd.gradcheck on hand-written rules over arrays, for the comparison in benchmark_checker.py."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

try:
    import torch
except ImportError:  # the comparison is left out
    torch = None  # type: ignore[assignment]

__all__ = ["found_by_torch", "installed", "torch_function"]


def installed() -> bool:
    """Whether there is a PyTorch to compare with."""
    return torch is not None


def torch_function(rule: Any) -> Any:
    """A rule ``(*inputs) -> (y, pullback)`` over arrays as a function of torch Tensors."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            arrays = [t.detach().numpy().copy() if isinstance(t, torch.Tensor) else t for t in tensors]
            y, ctx.back = rule(*arrays)
            return torch.from_numpy(np.array(y, dtype=np.float64))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            found = ctx.back(g.numpy().copy() if g.ndim else g.numpy()[()])
            parts = [None if d is None else torch.from_numpy(np.array(d)) for d in found]
            return tuple(parts) if len(parts) > 1 else parts[0]

    return Rule.apply


def found_by_torch(rule: Any, inputs: Any, *, fast: bool = False) -> bool:
    """Whether torch.autograd.gradcheck, with its defaults, finds something wrong."""
    tensors = [
        torch.tensor(np.asarray(x), requires_grad=True) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x
        for x in inputs
    ]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return not torch.autograd.gradcheck(torch_function(rule), tensors, fast_mode=fast, raise_exception=False)
        except Exception:  # noqa: BLE001 - whatever it raises tells the user that something is wrong
            return True
