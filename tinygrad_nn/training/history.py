"""History: the figures of a training, epoch by epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from tinygrad_nn.errors import ArgumentError

__all__ = ["History"]


class History(Mapping[str, list[float]]):
    """The figures of a training: a list with one entry an epoch for each name.

    A mapping: ``history["loss"]``, ``list(history)``; ``to_dict()`` gives a plain dict, which
    ``pandas.DataFrame`` takes.  The names are ``loss``, the metrics, ``val_`` and each of these where there is
    validation, ``lr`` (``lr_1``, ``lr_2``, ... for further parameter groups) and ``seconds``.

    Attributes
    ----------
    epochs : int
        The number of complete epochs, which is the length of every list.
    steps : int
        The number of steps taken, those of an incomplete last epoch too.
    compiled_steps : int
        How many of them were compiled.
    interrupted : bool
        Whether Ctrl-C ended the training.
    stopped : str
        Why a callback ended it, else empty.

    Examples
    --------
    >>> History({"loss": [0.5, 0.25], "lr": [0.1, 0.1]})
    epoch    loss   lr
        1     0.5  0.1
        2    0.25  0.1
    """

    def __init__(self, columns: Mapping[str, list[float]]) -> None:
        self._columns = {name: list(values) for name, values in columns.items()}
        if len({len(values) for values in self._columns.values()}) > 1:
            lengths = {name: len(values) for name, values in self._columns.items()}
            raise ArgumentError(f"a history has as many entries of each name, got {lengths}")
        self.steps = 0
        self.compiled_steps = 0
        self.interrupted = False
        self.stopped = ""

    @property
    def epochs(self) -> int:
        """The number of complete epochs."""
        return len(next(iter(self._columns.values()), ()))

    def __getitem__(self, name: str) -> list[float]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def append(self, figures: Mapping[str, float]) -> None:
        """Add the figures of one more epoch, one for each name."""
        if figures.keys() != self._columns.keys():
            raise ArgumentError(f"an epoch of this history has {list(self._columns)}, got {list(figures)}")
        for name, value in figures.items():
            self._columns[name].append(value)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the lists by name, as copies."""
        return {name: list(values) for name, values in self._columns.items()}

    def plot(self, to: Any = None, *, names: list[str] | None = None) -> Any:
        """Draw figures over the epochs, those of one kind in one picture, with matplotlib; return the axes.

        Parameters
        ----------
        to : matplotlib axes or path, optional
            Where to draw, or the file to write (its ending decides the format).  By default a new figure of
            pyplot.
        names : list of str, optional
            What to draw; by default ``loss`` and ``val_loss``.

        Raises
        ------
        ArgumentError
            For names that the history does not have.
        ImportError
            Without matplotlib, which the extra ``examples`` installs.
        """
        names = [name for name in ("loss", "val_loss") if name in self] if names is None else names
        unknown = [name for name in names if name not in self]
        if unknown:
            raise ArgumentError(f"this history has {list(self)}, not {unknown}")
        from matplotlib.figure import Figure  # noqa: PLC0415 - only who draws needs matplotlib

        how: Any = {"figsize": (6, 4), "layout": "constrained"}
        figure = Figure(**how)
        path = to if isinstance(to, (str, os.PathLike)) else None
        axes: Any
        if path is not None:
            axes = figure.add_subplot()
        elif to is None:
            from matplotlib import pyplot as plt  # noqa: PLC0415 - it chooses a backend when it is imported

            axes = plt.subplots(**how)[1]
        else:
            axes = to
        for name in names:
            # one epoch alone would be a line without length
            axes.plot(range(1, self.epochs + 1), self[name], label=name, marker="o" if self.epochs == 1 else None)
        axes.set_xlabel("epoch")
        axes.set_ylabel(names[0] if len(names) == 1 else "")
        if len(names) > 1:
            axes.legend()
        axes.grid(alpha=0.3)
        if path is not None:
            figure.savefig(path)
        return axes

    def __repr__(self) -> str:
        if not self.epochs:
            return f"History of 0 epochs: {', '.join(self)}"
        shown = list(range(self.epochs))
        if len(shown) > 10:
            shown = [*shown[:3], -1, *shown[-3:]]
        rows = [["epoch", *self]]
        for k in shown:
            cells = [str(k + 1), *(f"{self[name][k]:.4g}" for name in self)]
            rows.append(cells if k >= 0 else ["..."] * len(cells))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows]
        if self.interrupted:
            lines.append(f"interrupted after step {self.steps}")
        if self.stopped:
            lines.append(f"stopped after step {self.steps}: {self.stopped}")
        return "\n".join(lines)
