"""Data preparation on NumPy arrays, before the graph: scaling, one-hot targets, batches, IDX files, MNIST."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from tinygrad_nn.checks import axes_of, dtype_of, fetched, flag, path_of, sized, whole
from tinygrad_nn.errors import ArgumentError, DTypeError, FileFormatError, ShapeError

__all__ = [
    "Mnist",
    "Normalizer",
    "Standardizer",
    "batches",
    "load_mnist",
    "load_mnist_subset",
    "normalize",
    "one_hot",
    "read_idx",
    "standardize",
]

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Array: TypeAlias = np.ndarray[Any, Any]
Axis: TypeAlias = int | tuple[int, ...] | None


def _plain(values: ArrayLike) -> Array:
    """An array of what is given; a mask would be lost silently, and lists may be ragged."""
    if isinstance(values, np.ma.MaskedArray):
        raise DTypeError("a masked array would lose its mask: pass values.filled(value), or the entries that count")
    if isinstance(values, np.matrix):
        raise DTypeError("a matrix has rules of its own, which would be lost: pass np.asarray(values)")
    try:
        array: Array = fetched(values)
    except ValueError as error:
        raise ShapeError(f"a regular array is needed: {error}") from None
    return array


def _as_numbers(values: ArrayLike) -> Array:
    array = _plain(values)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"values must be real numbers, not {array.dtype}; write values.astype(np.float64)")
    if array.size == 0:
        raise ShapeError(f"values is empty (shape {array.shape}); at least one number is needed")
    if not (finite := np.isfinite(array)).all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ArgumentError(f"values holds {array[where]} at index {where}; see np.nan_to_num to replace it")
    return array


def _is_foreign(values: Any) -> bool:
    """Whether an array is of another library, such as one for more data than memory holds."""
    return hasattr(values, "__array_function__") and not isinstance(values, np.ndarray)


class _Scaler:
    def __init__(self, values: ArrayLike, axis: Axis = None) -> None:
        array = _as_numbers(values)
        axes = None if axis is None else axes_of("axis", axis, array.ndim)
        self.shape = None if axes is None else tuple(-1 if i in axes else n for i, n in enumerate(array.shape))
        # Integers would wrap around in max - min, and float32 and float16 lose digits in long sums.
        wide = np.result_type(array.dtype, np.float64)
        how: dict[str, Any] = {"axis": axes, "keepdims": axes is not None}
        low, high = array.min(**how).astype(wide), array.max(**how).astype(wide)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self.offset, scale = self._figures(array, low, high, how)
        if not (np.isfinite(self.offset).all() and np.isfinite(scale).all()):
            raise ArgumentError(f"values from {low.min()} to {high.max()} overflow {wide}; divide them first")
        # Rounding makes the std of equal values tiny instead of 0, so low == high decides; dividing by
        # infinity then gives 0 for every finite value.
        self.scale: Array = np.where((low == high) | (scale == 0), np.inf, scale)

    def _figures(self, array: Array, low: Array, high: Array, how: Any) -> tuple[Array, Array]:
        raise NotImplementedError

    def __call__(self, values: ArrayLike) -> Array:
        """Return ``(values - offset) / scale``: a new array, float64 for integers, else of the same dtype."""
        array = _as_numbers(values)
        # Broadcasting alone would let figures of one column pass for (n, 4), and those of (1, 4) for (4,).
        fits = self.shape is None or len(self.shape) == array.ndim
        if not fits or any(n not in (-1, m) for n, m in zip(self.shape or (), array.shape, strict=False)):
            raise ShapeError(
                f"values of shape {array.shape} do not fit figures for shape {self.shape} (-1: any size); "
                "write values[np.newaxis] for one sample"
            )
        result = np.subtract(array, self.offset)
        result /= self.scale
        return result.astype(array.dtype if array.dtype.kind == "f" else np.float64, copy=False)


class Normalizer(_Scaler):
    """Scale by the minimum and maximum of training data: ``(values - min) / (max - min)``.

    ``Normalizer(train, axis)`` takes the figures once; calling it applies them to any data, so training, test
    and later data go through one formula (test data may leave 0..1).  ``axis`` is NumPy's: None takes the
    figures of the whole array, for data of any shape; ``axis=0`` those of each feature over the samples, for
    data with the same features.  What is constant in the training data becomes 0 in all data.  The figures
    are ``offset`` and ``scale`` (infinite where constant), in float64.
    The result has the values' shape; floats keep their dtype, integers and bools become float64.  ShapeError
    for empty values or other features, DTypeError for what is not a real number, ArgumentError for NaN,
    infinity or a wrong axis.

    >>> import numpy as np, tinygrad_nn as tn
    >>> train, test = np.array([[0, 5], [10, 5]]), np.array([[20, 7]])
    >>> scale = tn.data.Normalizer(train, axis=0)
    >>> scale(train), scale(test)
    (array([[0., 0.], [1., 0.]]), array([[2., 0.]]))
    """

    def _figures(self, _array: Array, low: Array, high: Array, _how: Any) -> tuple[Array, Array]:
        return low, high - low


class Standardizer(_Scaler):
    """Scale by the mean and standard deviation of training data: ``(values - mean) / std``.

    Used as `Normalizer` is, with the same axis, constant features, dtypes, shapes and errors.  The standard
    deviation is NumPy's, ``sqrt(mean((values - mean)**2))``.

    >>> import numpy as np, tinygrad_nn as tn
    >>> scale = tn.data.Standardizer(np.array([1.0, 3.0]))
    >>> scale([1.0, 3.0]), scale([5.0])
    (array([-1., 1.]), array([3.]))
    """

    def _figures(self, array: Array, low: Array, _high: Array, how: Any) -> tuple[Array, Array]:
        return array.mean(dtype=low.dtype, **how), array.std(dtype=low.dtype, **how)


def normalize(values: ArrayLike, axis: Axis = None) -> Array:
    """Return ``(values - min) / (max - min)``: from 0 to 1 by the values' own minimum and maximum.

    Short for ``Normalizer(values, axis)(values)``: see `Normalizer`, also for scaling test data alike.

    >>> import numpy as np, tinygrad_nn as tn
    >>> tn.data.normalize(np.array([0, 51, 255], np.uint8))
    array([0. , 0.2, 1. ])
    """
    return Normalizer(values, axis)(values)


def standardize(values: ArrayLike, axis: Axis = None) -> Array:
    """Return ``(values - mean) / std``: mean 0 and deviation 1 by the values' own figures.

    Short for ``Standardizer(values, axis)(values)``: see `Standardizer`, also for scaling test data alike.

    >>> import numpy as np, tinygrad_nn as tn
    >>> tn.data.standardize(np.array([[1.0, 10.0], [3.0, 30.0]]), axis=0)
    array([[-1., -1.], [ 1., 1.]])
    """
    return Standardizer(values, axis)(values)


def one_hot(labels: ArrayLike, num_classes: int | None = None, dtype: DTypeLike = np.float64) -> Array:
    """Return rows of zeros with a 1 at each label, ``labels[..., None] == arange(num_classes)``.

    Labels are integers from 0, of any shape; the result, of ``dtype``, has shape (*labels.shape,
    num_classes).  ``num_classes`` defaults to ``labels.max() + 1``.  DTypeError for labels of other kinds,
    ArgumentError for labels outside 0 .. num_classes - 1, ShapeError for no labels and no ``num_classes``.

    >>> import tinygrad_nn as tn
    >>> tn.data.one_hot([0, 2], 3)
    array([[1., 0., 0.], [0., 0., 1.]])
    """
    array, dtype = _plain(labels), dtype_of("dtype", dtype)
    if num_classes is None and array.size == 0:
        raise ShapeError(f"labels of shape {array.shape} is empty, so num_classes cannot be counted: give it")
    if array.dtype.kind not in "iu" and array.size:
        raise DTypeError(f"labels must be integers, got dtype {array.dtype}; write labels.astype(np.int64)")
    count = int(array.max()) + 1 if num_classes is None else whole("num_classes", num_classes)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < count:
        raise ArgumentError(f"labels from {array.min()} to {array.max()}: they must lie in 0..{count - 1}")
    if array.size * count * dtype.itemsize > np.iinfo(np.intp).max:
        raise ArgumentError(f"{array.size} rows of num_classes={count} do not fit into memory")
    result: Array = np.zeros((array.size, count), dtype)
    result[np.arange(array.size), array.ravel().astype(np.intp)] = 1
    return result.reshape(*array.shape, count)


class batches:  # noqa: N801 - reads as range and zip do, which are classes too
    """Cut arrays along their first axis into batches: tuples of aligned batches, or batches of one array.

    Arrays (n, ...) give ``ceil(n / batch_size)`` batches of ``batch_size`` samples, the last one shorter or,
    with ``drop_last=True``, left out; ``len`` counts them.  Giving ``rng`` shuffles, all arrays alike, anew
    in each loop over the object (``shuffle=False`` switches it off).  Shuffled batches are copies, others
    views.  All is checked before the first batch: ShapeError for arrays of different lengths, of length 0 or
    without an axis; ArgumentError for a wrong batch size, ``shuffle=True`` without ``rng``, and where
    ``drop_last`` leaves no batch; DTypeError for an ``rng`` that is not a NumPy Generator.

    >>> import numpy as np, tinygrad_nn as tn
    >>> x, y = np.arange(10).reshape(5, 2), np.arange(5)
    >>> [targets.tolist() for inputs, targets in tn.data.batches(x, y, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    >>> loader = tn.data.batches(y, batch_size=2, rng=np.random.default_rng(0))
    >>> for epoch in range(2):
    ...     print([targets.tolist() for targets in loader])
    [[2, 4], [3, 0], [1]]
    [[4, 1], [2, 0], [3]]
    """

    def __init__(
        self,
        *arrays: ArrayLike,
        batch_size: int,
        shuffle: bool | None = None,
        rng: np.random.Generator | None = None,
        drop_last: bool = False,
    ) -> None:
        self._arrays: tuple[Any, ...] = tuple(sized(array) if _is_foreign(array) else _plain(array) for array in arrays)
        shapes = ", ".join(str(array.shape) for array in self._arrays)
        if not arrays or any(array.ndim == 0 for array in self._arrays):
            raise ShapeError(f"batches needs arrays with an axis of samples, got shapes {shapes or '(none)'}")
        lengths: set[int] = {array.shape[0] for array in self._arrays}
        if len(lengths) > 1 or lengths == {0}:
            raise ShapeError(f"arrays of shapes {shapes} must have the same first axis, of 1 sample or more")
        self._size, self._samples = whole("batch_size", batch_size), lengths.pop()
        self._batches = self._samples // self._size if flag("drop_last", drop_last) else -(-self._samples // self._size)
        if self._batches == 0:
            raise ArgumentError(f"{drop_last=} leaves no batch of {batch_size=} from {self._samples} samples")
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise DTypeError(f"{rng=} is not a NumPy Generator; write rng=np.random.default_rng(seed)")
        if shuffle is not None and flag("shuffle", shuffle) and rng is None:
            raise ArgumentError("shuffle=True needs a generator; write rng=np.random.default_rng(seed)")
        self._rng = None if shuffle is not None and not shuffle else rng

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Any]:
        order = None if self._rng is None else self._rng.permutation(self._samples)
        for start in range(0, self._batches * self._size, self._size):
            part = slice(start, start + self._size)
            batch = tuple(array[part if order is None else order[part]] for array in self._arrays)
            yield batch if len(batch) > 1 else batch[0]


_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 1 << 31) -> Array:
    """Read an IDX file, the format of MNIST, plain or gzip, into a writable array in native byte order.

    Content: two zero bytes, the element type (08 uint8, 09 int8, 0b int16, 0c int32, 0d float32, 0e float64),
    the number of dimensions, each size as a uint32, the elements; all big-endian.  Gzip is recognised by
    content, whatever the name.
    Safe with hostile files: memory follows what is really there (at most about twice the elements read), not
    what the header announces; reading and decompressing stop one byte after the announced end, and a header
    that announces more than ``max_bytes`` (2 GiB) is refused.  FileFormatError for a damaged, truncated, too
    long, foreign or empty file; a missing file is Python's FileNotFoundError.

    >>> import pathlib, tempfile, tinygrad_nn as tn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "numbers.idx")
    ...     _ = path.write_bytes(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0, 7, 1, 0]))
    ...     tn.data.read_idx(path)
    array([ 7, 256], dtype=int16)
    """
    path, max_bytes = path_of("path", path), whole("max_bytes", max_bytes)
    import gzip  # noqa: PLC0415 - only who reads files waits for these
    import zlib  # noqa: PLC0415

    with open(path, "rb") as file:  # noqa: PTH123 - pathlib would cost every import of the package
        stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
        try:
            return _parse_idx(stream.read, max_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile, FileFormatError) as error:
            raise FileFormatError(f"{path!r}: {error}") from None


def _parse_idx(read: Callable[[int], bytes], max_bytes: int) -> Array:
    magic = read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES or not 1 <= magic[3] <= 64:
        raise FileFormatError(
            "not an IDX file: expected 00 00, an element type (08, 09, 0b to 0e) and a number of dimensions "
            f"(01 to 40), found {magic.hex(' ') or 'an empty file'}"
        )
    dtype, sizes = np.dtype(_IDX_DTYPES[magic[2]]), read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise FileFormatError(f"truncated header: expected {4 * magic[3]} bytes of sizes, found {len(sizes)}")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    expected = dtype.itemsize * math.prod(shape)
    # Without the zeros, because NumPy refuses a shape such as (0, 2**32 - 1, 2**32 - 1, 2**32 - 1) as well.
    if dtype.itemsize * math.prod(n for n in shape if n) > max_bytes:
        raise FileFormatError(f"the header announces {dtype.name} of shape {shape}, more than {max_bytes=}")
    content = bytearray()
    # The one byte more shows a file that is too long, and makes gzip compare its checksum at the end.
    while chunk := read(min(1 << 20, expected + 1 - len(content))):
        content += chunk
    if len(content) != expected:
        found = len(content) if len(content) < expected else "more"
        raise FileFormatError(f"expected {expected} bytes of {dtype.name}, shape {shape}, found {found}")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


class Mnist(NamedTuple):
    """Images (n, 28, 28) and labels (n,) of MNIST, all uint8, for training and for testing."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def load_mnist_subset() -> Mnist:
    """Load the part of MNIST that comes with the package: 1,000 training and all 10,000 test images.

    Images (1000, 28, 28) and (10000, 28, 28), labels (1000,) and (10000,), all uint8: the first 1,000 of the
    60,000 training images, and the complete test images, of the MNIST database of handwritten digits by
    Y. LeCun, C. Cortes and C. Burges, under CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/).

    >>> import tinygrad_nn as tn
    >>> mnist = tn.data.load_mnist_subset()
    >>> mnist.train_images.shape, mnist.test_images.shape, mnist.train_labels[:5]
    ((1000, 28, 28), (10000, 28, 28), array([5, 0, 4, 1, 9], dtype=uint8))
    """
    from importlib import resources  # noqa: PLC0415 - only who loads MNIST waits for it

    with resources.as_file(resources.files("tinygrad_nn") / "_mnist") as folder:
        return load_mnist(folder)


