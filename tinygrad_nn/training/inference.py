"""Evaluate and predict: a model at work on batches, in evaluation mode and with nothing recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_nn.engine import no_grad
from tinygrad_nn.errors import ArgumentError, ShapeError
from tinygrad_nn.nn import Module
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.training.feeding import Source, from_arrays, from_batches, is_arrays, pairs
from tinygrad_nn.training.steps import Metrics, as_arrays, check_loss, check_module, measure, named_metrics, number

__all__ = ["evaluate", "figures", "mode", "predict"]


@contextlib.contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Switch a model and all inside it to training or evaluation, and each module back at the end."""
    found = [(module, vars(module).get("training")) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, was in found:
            if was is not None:
                module.training = was
            elif "training" in vars(module):  # nobody had set it: a compiled step sees no change
                del module.training


def evaluate(
    model: Module,
    inputs: Any,
    targets: Any = None,
    *,
    loss: Callable[..., Any] | None = None,
    metrics: Metrics = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """Return the loss and the metrics of a model, in evaluation mode, with nothing recorded.

    Parameters
    ----------
    model : Module
        Every module inside is put back into its mode at the end, also after an error.
    inputs, targets, batch_size : as in `fit`
    loss : function or loss Module, optional
        ``loss(prediction, target)``; the mean over batches, weighted by their sizes.
    metrics : dict or list of functions, optional
        ``metric(prediction, target)`` gives a number; called once, with the arrays of all samples.

    Raises
    ------
    ArgumentError
        If neither a loss nor metrics are given; others as `fit` does.

    Examples
    --------
    >>> from tinygrad_nn import functional, metrics, nn
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    >>> figures = evaluate(nn.ReLU(), x, np.array([0, 0, 0]), loss=functional.cross_entropy, metrics=metrics.accuracy)
    >>> {name: round(value, 4) for name, value in figures.items()}
    {'loss': 0.6466, 'accuracy': 0.6667}
    """
    check_module(model)
    named = named_metrics(metrics)
    if loss is None and not named:
        raise ArgumentError("evaluate needs loss= or metrics=: for predictions alone there is predict")
    if loss is not None:
        check_loss(loss)
    return figures(model, pairs(inputs, targets, batch_size), loss, named)


def figures(
    model: Module, source: Source, loss: Callable[..., Any] | None, metrics: Mapping[str, Callable[..., Any]]
) -> dict[str, float]:
    """Evaluate a model on the batches of a source."""
    total, count = 0.0, 0
    predictions, targets = [], []
    with no_grad(), mode(model, training=False):
        for batch in source.epoch(0):
            prediction = model(*batch.inputs)
            value = None if loss is None else loss(prediction, batch.target)
            value, *found = as_arrays((value, prediction, batch.target) if metrics else (value,))
            if loss is not None:
                total += number("the loss", value) * batch.size
                count += batch.size
            if metrics:
                predictions.append(found[0])
                targets.append(found[1])
    found = {} if loss is None else {"loss": total / count}
    if metrics:
        found |= measure(metrics, joined(predictions), joined(targets))
    return found


def joined(parts: list[Any]) -> Any:
    """Join arrays, or equal nests of them, along their first axis."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        inner = [joined(list(column)) for column in zip(*parts, strict=True)]
        return type(first)(*inner) if hasattr(first, "_fields") else type(first)(inner)
    shapes = {np.shape(part)[1:] for part in parts}
    if len(shapes) > 1 or any(np.ndim(part) == 0 for part in parts):
        raise ShapeError(
            f"batches are joined along their first axis, which those of shapes {[np.shape(p) for p in parts[:3]]} do "
            f"not allow: evaluate or predict them one by one"
        )
    return np.concatenate(parts)


def predict(model: Module, inputs: Any, *, batch_size: int | None = None) -> Any:
    """Return what a model gives for inputs, as an array, in evaluation mode and with nothing recorded.

    Parameters
    ----------
    model : Module
        Every module inside is put back into its mode at the end, also after an error.
    inputs : array, tuple of arrays, or iterable of batches
        A tuple is several inputs: ``model(*inputs)``.  An iterable (not a list, which is an array's rows) gives
        batches of inputs without targets.
    batch_size : int, optional
        For arrays; 32 by default.

    Raises
    ------
    ShapeError
        If the model does not give as many rows as there are samples, or inputs are empty.

    Examples
    --------
    >>> from tinygrad_nn import nn
    >>> predict(nn.ReLU(), [[1.0, -1.0], [-2.0, 2.0]])
    array([[1., 0.],
           [0., 2.]])
    """
    check_module(model)
    if is_arrays(inputs):
        source = from_arrays(inputs, None, batch_size)
    else:
        source = from_batches(inputs, batch_size, paired=False)
    found = []
    with no_grad(), mode(model, training=False):
        for batch in source.epoch(0):
            prediction = model(*batch.inputs)
            if isinstance(prediction, (Tensor, np.ndarray)) and prediction.shape[:1] != (batch.size,):
                raise ShapeError(
                    f"for {batch.size} samples the model gave shape {prediction.shape}: predict joins batches along "
                    f"the first axis; for a result over all samples call the model itself under tn.no_grad()"
                )
            found.append(as_arrays(prediction))
    return joined(found)
