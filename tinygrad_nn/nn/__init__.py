"""Layers, losses and initializers, under PyTorch's names."""

from __future__ import annotations

from tinygrad_nn.nn import init
from tinygrad_nn.nn.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from tinygrad_nn.nn.exchange import from_torch_state, to_torch_state
from tinygrad_nn.nn.layers import Dropout, Embedding, Flatten, Linear, Sequential
from tinygrad_nn.nn.losses import CrossEntropyLoss, MSELoss
from tinygrad_nn.nn.module import Module, Parameter
from tinygrad_nn.nn.normalization import BatchNorm1d, BatchNorm2d, LayerNorm

__all__ = [
    "ELU",
    "GELU",
    "BatchNorm1d",
    "BatchNorm2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "from_torch_state",
    "init",
    "to_torch_state",
]
