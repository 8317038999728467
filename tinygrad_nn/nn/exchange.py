"""Weights to and from PyTorch: state dicts in its names and layouts, without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_nn.errors import DTypeError, StateError
from tinygrad_nn.nn.layers import Linear, Sequential
from tinygrad_nn.nn.module import Module
from tinygrad_nn.tensor import Tensor

__all__ = ["from_torch_state", "to_torch_state"]


def to_torch_state(model: Module) -> dict[str, Any]:
    """Return a copy of a model's state in PyTorch's names and layouts, for a model of the same build there.

    Two things differ, and nothing else: the layers of a `Sequential` are ``layers.0.weight`` here and ``0.weight``
    there, and the weight of `Linear` is (in, out) here and (out, in) there.  Convolutions, normalizations and
    embeddings have PyTorch's layouts; dtypes stay.

    Examples
    --------
    In PyTorch: ``net.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch_state(model).items()})``.

    >>> from tinygrad_nn import nn
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    >>> {name: array.shape for name, array in to_torch_state(model).items()}
    {'0.weight': (2, 3), '0.bias': (2,), '2.weight': (1, 2), '2.bias': (1,)}
    """
    names = _names(model)
    return {
        name: (array.T if turned else array).copy()
        for (name, turned), array in zip(names.values(), model.state_dict().values(), strict=True)
    }


def from_torch_state(model: Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a PyTorch state in the names and layouts of `model`, for its `load_state_dict`.

    Parameters
    ----------
    model : Module
        Of the same build; it is not changed.
    state : dict of arrays, or of PyTorch's tensors on the CPU
        What ``net.state_dict()`` gives there.

    Raises
    ------
    StateError
        Naming, in PyTorch's names, what is missing or unexpected.  Shapes and dtypes are checked by
        `load_state_dict`; a float32 state fits a float64 model, a float64 one needs ``array.astype(np.float32)``.
    DTypeError
        For a value that NumPy cannot read, such as a tensor on a GPU or in bfloat16.

    Examples
    --------
    >>> from tinygrad_nn import nn
    >>> model, other = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2))
    >>> model.load_state_dict(from_torch_state(model, to_torch_state(other)))
    >>> bool(np.all(model[0].weight == other[0].weight))
    True
    """
    names = _names(model)
    if not isinstance(state, Mapping):
        raise DTypeError(f"a PyTorch state is a dict of arrays by name, got a {type(state).__name__}")
    theirs = [name for name, _ in names.values()]
    problems = [f"missing: {name}" for name in theirs if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in theirs]
    if problems:
        raise StateError(
            f"the PyTorch state is not of a model built like this {type(model).__name__}:\n  " + "\n  ".join(problems)
        )
    return {ours: _array(state[name], name, turned=turned) for ours, (name, turned) in names.items()}


def _array(value: Any, name: str, *, turned: bool) -> Any:
    try:
        array = value.data if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, RuntimeError) as error:
        raise DTypeError(f"{name} is no array: {error}; in PyTorch write t.detach().cpu().float()") from None
    return (array.T if turned else array).copy()


def _names(model: Module) -> dict[str, tuple[str, bool]]:
    """For each name here PyTorch's, and whether the array is transposed there."""
    if not isinstance(model, Module):
        raise DTypeError(f"weights are exchanged with a Module, got a {type(model).__name__}")
    modules = dict(model.named_modules())
    names = {}
    for name, tensor in model.named_tensors():
        owner, place, kept = model, "", []
        for part in name.split("."):
            if not (part == "layers" and isinstance(owner, Sequential)):
                kept.append(part)
            place = f"{place}.{part}" if place else part
            owner = modules.get(place, owner)
        names[name] = ".".join(kept), isinstance(owner, Linear) and tensor is owner.weight
    return names
