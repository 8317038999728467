"""Entries: a built program behind the conditions under which it is right, as one generated function.

An entry takes the arguments of a call.  If they, or anything else that the function reads, are not
what the program was made for, it returns `MISS`; otherwise it runs the program and adds up `.grad`.
"""
# ruff: noqa: SLF001 - what stands inside a Tensor is what a program works on

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_nn.compiler.build import Built
from tinygrad_nn.compiler.capture import unflatten
from tinygrad_nn.compiler.guard import Condition, conditions, is_same
from tinygrad_nn.compiler.helpers import ERRORS
from tinygrad_nn.compiler.holders import spelled
from tinygrad_nn.compiler.program import Value
from tinygrad_nn.tensor import Tensor, _wrap

__all__ = ["MISS", "Entry"]

MISS = object()
"""What an entry returns when it is not the one for a call."""


class _Gate:
    """Open but while a function is recorded: copies stand in the place of parameters then.

    A program that has read its parameters goes on only if the gate is open, and was not shut since.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.state: list[Any] = [object()]  # another object after each recording, None during one

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        """Let no program begin; the lock must be held."""
        before, self.state[0] = self.state[0], None
        try:
            yield
        finally:
            self.state[0] = before and object()


GATE = _Gate()


class Instance:
    """One set of buffers, with the functions that work on them; one call at a time uses it."""

    __slots__ = ("backward", "forward", "quietly", "seen")

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any] | None, *, alone: bool) -> None:
        """Take the functions; `alone` says that they call NumPy only, which needs no context variables but its own."""
        self.forward = forward
        self.backward = backward
        quiet = contextvars.Context()
        quiet.run(np.seterr, all="ignore")  # an infinite slope is an answer, as in the eager walk
        self.quietly = quiet.run if alone else np.errstate(all="ignore")(_called)  # the context is the faster one
        self.seen = False


class Entry:
    """A program ready to be called: `run` is the generated function."""

    def __init__(self, built: Built) -> None:
        self.built = built
        namespace: dict[str, Any] = {"np": np, **ERRORS}
        exec(compile(built.source.text_of_program(), "<tinygrad_nn program>", "exec"), namespace)  # noqa: S102
        self._program: Callable[..., Any] = namespace["program"]
        self._known: dict[int, str] = {}
        self._bound: dict[str, Any] = {}
        self.exposed: set[int] = set()
        self.code = self._code()
        bound = dict(self._bound)
        exec(compile(self.code, "<tinygrad_nn entry>", "exec"), bound)  # noqa: S102
        self.run: Callable[[tuple[Any, ...], dict[str, Any]], Any] = bound["run"]

    def changed(self) -> list[str]:
        """Name what is not as it was when this program was made."""
        names = [name for text, name in self._conditions if not self._holds(text)]
        for holder, then in self._whole:
            if holder.is_dict:
                now = dict(holder.entries)
                names += [f"{holder.name}.{k}" for k in now.keys() | then.keys() if now.get(k) is not then.get(k)]
            elif not holder.is_as(then):
                names.append(holder.name)
        return list(dict.fromkeys(names))

    def _holds(self, text: str) -> bool:
        try:
            return bool(eval(text, dict(self._bound)))  # noqa: S307 - one of the conditions written here
        except Exception:  # noqa: BLE001 - what cannot be asked any more has changed
            return False

    def new(self) -> Instance:
        """Allocate one more set of buffers: for a first call, or one that comes while another runs."""
        given = self.built.source.given
        return Instance(*self._program(**given), alone=not any(map(callable, given.values())))

    def _bind(self, item: Any) -> str:
        name = self._known.get(id(item))
        if name is None:
            name = self._known[id(item)] = f"_{len(self._known)}"
            self._bound[name] = item  # which also keeps its id from being used again
        return name

    def _code(self) -> str:
        """The source of the entry."""
        built, bind = self.built, self._bind
        pool: list[Any] = []
        self._places = _places(built)
        lines, loads = self._arguments()
        gate = bind(GATE.state)
        lines += [f"gate = {gate}[0]", *self._loads(loads)]
        lines += [f"if gate is None or {gate}[0] is not gate:", f"    return {bind(MISS)}"]
        changing = {(id(holder), key) for holder, key in (*built.rebound, *self._places.values())}
        self._conditions, self._whole = conditions(built.world, changing, bind)
        leaves = [p._node for p in built.parameters]
        own = dict(zip(map(id, built.parameters), leaves, strict=True))
        for t, name in built.world.tensors.values():
            if id(t) in own or (t._node is None and id(t) not in self._places):
                text = f"{bind(t)}._node is {bind(own.get(id(t)))}"
                self._conditions.append(Condition(text, f"{name}.requires_grad"))
            elif t._node is not None:
                self._conditions.append(Condition(f"{bind(t)}._node is not None", f"{name}.requires_grad"))
        operands = {id(value.source) for value in built.source.arguments}  # which are looked at as they are read
        self._conditions += [
            Condition(f"{bind(array)}.shape == {array.shape}", f"{name}.shape")
            for array, name in built.world.numeric()
            if id(array) not in operands
        ]
        rules = [condition.text for condition in self._conditions]
        if self._whole:
            rules.append(f"{bind([h.entries for h, _ in self._whole])} == {bind([then for _, then in self._whole])}")
        if rules:
            lines += [
                "if not (",
                *(f"    {rule}{' and' if k < len(rules) - 1 else ''}" for k, rule in enumerate(rules)),
            ]
            lines += ["):", f"    return {bind(MISS)}"]
        guarded = ["try:", *(f"    {line}" for line in lines), f"except Exception:\n        return {bind(MISS)}"]
        body = guarded + self._running(leaves, bind(pool))
        return "def run(args, kwargs):\n" + "\n".join(f"    {line}" for line in body) + "\n"

    def _arguments(self) -> tuple[list[str], dict[int, str]]:
        """Conditions on the arguments, and the text by which each input is reached."""
        built, bind = self.built, self._bind
        miss = bind(MISS)
        tests: list[str] = []
        places: list[str] = []

        def visit(part: Any, place: str) -> None:
            if part is None:
                places.append(place)
                return
            kind, parts = part
            tests.append(f"type({place}) is {bind(kind)} and len({place}) == {len(parts)}")
            if kind is dict and len(parts) > 1:  # a loop over them takes them in their order
                tests.append(f"[*{place}] == {bind([key for key, _ in parts])}")
            for k, inner in enumerate(parts):
                key, inner_part = inner if kind is dict else (k, inner)
                visit(inner_part, f"{place}[{spelled(key, bind)}]")

        args, kwargs = built.structure[1]
        for k, part in enumerate(args[1]):
            visit(part, f"args[{k}]")
        wrong_keywords = f"len(kwargs) != {len(kwargs[1])}" if kwargs[1] else "kwargs"
        lines = [f"if len(args) != {len(args[1])} or {wrong_keywords}:", f"    return {miss}"]
        if len(kwargs[1]) > 1:
            tests.append(f"[*kwargs] == {[key for key, _ in kwargs[1]]}")
        for key, part in kwargs[1]:
            visit(part, f"kwargs[{key!r}]")
        loads: dict[int, str] = {}
        arrays = []
        for k, (leaf, place) in enumerate(zip(built.leaves, places, strict=True)):
            if k not in built.dynamic:
                plain = isinstance(leaf, (int, float, complex, str, np.generic, slice, range))
                tests.append(f"{bind(is_same)}({place}, {bind(leaf)})" if plain else f"{place} is {bind(leaf)}")
                continue
            name = f"x{built.dynamic.index(k)}"
            loads[built.dynamic.index(k)] = name
            arrays += [f"{name} = {place}"]
            tests.append(f"type({place}) is {bind(type(leaf))}")
            if isinstance(leaf, Tensor):
                tests.append(f"{place}._node is None")
                arrays[-1] += "._array"
            array = leaf._array if isinstance(leaf, Tensor) else leaf
            if type(array) is not np.ndarray:
                arrays.append(f"{name} = {bind(np.asarray)}({name})")
            arrays += [
                f"if {name}.shape != {array.shape}:",
                f"    return {miss}",
                f"if {name}.dtype is not {bind(array.dtype)} and {name}.dtype != {bind(array.dtype)}:",
                f"    return {miss}",
                f"if id({name} if {name}.base is None else {name}.base) in {bind(self.exposed)}:",
                f"    {name} = {name}.copy()",
            ]
        if tests:
            lines += [f"if not ({' and '.join(tests)}):", f"    return {miss}"]
        return lines + arrays, loads

    def _loads(self, inputs: dict[int, str]) -> list[str]:
        """Read the arrays of Tensors, where they are now."""
        bind = self._bind
        lines: list[str] = []
        names: list[str] = []
        tensors: list[str] = []
        checks: list[str] = []
        self._operands: list[str] = []
        for k, value in enumerate(self.built.source.arguments):
            if value.role == "input":
                self._operands.append(inputs[value.source])
            elif value.role == "array":
                array = bind(np.asarray(value.source))  # of a memmap, the same memory
                self._operands.append(array)
                lines += self._checked(array, value)
            else:
                holder, key = self._places.get(id(value.source), (None, None))
                tensor = bind(value.source) if holder is None else f"{bind(holder)}[{spelled(key, bind)}]"
                lines.append(f"t{k} = {tensor}._array")
                self._operands.append(f"t{k}")
                names.append(f"t{k}")
                tensors.append(tensor)
                if holder is not None:
                    lines += [f"if {tensor}._node is not None:", f"    return {bind(MISS)}"]
                if not value.source.requires_grad:
                    checks += self._checked(f"t{k}", value)
        if names and self.built.parameters:
            seen: list[Any] = [None] * len(names)
            other = " or ".join(f"{name} is not {bind(seen)}[{k}]" for k, name in enumerate(names))
            call = f"{bind(_settled)}(({', '.join(tensors)},), {bind(seen)}, {bind(self.exposed)})"
            lines += [f"if {other}:", f"    {', '.join(names)}, = {call}"]
        return lines + checks

    def _checked(self, name: str, value: Value) -> list[str]:
        return [
            f"if {name}.shape != {value.shape} or {name}.dtype != {self._bind(value.dtype)}:",
            f"    return {self._bind(MISS)}",
        ]

    def _running(self, leaves: list[Any], pool: str) -> list[str]:
        """Run the program, put gradients and buffers in their places, and make the result."""
        bind, source = self._bind, self.built.source
        outputs = [f"y{k}" for k in range(len(self.built.program.outputs))]
        kept = [f"k{k}" for k in range(source.kept)]
        grads = [f"d{k}" for k in range(len(leaves))]
        names = [bind(leaf) for leaf in leaves]
        run = [_unpacked([*outputs, *kept], f"instance.forward({', '.join(self._operands)})")]
        lines = []
        if leaves:
            none = " and ".join(f"{name}.grad is None" for name in names)
            lines.append(f"held = None if {none} else {bind(_held)}({bind(leaves)})")
            operands = ", ".join(["instance.backward", *self._operands, *kept])
            run += [
                _unpacked(grads, f"instance.quietly({operands})"),
                "if not instance.seen:",
                f"    {bind(self.exposed)}.update(map(id, ({', '.join(grads)},)))",
                "    instance.seen = True",
                "if held is None:",
                *(f"    {name}.grad = {g}" for name, g in zip(names, grads, strict=True)),
                "else:",
                f"    {bind(_add_up)}({bind(leaves)}, held, ({', '.join(grads)},))",
            ]
        lines += [
            "try:",
            f"    instance = {pool}.pop()",
            "except IndexError:",
            f"    instance = {bind(self.new)}()",
            "try:",
            *(f"    {line}" for line in run),
            "finally:",
            f"    {pool}.append(instance)",
        ]
        first = len(outputs) - len(self.built.rebound)
        for (holder, key), y in zip(self.built.rebound, outputs[first:], strict=True):
            lines.append(f"{bind(holder)}[{spelled(key, bind)}] = {bind(_wrap)}({y}, None)")
        return lines + self._returning(outputs[:first])

    def _returning(self, names: list[str]) -> list[str]:
        """Put results into Tensors, and these into the structure that the function gave."""
        bind = self._bind
        structure, leaves = self.built.result
        rest = iter(names)
        lines, texts = [], []
        for k, (kind, item) in enumerate(leaves):
            text = bind(item) if kind == "object" else next(rest)
            if kind == "tensor":
                # as a Tensor of an array without a graph is made, without another call
                lines += [
                    f"r{k} = {bind(object.__new__)}({bind(Tensor)})",
                    f"r{k}._array = {text}",
                    f"r{k}._node = None",
                ]
                text = f"r{k}"
            texts.append(text)
        if structure is None:
            return [*lines, f"return {texts[0]}"]
        return [*lines, f"return {bind(unflatten)}({bind(structure)}, ({', '.join(texts)},))"]


def _places(built: Built) -> dict[int, tuple[Any, Any]]:
    """Buffers that are read from the attribute or entry that holds them, whichever Tensor that is by then.

    These are the ones that the forward binds anew, here or, when in another mode, perhaps elsewhere:
    Tensors that require no gradient and are found in one place only.
    """
    world = built.world
    fixed = [place.get() for place in world.places] + built.leaves
    seen: dict[int, list[tuple[Any, Any]]] = {id(part): [(None, None)] for part in fixed}
    for holder in world.holders:
        for key, part in holder.items():
            place = (holder.entries, key) if isinstance(holder.entries, dict) else (None, None)
            seen.setdefault(id(part), []).append(place)
    found = {
        id(t): seen[id(t)][0]
        for t, _ in world.tensors.values()
        if t._node is None and len(seen.get(id(t), ())) == 1 and seen[id(t)][0][0] is not None
    }
    return found | {id(holder[key]): (holder, key) for holder, key in built.rebound}


def _called(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _unpacked(names: list[str], call: str) -> str:
    return f"{', '.join(names)}{',' if len(names) == 1 else ''} = {call}"


def _settled(tensors: tuple[Tensor, ...], seen: list[Any], exposed: set[int]) -> list[Any]:
    """The arrays of Tensors that have others than at the last call, each with memory that no program writes to."""
    for k, tensor in enumerate(tensors):
        array = tensor._array
        if id(array if array.base is None else array.base) in exposed:
            array = tensor._array = array.copy()
        seen[k] = array
    return seen


def _held(leaves: list[Any]) -> list[Any]:
    """Move the gradients that are there before a step out of reach of its buffers, and give them."""
    for leaf in leaves:
        if leaf.grad is not None:
            leaf.grad = leaf.grad.copy()
    return [leaf.grad for leaf in leaves]


def _add_up(leaves: list[Any], held: list[Any], grads: tuple[Any, ...]) -> None:
    for leaf, before, g in zip(leaves, held, grads, strict=True):
        leaf.grad = g if before is None else before + g
