"""Layers on images of shape (N, C, H, W): convolution and pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_nn import functional
from tinygrad_nn.checks import dtype_of, flag, lengths, whole
from tinygrad_nn.conversion import check_generator
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.nn.init import Initializer, drawn, uniform
from tinygrad_nn.nn.module import Module, Parameter

__all__ = ["AvgPool2d", "Conv2d", "MaxPool2d"]


class Conv2d(Module):
    """A convolution of images with trained kernels, `tn.functional.conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int, or two for rows and columns
    padding : int, two for rows and columns, "valid" (none), or "same" (the result has the size of the input)
    groups : int
        The channels fall into so many groups, each with its own kernels.
    bias : bool
    weight_init, bias_init : initializer, optional
        Functions of `tn.nn.init`, called for a matrix of shape (in, out) with in the entries of one
        kernel; the default of both is U(-1/sqrt(in), 1/sqrt(in)).
    dtype : dtype
    rng : numpy Generator, optional
        Where the initial values are drawn from: the weight first, then the bias.

    Attributes
    ----------
    weight : (out_channels, in_channels / groups, kernel height, kernel width) Parameter
    bias : (out_channels,) Parameter, or None

    Examples
    --------
    >>> layer = Conv2d(1, 16, 3, padding=1)
    >>> layer(np.zeros((8, 1, 28, 28))).shape
    (8, 16, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: Any = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_channels, self.out_channels = whole("in_channels", in_channels), whole("out_channels", out_channels)
        self.groups = whole("groups", groups)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(f"Conv2d({in_channels}, {out_channels}) does not divide into {groups} groups")
        self.kernel_size = lengths("kernel_size", kernel_size, 2)
        self.stride, self.dilation = lengths("stride", stride, 2), lengths("dilation", dilation, 2)
        functional.conv_padding(padding, self.kernel_size, self.stride, self.dilation)  # refuses what it must
        self.padding = padding if isinstance(padding, str) else lengths("padding", padding, 2, least=0)
        rng = np.random.default_rng() if rng is None else check_generator(rng)
        inner = self.in_channels // self.groups
        entries = inner * math.prod(self.kernel_size)
        default = uniform(-1 / math.sqrt(entries), 1 / math.sqrt(entries))
        bias, dtype = flag("bias", bias), dtype_of("dtype", dtype, "f")
        weight = drawn("weight_init", weight_init, default, rng, (entries, self.out_channels), dtype)
        self.weight = Parameter(weight.T.reshape(self.out_channels, inner, *self.kernel_size))
        values = drawn("bias_init", bias_init, default, rng, (self.out_channels,), dtype) if bias else None
        self.bias = None if values is None else Parameter(values)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Sizes, and the options that are not the usual ones."""
        usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        options = "".join(f", {k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v)
        options += "" if self.bias is not None else ", bias=False"
        return f"{self.in_channels}, {self.out_channels}, {self.kernel_size}{options}"


class _Pool2d(Module):
    """What the poolings share: the shape of their windows."""

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
    ) -> None:
        self.kernel_size = lengths("kernel_size", kernel_size, 2)
        self.stride = self.kernel_size if stride is None else lengths("stride", stride, 2)
        self.padding = functional.pool_padding(type(self).__name__, padding, self.kernel_size)

    def extra_repr(self) -> str:
        """The kernel, and the options that are not the usual ones."""
        stride = "" if self.stride == self.kernel_size else f", stride={self.stride}"
        return f"{self.kernel_size}{stride}" + ("" if self.padding == (0, 0) else f", padding={self.padding}")


class MaxPool2d(_Pool2d):
    """The largest entry of every window, `tn.functional.max_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding : int, or two for rows and columns
        The stride is the kernel's size by default.

    Examples
    --------
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    def forward(self, x: Any) -> Any:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool2d):
    """The mean of every window, `tn.functional.avg_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding : int, or two for rows and columns
        The stride is the kernel's size by default; the padding counts as zeros.

    Examples
    --------
    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """

    def forward(self, x: Any) -> Any:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding)
