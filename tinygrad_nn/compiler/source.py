"""The writer: a program and its plan as NumPy source that anybody can read and run."""

from __future__ import annotations

import itertools
import keyword
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_nn.compiler.buffers import Buffer, Plan
from tinygrad_nn.compiler.helpers import ERRORS, numpy_name, text_of
from tinygrad_nn.compiler.layout import WIDTH, laid_out
from tinygrad_nn.compiler.literals import around, dtype_name, filled, index_of, literal, nested
from tinygrad_nn.compiler.program import Op, Program, Value
from tinygrad_nn.derivatives import TABLE, indexing

__all__ = ["Source"]

_GETITEM = TABLE[indexing.getitem].kernel
_LONGEST = 4096
"""Constants of more entries are not written down."""


class Source:
    """The text of a program, and what has to be handed to it.

    Attributes
    ----------
    text : standalone source; it defines ``step``
    factory : the part of it that defines ``program``
    arguments : the inputs, Tensors and arrays that ``forward`` and ``backward`` read, in order
    given : objects that NumPy source cannot name (generators, functions of the user's own), by name
    kept : how many values ``forward`` returns after the results, for ``backward``
    """

    def __init__(self, program: Program, plan: Plan) -> None:
        self._program = program
        self._plan = plan
        self._taken = {"np", "program", "forward", "backward", "step", "gradients", "results", "rest", *_builtins()}
        self._names: dict[Value, str] = {}
        self._buffers: dict[Buffer, str] = {}
        self._shaped: dict[tuple[Buffer, tuple[int, ...]], str] = {}
        self._constants: dict[Any, str] = {}
        self._head: list[str] = []
        self._helpers: dict[str, str] = {}
        self._locals: list[set[Value]] = [set(), set()]  # made in a call of forward, of backward
        self._bodies: list[list[str]] = [[], []]
        self._quiet: list[list[bool]] = [[], []]  # of each line, whether it gives no floating-point warnings
        self._read: list[dict[Value, None]] = [{}, {}]
        self._uses = program.uses()
        self.given: dict[str, Any] = {}
        self._name_arguments()
        for op in program.ops:
            self._write(op)
            part = int(op.backward)
            self._quiet[part] += [op.quiet] * (len(self._bodies[part]) - len(self._quiet[part]))
        results = [self._result(value) for value in program.outputs]
        crossing = [v for v in self._locals[0] & self._read[1].keys() if v not in self.arguments]
        self._crossing = sorted(crossing, key=lambda v: self._names[v])
        self.kept = len(self._crossing)
        self._results = results
        self.factory = self._factory()
        self.text = self._standalone()

    # Names

    def _name(self, wish: str) -> str:
        """Make a Python name of a wish that is not taken yet."""
        stem = re.sub(r"\W+", "_", wish).strip("_") or "value"
        stem = f"_{stem}" if stem[0].isdigit() else stem
        name, k = stem, 1
        while name in self._taken or keyword.iskeyword(name):
            k += 1
            name = f"{stem}_{k}"
        self._taken.add(name)
        return name

    def _name_arguments(self) -> None:
        found: dict[Value, None] = {}
        for op in self._program.ops:
            found.update((v, None) for v in op.inputs() if v.role in ("input", "tensor", "array"))
        for value in self._program.results():
            if value.role in ("input", "tensor", "array"):
                found[value] = None
        order = {"input": 0, "tensor": 1, "array": 2}
        keys = {v: k for k, v in enumerate(found)}
        self.arguments = sorted(found, key=lambda v: (order[v.role], v.source if v.role == "input" else keys[v]))
        for value in self.arguments:
            self._names[value] = self._name(value.name or value.role)

    def _of(self, value: Value, part: int) -> str:
        """The text of a value, where `part` (forward or backward) reads it."""
        self._read[part][value] = None
        if value not in self._names:
            if value.role != "constant":
                raise KeyError(value)
            key = (value.shape, value.dtype, value.source.tobytes())
            if key not in self._constants:
                self._constants[key] = self._constant(value)
            self._names[value] = self._constants[key]
        return self._names[value]

    def _constant(self, value: Value) -> str:
        array = value.source
        text = filled(array) if array.ndim else None
        stem = "ones" if text and text.startswith("np.ones") else "constant"
        name = self._name(_number_name(array) if array.ndim == 0 else stem)
        if text is None and array.size <= _LONGEST:
            text = f"np.array({nested(array.tolist())}, {dtype_name(array.dtype)})" + _reshaped(array)
        if text is None:
            self.given[name] = array
        else:
            self._head.append(f"{name} = {text}")
        return name

    # Operations

    def _write(self, op: Op) -> None:
        part = int(op.backward)
        lines = self._bodies[part]
        if op.kind == "view" and op.output in self._plan.static_views:
            stem = re.sub(r"(_view|_T)(_\d+)?$", "", self._names[op.inputs()[0]].split("[")[0])
            self._names[op.output] = name = self._name(f"{stem}_T" if _is_transpose(op) else f"{stem}_view")
            self._head.append(f"{name} = {self._call(op, part)}  # {op.output.shape}")
        elif op.kind == "view":
            text = self._call(op, part)
            if self._uses.get(op.output) == 1 and _is_transpose(op) and op.inputs()[0] in self.arguments:
                self._names[op.output] = text
                self._locals[part].add(op.output)
                self._inline(op, part)
                return
            self._assign(op, text, lines, part)
        elif op.output in self._plan.fresh and (quotient := self._quotient(op, part)):
            self._assign(op, quotient, lines, part)
        elif op.output in self._plan.place or op.output in self._plan.fresh:
            out = self._destination(op, lines, part)
            lines.append(f"{self._into(op, out, part)}  # {op.output.shape}")
        else:
            self._assign(op, self._call(op, part), lines, part)

    def _inline(self, op: Op, part: int) -> None:
        """A view that is written where it is read: the other part reads its base then."""
        self._locals[part].discard(op.output)
        for reads in self._read:
            reads.update((v, None) for v in op.inputs())

    def _assign(self, op: Op, text: str, lines: list[str], part: int) -> None:
        """Write a call whose result is a new array, or a view of one."""
        names = []
        for value in op.outputs:
            self._names[value] = self._name(_wish(op))
            self._locals[part].add(value)
            names.append(self._names[value])
        lines.append(f"{', '.join(names)} = {text}  # {', '.join(str(v.shape) for v in op.outputs)}")
        if op.kind == "call" and not _is_known(op.function):
            same = " and ".join(f"{n}.shape == {v.shape}" for n, v in zip(names, op.outputs, strict=True))
            lines.append(f"if not ({same}):")
            lines.append(f'    raise ValueError("{_wish(op)} gave another shape than when it was recorded")')

    def _quotient(self, op: Op, part: int) -> str | None:
        """A result that is one number by another, as a mean is, in Python: the same in a third of the time."""
        dtype = op.output.dtype
        if op.function is not np.divide or op.output.shape or dtype not in (np.float32, np.float64):
            return None
        total, count = op.args
        if isinstance(count, Value) and count.role == "constant" and count.shape == ():
            count = count.source.item()
        if not (isinstance(total, Value) and total.role == "computed" and total.dtype == dtype):
            return None
        if type(count) not in (int, float) or not count or not np.isfinite(count):
            return None
        width = ", np.float32" if dtype == np.float32 else ""  # rounded twice, and yet as if once: 53 >= 2 * 24 + 2
        return f"np.array({self._text(total, part)}.item() / {float(count)!r}{width})"

    def _destination(self, op: Op, lines: list[str], part: int) -> str:
        """The name of the array that a result is written to."""
        value = op.output
        if value in self._plan.fresh:
            name = self._names[value] = self._name(_wish(op))
            self._locals[part].add(value)
            lines.append(f"{name} = np.empty({value.shape}, {dtype_name(value.dtype)})")
            return name
        buffer = self._plan.place[value]
        slope = self._slope(value)
        if buffer not in self._buffers:
            wish = value.name if buffer.own and value.name else slope or _wish(op)
            self._buffers[buffer] = name = self._name(wish)
            self._head.append(f"{name} = np.empty({buffer.shape}, {dtype_name(buffer.dtype)})")
        name = self._buffers[buffer]
        if value.shape != buffer.shape and (buffer, value.shape) in self._shaped:
            name = self._shaped[buffer, value.shape]
        elif value.shape != buffer.shape:
            flat = f"{name}.reshape(-1)" if len(buffer.shape) != 1 else name
            cut = f"{flat}[:{value.size}]" if value.size < buffer.size else flat
            name = self._name(slope or _wish(op))
            self._head.append(f"{name} = {cut}.reshape({value.shape})  # shares memory with {self._buffers[buffer]}")
            self._shaped[buffer, value.shape] = name
        elif slope and not buffer.own and not name.startswith(slope):
            name = self._name(slope)
            self._head.append(f"{name} = {self._buffers[buffer]}  # the same memory")
        self._names[value] = name
        return name

    def _slope(self, value: Value) -> str:
        """A name for a gradient: after what it is the gradient of."""
        name = self._names.get(value.slope_of) if value.slope_of is not None else None
        return f"d_{name}" if name is not None and name.isidentifier() else ""

    def _into(self, op: Op, out: str, part: int) -> str:
        """The call that writes a result into an array."""
        args = [self._text(a, part) for a in op.args]
        if op.kind == "draw":
            width = "dtype=np.float32, " if op.output.dtype == np.float32 else ""
            return f"{args[0]}.random({width}out={out})"
        if op.kind == "cast":
            kind = "" if np.can_cast(op.inputs()[0].dtype, op.output.dtype, "same_kind") else ', casting="unsafe"'
            return f"np.copyto({out}, {args[0]}{kind})"
        name = numpy_name(op.function) or self._given(op.function)
        if op.kind == "reduce":
            keep = ", keepdims=True" if op.kwargs["keepdims"] else ""
            return f"{name}.reduce({args[0]}, axis={op.kwargs['axis']}{keep}, out={out})"
        return f"{name}({', '.join(args)}, out={out})"

    def _call(self, op: Op, part: int) -> str:
        """The call of a function that returns its result."""
        args = [self._text(a, part) for a in op.args]
        if op.function is _GETITEM:
            return f"{args[0]}[{self._index(op.args[1], args[1], part)}]"
        if _is_transpose(op):
            return f"{args[0]}.T"
        if op.function is np.reshape and not op.kwargs:
            return f"{args[0]}.reshape({args[1]})"
        options = [f"{key}={self._text(item, part)}" for key, item in op.kwargs.items()]
        name = numpy_name(op.function)
        if name is None:
            helper = text_of(op.function)
            name = self._helper(op.function, helper) if helper else self._given(op.function)
        return f"{name}({', '.join([*args, *options])})"

    def _index(self, item: Any, text: str, part: int) -> str:
        """An index between brackets."""
        if isinstance(item, tuple) and item:
            return ", ".join(self._index(inner, self._text(inner, part), part) for inner in item)
        parts = [self._text(p, part) for p in (item.start, item.stop, item.step)] if isinstance(item, slice) else []
        return index_of(item, text, parts)

    def _helper(self, function: Callable[..., Any], texts: dict[str, str]) -> str:
        if any(name in self._taken and self._helpers.get(name) != text for name, text in texts.items()):
            return self._given(function)
        self._helpers.update(texts)
        self._taken.update(texts)
        return function.__name__

    def _given(self, item: Any) -> str:
        """The name of an object that source cannot spell."""
        for name, other in self.given.items():
            if other is item:
                return name
        kind = "rng" if isinstance(item, np.random.Generator) else getattr(item, "__name__", "given")
        name = self._name(kind)
        self.given[name] = item
        return name

    def _text(self, item: Any, part: int) -> str:
        """Any argument as source."""
        if isinstance(item, Value):
            return self._of(item, part)
        if type(item) in (tuple, list, slice):
            parts = (item.start, item.stop, item.step) if isinstance(item, slice) else item
            return around(item, [self._text(p, part) for p in parts])
        return literal(item) or self._given(item)

    # The whole

    def _result(self, value: Value) -> str:
        """What forward returns for a result: never memory that the next call writes to."""
        name = self._of(value, 0)
        return name if value in self._plan.fresh else f"np.array({name})"

    def _factory(self) -> str:
        names = [self._names[v] for v in self.arguments]
        crossing = [self._names[v] for v in self._crossing]
        gradients = [self._of(v, 1) for v in self._program.gradients]
        lines = ["# Buffers, allocated once", *self._head, ""]
        lines += [_signature("forward", names), *(f"    {line}" for line in self._lines(0))]
        lines += [f"    return {_tuple([*self._results, *crossing])}"]
        if gradients:
            lines += ["", _signature("backward", [*names, *crossing]), *(f"    {line}" for line in self._lines(1))]
            lines += [f"    return {_tuple(gradients)}"]
        lines += ["", f"return forward, {'backward' if gradients else 'None'}"]
        body = "\n".join(f"    {line}".rstrip() for line in lines)
        return "\n".join([_signature("program", list(self.given)), body])

    def _lines(self, part: int) -> Iterator[str]:
        """The lines of forward or backward, those without warnings in blocks."""
        for quiet, lines in itertools.groupby(zip(self._quiet[part], self._bodies[part], strict=True), lambda x: x[0]):
            if quiet:
                yield 'with np.errstate(all="ignore"):'
            yield from (f"    {line}" if quiet else line for _, line in lines)

    def text_of_program(self) -> str:
        """The source of ``program`` and its helpers, without ``step``; it has to be run where `ERRORS` are."""
        texts = [text for name, text in self._helpers.items() if name not in ERRORS]
        return "\n".join(["import numpy as np", *texts, _bound(self.factory)])

    def _standalone(self) -> str:
        names = [self._names[v] for v in self.arguments]
        gradients = [self._names[v] for v in self._program.gradients]
        count = len(self._results)
        texts = list(self._helpers.values())
        imports = sorted(text for text in texts if text.startswith("import "))
        lines = ['"""A step as NumPy calls, written by tinygrad_nn."""', "", *imports, *[""] * bool(imports)]
        lines += ["import numpy as np"]
        others = sorted(text for text in texts if not text.startswith(("def ", "import ")))
        lines += ["", *others] if others else []
        for text in texts:
            lines += ["", "", text] if text.startswith("def ") else []
        lines += ["", "", self.factory, "", ""]
        if self.given:
            lines.append("# what NumPy source cannot spell has to be there: exec(step.source, dict(step.given))")
        lines += [f"forward, backward = program({', '.join(self.given)})", "", "", _signature("step", names)]
        lines += _docstring(gradients)
        lines.append(f"    rest = forward({', '.join(names)})")
        value = "rest[0]" if count == 1 else f"rest[:{count}]"
        if not gradients:
            return laid_out("\n".join([*lines, f"    return {value}\n"]))
        extra = [f"*rest[{count}:]"] if self.kept else []
        lines.append('    with np.errstate(all="ignore"):')
        lines.append(f"        gradients = backward({', '.join([*names, *extra])})")
        return laid_out("\n".join([*lines, f"    return {value}, gradients\n"]))


