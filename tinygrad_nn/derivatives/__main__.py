"""Print the derivative table as a page: ``python -m tinygrad_nn.derivatives``."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tinygrad_nn.derivatives.table import COMPOSITIONS, Row, name_of, rows

HEAD = """# The derivative table

Made by `python -m tinygrad_nn.derivatives` from the rows themselves. `g` is the upstream gradient, `y` the result;
what a rule gives is summed over the axes along which an argument was broadcast. A name such as `_matmul_a` stands for
a rule of several lines, printed below the table; "-" means that no gradient flows to that argument.

"""

ROOMS = "elementwise", "reductions", "linalg", "matrices", "decompositions", "shaping", "indexing", "random"


def page() -> Iterator[str]:
    """The lines of the page."""
    yield from HEAD.splitlines()
    longer: dict[str, str] = {}
    for room in ROOMS:
        yield from (f"## {room}", "")
        yield from ("| function | gradient with respect to each argument | where there is none |", "|---|---|---|")
        yield from _lines([row for row in rows() if room_of(row) == room], longer)
        yield ""
    yield "## Longer rules"
    for name in sorted(longer):
        yield from ("", "```python", longer[name], "```")
    yield ""
    yield "## Made of others"
    yield ""
    yield "These have no row and need none: they are computed by calls of functions above."
    yield ""
    yield ", ".join(f"`{name_of(function)}`" for function in COMPOSITIONS)


def _lines(members: list[Row], longer: dict[str, str]) -> Iterator[str]:
    """The rows of one room; rules that are too long for a line are put into `longer`."""
    for row in members:
        cells = []
        for rule in row.rules:
            text, source = formula(rule)
            longer |= source
            cells.append(f"`{text}`" if rule is not None else "-")
        note = row.note or ("" if row.active else "no gradient flows")
        yield f"| `{row.name}` | {'<br>'.join(cells)} | {note} |".replace("||", "\\|\\|")


def room_of(row: Row) -> str:
    """The module of the table in which a row stands."""
    functions = [rule for rule in row.rules if rule is not None]
    if not functions and "tinygrad_nn" in getattr(row.kernel, "__module__", ""):
        functions = [row.kernel]
    return str(functions[0].__module__.split(".")[-1]) if functions else "elementwise"


def formula(rule: Any) -> tuple[str, dict[str, str]]:
    """A rule's text for the table, and the source of those that are too long for it."""
    if rule is None:
        return "-", {}
    node = _tree_of(rule)
    if isinstance(node, ast.Lambda):
        return ast.unparse(_Plain().visit(node.body)), {}
    body = [part for part in node.body if not _is_docstring(part)]
    if len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value is not None:
        return ast.unparse(_Plain().visit(body[0].value)), {}
    return node.name, {node.name: inspect.getsource(rule).rstrip()}


class _Plain(ast.NodeTransformer):
    """Takes the underscore off parameters, where it only says that they are not kept."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        known = {"_y", "_x", "_a", "_b", "_g", "_array", "_arrays", "_m", "_h"}
        return ast.Name(node.id.lstrip("_"), node.ctx) if node.id in known else node


def _is_docstring(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


@cache
def _module(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text("utf-8"))


def _tree_of(rule: Any) -> Any:
    """The syntax tree of a rule: a lambda is told from its neighbours by where its code lies."""
    code = rule.__code__
    places = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    first = min(places)
    found = [
        node
        for node in ast.walk(_module(code.co_filename))
        if isinstance(node, (ast.Lambda, ast.FunctionDef)) and _holds(node, first) and _named(node) == code.co_name
    ]
    return max(found, key=lambda node: (node.lineno, node.col_offset))


def _named(node: ast.Lambda | ast.FunctionDef) -> str:
    return node.name if isinstance(node, ast.FunctionDef) else "<lambda>"


def _holds(node: ast.Lambda | ast.FunctionDef, place: tuple[int, int]) -> bool:
    start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return start <= place <= end


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
