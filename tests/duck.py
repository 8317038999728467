"""Arrays that speak NumPy's two protocols: a Duck refuses everything else, a Guest is as far as most libraries go."""

from __future__ import annotations

import functools

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


# As CuPy's arrays

NOT_IN_CUPY = {
    "matvec", "unstack", "vecdot", "vecmat", "linalg.diagonal", "linalg.matrix_norm", "linalg.multi_dot",
    "linalg.outer", "linalg.svdvals", "linalg.tensordot", "linalg.trace", "linalg.vecdot", "linalg.vector_norm",
}  # fmt: skip
"""Functions of the table that CuPy 14 does not have: its comparison table (docs.cupy.dev, "Comparison Table")."""

_CHOICES = {"initial", "where"}
_SPREAD = {"where", "mean", "correction"}
_ORDER = {"order", "stable", "descending"}
KEYWORDS_NOT_IN_CUPY = {
    **dict.fromkeys(("all", "any", "max", "amax", "min", "amin", "sum", "mean", "prod"), _CHOICES),
    **dict.fromkeys(("nanmax", "nanmin", "nansum", "nanmean", "nanprod"), _CHOICES),
    **dict.fromkeys(("std", "var", "nanstd", "nanvar"), _SPREAD),
    **dict.fromkeys(("argsort", "sort", "partition", "argpartition"), _ORDER),
    "clip": {"min", "max"}, "take": {"mode"}, "count_nonzero": {"keepdims"}, "linalg.svd": {"hermitian"},
    "linalg.pinv": {"hermitian", "rtol"}, "linalg.cholesky": {"upper"},
}  # fmt: skip
"""Keywords of NumPy's that CuPy 14's functions, and methods, do not take: their signatures."""

_METHODS = {
    *METHODS, "all", "any", "argmax", "argmin", "argpartition", "argsort", "conj", "cumprod", "cumsum", "diagonal",
    "dot", "flatten", "nonzero", "partition", "prod", "ravel", "repeat", "round", "searchsorted", "squeeze", "std",
    "swapaxes", "take", "tolist", "trace", "transpose", "var",
}  # fmt: skip
_ATTRIBUTES = {*ATTRIBUTES, "base", "imag", "mT", "real"}


class Device(Duck):
    """A duck that behaves as CuPy's documentation says of its arrays: what works here should work on a GPU.

    No conversion to NumPy and no arithmetic with NumPy's arrays, but indexing by them; arrays without axes for
    numbers; ``out=`` of its own kind only; nothing that CuPy lacks.  What it cannot show: rounding, and streams.
    """

    asked: set[str] = set()  # noqa: RUF012 - not on the page for ducks
    __cuda_array_interface__ = "there is none"

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if ufunc.__name__ in NOT_IN_CUPY or method not in ("__call__", "at", "reduce"):
            return NotImplemented
        if not set(kwargs) <= {"out", "dtype", "casting", "axis", "keepdims", "axes"}:
            raise TypeError(f"Wrong arguments {kwargs}")
        if method == "at":
            getattr(ufunc, method)(self.array, _index(args[1]), *inside(args[2:]))
            return None
        out = kwargs.get("out")
        known = (Device, int, float, complex, np.generic, np.ndarray)
        if any(not isinstance(a, known) for a in args):
            return NotImplemented  # of a Tensor, for one
        result = getattr(ufunc, method)(*inside(args), **inside(kwargs))
        return out[0] if out else _out(result)

    def __array_function__(self, function, types, args, kwargs):
        name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.").removeprefix("lib.")
        if name in NOT_IN_CUPY or not all(issubclass(t, (Device, np.ndarray)) for t in types):
            return NotImplemented
        _check_keywords(name, kwargs)
        if name in ("array", "asarray"):  # like=
            return Device(np.array(*args, **kwargs))
        if name in ("concatenate", "stack") and not all(isinstance(a, Device) for a in args[0]):
            raise TypeError("Argument 'a' has incorrect type")
        if name == "where" and isinstance(args[0], bool):
            raise AttributeError("'bool' object has no attribute 'astype'")
        return _out(function(*inside(args), **inside(kwargs)))

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if dl_device != (1, 0):
            raise BufferError("the data lies on a device")
        return self.array.copy().__dlpack__()

    def __dlpack_device__(self):
        return (2, 0)

    def get(self):
        return self.array.copy()

    def __len__(self):
        return len(self.array)

    def __iter__(self):
        return map(_out, self.array)

    def __bool__(self):
        return bool(self.array)

    def __float__(self):
        return float(self.array)

    def __int__(self):
        return int(self.array)

    def __complex__(self):
        return complex(self.array)

    def __format__(self, spec):
        return format(self.array, spec)

    def __repr__(self):
        return repr(self.array)

    def __deepcopy__(self, memo):
        return Device(self.array.copy())

    def __getitem__(self, index):
        return _out(self.array[_index(index)])

    def __setitem__(self, index, value):
        self.array[_index(index)] = inside(value)

    def __getattr__(self, name):
        if name not in _ATTRIBUTES | _METHODS:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self.array, name)
        if name in _ATTRIBUTES:
            return _out(value)

        def method(*args, **kwargs):
            _check_keywords(name, kwargs)
            return _out(value(*inside(args), **inside(kwargs)))

        return method


