"""Arrays of a device: what runs on one that behaves as CuPy's do, and on CuPy itself where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from domains import DOMAINS, Draw, name_of
from duck import Device
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from samples import LOSS_LAYERS, PLAIN_LAYERS, layer_sample, loss_sample
from test_arrays import OPTIMIZERS, data, network, train

import tinygrad_nn as tn
from tinygrad_nn.derivatives.table import COMPOSITIONS, TABLE
from tinygrad_nn.tensor import leaf

F = tn.functional


class _OfCupy:
    """Moves arrays to a GPU."""

    def __init__(self):
        self.cupy = pytest.importorskip("cupy")
        try:
            found = self.cupy.is_available()
        except self.cupy.cuda.runtime.CUDARuntimeError:  # there is no driver
            found = False
        if not found:
            pytest.skip("no GPU")

    def __call__(self, array):
        return self.cupy.asarray(array)


@pytest.fixture(params=["duck", pytest.param("cupy", marks=pytest.mark.gpu)])
def lift(request):
    return Device if request.param == "duck" else _OfCupy()


def same(found, expected, tolerance=1e-12):
    """Equal numbers, in arrays of a device."""
    assert not isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found.get(), expected, rtol=tolerance, atol=tolerance)


def close(found, expected, tolerance=1e-12):
    """Equal numbers, wherever they lie."""
    np.testing.assert_allclose(found.get() if hasattr(found, "get") else found, expected, tolerance, tolerance)


def host(found):
    return found.get() if hasattr(found, "get") else found


# Layers, losses, rows of the table


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", PLAIN_LAYERS, ids=lambda kind: kind.__name__)
def test_layers(lift, kind, dtype):
    found = []
    for move in (np.array, lift):
        layer, x = layer_sample(kind, np.random.default_rng(0))
        if x.dtype.kind == "f":
            x = x.astype(dtype)
        layer.to(lambda a, move=move: move(a.astype(dtype) if a.dtype.kind == "f" else a))
        x = tn.Tensor(move(x), requires_grad=x.dtype.kind == "f")
        y = layer(x)
        np.sum(np.square(y)).backward()
        arrays = [y.numpy(), *(p.grad for p in layer.parameters()), *(b.numpy() for _, b in layer.named_buffers())]
        found.append(arrays + [layer.eval()(x).numpy()] + ([x.grad] if x.requires_grad else []))
    for a, b in zip(*found, strict=True):
        same(b, a, 1e-12 if dtype is np.float64 else 1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", LOSS_LAYERS, ids=lambda kind: kind.__name__)
def test_losses(lift, kind, reduction):
    before, wants = loss_sample(kind)
    rng = np.random.default_rng(0)
    scores, numbers, classes = rng.standard_normal((6, 3)), rng.uniform(0.1, 0.9, (6, 3)), rng.integers(3, size=6)
    found = []
    for move in (np.array, lift):
        x = tn.Tensor(move(scores), requires_grad=True)
        loss = kind(reduction=reduction)(before(x), move(classes if wants == "classes" else numbers))
        loss.sum().backward()
        found.append([loss.numpy(), x.grad])
    for a, b in zip(*found, strict=True):
        same(b, a)


# Why a call may end in an error: it meets NumPy's arrays, or CuPy lacks the function or a keyword of it.
MEETS_NUMPYS = """np.heaviside np.nan_to_num keep_zero np.where numpy.select np.searchsorted numpy.convolve
    numpy.correlate numpy.inner numpy.outer numpy.kron numpy.cross numpy.linalg.outer numpy.linalg.cross
    numpy.linalg.multi_dot numpy.average numpy.diff numpy.trapezoid numpy.atleast_1d numpy.atleast_2d
    numpy.atleast_3d numpy.vstack numpy.hstack numpy.dstack numpy.column_stack numpy.append numpy.insert
    numpy.choose numpy.ediff1d"""
LACKS_FUNCTION = "np.vecdot np.matvec np.vecmat numpy.linalg.vecdot"
LACKS_KEYWORD = """np.sum np.mean np.max np.amax np.min np.amin np.nanmax np.nanmin np.all np.any np.count_nonzero
    numpy.prod numpy.nanprod numpy.nansum numpy.nanmean numpy.var numpy.std numpy.nanvar numpy.nanstd np.argsort
    numpy.sort np.linalg.cholesky np.linalg.pinv np.linalg.eigh np.linalg.svd numpy.linalg.svd"""
NOT_ALWAYS = {*MEETS_NUMPYS.split(), *LACKS_FUNCTION.split(), *LACKS_KEYWORD.split()}
NO_ARRAYS = {np.allclose, np.array_equal, np.count_nonzero}  # NumPy 2.0 counts into a Python number


@pytest.mark.parametrize("function", DOMAINS, ids=name_of)
def test_rows_of_the_table(lift, function):
    active = function in COMPOSITIONS or TABLE[function].active

    @settings(max_examples=3, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data):
        case = DOMAINS[function](Draw(data))
        assume(all(a.dtype == np.float64 for a in case.arrays))
        results = []
        for move in (np.array, lift):
            xs = [leaf(move(a)) for a in case.arrays]
            try:
                y = case.call(*xs)
                v = np.random.default_rng(0).standard_normal(y.shape)
                gradients = tn.gradients(y, xs, gradient=move(v)) if active else []
            except Exception:
                if move is lift and name_of(function) in NOT_ALWAYS:
                    return
                raise
            results.append([t.numpy() for t in (y, *gradients)])
        for a, b in zip(*results, strict=True):
            (close if function in NO_ARRAYS else same)(b, a)

    check()


# Training


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_training_by_hand(lift, make, classes, dtype):
    expected, found = train(np.array, make, classes, dtype), train(lift, make, classes, dtype)
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(found[0], expected[0], rtol=tolerance)
    for a, b in zip(expected[1], found[1], strict=True):
        same(b, a, tolerance)


def mixed(rng):
    return tn.nn.Sequential(
        tn.nn.Linear(4, 5, rng=rng), tn.nn.BatchNorm1d(5), tn.nn.Dropout(0.2, rng=rng), tn.nn.GELU(),
        tn.nn.Linear(5, 3, rng=rng),
    )  # fmt: skip


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("held_out", ["pair", "fraction"])
def test_fit_evaluate_and_predict(lift, classes, held_out):
    x, labels = data()
    y = labels if classes else tn.data.one_hot(labels, 3)
    metric = tn.metrics.accuracy if classes else lambda p, t: tn.metrics.accuracy(t.argmax(axis=1), p)
    found = []
    for move in (np.array, lift):
        net = mixed(np.random.default_rng(0)).to(move)
        optimizer = tn.optim.Adam(net.parameters(), lr=0.05)
        callbacks = [tn.training.EarlyStopping("val_loss", patience=9), tn.training.StopOnNaN()]
        options = {"loss": F.cross_entropy, "metrics": {"hits": (lambda p, t: metric(t, p)) if classes else metric}}
        history = tn.fit(net, move(x), move(y), optimizer=optimizer, epochs=4, batch_size=2, rng=0, callbacks=callbacks,
                         validation=(move(x), move(y)) if held_out == "pair" else 0.34, **options)  # fmt: skip
        figures = tn.evaluate(net, move(x), move(y), batch_size=4, **options)
        found.append([*(history[name] for name in history if name != "seconds"), list(figures.values())])
        prediction = tn.predict(net, move(x), batch_size=4)
        found[-1] += [prediction, tn.metrics.confusion_matrix(move(labels), prediction)]
        found[-1].append(tn.metrics.classification_report(move(labels), prediction).f1)
    for a, b in zip(*found, strict=True):
        close(b, a)


def test_a_compiled_fit_is_refused(lift):
    x, y = (lift(a) for a in data())
    net = network().to(lift)
    with pytest.raises(tn.errors.DTypeError, match="NumPy arrays"):
        tn.fit(net, x, y, loss=F.cross_entropy, optimizer=tn.optim.SGD(net.parameters()), epochs=1, compile=True)


@pytest.mark.parametrize("p", [1.0, 2.0, np.inf])
def test_clipping(lift, p):
    x, y = data()
    found = []
    for move in (np.array, lift):
        net = network().to(move)
        for clip, options in ((tn.optim.clip_grad_norm, (0.1, p)), (tn.optim.clip_grad_value, (0.01,))):
            F.cross_entropy(net(move(x)), move(y)).backward()
            number = clip(net.parameters(), *options)
            found.append([0.0 if number is None else number, *(p.grad for p in net.parameters())])
            net.zero_grad()
    for a, b in zip(found[0] + found[1], found[2] + found[3], strict=True):
        close(b, a)


def test_states_and_files(lift, tmp_path):
    x, y = data()
    net = network().to(lift)
    optimizer = tn.optim.Adam(net.parameters())
    F.cross_entropy(net(lift(x)), lift(y)).backward()
    optimizer.step()
    tn.save(tmp_path / "run.npz", model=net, optimizer=optimizer)
    here = network(5)
    there = network(6).to(lift)
    for other in (here, there):
        tn.load(tmp_path / "run.npz", model=other, optimizer=tn.optim.Adam(other.parameters()))
    again = network(7).to(lift)
    again.load_state_dict(net.state_dict())
    for p, q, r, s in zip(net.parameters(), here.parameters(), there.parameters(), again.parameters(), strict=True):
        assert type(q.data) is np.ndarray
        for other in (q, r, s):
            assert np.array_equal(host(other.data), host(p.data))
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()


def test_transforms(lift):
    x = np.array([0.5, -1.0, 2.0])

    def f(x):
        return np.sum(np.tanh(x) ** 2) + np.prod(x)

    for call in (
        *(lambda x, t=transform: t(f)(x) for transform in (tn.grad, tn.hessian, tn.jacobian, tn.value_and_grad)),
        *(lambda x, t=transform: t(f)(x, x) for transform in (tn.hvp, tn.jvp)),
        lambda x: tn.vjp(f)(x)[1](x[0] * 0 + 1),
    ):
        found, expected = call(lift(x)), call(x)
        for b, a in zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]:
            same(b, np.asarray(a))


def test_anomalies_are_named(lift):
    w = tn.Tensor(lift(np.array([1.0, 0.0])), requires_grad=True)
    with (
        tn.detect_anomaly(),
        pytest.raises(
            tn.errors.AnomalyError, match=r"derivative of np.sqrt made inf[^$]*gradient: \(2,\) float64, .*\[1\]: inf"
        ),
    ):
        np.sqrt(w).sum().backward()


def test_what_a_tensor_shows(lift):
    t = tn.Tensor(lift(np.array([1.0, 2.0])))
    assert "[1., 2.]" in repr(t).replace("1.0", "1.").replace("2.0", "2.")
    assert t.tolist() == [1.0, 2.0]
    assert [float(part) for part in t] == [1.0, 2.0]
    assert f"{t.sum():.2f}" == "3.00"
    assert bool(np.all(t > 0))
    assert 2.0 in t
    assert repr(tn.draw(np.sum(tn.Tensor(lift(np.ones(2)), requires_grad=True) * t.data), {"x": t.data}))


def test_arrays_that_meet_numpys_are_refused_as_by_cupy(lift):
    w = tn.Tensor(lift(np.ones(2)), requires_grad=True)
    for refused in (
        lambda: w + np.ones(2),
        lambda: np.concatenate([w, np.ones(2)]),
        lambda: np.where(w > 0, w, np.ones(2)),
    ):
        with pytest.raises(TypeError):
            refused()
