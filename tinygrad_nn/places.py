"""Where something is in the user's code: the nearest line outside of the package, and the name of a Tensor there."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from tinygrad_nn.derivatives import Traced

__all__ = ["file_name", "line", "name_of"]

_INSIDE = (str(Path(__file__).parent) + os.sep, str(Path(np.__file__).parent) + os.sep, "<__array")
_MOST = 1000  # entries of a list or dict that are looked at for a name


def line() -> str:
    """Name the line of the user's code that is running, after the layer in which it is: "Linear in loss (train.py:12)".

    Empty where no frame lies outside of the package.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the one way to the caller's line
    layer = ""
    while frame is not None and frame.f_code.co_filename.startswith(_INSIDE):
        if not layer and frame.f_code.co_name == "forward" and "self" in frame.f_locals:
            layer = f"{type(frame.f_locals['self']).__name__} in "
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{layer}{frame.f_code.co_qualname} ({file_name(frame.f_code.co_filename)}:{frame.f_lineno})"


def file_name(path: str) -> str:
    """Name a file without its folder; a cell of a notebook, whose file is one of Jupyter's own, as ``In[3]``."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    label_of = getattr(getattr(get_ipython(), "compile", None), "format_code_name", lambda _: None)
    label = label_of(path)
    return Path(path).name if label is None else str(label[1])


def name_of(node: Any) -> str:
    """Name the Tensor of a leaf as the running code reaches it, such as ``net.layers.0.weight``; empty if it does not.

    Looks through the variables of every calling function, the nearest first; for messages only.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the one way to the caller's variables
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_INSIDE):
            for scope in (frame.f_locals, frame.f_globals):
                for name, value in list(scope.items()):
                    path = _path(value, node)
                    if path is not None:
                        return name + path
        frame = frame.f_back
    return ""


def _path(value: Any, node: Any, depth: int = 2) -> str | None:
    """How `value` leads to the Tensor of a leaf: an empty text if it is that Tensor, None if it does not."""
    if isinstance(value, Traced):
        return "" if getattr(value, "_node", None) is node else None
    if hasattr(type(value), "named_tensors"):
        return next((f".{name}" for name, t in value.named_tensors() if t._node is node), None)  # noqa: SLF001
    if not depth:
        return None
    if isinstance(value, (list, tuple)):
        items = [(f"[{k}]", item) for k, item in enumerate(value[:_MOST])]
    elif isinstance(value, dict):
        items = [(f"[{key!r}]", item) for key, item in itertools.islice(value.items(), _MOST)]
    elif isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, ModuleType):
        items = [(f".{key}", item) for key, item in itertools.islice(vars(value).items(), _MOST)]
    else:
        return None
    paths = ((step, _path(item, node, depth - 1)) for step, item in items)
    return next((step + path for step, path in paths if path is not None), None)
