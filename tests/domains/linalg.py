"""Domains of the rows in linalg.py, matrices.py and decompositions.py of tinygrad_nn/derivatives/."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from domains.base import Case, Draw, beside_lists, domain, relayout
from tinygrad_nn.derivatives import decompositions, linalg, matrices

LETTERS = "bBaAc"  # in another order than the alphabet, and the first ones that a rule would add

# Products


def matmul_shapes(d: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    n, k, m = (d.side() for _ in range(3))
    lead_a, lead_b = d.shapes(2)
    a, b = (*lead_a, n, k), (*lead_b, k, m)
    form = d.pick("matrices", "matrices", "vector @ matrix", "matrix @ vector", "vectors")
    return ((k,) if form.startswith("vector") else a), ((k,) if form.endswith(("vector", "vectors")) else b)


def elsewhere(d: Draw, shape: tuple[int, ...], core: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape whose last `core` axes are moved, and where they stand now, partly counted from the end."""
    places = tuple(d.permuted(range(len(shape)))[:core])
    moved = np.moveaxis(np.empty(shape), range(len(shape) - core, len(shape)), places).shape
    return moved, tuple(p - len(shape) if d.pick(True, False) else p for p in places)


def with_axes(
    d: Draw, function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], cores: tuple[int, ...], **safe: Any
) -> Case:
    """A call of a ufunc whose last axes are multiplied, sometimes told by ``axes=`` that others are."""
    if d.pick(True, False, False):
        return Case(function, [d.values(shape) for shape in shapes], **safe)
    lead = len(np.broadcast_shapes(*(s[: len(s) - c] for s, c in zip(shapes, cores, strict=False))))
    moved = [elsewhere(d, shape, c) for shape, c in zip(shapes, cores, strict=False)]
    axes: list[Any] = [places for _, places in moved]
    if cores[2]:
        axes.append(tuple(d.permuted(range(lead + cores[2]))[: cores[2]]))
    axes = [places[0] if len(places) == 1 and d.pick(True, False) else places for places in axes]
    return Case(lambda a, b: function(a, b, axes=axes), [d.values(shape) for shape, _ in moved], **safe)


@domain(np.matmul)
def matmul(d: Draw, function: Callable[..., Any]) -> Case:
    a, b = matmul_shapes(d)
    if d.pick(False, False, True):  # vectors and stacks with entries
        a, b = d.pick(((3,), (2, 3, 4)), ((2, 4, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3,)))
    if min(len(a), len(b)) == 1:
        return Case(function, [d.values(a), d.values(b)])
    return with_axes(d, function, (a, b), (2, 2, 2))


@domain(linalg.linear)
def linear(d: Draw, function: Callable[..., Any]) -> Case:
    n, m = d.side(), d.side()
    x = (*d.pick((d.side(),), (), (2, 3), (0,)), n)
    return Case(function, [d.values(x), d.values((n, m)), d.values((m,))])


def along(shape: tuple[int, ...], n: int, axis: int) -> tuple[int, ...]:
    """A shape with an axis of length `n` put in at `axis` of the longer shape."""
    return np.moveaxis(np.empty((*shape, n)), -1, axis).shape


def any_axis(d: Draw, lead_a: tuple[int, ...], lead_b: tuple[int, ...]) -> int:
    """An axis that both have when one is added, counted from the front or from the end."""
    ndim = min(len(lead_a), len(lead_b)) + 1
    return d.integer(-ndim, ndim - 1)


@domain(np.vecdot)
def vecdot(d: Draw, function: Callable[..., Any]) -> Case:
    n = d.side()
    lead_a, lead_b = d.shapes(2)
    a, b = (*lead_a, n), (*lead_b, n)
    safe = {"complex_safe": False}  # NumPy takes the conjugate of the first argument
    keepdims = d.pick(False, True)
    form = d.pick("axes", "axis", "keepdims", "three axes")
    if form == "axis":
        axis = any_axis(d, lead_a, lead_b)
        a, b = along(lead_a, n, axis), along(lead_b, n, axis)
        return Case(lambda x, y: function(x, y, axis=axis, keepdims=keepdims), [d.values(a), d.values(b)], **safe)
    if form == "keepdims":
        return Case(lambda x, y: function(x, y, keepdims=keepdims), [d.values(a), d.values(b)], **safe)
    if form == "three axes":
        (a, (p,)), (b, (q,)) = elsewhere(d, a, 1), elsewhere(d, b, 1)
        r = d.integer(0, max(len(a), len(b)) - 1)
        axes = [p, (q,), r] if keepdims else [p, (q,), ()]
        return Case(lambda x, y: function(x, y, axes=axes, keepdims=keepdims), [d.values(a), d.values(b)], **safe)
    return with_axes(d, function, (a, b), (1, 1, 0), **safe)


