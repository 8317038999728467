"""Domains of tinygrad_nn/derivatives/reductions.py and calculus.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from domains.base import Case, Draw, domain
from tinygrad_nn.derivatives import reductions


def mask(d: Draw, shape: tuple[int, ...]) -> Any:
    """A mask for where=, with at least one entry in each row let in, or none of it."""
    if 0 in shape or d.pick(True, False):
        return {}
    where = np.asarray(d.rng.random(shape) < 0.6)
    if shape:
        where[..., 0] = True
        where[0] = True
    else:
        where = np.asarray(True)
    return {"where": where}


def sieve(d: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """A mask for where= that lets in most entries of every line, along any axis: no two neighbours are out."""
    return np.asarray(sum(np.indices(shape), d.rng.integers(3)) % 3 != 1) if shape else np.asarray(True)


@domain(reductions.mean_square)
def mean_square(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape(min_side=1))])


@domain(np.sum, np.mean)
def reduction(d: Draw, function: Callable[..., Any]) -> Case:
    if d.seldom():
        return Case(function, [d.values(d.shape(min_side=int(function is np.mean)))])
    if d.pick(False, False, True):  # one axis of several, each of another length
        shape, axis = (3, 4, 2), d.pick(0, 1, 2, -1, -2, -3)
        options = d.pick({}, {"where": sieve(d, shape)})
        return Case(lambda x: function(x, axis, **options), [d.values(shape)])
    if d.pick(False, False, True):
        shape = d.shape(min_side=2)
        axis, where = d.axis(len(shape)), sieve(d, shape)
        if shape and d.pick(True, False):
            axis = axis if function is np.sum else None
            where = sieve(d, shape[-1:])
        if isinstance(axis, tuple) and not axis:
            axis = None
        return Case(lambda x: function(x, axis, where=where), [d.values(shape)])
    shape = d.shape(min_side=int(function is np.mean))
    axis, options = d.axis(len(shape)), {"keepdims": d.pick(False, True)} | mask(d, shape)
    if function is np.mean and "where" in options:
        options["where"][...] = True
        if shape and shape[0] > 1:
            options["where"] = np.broadcast_to(np.arange(shape[-1]) != 1, shape) if shape[-1] > 1 else True
            axis = d.pick(None, -1)
    if function is np.sum:
        options |= d.pick({}, {"initial": 1.5})
    form = d.pick("function", "method")
    if form == "method" and set(options) == {"keepdims"}:
        return Case(lambda x: getattr(x, function.__name__)(axis=axis, keepdims=options["keepdims"]), [d.values(shape)])
    return Case(lambda x: function(x, axis, **options), [d.values(shape)])


@domain(np.max, np.amax, np.min, np.amin)
def extremum(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis, options = d.axis(len(shape)), {"keepdims": d.pick(False, True)}
    if d.seldom():
        return Case(function, [d.spread(shape)])
    if d.seldom():
        return Case(lambda x: function(x, axis), [d.spread(shape)])
    far = 1e4 if function in (np.min, np.amin) else -1e4
    options |= d.pick(
        {}, {"initial": far}, {"initial": far} | mask(d, shape), {"initial": far, "where": sieve(d, shape)}
    )
    return Case(lambda x: function(x, axis=axis, **options), [d.spread(shape)])


@domain(np.ptp)
def ptp(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    if d.seldom():
        return Case(function, [d.spread(shape)])
    return Case(lambda x: function(x, axis=axis, keepdims=keepdims), [d.spread(shape)])


def holes_in(d: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros to be added, with NaN in some places, at most one on each line of two entries or more."""
    return np.where(sieve(d, shape), 0, np.nan) if min(shape, default=0) > 1 else np.zeros(shape)


