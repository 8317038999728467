"""Rows for products of vectors, matrices and tensors."""

from __future__ import annotations

import functools
import operator
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_nn.derivatives.table import alike, composition, numpy_row, own, unbroadcast
from tinygrad_nn.errors import ShapeError

__all__ = ["linear"]


def _as_array(x: Any) -> Any:
    """Return `x` as something with a shape: lists and numbers become arrays, the rest stays as it is."""
    return x if hasattr(x, "__array_function__") else np.asarray(x)


# The products that are ufuncs: leading axes broadcast, the last one or two are multiplied


def _placed(rule: Callable[..., Any], k: int, axes: Sequence[Any], g: Any, *arrays: Any) -> Any:
    """Apply the rule of argument `k`, written for the last axes, where ``axes=`` names other ones."""
    places = [(p,) if hasattr(p, "__index__") else tuple(p) for p in axes]
    moved = []
    for i, x in enumerate(arrays):
        values = np.empty(x.shape) if i == k else x  # of the argument itself the rule reads the shape only
        moved.append(np.moveaxis(values, places[i], range(-len(places[i]), 0)))
    g = np.moveaxis(g, places[2], range(-len(places[2]), 0))
    return np.moveaxis(rule(g, None, *moved), range(-len(places[k]), 0), places[k])


def _matmul_a(g: Any, _y: Any, _a: Any, b: Any, *, axes: Any = None) -> Any:
    if axes is not None:
        return _placed(_matmul_a, 0, axes, g, _a, b)
    if b.ndim == _a.ndim == 2:
        return np.dot(g, b.T)  # for matrices the same as matmul, and faster where one side is 1
    if b.ndim == 1:
        return g[..., None] * b
    if _a.ndim == 1:
        return unbroadcast((g[..., None, :] * b).sum(axis=-1), _a.shape)
    return unbroadcast(np.matmul(g, np.swapaxes(b, -1, -2)), _a.shape)


def _matmul_b(g: Any, _y: Any, a: Any, _b: Any, *, axes: Any = None) -> Any:
    if axes is not None:
        return _placed(_matmul_b, 1, axes, g, a, _b)
    if a.ndim == _b.ndim == 2:
        return np.dot(a.T, g)
    if a.ndim == 1:
        return a[:, None] * g[..., None, :] if _b.ndim > 1 else a * g
    if _b.ndim == 1:
        return unbroadcast(a * g[..., None], _b.shape)
    return unbroadcast(np.matmul(np.swapaxes(a, -1, -2), g), _b.shape)


numpy_row(np.matmul, _matmul_a, _matmul_b)


def _linear(x: Any, w: Any, b: Any) -> Any:
    """Return x @ w + b."""
    if type(x) is type(w) is type(b) is np.ndarray and x.ndim == w.ndim == 2 and x.dtype is w.dtype is b.dtype:
        y = x.dot(w)
        try:
            y += b
        except ValueError:
            raise _too_large(b, y) from None
        return y
    product = np.matmul(x, w)
    y = product + b
    if y.shape != product.shape:  # the rules take the result's shape for the product's
        raise _too_large(b, product)
    return y


def _too_large(b: Any, product: Any) -> ShapeError:
    return ShapeError(
        f"linear adds a bias of shape {b.shape} to a product x @ w of shape {product.shape}, which it does not fit: a "
        f"bias has shape {product.shape[-1:]}, one entry for each output"
    )


# one node in the place of two, and one array
linear: Callable[..., Any] = own(
    _linear,
    lambda g, _y, _x, w, _b: _matmul_a(g, None, _x, w),
    lambda g, _y, x, _w, _b: _matmul_b(g, None, x, _w),
    lambda g, _y, _x, _w, _b: unbroadcast(g, _b.shape),
    name="linear",
)


def _vecdot_part(g: Any, other: Any, axis: int, axes: Any, k: int, shape: tuple[int, ...], *, keepdims: bool) -> Any:
    """The gradient g * other of one vector of an inner product, put where the vectors lie."""
    places = [int(i) for place in axes or [axis, axis, axis] for i in np.ravel(place)]
    if keepdims:
        g = np.squeeze(g, places[2])
    part = g[..., None] * np.moveaxis(other, places[1 - k], -1)
    own = list(shape)
    own.append(own.pop(places[k]))
    return np.moveaxis(unbroadcast(part, tuple(own)), -1, places[k])


