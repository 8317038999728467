"""The methods that Tensors share with NumPy's arrays: each is the NumPy function of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tinygrad_nn.derivatives import Traced

__all__ = ["ArrayMethods"]


class ArrayMethods(Traced):
    """Reductions, shapes and orders as methods; `np.f(t)` says more about each, and takes the same options."""

    __slots__ = ()

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        result: Self = self.__array_function__(function, (), (self, *args), kwargs)  # type: ignore[attr-defined]
        return result

    @property
    def mT(self) -> Self:  # noqa: N802 - NumPy's name
        """The Tensor with its last two axes exchanged."""
        return self._call(np.swapaxes, -1, -2)

    def __round__(self, ndigits: int | None = None) -> Self:
        return self.round(ndigits or 0)

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def max(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Self:
        """Take the largest entry over `axis` (all by default), as `np.max`."""
        return self._call(np.max, axis=axis, keepdims=keepdims, **options)

    def min(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Self:
        """Take the smallest entry over `axis` (all by default), as `np.min`."""
        return self._call(np.min, axis=axis, keepdims=keepdims, **options)

    def prod(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Self:
        """Multiply over `axis` (all by default), as `np.prod`."""
        return self._call(np.prod, axis=axis, keepdims=keepdims, **options)

    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False, **options: Any) -> Self:
        """Return the variance over `axis` (all by default), as `np.var`."""
        return self._call(np.var, axis=axis, ddof=ddof, keepdims=keepdims, **options)

    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False, **options: Any) -> Self:
        """Return the standard deviation over `axis` (all by default), as `np.std`."""
        return self._call(np.std, axis=axis, ddof=ddof, keepdims=keepdims, **options)

    def cumsum(self, axis: Any = None) -> Self:
        """Return the running sums along `axis` (of all entries by default), as `np.cumsum`."""
        return self._call(np.cumsum, axis=axis)

    def cumprod(self, axis: Any = None) -> Self:
        """Return the running products along `axis` (of all entries by default), as `np.cumprod`."""
        return self._call(np.cumprod, axis=axis)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Self:
        """Sum a diagonal, as `np.trace`."""
        return self._call(np.trace, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Self:
        """Return a diagonal, as `np.diagonal`."""
        return self._call(np.diagonal, offset, axis1, axis2)

    def repeat(self, repeats: Any, axis: int | None = None) -> Self:
        """Repeat entries, as `np.repeat`."""
        return self._call(np.repeat, repeats, axis)

    def take(self, indices: Any, axis: int | None = None, mode: str = "raise") -> Self:
        """Pick entries by their numbers, as `np.take`."""
        return self._call(np.take, indices, axis, mode=mode)

    def compress(self, condition: Any, axis: int | None = None) -> Self:
        """Pick the entries along `axis` for which a condition holds, as `np.compress`."""
        result: Self = self.__array_function__(np.compress, (), (condition, self, axis), {})  # type: ignore[attr-defined]
        return result

    def choose(self, choices: Any, mode: str = "raise") -> Self:
        """Take each entry from the choice of its number, as `np.choose`."""
        return self._call(np.choose, choices, mode=mode)

    def argsort(self, axis: Any = -1, kind: Any = None, **options: Any) -> Self:
        """Return the order that sorts, as `np.argsort`; no gradient flows."""
        return self._call(np.argsort, axis, kind, **options)

    def searchsorted(self, v: Any, side: str = "left", sorter: Any = None) -> Self:
        """Return where `v` would be inserted, as `np.searchsorted`; no gradient flows."""
        return self._call(np.searchsorted, v, side, sorter)

    def nonzero(self) -> tuple[Self, ...]:
        """Return the positions of the entries that are not 0, as `np.nonzero`; no gradient flows."""
        positions: Any = self._call(np.nonzero)
        return tuple(positions)

    def round(self, decimals: int = 0) -> Self:
        """Round to `decimals`, as `np.round`; no gradient flows."""
        return self._call(np.round, decimals)

    def copy(self) -> Self:
        """Return a Tensor with entries of its own, through which gradients flow."""
        return self._call(np.copy)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Return the position of the largest entry, as `np.argmax`; no gradient flows."""
        return self._call(np.argmax, axis=axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, keepdims: bool = False) -> Self:
        """Return the position of the smallest entry, as `np.argmin`; no gradient flows."""
        return self._call(np.argmin, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Self:
        """Test whether all entries along `axis` are true, as `np.all`."""
        return self._call(np.all, axis=axis, keepdims=keepdims, **options)

    def any(self, axis: Any = None, keepdims: bool = False, **options: Any) -> Self:
        """Test whether any entry along `axis` is true, as `np.any`."""
        return self._call(np.any, axis=axis, keepdims=keepdims, **options)

    def clip(self, min: Any = None, max: Any = None) -> Self:  # noqa: A002 - NumPy's names
        """Limit the entries to ``[min, max]``, as `np.clip`."""
        return self._call(np.clip, min, max)

    def dot(self, other: Any) -> Self:
        """Multiply as `np.dot`."""
        return self._call(np.dot, other)

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """Exchange two axes, as `np.swapaxes`."""
        return self._call(np.swapaxes, axis1, axis2)

    def squeeze(self, axis: Any = None) -> Self:
        """Remove axes of length 1, as `np.squeeze`."""
        return self._call(np.squeeze, axis=axis)

    def ravel(self, order: str = "C") -> Self:
        """Return the entries in one axis, as `np.ravel`."""
        return self._call(np.ravel, order)

    flatten = ravel
