"""The table itself: what a row is, how rows are made, and how a broadcast is undone.

A row says, for one function, the vector-Jacobian product for each argument, in plain NumPy::

    differentiable(np.multiply, lambda g, _y, _a, b: g * b,
                                lambda g, _y, a, _b: g * a, broadcasts=True)

A rule is called as ``rule(g, y, *args, **kwargs)``: the upstream gradient, the function's result
and its arguments.  A parameter whose name begins with an underscore is not kept until the
backward pass: the rule sees a stand-in that has its shape and dtype and nothing else.

This room knows nothing of Tensor.  Functions of our own (sigmoid, ...) hand a call on to any
argument that carries the empty marker class `Traced`, which Tensor does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import numpy as np

from tinygrad_nn.checks import flag, function_of, kernel_error, numbers
from tinygrad_nn.errors import ArgumentError, DTypeError, NoDerivativeError, RuleError, ShapeError

__all__ = ["COMPOSITIONS", "TABLE", "Blank", "Row", "Traced", "composition", "differentiable", "unbroadcast"]

Function = TypeVar("Function", bound=Callable[..., Any])
Rule = Callable[..., Any]


class Traced:
    """Marks the arrays that remember what was done to them; empty on purpose."""

    __slots__ = ()


class Blank:
    """Stands in for an array that no rule reads: it has a shape and a dtype, and no values."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))


LONGEST_DOT = 1024
"""Sums of more numbers than this are left to NumPy, which adds in pairs where it can, and so rounds less."""
_REFUSED = frozenset({"out", "dtype"})


