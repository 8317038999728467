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
from tinygrad_nn.errors import NoDerivativeError

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
