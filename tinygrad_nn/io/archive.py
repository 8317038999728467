"""Files of arrays: `.npz` (a zip of NumPy's own format) and `.safetensors`, written, and read with suspicion.

What is read here was perhaps written by nobody who means well: sizes are checked before anything of that size
is read, every byte is compared with its checksum (`.npz`) before it is looked at, and nothing is unpickled.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import secrets
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from tinygrad_nn.errors import ArgumentError, DTypeError, FileFormatError
from tinygrad_nn.io.structure import Array, holds, parse

__all__ = ["STRUCTURE", "read_npz", "read_safetensors", "replacing", "write_npz", "write_safetensors"]

STRUCTURE = "tinygrad_nn.json"
WEIGHT = 32  # what a byte of JSON may take in memory when it is read
_DIRECTORY = 1 << 23  # the longest list of members that is read
_SAFE = {"bool", "complex64", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
_SAFE |= {"float16", "float32", "float64"}


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` when the block ends well, and is removed when it does not."""
    path = os.path.realpath(path)  # a link keeps pointing to the file
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - as everywhere here: pathlib would cost every import
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        raise ArgumentError(f"{path!r} is there and is no ordinary file")
    folder, name = os.path.split(path)
    fresh = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(8)}.tmp")  # noqa: PTH118
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(fresh, flags, 0o666), "w+b") as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)  # noqa: PTH105
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh)  # noqa: PTH108
        raise
    if hasattr(os, "O_DIRECTORY"):  # the new name is to survive a power cut, too
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


# .npz


def write_npz(file: IO[bytes], text: bytes, arrays: Mapping[str, Array]) -> None:
    """Write arrays, and the structure's JSON, as a zip without compression; the same values give the same bytes."""
    import zipfile  # noqa: PLC0415 - only who saves waits for it

    archive = zipfile.ZipFile(file, "w", allowZip64=True)
    try:
        with archive.open(zipfile.ZipInfo(STRUCTURE), "w") as member:
            member.write(text)
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, np.asarray(array), allow_pickle=False)
        archive.close()
    except BaseException:
        archive.fp = None  # closed without an end: an error of the end would hide what happened, such as Ctrl-C
        raise


def read_npz(file: IO[bytes], max_bytes: int) -> tuple[bytes | None, dict[str, Array]]:
    """Read what `write_npz` or `np.savez` wrote: the JSON, or None, and the arrays by name."""
    import zipfile  # noqa: PLC0415

    opening = _Opening(file)
    try:
        with zipfile.ZipFile(opening) as archive:
            opening.longest = max_bytes
            members = _check_members(archive.infolist(), max_bytes)
            _check_count(file, len(archive.infolist()))
            text = _content(archive, members.pop(STRUCTURE)) if STRUCTURE in members else None
            return text, {name[:-4]: _array(name, _content(archive, info)) for name, info in members.items()}
    except (FileFormatError, MemoryError):
        raise
    except Exception as error:
        # zipfile has no list of what it raises on damage: struct, zlib, Unicode and index errors are among it
        raise FileFormatError(f"no whole .npz file: {error}") from error


class _Opening:
    """A file that refuses to give a list of members so long that it would fill the memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.longest = file, _DIRECTORY
        self.seek, self.tell, self.close = file.seek, file.tell, lambda: None
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self.longest:
            raise FileFormatError(f"a list of members of {size} bytes; at most {self.longest} are read")
        return self._file.read(size)


def _check_members(infos: list[Any], max_bytes: int) -> dict[str, Any]:
    """Check names and sizes before anything is read."""
    members: dict[str, Any] = {}
    for info in infos:
        name = info.filename
        if info.orig_filename != name or not name.isprintable() or "\\" in name:
            raise FileFormatError(f"the member name {info.orig_filename!r} is not one of arrays")
        if {"", ".", ".."} & set(name.split("/")):
            raise FileFormatError(f"the member name {name!r} leads out of the archive")
        if name in members:
            raise FileFormatError(f"the member {name!r} is there twice")
        if name != STRUCTURE and not name.endswith(".npy"):
            raise FileFormatError(f"{name!r} is no array: is this an .npz file? {_FOREIGN}")
        if info.flag_bits & 1 or info.compress_type not in (0, 8):
            raise FileFormatError(f"{name!r} is encrypted, or compressed in another way than NumPy does")
        members[name] = info
    total = sum(info.file_size * (WEIGHT if name == STRUCTURE else 1) for name, info in members.items())
    if total > max_bytes:
        raise FileFormatError(
            f"what it holds may take {total} bytes, more than {max_bytes=}; give a larger one if you trust it"
        )
    return members


def _check_count(file: IO[bytes], count: int) -> None:
    """Compare the number of members with the one that the archive's end declares; zipfile takes what it finds."""
    file.seek(max(0, file.seek(0, 2) - (1 << 16) - 22))
    declared = file.read().rpartition(b"PK\5\6")[2][6:8]
    if int.from_bytes(declared, "little") not in (count, 0xFFFF):
        raise FileFormatError(f"{count} members, of {int.from_bytes(declared, 'little')} that it declares")


