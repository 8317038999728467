"""Pictures of a recorded graph, as text in Graphviz's language DOT."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_nn.engine import PICK, Leaf, Node, ancestors
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor

__all__ = ["Drawing", "draw"]

_FORMATS = ("svg", "png", "pdf")
_SECONDS = 60

# tints of blue, orange and white, which everyone can tell apart; the outlines differ as well
_HEAD = """\
digraph recorded {
  graph [rankdir=TB, ranksep=0.3, nodesep=0.25]
  node [shape=box, fontname="Helvetica", fontsize=11, height=0.3, margin="0.12,0.06", color="#444444"]
  node [style="rounded,filled", fillcolor="#d7eaf6", ordering=in]
  edge [arrowsize=0.6, color="#444444"]"""
_STYLES = {
    "operation": "",
    "result": ", peripheries=2",
    "leaf": ', style=filled, fillcolor="#fbdca0"',
    "constant": ', style="filled,dashed", fillcolor="#ffffff"',
    "note": ", shape=plaintext, style=solid",
}


def _program() -> str | None:
    """The path of Graphviz's program, None where it is not installed."""
    import shutil  # noqa: PLC0415 - only who draws waits for it

    return shutil.which("dot")


class Drawing:
    """A graph as DOT text: `str` gives the text, a notebook shows the picture.

    Attributes
    ----------
    dot : str
        The text; any viewer of Graphviz files shows it.
    """

    def __init__(self, dot: str, summary: str) -> None:
        self.dot = dot
        self._summary = summary

    def __str__(self) -> str:
        return self.dot

    def __repr__(self) -> str:
        return f"<Drawing of {self._summary}; .dot is its text, .save('graph.svg') writes a picture>"

    def svg(self) -> str:
        """Return the picture as SVG text, made by Graphviz's program ``dot``.

        Raises
        ------
        ArgumentError
            If ``dot`` is not installed, or takes more than a minute.
        """
        return self._render("svg").decode("utf-8")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text (``.dot``, ``.gv``) or a picture (``.svg``, ``.png``, ``.pdf``) to a file.

        Raises
        ------
        ArgumentError
            For another suffix, or where `svg` would raise it; nothing is written then.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise DTypeError(f"save takes the path of a file, got {type(path).__name__}")
        suffix = os.path.splitext(os.fspath(path))[1][1:].lower()  # noqa: PTH122 - pathlib costs every import
        if suffix not in ("dot", "gv", *_FORMATS):
            raise ArgumentError(f"a drawing is saved as .dot, .gv, .{', .'.join(_FORMATS)}, not as {os.fspath(path)!r}")
        content = self.dot.encode("utf-8") if suffix in ("dot", "gv") else self._render(suffix)
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(content)

    def _repr_svg_(self) -> str | None:
        # None sends a notebook on to the repr
        return self.svg() if _program() else None

    def _render(self, form: str) -> bytes:
        import subprocess  # noqa: PLC0415 - only who renders waits for it

        program = _program()
        if program is None:
            raise ArgumentError(
                "pictures need Graphviz's program dot (https://graphviz.org/download, or apt install graphviz, brew "
                "install graphviz); without it, .dot is the text, which viewers on the web show as well"
            )
        try:
            text = self.dot.encode("utf-8")
            done = subprocess.run([program, f"-T{form}"], input=text, capture_output=True, check=True, timeout=_SECONDS)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise ArgumentError(f"dot took more than {_SECONDS} s: draw fewer operations, draw(t, limit=50)") from None
        except subprocess.CalledProcessError as error:
            message = error.stderr.decode("utf-8", "replace")[:200]
            raise ArgumentError(f"dot cannot draw this as {form}: {message}") from None
        return done.stdout


def draw(tensor: Tensor, params: Module | Mapping[str, Any] | None = None, *, limit: int = 200) -> Drawing:
    r"""Draw the recorded graph of a Tensor: what it was computed from, as far as gradients flow.

    Draw before `backward`, which releases the graph, or keep it with ``backward(retain_graph=True)``.  Rounded boxes
    are operations, the result has a double outline; full boxes are leaves, which gradients arrive at; dashed boxes
    are constants.  Each says its shape and dtype; an operation also its options.

    Parameters
    ----------
    tensor : Tensor
    params : Module, or dict of Tensors, arrays and Modules; optional
        Where the names come from: ``net``, or ``{"net": net, "x": x}``.  A constant has its name where a derivative
        needs its values: of others, the graph keeps the shape and dtype only.
    limit : int
        How many boxes are drawn, the operations nearest to the result in time; a note counts the others.

    Raises
    ------
    GraphError
        If the graph was released, or nothing that `tensor` depends on requires a gradient.
    DTypeError, ArgumentError
        If an argument is none of these.

    Examples
    --------
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> drawing = draw(np.sum(w * 3), {"w": w})
    >>> drawing
    <Drawing of 2 operations, 1 leaf, 0 constants; .dot is its text, .save('graph.svg') writes a picture>
    >>> print("\n".join(line for line in drawing.dot.splitlines() if "label" in line or "->" in line))
      n0 [label="w\n(2,) float64", style=filled, fillcolor="#fbdca0"]
      n1 [label="np.multiply\n(·, 3)\n(2,) float64"]
      n0 -> n1
      n2 [label="np.sum\n() float64", peripheries=2]
      n1 -> n2
    """
    if not isinstance(tensor, Tensor):
        raise DTypeError(f"draw takes a Tensor, such as a loss, got {type(tensor).__name__}")
    if not isinstance(limit, (int, np.integer)) or limit < 1:
        raise ArgumentError(f"limit is a positive whole number, got {limit!r}")
    limit = int(limit)
    root = tensor._node  # noqa: SLF001 - as the transforms do, this reads what a Tensor remembers
    if root is None:
        raise GraphError(
            "this Tensor depends on nothing that requires a gradient, so nothing was recorded: give the parameters "
            "requires_grad=True, and compute outside tn.no_grad()"
        )
    names, nodes = dict(_names(params)), ancestors(root)[0]
    calls = [_Call(node, limit) for node in nodes[-limit:]]
    while len({box for call in calls for box in call.boxes()}) > limit and len(calls) > 1:
        del calls[: 1 + len(calls) // 8]
    return _written(root, calls, names, f"{len(nodes) - len(calls):,} earlier operations are not drawn ({limit=})")


def _names(params: Any, prefix: str = "") -> Iterator[tuple[Any, str]]:
    """Names by what the graph holds of a Tensor: its leaf, or else the identity of its array."""
    if params is None:
        return
    if isinstance(params, Module):
        items: Any = params.named_tensors()
    elif isinstance(params, Mapping):
        items = params.items()
    else:
        raise DTypeError(f"params is a Module, or a dict of Tensors, arrays and Modules, got {type(params).__name__}")
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, Module):
            yield from _names(value, f"{name}.")
        elif isinstance(value, Tensor):
            node = value._node  # noqa: SLF001
            yield (id(value.data) if node is None else node), name
        elif hasattr(value, "__array_function__"):
            yield id(value), name
        else:
            raise DTypeError(f"params[{key!r}] is a {type(value).__name__}, not a Tensor, an array or a Module")


class _Call:
    """What is drawn of one operation: its text, and what it is computed from."""

    def __init__(self, node: Node, most: int) -> None:
        self.node = node
        self.sources: list[tuple[Any, str, str]] = []  # key, kind, text
        parents = node.parents or ()
        # a function with its own backward pass keeps its arguments to itself
        args = [None] * len(parents) if node.row.pullback else node.args
        for k, (arg, parent) in enumerate(zip(args, parents, strict=True)):
            if parent is not None:
                self.sources.append((parent, "leaf" if type(parent) is Leaf else "operation", _form(parent)))
            elif hasattr(arg, "shape"):
                key = id(arg) if hasattr(arg, "__array_function__") else (node, k)
                number = f"{arg.item():.6g}\n" if isinstance(arg, np.ndarray) and arg.size == 1 else ""
                self.sources.append((key, "constant", number + _form(arg)))
        options = [_arguments(args, parents)]
        given = {key: value for key, value in node.kwargs.items() if value is not None and value is not False}
        options += [f"{key}={_text(value)}" for key, value in given.items()]
        if len(self.sources) > most:
            options.append(f"and {len(self.sources) - most:,} more inputs")
            del self.sources[most:]
        outputs = node.y if type(node.y) is tuple else (node,)
        name = f"output {node.args[0]}" if node.row is PICK else node.row.name
        self.text = "\n".join([name, *filter(None, [", ".join(filter(None, options))]), *map(_form, outputs)])

    def boxes(self) -> Iterator[Any]:
        """What takes a box: the operation, its leaves and constants."""
        yield self.node
        yield from (key for key, kind, _ in self.sources if kind != "operation")


def _arguments(args: Sequence[Any], parents: Sequence[Any]) -> str:
    """The arguments that have no box; beside numbers, a dot for each that has one: 1 - x is not x - 1."""
    pairs = list(zip(args, parents, strict=True))
    texts = ["" if parent is not None or hasattr(arg, "shape") else _text(arg) for arg, parent in pairs]
    if any(text and isinstance(arg, (int, float, complex)) for text, arg in zip(texts, args, strict=True)):
        more = [", ..."] * (len(texts) > 6)
        return "(" + ", ".join(text or "\u00b7" for text in texts[:6]) + "".join(more) + ")"
    return ", ".join(text for text in texts if text not in ("", "None"))


def _form(value: Any) -> str:
    """The shape and dtype, by which a graph is read."""
    return f"{value.shape} {value.dtype}"


def _text(value: Any) -> str:
    """An option of an operation, as one would write it, shortened."""
    if isinstance(value, slice):
        steps = [value.start, value.stop] if value.step is None else [value.start, value.stop, value.step]
        return ":".join("" if step is None else _text(step) for step in steps)
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(_text, value[:6])) + (", ..." if len(value) > 6 else "")
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if hasattr(value, "shape"):
        return f"array {value.shape}"
    text = "..." if value is Ellipsis else getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _written(root: Any, calls: list[_Call], names: dict[Any, str], note: str) -> Drawing:
    """Write boxes and arrows, what comes first at the top."""
    lines: list[str] = []
    drawn: dict[Any, str] = {}
    counts = {"operation": 0, "leaf": 0, "constant": 0, "note": 0}
    shown = {call.node for call in calls}

    def box(key: Any, kind: str, text: str) -> str:
        if key not in drawn:
            drawn[key] = f"n{len(drawn)}"
            label = "\n".join(filter(None, [names.get(key, "")[:60], text]))
            style = "result" if key is root and kind == "operation" else kind
            lines.append(f'  {drawn[key]} [label="{_escaped(label)}"{_STYLES[style]}]')
            counts[kind] += 1
        return drawn[key]

    if type(root) is Leaf:
        box(root, "leaf", _form(root))
    for call in calls:
        starts = [
            box(None, "note", note) if kind == "operation" and key not in shown else box(key, kind, text)
            for key, kind, text in call.sources
        ]
        here = box(call.node, "operation", call.text)
        lines += [f"  {start} -> {here}" for start in starts]
    counts.pop("note")
    summary = ", ".join(f"{count} {_plural(kind, count)}" for kind, count in counts.items())
    return Drawing("\n".join([_HEAD, *lines, "}\n"]), summary)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else {"leaf": "leaves"}.get(word, word + "s")


def _escaped(text: str) -> str:
    """Text for a label in quotes: no escape of DOT's, no entity and no control character is left in it."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;").replace("\n", "\\n")
