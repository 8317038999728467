"""Checks of what callers pass: each gives the value back in its plain form, or raises with its name and what fits."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_nn.errors import ArgumentError, BoundsError, DTypeError, ShapeError, StateError, TinygradError

__all__ = [
    "axes_of",
    "choice",
    "dtype_of",
    "entries_of",
    "fetched",
    "flag",
    "function_of",
    "item_of",
    "kernel_error",
    "known",
    "listed",
    "mapping_of",
    "number",
    "numbers",
    "path_of",
    "sized",
    "text_of",
    "told",
    "whole",
]


def told(value: Any) -> str:
    """An argument in a message: numbers and short texts as they are, of other things the type and shape."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {shape}" if isinstance(shape, tuple) else "")


def flag(name: str, value: Any) -> bool:
    """Return a switch as True or False; 0 and 1 are taken too, as NumPy does."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise DTypeError(f"{name}={told(value)} must be True or False")


def whole(name: str, value: Any, least: int = 1, most: int = np.iinfo(np.intp).max) -> int:
    """Return a whole number from `least` to `most` as an int; a bool is no number."""
    try:
        found = least - 1 if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except (TypeError, TinygradError):  # the latter of a Tensor that is no index
        found = least - 1
    if not least <= found <= most:
        end = "" if most == np.iinfo(np.intp).max else f" and {most} or less"
        raise ArgumentError(f"{name}={told(value)} must be a whole number, {least} or more{end}")
    return found


def lengths(name: str, value: Any, count: int | None = None, least: int = 1) -> tuple[int, ...]:
    """Return a whole number, or a tuple or list of them, as a tuple; a number stands for `count` equal ones."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * (count or 1)
    if not values or (count is not None and len(values) != count):
        wanted = "one whole number or more" if count is None else f"a whole number, or {count} of them"
        raise ArgumentError(f"{name}={value!r} must be {wanted}")
    return tuple(whole(name, v, least) for v in values)


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite real number as a float: ``low <= value <= high``, and ``above < value < below`` where given."""
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    is_real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    try:
        found = float(value) if is_real else math.nan
    except OverflowError:
        found = math.inf
    fits = low <= found <= high and (above is None or found > above) and (below is None or found < below)
    if fits and math.isfinite(found):
        return found
    # said only where it is needed: functions check their options at every call
    limits = [f"{name} >= {low}"] if low > -math.inf else []
    limits += [f"{name} <= {high}"] if high < math.inf else []
    limits += [f"{name} > {above}"] if above is not None else []
    limits += [f"{name} < {below}"] if below is not None else []
    wanted = f"{name}={told(value)} must be a finite number" + (f" with {' and '.join(limits)}" if limits else "")
    raise ArgumentError(wanted) if is_real else DTypeError(wanted)


def numbers(name: str, value: Any) -> Any:
    """Return what can be computed with: an array, Tensor or number as it is, a list as an array."""
    if type(value) is not np.ndarray:
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise DTypeError(f"{name} takes numbers that NumPy holds, {told(value)} has too many digits")
        if isinstance(value, (int, float, complex)):
            return value
        if hasattr(value, "__array_function__") and not isinstance(value, np.ndarray):
            return sized(value)
        if isinstance(value, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(f"{name} takes arrays and Tensors; a {type(value).__name__} would lose its own rules")
        try:
            value = value if isinstance(value, np.generic) else np.asarray(value)
        except ValueError as error:
            raise DTypeError(f"{name} takes regular arrays of numbers: {error}") from None
    if value.dtype.kind not in "fiubc":
        raise DTypeError(f"{name} takes arrays of numbers, got {told(value)} of {value.dtype}")
    return value


def axes_of(name: str, value: Any, ndim: int) -> tuple[int, ...]:
    """Return an axis, or a tuple of different axes, as a tuple of numbers from 0 to ndim - 1."""
    axes = value if isinstance(value, (tuple, list)) else (value,)
    found = [whole(name, axis, least=-ndim, most=ndim - 1) % ndim for axis in axes] if ndim else []
    if len(found) < len(axes) or len(set(found)) < len(found):
        raise ArgumentError(f"{name}={told(value)} must be different axes of an array with {ndim}")
    return tuple(found)


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """Return one of some words."""
    if isinstance(value, str) and value in options:
        return value
    raise ArgumentError(f"{name}={told(value)} is none of {', '.join(map(repr, options))}")


def dtype_of(name: str, value: Any, kinds: str = "fiubc") -> np.dtype[Any]:
    """Return a dtype of numbers, of one of NumPy's `kinds`."""
    try:
        found: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):
        raise DTypeError(f"{name}={told(value)} must be a dtype, such as np.float64") from None
    if value is None or found.kind not in kinds:
        raise DTypeError(f"{name}={told(value)} must be a dtype of numbers, of kind {', '.join(kinds)}")
    return found