def _vecdot_a(g: Any, _y: Any, _a: Any, b: Any, *, axis: int = -1, axes: Any = None, keepdims: bool = False) -> Any:
    return _vecdot_part(g, b, axis, axes, 0, _a.shape, keepdims=keepdims)


def _vecdot_b(g: Any, _y: Any, a: Any, _b: Any, *, axis: int = -1, axes: Any = None, keepdims: bool = False) -> Any:
    return _vecdot_part(g, a, axis, axes, 1, _b.shape, keepdims=keepdims)


numpy_row(np.vecdot, _vecdot_a, _vecdot_b)


def _matvec_a(g: Any, _y: Any, _a: Any, x: Any, *, axes: Any = None) -> Any:
    if axes is not None:
        return _placed(_matvec_a, 0, axes, g, _a, x)
    return unbroadcast(g[..., :, None] * x[..., None, :], _a.shape)


def _matvec_x(g: Any, _y: Any, a: Any, _x: Any, *, axes: Any = None) -> Any:
    if axes is not None:
        return _placed(_matvec_x, 1, axes, g, a, _x)
    return unbroadcast(np.matvec(np.swapaxes(a, -1, -2), g), _x.shape)


def _vecmat_x(g: Any, _y: Any, _x: Any, a: Any, *, axes: Any = None) -> Any:
    if axes is not None:
        return _placed(_vecmat_x, 0, axes, g, _x, a)
    return unbroadcast(np.matvec(a, g), _x.shape)


def _vecmat_a(g: Any, _y: Any, x: Any, _a: Any, *, axes: Any = None) -> Any:
    if axes is not None:
        return _placed(_vecmat_a, 1, axes, g, x, _a)
    return unbroadcast(x[..., :, None] * g[..., None, :], _a.shape)


if hasattr(np, "matvec"):  # from NumPy 2.2 on
    numpy_row(np.matvec, _matvec_a, _matvec_x)
    numpy_row(np.vecmat, _vecmat_x, _vecmat_a)


# The products of any number of axes


