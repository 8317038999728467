"""Progress: a bar of tqdm on a terminal or in a notebook, plain lines, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

from tinygrad_nn.checks import choice

__all__ = ["Bar", "Lines", "Progress", "Quiet", "display", "line"]

SECONDS = 10.0
"""Plain lines of a slow training come at least this often."""

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # the rate would push figures off the line


class Quiet:
    """Shows nothing."""

    def begin(self, epochs: int, done: int, steps: int, batches: int | None) -> None:
        """Begin to show `epochs` epochs, of which some are done, with so many steps, in epochs of so many batches."""

    def step(self) -> None:
        """Count one step."""

    def epoch(self, number: int, figures: Mapping[str, float], steps: int) -> None:
        """Show the figures of epoch `number`, counted from 1, which took so many steps."""

    def end(self, remark: str) -> None:
        """End, with a remark on why if it is early."""


class Lines(Quiet):
    """One line an epoch on standard output, at most about 20 in all unless epochs take long."""

    def begin(self, epochs: int, done: int, steps: int, batches: int | None) -> None:
        """Choose which epochs to print."""
        self._epochs = epochs
        self._every = next(s * 10**k for k in range(20) for s in (1, 2, 5) if s * 10**k * 20 >= epochs)
        self._printed = time.monotonic()
        if steps:
            print(f"goes on after step {steps}, in epoch {done + 1}", flush=True)  # noqa: T201 - it is what this is for

    def epoch(self, number: int, figures: Mapping[str, float], steps: int) -> None:
        """Print the line of an epoch, if it is its turn."""
        now = time.monotonic()
        if number in (1, self._epochs) or number % self._every == 0 or now - self._printed > SECONDS:
            self._printed = now
            print(line(number, self._epochs, figures), flush=True)  # noqa: T201

    def end(self, remark: str) -> None:
        """Print the remark."""
        if remark:
            print(remark, flush=True)  # noqa: T201


def line(number: int, epochs: int, figures: Mapping[str, float]) -> str:
    """Write the figures of an epoch in one line.

    Examples
    --------
    >>> line(7, 20, {"loss": 0.123456, "val_accuracy": 0.95, "lr": 0.001, "seconds": 1.234})
    'epoch  7/20  loss 0.1235  val_accuracy 0.9500  lr 0.001  1.23 s'
    """
    cells = [f"{name} {_number(name, value)}" for name, value in figures.items() if name != "seconds"]
    if "seconds" in figures:
        cells.append(f"{figures['seconds']:.2f} s")
    return "  ".join([f"epoch {number:{len(str(epochs))}}/{epochs}", *cells])


def _number(name: str, value: float) -> str:
    fixed = (value == 0 or 1e-3 <= abs(value) < 1e4) and name.partition("_")[0] != "lr"
    return f"{value:.4f}" if fixed else f"{value:.4g}"


class Bar(Quiet):
    """A bar of tqdm that counts steps, with the figures of the latest epoch beside it."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm

    def begin(self, epochs: int, done: int, steps: int, batches: int | None) -> None:
        """Open the bar."""
        self._epochs = epochs
        total = None if batches is None else epochs * batches
        name = f"epoch {min(done + 1, epochs)}/{epochs}"
        self._bar = self._tqdm(desc=name, total=total, initial=steps, bar_format=_BAR)

    def step(self) -> None:
        """Move the bar on."""
        self._bar.update()

    def epoch(self, number: int, figures: Mapping[str, float], steps: int) -> None:
        """Write the figures beside the bar; the first epoch shows how many steps there will be."""
        if self._bar.total is None:
            self._bar.total = self._epochs * steps
        # what counts comes first: a terminal cuts the line
        names = sorted(figures, key=lambda name: not name.startswith("val_"))
        shown = {name: _number(name, figures[name]) for name in names if name not in ("seconds", "lr")}
        self._bar.set_description(f"epoch {min(number + 1, self._epochs)}/{self._epochs}", refresh=False)
        self._bar.set_postfix(shown, refresh=False)

    def end(self, remark: str) -> None:
        """Close the bar."""
        if remark:
            self._bar.write(remark)
        self._bar.close()


Progress: TypeAlias = bool | str


def display(progress: Progress) -> Quiet:
    """Choose what shows the progress: see `fit`."""
    if not isinstance(progress, bool):
        choice("progress", progress, ("lines",))
        return Lines()
    notebook = _is_notebook()
    if not progress or not (notebook or sys.stderr.isatty()):
        return Quiet()
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets tqdm's bar of text
        from tqdm.auto import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - used where it is installed

        return Bar(tqdm)
    return Lines()


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
