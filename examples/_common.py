"""What the examples share: command lines, a progress display, and networks trained side by side."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from tinygrad_nn import nn

Item = TypeVar("Item")


class Parser(argparse.ArgumentParser):
    """A command line with the options of every example; a wrong one ends the script with one line.

    `quick` says how long the short form takes.
    """

    def __init__(self, description: str | None, quick: str = "a few seconds") -> None:
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--seed", type=whole(0), default=0, help="of the random numbers (default: 0)")
        self.add_argument("--quick", action="store_true", help=f"less of everything, in {quick}")

    def add_plots(self) -> None:
        """Add the option of those examples that write pictures."""
        self.add_argument("--plots", type=folder, metavar="DIR", help="write pictures there (needs matplotlib)")

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (--help shows the options)\n")


def whole(lowest: int) -> Callable[[str], int]:
    """Make an argparse type: whole numbers, not below ``lowest``."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {lowest} or more")
        return int(text)

    return convert


def folder(text: str) -> Path:
    """Be an argparse type: a folder for pictures, made if it is not there yet."""
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("pictures need matplotlib: pip install matplotlib")
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no folder: {error.strerror}") from None
    return path


def progress(items: Sequence[Item], label: str) -> Iterator[Item]:
    """Loop over items and show on stderr how far: tqdm's bar on a terminal, else a line every 5 seconds."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        try:
            from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - an example needs NumPy only
        except ImportError:
            pass
        else:
            yield from tqdm(items, label, leave=False)
            return
    begin = shown = time.perf_counter()
    for done, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - shown >= 5 and done < len(items):
            shown = now
            print(f"{label}: {done} of {len(items)}, {now - begin:.0f} s", file=sys.stderr, flush=True)


class LinearStack(nn.Module):
    """Linear layers of one size side by side: X W_k + b_k for every k, in one matrix product.

    Weights (k, in, out) and biases (k, 1, out) map X (n, in) or (k, n, in) to (k, n, out).  No layer sees
    another one, so the gradient of the sum of k losses holds the gradient of each loss.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.weight = nn.Parameter(np.stack([layer.weight.numpy() for layer in layers]))
        self.bias = nn.Parameter(np.stack([layer.bias.numpy()[np.newaxis] for layer in layers]))

    def forward(self, x: Any) -> Any:
        """Map X to the outputs of every layer."""
        return x @ self.weight + self.bias


def side_by_side(networks: Sequence[nn.Sequential]) -> nn.Sequential:
    """Join networks of one build into one with a leading axis, which trains them all at once."""
    columns = zip(*networks, strict=True)
    return nn.Sequential(*(LinearStack(c) if isinstance(c[0], nn.Linear) else c[0] for c in columns))
