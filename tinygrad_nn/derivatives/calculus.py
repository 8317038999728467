"""Differences, integrals and interpolation of sampled functions, made of other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tinygrad_nn.derivatives.indexing import fitted
from tinygrad_nn.derivatives.shaping import shaped
from tinygrad_nn.derivatives.table import alike, composition, plain
from tinygrad_nn.errors import ArgumentError, ShapeError

_ALL = (slice(None),)


def _part(a: Any, axis: int, start: int | None, stop: int | None) -> Any:
    return a[_ALL * axis + (slice(start, stop),)]


@composition(np.diff)
def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ArgumentError(f"np.diff needs an order n >= 0, got {n}")
    axis = normalize_axis_index(axis, a.ndim)
    ends = []
    for end in (prepend, append):
        if end is not None:
            value = shaped(end)
            shape = tuple(1 if i == axis else m for i, m in enumerate(a.shape))
            end = value if value.ndim else np.broadcast_to(value, shape)  # noqa: PLW2901 - a number stands for a slice
        ends.append(end)
    if n == 0:
        return np.copy(a)
    a = np.concatenate([x for x in (ends[0], a, ends[1]) if x is not None], axis)
    for _ in range(n):
        later, earlier = _part(a, axis, 1, None), _part(a, axis, None, -1)
        a = later != earlier if a.dtype.kind == "b" else later - earlier
    return a


@composition(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    ary = shaped(ary).reshape(-1)
    begin, end = ([] if e is None else [fitted("np.ediff1d: an end", e, ary).reshape(-1)] for e in (to_begin, to_end))
    return np.concatenate([*begin, ary[1:] - ary[:-1], *end])


@composition(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = shaped(y)
    axis = normalize_axis_index(axis, y.ndim)
    if x is None:
        width = dx
    else:
        x = shaped(x)
        width = np.diff(x, axis=0 if x.ndim == 1 else axis)
        if x.ndim == 1:
            width = width.reshape((-1,) + (1,) * (y.ndim - axis - 1))
    return (width * (_part(y, axis, 1, None) + _part(y, axis, None, -1)) / 2.0).sum(axis=axis)


@composition(np.gradient)
def _gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f = shaped(f)
    axes = range(f.ndim) if axis is None else normalize_axis_tuple(axis, f.ndim)
    if len(varargs) not in (0, 1, len(axes)):
        raise ArgumentError(
            f"np.gradient along {len(axes)} axes takes 0, 1 or {len(axes)} spacings, got {len(varargs)}"
        )
    if edge_order not in (1, 2):
        raise ArgumentError(f"np.gradient needs edge_order 1 or 2, got {edge_order}")
    spacings = list(varargs) * len(axes) if len(varargs) == 1 else list(varargs) or [1.0] * len(axes)
    slopes = [_slope(f, h, i, edge_order) for i, h in zip(axes, spacings, strict=True)]
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


def _slope(f: Any, spacing: Any, axis: int, edge_order: int) -> Any:
    """The derivative along one axis: second order inside, of `edge_order` at both ends."""
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ShapeError(
            f"np.gradient with edge_order={edge_order} needs {edge_order + 1} samples, axis {axis} has {n}"
        )
    spacing = shaped(spacing)
    if spacing.ndim == 0:
        steps = np.broadcast_to(spacing, (n - 1,))
    elif spacing.shape == (n,):
        steps = np.diff(spacing)
    else:
        raise ShapeError(f"np.gradient takes a step or {n} coordinates for axis {axis}, got shape {spacing.shape}")
    h = steps.astype(f.dtype).reshape((-1,) + (1,) * (f.ndim - axis - 1))
    h = alike(h, f) if isinstance(h, np.ndarray) else h
    slope = (_part(f, axis, 1, None) - _part(f, axis, None, -1)) / h
    before, after = _part(slope, axis, None, -1), _part(slope, axis, 1, None)
    left, right = h[:-1], h[1:]
    inside = (right * before + left * after) / (left + right)
    first, last = _part(slope, axis, None, 1), _part(slope, axis, -1, None)
    if edge_order == 2:
        bend = (after - before) / (left + right)
        first = first - h[:1] * _part(bend, axis, None, 1)
        last = last + h[-1:] * _part(bend, axis, -1, None)
    return np.concatenate([first, inside, last], axis)


@composition(np.interp)
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None) -> Any:
    x, xp, fp = (shaped(a) for a in (x, xp, fp))
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ShapeError(f"np.interp takes vectors xp and fp of one length, got {xp.shape} and {fp.shape}")
    if period is not None:
        period = abs(period)
        order = plain(np.argsort(xp % period))
        x, xp, fp = x % period, (xp % period)[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    n, low, high = xp.shape[0], xp[0], xp[-1]
    if n == 1:
        xp, fp, n = np.concatenate([xp, xp + 1]), np.concatenate([fp, fp]), 2
    k = plain(np.clip(np.searchsorted(xp, x, side="right") - 1, 0, n - 2))
    start, end = xp[k], xp[k + 1]
    y = fp[k] + (fp[k + 1] - fp[k]) / (end - start) * (x - start)
    y = np.where(x < low, fp[0] if left is None else left, y)
    return np.where(x > high, fp[-1] if right is None else right, y)
