"""What a function can see: the Tensors, arrays, generators and numbers that it reads without being given them.

`World` walks from a function through its closure, the globals it names, and the attributes of the
objects found there.  What it finds serves three ends: names for the source, a guard that tells when
something was exchanged (`guard`), and a snapshot from which everything is put back (`snapshot`).
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn.derivatives import Row
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor

__all__ = ["World"]

_OWN = ("tinygrad_nn", "numpy")
_FOREIGN = frozenset({*sys.stdlib_module_names, *_OWN}) - {"__main__"}
_NAMESPACES = (types.SimpleNamespace,)


@functools.cache
def _is_foreign(module: str | None) -> bool:
    """Whether code of this module is not the user's: Python's, NumPy's, this package's, or installed."""
    root = (module or "builtins").split(".")[0]
    if root in _FOREIGN or root == "builtins":
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def _is_users(function: types.FunctionType) -> bool:
    """Whether a function was written by the user; an example in a docstring is, whatever its module."""
    name = function.__globals__.get("__name__")
    return not _is_foreign(name) or function.__code__.co_filename.startswith("<doctest")


class World:
    """Everything that `roots` can reach, by name.

    Attributes
    ----------
    tensors, arrays : what was found, with the name by which it was reached
    generators : sources of random numbers
    holders : live dicts and lists whose entries decide what the function computes, with a name
    cells : closure cells
    names : the globals that are read, as (namespace, name)
    classes : attributes of the user's classes that are no functions
    """

    def __init__(self, *roots: tuple[str, Any]) -> None:
        self.tensors: dict[int, tuple[Tensor, str]] = {}
        self.arrays: dict[int, tuple[Any, str]] = {}
        self.generators: list[Any] = []
        self.holders: list[tuple[str, Any]] = []
        self.cells: list[types.CellType] = []
        self.names: list[tuple[dict[str, Any], str]] = []
        self.classes: list[tuple[type, str, Any]] = []
        self._seen: dict[int, Any] = {}
        todo: deque[tuple[str, Any]] = deque(roots)
        while todo:
            name, item = todo.popleft()
            if id(item) not in self._seen and item is not None and not isinstance(item, (int, float, str, bytes)):
                self._seen[id(item)] = item
                todo.extendleft(reversed(list(self._parts(name, item))))

    def _parts(self, name: str, item: Any) -> Iterator[tuple[str, Any]]:
        """Take note of one object, and list what it leads to."""
        if isinstance(item, Tensor):
            self.tensors[id(item)] = (item, name)
        elif isinstance(item, np.ndarray):
            self.arrays[id(item)] = (item, name)
        elif isinstance(item, (np.random.Generator, np.random.RandomState, random.Random)):
            self.generators.append(item)
        elif isinstance(item, (dict, list, set, deque)):
            self.holders.append((name, item))
            entries = item.items() if isinstance(item, dict) else enumerate(item)
            yield from ((f"{name}.{key}", part) for key, part in entries)
        elif isinstance(item, (tuple, frozenset)):
            yield from ((f"{name}.{k}", part) for k, part in enumerate(item))
        elif isinstance(item, types.FunctionType):
            yield from self._of_function(item)
        elif isinstance(item, types.MethodType):
            yield from ((_owner(name), item.__self__), (name, item.__func__))
        elif isinstance(item, functools.partial):
            yield from ((name, item.func), (name, item.args), (name, item.keywords))
        elif isinstance(item, Row):
            yield from () if item.own else ((name, part) for part in (item.kernel, *item.rules))
        elif isinstance(item, type):
            if not _is_foreign(item.__module__):
                yield from self._of_class(name, item)
        elif not isinstance(item, types.ModuleType):
            yield from self._of_instance(name, item)

    def _of_function(self, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                value = cell.cell_contents
                self.cells.append(cell)
                yield name, value
        yield from ((function.__name__, part) for part in (function.__defaults__, function.__kwdefaults__))
        if _is_users(function):
            words = set(_words(function.__code__))
            yield from self._of_namespace(function.__globals__, words)

    def _of_namespace(self, namespace: dict[str, Any], words: set[str]) -> Iterator[tuple[str, Any]]:
        for name in sorted(words & namespace.keys()):
            value = namespace[name]
            if not isinstance(value, types.ModuleType):
                self.names.append((namespace, name))
                yield name, value
            elif not _is_foreign(value.__name__) and id(value) not in self._seen:
                self._seen[id(value)] = value
                yield from self._of_namespace(vars(value), words)

    def _of_class(self, name: str, kind: type) -> Iterator[tuple[str, Any]]:
        for base in kind.__mro__:
            if not _is_foreign(base.__module__):
                for key, part in vars(base).items():
                    if isinstance(part, types.FunctionType):
                        if key != "__init__":
                            yield f"{name}.{key}", part
                    elif not key.startswith("__"):
                        self.classes.append((base, key, part))
                        yield f"{name}.{key}", part

    def _of_instance(self, name: str, item: Any) -> Iterator[tuple[str, Any]]:
        kind = type(item)
        if hasattr(item, "__wrapped__"):  # a function behind another one, compiled or cached
            yield name, item.__wrapped__
        if _is_foreign(kind.__module__) and not isinstance(item, (Module, *_NAMESPACES)):
            return
        with contextlib.suppress(TypeError):  # an object without attributes
            state = vars(item)
            self.holders.append((name, state))
            self._seen[id(state)] = state
            # the layers of a Sequential are known by their numbers
            drop = ".layers" if isinstance(item, Module) else "."
            yield from ((f"{name}.{key}".removesuffix(drop), part) for key, part in state.items())
        if not _is_foreign(kind.__module__):
            yield name, kind


def _owner(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name else name


def _words(code: types.CodeType) -> Iterator[str]:
    """The global and attribute names in a function and the functions inside it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _words(part)
