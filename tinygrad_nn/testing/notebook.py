"""Layers in the notebook style: where their parameters are, and where backward leaves the gradients."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing.nested import leaves
from tinygrad_nn.testing.oracles import quiet

__all__ = ["RATE", "Chain", "Layout", "call_backward", "discover", "fetch", "store"]

Path = tuple[Any, ...]

PATTERNS = (
    "d{}",
    "d_{}",
    "grad_{}",
    "{}_grad",
    "{}_gradient",
    "gradient_{}",
    "g{}",
    "grad{}",
    "delta_{}",
    "d{}s",
    "{}",
)
BOXES = ("grads", "gradients", "grad", "dparams", "gradient", "deltas")
RATES = ("lr", "learning_rate", "eta", "alpha", "rate", "step_size")
RATE = 2.0**20  # (before - after) / RATE has the gradient to the last digit
MOST_DEPTH = 4


class Chain:
    """A list of layers as one layer."""

    def __init__(self, layers: Sequence[Any], forward: str, backward: str) -> None:
        self.layers = list(layers)
        self._names = forward, backward

    def forward(self, x: Any, *rest: Any) -> Any:
        """Run the layers in order; further arguments go to those that take them."""
        for layer in self.layers:
            method = getattr(layer, self._names[0])
            count = len(inspect.signature(method).parameters)
            x = method(x, *rest[: max(count - 1, 0)])
        return x

    def backward(self, g: Any, *rest: Any) -> Any:
        """Run the backward passes in reverse."""
        for layer in reversed(self.layers):
            method = getattr(layer, self._names[1])
            g = method(g, *rest[: len(inspect.signature(method).parameters) - 1])
        return g


@dataclass
class Layout:
    """What a layer's backward pass does with its results.

    Attributes
    ----------
    parameters : where the parameters are, by name
    gradients : for each of them, where backward leaves its gradient; None where backward returns it or updates
    returned : the parameters whose gradients come with the tuple that backward returns, after those of the inputs
    updated : the parameters that backward itself updates, by the learning rate
    moved : the parameters that backward changes without one
    rate : the name of the learning rate, an argument of backward or an attribute
    silent : backward returns nothing, so that no gradient of an input can be checked
    skipped : arrays without a gradient
    """

    parameters: dict[str, Path] = field(default_factory=dict)
    gradients: dict[str, Path | None] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    rate: str = ""
    silent: bool = False
    skipped: list[str] = field(default_factory=list)


def fetch(root: Any, path: Path) -> Any:
    """What stands at a path of attributes, keys and positions; None where there is nothing."""
    for step in path:
        if isinstance(root, (dict, list, tuple)):
            try:
                root = root[step]
            except (KeyError, IndexError, TypeError):
                return None
        else:
            root = getattr(root, step, None)
    return root


def store(root: Any, path: Path, value: Any) -> None:
    """Put a value at a path."""
    holder = fetch(root, path[:-1])
    if isinstance(holder, (dict, list)):
        holder[path[-1]] = value
    else:
        setattr(holder, path[-1], value)


def arrays_in(root: Any) -> Iterator[tuple[Path, Any]]:
    """Every floating array that a layer holds, in attributes, dicts, lists and layers inside, with its path."""
    seen: set[int] = set()

    def walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "f":
                yield path, value
            return
        if len(path) > MOST_DEPTH or id(value) in seen or isinstance(value, (str, bytes, type)) or callable(value):
            return
        seen.add(id(value))
        items: Any = value.items() if isinstance(value, dict) else ()
        if isinstance(value, (list, tuple)):
            items = enumerate(value)
        elif not isinstance(value, dict):
            items = getattr(value, "__dict__", {}).items()
        for key, item in list(items):
            yield from walk(item, (*path, key))

    yield from walk(root, ())


def title(path: Path) -> str:
    """How a path is written in code."""
    found = str(path[0])
    for step in path[1:]:
        found += f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]"
    return found


def partner(layer: Any, path: Path, before: Mapping[Path, Any]) -> Path | None:
    """Where backward left the gradient of the parameter at `path`: by its name, or in a dict or list of gradients."""
    holder, name = path[:-1], path[-1]
    boxes = [holder]
    if holder and isinstance(fetch(layer, holder), (dict, list, tuple)):
        boxes.append(holder[:-1])
    boxes += [(*box, extra) for box in list(boxes) for extra in _like(fetch(layer, box), BOXES)]
    for box in boxes:
        inside = fetch(layer, box)
        if isinstance(inside, (list, tuple)) and isinstance(name, int) and box != holder and name < len(inside):
            return (*box, name)
        if isinstance(name, int):  # a list weights = [W0, W1] has a list dweights
            continue
        for found in _like(inside, [p.format(name) for p in PATTERNS]):
            if (*box, found) != path and (*box, found) not in before:
                return (*box, found)
            value = fetch(layer, (*box, found))
            if (*box, found) != path and value is not None and np.shape(value) == np.shape(fetch(layer, path)):
                return (*box, found)
    if isinstance(name, int) and holder:
        other = partner(layer, holder, before) if isinstance(holder[-1], str) else None
        if other is not None and isinstance(fetch(layer, other), (list, tuple)):
            return (*other, name)
    return None


def _like(holder: Any, names: Sequence[str]) -> list[Any]:
    """The keys or attributes that are called like one of the names, whatever the case, in the order of the names."""
    held = list(holder) if isinstance(holder, dict) else list(getattr(holder, "__dict__", {}))
    return [key for name in names for key in held if isinstance(key, str) and key.lower() == name.lower()]


def rate_of(layer: Any, backward: str) -> str:
    """The name of the learning rate that backward takes or the layer holds; "" without."""
    try:
        parameters = list(inspect.signature(getattr(layer, backward)).parameters.values())
    except (TypeError, ValueError):
        return ""
    required = [
        p for p in parameters[1:] if p.default is p.empty and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}
    ]
    odd = [p.name for p in required if p.name not in RATES]
    if odd:
        raise ArgumentError(
            f"{type(layer).__name__}.{backward} takes {', '.join(odd)} beside the upstream gradient: check_backward "
            f"calls {backward}(upstream); keep what else it needs on the object, or check a rule with check_gradients"
        )
    return next((p.name for p in parameters[1:] if p.name in RATES), "") or next(
        (name for name in RATES if isinstance(getattr(layer, name, None), (int, float))), ""
    )


def call_backward(layer: Any, backward: str, v: Any, rate: str, value: float) -> Any:
    """Run a backward pass with another learning rate, where it has one."""
    method = getattr(layer, backward)
    if rate and rate in inspect.signature(method).parameters:
        return method(v, **{rate: value})
    if not rate:
        return method(v)
    kept = getattr(layer, rate)
    setattr(layer, rate, value)
    try:
        return method(v)
    finally:
        setattr(layer, rate, kept)


def discover(layer: Any, inputs: Sequence[Any], forward: str, backward: str, names: Mapping[str, str] | None) -> Layout:
    """Run a copy of the layer once, and see where its parameters and their gradients are."""
    found = Layout(rate=rate_of(layer, backward))
    ours = copy.deepcopy(layer)
    before = {path: array.copy() for path, array in arrays_in(ours)}
    with quiet():
        y = copy.deepcopy(getattr(ours, forward)(*copy.deepcopy(list(inputs))))
        v = np.random.default_rng(0).standard_normal(np.shape(y))
        result = call_backward(ours, backward, v, found.rate, RATE)
    if names is not None:
        for name, gradient in names.items():
            if not isinstance(fetch(layer, split(name)), np.ndarray):
                raise ArgumentError(f"parameters= names {name!r}, which is no array of {type(layer).__name__}")
            found.parameters[name], found.gradients[name] = split(name), split(gradient)
        found.silent = result is None
        return found
    known = [path for path in before if _matters(layer, inputs, forward, path, y)]
    for path in known:
        left = partner(ours, path, before)
        if left is not None:
            found.parameters[title(path)], found.gradients[title(path)] = path, left
    rest = [p for p in known if p not in found.parameters.values()]
    changed = [p for p in rest if not np.array_equal(before[p], fetch(ours, p), equal_nan=True)]
    found.updated = [title(p) for p in changed if found.rate]
    found.moved = [title(p) for p in changed if not found.rate]
    count = len(list(leaves(list(inputs), "")))
    rest = [p for p in rest if p not in changed]
    for g in list(result)[count:] if isinstance(result, (tuple, list)) else []:
        match = next((p for p in rest if np.shape(g) == before[p].shape), None)
        if match is None:
            raise ArgumentError(
                f"{type(layer).__name__}.{backward} returns {len(list(result))} gradients for {count} inputs, and no "
                f"array of the layer has the shape {np.shape(g)} of another one: name them, parameters={{'W': 'dW'}}"
            )
        rest.remove(match)
        found.returned.append(title(match))
    for path in known:
        if title(path) in (*found.updated, *found.returned):
            found.parameters[title(path)], found.gradients[title(path)] = path, None
    found.silent = result is None
    found.skipped = [f"{title(p)} has no gradient" for p in rest]
    return found


def split(name: str) -> Path:
    """A name such as ``"layers.0.W"`` as a path."""
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def _matters(layer: Any, inputs: Sequence[Any], forward: str, path: Path, y: Any) -> bool:
    """Whether the output depends on an array, which tells parameters from what a forward keeps."""
    ours = copy.deepcopy(layer)
    value = fetch(ours, path)
    store(ours, path, value * 1.25 + 0.1)
    try:
        with quiet():
            other = getattr(ours, forward)(*copy.deepcopy(list(inputs)))
    except Exception:  # noqa: BLE001 - it matters, then
        return True
    return not np.array_equal(other, y, equal_nan=True)
