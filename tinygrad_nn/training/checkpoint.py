"""Checkpoint: a training that was broken off goes on as if nothing had happened."""

from __future__ import annotations

import os
from typing import Any

from tinygrad_nn.checks import whole
from tinygrad_nn.errors import ArgumentError, DTypeError, StateError
from tinygrad_nn.io import load, save

__all__ = ["Checkpoint"]


class Checkpoint:
    """Writes a training to a file, from which the same call of `fit` goes on, bit for bit.

    The file holds the model, the optimizer, every NumPy Generator that the model, the loss and the data draw from, the
    place in the running epoch, the history, and the callbacks with ``state_dict`` and ``load_state_dict``.  It is
    written after each epoch, after all other callbacks, and when Ctrl-C ends the training.  Started again with
    the same arguments, `fit` finds it and goes on, after a crash at any moment too: the file is written whole or
    not at all.  A larger ``epochs`` trains on.

    Exactly the same numbers need the same data in the same order: arrays and `tn.data.batches` give them, and a
    function of the epoch that draws from ``default_rng([seed, epoch])`` or a Generator it can see.  Batches of the
    running epoch that were taken before are made again and skipped.

    Parameters
    ----------
    path : str or path
        Ends in ``.npz``, or in ``.safetensors``: see `tn.save`.
    every : int, optional
        Write also after so many steps.
    resume : bool
        Whether to go on from a file that is there; it is overwritten otherwise.

    Raises
    ------
    StateError
        At the beginning of `fit`, if the file is of a training with other arguments; nothing has changed then.
        The parts can be loaded by hand: ``tn.load(path, model=model, optimizer=optimizer)``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> def train(epochs, path):
    ...     model = tn.nn.Linear(1, 1, rng=np.random.default_rng(0))
    ...     x = np.linspace(-1, 1, 8)[:, np.newaxis]
    ...     return tn.fit(model, x, 2 * x, loss=tn.functional.mse_loss, optimizer=tn.optim.Adam(model.parameters()),
    ...                   epochs=epochs, batch_size=3, rng=0, callbacks=Checkpoint(path))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = train(2, pathlib.Path(folder, "run.npz"))
    ...     second = train(5, pathlib.Path(folder, "run.npz"))
    ...     unbroken = train(5, pathlib.Path(folder, "other.npz"))
    >>> first.epochs, second.epochs, second["loss"] == unbroken["loss"]
    (2, 5, True)
    """

    def __init__(self, path: str | os.PathLike[str], *, every: int | None = None, resume: bool = True) -> None:
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
            raise DTypeError(f"Checkpoint takes the path of a file, got {path!r}")
        if os.path.splitext(path)[1] not in (".npz", ".safetensors"):  # noqa: PTH122 - as in the room of files
            raise ArgumentError(f"a checkpoint is an .npz or a .safetensors file, got {os.fspath(path)!r}")
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder and not os.path.isdir(folder):  # noqa: PTH112
            raise ArgumentError(f"the folder {folder!r} of a checkpoint does not exist: make it first")
        self.path = path
        self.every = None if every is None else whole("every", every)
        self.resume = resume

    def restore(self, parts: dict[str, Any]) -> bool:
        """Restore the parts of a training in place if there is a file, all or none; say whether there was."""
        if not self.resume or not os.path.exists(self.path):  # noqa: PTH110
            return False
        found = load(self.path)
        if "training" not in found:
            raise StateError(f"{os.fspath(self.path)!r} was not written by a Checkpoint: it has {', '.join(found)}")
        parts["training"].check(found["training"])
        load(self.path, **parts)
        return True

    def save(self, parts: dict[str, Any]) -> None:
        """Write the parts of a training."""
        save(self.path, **parts)

    def __repr__(self) -> str:
        return f"Checkpoint({os.fspath(self.path)!r})"
