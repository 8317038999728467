"""Other data of the same form, to tell what a run computed from what would stay."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["PERTURBATIONS", "same"]


def same(array: Any) -> Any:
    """A copy, laid out as the original."""
    return np.array(array, order="K", copy=True)


def moved(array: Any) -> Any:
    """Other values of the same signs: every entry times a number of its own; labels change places."""
    rng = np.random.default_rng(array.size)
    if array.dtype.kind in "fc":
        with np.errstate(all="ignore"):
            factors = np.resize(rng.uniform(0.5, 1.5, 1021).astype(array.dtype), array.shape)
            return same(np.where(array == 0, factors, array * factors).astype(array.dtype))
    return _elsewhere(array)


def scaled(array: Any) -> Any:
    """The same values times one number near 1, which keeps a matrix symmetric and definite."""
    if array.dtype.kind in "fc":
        return same((array * 1.0078125).astype(array.dtype))
    return _elsewhere(array)


def reversed_signs(array: Any) -> Any:
    """Values of other signs and sizes; one label alone becomes another."""
    if array.dtype.kind in "fc":
        with np.errstate(all="ignore"):
            return same((array * -7.3 - 0.37).astype(array.dtype))
    if array.dtype.kind in "iu" and array.size and (array == array.flat[0]).all():
        return same(np.where(array > 0, array - 1, array + 1).astype(array.dtype))
    return _elsewhere(array)


def _elsewhere(array: Any) -> Any:
    if array.dtype == np.bool_:
        return same(~array)
    return same(np.roll(array, 1).reshape(array.shape))


def between(array: Any) -> Any:
    """Values between those of neighbours, each at a place of its own: a probability stays one."""
    if array.dtype.kind not in "fc":
        return _elsewhere(array)
    rng = np.random.default_rng(array.size)
    weights = np.resize(rng.uniform(0.2, 0.8, 1021), array.shape)
    mixed = weights * array + (1 - weights) * np.roll(array, 1).reshape(array.shape)
    return same((mixed * 0.75 if array.size and (array == array.flat[0]).all() else mixed).astype(array.dtype))


PERTURBATIONS = (moved, scaled, reversed_signs, between)
"""What a function is run on again; a run that fails on values it never sees is left out."""
