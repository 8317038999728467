"""What a compiled program is made of: values, the operations on them, and small helpers to rewrite both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["Op", "Program", "Value", "constant", "substitute", "values_in"]


class Value:
    """One array of a program: where it comes from, its shape and dtype.

    Attributes
    ----------
    role : "input", "tensor", "array", "constant" or "computed"
    source : the position of an input, the Tensor, the array or the constant's array; None if computed
    name : what the user calls it, if that is known
    slope_of : the value of which it is the gradient, if it is one
    """

    __slots__ = ("dtype", "name", "role", "shape", "slope_of", "source")

    def __init__(
        self, role: str, shape: tuple[int, ...], dtype: np.dtype[Any], source: Any = None, name: str = ""
    ) -> None:
        self.role = role
        self.shape = shape
        self.dtype = dtype
        self.source = source
        self.name = name
        self.slope_of: Value | None = None

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return f"<{self.name or self.role} {self.shape} {self.dtype}>"


class Op:
    """One operation: a function applied to values and Python objects.

    Attributes
    ----------
    kind : how it runs and is written
        "ufunc" and "reduce" (element by element, and the ufunc's reduction), "dot" (two matrices),
        "cast", "draw" (from a generator), "view" (no arithmetic: the result may be a view),
        "call" (anything else: the result is a new array)
    function : the ufunc, or what is called
    args, kwargs : values and Python objects, also inside tuples and lists
    outputs : the values that it computes, one but for functions with several results
    backward : whether it belongs to the walk back
    quiet : whether it was recorded where floating-point warnings were off, in a gradient inside the loss for instance
    """

    __slots__ = ("args", "backward", "function", "kind", "kwargs", "outputs", "quiet")

    def __init__(
        self,
        kind: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: tuple[Value, ...],
        *,
        backward: bool = False,
        quiet: bool = False,
    ) -> None:
        self.kind = kind
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        self.backward = backward
        self.quiet = quiet

    @property
    def output(self) -> Value:
        """The result of an operation that has one."""
        return self.outputs[0]

    def inputs(self) -> list[Value]:
        """The values that it reads, in order."""
        return [*values_in(self.args), *values_in(tuple(self.kwargs.values()))]

    def __repr__(self) -> str:
        return f"<{self.kind} {getattr(self.function, '__name__', self.function)} {self.args} -> {self.outputs}>"


class Program:
    """The operations of one step in order, and which values the caller gets."""

    def __init__(self, ops: list[Op], outputs: list[Value], gradients: list[Value]) -> None:
        self.ops = ops
        self.outputs = outputs
        self.gradients = gradients

    def results(self) -> set[Value]:
        """Every value that the caller gets."""
        return {*self.outputs, *self.gradients}

    def uses(self) -> dict[Value, int]:
        """How often each value is read, by operations and by the caller."""
        count: dict[Value, int] = {}
        for op in self.ops:
            for value in op.inputs():
                count[value] = count.get(value, 0) + 1
        for value in (*self.outputs, *self.gradients):
            count[value] = count.get(value, 0) + 1
        return count

    def makers(self) -> dict[Value, Op]:
        """Which operation computes a value."""
        return {value: op for op in self.ops for value in op.outputs}

    def replace(self, old: dict[Value, Value]) -> None:
        """Read other values in the place of some, everywhere."""
        if not old:
            return

        def now(value: Value) -> Value:
            while value in old:
                value = old[value]
            return value

        for op in self.ops:
            op.args = substitute(op.args, now)
            op.kwargs = {key: substitute(item, now) for key, item in op.kwargs.items()}
        self.outputs = [now(value) for value in self.outputs]
        self.gradients = [now(value) for value in self.gradients]


def constant(array: Any) -> Value:
    """Make a value that is the same in every call."""
    array = np.asarray(array)
    return Value("constant", array.shape, array.dtype, array)


def values_in(item: Any) -> Iterator[Value]:
    """Every value inside nested tuples, lists and dicts."""
    if isinstance(item, Value):
        yield item
    elif isinstance(item, (tuple, list)):
        for part in item:
            yield from values_in(part)
    elif isinstance(item, dict):
        yield from values_in(tuple(item.values()))


def substitute(item: Any, change: Callable[[Any], Any], kind: type = Value) -> Any:
    """Put other things in the place of the values, or what else is of a kind, inside nested tuples, lists and dicts."""
    if isinstance(item, kind):
        return change(item)
    if isinstance(item, tuple):
        parts = [substitute(part, change, kind) for part in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    if isinstance(item, list):
        return [substitute(part, change, kind) for part in item]
    if isinstance(item, dict):
        return {key: substitute(part, change, kind) for key, part in item.items()}
    return item
