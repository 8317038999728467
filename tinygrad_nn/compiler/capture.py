"""Capture: run a function once, forward and backward, and link what was computed to what it came from.

A `Trace` is one run.  Two traces, on different data, must describe the same program; whatever
differs is a value that was computed outside the recording, and would be frozen in the program.
"""
# ruff: noqa: SLF001 - what stands inside a Tensor is what a program works on

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_nn.compiler.guard import is_same
from tinygrad_nn.compiler.lowering import is_data_dependent, lower
from tinygrad_nn.compiler.program import Op, Program, Value, constant, substitute
from tinygrad_nn.conversion import upstream_for
from tinygrad_nn.derivatives import Row, elementwise, indexing
from tinygrad_nn.derivatives.table import Blank
from tinygrad_nn.engine import Leaf, Node, Tape, recording, walk
from tinygrad_nn.errors import DTypeError, GraphError
from tinygrad_nn.tensor import Tensor, _wrap

__all__ = ["Trace", "Watch", "comparable", "compare", "computed_before", "flatten", "link", "unflatten"]


class Ref(NamedTuple):
    """Where an array comes from: an input, a Tensor, an array, a constant, or an earlier call."""

    role: str
    key: Any


class Watch(Tape):
    """A tape that refuses to let a value out: what is done with it would not be recorded.

    The exits that end in a Python number tell the tape; arrays are compared between runs instead.
    """

    def leave(self, how: str) -> None:
        """Raise, for a Tensor whose value is about to become a Python number by way of `how`."""
        if how == "backward()":
            raise GraphError(
                "backward() inside the function to compile: leave it, zero_grad() and the optimizer's step outside; "
                "the program runs the backward pass itself"
            )
        if how == ".grad":
            raise GraphError(
                "the function to compile reads the .grad of a Tensor, which is another at each call: pass it as an "
                "argument, or compute a gradient inside with tn.grad"
            )
        hint = ""
        if how == "np.asarray()":
            hint = "; for table[t] write tn.Tensor(table)[t]; one-hot rows are t[:, None] == np.arange(n)"
        raise GraphError(
            f"{how} of a Tensor inside the function to compile: it branches on values, computes with them outside of "
            f"what is recorded, or overwrites them, and a program would freeze what came out. Choose with np.where, "
            f"stay with Tensors, or return the value beside the loss{hint}"
        )

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[Any, Any] = {}
        self.quiet: list[bool] = []  # whether the calls were made where NumPy does not warn
        self.slopes: list[tuple[Any, Any]] = []  # a result, and the gradient with respect to it

    def add(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, node: Node | None) -> None:
        """Take note of one call, and by its node of what it gave."""
        super().add(row, args, kwargs, result, node)
        self.quiet.append(set(np.geterr().values()) == {"ignore"})
        if node is not None and isinstance(result, np.ndarray):
            self._results[node] = result

    def derived(self, node: Node, k: int, g: Any, part: Any, total: Any) -> None:
        """Take note of the gradient that a result has got so far."""
        del g, part
        result = self._results.get((node.parents or ())[k])
        if result is not None:
            self.slopes.append((result, total._array))

    def data(self, array: Any) -> Tensor:
        """Give a Tensor for an array: what is computed from it is recorded too, and it tells where it branches."""
        return _wrap(array, None)

    def source(self, data: Any, dtype: Any) -> Any:
        """Give the array of a Tensor that stands for an array, so that ``Tensor(x)`` means what it does outside."""
        if not isinstance(data, Tensor) or data._node is not None:
            return data
        return (data if dtype is None or data.dtype == dtype else data.astype(dtype))._array


