"""When Tensors were written to, so that a walk back can tell that values which it needs are gone.

One clock numbers the nodes in the order of creation and stamps what is written to.  A leaf is stamped
itself; of a constant or a result, which have none, the array is, for as long as it lives.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import ref

import numpy as np

from tinygrad_nn import places
from tinygrad_nn.derivatives import Blank
from tinygrad_nn.errors import GraphError

__all__ = ["check_unwritten", "clock", "last_write", "retire", "touch", "touch_all", "touch_array"]

clock = itertools.count(1)
last_write = [0]
_leaves: dict[int, Any] = {}
"""Leaves that were written to, by identity: weak references, in a dict since its values are listed in one piece."""
_GONE = Blank((), np.dtype(float))  # what a leaf's Tensor has written when it moved to another leaf


def touch(leaf: Any, data: Any) -> None:
    """Stamp a leaf whose Tensor's data was just written, so that older graphs that need it can tell."""
    touch_all([(leaf, data)])


def touch_all(written: Sequence[tuple[Any, ...]]) -> None:
    """Stamp leaves; each stands first in its tuple, the array that was written second."""
    stamp = last_write[0] = next(clock)
    for item in written:
        leaf = item[0]
        if leaf.written is None:
            _leaves[id(leaf)] = ref(leaf, partial(_leaves.pop, id(leaf)))
        leaf.stamp = stamp
        leaf.written = item[1]


_arrays: dict[int, tuple[Any, int]] = {}
"""Arrays of Tensors without a leaf that were written to in place, by identity: a weak reference, and when."""


def touch_array(array: Any) -> None:
    """Stamp the array of a constant or a result that was just written to in place, for as long as it lives."""
    if isinstance(array, np.ndarray):
        key = id(array)
        last_write[0] = next(clock)
        _arrays[key] = ref(array, lambda _: _arrays.pop(key, None)), last_write[0]


def retire(leaf: Any) -> None:
    """Stamp the leaf of a Tensor that has moved to another one, so that every graph that leads here can tell."""
    touch(leaf, _GONE)


def check_unwritten(nodes: Sequence[Any]) -> None:
    """Raise if a rule would read values that were overwritten after the forward pass."""
    for leaf in [reference() for reference in list(_leaves.values())]:
        for node in nodes if leaf is not None else ():
            if leaf.stamp > node.number and _reads(node, leaf):
                raise _overwritten(f"{places.name_of(leaf) or 'a Tensor'} of shape {leaf.shape}", node)
    for reference, stamp in list(_arrays.values()):
        array = reference()
        for node in nodes if array is not None else ():
            held = (*node.args, *(node.y if type(node.y) is tuple else (node.y,)))
            if stamp > node.number and any(isinstance(a, np.ndarray) and np.may_share_memory(a, array) for a in held):
                raise _overwritten(f"a Tensor of shape {array.shape}", node)


def _overwritten(what: str, node: Any) -> GraphError:
    return GraphError(
        f"{what} was written to after {node.row.name} (result {node.shape}) used it, and the derivative needs the old "
        f"values: call backward before the update (optimizer.step(), t.data = ..., load_state_dict, Module.to), or "
        f"compute the loss again"
    )


def _reads(node: Any, leaf: Any) -> bool:
    """Whether a node's rules read a leaf's values: directly, through a view, or detached but shared."""
    parents = node.parents or ()
    if node.row.pullback or leaf.written is _GONE:
        return leaf in parents
    return any(
        np.may_share_memory(held, leaf.written)
        if parent is not leaf and isinstance(held, np.ndarray) and isinstance(leaf.written, np.ndarray)
        else parent is leaf and hasattr(held, "__array_function__")
        for held, parent in itertools.zip_longest((*node.args, node.y), parents)
    )
