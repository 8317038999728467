"""What may be put into a Tensor: arrays of numbers, NumPy's or of a library that speaks NumPy's protocols."""

from __future__ import annotations

import importlib
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from tinygrad_nn.checks import dtype_of, fetched, sized
from tinygrad_nn.derivatives import Row, Traced
from tinygrad_nn.derivatives.table import alike, plain
from tinygrad_nn.errors import DetachError, DTypeError, GraphError, ShapeError

__all__ = [
    "as_array",
    "check_generator",
    "computed",
    "evaluated",
    "foreign",
    "moved",
    "own_array",
    "settle",
    "unwrap_index",
    "upstream_for",
    "wait",
]


def as_array(data: Any, dtype: Any) -> Any:
    """An array of numbers to put into a Tensor: NumPy's, or one that speaks NumPy's protocols."""
    if isinstance(data, Traced):
        raise DetachError("Tensor(t) of a Tensor would silently leave the graph: write t, or t.detach()")
    if type(data) is not np.ndarray or dtype is not None:
        if isinstance(data, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(
                f"a {type(data).__name__} has rules of its own that a Tensor would not keep: pass a plain array, "
                f"np.asarray(m) of a matrix, m.filled(value) of a masked array"
            )
        if isinstance(data, np.ndarray) or not hasattr(data, "__array_function__"):
            data = _convert(data, dtype)
        else:
            data = sized(data) if dtype is None else sized(data).astype(dtype)
    if data.dtype.kind not in "fiubc":
        raise DTypeError(f"a Tensor holds numbers, not {data.dtype}")
    return data


def _check_history(data: Any) -> None:
    """Refuse another library's Tensor whose gradient would be lost here."""
    if getattr(data, "requires_grad", False):
        raise DetachError(
            f"a {type(data).__name__} of {type(data).__module__} that requires a gradient would silently leave its "
            f"graph: pass data.detach()"
        )


def _convert(data: Any, dtype: Any) -> Any:
    _check_history(data)
    dtype = None if dtype is None else dtype_of("dtype", dtype)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DTypeError(f"a Tensor needs a regular array of numbers: {error}") from None
    if dtype is None or array.dtype == dtype or array.dtype.kind not in "fiubc":
        return array
    if array.dtype.kind == "c" and dtype.kind != "c":
        raise DTypeError(f"converting {array.dtype} to {dtype} would lose the imaginary part: take .real")
    return array.astype(dtype)


def foreign(row: Row, k: int, a: Any) -> Any:
    """An argument that is no Tensor and no number: arrays are checked, lists become arrays."""
    if type(a) is not np.ndarray:
        where = row.arrays
        if hasattr(a, "__array_function__") and not isinstance(a, np.ndarray):
            return sized(a)  # an array of another library
        if k < where.start or (where.stop is not None and k >= where.stop) or isinstance(a, np.generic):
            return a
        if isinstance(a, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(f"{row.name} with a Tensor and a {type(a).__name__}: pass a plain array instead")
        _check_history(a)
        try:
            a = np.asarray(a)
        except ValueError as error:
            raise DTypeError(f"{row.name} needs regular arrays of numbers: {error}") from None
    if a.dtype.kind not in "fiubc":
        raise DTypeError(f"{row.name} of a Tensor and an array of {a.dtype}: only numbers can be computed with")
    return a


def own_array(value: Any) -> Any:
    """An array of a NumPy number, which sums of arrays without axes are; arrays as they are."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def moved(array: Any, like: Any) -> Any:
    """Return an array in the library of `like`."""
    return array if type(array) is type(like) else alike(fetched(array), like)


def evaluated(root: Any, grads: dict[Any, Any]) -> Any:
    """Return `root`; if it is Dask's, compute it and the gradients of leaves that hold plain arrays, in one run.

    Those gradients are put into `grads`; the ones of leaves that hold Dask arrays stay as they are.  Tensors that
    wait for it are computed along.
    """
    if type(root) is np.ndarray or not _is_lazy(root):
        return root
    leaves = [leaf for leaf in grads if not leaf.lazy]
    waiting = list(_waiting.values())
    _waiting.clear()
    value, found, others = computed((root, [grads[leaf] for leaf in leaves], [t._array for t in waiting]))  # noqa: SLF001
    for leaf, grad in zip(leaves, found, strict=True):
        grads[leaf] = np.array(grad, leaf.dtype)
    for t, array in zip(waiting, others, strict=True):
        t._array = np.asarray(array)  # noqa: SLF001
    return np.asarray(value)


_waiting: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Constant Tensors over arrays of Dask, by identity, to be computed along with the next backward: running means."""


def wait(tensor: Any) -> Any:
    """Return `tensor`; if it is over an array of Dask, it is computed along with the next backward."""
    if _is_lazy(tensor._array):  # noqa: SLF001
        _waiting[id(tensor)] = tensor
    return tensor


def settle(*tensors: Any) -> None:
    """Compute constant Tensors over arrays of Dask, in one run: without it plans would grow from batch to batch."""
    lazy = [t for t in tensors if t is not None and _is_lazy(t._array)]  # noqa: SLF001
    for t, array in zip(lazy, computed([t._array for t in lazy]), strict=True):  # noqa: SLF001
        t._array = np.asarray(array)  # noqa: SLF001


def computed(item: Any) -> Any:
    """Compute the Dask arrays in nested tuples, lists and dicts, all in one run of Dask's scheduler."""
    if type(item) is np.ndarray or not _is_lazy(item):
        return item
    dask: Any = importlib.import_module("dask")  # only arrays of Dask lead here
    return dask.compute(item)[0]


def _is_lazy(item: Any) -> bool:
    if isinstance(item, (tuple, list)):
        return any(map(_is_lazy, item))
    if isinstance(item, dict):
        return any(map(_is_lazy, item.values()))
    return hasattr(item, "__dask_graph__")


def check_generator(rng: Any) -> np.random.Generator:
    """Return `rng` if it is a NumPy Generator; a seed in its place is a common slip."""
    if not isinstance(rng, np.random.Generator):
        raise DTypeError(f"rng={rng!r} is not a NumPy Generator: write rng=np.random.default_rng(seed)")
    return rng


def unwrap_index(index: Any) -> Any:
    """An index with the arrays of the integer or bool Tensors in it."""
    if isinstance(index, (tuple, list)):
        return type(index)(unwrap_index(i) for i in index)
    if not isinstance(index, Traced):
        return index
    array = plain(index)
    if array.dtype.kind not in "iub":
        raise DTypeError(f"an index is of integers or bools, not {array.dtype}")
    return array


def upstream_for(y: Any, gradient: Any) -> Any:
    """The upstream gradient for a walk from `y`: what was given, checked, or a one."""
    if gradient is None:
        array = plain(y)
        if array.size != 1:
            raise GraphError(
                f"backward() starts from one number, this Tensor has shape {y.shape}: take .sum() or .mean(), "
                f"or pass gradient=, an array of that shape"
            )
        if type(array) is not np.ndarray:
            return np.ones_like(array)
        one = np.array(1, array.dtype)
        return one if array.shape == () else one.reshape(array.shape)
    g = plain(gradient) if isinstance(gradient, Traced) else as_array(gradient, None)
    if g.shape != y.shape:
        raise ShapeError(f"gradient= has shape {g.shape}, the Tensor {y.shape}: they must be equal")
    if (g.dtype.kind == "c") != (y.dtype.kind == "c"):
        raise DTypeError(f"gradient= is {g.dtype}, the Tensor {y.dtype}: pass one of its kind")
    return g if g.dtype == y.dtype else g.astype(y.dtype)
