"""Every exception that tinygrad_nn raises on purpose.

The tree, each class with the built-in that it also is::

    TinygradError
    ├── ShapeError        (ValueError)      shapes that do not fit together
    ├── DTypeError        (TypeError)       a dtype or a type that cannot be used here
    ├── ArgumentError     (ValueError)      an option outside its range
    ├── BoundsError       (IndexError, ValueError) an index or axis that a shape does not have
    ├── NoDerivativeError (TypeError)       a function, or an argument of it, without a derivative
    ├── RuleError         (RuntimeError)    a derivative rule that returned something impossible
    ├── GraphError        (RuntimeError)    calls in the wrong order: backward twice, on a constant ...
    ├── AnomalyError      (ArithmeticError) a NaN or infinity that `detect_anomaly` found
    ├── DetachError       (TypeError)       a value about to leave the graph without being asked to
    ├── StateError        (ValueError)      a state dict that does not fit
    └── FileFormatError   (ValueError)      a damaged, truncated or foreign file

``except tn.errors.TinygradError`` catches them all; ``except ValueError`` and the like go on
working as NumPy users expect.  Each message says what was wrong, with the values and shapes, and
what to write instead.
"""

from __future__ import annotations

__all__ = [
    "AnomalyError",
    "ArgumentError",
    "BoundsError",
    "DTypeError",
    "DetachError",
    "FileFormatError",
    "GraphError",
    "NoDerivativeError",
    "RuleError",
    "ShapeError",
    "StateError",
    "TinygradError",
]


class TinygradError(Exception):
    """The root of every exception that tinygrad_nn raises on purpose."""


class ShapeError(TinygradError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(TinygradError, TypeError):
    """A dtype, or a type, that cannot be used here."""


class ArgumentError(TinygradError, ValueError):
    """An option outside its range."""


class BoundsError(TinygradError, IndexError, ValueError):
    """An index or an axis that a shape does not have; NumPy's AxisError is both built-ins too."""


class NoDerivativeError(TinygradError, TypeError):
    """A function, or an argument of it, that the derivative table does not cover."""


class RuleError(TinygradError, RuntimeError):
    """A derivative rule that returned something impossible: a wrong shape, kind or count."""


class GraphError(TinygradError, RuntimeError):
    """Calls in the wrong order: backward twice, on a constant, on changed values."""


class AnomalyError(TinygradError, ArithmeticError):
    """A NaN or infinity that `tn.detect_anomaly` found where it began."""


class DetachError(TinygradError, TypeError):
    """A value that was about to leave the graph without being asked to."""


class StateError(TinygradError, ValueError):
    """A state dict whose entries do not fit the module or optimizer."""


class FileFormatError(TinygradError, ValueError):
    """A damaged, truncated or foreign file."""
