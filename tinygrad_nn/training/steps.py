"""Steps: the loss of a batch and its gradients, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tinygrad_nn.checks import item_of, listed
from tinygrad_nn.compiler import Compiled, compile  # noqa: A004 - its name
from tinygrad_nn.compiler.snapshot import Snapshot
from tinygrad_nn.compiler.world import World
from tinygrad_nn.conversion import computed, wait
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.training.feeding import Batch, nested

__all__ = [
    "Metrics",
    "Step",
    "as_arrays",
    "check_loss",
    "check_module",
    "measure",
    "named_metrics",
    "number",
    "rehearse",
]

Metrics: TypeAlias = Mapping[str, Callable[..., Any]] | Iterable[Callable[..., Any]] | None

PAYS_AFTER = 128
"""Recording is paid back by about so many compiled steps, of small and large networks alike; a shape that has come
as often as that may well come as often again."""
RECORDINGS = 3
"""A shape that has to be recorded more often, since what the loss reads keeps changing, does not pay."""


class Step:
    """One step: the loss of a batch, its gradients, and the prediction.

    With ``compiling="auto"`` the first epoch is eager, so that every check of the model and the loss sees
    every sample; after it, shapes that came `PAYS_AFTER` times are compiled, as long as that works.  Batches that
    may differ from epoch to epoch are not compiled, for a program checks nothing.  Which steps are compiled hangs
    on the batches alone, never on the clock.

    Attributes
    ----------
    seen : how often each shape came, which decides
    eager : whether compiling was given up
    compiled : how many steps were compiled
    """

    def __init__(self, model: Module, loss: Callable[..., Any], compiling: bool | str) -> None:
        self.compiling = compiling
        self._programs: dict[Any, Compiled] = {}
        self.seen: dict[Any, int] = {}
        self.eager = not compiling
        self.compiled = 0

        def forward(inputs: tuple[Any, ...], target: Any) -> tuple[Any, Any]:
            prediction = model(*inputs)
            return loss(prediction, target), prediction

        self.computed = forward

    def __call__(self, batch: Batch, epoch: int, *, measured: bool) -> tuple[float, Any, Any]:
        """Add the gradients up, and return the loss, and the prediction and the target for what is `measured`."""
        if not self.eager and (program := self._program(batch, epoch)) is not None:
            try:
                value, prediction = program(batch.inputs, batch.target)
            except Exception:
                if self.compiling is True:
                    raise
                self.eager = True  # the eager step says what is wrong with the batch, or does without
            else:
                self.compiled += 1
                self.eager = self.compiling == "auto" and program.recordings > RECORDINGS
                return value.item(), prediction, batch.target
        value, prediction = self.computed(batch.inputs, batch.target)
        _check_loss(value)
        found = nested((prediction, batch.target), _awaited) if measured else (None, None)
        value.backward()
        return value.item(), *found

    def _program(self, batch: Batch, epoch: int) -> Compiled | None:
        shape = repr(nested((batch.inputs, batch.target), lambda a: getattr(a, "shape", None)))
        if self.compiling == "auto":
            count = self.seen[shape] = self.seen.get(shape, 0) + 1
            if epoch == 0 or count <= PAYS_AFTER:
                return None
        if shape not in self._programs:
            self._programs[shape] = compile(self.computed)
        return self._programs[shape]


def rehearse(step: Step, batch: Batch, metrics: Mapping[str, Callable[..., Any]]) -> None:
    """Compute a batch's loss and metrics once and put everything back, so that what is wrong is said first."""
    world = World(("computed", step.computed), ("metrics", dict(metrics)))
    with Snapshot(world, lambda array: array, advance=False):
        value, prediction = step.computed(batch.inputs, batch.target)
        _check_loss(value)
        measure(metrics, prediction, batch.target)


def _awaited(part: Any) -> Any:
    """Part of a prediction or target; what is yet to be computed, of Dask, is so in the run of the backward."""
    if isinstance(part, Tensor):
        return wait(part.detach())
    return wait(Tensor(part)) if hasattr(part, "__dask_graph__") else part


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor):
        raise DTypeError(
            f"the loss gave a {type(value).__name__}, which has no gradient: compute it from the prediction with NumPy "
            f"functions, and leave .item(), .numpy() and float() out of it"
        )
    if value.size != 1:
        raise ShapeError(
            f"a loss is one number, this one has shape {value.shape}: take its mean, for instance "
            f"lambda prediction, target: loss(prediction, target).mean(), or reduction='mean'"
        )
    if not value.requires_grad:
        raise GraphError(
            "the loss depends on no parameter that requires a gradient: is the model frozen, or the prediction "
            "detached on the way?"
        )


def check_module(model: Any) -> None:
    """Raise DTypeError unless this is a Module."""
    if not isinstance(model, Module):
        raise DTypeError(
            f"a model is a Module, got {type(model).__name__}: write a class with forward(self, x), or "
            f"tn.nn.Sequential(...)"
        )


def check_loss(loss: Any) -> None:
    """Raise DTypeError unless this can be called as a loss."""
    if not callable(loss) or isinstance(loss, type):
        raise DTypeError(f"loss is a function loss(prediction, target) or a loss Module, got {loss!r}")


# Metrics


def named_metrics(metrics: Metrics) -> dict[str, Callable[..., Any]]:
    """Name metrics by ``__name__``, unless they are a dict."""
    if metrics is None:
        return {}
    if callable(metrics):
        metrics = [metrics]
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    else:
        pairs = [
            (getattr(metric, "__name__", "<unnamed>"), metric)
            for metric in listed("metrics", metrics, "[tn.metrics.accuracy]")
        ]
    for name, metric in pairs:
        if not callable(metric):
            raise DTypeError(f"a metric is a function metric(prediction, target), {name!r} is {metric!r}")
        if not isinstance(name, str) or name.startswith("<"):
            raise ArgumentError(f"metrics={{'my_name': function}} names a metric, since {metric!r} has no name itself")
        if name in ("loss", "lr", "seconds", "epoch") or name.startswith(("val_", "lr_")):
            raise ArgumentError(f"the name {name!r} of a metric is one of the history's own: take another")
    if len({name for name, _ in pairs}) < len(pairs):
        raise ArgumentError(f"metrics have the names {[name for name, _ in pairs]}: give each its own, by a dict")
    return dict(pairs)


def as_arrays(item: Any) -> Any:
    """Give the arrays inside nested Tensors; what is yet to be computed, of Dask, is computed in one run."""
    return computed(nested(item, lambda part: part.numpy() if isinstance(part, Tensor) else part))


def measure(metrics: Mapping[str, Callable[..., Any]], prediction: Any, target: Any) -> dict[str, float]:
    """Compute metrics of a prediction, as numbers by name."""
    if not metrics:
        return {}
    prediction, target = as_arrays((prediction, target))
    return {name: number(name, metric(prediction, target)) for name, metric in metrics.items()}


def number(name: str, value: Any) -> float:
    """Return a metric's result as a Python number."""
    if isinstance(value, Tensor):
        value = value.numpy()
    if hasattr(value, "__array_function__") and value.size == 1:
        value = item_of(value)
    if isinstance(value, (int, float, np.ndarray, np.generic)) and np.size(value) == 1 and np.isrealobj(value):
        return float(np.asarray(value).item())
    what = f"an array of shape {np.shape(value)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    raise DTypeError(f"a metric gives one number, {name} gave {what}")
