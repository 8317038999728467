"""A row for random draws, so that a recorded program draws anew and never replays one mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import alike, own

__all__ = ["random_like"]


def _random_like(x: Any, rng: np.random.Generator) -> Any:
    """Return uniform draws from [0, 1) in the shape and dtype of `x`, taken from `rng`; no gradient flows.

    Examples
    --------
    >>> random_like(np.zeros(2), np.random.default_rng(0))
    array([0.63696169, 0.26978671])
    """
    if x.dtype == np.float32:
        return alike(rng.random(x.shape, np.float32), x)
    return alike(rng.random(x.shape).astype(x.dtype, copy=False), x)


random_like = own(_random_like, None, name="random_like")
