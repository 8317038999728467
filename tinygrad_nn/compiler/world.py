"""What a function can see: the Tensors, arrays, generators and numbers that it reads without being given them.

`World` walks from a function through its closure, the globals it names, and the attributes of the
objects found there.  What it finds serves three ends: names for the source, a guard that tells when
something was exchanged (`guard`), and a snapshot from which everything is put back (`snapshot`).

The walk goes by names: code of the user's can read an attribute or a variable only by a name that
stands in it.  So a module of the user's, which holds much else, and an object of somebody else's
class, of which nothing is known, are asked for these names only.
"""

from __future__ import annotations

import contextvars
import dis
import functools
import gc
import inspect
import operator
import random
import re
import sys
import types
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from tinygrad_nn.compiler.holders import HOLDERS, Holder, Place
from tinygrad_nn.derivatives import Row
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor

__all__ = ["World", "is_iterator"]

_OWN = ("tinygrad_nn", "numpy")
_FOREIGN = frozenset({*sys.stdlib_module_names, *_OWN}) - {"__main__"}
_OPEN = (Module, Mapping, Sequence, AbstractSet, np.poly1d)
"""Objects of other people's classes that are opened all the same: they are no more than what they hold."""
_PLAIN_MODULES = ("argparse", "types", "numpy.polynomial")
"""The modules of Namespace, SimpleNamespace and NumPy's polynomials, which are opened too."""
_ANY_NAME = frozenset(
    {"__dict__", "__getattribute__", "asdict", "astuple", "attrgetter", "eval", "exec", "getattr()", "locals", "vars"}
)
"""Code that says one of these may read attributes that it does not name; see `_words` for the one in brackets."""
_THIN = (property, types.MappingProxyType, MappingView, functools.cached_property, functools.partialmethod)
"""What stands before other objects and keeps nothing itself."""
_CALLED = (types.FunctionType, staticmethod, classmethod, property)


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
    return name is None or not _is_foreign(name) or function.__code__.co_filename.startswith("<doctest")


