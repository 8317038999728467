"""Layers: each takes and gives arrays or Tensors with the batch along the first axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn import functional
from tinygrad_nn.conversion import as_lengths, check_generator
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.nn.init import Initializer, normal, uniform
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
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ArgumentError(f"Linear needs a positive whole number {name}, got {value!r}")
        rng = np.random.default_rng() if rng is None else check_generator(rng)
        default = uniform(-1 / math.sqrt(in_features), 1 / math.sqrt(in_features))
        self.in_features = int(in_features)
        self.out_features = int(out_features)
        self.weight = Parameter((weight_init or default)(rng, (self.in_features, self.out_features), dtype))
        self.bias = Parameter((bias_init or default)(rng, (self.out_features,), dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        """Map (..., in_features) to (..., out_features)."""
        x = x if hasattr(x, "shape") else np.asarray(x)
        shape = x.shape
        if not shape or shape[-1] != self.in_features:
            fits = shape and math.prod(shape[1:]) == self.in_features
            hint = "; flatten images with Flatten() first" if fits else ""
            raise ShapeError(
                f"Linear({self.in_features}, {self.out_features}) takes (..., {self.in_features}), got {shape}{hint}"
            )
        y = x @ self.weight
        return y if self.bias is None else y + self.bias

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
        return self.layers[index]

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
        (self.num_embeddings,) = as_lengths("num_embeddings", num_embeddings, 1)
        (self.embedding_dim,) = as_lengths("embedding_dim", embedding_dim, 1)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(f"padding_idx={padding_idx} is none of the {num_embeddings} rows of this Embedding")
        rng = np.random.default_rng() if rng is None else check_generator(rng)
        weight = (weight_init or normal(1.0))(rng, (self.num_embeddings, self.embedding_dim), dtype)
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        self.weight = Parameter(weight)

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
        if not 0 <= p < 1:
            raise ArgumentError(f"Dropout needs a probability p with 0 <= p < 1, got {p}")
        self.p = p
        self.rng = np.random.default_rng() if rng is None else check_generator(rng)

    def forward(self, x: Any) -> Any:
        """Drop entries while training."""
        return functional.dropout(x, self.p, rng=self.rng) if self.training else x

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Flatten(Module):
    """Join all axes but the first: (n, a, b, ...) to (n, a b ...)."""

    def forward(self, x: Any) -> Any:
        """Reshape each sample to one axis."""
        x = x if hasattr(x, "shape") else np.asarray(x)
        shape = x.shape
        if not shape:
            raise ShapeError("Flatten needs a batch along the first axis, got a number")
        return x.reshape((shape[0], math.prod(shape[1:])))
