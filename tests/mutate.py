"""Mutation-test the derivative table: plant one mistake at a time, and see which law finds it.

    python -m tests.mutate                         every mutant of every room of the table
    python -m tests.mutate --module linalg         one room (repeat the option for several)
    python -m tests.mutate --sample 25 --seed 3    some mutants
    python -m tests.mutate --list                  also what each mutant was killed by

A mutant is the source of one room with one expression changed: an operator, a comparison, a
constant, an argument, an axis, a slice, a call or a term left out, a result replaced by its input.
Three kinds of mistakes are planted on purpose, since an ordinary change seldom makes them: wrong
for the middle axes only, wrong for some memory layouts of the upstream gradient only, and wrong for
repeated indices only.  Left alone are texts, annotations, and the checks that only raise: what the
table refuses is tested by name.

The laws are those of test_laws.py.  Each is drawn by Hypothesis once, on the table as it is; the
draws are kept, with the functions of the table that ran, and for a mutant only the draws that
come by it are played again, those of the nearest row first, until one fails.  A survivor is a
mistake that the laws do not see, or no mistake: `EXPLAINED` says why, and an explanation that fits
no survivor is an error as well.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import itertools
import random
import re
import signal
import sys
import time
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import test_laws  # after the path to it

from tinygrad_nn import derivatives
from tinygrad_nn.derivatives import table
from tinygrad_nn.testing.mutants import Change, Edits, is_text, parameters_of

ROOMS = ("elementwise", "reductions", "shaping", "indexing", "linalg", "matrices", "decompositions", "calculus")
MODULES = {room: getattr(derivatives, room) for room in ROOMS}
ROOM_OF = {module.__file__: room for room, module in MODULES.items()}

EXAMPLES = 8  # draws of each law for each row
OTHER_COUNTS = {  # for the laws that find most, or take longest
    "test_every_upstream_layout_gives_the_same": 14,
    "test_gradient_of_a_random_projection_equals_the_oracle": 60,
    "test_forward_equals_numpy": 40,
    "test_second_order_by_two_routes": 12,
    "test_shape_and_dtype_are_kept": 12,
}
MOST_REPLAYS = 500  # for one mutant
PER_NEIGHBOUR = 40  # of them, for a row that is not among the nearest
SECONDS = 4  # for one mutant: some never end


_TIE = "where the two are equal the tie has been decided before"
_SAME = "the two have the same shape, dtype or values there"
_ROUNDS = "0 divided by anything is 0: only that it is no division by 0 matters"
_FAST = "a shorter way to the same numbers"
_DTYPE = "a gradient gets the dtype of its argument in any case"
_VECTOR = "a vector has one axis"
_NARROWS = "a kernel of its own only narrows the keywords: what is refused is tested by name"

EXPLAINED: list[tuple[str, str, str, list[str]]] = [
    (
        "elementwise",
        where,
        _TIE,
        [f"lambda g, _y, a, b: _share(g, {more}, a == b)" for more in changed],
    )
    for where, changed in {
        "np.maximum": ("a >= b", "b >= a"),
        "np.minimum": ("a <= b", "b <= a"),
        "np.fmax": ("(a >= b) | np.isnan(b)", "(b >= a) | np.isnan(a)"),
        "np.fmin": ("(a <= b) | np.isnan(b)", "(b <= a) | np.isnan(a)"),
    }.items()
]
EXPLAINED += [
    ("elementwise", "_clip_x", _TIE, ["return g if low is None else _share(g, x >= low, x == low)"]),
    ("elementwise", "_clip_low", _TIE, ["return _share(_below_high(g, x, low, high), low >= x, x == low)"]),
    ("elementwise", "_clip_high", _TIE, ["return _share(g, high <= _above(x, low), _above(x, low) == high)"]),
    ("elementwise", "_below_high", _TIE, ["return g if high is None else _share(g, _above(x, low) <= high, ..."]),
    (
        "elementwise",
        "_hypot_rules",
        _ROUNDS,
        [
            "lambda g, y, a, _b: g * (a / np.where(a == 0, 1, y))",
            "lambda g, y, a, _b: g * (a / np.where(y == 0, 2, y))",
            "lambda g, y, _a, b: g * (b / np.where(y == 0, 2, y))",
        ],
    ),
    ("elementwise", "_sigmoid", "minimum is symmetric", ["...np.minimum(0, x)...", "...np.minimum(0, -x)..."]),
    ("elementwise", "_relu", "maximum is symmetric", ["return np.maximum(0, x)"]),
    ("elementwise", "_tanh", _SAME, ["limit = log_max(g.dtype)", "limit = log_max(_y.dtype)"]),
    (
        "matrices",
        "lambda x, /: np.swapaxes(x, -1, -2)",
        "exchanging two axes is symmetric",
        ["lambda x, /: np.swapaxes(x, -2, -1)"],
    ),
    ("matrices", "_below", "the last two lengths are the same", ["rows, columns = (m.shape * 3)[-2:]"]),
    ("matrices", "_norm_rule", _ROUNDS, ["safe = np.where(x == 0, 1, y)", "safe = np.where(y == 0, 2, y)"]),
    (
        "matrices",
        "_norm_rule",
        "what stands there is replaced by 0 two lines below",
        ["ratio = np.where(flat, 2, np.abs(x) / safe)", "ratio = np.where(flat, 0, np.abs(x) / safe)"],
    ),
    (
        "matrices",
        "_below",
        "numbers that are 0 or 1 choose as False and True do",
        ["return np.tri(rows, columns, k=k)"],
    ),
    ("matrices", "_diag", "read for vectors only", ["n = v.shape[-1] + abs(k)"]),
    ("calculus", "_interp", _SAME, ["n = fp.shape[0]", "n = xp.shape[-1]"]),
    ("matrices", "_linalg_norm", "there is one", ["return _vector_norm(x, ord, axes[-1], keepdims)"]),
    ("calculus", "_diff", "the same values, and nothing writes into a Tensor", ["return a"]),
    ("calculus", "_gradient", "there is one", ["return slopes[-1] if len(slopes) == 1 else tuple(slopes)"]),
    ("calculus", "_gradient", "no number gets there", ["...else 0 if isinstance(axis, int) and axis > 0 else axis)]"]),
    ("calculus", "_slope", "only the refusal of other shapes is left out", ["if True:..."]),
    (
        "calculus",
        "_interp",
        "what follows the first place of the next period is never reached",
        [f"xp = np.concatenate([xp[-1:] - period, xp, xp[{part}] + period])" for part in (":", ":2")]
        + [f"fp = np.concatenate([fp[-1:], fp, fp[{part}]])" for part in (":", ":2")],
    ),
    (
        "calculus",
        "_interp",
        "beside a single sample the values at the ends are taken, whatever the second place",
        ["xp, fp, n = (np.concatenate([...]), np.concatenate([fp, fp]), ...)"],
    ),
    (
        "calculus",
        "_interp",
        "the middle of three numbers; before the first place the value at the end is taken",
        [
            "k = plain(np.clip(0, np.searchsorted(xp, x, side='right') - 1, n - 2))",
            "k = plain(np.clip(np.searchsorted(xp, x, side='right') - 1, -1, n - 2))",
        ],
    ),
    ("calculus", "_trapezoid", "a vector has one axis", ["width = np.diff(x, axis=-1 if x.ndim == 1 else axis)"]),
    ("decompositions", "_reciprocal", "what stands there is replaced by 0", ["...1 / np.where(zero, 2, x))"]),
    ("decompositions", "_eigvalsh", _SAME, ["...dtype=_y.dtype..."]),
    (
        "decompositions",
        "_svd_rule",
        "for square matrices what leaves the space that U or V spans is 0",
        ["if _a.shape[-2] <= _a.shape[-1]", "if True:..."],
    ),
    ("decompositions", "_svd_hermitian", "the last axis is the default", ["order = np.argsort(np.abs(w))[..., ::-1]"]),
    (
        "reductions",
        "_var",
        "maximum is symmetric",
        ["rest: Any = max(0, count - ddof)", "rest = np.maximum(0, count - ddof)"],
    ),
    ("reductions", "_var", "the square of a difference", ["y = np.sum(np.square(mean - a), axis, keepdims=True, ..."]),
    ("reductions", "_let_in", _FAST, ["return np.where(where, part, 0)"]),
    ("reductions", "_prod", _FAST, ["if True:..."]),
    ("matrices", "_norm", "np.linalg.norm always gives it", ["def _norm(...keepdims: bool=True)"]),
    ("matrices", "_norm_rule", "not read", ["def _norm_rule(...keepdims: bool=True)"]),
    (
        "matrices",
        "_norm_rule",
        "what stands there is replaced by 0 in the next line",
        ["ratio = np.abs(x) / safe"],
    ),
    *(
        ("matrices", where, "no number gets there", [f"...{part} if isinstance(axis, tuple) else ..."])
        for where, part in (
            ("_linalg_norm", "axis > 0 else axis)"),
            ("_linalg_norm", "axis < -1 else axis)"),
            ("_linalg_vector_norm", "axis > 0 else axis)"),
        )
    ),
    (
        "matrices",
        "_linalg_norm",
        "only the refusal of more than two axes is left out",
        [
            "if ord is None",
            "if ord is None and (ord is None or len(axes) <= 2)",
            "if ord is None and (axis is None or len(axes) <= 3)",
            "if True:...return _matrix_norm(x, ord, axes, keepdims)",
        ],
    ),
    (
        "matrices",
        "_linalg_norm",
        "NumPy takes one axis as a number as well, and None is None",
        [
            "return norm(x, None, axis, keepdims)",
            "return norm(x, None, axis if ord is None else axes, keepdims)",
            "return norm(x, None, ord if axis is None else axes, keepdims)",
            "return norm(x, None, (...) if axis is None else axes, keepdims)",
        ],
    ),
    (
        "matrices",
        "_vector_norm",
        _FAST,
        [
            "if p in (0, np.inf, -np.inf)",
            "return norm(x, float(p), axis, keepdims)",
            "return norm(x, None if p == 1 else float(p), axis, keepdims)",
        ],
    ),
    ("matrices", "_linalg_vector_norm", "NumPy counts from the end as well", ["several = tuple((i for i in several))"]),
    ("reductions", "_var", _FAST, ["if where is False"]),
    (
        "reductions",
        "_var",
        "all axes have one entry there",
        ["...np.squeeze(y, axis)", "...np.squeeze(y, tuple(range(a.ndim)) if a is None else axis)"],
    ),
    (
        "reductions",
        "_nan_extremum.reduce",
        "matters where there is nothing to choose from: NumPy refuses that without initial=",
        ["...keepdims=keepdims, initial=initial, where=where)"],
    ),
    (
        "reductions",
        "_nanvar",
        "what is not let in is not read",
        ["return _var(_without_nan(a, 1), axis, ...", "return _var(_without_nan(a, -1), axis, ..."],
    ),
    ("decompositions", "_t", "exchanging two axes is symmetric", ["return np.swapaxes(x, -2, -1)"]),
    *(
        ("decompositions", where, _DTYPE, lines)
        for where, lines in {
            "_halved_triangle": ["weights = np.tri(n) - ...", "...- np.eye(n) / 2"],
            "_cofactors": ["...% 2))", "...% 2)).astype(y.dtype)"],
            "_eigh": ["...np.eye(w.shape[-1]) + ..."],
            "_eigvalsh": ["...np.eye(a.shape[-1])...", "...np.eye(_y.shape[-1], dtype=a.dtype)..."],
            "_svd_rule": ["...np.eye(s.shape[-1])"],
            "_svd_hermitian": ["signs = np.take_along_axis(np.where(w < 0, -1, 1), order, axis=-1)"],
        }.items()
    ),
    *(
        ("decompositions", where, "a tuple of gradients is no array", ["...(g.ravel('K')..."])
        for where in ("_slogdet", "_eigh", "_svd_rule")
    ),
    ("decompositions", "_fold", "what a product gives lies in order C", ["return ((g.ravel('K')..."]),
    (
        "decompositions",
        "_reciprocal",
        "what stands there is replaced by 0",
        ["return np.where(zero, 0, 1 / x)", "return np.where(zero, 0, 1 / np.where(zero, 0, x))"],
    ),
    ("decompositions", "_solve_b", "there is one", ["...g[..., None])[..., -1], _b.shape)"]),
    ("decompositions", "_solve_b", _VECTOR, ["...(g.ravel('K')...[..., None])[..., 0], _b.shape)"]),
    ("decompositions", "_cofactors", _FAST, ["if True:...", "if False:...", "if n <= 5"]),
    ("decompositions", "_cofactors", "floats choose and sort as bools do", ["eye = np.eye(n)"]),
    (
        "decompositions",
        "_cofactors",
        "a square matrix, of which so few entries are sorted stably in any case",
        [
            "others = np.argsort(eye, kind='stable')...",
            "others = np.argsort(eye, axis=-1)...",
            "others = np.argsort(eye, axis=1, kind='stable')...",
        ],
    ),
    (
        "decompositions",
        "_cofactors",
        "the same for n > 0, and no rows for n = 0",
        ["...[:, :max(0, n - 1)]", "...[:, :n - 1]", "...[:, :max(n - 1, -1)]"],
    ),
    (
        "decompositions",
        "_cofactors",
        "1 and -1 are their own inverses",
        ["return minors / ...", "sign = np.linalg.det(u) / np.linalg.det(vh)"],
    ),
    (
        "decompositions",
        "_cholesky",
        "the lower triangle of the product reads that of g only, and all three have the same shape and dtype",
        [
            "half = np.linalg.solve(_t(y), np.matmul(_t(y), g) * _halved_triangle(g))",
            "...* _halved_triangle(y))",
            "...* _halved_triangle(_a))",
        ],
    ),
    (
        "decompositions",
        "_svd_rule",
        "for square matrices what leaves the space that U spans is 0",
        ["if _a.shape[-2] >= _a.shape[-1]"],
    ),
    (
        "decompositions",
        "_linalg_svd",
        "for square matrices the same, and only the refusal of others is left out",
        ["def _linalg_svd(a: Any, full_matrices: bool=False..."],
    ),
    (
        "decompositions",
        "_linalg_svd",
        "the last axis is the default",
        ["...np.sort(np.abs(np.linalg.eigvalsh(a)))[..."],
    ),
    (
        "decompositions",
        "_svd_hermitian",
        "the last axis is the default",
        ["...astype(a.dtype), order)", "...np.abs(w), order)", "...order[..., None, :])"],
    ),
    ("decompositions", "_svd_hermitian", "only the type is asked for", ["...np.eye(2)))", "...np.eye(0)))"]),
    ("decompositions", "_svd_hermitian", "1 and -1 are their own inverses", ["...u / signs..."]),
    ("elementwise", "np.nan_to_num", "not read", ["...copy=False, nan=0.0...", "...copy=True, nan=1.0..."]),
    *(
        ("elementwise", where, "one argument: there is no broadcast to undo", lines)
        for where, lines in {
            "np.sinc": ["numpy_row(np.sinc, _sinc)", "numpy_row(np.sinc, _sinc, broadcasts=False)"],
            "sigmoid": ["...name='sigmoid')", "...broadcasts=False)"],
            "relu": ["...name='relu', selects=True...", "...broadcasts=False..."],
            "alias": ["...name='alias')", "...broadcasts=False)"],
        }.items()
    ),
    *(
        ("elementwise", where, "the length is symmetric", lines)
        for where, lines in {
            "np.arctan": ["...length(1, x)..."],
            "np.arcsinh": ["...length(1, x)"],
            "np.arctan2": ["...length(b, a)..."],
            "_length": ["...np.result_type(b, a)...", "return np.hypot(b, a)..."],
        }.items()
    ),
    *(
        ("elementwise", where, "a tuple of gradients is no array", ["...(g.ravel('K')..."])
        for where in ("np.modf", "np.divmod")
    ),
    ("elementwise", "_keep_zero", _FAST, ["return np.where(lost & (g == 0), 0, part)"]),
    ("elementwise", "_above", "maximum is symmetric", ["return x if low is None else np.maximum(low, x)"]),
    (
        "elementwise",
        "_sinc",
        "at the limit both formulas are right, and what the other one gives there is not taken",
        [
            "near = (u >= -1) & (u < 1)",
            "near = (u > -1) & (u <= 1)",
            "v = u",
            "v = np.where(near, u, 1)",
            "v = np.where(near, u, -1)",
            "w = u",
            "w = np.where(near, 2, u)",
            "w = np.where(near, 0, u)",
            "...np.where(turn <= 0, 0.5 + turn, 0.5 - turn)...",
        ],
    ),
    (
        "elementwise",
        "_sinc",
        "the sum broadcasts, and its first term is below the last digit",
        ["series = 0", "for k in range(12, 0, -1)"],
    ),
    ("linalg", "np", "as it is from NumPy 2.2 on", ["if np"]),
    *(
        ("linalg", where, "exchanging two axes is symmetric", ["...np.swapaxes(" + x + ", -2, -1)..."])
        for where, x in (("_matmul_a", "b"), ("_matmul_b", "a"), ("_matvec_x", "a"))
    ),
    ("linalg", "_placed", "only its shape and dtype are read", ["...np.ones((), x.dtype)..."]),
    ("linalg", "_dot_a", "a result has as many axes as its gradient", ["axes = list(range(_a.ndim - 1, _y.ndim))"]),
    ("linalg", "_matmul_b", _FAST, ["if False:...return np.dot(a.T, g)"]),
    ("reductions", "Axis", "read by type checkers only", ["..."]),
    *(
        ("reductions", where, "no number gets there", lines)
        for where, lines in {
            "_count": ["...axis > 0 else axis) if isinstance(axis, tuple) else (axis,))))"],
            "_one_axis": ["...axis > 0 else axis)))", "...axis > 0 else axis))), len(rest))"],
            "_kept": ["...axis > 0 else axis) if isinstance(axis, tuple) else (axis,))]..."],
            "_average": ["axes = (axis,) if isinstance(axis, int) else 0 if...", "...int) else -1 if isinstance..."],
        }.items()
    ),
    ("reductions", "_one_axis", _SAME, ["...for i in rest), _count(a.shape, axis))), len(rest))"]),
    (
        "reductions",
        "_let_in",
        _FAST,
        ["return part if part is True else ...", "return part if where is False else ..."],
    ),
    (
        "reductions",
        "_sum",
        _FAST,
        [
            "if False:...",
            "if not rest",
            "if type(x) is not np.ndarray and (not rest)",
            "if x is np.ndarray and (not rest)",
            "if type(axis) is np.ndarray and (not rest)",
        ],
    ),
    ("reductions", "_sum_rule", "not read", ["def _sum_rule(..."]),
    ("reductions", "_mean_rule", "not read", ["def _mean_rule(...keepdims: bool=True..."]),
    (
        "reductions",
        "_mean",
        _FAST,
        [
            "if False:...",
            "if x.size and x.dtype.char in 'fdgFDG' and (not rest)",
            "if type(x) is not np.ndarray and ...",
            "if x is np.ndarray and ...",
            "if type(axis) is np.ndarray and ...",
        ],
    ),
    (
        "reductions",
        "_mean",
        "nan in both ways",
        ["if type(x) is np.ndarray and x.dtype.char in 'fdgFDG' and (not rest)"],
    ),
    ("reductions", "_mean_rule", _FAST, ["if False:...", "if where is False"]),
    ("reductions", "np.sum", _FAST, ["numpy_row(np.sum, _sum_rule)"]),
    ("reductions", "np.mean", _FAST, ["numpy_row(np.mean, _mean_rule)"]),
    (
        "reductions",
        "_extremum",
        "a gradient gets the dtype of its argument in any case",
        ["ties = chosen.sum(axis=axis, keepdims=keepdims)", "...astype(y.dtype)"],
    ),
    ("reductions", "_extremum", "nothing equals None", ["if True:..."]),
    (
        "reductions",
        "_before",
        "a gradient gets the dtype of its argument in any case",
        ["ones = np.ones((*x.shape[:axis], 1, *x.shape[axis + 1:]))"],
    ),
    *(
        (
            "reductions",
            where,
            "the axis has been counted from the front",
            ["...-1 if isinstance(axis, int) and axis < -1..."],
        )
        for where in ("_product_rule", "_running_product_rule")
    ),
    ("reductions", "_product_rule", "the long way is right for no entries as well", ["...axis > 0 else axis]"]),
    ("reductions", "_product_rule", "there are no entries", ["return x", "return x * 2", "return x * 0"]),
    ("reductions", "_running_product_rule", _SAME, ["n = _y.shape[axis]"]),
    (
        "reductions",
        "_running_product_rule",
        "there are no entries",
        ["return g", "return g * 2", "return g * 0", "return (g.ravel..."],
    ),
    ("reductions", "_prod", _FAST, ["if where is not False"]),
    ("reductions", "_cumsum_rule", _VECTOR, ["...np.flip(g.ravel('K')..."]),
    ("reductions", "np", "as it is from NumPy 2.1 on", ["if np"]),
    *(
        ("reductions", where, _VECTOR, ["axis = axis", "axis = -1 if axis is None else axis"])
        for where in ("_cumulative_sum", "_cumulative_prod")
    ),
    ("reductions", "root", "one argument: there is no broadcast to undo", ["root: ...selects=True, note='0 at 0')"]),
    ("reductions", "_var", _FAST, ["if False:..."]),
    ("reductions", "_average", _SAME, ["total = np.sum(weights / np.ones(a.shape, weights.dtype)..."]),
    ("reductions", "_median", "not read", ["...overwrite_input: bool=True..."]),
    (
        "reductions",
        "_nanmean",
        "what is not let in is not read",
        [
            "return np.mean(a, axis, ...",
            "...np.mean(_without_nan(a, 1), axis, ...",
            "...np.mean(_without_nan(a, -1), axis, ...",
        ],
    ),
    *(
        ("reductions", f"np.{name}", _NARROWS, [f"numpy_row(np.{name}, None)"])
        for name in ("argmax", "argmin", "all", "any", "count_nonzero")
    ),
    # shaping
    (
        "shaping",
        "_expand",
        "arrays and NumPy's numbers only get there, and broadcast_to gives the same entries",
        [
            "if True:...",
            "if False:...",
            "if type(x) is not np.ndarray or not isinstance(x, np.generic)",
            "if not isinstance(x, np.generic)",
            "if type(x) is not np.ndarray",
            "if type(x) is np.ndarray and (not isinstance(x, np.generic))",
            "if x is not np.ndarray and (not isinstance(x, np.generic))",
            "if type(shape) is not np.ndarray and ...",
            "if type(axis) is not np.ndarray and ...",
            "if type(x) is not np.ndarray and ...",
            "return np.broadcast_to(...",
            "return x",
        ],
    ),
    ("shaping", "np", "as it is from NumPy 2.1 on", ["if np"]),
    ("shaping", "_astype", "not read: a Tensor is always another one", ["...copy: bool=False)"]),
    *(
        ("shaping", f, _NARROWS, [f"numpy_row({f}, lambda...{last}"])
        for f, last in {
            "np.reshape": "_a.shape, order))",
            "np.ravel": "_a.shape, order))",
            "np.broadcast_to": "_array.shape))",
            "np.copy": ": g)",
        }.items()
    ),
    (
        "shaping",
        "np.full_like",
        _NARROWS,
        ["numpy_row(np.full_like, None, lambda...unbroadcast(g, _fill_value.shape), note=..."],
    ),
    (
        "shaping",
        "_make",
        _NARROWS,
        ["numpy_row(_make, None, note=...", "numpy_row(_make, None, kernel=_make, note=..."],
    ),
    ("shaping", "_like", _NARROWS, ["return make"]),
    ("shaping", "np.copy", "the same values, and nothing writes into a Tensor", ["lambda a: a"]),
    ("shaping", "_rot90", "the same values, and nothing writes into a Tensor", ["...axes[1]) if k else m"]),
    ("shaping", "_atleast.reshape", "there is one", ["return results[-1] if ..."]),
    (
        "shaping",
        "_with_axes",
        "the axes in front are added two lines below",
        [
            "shape = (*shape, 1)",
            "shape = (1, *shape, 1) if shape == 1 else (*shape, 1)",
            "shape = (1, *shape, 1) if len(shape) == 0 else (*shape, 1)",
        ],
    ),
    (
        "shaping",
        "_transpose",
        "every entry is written below, and the result has as many axes as its gradient",
        ["inverse = [1] * g.ndim", "inverse = [-1] * g.ndim", "inverse = [0] * _y.ndim"],
    ),
    (
        "shaping",
        "np.swapaxes",
        "exchanging two axes is symmetric",
        ["lambda g, _y, _a, axis1, axis2: np.swapaxes(g, axis2, axis1)"],
    ),
    ("shaping", "_repeat", _VECTOR, ["a, axis = (a.reshape(-1), -1) if ..."]),
    ("shaping", "_tile", "multiplication is symmetric", ["...for r, m in zip(shape, reps, strict=True))))"]),
    (
        "shaping",
        "_pad_constant",
        "np.pad always gives it",
        ["...constant_values: Any=1)", "...constant_values: Any=-1)"],
    ),
    ("shaping", "_pad_rule", "not read", ["...constant_values: Any=1)", "...constant_values: Any=-1)"]),
    ("shaping", "_pad_rule", "padding adds no axes", ["widths = np.broadcast_to(pad_width, (_y.ndim, 2))"]),
    (
        "shaping",
        "_concatenate_rule",
        _VECTOR,
        [
            "g, axis, lengths = (g, 0, [math.prod(a.shape) for a in _arrays])",
            "g, axis, lengths = (g.reshape(-1), 1, ...",
            "g, axis, lengths = (g.reshape(-1), -1, ...",
        ],
    ),
    (
        "shaping",
        "_concatenate_rule",
        "a result has as many axes as its gradient",
        ["part = g[_ALL * (axis % _y.ndim)..."],
    ),
    ("shaping", "_stack_rule", "a result has as many axes as its gradient", ["return g[_ALL * (axis % _y.ndim)..."]),
    ("shaping", "_vstack", "0 is the default", ["return np.concatenate(_pieces(tup, 2))"]),
    (
        "shaping",
        "lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0)",
        "0 is the default",
        ["lambda ary, indices_or_sections: _split(ary, indices_or_sections)"],
    ),
    (
        "shaping",
        "lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1)",
        _VECTOR,
        ["...-1 if ary.ndim == 1 else 1)"],
    ),
    (
        "shaping",
        "_hstack",
        "all pieces have as many axes, and " + _VECTOR,
        ["...pieces[-1].ndim == 1 else 1)", "return np.concatenate(pieces, -1 if ..."],
    ),
    (
        "shaping",
        "cast",
        "a gradient gets the dtype of its argument in any case",
        ["lambda g, _y, _x, to: g", "lambda g, _y, _x, to: g.astype(_y.dtype)"],
    ),
    ("shaping", "np.ravel", _VECTOR, ["...np.reshape(g.ravel('K').reshape(g.shape)..."]),
    ("shaping", "_column_stack", "a number becomes a column as well", ["...for a in _pieces(tup, 0)], 1)"]),
    (
        "shaping",
        "_append",
        "np.concatenate takes lists as well",
        ["return np.concatenate([a for a in ...", "...else a for a in (arr, values)], axis)"],
    ),
    # indexing
    (
        "indexing",
        "_repeats",
        _FAST,
        [
            "return (isinstance(part, list) or ...",
            "...part.ndim > 0) for part in parts))",
            "...part.dtype != np.bool_) for part in parts))",
            "...(part.ndim >= 0)) for part in parts))",
            "...(part.ndim > -1)) for part in parts))",
        ],
    ),
    ("indexing", "_repeats", "a tuple there", ["parts = (tuple(index)... if isinstance(index, tuple) else (index,)"]),
    ("indexing", "_scatter", _FAST, ["if True:..."]),
    ("indexing", "_scatter", "an index that names one entry twice gives more than one number", ["if _repeats(g)"]),
    ("indexing", "_take", _VECTOR, ["a, axis = (a.reshape(-1), -1) if axis is None else ..."]),
    ("indexing", "_take", "maximum is symmetric", ["indices = np.clip(0, indices, a.shape[axis] - 1)"]),
    ("indexing", "_along", "broadcasting adds the axes in front", ["places = [np.arange(m).reshape((m,) + ..."]),
    (
        "indexing",
        "_take_along_axis",
        "as many axes: that has been checked, or is about to be",
        ["arr, axis = (arr.reshape(-1), 0) if axis is None else (arr, normalize_axis_index(axis, indices.ndim))"],
    ),
    (
        "indexing",
        "_take_along_axis",
        "an index may be a list as well",
        ["return arr[_along(arr.shape, plain(indices), axis)]"],
    ),
    *(
        (
            "indexing",
            where,
            "_take_along_axis flattens as well",
            ["a, axis = (a, axis)", "a, axis = (a.reshape(-1), 0) if a is None else (a, axis)", *more],
        )
        for where, more in {
            "_sort": [],
            "_partition": ["a, axis = (a.reshape(-1), 0) if kth is None else (a, axis)"],
        }.items()
    ),
    *(("indexing", where, _VECTOR, ["a, axis = (a.reshape(-1), -1) if ..."]) for where in ("_sort", "_partition")),
    *(("indexing", f, _NARROWS, [f"numpy_row({f}, None)"]) for f in ("np.argsort", "np.argpartition")),
    ("indexing", "np.searchsorted", _NARROWS, ["numpy_row(np.searchsorted, None, None)"]),
    ("indexing", "_window_view", _NARROWS, ["...fold(g, window_shape, axis, _x.shape))"]),
    ("indexing", "_places", "no number gets there", ["...else 0 if isinstance(axis, int) and axis > 0 else axis"]),
    ("indexing", "_places", "made a tuple in any case", ["yield (place, tuple(tuple(index) ..."]),
    (
        "indexing",
        "_convolve",
        _VECTOR,
        [
            "if v.shape[-1] > a.shape[0]",
            "if v.shape[0] > a.shape[-1]",
            "n, m = (a.shape[-1], v.shape[0])",
            "n, m = (a.shape[0], v.shape[-1])",
        ],
    ),
    ("indexing", "_convolve", "of two of one length either may slide", ["if v.shape[0] >= a.shape[0]"]),
    (
        "indexing",
        "_correlate",
        _VECTOR,
        ["swapped = v.shape[-1] > a.shape[0]", "swapped = v.shape[0] > a.shape[-1]"],
    ),
    (
        "indexing",
        "_correlate",
        "convolution is symmetric",
        ["y = _convolve(np.flip(v), a, mode)", "return np.flip(_convolve(np.flip(a), v, mode))"],
    ),
    (
        "indexing",
        "_correlate",
        "for modes 'full' and 'valid' the two ways agree",
        ["if not swapped", "if not swapped or mode == 'valid'"],
    ),
]


# Where mistakes can be planted


@dataclass
class Mutant(Change):
    """One changed expression: where it stands, and how the line reads before and after."""

    room: str
    line: int
    where: str  # the function, or the row for a lambda
    before: str
    after: str
    code: int | None  # the first line of the function around it, None at the top of the module
    top: tuple[int, int]  # the lines of the statement at the top of the module
    names: frozenset[str] = frozenset()  # what a statement at the top gives a value to

    @property
    def place(self) -> str:
        return f"tinygrad_nn/derivatives/{self.room}.py:{self.line}"


UNTOUCHED_KEYWORDS = frozenset({"name", "note", "strict"})
AXES = {"axis", "axis1", "axis2", "axisa", "axisb", "axisc"}


def _expression(text: str) -> Any:
    return ast.parse(text, mode="eval").body


class Planter(Edits):
    """Walks through a room and yields its mutants."""

    untouched_keywords = UNTOUCHED_KEYWORDS

    def __init__(self, room: str, tree: ast.Module) -> None:
        super().__init__(tree)
        self.room = room
        self.tree = tree

    def mutants(self) -> Iterator[Mutant]:
        seen: Counter[tuple[Any, ...]] = Counter()
        for statement in self.tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom) or is_text(statement):
                continue
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
                continue
            for change in self.walk(statement, self.tree, "body", self.tree.body.index(statement)):
                mutant = self._made(change)
                key = (id(mutant.code), mutant.where, mutant.before, mutant.after)
                if mutant.before != mutant.after and not seen[key]:
                    seen[key] += 1
                    yield mutant

    def _made(self, change: Change) -> Mutant:
        node, parent, new = change.node, change.parent, change.new
        around = [*self.stack, node]
        unit = next(n for n in reversed(around) if isinstance(n, ast.Lambda | ast.stmt | ast.Module))
        if unit is node and not isinstance(node, ast.Lambda):  # the statement itself is replaced
            unit = parent
        functions = [n for n in self.stack if isinstance(n, ast.FunctionDef | ast.Lambda)]
        top = next((n for n in around if isinstance(n, ast.stmt)), node)
        code, where = None, ""
        if functions:
            inner = functions[-1]
            code = min([inner.lineno, *(d.lineno for d in getattr(inner, "decorator_list", ()))])
            named = [f for f in functions if isinstance(f, ast.FunctionDef)]
            where = ".".join(f.name for f in named)
        if not where:
            calls = [n for n in around if isinstance(n, ast.Call)]
            where = ast.unparse(calls[0].args[0]) if calls and calls[0].args else ""
            if isinstance(top, ast.Assign):
                where = ast.unparse(top.targets[0])
            if isinstance(top, ast.AnnAssign):
                where = ast.unparse(top.target)
        names = frozenset(n.id for n in ast.walk(top) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        mutant = Mutant(
            node,
            parent,
            change.field,
            change.index,
            new,
            self.room,
            getattr(node, "lineno", parent.lineno if hasattr(parent, "lineno") else 0),
            where,
            self._text(unit, node, None),
            "",
            code,
            (top.lineno, top.end_lineno),
            names if code is None else frozenset(),
        )
        with mutant.planted():
            mutant.after = self._text(unit, node, new if isinstance(new, list) else [new])
        return mutant

    @staticmethod
    def _text(unit: Any, node: Any, new: Any) -> str:
        """The line around a change, without what is indented below it."""
        if isinstance(unit, ast.FunctionDef):
            if isinstance(node, ast.stmt):
                return "; ".join(ast.unparse(n) for n in ([node] if new is None else new))
            return f"def {unit.name}({ast.unparse(unit.args)})"
        if isinstance(unit, ast.If | ast.For | ast.While):
            if isinstance(node, ast.stmt):
                return "; ".join(ast.unparse(n) for n in ([node] if new is None else new))
            return ast.unparse(unit).split(":\n")[0]
        return ast.unparse(unit)

    def on_name(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        yield from super().on_name(node, parent, name)
        function = next((f for f in reversed(self.stack) if isinstance(f, ast.FunctionDef | ast.Lambda)), None)
        if not isinstance(node.ctx, ast.Load) or (isinstance(parent, ast.Call) and name == "func") or function is None:
            return
        parameters = parameters_of(function)
        if node.id in AXES and not self._asked(parent):  # wrong for some axes only
            yield _expression(f"(0 if isinstance({node.id}, int) and {node.id} > 0 else {node.id})")
            if node.id in parameters and not self._from_the_front(node.id, function) and self._is_entry(function):
                yield _expression(f"(-1 if isinstance({node.id}, int) and {node.id} < -1 else {node.id})")
        if node.id == "g" and not isinstance(parent, ast.Attribute) and not self._earlier("g", function, node):
            # wrong for every layout but C
            yield _expression("(g.ravel('K').reshape(g.shape) if isinstance(g, np.ndarray) else g)")
        if node.id == "index":  # wrong for repeated indices, kept as a list
            yield _expression("(tuple(index) if isinstance(index, list) else index)")

    def _asked(self, parent: Any) -> bool:
        """Whether an axis is only asked what it is."""
        return isinstance(parent, ast.Compare) or (
            isinstance(parent, ast.Call) and ast.unparse(parent.func) in ("isinstance", "len", "zip")
        )

    @staticmethod
    def _from_the_front(axis: str, function: Any) -> bool:
        """Whether a function counts an axis from the front before it uses it."""
        text = ast.unparse(function)
        return f"{axis} %" in text or f"{axis} = " in text

    @staticmethod
    def _is_entry(function: Any) -> bool:
        """Whether a function is a rule or a composition, which get axes as users write them."""
        return bool(getattr(function, "decorator_list", ())) or parameters_of(function)[:1] == ["g"]

    @staticmethod
    def _earlier(name: str, function: Any, node: Any) -> bool:
        """Whether a name is read in a function before `node`."""
        spots = [(n.lineno, n.col_offset) for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name]
        return min(spots) < (node.lineno, node.col_offset)

    def on_call(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        yield from self._registration(node) if isinstance(parent, ast.Expr) else super().on_call(node, parent, name)

    @staticmethod
    def _registration(node: Any) -> Iterator[Any]:
        """A row made wrong as a whole: rules in another order, none, or flags left out."""
        if len(node.args) > 2:
            yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1], *node.args[3:]], node.keywords)
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in UNTOUCHED_KEYWORDS:
                yield ast.Call(node.func, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])
        if ast.unparse(node.func) == "np.add.at":  # wrong for repeated indices
            y, index, g = node.args
            yield _expression(f"{ast.unparse(y)}.__setitem__({ast.unparse(index)}, {ast.unparse(g)})")


def explanation(mutant: Mutant) -> str:
    """Why a survivor is no mistake; empty if nothing says so."""
    for room, where, reason, lines in EXPLAINED:
        if any(_fits(mutant, room, where, line) for line in lines):
            return reason
    return ""


def _fits(mutant: Mutant, room: str, where: str, line: str) -> bool:
    """Whether an explanation of a changed line, with ... for any text, is about a mutant."""
    if (mutant.room, mutant.where) != (room, where):
        return False
    return re.fullmatch(".*".join(map(re.escape, line.split("..."))), mutant.after, re.DOTALL) is not None


def trees() -> dict[str, ast.Module]:
    return {room: ast.parse(Path(module.__file__).read_text("utf-8")) for room, module in MODULES.items()}


# The mutated room, in place of the one that the package loaded


def _load(room: str, tree: ast.Module) -> tuple[dict[str, Any], dict[Any, Any], dict[Any, Any]]:
    """The names, rows and compositions that a room makes when its source is run anew."""
    original = MODULES[room]
    fresh = types.ModuleType(original.__name__)
    fresh.__file__ = original.__file__
    held = table.TABLE, table.COMPOSITIONS
    table.TABLE, table.COMPOSITIONS = {}, {}
    try:
        exec(compile(ast.fix_missing_locations(tree), original.__file__, "exec"), fresh.__dict__)  # noqa: S102
        return fresh.__dict__, table.TABLE, table.COMPOSITIONS
    finally:
        table.TABLE, table.COMPOSITIONS = held


PARTS = ("kernel", "rules", "name", "broadcasts", "variadic", "pullback", "bind", "selects", "plain", "note")
CACHED = ("active", "parameters", "arrays")


def _kernel_cell(function: Any) -> Any:
    """Where the function of a row of our own keeps its kernel."""
    return function.__closure__[function.__code__.co_freevars.index("kernel")]


def _is_ours(row: Any) -> bool:
    return inspect.isfunction(row.function) and "kernel" in row.function.__code__.co_freevars


def _key(row: Any) -> Any:
    """What a row is found by when its room is loaded again: NumPy's functions stay, ours do not."""
    return row.name if _is_ours(row) else row.function


