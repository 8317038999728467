"""Module: what a layer, a network and a loss have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from reprlib import recursive_repr
from typing import Any, Self

import numpy as np

from tinygrad_nn.checks import flag, function_of, numbers
from tinygrad_nn.conversion import as_array, moved
from tinygrad_nn.engine import Leaf
from tinygrad_nn.errors import DTypeError, GraphError, ShapeError, StateError, TinygradError
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.writes import retire

__all__ = ["Module", "Parameter", "watching"]


class Parameter(Tensor):
    """A Tensor to be trained: it copies its data, and requires a gradient.

    Examples
    --------
    >>> Parameter(np.zeros(2))
    Parameter([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None) -> None:
        super().__init__(data, requires_grad=False, dtype=dtype)
        self._array = self._array.copy()
        self.requires_grad = flag("requires_grad", requires_grad)


_watched: ContextVar[Callable[[Module, tuple[Any, ...], dict[str, Any]], Any] | None] = ContextVar(
    "watched", default=None
)
_watch = _watched.get


@contextmanager
def watching(watch: Callable[[Module, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """Let ``watch(module, args, kwargs)`` make every call of a module, by its `forward`, in this thread or task."""
    token = _watched.set(watch)
    try:
        yield
    finally:
        _watched.reset(token)


class Module:
    """The base of layers, networks and losses: a class with ``__init__`` and ``forward``, no more.

    Assign Tensors, Modules, and lists, tuples or dicts of them to attributes: a leaf Tensor that
    requires a gradient is a parameter, one that does not is a buffer (saved, not trained).  There
    is no ``super().__init__()`` to remember.  Call a module like a function.  A forward changes a
    buffer only by binding the attribute to a new Tensor.  What would be neither, silently, is an error: a
    parameter in a set or in the class itself, and a computed Tensor in the place of a parameter.

    Examples
    --------
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Parameter(np.array(2.0))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> layer = Scale()
    >>> layer(np.array([1.0, 2.0]))
    Tensor([2., 4.], from=np.multiply)
    >>> layer
    Scale()
    >>> [name for name, _ in layer.named_parameters()]
    ['factor']
    """

    training: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, value in vars(cls).items():
            if any(isinstance(t, Tensor) and t.requires_grad for _, t in _walk([value], "", set())):
                raise DTypeError(
                    f"{cls.__name__}.{name} stands in the class, where it would be shared by all instances and trained "
                    f"in none: write self.{name} = ... in __init__"
                )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and not value.is_leaf:
            old = vars(self).get(name)
            if isinstance(old, Tensor) and old.is_leaf and old.requires_grad:
                raise GraphError(
                    f"{name} is a parameter, and a computed Tensor in its place would be trained no more: write "
                    f"self.{name}.data = ... for new values, or keep what is computed under another name"
                )
        elif isinstance(value, (set, frozenset)) and any(isinstance(item, (Tensor, Module)) for item in value):
            raise DTypeError(f"{name} is a set, which has no order: put Tensors and Modules into a list or a dict")
        object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result: `forward` of the same arguments."""
        watch = _watch()
        try:
            return self.forward(*args, **kwargs) if watch is None else watch(self, args, kwargs)
        except TypeError as error:
            if not isinstance(error, TinygradError):
                _check_inputs(self, args, kwargs)
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; each module defines its own."""
        raise DTypeError(f"{type(self).__name__} has no forward: define forward(self, x) in the class")

    # What it holds

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over parameters and buffers with their names, each once, in the order of assignment."""
        taken: set[str] = set()
        for name, value in _walk(self, "", {id(self)}):
            if isinstance(value, Tensor) and value.is_leaf:
                if name in taken:
                    raise StateError(
                        f"two different Tensors in {type(self).__name__} have the name {name!r}: rename one of "
                        f"the dict keys or attributes that lead to them"
                    )
                taken.add(name)
                yield name, value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the parameters with their names, such as ``layers.0.weight``."""
        return ((name, t) for name, t in self.named_tensors() if t.requires_grad)

    def parameters(self) -> Iterator[Tensor]:
        """Iterate over the parameters, each once."""
        return (t for _, t in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the Tensors that are saved and not trained, with their names."""
        return ((name, t) for name, t in self.named_tensors() if not t.requires_grad)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Iterate over this module and all inside it, with their names; this one's is empty."""
        yield "", self
        for name, value in _walk(self, "", {id(self)}):
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """Iterate over this module and all inside it."""
        return (m for _, m in self.named_modules())

    def children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the modules directly inside this one, with their names."""
        return _children(self)

    # What it does

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all inside it to training (dropout drops), and return it."""
        mode = flag("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all inside it to evaluation, and return it."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for p in self.parameters():
            p.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze (True) every `Parameter` inside, and return the module."""
        requires_grad = flag("requires_grad", requires_grad)
        for _, t in self.named_tensors():
            if t.requires_grad or isinstance(t, Parameter):
                t.requires_grad = requires_grad
        return self

    def to(self, convert: Callable[[Any], Any]) -> Self:
        """Put ``convert(array)`` into every parameter and buffer, and return the module.

        Whatever array speaks NumPy's protocols will do, in another dtype or of another library.  Gradients
        are dropped; losses computed before can no longer be differentiated, and optimizers made before
        refuse to step: make them anew.

        Raises
        ------
        DTypeError, ShapeError
            If `convert` gives something else than an array of the same shape and kind; nothing has changed then.

        Examples
        --------
        >>> from tinygrad_nn.nn import Linear
        >>> layer = Linear(2, 3).to(lambda a: a.astype(np.float32))
        >>> layer.weight.dtype, layer(np.ones((1, 2), np.float32)).dtype
        (dtype('float32'), dtype('float32'))
        """
        convert = function_of("to", convert)
        found: list[tuple[Tensor, Any]] = []
        for name, t in self.named_tensors():
            try:
                new = convert(t.data)
            except (TypeError, ValueError) as error:
                raise DTypeError(f"to(convert) failed for {name} of shape {t.shape} and {t.dtype}: {error}") from error
            if not hasattr(new, "__array_function__") or isinstance(new, Tensor):
                raise DTypeError(f"to(convert) needs arrays, of {name} convert made a {type(new).__name__}")
            if new.shape != t.shape:
                raise ShapeError(f"to(convert) keeps shapes, {name} {t.shape} became {new.shape}")
            if t.requires_grad and new.dtype.kind != "f":
                raise DTypeError(f"to(convert) keeps real floating parameters so, {name} {t.dtype} became {new.dtype}")
            found.append((t, as_array(new, None)))
        for t, new in found:
            if type(new) is not type(t.data) or new.dtype != t.dtype:
                _move(t, new)
            elif new is not t.data:
                t.data = new
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of every parameter and buffer as an array, by name."""
        return {name: t.data.copy() for name, t in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the arrays of `state` into the parameters and buffers of the same names.

        Raises
        ------
        StateError
            Naming every entry that is missing, unexpected, of another shape, or of a dtype that
            would lose digits; nothing has changed then.
        """
        tensors = dict(self.named_tensors())
        if not isinstance(state, Mapping):
            raise StateError(f"a state is a dict of arrays by name, got a {type(state).__name__}")
        # copies, as the state may be views of what is written here
        arrays = {k: (v.data if isinstance(v, Tensor) else _array(str(k), v)).copy() for k, v in state.items()}
        problems = [f"missing: {name} {t.shape}" for name, t in tensors.items() if name not in arrays]
        problems += [f"unexpected: {name} {a.shape}" for name, a in arrays.items() if name not in tensors]
        for name in tensors.keys() & arrays.keys():
            t, a = tensors[name], arrays[name]
            if t.shape != a.shape:
                problems.append(f"of another shape: {name} is {a.shape}, the module has {t.shape}")
            elif t.requires_grad and not getattr(getattr(t.data, "flags", None), "writeable", True):
                problems.append(f"read-only: {name} {t.shape}: make the Tensor of a copy")
            elif not np.can_cast(a.dtype, t.dtype, "safe"):
                problems.append(f"of another dtype: {name} is {a.dtype}, the module has {t.dtype}: convert it first")
        if problems:
            raise StateError(
                f"the state does not fit {type(self).__name__}, nothing was loaded:\n  " + "\n  ".join(sorted(problems))
            )
        before = {name: t.data.copy() for name, t in tensors.items()}
        try:
            for name, t in tensors.items():
                _fill(t, arrays[name])
        except BaseException:  # Ctrl-C
            for name, t in tensors.items():
                _fill(t, before[name])
            raise

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the repr: sizes and options."""
        return ""

    def _parts(self) -> Iterator[tuple[str, str]]:
        """List what the repr shows: names and texts."""
        return ((name, repr(child)) for name, child in self.children())

    @recursive_repr("...")
    def __repr__(self) -> str:
        lines = [f"  ({name}): " + text.replace("\n", "\n  ") for name, text in self._parts()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ")" if not lines else "\n".join([head, *lines, ")"])


def _array(name: str, value: Any) -> Any:
    found = numbers(name, value)
    return found if hasattr(found, "__array_function__") else np.asarray(found)


def _fill(t: Tensor, values: Any) -> None:
    """Write values into a Tensor; frozen ones are bound anew: a graph that holds the old array keeps it."""
    data = t.data if t.requires_grad else np.empty_like(t.data)
    np.copyto(data, moved(values, data))
    t.data = data


def _check_inputs(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise if the inputs are not those that a module's forward takes."""
    taken = inspect.signature(module.forward)
    try:
        taken.bind(*args, **kwargs)
    except TypeError as error:
        plain = [p.replace(annotation=p.empty) for p in taken.parameters.values()]
        told = taken.replace(parameters=plain, return_annotation=taken.empty)
        raise DTypeError(f"{type(module).__name__} is called as its forward{told}: {error}") from None


def _move(t: Tensor, data: Any) -> None:
    """Put a leaf Tensor into an array of another dtype or library: what was recorded of it before is void."""
    node, t._array = t._node, data  # noqa: SLF001
    if node is not None:
        t._node = leaf = Leaf(data)  # noqa: SLF001
        leaf.moved = True
        retire(node)


def _children(value: Any, prefix: str = "") -> Iterator[tuple[str, Module]]:
    for name, item in _items(value):
        if isinstance(item, Module):
            yield prefix + name, item
        else:
            yield from _children(item, f"{prefix}{name}.")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a module, dict, list or tuple."""
    if isinstance(value, Module):
        value = vars(value)
    if isinstance(value, dict):
        return ((str(name), item) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ((str(i), item) for i, item in enumerate(value))
    return iter(())


def _walk(value: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Every Tensor and Module inside `value`, each once, depth first."""
    for name, item in _items(value):
        if isinstance(item, (Tensor, Module, dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, (Tensor, Module)):
                yield prefix + name, item
            yield from _walk(item, f"{prefix}{name}.", seen)