_FOREIGN = "From PyTorch write np.savez(path, **{name: t.numpy() for name, t in model.state_dict().items()})"


def _content(archive: Any, info: Any) -> bytes:
    """Read a member to its end, which compares the checksum; never more than its declared size."""
    with archive.open(info) as member:
        content: bytes = member.read(info.file_size)
        if len(content) != info.file_size or member.read(1):
            raise FileFormatError(f"{info.filename!r} has not the size that it declares")
    return content


def _array(name: str, content: bytes) -> Array:
    """Read one array in NumPy's format: no objects, no text, and exactly as many bytes as its shape needs."""
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy mends some headers, and says so
            version = npy.read_magic(stream)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream)
    except Exception as error:
        raise FileFormatError(f"{name!r} has no header of an array: {str(error)[:200]}") from error
    if not holds(dtype):
        raise FileFormatError(f"{name!r} holds {str(dtype)[:80]}, not numbers or bools; nothing is unpickled")
    size, start = dtype.itemsize * math.prod(shape), stream.tell()
    if size != len(content) - start:
        raise FileFormatError(
            f"{name!r} has {len(content) - start} bytes, which is not shape {str(shape)[:80]} of {dtype}"
        )
    flat = np.frombuffer(content, dtype, offset=start) if size else np.empty(0, dtype)
    order: Any = "F" if fortran else "C"
    try:
        return _own(name, flat.reshape(shape, order=order), order)
    except (ValueError, OverflowError) as error:
        raise FileFormatError(f"{name!r} cannot have the shape {str(shape)[:80]}: {error}") from None


def _own(name: str, array: Array, order: Any) -> Array:
    """Copy an array out of what was read."""
    array = array.copy(order)
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise FileFormatError(f"{name!r} holds bools that are neither 0 nor 1")
    return array


# .safetensors


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError:
        raise ArgumentError(
            "reading and writing .safetensors needs the library of that name: pip install 'tinygrad-nn[safetensors]', "
            "or name the file .npz"
        ) from None


def write_safetensors(file: IO[bytes], text: bytes, arrays: Mapping[str, Array]) -> None:
    """Write arrays, and the structure's JSON as metadata; refuse dtypes that the format does not know."""
    library = _safetensors()
    for name, array in arrays.items():
        if array.dtype.name not in _SAFE or not array.dtype.isnative or sys.byteorder != "little":
            raise DTypeError(f"{name} is {array.dtype.str}, which .safetensors cannot hold: name the file .npz")
    whole = {name: np.array(array, order="C", copy=None) for name, array in arrays.items()}
    file.write(library.save(whole, {STRUCTURE: text.decode("ascii")}))


def read_safetensors(file: IO[bytes], max_bytes: int) -> tuple[bytes | None, dict[str, Array]]:
    """Read a `.safetensors` file: the JSON, or None, and the arrays by name."""
    library = _safetensors()
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise FileFormatError(f"more bytes than {max_bytes=}; give a larger one if you trust the file")
    header = int.from_bytes(content[:8], "little")
    if header * WEIGHT > max_bytes or header + 8 > len(content):
        raise FileFormatError(f"a header of {header} bytes is more than there is, or than {max_bytes=} allows")
    try:
        found = library.load(content)
    except MemoryError:
        raise
    except Exception as error:
        raise FileFormatError(f"no whole .safetensors file: {str(error)[:200]}") from error
    text = (parse(content[8 : 8 + header]).get("__metadata__") or {}).get(STRUCTURE)
    return None if text is None else text.encode(), {name: _own(name, a, "C") for name, a in found.items()}
