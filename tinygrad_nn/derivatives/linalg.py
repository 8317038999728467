"""Rows for products, and for functions of a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import numpy_row, unbroadcast


def _matmul_a(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if b.ndim == _a.ndim == 2:
        return np.dot(g, b.T)  # for matrices the same as matmul, and faster where one side is 1
    if b.ndim == 1:
        return unbroadcast(g[..., None] * b, _a.shape)
    if _a.ndim == 1:
        return unbroadcast((g[..., None, :] * b).sum(axis=-1), _a.shape)
    return unbroadcast(np.matmul(g, np.swapaxes(b, -1, -2)), _a.shape)


def _matmul_b(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if a.ndim == _b.ndim == 2:
        return np.dot(a.T, g)
    if a.ndim == 1:
        return unbroadcast(a[:, None] * g[..., None, :] if _b.ndim > 1 else a * g, _b.shape)
    if _b.ndim == 1:
        return unbroadcast(a * g[..., None], _b.shape)
    return unbroadcast(np.matmul(np.swapaxes(a, -1, -2), g), _b.shape)


numpy_row(np.matmul, _matmul_a, _matmul_b)


def _dot_a(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if _a.ndim == 0 or b.ndim == 0:
        return unbroadcast(g * b, _a.shape)
    if b.ndim == 1:
        return g[..., None] * b
    axes = list(range(_a.ndim - 1, g.ndim))
    rest = [i for i in range(b.ndim) if i != b.ndim - 2]
    return np.tensordot(g, b, (axes, rest))


def _dot_b(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if a.ndim == 0 or _b.ndim == 0:
        return unbroadcast(a * g, _b.shape)
    lead = list(range(a.ndim - 1))
    product = np.tensordot(a, g, (lead, lead))  # (n, *rest of b)
    return product if _b.ndim == 1 else np.moveaxis(product, 0, -2)


numpy_row(np.dot, _dot_a, _dot_b)


def _tensordot_axes(a: Any, b: Any, axes: Any) -> tuple[list[int], list[int]]:
    if isinstance(axes, int):
        return list(range(a.ndim - axes, a.ndim)), list(range(axes))
    first, second = ([x] if isinstance(x, int) else list(x) for x in axes)
    return [i % a.ndim for i in first], [i % b.ndim for i in second]


def _tensordot_rule(g: Any, a: Any, b: Any, axes: Any, *, first: bool) -> Any:
    in_a, in_b = _tensordot_axes(a, b, axes)
    free_a = [i for i in range(a.ndim) if i not in in_a]
    free_b = [i for i in range(b.ndim) if i not in in_b]
    if first:
        product = np.tensordot(g, b, (list(range(len(free_a), g.ndim)), free_b))
        remaining = [in_a[i] for i in np.argsort(in_b)]
        return np.moveaxis(product, range(a.ndim), free_a + remaining)
    product = np.tensordot(a, g, (free_a, list(range(len(free_a)))))
    remaining = [in_b[i] for i in np.argsort(in_a)]
    return np.moveaxis(product, range(b.ndim), remaining + free_b)


numpy_row(
    np.tensordot,
    lambda g, _y, _a, b, axes=2: _tensordot_rule(g, _a, b, axes, first=True),
    lambda g, _y, a, _b, axes=2: _tensordot_rule(g, a, _b, axes, first=False),
)


def _slogdet(g: Any, y: Any, a: Any) -> Any:
    # the sign does not change where the matrix can be inverted
    inverse = np.swapaxes(np.linalg.inv(a), -1, -2)
    return g[1][..., None, None] * inverse


numpy_row(
    np.linalg.slogdet,
    _slogdet,
    note="no gradient flows through the sign; singular matrices raise LinAlgError",
)
numpy_row(
    np.linalg.inv,
    lambda g, y, _a: -np.matmul(np.matmul(np.swapaxes(y, -1, -2), g), np.swapaxes(y, -1, -2)),
    note="singular matrices raise LinAlgError",
)
