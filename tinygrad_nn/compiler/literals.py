"""Literals: Python and NumPy objects as source, for what source can spell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn.compiler.helpers import numpy_name

__all__ = ["around", "dtype_name", "literal", "nested"]


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
    inner = ", ".join(parts)
    if isinstance(item, slice):
        return f"slice({inner})"
    if isinstance(item, list):
        return f"[{inner}]"
    return f"({inner},)" if len(parts) == 1 else f"({inner})"


def dtype_name(dtype: np.dtype[Any]) -> str:
    """How a dtype of numbers is reached from ``np``."""
    return "np.bool_" if dtype.kind == "b" else f"np.{dtype.name}"


def nested(entries: Any) -> str:
    """Nested lists of numbers as source."""
    if isinstance(entries, list):
        return f"[{', '.join(map(nested, entries))}]"
    return _number(entries)


def _number(item: Any) -> str:
    if isinstance(item, float) and not math.isfinite(item):
        return f'float("{item}")'
    if isinstance(item, complex) and not (math.isfinite(item.real) and math.isfinite(item.imag)):
        return f"complex({_number(item.real)}, {_number(item.imag)})"
    return repr(item)
