"""What the engine does for one operation, counted: Python calls, attributes, allocations, bytes.

Counts do not depend on how busy a machine is.  The operation is a product of two vectors, of which one requires a
gradient; the figures are those of a chain of such operations, divided by its length.
"""

from __future__ import annotations

import dis
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import tinygrad_nn as tn

LENGTH = 200
ATTRIBUTES = {k for name, k in dis.opmap.items() if name in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "LOAD_GLOBAL")}


def chain(start: tn.Tensor, factor: Any) -> tn.Tensor:
    """Multiply by the same factor again and again."""
    for _ in range(LENGTH):
        start = start * factor
    return start


@contextmanager
def calls(found: Counter[str]) -> Iterator[None]:
    """Count calls of Python functions and of built-in ones."""

    def seen(_frame: Any, event: str, _argument: Any) -> None:
        found[{"call": "Python functions", "c_call": "built-in functions"}.get(event, "")] += 1

    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextmanager
def lookups(found: Counter[str]) -> Iterator[None]:
    """Count the instructions that look up an attribute, a method or a global."""

    def seen(frame: Any, event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] in ATTRIBUTES:
            found["look-ups of attributes and globals"] += 1
        return seen

    sys.settrace(seen)
    try:
        yield
    finally:
        sys.settrace(None)


@contextmanager
def memory(found: Counter[str]) -> Iterator[None]:
    """Count the blocks and bytes that stay allocated: those of arrays are among the bytes."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
    try:
        yield
        found["blocks kept"] += sys.getallocatedblocks() - blocks
        found["bytes kept"] += tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()


def measure() -> None:
    """Print the counts of the forward and of the backward."""
    x, factor = tn.Tensor(np.linspace(1, 2, 8), requires_grad=True), np.linspace(0.9, 1.1, 8)
    forward, backward = Counter[str](), Counter[str]()
    counters: tuple[Callable[[Counter[str]], Any], ...] = (calls, lookups, memory)
    for counter in counters:
        chain(x, factor).sum().backward()  # what is made once, in its first call, is left out
        with counter(forward):
            y = chain(x, factor)
        loss = y.sum()
        with counter(backward):
            loss.backward()
        del y, loss
    print("\nCounts for one operation, a product of vectors of 8 numbers: forward, backward")
    for name in (name for name in forward if name):
        print(f"  {name:36}{forward[name] / LENGTH:10.1f}{backward[name] / LENGTH:10.1f}")


if __name__ == "__main__":
    measure()
