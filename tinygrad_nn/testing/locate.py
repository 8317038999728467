"""Where a gradient goes wrong: the first recorded node whose own rule is wrong, or the line that made the array."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn import places
from tinygrad_nn.derivatives import Row
from tinygrad_nn.engine import Call, Node, Tape, recording
from tinygrad_nn.tensor import Tensor, apply
from tinygrad_nn.testing.oracles import quiet
from tinygrad_nn.testing.problem import Arrays, Problem, framework_problem
from tinygrad_nn.testing.report import KINK, WRONG

__all__ = [
    "COMPARISONS",
    "LinesTape",
    "Nodes",
    "assigned_lines",
    "coverage",
    "judged",
    "recorded",
    "source_of",
    "where",
]

BRANCHES = {"relu", "np.absolute", "np.where", "np.maximum", "np.minimum", "np.fmax", "np.fmin", "np.clip"}
COMPARISONS = {"np.greater", "np.greater_equal", "np.less", "np.less_equal"}
MOST_NODES = 2000

Judge = Callable[[Problem], str]


class LinesTape(Tape):
    """A tape that also notes which line of the user's code made each call, and which entries a gradient reached.

    Attributes
    ----------
    lines : where each call was made
    nodes : the node of each call; None where no gradient is needed
    reached : for each node that the walk back came to, the entries with a gradient that is not 0
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.nodes: list[Node | None] = []
        self.reached: dict[Node, Any] = {}

    def add(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, node: Node | None) -> None:
        """Take note of one call and of the nearest line outside of the package."""
        if not self.passive:  # what a rule computes by Tensors is no call of the forward pass
            super().add(row, args, kwargs, result, node)
            self.lines.append(places.line())
            self.nodes.append(node)

    def derived(self, node: Node, _k: int, g: Any, _part: Any, _total: Any) -> None:
        """Take note of the entries that a gradient reached."""
        parts = [np.asarray(p.numpy() if isinstance(p, Tensor) else p) != 0 for p in (g if type(g) is tuple else [g])]
        mask = parts[0] if len(parts) == 1 else np.array(any(p.any() for p in parts))
        self.reached[node] = self.reached[node] | mask if node in self.reached else mask


@dataclass
class Nodes:
    """What the recorded calls say one by one.

    Attributes
    ----------
    wrong : the number of the first one whose own derivative is wrong at its recorded arguments; None if all are right
    kinks : whether one of them has a kink or tie there, or compares equal numbers
    every : whether all of them were looked at
    """

    wrong: int | None = None
    kinks: bool = False
    every: bool = True


def recorded(problem: Problem, vs: Arrays) -> LinesTape:
    """The calls of one forward pass, and what the walk back reaches."""
    tape = LinesTape()
    points = [np.array(p) if isinstance(p, np.ndarray) else p for p in problem.points]
    with quiet(), recording(tape):
        _, back = problem.pulled(points)
        tape.passive = True
        if tape.calls:
            back([np.array(v) for v in vs])
    return tape


def where(problem: Problem, tape: LinesTape, nodes: Nodes, vs: Arrays, wrong: list[int]) -> str:
    """Where the first wrong rule is: a recorded call, a line of a backward pass, or the function itself."""
    if nodes.wrong is not None:
        name, line = tape.calls[nodes.wrong].row.name, tape.lines[nodes.wrong]
        return f"node {nodes.wrong} ({name}), {line}: the first node whose own rule is wrong"
    points = [np.array(p) if isinstance(p, np.ndarray) else p for p in problem.points]
    with quiet():
        return (wrong and assigned_lines(problem, points, vs, wrong)) or source_of(problem.subject)


def coverage(tape: LinesTape) -> list[str]:
    """What a wrong rule could hide in: calls that no gradient reaches, and branches that no entry with one took."""
    found = []
    for number, (call, line, node) in enumerate(zip(tape.calls, tape.lines, tape.nodes, strict=True)):
        if node is None:
            continue
        name = call.row.name
        reached = tape.reached.get(node)
        if reached is None or not reached.any():
            what = "no gradient reaches" if reached is None else "only zeros reach"
            found.append(f"{what} node {number} ({name}, {line})")
        elif name in BRANCHES:
            for text, mask in _sides(call).items():
                if reached.size > 1 and not (mask & reached).any():
                    found.append(f"{text} of node {number} ({name}, {line}) was never exercised")
    return found


def _sides(call: Call) -> dict[str, Any]:
    args: list[Any] = [np.real(a) if isinstance(a, (np.ndarray, float, int)) else a for a in call.args]
    name = call.row.name
    if name in {"relu", "np.absolute"}:
        return {"x < 0": np.asarray(args[0] < 0), "x > 0": np.asarray(args[0] > 0)}
    if name == "np.where":
        return {"the true side": np.asarray(args[0], dtype=bool), "the false side": ~np.asarray(args[0], dtype=bool)}
    if name == "np.clip":
        sides = {}
        if args[1] is not None:
            sides["x < low"] = np.asarray(args[0] < args[1])
        if len(args) > 2 and args[2] is not None:
            sides["x > high"] = np.asarray(args[0] > args[2])
        return sides
    return {"a < b": np.asarray(args[0] < args[1]), "a > b": np.asarray(args[0] > args[1])}