if hasattr(np, "matvec"):

    @domain(np.matvec)
    def matvec(d: Draw, function: Callable[..., Any]) -> Case:
        n, m = d.side(), d.side()
        lead_a, lead_x = d.shapes(2)
        return with_axes(d, function, ((*lead_a, n, m), (*lead_x, m)), (2, 1, 1))

    @domain(np.vecmat)
    def vecmat(d: Draw, function: Callable[..., Any]) -> Case:
        n, m = d.side(), d.side()
        lead_x, lead_a = d.shapes(2)
        return with_axes(d, function, ((*lead_x, n), (*lead_a, n, m)), (1, 2, 1), complex_safe=False)


@domain(np.dot)
def dot(d: Draw, function: Callable[..., Any]) -> Case:
    k = d.side(most=3)
    a = (*d.shape(max_dims=2), k)
    b = d.pick((k,), (k, 2), (3, k, 2), (2, 3, k, 1))
    if d.pick(True, False, False):
        a, b = d.pick(((), b), (a, ()), ((), ()))
    return Case(function, [d.values(a), d.values(b)])


@domain(np.vdot)
def vdot(d: Draw, function: Callable[..., Any]) -> Case:
    a, b = d.pick(((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), (6,)), ((0,), (0,)), ((2, 3), (3, 1, 2)))
    return Case(function, [d.values(a), d.values(b)], complex_safe=False)


@domain(np.tensordot)
def tensordot(d: Draw, function: Callable[..., Any]) -> Case:
    count = d.integer(0, 3)
    shared, left, right = d.shape(count, count) if count else (), d.shape(max_dims=2), d.shape(max_dims=2)
    axes = d.pick(count, np.int64(count))
    a, b = (*left, *shared), (*shared, *right)
    if d.pick(True, False):
        a, first = elsewhere(d, a, count)
        flipped, second = elsewhere(d, (*right, *shared), count)
        axes, b = (list(first), second), flipped
        if count == 1 and d.pick(True, False):
            axes = (first[0], second[0])
    if axes == 2 and d.pick(True, False):
        return Case(function, [d.values(a), d.values(b)])
    return Case(lambda x, y: function(x, y, axes), [d.values(a), d.values(b)])


def einsum_call(d: Draw) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts with and without a result, and the shapes of the operands."""
    sizes = dict(zip(LETTERS, [d.side(most=3) for _ in LETTERS], strict=True))
    terms = ["".join(d.pick(*LETTERS) for _ in range(d.integer(0, 3))) for _ in range(d.integer(1, 3))]
    used = sorted(set("".join(terms)))
    dots = d.shape(max_dims=2)
    shapes, labels = [], []
    has_dots = False
    for term in terms:
        # a label that stands once in its term may meet the others with a length of 1
        shape = [1 if term.count(c) == 1 and d.pick(*[False] * 5, True) else sizes[c] for c in term]
        if d.pick(True, False):
            has_dots = True
            at = d.integer(0, len(term))
            own = [1 if d.pick(*[False] * 5, True) else n for n in dots[d.integer(0, len(dots)) :]]
            shape[at:at] = own
            term = f"{term[:at]}...{term[at:]}"  # noqa: PLW2901
        labels.append(term)
        shapes.append(tuple(shape))
    subscripts = ",".join(labels)
    if d.pick(True, False):
        kept = "".join(d.permuted(used)[: d.integer(0, len(used))])
        at = d.integer(0, len(kept))
        subscripts += "->" + (f"{kept[:at]}...{kept[at:]}" if has_dots else kept)
    return subscripts, shapes


def sublists(subscripts: str) -> list[list[Any]]:
    """The terms of a string of subscripts as lists of numbers and Ellipsis, the result's last."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    terms = subscripts.replace("->", ",").replace("...", ".").split(",")
    return [[Ellipsis if c == "." else alphabet.index(c) for c in term] for term in terms]


