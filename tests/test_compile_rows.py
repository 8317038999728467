"""Every row of the derivative table, compiled: the numbers of the eager engine, or a clear error."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from domains import DOMAINS, Draw, name_of
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn.compiler import compile  # noqa: A004
from tinygrad_nn.derivatives.table import COMPOSITIONS, rows

ACTIVE = {row.function for row in rows() if row.active} | COMPOSITIONS.keys()
FAR = 1e-9  # of functions such as inv, whose BLAS routines round by the layout in which they find an array


def drawn(function: Any, data: Any) -> Any:
    d = Draw(data)
    case = DOMAINS[function](d)
    v = d.rng.standard_normal(np.shape(case.call(*case.arrays)))
    return case.call, case.arrays, v


@pytest.mark.parametrize("function", [f for f in DOMAINS if f in ACTIVE], ids=name_of)
@settings(max_examples=3, phases=[Phase.generate])  # shrinking records anew, hundreds of times
@given(data=st.data())
def test_a_row_compiled(function: Any, data: Any) -> None:
    call, arrays, v = drawn(function, data)
    parameters = [tn.Tensor(np.array(a, order="K"), requires_grad=True) for a in arrays]

    def loss(v: Any) -> Any:
        return (call(*parameters) * v).sum()

    step = compile(loss)
    with np.errstate(all="ignore"):
        for factor in (1.0, -2.0):
            try:
                value = step(v * factor)
            except tn.errors.GraphError as error:  # rules that compute from the values of a mask, for instance
                assert re.search("freeze|other(?: values| path)|np.where", str(error))  # noqa: PT017
                return
            grads = [p.grad for p in parameters]
            for p in parameters:
                p.zero_grad()
            expected = loss(v * factor)
            expected.backward()
            np.testing.assert_allclose(value.data, expected.data, rtol=FAR, atol=FAR)
            for p, g in zip(parameters, grads, strict=True):
                assert (g is None) == (p.grad is None)
                if g is not None:
                    scale = np.max(np.abs(p.grad[np.isfinite(p.grad)]), initial=1.0)
                    np.testing.assert_allclose(g, p.grad, rtol=1e-12, atol=FAR * 1e-3 * scale)
                p.zero_grad()
