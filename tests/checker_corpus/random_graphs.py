"""Random recorded graphs with kinks, ties, selections, reductions and reuse, and the same with one wrong rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinygrad_nn as tn
from tinygrad_nn.derivatives import unbroadcast

Parts = list[Any]
Fault = Callable[[Parts, Any, Any, list[Any]], Parts]  # right gradients, upstream, result, arguments -> wrong ones
SIDE = 4  # lengths are 4 or 1, so that everything broadcasts, and a wrong axis keeps the shape


@dataclass
class Op:
    """A function of one or two arrays or Tensors, and the mistakes that its own rule may hold."""

    name: str
    call: Callable[..., Any]
    arity: int = 1
    faults: dict[str, Fault] = field(default_factory=dict)

    def with_fault(self, fault: Fault) -> Callable[..., Any]:
        """The same function as one recorded call, "faulty", whose gradients `fault` spoils."""
        where = tuple(range(self.arity))

        def part(k: int, g: Any, y: Any, args: list[Any]) -> Any:
            right = tn.vjp(self.call, argnums=where)(*args)[1](np.asarray(g))
            return fault(list(right), g, y, args)[k]

        kernel = functools.partial(self.call)  # not the function itself, which may have its row
        if self.arity == 1:
            return tn.differentiable(kernel, lambda g, y, a: part(0, g, y, [a]), name="faulty")
        return tn.differentiable(
            kernel,
            lambda g, y, a, b: part(0, g, y, [a, b]),
            lambda g, y, a, b: part(1, g, y, [a, b]),
            name="faulty",
        )


def scaled(factor: float, *, only: int | None = None) -> Fault:
    return lambda parts, g, y, args: [p * factor if only in {None, k} else p for k, p in enumerate(parts)]


def others(parts: Parts, g: Any, _y: Any, args: list[Any]) -> Parts:
    """What goes to one branch goes to the other one: the loser of a maximum, the side that was not taken."""
    return [unbroadcast(g + 0 * _y, np.shape(a)) - p for p, a in zip(parts, args, strict=True)]


def each_winner(parts: Parts, g: Any, y: Any, args: list[Any]) -> Parts:
    """Everything that equals the result gets the whole gradient: ties count twice."""
    return [unbroadcast(g * (a == y), np.shape(a)) for a in args]


def each_largest(parts: Parts, g: Any, y: Any, args: list[Any]) -> Parts:
    return [np.asarray(g * (args[0] == y))]


def other_axis(parts: Parts, g: Any, y: Any, args: list[Any]) -> Parts:
    return [p.T if p.shape == p.T.shape else p for p in parts]


def direct(parts: Parts, g: Any, y: Any, args: list[Any]) -> Parts:
    """Straight through: the op's own reordering, or its second term, is forgotten."""
    return [g * y if np.shape(g) == p.shape else p for p in parts]


def overwritten(index: Any) -> Fault:
    def fault(parts: Parts, g: Any, y: Any, args: list[Any]) -> Parts:
        d = np.zeros((SIDE, SIDE))
        d[index] = g
        return [unbroadcast(d, args[0].shape)]

    return fault


EVERY: dict[str, Fault] = {"x 1.1": scaled(1.1), "x 1.001": scaled(1.001), "sign": scaled(-1.0)}
HALF: dict[str, Fault] = {
    "a x 1.1": scaled(1.1, only=0),
    "b x 1.001": scaled(1.001, only=1),
    "no a": scaled(0.0, only=0),
    "no b": scaled(0.0, only=1),
}


