"""The table as a whole: its page, and every keyword that NumPy documents for its functions."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn.derivatives.table import COMPOSITIONS, name_of, rows
from tinygrad_nn.errors import NoDerivativeError, TinygradError

PAGE = Path(tn.__file__).parent / "derivatives" / "TABLE.md"

# what no function on Tensors takes: a place to write into, a conversion, or a memory layout
NOWHERE = {"out", "dtype", "order", "subok", "like", "casting", "signature", "device", "copy", "overwrite_input"}
# options without a meaning here, each with its reason
LEFT_OUT = {
    "pad": {"kwargs"},  # NumPy's signature hides the modes' own options
    "argpartition": {"kind"},  # there is one algorithm
    "partition": {"kind"},
    "sliding_window_view": {"writeable"},  # a Tensor is never written into
    "reshape": {"newshape"},  # the old name of shape
    "where": {"x", "y"},  # positional in NumPy
    "empty_like": {"prototype"},
    "atleast_1d": {"arys"},
    "atleast_2d": {"arys"},
    "atleast_3d": {"arys"},
}
SUPPORTED = {row.function: row for row in rows()} | COMPOSITIONS
DOCUMENTED = [f for f in SUPPORTED if not isinstance(f, np.ufunc) and f.__module__.startswith("numpy")]


def accepted(function) -> set[str]:
    made = SUPPORTED[function]
    if function in COMPOSITIONS:
        return names_of(made)
    if made.bind is not None:
        return names_of(made.bind)
    positional, keywords, _ = made.parameters
    return {*positional, *keywords}


def names_of(function) -> set[str]:
    found = set()
    for p in inspect.signature(function).parameters.values():
        found.add(p.name)
    return found


@pytest.mark.parametrize("function", DOCUMENTED, ids=name_of)
def test_every_documented_keyword_is_taken_or_refused_on_purpose(function) -> None:
    try:
        documented = set(inspect.signature(function).parameters)
    except ValueError:  # a builtin without a signature
        return
    taken = accepted(function)
    if "options" in taken or "named" in taken:  # handed on to a function that is checked itself
        return
    missing = documented - taken - NOWHERE - LEFT_OUT.get(function.__name__, set())
    assert not missing


def test_the_page_is_up_to_date() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tinygrad_nn.derivatives"], capture_output=True, text=True, check=True, timeout=60
    )
    # an older NumPy has fewer functions
    assert set(run.stdout.splitlines()[6:-1]) <= set(PAGE.read_text("utf-8").splitlines())
    assert len(run.stdout.splitlines()) > 400


X, WHOLE = tn.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True), tn.Tensor(np.arange(6))
REFUSED = {
    "pads of nothing in particular": (lambda: np.pad(X, 1, "empty"), "np.pad: mode='empty' is none of"),
    "a function as mode": (lambda: np.pad(X, 1, np.tanh), "mode=.* is none of"),
    "an option of another mode": (lambda: np.pad(X, 1, "edge", constant_values=2), "no option, got constant_values"),
    "an unknown option": (lambda: np.pad(X, 1, "mean", length=2), "takes stat_length=?, got length"),
    "a negative width": (lambda: np.pad(X, (0, -1), "mean"), "pad_width=.*-1.* 0 or more"),
    "half a width": (lambda: np.pad(X, 1.5, "mean"), "pad_width=.*1.5"),
    "three widths": (lambda: np.pad(X, (1, 2, 3), "mean"), r"np.pad of .*\(2, 3\).*broadcast"),
    "an unknown reflection": (
        lambda: np.pad(X, 1, "reflect", reflect_type="skew"),
        "np.pad: reflect_type='skew' is none of 'even', 'odd'",
    ),
    "odd reflections of bools": (lambda: np.pad(X > 1, 1, "reflect", reflect_type="odd"), "bools"),
    "a negative length": (lambda: np.pad(X, 1, "mean", stat_length=-1), "stat_length=.*-1"),
    "the mean of none": (lambda: np.pad(X, 1, "mean", stat_length=0), "stat_length=.*0.* 1 or more"),
    "pads made of nothing": (lambda: np.pad(X[:0], 1, "mean"), r"axis 0 of shape \(0, 3\)"),
    "no choices": (lambda: np.choose(WHOLE, []), "0 choices"),
    "choices by fractions": (lambda: np.choose(X, [X]), "integers.*float64"),
    "a choice that is not there": (lambda: np.choose([0, 1, 2], X), "choices lie from 0 to 1, got 0 to 2"),
    "choices in another mode": (lambda: np.choose([0, 1, 1], X, mode="last"), "np.choose: mode='last' is none of"),
    "positions in another mode": (lambda: np.take(X, [0], mode="last"), "np.take: mode='last' is none of"),
    "choices of other shapes": (lambda: np.choose([0, 1], X), "np.choose of .*broadcast"),
    "a condition with two axes": (lambda: np.compress([[1]], X), "np.extract"),
    "a condition that is too long": (lambda: np.extract([0] * 6 + [1], X), "index 6 is out of bounds"),
    "deleting what is not there": (lambda: np.delete(X, 7), "np.delete of .*index 7 is out of bounds"),
    "another axis": (lambda: np.delete(X, 0, 5), "axis 5 is out of bounds"),
    "fractions among integers": (lambda: np.insert(WHOLE, 0, 1.5), "float64 does not fit among entries of int64"),
    "too many values": (lambda: np.insert(X, [0, 1], [1, 2, 3]), "np.insert of .*broadcast"),
    "fractions after integers": (lambda: np.ediff1d(WHOLE, 1.5), "float64 does not fit"),
    "another order of axes": (lambda: np.meshgrid(X, indexing="yx"), "np.meshgrid: indexing='yx' is none of"),
    "sums in another mode": (lambda: np.convolve(X[0], X[1], "last"), "np.convolve: mode='last' is none of"),
    "a start behind the axes": (lambda: np.rollaxis(X, 0, 3), "axis 3 is out of bounds"),
    "parts of which there are none": (lambda: np.split(X, 0), "sections must be positive, got 0"),
    "a turn in one axis": (lambda: np.rot90(X, 1, (1, 1)), "np.rot90.*repeated axis"),
    "a norm along a third axis": (lambda: np.linalg.vector_norm(X, axis=2), "axis 2 is out of bounds"),
    "the norm of a number along an axis": (lambda: np.linalg.vector_norm(X[0, 0], axis=0), "axis 0 is out of bounds"),
    "a product along one axis twice": (lambda: np.prod(X, (0, -2)), "np.prod.*repeated axis"),
    "a product along a third axis": (lambda: np.prod(X, (0, 2)), "axis 2 is out of bounds"),
    "a product from a fraction": (lambda: np.prod(WHOLE, initial=1.5), "initial of float64 does not fit.*int64"),
    "slopes along a third axis": (lambda: np.gradient(X, axis=2), "axis 2 is out of bounds"),
    "ddof by two names": (lambda: np.var(X, ddof=1, correction=0), "ddof=1 and correction=0 are two names"),
    "positions between entries": (lambda: np.take(X, [1.5]), "integer"),
    "a side that is None": (lambda: np.hypot(X, None), "np.hypot of .*None"),
    "a triangle that is no text": (lambda: np.linalg.eigh(X[:, :2], 1), "np.linalg.eigh of .*1"),
    "a start before the axes": (lambda: np.rollaxis(X, 0, -3), "axis -3 is out of bounds"),
}

if hasattr(np, "cumulative_sum"):  # from NumPy 2.1 on
    REFUSED["running sums along no axis"] = (lambda: np.cumulative_sum(X), r"shape \(2, 3\) need axis=")
    REFUSED["running products along no axis"] = (lambda: np.cumulative_prod(X), r"shape \(2, 3\) need axis=")


@pytest.mark.parametrize("call", list(REFUSED))
def test_what_a_composition_refuses_is_an_error_of_ours_that_says_why(call) -> None:
    make, message = REFUSED[call]
    with pytest.raises(TinygradError, match=message):
        make()


CALLS = {
    1: lambda x: [(x,)],
    2: lambda x: [(x, x)],
    None: lambda x: [(x,), (x, x), ([x, x],), (x, x, x), ("ij,jk", x, x)],
}


@pytest.mark.parametrize("function", [f for f in SUPPORTED if f in DOCUMENTED or isinstance(f, np.ufunc)], ids=name_of)
def test_no_function_writes_into_an_array_or_converts(function) -> None:
    x = tn.Tensor(np.eye(3), requires_grad=True)
    ufunc = isinstance(function, np.ufunc)
    try:
        documented = {"out", "dtype"} if ufunc else inspect.signature(function).parameters
    except ValueError:
        pytest.skip("this NumPy does not tell the signature")
    options = {"out": (np.eye(3),) * (function.nout if ufunc else 1), "dtype": np.float32}
    for name in {"out", "dtype"} & set(documented) - ({"dtype"} if function is getattr(np, "astype", None) else set()):
        for args in CALLS[function.nin if ufunc else None](x):
            try:
                function(*args, **{name: options[name]})
            except NoDerivativeError as error:
                assert name in str(error)  # noqa: PT017 - of several forms of the call one is refused for this
                assert name_of(function) in str(error)  # noqa: PT017
                break
            except (TypeError, ValueError):  # not this form
                continue
        else:
            pytest.fail(f"{name_of(function)} took {name}=")
