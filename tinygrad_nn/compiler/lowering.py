"""From recorded calls to operations: which NumPy kernel a call becomes, and what is only a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.compiler.program import Op, Value, values_in
from tinygrad_nn.derivatives import Row, elementwise, linalg, random, reductions, shaping

__all__ = ["is_data_dependent", "lower"]

Emit = Callable[..., Value]
Lowering = Callable[[Emit, tuple[Any, ...], dict[str, Any], Value], "Value | None"]


def lower(
    row: Row,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    results: tuple[Value, ...],
    *,
    view: bool,
    backward: bool,
    quiet: bool = False,
) -> tuple[list[Op], Value | None]:
    """The operations that one recorded call becomes, and the value that takes its result's place, if another.

    `view` says that the result was seen to share memory with an argument.
    """
    ops: list[Op] = []

    def emit(kind: str, function: Any, *operands: Any, shape: Any = None, dtype: Any = None, **options: Any) -> Value:
        like = results[0]
        out = Value("computed", like.shape if shape is None else shape, dtype or like.dtype)
        ops.append(Op(kind, function, operands, options, (out,), backward=backward, quiet=quiet))
        return out

    special = _LOWERINGS.get(row.function)
    if special is not None and len(results) == 1:
        value = special(emit, args, kwargs, results[0])
        if value is not None:
            return ops, value
        ops.clear()
    kernel: Callable[..., Any] = row.kernel
    if row.pullback:
        kernel = _without_pullback(row)
    kind = "call"
    if view:
        kind = "view"
    elif isinstance(kernel, np.ufunc) and kernel.nout == 1 and kernel.signature is None and not kwargs:
        kind = "ufunc"
    ops.append(Op(kind, kernel, args, kwargs, results, backward=backward, quiet=quiet))
    return ops, None


def _without_pullback(row: Row) -> Callable[..., Any]:
    """The forward part of a function that brings its own backward pass."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return row.kernel(*args, **kwargs)[0]

    forward.__name__ = row.name.rsplit(".", maxsplit=1)[-1]
    return forward


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, bool] | None:
    """The array, axis and keepdims of a reduction; None if it was called in another way."""
    if set(kwargs) - {"axis", "keepdims"} or len(args) > 2 or not isinstance(args[0], Value):
        return None
    axis = args[1] if len(args) == 2 else kwargs.get("axis")
    if isinstance(axis, (list, Value)):
        return None
    return args[0], axis, bool(kwargs.get("keepdims", False))