def drawn(rng: np.random.Generator) -> Op:
    """One op with its own parameters."""
    axis = [0, 1, None][rng.integers(3)]
    one = int(rng.integers(2))
    mask = rng.random((SIDE, SIDE)) < 0.5
    low = float(rng.integers(-2, 1))
    high = low + float(rng.integers(1, 3))
    rows = rng.integers(SIDE, size=SIDE)
    matrix = rng.integers(-1, 2, (SIDE, SIDE)).astype(float)
    wrong_axis = {"wrong axis": other_axis}
    branch, ties = {"swapped branch": others}, {"loser": others, "tie twice": each_winner}

    def extreme(function: Any) -> Callable[[Any], Any]:
        return lambda a: function(a, axis=axis, keepdims=True)

    def spread(a: Any) -> Any:
        return a + np.zeros((SIDE, SIDE))

    ops = [
        Op("tanh", np.tanh),
        Op("sin", np.sin),
        Op("square", np.square),
        Op("sigmoid", tn.functional.sigmoid),
        Op("swish", lambda a: a * tn.functional.sigmoid(a), faults={"missing term": direct}),
        Op("softmax", lambda a: tn.functional.softmax(a, axis=one), faults={"missing term": direct, **wrong_axis}),
        Op("matmul", lambda a: spread(a) @ matrix, faults=wrong_axis),
        Op("cumsum", lambda a: np.cumsum(a, axis=one), faults=wrong_axis),
        Op("add", lambda a, b: a + b, 2, HALF),
        Op("subtract", lambda a, b: a - b, 2, HALF),
        Op("multiply", lambda a, b: a * b, 2, HALF),
        Op("sum", lambda a: np.sum(a, axis=axis, keepdims=True), faults=wrong_axis),
        Op("mean", lambda a: np.mean(a, axis=axis, keepdims=True), faults=wrong_axis),
        Op("transpose", np.transpose, faults=wrong_axis),
        Op("flip", lambda a: np.flip(a, one), faults=wrong_axis),
        Op("relu", tn.functional.relu, faults=branch),
        Op("abs", np.abs),
        Op("leaky", lambda a: np.where(a > 0, a, 0.1 * a), faults=branch),
        Op("clip", lambda a: np.clip(a, low, high), faults=branch),
        Op("where", lambda a, b: np.where(mask, a, b), 2, HALF | branch),
        Op("maximum", np.maximum, 2, HALF | ties),
        Op("minimum", np.minimum, 2, HALF | ties),
        Op("max", extreme(np.max), faults={"tie twice": each_largest, **wrong_axis}),
        Op("min", extreme(np.min), faults={"tie twice": each_largest, **wrong_axis}),
        Op("sort", lambda a: np.sort(a, axis=one), faults={"unsorted": lambda parts, g, y, args: [g], **wrong_axis}),
        Op("rows", lambda a: spread(a)[rows], faults={"overwritten": overwritten(rows)}),
        Op("diagonal", lambda a: np.take_along_axis(spread(a), mask * 1, axis=one)),
    ]
    return ops[rng.integers(len(ops))]


def point(rng: np.random.Generator) -> Any:
    """An input: smooth, or full of kinks and ties."""
    shape = (SIDE, SIDE)
    kind = rng.integers(7)
    if kind < 2:
        return rng.standard_normal(shape)
    if kind < 4:
        return rng.integers(-2, 3, shape).astype(float)
    if kind == 4:
        return np.full(shape, float(rng.integers(-1, 2)))
    if kind == 5:
        return np.broadcast_to(rng.standard_normal((1, SIDE)), shape).copy()
    return np.where(rng.random(shape) < 0.5, 0.0, rng.standard_normal(shape))


@dataclass
class Graph:
    """A program of steps, each an op and the earlier values that it reads; what nobody reads comes out."""

    inputs: list[Any]
    steps: list[tuple[Op, list[int]]]
    ends: list[int]
    at: int
    fault: str

    def run(self, *inputs: Any, faulty: bool = False) -> Any:
        values = list(inputs)
        for number, (op, read) in enumerate(self.steps):
            call = self.faulty if faulty and number == self.at else op.call
            values.append(call(*[values[k] for k in read]))
        return tuple(values[k] for k in self.ends)

    @functools.cached_property
    def faulty(self) -> Callable[..., Any]:
        op = self.steps[self.at][0]
        return op.with_fault((EVERY | op.faults)[self.fault])

    def right(self, *inputs: Any) -> Any:
        return self.run(*inputs)

    def wrong(self, *inputs: Any) -> Any:
        return self.run(*inputs, faulty=True)

    def exercised(self, rng: np.random.Generator) -> bool:
        """Whether the wrong rule shows at all: in the gradient of any input, for random upstream gradients."""
        where = tuple(range(len(self.inputs)))
        pulls = [tn.vjp(f, argnums=where)(*self.inputs) for f in (self.right, self.wrong)]
        g = tuple(rng.standard_normal(np.shape(y)) for y in pulls[0][0])
        pairs = zip(*(back(g) for _, back in pulls), strict=True)
        return any(np.max(np.abs(a - b)) > 1e-9 * (1 + np.max(np.abs(a) + np.abs(b))) for a, b in pairs)


def graph(seed: int, number: int) -> Graph:
    """A graph of 3 to 14 steps; what grows too large is scaled down."""
    rng = np.random.default_rng([seed, number, 17])
    inputs = [point(rng) for _ in range(rng.integers(1, 3))]
    values, steps = list(inputs), []
    unread = set(range(len(inputs)))
    for _ in range(rng.integers(3, 15)):
        op = drawn(rng)
        read = [
            int(rng.choice(sorted(unread))) if unread and rng.random() < 0.7 else int(rng.integers(len(values)))
            for _ in range(op.arity)
        ]
        y = op.call(*[values[k] for k in read])
        unread = (unread - set(read)) | {len(values)}
        steps.append((op, read))
        values.append(y)
        if np.max(np.abs(y)) > 20:
            steps.append((Op("eighth", lambda a: a * 0.125), [len(values) - 1]))
            unread = (unread - {len(values) - 1}) | {len(values)}
            values.append(y * 0.125)
    at = int(rng.integers(len(steps)))
    own = steps[at][0].faults
    faults = list(own if own and rng.random() < 0.7 else EVERY | own)
    return Graph(inputs, steps, sorted(unread), at, faults[rng.integers(len(faults))])
