"""Layers, losses and initializers, under PyTorch's names."""

from __future__ import annotations

from tinygrad_nn.nn import init
from tinygrad_nn.nn.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from tinygrad_nn.nn.convolution import AvgPool2d, Conv2d, MaxPool2d
from tinygrad_nn.nn.exchange import from_torch_state, to_torch_state
from tinygrad_nn.nn.layers import Dropout, Embedding, Flatten, Linear, Sequential
from tinygrad_nn.nn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss
from tinygrad_nn.nn.module import Module, Parameter
from tinygrad_nn.nn.normalization import BatchNorm1d, BatchNorm2d, LayerNorm

__all__ = [
    "ELU",
    "GELU",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "HuberLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "NLLLoss",
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
