"""Snapshots: a function is run on copies of everything it reads, and everything is put back afterwards."""
# ruff: noqa: SLF001 - a Tensor's slots are exchanged and put back here without leaving a stamp

from __future__ import annotations

import functools
import gc
import operator
import random
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tinygrad_nn.compiler.holders import ABSENT, Holder, Place
from tinygrad_nn.compiler.world import World, is_iterator
from tinygrad_nn.engine import Leaf
from tinygrad_nn.errors import GraphError
from tinygrad_nn.tensor import Tensor

__all__ = ["Snapshot"]


class Snapshot:
    """The state of a `World`; while it is entered, copies stand in the place of all arrays.

    `change` makes the copies.  With `advance`, generators are moved on first, so that what is
    drawn from them directly is not the same as in another run.  With `record`, a Tensor stands in
    the place of a plain array, so that what is computed from it is recorded.

    Attributes
    ----------
    copies : from the id of each copy to the original Tensor or array, the copy, and the name
    stand_ins : what stands in the place of arrays, by ids
    """

    def __init__(self, world: World, change: Callable[[Any], Any], *, advance: bool, record: bool = False) -> None:
        self.copies: dict[int, tuple[Any, Any, str]] = {}
        self.stand_ins: dict[int, Any] = {}
        self._world = world
        self._change = change
        self._advance = advance
        self._record = record
        self._undo: list[Callable[[], Any]] = []
        self._swapped: dict[int, Any] = {}
        self._tensors: list[tuple[Tensor, str, Any, Any, Any]] = []
        self._places: list[tuple[Place, Any]] = []
        self._entries: list[tuple[Holder, Any]] = []
        self._positions: list[tuple[Any, str, list[Any]]] = []

    def __enter__(self) -> Self:
        try:
            for source in (*self._world.generators, np.random, random):
                self._undo.append(_kept_state(source))
                if self._advance:
                    source.random()
            self._positions = [(item, name, _position(item)) for item, name in self._world.iterators]
            self._exchange()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    def _exchange(self) -> None:
        """Put a copy in the place of every array."""
        for array, name in self._world.numeric():
            copy = self._change(np.asarray(array))
            self.copies[id(copy)] = (array, copy, name)
            self._swapped[id(array)] = instead = Tensor(copy) if self._record else copy
            self.stand_ins[id(instead)] = instead
        for holder in self._world.holders:
            self._undo.append(functools.partial(holder.refill, holder.copy()))
            if holder.has_places:
                for key, part in holder.items():
                    if (now := self._swap(part)) is not part:
                        holder.put(key, now)
            self._entries.append((holder, holder.copy()))
        for place in self._world.places:
            value = place.get()
            self._undo.append(functools.partial(_reset, place, value))
            if (now := self._swap(value)) is not value:
                place.put(now)
            self._places.append((place, now))
        for tensor, name in self._world.tensors.values():
            self._exchange_tensor(tensor, name)

    def _swap(self, part: Any) -> Any:
        """What stands in the place of an array, or of a tuple with arrays in it."""
        if isinstance(part, tuple) and id(part) not in self._swapped:
            parts = [self._swap(inner) for inner in part]
            if any(a is not b for a, b in zip(parts, part, strict=True)):
                self._swapped[id(part)] = type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)
        return self._swapped.get(id(part), part)

    def _exchange_tensor(self, tensor: Tensor, name: str) -> None:
        data, node = tensor._array, tensor._node
        grad, stamp, written = (node.grad, node.stamp, node.written) if type(node) is Leaf else (None, 0, None)

        def restore() -> None:
            tensor._array, tensor._node = data, node
            if type(node) is Leaf:
                node.grad, node.stamp, node.written = grad, stamp, written

        self._undo.append(restore)
        tensor._array = copy = self._change(data)
        self.copies[id(copy)] = (tensor, copy, name)
        self._tensors.append((tensor, name, data, node, grad))

    def exchanged(self) -> list[tuple[str, Holder, Any]]:
        """The entries (name, holder, key) that the run bound to other objects: buffers that a forward updates.

        Raises
        ------
        GraphError
            If the run did something that a program could not repeat.
        """
        for tensor, name, _, node, grad in self._tensors:
            if self.copies.get(id(tensor._array), (None,))[0] is not tensor or tensor._node is not node:
                raise _not_repeated(f"assigns to {name}.data or {name}.requires_grad")
            if type(node) is Leaf and node.grad is not grad:
                raise GraphError(
                    f"the function to compile (or another thread) changes {name}.grad: leave backward() and zero_grad "
                    f"out of it; the program runs the backward pass, and zero_grad() comes before the step"
                )
        for place, before in self._places:
            if place.get() is not before:
                raise _not_repeated(f"assigns to {place.name}")
        for iterator, name, before in self._positions:
            if _position(iterator) != before:
                raise _not_repeated(f"takes the next of the iterator {name}")
        changes = []
        for holder, before in self._entries:
            if holder.is_dict and holder.entries.keys() == before.keys() and not isinstance(holder.owner, type):
                now = holder.entries
                changes += [
                    (f"{holder.name}.{key}", holder, key) for key, part in before.items() if now[key] is not part
                ]
            elif not holder.is_as(before):
                raise _not_repeated(f"changes what {holder.name} holds{_made(holder, before)}")
        return changes

    def check_unwritten(self) -> None:
        """Raise if the run wrote into an array; `change` must have made equal copies."""
        data = {id(tensor): data for tensor, _, data, _, _ in self._tensors}
        for original, copy, name in self.copies.values():
            if data.get(id(original), original).tobytes() != copy.tobytes():
                raise _not_repeated(f"writes into the array of {name}")


def _position(iterator: Any) -> list[Any]:
    """Where an iterator is, as far as it can be told: what is left of it, and what a generator has in its frame."""
    found: list[Any] = [operator.length_hint(iterator), repr(iterator)]
    frame = getattr(iterator, "gi_frame", None)
    if frame is not None:
        found += [frame.f_lasti, *((id(part), part) for part in frame.f_locals.values())]
    for part in gc.get_referents(iterator):
        for inner in part if type(part) is tuple else (part,):
            found += _position(inner) if is_iterator(inner) else []
    return found


def _not_repeated(what: str) -> GraphError:
    return GraphError(
        f"the function to compile {what}, which the program would not repeat: do it outside, or keep the value in a "
        f"Tensor attribute of a Module that the forward binds to a new Tensor"
    )


def _made(holder: Holder, before: Any) -> str:
    """Say which entries are new: a cache may fill at the first call only."""
    made = sorted(str(key) for key in holder.entries.keys() - before.keys()) if holder.is_dict else []
    return f" ({', '.join(made)} is new there; if made once only, call the function itself before)" if made else ""


def _reset(place: Place, value: Any) -> None:
    if (now := place.get()) is not value and not (value is ABSENT and now is ABSENT):
        place.put(value)


def _kept_state(source: Any) -> Callable[[], Any]:
    """What puts a generator back to where it is now."""
    if isinstance(source, np.random.Generator):
        bits = source.bit_generator
        return functools.partial(setattr, bits, "state", bits.state)
    if hasattr(source, "get_state"):
        return functools.partial(source.set_state, source.get_state())
    return functools.partial(source.setstate, source.getstate())