_CALL = re.compile(r"(?<![\w.])np\.([a-z_.0-9]+)\(")
_OUT = re.compile(r"(np_(?:add|subtract|multiply|divide|negative|square|reciprocal|tanh|cosh|exp))\((.*), out=(\w+)\)")
_DOT = re.compile(r"np_dot\(([\w.]+), ([\w.]+), out=(\w+)\)")


def _bound(factory: str) -> str:
    """The same program with NumPy's functions looked up once, and ``out`` passed by position: 15 % for tiny arrays.

    ``a.dot(b, out)`` is the same product as ``np.dot(a, b, out=out)``, in 0.28 instead of 0.44 microseconds.
    """
    head, mark, rest = factory.partition("    # Buffers, allocated once\n")
    found = sorted(set(_CALL.findall(rest)))
    lines = [f"    np_{name.replace('.', '_')} = np.{name}\n" for name in found]
    body = _CALL.sub(lambda call: f"np_{call[1].replace('.', '_')}(", rest)
    return head + mark + "".join(lines) + _DOT.sub(r"\1.dot(\2, \3)", _OUT.sub(r"\1(\2, \3)", body))


def _builtins() -> set[str]:
    return set(dir(__builtins__)) if not isinstance(__builtins__, dict) else set(__builtins__)


