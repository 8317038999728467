"""`save` and `load`: parts of a training, as one file that is written whole or not at all."""

from __future__ import annotations

import copy
import json
import operator
import os
from typing import Any

import numpy as np

from tinygrad_nn.conversion import moved
from tinygrad_nn.errors import ArgumentError, DTypeError, FileFormatError, StateError, TinygradError
from tinygrad_nn.io import archive
from tinygrad_nn.io.structure import Array, decode, encode, parse, place
from tinygrad_nn.tensor import Tensor

__all__ = ["load", "save"]

VERSION = 1
_JSON = 1 << 25  # the most that the structure may take, without the arrays
_SPARE = 1 << 30


def save(path: str | os.PathLike[str], /, **parts: Any) -> None:
    """Write parts of a training to one file, which appears whole or not at all.

    The file is written beside its place under another name, brought to the disk, and renamed: a crash at any
    moment leaves the old file or the new one.  It holds no pickle, and is an ordinary ``.npz`` file, which
    `np.load` opens too: an array for each array, named after its place, and ``tinygrad_nn.json``.

    Parameters
    ----------
    path : str or path
        Ends in ``.npz``, or in ``.safetensors`` if that library is installed.
    **parts
        Each is one of

        - an object with ``state_dict()`` (Module, optimizer, schedule): its state, which is parameters and buffers of
          a Module, without the Generators of its layers: save those beside it;
        - a NumPy Generator: where it stands;
        - a Tensor or array of numbers or bools, a number, text, None, or dicts, lists and tuples of these.

        Everything comes back exactly: dtypes, byte order, memory order, NaN with its bits, integers of any size,
        tuples as tuples, NumPy's numbers as NumPy's; Tensors come back as arrays.  ``.safetensors`` keeps the
        values in C order, and has no checksums, other byte orders, long doubles or complex128.  Long doubles
        (``np.longdouble``) differ between machines, and are read only where they are the same; all else is portable.

    Raises
    ------
    DTypeError
        Naming the place of what a file cannot hold: objects, arrays of objects or text, subclasses.
    ArgumentError
        For another suffix, a part named ``max_bytes``, a path that is there and is no file, or more than 32 MiB
        of values outside arrays.
    OSError
        As Python raises it, if the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, tinygrad_nn as tn
    >>> net = tn.nn.Linear(3, 1)
    >>> optimizer, rng = tn.optim.Adam(net.parameters()), np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.npz")
    ...     tn.save(path, model=net, optimizer=optimizer, rng=rng, epoch=3)
    ...     tn.load(path, model=net, optimizer=optimizer, rng=rng)
    {'epoch': 3}
    """
    name = _path(path, "save")
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 - pathlib would cost every import of the package
    if suffix not in (".npz", ".safetensors"):
        raise ArgumentError(f"a checkpoint is an .npz or a .safetensors file, got {name!r}: write {name + '.npz'!r}")
    if not parts or "max_bytes" in parts:
        raise ArgumentError("save needs at least one part, none named max_bytes: tn.save(path, model=net)")
    arrays: dict[str, Array] = {}
    nodes = [[key, encode(_state(part), (key,), arrays)] for key, part in parts.items()]
    document: dict[str, Any] = {"format": "tinygrad_nn", "version": VERSION}
    if any(array.dtype.char in "gG" for array in arrays.values()):
        document["long_double"] = _long_double()
    text = json.dumps({**document, "parts": {"dict": nodes}}, separators=(",", ":")).encode("ascii")
    if len(text) > _JSON:
        raise ArgumentError(
            f"{len(text)} bytes of values outside arrays, at most {_JSON} can be held: make long lists of numbers "
            f"arrays, np.array(values)"
        )
    with archive.replacing(name) as file:
        (archive.write_npz if suffix == ".npz" else archive.write_safetensors)(file, text, arrays)


