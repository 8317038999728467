"""What is checked: arguments flattened to arrays, a forward pass over them, and a backward pass."""

from __future__ import annotations

import copy
import functools
import inspect
import random
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_nn.engine import recording
from tinygrad_nn.errors import ArgumentError, DTypeError, RuleError
from tinygrad_nn.tensor import Tensor, leaf
from tinygrad_nn.testing.nested import aligned, as_outputs, contents, leaves, rebuild
from tinygrad_nn.transforms import gradients

__all__ = [
    "Problem",
    "framework_problem",
    "generators",
    "rule_problem",
    "second_order",
    "walk_back",
    "widened",
]
__tracebackhide__ = True  # pytest shows the lines of the caller

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
    by_framework : makes the problem of the same function run on Tensors, for a backward pass by hand
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
    by_framework: Callable[[], Problem] | None = None

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
        points = [np.array(a, subok=True) if isinstance(a, (np.ndarray, np.generic)) else a for a in arrays]
        return self.pulled(points)[1]([np.array(v, subok=True) for v in vs])


def widened(arrays: Arrays, dtype: Any) -> Arrays:
    """The same with every floating-point array in another dtype."""
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]


def plain(value: Any, name: str) -> Any:
    """An argument as the checker sees it: a copy of an array, also of that in a Tensor; others as they are."""
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise DTypeError(f"{name} is a {type(value).__name__}, which would lose its own rules: give a plain array")
    if isinstance(value, Tensor):
        value = value.numpy()
    return np.array(value) if isinstance(value, (np.ndarray, np.generic)) else value


def prepare(
    fn: Any, inputs: Sequence[Any], wrt: Any, names: Sequence[str] | None
) -> tuple[list[str], Arrays, list[int], list[str]]:
    """Flatten the arguments, and choose which of them are checked."""
    if not callable(fn):
        raise ArgumentError(f"check_gradients needs a function first, got a {type(fn).__name__}")
    titles = list(names or parameter_names(fn, len(inputs)))
    found = [
        (j, *pair) for j, (title, value) in enumerate(zip(titles, inputs, strict=True)) for pair in leaves(value, title)
    ]
    wanted = _wanted(wrt, [(j, name) for j, name, _ in found])
    active, skipped, points = [], [], []
    for k, (_, name, value) in enumerate(found):
        value = plain(value, name)  # noqa: PLW2901 - the array in the Tensor's place
        points.append(value)
        said = unchecked(value)
        if said:
            skipped.append(f"{name} is {said}")
        elif wanted is None or any(k in places for places in wanted.values()):
            active.append(k)
        else:
            skipped.append(f"{name} is not in wrt")
    for item, places in (wanted or {}).items():
        if not any(k in active for k in places):
            said = "; ".join(f"{found[k][1]} is {unchecked(points[k])}" for k in places)
            raise ArgumentError(f"wrt={item!r} has no derivative to check: {said}")
    if not active:
        raise ArgumentError(f"no input to check: give floating-point arrays ({'; '.join(skipped) or 'there are none'})")
    return [name for _, name, _ in found], points, active, skipped


def _wanted(wrt: Any, found: list[tuple[int, str]]) -> dict[Any, list[int]] | None:
    """For each name or position in `wrt`, the flattened inputs that it means."""
    if wrt is None:
        return None
    try:
        items = [wrt] if isinstance(wrt, (str, int, np.integer)) else list(wrt)
    except TypeError:
        items = [wrt]
    wanted: dict[Any, list[int]] = {}
    for item in items:
        if isinstance(item, (bool, np.bool_)) or not isinstance(item, (str, int, np.integer)):
            raise ArgumentError(f"wrt={wrt!r} must name inputs, or give their positions")
        if isinstance(item, str):
            places = [
                k for k, (_, name) in enumerate(found) if name == item or name.startswith((item + "[", item + "."))
            ]
        else:
            places = [k for k, (j, _) in enumerate(found) if j == item]
        if not places:
            raise ArgumentError(f"wrt={item!r} names none of the inputs {[name for _, name in found]}")
        wanted[item] = places
    return wanted


def unchecked(value: Any) -> str:
    """What kind of value it is, if it is none whose gradient is checked."""
    if not isinstance(value, np.ndarray):
        foreign = hasattr(value, "dtype") and hasattr(value, "shape")
        home = type(value).__module__.split(".", maxsplit=1)[0]
        said = f" of {home}: give its numbers in an array of NumPy" if foreign else ""
        return f"a {type(value).__name__}{said}"
    if value.dtype.kind == "c":
        return f"{value.dtype}: to check it, make its real and imaginary part two inputs"
    return "" if value.dtype.kind == "f" else str(value.dtype)


