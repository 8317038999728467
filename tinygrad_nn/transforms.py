"""Functions of functions and of graphs: gradients of results with respect to what they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.elementwise import stop_gradient
from tinygrad_nn.engine import walk
from tinygrad_nn.errors import DTypeError, GraphError
from tinygrad_nn.tensor import Tensor, _wrap, upstream_for

__all__ = ["gradients", "stop_gradient"]


def gradients(
    y: Tensor,
    xs: Sequence[Tensor],
    *,
    gradient: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Tensor]:
    """Return the gradients of `y` with respect to each of `xs`, and leave every `grad` as it is.

    Parameters
    ----------
    y : Tensor
        One entry, or any shape together with `gradient`.
    xs : sequence of Tensors
        Leaves or computed Tensors that require gradients; zeros where `y` does not depend on one.
    gradient : array or Tensor of the shape of `y`, optional
        The upstream gradient; 1 for a `y` with one entry.
    create_graph : bool
        Record the backward pass too, so that the results can be differentiated again.
    retain_graph : bool, optional
        Keep the graph for another walk; the default is `create_graph`.

    Raises
    ------
    GraphError
        If `y` or one of `xs` requires no gradient, or the graph was released.

    Examples
    --------
    >>> x = Tensor(2.0, requires_grad=True)
    >>> (slope,) = gradients(x**3, [x], create_graph=True)
    >>> (curvature,) = gradients(slope, [x])
    >>> slope.item(), curvature.item()
    (12.0, 12.0)
    """
    if isinstance(xs, Tensor):
        raise DTypeError("gradients takes a list of Tensors: write gradients(y, [x])")
    xs = list(xs)
    for k, x in enumerate(xs):
        if not isinstance(x, Tensor):
            raise DTypeError(f"xs[{k}] is a {type(x).__name__}: gradients are with respect to Tensors")
        if x._node is None:
            raise GraphError(f"xs[{k}] of shape {x.shape} does not require a gradient: make it with requires_grad=True")
    if not isinstance(y, Tensor) or y._node is None:
        raise GraphError("y depends on nothing that requires a gradient, so there is nothing to walk back through")
    upstream = upstream_for(y, gradient)
    if create_graph:
        upstream = gradient if isinstance(gradient, Tensor) and gradient.dtype == y.dtype else _wrap(upstream, None)
    retain = create_graph if retain_graph is None else retain_graph
    found = walk(
        y._node,
        upstream,
        release=not retain,
        targets={x._node for x in xs},
        wrap=_wrap if create_graph else None,
    )
    results = []
    for x in xs:
        g = found.get(x._node)
        if g is None:
            g = np.zeros_like(x._data)
        results.append(g if isinstance(g, Tensor) else _wrap(g, None))
    return results
