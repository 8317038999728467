"""Kernel choice: the cheapest NumPy call for each operation, once a program is as small as it gets."""

from __future__ import annotations

import numpy as np

from tinygrad_nn.compiler.passes import is_number
from tinygrad_nn.compiler.program import Op, Program, Value, constant
from tinygrad_nn.derivatives.table import LONGEST_DOT

__all__ = ["choose_kernels"]


def choose_kernels(program: Program) -> None:
    """Put the cheapest form of each call: numbers as arrays made once, squares, reciprocals, sums as products."""
    makers, uses = program.makers(), program.uses()
    ops: list[Op] = []
    for op in program.ops:
        if op.kind == "ufunc":
            _element_wise(op)
        elif op.kind == "reduce" and op.function is np.add:
            ops += _flattened(op, makers, uses)
        ops.append(op)
    program.ops = ops
    _drop_unread(program)


def _element_wise(op: Op) -> None:
    values = op.inputs()
    if len(values) < len(op.args) and len({v.dtype for v in values}) == 1 and values[0].dtype.kind == "f":
        # what Python's numbers are cast to beside an array of this dtype
        op.args = tuple(constant(np.array(a, values[0].dtype)) if type(a) in (int, float) else a for a in op.args)
    if op.function is np.divide and is_number(op.args[0], 1) and op.args[1].dtype == op.output.dtype:
        op.function, op.args = np.reciprocal, op.args[1:]
    elif op.function is np.multiply and op.args[0] is op.args[1]:
        op.function, op.args = np.square, op.args[:1]


def _flattened(op: Op, makers: dict[Value, Op], uses: dict[Value, int]) -> list[Op]:
    """Make a product of a short sum, which costs half: over rows, of all entries, or of all squares.

    Returns the views that have to come before it.
    """
    x, axis = op.args[0], op.kwargs["axis"]
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    op.kwargs["axis"] = axis
    if x.dtype not in (np.float32, np.float64) or x.dtype != op.output.dtype:
        return []
    if axis == 0 and len(x.shape) == 2 and x.shape[0] <= LONGEST_DOT:
        op.args = (constant(np.ones((1, x.shape[0]) if op.kwargs["keepdims"] else x.shape[0], x.dtype)), x)
        op.kind, op.function, op.kwargs = "dot", np.dot, {}
        return []
    if op.kwargs["keepdims"]:
        return []
    maker = makers.get(x)
    if axis is not None or not x.shape or x.size > LONGEST_DOT or maker is None or not _is_laid_out(x, makers):
        return []
    squared = maker.args[0] if maker.function is np.square and uses[x] == 1 else None
    source = squared if squared is not None and _is_laid_out(squared, makers) else x
    flat = source if len(source.shape) == 1 else Value("computed", (source.size,), source.dtype)
    view = Op("view", np.reshape, (source, (source.size,)), {}, (flat,), backward=op.backward, quiet=op.quiet)
    other = flat if source is squared else constant(np.ones(x.size, x.dtype))
    op.kind, op.function, op.args, op.kwargs = "dot", np.dot, (other, flat), {}
    return [view] if flat is not source else []


def _is_laid_out(value: Value, makers: dict[Value, Op]) -> bool:
    """Whether a value will lie in a buffer, entry after entry, so that it is flattened at no cost."""
    maker = makers.get(value)
    return maker is not None and maker.kind in ("ufunc", "dot", "cast", "draw")


def _drop_unread(program: Program) -> None:
    """Leave out the squares that became part of a product."""
    uses = program.uses()
    program.ops = [op for op in program.ops if op.function is not np.square or uses.get(op.output)]
