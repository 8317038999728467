"""Passes: each takes a program and makes it do less, with the same numbers.

Every pass is one small function of a `Program` that says whether it changed something; `simplify`
runs them until none does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn.compiler.program import Op, Program, Value, constant, values_in
from tinygrad_nn.derivatives import TABLE, elementwise

__all__ = [
    "dead_code",
    "fold_constants",
    "is_number",
    "merge_scalars",
    "repeated",
    "shrink_broadcasts",
    "simplify",
    "without_effect",
]

_KEEP_ZERO = TABLE[elementwise.keep_zero].kernel


def simplify(program: Program) -> None:
    """Run every pass until nothing changes any more."""
    passes = (without_effect, shrink_broadcasts, fold_constants, merge_scalars, repeated, dead_code)
    changed = True
    while changed:
        changed = False
        for one in passes:
            changed = one(program) or changed


def dead_code(program: Program) -> bool:
    """Leave out what nobody reads; draws stay, since they move a generator."""
    wanted = program.results()
    kept = []
    for op in reversed(program.ops):
        if op.kind == "draw" or _draws(op) or not wanted.isdisjoint(op.outputs):
            kept.append(op)
            wanted.update(op.inputs())
    changed = len(kept) < len(program.ops)
    program.ops = kept[::-1]
    return changed


def _draws(op: Op) -> bool:
    return any(isinstance(a, np.random.Generator) for a in (*op.args, *op.kwargs.values()))


def number_of(item: Any) -> Any:
    """The number that an operand is in every call, or None."""
    if type(item) in (int, float):
        return item
    if isinstance(item, Value) and item.role == "constant" and item.size == 1 and item.dtype.kind == "f":
        return item.source.item()
    return None


def is_number(item: Any, number: float) -> bool:
    """Whether an operand is this number in every call."""
    found = number_of(item)
    return found is not None and found == number


def without_effect(program: Program) -> bool:
    """Take away what changes no number: times 1, minus minus, a view in the shape it had."""
    makers = program.makers()
    old: dict[Value, Value] = {}
    for op in program.ops:
        if len(op.outputs) == 1:
            same = _same_as(op, makers)
            if same is not None and same.shape == op.output.shape and same.dtype == op.output.dtype:
                old[op.output] = same
    program.replace(old)
    program.ops = [op for op in program.ops if not (len(op.outputs) == 1 and op.output in old)]
    return bool(old)


def _same_as(op: Op, makers: dict[Value, Op]) -> Value | None:
    """The value that an operation gives back as it is, if it does."""
    f, args = op.function, op.args
    same: Any = None
    if f is np.multiply and op.kind == "ufunc":
        same = args[0] if is_number(args[1], 1) else args[1] if is_number(args[0], 1) else None
    elif f is np.divide and op.kind == "ufunc":
        same = args[0] if is_number(args[1], 1) else None
    elif f is np.negative and op.kind == "ufunc":
        inner = makers.get(args[0])
        same = inner.args[0] if inner is not None and inner.function is np.negative else None
    elif f in (np.positive, np.broadcast_to, np.reshape) or (f is _KEEP_ZERO and _stays_zero(args[0], args[1], makers)):
        same = args[0]
    return same if isinstance(same, Value) else None


def _stays_zero(part: Any, g: Any, makers: dict[Value, Op]) -> bool:
    """Whether `part` is surely 0 where `g` is: itself, its negative, a choice of it, a finite number of times it."""
    op = makers.get(part)
    if part is g:
        return True
    if op is None or g not in op.args:
        return False
    if op.kind == "ufunc" and op.function is np.multiply:
        return all(a is g or _is_finite(a) for a in op.args)
    if op.function is np.where and len(op.args) == 3:
        return op.args[0] is not g and all(a is g or _is_finite(a) for a in op.args[1:])
    return op.kind == "ufunc" and op.function is np.negative


def _is_finite(item: Any) -> bool:
    number = number_of(item)
    return isinstance(item, Value) and item.dtype.kind == "b" if number is None else math.isfinite(number)


def fold_constants(program: Program) -> bool:
    """Compute once what is made of constants only."""
    old: dict[Value, Value] = {}
    kept = []
    for op in program.ops:
        inputs = op.inputs()
        ready = bool(inputs) and all(v.role == "constant" for v in inputs) and len(op.outputs) == 1
        if not ready or op.kind in ("draw", "call") or op.output.size > 64:
            kept.append(op)
            continue
        old[op.output] = constant(_evaluate(op))
    program.ops = kept
    program.replace(old)
    return bool(old)


def _evaluate(op: Op) -> Any:
    args = tuple(a.source if isinstance(a, Value) else a for a in op.args)
    with np.errstate(all="ignore"):
        if op.kind == "cast":
            return args[0].astype(op.output.dtype)
        if op.kind == "reduce":
            return op.function.reduce(*args, **op.kwargs)  # type: ignore[attr-defined]
        return np.array(op.function(*args, **op.kwargs))


def shrink_broadcasts(program: Program) -> bool:
    """Compute on small arrays what was repeated to a larger shape only to be combined with others.

    A repeated operand of an element-wise function is read as it was before: NumPy repeats it.  If
    then every operand is small, so is the result, and it is the result that is repeated.
    """
    makers = program.makers()
    changed = False
    ops: list[Op] = []
    for op in program.ops:
        ops.append(op)
        if op.kind != "ufunc":
            continue
        small = tuple(_before_broadcast(a, makers) for a in op.args)
        if all(a is b for a, b in zip(small, op.args, strict=True)):
            continue
        changed = True
        op.args = small
        shape = np.broadcast_shapes(*(a.shape if isinstance(a, Value) else () for a in small))
        if shape != op.output.shape:
            full = op.output
            op.outputs = (Value("computed", shape, full.dtype),)
            ops.append(Op("view", np.broadcast_to, (op.output, full.shape), {}, (full,), backward=op.backward))
            makers[full] = ops[-1]
            makers[op.output] = op
    program.ops = ops
    return changed


def _before_broadcast(item: Any, makers: dict[Value, Op]) -> Any:
    op = makers.get(item) if isinstance(item, Value) else None
    return op.args[0] if op is not None and op.function is np.broadcast_to else item


_LARGEST = 2.0**24
"""Factors beyond this, or under its reciprocal, are not merged: their product could leave the dtype."""


def merge_scalars(program: Program) -> bool:
    """Multiply once where an array is multiplied by one number after the other."""
    makers, uses = program.makers(), program.uses()
    changed = False
    for op in program.ops:
        outer = _scaled(op)
        inner_op = makers.get(outer[0]) if outer else None
        inner = _scaled(inner_op) if inner_op is not None else None
        if outer is None or inner is None or uses[outer[0]] > 1 or inner[0].dtype != op.output.dtype:
            continue
        factor = outer[1] * inner[1]
        if op.output.dtype.kind == "f" and all(1 / _LARGEST <= abs(c) <= _LARGEST for c in (outer[1], inner[1])):
            op.function, op.args = np.multiply, (inner[0], constant(np.array(factor, op.output.dtype)))
            changed = True
    return changed


def _scaled(op: Op) -> tuple[Value, float] | None:
    """The array and the number of a multiplication of both."""
    if op.kind == "ufunc" and op.function is np.multiply:
        for x, other in (op.args, op.args[::-1]):
            number = number_of(other)
            if isinstance(x, Value) and x.shape == op.output.shape and number is not None and math.isfinite(number):
                return x, float(number)
    return None


def repeated(program: Program) -> bool:
    """Compute once what is computed twice in the same way."""
    seen: dict[Any, Value] = {}
    old: dict[Value, Value] = {}
    kept = []
    for op in program.ops:
        op.args = tuple(old.get(a, a) if isinstance(a, Value) else a for a in op.args)
        key = _key(op)
        if key is None:
            kept.append(op)
        elif key in seen:
            old[op.output] = seen[key]
        else:
            seen[key] = op.output
            kept.append(op)
    program.ops = kept
    program.replace(old)
    return bool(old)


def _key(op: Op) -> Any:
    """What an operation is known by; None for those that are never merged."""
    if op.kind not in ("ufunc", "reduce", "dot", "view", "cast") or len(op.outputs) != 1:
        return None
    parts: list[Any] = []
    for a in op.args:
        if isinstance(a, Value):
            small = a.role == "constant" and a.size <= 8
            parts.append((a.shape, a.dtype, a.source.tobytes()) if small else a)
        elif any(True for _ in values_in(a)):
            return None
        else:
            parts.append((type(a), repr(a)))
    return (op.kind, op.function, *parts, repr(sorted(op.kwargs.items())), op.output.shape, op.output.dtype)