class Swap:
    """Puts what a room makes into the living table, and takes it out again."""

    def __init__(self) -> None:
        self.rows = dict(table.TABLE)
        self.compositions = dict(table.COMPOSITIONS)
        self.live = {_key(row): row for row in self.rows.values()}
        self.made: dict[str, tuple[set[Any], set[Any]]] = {}
        self.lines: dict[str, list[tuple[int, Any]]] = {}
        for room, tree in trees().items():
            self.lines[room] = []
            rows, compositions = self._observed(room, tree)
            self.made[room] = ({_key(row) for row in rows.values()}, set(compositions))

    def _observed(self, room: str, tree: ast.Module) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Load a room as it is, and note the line at which each of its functions is declared."""
        lines, file = self.lines[room], MODULES[room].__file__

        def note(function: Any) -> None:
            frame: Any = sys._getframe(2)
            while frame.f_code.co_filename != file:
                frame = frame.f_back
            lines.append((frame.f_lineno, function))

        add, composition = table.add, table.composition

        def noted_add(row: Any) -> None:
            note(self.live[_key(row)].function)
            add(row)

        def noted_composition(function: Any) -> Any:
            note(function)
            return composition(function)

        table.add, table.composition = noted_add, noted_composition
        try:
            return _load(room, tree)[1:]
        finally:
            table.add, table.composition = add, composition

    @contextlib.contextmanager
    def __call__(self, room: str, tree: ast.Module) -> Iterator[None]:
        names, rows, compositions = _load(room, tree)
        held: list[tuple[Any, dict[str, Any]]] = []
        kernels: list[tuple[Any, Any]] = []
        old_rows, old_compositions = self.made[room]
        try:
            twins = {}
            for row in rows.values():
                live = self.live[_key(row)]
                twins[row.function] = live.function
                held.append((live, {part: getattr(live, part) for part in PARTS}))
                self._fill(live, {part: getattr(row, part) for part in PARTS})
                if _is_ours(live):
                    cell = _kernel_cell(live.function)
                    kernels.append((cell, cell.cell_contents))
                    cell.cell_contents = row.kernel
            for name, value in names.items():
                if inspect.isfunction(value) and value in twins:
                    names[name] = twins[value]
            for key in old_rows - {_key(row) for row in rows.values()}:
                del table.TABLE[self.live[key].function]
            for function in old_compositions - compositions.keys():
                del table.COMPOSITIONS[function]
            table.COMPOSITIONS.update(compositions)
            yield
        finally:
            for cell, kernel in kernels:
                cell.cell_contents = kernel
            for live, parts in held:
                self._fill(live, parts)
            for registry, whole in ((table.TABLE, self.rows), (table.COMPOSITIONS, self.compositions)):
                registry.clear()
                registry.update(whole)

    @staticmethod
    def _fill(row: Any, parts: dict[str, Any]) -> None:
        for part, value in parts.items():
            setattr(row, part, value)
        row.kept.clear()
        for name in CACHED:
            row.__dict__.pop(name, None)


# The laws, drawn once and played again


class Recorder:
    """Stands in for Hypothesis' data, and notes what it gives."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.drawn: list[Any] = []

    def draw(self, strategy: Any, label: Any = None) -> Any:
        self.drawn.append(self.data.draw(strategy, label))
        return self.drawn[-1]