def _signature(name: str, names: list[str]) -> str:
    return f"def {name}({', '.join(names)}):"


def _docstring(gradients: list[str]) -> list[str]:
    line = f'    """Return the results{" and the gradients " * bool(gradients)}{", ".join(gradients)}."""'
    if len(line) <= WIDTH:
        return [line]
    names = textwrap.wrap(", ".join(gradients) + ".", WIDTH - 4)
    return ['    """Return the results and the gradients.', "", *(f"    {names}" for names in names), '    """']


def _tuple(names: list[str]) -> str:
    text = ", ".join(names)
    return f"({text},)" if len(names) == 1 else f"({text})" if not names or len(text) > WIDTH - 15 else text


def _reshaped(array: Any) -> str:
    return "" if array.size else f".reshape({array.shape})"


def _is_transpose(op: Op) -> bool:
    return op.function is np.transpose and not op.kwargs and (len(op.args) == 1 or op.args[1] is None)


def _wish(op: Op) -> str:
    """A name for a result: what computed it."""
    name = getattr(op.function, "__name__", "value").strip("_")
    return {"random_like": "draw", "copyto": "copy"}.get(name, name)


def _number_name(number: Any) -> str:
    """A name that tells the number: c0_5 for 0.5, minus_2 for -2."""
    text = f"{number.item():.6g}".replace("e-0", "e-").replace("e+", "e")
    name = re.sub(r"\W", "_", text.lstrip("-").removesuffix(".0"))
    return f"minus_{name}" if text.startswith("-") else f"c{name}"


def _is_known(function: Any) -> bool:
    """Whether the result's shape follows from the arguments' shapes."""
    return (
        isinstance(function, np.ufunc)
        or function in (np.where, np.reshape, np.broadcast_to)
        or (getattr(function, "__module__", "").startswith("tinygrad_nn.derivatives"))
    )
