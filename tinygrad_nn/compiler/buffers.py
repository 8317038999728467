"""Buffers: which array each result is written to, by when it is last read.

A buffer is allocated once and serves one result after the other.  An element-wise function writes
over an argument that nobody reads afterwards.  Gradients have buffers of their own, which the
caller sees; results are new arrays at each call, so that the caller may keep them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn.compiler.program import Op, Program, Value, substitute, values_in

__all__ = ["Buffer", "Plan", "own_gradients", "plan"]

WRITES = frozenset({"ufunc", "reduce", "dot", "cast", "draw"})
"""The kinds of operations that can write into an array that they are given."""


class Buffer:
    """Memory that is allocated once: its shape and dtype, and the values that live in it in turn."""

    __slots__ = ("dtype", "own", "shape", "values")

    def __init__(self, value: Value, *, own: bool) -> None:
        self.shape = value.shape
        self.dtype = value.dtype
        self.values = [value]
        self.own = own

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.size * self.dtype.itemsize


class Plan:
    """Where every computed value of a program lives.

    Attributes
    ----------
    buffers : all of them
    place : the buffer of each value that is written into one
    in_place : the values that are written over an argument
    static_views : views of buffers, made once
    fresh : results, for which each call makes a new array
    """

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.place: dict[Value, Buffer] = {}
        self.in_place: set[Value] = set()
        self.static_views: set[Value] = set()
        self.fresh: set[Value] = set()

    @property
    def nbytes(self) -> int:
        """The memory of all buffers."""
        return sum(buffer.nbytes for buffer in self.buffers)

    @property
    def nbytes_without_reuse(self) -> int:
        """The memory that one array for each value would take."""
        return sum(value.size * value.dtype.itemsize for value in self.place)


def own_gradients(program: Program) -> None:
    """See to it that every gradient is computed into memory that nothing else uses."""
    makers = program.makers()
    taken: set[Value] = set(program.outputs)
    for k, value in enumerate(program.gradients):
        op = makers.get(value)
        if op is None or op.kind not in WRITES or value in taken:
            copy = Value("computed", value.shape, value.dtype, name=value.name)
            program.ops.append(Op("cast", np.copyto, (value,), {}, (copy,), backward=True))
            program.gradients[k] = copy
        taken.add(program.gradients[k])


def plan(program: Program) -> Plan:
    """Find a place for every value, reusing memory as soon as it is not read any more."""
    made = Plan()
    roots = _roots(program, made)
    last = _last_reads(program, roots)
    kept = program.results()
    free: list[Buffer] = []
    for number, op in enumerate(program.ops):
        if op.kind in WRITES:
            value = op.output
            if value in program.outputs:
                made.fresh.add(value)
            elif value in kept:
                _add(made, value, Buffer(value, own=True))
            else:
                over = _overwritten(op, number, roots, last, made)
                buffer = made.place[over] if over is not None else _taken(free, value)
                if over is not None:
                    made.in_place.add(value)
                    last[over] = -1
                if buffer is None:
                    _add(made, value, Buffer(value, own=False))
                else:
                    buffer.values.append(value)
                    made.place[value] = buffer
        for value in {root for v in (*op.inputs(), *op.outputs) for root in roots.get(v, ())}:
            buffer = made.place.get(value)
            if buffer is not None and last.get(value, number) == number and not buffer.own:
                free.append(buffer)
    return made


def _add(made: Plan, value: Value, buffer: Buffer) -> None:
    made.buffers.append(buffer)
    made.place[value] = buffer


def _roots(program: Program, made: Plan) -> dict[Value, frozenset[Value]]:
    """The values in whose memory each computed value may live: itself, and what it is a view of.

    Views are tried out on arrays laid out as the buffers will be: what turns out to be a copy is a
    call from here on.  A call may return one of its arguments, so its result counts as a view of all.
    """
    roots: dict[Value, frozenset[Value]] = {}
    samples: dict[Value, Any] = {}
    written: set[Value] = set()
    for op in program.ops:
        base = next(values_in(op.args), None)
        if op.kind == "view" and base in written:
            samples[base] = np.empty(base.shape, base.dtype)  # only now, and only what a view is tried out on
            written.discard(base)
        if op.kind == "view" and base in samples:
            result = op.function(*substitute(op.args, lambda v: samples.get(v, v.source)), **op.kwargs)
            if np.may_share_memory(result, samples[base]):
                samples[op.output] = result
                made.static_views.add(op.output)
            else:
                op.kind = "call"
        elif op.kind in WRITES and op.output not in program.outputs:
            written.add(op.output)
        aliases = frozenset[Value]()
        if op.kind not in WRITES:
            aliases = aliases.union(*(roots.get(v, {v}) for v in op.inputs()))
        for value in op.outputs:
            roots[value] = aliases | {value}
    return roots


def _last_reads(program: Program, roots: dict[Value, frozenset[Value]]) -> dict[Value, int]:
    """The number of the operation that reads the memory of each value last."""
    last: dict[Value, int] = {}
    for number, op in enumerate(program.ops):
        for value in op.inputs():
            last.update(dict.fromkeys(roots.get(value, (value,)), number))
    for value in program.results():
        last.update(dict.fromkeys(roots.get(value, (value,)), len(program.ops)))
    return last


def _overwritten(
    op: Op, number: int, roots: dict[Value, frozenset[Value]], last: dict[Value, int], made: Plan
) -> Value | None:
    """An argument whose memory the result may take: whole, of the same form, and read here for the last time."""
    if op.kind != "ufunc":
        return None
    inputs = op.inputs()
    for value in inputs:
        fits = value.shape == op.output.shape and value.dtype == op.output.dtype and value in made.place
        alone = all(v is value for v in inputs if value in roots.get(v, ()))
        if fits and alone and last[value] == number and not made.place[value].own:
            return value
    return None


def _taken(free: list[Buffer], value: Value) -> Buffer | None:
    """Take the smallest free buffer that is large enough."""
    fitting = [b for b in free if b.dtype == value.dtype and b.size >= value.size]
    if not fitting:
        return None
    best = min(fitting, key=lambda b: (b.shape != value.shape, b.size))
    free.remove(best)
    return best