class Trace:
    """One run of a function on a tape: its calls with every array replaced by a `Ref`.

    Parameters
    ----------
    function : called with `args` and `kwargs`
    leaves : arrays and Tensors inside the arguments, which are the inputs
    copies : the arrays of Tensors and arrays found outside, as `Snapshot.copies`
    exchanged : called after the run; the Tensors that the run bound to attributes
    stand_ins : the Tensors that stand in the place of plain arrays, by their ids
    leaves : of the Tensors that were found outside
    backward : whether to walk back from the loss
    """

    def __init__(
        self,
        run: Callable[[], Any],
        inputs: list[Any],
        copies: dict[int, tuple[Any, Any, str]],
        exchanged: Callable[[], list[Any]],
        stand_ins: dict[int, Tensor],
        leaves: set[Leaf],
        *,
        backward: bool,
    ) -> None:
        self._origin: dict[int, Ref] = {id(array): Ref("input", k) for k, array in enumerate(inputs)}
        for key, (original, _, _) in copies.items():
            self._origin[key] = Ref("tensor" if isinstance(original, Tensor) else "array", id(original))
        self._stand_ins = stand_ins
        self.constants: list[Any] = []
        warns = set(np.geterr().values()) != {"ignore"}
        tape = Watch()  # whose calls keep every array until the end, so that no id is used twice
        with recording(tape):
            result = run()
            rebound = exchanged()
            self.forward_calls = len(tape.calls)
            found, self.structure = flatten(result)
            gradients = _walked(found, tape) if backward else {}
        # a kernel may return an argument itself, for some values and not for others (keep_zero does, unless there
        # is a NaN): runs that differ in this link the same calls in other ways, and cannot be compared
        self.returned = [(call.row, any(a is call.result for a in call.args)) for call in tape.calls]
        self.calls = [self._linked(call, number) for number, call in enumerate(tape.calls)]
        # the walk back is quiet as a whole
        self.quiet = [warns and quiet and k < self.forward_calls for k, quiet in enumerate(tape.quiet)]
        self.outputs = [self._output(item) for item in found]
        self.written = [self._ref(t._array) for t in rebound]
        # a leaf that the run made itself belongs to nobody outside; one that comes again in another run does
        self.gradients = {leaf: self._ref(g._array) for leaf, g in gradients.items() if leaf in leaves}
        self.others = gradients.keys() - leaves
        known = self._origin
        self.slopes = [(known[id(y)], known[id(g)]) for y, g in tape.slopes if id(y) in known and id(g) in known]
        del self._origin, self._stand_ins  # the ids mean nothing from here on, and the arrays need not live on

    def _linked(self, call: Any, number: int) -> tuple[Any, Any, Any, list[Any], bool]:
        """One call with its arrays replaced by where they come from, and its results by their shapes and dtypes."""
        args, kwargs = (substitute(part, self._ref, np.ndarray) for part in (call.args, call.kwargs))
        results = call.result if isinstance(call.result, tuple) else (call.result,)
        view = len(results) == 1 and any(
            isinstance(a, np.ndarray) and a is not results[0] and np.may_share_memory(a, results[0]) for a in call.args
        )
        if call.row.function is not elementwise.stop_gradient:  # which gives its argument itself, always
            for k, y in enumerate(results):
                self._origin[id(y)] = Ref("computed", (number, k))
        return call.row, args, kwargs, [Blank(y.shape, y.dtype) for y in results], view

    def _ref(self, array: Any) -> Ref:
        found = self._origin.get(id(array))
        if found is None:
            found = self._origin[id(array)] = Ref("constant", len(self.constants))
            self.constants.append(array)
        return found

    def _output(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return "array" if id(item) in self._stand_ins else "tensor", self._ref(item._array)
        if isinstance(item, np.ndarray):
            return "array", self._ref(item)
        return "object", item


def _walked(found: list[Any], tape: Tape) -> dict[Any, Any]:
    """Walk back from the loss on the tape, and give the gradient of every leaf."""
    loss = found[0] if found else None
    if not isinstance(loss, Tensor):
        raise DTypeError(
            f"a function to compile returns its loss, a Tensor with one entry, or (loss, ...) with other results after "
            f"it; the first result is a {type(loss).__name__}. For a function without a loss: "
            f"tn.compile(function, backward=False)"
        )
    if loss._node is None:
        raise GraphError(
            "the loss depends on nothing that requires a gradient, so there is no backward to compile: write "
            "tn.compile(function, backward=False), or give the parameters requires_grad=True"
        )
    upstream = upstream_for(loss, None)
    for call in tape.calls:
        if call.row.pullback:
            raise GraphError(
                f"{call.row.name} brings its own backward pass (y, pullback), which cannot be recorded: give "
                f"tn.differentiable one rule per argument to compile it, or compile with backward=False"
            )
    if type(loss._node) is Leaf:
        return {loss._node: _wrap(upstream, None)}
    return walk(loss._node, _wrap(upstream, None), release=False, wrap=_wrap)


# Nested arguments and results


def flatten(item: Any) -> tuple[list[Any], Any]:
    """The leaves of nested tuples, lists and dicts, and the structure around them."""
    leaves: list[Any] = []
    return leaves, _structure(item, leaves)


def _structure(part: Any, leaves: list[Any]) -> Any:
    """Put the leaves of a part into a list, and give the structure; no closure, which would keep them alive."""
    if type(part) in (tuple, list) or (isinstance(part, tuple) and hasattr(part, "_fields")):
        return type(part), [_structure(inner, leaves) for inner in part]
    if type(part) is dict:
        return dict, [(key, _structure(inner, leaves)) for key, inner in part.items()]
    leaves.append(part)
    return None


def unflatten(structure: Any, leaves: Any) -> Any:
    """Put leaves into a structure that `flatten` gave."""
    return _filled(structure, iter(leaves))


def _filled(part: Any, rest: Iterator[Any]) -> Any:
    if part is None:
        return next(rest)
    kind, parts = part
    if kind is dict:
        return {key: _filled(inner, rest) for key, inner in parts}
    items = [_filled(inner, rest) for inner in parts]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


# Comparison


def comparable(first: Trace, second: Trace) -> bool:
    """Whether two runs that made the same calls also got back the same arguments from them."""
    same_rows = [row for row, _ in first.returned] == [row for row, _ in second.returned]
    return first.returned == second.returned or not same_rows


def compare(first: Trace, second: Trace) -> None:
    """Raise if two runs on different data do not describe one program."""
    for a, b in zip(first.calls, second.calls, strict=False):
        if (
            a[0] is not b[0]
            or not _equal(a[1:3], b[1:3])
            or any(x.shape != y.shape or x.dtype != y.dtype for x, y in zip(a[3], b[3], strict=True))
        ):
            if any(isinstance(x, np.random.Generator) and x is not y for x, y in zip(a[1], b[1], strict=False)):
                raise GraphError(
                    "the function to compile makes a generator at each call, and a program would go on drawing from "
                    "the first one: make it outside, and keep it in a variable, an attribute or an argument"
                )
            if (
                a[0] is b[0]
                and a[0].function in _INDEXED
                and any(x.shape != y.shape for x, y in zip(a[3], b[3], strict=True))
            ):
                raise _masked()
            if a[0] is b[0] and (number := _changed_number(a[1:3], b[1:3])):
                raise _frozen(f"the number {number} in {a[0].name}")
            raise _other_path(f"{a[0].name} in one, {b[0].name} in the other")
    for leaf in first.others & second.others:
        raise GraphError(
            f"the loss depends on a parameter of shape {leaf.shape} that compile cannot find: keep it in a variable, "
            f"an attribute, a list or a dict that the function reads, or pass it or its Module as an argument"
        )
    if len(first.calls) != len(second.calls):
        raise _other_path(f"{len(first.calls)} and {len(second.calls)} calls")
    same_ends = first.structure == second.structure and [o[0] for o in first.outputs] == [o[0] for o in second.outputs]
    if not same_ends or len(first.constants) != len(second.constants) or first.gradients != second.gradients:
        raise _other_path("other results")
    for (kind, a), (_, b) in zip(first.outputs, second.outputs, strict=True):
        _compare_results(kind, a, b)
    if first.written != second.written:
        raise _frozen("a buffer that the forward binds")
    for a, b in zip(first.constants, second.constants, strict=True):
        if a is b:
            raise GraphError(
                f"an array of shape {a.shape} comes from a place that compile cannot see, so it would not notice when "
                f"it is exchanged: keep it in a variable, an attribute, a list or a dict, or pass it as an argument"
            )
        if a.shape != b.shape or a.dtype != b.dtype or a.tobytes() != b.tobytes():
            raise _frozen(f"an array of shape {a.shape}")


def _compare_results(kind: str, a: Any, b: Any) -> None:
    """Raise if a result differs between two runs: where it comes from, or if it is neither Tensor nor array, itself."""
    if kind != "object":
        if a != b:
            raise _frozen("a result")
    elif is_same(a, b):
        return
    elif type(a) is type(b) and not isinstance(a, (int, float, complex, str, np.generic)):
        raise GraphError(
            f"the function to compile returns a {type(a).__name__} that it makes at each call, and a program would "
            f"give the first one for ever: return Tensors, numbers and texts, in tuples, lists and dicts"
        )
    else:
        raise _frozen(f"the result {a!r}")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Ref) or isinstance(b, Ref):
        return type(a) is type(b) and bool(a == b)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return a is b or is_same(a, b) or (not isinstance(a, (int, float)) and type(a) is type(b) and bool(a == b))