def with_zeros(d: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Values some of which are exactly 0, where a quotient would be NaN."""
    x = np.array(d.values(shape))
    return np.where(d.rng.random(shape) < 0.2, 0, x)


@domain(np.prod, np.nanprod)
def prod(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape()
    axis, options = d.axis(len(shape)), {"keepdims": d.pick(False, True)}
    if d.seldom():
        return Case(function, [with_zeros(d, shape)], complex_safe=function is np.prod)
    if function is np.nanprod and d.pick(True, False):
        holes = holes_in(d, shape)
        return Case(lambda x: function(x + holes.astype(x.dtype), axis), [with_zeros(d, shape)], complex_safe=False)
    if d.pick(True, False):
        options["where"] = d.rng.random(shape) < 0.6
    options |= d.pick({}, {"initial": 1.5})
    return Case(lambda x: function(x, axis=axis, **options), [with_zeros(d, shape)], complex_safe=function is np.prod)


@domain(reductions.product, reductions.running_product)
def along_one_axis(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.integer(0, len(shape) - 1)
    return Case(lambda x: function(x, axis), [with_zeros(d, shape)])


@domain(np.cumsum, np.cumprod)
def scan(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_dims=1)
    axis = d.axis(len(shape), several=False)
    if d.pick(True, False):
        return Case(lambda x: getattr(x, function.__name__)(axis), [with_zeros(d, shape)])
    return Case(lambda x: function(x, axis=axis), [with_zeros(d, shape)])


if hasattr(np, "cumulative_sum"):

    @domain(np.cumulative_sum, np.cumulative_prod)
    def cumulative(d: Draw, function: Callable[..., Any]) -> Case:
        shape = d.shape(min_dims=1)
        axis = d.axis(len(shape), several=False) if len(shape) == 1 else d.axis(len(shape), none=False, several=False)
        include = d.pick(False, True)
        if d.seldom():
            return Case(function, [with_zeros(d, shape[:1])])
        return Case(lambda x: function(x, axis=axis, include_initial=include), [with_zeros(d, shape)])


@domain(reductions.root)
def root(d: Draw, function: Callable[..., Any]) -> Case:
    return Case(function, [d.values(d.shape(), 0.2, 4)])


@domain(np.var, np.std, np.nanvar, np.nanstd)
def spread(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (2, 3, 4), (4, 3, 3))
    axis = d.pick(None, -1, 1 % len(shape), tuple(range(len(shape))))
    options = {"keepdims": d.pick(False, True)} | d.pick({}, {"ddof": 1}, {"correction": 1}, {"ddof": 0.5})
    if d.seldom():
        return Case(function, [d.spread(shape)], complex_safe=False)
    if d.seldom() and function in (np.nanvar, np.nanstd):
        holes = np.where(np.arange(shape[-1]) == 1, np.nan, 0)
        return Case(lambda x: function(x + holes.astype(x.dtype), -1), [d.spread(shape)], complex_safe=False)
    if d.seldom():  # one axis of several, of another length than the others
        axis = d.pick(0, 1, -2, -3)
        return Case(lambda x: function(x, axis=axis, **options), [d.spread((3, 4, 2))], complex_safe=False)
    if d.pick(True, False):
        shape = d.pick((4,), (4, 5), (4, 4, 4))
        options["where"], axis = sieve(d, shape), d.axis(len(shape))
        if isinstance(axis, tuple) and not axis:
            axis = None
    elif d.pick(True, False):
        axis = tuple(d.permuted(range(-len(shape), 0)))[:2] if len(shape) > 1 else -1
    elif len(shape) > 1:
        axis = -2
    if d.pick(False, True) and function in (np.var, np.std) and "where" not in options:
        mean_of = d.pick(np.mean, np.max)  # another middle than the mean as well
        return Case(
            lambda x: function(x, axis=axis, mean=mean_of(x, axis=axis, keepdims=True), **options),
            [d.spread(shape)],
            complex_safe=False,
        )
    return Case(lambda x: function(x, axis=axis, **options), [d.spread(shape)], complex_safe=False)


@domain(np.average)
def average(d: Draw, function: Callable[..., Any]) -> Case:  # noqa: PLR0911 - one form after the other
    shape = d.pick((4,), (3, 4), (2, 3, 4))
    axis, keepdims = d.axis(len(shape), several=False), d.pick(False, True)
    form = d.pick("none", "full", "vector", "both", "default", "axes", "lists", "count")
    x = d.values(shape)
    if form == "default":
        return Case(function, [x])
    if form == "lists" and d.pick(True, False):
        return Case(lambda w: function([0.5, 1.5, -2.0], None, w), [d.values((3,), 0.5, 2)], widens=True)
    if form == "lists":
        weights = [0.5 + i for i in range(shape[-1])]
        return Case(lambda a: function(a, -1, weights), [x], widens=True)
    if form == "count":
        x, axis = d.values((2, 3, 4)), d.pick(None, 0, 1, -1, -2, -3)
        return Case(lambda a: np.add(*function(a, axis, returned=True)), [x])
    if form == "axes":
        axes = d.pick((0, 1), (1, 2), (2, 0), (-1, 0), (-2, -3))
        w = d.values(tuple((2, 3, 4)[i] for i in axes), 0.5, 2)
        return Case(lambda a, w: function(a, axes, w, keepdims=keepdims), [d.values((2, 3, 4)), w])
    if form == "none":
        return Case(lambda a: function(a, axis, keepdims=keepdims), [x])
    if form == "full":
        return Case(lambda a, w: function(a, axis, w, keepdims=keepdims), [x, d.values(shape, 0.5, 2)])
    axis = 0 if axis is None else axis
    w = d.values((shape[axis],), 0.5, 2)
    if form == "vector":
        return Case(lambda a, w: function(a, axis, w, keepdims=keepdims), [x, w])
    return Case(lambda a, w: np.stack(function(a, axis=axis, weights=w, returned=True)), [x, w])


@domain(np.median)
def median(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    if isinstance(axis, tuple) and not axis:
        axis = None
    if d.seldom():
        return Case(function, [d.spread(shape)], complex_safe=False)
    return Case(lambda x: function(x, axis=axis, keepdims=keepdims), [d.spread(shape)], complex_safe=False)


@domain(np.nansum, np.nanmean, np.nanmax, np.nanmin)
def without_nan(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((4,), (3, 4), (2, 3, 4))
    axes = (None, 0, -1, 1 % len(shape), (0, -1)[: len(shape)], -min(2, len(shape)), -len(shape))
    axis, options = d.pick(*axes), {"keepdims": d.pick(False, True)}
    if function is np.nansum:
        options |= d.pick({}, {"initial": 1.5})
    if function in (np.nanmax, np.nanmin):
        options |= d.pick({}, {"initial": -1e4 if function is np.nanmax else 1e4})
    if d.seldom():
        axis, options = None, {}
    if "initial" in options or function in (np.nansum, np.nanmean):
        options |= d.pick({}, {"where": sieve(d, shape)})
    holes = np.where(d.rng.random(shape) < 0.3, np.nan, 0)
    for i in range(len(shape)):  # an entry that is no NaN, and let in, on each line
        np.moveaxis(holes, i, 0)[0] = 0
        if "where" in options:
            np.moveaxis(options["where"], i, 0)[0] = True
    return Case(
        lambda x: function(x + holes.astype(x.dtype), axis=axis, **options), [d.spread(shape)], complex_safe=False
    )


# Positions and predicates: no gradient


@domain(np.argmax, np.argmin)
def position(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis, keepdims = d.axis(len(shape), several=False), d.pick(False, True)
    if d.seldom():
        return Case(function, [d.values(shape)])
    return Case(lambda x: function(x, axis=axis, keepdims=keepdims), [d.values(shape)])


@domain(np.all, np.any, np.count_nonzero)
def predicate(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.shape(min_side=1)
    axis, keepdims = d.axis(len(shape)), d.pick(False, True)
    if d.seldom():
        return Case(lambda x: function(x > 0), [d.values(shape)])
    if function is not np.count_nonzero and d.pick(True, False):
        where, most = sieve(d, shape), d.pick(0, 1.5, -1.5)
        return Case(lambda x: function(x > most, axis, where=where), [d.values(shape)])
    return Case(lambda x: function(x > 0, axis=axis, keepdims=keepdims), [d.values(shape)])


# Sampled functions


@domain(np.diff)
def diff(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((5,), (3, 4), (2, 4, 3))
    n, axis = d.pick(0, 1, 2), d.axis(len(shape), none=False, several=False)
    form = d.pick("plain", "number", "slices", "constant")
    x = d.values(shape)
    if form == "plain" and d.pick(True, False):
        return Case(function, [x])
    if form == "plain":
        return Case(lambda a: function(a, n, axis), [x])
    if form == "constant":
        return Case(lambda a: function(a, n, axis, prepend=0.5), [x], widens=True)
    if form == "number":
        return Case(lambda a, p: function(a, n, axis, prepend=p), [x, d.values(())])
    edge = tuple(2 if i == axis % len(shape) else m for i, m in enumerate(shape))
    return Case(lambda a, p, q: function(a, n, axis, prepend=p, append=q), [x, d.values(edge), d.values(edge)])


@domain(np.ediff1d)
def ediff1d(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((), (1,), (4,), (2, 3), (0,))
    form = d.pick("default", "both", "end", "begin", "numbers", "of a list")
    if form == "default":
        return Case(function, [d.values(shape)])
    if form == "both":
        return Case(function, [d.values(shape), d.values(d.pick((), (2,))), d.values(d.pick((), (3,), (2, 1)))])
    if form == "numbers":
        return Case(lambda x: function(x, 1.5, to_begin=[2, 0.5]), [d.values(shape)])
    if form == "of a list":
        return Case(
            lambda end: function([0.5, 2.0], end), [d.values((2,))], complex_safe=False, long_double=False, widens=True
        )
    name = f"to_{form}"
    return Case(lambda x, end: function(x, **{name: end}), [d.values(shape), d.values((2,))])


@domain(np.trapezoid)
def trapezoid(d: Draw, function: Callable[..., Any]) -> Case:
    shape = d.pick((5,), (3, 4), (2, 4, 3))
    axis = d.axis(len(shape), none=False, several=False)
    form = d.pick("dx", "vector", "full", "defaults", "list")
    if form == "defaults":
        return Case(function, [d.values(shape)])
    if form == "list":
        places = [0.5 * i * i for i in range(shape[axis])]
        if d.pick(True, False):
            return Case(lambda x: function([1.0, 3.0, -2.0], x), [d.values((3,))], widens=True)
        return Case(lambda y: function(y, places, axis=axis), [d.values(shape)], widens=True)
    if form == "dx":
        return Case(lambda y, dx: function(y, dx=dx, axis=axis), [d.values(shape), d.values(())])
    x = d.values((shape[axis],)) if form == "vector" else d.values(shape)
    return Case(lambda y, x: function(y, x, axis=axis), [d.values(shape), x])


@domain(np.gradient)
def gradient(d: Draw, function: Callable[..., Any]) -> Case:  # noqa: PLR0911 - one form after the other
    shape = d.pick((5,), (3, 4))
    axis, edge_order = d.pick(0, -1, (0,), (-1,)), d.pick(1, 2)
    form = d.pick("unit", "step", "coordinates", "all", "two axes", "defaults", "list", "middle")
    f = d.values(shape)
    if form == "defaults":
        return Case(function, [d.values((5,))])
    if form == "middle":
        return Case(lambda f: function(f, axis=1), [d.values((2, 4, 3))])
    if form == "list":
        return Case(
            lambda f: function(f, [0.0, 1.0, 3.0, 4.5, 5.0], edge_order=edge_order), [d.values((5,))], long_double=False
        )
    if form == "two axes":
        steps, which = d.pick((), (0.5,), (0.5, 2.0)), d.pick(0, 1)
        axes = d.pick(None, (0, 1), (1, 2), (2, -3), (-2, 0))
        steps = steps if axes is not None else steps[:1]
        return Case(lambda f: function(f, *steps, axis=axes, edge_order=edge_order)[which], [d.values((3, 4, 3))])
    if isinstance(axis, tuple) and form in ("coordinates", "all"):
        axis = axis[0]
    if form == "unit":
        return Case(lambda f: function(f, axis=axis, edge_order=edge_order), [f])
    if form == "step":
        return Case(lambda f: function(f, 0.5, axis=axis, edge_order=edge_order), [f])
    if form == "coordinates":
        x = np.cumsum(d.rng.uniform(0.5, 1.5, shape[axis]))
        if d.pick(True, False):
            return Case(lambda f, x: function(f, x, axis=axis, edge_order=edge_order), [f, x])
        return Case(lambda f: function(f, x.astype(f.dtype), axis=axis, edge_order=edge_order), [f])
    which = d.pick(0, 1)
    return Case(lambda f: function(f, 0.5, 2.0, edge_order=edge_order)[which], [d.values((3, 4))])


@domain(np.interp)
def interp(d: Draw, function: Callable[..., Any]) -> Case:
    xp = np.cumsum(d.rng.uniform(0.5, 1.0, 5))
    x = d.rng.permutation(
        np.concatenate([(xp[1:] + xp[:-1]) / 2 + d.rng.uniform(-0.1, 0.1, 4), [xp[0] - 1, xp[-1] + 1]])
    )
    options = d.pick({}, {"left": 0.5}, {"right": -0.5, "left": 1.0}, {"period": 2 * xp[-1]}, {"period": -2 * xp[-1]})
    if "period" in options and d.pick(True, False):  # places one period or more away, in any order
        mixed = d.rng.permutation(5)
        xp = xp[mixed] + 2 * xp[-1] * d.rng.integers(-1, 2, 5)
        x[0] = 0.5 * min(xp % options["period"])  # before the first of them
        x = x + options["period"] * d.rng.integers(-2, 3, 6)
    return Case(
        lambda x, xp, fp: function(x, xp, fp, **options),
        [x, xp, d.values((5,))],
        complex_safe=False,
        long_double=False,
        widens=True,
    )