class World:
    """Everything that `roots` can reach, by name.

    Attributes
    ----------
    tensors, arrays : what was found, with the name by which it was reached
    generators : sources of random numbers
    iterators : Python's own, with the name by which each was reached
    holders : dicts, lists, attributes of objects and classes
    places : single values: closure cells, globals, slots, defaults
    absent : names that the function looks for where they are not, as (namespace, names)
    """

    def __init__(self, *roots: tuple[str, Any]) -> None:
        self.tensors: dict[int, tuple[Tensor, str]] = {}
        self.arrays: dict[int, tuple[Any, str]] = {}
        self.generators: list[Any] = []
        self.iterators: list[tuple[Any, str]] = []
        self.holders: list[Holder] = []
        self.places: list[Place] = []
        self.absent: list[tuple[dict[str, Any], frozenset[str]]] = []
        self._words: set[str] = set()  # every name in the user's code
        self._asked: list[tuple[str, Any, Holder | None]] = []  # what is asked for these names only
        self._spaces: list[tuple[dict[str, Any], frozenset[str]]] = []  # of functions, with the names that they load
        self._known: set[tuple[int, str]] = set()
        self._seen: dict[int, Any] = {}
        self._reach(deque(roots))
        known = (-1, -1)
        while known != (found := (len(self._words), len(self._asked))):
            known = found
            for asked in list(self._asked):  # what they lead to may bring names of its own, and more to be asked
                self._reach(deque(self._named(*asked)))
        self._look_for_absent()

    def numeric(self) -> Iterator[tuple[Any, str]]:
        """The arrays that a program can read where they live: NumPy's own, of numbers."""
        return (found for found in self.arrays.values() if _is_numeric(found[0]))

    def others(self) -> Iterator[tuple[Any, str]]:
        """The arrays of texts, objects or fields, and those of subclasses, which compute in ways of their own."""
        return (found for found in self.arrays.values() if not _is_numeric(found[0]))

    def _reach(self, todo: deque[tuple[str, Any]]) -> None:
        while todo:
            name, item = todo.popleft()
            if id(item) not in self._seen and item is not None and type(item) not in (int, float, str, bytes, bool):
                self._seen[id(item)] = item
                todo.extendleft(reversed(list(self._parts(name, item))))

    def _parts(self, name: str, item: Any) -> Iterator[tuple[str, Any]]:  # noqa: C901, PLR0912, PLR0915 - by kind
        """Take note of one object, and list what it leads to."""
        if isinstance(item, Tensor):
            self.tensors[id(item)] = (item, name)
        elif isinstance(item, np.ndarray):
            self.arrays[id(item)] = (item, name)
        elif isinstance(item, (np.random.Generator, np.random.RandomState, random.Random)):
            self.generators.append(item)
        elif is_iterator(item):
            self.iterators.append((item, name))
        elif isinstance(item, HOLDERS):
            self.holders.append(Holder(name, item))
            yield from ((f"{name}.{key}", part) for key, part in self.holders[-1].items())
            if isinstance(item, defaultdict):
                yield from self._at(Place(item, "default_factory", f"{name}.default_factory"))
        elif isinstance(item, (tuple, frozenset)):
            yield from ((f"{name}.{k}", part) for k, part in enumerate(item))
        elif isinstance(item, types.FunctionType):
            yield from self._of_function(name, item)
        elif isinstance(item, types.MethodType):
            yield from ((_owner(name), item.__self__), (name, item.__func__))
        elif isinstance(item, types.BuiltinMethodType):
            yield _owner(name), item.__self__
        elif isinstance(item, functools.partial):
            yield from ((name, item.func), (name, item.keywords), *self._at(Place(item, "args", name)))
            if item.func is getattr:
                self._words.update(text for text in item.args if isinstance(text, str))
        elif isinstance(item, contextvars.ContextVar):
            yield from self._at(Place(item, "", item.name))
        elif isinstance(item, _THIN):
            yield from ((name, part) for part in gc.get_referents(item))
        elif isinstance(item, (operator.attrgetter, operator.methodcaller)):
            self._words.update(re.findall(r"\w+", repr(item)))
        elif isinstance(item, weakref.ref):
            yield name, item()
        elif isinstance(item, Row):
            yield from () if item.own else ((name, part) for part in (item.kernel, *item.rules))
        elif isinstance(item, types.ModuleType):
            if not _is_foreign(item.__name__):
                self._asked.append((name, item, None))
        elif isinstance(item, type):
            if not _is_foreign(item.__module__):
                yield from self._of_class(name, item)
        elif isinstance(item, memoryview):
            yield name, item.obj
        elif isinstance(item, np.vectorize):
            yield name, item.pyfunc
        elif isinstance(item, np.ufunc):  # of np.frompyfunc
            yield from ((name, part) for part in gc.get_referents(item) if isinstance(part, types.FunctionType))
        elif inspect.getattr_static(item, "__wrapped__", None) is not None:  # a function behind another one, cached
            yield name, item.__wrapped__
        if not isinstance(item, (type, types.ModuleType, types.FunctionType)):
            yield from self._of_instance(name, item)

    def _at(self, place: Place) -> Iterator[tuple[str, Any]]:
        """Take note of a single place, and give what is there."""
        key = (id(place.owner), place.key)
        if key not in self._known:
            self._known.add(key)
            self.places.append(place)
            yield place.name, place.get()

    def _of_function(self, name: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
        code = function.__code__
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            yield from self._at(Place(cell, "cell_contents", variable))
        for key in ("__defaults__", "__kwdefaults__"):
            if getattr(function, key) is not None:
                yield from self._at(Place(function, key, f"{function.__name__}.{key}"))
        if _is_users(function):
            yield from self._at(Place(function, "__code__", f"{function.__name__}.__code__"))
            yield name, vars(function) or None
            words = set(_words(code))
            self._words |= words
            space = function.__globals__
            names, modules = _loaded(code)
            names = words | _plain_names(space) if {"globals", "eval", "exec"} & words else names
            self._spaces.append((space, frozenset(names)))
            yield from self._of_namespace(space, names)
            modules |= words if {"__import__", "import_module", "modules"} & words else set()
            full = {*modules, *(f"{space.get('__package__')}.{module}" for module in modules)}
            yield from ((module, sys.modules[module]) for module in sorted(full & sys.modules.keys()))
            if {"environ", "getenv"} & words:
                yield "os.environ", sys.modules["os"].environ

    def _of_namespace(self, space: dict[str, Any], words: set[str]) -> Iterator[tuple[str, Any]]:
        for name in sorted(words & space.keys()):
            if not (isinstance(space[name], types.ModuleType) and space[name].__name__.split(".")[0] in _OWN):
                yield from self._at(Place(space, name, name, entry=True))

    def _of_class(self, name: str, kind: type) -> Iterator[tuple[str, Any]]:
        self.holders.append(Holder(kind.__name__, vars(kind), kind))
        self._asked.append((name, kind, None))
        yield name, type(kind)
        for base in kind.__mro__[1:-1]:
            yield name, base
            if _is_foreign(base.__module__):  # what it calls and reads of an object stands in its own code
                functions = (part for part in vars(base).values() if isinstance(part, types.FunctionType))
                words = {word for function in functions for word in function.__code__.co_names}
                # a Module looks through all attributes, and passes over those that are plain
                self._words |= words - _ANY_NAME if issubclass(base, Module) else words

    def _of_instance(self, name: str, item: Any) -> Iterator[tuple[str, Any]]:
        kind = type(item)
        foreign = _is_foreign(kind.__module__)
        if not foreign:
            yield name, kind
            yield from self._at(Place(item, "__class__", f"{name}.__class__"))
            yield from (place for key in _slots(kind) for place in self._at(Place(item, key, f"{name}.{key}")))
        if not hasattr(item, "__dict__") or isinstance(item, types.MethodType):
            return
        if foreign and not isinstance(item, _OPEN) and not kind.__module__.startswith(_PLAIN_MODULES):
            self._asked.append((name, item, None))
            return
        holder = Holder(name, vars(item), item)
        self._seen[id(holder.entries)] = holder.entries
        self.holders.append(holder)
        if foreign:
            yield from ((_attribute(name, item, key), part) for key, part in holder.items())
        else:
            self._asked.append((name, item, holder))

    def _named(self, name: str, item: Any, holder: Holder | None) -> Iterator[tuple[str, Any]]:
        """List what the names in the user's code lead to: of a module, a class, or an object."""
        any_name = not self._words.isdisjoint(_ANY_NAME)
        if isinstance(item, types.ModuleType):
            self._spaces.append((vars(item), frozenset(self._words)))
            yield from self._of_namespace(vars(item), self._words | (_plain_names(vars(item)) if any_name else set()))
        elif isinstance(item, type):
            for key, part in list(vars(item).items()):
                special = key.startswith("__") and key.endswith("__")
                if key in self._words or (special is isinstance(part, _CALLED) and key != "__init__"):
                    yield f"{name}.{key}", part
        elif holder is None:
            for key in sorted(self._words & vars(item).keys()):
                # as an entry, since a property may have the same name
                yield from self._at(Place(vars(item), key, f"{name}.{key}", entry=True))
        else:
            plain = {key for key, part in holder.items() if key not in self._words and _is_plain(part)}
            holder.unread = set() if any_name else plain
            yield from ((_attribute(name, item, k), part) for k, part in holder.items() if k not in holder.unread)

    def _look_for_absent(self) -> None:
        """Take note of names that are looked for in a namespace, and are not there."""
        wanted: dict[int, tuple[dict[str, Any], set[str]]] = {}
        for space, names in self._spaces:
            wanted.setdefault(id(space), (space, set()))[1].update(names - space.keys())
        found = ((space, frozenset(filter(str.isidentifier, names))) for space, names in wanted.values())
        self.absent = [(space, names) for space, names in found if names]


def _is_numeric(array: Any) -> bool:
    return array.dtype.kind in "fiubc" and type(array) in (np.ndarray, np.memmap)


def is_iterator(item: Any) -> bool:
    """Whether an object is one of Python's iterators: a generator, what iter() gives, or one of itertools."""
    return isinstance(item, Iterator) and type(item).__module__ in ("builtins", "itertools")


def _owner(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name else name


def _attribute(name: str, item: Any, key: str) -> str:
    """The name of an attribute; the layers of a Sequential are known by their numbers."""
    return f"{name}.{key}".removesuffix(".layers" if isinstance(item, Module) else ".")


def _slots(kind: type) -> list[str]:
    """The attributes of the user's classes that live in slots."""
    slots = types.MemberDescriptorType
    bases = [base for base in kind.__mro__ if not _is_foreign(base.__module__)]
    return [key for base in bases for key, part in vars(base).items() if isinstance(part, slots)]


def _is_plain(item: Any) -> bool:
    """Whether an object is made of numbers and texts: what no Module counts among its parts."""
    if isinstance(item, dict):
        return all(map(_is_plain, item.values()))
    if isinstance(item, (list, tuple, set, deque)):
        return all(map(_is_plain, item))
    return item is None or isinstance(item, (int, float, complex, str, bytes, np.generic, np.ndarray))


def _plain_names(space: dict[str, Any]) -> set[str]:
    """The variables of a module that are made of numbers and texts."""
    return {name for name, item in list(space.items()) if not name.startswith("__") and _is_plain(item)}


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of the functions inside it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def _words(code: types.CodeType) -> Iterator[str]:
    """The names of globals, attributes and modules in a function, and the texts, which getattr takes for names.

    A getattr that is given something else than a text counts as the name "getattr()", and so does a ``case`` with
    a class, which reads what the class says.
    """
    for inner in _codes(code):
        yield from inner.co_names
        texts = [part for part in inner.co_consts if isinstance(part, str)]
        yield from texts
        if {"eval", "exec", "format"} & {*inner.co_names}:
            yield from (word for text in texts for word in re.findall(r"\w+", text))
        matches = dis.opmap["MATCH_CLASS"] in inner.co_code[::2]
        if matches or ("getattr" in inner.co_names and not _is_given_texts(inner)):
            yield "getattr()"


def _is_given_texts(code: types.CodeType) -> bool:
    """Whether every getattr in a function is called with a text as its second argument; if in doubt, not."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "PRECALL"]
    for k, step in enumerate(steps):
        if step.opname.startswith("LOAD") and step.argval == "getattr":
            depth, second = 0, None
            for later in steps[k + 1 :]:  # arguments are put one upon the other, until they are called with
                if "JUMP" in later.opname:
                    return False
                if later.opname.startswith("CALL") and depth == later.arg:
                    break
                depth += dis.stack_effect(later.opcode, later.arg)
                second = later if depth == 2 else second
            if second is None or second.opname != "LOAD_CONST" or not isinstance(second.argval, str):
                return False
    return True


def _loaded(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The names that a function reads as global variables, and the modules that it imports."""
    names: set[str] = set()
    modules: set[str] = set()
    module = ""
    for inner in _codes(code):
        for step in dis.get_instructions(inner):
            if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
                names.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                module = step.argval
                modules.add(module)
            elif step.opname == "IMPORT_FROM":
                modules.add(f"{module}.{step.argval}".lstrip("."))
    return names, modules