def _is_sorted(optimize: Any) -> bool:
    """Whether axes given by numbers come out in the order of the numbers, as they do not in all of NumPy 2.0."""
    return np.einsum(np.empty((2, 3)), [25, 26], optimize=optimize).shape == (2, 3)


LISTS = _is_sorted(optimize=False) and _is_sorted(optimize=True)


@domain(np.einsum)
def einsum(d: Draw, function: Callable[..., Any]) -> Case:
    subscripts, shapes = einsum_call(d)
    arrays = [d.values(shape, layouts=("C", "F", "strided")) for shape in shapes]
    options: dict[str, Any] = d.pick({}, {}, {"optimize": False}, {"optimize": True}, {"optimize": "optimal"})
    if len(arrays) == 3 and d.pick(*[False] * 4, True):
        options = {"optimize": ["einsum_path", (0, 1), (0, 1)]}
    if d.pick(True, False) and (LISTS or "->" in subscripts):
        lists = sublists(subscripts)
        rest = lists[len(arrays) :]
        return Case(
            lambda *xs: function(*(part for pair in zip(xs, lists, strict=False) for part in pair), *rest, **options),
            arrays,
        )
    text = d.pick(subscripts, subscripts.replace(",", " , ").replace("->", " -> "))
    return Case(lambda *xs: function(text, *xs, **options), arrays)


# Parts of a matrix, and norms


@domain(np.diagonal)
def diagonal(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=2)
    axis1, axis2 = d.permuted(range(len(shape)))[:2]
    offset = d.integer(-5, 5)
    if d.pick(True, False, False):
        return Case(function, [d.values(shape)])
    if (axis1, axis2) == (0, 1) and d.pick(True, False):
        return Case(lambda x: function(x, offset=offset), [d.values(shape)])
    axis1 -= d.pick(0, len(shape))
    return Case(lambda x: function(x, offset, axis1, axis2), [d.values(shape)])


@domain(matrices.on_diagonal)
def on_diagonal(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=2)
    axis1, axis2 = d.permuted(range(len(shape)))[:2]
    offset = d.integer(-5, 5)
    if d.pick(True, False, False):
        return Case(lambda x: function(x, shape), [d.values(np.diagonal(np.empty(shape)).shape)])
    small = np.diagonal(np.empty(shape), offset, axis1, axis2).shape
    axis1, axis2 = axis1 - d.pick(0, len(shape)), axis2 - d.pick(0, len(shape))
    return Case(lambda x: function(x, shape, offset, axis1, axis2), [d.values(small)])