def parameter_names(fn: Any, count: int) -> list[str]:
    """The names of a function's first parameters, x0, x1, ... where it has none."""
    code = getattr(fn, "__code__", None) or getattr(getattr(fn, "__func__", None), "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code else []
    names = names[1:] if hasattr(fn, "__self__") else names
    names = names[:count]
    for k in range(len(names), count):
        names.append(f"x{k}" if f"x{k}" not in names else f"x{k}_")
    return names


def name_of(fn: Any) -> str:
    """How a function is called in messages."""
    return name_of(fn.func) if isinstance(fn, functools.partial) else str(getattr(fn, "__name__", type(fn).__name__))


def rule_problem(
    fn: Any, inputs: Sequence[Any], rule: Any, wrt: Any = None, names: Sequence[str] | None = None
) -> Problem:
    """A hand-written backward pass over plain arrays, ``rule(*inputs) -> (y, pullback)``."""
    found, points, active, skipped = prepare(fn, inputs, wrt, names)
    structure = list(inputs)
    titles = list(names or parameter_names(fn, len(inputs)))

    def forward(arrays: Arrays) -> Arrays:
        return as_outputs(fn(*rebuild(structure, iter(arrays))))

    def pull_by(rule: Any, arrays: Arrays) -> tuple[Arrays, Back]:
        result = rule(*rebuild(structure, iter(arrays)))
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise RuleError(
                f"rule must return (y, pullback), where pullback(g) returns a tuple with one gradient (or None) for "
                f"each input ({', '.join(titles)}); it returned {contents(result)}"
            )
        y, pullback = result

        def back(vs: Arrays) -> Arrays:
            gs = pulled_back(pullback, rebuild(y, iter(vs)))
            if not isinstance(gs, (tuple, list)):
                gs = (gs,) if len(structure) == 1 else None if gs is None else gs
            count = len(gs) if isinstance(gs, (tuple, list)) else -1
            if count != len(structure):
                raise RuleError(
                    f"the pullback must return a tuple with one gradient (or None) for each input "
                    f"({', '.join(titles)}), not {contents(gs)}"
                )
            return [
                g for title, value, part in zip(titles, structure, gs, strict=True) for g in aligned(value, part, title)
            ]

        return as_outputs(y), back

    def made(rule: Any) -> Problem:
        state = generators(fn, rule, *points)
        pull = functools.partial(pull_by, rule)
        return Problem(name_of(fn), found, points, active, forward, pull, rule, False, state, skipped)

    problem = made(rule)
    copied = untouched(rule)
    problem.untouched = None if copied is None else made(copied)
    problem.by_framework = functools.partial(framework_problem, fn, inputs, wrt, names)
    return problem


def pulled_back(pullback: Any, g: Any) -> Any:
    """What a pullback returns for an upstream gradient."""
    try:
        return pullback(g)
    except TypeError:
        if not _takes_one(pullback):
            text = "pullback must take one argument, the upstream gradient: for several outputs in the structure of y"
            raise RuleError(text) from None
        raise


def _takes_one(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not tell
        return True
    return True


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
    ys = [value for _, value in leaves(y, "")]
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
    return found if create_graph else [np.asarray(g.numpy()) for g in found]


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
        ys = [value for _, value in leaves(y, "")]
        targets = [xs[k] for k in first.active]
        found = seconds(ys, targets, vs, create_graph=True)
        firsts = [x * 0 if g is None else g for x, g in zip(targets, found, strict=True)]
        ys, back = walk_back(firsts, xs)

        def seen(vs: Arrays) -> Arrays:  # what does not depend on an input has the derivative 0
            gs = back(vs)
            return [np.zeros(xs[k].shape) if g is None and k in first.active else g for k, g in enumerate(gs)]

        return ys, seen

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
    own = (
        []
        if module.startswith("tinygrad_nn.")
        else [
            method
            for kind in type(value).__mro__
            for method in vars(kind).values()
            if isinstance(method, types.FunctionType)
        ]
    )  # helpers of a user's class draw too
    return [getattr(value, "__dict__", None), getattr(type(value), "func", None), *own]


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
