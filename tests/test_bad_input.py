"""Bad input: every public callable, with every parameter in turn replaced by what should not be there.

`SAMPLES` holds one good call for each callable; a callable without one fails.  Whatever is put in the
place of an argument, the call works or raises an exception of our own tree, and where it raises,
what it was given is as it was.  What cannot be meant (text for an array, a list for a number) must raise.
"""

from __future__ import annotations

import copy
import inspect
import types
import warnings

import numpy as np
import pytest
from bad_input_samples import NOT_CALLED, SAMPLES, public_callables

import tinygrad_nn as tn
from tinygrad_nn.errors import TinygradError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    MATRIX = np.matrix([[1.0, 2.0]])

NO_NUMBERS = {
    "text": lambda: "text",
    "bytes": lambda: b"bytes",
    "an object": object,
    "a class": lambda: int,
    "a list of text": lambda: ["a", "b"],
    "a ragged list": lambda: [[1.0], [2.0, 3.0]],
    "an array of objects": lambda: np.array([object(), None]),
    "an array of text": lambda: np.array(["a", "b"]),
    "a structured array": lambda: np.zeros(2, dtype="i4,f8"),
    "an array of dates": lambda: np.array(["2020-01-01"], "M8[D]"),
    "a masked array": lambda: np.ma.array([1.0, 2.0], mask=[0, 1]),
    "a matrix": MATRIX.copy,
    "a dict": lambda: {"a": 1.0},
    "a set": lambda: {1.0},
}
ODD = {
    "None": lambda: None,
    "a generator": lambda: (i for i in (1.0, 2.0)),
    "a function": lambda: lambda *_: None,
    "True": lambda: True,
    "a complex number": lambda: 1j,
    "-1": lambda: -1,
    "0": lambda: 0,
    "2.5": lambda: 2.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "a huge whole number": lambda: 10**30,
    "a small whole number": lambda: np.int8(-100),
    "an empty list": list,
    "an empty array": lambda: np.empty((0,)),
    "no rows": lambda: np.empty((0, 3)),
    "an array without axes": lambda: np.array(1.5),
    "nan in an array": lambda: np.array([[1.0, np.nan], [np.inf, 0.0]]),
    "an array of whole numbers": lambda: np.arange(6).reshape(2, 3),
    "an array of bools": lambda: np.array([True, False]),
    "an array of complex numbers": lambda: np.array([1j, 2.0]),
    "many axes": lambda: np.ones((1, 2, 1, 3, 1, 2)),
    "a Tensor": lambda: tn.Tensor([1.0, 2.0], requires_grad=True),
    "a Tensor of whole numbers": lambda: tn.Tensor([1, 2]),
}
ZOO = NO_NUMBERS | ODD


def parameters(name):
    """The places of a good call that can be replaced: positions and keywords."""
    _, args, kwargs = SAMPLES[name]()
    return [*range(len(args)), *kwargs]


def frozen(value):
    """A picture of the values inside arguments, to compare by."""
    if isinstance(value, tn.optim.Optimizer):
        value = [value.state_dict(), *(group["params"] for group in value.param_groups)]
    if isinstance(value, tn.nn.Module):
        value = list(value.named_tensors())
    if isinstance(value, tn.Tensor):
        value = (value.data, value.grad)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(item) for item in value]
    return repr(value) if isinstance(value, (int, float, str, type(None))) else id(value)


def call(function, args, kwargs):
    """What an error of ours says in which a call ends, if it does; any other error is the test's."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of the values: NaN, infinity
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy 2.0's, of the truth of an empty array
        try:
            result = function(*args, **kwargs)
            if isinstance(result, types.GeneratorType):
                next(result, None)
        except TinygradError as error:
            return str(error)
        except OSError:  # Python's own, for a path that does not lead to a file
            return "no file"
    return ""


TAKEN = {  # (callable, place): what is taken there though it holds no numbers, and why
    ("Tensor.searchsorted", 0): {"text"},  # NumPy compares numbers and text as text
    **{(name, 2): {"a dict"} for name in ("grad", "value_and_grad", "hessian", "jacobian", "vjp")},  # a nesting
    **{
        ("data.batches", k): {"a list of text", "an array of objects", "an array of text", "a structured array"}
        for k in (0, 1)
    },
}
OF_THE_USER = {  # what a function of the user's raises is passed on
    ("differentiable", 0): {"a class"},
    **{(f"nn.{name}", "weight_init"): {"a class"} for name in ("Linear", "Conv2d", "Embedding")},
    **{(f"nn.{name}", "bias_init"): {"a class"} for name in ("Linear", "Conv2d")},
    ("testing.check_backward", 1): set(ZOO),  # what the layer's own forward says of its input
    **{(f"testing.{name}", 0): {"a class"} for name in ("check_gradients", "gradient_report", "compare")},
    **{(f"testing.{name}", "rule"): {"a class"} for name in ("check_gradients", "gradient_report", "compare")},
    **{(name, what): {"a class"} for name in ("fit", "evaluate") for what in ("loss", "metrics", "validation")},
}

CASES = [(name, place) for name in sorted(SAMPLES) for place in parameters(name)]


def test_every_public_callable_has_a_sample() -> None:
    assert set(public_callables()) - set(SAMPLES) - set(NOT_CALLED) == set()
    assert (set(SAMPLES) | set(NOT_CALLED)) - set(public_callables()) == set()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_sample_is_a_good_call(name) -> None:
    function, args, kwargs = SAMPLES[name]()
    assert not call(function, args, kwargs)


@pytest.mark.parametrize(("name", "place"), CASES, ids=[f"{n}[{p}]" for n, p in CASES])
def test_what_should_not_be_there_raises_an_error_of_ours(name, place) -> None:
    problems = []
    for kind, make in ZOO.items():
        if kind in OF_THE_USER.get((name, place), ()):
            continue
        function, args, kwargs = SAMPLES[name]()
        good = args[place] if isinstance(place, int) else kwargs[place]
        if isinstance(place, int):
            args = (*args[:place], make(), *args[place + 1 :])
        else:
            kwargs = {**kwargs, place: make()}
        state = (getattr(function, "__self__", None), args, kwargs)
        before = frozen(copy.copy(state))
        try:
            refused = call(function, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever comes is told
            problems.append(f"{kind}: {type(error).__name__}: {str(error)[:150]}")
            continue
        if refused and len(refused) < 20 and refused != "no file":
            problems.append(f"{kind}: the message says too little: {refused}")
        if refused and frozen(state) != before:
            problems.append(f"{kind}: something changed before the error")
        wrong = kind in NO_NUMBERS and isinstance(good, (np.ndarray, tn.Tensor, float))
        if not refused and wrong and kind not in TAKEN.get((name, place), ()):
            problems.append(f"{kind}: taken without an error")
    assert not problems, "\n".join(["", *problems])


def test_signatures_have_no_parameter_that_no_sample_gives() -> None:
    missing = {}
    for name, make in SAMPLES.items():
        function, args, kwargs = make()
        taken = list(inspect.signature(function).parameters.values())
        names = {p.name for p in taken[len(args) :] if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if names - set(kwargs):
            missing[name] = sorted(names - set(kwargs))
    assert missing == {}