def _check_keywords(name, kwargs):
    if lacking := KEYWORDS_NOT_IN_CUPY.get(name, set()) & set(kwargs):
        raise TypeError(f"{name}() got an unexpected keyword argument {min(lacking)!r}")


def _index(index):
    """An index, in which NumPy's arrays may stand."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return index.array if isinstance(index, Device) else index


def _out(item):
    if isinstance(item, (tuple, list)) and not isinstance(item, str):
        parts = list(map(_out, item))
        return type(item)(*parts) if hasattr(item, "_fields") else type(item)(parts)
    return Device(item) if isinstance(item, (np.ndarray, np.generic)) else item


# As Dask's arrays


class Guest(NDArrayOperatorsMixin):
    """An array of another library that has every method and meets NumPy's arrays, with the limits of Dask's."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if any(hasattr(a, "__array_ufunc__") and not isinstance(a, (Guest, np.ndarray, np.generic)) for a in args):
            return NotImplemented
        told_nothing_needless(ufunc, args, kwargs)
        return welcomed(getattr(ufunc, method)(*at_home(args), **at_home(kwargs)))

    def __array_function__(self, function, types, args, kwargs):
        if not all(issubclass(t, (Guest, np.ndarray)) for t in types):
            return NotImplemented
        told_nothing_needless(function, args, kwargs)
        return welcomed(function(*at_home(args), **at_home(kwargs)))

    __iter__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a guest is not to be converted")

    def __bool__(self):
        raise TypeError("a guest may not be computed yet")

    def __format__(self, form):
        return format(self.array, form)

    def __getitem__(self, index):
        return welcomed(self.array[at_home(index)])

    def __setitem__(self, index, value):
        if any(part is None for part in (index if isinstance(index, tuple) else (index,))):
            raise NotImplementedError("a guest assigns to no new axes")
        self.array[at_home(index)] = at_home(value)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.array, name)
        return functools.partial(called, value) if callable(value) else welcomed(value)


def called(method, *args, **kwargs):
    told_nothing_needless(method, (None, *args), kwargs)
    return welcomed(method(*at_home(args), **at_home(kwargs)))


def told_nothing_needless(function, args, kwargs):
    """Refuse an option that says what holds in any case: many libraries do not know it."""
    options = [*args[1:], *kwargs.values()]
    if "C" in [o for o in options if isinstance(o, str)] or kwargs.get("where") is True:
        raise TypeError(f"{function.__name__} is told what holds in any case")


def at_home(item):
    """The arrays inside nested arguments."""
    if isinstance(item, (tuple, list)):
        return type(item)(at_home(part) for part in item)
    if isinstance(item, dict):
        return {key: at_home(value) for key, value in item.items()}
    return item.array if isinstance(item, Guest) else item


def welcomed(item):
    if isinstance(item, (tuple, list)):
        parts = map(welcomed, item)
        return type(item)(*parts) if hasattr(item, "_fields") else type(item)(parts)
    return Guest(item) if isinstance(item, (np.ndarray, np.generic)) else item


class Later(Guest):
    """Computed where it is converted, as Dask's arrays are."""

    __dask_graph__ = None

    def __array__(self, dtype=None, copy=None):
        return self.array
