"""Layers: each takes and gives arrays or Tensors with the batch along the first axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn import functional
from tinygrad_nn.checks import dtype_of, flag, number, numbers, told, whole
from tinygrad_nn.conversion import check_generator
from tinygrad_nn.derivatives.linalg import linear
from tinygrad_nn.errors import BoundsError, DTypeError, ShapeError
from tinygrad_nn.nn.init import Initializer, drawn, normal, uniform
from tinygrad_nn.nn.module import Module, Parameter

__all__ = ["Dropout", "Embedding", "Flatten", "Linear", "Sequential"]


class Linear(Module):
    """A fully connected layer: X W + b.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether to add b.
    weight_init, bias_init : initializer, optional
        Functions of `tn.nn.init`; the default of both is U(-1/sqrt(in), 1/sqrt(in)).
    dtype : dtype
    rng : numpy Generator, optional
        Where the initial values are drawn from: the weight first, then the bias.

    Attributes
    ----------
    weight : (in_features, out_features) Parameter
    bias : (out_features,) Parameter, or None

    Raises
    ------
    ShapeError
        When called on data whose last axis is not `in_features` long.

    Examples
    --------
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> layer
    Linear(3, 2)
    >>> layer(np.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: Any = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_features, self.out_features = whole("in_features", in_features), whole("out_features", out_features)
        rng = np.random.default_rng() if rng is None else check_generator(rng)
        default = uniform(-1 / math.sqrt(self.in_features), 1 / math.sqrt(self.in_features))
        shape = self.in_features, self.out_features
        bias, dtype = flag("bias", bias), dtype_of("dtype", dtype, "f")
        self.weight = Parameter(drawn("weight_init", weight_init, default, rng, shape, dtype))
        self.bias = Parameter(drawn("bias_init", bias_init, default, rng, shape[1:], dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        """Map (..., in_features) to (..., out_features)."""
        x = functional.array_of("Linear", x)
        shape = x.shape
        if not shape or shape[-1] != self.in_features:
            fits = shape and math.prod(shape[1:]) == self.in_features
            hint = "; flatten images with Flatten() first" if fits else ""
            raise ShapeError(
                f"Linear({self.in_features}, {self.out_features}) takes (..., {self.in_features}), got {shape}{hint}"
            )
        return x @ self.weight if self.bias is None else linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, and the missing bias."""
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Sequential(Module):
    """Modules (or functions) applied one after the other.

    Examples
    --------
    >>> net = Sequential(Linear(2, 3), np.tanh, Linear(3, 1))
    >>> net
    Sequential(
      (0): Linear(2, 3)
      (1): tanh
      (2): Linear(3, 1)
    )
    >>> len(net), net[0]
    (3, Linear(2, 3))
    """

    def __init__(self, *layers: Any) -> None:
        for k, layer in enumerate(layers):
            if isinstance(layer, type):
                raise DTypeError(f"Sequential takes modules, argument {k} is the class: write {layer.__name__}()")
            if not callable(layer):
                raise DTypeError(f"Sequential takes modules and functions; argument {k} is a {type(layer).__name__}")
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        """Apply the layers in order."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.layers[index]
        except (TypeError, IndexError, ValueError):
            count = len(self.layers)
            raise BoundsError(f"index={told(index)} is no layer of this Sequential, which has {count}") from None

    def children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the layers by their number."""
        return ((str(k), layer) for k, layer in enumerate(self.layers) if isinstance(layer, Module))

    def _parts(self) -> Iterator[tuple[str, str]]:
        # plain functions too: they are layers here
        texts = (getattr(layer, "__name__", None) or repr(layer) for layer in self.layers)
        return ((str(k), text) for k, text in enumerate(texts))


class Embedding(Module):
    """A table of rows, one for each of the numbers 0 to num_embeddings - 1: weight[indices].

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        How many rows there are, and how long they are.
    padding_idx : int, optional
        The row of a number that stands for nothing: it begins as 0 and gets no gradient.
    weight_init : initializer, optional
        A function of `tn.nn.init`; the default is N(0, 1).
    dtype : dtype
    rng : numpy Generator, optional
        Where the initial values are drawn from.

    Attributes
    ----------
    weight : (num_embeddings, embedding_dim) Parameter

    Examples
    --------
    >>> layer = Embedding(10, 3, padding_idx=0)
    >>> layer(np.array([[1, 2, 0], [9, 9, 0]])).shape
    (2, 3, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        weight_init: Initializer | None = None,
        dtype: Any = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.num_embeddings = whole("num_embeddings", num_embeddings)
        self.embedding_dim = whole("embedding_dim", embedding_dim)
        self.padding_idx = None
        if padding_idx is not None:
            rows = self.num_embeddings
            self.padding_idx = whole("padding_idx", padding_idx, -rows, rows - 1) % rows
        rng = np.random.default_rng() if rng is None else check_generator(rng)
        shape, dtype = (self.num_embeddings, self.embedding_dim), dtype_of("dtype", dtype, "f")
        self.weight = Parameter(drawn("weight_init", weight_init, normal(1.0), rng, shape, dtype))
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, indices: Any) -> Any:
        """Map integers of any shape to rows: (...) to (..., embedding_dim)."""
        return functional.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes, and the padding."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Dropout(Module):
    """In training, set each entry to 0 with probability `p` and scale the others by 1 / (1 - p).

    In evaluation the input is returned as it is.  Masks are drawn from `rng`, one for each call.
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        self.p = number("p", p, 0, below=1)
        self.rng = np.random.default_rng() if rng is None else check_generator(rng)

    def forward(self, x: Any) -> Any:
        """Drop entries while training."""
        return functional.dropout(x, self.p, rng=self.rng) if self.training else numbers("Dropout", x)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Flatten(Module):
    """Join all axes but the first: (n, a, b, ...) to (n, a b ...)."""

    def forward(self, x: Any) -> Any:
        """Reshape each sample to one axis."""
        x = functional.array_of("Flatten", x)
        shape = x.shape
        if not shape:
            raise ShapeError("Flatten needs a batch along the first axis, got a number")
        return x.reshape((shape[0], math.prod(shape[1:])))
