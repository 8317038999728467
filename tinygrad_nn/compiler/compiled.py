"""The public function: `compile`, and what it returns."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.checks import flag, function_of, whole
from tinygrad_nn.compiler.build import build
from tinygrad_nn.compiler.capture import flatten, unflatten
from tinygrad_nn.compiler.entry import GATE, MISS, Entry
from tinygrad_nn.compiler.explain import explain
from tinygrad_nn.engine import current_recording
from tinygrad_nn.errors import ArgumentError, DetachError, DTypeError, GraphError
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.transforms import variables_around

__all__ = ["Compiled", "compile"]

_WARN_AFTER = 8
"""So many programs for arguments of one form, and the user is told."""


def compile(function: Callable[..., Any], *, backward: bool = True, cache: int = 16) -> Compiled:  # noqa: A001
    """Make a training step of a loss function: the same numbers, as straight-line NumPy on buffers made once.

    ``step = tn.compile(loss_fn)``; then ``step(x, y)`` returns what ``loss_fn(x, y)`` returns and has
    added the gradients to `grad` of every parameter, as ``loss_fn(x, y).backward()`` would.  The
    optimizer stays outside.  With ``backward=False`` only the forward runs, as under `no_grad`.

    The first call with arguments of new shapes or dtypes records the function (it runs several times,
    on copies: nothing it reads is changed) and writes a program, which further calls run.  Parameters
    are read where they live, and so are arrays.  Everything else that the function reads from variables,
    attributes, lists and dicts is looked after: when a number, a layer or a train/eval switch has
    changed, the function is recorded anew.  Buffers that a forward binds to new Tensors are written back.

    What cannot be looked after, and stays as it was when the function was recorded: variables and classes
    of installed packages; what an object of their classes keeps and gives only through its methods (a
    queue, a database); files.  Pass such a number as an argument.

    - Gradients: an array that the program puts into `grad` is overwritten by its next call.  Copy what
      you want to keep.  `grad` adds up over calls until it is set to None, as always.
    - Results are new Tensors at each call, without a graph; a plain array among them is a new array.
    - A function may not branch on values, or compute with them outside of NumPy and Tensors: recording it
      raises an error, and so does reading `grad` in it, or taking the next of an iterator from outside.  What
      it prints, it prints when it is recorded, not at every call.
    - Under `no_grad`, and inside `tn.grad` and other transforms, a step raises an error; with ``backward=False``
      it runs under the first as ever, and inside the others as the function itself, so that it has a graph.
    - Copied or pickled, it makes programs of its own.
    - Threads: a compiled function may be called from several.  While a call records, copies stand in the
      place of what the function reads; compiled calls in other threads wait until that is over, and nothing
      else may use the model meanwhile.  Record, by a first call, before other threads train it.

    Parameters
    ----------
    function : callable
        Returns its loss, a Tensor with one entry, or a tuple, list or dict whose first entry is the loss.
    backward : bool
        Whether to run the backward pass.
    cache : int
        How many programs are kept; the one not used for longest goes first.

    Raises
    ------
    GraphError
        At the call that records, if the function branches on values, computes values outside of what can be
        recorded, or changes something that a program would not repeat.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> from tinygrad_nn.compiler import compile
    >>> w = tn.Tensor([1.0, 2.0], requires_grad=True)
    >>> step = compile(lambda x: np.square(x * w).sum())
    >>> step(np.array([3.0, 4.0])).item()
    73.0
    >>> w.grad
    array([18., 64.])
    """
    function = function_of("compile", function)
    if isinstance(function, Compiled):
        raise ArgumentError("this function is compiled already: pass the function that it was made of")
    return Compiled(function, backward=flag("backward", backward), cache=whole("cache", cache))


class Compiled:
    """A compiled function; see `compile`.

    Attributes
    ----------
    function : what it was made of
    recordings : how often it was recorded
    """

    def __init__(self, function: Callable[..., Any], *, backward: bool, cache: int) -> None:
        self.function = function
        self.recordings = 0
        self._backward = backward
        self._limit = cache
        self._entries: list[Entry] = []
        self._forms: dict[Any, int] = {}
        self._run: Callable[..., Any] = _miss
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments, recording it first if there is none."""
        if current_recording() is not True or variables_around():
            return self._inside(args, kwargs)
        result = self._run(args, kwargs)
        return result if result is not MISS else self._find(args, kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # programs belong to this process, and to the parameters that they were recorded with: a copy makes its own
        return {"function": self.function, "backward": self._backward, "cache": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Compiled.__init__(self, **state)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        raise GraphError(
            "a compiled function as a method would need one program per object: compile the bound method, "
            "step = tn.compile(model.loss)"
        )

    def _inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call while nothing is recorded, inside a transform, or while something records everything or looks on."""
        tape = current_recording()
        if tape is False:
            if self._backward:
                raise GraphError(
                    f"a compiled step runs a backward, and no_grad() is around it: for values alone compile "
                    f"{self._name} with backward=False"
                )
            result = self._run(args, kwargs)
            return result if result is not MISS else self._find(args, kwargs)
        if variables_around():
            if self._backward:
                raise GraphError(
                    f"a compiled step inside tn.grad or another transform would run a backward of its own, and its "
                    f"result has no graph: differentiate {self._name} itself"
                )
            return self.function(*args, **kwargs)  # whose results can be differentiated
        if tape is not True and tape.passive:
            found, structure = flatten(self.function(*args, **kwargs))
            if self._backward:
                found[0].backward()
            return unflatten(structure, [item.detach() if isinstance(item, Tensor) else item for item in found])
        if self._backward:
            raise GraphError(
                f"a compiled step inside a function that is being recorded would run a backward there: "
                f"call {self._name} itself"
            )
        return self.function(*args, **kwargs)

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Look among the other programs, or make one."""
        result = self._tried(args, kwargs)
        if result is not MISS:
            return result
        with GATE:  # which another thread may have shut, while it made the very program that is needed here
            result = self._tried(args, kwargs)
            if result is not MISS:
                return result
            with GATE.shut():
                entry = Entry(build(self.function, *_checked(args, kwargs), backward=self._backward))
            self.recordings += 1
            self._use(entry)
            self._count(args, kwargs)
            result = entry.run(args, kwargs)
        if result is MISS:
            raise GraphError(
                "what the function reads changed while it was being recorded (another thread?), so the program could "
                "not be run: record it, by a first call, before other threads use the model"
            )
        return result

    def _tried(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the first program that is right for a call, if there is one."""
        for entry in self._entries:
            result = entry.run(args, kwargs)
            if result is not MISS:
                self._use(entry)
                return result
        return MISS

    def _use(self, entry: Entry) -> None:
        """Make an entry the first to be tried."""
        with GATE:  # two threads would lose what the other one has put in
            others = [e for e in self._entries if e is not entry]
            self._entries = [entry, *others][: self._limit]
            self._run = entry.run

    def _count(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Warn when arguments of one form need one program after the other."""
        form = repr([getattr(a, "shape", type(a)) for a in (*args, *kwargs.values())])
        self._forms[form] = self._forms.get(form, 0) + 1
        if self._forms[form] == _WARN_AFTER:
            changed = next((", ".join(names) for e in self._entries[1:] if (names := e.changed())), "")
            warnings.warn(
                f"{self._name} was recorded {_WARN_AFTER} times for arguments of one form, since "
                f"{changed or 'a number or an object that it is passed'} changes from call to call: "
                f"make that a Tensor, an array, or a tuple, list or dict of them, which are read anew at each "
                f"call, and give a Tensor other numbers by its .data",
                stacklevel=4,
            )

    @property
    def source(self) -> str:
        """The program of the latest call as standalone NumPy source, which defines ``step``."""
        return self._latest().built.source.text

    @property
    def given(self) -> dict[str, Any]:
        """What `source` needs besides NumPy and cannot spell, by name: generators, and functions of the user's own."""
        return dict(self._latest().built.source.given)

    def explain(self) -> str:
        """Say in words what the program of the latest call does: kernels, buffers, bytes, what is reused."""
        return explain(self._latest().built, len(self._entries))

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", "the function")

    def _latest(self) -> Entry:
        if not self._entries:
            raise GraphError("there is no program yet: the first call records the function")
        return self._entries[0]

    def __repr__(self) -> str:
        count = len(self._entries)
        return f"<compiled {getattr(self.function, '__name__', self.function)}, {count} program{'s' * (count != 1)}>"


def _miss(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """The entry of a function that has not been recorded."""
    return MISS


def _checked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Refuse arguments through which a gradient or values would silently be lost."""
    for item in (*args, *kwargs.values()):
        if isinstance(item, Tensor) and not item.is_leaf:
            raise DetachError(
                "an argument of a compiled function was computed from Tensors that require gradients, which would not "
                "reach them: pass x.detach(), or compile the whole computation"
            )
        array = item.data if isinstance(item, Tensor) else item
        foreign = hasattr(array, "__array_function__") and not isinstance(array, np.ndarray)
        if foreign or isinstance(array, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(f"a program works on NumPy arrays, not on a {type(array).__name__}: convert it first")
    return args, kwargs
