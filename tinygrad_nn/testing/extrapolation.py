"""Romberg's extrapolation of central differences, with an estimate of its error from the table itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinygrad_nn.testing.problem import Arrays

__all__ = ["RATIO", "Ends", "Table"]

RATIO = 1.75  # of one step to the next: steps halved would let rounded values agree by chance


@dataclass
class Ends:
    """A function at both ends of a step along a direction.

    Attributes
    ----------
    step : the step
    value : the central difference of <v, f>
    even : v (f(x + h) - 2 f(x) + f(x - h)) / h, for each output
    size : the sum of the magnitudes of the terms of `value`
    height : the sum of |v f|, of which rounding is a small part
    lost : the sum of the magnitudes of terms that an output too coarse to move may hide
    """

    step: float
    value: Any
    even: Arrays
    size: float
    height: float
    lost: float = 0.0


class Table:
    """Romberg's table over steps that shrink by RATIO, and what its entries tell of their own rounding."""

    def __init__(self, eps: float, inside: float = 0.0) -> None:
        self.eps = eps
        self.inside = inside
        self.rows: list[Ends] = []
        self.lines: list[list[Any]] = []

    def add(self, ends: Ends) -> None:
        """Add the central difference at the next step."""
        line = [ends.value]
        for m, old in enumerate(self.lines[-1] if self.lines else []):
            factor = type(ends.value)(RATIO * RATIO) ** (m + 1)
            line.append((factor * line[m] - old) / (factor - 1))
        self.rows.append(ends)
        self.lines.append(line)

    def noise(self, i: int) -> float:
        """The rounding of the function's values around step `i`: what is left in the column that is smoothest there."""
        last = min(max(i, 5), len(self.lines) - 1)
        columns = [
            max(
                float(abs(self.lines[j][m] - self.lines[j - 1][m])) * self.rows[j].step
                for j in range(last - 2, last + 1)
            )
            for m in range(1, last - 2)
        ]
        return max(min(columns, default=0.0), self.eps * self.rows[i].height, self.inside)

    def best(self) -> tuple[Any, float, int]:
        """The entry that claims the smallest error, that error, and its row."""
        value, smallest, row = self.lines[0][0], float("inf"), 0
        for i, line in enumerate(self.lines):
            noise = self.noise(i) / self.rows[i].step + self.rows[i].lost
            for m in range(1, len(line)):
                change = float(max(abs(line[m] - line[m - 1]), abs(line[m] - self.lines[i - 1][m - 1])))
                if change + noise < smallest:
                    value, smallest, row = line[m], change + noise, i
        return value, smallest, row
