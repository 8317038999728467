"""Names for a number: mathematical constants, the lengths and sizes of the arrays in reach, and their ratios."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from tinygrad_nn.testing.views import View

__all__ = ["scale_names", "times"]

CONSTANTS = {
    **{c: f"{c:g}" for c in (2.0, 3.0, 4.0, 5.0, 10.0, 100.0, 0.1, 0.01, 0.2, 1.5, 0.75, 6.0, 8.0)},
    0.5: "1/2",
    1 / 3: "1/3",
    0.25: "1/4",
    2 / 3: "2/3",
    math.sqrt(2): "sqrt(2)",
    1 / math.sqrt(2): "1/sqrt(2)",
    math.pi: "pi",
    math.pi / 180: "pi/180",
    180 / math.pi: "180/pi",
    math.log(2): "log(2)",
    1 / math.log(2): "1/log(2)",
    math.log(10): "log(10)",
    1 / math.log(10): "1/log(10)",
    math.e: "e",
    2 / math.pi: "2/pi",
    math.pi / 2: "pi/2",
    2 / math.sqrt(math.pi): "2/sqrt(pi)",
    math.sqrt(math.pi) / 2: "sqrt(pi)/2",
}


def _sizes(view: View) -> dict[str, float]:
    """Every length of an axis and every size, by an expression for it."""
    found: dict[str, float] = {}
    pairs = [*zip(view.problem.names, view.oracle.points, strict=True), *[("y", y) for y in view.outputs[:1]]]
    for name, p in pairs:
        if isinstance(p, np.ndarray):
            for axis, length in enumerate(p.shape):
                if length > 1:
                    found[f"{name}.shape[{axis}]"] = length
            if p.ndim > 1 and p.size > 1:
                found[f"{name}.size"] = p.size
    return found


def _of_lengths(sizes: dict[str, float]) -> Iterator[tuple[float, str]]:
    """What is made of lengths and sizes: of one first, which says it simpler than two."""
    for text, size in sizes.items():
        for times in (1, 2):
            yield times * size, text if times == 1 else f"{times}*{text}"
            yield times / size, f"{times}/{text}"
        yield size - 1, f"({text} - 1)"
        yield size / (size - 1), f"{text}/({text} - 1)"
        yield (size - 1) / size, f"({text} - 1)/{text}"
        yield math.sqrt(size), f"sqrt({text})"
        yield 1 / math.sqrt(size), f"1/sqrt({text})"
        yield size**2, f"{text}**2"
        yield 1 / size**2, f"1/{text}**2"
    for text, size in sizes.items():
        for other, length in sizes.items():
            if other != text and length != size:
                yield size / length, f"{text}/{other}"
        for number in (8, 10, 16, 20, 32, 64, 100, 128, 256):
            yield size / number, f"{text}/{number}"


def scale_names(view: View, ratio: float) -> list[str]:
    """Return expressions for a constant factor: numbers, sizes, their ratios, and numbers in reach."""
    found: list[str] = []

    def offer(value: float, text: str) -> None:
        for sign, mark in ((1, ""), (-1, "-")):
            if abs(ratio - sign * value) <= 1e-9 * abs(ratio) + 1e-4 * abs(abs(ratio) - 1) * 1e-3:
                found.append(mark + text)

    offer(1.0, "1")
    for value, text in CONSTANTS.items():
        offer(value, text)
    for value, text in _of_lengths(_sizes(view)):
        offer(value, text)
    for name, array in view.arrays.items():
        if array.size == 1 and array.dtype.kind == "f":
            value = float(array.ravel()[0])
            if value and np.isfinite(value):
                offer(value, name)
                offer(1 / value, f"1/{name}")
                offer(value**2, f"{name}**2")
                offer(1 - value, f"(1 - {name})")
                if value != 1:
                    offer(1 / (1 - value), f"1/(1 - {name})")
    fraction = Fraction(ratio if math.isfinite(ratio) else 0).limit_denominator(12)
    if fraction.denominator in {3, 6, 7, 9, 11, 12} and str(fraction) not in found:  # what no decimal says
        offer(float(fraction), str(fraction))
    return found


def times(names: list[str], number: float, term: str) -> list[str]:
    """The term times the number, once for each name of the number; empty if nobody would write such a number."""
    plain = f"{number:.4g}"
    if not names and abs(float(plain) - number) <= 1e-8 * abs(number):
        names = [plain]
    return [term if n == "1" else f"-{term}" if n == "-1" else f"{n}*{term}" for n in names]