def _reduction(ufunc: np.ufunc) -> Lowering:
    def lowering(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
        found = _options(args, kwargs)
        if found is None or result.dtype.kind == "O":
            return None
        return emit("reduce", ufunc, found[0], axis=found[1], keepdims=found[2])

    return lowering


def _mean(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
    found = _options(args, kwargs)
    if found is None or found[0].dtype not in (np.float32, np.float64) or not result.size or not found[0].size:
        return None
    x, axis, keepdims = found
    total = emit("reduce", np.add, x, axis=axis, keepdims=keepdims)
    return emit("ufunc", np.divide, total, float(x.size // result.size))


def _mean_square(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
    (x,) = args
    square = emit("ufunc", np.square, x, shape=x.shape, dtype=x.dtype) if isinstance(x, Value) else x
    return _mean(emit, (square,), kwargs, result)


def _product(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Value) -> Value | None:
    # into a matrix dot and matmul are the same numbers, and dot is faster where one side is 1
    a, b = args[:2]
    both = isinstance(a, Value) and isinstance(b, Value) and len(args) == 2 and not kwargs
    if both and len(a.shape) in (1, 2) and len(b.shape) == 2 and a.dtype == b.dtype and a.dtype.kind == "f":
        return emit("dot", np.dot, a, b)
    return None


def _linear(emit: Emit, args: tuple[Any, ...], _kwargs: dict[str, Any], result: Value) -> Value | None:
    x, w, b = args
    if not all(isinstance(a, Value) and a.dtype == result.dtype for a in args) or result.dtype.kind != "f":
        return None
    kind, product = ("dot", np.dot) if len(x.shape) == len(w.shape) == 2 else ("call", np.matmul)
    return emit("ufunc", np.add, emit(kind, product, x, w), b)


def _relu(emit: Emit, args: tuple[Any, ...], _kwargs: dict[str, Any], _result: Value) -> Value | None:
    return emit("ufunc", np.maximum, args[0], 0)


def _sigmoid(emit: Emit, args: tuple[Any, ...], _kwargs: dict[str, Any], result: Value) -> Value | None:
    (x,) = args
    if not isinstance(x, Value) or x.dtype != result.dtype:
        return None
    rising = emit("ufunc", np.exp, emit("ufunc", np.minimum, x, 0))
    falling = emit("ufunc", np.exp, emit("ufunc", np.minimum, emit("ufunc", np.negative, x), 0))
    return emit("ufunc", np.divide, rising, emit("ufunc", np.add, rising, falling))


def _over_cosh_squared(emit: Emit, args: tuple[Any, ...], _kwargs: dict[str, Any], _result: Value) -> Value | None:
    g, x = args
    if not (isinstance(g, Value) and isinstance(x, Value) and g.dtype == x.dtype and g.shape == x.shape):
        return None
    cosh = emit("ufunc", np.cosh, x)
    return emit("ufunc", np.divide, emit("ufunc", np.divide, g, cosh), cosh)


def _expand(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Value) -> Value | None:
    x, shape = args[0], tuple(args[1])
    axis = args[2] if len(args) > 2 else kwargs.get("axis")
    if not isinstance(x, Value):
        return None
    if axis is not None and len(x.shape) != len(shape):
        axes = {i % len(shape) for i in (axis if isinstance(axis, tuple) else (axis,))}
        rest = iter(x.shape)
        lengths = tuple(1 if i in axes else next(rest) for i in range(len(shape)))
        x = emit("view", np.reshape, x, lengths, shape=lengths)
    return emit("view", np.broadcast_to, x, shape)


def _reshape(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
    order = args[2] if len(args) > 2 else kwargs.get("order", "C")
    if not isinstance(args[0], Value) or order != "C":
        return None
    return emit("view", np.reshape, args[0], result.shape)


def _ravel(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
    return _reshape(emit, (args[0], None, *args[1:]), kwargs, result)


def _broadcast_to(emit: Emit, args: tuple[Any, ...], _kwargs: dict[str, Any], result: Value) -> Value | None:
    return emit("view", np.broadcast_to, args[0], result.shape) if isinstance(args[0], Value) else None


def _cast(emit: Emit, args: tuple[Any, ...], _kwargs: dict[str, Any], _result: Value) -> Value | None:
    return emit("cast", np.copyto, args[0]) if isinstance(args[0], Value) else None


def _clip(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
    x, low, high = args
    numbers = all(b is None or type(b) in (int, float) for b in (low, high))
    if kwargs or not numbers or not isinstance(x, Value) or x.dtype != result.dtype or result.dtype.kind != "f":
        return None
    if low is not None:
        x = emit("ufunc", np.maximum, x, low)
    return x if high is None else emit("ufunc", np.minimum, x, high)


def _draw(emit: Emit, args: tuple[Any, ...], kwargs: dict[str, Any], result: Value) -> Value | None:
    rng = args[1] if len(args) > 1 else kwargs["rng"]
    fits = result.dtype in (np.float32, np.float64) and isinstance(rng, np.random.Generator)
    return emit("draw", random.random_like, rng) if fits else None


_LOWERINGS: dict[Callable[..., Any], Lowering] = {
    np.sum: _reduction(np.add),
    np.prod: _reduction(np.multiply),
    np.max: _reduction(np.maximum),
    np.min: _reduction(np.minimum),
    np.all: _reduction(np.logical_and),
    np.any: _reduction(np.logical_or),
    np.mean: _mean,
    reductions.mean_square: _mean_square,
    np.matmul: _product,
    np.dot: _product,
    linalg.linear: _linear,
    elementwise.relu: _relu,
    elementwise.sigmoid: _sigmoid,
    elementwise.over_cosh_squared: _over_cosh_squared,
    shaping.expand: _expand,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.broadcast_to: _broadcast_to,
    shaping.cast: _cast,
    np.clip: _clip,
    random.random_like: _draw,
}
"""The few functions that have a better form than a call of their kernel; all others need no entry."""


def is_data_dependent(index: Any) -> bool:
    """Whether an index picks a number of entries that depends on values: a mask does."""
    return any(part.dtype == np.bool_ and part.role != "constant" for part in values_in(index))
