"""Summary: the layers of a model, the shapes they give, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_nn.checks import dtype_of
from tinygrad_nn.compiler.snapshot import Snapshot
from tinygrad_nn.compiler.world import World
from tinygrad_nn.engine import no_grad
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.nn import Module, Parameter
from tinygrad_nn.nn.module import watching
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.training.steps import check_module

__all__ = ["Layer", "Summary", "summary"]


class Layer(NamedTuple):
    """One line of a summary: what one module holds itself, without the modules inside it."""

    name: str
    kind: str
    output: str
    parameters: int
    buffers: int
    nbytes: int


class Summary:
    """What `summary` found: ``str`` of it is the table.

    Attributes
    ----------
    layers : tuple of Layer
        (name, kind, output, parameters, buffers, nbytes) of each module, in the order of the names.
    parameters, trainable, frozen, buffers : int
        How many numbers there are; parameters are trainable or frozen.
    nbytes : int
        The memory of parameters and buffers.
    """

    def __init__(self, title: str, layers: tuple[Layer, ...], trainable: int) -> None:
        self._title = title
        self.layers = layers
        self.parameters = sum(layer.parameters for layer in layers)
        self.trainable = trainable
        self.frozen = self.parameters - trainable
        self.buffers = sum(layer.buffers for layer in layers)
        self.nbytes = sum(layer.nbytes for layer in layers)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        yield "layer", "kind", "output", "parameters", "buffers", "bytes"
        for layer in self.layers:
            yield (*layer[:3], *(f"{n:,}" for n in layer[3:]))
        yield ("total", "", "", *(f"{n:,}" for n in (self.parameters, self.buffers, self.nbytes)))

    def _end(self) -> str:
        return f"trainable {self.trainable:,}, frozen {self.frozen:,}"

    def __str__(self) -> str:
        rows = list(self._rows())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:{'<' if k < 3 else '>'}{width}}" for k, (cell, width) in enumerate(zip(row, widths)))  # noqa: B905
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([self._title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], self._end()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape  # noqa: PLC0415 - only notebooks need it

        def line(row: tuple[str, ...], tag: str) -> str:
            aligned = ("left" if k < 3 else "right" for k in range(len(row)))
            cells = zip(row, aligned, strict=True)
            return "".join(f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>' for cell, side in cells)

        head, *rows = self._rows()
        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
        title, end = escape(self._title), escape(self._end())
        return (
            f"<p>{title}</p><table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table><p>{end}</p>"
        )


def summary(model: Module, input_shape: Any, *, dtype: Any = None) -> Summary:
    """List the layers of a model with their output shapes, parameters, buffers and bytes.

    The model is called on zeros, twice, with 2 and 3 samples: what grows with them is shown as ``n``.  It runs in
    evaluation mode with nothing recorded, and everything is put back: buffers, generators and modes.

    Parameters
    ----------
    model : Module
        Custom layers are listed like others, with the parameters that they hold themselves.  A layer or Tensor
        that is used in several places counts once, at its first name.
    input_shape : tuple of ints, or list of such tuples
        The shape of one sample, without the axis of the batch; a list for several inputs.
    dtype : dtype, or list of dtypes, optional
        Of the inputs; by default that of the first floating parameter.  Integers for an Embedding.

    Raises
    ------
    ArgumentError, DTypeError
        For what is no shape.  What the model raises has a note that tells the shapes it was given.

    Examples
    --------
    >>> from tinygrad_nn import nn
    >>> print(summary(nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)), (2,)))
    Sequential of inputs (n, 2)
    ----------------------------------------------------------
    layer     kind          output  parameters  buffers  bytes
    ----------------------------------------------------------
    layers.0  Linear(2, 3)  (n, 3)           9        0     72
    layers.1  Sigmoid()     (n, 3)           0        0      0
    layers.2  Linear(3, 2)  (n, 2)           8        0     64
    ----------------------------------------------------------
    total                                   17        0    136
    trainable 17, frozen 0
    """
    check_module(model)
    shapes = _shapes(input_shape)
    dtypes = _dtypes(model, dtype, len(shapes))
    calls = [
        _called(model, [np.zeros((n, *shape), d) for shape, d in zip(shapes, dtypes, strict=True)]) for n in (2, 3)
    ]
    modules = list(model.named_modules())
    held: dict[str, list[Tensor]] = {name: [] for name, _ in modules}
    for name, tensor in model.named_tensors():
        owner = name
        while owner not in held or owner == name:
            owner = owner.rpartition(".")[0]
        held[owner].append(tensor)
    layers = []
    for name, module in modules:
        tensors = held[name]
        if name or tensors or len(modules) == 1:
            parameters = sum(t.size for t in tensors if _is_parameter(t))
            buffers = sum(t.size for t in tensors) - parameters
            output = _output(*(found.get(id(module), []) for found in calls))
            layers.append(
                Layer(
                    name or "(itself)", _kind(module), output, parameters, buffers, sum(t.data.nbytes for t in tensors)
                )
            )
    given = ", ".join(_shape((2, *shape), (3, *shape)) for shape in shapes)
    title = f"{type(model).__name__} of inputs {given}"
    return Summary(title, tuple(layers), sum(p.size for p in model.parameters()))


def _is_parameter(tensor: Tensor) -> bool:
    return tensor.requires_grad or isinstance(tensor, Parameter)


def _kind(module: Module) -> str:
    text = f"{type(module).__name__}({module.extra_repr()})"
    return text if len(text) <= 40 else text[:36] + "...)"


def _shapes(given: Any) -> list[tuple[int, ...]]:
    several = isinstance(given, list) or (isinstance(given, tuple) and given and isinstance(given[0], (tuple, list)))
    shapes = [tuple(shape) if isinstance(shape, (tuple, list)) else shape for shape in (given if several else [given])]
    if not shapes:
        raise ArgumentError("input_shape is an empty list: give the shape of one sample, such as (784,)")
    for shape in shapes:
        whole = isinstance(shape, tuple) and all(isinstance(k, (int, np.integer)) and k >= 0 for k in shape)
        if not whole:
            raise ArgumentError(
                f"input_shape={given!r}: give the shape of one sample as a tuple of whole numbers, such as (784,), or "
                f"a list of such tuples for several inputs; the axis of the batch is not part of it"
            )
    return shapes


def _dtypes(model: Module, dtype: Any, count: int) -> list[Any]:
    if isinstance(dtype, (list, tuple)):
        if len(dtype) != count:
            raise ArgumentError(f"{len(dtype)} dtypes for {count} inputs: give one of each, or one for all")
        return [dtype_of("dtype", d, "fiub") for d in dtype]
    if dtype is None:
        dtype = next((p.dtype for p in model.parameters()), np.float64)
    return [dtype_of("dtype", dtype, "fiub")] * count


def _called(model: Module, inputs: list[Any]) -> dict[int, list[Any]]:
    """Call a model on copies of all it reads, and note the outputs of every module inside."""
    found: dict[int, list[Any]] = {}

    def watch(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = module.forward(*args, **kwargs)
        found.setdefault(id(module), []).append(result)
        return result

    with Snapshot(World(("model", model)), lambda array: array, advance=False), no_grad(), np.errstate(all="ignore"):
        model.eval()
        try:
            with watching(watch):
                model(*inputs)
        except Exception as error:
            error.add_note(f"(summary called it with zeros of {', '.join(f'{a.shape} {a.dtype}' for a in inputs)})")
            raise
    return found


def _output(two: list[Any], three: list[Any]) -> str:
    """Write the outputs of a module for 2 and for 3 samples as one shape."""
    if not two:
        return "not called"
    times = f", {len(two)} calls" if len(two) > 1 else ""
    return _nested(two[0], three[0] if three else None) + times


def _nested(a: Any, b: Any) -> str:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and len(a) == len(b):
        return ", ".join(_nested(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return ", ".join(f"{key}: {_nested(x, b[key])}" for key, x in a.items())
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return _shape(a.shape, b.shape)
    return type(a).__name__


def _shape(two: tuple[int, ...], three: tuple[int, ...]) -> str:
    """Write a shape, given that of 2 samples and that of 3: what grows with them is n."""
    if len(two) != len(three):
        return "of varying dimensions"
    axes = [str(a) if a == b else _axis(b - a, a - 2 * (b - a)) for a, b in zip(two, three, strict=True)]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def _axis(factor: int, rest: int) -> str:
    return ("n" if factor == 1 else f"{factor}n") + (f"{rest:+d}" if rest else "")
