"""Checks of modules of the package, and of layers in the notebook style."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_nn.checks import function_of, text_of, told
from tinygrad_nn.engine import recording
from tinygrad_nn.errors import ArgumentError, DTypeError
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor, leaf
from tinygrad_nn.testing.check import Subject, options, raised, run
from tinygrad_nn.testing.contracts import same
from tinygrad_nn.testing.nested import as_outputs, leaves, rebuild
from tinygrad_nn.testing.notebook import RATE, Chain, Layout, call_backward, copied, discover, fetch, flat, store
from tinygrad_nn.testing.problem import (
    Arrays,
    Back,
    Problem,
    generators,
    parameter_names,
    prepare,
    walk_back,
)
from tinygrad_nn.testing.report import Cause, Report

__all__ = ["check_backward", "check_module"]
__tracebackhide__ = True  # pytest shows the lines of the caller


def check_module(module: Module, *inputs: Any, loss: Any = None, seed: int = 0, mode: str = "full") -> Report:
    """Check the gradients of all parameters and inputs of a module, in training and in evaluation mode.

    Parameters
    ----------
    module : Module
    *inputs : arrays, Tensors and others
        What the module is called with; floating ones are checked too.
    loss : function, optional
        Applied to the module's result; the gradient of the result itself is checked without.
    seed, mode : as in `check_gradients`

    Returns
    -------
    Report of the evaluation mode, after that of the training mode passed.  The module is left as it was.

    Raises
    ------
    GradientError
        If a gradient is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_nn import nn
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))
    >>> [r.name for r in check_module(net, np.ones((5, 3))).results]
    ['x', 'layers.0.weight', 'layers.0.bias', 'layers.3.weight', 'layers.3.bias']
    """
    __tracebackhide__ = True
    if not isinstance(module, Module):
        raise ArgumentError(f"check_module takes a Module, got a {type(module).__name__}; for layers with a backward "
                            f"method of their own use check_backward")  # fmt: skip
    seed, mode = options(seed, mode)
    if loss is not None:
        loss = function_of("loss", loss)
    modes = [(m, m.training) for m in module.modules()]
    given = ", loss=loss" if loss is not None else ""
    report = Report("")
    try:
        for training in (True, False):
            module.train(training)
            problem = _module_problem(module, inputs, loss)
            subject = Subject("check_module", type(module).__name__, "module", given)
            report = run(problem, subject, inputs, seed, mode)
            report.notes.append("in training mode" if training else "in evaluation mode")
            raised(report)
    finally:
        for m, was in modes:
            m.training = was
    return report


def _module_problem(module: Module, inputs: Sequence[Any], loss: Any) -> Problem:
    parameters = list(module.named_parameters())
    values = (*inputs, *[t.numpy() for _, t in parameters])
    names = [*parameter_names(module.forward, len(inputs)), *[name for name, _ in parameters]]
    found, points, active, skipped = prepare(module, values, None, names)
    skipped += [f"{name} does not require a gradient" for name, t in module.named_buffers() if t.dtype.kind == "f"]
    structure = list(inputs)
    own = len(points) - len(parameters)

    def call(items: Arrays) -> Any:
        y = module(*rebuild(structure, iter(items)))
        return y if loss is None else loss(y)

    def wrapped(arrays: Arrays, kind: Any) -> Arrays:
        return [kind(a) if isinstance(a, np.ndarray) and a.dtype.kind in "fc" else a for a in arrays]

    def forward(arrays: Arrays) -> Arrays:
        with _lent(module, parameters, arrays[own:], arrays[own:], record=False), recording(False):
            return as_outputs(call(wrapped(arrays[:own], Tensor)))

    def pull(arrays: Arrays) -> tuple[Arrays, Back]:
        xs = wrapped(arrays, leaf)
        nodes = [x._node for x in xs[own:]]  # noqa: SLF001 - the parameters stand for these leaves while they run
        with _lent(module, parameters, arrays[own:], nodes, record=True):
            return walk_back(call(xs[:own]), xs)

    title = type(module).__name__
    state = generators(module, *vars(module).values(), *module.modules())
    return Problem(title, found, points, active, forward, pull, module, False, state, skipped)


@contextmanager
def _lent(
    module: Module, parameters: list[tuple[str, Tensor]], arrays: Arrays, nodes: Arrays, *, record: bool
) -> Iterator[None]:
    """Lend the parameters other values; afterwards they, and every attribute of every module, are as before."""
    attributes = [(vars(m), dict(vars(m))) for m in module.modules()]
    held = [(t, t._array, t._node) for _, t in parameters]  # noqa: SLF001 - what the private door of leaf is for
    try:
        for (_, t), array, node in zip(parameters, arrays, nodes, strict=True):
            t._array = array  # noqa: SLF001
            if record:
                t._node = node  # noqa: SLF001
        yield
    finally:
        for t, data, node in held:
            t._array, t._node = data, node  # noqa: SLF001
        for own, before in attributes:
            own.clear()
            own.update(before)


def check_backward(
    layer: Any,
    *inputs: Any,
    parameters: Mapping[str, str] | None = None,
    forward: str = "forward",
    backward: str = "backward",
    seed: int = 0,
    mode: str = "full",
) -> Report:
    """Check a layer in the notebook style: ``forward(x)`` remembers, ``backward(g)`` returns the gradient of x.

    Parameters
    ----------
    layer : object, or a list of layers
        Its backward leaves the gradients of the parameters on the object, or returns them after those
        of the inputs.  It is copied, not changed.
    *inputs : arrays
        What forward is called with.
    parameters : dict, optional
        Names of the parameters and of their gradients, such as ``{"W": "dW", "layers.0.b": "layers.0.db"}``.
        By default the layer is run once, and every array is a parameter whose gradient is then found: as
        an attribute dW, d_W, grad_W, W_grad or alike, in a dict ``grads``, beside a ``value``, or in the
        tuple that is returned; also in layers inside.
    forward, backward : str
        The names of the methods.
    seed, mode : as in `check_gradients`

    Returns
    -------
    Report

    Raises
    ------
    GradientError
        If a gradient is wrong.
    ArgumentError
        If the methods or the parameters do not exist, or it cannot be told which array has a gradient.

    Notes
    -----
    A backward pass that takes a learning rate and updates the parameters itself is checked by what it
    subtracts, divided by the learning rate; the input gradient must not come from updated parameters.

    Examples
    --------
    >>> import numpy as np
    >>> class Dense:
    ...     def __init__(self):
    ...         self.W, self.dW = np.ones((3, 2)) / 3, None
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x @ self.W
    ...     def backward(self, g):
    ...         self.dW = self.x.T @ g
    ...         return g @ self.W.T
    >>> [r.name for r in check_backward(Dense(), np.ones((5, 3))).results]
    ['x', 'W']
    """
    __tracebackhide__ = True
    seed, mode = options(seed, mode)
    forward, backward = text_of("forward", forward), text_of("backward", backward)
    if parameters is not None:
        if not isinstance(parameters, Mapping):
            raise DTypeError(f"parameters={told(parameters)} must be a dict of names, such as {{'W': 'dW'}}")
        for name, gradient in parameters.items():
            text_of("a name in parameters", name)
            text_of(f"parameters[{name!r}]", gradient)
    chosen = {"parameters": parameters, "forward": forward, "backward": backward}
    usual = {"parameters": None, "forward": "forward", "backward": "backward"}
    written = "".join(f", {key}={value!r}" for key, value in chosen.items() if value != usual[key])
    name = type(layer).__name__
    if isinstance(layer, type):
        raise ArgumentError(f"check_backward takes a layer, got the class {layer.__name__}: make one of it")
    if isinstance(layer, (list, tuple)):
        if not layer:
            raise ArgumentError("check_backward got no layer")
        for each in layer:
            _has_methods(each, forward, backward)
        layer, forward, backward = Chain(layer, forward, backward), "forward", "backward"
    _has_methods(layer, forward, backward)
    problem = _layer_problem(layer, inputs, forward, backward, parameters)
    return raised(run(problem, Subject("check_backward", name, "layer", written), inputs, seed, mode))


def _has_methods(layer: Any, *names: str) -> None:
    if isinstance(layer, type):
        raise ArgumentError(f"check_backward takes a layer, {layer.__name__} is a class: pass {layer.__name__}(...)")
    for name in names:
        if not callable(getattr(layer, name, None)):
            raise ArgumentError(f"{type(layer).__name__} has no method {name}: name it, {name}='...'")


class _Runner:
    """A copy of a layer that runs with arrays lent to it: those of the inputs first, then its parameters."""

    def __init__(self, layer: Any, layout: Layout, structure: list[Any], forward: str, backward: str) -> None:
        self.layer = copied(layer)
        self.layout = layout
        self.structure = structure
        self.names = forward, backward
        self.own = len(list(leaves(structure, "")))
        self.rewind: Callable[[], None] = lambda: None  # the generators, as the problem does

    def forward(self, arrays: Arrays) -> Any:
        """Run the forward pass."""
        for path, array in zip(self.layout.parameters.values(), arrays[self.own :], strict=True):
            store(self.layer, path, array)
        return getattr(self.layer, self.names[0])(*rebuild(self.structure, iter(arrays[: self.own])))

    def backward(self, y: Any, vs: Arrays, rate: float) -> Arrays:
        """Run the backward pass of a result: what it returns, as a list."""
        result = call_backward(self.layer, self.names[1], rebuild(y, iter(vs)), self.layout.rate, rate)
        return [g for _, g in flat(result, f"{type(self.layer).__name__}.{self.names[1]}")]

    def pull(self, arrays: Arrays) -> tuple[Arrays, Back]:
        """Run the forward pass, and return the backward pass that gives all gradients."""
        y = self.forward(arrays)

        def back(vs: Arrays) -> Arrays:
            if callable(getattr(self.layer, "zero_grad", None)):
                self.layer.zero_grad()
            first = self.backward(y, vs, 0.0)
            returned = dict(zip(self.layout.returned, first[self.own :], strict=False))
            found = [*first[: self.own], *[None] * (self.own - len(first))]
            for name, path in self.layout.gradients.items():
                found.append(returned.get(name) if path is None else fetch(self.layer, path))
            kept = [None if g is None else np.asarray(g) for g in found]
            for k, (name, path) in enumerate(self.layout.parameters.items()):
                if name in self.layout.updated:
                    kept[self.own + k] = self._subtracted(arrays, path, vs)
            return kept

        return as_outputs(y), back

    def _subtracted(self, arrays: Arrays, path: Any, vs: Arrays) -> Any:
        """What an update takes from a parameter, divided by the learning rate."""
        self.rewind()
        y = self.forward(_copied(arrays))
        before = fetch(self.layer, path).copy()
        self.backward(y, vs, RATE)
        found = (before - fetch(self.layer, path)) / RATE
        self.rewind()
        self.forward(arrays)
        return found

    def contract(self, points: Arrays, vs: Arrays) -> Cause | None:
        """What backward may not do beside: change parameters by itself, or use them after it updated them."""
        moved, first = list(self.layout.moved), []
        for rate in (0.0, RATE) if self.layout.updated else (0.0,):
            self.rewind()
            y = self.forward(_copied(points))
            first.append(self.backward(y, _copied(vs), rate)[0])
            for (name, path), p in zip(self.layout.parameters.items(), points[self.own :], strict=True):
                if not rate and not np.array_equal(fetch(self.layer, path), p, equal_nan=True):
                    moved.append(name)
        if moved:
            said = f"backward changes {', '.join(dict.fromkeys(moved))} itself"
            hint = "leave the gradient on the object and update elsewhere, or take the learning rate as an argument"
            return Cause("mutates", "", said, hint=hint)
        if len(first) == 2 and not any(g is None for g in first) and not same(*map(np.asarray, first)):
            said = f"the input gradient depends on {self.layout.rate}: it is computed from updated parameters"
            return Cause("updates-first", "", said, hint="compute the input gradient first, then update")
        return None


def _copied(arrays: Arrays) -> Arrays:
    return [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]


def _layer_problem(
    layer: Any, inputs: Sequence[Any], forward: str, backward: str, parameters: Mapping[str, str] | None
) -> Problem:
    layout = discover(layer, inputs, forward, backward, parameters)
    ours, scratch = (_Runner(layer, layout, list(inputs), forward, backward) for _ in range(2))
    names = [*parameter_names(getattr(layer, forward), len(inputs)), *layout.parameters]
    values = (*inputs, *[fetch(layer, path) for path in layout.parameters.values()])
    wrt = list(layout.parameters) if layout.silent and layout.parameters else None
    if layout.alone:
        first = next(name for name, _ in leaves(inputs[0], names[0]))
        wrt = [first, *layout.parameters]
    found, points, active, skipped = prepare(getattr(layer, forward), values, wrt, names)
    if layout.alone:
        said = f" has no gradient: {backward} returns one array, that of {found[0]}"
        skipped = [text.replace(" is not in wrt", said) for text in skipped]
    elif wrt is not None:
        skipped = [f"{backward} returns nothing: no gradient of {', '.join(found[: ours.own])} to check"]
    problem = Problem(
        type(layer).__name__,
        found,
        points,
        active,
        lambda arrays: as_outputs(scratch.forward(arrays)),
        ours.pull,
        getattr(ours.layer, backward),
        True,
        generators(ours.layer, scratch.layer, *(getattr(r.layer, n) for r in (ours, scratch) for n in ours.names)),
        skipped + layout.skipped,
    )
    ours.rewind = problem.rewind
    problem.contract = functools.partial(ours.contract, points)
    return problem
