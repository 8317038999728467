"""Building: from a function and its arguments to a program that is ready to be called."""
# ruff: noqa: SLF001 - what stands inside a Tensor is what a program works on

from __future__ import annotations

import contextlib
import contextvars
import inspect
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.compiler import perturb
from tinygrad_nn.compiler.buffers import Plan, own_gradients, plan
from tinygrad_nn.compiler.capture import Trace, comparable, compare, computed_before, flatten, link, unflatten
from tinygrad_nn.compiler.kernels import choose_kernels
from tinygrad_nn.compiler.passes import simplify
from tinygrad_nn.compiler.program import Program
from tinygrad_nn.compiler.snapshot import Snapshot
from tinygrad_nn.compiler.source import Source
from tinygrad_nn.compiler.world import World
from tinygrad_nn.engine import Leaf
from tinygrad_nn.errors import GraphError
from tinygrad_nn.tensor import Tensor

__all__ = ["Built", "build"]


class Built:
    """A program and everything that is known about it.

    Attributes
    ----------
    leaves, structure : the arguments, flattened
    dynamic : the positions of the leaves that are inputs, in the order of the inputs
    world : what the function reads besides
    source, plan, program : what was made
    recorded : how many calls were recorded
    parameters : the Tensor of each gradient
    result : the structure of the function's result, and ("tensor" or "array") or ("object", it) for each leaf
    rebound : the entries (holder, key) that the forward binds anew, in the order of the last results
    """

    leaves: list[Any]
    structure: Any
    dynamic: list[int]
    world: World
    source: Source
    plan: Plan
    program: Program
    recorded: int
    parameters: list[Tensor]
    result: tuple[Any, list[Any]]
    rebound: list[tuple[Any, Any]]


def is_input(leaf: Any) -> bool:
    """Whether an argument's values may be others at each call: arrays, and Tensors that require no gradient."""
    return isinstance(leaf, np.ndarray) or (isinstance(leaf, Tensor) and leaf._node is None)


def build(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, backward: bool) -> Built:
    """Run `function` several times on copies, and make a program of what it computed."""
    built = Built()
    built.leaves, built.structure = flatten((args, kwargs))
    built.dynamic = [k for k, leaf in enumerate(built.leaves) if is_input(leaf)]
    names = _input_names(function, args, kwargs)
    static = [(name, leaf) for name, leaf in zip(names, built.leaves, strict=True) if not is_input(leaf)]
    built.world = World((getattr(function, "__name__", "net"), function), *static)
    computed_before(built.world.tensors.values())
    run = _Runner(function, built, backward)
    first, copies = run(perturb.same, first=True)
    _check_others(run, first)
    inputs = [_array(built.leaves[k]) for k in built.dynamic]
    program = link(first, copies, [names[k] for k in built.dynamic], inputs)
    gradient_names = _own_parameters(built, first)
    built.recorded = len(first.calls)
    built.result = (first.structure, first.outputs)
    built.rebound = run.rebound
    simplify(program)
    own_gradients(program)
    for value, name in zip(program.gradients, gradient_names, strict=True):
        value.name = name
    choose_kernels(program)
    built.program = program
    built.plan = plan(program)
    built.source = Source(program, built.plan)
    return built


class _Runner:
    """Runs the function on copies of everything, as `perturb` makes them."""

    def __init__(self, function: Callable[..., Any], built: Built, backward: bool) -> None:
        self._function = function
        self._built = built
        self._backward = backward
        self.rebound: list[tuple[Any, Any]] = []

    def __call__(self, change: Callable[[Any], Any], *, first: bool) -> tuple[Trace, dict[int, tuple[Any, Any, str]]]:
        # in a context of its own: a context variable that the function sets is as it was afterwards
        return contextvars.copy_context().run(self._run, change, first=first)

    def _run(self, change: Callable[[Any], Any], *, first: bool) -> tuple[Trace, dict[int, tuple[Any, Any, str]]]:
        built = self._built
        leaves = list(built.leaves)
        arrays = []
        stand_ins = {}
        for k in built.dynamic:
            array = change(_array(leaves[k]))
            arrays.append(array)
            tensor = Tensor(array)
            if not isinstance(leaves[k], Tensor):
                stand_ins[id(tensor)] = tensor
            leaves[k] = tensor
        args, kwargs = unflatten(built.structure, leaves)
        with Snapshot(built.world, change, advance=not first, record=True) as before:
            names: list[tuple[Any, Any]] = []

            def exchanged() -> list[Tensor]:
                now = []
                for name, holder, key in before.exchanged():
                    names.append((holder.entries, key))
                    now.append(holder.entries[key])
                    if not isinstance(now[-1], Tensor):
                        raise GraphError(
                            f"the function to compile changes {name}, which the program would not repeat: keep it in a "
                            f"Tensor attribute that the forward binds to a new Tensor, or pass it as an argument"
                        )
                return now

            trace = Trace(
                lambda: self._function(*args, **kwargs),
                arrays,
                before.copies,
                exchanged,
                stand_ins | before.stand_ins,
                {t._node for t, _ in built.world.tensors.values() if type(t._node) is Leaf},
                backward=self._backward,
            )
            if first:
                before.check_unwritten()
                self.rebound = names
                for k, array in zip(built.dynamic, arrays, strict=True):
                    if array.tobytes() != _array(built.leaves[k]).tobytes():
                        raise GraphError("the function to compile writes into one of its arguments: work on a copy")
        return trace, before.copies


def _check_others(run: _Runner, first: Trace) -> None:
    """Run on other data, and raise if that gives another program."""
    failed: Exception | None = None
    compared = 0
    for change in perturb.PERTURBATIONS:
        try:
            # what it prints, it has printed; what it warns of on these values does not matter
            with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trace, _ = run(change, first=False)
        except Exception as error:  # noqa: BLE001 - the function may refuse values that it never sees
            failed = error
            continue
        if comparable(first, trace):
            compare(first, trace)
            compared += 1
        del trace  # before another run makes its arrays
    if not compared:
        raise GraphError(
            "the function to compile could not be run on other values, so values that it computes outside of what is "
            f"recorded would go unnoticed; it {f'raised {type(failed).__name__}: {failed}' if failed else 'gave NaN'}"
        ) from failed


def _array(leaf: Any) -> Any:
    return leaf._array if isinstance(leaf, Tensor) else np.asarray(leaf)  # subclasses compute in ways of their own


def _input_names(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """A name for every leaf of the arguments, after the function's parameters."""
    target = getattr(function, "forward", function)
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = []
    for k, item in enumerate(args):
        name = plain[k] if k < len(plain) else f"x{k}"
        count = len(flatten(item)[0])
        names += [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
    for name, item in kwargs.items():
        count = len(flatten(item)[0])
        names += [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
    return names


def _own_parameters(built: Built, trace: Trace) -> list[str]:
    """Find the Tensor of every gradient, and give the gradients' names."""
    names = []
    leaves = {id(t._node): (t, name) for t, name in built.world.tensors.values() if type(t._node) is Leaf}
    built.parameters = []
    for leaf in trace.gradients:
        tensor, name = leaves[id(leaf)]
        built.parameters.append(tensor)
        names.append(f"d_{name}")
    return names
