"""The engine: what is remembered of a computation, and the walk back through it.

A `Node` is one call of a function in the table.  It holds its row, its parents and only those
arrays that the row's rules read.  A `Leaf` is where gradients end: it belongs to a Tensor that
requires a gradient and was not computed.  Tensors point to nodes, and nodes never to Tensors, so
a graph lives exactly as long as something that was computed from it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import operator
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from tinygrad_nn.derivatives import Blank, Row, unbroadcast
from tinygrad_nn.derivatives.elementwise import keep_zero
from tinygrad_nn.errors import GraphError, RuleError
from tinygrad_nn.writes import check_unwritten, clock, last_write

__all__ = ["Call", "Leaf", "Node", "Tape", "ancestors", "leaves", "no_grad", "record", "recording", "walk"]

Function = TypeVar("Function", bound=Callable[..., Any])

_number = operator.attrgetter("number")


class Leaf(Blank):
    """Where gradients end: holds `grad`, and the time of the last write to its Tensor's data."""

    __slots__ = ("__weakref__", "grad", "lazy", "moved", "stamp", "written")

    def __init__(self, data: Any) -> None:
        self.shape = data.shape
        self.dtype = data.dtype
        self.lazy = hasattr(data, "__dask_graph__")  # whether its gradient may stay a plan of a computation
        self.grad: Any = None
        self.moved = False  # whether its Tensor was moved into an array of another kind before
        self.stamp = 0  # when its Tensor's data was last written
        self.written: Any = None  # the array that was written


class Node(Blank):
    """One recorded call: its row, its parents, and the arrays that the row's rules will read."""

    __slots__ = ("__weakref__", "args", "kwargs", "number", "parents", "row", "y")

    def __init__(
        self,
        row: Row,
        parents: Sequence[Any] | None,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        y: Any,
        like: Any,
    ) -> None:
        self.number = next(clock)
        self.row = row
        self.parents = parents
        self.args = args
        self.kwargs = kwargs
        self.y = y
        self.shape = like.shape
        self.dtype = like.dtype

    def release(self) -> None:
        """Forget everything but what messages need."""
        self.parents = None
        self.args = ()
        self.kwargs = {}
        self.y = None


class _Outputs:
    """The place of a shape for a node with several outputs."""

    shape = None
    dtype = None


def _no_kernel(*_: Any) -> Any:
    raise AssertionError


PICK = Row(_no_kernel, _no_kernel, (), name="pick")
"""The row of the nodes that stand for one output of a call with several."""