def function_of(name: str, value: Any) -> Callable[..., Any]:
    """Return a callable."""
    if not callable(value):
        raise ArgumentError(f"{name} needs a function, got {told(value)}")
    found: Callable[..., Any] = value
    return found


def entries_of(name: str, value: Any, keys: tuple[str, ...]) -> Mapping[Any, Any]:
    """Return a dict that has just these entries."""
    if set(mapping_of(name, value)) != set(keys):
        raise StateError(
            f"{name} must have the entries {', '.join(keys)}, it has {', '.join(map(repr, value)) or 'none'}"
        )
    found: Mapping[Any, Any] = value
    return found


def listed(name: str, value: Any, such_as: str = "[...]") -> list[Any]:
    """Return the items of what can be gone through; a text is not taken for a list of letters."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) or getattr(value, "shape", None) == ():
        raise DTypeError(f"{name}={told(value)} must be a list, such as {such_as}")
    return list(value)


def mapping_of(name: str, value: Any) -> Mapping[Any, Any]:
    """Return a dict, or what is read as one."""
    if not isinstance(value, Mapping):
        raise StateError(f"{name}={told(value)} must be a dict, as state_dict() gives it")
    return value


def path_of(name: str, value: Any) -> str:
    """Return a path as text."""
    if isinstance(value, (str, bytes, os.PathLike)):
        return os.fsdecode(value)
    raise DTypeError(f"{name}={told(value)} must be a path: a text or a pathlib.Path")


def text_of(name: str, value: Any) -> str:
    """Return a text."""
    if isinstance(value, str):
        return value
    raise DTypeError(f"{name}={told(value)} must be a text")


def sized(array: Any) -> Any:
    """Return `array` if its shape is known, which that of Dask's is not after picking by a mask, and no chunk is empty.

    Dask's largest entry of a chunk without entries is an error, at the end of a computation.
    """
    if hasattr(array, "__dask_graph__") and hasattr(array, "chunks"):
        if any(n != n for n in array.shape):  # noqa: PLR0124 - nan stands for unknown
            raise ShapeError(
                f"an array of Dask has the shape {array.shape}, of which nan is not known yet: write "
                f"array.compute_chunk_sizes(), and array.rechunk(...) if a chunk turns out empty"
            )
        if any(0 in lengths and any(lengths) for lengths in array.chunks):
            raise ShapeError(
                f"an array of Dask of shape {array.shape} has empty chunks, {array.chunks}: array.rechunk(...) "
                f"makes others"
            )
    return array


def known(what: str, array: Any) -> Any:
    """Return `array` if its values are there to be checked, which those of Dask are not before they are computed."""
    if hasattr(array, "__dask_graph__"):
        raise DTypeError(
            f"{what.removesuffix(' that')} within bounds, unknown of an array of Dask before it is computed: "
            f"pass array.compute(), or what needs no bounds (one-hot rows for classes, logits for probabilities)"
        )
    return array


class _InMemory:
    """Hands out a copy of a device's array: what ``np.from_dlpack(array, device="cpu")`` asks for from NumPy 2.1 on."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.__dlpack__(dl_device=self.__dlpack_device__())

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # DLPack's numbers for memory


def fetched(array: Any) -> Any:
    """Return another library's array as one of NumPy's: by its own conversion, or, from a device, by DLPack."""
    try:
        found = np.asarray(array)
    except TypeError as error:
        if not hasattr(array, "__dlpack__"):
            raise DTypeError(f"a {type(array).__name__} does not convert to an array of NumPy's ({error})") from None
        return np.from_dlpack(_InMemory(array))
    if found.dtype.kind == "O" and getattr(array, "dtype", found.dtype) != found.dtype:
        raise DTypeError(f"a {type(array).__name__} does not convert to an array of NumPy's: it has no __array__")
    return found


def item_of(array: Any) -> Any:
    """Return the one entry of an array of any library as a Python number: its own truth may say nothing."""
    return array.item() if hasattr(array, "item") else fetched(array).item()


def kernel_error(function: str, args: tuple[Any, ...], error: Exception) -> Exception:
    """Make of what NumPy raised in a function an error of ours that also says for which arguments it was."""
    if isinstance(error, (TinygradError, np.linalg.LinAlgError)):  # the latter is what NumPy users catch
        return error
    given = ", ".join(f"{a.shape} {a.dtype}" if isinstance(a, np.ndarray) else told(a) for a in args)
    text = f"{function} of {given}: {error}"
    if isinstance(error, IndexError):
        return BoundsError(text)
    if isinstance(error, (TypeError, AttributeError)):  # the latter of what is no array, such as None
        return DTypeError(text)
    about_shapes = any(word in str(error) for word in ("shape", "dimension", "broadcast", "size", "axis", "axes"))
    return ShapeError(text) if about_shapes else ArgumentError(text)