def load(path: str | os.PathLike[str], /, *, max_bytes: int | None = None, **parts: Any) -> dict[str, Any]:
    """Read a file that `save` wrote: restore the parts that are given, and return the others.

    All or nothing: after any error the parts are as they were.  Safe with files from anywhere: no code is run,
    nothing is unpickled, and what a file declares is checked before it is read.

    Parameters
    ----------
    path : str or path
        A ``.safetensors`` file if it ends so, else an ``.npz`` file.  A file of another origin, such as
        ``np.savez(path, **net.state_dict())`` writes, is one dict of arrays: given one part with
        ``load_state_dict`` it takes them all, and Tensors and arrays take those of their name.
    max_bytes : int, optional
        The most that the arrays in the file may take, its JSON counting 32 times; by default the size of the file and
        1 GiB.  At most about three times as much memory is used.
    **parts
        What to restore in place, under the names they were saved under: objects with ``load_state_dict()``,
        Generators, leaf Tensors and arrays.

    Returns
    -------
    dict
        The parts that were not asked for, by name: states as nested dicts of arrays, the rest as it was saved.

    Raises
    ------
    FileFormatError
        For a damaged, truncated, foreign or hostile file, or one that takes more than `max_bytes`.
    StateError
        For a part that is missing, or whose names, shapes or dtypes are others.
    DTypeError
        For a part that cannot be restored in place: leave it out, to have it returned.
    OSError
        As Python raises it, if there is no such file.

    Examples
    --------
    >>> import pathlib, tempfile, tinygrad_nn as tn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "net.npz")
    ...     tn.save(path, model=tn.nn.Linear(2, 1, weight_init=tn.nn.init.constant(0.5)), note="first")
    ...     tn.load(path)["model"]["weight"]
    array([[0.5],
           [0.5]])
    """
    name = _path(path, "load")
    if max_bytes is not None:
        try:
            max_bytes = operator.index(max_bytes)
        except TypeError:
            raise DTypeError(f"max_bytes is a whole number, got {max_bytes!r}") from None
    for key, part in parts.items():
        _check_target(key, part)
    with open(name, "rb") as file:  # noqa: PTH123
        limit = os.fstat(file.fileno()).st_size + _SPARE if max_bytes is None else max_bytes
        try:
            read = archive.read_safetensors if name.endswith(".safetensors") else archive.read_npz
            text, arrays = read(file, limit)
            found = _whole(arrays, parts) if text is None else _decoded(text, arrays)
        except FileFormatError as error:
            raise FileFormatError(f"{name!r}: {error}") from error.__cause__
    missing = [key for key in parts if key not in found]
    if missing:
        raise StateError(f"{name!r} has no part {', '.join(missing)}: it has {', '.join(map(str, found)) or 'none'}")
    _restore(parts, found, name)
    return {key: value for key, value in found.items() if key not in parts}


def _path(path: Any, function: str) -> str:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise DTypeError(f"{function} takes the path of a file first, got {type(path).__name__}")
    return os.fspath(path)


def _long_double() -> int:
    """How many digits this machine's long double has, in bits: the sizes alone do not tell the kinds apart."""
    return int(np.finfo(np.longdouble).nmant)


def _state(part: Any) -> Any:
    if isinstance(part, np.random.Generator):
        return dict(part.bit_generator.state)
    if callable(getattr(part, "state_dict", None)) and not isinstance(part, type):
        return part.state_dict()
    return part


def _decoded(text: bytes, arrays: dict[str, Array]) -> dict[str, Any]:
    document = parse(text)
    if document.get("format") != "tinygrad_nn" or type(document.get("version")) is not int:
        raise FileFormatError("its JSON does not say which format it has")
    if document["version"] != VERSION:
        raise FileFormatError(f"it has version {document['version']} of the format; this release reads {VERSION}")
    if any(a.dtype.char in "gG" for a in arrays.values()) and document.get("long_double") != _long_double():
        raise FileFormatError("it holds long doubles of another kind of machine: save them as float64 there")
    left = dict(arrays)

    def take(name: Any) -> Array:
        if not isinstance(name, str) or name not in left:
            raise FileFormatError(f"the array {str(name)[:80]!r} is missing, or named twice")
        return left.pop(name)

    found = decode(document.get("parts"), take)
    if type(found) is not dict or not all(isinstance(key, str) for key in found) or left:
        raise FileFormatError(f"its JSON names no parts, or not the arrays {list(left)[:5]}")
    return found


def _whole(arrays: dict[str, Array], parts: dict[str, Any]) -> dict[str, Any]:
    """What a file of another origin holds: the state of the one object that asks for it, or arrays by name."""
    objects = [key for key, part in parts.items() if hasattr(part, "load_state_dict")]
    if not objects:
        return dict(arrays)
    if len(parts) > 1:
        raise FileFormatError(
            f"it was not written by tn.save, so it is one part, and {len(parts)} are asked for: {', '.join(parts)}"
        )
    return {objects[0]: arrays}