@domain(matrices.norm)
def norm(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis = d.axis(len(shape))
    if isinstance(axis, tuple):
        axis = axis[:2] or None
    order = None
    if isinstance(axis, int):
        order = d.pick(None, 3.0, 2.5, 1.0, 0.5, -1.0, -2.5)
    keepdims = d.pick(False, True)
    return Case(lambda x: function(x, order, axis, keepdims), [d.spread(shape)], complex_safe=False)


# Functions of a square matrix


def orthogonal(d: Draw, lead: tuple[int, ...], n: int) -> np.ndarray:
    return np.linalg.qr(d.rng.standard_normal((*lead, n, n)))[0]


def matrices_of(d: Draw, min_side: int = 1) -> np.ndarray:
    """A stack of matrices far from singular."""
    n = d.side(min_side, 5)
    lead = d.pick((), (2,), (2, 3))
    a = d.rng.uniform(-0.5, 0.5, (*lead, n, n)) + 1.5 * np.eye(n) * d.pick(1, -1)
    return relayout(a, d.pick("C", "F", "strided", "reversed" if lead else "C"))


@domain(np.linalg.inv)
def inverse(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [matrices_of(d, 0)], long_double=False)


@domain(np.linalg.slogdet)
def slogdet(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(lambda a: function(a)[1], [matrices_of(d, 0)], complex_safe=False, long_double=False)


@domain(np.linalg.det)
def det(d: Draw, function: Callable[..., Any]) -> Case:
    a = matrices_of(d, 0)
    n = a.shape[-1]
    if n < 2 or d.pick(True, False):
        return Case(function, [a], long_double=False)
    # singular, in some of the stack: a row of zeros, or nothing but zeros; no rounding hides it
    a = np.array(a)
    part = a if a.ndim == 2 else a[:1]
    rows = slice(None) if n <= 4 and d.pick(True, False) else d.integer(0, n - 1)
    part[..., rows, :] = 0
    return Case(function, [a], complex_safe=n <= 4, long_double=False)


@domain(np.linalg.solve)
def solve(d: Draw, function: Callable[..., Any]) -> Case:
    a = matrices_of(d, 0)
    n = a.shape[-1]
    b = d.pick((n,), (n, 2), (*a.shape[:-2][-1:], n, 0), (3, 1, 1, n, 1), (1, n, 3))
    return Case(function, [a, d.values(b)], long_double=False)


def symmetric(d: Draw, low: float, high: float, *, upper: bool) -> np.ndarray:
    """Symmetric matrices with eigenvalues well apart, and something else in the triangle that is not read."""
    n = d.side()
    lead = d.pick((), (2,), (2, 1), (2, 3))
    q = orthogonal(d, lead, n)
    w = np.linspace(low, high, n) + d.rng.uniform(-0.1, 0.1, (*lead, n))
    a = (q * w[..., None, :]) @ np.swapaxes(q, -1, -2)
    other = d.rng.standard_normal(a.shape)
    a = np.triu(a) + np.tril(other, -1) if upper else np.tril(a) + np.triu(other, 1)
    return relayout(a, d.pick("C", "F", "strided"))


@domain(np.linalg.cholesky)
def cholesky(d: Draw, function: Callable[..., Any]) -> Case:
    upper = d.pick(False, True)
    call = (lambda a: function(a, upper=True)) if upper else function
    return Case(call, [symmetric(d, 1.0, 3.0, upper=upper)], complex_safe=False, long_double=False)


def turned(v: Any, like: np.ndarray) -> Any:
    """The signs that turn the columns of `v` to where those of `like` point."""
    return np.sign((v * like.astype(v.dtype)).sum(axis=-2, keepdims=True))


@domain(np.linalg.eigh)
def eigh(d: Draw, function: Callable[..., Any]) -> Case:
    uplo = d.pick("L", "U", "l", "u")
    a = symmetric(d, -2.0, 2.0, upper=uplo in "Uu")
    part = d.pick("values", "vectors", "function")

    def call(a: Any) -> Any:
        w, v = function(a, uplo) if uplo != "L" else function(a)
        if part == "values":
            return w
        if part == "vectors":
            return v * turned(v, like)
        return np.matmul(v * np.sin(w)[..., None, :], np.swapaxes(v, -1, -2))

    like = np.linalg.eigh(a, uplo)[1]
    return Case(call, [a], complex_safe=False, long_double=False)


@domain(np.linalg.eigvalsh)
def eigvalsh(d: Draw, function: Callable[..., Any]) -> Case:
    uplo = d.pick("L", "U", "l", "u")
    a = symmetric(d, -2.0, 2.0, upper=uplo in "Uu")
    return Case(lambda a: function(a, uplo), [a], complex_safe=False, long_double=False)


def rectangular(d: Draw, min_side: int = 0) -> np.ndarray:
    """Matrices with singular values well apart from each other and from 0."""
    n, m = d.side(min_side), d.side(min_side)
    lead = d.pick((), (2,), (2, 1), (2, 3))
    k = min(n, m)
    s = np.linspace(1.0, 3.0, k) + d.rng.uniform(-0.1, 0.1, (*lead, k))
    a = (orthogonal(d, lead, n)[..., :k] * s[..., None, :]) @ orthogonal(d, lead, m)[..., :k, :]
    return relayout(a, d.pick("C", "F", "strided"))


def svd_call(d: Draw, function: Callable[..., Any], a: np.ndarray) -> Callable[..., Any]:
    """What of a decomposition does not depend on the signs of its vectors."""
    like = function(a)[0]
    part = d.pick("values", "vectors", "function")

    def call(a: Any) -> Any:
        u, s, vh = function(a)
        if part == "values":
            return s
        if part == "vectors":  # the signs of one side fix those of the other
            signs = turned(u, like)
            return np.concatenate([u * signs, np.swapaxes(vh, -1, -2) * signs], axis=-2)
        return np.matmul(u * np.sin(s)[..., None, :], vh)

    return call


@domain(decompositions.svd)
def svd(d: Draw, function: Callable[..., Any]) -> Case:
    a = rectangular(d)
    return Case(svd_call(d, function, a), [a], complex_safe=False, long_double=False)


@domain(np.linalg.svdvals)
def svdvals(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [rectangular(d)], complex_safe=False, long_double=False)


@domain(np.linalg.pinv)
def pinv(d: Draw, function: Callable[..., Any]) -> Case:
    if d.pick(False, False, True):
        a = symmetric(d, -1.0, 4.0, upper=False)
        return Case(lambda a: function(a, hermitian=True), [a], complex_safe=False, long_double=False)
    a = rectangular(d, 0)
    options: dict[str, Any] = d.pick({}, {}, {"rcond": 1e-3}, {"rtol": 1e-3}, {"rcond": np.float64(0.01)})
    return Case(lambda a: function(a, **options), [a], complex_safe=False, long_double=False)


# Compositions


@domain(np.inner)
def inner(d: Draw, function: Callable[..., Any]) -> Case:
    n = d.side(most=3)
    a, b = (*d.shape(max_dims=2), n), (*d.shape(max_dims=2), n)
    if d.pick(True, False, False):
        a, b = d.pick(((), b), (a, ()), ((), ()))
    return beside_lists(d, Case(function, [d.values(a), d.values(b)]))


@domain(np.outer, np.kron)
def outer(d: Draw, function: Callable[..., Any]) -> Case:
    return beside_lists(d, Case(function, [d.values(d.shape(max_dims=2)), d.values(d.shape())]))


@domain(np.linalg.outer)
def linalg_outer(d: Draw, function: Callable[..., Any]) -> Case:
    return beside_lists(d, Case(function, [d.values(d.shape(1, 1)), d.values(d.shape(1, 1))]))


PLANE = np.lib.NumpyVersion(np.__version__) < "2.5.0"  # np.cross of vectors with two entries


@domain(np.cross)
def cross(d: Draw, function: Callable[..., Any]) -> Case:
    lead_a, lead_b = d.shapes(2)
    n, m = d.pick((3, 3), (3, 3), (2, 3), (3, 2), (2, 2)) if PLANE else (3, 3)
    ndims = {"axisa": len(lead_a) + 1, "axisb": len(lead_b) + 1, "axisc": max(len(lead_a), len(lead_b)) + 1}
    options = {name: d.integer(-ndim, ndim - 1) for name, ndim in ndims.items() if d.pick(True, False)}
    if (n, m) == (2, 2):
        options.pop("axisc", None)
    axisa, axisb = (options.get(name, -1) for name in ("axisa", "axisb"))
    if d.pick(True, False, False):
        axisa = axisb = any_axis(d, lead_a, lead_b)
        options = d.pick({"axis": axisa}, {"axis": axisa, "axisa": 7, "axisc": 7})

    def call(a: Any, b: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # vectors of two entries
            return function(a, b, **options)

    return beside_lists(d, Case(call, [d.values(along(lead_a, n, axisa)), d.values(along(lead_b, m, axisb))]))


@domain(np.linalg.cross)
def linalg_cross(d: Draw, function: Callable[..., Any]) -> Case:
    lead_a, lead_b = d.shapes(2)
    axis = any_axis(d, lead_a, lead_b)
    arrays = [d.values(along(lead_a, 3, axis)), d.values(along(lead_b, 3, axis))]
    return beside_lists(d, Case(function if axis == -1 else lambda a, b: function(a, b, axis=axis), arrays))


@domain(np.linalg.matmul)
def linalg_matmul(d: Draw, function: Callable[..., Any]) -> Case:
    a, b = matmul_shapes(d)
    return Case(function, [d.values(a), d.values(b)])


@domain(np.linalg.tensordot)
def linalg_tensordot(d: Draw, function: Callable[..., Any]) -> Case:
    a, b, axes = d.pick(((2, 3), (3, 4), 1), ((2, 3), (4,), 0), ((2, 3, 4), (4, 5, 2), ([0, -1], [2, 0])))
    if d.pick(True, False):
        return Case(function, [d.values((2, 3, 1)), d.values((3, 1, 4))])
    return Case(lambda x, y: function(x, y, axes=axes), [d.values(a), d.values(b)])


@domain(np.linalg.vecdot)
def linalg_vecdot(d: Draw, function: Callable[..., Any]) -> Case:
    lead_a, lead_b = d.shapes(2)
    n, axis = d.side(), any_axis(d, lead_a, lead_b)
    arrays = [d.values(along(lead_a, n, axis)), d.values(along(lead_b, n, axis))]
    return Case(function if axis == -1 else lambda a, b: function(a, b, axis=axis), arrays, complex_safe=False)


@domain(np.linalg.multi_dot)
def multi_dot(d: Draw, function: Callable[..., Any]) -> Case:
    lengths = [d.side() for _ in range(d.integer(3, 6))]
    shapes: list[tuple[int, ...]] = list(itertools.pairwise(lengths))
    if d.pick(True, False):
        shapes[0] = shapes[0][1:]
    if d.pick(True, False):
        shapes[-1] = shapes[-1][:1]
    first, *others = (d.values(shape) for shape in shapes)
    if d.seldom() and first.size:
        lists = first.tolist()
        return Case(lambda *arrays: function([lists, *arrays]), others, widens=True)
    return Case(lambda *arrays: function(arrays), [first, *others])


@domain(np.linalg.matrix_power)
def matrix_power(d: Draw, function: Callable[..., Any]) -> Case:
    n = d.integer(-4, 7)
    return Case(lambda a: function(a, n), [matrices_of(d, 0)], long_double=n >= 0)


@domain(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape(min_dims=2))])


@domain(np.linalg.diagonal, np.linalg.trace)
def last_diagonal(d: Draw, function: Callable[..., Any]) -> Case:
    offset = d.integer(-4, 4)
    call = (lambda x: function(x, offset=offset)) if offset else function
    return Case(call, [d.values(d.shape(min_dims=2))])


@domain(np.trace)
def trace(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=2)
    axis1, axis2 = d.permuted(range(len(shape)))[:2]
    offset = d.integer(-4, 4)
    if (axis1, axis2, offset) == (0, 1, 0):
        return Case(function, [d.values(shape)])
    return Case(lambda x: function(x, offset, axis1, axis2=axis2 - len(shape)), [d.values(shape)])


@domain(np.diag, np.diagflat)
def diag(d: Draw, function: Callable[..., Any]) -> Case:
    if d.pick(True, False, False, False):
        return Case(function, [d.values(d.shape(min_dims=1, max_dims=2))])
    k = d.integer(-5, 5)
    return Case(lambda v: function(v, k), [d.values(d.shape(min_dims=1, max_dims=2))])


@domain(np.tril, np.triu)
def triangle(d: Draw, function: Callable[..., Any]) -> Case:
    if d.pick(True, False, False, False):
        return Case(function, [d.values(d.shape(min_dims=1))])
    k = d.integer(-5, 5)
    return Case(lambda m: function(m, k), [d.values(d.shape(min_dims=1))])


def graded(d: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Values of either sign whose sums of absolute values along any axes lie well apart."""
    x = d.rng.choice([-1.0, 1.0], shape) * d.rng.uniform(1.0, 1.02, shape)
    for i, n in enumerate(shape):
        x = x * (1 + 0.5 * d.rng.permutation(n)).reshape((n,) + (1,) * (len(shape) - i - 1))
    return relayout(np.asarray(x), d.pick("C", "F", "strided"))


def separated(d: Draw, shape: tuple[int, ...], axes: tuple[int, int]) -> np.ndarray:
    """Matrices along two axes with singular values well apart from each other and from 0."""
    n, m = shape[axes[0]], shape[axes[1]]
    lead = tuple(length for i, length in enumerate(shape) if i not in [a % len(shape) for a in axes])
    k = min(n, m)
    s = 1 + np.arange(k) + d.rng.uniform(-0.2, 0.2, (*lead, k))
    a = (orthogonal(d, lead, n)[..., :k] * s[..., None, :]) @ orthogonal(d, lead, m)[..., :k, :]
    return relayout(np.moveaxis(a, (-2, -1), axes), d.pick("C", "F", "strided"))


VECTOR_ORDERS = (None, 2, 1, np.inf, -np.inf, 3, np.float64(2.5), 0.5, -1, -2.0)
MATRIX_ORDERS = (None, "fro", "f", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
BY_SINGULAR_VALUES = ("nuc", 2, -2)


def matrix_norm_case(d: Draw, call: Callable[..., Any], shape: tuple[int, ...], order: Any, axes: Any) -> Case:
    if order in BY_SINGULAR_VALUES:
        return Case(call, [separated(d, shape, axes)], complex_safe=False, long_double=False)
    return Case(call, [graded(d, shape)], complex_safe=False)


@domain(np.linalg.norm)
def linalg_norm(d: Draw, function: Callable[..., Any]) -> Case:
    keepdims = d.pick(False, True)
    form = d.pick("all", "flat vector", "flat matrix", "vectors", "vectors", *["matrices"] * 4)
    if form == "all":
        call = (lambda x: function(x, keepdims=True)) if keepdims else function
        return Case(call, [d.spread(d.shape(min_side=1))], complex_safe=False)
    if form == "flat vector":
        order = d.pick(*VECTOR_ORDERS)
        return Case(lambda x: function(x, order, keepdims=keepdims), [graded(d, d.shape(1, 1, 1))], complex_safe=False)
    if form == "vectors":
        shape, order = d.shape(1, 3, 1), d.pick(*VECTOR_ORDERS)
        axis = d.axis(len(shape), none=False, several=False)
        axis = d.pick(axis, (axis,))
        if d.pick(True, False):
            shape, axis = (3, 4, 2), d.pick(1, 2, 2, -1, -2, -3)
        return Case(lambda x: function(x, order, axis, keepdims), [graded(d, shape)], complex_safe=False)
    order = d.pick(*MATRIX_ORDERS)
    if form == "flat matrix":
        return matrix_norm_case(d, lambda x: function(x, order, keepdims=keepdims), d.shape(2, 2, 1), order, (0, 1))
    shape = d.pick(d.shape(2, 4, 1), (2, 1, 3), (2, 4, 3), (2, 4, 3))
    axes = tuple(d.permuted(range(len(shape)))[:2])
    axes = (axes[0], axes[1] - d.pick(0, len(shape)))
    return matrix_norm_case(d, lambda x: function(x, ord=order, axis=axes, keepdims=keepdims), shape, order, axes)


@domain(np.linalg.matrix_norm)
def linalg_matrix_norm(d: Draw, function: Callable[..., Any]) -> Case:
    keepdims, order, shape = d.pick(False, True), d.pick(*MATRIX_ORDERS[1:]), d.shape(2, 4, 1)
    if d.pick(True, False, False, False):
        return Case(function, [graded(d, shape)], complex_safe=False)
    return matrix_norm_case(d, lambda x: function(x, ord=order, keepdims=keepdims), shape, order, (-2, -1))


@domain(np.linalg.vector_norm)
def linalg_vector_norm(d: Draw, function: Callable[..., Any]) -> Case:
    keepdims, order, shape = d.pick(False, True), d.pick(*VECTOR_ORDERS[1:]), d.shape(0, 3, 1)
    axis = d.axis(len(shape)) or None
    if d.pick(True, False, False, False):
        return Case(function, [graded(d, shape)], complex_safe=False)
    return Case(lambda x: function(x, axis=axis, ord=order, keepdims=keepdims), [graded(d, shape)], complex_safe=False)


@domain(np.linalg.cond)
def cond(d: Draw, function: Callable[..., Any]) -> Case:
    order = d.pick(*MATRIX_ORDERS[:2], *MATRIX_ORDERS[3:])
    if order in (None, 2, -2):
        a = separated(d, d.shape(2, 3, 1), (-2, -1))
    else:
        n = d.integer(1, 4)
        beside = d.rng.choice([-1.0, 1.0], (n, n)) * d.rng.uniform(0.05, 0.08, (*d.pick((), (2,)), n, n))
        a = np.diag(np.arange(1.0, n + 1)) + beside
    return Case(lambda x: function(x, order), [a], complex_safe=False, long_double=False)


@domain(np.linalg.svd)
def linalg_svd(d: Draw, function: Callable[..., Any]) -> Case:
    hermitian = d.pick(False, False, True)
    a = symmetric(d, -3.0, 4.0, upper=False) if hermitian else rectangular(d)
    options: dict[str, Any] = {"hermitian": True} if hermitian else {}
    if d.pick(True, False):
        return Case(lambda a: function(a, compute_uv=False, **options), [a], complex_safe=False, long_double=False)
    if not hermitian:
        options = {"full_matrices": False} if a.shape[-1] != a.shape[-2] or d.pick(True, False) else {}
    call = svd_call(d, lambda a: function(a, **options), a)
    return Case(call, [a], complex_safe=False, long_double=False)
