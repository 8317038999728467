"""Guards: the conditions under which a program still computes what the function would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_nn.compiler.holders import ABSENT, Holder, Place
from tinygrad_nn.compiler.world import World
from tinygrad_nn.tensor import Tensor

__all__ = ["Condition", "conditions", "is_same"]


class Condition(NamedTuple):
    """Python source that is true while something is as it was, and what the user calls that."""

    text: str
    name: str


def conditions(
    world: World, changing: set[tuple[int, Any]], bind: Callable[[Any], str]
) -> tuple[list[Condition], list[tuple[Holder, Any]]]:
    """List conditions that hold while everything the function reads is in its place.

    `changing` are the entries (id of the holder's entries, key) that the function itself exchanges;
    `bind` gives the name by which the source knows an object.  The second list are dicts and lists
    that have to equal what they were: ``==`` asks no further where an object is still the same one.
    """
    found = [Condition(_still(place, place.get(), bind), place.name) for place in world.places]
    found += [
        Condition(f"{bind(space.keys())}.isdisjoint({bind(names)})", "a variable that was not there")
        for space, names in world.absent
    ]
    for array, name in world.others():  # their values are part of the program
        bind(array.copy())  # keeps the objects in it, so that no others get their places in memory
        found.append(Condition(f"{bind(_content)}({bind(array)}) == {bind(_content(array))}", name))
    whole = []
    for holder in world.holders:
        left_out = {key for key, _ in holder.items() if (id(holder.entries), key) in changing} | holder.unread
        if not left_out:
            whole.append((holder, holder.copy()))
        if holder.is_dict and (left_out or (holder.owner is None and len(holder.entries) > 1)):
            # an entry that is new is a change as well, and so is another order
            found.append(Condition(f"[*{bind(holder.entries)}] == {bind(list(holder.entries))}", holder.name))
        elif left_out:
            found.append(Condition(f"len({bind(holder.entries)}) == {len(holder.entries)}", holder.name))
        for key, part in holder.items() if holder.has_places else ():
            if key not in left_out and (left_out or not _is_told_by_equality(part)):
                place = holder.place(key)
                found.append(Condition(_still(place, part, bind), place.name))
    return found, whole


def _still(place: Place, value: Any, bind: Callable[[Any], str]) -> str:
    """Source that is true while a place has the value that it had."""
    if value is ABSENT:
        return f"{bind(place.get)}() is {bind(ABSENT)}"
    text, name = place.text(bind), bind(value)
    if isinstance(value, (int, float, str, tuple, complex, np.generic)):
        return f"({text} is {name} or {bind(is_same)}({text}, {name}))"
    return f"{text} is {name}"


def _content(array: Any) -> tuple[Any, ...]:
    """What is in an array, masked entries and objects included, as something that == tells apart."""
    mask = np.ma.getmaskarray(array).tobytes() if isinstance(array, np.ma.MaskedArray) else b""
    return array.shape, array.dtype, np.asarray(array).tobytes(), mask


def is_same(now: Any, then: Any) -> bool:
    """Whether two numbers, strings or tuples of them are the same in type and value."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(now, tuple):
        return len(now) == len(then) and all(map(is_same, now, then))
    if isinstance(now, (int, float, str, complex, np.generic, slice, range)):
        equal = now == then or now != now  # noqa: PLR0124 - nan, which is the same as another nan
        return bool(equal) and repr(now) == repr(then)  # -0.0 is not 0.0
    return False


def _is_told_by_equality(part: Any) -> bool:
    """Whether == of two such parts is as strict as it must be: 1 == 1.0, and objects may define their own."""
    if isinstance(part, (Tensor, np.ndarray)):
        return part.size > 1  # == of single entries could be taken for the truth of one number
    own: Any = type(part).__eq__
    by_identity: Any = object.__eq__
    return own is by_identity or isinstance(part, (str, bytes, type(None), type))
