"""Where a function reads what it is not given: places of one value, and holders of several."""

from __future__ import annotations

import array
import contextlib
import contextvars
import copy
import functools
import types
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["ABSENT", "HOLDERS", "Holder", "Place", "spelled"]

ABSENT: Any = types.SimpleNamespace(name="absent")
"""Stands for the value of a place where there is none."""

HOLDERS = (dict, list, set, deque, bytearray, array.array)
"""What holds entries that may change."""


class Place:
    """A place of one value: the attribute `key` of `owner`, the entry of a dict or list, a context variable's value.

    Attributes
    ----------
    name : what the user calls it
    entry : whether `key` is that of an entry; lists and dicts of the user's own classes have attributes as well
    """

    __slots__ = ("entry", "key", "name", "owner")

    def __init__(self, owner: Any, key: Any, name: str, *, entry: bool = False) -> None:
        self.owner = owner
        self.key = key
        self.name = name
        self.entry = entry

    def get(self) -> Any:
        """Give what is there now, or `ABSENT`."""
        if self.entry:
            return self.owner.get(self.key, ABSENT)
        if isinstance(self.owner, contextvars.ContextVar):
            return self.owner.get(ABSENT)
        with contextlib.suppress(AttributeError, ValueError):  # a slot, or a closure's cell, that is empty
            return getattr(self.owner, self.key)
        return ABSENT

    def put(self, value: Any) -> None:
        """Put something there, or nothing; a context variable that was set stays set."""
        owner, key = self.owner, self.key
        if isinstance(owner, contextvars.ContextVar):
            owner.set(value)
        elif isinstance(owner, functools.partial):
            owner.__setstate__((owner.func, value, owner.keywords, vars(owner)))  # type: ignore[attr-defined]
        elif self.entry:
            owner.pop(key) if value is ABSENT else owner.__setitem__(key, value)
        else:
            delattr(owner, key) if value is ABSENT else setattr(owner, key, value)

    def text(self, bind: Callable[[Any], str]) -> str:
        """How source reads what is there; `bind` gives the name by which it knows an object."""
        if self.entry:
            return f"{bind(self.owner)}[{spelled(self.key, bind)}]"
        if isinstance(self.owner, contextvars.ContextVar):
            return f"{bind(self.owner)}.get({bind(ABSENT)})"
        return f"{bind(self.owner)}.{self.key}"


def spelled(key: Any, bind: Callable[[Any], str]) -> str:
    """A key of a dict or list as source: as it is written, or by name where it cannot be written."""
    return repr(key) if type(key) in {int, str, bool} else bind(key)


class Holder:
    """Live entries: of a dict, list or the like, or with `owner` the attributes of an object or class.

    Attributes
    ----------
    name : what the user calls it
    entries : the dict, list ...; of an object its ``__dict__``
    unread : keys of attributes that the function does not read
    """

    __slots__ = ("entries", "name", "owner", "unread")

    def __init__(self, name: str, entries: Any, owner: Any = None) -> None:
        self.name = name
        self.entries = entries
        self.owner = owner
        self.unread: set[Any] = set()

    @property
    def is_dict(self) -> bool:
        """Whether entries have keys, and not only numbers."""
        return isinstance(self.entries, (dict, types.MappingProxyType))

    @property
    def has_places(self) -> bool:
        """Whether an entry can be read and exchanged by its key."""
        return self.is_dict or isinstance(self.entries, (list, deque))

    def items(self, saved: Any = None) -> list[tuple[Any, Any]]:
        """Every entry with its key or number, as it is now or as it was `saved`."""
        entries = self.entries if saved is None else saved
        return list(entries.items() if self.is_dict else enumerate(entries))

    def copy(self) -> Any:
        """Return the entries as they are now, in a container of the same base."""
        if self.is_dict:
            return dict(self.entries)
        kind = next(kind for kind in HOLDERS if isinstance(self.entries, kind))
        return copy.copy(self.entries) if kind is array.array else kind(self.entries)

    def is_as(self, saved: Any) -> bool:
        """Whether it holds the very objects that it held, in their order."""
        if not self.has_places:
            return bool(self.entries == saved)
        now, then = self.items(), self.items(saved)
        return len(now) == len(then) and all(a[0] == b[0] and a[1] is b[1] for a, b in zip(now, then, strict=True))

    def put(self, key: Any, value: Any) -> None:
        """Exchange one entry."""
        if isinstance(self.owner, type):
            setattr(self.owner, key, value)
        else:
            self.entries[key] = value

    def place(self, key: Any) -> Place:
        """Give the place of one entry."""
        of_class = isinstance(self.owner, type)
        return Place(self.owner if of_class else self.entries, key, f"{self.name}.{key}", entry=not of_class)

    def refill(self, saved: Any) -> None:
        """Give it the entries that it had; those that are as they were stay untouched."""
        if self.has_places and [key for key, _ in self.items()] == [key for key, _ in self.items(saved)]:
            for key, part in self.items(saved):
                if self.entries[key] is not part:
                    self.put(key, part)
        elif isinstance(self.owner, type):
            for key in self.entries.keys() - saved.keys():
                delattr(self.owner, key)
            for key, part in saved.items():
                if self.entries.get(key, ABSENT) is not part:
                    setattr(self.owner, key, part)
        elif not self.is_as(saved):
            if isinstance(self.entries, array.array):
                del self.entries[:]
            else:
                self.entries.clear()
            add = self.entries.update if isinstance(self.entries, (dict, set)) else self.entries.extend
            add(saved)
