"""Directions, nudges, and what may be asked of a gradient where there is none: at kinks and ties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_nn.testing.oracles import Oracle, quiet
from tinygrad_nn.testing.problem import Arrays, Problem

__all__ = ["allowed_at_kink", "around", "cuts", "direction", "directions", "hair", "neighbours", "nudged", "typical"]

NUDGE = 0.03
PAIRS = 4
HAIR = 1e-6
MOST_CUTS = 16


def typical(x: Any) -> float:
    """The size of a typical entry that is not zero; 1 where there is none."""
    sizes = np.abs(np.asarray(x, dtype=np.float64)).ravel()
    sizes = sizes[(sizes > 0) & np.isfinite(sizes)]
    return float(np.median(sizes)) if sizes.size else 1.0


def sizes(x: Any) -> Any:
    """How far each entry is moved: by its own size, by a typical one where it is 0, not at all where not finite."""
    wide = np.abs(np.asarray(x, dtype=np.float64))
    return np.where(np.isfinite(wide), np.where(wide == 0, typical(x), wide), 0.0)


def direction(x: Any, rng: np.random.Generator) -> Any:
    """A random direction, each entry of the size of the input's."""
    return np.asarray(rng.standard_normal(np.shape(x)) * sizes(x))


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
        step = NUDGE * sizes(x) * rng.uniform(0.5, 1, x.shape) * rng.choice([-1.0, 1.0], x.shape)
        ups[k] = np.asarray(x + step, dtype=x.dtype)
        downs[k] = np.asarray(x - step, dtype=x.dtype)
    return ups, downs


def neighbours(problem: Problem, points: Arrays, vs: Arrays, rng: np.random.Generator) -> list[Oracle]:
    """Oracles at points around this one where the function is finite."""
    found = []
    for _ in range(PAIRS):
        for near in nudged(problem, points, rng):
            with quiet():
                ys = problem.outputs_or_none(near)
            if ys is not None and all(np.all(np.isfinite(y)) for y in ys):
                found.append(Oracle(problem, near, vs))
    return found


def hair(x: Any) -> Any:
    """Steps a hair long: off a kink, and hardly anywhere else."""
    return max(HAIR, 8 * float(np.finfo(x.dtype).eps)) * np.asarray(sizes(x))


def around(problem: Problem, base: Arrays, rng: np.random.Generator, count: int) -> Iterator[Arrays]:
    """Points a hair away from `base` in every entry, opposite ones in turn, where the function does not refuse.

    The first two move all entries one way: units that sit on their kinks together then all go to one side.
    """
    for number in range(count // 2):
        steps = {}
        for k in problem.active:
            shape = base[k].shape
            signs = rng.choice([-1.0, 1.0], shape) if number else 1.0
            steps[k] = hair(base[k]) * rng.uniform(0.5, 1, shape) * signs
        for sign in (1, -1):
            points = [np.asarray(p + sign * steps[k], dtype=p.dtype) if k in steps else p for k, p in enumerate(base)]
            with quiet():
                ys = problem.outputs_or_none(points)
            if ys is not None:
                yield points


def cuts(shape: tuple[int, ...], rng: np.random.Generator) -> Arrays:
    """Directions of ones: everywhere, and along slices of each axis, where what ties share must add up."""
    found = [np.ones(shape)]
    for axis, length in enumerate(shape if len(shape) > 1 else ()):
        for place in rng.permutation(length)[:MOST_CUTS]:
            u = np.zeros(shape)
            u[(slice(None),) * axis + (place,)] = 1
            found.append(u)
    return found


def allowed_at_kink(analytic: float, terms: Any, relative: float) -> bool:
    """Whether a projected gradient at a kink fits those around it, a row of `terms` for each.

    What no side changes, such as the sum of what ties share, must be met.  What differs decides nothing: where two
    kinks meet, as in 3 relu(x) - 2 relu(-x), the usual 0 for each unit lies on neither side, nor between.
    """
    values = terms.sum(axis=1)
    low, high = float(values.min()), float(values.max())
    slack = relative * float(np.abs(terms).sum(axis=1).max())
    return high - low > slack or low - slack <= analytic <= high + slack