class Call:
    """What a `Tape` remembers of one call: the row, its arguments as arrays, keywords and the result."""

    __slots__ = ("args", "kwargs", "result", "row")

    def __init__(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self.row = row
        self.args = args
        self.kwargs = kwargs
        self.result = result


class Tape:
    """Everything that Tensors compute while it records, in order, needed for a gradient or not.

    Attributes
    ----------
    passive : whether it only looks on, so that nothing need run in another way because of it
    gradients : whether results require gradients; inside `no_grad` they do not, and are recorded all the same
    """

    passive = False
    gradients = True

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def switched(self, *, gradients: bool) -> Self:
        """Give the same tape with gradients on or off."""
        if gradients is self.gradients:
            return self
        other = copy.copy(self)
        other.gradients = gradients
        return other

    def data(self, array: Any) -> Any:
        """Give what ``.data`` and ``.numpy()`` of a Tensor return while it records."""
        return array

    def source(self, data: Any, _dtype: Any) -> Any:
        """Give what a new Tensor is made of while it records, for the `data` that were passed."""
        return data

    def add(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, _node: Node | None) -> None:
        """Take note of one call, and of the node made of it where a gradient is needed."""
        self.calls.append(Call(row, args, kwargs, result))

    def derived(self, node: Node, k: int, g: Any, part: Any, total: Any) -> None:
        """Take note of what a node's rule gave for argument `k`, and of what its parent has got in total."""

    def leave(self, how: str) -> None:
        """Take note of a value that leaves as a Python number or bool; a plain tape does not mind."""


_recording: ContextVar[bool | Tape] = ContextVar("recording", default=True)
current_recording = _recording.get


def records_gradients() -> bool:
    """Whether results require gradients now."""
    now = _recording.get()
    return now if isinstance(now, bool) else now.gradients


def records_everything() -> bool:
    """Whether what is computed without a gradient is recorded too, and has to be."""
    now = _recording.get()
    return isinstance(now, Tape) and not now.passive


def with_gradients() -> bool | Tape:
    """Give what to record where gradients are needed, whatever is around: what is recorded now, and gradients."""
    now = _recording.get()
    return now.switched(gradients=True) if isinstance(now, Tape) else True


class recording:  # noqa: N801 - reads as a statement: with recording(tape)
    """Switch what is recorded: False nothing, True what gradients need, a `Tape` everything."""

    def __init__(self, what: bool | Tape) -> None:
        self._what = what
        self._tokens: list[Token[bool | Tape]] = []

    def __enter__(self) -> bool | Tape:
        what, now = self._what, _recording.get()
        if what is False and isinstance(now, Tape) and not now.passive:
            what = now.switched(gradients=False)
        self._tokens.append(_recording.set(what))
        return what

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _recording.reset(self._tokens.pop())


class no_grad(recording):  # noqa: N801 - PyTorch's name
    """Compute without recording: results do not require gradients and keep nothing alive.

    A context manager and a decorator, for functions, coroutines and generator functions.  It holds
    for the thread or asyncio task that enters it.  A with-block held open across a ``yield`` also
    holds in the code that runs between two steps of that generator: decorate the generator instead.

    Examples
    --------
    >>> import tinygrad_nn as tn
    >>> w = tn.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tn.no_grad():
    ...     print((w * 2).requires_grad)
    False
    >>> @tn.no_grad()
    ... def predict(x):
    ...     return x * w
    >>> predict(3.0).requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, coroutine function or generator function."""
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                return _steps(function(*args, **kwargs))

            return generator  # type: ignore[return-value]
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with no_grad():
                    return await function(*args, **kwargs)

            return coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return plain  # type: ignore[return-value]


def _steps(iterator: Any) -> Any:
    """Run a generator with recording off inside its steps only, not between them."""
    action: Callable[..., Any] = iterator.send
    value: tuple[Any, ...] = (None,)
    while True:
        try:
            with no_grad():
                item = action(*value)
        except StopIteration as stop:
            return stop.value
        try:
            action, value = iterator.send, ((yield item),)
        except GeneratorExit:
            iterator.close()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the caller throws goes to the generator
            action, value = iterator.throw, (error,)


def record(
    row: Row, args: list[Any], kwargs: dict[str, Any], parents: list[Any], wanted: int, y: Any, pullback: Any
) -> Node:
    """Make the node of one call; `wanted` are the arguments that need a gradient, as bits, below a last one."""
    if row.pullback:
        return Node(row, parents, (pullback,), kwargs, None, y)
    keep_y, unread = row.kept.get(wanted) or row.keeps(wanted)
    if unread:
        args = args.copy()
        for k in unread:
            args[k] = parents[k] or _blank(args[k])
    if type(y) is tuple:
        return Node(row, parents, args, kwargs, y, _Outputs)
    return Node(row, parents, args, kwargs, y if keep_y else None, y)


def _blank(a: Any) -> Any:
    """What stands in for an argument that no rule reads and that has no node."""
    return Blank(a.shape, a.dtype) if hasattr(a, "dtype") else a


def record_pick(node: Node, k: int, y: Any) -> Node:
    """Make the node for output `k` of a call with several outputs."""
    return Node(PICK, (node,), (k,), {}, None, y)


def ancestors(root: Node | Leaf) -> tuple[list[Node], set[Any]]:
    """Every node that led to `root`, oldest first, and these with the leaves."""
    found: set[Any] = {root}
    nodes: list[Node] = []
    stack: list[Any] = [] if type(root) is Leaf else [root]
    while stack:
        node = stack.pop()
        if node.parents is None:
            raise GraphError(
                f"this graph was released by an earlier backward (a node of {node.row.name} with result "
                f"{node.shape} is gone): compute the loss again, or call backward(retain_graph=True) first"
            )
        nodes.append(node)
        for parent in node.parents:
            if parent is not None and parent not in found:
                found.add(parent)
                if type(parent) is not Leaf:
                    stack.append(parent)
    nodes.sort(key=_number)
    return nodes, found


def _order(root: Node | Leaf, targets: set[Any] | None) -> tuple[list[Node], set[Any]]:
    """The nodes to visit, oldest first, and everything through which a gradient is wanted."""
    nodes, found = ancestors(root)
    if nodes and last_write[0] > nodes[0].number:
        check_unwritten(nodes)
    if targets is not None:
        useful = targets & found
        for node in nodes:
            if not useful.isdisjoint(node.parents or ()):
                useful.add(node)
        return [node for node in nodes if node in useful], useful
    return nodes, found


def leaves(root: Node | Leaf) -> set[Leaf]:
    """Every leaf that a node was computed from."""
    return {node for node in _order(root, None)[1] if type(node) is Leaf}


def walk(
    root: Node | Leaf,
    upstream: Any,
    *,
    release: bool,
    targets: set[Any] | None = None,
    wrap: Callable[[Any, Any], Any] | None = None,
) -> dict[Any, Any]:
    """Walk back from `root` with the gradient `upstream`, newest node first.

    Returns the gradients of the leaves, or of `targets`, each an array that nothing else holds.
    With `wrap`, which makes a Tensor of an array and its node, the rules run on Tensors and the
    walk itself is recorded.  Nothing changes but that nodes are released when `release` is set.
    """
    nodes, useful = _order(root, targets)
    grads: dict[Any, Any] = {root: upstream}
    borrowed: set[Any] = {root}  # whose gradient may be, or view, an array that something else holds
    results: dict[Any, Any] = {}
    tape = current_recording()
    with np.errstate(all="ignore"):  # an infinite slope is an answer; the forward has warned where NumPy does
        _visit(
            nodes, useful, grads, borrowed, results, release, targets, wrap, tape if isinstance(tape, Tape) else None
        )
    if targets is None:
        results = grads
    else:
        results.update({key: g for key, g in grads.items() if key in targets})
    for key, part in results.items():
        if key in borrowed or part.dtype is not key.dtype or isinstance(part, np.generic):
            results[key] = _settled(part, key, wrap)
    return results


def _settled(part: Any, key: Any, wrap: Any) -> Any:
    """A gradient as an array of its own, in the dtype, byte order too, of what it belongs to."""
    if wrap is not None:
        return part if part.dtype == key.dtype else part.astype(key.dtype)
    if isinstance(part, (np.ndarray, np.generic)):
        return np.array(part, key.dtype)
    return part.copy()


def _visit(  # noqa: C901, PLR0912 - the one loop that everything depends on stays in one piece
    nodes: list[Node],
    useful: set[Any],
    grads: dict[Any, Any],
    borrowed: set[Any],
    results: dict[Any, Any],
    release: bool,
    targets: set[Any] | None,
    wrap: Callable[[Any, Any], Any] | None,
    tape: Tape | None,
) -> None:
    """Go through `nodes` from the newest to the oldest, and hand each one's gradient to its parents."""
    selected = False
    while nodes:
        node = nodes.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        if targets is not None and node in targets:
            results[node] = g
        row, parents, kwargs = node.row, node.parents or (), node.kwargs
        if row is PICK:
            _put(grads, parents[0], node.args[0], g)
            continue
        if type(g) is list:
            g = _fill(g, node.y, wrap)
        args, y = (node.args, node.y) if wrap is None else _wrapped(node, wrap)
        if y is None:
            y = node
        rules: Sequence[Any] = row.rules
        parts = None if row.plain else _parts(node, g, y, args, useful if targets is not None else None)
        broadcasts = row.broadcasts
        for k, parent in enumerate(parents):
            if parent is None or (targets is not None and parent not in useful):
                continue
            part = rules[k](g, y, *args, **kwargs) if parts is None else parts[k]
            shape = node.shape if broadcasts else parent.shape
            try:
                if part.shape != shape or part.dtype is not parent.dtype:
                    part = _fit(part, shape, node, k, parent)
            except AttributeError:
                if part is None and row.pullback:
                    continue
                raise _misfit(part, shape, node, k) from None
            if broadcasts:
                if selected:
                    part = keep_zero(part, g)
                if shape != parent.shape:
                    part = unbroadcast(part, parent.shape)
            if parent in grads:
                grads[parent] = grads[parent] + part
                borrowed.discard(parent)
            else:
                grads[parent] = part
                if (type(parent) is Leaf or targets is not None) and (
                    part is g or type(g) is tuple or getattr(part, "base", None) is not None
                ):
                    borrowed.add(parent)
            if tape is not None:
                tape.derived(node, k, g, part, grads[parent])
        selected = selected or row.selects
        if release:
            node.release()


def _put(grads: dict[Any, Any], parent: Node, k: int, g: Any) -> None:
    """Add the gradient of output `k` to those collected for a node with several outputs."""
    slots = grads.setdefault(parent, [None] * len(parent.y))
    slots[k] = g if slots[k] is None else slots[k] + g


def _fill(slots: list[Any], y: tuple[Any, ...], wrap: Callable[[Any, Any], Any] | None) -> tuple[Any, ...]:
    """The gradients of several outputs, zeros where none arrived."""
    zeros = [np.zeros_like(value) for value in y]
    if wrap is not None:
        zeros = [wrap(value, None) for value in zeros]
    return tuple(zero if g is None else g for g, zero in zip(slots, zeros, strict=True))


def _wrapped(node: Node, wrap: Callable[[Any, Any], Any]) -> tuple[tuple[Any, ...], Any]:
    """A node's arguments and result as Tensors, for a walk that is recorded itself."""
    if node.row.pullback:
        raise GraphError(
            f"{node.row.name} brings its own backward pass (y, pullback), which gives first derivatives only; for "
            f"higher orders give tn.differentiable one rule per argument, written in NumPy"
        )
    args = tuple(
        wrap(a, parent) if hasattr(a, "__array_function__") else a
        for a, parent in itertools.zip_longest(node.args, node.parents or ())
    )
    if type(node.y) is tuple:
        return args, tuple(wrap(value, record_pick(node, k, value)) for k, value in enumerate(node.y))
    return args, None if node.y is None else wrap(node.y, node)


def _parts(node: Node, g: Any, y: Any, args: Sequence[Any], useful: set[Any] | None) -> Sequence[Any]:
    """The gradients for all arguments at once: of the rows that have one rule for all, and of those of the user."""
    row = node.row
    start, parents = row.arrays.start, node.parents or ()
    if not row.own:
        # a rule that writes into what it is given, or returns one array again and again, would be silently wrong
        g, y, args = _locked(g), _locked(y), [_locked(a) for a in args]
        rules: Any = row.rules
        wanted = [p is not None and (useful is None or p in useful) for p in parents]
        try:
            if row.pullback:
                return [_copied(part) for part in _pulled_back(node, g)]
            return [_copied(rules[k](g, y, *args, **node.kwargs)) if w else None for k, w in enumerate(wanted)]
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise RuleError(
                f"the rule of {row.name} writes into what it was given, the upstream gradient or an array that other "
                f"rules read: compute a new array, such as g * 2 for g *= 2"
            ) from error
    rule: Any = row.rules[0]
    if row.splits:
        return [*[None] * start, *rule(g, y, *args, **node.kwargs)]
    return [None if parent is None else rule(g, y, k - start, *args, **node.kwargs) for k, parent in enumerate(parents)]


def _locked(array: Any) -> Any:
    """Give an array to be read only."""
    if type(array) is tuple:
        return tuple(map(_locked, array))
    if type(array) is np.ndarray:
        array = array.view()
        array.flags.writeable = False
    return array


def _copied(part: Any) -> Any:
    return part.copy() if type(part) is np.ndarray else part


def _pulled_back(node: Node, g: Any) -> list[Any]:
    """Call a pullback once, and give its parts as rules."""
    parts = node.args[0](g)
    count = len(node.parents or ())
    if not isinstance(parts, tuple) or len(parts) != count:
        given = f"a tuple of {len(parts)}" if isinstance(parts, tuple) else type(parts).__name__
        raise RuleError(
            f"the pullback of {node.row.name} must return a tuple with one gradient (or None) for each of its "
            f"{count} arguments, it returned {given}"
        )
    return list(parts)


def _misfit(part: Any, shape: Any, node: Node, k: int) -> RuleError:
    expected = "the result's" if node.row.broadcasts else "the argument's own"
    got = f"shape {part.shape}" if hasattr(part, "shape") else f"a {type(part).__name__}, which is no array"
    return RuleError(
        f"the rule of {node.row.name} for argument {k} must return {expected} shape {shape}, it returned {got}"
    )


def _fit(part: Any, shape: Any, node: Node, k: int, parent: Any) -> Any:
    """Check the shape and kind of a rule's gradient, and cast its width to the argument's."""
    if part.shape != shape:
        raise _misfit(part, shape, node, k)
    if part.dtype == parent.dtype:
        return part
    if (part.dtype.kind == "c") != (parent.dtype.kind == "c") or part.dtype.kind not in "fciub":
        if node.row.own and node.dtype.kind == "c":
            raise RuleError(
                f"complex numbers reached {node.row.name} from a Tensor of {parent.dtype}: only real computations are "
                f"differentiated, so compute real and imaginary parts apart"
            )
        raise RuleError(
            f"the rule of {node.row.name} for argument {k} returned {part.dtype} for an argument of {parent.dtype}; "
            f"only the width is cast, never the kind: return .real, or a gradient of the argument's kind"
        )
    return part.astype(parent.dtype)