def _dot_a(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if _a.ndim == 0 or np.ndim(b) == 0:
        return unbroadcast(g * b, _a.shape)
    if b.ndim == 1:
        return g[..., None] * b
    axes = list(range(_a.ndim - 1, g.ndim))
    rest = [i for i in range(b.ndim) if i != b.ndim - 2]
    return np.tensordot(g, b, (axes, rest))


def _dot_b(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if np.ndim(a) == 0 or _b.ndim == 0:
        return unbroadcast(a * g, _b.shape)
    lead = list(range(a.ndim - 1))
    product = np.tensordot(a, g, (lead, lead))  # (n, *rest of b)
    return product if _b.ndim == 1 else np.moveaxis(product, 0, -2)


numpy_row(np.dot, _dot_a, _dot_b)
numpy_row(
    np.vdot,
    lambda g, _y, _a, b: g * np.reshape(b, _a.shape),
    lambda g, _y, a, _b: g * np.reshape(a, _b.shape),
)


def _tensordot_axes(ndim_a: int, ndim_b: int, axes: Any) -> tuple[list[int], list[int]]:
    if hasattr(axes, "__index__"):
        return list(range(ndim_a - axes, ndim_a)), list(range(axes))
    first, second = ([x] if hasattr(x, "__index__") else list(x) for x in axes)
    return [i % ndim_a for i in first], [i % ndim_b for i in second]


def _tensordot_rule(g: Any, a: Any, b: Any, axes: Any, *, first: bool) -> Any:
    ndim_a, ndim_b = np.ndim(a), np.ndim(b)
    in_a, in_b = _tensordot_axes(ndim_a, ndim_b, axes)
    free_a = [i for i in range(ndim_a) if i not in in_a]
    free_b = [i for i in range(ndim_b) if i not in in_b]
    if first:
        product = np.tensordot(g, b, (list(range(len(free_a), g.ndim)), free_b))
        remaining = [in_a[i] for i in np.argsort(in_b)]
        return np.moveaxis(product, range(ndim_a), free_a + remaining)
    product = np.tensordot(a, g, (free_a, list(range(len(free_a)))))
    remaining = [in_b[i] for i in np.argsort(in_a)]
    return np.moveaxis(product, range(ndim_b), remaining + free_b)


numpy_row(
    np.tensordot,
    lambda g, _y, _a, b, axes=2: _tensordot_rule(g, _a, b, axes, first=True),
    lambda g, _y, a, _b, axes=2: _tensordot_rule(g, a, _b, axes, first=False),
)

# einsum

_LETTERS = string.ascii_uppercase + string.ascii_lowercase  # in the order of the sublists' numbers 0 to 51


def _bind_einsum(*operands: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring every form of the call into ``(subscripts, *arrays)`` with subscripts that name the output."""
    if isinstance(operands[0], str):
        subscripts, arrays = operands[0].replace(" ", ""), operands[1:]
    else:
        terms = ["".join("..." if s is Ellipsis else _LETTERS[s] for s in sublist) for sublist in operands[1::2]]
        arrays = operands[: len(operands) - len(operands) % 2 : 2]
        subscripts = ",".join(terms)
        if len(operands) % 2:
            subscripts += "->" + "".join("..." if s is Ellipsis else _LETTERS[s] for s in operands[-1])
    if "->" not in subscripts:
        once = sorted(c for c in set(subscripts) - {",", "."} if subscripts.count(c) == 1)
        subscripts += "->..." + "".join(once)
    return (subscripts, *arrays), named


def _labels(subscripts: str, ndims: list[int]) -> tuple[list[str], str, list[str]]:
    """The label of every axis of the operands and of the result, ellipses included, and unused labels."""
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    unused = [c for c in _LETTERS if c not in subscripts]
    widths = [ndim - len(t.replace("...", "")) for t, ndim in zip(terms, ndims, strict=True)]
    most = max(widths)
    dots, unused = "".join(unused[:most]), unused[most:]
    terms = [t.replace("...", dots[most - w :]) for t, w in zip(terms, widths, strict=True)]
    return terms, output.replace("...", dots), unused


def _einsum(g: Any, _y: Any, k: int, subscripts: str, *operands: Any, optimize: Any = False) -> Any:
    """The sum of products of `g` with the other operands, for the labels of operand `k`."""
    shapes = [np.shape(x) for x in operands]
    terms, output, unused = _labels(subscripts, [len(shape) for shape in shapes])
    factors = [g, *operands[:k], *operands[k + 1 :]]
    inputs = [output, *terms[:k], *terms[k + 1 :]]
    known = {pair for term, x in zip(inputs, factors, strict=True) for pair in zip(term, np.shape(x), strict=True)}
    target = ""
    for c, n in zip(terms[k], shapes[k], strict=True):
        if c in target:  # a diagonal: the gradient is 0 beside it
            target += unused[0]
            inputs.append(c + unused.pop(0))
            factors.append(alike(np.eye(n, dtype=g.dtype), g))
            continue
        target += c
        if (c, n) not in known:  # summed, or met by an axis of length 1: the same all along
            inputs.append(c)
            factors.append(alike(np.ones(n, g.dtype), g))
    # a path that was made for the forward product does not fit this one
    how = optimize if isinstance(optimize, (bool, str)) else bool(optimize)
    return unbroadcast(np.einsum(",".join(inputs) + "->" + target, *factors, optimize=how), shapes[k])


numpy_row(np.einsum, _einsum, variadic=True, bind=_bind_einsum)


# Products made of others


@composition(np.inner)
def _inner(a: Any, b: Any) -> Any:
    a, b = _as_array(a), _as_array(b)
    return np.dot(a, np.swapaxes(b, -1, -2) if b.ndim > 1 and a.ndim else b)


@composition(np.outer)
def _outer(a: Any, b: Any) -> Any:
    a, b = _as_array(a), _as_array(b)
    return np.multiply(a.reshape((a.size, 1)), b.reshape((1, b.size)))


@composition(np.linalg.outer)
def _linalg_outer(x1: Any, x2: Any, /) -> Any:
    x1, x2 = _as_array(x1), _as_array(x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(f"np.linalg.outer needs two vectors, got shapes {x1.shape} and {x2.shape}; np.outer flattens")
    return _outer(x1, x2)


@composition(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = _as_array(a), _as_array(b)
    ndim = max(a.ndim, b.ndim)
    left, right = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    a = a.reshape(tuple(n for pair in zip(left, (1,) * ndim, strict=True) for n in pair))
    b = b.reshape(tuple(n for pair in zip((1,) * ndim, right, strict=True) for n in pair))
    return (a * b).reshape(tuple(n * m for n, m in zip(left, right, strict=True)))


@composition(np.cross)
def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ShapeError(f"np.cross needs vectors of 2 or 3 entries, got {a.shape[-1]} and {b.shape[-1]}")
    # a vector in the plane has a third entry of 0
    (a1, a2, a3), (b1, b2, b3) = ([v[..., i] if i < v.shape[-1] else 0 for i in range(3)] for v in (a, b))
    third = a1 * b2 - a2 * b1
    if a.shape[-1] == b.shape[-1] == 2:
        return third
    return np.moveaxis(np.stack([a2 * b3 - a3 * b2, a3 * b1 - a1 * b3, third], axis=-1), -1, axisc)


@composition(np.linalg.cross)
def _linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    x1, x2 = _as_array(x1), _as_array(x2)
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ShapeError(
            f"np.linalg.cross needs vectors of 3 entries, got {x1.shape[axis]} and {x2.shape[axis]} along axis {axis}"
        )
    return _cross(x1, x2, axis=axis)


composition(np.linalg.matmul)(lambda x1, x2, /: np.matmul(x1, x2))
composition(np.linalg.tensordot)(lambda x1, x2, /, *, axes=2: np.tensordot(x1, x2, axes))


@composition(np.linalg.vecdot)
def _linalg_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    inner: Callable[..., Any] = np.vecdot
    return inner(x1, x2, axis=axis)


@composition(np.linalg.multi_dot)
def _multi_dot(arrays: Any) -> Any:
    arrays = [_as_array(x) for x in arrays]
    if len(arrays) < 2 or any(x.ndim != 2 for x in arrays[1:-1]) or {arrays[0].ndim, arrays[-1].ndim} - {1, 2}:
        raise ShapeError(
            f"np.linalg.multi_dot needs two matrices or more, the first and last may be vectors; "
            f"got shapes {[x.shape for x in arrays]}"
        )
    lengths = [arrays[0].shape[0] if arrays[0].ndim == 2 else 1, *[x.shape[0] for x in arrays[1:]]]
    lengths.append(arrays[-1].shape[1] if arrays[-1].ndim == 2 else 1)
    return _chain(arrays, tuple(lengths), 0, len(arrays))


def _chain(arrays: list[Any], lengths: tuple[int, ...], start: int, stop: int) -> Any:
    """The product of arrays[start:stop], in the cheapest order."""
    if stop - start == 1:
        return arrays[start]
    cut = _cheapest(lengths, start, stop)[1]
    return np.dot(_chain(arrays, lengths, start, cut), _chain(arrays, lengths, cut, stop))


@functools.lru_cache(4096)
def _cheapest(lengths: tuple[int, ...], start: int, stop: int) -> tuple[int, int]:
    """How many multiplications a chain of matrices takes from `start` to `stop`, and where to cut it."""
    if stop - start == 1:
        return 0, start
    return min(
        (
            _cheapest(lengths, start, i)[0]
            + _cheapest(lengths, i, stop)[0]
            + lengths[start] * lengths[i] * lengths[stop],
            i,
        )
        for i in range(start + 1, stop)
    )


@composition(np.linalg.matrix_power)
def _matrix_power(a: Any, n: Any) -> Any:
    n = operator.index(n)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"np.linalg.matrix_power needs square matrices, got shape {a.shape}")
    if n == 0:
        # constant, and in the graph all the same
        return np.where(alike(True, a), alike(np.eye(a.shape[-1], dtype=a.dtype), a), a)
    if n < 0:
        a, n = np.linalg.inv(a), -n
    if n == 1:
        return +a
    result = None
    while n:
        if n % 2:
            result = a if result is None else np.matmul(result, a)
        n //= 2
        if n:
            a = np.matmul(a, a)
    return result
