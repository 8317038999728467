"""Snapshots: a function is run on copies of everything it reads, and everything is put back afterwards."""
# ruff: noqa: SLF001 - a Tensor's slots are exchanged and put back here without leaving a stamp

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tinygrad_nn.compiler.world import World
from tinygrad_nn.engine import Leaf
from tinygrad_nn.errors import GraphError
from tinygrad_nn.tensor import Tensor

__all__ = ["Snapshot"]


class Snapshot:
    """The state of a `World`; while it is entered, copies stand in the place of all arrays.

    `change` makes the copies.  With `advance`, generators are moved on first, so that what is
    drawn from them directly is not the same as in another run.

    Attributes
    ----------
    copies : from the id of each copy to the original Tensor or array, the copy, and the name
    """

    def __init__(self, world: World, change: Callable[[Any], Any], *, advance: bool) -> None:
        self.copies: dict[int, tuple[Any, Any, str]] = {}
        self._world = world
        self._change = change
        self._advance = advance
        self._undo: list[Callable[[], Any]] = []
        self._tensors: list[tuple[Tensor, str, Any, Any, Any]] = []
        self._places: list[tuple[str, Callable[[], Any], Any]] = []
        self._entries: list[tuple[str, Any, Any]] = []

    def __enter__(self) -> Self:
        try:
            for source in (*self._world.generators, np.random, random):
                self._undo.append(_kept_state(source))
                if self._advance:
                    source.random()
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
        copies: dict[int, Any] = {}
        for array, name in self._world.arrays.values():
            copies[id(array)] = copy = self._change(array)
            self.copies[id(copy)] = (array, copy, name)
            self.copies[id(array)] = (array, array, name)  # inside a tuple nothing can be exchanged
        for name, holder in self._world.holders:
            self._undo.append(functools.partial(_refill, holder, holder.copy()))
            if isinstance(holder, (dict, list)):
                for key, part in _items(holder):
                    if id(part) in copies:
                        holder[key] = copies[id(part)]
            self._entries.append((name, holder, holder.copy()))
        for cell in self._world.cells:
            value = cell.cell_contents
            self._undo.append(functools.partial(setattr, cell, "cell_contents", value))
            cell.cell_contents = value = copies.get(id(value), value)
            now = functools.partial(getattr, cell, "cell_contents")
            self._places.append(("a variable of the function around it", now, value))
        for namespace, name in self._world.names:
            value = namespace[name]
            self._undo.append(functools.partial(namespace.__setitem__, name, value))
            namespace[name] = value = copies.get(id(value), value)
            self._places.append((name, functools.partial(namespace.get, name), value))
        for kind, key, part in self._world.classes:
            self._undo.append(functools.partial(_reset, kind, key, part))
            self._places.append((f"{kind.__name__}.{key}", functools.partial(vars(kind).get, key), part))
        for tensor, name in self._world.tensors.values():
            self._exchange_tensor(tensor, name)

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

    def exchanged(self) -> list[tuple[str, Any, Any]]:
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
                    f"the function to compile changes {name}.grad itself: leave backward() and zero_grad() out of "
                    f"it; the program runs the backward pass, and zero_grad() comes before the step"
                )
        for name, now, before in self._places:
            if now() is not before:
                raise _not_repeated(f"assigns to {name}")
        changes = []
        for name, holder, before in self._entries:
            if isinstance(holder, dict) and holder.keys() == before.keys():
                changes += [(f"{name}.{key}", holder, key) for key, part in before.items() if holder[key] is not part]
            elif len(holder) != len(before) or any(a is not b for a, b in zip(holder, before, strict=True)):
                raise _not_repeated(f"changes what {name} holds")
        return changes

    def check_unwritten(self) -> None:
        """Raise if the run wrote into an array; `change` must have made equal copies."""
        data = {id(tensor): data for tensor, _, data, _, _ in self._tensors}
        for original, copy, name in self.copies.values():
            if data.get(id(original), original).tobytes() != copy.tobytes():
                raise _not_repeated(f"writes into the array of {name}")


def _not_repeated(what: str) -> GraphError:
    return GraphError(
        f"the function to compile {what}, which the program would not repeat: do it outside, or keep the value in a "
        f"Tensor attribute of a Module that the forward binds to a new Tensor"
    )


def _items(holder: Any) -> list[tuple[Any, Any]]:
    return list(holder.items() if isinstance(holder, dict) else enumerate(holder))


def _refill(holder: Any, saved: Any) -> None:
    """Give a dict, list, set or deque the entries that it had; one that is as it was stays untouched."""
    if len(holder) == len(saved) and all(a is b for a, b in zip(holder, saved, strict=True)):
        if isinstance(holder, dict):
            for key, part in saved.items():
                if holder[key] is not part:
                    holder[key] = part
        return
    holder.clear()
    if isinstance(holder, (dict, set)):
        holder.update(saved)
    else:
        holder.extend(saved)


def _reset(kind: type, key: str, part: Any) -> None:
    if vars(kind).get(key) is not part:
        setattr(kind, key, part)


def _kept_state(source: Any) -> Callable[[], Any]:
    """What puts a generator back to where it is now."""
    if isinstance(source, np.random.Generator):
        bits = source.bit_generator
        return functools.partial(setattr, bits, "state", bits.state)
    if hasattr(source, "get_state"):
        return functools.partial(source.set_state, source.get_state())
    return functools.partial(source.setstate, source.getstate())
