"""Arguments, results and gradients that are nested: lists, tuples, dicts and dataclasses of arrays."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn.errors import ArgumentError, DTypeError, RuleError
from tinygrad_nn.tensor import Tensor

__all__ = ["aligned", "as_outputs", "contents", "leaves", "rebuild"]
__tracebackhide__ = True  # pytest shows the lines of the caller

MOST_DEPTH = 40


def parts(value: Any) -> list[tuple[str, Any]] | None:
    """What a container holds, each with what stands behind the container's name in code; None for other values."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", None)
        return [(f".{names[k]}" if names else f"[{k}]", item) for k, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not callable(value):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None


def leaves(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Iterate over the arrays and other values inside of containers, with their names."""
    held = parts(value)
    if held is None:
        yield name, value
        return
    if depth > MOST_DEPTH:
        raise ArgumentError(f"{name[:40]}... is nested more than {MOST_DEPTH} deep: does it hold itself?")
    for suffix, item in held:
        yield from leaves(item, name + suffix, depth + 1)


def rebuild(value: Any, items: Iterator[Any]) -> Any:
    """Put the next items in the places of the leaves of `value`."""
    held = parts(value)
    if held is None:
        return next(items)
    new = [rebuild(item, items) for _, item in held]
    if isinstance(value, dict):
        made: Any = copy.copy(value)
        made.update(zip(value, new, strict=True))
        return made
    if isinstance(value, (list, tuple)):
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)
    made = copy.copy(value)
    for field, item in zip(dataclasses.fields(value), new, strict=True):
        object.__setattr__(made, field.name, item)  # frozen ones too
    return made


def contents(value: Any) -> str:
    """What something is, in a message: its type, its length or shape, and the types inside."""
    if isinstance(value, (tuple, list)):
        inside = ", ".join(type(item).__name__ for item in value[:4]) + (", ..." if len(value) > 4 else "")
        return f"a {type(value).__name__} of {len(value)} ({inside})"
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {shape}" if isinstance(shape, tuple) else "")


def as_outputs(y: Any) -> list[Any]:
    """The outputs of a function as a list of arrays."""
    found = []
    for name, value in leaves(y, "result"):
        array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "biufc":
            raise DTypeError(
                f"the function returns {contents(value)} ({name}): return arrays or numbers, or tuples, lists and "
                f"dicts of them"
            )
        found.append(array)
    return found


def aligned(value: Any, gradient: Any, name: str) -> list[Any]:
    """The gradients at the leaves of `value`, as arrays; None for one that is not given, also for whole containers.

    Raises `RuleError` where the gradient has another structure.
    """
    held = parts(value)
    if held is None:
        return [None if gradient is None else _array(gradient, name)]
    if gradient is None:
        return [None for _ in leaves(value, name)]
    in_order = isinstance(value, (list, tuple)) and isinstance(gradient, (list, tuple, np.ndarray))
    theirs = [(f"[{k}]", item) for k, item in enumerate(gradient)] if in_order else parts(gradient)
    if theirs is None:
        raise RuleError(
            f"the gradient of {name} must be a {type(value).__name__} as the input is, not {contents(gradient)}"
        )
    if in_order:
        if len(theirs) != len(held):
            raise RuleError(f"{name} holds {len(held)} arrays, the gradient {len(theirs)}; None for one without")
        return [g for (suffix, item), (_, part) in zip(held, theirs, strict=True)
                for g in aligned(item, part, name + suffix)]  # fmt: skip
    mine, given = dict(held), dict(theirs)
    odd = [suffix for suffix in given if suffix not in mine]
    left = [suffix for suffix, item in held if suffix not in given and _has_arrays(item)]
    if odd or left:
        wanted = f"{name} holds {', '.join(mine)}, the gradient {', '.join(given) or 'nothing'}"
        raise RuleError(f"the gradient of {name} has another structure than the input: {wanted}")
    return [g for suffix, item in held for g in aligned(item, given.get(suffix), name + suffix)]


def _has_arrays(value: Any) -> bool:
    """Whether there is anything inside that has a gradient."""
    return any(getattr(np.asarray(item), "dtype", np.dtype(object)).kind == "f"
               for _, item in leaves(value, "") if isinstance(item, (np.ndarray, np.generic)))  # fmt: skip


def _array(gradient: Any, name: str) -> Any:
    if isinstance(gradient, Tensor):
        return gradient.numpy()
    try:
        return np.asarray(gradient)
    except ValueError as error:
        raise RuleError(f"the gradient of {name} is no array: {error}") from None
