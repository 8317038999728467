"""Tensor: an array that remembers how it was computed, and speaks NumPy."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_nn.checks import dtype_of, flag, kernel_error, sized
from tinygrad_nn.conversion import as_array, computed, evaluated, foreign, own_array, unwrap_index, upstream_for
from tinygrad_nn.derivatives import COMPOSITIONS, TABLE, Row, indexing, shaping
from tinygrad_nn.derivatives.table import call_checked, check_pullback, name_of, no_derivative
from tinygrad_nn.engine import Leaf, Node, current_recording, record, record_pick, records_gradients, walk
from tinygrad_nn.errors import DetachError, DTypeError, GraphError, NoDerivativeError, ShapeError
from tinygrad_nn.methods import ArrayMethods
from tinygrad_nn.writes import touch, touch_array

__all__ = ["Tensor"]

_new = object.__new__
_ndarray = np.ndarray
_PLAIN = frozenset({float, int, bool, complex, type(None), tuple, slice, str, np.float64, np.float32})
_set_grad = vars(Leaf)["grad"].__set__
_NO_KEYWORDS: dict[str, Any] = {}


def _unary(ufunc: np.ufunc) -> Callable[[Tensor], Tensor]:
    row = TABLE[ufunc]
    return lambda self: apply(row, (self,))


def _binary(ufunc: np.ufunc, *, reflected: bool = False) -> Callable[[Tensor, Any], Tensor]:
    row = TABLE[ufunc]
    if reflected:
        return lambda self, other: apply(row, (other, self))
    return lambda self, other: apply(row, (self, other))


class Tensor(ArrayMethods):
    """An array whose computation can be differentiated.

    Operators, NumPy functions and the methods below give new Tensors and, where an argument
    requires a gradient, remember themselves; `backward` then fills `grad` of the leaves.  A Tensor
    is never changed in place: ``t += 1`` binds the name to a new Tensor.  Equality is
    element-wise and hashing by identity, as sets and dicts of parameters need.

    Parameters
    ----------
    data : array, number or nested lists
        Shared, not copied, if it is an array of the right dtype.
    requires_grad : bool
        Whether `backward` fills `grad`.  Real floating dtypes only.
    dtype : dtype, optional
        Converts `data`; otherwise the dtype is what NumPy makes of it.

    Raises
    ------
    DTypeError
        For text, objects, ragged lists, masked arrays or matrices; for integers, bools or complex
        numbers that ask for a gradient.

    Examples
    --------
    >>> import numpy as np
    >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> loss = np.sum(np.tanh(x) * 2)
    >>> loss.backward()
    >>> x.grad.round(4)
    array([[0.8399, 0.1413],
           [0.0197, 0.0027]])
    """

    __slots__ = ("__weakref__", "_array", "_frozen", "_node")

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        tape = current_recording()
        self._array = as_array(data if tape is True or not tape else tape.source(data, dtype), dtype)
        self._node: Any = None
        if flag("requires_grad", requires_grad):
            self.requires_grad = True

    # What it holds

    @property
    def data(self) -> Any:
        """The array inside; assigning to it writes, which graphs recorded earlier will notice."""
        tape = current_recording()
        return self._array if tape is True or not tape else tape.data(self._array)

    @data.setter
    def data(self, value: Any) -> None:
        node = self._node
        if value is not self._array:
            _leave("assigning to .data")
            value = as_array(value, None)
            if type(node) is Node:
                raise GraphError("the data of a computed Tensor cannot be replaced; detach() it first")
            if node is not None and (value.shape != self.shape or value.dtype != self.dtype):
                raise ShapeError(
                    f"a Tensor that requires a gradient keeps its shape and dtype: it has {self.shape} "
                    f"{self.dtype}, the new data {value.shape} {value.dtype}"
                )
            self._array = value
        elif type(node) is not Leaf:
            touch_array(value)  # t.data += 1
        if type(node) is Leaf:
            touch(node, value)

    @property
    def grad(self) -> Any:
        """The gradient that `backward` has added up: an array of the data's shape and dtype, or None."""
        _leave(".grad")
        return self._node.grad if type(self._node) is Leaf else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if type(self._node) is not Leaf:
            if value is None:
                return
            raise GraphError("only a leaf Tensor with requires_grad=True has a gradient")
        if value is not None:
            value = as_array(value, None)
            if value.shape != self.shape or value.dtype != self.dtype:
                raise ShapeError(
                    f"a gradient has its Tensor's shape and dtype, {self.shape} {self.dtype}; got "
                    f"{value.shape} {value.dtype}"
                )
        self._node.grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this Tensor; setting it freezes or unfreezes a leaf.

        Freezing drops the gradient, so that no optimizer moves a frozen parameter.
        """
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        value = flag("requires_grad", value)
        if type(self._node) is Node:
            if not value:
                raise GraphError("a computed Tensor requires a gradient because its inputs do: detach() it")
        elif not value:
            if self._node is not None:
                self._frozen, self._node = self._node, None
        elif self._node is None:
            if self._array.dtype.kind != "f":
                raise DTypeError(
                    f"only real floating Tensors can require gradients, this one is {self._array.dtype}: "
                    f"write Tensor(data, requires_grad=True, dtype=float)"
                )
            frozen = getattr(self, "_frozen", None)  # graphs recorded before it was frozen lead there
            if frozen is None or (frozen.shape, frozen.dtype) != (self.shape, self.dtype):
                frozen = Leaf(self._array)
            frozen.grad = None
            self._node = frozen

    @property
    def is_leaf(self) -> bool:
        """Whether this Tensor was made by hand, not computed from others that require gradients."""
        return type(self._node) is not Node

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        shape: tuple[int, ...] = self._array.shape
        return shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        ndim: int = self._array.ndim
        return ndim

    @property
    def size(self) -> int:
        """The number of entries."""
        size: int = self._array.size
        return size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the entries."""
        dtype: np.dtype[Any] = self._array.dtype
        return dtype

    # The ways out of the graph

    def numpy(self) -> Any:
        """Return the array inside, shared; what is computed from it is not recorded."""
        return self.data

    def item(self) -> Any:
        """Return the only entry as a Python number; what is computed from it is not recorded."""
        _leave("item()")
        if self._array.size != 1:
            raise ShapeError(f"item() needs a Tensor with one entry, this one has shape {self.shape}")
        return computed(self._array).item()

    def detach(self) -> Tensor:
        """Return a Tensor that shares the data and is cut off from the graph."""
        return _wrap(self._array, None)

    def tolist(self) -> Any:
        """Return the entries as nested lists of Python numbers; what follows is not recorded."""
        _leave("tolist()")
        return computed(self._array).tolist()

    # Gradients

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `grad` of every leaf that it was computed from.

        Parameters
        ----------
        gradient : array of this Tensor's shape, optional
            The upstream gradient; 1 for a Tensor with one entry.
        retain_graph : bool
            Keep the graph for another backward; it is released otherwise.

        Raises
        ------
        GraphError
            On a constant, a released graph, several entries without `gradient`, or when values
            that a derivative needs were overwritten.  Every `grad` then is as it was.
        ShapeError, DTypeError
            If `gradient` does not fit.
        """
        _leave("backward()")
        node = self._node
        if node is None:
            raise GraphError(
                "backward on a Tensor that depends on nothing that requires a gradient: give the parameters "
                "requires_grad=True, and compute outside tn.no_grad()"
            )
        release = retain_graph is False or not flag("retain_graph", retain_graph)
        upstream = upstream_for(self, gradient)
        grads = walk(node, upstream, release=release)
        self._array = evaluated(self._array, grads)
        # a sum of arrays without axes is a NumPy number
        sums = {leaf: g if leaf.grad is None else own_array(leaf.grad + g) for leaf, g in grads.items()}
        deque(map(_set_grad, sums, sums.values()), maxlen=0)  # all or none: Ctrl-C does not come between

    def zero_grad(self) -> None:
        """Set `grad` to None."""
        if type(self._node) is Leaf:
            self._node.grad = None

    # NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        row = TABLE.get(ufunc)
        if method == "__call__" and row is not None and not kwargs:
            return apply(row, args, kwargs)
        if method == "__call__":
            return _dispatch(ufunc, args, kwargs)
        raise NoDerivativeError(
            f"np.{ufunc.__name__}.{method} has no derivative rule; write it with np.sum, np.max, np.cumsum "
            f"or indexing instead"
        )

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return _dispatch(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        _leave("np.asarray()")
        raise DetachError(
            "converting a Tensor to an array would silently leave the graph: write t.numpy() where no "
            "gradient is needed, np.stack([...]) to join Tensors, and NumPy functions to compute with them"
        )

    # Python's numbers

    def _number(self, convert: Callable[[Any], Any]) -> Any:
        if self._node is not None:
            raise DetachError(
                f"{convert.__name__}() of a Tensor that requires a gradient would silently leave the graph: "
                f"write t.item(), or np.exp(t) for math.exp(t)"
            )
        if self.size != 1:
            raise ShapeError(f"{convert.__name__}() needs a Tensor with one entry, this one has shape {self.shape}")
        _leave(f"{convert.__name__}()")
        return convert(computed(self._array).item())

    def __float__(self) -> float:
        return float(self._number(float))

    def __int__(self) -> int:
        return int(self._number(int))

    def __complex__(self) -> complex:
        return complex(self._number(complex))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.ndim:
            raise DTypeError(
                f"only an integer Tensor without axes is an index by itself, this one is {self.dtype} {self.shape}: "
                f"index an array with t.numpy()"
            )
        return int(self._number(operator.index))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a Tensor of shape {self.shape} is ambiguous: use np.any(t), np.all(t) or np.where"
            )
        _leave("bool()")
        return bool(computed(self._array).item())

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("a Tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __format__(self, spec: str) -> str:
        return format(computed(self._array).item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __repr__(self) -> str:
        extra = "" if self.dtype in (np.float64, np.int64, np.bool_) else f", dtype={self.dtype}"
        if type(self._node) is Node:
            extra += f", from={self._node.row.name}"
        elif self._node is not None:
            extra += ", requires_grad=True"
        head = f"{type(self).__name__}("
        array = self._array
        text = np.array2string(array, separator=", ", prefix=head) if isinstance(array, np.ndarray) else repr(array)
        if self.size == 0:
            extra = f", shape={self.shape}" + extra
        return f"{head}{text}{extra})"

    def __reduce__(self) -> Any:
        if type(self._node) is Node:
            raise GraphError("a computed Tensor cannot be copied or pickled with its graph: detach() it first")
        return _restore, (type(self), self._array, self._node is not None, self.grad)

    # Operators

    __add__ = _binary(np.add)
    __radd__ = _binary(np.add, reflected=True)
    __sub__ = _binary(np.subtract)
    __rsub__ = _binary(np.subtract, reflected=True)
    __mul__ = _binary(np.multiply)
    __rmul__ = _binary(np.multiply, reflected=True)
    __truediv__ = _binary(np.divide)
    __rtruediv__ = _binary(np.divide, reflected=True)
    __matmul__ = _binary(np.matmul)
    __rmatmul__ = _binary(np.matmul, reflected=True)
    __mod__ = _binary(np.remainder)
    __rmod__ = _binary(np.remainder, reflected=True)
    __floordiv__ = _binary(np.floor_divide)
    __rfloordiv__ = _binary(np.floor_divide, reflected=True)
    __divmod__ = _binary(np.divmod)
    __rdivmod__ = _binary(np.divmod, reflected=True)
    __rpow__ = _binary(np.power, reflected=True)
    __and__ = _binary(np.bitwise_and)
    __rand__ = _binary(np.bitwise_and, reflected=True)
    __or__ = _binary(np.bitwise_or)
    __ror__ = _binary(np.bitwise_or, reflected=True)
    __xor__ = _binary(np.bitwise_xor)
    __rxor__ = _binary(np.bitwise_xor, reflected=True)
    __neg__ = _unary(np.negative)
    __pos__ = _unary(np.positive)
    __abs__ = _unary(np.absolute)
    __invert__ = _unary(np.invert)
    __lt__ = _binary(np.less)
    __le__ = _binary(np.less_equal)
    __gt__ = _binary(np.greater)
    __ge__ = _binary(np.greater_equal)
    __eq__ = _binary(np.equal)  # type: ignore[assignment]
    __ne__ = _binary(np.not_equal)  # type: ignore[assignment]
    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Tensor:
        return _call(indexing.getitem, self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        _leave("assigning to an entry")
        raise GraphError(
            "a Tensor is not changed in place: build the result with np.where or np.concatenate, or, to set "
            "values before a forward pass, write t.data[index] = value"
        )

    def __pow__(self, exponent: Any) -> Tensor:
        # the exponents that NumPy's ** treats apart
        if type(exponent) in (int, float) and self.dtype.kind in "fc" and exponent in _POWERS:
            return apply(_POWERS[exponent], (self,))
        return apply(_POWER, (self, exponent))

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's name
        """The Tensor with its axes in reverse order."""
        return apply(_TRANSPOSE, (self,))

    def sum(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Tensor:
        """Sum over `axis` (all by default), as `np.sum`."""
        if options:
            return _call(np.sum, self, axis=axis, keepdims=keepdims, **options)
        return apply(_SUM, (self,), {"axis": axis, "keepdims": keepdims})

    def mean(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Tensor:
        """Average over `axis` (all by default), as `np.mean`."""
        if options:
            return _call(np.mean, self, axis=axis, keepdims=keepdims, **options)
        return apply(_MEAN, (self,), {"axis": axis, "keepdims": keepdims})

    def reshape(self, *shape: Any, order: str = "C") -> Tensor:
        """Give the entries a new shape, as `np.reshape`; one length may be -1."""
        rest = () if isinstance(order, str) and order == "C" else (order,)
        return apply(_RESHAPE, (self, shape[0] if len(shape) == 1 else shape, *rest))

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes, as `np.transpose`; reverse them without arguments."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return apply(_TRANSPOSE, (self, order))

    def astype(self, dtype: Any) -> Tensor:
        """Convert to another dtype; between real floating dtypes the gradient flows."""
        dtype = dtype_of("dtype", dtype)
        if self._node is not None and dtype.kind != self.dtype.kind:
            raise DTypeError(
                f"astype({dtype}) of a {self.dtype} Tensor that requires a gradient would cut the "
                f"graph: detach() it first"
            )
        return _call(shaping.cast, self, dtype)


def _leave(how: str) -> None:
    """Tell whoever records everything that values leave for where nothing is recorded, by way of `how`."""
    tape = current_recording()
    if tape is not True and tape:
        tape.leave(how)


def leaf(data: Any) -> Tensor:
    """A leaf that requires a gradient, also of complex dtype: the door through which checkers enter."""
    return _wrap(data, Leaf(data))


def _restore(kind: type[Tensor], data: Any, requires_grad: bool, grad: Any) -> Tensor:
    tensor = _new(kind)
    tensor._array = data
    tensor._node = Leaf(data) if requires_grad else None
    if grad is not None:
        tensor._node.grad = grad
    return tensor


def _wrap(data: Any, node: Any) -> Tensor:
    """A Tensor of an array and its node, without any check."""
    tensor = _new(Tensor)
    tensor._array = data
    tensor._node = node
    return tensor


def apply(row: Row, args: tuple[Any, ...], kwargs: dict[str, Any] = _NO_KEYWORDS) -> Tensor:
    """Run a row's kernel on the arrays inside `args`, and record the call where it is asked for."""
    arrays: list[Any] = []
    parents: list[Any] = []
    wanted = 0
    bit = 1
    for a in args:
        if isinstance(a, Tensor):
            node = a._node
            arrays.append(a._array)
            parents.append(node)
            if node is not None:
                wanted |= bit
        else:
            arrays.append(a if type(a) in _PLAIN else foreign(row, len(arrays), a))
            parents.append(None)
        bit <<= 1
    if wanted & ~row.active:
        wanted &= row.active
        parents = [p if wanted >> i & 1 else None for i, p in enumerate(parents)]
    try:
        y = row.kernel(*arrays, **kwargs) if kwargs else row.kernel(*arrays)
    except (TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise (kernel_error(row.name, tuple(arrays), error) if row.own else error) from None
    pullback = None
    if row.pullback:
        y, pullback = check_pullback(row, y)
    if type(y) is not _ndarray:
        if isinstance(y, tuple):
            several: Tensor = _apply_several(row, arrays, kwargs, parents, wanted, y)
            return several
        y = sized(y) if hasattr(y, "__array_function__") and not isinstance(y, np.generic) else np.asarray(y)
    recording = current_recording()
    tensor = _new(Tensor)
    tensor._array = y
    tensor._node = None
    if wanted and recording and (recording is True or recording.gradients):
        tensor._node = record(row, arrays, kwargs, parents, wanted | bit, y, pullback)
    if recording is not True and recording:
        recording.add(row, tuple(arrays), kwargs, y, tensor._node)
    return tensor


def _apply_several(row: Row, arrays: list[Any], kwargs: dict[str, Any], parents: list[Any], wanted: int, y: Any) -> Any:
    """The rest of `apply` for a kernel with several outputs: one node, and a pick for each output."""
    values = tuple(np.asarray(value) if isinstance(value, np.generic) else value for value in y)
    recording = current_recording()
    node = None
    if wanted and records_gradients():
        node = record(row, arrays, kwargs, parents, wanted | 1 << len(arrays), values, None)
    nodes = [node and record_pick(node, k, value) for k, value in enumerate(values)]
    if recording is not True and recording:
        recording.add(row, tuple(arrays), kwargs, values, node)
    tensors = [_wrap(value, node) for value, node in zip(values, nodes, strict=True)]
    return type(y)(*tensors) if hasattr(y, "_fields") else tuple(tensors)


def _call(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Call a function of the table that gives one Tensor."""
    result: Tensor = _dispatch(function, args, kwargs)
    return result


def _dispatch(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function of the table with Tensors among its arguments, however they were passed."""
    row = TABLE.get(function)
    if row is not None and row.direct and not kwargs and len(args) == len(row.rules):
        return apply(row, args)
    if kwargs:
        kwargs = {name: value for name, value in kwargs.items() if value is not None or name not in ("out", "dtype")}
    if row is None:
        made_of_others = COMPOSITIONS.get(function)
        if made_of_others is None:
            _leave(name_of(function))
            raise no_derivative(function)
        return call_checked(function, made_of_others, args, kwargs)
    if row.bind is not None:
        args, kwargs = call_checked(function, row.bind, args, kwargs)
    elif kwargs:
        args, kwargs = row.positional(args, kwargs)
    row.check_call(args, kwargs)
    if kwargs:
        kwargs = {name: _constant(row, name, value) for name, value in kwargs.items()}
    if row.function in _INDEXED:
        args = (args[0], unwrap_index(args[1]), *args[2:])
    return apply(row, args, kwargs)


def _constant(row: Row, name: str, value: Any) -> Any:
    """A keyword's value: a Tensor there is a constant, such as a mask."""
    if not isinstance(value, Tensor):
        return value
    if value.requires_grad:
        raise NoDerivativeError(f"{row.name} has no derivative with respect to {name}=: detach() the Tensor first")
    return value._array


_SUM, _MEAN, _RESHAPE, _TRANSPOSE, _POWER = (TABLE[f] for f in (np.sum, np.mean, np.reshape, np.transpose, np.power))
_POWERS = {2: TABLE[np.square], 0.5: TABLE[np.sqrt], -1: TABLE[np.reciprocal]}
_INDEXED = (indexing.getitem, indexing.scatter)
