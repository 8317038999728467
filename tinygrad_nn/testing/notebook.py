"""Layers in the notebook style: where their parameters are, and where backward leaves the gradients."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing.nested import as_outputs, leaves, rebuild
from tinygrad_nn.testing.oracles import quiet

__all__ = ["RATE", "Chain", "Layout", "call_backward", "copied", "discover", "fetch", "flat", "store"]
__tracebackhide__ = True  # pytest shows the lines of the caller

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
VALUES = ("value", "values", "data", "array", "val", "weight", "param")  # what holds the numbers of a parameter object
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
    alone : the backward of a loss of several inputs returns one array, the gradient of the first
    skipped : arrays without a gradient
    """

    parameters: dict[str, Path] = field(default_factory=dict)
    gradients: dict[str, Path | None] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    rate: str = ""
    silent: bool = False
    alone: bool = False
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


def held(value: Any) -> dict[str, Any]:
    """The attributes of an object: its own, those in slots, and arrays that its class holds."""
    found: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__):
        found |= {n: v for n, v in vars(kind).items() if isinstance(v, np.ndarray)}
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return found | dict(getattr(value, "__dict__", {}))


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
            items = held(value).items()
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
    keys = list(holder) if isinstance(holder, dict) else list(held(holder))
    return [key for name in names for key in keys if isinstance(key, str) and key.lower() == name.lower()]


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
    """Run a backward pass with another learning rate, where it has one; that of a loss may take no upstream."""
    method = getattr(layer, backward)
    if not _takes_upstream(method):
        return _scaled(method(), v)
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


def _takes_upstream(method: Any) -> bool:
    try:
        return bool(inspect.signature(method).parameters)
    except (TypeError, ValueError):
        return True


def _scaled(result: Any, v: Any) -> Any:
    """The gradients of a single number, times its upstream gradient."""
    if np.size(v) != 1 or isinstance(v, (tuple, list, dict)):
        raise ArgumentError("backward takes no upstream gradient, which only the backward of a single number can do")
    if isinstance(result, (tuple, list)):
        return [None if g is None else np.asarray(g) * np.reshape(v, ()) for g in result]
    return None if result is None else np.asarray(result) * np.reshape(v, ())


def flat(result: Any, title: str) -> list[tuple[str, Any]]:
    """What a backward pass returns, flattened: first the gradients of the inputs; each with its key in a dict."""
    if isinstance(result, dict):
        raise ArgumentError(
            f"{title} returns a dict with {', '.join(map(repr, result))}: return the input's gradient, or a tuple of "
            f"those of the inputs and then those of the parameters"
        )
    return list(leaves(result, "")) if isinstance(result, (tuple, list)) else [("", result)]


def copied(layer: Any) -> Any:
    """A copy of a layer."""
    try:
        return copy.deepcopy(layer)
    except Exception as error:
        text = f"{type(layer).__name__} cannot be copied ({error}), and the check must not change it"
        raise ArgumentError(f"{text}: give it __deepcopy__, or leave out what cannot be copied") from error


