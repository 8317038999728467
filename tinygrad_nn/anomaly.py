"""detect_anomaly: name the operation that made a NaN, and the array that was overwritten before backward."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from tinygrad_nn import places
from tinygrad_nn.checks import fetched, flag, item_of
from tinygrad_nn.derivatives import Row
from tinygrad_nn.engine import Leaf, Node, Tape, current_recording, recording
from tinygrad_nn.errors import AnomalyError, GraphError

__all__ = ["detect_anomaly"]


class detect_anomaly(recording):  # noqa: N801 - PyTorch's name
    """Look at every value while computing: who made the first NaN, and what was overwritten before backward.

    Inside ``with tn.detect_anomaly():`` the first function, forward or backward, that makes a NaN or
    an infinity from finite values raises, naming itself, the line of the code that called it and the
    ranges of its arguments; so does a function that is given a parameter that is not finite.  And a
    backward that needs values which have changed since the forward pass raises: a write into
    ``t.data``, a view or the caller's own array, which no Tensor can notice by itself.

    It holds for the thread or asyncio task that enters it, under `tn.fit` too; a compiled step runs
    as its function, step by step, and what runs under `no_grad` is not looked at.  A training step
    takes several times as long, and more with arrays of Dask, which are computed at every call.  Also the
    side of ``np.where`` that is not taken is looked at.

    Parameters
    ----------
    check_nan : bool
        Look for NaN and infinity.
    check_writes : bool
        Compare checksums (CRC-32) of the arrays that a derivative will read.  NumPy arrays only.

    Raises
    ------
    AnomalyError
        For a NaN or infinity, in the middle of the computation: no gradient has changed then.
    GraphError
        For changed values, by `backward`; and if it is entered inside a function that is being
        compiled, or under `no_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_nn as tn
    >>> x = tn.Tensor([4.0, 0.0], requires_grad=True)
    >>> with tn.detect_anomaly():
    ...     np.sqrt(x).sum().backward()
    Traceback (most recent call last):
    tinygrad_nn.errors.AnomalyError: the derivative of np.sqrt made inf from finite values...
    """

    def __init__(self, *, check_nan: bool = True, check_writes: bool = True) -> None:
        super().__init__(_Watch(nan=flag("check_nan", check_nan), writes=flag("check_writes", check_writes)))

    def __enter__(self) -> bool | Tape:
        now = current_recording()
        if now is False:
            raise GraphError("under no_grad nothing is recorded to be looked at: enter detect_anomaly outside of it")
        if isinstance(now, Tape) and not now.passive:
            raise GraphError("detect_anomaly inside a function that is being recorded: enter it around the call")
        return super().__enter__()


class _Site:
    """What is remembered of a node: the user's line, the arrays that its rules read, and their checksums."""

    __slots__ = ("checksums", "held", "line")

    def __init__(self, line: str, held: tuple[Any, ...]) -> None:
        self.line = line
        self.held = held
        self.checksums = tuple(_checksum(a) for a in held)


class _Outside:
    """An array that no recorded call made: its checksum, and between which two lines it changed."""

    __slots__ = ("array", "changed", "checksum", "line")

    def __init__(self, array: Any, checksum: int | None, line: str) -> None:
        self.array = weakref.ref(array)
        self.checksum = checksum
        self.line = line
        self.changed = ""

    def look(self, line: str) -> None:
        """Compare the array with what it was at the last look."""
        array = self.array()
        if array is None:
            return
        checksum = _checksum(array)
        if checksum != self.checksum:
            self.changed = f"between {self.line} and {line}"
            self.checksum = checksum
        self.line = line


class _Watch(Tape):
    """A tape that keeps nothing of the calls, and looks at their values."""

    passive = True

    def __init__(self, *, nan: bool, writes: bool) -> None:
        super().__init__()
        self._nan = nan
        self._writes = writes
        self._sites: weakref.WeakKeyDictionary[Node, _Site] = weakref.WeakKeyDictionary()
        self._outside: dict[int, _Outside] = {}

    def add(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, node: Node | None) -> None:
        """Look at the values of one call."""
        line = places.line()
        if self._nan:
            _check_forward(row, args, result, node, line)
        if node is None:
            return
        reads = (*args, None) if row.pullback else (*node.args, node.y)
        self._sites[node] = _Site(line, reads if self._writes else ())
        if self._writes:
            self._look_outside(line)
            for a, parent in zip(args, node.parents or (), strict=False):
                if isinstance(a, np.ndarray) and type(parent) is not Node and id(a) not in self._outside:
                    self._outside[id(a)] = _Outside(a, _checksum(a), line)

    def _look_outside(self, line: str) -> None:
        """See which arrays from outside have changed since the last call; those that are gone are forgotten."""
        self._outside = {key: o for key, o in self._outside.items() if o.array() is not None}
        for outside in self._outside.values():
            outside.look(line)

    def derived(self, node: Node, k: int, g: Any, part: Any, total: Any) -> None:
        """Look at the gradient that one rule gave, and at what it was worked out from."""
        site = self._sites.get(node)
        if site is None:
            return
        if self._writes:
            self._check_unchanged(node, site)
        if self._nan and _unfinite(total) and not any(_unfinite(a) for a in (g, *node.args, node.y)):
            raise AnomalyError(_backward_message(node, k, g, part, total, site.line))

    def _check_unchanged(self, node: Node, site: _Site) -> None:
        """Raise if an array that a node's rules read is not what it was when the node was made."""
        for k, (a, checksum) in enumerate(zip(site.held, site.checksums, strict=True)):
            if checksum is None or _checksum(a) == checksum:
                continue
            self._look_outside(f"the backward in {places.line()}")
            when = next((o.changed for o in self._outside.values() if o.changed and _shares(a, o.array())), "")
            parent = dict(enumerate(node.parents or ())).get(k)
            name = places.name_of(parent) if type(parent) is Leaf else ""
            which = "its result" if k == len(site.held) - 1 else f"its argument {k}"
            raise GraphError(
                f"{which}{f', {name},' if name else ''} of shape {a.shape} was overwritten after {node.row.name} in "
                f"{site.line} had used it{f', {when}' if when else ''}; the derivative needs the old values: write "
                f"after backward, or into a copy"
            )


def _checksum(a: Any) -> int | None:
    if not isinstance(a, np.ndarray):
        return None
    import zlib  # noqa: PLC0415 - only who looks for writes waits for it

    flat = a if a.flags.c_contiguous else a.T if a.flags.f_contiguous else a.copy()
    return zlib.crc32(flat.reshape(-1).view(np.uint8).data)


def _shares(a: Any, b: Any) -> bool:
    return b is not None and np.may_share_memory(a, b)


def _unfinite(a: Any) -> bool:
    """Whether a number or array, or one of a tuple of them, holds NaN or infinity."""
    if isinstance(a, (tuple, list)):
        return any(_unfinite(part) for part in a)
    if hasattr(a, "__array_function__") or isinstance(a, np.generic):
        return a.dtype.kind in "fc" and not item_of(np.all(np.isfinite(a)))
    return isinstance(a, (float, complex)) and not np.isfinite(a)


def _check_forward(row: Row, args: tuple[Any, ...], result: Any, node: Node | None, line: str) -> None:
    """Raise if a call made a NaN or infinity of finite values, or was given a parameter that holds one."""
    bad = [_unfinite(a) for a in args]
    parents = (node.parents or ()) if node is not None else ()
    for k, (a, parent) in enumerate(zip(args, parents, strict=False)):
        if bad[k] and type(parent) is Leaf:
            name = places.name_of(parent) or "a Tensor that requires a gradient"
            raise AnomalyError(
                f"{name}, argument {k} of {row.name} in {line}, is not finite: it was so before the forward pass, or "
                f"an update made it so\n  {_range(a)}"
            )
    if not any(bad) and _unfinite(result):
        raise AnomalyError(
            f"{row.name} made {_kind(result)} from finite values in {line}\n"
            + _ranges(args)
            + f"  result: {_range(result)}"
        )


def _backward_message(node: Node, k: int, g: Any, part: Any, total: Any, line: str) -> str:
    which = f" with respect to argument {k}" if len(node.parents or ()) > 1 else ""
    if not _unfinite(part):
        return (
            f"the sum of gradients became {_kind(total)}: what flows back from {node.row.name}{which} in {line} was "
            f"added to others\n  this gradient: {_range(part)}\n  the sum: {_range(total)}"
        )
    return (
        f"the derivative of {node.row.name}{which} made {_kind(part)} from finite values; its call was in {line}\n"
        + _ranges(node.args)
        + f"  upstream gradient: {_range(g)}\n  gradient: {_range(part)}"
    )


def _kind(a: Any) -> str:
    """Say what is not finite in a number, an array or a tuple: nan, inf or -inf."""
    try:
        values = np.concatenate([np.ravel(fetched(part)) for part in (a if isinstance(a, tuple) else (a,))])
    except TypeError:  # of an array that does not convert
        return "nan or inf"
    return str(values[~np.isfinite(values)][0])


def _ranges(args: Any) -> str:
    return "".join(
        f"  argument {k}: {_range(a)}\n"
        for k, a in enumerate(args)
        if hasattr(a, "__array_function__") or isinstance(a, (float, int))
    )


def _range(a: Any) -> str:
    """Say the shape, dtype and range of an array, and where it is not finite."""
    if isinstance(a, tuple):
        return "; ".join(_range(part) for part in a)
    if not (hasattr(a, "__array_function__") or isinstance(a, np.generic)):
        return repr(a)
    head = f"{a.shape} {a.dtype}"
    try:
        a = fetched(a)
    except TypeError:
        return head
    finite = np.isfinite(a)
    if a.dtype.kind != "c" and finite.any():
        values = np.asarray(a)[finite]
        head += f", from {values.min():.6g} to {values.max():.6g}"
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        head += (
            f", {np.count_nonzero(~finite)} of {a.size} not finite, the first at {list(first)}: {np.asarray(a)[first]}"
        )
    return head
