"""One layer of every kind in `tn.nn`, with a batch for it; a kind that asks for more than these values fails here."""

from __future__ import annotations

import inspect

import tinygrad_nn as tn

F = tn.functional
LAYERS = [c for c in map(tn.nn.__dict__.get, tn.nn.__all__) if inspect.isclass(c) and issubclass(c, tn.nn.Module)]
LOSS_LAYERS = [c for c in LAYERS if c.__name__.endswith("Loss")]
PLAIN_LAYERS = [c for c in LAYERS if c not in LOSS_LAYERS and c is not tn.nn.Module]
_VALUES = {
    "in_features": 5,
    "out_features": 5,
    "num_features": 5,
    "normalized_shape": 5,
    "num_embeddings": 5,
    "embedding_dim": 2,
    "in_channels": 2,
    "out_channels": 3,
    "kernel_size": 2,
    "p": 0.3,
}


def layer_sample(kind, rng, batch=6):
    """A layer of a kind, and an array that it takes."""
    if kind is tn.nn.Sequential:
        return kind(tn.nn.Tanh(), tn.nn.Linear(5, 5, rng=rng)), rng.standard_normal((batch, 5))
    values = {**_VALUES, "rng": rng}
    layer = kind(**{name: values[name] for name in inspect.signature(kind).parameters if name in values})
    if kind is tn.nn.Embedding:
        return layer, rng.integers(5, size=(batch, 4))
    channels = getattr(layer, "in_channels", getattr(layer, "num_features", 2))
    images = kind.__name__.endswith("2d")
    return layer, rng.standard_normal((batch, channels, 4, 5) if images else (batch, 5))


def loss_sample(function):
    """What a loss or its layer takes in place of scores (n, 3), and which target: "classes" or "numbers"."""
    name = function.__name__.lower().replace("_", "").removesuffix("loss")
    before = {"bce": F.sigmoid, "binarycrossentropy": F.sigmoid, "nll": F.log_softmax}.get(name, lambda scores: scores)
    return before, "classes" if name in {"nll", "crossentropy"} else "numbers"
