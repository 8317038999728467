"""Where batches come from: arrays, an iterable of batches, or a function that gives one for each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinygrad_nn.data import batches
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.tensor import Tensor

__all__ = ["Batch", "Source", "from_arrays", "from_batches", "is_arrays", "nested", "pairs", "sources"]

BATCH_SIZE = 32
Generator: TypeAlias = "np.random.Generator"  # a name only: np.random is loaded by who uses it


class Batch(NamedTuple):
    """What a step takes: the arguments of the model, the target of the loss, and the number of samples."""

    inputs: tuple[Any, ...]
    target: Any
    size: int


class Source:
    """Batches, epoch after epoch.

    Attributes
    ----------
    count : the number of batches in an epoch, where it is known
    once : whether there is only one epoch in it
    fixed : whether every epoch has the same samples
    text : what it is, in words
    """

    def __init__(
        self,
        epoch: Callable[[int], Iterable[Batch]],
        count: int | None,
        text: str,
        *,
        once: bool = False,
        fixed: bool = False,
    ) -> None:
        self._epoch = epoch
        self.count = count
        self.text = text
        self.once = once
        self.fixed = fixed

    def epoch(self, number: int) -> Iterator[Batch]:
        """Iterate over the batches of an epoch; ShapeError if there is none."""
        empty = True
        for batch in self._epoch(number):
            empty = False
            yield batch
        if empty:
            raise ShapeError(f"epoch {number} has no batches: the iterable is empty, or was used up before")


def is_arrays(values: Any) -> bool:
    """Whether these are arrays of samples, and not an iterable of batches."""
    return isinstance(values, (list, tuple)) or hasattr(values, "__array__") or hasattr(values, "__array_function__")


def nested(item: Any, change: Callable[[Any], Any]) -> Any:
    """Change every leaf of nested tuples, lists and dicts."""
    if isinstance(item, tuple):
        parts = [nested(part, change) for part in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    if isinstance(item, list):
        return [nested(part, change) for part in item]
    if isinstance(item, dict):
        return {key: nested(part, change) for key, part in item.items()}
    return change(item)


def _plain(values: Any, name: str) -> Any:
    """An array of samples; a Tensor gives its data, unless a gradient would be lost."""
    if isinstance(values, Tensor):
        if values.requires_grad:
            raise DTypeError(f"{name} require a gradient, which batches would lose: pass {name}.detach()")
        return values.data
    if not is_arrays(values) and not isinstance(values, (int, float)):
        raise DTypeError(
            f"{name} are an array of samples, or a tuple of such arrays; got a {type(values).__name__}: several are "
            f"given as (first, second), and an iterable of batches, or a function that gives one, without targets"
        )
    return values


def _several(values: Any, name: str) -> tuple[Any, ...]:
    parts = values if isinstance(values, tuple) else (values,)
    return tuple(_plain(part, name) for part in parts)


def _length(values: Any) -> int:
    """How many samples there are, in an array or a list."""
    return int(values.shape[0]) if hasattr(values, "shape") else len(values)


def from_arrays(inputs: Any, targets: Any, batch_size: int | None, rng: Generator | None = None) -> Source:
    """Make batches of arrays; a tuple of arrays is several inputs, or several targets."""
    arrays = _several(inputs, "inputs")
    count = len(arrays)
    paired = targets is not None
    if paired:
        arrays += _several(targets, "targets")
    batch_size = BATCH_SIZE if batch_size is None else batch_size
    loader = batches(*arrays, batch_size=batch_size, rng=rng)
    text = f"{_length(arrays[0])} samples by {batch_size}, {'in order' if rng is None else 'shuffled'}"

    def epoch(_number: int) -> Iterator[Batch]:
        for found in loader:
            parts = found if isinstance(found, tuple) else (found,)
            given, rest = parts[:count], parts[count:]
            yield Batch(given, rest if isinstance(targets, tuple) else rest[0] if paired else None, parts[0].shape[0])

    return Source(epoch, len(loader), text, fixed=True)


def from_batches(given: Any, batch_size: int | None, rng: Generator | None = None, *, paired: bool = True) -> Source:
    """Take batches as an iterable, or a function of the epoch's number, gives them."""
    for name, value in (("batch_size", batch_size), ("rng", rng)):
        if value is not None:
            raise ArgumentError(
                f"{name} is for arrays; batches come from an iterable here, which makes and shuffles them itself, as "
                f"tn.data.batches(x, y, batch_size=32, rng=rng) does"
            )
    once = False
    if isinstance(given, Iterable) and getattr(given, "shape", None) != ():
        iterable = given
        once = iter(given) is given
        make: Callable[[int], Any] = lambda _number: iterable
    elif callable(given):
        make = given
    else:
        raise DTypeError(
            f"inputs are arrays (with targets), an iterable of batches, or a function that gives one for the number "
            f"of an epoch; got {type(given).__name__}"
        )

    def epoch(number: int) -> Iterator[Batch]:
        found = make(number)
        if not isinstance(found, Iterable):
            raise DTypeError(f"a function of the epoch gives an iterable of batches, this one a {type(found).__name__}")
        return (_batch(item, paired) for item in found)

    count = len(given) if hasattr(given, "__len__") and not once else None
    text = "batches" if count is None else f"{count} batches"
    return Source(epoch, count, text, once=once, fixed=isinstance(given, (list, tuple, batches)))