def _changed_number(a: Any, b: Any) -> str:
    """The first number that differs between two lists of arguments, as text."""
    if isinstance(a, dict) and isinstance(b, dict):
        a, b = tuple(a.values()), tuple(b.values())
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and not isinstance(a, Ref):
        return next((text for x, y in zip(a, b, strict=False) if (text := _changed_number(x, y))), "")
    number = isinstance(a, (int, float, complex, np.generic)) and not is_same(a, b)
    return f"{a!r} (in another run {b!r})" if number else ""


def _other_path(what: str) -> GraphError:
    return GraphError(
        f"the function to compile took another path when it was run on other values ({what}): it branches on values, "
        f"or picks a number of entries that depends on them. Choose with np.where instead, or do not compile it"
    )


def _frozen(what: str) -> GraphError:
    return GraphError(
        f"{what} was computed from values outside of what can be recorded (.item(), float(), .numpy(), no_grad(), "
        f"NumPy on arrays, a generator that was drawn from directly, the clock): a program would freeze it. Compute it "
        f"with NumPy functions on Tensors (detach() cuts a gradient), draw with tn.functional.dropout or random_like, "
        f"or pass it as an argument"
    )


# Linking


def link(trace: Trace, copies: dict[int, tuple[Any, Any, str]], input_names: list[str], inputs: list[Any]) -> Program:
    """Make a program of a trace."""
    names = {id(original): (original, copy, name) for original, copy, name in copies.values()}
    values: dict[Ref, Value] = {}

    def value(ref: Ref) -> Value:
        found = values.get(ref)
        if found is None:
            if ref.role == "constant":
                found = constant(np.array(trace.constants[ref.key]))
            elif ref.role == "input":
                found = Value("input", inputs[ref.key].shape, inputs[ref.key].dtype, ref.key, input_names[ref.key])
            else:
                original, copy, name = names[ref.key]
                found = Value(ref.role, copy.shape, copy.dtype, original, name)
            values[ref] = found
        return found

    ops: list[Op] = []
    for number, (row, refs, named, results, view) in enumerate(trace.calls):
        outs = tuple(Value("computed", y.shape, y.dtype) for y in results)
        live = [Ref("computed", (number, k)) for k in range(len(results))]
        values.update(zip(live, outs, strict=True))
        args, kwargs = (substitute(part, value, Ref) for part in (refs, named))
        if row.function in _INDEXED and is_data_dependent(args[1]):
            raise _masked()
        if row.function is elementwise.stop_gradient:
            continue
        backward = number >= trace.forward_calls
        made, instead = lower(row, args, kwargs, outs, view=view, backward=backward, quiet=trace.quiet[number])
        ops.extend(made)
        if instead is not None:
            values[live[0]] = instead
    for y, g in trace.slopes:
        if y in values and g in values and values[g].slope_of is None:
            values[g].slope_of = values[y]
    outputs = [value(ref) for kind, ref in trace.outputs if kind != "object"]
    outputs += [value(ref) for ref in trace.written]
    return Program(ops, outputs, [value(ref) for ref in trace.gradients.values()])


_INDEXED = (indexing.getitem, indexing.scatter)


def _masked() -> GraphError:
    return GraphError(
        "indexing with a mask gives as many entries as the mask has, which changes from call to call: choose with "
        "np.where(mask, x, 0) instead"
    )


def computed_before(tensors: Any) -> None:
    """Raise if a Tensor that the function reads carries a graph from before."""
    for tensor, name in tensors:
        if type(tensor._node) is Node:
            raise GraphError(f"{name} was computed before the call and carries its graph: pass {name}.detach()")
