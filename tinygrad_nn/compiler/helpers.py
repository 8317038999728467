"""Helpers: the text of small kernels, so that a program's source needs nothing but NumPy."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_nn import errors
from tinygrad_nn.checks import item_of

__all__ = ["ERRORS", "numpy_name", "text_of"]

ERRORS: dict[str, Any] = {name: getattr(errors, name) for name in errors.__all__}
"""The exceptions that kernels raise; where there is only NumPy, the built-in ones stand for them."""
_ON_NUMPY = {item_of: "def item_of(array):\n    return array.item()"}
"""What is shorter where every array is NumPy's, as in a program."""
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})
_PLACES = ("numpy", "numpy.linalg", "numpy.fft", "numpy.lib.stride_tricks", "numpy.lib.array_utils")


def numpy_name(function: Callable[..., Any]) -> str | None:
    """How a function is reached from ``np``, or None if it is not NumPy's."""
    name = getattr(function, "__name__", "")
    module = getattr(function, "__module__", None) or "numpy"
    for place in _PLACES:
        # a module that was not loaded cannot be where the function comes from
        if name and module.startswith("numpy") and getattr(sys.modules.get(place), name, None) is function:
            return f"{place.replace('numpy', 'np')}.{name}"
    return None


def text_of(function: Callable[..., Any]) -> dict[str, str] | None:
    """The source of a function, and of what it needs besides NumPy, by name; None where that is not to be had."""
    found: dict[str, str] = {}
    return found if _collect(function, found) else None


def _collect(function: Any, found: dict[str, str]) -> bool:
    """Add the text of a function and of what it calls to `found`; whether that was possible."""
    if not isinstance(function, types.FunctionType) or function.__closure__ or function.__name__ == "<lambda>":
        return False
    if function.__name__ in found:
        return True
    if function in _ON_NUMPY:
        found[function.__name__] = _ON_NUMPY[function]
        return True
    try:
        text = textwrap.dedent(inspect.getsource(function))
        body = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError):
        return False
    if not isinstance(body, ast.FunctionDef) or body.decorator_list or not _is_source_of(function, text, body):
        return False
    found[function.__name__] = _plain(body, text.splitlines())
    return all(_resolve(name, function.__globals__, found) for name in sorted(_free(function, body)))


def _is_source_of(function: types.FunctionType, text: str, body: ast.FunctionDef) -> bool:
    """Whether a text still gives this function: a file may have been edited, and defaults may be no literals."""
    nodes = [*body.args.defaults, *filter(None, body.args.kw_defaults)]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    try:
        if repr([ast.literal_eval(node) for node in nodes]) != repr(defaults):
            return False
    except ValueError:  # an expression
        return False
    steps = [*_steps(function.__code__)]
    parts = compile(text, function.__code__.co_filename, "exec", dont_inherit=True).co_consts
    return any([*_steps(part)] == steps for part in parts if isinstance(part, types.CodeType))


def _steps(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """What code does, without what hangs on where it stands: how far it jumps, how it calls a module's functions."""
    for step in dis.get_instructions(code):
        if isinstance(step.argval, types.CodeType):
            yield from _steps(step.argval)
        elif step.opcode in _JUMPS:
            yield step.opname, ""
        elif step.opname not in {"EXTENDED_ARG", "PRECALL", "PUSH_NULL"}:
            yield step.opname.replace("LOAD_METHOD", "LOAD_ATTR"), repr(step.argval)


def _free(function: types.FunctionType, body: ast.FunctionDef) -> set[str]:
    """The global variables that a function reads."""
    code = function.__code__
    named = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    return named & {*code.co_names} - {"np", *code.co_varnames, *code.co_cellvars}


def _resolve(name: str, space: dict[str, Any], found: dict[str, str]) -> bool:
    """Add to `found` what a global variable stands for; whether that was possible."""
    value = space.get(name)
    if value is None:
        return hasattr(builtins, name)
    if name in ERRORS and value is ERRORS[name]:
        found[name] = f"{name} = {value.__bases__[-1].__name__}"
    elif isinstance(value, types.ModuleType) and name in sys.stdlib_module_names:
        found[name] = f"import {name}"
    elif (full := numpy_name(value)) is not None:
        found[name] = f"{name} = {full}"
    else:
        return _collect(value, found)
    return True


def _plain(body: ast.FunctionDef, lines: list[str]) -> str:
    """The text of a function without annotations, docstring and remarks to tools."""
    body.returns = None
    arguments = body.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None:
            argument.annotation = None
    head = f"def {body.name}({ast.unparse(arguments)}):"
    head = head if '"' in head else head.replace("'", '"')
    statements = body.body[1 if ast.get_docstring(body) is not None else 0 :] or [ast.Pass()]
    text = "\n".join(lines[getattr(statements[0], "lineno", 1) - 1 : body.end_lineno])
    text = re.sub(r"  # (noqa|type:).*", "", text)
    if not _is_text_of(statements, f"{head}\n{text}"):  # on one line with the head, for instance
        text = textwrap.indent("\n".join(map(ast.unparse, statements)), "    ")
    return f"{head}\n{text}"


def _is_text_of(statements: list[ast.stmt], text: str) -> bool:
    """Whether these are the statements of the function in a text."""
    try:
        found = ast.parse(text).body[0]
    except SyntaxError:
        return False
    return isinstance(found, ast.FunctionDef) and [*map(ast.dump, found.body)] == [*map(ast.dump, statements)]
