"""Directions, nudges, and what may be asked of a gradient where there is none: at kinks and ties."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_nn.testing.oracles import Oracle, quiet
from tinygrad_nn.testing.problem import Arrays, Problem

__all__ = ["allowed_at_kink", "direction", "directions", "neighbours", "nudged", "typical"]

NUDGE = 0.03
PAIRS = 4


def typical(x: Any) -> float:
    """The size of a typical entry that is not zero; 1 where there is none."""
    sizes = np.abs(np.asarray(x, dtype=np.float64)).ravel()
    sizes = sizes[(sizes > 0) & np.isfinite(sizes)]
    return float(np.median(sizes)) if sizes.size else 1.0


def direction(x: Any, rng: np.random.Generator) -> Any:
    """A random direction, each entry of the size of the input's."""
    x = np.asarray(x, dtype=np.float64)
    size = np.where(x == 0, typical(x), np.abs(x))
    return np.asarray(rng.standard_normal(x.shape) * size)


def directions(x: Any, rng: np.random.Generator, count: int) -> Arrays:
    """`count` random directions, and the two that hide least: ones, and the input itself."""
    wide = np.asarray(x, dtype=np.float64)
    found = [direction(wide, rng) for _ in range(count)]
    return [*found, np.full(wide.shape, typical(wide)), wide.copy()] if count > 1 else found


def nudged(
    problem: Problem, points: Arrays, rng: np.random.Generator, *, only: int | None = None
) -> tuple[Arrays, Arrays]:
    """Two points on opposite sides, each active entry moved by about 3 %."""
    ups, downs = list(points), list(points)
    for k in problem.active if only is None else [only]:
        x = points[k]
        size = np.abs(np.asarray(x, dtype=np.float64))
        size = np.where(size == 0, typical(x), size)
        step = NUDGE * size * rng.uniform(0.5, 1, x.shape) * rng.choice([-1.0, 1.0], x.shape)
        ups[k] = np.asarray(x + step, dtype=x.dtype)
        downs[k] = np.asarray(x - step, dtype=x.dtype)
    return ups, downs


def neighbours(problem: Problem, points: Arrays, vs: Arrays, rng: np.random.Generator) -> list[Oracle]:
    """Oracles at points around this one where the function is finite."""
    found = []
    for _ in range(PAIRS):
        for near in nudged(problem, points, rng):
            with quiet():
                ys = problem.outputs(near)
            if all(np.all(np.isfinite(y)) for y in ys):
                found.append(Oracle(problem, near, vs))
    return found


def allowed_at_kink(analytic: float, nearby: list[float]) -> bool:
    """Whether a projected gradient at a kink is a mixture of those around it."""
    if not nearby:
        return True
    low, high = min(nearby), max(nearby)
    slack = 3 * (high - low) + 1e-9 * max(abs(low), abs(high))
    return low - slack <= analytic <= high + slack
