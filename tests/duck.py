"""An array that speaks NumPy's two protocols, refuses everything else, and writes down what it was asked."""

from __future__ import annotations

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

ATTRIBUTES = {"shape", "ndim", "size", "dtype", "T"}
METHODS = {"astype", "copy", "item", "max", "mean", "min", "reshape", "sum"}


def inside(item):
    """The arrays inside nested arguments."""
    if isinstance(item, (tuple, list)):
        return type(item)(inside(part) for part in item)
    if isinstance(item, dict):
        return {key: inside(value) for key, value in item.items()}
    if isinstance(item, np.ndarray):
        raise TypeError("a duck and an array of NumPy do not mix")
    return item.array if isinstance(item, Duck) else item


def outside(item):
    if isinstance(item, tuple):
        return type(item)(*map(outside, item)) if hasattr(item, "_fields") else tuple(map(outside, item))
    return Duck(item) if isinstance(item, (np.ndarray, np.generic)) else item


class Duck(NDArrayOperatorsMixin):
    asked: set[str] = set()  # noqa: RUF012 - of all of them

    def __init__(self, array):
        self.array = np.asarray(array)

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if any(hasattr(a, "__array_ufunc__") and not isinstance(a, (Duck, np.ndarray, np.generic)) for a in args):
            return NotImplemented
        out = kwargs.get("out")
        self.asked.add(
            f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "") + (", out=" if out else "")
        )
        result = getattr(ufunc, method)(*inside(args), **inside(kwargs))
        return out[0] if out else outside(result)

    def __array_function__(self, function, types, args, kwargs):
        if not all(issubclass(t, (Duck, np.ndarray)) for t in types):
            return NotImplemented
        self.asked.add(f"np.{function.__name__}")
        return outside(function(*inside(args), **inside(kwargs)))

    __iter__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a duck is not to be converted")

    def __getitem__(self, index):
        self.asked.add("a[index]")
        return outside(self.array[inside(index)])

    def __setitem__(self, index, value):
        self.asked.add("a[index] = b")
        self.array[inside(index)] = inside(value)

    def __getattr__(self, name):
        if name not in ATTRIBUTES | METHODS:
            raise AttributeError(f"a duck has no {name}")
        self.asked.add(f"a.{name}" + ("()" if name in METHODS else ""))
        value = getattr(self.array, name)
        return (
            (lambda *args, **kwargs: outside(value(*args, **kwargs)))
            if name in METHODS
            else Duck(value)
            if name == "T"
            else value
        )
