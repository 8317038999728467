"""Layers, losses and initializers, under PyTorch's names."""

from __future__ import annotations

from tinygrad_nn.nn import init
from tinygrad_nn.nn.layers import Dropout, Flatten, Linear, ReLU, Sequential, Sigmoid, Softmax, Tanh
from tinygrad_nn.nn.losses import CrossEntropyLoss, MSELoss
from tinygrad_nn.nn.module import Module, Parameter

__all__ = [
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
]
