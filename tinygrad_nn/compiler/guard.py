"""Guards: the conditions under which a program still computes what the function would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.compiler.world import World
from tinygrad_nn.tensor import Tensor

__all__ = ["conditions", "is_same"]


def conditions(world: World, changing: set[tuple[int, Any]], bind: Callable[[Any], str]) -> list[str]:
    """List conditions, as Python source, that hold while everything the function reads is in its place.

    `changing` are the entries (id of the holder, key) that the function itself exchanges; `bind`
    gives the name by which the source knows an object.  Whole dicts and lists are compared by one
    ``==``, which asks no further where an object is still the same one.
    """
    found = [_still(f"{bind(cell)}.cell_contents", cell.cell_contents, bind) for cell in world.cells]
    found += [_still(f"{bind(space)}[{name!r}]", space[name], bind) for space, name in world.names]
    found += [_still(f"{bind(kind)}.__dict__[{name!r}]", part, bind) for kind, name, part in world.classes]
    whole = []
    for _, holder in world.holders:
        changes = any(holder_id == id(holder) for holder_id, _ in changing)
        if not changes:
            whole.append(holder)
        if isinstance(holder, (dict, list)):
            entries: Any = holder.items() if isinstance(holder, dict) else enumerate(holder)
            if changes:  # an entry that is new, such as the first `training` of a module, is a change as well
                keys = list(holder) if isinstance(holder, dict) else len(holder)
                now = f"list({bind(holder)})" if isinstance(holder, dict) else f"len({bind(holder)})"
                found.append(f"{now} == {bind(keys)}")
            for key, part in entries:
                if (id(holder), key) not in changing and (changes or not _is_told_by_equality(part)):
                    found.append(_still(f"{bind(holder)}[{key!r}]", part, bind))
    if whole:
        found.append(f"{bind(whole)} == {bind([h.copy() for h in whole])}")
    return found


def _still(place: str, value: Any, bind: Callable[[Any], str]) -> str:
    name = bind(value)
    if isinstance(value, (int, float, str, tuple, complex, np.generic)):
        return f"({place} is {name} or {bind(is_same)}({place}, {name}))"
    return f"{place} is {name}"


def is_same(now: Any, then: Any) -> bool:
    """Whether two numbers, strings or tuples of them are the same in type and value."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(now, tuple):
        return len(now) == len(then) and all(map(is_same, now, then))
    if isinstance(now, (int, float, str, complex, np.generic, slice, range)):
        return bool(now == then) and repr(now) == repr(then)  # -0.0 is not 0.0
    return False


def _is_told_by_equality(part: Any) -> bool:
    """Whether == of two such parts is as strict as it must be: 1 == 1.0, and objects may define their own."""
    if isinstance(part, (Tensor, np.ndarray)):
        return part.size > 1  # == of single entries could be taken for the truth of one number
    own: Any = type(part).__eq__
    by_identity: Any = object.__eq__
    return own is by_identity or isinstance(part, (str, bytes, type(None), type))
