"""How well a classifier does, on NumPy arrays: accuracy, confusion matrix, classification report.

Targets come first and predictions second, as in scikit-learn.  Each may be class indices (n,), integers or
bools, or one-hot rows or scores (n, k), of which the largest entry counts (the first of equal ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from tinygrad_nn.checks import fetched, whole
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["Averages", "ClassificationReport", "accuracy", "classification_report", "confusion_matrix"]

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array: TypeAlias = NDArray[Any]
    Values: TypeAlias = ArrayLike | "_HasNumpy"


_MOST_CLASSES = 1 << 20  # more are a mistake in the labels, and a matrix of them would not fit into memory


class _HasNumpy(Protocol):
    def numpy(self) -> Array: ...


def _as_classes(values: Any, name: str) -> tuple[Array, int | None]:
    """Return class indices (n,), and the number of classes where columns show it."""
    # A Tensor leaves the graph by numpy() only: np.asarray of one is an error.
    if isinstance(values, np.ma.MaskedArray):
        raise DTypeError(f"{name} is a masked array, whose mask would be lost: pass the entries that count")
    if isinstance(values, np.matrix):
        raise DTypeError(f"{name} is a matrix, whose rules would be lost: pass np.asarray(...) of it")
    try:
        array = fetched(values.numpy() if hasattr(values, "numpy") else values)
    except ValueError as error:
        raise ShapeError(f"{name} must be a regular array: {error}") from None
    if array.ndim not in (1, 2) or array.shape[1:] == (1,):
        raise ShapeError(
            f"{name} of shape {array.shape} must be class indices (n,) or scores (n, k) with k >= 2; "
            f"for one score a sample write {name}.ravel() > threshold"
        )
    if array.size == 0:
        raise ShapeError(f"{name} is empty (shape {array.shape}); at least one sample is needed")
    if array.ndim == 1:
        if array.dtype.kind not in "biu":
            raise DTypeError(
                f"{name} of shape {array.shape} must be class indices, integers and not {array.dtype}; write "
                f"{name} > threshold for scores of two classes, {name}.astype(int) for whole numbers"
            )
        if array.min() < 0:
            raise ArgumentError(f"{name} holds the class index {array.min()}; indices start at 0")
        return array.astype(np.intp), None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{name} of shape {array.shape} must be real scores, got dtype {array.dtype}")
    if np.isnan(array).any():
        row = int(np.argwhere(np.isnan(array))[0, 0])
        raise ArgumentError(f"{name} holds NaN in row {row}: {array[row]}; it has no largest score")
    return array.argmax(axis=1), array.shape[1]


def _paired(targets: Any, predictions: Any, num_classes: int | None = None) -> tuple[Array, Array, int]:
    num_classes = None if num_classes is None else whole("num_classes", num_classes, most=_MOST_CLASSES)
    true, columns = _as_classes(targets, "targets")
    predicted, columns_too = _as_classes(predictions, "predictions")
    if len(true) != len(predicted):
        raise ShapeError(f"{len(true)} targets, but {len(predicted)} predictions; give one of each a sample")
    counts = {n for n in (columns, columns_too, num_classes) if n is not None}
    if len(counts) > 1:
        raise ShapeError(
            f"targets have {columns} columns, predictions {columns_too}, and num_classes, or the names, are "
            f"{num_classes}: the numbers of classes must agree"
        )
    largest = int(max(true.max(), predicted.max()))
    count = counts.pop() if counts else largest + 1
    if count > _MOST_CLASSES:
        raise ArgumentError(f"class index {largest} asks for {count} classes, at most {_MOST_CLASSES} are counted")
    if largest >= count:
        raise ArgumentError(f"class index {largest} does not fit {count} classes, which end at {count - 1}")
    return true, predicted, count


def accuracy(targets: Values, predictions: Values) -> float:
    """Return the share of samples whose predicted class is the target: ``mean(targets == predictions)``.

    Indices (n,) or one-hot rows or scores (n, k) each, arrays or Tensors.
    ShapeError for empty values, different lengths or columns, and (n, 1); DTypeError for other kinds;
    ArgumentError for NaN scores, negative indices, and indices beyond the columns of the other.

    >>> import tinygrad_nn as tn
    >>> tn.metrics.accuracy([0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    0.75
    """
    true, predicted, _ = _paired(targets, predictions)
    return float(np.mean(true == predicted))


def confusion_matrix(targets: Values, predictions: Values, num_classes: int | None = None) -> NDArray[np.int64]:
    """Count the samples of each target class (rows) by their predicted class (columns).

    ``C[i, j] = sum((targets == i) & (predictions == j))``, int64 (num_classes, num_classes).  Without
    ``num_classes`` the columns of the scores decide, else the largest index.  Arguments and errors are those
    of `accuracy`.

    >>> import tinygrad_nn as tn
    >>> tn.metrics.confusion_matrix([0, 1, 1, 2], [0, 1, 0, 2])
    array([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    """
    true, predicted, count = _paired(targets, predictions, num_classes)
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, (true, predicted), 1)
    return matrix


class Averages(NamedTuple):
    """Precision, recall and F1 of all classes together."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationReport:
    """The figures of `classification_report`: ``str(report)`` is the table, ``to_dict()`` plain numbers.

    ``precision``, ``recall``, ``f1`` (float64) and ``support`` (int64, the number of targets) have one entry
    a class, in the order of ``names``; ``macro_average`` counts every class alike, ``weighted_average`` by
    its support.

    >>> import tinygrad_nn as tn
    >>> report = tn.metrics.classification_report([0, 1, 1], [0, 1, 0])
    >>> report.recall, report.macro_average.recall
    (array([1. , 0.5]), 0.75)
    """

    names: tuple[str, ...]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    accuracy: float
    macro_average: Averages
    weighted_average: Averages

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as Python numbers, with the keys of scikit-learn's ``output_dict``.

        >>> import tinygrad_nn as tn
        >>> tn.metrics.classification_report([0, 1], [0, 1]).to_dict()["1"]
        {'precision': 1.0, 'recall': 1.0, 'f1-score': 1.0, 'support': 1}
        """
        keys = ("precision", "recall", "f1-score", "support")
        rows = {name: dict(zip(keys, row, strict=True)) for name, row in self._rows()}
        averages = {name: dict(zip(keys, row, strict=True)) for name, row in self._averages()}
        return {**rows, "accuracy": self.accuracy, **averages}

    def _rows(self) -> list[tuple[str, tuple[Any, ...]]]:
        columns = (a.tolist() for a in (self.precision, self.recall, self.f1, self.support))
        return list(zip(self.names, zip(*columns, strict=True), strict=True))

    def _averages(self) -> list[tuple[str, tuple[Any, ...]]]:
        n = int(self.support.sum())
        return [("macro avg", (*self.macro_average, n)), ("weighted avg", (*self.weighted_average, n))]

    def __str__(self) -> str:
        width = max(map(len, (*self.names, "weighted avg")))

        def line(name: str, *cells: object) -> str:
            texts = (f"{cell:.2f}" if isinstance(cell, float) else f"{cell}" for cell in cells)
            return f"{name:>{width}} " + "".join(f"{text:>10}" for text in texts)

        head = line("", "precision", "recall", "f1-score", "support")
        rows = [line(name, *row) for name, row in self._rows()]
        total = line("accuracy", "", "", self.accuracy, self.support.sum())
        averages = [line(name, *row) for name, row in self._averages()]
        return "\n".join([head, "", *rows, "", total, *averages])

    __repr__ = __str__


def classification_report(
    targets: Values,
    predictions: Values,
    names: Sequence[str] | None = None,
    num_classes: int | None = None,
) -> ClassificationReport:
    """Return precision, recall, F1 and support of each class, the accuracy and the averages.

    For a class with TP right predictions: ``precision = TP / predicted``, ``recall = TP / support``,
    ``f1 = 2 TP / (predicted + support)``, and 0 where that divides by 0.  Every class from 0 to
    ``num_classes - 1`` has its row and counts in the macro average, also one that never occurs.  ``names``
    are the classes' names in the table, one for each; without it they are numbers.  Arguments and errors are
    those of `confusion_matrix`; also ArgumentError for names that repeat, or that other rows have.

    >>> import tinygrad_nn as tn
    >>> print(tn.metrics.classification_report([0, 1, 1, 1], [0, 1, 1, 0], names=["cat", "dog"]))
                  precision    recall  f1-score   support
    <BLANKLINE>
             cat       0.50      1.00      0.67         1
             dog       1.00      0.67      0.80         3
    <BLANKLINE>
        accuracy                           0.75         4
       macro avg       0.75      0.83      0.73         4
    weighted avg       0.88      0.75      0.77         4
    """
    if names is not None and (isinstance(names, (str, bytes)) or not isinstance(names, (Sequence, np.ndarray))):
        raise DTypeError(f"names is a list of texts, one for each class; got a {type(names).__name__}")
    names = names if names is None or isinstance(names, Sequence) else list(np.atleast_1d(names))
    wanted = len(names) if names is not None and num_classes is None else num_classes
    true, predicted, count = _paired(targets, predictions, wanted)
    titles = tuple(str(name) for name in (range(count) if names is None else names))
    if len(titles) != count:
        raise ArgumentError(f"{len(titles)} names for {count} classes; give one name for each class")
    if len({"accuracy", "macro avg", "weighted avg", *titles}) != count + 3:
        raise ArgumentError(f"names={titles} must differ from each other and from the table's own rows")
    support, guesses, hits = (
        np.bincount(classes, minlength=count) for classes in (true, predicted, true[true == predicted])
    )
    # Hits are 0 wherever a denominator is, so that dividing by 1 there gives the 0 of the docstring.
    precision, recall = hits / np.maximum(guesses, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(guesses + support, 1)
    figures = (precision, recall, f1)
    macro = Averages(*(float(figure.mean()) for figure in figures))
    weighted = Averages(*(float(figure @ support / len(true)) for figure in figures))
    for array in (*figures, support):
        array.setflags(write=False)
    share = float(hits.sum() / len(true))
    return ClassificationReport(titles, precision, recall, f1, support, share, macro, weighted)