class Row:
    """One row of the table: a function, the kernel that computes it, and a rule per argument.

    Attributes
    ----------
    function : what users call, and the key in `TABLE`
    kernel : what runs on arrays; for a pullback row it returns ``(y, pullback)``
    rules : one per array argument, None where no gradient flows; for a variadic row, one in all
    broadcasts : the rules return the result's shape, and the engine sums to the argument's
    variadic : the one rule is ``rule(g, y, k, *args)``, k counting the arrays of its ``*args``
    splits : the one rule of a variadic row is ``rule(g, y, *args)`` and gives a list, one gradient an array
    pullback : the kernel brings its own backward pass (first order only)
    bind : turns the call as users write it into the kernel's positional form
    selects : some entries get a gradient of exactly 0 because they were not taken (where, getitem)
    own : the row belongs to the package's table, whose rules never return an array they keep
    note : the points without a derivative, and what is returned there
    """

    __slots__ = (
        "__dict__",
        "bind",
        "broadcasts",
        "direct",
        "function",
        "kept",
        "kernel",
        "name",
        "note",
        "own",
        "plain",
        "pullback",
        "rules",
        "selects",
        "splits",
        "variadic",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        kernel: Callable[..., Any],
        rules: tuple[Rule | None, ...],
        *,
        name: str,
        broadcasts: bool = False,
        variadic: bool = False,
        splits: bool = False,
        pullback: bool = False,
        bind: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
        selects: bool = False,
        own: bool = False,
        note: str = "",
    ) -> None:
        self.function = function
        self.kernel = kernel
        self.rules = rules
        self.name = name
        self.broadcasts = broadcasts
        self.variadic = variadic
        self.splits = splits
        self.pullback = pullback
        self.bind = bind
        self.selects = selects
        self.own = own
        alone = not (variadic or pullback)
        self.plain = alone and own  # a rule an argument, called as it is
        self.direct = alone and bind is None  # a call with its arrays alone is the kernel's
        self.note = note
        self.kept: dict[int, tuple[bool, tuple[int, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Row {self.name}>"

    @property
    def lead(self) -> int:
        """How many parameters of a rule stand before the function's own: g, y, and k where there is one."""
        return 3 if self.variadic and not self.splits else 2

    @functools.cached_property
    def active(self) -> int:
        """The arguments that have a rule, as bits; every bit for a variadic or pullback row."""
        if self.variadic or self.pullback:
            return -1
        return sum(1 << i for i, rule in enumerate(self.rules) if rule is not None)

    @functools.cached_property
    def parameters(self) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """Positional and keyword-only names of the function's arguments, and whether ``*args`` follow."""
        source: Callable[..., Any] = self.kernel
        drop = 0
        for rule in self.rules:
            if rule is not None:
                source, drop = rule, self.lead
                break
        positional, keywords, rest = _parameters(source)
        return (
            tuple(name.lstrip("_") for name in positional[drop:]),
            tuple(name.lstrip("_") for name in keywords),
            rest is not None,
        )

    @functools.cached_property
    def arrays(self) -> slice:
        """The positions among the kernel's arguments that hold arrays."""
        if self.variadic:
            return slice(len(self.parameters[0]), None)
        if self.pullback:
            return slice(0, None)
        return slice(0, len(self.rules))

    def keeps(self, wanted: int) -> tuple[bool, tuple[int, ...]]:
        """Whether the rules for the `wanted` arguments read the result, and which arguments they do not read.

        `wanted` has a bit for each argument that needs a gradient, and one bit above all arguments.
        """
        y = False
        unread = set(range(wanted.bit_length() - 1))
        for i, rule in enumerate(self.rules):
            if rule is None or not (self.variadic or wanted >> i & 1):
                continue
            positional, _, rest = _parameters(rule)
            y = y or not positional[1].startswith("_")
            names = positional[self.lead :]
            unread -= {k for k in unread if not (names[k] if k < len(names) else rest or "_").startswith("_")}
        kept = (y, tuple(sorted(unread)))
        if not self.variadic:
            self.kept[wanted] = kept
        return kept

    def positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Move the array arguments that were given by keyword to their positions."""
        kwargs = dict(kwargs)
        names = self.parameters[0]
        while len(args) < min(len(names), len(self.rules)) and names[len(args)] in kwargs:
            args = (*args, kwargs.pop(names[len(args)]))
        return args, kwargs

    def check_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise when the rules could not follow this call, before anything is computed."""
        positional, keywords, rest = self.parameters
        if len(args) > len(positional) and not rest:
            raise NoDerivativeError(
                f"{self.name} takes at most {len(positional)} positional arguments on Tensors "
                f"({', '.join(positional)}), {len(args)} were given; pass the others by keyword"
            )
        for name, value in (*zip(positional, args, strict=False), *kwargs.items()):
            if name in _REFUSED and value is not None:
                raise NoDerivativeError(
                    f"{self.name} on Tensors takes no {name}=: a Tensor is not written into, and converts by astype()"
                )
        for name in kwargs:
            if name not in keywords and name not in positional[len(args) :]:
                allowed = ", ".join((*positional[len(self.rules) :], *keywords)) or "none"
                raise NoDerivativeError(
                    f"{self.name} on Tensors does not take {name}= (keywords it takes: {allowed}); "
                    f"leave it out, or call NumPy on t.numpy() if no gradient is needed"
                )


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Positional names, keyword-only names, and the name of ``*args`` (None without)."""
    positional: list[str] = []
    keywords: list[str] = []
    rest = None
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        if not isinstance(function, np.ufunc):
            raise
        return tuple(f"x{k + 1}" for k in range(function.nin)), (), None  # ufuncs of older NumPys say no names
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            rest = p.name
        elif p.kind is p.KEYWORD_ONLY:
            keywords.append(p.name)
        elif p.kind is not p.VAR_KEYWORD:
            positional.append(p.name)
    return tuple(positional), tuple(keywords), rest


TABLE: dict[Callable[..., Any], Row] = {}
"""Every row, by the function that users call."""


@overload
def differentiable(
    function: Callable[..., tuple[Any, Callable[[Any], Any]]], /, *, name: str | None = None
) -> Callable[..., Any]: ...
@overload
def differentiable(
    function: Callable[..., Any],
    /,
    *rules: Rule | None,
    broadcasts: bool = False,
    name: str | None = None,
    note: str = "",
) -> Callable[..., Any]: ...
def differentiable(
    function: Callable[..., Any],
    /,
    *rules: Rule | None,
    broadcasts: bool = False,
    name: str | None = None,
    note: str = "",
) -> Callable[..., Any]:
    """Make `function` differentiable by rules, or by a backward pass that it brings itself.

    With rules, one per argument in order, each a ``rule(g, y, *args, **kwargs)`` that returns the
    gradient with respect to its argument, or None in a rule's place where no gradient flows.
    ``g`` has the shape of the result ``y``.  The rule returns its argument's shape; with
    ``broadcasts=True`` (element-wise functions) it returns the result's shape, and the sum over
    broadcast axes is taken for it.  Written in NumPy, a rule serves every order of derivative.
    A parameter named with a leading underscore is not kept for the backward pass; only its
    ``shape`` and ``dtype`` can be read.

    Without rules, `function` returns ``(y, pullback)``, where ``pullback(g)`` returns a tuple with
    one gradient (or None) per positional argument: first derivatives only.

    The result takes arrays and gives arrays, takes Tensors and gives Tensors.  A NumPy function
    gets its row in the table and is returned as it is, since NumPy's protocols find the row.

    Raises
    ------
    ArgumentError
        If `function` is a NumPy function that has a row already, or no callable.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> cube = tn.differentiable(lambda x: x**3, lambda g, _y, x: g * 3 * x**2, broadcasts=True)
    >>> x = tn.Tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    array([ 3., 12.])

    The same with a backward pass written by hand:

    >>> @tn.differentiable
    ... def cube(x):
    ...     return x**3, lambda g: (g * 3 * x**2,)
    >>> cube(np.array([1.0, 2.0]))
    array([1., 8.])
    """
    function = function_of("differentiable", function)
    for k, rule in enumerate(rules):
        if rule is not None:
            _check_rule(k, rule)
    broadcasts = flag("broadcasts", broadcasts)
    for label, text in (("name", "" if name is None else name), ("note", note)):
        if not isinstance(text, str):
            raise DTypeError(f"{label} of differentiable is a text, got a {type(text).__name__}")
    title = name or name_of(function)
    if isinstance(function, np.ufunc) or _is_numpy(function):
        if not rules:
            raise ArgumentError(f"{title} is NumPy's own: give one rule per argument (None: no gradient)")
        add(Row(function, function, rules, name=title, broadcasts=broadcasts, note=note))
        return function
    return own(function, *rules, broadcasts=broadcasts, name=title, note=note, shipped=False)


def _check_rule(k: int, rule: Any) -> None:
    """Raise for a rule that could not be called, or whose arguments cannot be told."""
    try:
        positional, _, _ = _parameters(function_of(f"rule {k} of differentiable", rule))
    except ValueError:
        positional = ()
    if len(positional) < 2:
        raise ArgumentError(
            f"rule {k} of differentiable is a function rule(g, y, ...) of the upstream gradient, the result and the "
            f"function's own arguments, with their names: {rule!r} does not say that it takes them"
        )


def own(
    kernel: Callable[..., Any],
    *rules: Rule | None,
    name: str | None = None,
    shipped: bool = True,
    public: bool = False,
    **options: Any,
) -> Callable[..., Any]:
    """Make a row for a function of our own, and the function that dispatches to it; public: it checks its argument."""
    title = name or name_of(kernel)

    @functools.wraps(kernel)
    def function(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Traced):
                return value.__array_function__(function, (), args, kwargs)  # type: ignore[attr-defined]
        if public and args:
            args = (numbers(title, args[0]), *args[1:])
        y = kernel(*args, **kwargs)
        return y[0] if row.pullback else y

    row = Row(function, kernel, rules, name=title, pullback=not rules, own=shipped, **options)
    add(row)
    return function


def numpy_row(
    function: Callable[..., Any],
    *rules: Rule | None,
    kernel: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    """Add a row of the package's own for a NumPy function, with a faster or flatter kernel if need be."""
    add(Row(function, kernel or function, rules, name=name_of(function), own=True, **options))


def add(row: Row) -> None:
    """Put a row into the table; a function has one row only."""
    if row.function in TABLE:
        raise ArgumentError(
            f"{row.name} has a derivative already; to try another one, wrap the function in one of your "
            f"own first: my_{row.name.split('.')[-1]} = tn.differentiable(lambda x: {row.name}(x), rule)"
        )
    TABLE[row.function] = row


COMPOSITIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Functions without a row: how each is made of others, which have one or need none."""


def composition(function: Callable[..., Any]) -> Callable[[Function], Function]:
    """Declare how a NumPy function is computed on Tensors by calls of others."""

    def declare(made_of_others: Function) -> Function:
        COMPOSITIONS[function] = made_of_others
        return made_of_others

    return declare


def _is_numpy(function: Callable[..., Any]) -> bool:
    return getattr(function, "__module__", None) is not None and function.__module__.split(".")[0] == "numpy"


def name_of(function: Callable[..., Any]) -> str:
    """Return the name under which people know a function, such as np.tanh."""
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, np.ufunc):
        return f"np.{name}"
    if _is_numpy(function):
        return f"{function.__module__.replace('numpy', 'np', 1)}.{name}"
    return str(name)


def no_derivative(function: Callable[..., Any]) -> NoDerivativeError:
    """The error for a function that the table does not have: it shows the lines that add it."""
    name = name_of(function)
    return NoDerivativeError(
        f"{name} has no derivative rule here. Add one, with g the upstream gradient and y the result:\n"
        f"    import tinygrad_nn as tn\n"
        f"    tn.differentiable({name},\n"
        f"                      lambda g, y, x: ...)   # one rule per argument, None for no gradient\n"
        f"or call it on t.numpy() where no gradient is needed"
    )


def call_checked(function: Any, stand_in: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call what stands for a NumPy function; arguments that it does not know or cannot use are a clear error."""
    try:
        return stand_in(*args, **kwargs)
    except (TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        parameters = inspect.signature(stand_in)
        try:
            parameters.bind(*args, **kwargs)
        except TypeError as unknown:
            raise NoDerivativeError(f"{name_of(function)} on Tensors takes {parameters}: {unknown}") from None
        raise kernel_error(name_of(function), (*args, *kwargs.values()), error) from None


def plain(index: Any) -> Any:
    """Return the array inside an index: positions have no gradient, and arrays take no Tensors as indices."""
    return index._array if isinstance(index, Traced) else index  # type: ignore[attr-defined]  # noqa: SLF001


def alike(array: Any, like: Any) -> Any:
    """Return an array of NumPy's in the library of `like`, whose arrays may not mix with NumPy's."""
    like = plain(like)
    if isinstance(like, (np.ndarray, np.generic)) or hasattr(like, "__dask_graph__"):  # Dask's mix with NumPy's
        return array
    return np.asarray(array, like=like)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum `g` over the axes along which an argument of `shape` was broadcast: the one place for it."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    if extra < 0:
        raise ShapeError(f"a gradient of shape {g.shape} cannot be summed to the larger shape {shape}")
    if extra:
        g = _sum_rows(g) if extra == 1 and g.ndim == 2 else g.sum(axis=tuple(range(extra)))
    axes = [i for i, n in enumerate(shape) if n == 1 != g.shape[i]]
    if axes == [0] and g.ndim == 2:
        return _sum_rows(g, keepdims=True)
    return g.sum(axis=tuple(axes), keepdims=True) if axes else g


def _sum_rows(g: Any, *, keepdims: bool = False) -> Any:
    """Sum a matrix over its first axis: a bias's gradient, which as a product with ones takes a third of the time."""
    n, dtype = g.shape[0], g.dtype.char
    if dtype in "fd" and n <= LONGEST_DOT:
        shape = (1, n) if keepdims else (n,)
        if type(g) is np.ndarray:
            return _ones(shape, dtype).dot(g)
        if type(plain(g)) is np.ndarray:  # of a recording the ones are a part
            return np.dot(np.ones(shape, dtype), g)
    return g.sum(axis=0, keepdims=keepdims)


@functools.lru_cache(maxsize=64)
def _ones(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def check_pullback(row: Row, y: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The result and the pullback of a function that brings its own backward, or a clear error."""
    if not (isinstance(y, tuple) and len(y) == 2 and callable(y[1])):
        raise RuleError(
            f"{row.name} was made differentiable without rules, so it must return (y, pullback), where "
            f"pullback(g) returns one gradient per argument; it returned {type(y).__name__}"
        )
    return y


def rows() -> Iterator[Row]:
    """Iterate over the package's own rows, in the order of the table."""
    return (row for row in TABLE.values() if row.own)
