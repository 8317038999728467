"""Nested values as JSON and arrays: what stands between a checkpoint's parts and its file.

JSON itself holds None, bools, text, finite floats (Python writes and reads them exactly) and small integers;
a JSON list is a list.  Everything else is an object with one entry that says what it is::

    {"dict": [[key, value], ...]}    {"tuple": [...]}     {"int": "0x1f..."}    from 2**53 on
    {"array": name}                  {"scalar": name}     an array without axes, for a NumPy number
    {"float": "7ff8000000000000"}    NaN and infinity, as IEEE bits             {"complex": [re, im]}
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tinygrad_nn.checks import fetched
from tinygrad_nn.errors import DTypeError, FileFormatError
from tinygrad_nn.tensor import Tensor

__all__ = ["Array", "decode", "encode", "holds", "parse", "place"]

Array: TypeAlias = np.ndarray[Any, Any]
DEPTH = 64
_KEYS = (str, int, float, bool, type(None))
_EXACT = 2**53  # from here on other readers of JSON round integers


def holds(dtype: np.dtype[Any]) -> bool:
    """Whether a file holds arrays of a dtype: numbers and bools, nothing that needs pickle."""
    return dtype.kind in "biufc"


def place(path: tuple[Any, ...]) -> str:
    """Write down where a value stands, as one would reach it: ``optimizer['state'][0]['m']``."""
    head, *rest = path
    return str(head) + "".join(f"[{_label(key)}]" for key in rest)


def _label(key: Any) -> str:
    # Python refuses to write integers of thousands of digits
    return hex(key) if type(key) is int and abs(key) >= _EXACT else repr(key)


def encode(value: Any, path: tuple[Any, ...], arrays: dict[str, Array]) -> Any:
    """Turn a value into JSON, and put its arrays into `arrays` under names made of their places.

    Raises
    ------
    DTypeError
        For what no file can hold, with its place.
    """
    kind = type(value)
    if len(path) > DEPTH:
        raise DTypeError(f"{place(path[:3])}... is nested more than {DEPTH} deep, or contains itself")
    if value is None or kind is bool or kind is str:
        return value
    if kind in (int, float, complex):
        return _number(value)
    if kind is list or kind is tuple:
        items = [encode(item, (*path, k), arrays) for k, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    if kind is dict:
        return {"dict": [_entry(key, item, path, arrays) for key, item in value.items()]}
    return {"scalar" if isinstance(value, np.generic) else "array": _put(value, path, arrays)}


def _number(value: Any) -> Any:
    if type(value) is complex:
        return {"complex": [_number(value.real), _number(value.imag)]}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    return value if abs(value) < _EXACT else {"int": hex(value)}


def _entry(key: Any, item: Any, path: tuple[Any, ...], arrays: dict[str, Array]) -> list[Any]:
    if type(key) not in _KEYS:
        raise DTypeError(
            f"{place(path)} has the key {key!r} ({type(key).__name__}); a file holds keys that are text, Python "
            f"numbers or None"
        )
    return [encode(key, path, arrays), encode(item, (*path, key), arrays)]


def _put(value: Any, path: tuple[Any, ...], arrays: dict[str, Array]) -> str:
    array = value.data if isinstance(value, Tensor) else value
    if isinstance(array, np.generic):
        array = np.asarray(array)
    if hasattr(array, "__array_function__") and not isinstance(array, np.ndarray):
        array = fetched(array)
    if type(array) not in (np.ndarray, np.memmap):
        raise DTypeError(
            f"{place(path)} is a {type(array).__module__}.{type(array).__qualname__}; a file holds arrays, numbers, "
            f"text, None, and dicts, lists and tuples of them: {_advice(array)}"
        )
    if not holds(array.dtype):
        raise DTypeError(
            f"{place(path)} is an array of {array.dtype}; a file holds arrays of numbers and bools: write "
            f"array.tolist() for text, array.astype(...) for objects and dates"
        )
    name = "/".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", str(part))[:80].strip(".") or "_" for part in path)
    count = 2
    while name in arrays or name == "__metadata__":
        name = f"{name.partition('~')[0]}~{count}"
        count += 1
    arrays[name] = array
    return name


def _advice(value: Any) -> str:
    if hasattr(value, "state_dict") or isinstance(value, np.random.Generator):
        return "give an object with state_dict, or a Generator, as a part of its own, tn.save(path, name=value)"
    if isinstance(value, np.ma.MaskedArray):
        return "write m.filled(value), and the mask beside it"
    if isinstance(value, np.random.RandomState):
        return "use np.random.default_rng(seed)"
    for kind in (dict, list, tuple, str, int, float):
        if isinstance(value, kind):
            return f"write {kind.__name__}(...)"
    return "write np.asarray(x) for what converts, or give the object a state_dict() and load_state_dict()"


def decode(node: Any, take: Callable[[Any], Array], depth: int = 0) -> Any:
    """Turn JSON back into the value; `take` gives the array of a name.

    Raises
    ------
    FileFormatError
        For what `encode` does not write.
    """
    if depth > DEPTH:
        raise FileFormatError(f"nested more than {DEPTH} deep")
    kind = type(node)
    if node is None or kind in (bool, str, int):
        return node
    if kind is float and math.isfinite(node):
        return node
    if kind is list:
        return [decode(item, take, depth + 1) for item in node]
    if kind is dict and len(node) == 1:
        ((tag, content),) = node.items()
        if tag in _DECODERS:
            return _DECODERS[tag](content, take, depth)
    raise FileFormatError(f"{str(node)[:80]!r} is no value")


def _dict(content: Any, take: Callable[[Any], Array], depth: int) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for entry in _checked(content, list):
        key, item = _checked(entry, list, 2)
        key = decode(key, take, DEPTH)
        if type(key) not in _KEYS or key in result:
            raise FileFormatError(f"{str(key)[:80]!r} is no key, or there twice")
        result[key] = decode(item, take, depth + 1)
    return result


def _int(content: Any, _take: Any, _depth: int) -> int:
    if not re.fullmatch(r"-?0x[0-9a-f]+", _checked(content, str)):
        raise FileFormatError(f"{content[:80]!r} is no integer")
    return int(content, 16)


def _float(content: Any, _take: Any, _depth: int) -> float:
    if not re.fullmatch(r"[0-9a-f]{16}", _checked(content, str)):
        raise FileFormatError(f"{content[:80]!r} is no float")
    number: float = struct.unpack(">d", bytes.fromhex(content))[0]
    return number


def _complex(content: Any, take: Any, _depth: int) -> complex:
    real, imag = (decode(part, take, DEPTH) for part in _checked(content, list, 2))
    return complex(_checked(real, float), _checked(imag, float))


def _scalar(content: Any, take: Callable[[Any], Array], _depth: int) -> Any:
    array = take(content)
    if array.ndim:
        raise FileFormatError(f"{str(content)[:80]!r} should be one number, it has shape {array.shape}")
    return array[()]


_DECODERS: dict[str, Callable[[Any, Any, int], Any]] = {
    "dict": _dict,
    "tuple": lambda content, take, depth: tuple(decode(item, take, depth + 1) for item in _checked(content, list)),
    "int": _int,
    "float": _float,
    "complex": _complex,
    "array": lambda content, take, _depth: take(content),
    "scalar": _scalar,
}


def _checked(value: Any, kind: Any, length: int | None = None) -> Any:
    if type(value) is not kind or (length is not None and len(value) != length):
        raise FileFormatError(f"{str(value)[:80]!r} should be a {kind.__name__}")
    return value


def parse(text: bytes) -> dict[str, Any]:
    """Read JSON strictly: one object, no entry twice, no NaN, no depth that exhausts the stack."""
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"no JSON that this package writes: {error}") from None
    checked: dict[str, Any] = _checked(document, dict)
    return checked


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise FileFormatError("an entry is there twice")
    return result


def _no_constant(name: str) -> Any:
    raise FileFormatError(f"{name} is no JSON")
