"""Count the NumPy calls that tinygrad_nn, HIPS autograd and MyGrad differentiate, each called on its own type.

A call counts if it runs, and if the gradient of a random projection of its result equals central differences.
The other two packages are counted where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy  # noqa: ICN001 - "np" is the namespace under test

CALLS: dict[str, str] = {
    "elementwise": """
        np.add(x, w); np.subtract(x, w); np.multiply(x, w); np.divide(x, p); np.true_divide(x, p); np.power(p, w)
        np.float_power(p, w); np.negative(x); np.positive(x); np.absolute(x); np.fabs(x); np.sqrt(p); np.cbrt(p)
        np.square(x); np.reciprocal(p); np.exp(x); np.exp2(x); np.expm1(x); np.log(p); np.log2(p); np.log10(p)
        np.log1p(p); np.sin(x); np.cos(x); np.tan(x); np.arcsin(u); np.arccos(u); np.arctan(x); np.sinh(x); np.cosh(x)
        np.tanh(x); np.arcsinh(x); np.arccosh(1 + p); np.arctanh(u); np.arctan2(x, p); np.hypot(x, p)
        np.logaddexp(x, w); np.logaddexp2(x, w); np.maximum(x, w); np.minimum(x, w); np.fmax(x, w); np.fmin(x, w)
        np.clip(x, -0.5, 0.5); np.where(x > 0, x, w); np.sinc(x); np.deg2rad(x); np.rad2deg(x); np.nan_to_num(x)
        np.remainder(x, p); np.fmod(x, p); np.heaviside(0 * w0, x)
    """,
    "reductions": """
        np.sum(x, axis=1); np.mean(x, axis=(0, 1)); np.prod(x, axis=0); np.var(x, axis=1, ddof=1); np.std(x, axis=0)
        np.min(x, axis=0); np.max(x, axis=1); np.amax(x); np.amin(x); np.ptp(x, axis=0)
        np.average(x, axis=0, weights=q); np.median(x, axis=1); np.nansum(x); np.nanmean(x, axis=0); np.nanmax(x)
        np.nanmin(x); np.nanvar(x); np.nanstd(x); np.cumsum(x, axis=0); np.cumprod(x, axis=1)
        np.cumulative_sum(x, axis=0); np.diff(x, axis=0); np.trapezoid(x, axis=0); np.gradient(x, axis=0)
        np.interp(u, g5, h5); np.sum(x, where=x0 > 0); np.max(x, initial=0.1, axis=0)
    """,
    "linear algebra": """
        np.matmul(x, A); np.vecdot(x, w); np.matvec(A, v); np.dot(x, v); np.vdot(x, w); np.inner(x, w); np.outer(x, w)
        np.tensordot(x, A, 1); np.einsum('ij,kj->ik', x, w); np.einsum('ii->i', A); np.einsum('...j,j', x, v)
        np.kron(x, w); np.cross(x, w); np.trace(A); np.diagonal(A); np.diag(v); np.diag(A); np.tril(A); np.triu(A)
        np.matrix_transpose(x); np.linalg.norm(x); np.linalg.norm(x, axis=1); np.linalg.norm(A, 'nuc')
        np.linalg.norm(x, 1); np.linalg.inv(A); np.linalg.det(A); np.linalg.slogdet(A)[1]; np.linalg.solve(A, v)
        np.linalg.solve(A, M); np.linalg.cholesky(A @ A.T); np.linalg.pinv(A); np.linalg.matrix_power(A, 3)
        np.linalg.multi_dot([x, A, M]); np.linalg.eigh(A + A.T)[0]; np.linalg.svd(A, full_matrices=False)[1]
        np.linalg.svd(A, compute_uv=False)
    """,
    "shapes": """
        np.reshape(x, (3, 2)); np.ravel(x); np.transpose(x); np.permute_dims(x, (1, 0)); np.swapaxes(x, 0, 1)
        np.moveaxis(x, 0, 1); np.expand_dims(x, 1); np.squeeze(x[:1], 0); np.broadcast_to(v, (2, 3))
        np.broadcast_arrays(x, v)[1]; np.concatenate([x, w]); np.concat([x, w]); np.stack([x, w]); np.unstack(x)[1]
        np.vstack([x, w]); np.hstack([x, w]); np.dstack([x, w]); np.column_stack([v, v]); np.split(x, 3, 1)[1]
        np.array_split(x, 2, 1)[0]; np.hsplit(x, 3)[0]; np.vsplit(x, 2)[0]; np.tile(x, 2); np.repeat(x, 2, axis=1)
        np.roll(x, 1, axis=0); np.flip(x, 1); np.fliplr(x); np.flipud(x); np.rot90(x); np.pad(x, 1)
        np.pad(x, 1, 'edge'); np.pad(x, 1, 'reflect'); np.pad(x, 1, 'wrap'); np.atleast_1d(x); np.atleast_2d(v)
        np.atleast_3d(x); np.append(x, w); x.astype(float); np.copy(x)
        np.pad(x, 1, 'symmetric'); np.pad(x, 1, 'mean'); np.pad(x, 1, 'maximum'); np.pad(x, 1, 'minimum')
        np.pad(x, 1, 'median'); np.pad(x, 1, 'linear_ramp'); np.pad(x, 1, 'reflect', reflect_type='odd')
        np.rollaxis(x, 1); np.meshgrid(v, v)[1]; np.ediff1d(x, 1.5)
    """,
    "indexing": """
        x[0]; x[:, 1:]; x[::-1]; x[..., None]; x[[0, 0, 1]]; x[x0 > 0]; x[[0, 1], [2, 2]]; np.take(x, [0, 0, 2], axis=1)
        np.take_along_axis(x, k, 1); np.select([x0 > 0, x0 < -1], [x, w]); np.sort(x, axis=1); np.partition(v, 1)[1]
        np.lib.stride_tricks.sliding_window_view(v, 2); np.convolve(v, v); np.correlate(v, v, 'full')
        np.choose(k // 2, [x[:, 1:], w[:, 1:]]); np.compress([1, 0, 1], x, axis=1); np.extract(x0 > 0, x)
        np.delete(x, 1, axis=1); np.insert(x, 1, v, axis=0)
    """,
}


def inputs() -> dict[str, numpy.ndarray]:
    """The arrays that the calls name: those that are differentiated, and constants."""
    rng = numpy.random.default_rng(0)
    return {
        "x": rng.uniform(-2, 2, (2, 3)),
        "w": rng.uniform(-2, 2, (2, 3)),
        "p": rng.uniform(0.5, 2, (2, 3)),
        "u": rng.uniform(-0.9, 0.9, (2, 3)),
        "v": rng.uniform(-2, 2, 3),
        "A": rng.uniform(-0.5, 0.5, (3, 3)) + 2 * numpy.eye(3),
        "M": rng.uniform(-2, 2, (3, 2)),
        "h5": rng.uniform(-2, 2, 5),
        "q": rng.uniform(0.5, 2, 2),
    }


def constants(arrays: dict[str, numpy.ndarray]) -> dict[str, Any]:
    """What the calls name and nothing is differentiated with respect to."""
    return {
        "x0": arrays["x"],
        "w0": arrays["w"],
        "g5": numpy.linspace(-1, 1, 5),
        "k": numpy.array([[0, 2], [1, 1]]),
    }


def slope_by_differences(call: str, arrays: dict[str, numpy.ndarray], names: list[str], weights: Any, us: Any) -> float:
    """The directional derivative of a weighted sum of a call's result, by central differences."""
    ends = []
    for h in (1e-6, -1e-6):
        moved = {name: a + h * us[name] if name in names else a for name, a in arrays.items()}
        y = eval(call, {"np": numpy, **constants(arrays), **moved})  # noqa: S307 - the calls stand above
        ends.append(float(numpy.sum(weights * y)))
    return (ends[0] - ends[1]) / 2e-6


def with_tinygrad(call: str, arrays: Any, names: list[str], weights: Any) -> dict[str, Any]:
    """The gradients by tinygrad_nn, NumPy's own functions called on Tensors."""
    import tinygrad_nn as tn  # noqa: PLC0415 - each backend loads its own package

    xs = {name: tn.Tensor(arrays[name], requires_grad=True) for name in names}
    y = eval(call, {"np": numpy, **constants(arrays), **arrays, **xs})  # noqa: S307
    (y * weights).sum().backward()
    return {name: 0 if x.grad is None else x.grad for name, x in xs.items()}


def with_autograd(call: str, arrays: Any, names: list[str], weights: Any) -> dict[str, Any]:
    """The gradients by HIPS autograd, its own wrapped NumPy called."""
    anp = importlib.import_module("autograd.numpy")
    grad = importlib.import_module("autograd").grad

    def f(xs: Any) -> Any:
        y = eval(call, {"np": anp, **constants(arrays), **arrays, **xs})  # noqa: S307
        return anp.sum(y * weights)

    return dict(grad(f)({name: arrays[name] for name in names}))


def with_mygrad(call: str, arrays: Any, names: list[str], weights: Any) -> dict[str, Any]:
    """The gradients by MyGrad: NumPy's functions on its tensors, else its own of the same name."""
    mg = importlib.import_module("mygrad")
    for namespace in (numpy, mg):
        xs = {name: mg.tensor(arrays[name]) for name in names}
        try:
            y = eval(call, {"np": namespace, **constants(arrays), **arrays, **xs})  # noqa: S307
            (y * weights).sum().backward()
        except Exception:  # noqa: BLE001, S112 - whatever it is, the call is not differentiated this way
            continue
        if any(x.grad is not None for x in xs.values()):
            return {name: 0 if x.grad is None else x.grad for name, x in xs.items()}
    raise TypeError(call)


BACKENDS: dict[str, Callable[..., dict[str, Any]]] = {
    "tinygrad_nn": with_tinygrad,
    "autograd": with_autograd,
    "mygrad": with_mygrad,
}


def differentiates(backend: Callable[..., dict[str, Any]], call: str) -> bool:
    """Whether a backend gives the gradient of a call, and gives it right."""
    arrays = inputs()
    rng = numpy.random.default_rng(1)
    code = compile(call, "call", "eval")
    names = [name for name in arrays if name in code.co_names]
    y = numpy.asarray(eval(code, {"np": numpy, **constants(arrays), **arrays}))  # noqa: S307
    weights = rng.standard_normal(y.shape)
    us = {name: rng.standard_normal(arrays[name].shape) for name in names}
    expected = slope_by_differences(call, arrays, names, weights, us)
    try:
        grads = backend(call, arrays, names, weights)
        found = sum(float(numpy.sum(grads[name] * us[name])) for name in names)
    except Exception:  # noqa: BLE001 - whatever it is, the call is not differentiated
        return False
    return abs(found - expected) <= 1e-5 * (1 + abs(expected))


def main() -> None:
    """Print the counts, and with --list what each package misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the calls that each package misses")
    parser.add_argument("--quick", action="store_true", help="the same: it takes a second")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    present = [name for name in BACKENDS if name == "tinygrad_nn" or importlib.util.find_spec(name)]
    print(f"{'calls':16}{'':>6}" + "".join(f"{name:>14}" for name in present))
    totals = dict.fromkeys(present, 0)
    missed: dict[str, list[str]] = {name: [] for name in present}
    count = 0
    for group, text in CALLS.items():
        calls = [call.strip() for call in text.replace("\n", ";").split(";") if call.strip()]
        calls = [call for call in calls if not _lacks(call)]
        counts = {}
        for name in present:
            good = [call for call in calls if differentiates(BACKENDS[name], call)]
            missed[name] += [call for call in calls if call not in good]
            counts[name] = len(good)
            totals[name] += len(good)
        count += len(calls)
        print(f"{group:16}{len(calls):>6}" + "".join(f"{counts[name]:>14}" for name in present))
    print(f"{'all':16}{count:>6}" + "".join(f"{totals[name]:>14}" for name in present))
    if options.list:
        for name in present:
            print(f"\n{name} misses: {', '.join(missed[name]) or 'nothing'}")


def _lacks(call: str) -> bool:
    """Whether this NumPy does not have the function at all."""
    arrays = inputs()
    try:
        eval(call, {"np": numpy, **constants(arrays), **arrays})  # noqa: S307
    except AttributeError:
        return True
    return False


if __name__ == "__main__":
    main()
