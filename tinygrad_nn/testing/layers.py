"""Checks of modules of the package, and of layers in the notebook style."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_nn.engine import recording
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor, leaf
from tinygrad_nn.testing.check import raised, run
from tinygrad_nn.testing.problem import (
    Arrays,
    Back,
    Problem,
    as_outputs,
    generators,
    parameter_names,
    prepare,
    rebuild,
    walk_back,
)
from tinygrad_nn.testing.report import Report

__all__ = ["check_backward", "check_module"]

GRADIENT_NAMES = ("d{}", "grad_{}", "{}_grad", "{}_gradient", "d_{}", "g{}", "d{}s")


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
    modes = [(m, m.training) for m in module.modules()]
    options = ", loss=loss" if loss is not None else ""
    report = Report("")
    try:
        for training in (True, False):
            module.train(training)
            problem = _module_problem(module, inputs, loss)
            report = run(problem, "check_module", type(module).__name__, inputs, options, seed, mode)
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
    layer : object
        Its backward leaves the gradients of the parameters on the object.  It is copied, not changed.
    *inputs : arrays
        What forward is called with.
    parameters : dict, optional
        Names of the parameters and of their gradients, such as ``{"W": "dW", "b": "db"}``.  By default
        every floating array with a partner called dW, grad_W, W_grad, W_gradient or gW.
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
        If the methods or the parameters do not exist.

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
    for name in (forward, backward):
        if not callable(getattr(layer, name, None)):
            raise ArgumentError(f"{type(layer).__name__} has no method {name}: name it, {name}='...'")
    partners = dict(parameters) if parameters is not None else _partners(layer)
    for name in partners:
        if not isinstance(getattr(layer, name, None), np.ndarray):
            raise ArgumentError(f"parameters= names {name!r}, which is no array of {type(layer).__name__}")
    problem = _layer_problem(layer, inputs, partners, forward, backward)
    return raised(run(problem, "check_backward", type(layer).__name__, inputs, "", seed, mode))


def _partners(layer: Any) -> dict[str, str]:
    held = vars(layer)
    floats = [n for n, v in held.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    pairs = {name: next((p.format(name) for p in GRADIENT_NAMES if p.format(name) in held), None) for name in floats}
    return {name: partner for name, partner in pairs.items() if partner is not None}


def _layer_problem(
    layer: Any, inputs: Sequence[Any], partners: Mapping[str, str], forward: str, backward: str
) -> Problem:
    ours = copy.deepcopy(layer)
    scratch = copy.deepcopy(layer)
    names = [*parameter_names(getattr(layer, forward), len(inputs)), *partners]
    found, points, active, skipped = prepare(
        getattr(layer, forward), (*inputs, *[getattr(layer, n) for n in partners]), None, names
    )
    own = len(points) - len(partners)
    structure = list(inputs)

    def run_forward(on: Any, arrays: Arrays) -> Any:
        for name, array in zip(partners, arrays[own:], strict=True):
            setattr(on, name, array)
        return getattr(on, forward)(*rebuild(structure, iter(arrays[:own])))

    def pull(arrays: Arrays) -> tuple[Arrays, Back]:
        y = run_forward(ours, arrays)

        def back(vs: Arrays) -> Arrays:
            if callable(getattr(ours, "zero_grad", None)):
                ours.zero_grad()
            dx = getattr(ours, backward)(vs[0])
            first = list(dx) if isinstance(dx, (tuple, list)) else [dx]
            first += [None] * (own - len(first))
            return [
                None if g is None else np.asarray(g) for g in (*first, *[getattr(ours, p) for p in partners.values()])
            ]

        return as_outputs(y), back

    subject = getattr(ours, backward)
    return Problem(
        type(layer).__name__,
        found,
        points,
        active,
        lambda arrays: as_outputs(run_forward(scratch, arrays)),
        pull,
        subject,
        True,
        generators(ours, scratch),
        skipped,
    )