# Restoring


def _check_target(key: str, part: Any) -> None:
    if isinstance(part, type):
        raise DTypeError(f"{key} is the class {part.__name__}: give an object made from it")
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        return
    if isinstance(part, np.random.Generator) or (isinstance(part, Tensor) and part.is_leaf):
        return
    if type(part) is not np.ndarray:
        raise DTypeError(
            f"{key} ({type(part).__name__}) cannot be restored in place, as objects with state_dict and "
            f"load_state_dict, Generators, leaf Tensors and arrays can: leave it out, and it is returned"
        )
    if part.dtype.hasobject:
        raise DTypeError(f"{key} is an array of objects, which no file holds: leave it out")
    if not part.flags.writeable:
        raise DTypeError(f"{key} is a read-only array, which cannot be restored in place: leave it out")


def _restore(parts: dict[str, Any], found: dict[str, Any], name: str) -> None:
    """Put every part into its state, or none."""
    done: list[tuple[Any, Any]] = []
    key = ""
    try:
        for key, part in parts.items():
            before = copy.deepcopy(_state(part.data.copy() if isinstance(part, Tensor) else part))
            done.append((part, before))
            _put(part, found[key], key)
    except BaseException as error:
        for part, before in reversed(done):
            _put(part, before, "")
        if isinstance(error, TinygradError):
            error.add_note(f"(in the part {key!r} of {name!r}; nothing was loaded)")
        elif isinstance(error, Exception):
            raise StateError(
                f"{key} ({type(parts[key]).__name__}) does not take its state from {name!r}, nothing was loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
        raise


def _put(part: Any, state: Any, key: str) -> None:
    if isinstance(part, np.random.Generator):
        _put_generator(part.bit_generator, state, key)
    elif isinstance(part, Tensor):
        data = part.data if part.requires_grad else np.empty_like(part.data)
        _copy(data, state, key)
        part.data = data  # through the door: graphs that need the old values will notice
    elif isinstance(part, np.ndarray):
        _copy(part, state, key)
    else:
        part.load_state_dict(state)


def _copy(data: Any, state: Any, key: str) -> None:
    if not isinstance(state, np.ndarray) or state.shape != data.shape:
        shape = getattr(state, "shape", None)
        got = type(state).__name__ if shape is None else f"an array {shape}"
        raise StateError(f"{key} is an array {data.shape}, the file has {got}")
    if not np.can_cast(state.dtype, data.dtype, "safe"):
        raise StateError(f"{key} is {data.dtype}, the file has {state.dtype}: convert it first")
    np.copyto(data, moved(state, data))


def _put_generator(target: Any, state: Any, key: str) -> None:
    """Set a bit generator; NumPy itself takes positions beyond the end of its tables, and reads there."""
    current = target.state
    if type(state) is not dict or state.get("bit_generator") != current["bit_generator"]:
        kind = state.get("bit_generator") if type(state) is dict else type(state).__name__
        raise StateError(f"{key} is a Generator on {current['bit_generator']}, the file has {str(kind)[:80]}")
    _check_like(state, current, (key,))
    copy.deepcopy(target).state = state  # a trial, for what NumPy itself refuses
    target.state = state


_ENDS = {"pos": 625, "buffer_pos": 5, "has_uint32": 2, "uinteger": 1 << 32}


def _check_like(state: Any, current: Any, path: tuple[Any, ...]) -> None:
    """Raise StateError unless a state has the keys, types and ranges of the current one."""
    if type(state) is not type(current) or getattr(state, "shape", 0) != getattr(current, "shape", 0):
        raise StateError(f"{place(path)} is {str(state)[:80]}, expected one like {str(current)[:80]}")
    if isinstance(state, dict):
        if state.keys() != current.keys():
            raise StateError(f"{place(path)} has the entries {list(state)}, expected {list(current)}")
        for key in current:
            _check_like(state[key], current[key], (*path, key))
    elif isinstance(state, np.ndarray) and state.dtype != current.dtype:
        raise StateError(f"{place(path)} is {state.dtype}, expected {current.dtype}")
    elif isinstance(state, int) and not 0 <= state < _ENDS.get(path[-1], 1 << 128):
        raise StateError(f"{place(path)} is {state}, which is out of range")