def judged(tape: LinesTape, judge: Judge) -> Nodes:
    """Judge the recorded calls in turn, up to the first one whose own derivative is wrong."""
    found = Nodes(every=len(tape.calls) <= MOST_NODES)
    for number, call in enumerate(tape.calls[:MOST_NODES]):
        problem = node_problem(call)
        verdict = "" if problem is None else judge(problem)
        tie = call.row.name in COMPARISONS and bool(np.any(np.equal(*call.args[:2])))
        found.kinks = found.kinks or verdict == KINK or tie
        if verdict == WRONG:
            found.wrong = number
            break
    return found


def node_problem(call: Call) -> Problem | None:
    """One recorded call as a problem of its own; None where it has no derivative to check."""
    row = call.row
    places = [
        i
        for i, a in enumerate(call.args)
        if isinstance(a, np.ndarray)
        and a.dtype.kind == "f"
        and a.size
        and row.active >> i & 1
        and np.all(np.isfinite(a))
    ]
    if not places:
        return None

    def function(*arrays: Any) -> Any:
        args = list(call.args)
        for i, a in zip(places, arrays, strict=True):
            args[i] = a
        return apply(row, tuple(args), call.kwargs)

    return framework_problem(function, [call.args[i] for i in places], names=[f"argument {i}" for i in places])


def source_of(subject: Any) -> str:
    """The name, file and line of a function, method or object with a backward method."""
    for name in ("__wrapped__", "__func__"):
        if hasattr(subject, name):
            return source_of(getattr(subject, name))
    code = getattr(subject, "__code__", None)
    if code is not None:
        return f"{code.co_qualname} ({places.file_name(code.co_filename)}:{code.co_firstlineno})"
    method = getattr(subject, "backward", None) or getattr(type(subject), "forward", None)
    return source_of(method) if method is not None and method is not subject else type(subject).__name__


class _Lines:
    """A trace function that notes the line after which each local array last changed."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.order: list[tuple[str, int, str, Any]] = []
        self._last: dict[int, tuple[int, dict[tuple[str, int], bytes]]] = {}

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != self.home:
            return None
        if event in {"line", "return"}:
            line, before = self._last.get(id(frame), (frame.f_lineno, {}))
            now: dict[tuple[str, int], bytes] = {}
            for name, value in _arrays_of(frame.f_locals):
                key = (name, id(value))
                now[key] = value.tobytes()
                if event != "call" and before.get(key) != now[key] and id(frame) in self._last:
                    self.order.append((name, line, frame.f_code.co_qualname, value))
            self._last[id(frame)] = (frame.f_lineno, now)
            if event == "return":
                del self._last[id(frame)]
                parts = argument if isinstance(argument, (tuple, list)) else [argument]
                for part in parts:
                    if isinstance(part, np.ndarray) and not any(part is v for *_, v in self.order):
                        self.order.append(("", frame.f_lineno, frame.f_code.co_qualname, part))
        return self


def _arrays_of(variables: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [(n, v) for n, v in variables.items() if isinstance(v, np.ndarray) and v.size <= 20000]
    owner = variables.get("self")
    held = getattr(owner, "__dict__", {})
    found += [(f"self.{n}", v) for n, v in held.items() if isinstance(v, np.ndarray) and v.size <= 20000]
    return found


def assigned_lines(problem: Problem, points: Arrays, vs: Arrays, wrong: list[int]) -> str:
    """The line that gave the first wrong gradient its value, and from which line on to look."""
    subject = problem.subject
    subject = getattr(subject, "backward", subject)
    code = getattr(getattr(subject, "__func__", subject), "__code__", None)
    if code is None:
        return ""
    tracer = _Lines(code.co_filename)
    before = sys.gettrace()
    problem.rewind()
    try:
        sys.settrace(tracer)
        _, back = problem.pull(points)
        gradients = back([np.array(v) for v in vs])
    except Exception:  # noqa: BLE001 - the rule runs under a debugger's eyes here, and nothing depends on it
        return ""
    finally:
        sys.settrace(before)
    made = {k: _made(tracer.order, g) for k, g in enumerate(gradients) if g is not None}
    bad = sorted(made[k] for k in wrong if k in made and made[k] >= 0)
    if not bad:
        return ""
    name, line, function, _ = tracer.order[bad[0]]
    file = places.file_name(code.co_filename)
    good = [at for k, at in made.items() if k not in wrong and 0 <= at < bad[0]]
    first = [order for order in tracer.order[max(good, default=-1) + 1 : bad[0]] if order[2] == function and order[0]]
    text = f"{function} ({file}:{line}): the first wrong gradient" + (f" is {name}" if name else " is returned")
    if good and first and first[0][1] < line:
        text += f"; look from line {first[0][1]} ({first[0][0]}) on"
    return text


def _made(order: list[tuple[str, int, str, Any]], gradient: Any) -> int:
    """The position of the last change of an array before it was returned."""
    found = -1
    for at, (_, _, _, value) in enumerate(order):
        if value is gradient or (value.shape == gradient.shape and np.shares_memory(value, gradient)):
            found = at
    return found
