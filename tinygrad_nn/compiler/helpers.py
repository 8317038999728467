"""Helpers: the text of small kernels, so that a program's source needs nothing but NumPy."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn import errors

__all__ = ["ERRORS", "numpy_name", "text_of"]

ERRORS: dict[str, Any] = {name: getattr(errors, name) for name in errors.__all__}
"""The exceptions that kernels raise; where there is only NumPy, the built-in ones stand for them."""


def numpy_name(function: Callable[..., Any]) -> str | None:
    """How a function is reached from ``np``, or None if it is not NumPy's."""
    name = getattr(function, "__name__", "")
    module = getattr(function, "__module__", None) or "numpy"
    for prefix, place in (("np", "numpy"), ("np.linalg", "numpy.linalg"), ("np.fft", "numpy.fft")):
        # a module that was not loaded cannot be where the function comes from
        if name and module.startswith("numpy") and getattr(sys.modules.get(place), name, None) is function:
            return f"{prefix}.{name}"
    return None


def text_of(function: Callable[..., Any]) -> dict[str, str] | None:
    """The source of a function and of those that it calls, by name; None where it needs more than NumPy."""
    found: dict[str, str] = {}
    return found if _collect(function, found) else None


def _collect(function: Any, found: dict[str, str]) -> bool:
    """Add the text of a function and of what it calls to `found`; whether that was possible."""
    if not isinstance(function, types.FunctionType) or function.__closure__ or function.__name__ == "<lambda>":
        return False
    if function.__name__ in found:
        return True
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    body = tree.body[0]
    if not isinstance(body, ast.FunctionDef) or body.decorator_list:
        return False
    _strip(body)
    found[function.__name__] = ast.unparse(body)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name, found)
        if value is np or (value is found and (hasattr(builtins, name) or not _is_loaded(body, name))):
            continue
        if name in ERRORS and value is ERRORS[name]:
            found[name] = f"{name} = {value.__bases__[-1].__name__}"
        elif value is found or not _collect(value, found):
            return False
    return True


def _strip(body: ast.FunctionDef) -> None:
    """Take away annotations and the docstring."""
    body.returns = None
    arguments = body.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None:
            argument.annotation = None
    if ast.get_docstring(body) is not None:
        del body.body[0]


def _is_loaded(body: ast.FunctionDef, name: str) -> bool:
    """Whether a name is read as a variable, and not only as an attribute."""
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(body))
