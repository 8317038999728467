"""Gradient clipping: between backward() and step()."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_nn.checks import flag, item_of, number
from tinygrad_nn.errors import ArgumentError, DTypeError
from tinygrad_nn.tensor import Tensor

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = True,
) -> float:
    """Scale all gradients together so that their total norm is `max_norm` at most, and return the norm before.

    The norm is that of all gradients laid end to end, (sum abs(g)^p)^(1/p); the factor is
    max_norm / (norm + 1e-6), or 1 if that is more, as in PyTorch.

    Parameters
    ----------
    parameters : Tensors, or one
        Those without a gradient are skipped.
    max_norm : float
    norm_type : float
        p; np.inf takes the largest absolute entry.
    error_if_nonfinite : bool
        Whether NaN or infinite gradients are an error.  False, PyTorch's default, scales them all
        the same: every gradient then becomes 0 or NaN.

    Raises
    ------
    ArgumentError
        For a negative or NaN `max_norm`, a `norm_type` that is not positive, or, if asked for, a
        gradient that is not finite.  No gradient has changed then.

    Examples
    --------
    >>> w = Tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_norm(w, 1.0)
    10.0
    >>> w.grad.round(4)
    array([0.6, 0.8])
    """
    max_norm = number("max_norm", max_norm, 0)
    infinite = isinstance(norm_type, float) and norm_type == math.inf
    norm_type = math.inf if infinite else number("norm_type", norm_type, above=0)
    gradients = _gradients(parameters)
    # divided by the largest entry first: the powers neither overflow nor vanish
    tops = [item_of(np.max(np.abs(g))) for g in gradients if g.size]
    largest = float(np.max(tops, initial=0))  # NaN if there is one
    norm = largest
    if 0 < largest < math.inf and norm_type != math.inf:
        powers = (item_of(np.sum(np.power(np.abs(g) / largest, norm_type), dtype=np.float64)) for g in gradients)
        norm = largest * sum(powers) ** (1 / norm_type)
    if flag("error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise ArgumentError(
            f"the total norm of the gradients is {norm}: they hold NaN or infinite numbers, which no scaling can mend "
            f"(tn.detect_anomaly() names where they come from; error_if_nonfinite=False scales them all the same)"
        )
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:
        with np.errstate(invalid="ignore"):  # infinity times 0
            for g in {id(g): g for g in gradients}.values():  # two parameters may have been given one array
                np.multiply(g, factor, out=g)
    return norm


def clip_grad_value(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Bring every entry of the gradients into [-clip_value, clip_value].

    Parameters
    ----------
    parameters : Tensors, or one
        Those without a gradient are skipped.
    clip_value : float

    Examples
    --------
    >>> w = Tensor([3.0, -0.1], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_value(w, 1.0)
    >>> w.grad
    array([ 1. , -0.2])
    """
    clip_value = number("clip_value", clip_value, 0)
    for g in _gradients(parameters):
        np.clip(g, -clip_value, clip_value, out=g)


def _gradients(parameters: Any) -> list[Any]:
    """The gradients that there are, each once."""
    if not isinstance(parameters, Iterable) or (isinstance(parameters, np.ndarray) and not parameters.ndim):
        raise DTypeError(f"clipping takes parameters, such as model.parameters(), got a {type(parameters).__name__}")
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not listed:
        raise ArgumentError("clipping needs at least one parameter (was a generator used up before?)")
    for p in listed:
        if not isinstance(p, Tensor):
            raise DTypeError(f"clipping takes Tensors, such as model.parameters(), got a {type(p).__name__}")
    return [p.grad for p in {id(p): p for p in listed}.values() if p.grad is not None]