def load_mnist(folder: str | os.PathLike[str]) -> Mnist:
    """Load MNIST, or a set of the same form, from its four IDX files in a folder.

    The names are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, or spelled ``train-images.idx3-ubyte``, plain or with ``.gz``; of several, the
    first in this order is read.  Images are (n, height, width), labels (n,), all uint8.  FileNotFoundError
    names a missing file; FileFormatError for damaged files, other shapes or dtypes, and different counts.

    >>> import importlib.resources, tinygrad_nn as tn
    >>> tn.data.load_mnist(importlib.resources.files("tinygrad_nn") / "_mnist").test_labels.shape
    (10000,)
    """
    folder = path_of("folder", folder)
    arrays: list[Array] = []
    for stem, ndim in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1)):
        names = [f"{stem}{mark}idx{ndim}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
        paths = (os.path.join(folder, name) for name in names)  # noqa: PTH118 - as above
        path = next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113
        if path is None:
            raise FileNotFoundError(f"{folder!r} holds none of {', '.join(names)}")
        arrays.append(array := read_idx(path))
        if array.ndim != ndim or array.dtype != np.uint8:
            raise FileFormatError(f"'{path}': expected {ndim}-d uint8, found {array.dtype}, {array.shape}")
        if ndim == 1 and len(array) != len(arrays[-2]):
            raise FileFormatError(f"'{path}': {len(array)} labels, but {len(arrays[-2])} images beside it")
    return Mnist(*arrays)