class Player:
    """Stands in for Hypothesis' data, and gives what was drawn before."""

    def __init__(self, drawn: list[Any]) -> None:
        self.drawn = iter(drawn)

    def draw(self, strategy: Any, label: Any = None) -> Any:
        return next(self.drawn)


@dataclass
class Example:
    """One draw of one law."""

    title: str
    run: Callable[[], None]
    codes: frozenset[tuple[str, int]]  # the functions of the table that it comes by


def _laws() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every law, with each set of options that it is run with."""
    for name, law in vars(test_laws).items():
        if not (name.startswith("test_") and callable(law)):
            continue
        marks = [mark.args for mark in getattr(law, "pytestmark", ()) if mark.name == "parametrize"]
        names = [[n.strip() for n in m[0].split(",")] if isinstance(m[0], str) else list(m[0]) for m in marks]
        if not marks or (
            _hypothesis(law) is None and set(inspect.signature(law).parameters) - {n for group in names for n in group}
        ):
            continue
        for values in itertools.product(*(m[1] for m in marks)):
            options: dict[str, Any] = {}
            for keys, value in zip(names, values, strict=True):
                options |= zip(keys, [value] if len(keys) == 1 else getattr(value, "values", value), strict=True)
            yield law, options


def _hypothesis(law: Any) -> Any:
    """What Hypothesis runs many times, None for a law that draws nothing."""
    return law.hypothesis.inner_test if hasattr(law, "hypothesis") else None


def _drawn(law: Any, options: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """The draws of a law, each as a function that runs it again."""
    inner = _hypothesis(law)
    if inner is None:
        yield lambda: law(**options)
        return
    found: list[Callable[[], None]] = []
    strategies: dict[str, Any] = {"data": st.data()}
    if "dtype" in inspect.signature(inner).parameters and "dtype" not in options:
        strategies["dtype"] = st.sampled_from([np.float64, np.float32, np.float16, np.longdouble])

    @settings(
        max_examples=OTHER_COUNTS.get(law.__name__, EXAMPLES),
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(**strategies)
    def once(data: Any, **drawn: Any) -> None:
        recorder = Recorder(data)
        inner(data=recorder, **options, **drawn)
        found.append(lambda: inner(data=Player(recorder.drawn), **options, **drawn))

    with contextlib.suppress(Exception):  # a law that fails on the table as it is: what was drawn before it did
        once()
    yield from found


def _codes_of(run: Callable[[], None]) -> frozenset[tuple[str, int]]:
    """Run, and say which functions of the table were called on the way."""
    codes: set[tuple[str, int]] = set()
    for module in MODULES.values():
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):  # what is remembered would not be called
                value.cache_clear()

    def note(frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            room = ROOM_OF.get(frame.f_code.co_filename)
            if room is not None:
                codes.add((room, frame.f_code.co_firstlineno))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return frozenset(codes)


class Book:
    """All examples, drawn row by row when they are asked for."""

    def __init__(self) -> None:
        self.drawn: dict[Any, list[Example]] = {}
        self.laws: dict[Any, list[Any]] = {None: []}  # by row; None: those for no row in particular
        for law, options in _laws():
            function = options.get("function")
            row = function if function in test_laws.DOMAINS else None
            self.laws.setdefault(row, []).append((law, options))

    def of(self, row: Any) -> list[Example]:
        if row not in self.drawn:
            self.drawn[row] = [
                Example(f"{law.__name__}[{_title(options)}]", run, _codes_of(run))
                for law, options in self.laws.get(row, ())
                for run in _drawn(law, options)
            ]
        return self.drawn[row]


def _title(options: dict[str, Any]) -> str:
    """The name of a law's row or point."""
    return ", ".join(
        test_laws.name_of(v) if inspect.isroutine(v) or isinstance(v, np.ufunc) else getattr(v, "name", str(v)[:40])
        for v in options.values()
    )


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End what runs longer: a mutant may loop for ever."""

    def ring(_signal: Any, _frame: Any) -> None:
        raise TimeoutError("too slow")

    held = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again, should a callback swallow the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, held)


@dataclass
class Score:
    """What came of the mutants."""

    killed: list[tuple[Mutant, str]] = field(default_factory=list)
    explained: list[Mutant] = field(default_factory=list)
    survived: list[Mutant] = field(default_factory=list)


class Court:
    """Tries mutants, one after the other."""

    def __init__(self, rooms: tuple[str, ...] = ROOMS) -> None:
        self.swap = Swap()
        self.book = Book()
        self.trees = trees()
        self.mutants = [m for room in rooms for m in Planter(room, self.trees[room]).mutants()]

    def stale(self, survivors: list[Mutant] | None = None) -> list[str]:
        """Explanations that fit no mutant, or no survivor where all were tried."""
        rooms = {m.room for m in self.mutants}
        there = self.mutants if survivors is None else survivors
        return [
            f"{room} {where}: {line}"
            for room, where, _reason, lines in EXPLAINED
            for line in lines
            if room in rooms and not any(_fits(m, room, where, line) for m in there)
        ]

    def evidence(self, mutant: Mutant) -> Iterator[list[Example]]:
        """The examples to play again: those that come by the changed line, the nearest row's first."""
        lines = self.swap.lines[mutant.room]
        near = [f for _, f in sorted(lines, key=lambda pair: abs(pair[0] - mutant.line))]
        codes = {(mutant.room, mutant.code)}
        if mutant.code is None:
            start, stop = mutant.top
            made = [f for line, f in lines if start <= line <= stop]
            near, codes = made or near, set() if made else self._readers(mutant.room, mutant.names)
        found = 0
        for f in dict.fromkeys([*near[:1], None, *near]):
            mine = [e for e in self.book.of(f) if not codes or not codes.isdisjoint(e.codes)]
            if found > MOST_REPLAYS // 3:
                mine = mine[:: max(1, len(mine) // PER_NEIGHBOUR)]
            found += len(mine)
            if mine:
                yield mine
            if found >= MOST_REPLAYS:
                break
        if not found:  # what makes the rows runs while a room is loaded, and never afterwards
            for f in list(dict.fromkeys(near))[:6]:
                yield self.book.of(f)

    def _readers(self, room: str, names: frozenset[str]) -> set[tuple[str, int]]:
        """The functions of a room that read a name given a value at its top."""
        found: set[tuple[str, int]] = set()
        for node in ast.walk(self.trees[room]):
            if isinstance(node, ast.FunctionDef | ast.Lambda) and any(
                isinstance(n, ast.Name) and n.id in names for n in ast.walk(node)
            ):
                found.add((room, min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])))
        return found

    def verdict(self, mutant: Mutant) -> str:
        """Which law kills a mutant; empty if none does."""
        few: list[Example] = []
        for examples in self.evidence(mutant):  # drawn on the table as it is, so between the trials
            few += examples
            if len(few) >= 20:
                law = self._try(mutant, few)
                if law:
                    return law
                few = []
        return self._try(mutant, few)

    def _try(self, mutant: Mutant, examples: list[Example]) -> str:
        with warnings.catch_warnings(), mutant.planted():
            warnings.simplefilter("error")
            try:
                with _limited(SECONDS), self.swap(mutant.room, self.trees[mutant.room]):
                    for example in examples:
                        try:
                            example.run()
                        except Exception as error:  # noqa: BLE001 - whatever goes wrong is what was wanted
                            return f"{example.title} {type(error).__name__}"
            except Exception as error:  # noqa: BLE001 - the room does not even load
                return f"loading: {type(error).__name__}"
        return ""

    def try_all(self, mutants: list[Mutant], say: Callable[[str], None] = lambda _: None) -> Score:
        score = Score()
        for k, mutant in enumerate(mutants):
            law = self.verdict(mutant)
            if law:
                score.killed.append((mutant, law))
            else:
                (score.explained if explanation(mutant) else score.survived).append(mutant)
            say(f"{k + 1}/{len(mutants)}: {len(score.survived)} survivors")
        return score


