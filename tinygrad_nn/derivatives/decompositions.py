"""Rows for functions of a square matrix, and for decompositions.

`np.linalg.cholesky` and `np.linalg.eigh` read one triangle of their argument only, so the gradient
lies in that triangle, and an entry beside the diagonal carries that of its mirror image as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import alike, composition, numpy_row, own, unbroadcast
from tinygrad_nn.errors import ArgumentError, DTypeError

__all__ = ["svd"]


def _t(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _halved_triangle(like: Any, *, upper: bool = False) -> Any:
    """Ones in the lower (or upper) triangle, and halves on the diagonal."""
    n = like.shape[-1]
    weights = alike(np.tri(n, dtype=like.dtype) - np.eye(n, dtype=like.dtype) / 2, like)
    return weights.T if upper else weights


def _fold(g: Any, *, upper: bool = False) -> Any:
    """The gradient of a symmetric matrix of which one triangle is read, in that triangle."""
    return (g + _t(g)) * _halved_triangle(g, upper=upper)


def _reciprocal(x: Any) -> Any:
    """1 / x, and 0 where x is 0."""
    zero = x == 0
    return np.where(zero, 0, 1 / np.where(zero, 1, x))


# Inverses and determinants

_singular = "singular matrices raise LinAlgError"
numpy_row(np.linalg.inv, lambda g, y, _a: -np.matmul(np.matmul(_t(y), g), _t(y)), note=_singular)


def _solve_a(g: Any, y: Any, a: Any, _b: Any) -> Any:
    if _b.ndim == 1:
        g, y = g[..., None], y[..., None]
    return unbroadcast(-np.matmul(np.linalg.solve(_t(a), g), _t(y)), a.shape)


def _solve_b(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if _b.ndim == 1:
        return unbroadcast(np.linalg.solve(_t(a), g[..., None])[..., 0], _b.shape)
    return unbroadcast(np.linalg.solve(_t(a), g), _b.shape)


numpy_row(np.linalg.solve, _solve_a, _solve_b, note=_singular)


def _slogdet(g: Any, y: Any, a: Any) -> Any:
    # the sign does not change where the matrix can be inverted
    return g[1][..., None, None] * _t(np.linalg.inv(a))


numpy_row(
    np.linalg.slogdet,
    _slogdet,
    note=f"no gradient flows through the sign; {_singular} in the backward",
)


def _cofactors(a: Any, y: Any) -> Any:
    """The determinants, with signs, of `a` without a row and a column: the slope of its determinant `y`."""
    n = a.shape[-1]
    eye = np.eye(n, dtype=bool)
    if n <= 4:  # by their definition: a polynomial, right at every order, singular or not
        others = np.argsort(eye, axis=-1, kind="stable")[:, : max(n - 1, 0)]
        minors = np.linalg.det(a[..., others[:, None, :, None], others[None, :, None, :]])
        signs = (1 - 2 * (np.add.outer(np.arange(n), np.arange(n)) % 2)).astype(a.dtype)
        return minors * alike(signs, a)
    eye = alike(eye, a)
    singular = (y == 0)[..., None, None]
    if not singular.any():
        return y[..., None, None] * _t(np.linalg.inv(a))
    regular = y[..., None, None] * _t(np.linalg.inv(np.where(singular, eye, a)))
    u, s, vh = np.linalg.svd(a)
    rest = np.prod(np.where(eye, 1, s[..., None, :]), axis=-1)  # the product of the other singular values
    sign = np.linalg.det(u) * np.linalg.det(vh)
    return np.where(singular, np.matmul(u * (sign[..., None] * rest)[..., None, :], vh), regular)


numpy_row(
    np.linalg.det,
    lambda g, y, a: g[..., None, None] * _cofactors(a, y),
    note="the matrix of cofactors, for singular matrices too",
)


def _pinv(g: Any, y: Any, a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    if hermitian:
        a = np.tril(a) + _t(np.tril(a, -1))
    yt, gt = _t(y), _t(g)
    slope = yt @ (y @ (gt - (gt @ y) @ a)) + ((gt - a @ (y @ gt)) @ y) @ yt - (yt @ g) @ yt
    return _fold(slope) if hermitian else slope


numpy_row(
    np.linalg.pinv,
    _pinv,
    note="the rank is taken as constant, and the singular values that rcond drops as 0; "
    "hermitian=True reads the lower triangle only",
)

# Decompositions


def _lower_factor(a: Any, *, upper: bool = False) -> Any:
    if hasattr(a, "__dask_graph__"):
        raise DTypeError("the factor that Dask gives is the upper one for the lower: compute() the matrix first")
    return np.linalg.cholesky(a, upper=True) if upper else np.linalg.cholesky(a)


def _cholesky(g: Any, y: Any, _a: Any, *, upper: bool = False) -> Any:
    if upper:
        g, y = _t(g), _t(y)
    half = np.linalg.solve(_t(y), np.matmul(_t(y), np.tril(g)) * _halved_triangle(g))
    return _fold(np.linalg.solve(_t(y), _t(half)), upper=upper)


numpy_row(
    np.linalg.cholesky,
    _cholesky,
    kernel=_lower_factor,
    note="one triangle is read (the lower; upper=True: the upper), and the gradient lies in it",
)


def _spectrum(g: Any, v: Any, UPLO: str) -> Any:
    """The gradient V g V^T in the triangle that was read."""
    return _fold(np.matmul(np.matmul(v, g), _t(v)), upper=UPLO.upper() == "U")


def _diagonal(g: Any) -> Any:
    """Matrices with `g` on their diagonals."""
    return g[..., None, :] * alike(np.eye(g.shape[-1], dtype=g.dtype), g)


def _eigh(g: Any, y: Any, _a: Any, UPLO: str = "L") -> Any:
    (gw, gv), (w, v) = g, y
    gaps = _reciprocal(w[..., None, :] - w[..., :, None])
    return _spectrum(_diagonal(gw) + gaps * np.matmul(_t(v), gv), v, UPLO)


def _eigvalsh(g: Any, _y: Any, a: Any, UPLO: Any = "L") -> Any:
    return _spectrum(_diagonal(g), np.linalg.eigh(a, UPLO)[1], UPLO)


_triangle = "one triangle is read (UPLO), and the gradient lies in it"
numpy_row(
    np.linalg.eigh,
    _eigh,
    note=f"{_triangle}; vectors of equal eigenvalues have no derivative: none flows between them",
)
numpy_row(np.linalg.eigvalsh, _eigvalsh, note=_triangle)


def _svd(a: Any) -> Any:
    """Return the compact singular value decomposition of `a`."""
    return np.linalg.svd(a, full_matrices=False)


def _svd_rule(g: Any, y: Any, _a: Any) -> Any:
    (gu, gs, gvh), (u, s, vh) = g, y
    row, column = s[..., None, :], s[..., :, None]
    gaps = _reciprocal((row - column) * (row + column))
    left, right = gaps * np.matmul(_t(u), gu), gaps * np.matmul(vh, _t(gvh))
    middle = (left + _t(left)) * row + column * (right + _t(right)) + _diagonal(gs)
    slope = np.matmul(np.matmul(u, middle), vh)
    if _a.shape[-2] > _a.shape[-1]:  # what leaves the space that U spans
        slope = slope + np.matmul((gu - np.matmul(u, np.matmul(_t(u), gu))) * _reciprocal(row), vh)
    if _a.shape[-2] < _a.shape[-1]:
        slope = slope + np.matmul(u * _reciprocal(row), gvh - np.matmul(np.matmul(gvh, _t(vh)), vh))
    return slope


svd: Callable[..., Any] = own(
    _svd,
    _svd_rule,
    name="np.linalg.svd",
    note="vectors of equal singular values have no derivative: none flows between them",
)


def _svdvals(g: Any, y: Any, x: Any) -> Any:
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    return np.matmul(u * np.where(y == 0, 0, g)[..., None, :], vh)


numpy_row(
    np.linalg.svdvals,
    _svdvals,
    kernel=lambda x, /: np.linalg.svd(x, compute_uv=False),
    note="0 for singular values that are 0",
)


@composition(np.linalg.svd)
def _linalg_svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    if not compute_uv:
        return np.sort(np.abs(np.linalg.eigvalsh(a)), axis=-1)[..., ::-1] if hermitian else np.linalg.svdvals(a)
    if hermitian:
        return _svd_hermitian(a)
    if full_matrices and a.shape[-1] != a.shape[-2]:
        raise ArgumentError(
            f"np.linalg.svd of shape {a.shape} with full_matrices=True has vectors without a derivative: "
            f"write np.linalg.svd(a, full_matrices=False)"
        )
    return svd(a)


def _svd_hermitian(a: Any) -> Any:
    """The decomposition that NumPy makes of the one by eigenvalues: sorted, with the signs in V."""
    w, v = np.linalg.eigh(a)
    order = np.argsort(np.abs(w), axis=-1)[..., ::-1]
    signs = np.take_along_axis(np.where(np.signbit(w), -1, 1).astype(a.dtype), order, axis=-1)
    values = np.take_along_axis(np.abs(w), order, axis=-1)
    u = np.take_along_axis(v, order[..., None, :], axis=-1)
    result = type(np.linalg.svd(np.eye(1)))
    return result(u, values, _t(u * signs[..., None, :]))
