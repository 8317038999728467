"""Compile: a step recorded once, and run as straight-line NumPy on buffers that are allocated once.

From front to back: `world` finds what a function reads, `snapshot` puts copies in its place,
`capture` records runs and compares them, `lowering` makes operations of the recorded calls, `passes`
simplifies them, `buffers` finds memory for them, `source` writes them down, `guard` and `entry` run
them when they are right, `compiled` is what the user holds.
"""

from __future__ import annotations

from tinygrad_nn.compiler.compiled import Compiled, compile  # noqa: A004 - the public name is tn.compile

__all__ = ["Compiled", "compile"]
