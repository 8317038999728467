"""Handwritten digits: the notebook's systems B2 to B5, and what today's recipe makes of them.

  raw, normalized, standardized   784-100-50-10 with tanh, weights and biases from U[-0.5, 0.5), the
                                  mean squared error, learning rate 0.1, one step for each image,
                                  35 epochs over 1,000 images (B2, B3, B4)
  softmax                         of numbers too large for exp, with its gradient (B5)
  modern                          the same sizes with relu and He weights, cross-entropy, Adam and
                                  batches of 32 images in float32

The first 1,000 training images and all 10,000 test images come with the package.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from _common import Parser, progress, whole

import tinygrad_nn as tn
from tinygrad_nn import functional, nn


@dataclass
class Result:
    """What a training gave: mean error of the first and the last epoch, seconds, test accuracy."""

    first: float
    last: float
    seconds: float
    accuracy: float


def flat(images: np.ndarray) -> np.ndarray:
    """Make a row of float64 pixels of each image."""
    return images.reshape(len(images), -1).astype(np.float64)


def scores(network: nn.Sequential, images: np.ndarray) -> np.ndarray:
    """Return the outputs of a network for all images, without recording anything."""
    with tn.no_grad():
        outputs: np.ndarray = network(tn.Tensor(images)).numpy()
    return outputs


def show_report(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Print the classification report, a column for each digit, and return the accuracy."""
    report = tn.metrics.classification_report(labels, outputs)
    print("   " + " " * 10 + "".join(f"{name:>6}" for name in report.names) + "   macro  weighted")
    for name in ("precision", "recall", "f1"):
        digits = "".join(f"{value:6.2f}" for value in getattr(report, name))
        macro, weighted = getattr(report.macro_average, name), getattr(report.weighted_average, name)
        print(f"   {name:10}{digits}{macro:8.2f}{weighted:10.2f}")
    print("   support   " + "".join(f"{n:6d}" for n in report.support) + f"{report.support.sum():18d}")
    return report.accuracy


# B2, B3, B4: gradient descent, image by image


PREPARE = {"raw": flat, "normalized": tn.data.normalize, "standardized": tn.data.standardize}
