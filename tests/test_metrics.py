"""Accuracy, confusion matrix and classification report."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_nn import metrics
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

quick = settings(deadline=None, max_examples=150)
FUNCTIONS = (metrics.accuracy, metrics.confusion_matrix, metrics.classification_report)


@st.composite
def labelled(draw):
    count = draw(st.integers(2, 6))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), min_size=1, max_size=30))
    return count, [t for t, _ in pairs], [p for _, p in pairs]


def divided(a, b):
    return a / b if b else 0.0


def looped_report(count, targets, predictions):
    """Return the rows (precision, recall, f1, support), from the definitions."""
    rows = []
    for c in range(count):
        right = sum(t == p == c for t, p in zip(targets, predictions, strict=True))
        precision, recall = divided(right, predictions.count(c)), divided(right, targets.count(c))
        rows.append((precision, recall, divided(2 * precision * recall, precision + recall), targets.count(c)))
    return rows


@quick
@given(labelled())
def test_accuracy_and_confusion_equal_loops(case):
    count, targets, predictions = case
    pairs = list(zip(targets, predictions, strict=True))
    share = metrics.accuracy(targets, predictions)
    assert isinstance(share, float)
    assert share == pytest.approx(sum(t == p for t, p in pairs) / len(pairs), abs=1e-15)
    matrix = metrics.confusion_matrix(targets, predictions, count)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[pairs.count((i, j)) for j in range(count)] for i in range(count)]
    smaller = metrics.confusion_matrix(targets, predictions)
    assert smaller.shape == (max(targets + predictions) + 1,) * 2
    assert smaller.sum() == len(pairs)


@quick
@given(labelled())
def test_the_report_equals_a_loop(case):
    count, targets, predictions = case
    report = metrics.classification_report(targets, predictions, num_classes=count)
    rows = looped_report(count, targets, predictions)
    columns = (report.precision, report.recall, report.f1, report.support)
    for column, expected in zip(columns, zip(*rows, strict=True), strict=True):
        assert column.tolist() == pytest.approx(expected, abs=1e-12)
    for k in range(3):
        macro = math.fsum(row[k] for row in rows) / count
        weighted = math.fsum(row[k] * row[3] for row in rows) / len(targets)
        assert report.macro_average[k] == pytest.approx(macro, abs=1e-12)
        assert report.weighted_average[k] == pytest.approx(weighted, abs=1e-12)
    assert report.accuracy == metrics.accuracy(targets, predictions)


@quick
@given(labelled(), st.randoms(use_true_random=False))
def test_every_form_of_targets_and_predictions_counts_alike(case, random):
    count, targets, predictions = case
    one_hot = np.eye(count, dtype=np.uint8)[targets]
    scores = [[random.random() + 2 * (c == p) for c in range(count)] for p in predictions]
    expected = str(metrics.classification_report(targets, predictions, num_classes=count))
    for t in (np.array(targets, np.uint8), one_hot):
        for p in (predictions, scores, np.array(scores, np.float32)):
            assert str(metrics.classification_report(t, p, num_classes=count)) == expected
            assert metrics.accuracy(t, p) == metrics.accuracy(targets, predictions)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(one_hot, scores), metrics.confusion_matrix(targets, predictions, count)
    )


def test_ties_go_to_the_first_class_and_infinity_is_a_score():
    scores = [[0.5, 0.5], [-math.inf, 0.0], [0.0, math.inf]]
    assert metrics.confusion_matrix([0, 1, 1], scores).tolist() == [[1, 0], [0, 2]]


def test_bools_are_classes_0_and_1():
    scores = np.array([0.2, 0.7, 0.9])
    assert metrics.accuracy([0, 1, 0], scores > 0.5) == pytest.approx(2 / 3)


def test_whatever_has_numpy_is_welcome():
    class Tensor:
        def __init__(self, array):
            self.array = np.array(array)

        def numpy(self):
            return self.array

        def __array__(self, *_args, **_options):
            raise TypeError("detached in silence")

    targets, scores = Tensor([0, 1]), Tensor([[0.9, 0.1], [0.8, 0.2]])
    assert metrics.accuracy(targets, scores) == 0.5
    assert metrics.confusion_matrix(targets, scores).tolist() == [[1, 0], [1, 0]]
    assert metrics.classification_report(targets, scores).support.tolist() == [1, 1]


GOLDEN = """\
              precision    recall  f1-score   support

       a cat       0.50      1.00      0.67         1
         dog       0.00      0.00      0.00         1
        bird       1.00      0.67      0.80         3

    accuracy                           0.60         5
   macro avg       0.50      0.56      0.49         5
