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
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np

from tinygrad_nn.derivatives.elementwise import alias, stop_gradient
from tinygrad_nn.engine import Leaf, current_recording, leaves, recording, walk
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinygrad_nn.tensor import Tensor, _wrap, leaf, upstream_for

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
        return {key: _map(f, value, *(o[key] for o in others)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        for other in others:
            if not isinstance(other, (list, tuple)) or len(other) != len(tree):
                raise ShapeError(f"expected {len(tree)} entries in the nesting of the arguments, got {other!r}")
        parts = [_map(f, *values) for values in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return f(tree, *others)


def _entries(tree: Any) -> list[Any]:
    found: list[Any] = []
    _map(found.append, tree)
    return found


def _variable(value: Any, where: str) -> Any:
    """A Tensor to differentiate with respect to: a leaf, or an alias of a Tensor that has a history."""
    if isinstance(value, Tensor):
        return alias(value) if value.requires_grad else leaf(_real(value.data, where))
    if hasattr(value, "named_parameters"):
        return dict(value.named_parameters())
    return leaf(_real(Tensor(value).data, where))


def _real(data: Any, where: str) -> Any:
    if data.dtype.kind not in "fc":
        raise DTypeError(f"{where} is {data.dtype}: a gradient is with respect to floating numbers, write 3.0 for 3")
    return data


_settled: WeakSet[Leaf] = WeakSet()
"""The variables of calls whose function has returned: nothing outside can ask for their gradients."""


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
        self.outside = bool(current_recording())
        numbers = (argnums,) if isinstance(argnums, int) else argnums
        lifted = list(args)
        self.variables: list[Any] = []
        parameters: set[Any] = set()
        self.given: list[Any] = []
        for n in numbers:
            if not -len(args) <= n < len(args):
                raise ArgumentError(
                    f"argnums={argnums} names argument {n}, the call has {len(args)} positional arguments"
                )
            k = n % len(args)
            module = hasattr(args[k], "named_parameters")
            with recording(True):
                variables = _map(functools.partial(_variable, where=f"argument {k}"), args[k])
            self.variables.append(variables)
            if module:
                parameters |= {p._node for p in variables.values()}
            self.given.append({name: p.data for name, p in variables.items()} if module else args[k])
            lifted[k] = args[k] if module else variables
        self.single = isinstance(argnums, int)
        with recording(True):
            result = function(*lifted, **kwargs)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise ArgumentError("with has_aux=True the function returns a pair (value, aux)")
        self.y: Any = result[0] if has_aux else result
        self.aux: Any = result[1] if has_aux else None
        self.nodes = {v._node for v in _entries(self.variables)}
        outer: set[Any] = set()
        for y in _entries(self.y):
            if isinstance(y, Tensor) and y._node is not None:
                outer |= {node for node in leaves(y._node) - self.nodes if node not in _settled}
        # someone outside may differentiate on: give Tensors, and record the walk back too
        self.recorded = self.outside and bool(outer)
        _settled.update(node for node in self.nodes if type(node) is Leaf and node not in parameters)

    def output(self, y: Any, given: Any = None) -> Any:
        """A result as the caller wants it: Tensors if they may be differentiated on, else arrays."""
        if not isinstance(y, Tensor):
            return y
        return y if self.recorded else _wrap(y.data, None) if isinstance(given, Tensor) else y.data

    def outputs(self, tree: Any) -> Any:
        """Results of the function itself: Tensors where an argument was one."""
        given = next((g for g in _entries(self.given) if isinstance(g, Tensor)), None)
        return _map(lambda y: self.output(y, given), tree)

    def pull(self, y: Any, g: Any, *, retain: bool) -> Any:
        """The gradients of <g, y> with respect to the variables, in the nesting of the arguments."""
        found: dict[Any, Any] = {}
        if isinstance(y, Tensor) and y._node is not None:
            found = walk_back(y, g, self.nodes, create_graph=self.recorded, retain=retain)
        return self.gathered(found)

    def gathered(self, found: dict[Any, Any]) -> Any:
        """Gradients by node, put into the nesting of the arguments; zeros where none arrived."""

        def one(variable: Tensor, given: Any) -> Any:
            g = found.get(variable._node)
            g = np.zeros_like(variable.data) if g is None else g
            return self.output(g if isinstance(g, Tensor) else _wrap(g, None), given)

        results = tuple(_map(one, v, given) for v, given in zip(self.variables, self.given, strict=True))
        return results[0] if self.single else results


def walk_back(y: Tensor, g: Any, nodes: set[Any], *, create_graph: bool, retain: bool) -> dict[Any, Any]:
    """The gradients of <g, y> at `nodes`: arrays, or Tensors that are recorded themselves."""
    upstream = upstream_for(y, g)
    if create_graph:
        upstream = g if isinstance(g, Tensor) and g.dtype == y.dtype else _wrap(upstream, None)
        with recording(current_recording() or True):
            return walk(y._node, upstream, release=False, targets=nodes, wrap=_wrap)
    return walk(y._node, upstream, release=not retain, targets=nodes)


def _scalar(y: Any, name: str) -> Any:
    if np.size(y) != 1 if not isinstance(y, Tensor) else y.size != 1:
        raise ShapeError(
            f"{name} differentiates a function that gives one number, this one gave shape {np.shape(y)}: take .sum() "
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

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, argnums, args, kwargs, has_aux=False)

        def pullback(g: Any) -> Any:
            found: dict[Any, Any] = {}
            pairs: list[tuple[Any, Any]] = []
            _map(lambda y, part: pairs.append((y, part)), call.y, g)
            for y, part in pairs:
                if isinstance(y, Tensor) and y._node is not None:
                    walked = walk_back(y, part, call.nodes, create_graph=call.recorded, retain=True)
                    for node, value in walked.items():
                        found[node] = found[node] + value if node in found else value
            return call.gathered(found)

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

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        *primals, tangent = args
        call = _Call(function, argnums, tuple(primals), kwargs, has_aux=False)
        tangents = (tangent,) if call.single else tangent

        def push(y: Any) -> Any:
            if not isinstance(y, Tensor) or y._node is None:
                return np.zeros_like(y.data if isinstance(y, Tensor) else y)
            g = leaf(np.zeros_like(y.data))
            found = walk_back(y, g, call.nodes, create_graph=True, retain=True)
            total: Any = None
            pairs: list[tuple[Tensor, Any]] = []
            _map(lambda v, t: pairs.append((v, t)), call.variables, list(tangents))
            with recording(True):
                for v, t in pairs:
                    if np.shape(t) != v.shape:
                        raise ShapeError(f"a tangent has its argument's shape {v.shape}, got {np.shape(t)}")
                    if v._node in found:
                        part = (found[v._node] * t).sum()
                        total = part if total is None else total + part
            dy = walk_back(total, None, {g._node}, create_graph=call.recorded, retain=False).get(g._node)
            dy = np.zeros_like(y.data) if dy is None else dy
            return call.output(dy if isinstance(dy, Tensor) else _wrap(dy, None), y if call.recorded else None)

        return call.outputs(call.y), _map(push, call.y)

    return transformed


def jacobian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Make the function that gives the Jacobian: shape ``(*result.shape, *argument.shape)``, entry by entry.

    Examples
    --------
    >>> jacobian(lambda x: np.cumsum(x**2))(np.array([1.0, 2.0]))
    array([[2., 0.],
           [2., 4.]])
    """

    @functools.wraps(function, updated=())
    def transformed(*args: Any, **kwargs: Any) -> Any:
        call = _Call(function, argnums, args, kwargs, has_aux=False)
        y = call.y
        if isinstance(y, (tuple, list, dict)):
            raise DTypeError(
                f"jacobian differentiates a function that gives one array, this one gave a {type(y).__name__}"
            )
        shape, size = np.shape(y), y.size if isinstance(y, Tensor) else np.size(y)
        rows = []
        for k in range(size):
            g = np.zeros(size, y.dtype)
            g[k] = 1
            rows.append(call.pull(y, g.reshape(shape), retain=True))

        def join(like: Any, *parts: Any) -> Any:
            if not parts:
                return np.zeros((*shape, *np.shape(like)))
            return np.stack(parts).reshape((*shape, *np.shape(like)))

        like: Any = tuple(call.given) if not call.single else call.given[0]
        return _map(join, like, *rows)

    return transformed


def hessian(function: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Make the function that gives the matrix of second derivatives: shape ``(*argument.shape, *argument.shape)``.

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
                if np.shape(g) != np.shape(v):
                    raise ShapeError(f"the vector has its argument's shape {np.shape(g)}, got {np.shape(v)}")
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
    xs = list(xs)
    for k, x in enumerate(xs):
        if not isinstance(x, Tensor):
            raise DTypeError(f"xs[{k}] is a {type(x).__name__}: gradients are with respect to Tensors")
        if x._node is None:
            raise GraphError(f"xs[{k}] of shape {x.shape} does not require a gradient: make it with requires_grad=True")
    if not isinstance(y, Tensor) or y._node is None:
        raise GraphError("y depends on nothing that requires a gradient, so there is nothing to walk back through")
    retain = create_graph if retain_graph is None else retain_graph
    nodes = {x._node for x in xs}
    if create_graph and not retain:
        raise ArgumentError("create_graph=True needs the graph: leave retain_graph out, or set it to True")
    found = walk_back(y, gradient, nodes, create_graph=create_graph, retain=retain)
    results = []
    for x in xs:
        g = found.get(x._node)
        if g is None:
            g = np.zeros_like(x._data)
        results.append(g if isinstance(g, Tensor) else _wrap(g, None))
    return results