def sampled(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    return random.Random(seed).sample(mutants, min(count, len(mutants)))


def report(score: Score, stale: list[Any], seconds: float, *, everything: bool) -> str:
    """The outcome, in words."""
    lines = []
    if everything:
        lines += [f"{m.place}: {m.before}\n    -> {m.after}\n    killed by {law}" for m, law in score.killed]
        lines += [f"{m.place}: {m.before}\n    -> {m.after}\n    no mistake: {explanation(m)}" for m in score.explained]
    lines += [f"SURVIVED {m.place} in {m.where}\n  - {m.before}\n  + {m.after}" for m in score.survived]
    lines += [f"EXPLAINED, BUT NO SURVIVOR: {text}" for text in stale]
    by_law = Counter(law.split("[")[0].split(":")[0] for _, law in score.killed)
    lines += [f"{n:6} killed by {law}" for law, n in by_law.most_common()]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for i, mutants in enumerate(([m for m, _ in score.killed], score.explained, score.survived)):
        for m in mutants:
            counts[m.room][i] += 1
    for room, (killed, explained, survived) in counts.items():
        total = killed + survived
        share = 100 * killed / total if total else 100.0
        lines.append(f"{room:15} {killed:5} killed {explained:4} explained {survived:4} survived {share:6.1f} %")
    killed, explained, survived = (sum(c[i] for c in counts.values()) for i in range(3))
    lines.append(
        f"{killed + explained + survived} mutants: {killed} killed, {explained} explained as equivalent, "
        f"{survived} survived, in {seconds:.0f} s"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__.split("\n")[0])
    parser.add_argument("--module", action="append", choices=ROOMS, help="a room of the table (default: all)")
    parser.add_argument("--sample", type=int, help="try so many mutants only")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--list", action="store_true", help="show every mutant, and the law that killed it")
    options = parser.parse_args()
    start = time.monotonic()
    court = Court(tuple(options.module or ROOMS))
    mutants = court.mutants if options.sample is None else sampled(court.mutants, options.sample, options.seed)

    def say(line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line} ")

    score = court.try_all(mutants, say)
    stale = court.stale(score.explained if options.sample is None else None)
    sys.stdout.write(report(score, stale, time.monotonic() - start, everything=options.list) + "\n")
    return int(bool(score.survived or stale))


if __name__ == "__main__":
    raise SystemExit(main())
