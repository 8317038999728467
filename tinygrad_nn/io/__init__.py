"""Save and load: models, optimizers, generators and plain values in one file, without pickle."""

from __future__ import annotations

from tinygrad_nn.io.checkpoint import load, save

__all__ = ["load", "save"]
