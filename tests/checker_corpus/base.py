"""How a mistake is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Mistake:
    """``make(rng)`` returns ``(fn, rule, inputs)``; `kinds`, `input` and `detail` are what a right name says."""

    name: str
    kinds: tuple[str, ...]
    input: str
    detail: str
    make: Callable[[np.random.Generator], tuple[Any, Any, tuple[Any, ...]]]

    def named_by(self, cause: Any) -> bool:
        return cause.kind in self.kinds and (cause.input, cause.detail) == (self.input, self.detail)


MISTAKES: list[Mistake] = []


def mistake(*kinds: str, of: str = "", by: str = "") -> Callable[[Any], Any]:
    """Declare a mistake in the gradient of the input `of`, whose factor, expression or axis is `by`."""

    def declare(make: Any) -> Any:
        MISTAKES.append(Mistake(make.__name__, kinds, of, by, make))
        return make

    return declare


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(0.3, 2.5, shape)


def away(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Both signs, never near zero."""
    return rng.uniform(0.2, 2, shape) * rng.choice([-1.0, 1.0], shape)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softmax(z: Any) -> Any:
    e = np.exp(z - np.max(z.real, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
