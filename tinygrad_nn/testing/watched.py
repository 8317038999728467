"""Plain arrays that see every operation on them: one rounds each result at random, one notes comparisons of equals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.testing.problem import Arrays

__all__ = ["Watched", "meets_kinks", "rounded", "spread"]

TRIALS = 5

Watch = Callable[[Any, str, list[Any], dict[str, Any]], Callable[[Any], Any]]

SAME = {
    np.negative, np.positive, np.absolute, np.fabs, np.conjugate, np.sign, np.copysign, np.heaviside,
    np.maximum, np.minimum, np.fmax, np.fmin, np.floor, np.ceil, np.rint, np.trunc, np.ldexp, np.frexp,
}  # fmt: skip
SUMS = {np.matmul, np.vecdot}
CORNERS = {np.absolute, np.fabs, np.sign, np.heaviside}
LARGER = {np.maximum, np.minimum, np.fmax, np.fmin}
ORDERS = {np.greater, np.greater_equal, np.less, np.less_equal, *LARGER}
COMPILED = {np.dot, np.inner, np.vdot, np.einsum, np.convolve, np.correlate, np.interp}


class Watched(np.ndarray):
    """An array whose `watch` sees every operation on it, and on whatever is worked out from it.

    `watch` is asked before each operation, with the function, the method ("__call__", "reduce", ...), the arguments,
    which it may replace in the list, and the keywords, and returns what is done to each result.
    """

    watch: Watch

    def __array_finalize__(self, parent: Any) -> None:
        """Slices, reshapes and copies are watched, too."""
        if isinstance(parent, Watched) and hasattr(parent, "watch"):
            self.watch = parent.watch

    def __getitem__(self, index: Any) -> Any:
        """A single number stays watched, as an array without axes."""
        found = super().__getitem__(index)
        return watched(found, self.watch) if isinstance(found, np.generic) and _inexact(found) else found

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run the function on the bare arrays."""
        inputs = [bare(a) for a in args]
        out = kwargs.get("out", ())
        options = {name: bare(a) for name, a in kwargs.items()}
        seen = self.watch(ufunc, method, inputs, options)
        found = getattr(ufunc, method)(*inputs, **options)
        if method == "at":
            return None
        results = found if isinstance(found, tuple) else (found,)
        wrapped = []
        for k, y in enumerate(results):
            if out and out[k] is not None:
                bare(out[k])[...] = seen(bare(out[k]))
                wrapped.append(out[k])
            else:
                wrapped.append(watched(seen(y), self.watch))
        return tuple(wrapped) if isinstance(found, tuple) else wrapped[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Run any other function; those that are compiled and no ufuncs are seen by their arguments."""
        if function in COMPILED or function.__module__ == "numpy.linalg":
            inputs = list(args)
            self.watch(function, "", inputs, kwargs)
            args = tuple(watched(a, self.watch) if a is not b else b for a, b in zip(inputs, args, strict=True))
        return self._again(super().__array_function__(function, types, args, kwargs))

    def _again(self, found: Any) -> Any:
        """What a function made of bare arrays, watched again."""
        if isinstance(found, tuple):
            parts = map(self._again, found)
            return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)
        return watched(found, self.watch) if type(found) is np.ndarray and _inexact(found) else found

    def dot(self, other: Any, out: Any = None) -> Any:
        """As the function of this name, which is seen."""
        return np.dot(self, other, out=out)


def bare(a: Any) -> Any:
    """The plain array, also in the tuple of the keyword `out`."""
    if isinstance(a, tuple):
        return tuple(map(bare, a))
    return a.view(np.ndarray) if isinstance(a, Watched) else a


def watched(a: Any, watch: Watch) -> Any:
    """The same numbers, watched; what is no number of NumPy's stays as it is."""
    if not isinstance(a, (np.ndarray, np.generic)):
        return a
    found = np.asarray(a).view(Watched)
    found.watch = watch
    return found


def rounded(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """The same arrays, where each operation's result is off by up to an ulp at random, as if rounded otherwise.

    Monte Carlo arithmetic (Parker, 1997): what the results differ by is what rounding inside of a function may do to
    them.  Whole numbers made of whole numbers are exact; a sum's arguments are moved in the place of its result.
    The ulp is that of the arrays: what a function rounds to a narrower dtype is its own mistake.
    """
    eps = min(np.finfo(a.dtype).eps for a in arrays if _inexact(a))

    def moved(y: Any, keep: bool) -> Any:
        if not isinstance(y, (np.ndarray, np.generic)) or y.dtype.kind not in "fc":
            return y
        if y.dtype.kind == "c":
            return moved(y.real, keep) + 1j * moved(y.imag, keep)
        noise = np.asarray(rng.uniform(-1, 1, y.shape), dtype=y.dtype) * y.real.dtype.type(eps)
        with np.errstate(all="ignore"):
            return np.where(keep & (y == np.rint(y)), y, y * (1 + noise))

    def watch(function: Any, method: str, inputs: list[Any], _: dict[str, Any]) -> Callable[[Any], Any]:
        if function in SAME or function.__name__ == "clip":
            return unchanged
        whole = all(map(_whole, inputs))
        if method not in {"__call__", "outer"} or function in SUMS:
            inputs[:] = [moved(bare(a), keep=whole) if _inexact(a) else a for a in inputs]
        return lambda y: moved(y, keep=whole)

    return [watched(a, watch) if _inexact(a) else a for a in arrays]


def meets_kinks(forward: Callable[[Arrays], Arrays], arrays: Arrays) -> bool:
    """Whether a function of plain arrays compares equal numbers on its way, or takes the size or sign of 0."""
    found = False

    def watch(function: Any, method: str, inputs: list[Any], options: dict[str, Any]) -> Callable[[Any], Any]:
        nonlocal found
        if method == "reduce" and function in LARGER:
            axis = options.get("axis", 0)
            best = function.reduce(inputs[0], axis=axis, keepdims=True)
            found = found or bool(np.any(np.sum(inputs[0] == best, axis=axis) > 1))
        elif method == "__call__" and function in ORDERS:
            found = found or bool(np.any(inputs[0] == inputs[1]))
        elif method == "__call__" and function in CORNERS:
            found = found or not np.all(inputs[0])
        elif function.__name__ == "clip":  # a ufunc without a public name
            found = found or any(np.any(inputs[0] == bound) for bound in inputs[1:] if bound is not None)
        return unchanged

    forward([watched(a, watch) if _inexact(a) else a for a in arrays])
    return found


def unchanged(y: Any) -> Any:
    """The result as it is."""
    return y


def spread(draw: Callable[[], float], far: float) -> float:
    """The range of a few finite numbers, 0 where drawing one fails; two are enough where it is far below `far`."""
    found: list[float] = []
    for _ in range(2 * TRIALS):
        try:
            value = draw()
        except Exception:  # noqa: BLE001 - code that takes plain arrays only
            return 0.0
        found += [value] if np.isfinite(value) else []
        if len(found) == TRIALS or (len(found) == 2 and far > 1000 * abs(found[0] - found[1])):
            break
    return max(found) - min(found) if found else 0.0


def _inexact(a: Any) -> bool:
    return isinstance(a, (np.ndarray, np.generic)) and a.dtype.kind in "fc"


def _whole(a: Any) -> bool:
    """Whether all numbers are whole."""
    return not _inexact(a) or bool(np.all(a == np.rint(a)))