def _batch(item: Any, paired: bool) -> Batch:
    """Read one batch of an iterable."""
    target = None
    if paired:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            what = f"{len(item)} parts" if isinstance(item, (tuple, list)) else type(item).__name__
            raise ShapeError(f"a batch is a pair (inputs, target), with a tuple for several inputs; got {what}")
        item, target = item
        target = nested(target, _array) if isinstance(target, tuple) else _array(target)
    inputs = tuple(_array(part) for part in (item if isinstance(item, tuple) else (item,)))
    if not inputs:
        raise ShapeError("a batch has no inputs: it is an empty tuple")
    size = inputs[0].shape[0] if inputs[0].ndim else 1
    if not size:
        raise ShapeError(f"a batch has no samples: its inputs have shape {inputs[0].shape}")
    return Batch(inputs, target, size)


def _array(values: Any) -> Any:
    """A part of a batch, which a list or a number is too."""
    if hasattr(values, "shape") and hasattr(values, "ndim"):
        return values
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise DTypeError(f"a batch is made of arrays, a list is no regular one: {error}") from None
    if found.dtype == object:
        raise DTypeError(f"a batch is made of arrays, with a tuple for several; got a {type(values).__name__}")
    return found


def pairs(inputs: Any, targets: Any, batch_size: int | None, rng: Generator | None = None) -> Source:
    """Take inputs with their targets, as arrays or as batches."""
    if targets is not None:
        return from_arrays(inputs, targets, batch_size, rng)
    if isinstance(inputs, tuple) or hasattr(inputs, "__array__"):
        raise ArgumentError("inputs are arrays, so targets are needed as well: fit(model, inputs, targets, ...)")
    return from_batches(inputs, batch_size, rng)


def sources(
    inputs: Any, targets: Any, batch_size: int | None, rng: Generator | None, validation: Any
) -> tuple[Source, Source | None]:
    """Sort out what `fit` is given: the batches to train on, and those to validate on."""
    arrays = targets is not None
    if isinstance(validation, (float, int, np.floating)):
        if not arrays:
            raise ArgumentError("validation as a fraction splits arrays; here batches are given: give a pair of arrays")
        (inputs, targets), validation = _split(inputs, targets, float(validation))
    training = pairs(inputs, targets, batch_size, rng)
    return training, None if validation is None else _validation(validation, batch_size)


def _validation(validation: Any, batch_size: int | None) -> Source:
    """Make the batches to validate on, of a pair of arrays or an iterable of batches."""
    if isinstance(validation, tuple):
        if len(validation) != 2:
            raise ArgumentError(f"validation is a pair (inputs, targets), got a tuple of {len(validation)}")
        return from_arrays(*validation, batch_size)
    source = from_batches(validation, None)
    if source.once:
        raise ArgumentError("validation is an iterator, which ends after one epoch: give a list of its batches")
    return source


def _split(inputs: Any, targets: Any, fraction: float) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Split a fraction of the samples off the end, before anything is shuffled."""
    n = from_arrays(inputs, targets, 1).count or 0  # which also checks the lengths
    held = round(n * fraction) if 0 < fraction < 1 else 0
    if not 0 < held < n:
        raise ArgumentError(f"validation={fraction} of {n} samples leaves none on one side; give 0 < fraction < 1")

    def part(values: Any, name: str, side: slice) -> Any:
        arrays = (a if hasattr(a, "__array_function__") else np.asarray(a) for a in _several(values, name))
        cut = tuple(array[side] for array in arrays)
        return cut if isinstance(values, tuple) else cut[0]

    front, back = slice(None, n - held), slice(n - held, None)
    return (
        (part(inputs, "inputs", front), part(targets, "targets", front)),
        (part(inputs, "inputs", back), part(targets, "targets", back)),
    )