def discover(layer: Any, inputs: Sequence[Any], forward: str, backward: str, names: Mapping[str, str] | None) -> Layout:
    """Run a copy of the layer once, and see where its parameters and their gradients are."""
    where = f"{type(layer).__name__}.{backward}"
    found = Layout(rate=rate_of(layer, backward))
    ours = copied(layer)
    before = {path: array.copy() for path, array in arrays_in(ours)}
    with quiet():
        y = copy.deepcopy(getattr(ours, forward)(*copy.deepcopy(list(inputs))))
        rng = np.random.default_rng(0)
        vs = [rng.standard_normal(out.shape) for out in as_outputs(y)]
        result = call_backward(ours, backward, rebuild(y, iter(vs)), found.rate, RATE)
    count = len(list(leaves(list(inputs), "")))
    returned = flat(result, where)
    found.silent = result is None
    found.alone = (
        sum(v.size for v in vs) == 1 and count > 1 and result is not None and not isinstance(result, (tuple, list))
    )
    if names is not None:
        for name, gradient in names.items():
            if not isinstance(fetch(layer, split(name)), np.ndarray):
                raise ArgumentError(f"parameters= names {name!r}, which is no array of {type(layer).__name__}")
            if fetch(ours, split(gradient)) is None:
                raise ArgumentError(f"parameters= says that {where} leaves the gradient of {name!r} in {gradient!r}, "
                                    f"where there is nothing afterwards")  # fmt: skip
            found.parameters[name], found.gradients[name] = split(name), split(gradient)
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
    rest = [p for p in rest if p not in changed]
    for key, g in returned[count:]:
        fitting = [p for p in rest if np.shape(g) == before[p].shape]
        if not fitting:
            raise ArgumentError(
                f"{where} returns {len(returned)} gradients for {count} inputs, and no array of the layer has the "
                f"shape {np.shape(g)} of another one: name them, parameters={{'W': 'dW'}}"
            )
        match = next((p for p in fitting if _word(p) in key.lower()), fitting[0])
        rest.remove(match)
        found.returned.append(title(match))
    for path, left in _left_over(layer, ours, inputs, forward, backward, found, rest, vs).items():
        found.parameters[title(path)], found.gradients[title(path)] = path, left
        rest.remove(path)
    for path in known:
        if title(path) in (*found.updated, *found.returned):
            found.parameters[title(path)], found.gradients[title(path)] = path, None
    order = [title(p) for p in known]
    found.parameters = dict(sorted(found.parameters.items(), key=lambda item: order.index(item[0])))
    found.gradients = {name: found.gradients[name] for name in found.parameters}
    found.skipped = [f"{title(p)} has no gradient" for p in rest]
    return found


def _word(path: Path) -> str:
    """The name of a parameter as it may stand in the name of its gradient."""
    names = [step for step in path if isinstance(step, str)]
    name = next((n for n in reversed(names) if n not in VALUES), names[-1])
    return name.strip("_").lower()


def _left_over(
    layer: Any, ours: Any, inputs: Sequence[Any], forward: str, backward: str, found: Layout, rest: list[Path], vs: Any
) -> dict[Path, Path]:
    """For parameters without a gradient so far: arrays of their shape that follow the upstream gradient."""
    if not rest:
        return {}
    twice = copied(layer)
    with quiet():
        y = getattr(twice, forward)(*copy.deepcopy(list(inputs)))
        call_backward(twice, backward, rebuild(y, iter([2 * v for v in vs])), found.rate, RATE)
    taken = [*found.gradients.values(), *found.parameters.values(), *rest]
    following = [
        path
        for path, array in arrays_in(ours)
        if path not in taken and np.any(array) and np.shape(fetch(twice, path)) == array.shape
        and np.allclose(fetch(twice, path), 2 * array, rtol=1e-6, equal_nan=True)
    ]  # fmt: skip
    matched: dict[Path, Path] = {}
    for path in rest:
        shape = fetch(layer, path).shape
        fitting = [p for p in following if fetch(ours, p).shape == shape and p not in matched.values()]
        beside = [p for p in fitting if len(path) > 1 and path[-1] in VALUES and p[:-1] == path[:-1]]
        named = [p for p in fitting if _word(path).removesuffix("s") in str(p[-1]).lower()]
        if len(beside or named) == 1:
            matched[path] = (beside or named)[0]
        elif fitting:
            odd = ", ".join(".".join(map(str, p)) for p in fitting)
            name = ".".join(map(str, path))
            raise ArgumentError(
                f"which array has the gradient of {name}? {backward} leaves {odd} of its shape: name them all, "
                f"parameters={{{name!r}: {odd.split(', ')[0]!r}, ...}}"
            )
    return matched


def split(name: str) -> Path:
    """A name such as ``"layers.0.W"`` as a path."""
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def _matters(layer: Any, inputs: Sequence[Any], forward: str, path: Path, y: Any) -> bool:
    """Whether the output depends on an array, which tells parameters from what a forward keeps."""
    ours = copied(layer)
    value = fetch(ours, path)
    store(ours, path, value * 1.25 + 0.1)
    try:
        with quiet():
            other = getattr(ours, forward)(*copy.deepcopy(list(inputs)))
    except Exception:  # noqa: BLE001 - it matters, then
        return True
    return not np.array_equal(other, y, equal_nan=True)
