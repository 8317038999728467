"""Literals: Python and NumPy objects as source, for what source can spell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn.compiler.helpers import numpy_name

__all__ = ["around", "dtype_name", "filled", "index_of", "literal", "nested"]


def literal(item: Any) -> str | None:
    """An object without parts as source, or None.

    Examples
    --------
    >>> literal(0.5), literal(float("inf")), literal(np.float32), literal(np.add), literal(object())
    ('0.5', 'float("inf")', 'np.float32', 'np.add', None)
    """
    text = None
    if item is Ellipsis:
        text = "..."
    elif item is None or type(item) in (bool, int, str, float, complex):
        text = _number(item)
    elif isinstance(item, np.dtype) or (isinstance(item, type) and issubclass(item, np.generic)):
        text = dtype_name(np.dtype(item))
    elif isinstance(item, np.generic):
        text = f"{dtype_name(item.dtype)}({_number(item.item())})" if item.dtype.kind in "fiub" else None
    elif callable(item):
        text = numpy_name(item)
    return text


def around(item: Any, parts: list[str]) -> str:
    """A tuple, list or slice as source, of the source of its parts."""
    if isinstance(item, slice):
        start, stop, step = parts
        shown = parts if step != "None" else parts[:2] if start != "None" else [stop]
        return f"slice({', '.join(shown)})"
    inner = ", ".join(parts)
    if isinstance(item, list):
        return f"[{inner}]"
    return f"({inner},)" if len(parts) == 1 else f"({inner})"


def index_of(item: Any, text: str, parts: list[str]) -> str:
    """An index as it stands between brackets, of its source and that of its parts.

    Examples
    --------
    >>> index_of(slice(None, 3), "", ["None", "3", "None"]), index_of(2, "2", [])
    (':3', '2')
    """
    if isinstance(item, slice):
        start, stop, step = ("" if part == "None" else part for part in parts)
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return text


def dtype_name(dtype: np.dtype[Any]) -> str:
    """How a dtype of numbers is reached from ``np``."""
    if not dtype.isnative:
        return f'np.dtype("{dtype.str}")'
    return "np.bool_" if dtype.kind == "b" else f"np.{dtype.name}"


def nested(entries: Any) -> str:
    """Nested lists of numbers as source."""
    if isinstance(entries, list):
        return f"[{', '.join(map(nested, entries))}]"
    return _number(entries)


def filled(array: np.ndarray[Any, Any]) -> str | None:
    """An array of one number, or of numbers that count on, as a call of NumPy; None for others.

    Examples
    --------
    >>> filled(np.full((2, 3), 0.5)), filled(np.arange(1, 9, 2).reshape(4, 1)), filled(np.array([1, 2, 4]))
    ('np.full((2, 3), 0.5, np.float64)', 'np.arange(1, 9, 2, np.int64).reshape((4, 1))', None)
    """
    flat = array.ravel()
    dtype = dtype_name(array.dtype)
    if array.size and (flat.view(np.uint8).reshape(array.size, -1) == flat[:1].view(np.uint8)).all():
        if array.dtype.kind in "fc" and flat[0] == 1:
            return f"np.ones({array.shape}, {dtype})"
        return f"np.full({array.shape}, {_number(flat[0].item())}, {dtype})"
    if array.size > 1 and array.dtype.kind == "i":
        start, step = int(flat[0]), int(flat[1]) - int(flat[0])
        if step and (np.diff(flat) == step).all():
            text = f"np.arange({start}, {start + step * array.size}, {step}, {dtype})"
            text = text.replace(", 1, np", ", dtype=np") if step == 1 else text
            return text if array.ndim == 1 else f"{text}.reshape({array.shape})"
    return None


def _number(item: Any) -> str:
    if isinstance(item, float) and not math.isfinite(item):
        return f'float("{item}")'
    if isinstance(item, complex) and not (math.isfinite(item.real) and math.isfinite(item.imag)):
        return f"complex({_number(item.real)}, {_number(item.imag)})"
    return f'"{item}"' if isinstance(item, str) and item.isascii() and not {*item} & {*"\"'\\"} else repr(item)
