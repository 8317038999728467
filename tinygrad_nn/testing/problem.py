"""What is checked: arguments flattened to arrays, a forward pass over them, and a backward pass."""

from __future__ import annotations

import copy
import functools
import random
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_nn.checks import told
from tinygrad_nn.engine import recording
from tinygrad_nn.errors import ArgumentError, DTypeError, RuleError
from tinygrad_nn.tensor import Tensor, leaf
from tinygrad_nn.transforms import gradients

__all__ = [
    "Problem",
    "framework_problem",
    "generators",
    "leaves",
    "rebuild",
    "rule_problem",
    "second_order",
    "walk_back",
]

Arrays = list[Any]
Back = Callable[[Arrays], Arrays]


@dataclass
class Problem:
    """A function of a flat list of arrays, and the backward pass that is claimed to fit it.

    Attributes
    ----------
    title : how the function is called in messages
    names : one for each array
    points : the arrays, of the dtypes that the backward pass will see
    active : the positions whose gradients are checked
    forward : arrays of any inexact dtype to the list of outputs
    pull : arrays to the list of outputs and a function from upstream gradients to gradients
    subject : the object whose source is shown when something is wrong
    keeps_state : a forward overwrites what an earlier forward left for its backward (layers that cache)
    evaluations : how many forwards and backwards ran so far
    contract : what else to ask of the backward pass, given upstream gradients; a cause if it is broken
    untouched : the same with a copy of the backward pass that was made before its first call, where there is one
    """

    title: str
    names: list[str]
    points: Arrays
    active: list[int]
    forward: Callable[[Arrays], Arrays]
    pull: Callable[[Arrays], tuple[Arrays, Back]]
    subject: Any = None
    keeps_state: bool = False
    random_state: list[tuple[Any, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    evaluations: int = 0
    contract: Callable[[Arrays], Any] | None = None
    untouched: Problem | None = None

    def rewind(self) -> None:
        """Put every random generator back to where it stood when the check began."""
        for generator, state in self.random_state:
            if isinstance(generator, np.random.Generator):
                generator.bit_generator.state = copy.deepcopy(state)
            elif generator is np.random:
                np.random.set_state(state)  # noqa: NPY002 - the user's function draws from it
            elif generator is random:
                random.setstate(state)
            else:
                generator.set_state(state)

    def outputs(self, arrays: Arrays) -> Arrays:
        """Run the forward pass."""
        self.evaluations += 1
        self.rewind()
        return self.forward(arrays)

    def outputs_or_none(self, arrays: Arrays) -> Arrays | None:
        """Run the forward pass where it may refuse: outside of its domain, or for other shapes."""
        try:
            return self.outputs(arrays)
        except Exception:  # noqa: BLE001 - a function may refuse by any error
            return None

    def pulled(self, arrays: Arrays) -> tuple[Arrays, Back]:
        """Run the forward pass that the backward pass belongs to."""
        self.evaluations += 1
        self.rewind()
        ys, back = self.pull(arrays)

        def counted(vs: Arrays) -> Arrays:
            self.evaluations += 1
            return back(vs)

        return ys, counted

    def gradients(self, arrays: Arrays, vs: Arrays) -> Arrays:
        """Run forward and backward once: one gradient, or None, for each array."""
        return self.pulled([np.array(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in arrays])[1](
            [np.array(v) for v in vs]
        )


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the arrays and other values inside nested lists, tuples and dicts, with their names."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for k, item in enumerate(value):
            yield from leaves(item, f"{name}[{k}]")
    else:
        yield name, value


def rebuild(value: Any, items: Iterator[Any]) -> Any:
    """Put the next items in the places of the leaves of `value`."""
    if isinstance(value, dict):
        return {key: rebuild(item, items) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [rebuild(item, items) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return next(items)


def aligned(value: Any, gradient: Any) -> Arrays:
    """The gradients at the leaves of `value`; a gradient may be None for a whole list or dict."""
    if isinstance(value, dict):
        parts = [(item, None if gradient is None else gradient[key]) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = list(zip(value, [None] * len(value) if gradient is None else gradient, strict=True))
    else:
        return [gradient]
    return [g for item, part in parts for g in aligned(item, part)]


def plain(value: Any) -> Any:
    """An argument as the checker sees it: arrays stay, Tensors give their array."""
    if isinstance(value, Tensor):
        return value.numpy()
    return np.asarray(value) if isinstance(value, np.generic) else value


def as_outputs(y: Any) -> Arrays:
    """The outputs of a function as a list of arrays."""
    values = list(y) if isinstance(y, (tuple, list)) else [y]
    found = [value.numpy() if isinstance(value, Tensor) else np.asarray(value) for value in values]
    for value, array in zip(values, found, strict=True):
        if array.dtype.kind not in "fciub":
            raise DTypeError(f"the function returned {told(value)}: return an array, a number, or a tuple of them")
    return found


def prepare(
    fn: Any, inputs: Sequence[Any], wrt: Any, names: Sequence[str] | None
) -> tuple[list[str], Arrays, list[int], list[str]]:
    """Flatten the arguments, and choose which of them are checked."""
    if not callable(fn):
        raise ArgumentError(f"check_gradients needs a function first, got a {type(fn).__name__}")
    titles = list(names or parameter_names(fn, len(inputs)))
    found = [pair for title, value in zip(titles, inputs, strict=True) for pair in leaves(value, title)]
    wanted = None if wrt is None else _wanted(wrt)
    active, skipped, points = [], [], []
    matched: set[Any] = set()
    for k, (name, value) in enumerate(found):
        value = plain(value)  # noqa: PLW2901 - the array in the Tensor's place
        if isinstance(value, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(
                f"{name} is a {type(value).__name__}, whose own rules the checker would lose: pass an array"
            )
        points.append(value)
        keys = {k, name, name.split("[", maxsplit=1)[0]} & wanted if wanted is not None else {k}
        matched |= keys
        if not isinstance(value, np.ndarray):
            skipped.append(f"{name} is a {type(value).__name__}")
        elif value.dtype.kind != "f":
            skipped.append(f"{name} is {value.dtype}")
        elif keys:
            active.append(k)
        else:
            skipped.append(f"{name} is not in wrt")
    if wanted is not None and wanted - matched:
        raise ArgumentError(f"wrt={wrt!r} names none of the inputs {[name for name, _ in found]}")
    if not active:
        raise ArgumentError(f"no input to check: give floating-point arrays ({'; '.join(skipped) or 'there are none'})")
    return [name for name, _ in found], points, active, skipped


def _wanted(wrt: Any) -> set[Any]:
    """The names and positions that `wrt` picks."""
    given = [wrt] if isinstance(wrt, (int, np.integer, str)) else wrt
    if isinstance(given, (list, tuple, set, frozenset)):
        kept = {k for k in given if isinstance(k, (int, np.integer, str)) and not isinstance(k, bool)}
        if given and len(kept) == len(given):
            return kept
    raise ArgumentError(f"wrt={told(wrt)} must be the name or position of an input, or a list of them")


def parameter_names(fn: Any, count: int) -> list[str]:
    """The names of a function's first parameters, x0, x1, ... where it has none."""
    code = getattr(fn, "__code__", None) or getattr(getattr(fn, "__func__", None), "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code else []
    names = names[1:] if hasattr(fn, "__self__") else names
    return names[:count] + [f"x{k}" for k in range(len(names), count)]


def name_of(fn: Any) -> str:
    """How a function is called in messages."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def rule_problem(
    fn: Any, inputs: Sequence[Any], rule: Any, wrt: Any = None, names: Sequence[str] | None = None
) -> Problem:
    """A hand-written backward pass over plain arrays, ``rule(*inputs) -> (y, pullback)``."""
    found, points, active, skipped = prepare(fn, inputs, wrt, names)
    structure = list(inputs)

    def forward(arrays: Arrays) -> Arrays:
        return as_outputs(fn(*rebuild(structure, iter(arrays))))

    def pull_by(rule: Any, arrays: Arrays) -> tuple[Arrays, Back]:
        result = rule(*rebuild(structure, iter(arrays)))
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise RuleError(
                f"rule must return (y, pullback), where pullback(g) returns a tuple with one gradient (or None) for "
                f"each of the {len(structure)} inputs; it returned a {type(result).__name__}"
            )
        y, pullback = result

        def back(vs: Arrays) -> Arrays:
            gs = pullback(type(y)(vs) if type(y) in {tuple, list} else vs[0])
            gs = gs if isinstance(gs, (tuple, list)) else (gs,)
            if len(gs) != len(structure):
                raise RuleError(f"the pullback must return {len(structure)} gradients, one per input, not {len(gs)}")
            return [
                None if g is None else np.asarray(g)
                for value, part in zip(structure, gs, strict=True)
                for g in aligned(value, part)
            ]

        return as_outputs(y), back

    def made(rule: Any) -> Problem:
        state = generators(fn, rule, *points)
        pull = functools.partial(pull_by, rule)
        return Problem(name_of(fn), found, points, active, forward, pull, rule, False, state, skipped)

    problem = made(rule)
    copied = untouched(rule)
    problem.untouched = None if copied is None else made(copied)
    return problem


def untouched(rule: Any) -> Any:
    """A copy of a function with its own defaults, closure, attributes and globals, or of an object; None without."""
    try:
        if not isinstance(rule, types.FunctionType):
            return copy.deepcopy(rule) if hasattr(rule, "__dict__") or hasattr(rule, "__self__") else None
        cells = tuple(
            types.CellType(copy.deepcopy(c.cell_contents)) if _filled(c) else c for c in rule.__closure__ or ()
        )
        own = {name: rule.__globals__[name] for name in _names(rule.__code__) if name in rule.__globals__}
        plain = {n: copy.deepcopy(v) for n, v in own.items() if isinstance(v, (dict, list, set, np.ndarray))}
        copied = types.FunctionType(
            rule.__code__, {**rule.__globals__, **plain}, rule.__name__, copy.deepcopy(rule.__defaults__), cells
        )
        copied.__kwdefaults__ = copy.deepcopy(rule.__kwdefaults__)
        copied.__dict__.update(copy.deepcopy(rule.__dict__))
    except Exception:  # noqa: BLE001 - what cannot be copied is not
        return None
    return copied


def framework_problem(fn: Any, inputs: Sequence[Any], wrt: Any = None, names: Sequence[str] | None = None) -> Problem:
    """The framework's own derivative of a function of Tensors."""
    found, points, active, skipped = prepare(fn, inputs, wrt, names)
    structure = list(inputs)

    def tensors(arrays: Arrays, kind: Callable[[Any], Any]) -> Arrays:
        return [kind(a) if isinstance(a, np.ndarray) and a.dtype.kind in "fc" else a for a in arrays]

    def forward(arrays: Arrays) -> Arrays:
        with recording(False):
            return as_outputs(fn(*rebuild(structure, iter(tensors(arrays, Tensor)))))

    def pull(arrays: Arrays) -> tuple[Arrays, Back]:
        xs = tensors(arrays, leaf)
        return walk_back(fn(*rebuild(structure, iter(xs))), xs)

    return Problem(name_of(fn), found, points, active, forward, pull, fn, False, generators(fn, *points), skipped)


def walk_back(y: Any, xs: Arrays) -> tuple[Arrays, Back]:
    """The outputs as arrays, and the framework's walk back from them to the Tensors among `xs`."""
    ys = list(y) if isinstance(y, (tuple, list)) else [y]
    targets = [x for x in xs if isinstance(x, Tensor)]

    def back(vs: Arrays) -> Arrays:
        found = iter(seconds(ys, targets, vs, create_graph=False))
        return [next(found) if isinstance(x, Tensor) else None for x in xs]

    return as_outputs(ys), back


def seconds(ys: Arrays, targets: list[Tensor], vs: Arrays, *, create_graph: bool) -> Arrays:
    """Gradients of the sum of <v, y> as arrays, as Tensors with `create_graph`; None where nothing is connected."""
    pairs = [(y, v) for y, v in zip(ys, vs, strict=True) if isinstance(y, Tensor) and y.requires_grad]
    if not pairs:
        return [None] * len(targets)
    if len(pairs) == 1:
        y, v = pairs[0]
        v = v.astype(y.dtype) if y.dtype.kind == "c" else v
        found = gradients(y, targets, gradient=v, create_graph=create_graph, retain_graph=True)
    else:
        total = sum((y * v).sum() for y, v in pairs)
        found = gradients(total, targets, create_graph=create_graph, retain_graph=True)
    return found if create_graph else [g.numpy() for g in found]


def second_order(fn: Any, inputs: Sequence[Any], wrt: Any, seed: int) -> Problem:
    """The framework's second derivatives: the gradients of a random projection of `fn` as the function."""
    first = framework_problem(fn, inputs, wrt)
    rng = np.random.default_rng(seed)
    vs = [rng.standard_normal(y.shape) for y in first.outputs(first.points)]
    structure = list(inputs)

    def forward(arrays: Arrays) -> Arrays:
        _, back = first.pull(arrays)
        return [np.zeros_like(arrays[k]) if g is None else g for k, g in enumerate(back(vs)) if k in first.active]

    def pull(arrays: Arrays) -> tuple[Arrays, Back]:
        xs = [leaf(a) if isinstance(a, np.ndarray) and a.dtype.kind in "fc" else a for a in arrays]
        y = fn(*rebuild(structure, iter(xs)))
        ys = list(y) if isinstance(y, (tuple, list)) else [y]
        targets = [xs[k] for k in first.active]
        found = seconds(ys, targets, vs, create_graph=True)
        firsts = [x * 0 if g is None else g for x, g in zip(targets, found, strict=True)]
        return walk_back(firsts, xs)

    title = f"second derivatives of {first.title}"
    return Problem(
        title, first.names, first.points, first.active, forward, pull, fn, False, first.random_state, first.skipped
    )


def generators(*roots: Any) -> list[tuple[Any, Any]]:
    """The random generators that are reachable from functions, their closures and objects, with their states."""
    found: dict[int, tuple[Any, Any]] = {}
    seen: set[int] = set()
    stack = [(root, 0) for root in roots]
    while stack:
        value, depth = stack.pop()
        if id(value) in seen or depth > 6:
            continue
        seen.add(id(value))
        if isinstance(value, np.random.Generator):
            found[id(value)] = (value, copy.deepcopy(value.bit_generator.state))
        elif isinstance(value, np.random.RandomState):
            found[id(value)] = (value, value.get_state())
        elif value is np.random:
            found[id(value)] = (value, np.random.get_state())  # noqa: NPY002 - the user's function draws from it
        elif value is random:
            found[id(value)] = (value, random.getstate())
        elif value is np:
            stack.append((np.random, depth))
        else:
            stack.extend((inner, depth + 1) for inner in _inside(value))
    return list(found.values())


def _inside(value: Any) -> list[Any]:  # noqa: PLR0911 - one return for each kind of object
    """What a function or object can reach in one step."""
    if isinstance(value, (np.ndarray, Tensor, str, bytes, int, float, complex, type(None))):
        return []
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set)):
        return list(value)
    if hasattr(value, "__wrapped__"):
        return [value.__wrapped__]
    if hasattr(value, "__func__"):
        return [value.__func__, value.__self__]
    code = getattr(value, "__code__", None)
    if code is not None:
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        used = _names(code)
        # np itself leads to the global generator only where a function says np.random
        known = [value.__globals__[n] for n in used if n in value.__globals__ and (n != "np" or "random" in used)]
        return [*cells, *known, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    module = getattr(type(value), "__module__", "")
    if module.split(".")[0] in {"numpy", "builtins", "types"} or isinstance(value, type(np)):
        return []
    return [getattr(value, "__dict__", None), getattr(type(value), "forward", None), getattr(type(value), "func", None)]


def _names(code: Any) -> set[str]:
    """The global names that a code object and those inside it use."""
    inner = [_names(const) for const in code.co_consts if hasattr(const, "co_names")]
    return set(code.co_names).union(*inner)


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
