"""Activations and losses as functions: compositions of table functions, so none has a derivative here.

Every function takes arrays and gives arrays, takes Tensors and gives Tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_nn.checks import choice, flag, lengths, number, numbers, whole
from tinygrad_nn.conversion import check_generator
from tinygrad_nn.derivatives.elementwise import bounded, relu, sigmoid
from tinygrad_nn.derivatives.indexing import within
from tinygrad_nn.derivatives.random import random_like
from tinygrad_nn.derivatives.reductions import mean_square
from tinygrad_nn.derivatives.table import plain
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.transforms import stop_gradient

__all__ = [
    "avg_pool2d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "half_squared_error",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]

_REDUCTIONS = ("mean", "sum", "none")
Pair: TypeAlias = "tuple[int, ...]"


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent, element-wise: `np.tanh`.

    Examples
    --------
    >>> tanh(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7616])
    """
    return np.tanh(x if isinstance(x, Tensor) else numbers("tanh", x))


def array_of(name: str, x: Any) -> Any:
    """Return an array or Tensor as it is, and lists and numbers as an array."""
    if isinstance(x, Tensor):
        return x
    x = numbers(name, x)
    return x if hasattr(x, "shape") else np.asarray(x)


def floating(name: str, x: Any) -> Any:
    """Return an array or Tensor as it is, integers, which would wrap around, as float64, and lists as an array."""
    if not isinstance(x, Tensor):
        x = array_of(name, x)
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def _negative_part(x: Any) -> Any:
    """min(x, 0), with the slope 1 at 0, where relu has 0: the two add up to x and to its slope."""
    return np.where(x > 0, 0, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """Return max(x, 0) + negative_slope min(x, 0), element-wise.

    Takes and gives an array or Tensor of any shape; the slope at 0 is `negative_slope`, as in PyTorch.

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 0.0, 2.0]))
    array([-0.01,  0.  ,  2.  ])
    """
    x, negative_slope = floating("leaky_relu", x), number("negative_slope", negative_slope)
    return relu(x) + negative_slope * _negative_part(x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """Return max(x, 0) + alpha (exp(min(x, 0)) - 1), element-wise (Clevert et al., 2016).

    Takes and gives an array or Tensor of any shape; the slope at 0 is `alpha`, as in PyTorch.

    Examples
    --------
    >>> elu(np.array([-1000.0, -1.0, 0.0, 2.0])).round(4)
    array([-1.    , -0.6321,  0.    ,  2.    ])
    """
    x, alpha = floating("elu", x), number("alpha", alpha)
    return relu(x) + alpha * np.expm1(_negative_part(x))


def silu(x: Any) -> Any:
    """Return x s(x), element-wise, s the sigmoid: also called swish (Ramachandran et al., 2017).

    Takes and gives an array or Tensor of any shape.

    Examples
    --------
    >>> silu(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.7311])
    """
    x = floating("silu", x)
    return x * sigmoid(x)


def gelu(x: Any, approximate: str = "tanh") -> Any:
    """Return x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), element-wise (Hendrycks and Gimpel, 2016).

    This is the tanh form.  PyTorch's default is x times the normal distribution function, which needs
    the error function that NumPy lacks: the two differ by 4.74e-4 at most (at |x| = 2.7).
    Takes and gives an array or Tensor of any shape.

    Raises
    ------
    ArgumentError
        If `approximate` is another form than "tanh".

    Examples
    --------
    >>> gelu(np.array([-1000.0, -1.0, 0.0, 2.0])).round(4)
    array([-0.    , -0.1588,  0.    ,  1.9546])
    """
    check_gelu_form(approximate)
    x = floating("gelu", x)
    # (1 + tanh(z))/2 = s(2z) keeps its digits in the left tail; beyond 40 it is 0 or 1, and x^3 might overflow
    z = np.clip(x, -40, 40)
    return x * sigmoid(math.sqrt(8 / math.pi) * (z * (1 + 0.044715 * (z * z))))


def check_gelu_form(approximate: str) -> str:
    """Return "tanh", the form that gelu has."""
    if not isinstance(approximate, str) or approximate != "tanh":
        raise ArgumentError(f"gelu has the form approximate='tanh' only, got {approximate!r}: NumPy has no erf")
    return approximate


def softplus(x: Any, beta: float = 1.0) -> Any:
    """Return log(1 + exp(beta x)) / beta, element-wise: a smooth max(x, 0).

    Takes and gives an array or Tensor of any shape.  It is right in both tails, so that PyTorch's
    `threshold`, beyond which that becomes x, has no place here.

    Raises
    ------
    ArgumentError
        Unless `beta` is positive.

    Examples
    --------
    >>> softplus(np.array([-1000.0, 0.0, 900.0])).round(4)
    array([0.000e+00, 6.931e-01, 9.000e+02])
    """
    beta = number("beta", beta, above=0)
    x = floating("softplus", x)
    if x.dtype.kind == "c":
        raise DTypeError("softplus takes real numbers: np.logaddexp, of which it is made, knows no complex ones")
    return np.logaddexp(0, x) if beta == 1 else np.logaddexp(0, beta * x) / beta


def _shift(function: str, x: Any, axis: Any) -> tuple[Any, Any]:
    """`x` less its largest entry along `axis`, and that entry, as a constant: it cancels in the gradient."""
    x = array_of(function, x)
    every = axis is None and function == "logsumexp"
    if not every and (not x.ndim or whole("axis", axis, -x.ndim, x.ndim - 1) >= x.ndim):
        raise ShapeError(f"{function} needs scores along an axis, got a number")
    if not (x.size if every else x.shape[axis]):
        raise ShapeError(f"{function} needs a score or more along axis {axis}, got an array of shape {x.shape}")
    top = stop_gradient(np.max(x, axis=axis, keepdims=True))
    top = np.where(np.isfinite(top), top, 0.0)  # 0.0, not 0: small integers would wrap around in x - top
    with np.errstate(over="ignore"):  # further below than the largest number: -inf, whose exponential is right
        return x - top, top


def softmax(x: Any, axis: int = -1) -> Any:
    """Return exp(x) / sum(exp(x)) along `axis`, without overflow.

    Takes and gives an array or Tensor of any shape with at least one axis.

    Examples
    --------
    >>> softmax(np.array([1000.0, 1000.0, -1000.0]))
    array([0.5, 0.5, 0. ])
    """
    e = np.exp(_shift("softmax", x, axis)[0])
    return e / e.sum(axis=axis, keepdims=True)


def logsumexp(x: Any, axis: int = -1, keepdims: bool = False) -> Any:
    """Return log(sum(exp(x))) along `axis`, without overflow.

    Examples
    --------
    >>> float(logsumexp(np.array([1000.0, 1000.0])))
    1000.6931471805599
    """
    keepdims = flag("keepdims", keepdims)
    shifted, top = _shift("logsumexp", x, axis)
    y = np.log(np.exp(shifted).sum(axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Return x - log(sum(exp(x))) along `axis`: the logarithm of `softmax`, right in the tails.

    Examples
    --------
    >>> log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    shifted, _ = _shift("log_softmax", x, axis)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def dropout(x: Any, p: float = 0.5, *, rng: np.random.Generator) -> Any:
    """Set each entry to 0 with probability `p`, and scale the others by 1 / (1 - p).

    A fresh mask is drawn from `rng` at each call.  Takes and gives an array or Tensor of any shape.

    Raises
    ------
    ArgumentError
        If `p` lies outside [0, 1).

    Examples
    --------
    >>> dropout(np.ones(4), 0.5, rng=np.random.default_rng(0))
    array([2., 0., 0., 0.])
    """
    x, p = array_of("dropout", x), number("p", p, 0, below=1)
    check_generator(rng)
    if p == 0:
        return x
    scaled = x * (1 / (1 - p))
    return np.where(random_like(scaled, rng) >= p, scaled, 0)


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Return (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over the last axes.

    Parameters
    ----------
    x : (..., *normalized_shape) array or Tensor
    normalized_shape : int or sequence of ints
    weight, bias : arrays or Tensors of shape `normalized_shape`, optional
    eps : float
        Keeps the division finite where all entries are equal; the variance is the biased one.

    Raises
    ------
    ShapeError
        If the last axes of `x`, the weight or the bias have another shape.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 2.0, 3.0]]), 3).round(3)
    array([[-1.225,  0.   ,  1.225]])
    """
    x = floating("layer_norm", x)
    shape, eps = lengths("normalized_shape", normalized_shape), number("eps", eps, 0)
    weight = weight if weight is None else array_of("the weight of layer_norm", weight)
    bias = bias if bias is None else array_of("the bias of layer_norm", bias)
    if x.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm over {shape} takes (..., {', '.join(map(str, shape))}), got {x.shape}")
    for name, values in (("weight", weight), ("bias", bias)):
        if values is not None and values.shape != shape:
            raise ShapeError(f"layer_norm over {shape} takes a {name} of that shape, got {values.shape}")
    axes = tuple(range(-len(shape), 0))
    centred = x - x.mean(axis=axes, keepdims=True)
    y = centred / np.sqrt(np.square(centred).mean(axis=axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Return the rows of `weight` that `indices` name: weight[indices].

    Parameters
    ----------
    indices : array or Tensor of integers, of any shape
    weight : (count, width) array or Tensor
    padding_idx : int, optional
        A row that gets no gradient; negative ones count from the end.

    Returns
    -------
    (*indices.shape, width) array or Tensor

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If the weight has not two axes, an index is no integer, or lies outside 0 ... count - 1.

    Examples
    --------
    >>> embedding(np.array([2, 0]), np.array([[0.0, 1], [2, 3], [4, 5]]))
    array([[4., 5.],
           [0., 1.]])
    """
    weight = array_of("the weight of embedding", weight)
    if weight.ndim != 2:
        raise ShapeError(f"embedding takes a weight of shape (count, width), got {weight.shape}")
    indices = array_of("embedding", indices)
    numbers = _whole_numbers("embedding takes indices that", indices, weight.shape[0])
    rows = _picked(weight, (numbers,))
    if padding_idx is None:
        return rows
    padding_idx = whole("padding_idx", padding_idx, -weight.shape[0], weight.shape[0] - 1)
    padding = np.equal(indices, padding_idx % weight.shape[0])
    return np.where(np.expand_dims(padding, -1), stop_gradient(rows), rows)


def _whole_numbers(what: str, given: Any, count: int) -> Any:
    """Return `given`, whose entries are integers from 0 to count - 1."""
    if given.dtype.kind not in "iu":
        raise DTypeError(f"{what} are integers, got {given.dtype}: write astype(int)")
    return within(given, count, what)


# Images


def _windows(x: Any, kernel: Pair, stride: Pair, dilation: Pair) -> Any:
    """The windows of images (n, c, h, w): (n, c, windows down, windows across, *kernel)."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    down, across = ((m - r) // s + 1 for m, r, s in zip(x.shape[2:], reach, stride, strict=True))
    if down < 1 or across < 1:
        raise ShapeError(
            f"a kernel of {reach[0]} x {reach[1]} does not fit into images of {x.shape[2]} x {x.shape[3]} (padding "
            f"and dilation counted)"
        )
    if kernel == stride == reach:  # tiles: a view, whose gradient is one too
        used = (down * kernel[0], across * kernel[1])
        x = x if x.shape[2:] == used else x[:, :, : used[0], : used[1]]
        return x.reshape((*x.shape[:2], down, kernel[0], across, kernel[1])).transpose((0, 1, 2, 4, 3, 5))
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    if stride == dilation == (1, 1):
        return windows
    (a, b), (c, d) = stride, dilation
    return windows[:, :, ::a, ::b, ::c, ::d]


def _padded(x: Any, rows: Pair, columns: Pair, value: float = 0.0) -> Any:
    if rows == columns == (0, 0):
        return x
    return np.pad(x, ((0, 0), (0, 0), rows, columns), constant_values=value)


def _images(function: str, x: Any) -> Any:
    x = floating(function, x)
    if x.ndim != 4:
        raise ShapeError(f"{function} takes images of shape (N, C, H, W), got {x.shape}; one image is x[None]")
    return x


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Any:
    """Return images convolved with a bank of kernels (not flipped, as in every neural network library).

    ``y[n, o, i, j] = bias[o] + sum over c, p, q of weight[o, c, p, q] x[n, c, i s + p d, j s + q d]``,
    with stride s and dilation d, x padded with zeros.

    Parameters
    ----------
    x : (N, C, H, W) array or Tensor
    weight : (O, C / groups, kernel height, kernel width) array or Tensor
    bias : (O,) array or Tensor, optional
    stride, dilation : int, or two for rows and columns
    padding : int, two for rows and columns, "valid" (none), or "same" (the result has the size of `x`)
    groups : int
        The channels fall into so many groups, each with its own O / groups kernels.

    Returns
    -------
    (N, O, H', W') array or Tensor, with H' = (H + 2 padding - d (kernel height - 1) - 1) // s + 1

    Raises
    ------
    ShapeError
        If the channels do not fit, or the kernel is larger than the padded image.
    ArgumentError
        For an option that is none of the above.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d(x, np.array([[[[1.0, 0.0], [0.0, -1.0]]]]), np.array([0.5]))[0, 0]
    array([[-3.5, -3.5],
           [-3.5, -3.5]])
    """
    x, weight = _images("conv2d", x), array_of("the weight of conv2d", weight)
    bias = bias if bias is None else array_of("the bias of conv2d", bias)
    strides, dilations = lengths("stride", stride, 2), lengths("dilation", dilation, 2)
    groups = whole("groups", groups)
    if weight.ndim != 4 or weight.shape[0] % groups or weight.shape[1] * groups != x.shape[1]:
        raise ShapeError(
            f"conv2d of images {x.shape} in {groups} group(s) takes a weight of shape (O, {x.shape[1]} / {groups}, "
            f"kernel height, kernel width) with O a multiple of {groups}, got {weight.shape}"
        )
    out, inner, height, width = weight.shape
    if bias is not None and bias.shape != (out,):
        raise ShapeError(f"conv2d with {out} kernels takes a bias of shape ({out},), got {bias.shape}")
    x = _padded(x, *conv_padding(padding, (height, width), strides, dilations))
    windows = _windows(x, (height, width), strides, dilations)
    n, _, down, across = windows.shape[:4]
    entries = inner * height * width
    # the windows as columns, one matrix for each image and group: a product of matrices does the rest
    columns = windows.transpose((0, 1, 4, 5, 2, 3)).reshape((n, groups, entries, down * across))
    kernels = weight.reshape((groups, out // groups, entries))
    y = (kernels @ columns).reshape((n, out, down, across))
    return y if bias is None else y + bias.reshape((out, 1, 1))


def conv_padding(padding: Any, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Return how much to add before and after the rows, and before and after the columns."""
    if isinstance(padding, str) and padding == "same":
        if stride != (1, 1):
            raise ArgumentError(f"padding='same' needs stride 1, got {stride}")
        rows, columns = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    if isinstance(padding, str) and padding != "valid":
        raise ArgumentError(f"padding={padding!r} is none of 'same', 'valid', a whole number or two of them")
    rows, columns = (0, 0) if isinstance(padding, str) else lengths("padding", padding, 2, least=0)
    return (rows, rows), (columns, columns)


def pool_padding(name: str, padding: int | Pair, kernel: Pair) -> Pair:
    """Return `padding` for rows and columns: more than half the kernel would give windows of nothing else."""
    rows, columns = lengths("padding", padding, 2, least=0)
    if 2 * rows > kernel[0] or 2 * columns > kernel[1]:
        raise ArgumentError(f"{name} takes a padding of half the kernel at most, got {padding} for {kernel}")
    return rows, columns


def _pooled(
    function: str, x: Any, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair, value: float
) -> Any:
    """The entries of every window along the first axis: (entries, n, c, windows down, windows across)."""
    x, kernel = _images(function, x), lengths("kernel_size", kernel_size, 2)
    strides = kernel if stride is None else lengths("stride", stride, 2)
    rows, columns = pool_padding(function, padding, kernel)
    windows = _windows(_padded(x, (rows, rows), (columns, columns), value), kernel, strides, (1, 1))
    # NumPy reduces along a first axis many times faster than along two short last ones
    return windows.transpose((4, 5, 0, 1, 2, 3)).reshape((math.prod(kernel), *windows.shape[:4]))


def max_pool2d(x: Any, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Any:
    """Return the largest entry of every window of images.

    Parameters
    ----------
    x : (N, C, H, W) array or Tensor
    kernel_size, stride, padding : int, or two for rows and columns
        The stride is the kernel's size by default; the padding is of -inf, half the kernel at most.

    Returns
    -------
    (N, C, H', W') array or Tensor, with H' = (H + 2 padding - kernel height) // stride + 1
        Equal largest entries share the gradient equally, as those of `np.max` (PyTorch: the first).

    Examples
    --------
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    return np.max(_pooled("max_pool2d", x, kernel_size, stride, padding, -np.inf), axis=0)


def avg_pool2d(x: Any, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Any:
    """Return the mean of every window of images.

    Parameters
    ----------
    x : (N, C, H, W) array or Tensor
    kernel_size, stride, padding : int, or two for rows and columns
        The stride is the kernel's size by default; the padding, half the kernel at most, counts as
        zeros in the mean.

    Returns
    -------
    (N, C, H', W') array or Tensor, with H' = (H + 2 padding - kernel height) // stride + 1

    Examples
    --------
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    return np.mean(_pooled("avg_pool2d", x, kernel_size, stride, padding, 0.0), axis=0)


# Losses


def _as_arrays(loss: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """Make arrays of lists and numbers; a target then takes the width of a floating prediction."""
    prediction = floating(loss, prediction)
    listed = not hasattr(target, "shape")
    target = array_of(loss, target)
    if listed and target.dtype.kind == prediction.dtype.kind == "f":
        target = target.astype(prediction.dtype)
    return prediction, target


def _pair(loss: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """Check that a loss compares like with like, and give both as arrays or Tensors."""
    prediction, target = _as_arrays(loss, prediction, target)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{loss} compares entry by entry, so prediction {prediction.shape} and target {target.shape} "
            f"must have one shape: reshape one of them, for instance target.reshape{prediction.shape}"
        )
    return prediction, target


def _reduce(values: Any, reduction: str) -> Any:
    reduction = choice("reduction", reduction, _REDUCTIONS)
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean squared error, mean((prediction - target)^2) over all entries.

    Parameters
    ----------
    prediction, target : arrays or Tensors of one shape
        Nothing is broadcast: (n,) against (n, 1) is an error.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> float(mse_loss(np.array([1.0, 2.0]), np.array([0.0, 0.0])))
    2.5
    """
    prediction, target = _pair("mse_loss", prediction, target)
    reduction, error = choice("reduction", reduction, _REDUCTIONS), prediction - target
    return mean_square(error) if reduction == "mean" else _reduce(np.square(error), reduction)


def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the mean absolute error, mean(abs(prediction - target)) over all entries.

    Parameters
    ----------
    prediction, target : arrays or Tensors of one shape
        Where they are equal the gradient is 0.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> float(l1_loss(np.array([1.0, 2.0]), np.array([0.0, 4.0])))
    1.5
    """
    prediction, target = _pair("l1_loss", prediction, target)
    return _reduce(np.abs(prediction - target), reduction)


def huber_loss(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Return the mean of the Huber loss of e = prediction - target: e^2/2, from abs(e) = delta on a straight line.

    The line is delta (abs(e) - delta/2), so that far errors pull no harder than delta (Huber, 1964).

    Parameters
    ----------
    prediction, target : arrays or Tensors of one shape
    reduction : {"mean", "sum", "none"}
    delta : float
        Where the straight line begins; positive.

    Examples
    --------
    >>> huber_loss(np.array([0.5, -3.0]), np.array([0.0, 0.0]), "none")
    array([0.125, 2.5  ])
    """
    delta = number("delta", delta, above=0)
    prediction, target = _pair("huber_loss", prediction, target)
    error = prediction - target
    near = np.clip(error, -delta, delta)  # near (e - near/2) is both: e^2/2 here, the line there
    return _reduce(near * (error - 0.5 * near), reduction)


def half_squared_error(prediction: Any, target: Any) -> Any:
    """Return half the sum of squared errors, 1/2 sum((prediction - target)^2) over all entries.

    Examples
    --------
    >>> float(half_squared_error(np.array([1.0, 2.0]), np.array([0.0, 0.0])))
    2.5
    """
    prediction, target = _pair("half_squared_error", prediction, target)
    return 0.5 * np.square(prediction - target).sum()


def cross_entropy(logits: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the cross-entropy between class scores (logits) and classes: -log softmax(logits)[class].

    Parameters
    ----------
    logits : (..., classes) array or Tensor
        Unnormalised scores: no softmax before this loss.
    target : (...) integers, or (..., classes) numbers
        Class indices (in memory, since they are checked), or one-hot rows or probabilities.
    reduction : {"mean", "sum", "none"}
        Over the rows: the mean divides by their number.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If the target fits neither form, or names a class that does not exist.

    Examples
    --------
    >>> logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    >>> round(float(cross_entropy(logits, np.array([0, 1]))), 6)
    0.458145
    >>> round(float(cross_entropy(logits, np.array([[1.0, 0, 0], [0, 1.0, 0]]))), 6)
    0.458145
    """
    logits, target = _as_arrays("cross_entropy", logits, target)
    shape = logits.shape
    if not shape:
        raise ShapeError("cross_entropy needs logits with the classes along the last axis, got a number")
    log_p = log_softmax(logits)
    if target.shape == shape:
        losses = -(log_p * target).sum(axis=-1)
    elif target.shape == shape[:-1]:
        losses = -_one_per_row("cross_entropy", log_p, target)
    else:
        raise ShapeError(
            f"cross_entropy with logits {shape} takes class indices of shape {shape[:-1]} or one-hot rows "
            f"of shape {shape}; the target has shape {target.shape}"
        )
    return _reduce(losses, reduction)


def nll_loss(log_probabilities: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the negative log-likelihood of classes: -log_probabilities[class].

    Parameters
    ----------
    log_probabilities : (..., classes) array or Tensor
        What `log_softmax` gives; `cross_entropy` does both at once.
    target : (...) integers
        Class indices.
    reduction : {"mean", "sum", "none"}
        Over the rows: the mean divides by their number.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If the target has another shape, is not of integers, or names a class that does not exist.

    Examples
    --------
    >>> log_p = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    >>> round(float(nll_loss(log_p, np.array([0, 1]))), 6)
    0.458145
    """
    log_probabilities, target = _as_arrays("nll_loss", log_probabilities, target)
    shape = log_probabilities.shape
    if not shape or target.shape != shape[:-1]:
        raise ShapeError(
            f"nll_loss takes log-probabilities (..., classes) and class indices (...), got {shape} and {target.shape}"
        )
    return _reduce(-_one_per_row("nll_loss", log_probabilities, target), reduction)


def _one_per_row(loss: str, rows: Any, target: Any) -> Any:
    """The entry of its class from each row of class scores."""
    classes = _whole_numbers(f"{loss} takes class indices that", target, rows.shape[-1])
    array = plain(rows)
    if isinstance(array, np.ndarray):
        return _picked(rows, (*np.indices(target.shape, sparse=True), classes))
    numbers = np.arange(rows.shape[-1], like=array)  # other libraries' arrays may not take several indices at once
    return np.sum(np.where(np.equal(np.expand_dims(classes, -1), numbers), rows, 0), axis=-1)


def _picked(values: Any, index: tuple[Any, ...]) -> Any:
    """values[index], a Tensor if one of the two is."""
    traced = isinstance(values, Tensor) or not any(isinstance(part, Tensor) for part in index)
    return values[index] if traced else Tensor(values)[index]


def binary_cross_entropy(probabilities: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the cross-entropy of independent yes/no probabilities: -t log p - (1 - t) log(1 - p).

    Both logarithms are -100 at least, as in PyTorch, so that no loss is infinite.  Where that bound
    holds the gradient is 0 (PyTorch: up to 1e12): train with `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    probabilities, target : arrays or Tensors of one shape
        Numbers in [0, 1]: what a sigmoid gives, and what it should.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ArgumentError
        If a probability lies outside [0, 1]: logits were given.  If a target does: labels of -1 and 1, say.

    Examples
    --------
    >>> binary_cross_entropy(np.array([0.5, 0.0]), np.array([1.0, 1.0]), "none").round(4)
    array([  0.6931, 100.    ])
    """
    p, target = _pair("binary_cross_entropy", probabilities, target)
    p = bounded(p, 0, 1, "binary_cross_entropy (without _with_logits) takes probabilities")
    target = bounded(target, 0, 1, "binary_cross_entropy takes targets that are probabilities")
    with np.errstate(divide="ignore"):  # log 0 is -inf, and then -100
        yes, no = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    return _reduce(-(target * yes + (1 - target) * no), reduction)


def binary_cross_entropy_with_logits(logits: Any, target: Any, reduction: str = "mean") -> Any:
    """Return the cross-entropy of independent yes/no scores: -t log s(x) - (1 - t) log s(-x), s the sigmoid.

    Parameters
    ----------
    logits, target : arrays or Tensors of one shape
        Unnormalised scores, and probabilities in [0, 1].
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ArgumentError
        If a target lies outside [0, 1]: with labels of -1 and 1 the loss would have no least value.
        Targets in arrays of Dask are not checked.

    Examples
    --------
    >>> float(binary_cross_entropy_with_logits(np.array([0.0, 800.0]), np.array([1.0, 1.0])))
    0.34657359027997264
    """
    logits, target = _pair("binary_cross_entropy_with_logits", logits, target)
    if not hasattr(plain(target), "__dask_graph__"):  # whose values are not there to be checked
        target = bounded(target, 0, 1, "binary_cross_entropy_with_logits takes targets that are probabilities")
    # log s(x) = -logaddexp(0, -x): both terms keep their digits in both tails
    return _reduce(target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits), reduction)