weighted avg       0.70      0.60      0.61         5"""

GOLDEN_WIDE = """\
                    precision    recall  f1-score   support

                 0       1.00      1.00      1.00         2
a very long name 1       0.00      0.00      0.00         0

          accuracy                           1.00         2
         macro avg       0.50      0.50      0.50         2
      weighted avg       1.00      1.00      1.00         2"""


def test_golden_tables():
    report = metrics.classification_report([0, 1, 2, 2, 2], [0, 0, 2, 2, 1], names=["a cat", "dog", "bird"])
    assert str(report) == repr(report) == GOLDEN
    wide = metrics.classification_report([0, 0], [0, 0], names=["0", "a very long name 1"])
    assert str(wide) == GOLDEN_WIDE


def test_to_dict_is_plain_and_complete():
    names = np.array(["cat", "dog", "bird"])
    report = metrics.classification_report([0, 1, 2, 2], [0, 0, 2, 2], names=names)
    figures = report.to_dict()
    assert json.loads(json.dumps(figures)) == figures
    assert list(figures) == ["cat", "dog", "bird", "accuracy", "macro avg", "weighted avg"]
    assert figures["cat"] == {"precision": 0.5, "recall": 1.0, "f1-score": 2 / 3, "support": 1}
    assert figures["accuracy"] == 0.75
    assert figures["weighted avg"]["support"] == 4
    assert list(metrics.classification_report([0, 2], [0, 0]).to_dict())[:3] == ["0", "1", "2"]


def test_a_report_cannot_be_changed():
    report = metrics.classification_report([0, 1], [0, 1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.accuracy = 1.0
    for array in (report.precision, report.recall, report.f1, report.support):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("targets", "predictions", "error", "text"),
    [
        ([], [], ShapeError, "empty"),
        (np.empty((0, 3)), [0], ShapeError, "empty"),
        ([0, 1], [0], ShapeError, "2 targets, but 1 predictions"),
        ([[0], [1]], [0, 1], ShapeError, r"targets.*\(2, 1\).*k >= 2"),
        ([0, 1], [[0.3], [0.7]], ShapeError, r"predictions.*threshold"),
        (np.eye(2)[None], [0, 1], ShapeError, r"\(1, 2, 2\)"),
        (1, 1, ShapeError, r"\(\)"),
        (np.eye(2), np.eye(3)[:2], ShapeError, "2 columns.*3"),
        ([0, 1], [0.2, 0.8], DTypeError, "predictions > threshold"),
        (["cat"], ["cat"], DTypeError, "integers"),
        ([0, 1], np.eye(2) * 1j, DTypeError, "real scores"),
        ([0, 1], np.array([["a", "b"]] * 2), DTypeError, "real scores"),
        ([0, -1], [0, 1], ArgumentError, "targets.*-1"),
        ([0, 2], np.eye(2), ArgumentError, "2 does not fit 2 classes"),
        ([0, 1], [[0.0, 1.0], [math.nan, 1.0]], ArgumentError, "NaN in row 1"),
    ],
)
def test_errors_of_all_three(function, targets, predictions, error, text):
    with pytest.raises(error, match=text):
        function(targets, predictions)


def test_errors_of_counts_and_names():
    with pytest.raises(ArgumentError, match="3 does not fit 3 classes"):
        metrics.confusion_matrix([0, 3], [0, 1], num_classes=3)
    with pytest.raises(ShapeError, match="num_classes, or the names, are 3"):
        metrics.confusion_matrix([0, 1], np.eye(2), num_classes=3)
    report = metrics.classification_report
    with pytest.raises(ShapeError, match="names, are 3"):
        report([0, 1], np.eye(2), names=["a", "b", "c"])
    with pytest.raises(ArgumentError, match="2 does not fit 2 classes"):
        report([0, 1], [0, 2], names=["a", "b"])
    with pytest.raises(ArgumentError, match="2 names for 3 classes"):
        report([0, 1], [0, 2], names=["a", "b"], num_classes=3)
    for names in (["a", "a"], ["a", "accuracy"], ["macro avg", "b"]):
        with pytest.raises(ArgumentError, match="differ"):
            report([0, 1], [0, 1], names=names)
    assert report([0, 1], [0, 1], names=["a", "b", "never seen"]).support.tolist() == [1, 1, 0]


def test_inputs_stay_as_they_were():
    targets, scores = np.array([0, 1]), np.array([[0.2, 0.8], [0.1, 0.9]])
    targets.setflags(write=False)
    scores.setflags(write=False)
    for function in FUNCTIONS:
        function(targets, scores)
