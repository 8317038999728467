"""Functions of functions and of graphs: gradients of results with respect to what they came from.

`grad`, `value_and_grad`, `vjp`, `jvp`, `jacobian`, `hessian` and `hvp` take a function written in
NumPy and give a function of the same arguments.  An argument that is differentiated may be an
array, a number, a Tensor, a Module (the gradients are a dict by parameter name), or nested lists,
tuples and dicts of these; gradients come in the same nesting.  Arrays give arrays and Tensors give
Tensors; results that depend on something outside that requires a gradient, such as the variable
of a transform around this one, are Tensors too, so that nothing is detached silently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import numpy as np

from tinygrad_nn.checks import flag, function_of
from tinygrad_nn.conversion import as_array, own_array, upstream_for
from tinygrad_nn.derivatives.elementwise import alias, stop_gradient
from tinygrad_nn.derivatives.table import alike
from tinygrad_nn.engine import (
    Leaf,
    leaves,
    recording,
    records_everything,
    records_gradients,
    walk,
    with_gradients,
)
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinygrad_nn.tensor import Tensor, _wrap, leaf

__all__ = [
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]

Argnums = int | tuple[int, ...]


# Nested arguments


def _map(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply `f` to each entry of nested lists, tuples and dicts, with the entries of `others` beside it."""
    if isinstance(tree, dict):
        for other in others:
            if not isinstance(other, dict) or other.keys() != tree.keys():
                raise ShapeError(f"expected a dict with the keys {list(tree)}, as in the arguments, got {other!r}")
        return {key: _map(f, value, *(o[key] for o in others)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        for other in others:
            if not isinstance(other, (list, tuple)) or len(other) != len(tree):
                raise ShapeError(f"expected {len(tree)} entries, as in the nesting of the arguments, got {other!r}")
        parts = [_map(f, *values) for values in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return f(tree, *others)


def _entries(tree: Any) -> list[Any]:
    found: list[Any] = []
    _map(found.append, tree)
    return found


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of an array, Tensor or number."""
    shape: tuple[int, ...] = (value if hasattr(value, "shape") else as_array(value, None)).shape
    return shape


def _is_module(value: Any) -> bool:
    return hasattr(value, "named_parameters")


def _variable(value: Any, where: str) -> Any:
    """A Tensor to differentiate with respect to: a leaf, or an alias of a Tensor that has a history."""
    if _is_module(value):
        return dict(value.named_parameters())
    if isinstance(value, Tensor) and value.requires_grad:
        return alias(value)
    data = value._array if isinstance(value, Tensor) else Tensor(value)._array
    if data.dtype.kind != "f":
        raise DTypeError(
            f"{where} is {data.dtype}: a gradient is with respect to real floating numbers, write 3.0 for 3"
        )
    return leaf(data)


_settled: WeakSet[Leaf] = WeakSet()
"""The variables of calls whose function has returned: nothing outside can ask for their gradients."""

_around: ContextVar[frozenset[Any]] = ContextVar("around", default=frozenset())
"""The variables of the transforms that are running around the present one."""
variables_around = _around.get


class _Call:
    """One call of a function on variables: what went in, what came out, and how results are given back."""

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: Argnums,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        has_aux: bool,
    ) -> None:
        outside = records_gradients()
        self.single = not isinstance(argnums, tuple)
        lifted = list(args)
        self.variables: list[Any] = []
        self.given: list[Any] = []
        with recording(with_gradients()):
            for k in _positions(argnums, args):
                variables = _map(functools.partial(_variable, where=f"argument {k}"), args[k])
                self.variables.append(variables)
                self.given.append(_map(lambda a, v: _map(_array_of, v) if _is_module(a) else a, args[k], variables))
                lifted[k] = _map(lambda a, v: a if _is_module(a) else v, args[k], variables)
            self.nodes = {v._node for v in _entries(self.variables)}
            parameters = {p._node for arg in args for m in _entries(arg) if _is_module(m) for p in m.parameters()}
            around = variables_around()
            token = _around.set(around | self.nodes)
            try:
                result = function(*lifted, **kwargs)
            finally:
                _around.reset(token)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise ArgumentError("with has_aux=True the function returns a pair (value, aux)")
        self.y: Any = result[0] if has_aux else result
        self.aux: Any = result[1] if has_aux else None
        outer = self.nodes & around
        for y in (*_entries(self.y), *_entries(self.aux)):
            if isinstance(y, Tensor) and y._node is not None:
                outer |= {node for node in leaves(y._node) - self.nodes if node not in _settled}
        # someone outside may differentiate on: give Tensors, and record the walk back too
        self.recorded = outside and bool(outer)
        _settled.update(node for node in self.nodes if type(node) is Leaf and node not in parameters)

    def output(self, y: Any, given: Any, *, recorded: bool | None = None) -> Any:
        """A result as the caller wants it: Tensors if they may be differentiated on, else arrays."""
        if not isinstance(y, Tensor):
            return y
        if self.recorded if recorded is None else recorded:
            return y
        return y.detach() if isinstance(given, Tensor) else y.numpy()

    def outputs(self, tree: Any) -> Any:
        """Results of the function itself: Tensors where an argument was one."""
        given = next((g for g in _entries(self.given) if isinstance(g, Tensor)), None)
        return _map(lambda y: self.output(y, given), tree)

    def pull(self, y: Any, g: Any, *, retain: bool) -> Any:
        """The gradients of <g, y> with respect to the variables, in the nesting of the arguments."""
        found: dict[Any, Any] = {}
        recorded = self.recorded or _is_variable(g)
        if isinstance(y, Tensor) and y._node is not None:
            found = walk_back(y, g, self.nodes, create_graph=recorded, retain=retain)
        return self.gathered(found, recorded=recorded)

    def gathered(self, found: dict[Any, Any], *, recorded: bool) -> Any:
        """Gradients by node, put into the nesting of the arguments; zeros where none arrived."""

        def one(variable: Tensor, given: Any) -> Any:
            g = found.get(variable._node)
            g = np.zeros_like(variable._array) if g is None else g
            return self.output(g if isinstance(g, Tensor) else _wrap(own_array(g), None), given, recorded=recorded)

        results = tuple(_map(one, v, given) for v, given in zip(self.variables, self.given, strict=True))
        return results[0] if self.single else results


def _array_of(parameter: Tensor) -> Any:
    return parameter._array


def _is_variable(g: Any) -> bool:
    """Whether a result must stay a Tensor for the sake of `g`, an upstream gradient or tangent."""
    return isinstance(g, Tensor) and g.requires_grad and records_gradients()


def _positions(argnums: Any, args: tuple[Any, ...]) -> list[int]:
    """The positions that `argnums` names, from 0."""
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    found: list[int] = []
    for n in numbers:
        if not isinstance(n, int) or not -len(args) <= n < len(args):
            raise ArgumentError(f"argnums={argnums!r} must name some of the call's {len(args)} positional arguments")
        found.append(n % len(args))
    modules = [id(m) for k in found for m in _entries(args[k]) if _is_module(m)]
    if len({*found}) < len(found) or len({*modules}) < len(modules):
        raise ArgumentError(f"argnums={argnums!r} names an argument, or a module, twice")
    return found


def _apart(found: dict[Any, Any], upstream: Tensor) -> dict[Any, Any]:
    """Copy the gradients that share memory with the upstream gradient or with each other."""
    seen = {id(_owner(upstream))}
    for node, g in found.items():
        if id(_owner(g)) in seen:
            found[node] = np.copy(g)
        seen.add(id(_owner(g)))
    return found


def _owner(g: Any) -> Any:
    """The array that holds the entries of a Tensor, or of an array."""
    array = g._array if isinstance(g, Tensor) else g  # not g.data, which is a new Tensor where everything is recorded
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def walk_back(y: Tensor, g: Any, nodes: set[Any], *, create_graph: bool, retain: bool) -> dict[Any, Any]:
    """The gradients of <g, y> at `nodes`: arrays, or Tensors that are recorded themselves."""
    upstream = upstream_for(y, g)
    if create_graph or records_everything():
        upstream = g if isinstance(g, Tensor) and g.dtype == y.dtype else _wrap(upstream, None)
        with recording(with_gradients() if create_graph else False):
            return _apart(walk(y._node, upstream, release=False, targets=nodes, wrap=_wrap), upstream)
    return walk(y._node, upstream, release=not retain, targets=nodes)


def _check(y: Any, name: str) -> Any:
    """A result that can be differentiated: floating numbers, as a Tensor, an array or a Python number."""
    kind = y.dtype.kind if hasattr(y, "dtype") else "f" if isinstance(y, float) else "?"
    if kind != "f":
        hint = "; with has_aux=True it may return (value, aux)" if isinstance(y, tuple) else ""
        raise DTypeError(
            f"{name} differentiates a function that gives floating numbers, this one gave {type(y).__name__}"
            f"{f' of {y.dtype}' if hasattr(y, 'dtype') else ''} (a forgotten return?){hint}"
        )
    return y


def _scalar(y: Any, name: str) -> Any:
    if (y.size if hasattr(_check(y, name), "size") else 1) != 1:
        raise ShapeError(
            f"{name} differentiates a function that gives one number, this one gave shape {y.shape}: take .sum() "
            f"or .mean() in it, or use tn.jacobian or tn.vjp"
        )
    return y


# The transforms


def grad(function: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """Make the function that gives the gradient of a function with one number as its result.

    Parameters
    ----------
    function : callable
        Written in NumPy; its result has one entry.
    argnums : int or tuple of ints
        Which positional arguments to differentiate; a tuple gives a tuple of gradients.
    has_aux : bool
        The function returns ``(value, aux)``, and the gradient comes as ``(gradient, aux)``.

    Raises
    ------
    ShapeError
        If the result has several entries.
    DTypeError
        If a differentiated argument is not of floating numbers.

    Examples
    --------
    >>> slope = grad(np.tanh)
    >>> float(slope(0.0)), float(grad(grad(slope))(0.0))
    (1.0, -2.0)
    """
    has_aux = flag("has_aux", has_aux)
    both = value_and_grad(function, argnums, has_aux=has_aux)

    @functools.wraps(function, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """Make the function that gives ``(value, gradient)``, or ``((value, aux), gradient)`` with `has_aux`.

    Arguments and errors are those of `grad`.

    Examples
    --------
    >>> value_and_grad(lambda w, x: np.sum(w * x))(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (array(11.), array([3., 4.]))
    """
    function = function_of("value_and_grad", function)
    has_aux = flag("has_aux", has_aux)

    @functools.wraps(function, updated=())
    def both(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, argnums, args, kwargs, has_aux)
        grads = call.pull(_scalar(call.y, "grad"), None, retain=False)
        value = call.outputs(call.y)
        return ((value, call.outputs(call.aux)), grads) if has_aux else (value, grads)

    return both


def vjp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Make the function that gives ``(result, pullback)``, where ``pullback(g)`` is the gradient of <g, result>.

    The result may be nested; `g` then has the same nesting.  The pullback can be called many times.

    Examples
    --------
    >>> y, pullback = vjp(np.tanh)(np.array([0.0, 1.0]))
    >>> pullback(np.array([1.0, 2.0])).round(4)
    array([1.    , 0.8399])
    """
    function = function_of("vjp", function)

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, argnums, args, kwargs, has_aux=False)

        def pullback(g: Any) -> Any:
            found: dict[Any, Any] = {}
            pairs: list[tuple[Any, Any]] = []
            _map(lambda y, part: pairs.append((y, part)), call.y, g)
            recorded = call.recorded or any(_is_variable(part) for _, part in pairs)
            for y, part in pairs:
                if isinstance(y, Tensor) and y._node is not None:
                    walked = walk_back(y, part, call.nodes, create_graph=recorded, retain=True)
                    for node, value in walked.items():
                        found[node] = found[node] + value if node in found else value
            return call.gathered(found, recorded=recorded)

        return call.outputs(call.y), pullback

    return transformed


def jvp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Make the function of ``(*args, tangent)`` that gives ``(result, directional derivative)``.

    The tangent has the nesting and shapes of the differentiated argument, and is a tuple of such
    where `argnums` is one.  Computed by differentiating the vjp with respect to its upstream gradient.

    Examples
    --------
    >>> y, dy = jvp(np.tanh)(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    >>> dy.round(4)
    array([1.    , 0.8399])
    """
    function = function_of("jvp", function)

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        *primals, tangent = args
        call = _Call(function, argnums, tuple(primals), kwargs, has_aux=False)
        pairs: list[tuple[Tensor, Any]] = []
        _map(lambda v, t: pairs.append((v, t)), tuple(call.variables), (tangent,) if call.single else tangent)
        for v, t in pairs:
            if _shape(t) != v.shape:
                raise ShapeError(f"a tangent has its argument's shape {v.shape}, got {_shape(t)}")
        recorded = call.recorded or any(_is_variable(t) for _, t in pairs)
        given = next((g for g in _entries(call.given) if isinstance(g, Tensor)), None)

        def push(y: Any) -> Any:
            _check(y, "jvp")
            dy: Any = None
            if isinstance(y, Tensor) and y._node is not None:
                g = leaf(np.zeros_like(y._array))
                found = walk_back(y, g, call.nodes, create_graph=True, retain=True)
                with recording(with_gradients()):
                    parts = [(found[v._node] * t).sum() for v, t in pairs if v._node in found]
                    total = sum(parts[1:], start=parts[0]) if parts else None
                if total is not None and total.requires_grad:
                    dy = walk_back(total, None, {g._node}, create_graph=recorded, retain=False).get(g._node)
                _settled.add(g._node)
            if dy is None:
                dy = np.zeros_like(y._array if isinstance(y, Tensor) else y)
            return call.output(dy if isinstance(dy, Tensor) else _wrap(own_array(dy), None), given, recorded=recorded)

        return call.outputs(call.y), _map(push, call.y)

    return transformed


def jacobian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Make the function that gives the Jacobian: shape ``(*result.shape, *argument.shape)``, entry by entry.

    A nested result gives that nesting, and in each entry the nesting of the arguments.

    Examples
    --------
    >>> jacobian(lambda x: np.cumsum(x**2))(np.array([1.0, 2.0]))
    array([[2., 0.],
           [2., 4.]])
    """
    function = function_of("jacobian", function)

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, argnums, args, kwargs, has_aux=False)
        given: Any = call.given[0] if call.single else tuple(call.given)

        def rows(y: Any) -> Any:
            y = _check(y, "jacobian") if hasattr(y, "shape") else np.asarray(_check(y, "jacobian"))
            parts = []
            for k in range(y.size):
                g = np.zeros(y.size, y.dtype)
                g[k] = 1
                parts.append(call.pull(y, alike(g.reshape(y.shape), y), retain=True))

            def join(like: Any, *entries: Any) -> Any:
                shape = (*y.shape, *np.shape(like))
                return np.stack(entries).reshape(shape) if entries else np.zeros(shape)

            return _map(join, given, *parts)

        return _map(rows, call.y)

    return transformed


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Make the function that gives the matrix of second derivatives: shape ``(*argument.shape, *argument.shape)``.

    Nested arguments give the nesting twice: ``hessian(f)(params)["w"]["b"]`` is d2f / dw db.

    Examples
    --------
    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(function, argnums), argnums)


def hvp(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Make the function of ``(*args, vector)`` that gives the Hessian times a vector, without the Hessian.

    It has the signature that ``scipy.optimize.minimize`` takes as ``hessp``.

    Examples
    --------
    >>> hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 0.5]))
    array([6., 6.])
    """
    slope = grad(function, argnums)

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        *primals, vector = args

        def along(*inner: Any) -> Any:
            total: Any = 0.0
            grads = slope(*inner, **kwargs)
            pairs: list[tuple[Any, Any]] = []
            _map(lambda g, v: pairs.append((g, v)), grads, vector)
            for g, v in pairs:
                if np.shape(g) != _shape(v):
                    raise ShapeError(f"the vector has its argument's shape {np.shape(g)}, got {_shape(v)}")
                total = total + (g * v).sum()
            return total

        return grad(along, argnums)(*primals)

    return transformed


def gradients(
    y: Tensor,
    xs: Sequence[Tensor],
    *,
    gradient: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Tensor]:
    """Return the gradients of `y` with respect to each of `xs`, and leave every `grad` as it is.

    Parameters
    ----------
    y : Tensor
        One entry, or any shape together with `gradient`.
    xs : sequence of Tensors
        Leaves or computed Tensors that require gradients; zeros where `y` does not depend on one.
    gradient : array or Tensor of the shape of `y`, optional
        The upstream gradient; 1 for a `y` with one entry.
    create_graph : bool
        Record the backward pass too, so that the results can be differentiated again.
    retain_graph : bool, optional
        Keep the graph for another walk; the default is `create_graph`.

    Raises
    ------
    GraphError
        If `y` or one of `xs` requires no gradient, or the graph was released.

    Examples
    --------
    >>> x = Tensor(2.0, requires_grad=True)
    >>> (slope,) = gradients(x**3, [x], create_graph=True)
    >>> (curvature,) = gradients(slope, [x])
    >>> slope.item(), curvature.item()
    (12.0, 12.0)
    """
    if isinstance(xs, Tensor):
        raise DTypeError("gradients takes a list of Tensors: write gradients(y, [x])")
    if not isinstance(xs, Iterable) or (hasattr(xs, "ndim") and not xs.ndim):
        raise DTypeError(f"gradients takes a list of Tensors, got {xs!r}: write gradients(y, [x])")
    xs = list(xs)
    for k, x in enumerate(xs):
        if not isinstance(x, Tensor):
            raise DTypeError(f"xs[{k}] is a {type(x).__name__}: gradients are with respect to Tensors")
        if x._node is None:
            raise GraphError(f"xs[{k}] of shape {x.shape} does not require a gradient: make it with requires_grad=True")
    if not isinstance(y, Tensor) or y._node is None:
        raise GraphError("y depends on nothing that requires a gradient, so there is nothing to walk back through")
    create_graph = flag("create_graph", create_graph)
    retain = create_graph if retain_graph is None else flag("retain_graph", retain_graph)
    nodes = {x._node for x in xs}
    if create_graph and not retain:
        raise ArgumentError("create_graph=True needs the graph: leave retain_graph out, or set it to True")
    found = walk_back(y, gradient, nodes, create_graph=create_graph, retain=retain)
    results = []
    for x in xs:
        g = found.get(x._node)
        if g is None:
            g = np.zeros_like(x._array)
        results.append(g if isinstance(g, Tensor) else _wrap(g, None))
    return results
