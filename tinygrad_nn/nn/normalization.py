"""Layers that bring their input to mean 0 and variance 1: by sample (`LayerNorm`) or by channel (`BatchNorm1d`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_nn import functional
from tinygrad_nn.checks import dtype_of, flag, lengths, number
from tinygrad_nn.conversion import settle, wait
from tinygrad_nn.errors import ShapeError
from tinygrad_nn.nn.module import Module, Parameter
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.transforms import stop_gradient

__all__ = ["BatchNorm1d", "BatchNorm2d", "LayerNorm"]


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes of each sample (Ba et al., 2016).

    Parameters
    ----------
    normalized_shape : int or sequence of ints
        The lengths of the last axes, over which mean and (biased) variance are taken.
    eps : float
    elementwise_affine : bool
        Whether there are a weight and a bias.
    bias : bool
        False leaves out the bias alone.
    dtype : dtype

    Attributes
    ----------
    weight, bias : Parameters of shape `normalized_shape`, which begin as 1 and 0; or None

    Examples
    --------
    >>> LayerNorm(3)(np.array([[1.0, 2.0, 3.0]])).numpy().round(3)
    array([[-1.225,  0.   ,  1.225]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float64,
    ) -> None:
        shape = lengths("normalized_shape", normalized_shape)
        self.normalized_shape = shape
        self.eps = number("eps", eps, 0)
        dtype = dtype_of("dtype", dtype, "f")
        elementwise_affine, bias = flag("elementwise_affine", elementwise_affine), flag("bias", bias)
        self.weight = Parameter(np.ones(shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, dtype)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        """Normalize the last axes of (..., *normalized_shape)."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The shape."""
        return f"{self.normalized_shape}"


class _BatchNorm(Module):
    """What the batch normalizations share; they differ in the number of axes."""

    forms: tuple[tuple[str, ...], ...]  # the names of the axes that it takes

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = np.float64,
    ) -> None:
        (self.num_features,) = lengths("num_features", num_features, 1)
        self.eps = number("eps", eps, 0)
        self.momentum = momentum if momentum is None else number("momentum", momentum, 0, 1)
        dtype = dtype_of("dtype", dtype, "f")
        affine, track_running_stats = flag("affine", affine), flag("track_running_stats", track_running_stats)
        self.weight = Parameter(np.ones(self.num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.num_features, dtype)) if affine else None
        self.running_mean = Tensor(np.zeros(self.num_features, dtype)) if track_running_stats else None
        self.running_var = Tensor(np.ones(self.num_features, dtype)) if track_running_stats else None
        self.num_batches_tracked = Tensor(np.array(0)) if track_running_stats else None

    def forward(self, x: Any) -> Any:
        """Normalize each channel; in training, take note of its mean and variance."""
        x = functional.floating(type(self).__name__, x)
        if x.ndim not in map(len, self.forms) or x.shape[1] != self.num_features:
            takes = " or ".join(f"({', '.join(form)})" for form in self.forms)
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) takes {takes} with C = {self.num_features}, got {x.shape}"
            )
        settle(self.running_mean, self.running_var)
        column = (-1,) + (1,) * (x.ndim - 2)  # a channel's number beside all its entries
        if self.training or self.running_mean is None or self.running_var is None:
            mean, var = self._statistics(x, column)
        else:
            mean, var = self.running_mean.reshape(column), self.running_var.reshape(column)
        y = (x - mean) / np.sqrt(var + self.eps)
        if self.weight is None or self.bias is None:
            return y
        return y * self.weight.reshape(column) + self.bias.reshape(column)

    def _statistics(self, x: Any, column: tuple[int, ...]) -> tuple[Any, Any]:
        axes = (0, *range(2, x.ndim))
        count = x.size // self.num_features
        if self.training and count < 2:
            raise ShapeError(
                f"{type(self).__name__} in training needs two or more values for each channel, got {x.shape}; "
                f"call eval() to use the running mean and variance"
            )
        mean = x.mean(axis=axes, keepdims=True)
        var = np.square(x - mean).mean(axis=axes, keepdims=True)
        if self.num_batches_tracked is not None:
            count_so_far = self.num_batches_tracked + 1
            rate = np.reciprocal(count_so_far.astype(mean.dtype)) if self.momentum is None else self.momentum
            unbiased = var * (count / (count - 1))
            self.num_batches_tracked = count_so_far
            self.running_mean = wait(self._moved(self.running_mean, mean, rate))
            self.running_var = wait(self._moved(self.running_var, unbiased, rate))
        return mean, var

    def _moved(self, running: Any, new: Any, rate: Any) -> Any:
        """The running statistic after one more batch, in its own dtype: no gradient flows through it."""
        return ((1 - rate) * running + rate * stop_gradient(new).reshape(-1)).astype(running.dtype)

    def extra_repr(self) -> str:
        """The number of channels."""
        return f"{self.num_features}"


class BatchNorm1d(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel (Ioffe and Szegedy, 2015).

    In training, mean and (biased) variance are those of the batch, and the running ones move:
    running = (1 - momentum) running + momentum batch's, with the unbiased variance.  In
    evaluation the running ones are used.  Takes (N, C) or (N, C, L).

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
    momentum : float or None
        None takes the plain average over all batches so far.
    affine : bool
        Whether there are a weight and a bias.
    track_running_stats : bool
        False uses the batch's statistics in evaluation too.
    dtype : dtype

    Attributes
    ----------
    weight, bias : (C,) Parameters, which begin as 1 and 0; or None
    running_mean, running_var, num_batches_tracked : buffers of shapes (C,), (C,) and (); or None

    Raises
    ------
    ShapeError
        If the input has other axes or channels, or, in training, one value for each channel.

    Examples
    --------
    >>> layer = BatchNorm1d(2)
    >>> layer(np.array([[1.0, 10.0], [3.0, 30.0]])).numpy().round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> layer.running_mean, layer.running_var.numpy().round(1)
    (Tensor([0.2, 2. ]), array([ 1.1, 20.9]))
    """

    forms = (("N", "C"), ("N", "C", "L"))


class BatchNorm2d(_BatchNorm):
    """`BatchNorm1d` for images: (N, C, H, W), with mean and variance over all but the channels.

    Examples
    --------
    >>> BatchNorm2d(3)(np.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    forms = (("N", "C", "H", "W"),)
