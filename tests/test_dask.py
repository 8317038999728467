"""Tensors over arrays of Dask: the same numbers as NumPy's, one run of the scheduler a step, or an error."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from domains import DOMAINS, Draw, name_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from samples import LOSS_LAYERS, PLAIN_LAYERS, layer_sample, loss_sample

import tinygrad_nn as tn
from tinygrad_nn.derivatives.table import COMPOSITIONS, TABLE
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.tensor import leaf
from tinygrad_nn.testing import GradientError, check_gradients

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
Callback = pytest.importorskip("dask.callbacks").Callback

F = tn.functional
CHUNKINGS = [(8, 5), (3, 5), (1, 5), (8, 2), (3, 2), ((1, 4, 3), (2, 1, 2))]
OPTIMIZERS = {
    "sgd": lambda p: tn.optim.SGD(p, lr=0.1),
    "momentum": lambda p: tn.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "rmsprop": lambda p: tn.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adam": lambda p: tn.optim.Adam(p, lr=0.01),
    "adamw": lambda p: tn.optim.AdamW(p, lr=0.01),
}


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


class Runs(Callback):
    """Counts the runs of Dask's local schedulers."""

    def __init__(self):
        super().__init__(start=self._count)
        self.count = 0

    def _count(self, _graph):
        self.count += 1


def network(seed=0):
    rng = np.random.default_rng(seed)
    return tn.nn.Sequential(
        tn.nn.Linear(5, 4, rng=rng),
        tn.nn.Tanh(),
        tn.nn.Linear(4, 4, rng=rng),
        tn.nn.ReLU(),
        tn.nn.Linear(4, 3, rng=rng),
    )


def data(n=8):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 5)), rng.integers(3, size=n)


def halves(array):
    return da.from_array(array, chunks=tuple(max(1, -(-n // 2)) for n in array.shape))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# Gradients


@pytest.mark.parametrize("chunks", CHUNKINGS, ids=str)
def test_a_step_equals_numpys_and_runs_the_scheduler_once(chunks):
    x, classes = data()
    y = tn.data.one_hot(classes, 3)
    expected, net = network(), network()
    F.cross_entropy(expected(x), y).backward()
    with Runs() as runs:
        value = F.cross_entropy(net(da.from_array(x, chunks=chunks)), da.from_array(y, chunks=(chunks[0], 3)))
        assert runs.count == 0
        value.backward()
        number = value.item()
    assert runs.count == 1
    close(number, F.cross_entropy(expected(x), y).item())
    for p, q in zip(net.parameters(), expected.parameters(), strict=True):
        assert type(p.grad) is np.ndarray
        assert p.grad.dtype == q.grad.dtype
        close(p.grad, q.grad)


def test_gradients_add_up_and_a_kept_graph_gives_them_again():
    x, classes = data()
    net, expected = network(), network()
    loss = F.cross_entropy(net(halves(x)), classes)
    loss.backward(retain_graph=True)
    loss.backward()
    F.cross_entropy(expected(x), classes).backward(gradient=np.array(2.0))
    for p, q in zip(net.parameters(), expected.parameters(), strict=True):
        close(p.grad, q.grad)


def test_a_leaf_of_dask_keeps_a_lazy_gradient():
    x, _ = data()
    t, w = tn.Tensor(halves(x), requires_grad=True), tn.Tensor(np.ones((5, 2)), requires_grad=True)
    for _ in range(2):
        np.sum(np.square(np.tanh(t) @ w)).backward()
    assert isinstance(t.grad, da.Array)
    close(t.grad.compute(), 4 * np.tanh(x).sum(axis=1, keepdims=True) * 2 / np.cosh(x) ** 2)


def test_single_precision_stays_single():
    x, classes = data()
    w = tn.Tensor(np.ones((5, 3), np.float32), requires_grad=True)
    loss = F.cross_entropy(halves(x.astype(np.float32)) @ w, classes)
    loss.backward()
    assert loss.dtype == w.grad.dtype == np.float32


def test_transforms_are_lazy_and_one_compute_gives_all():
    x, _ = data()
    w = np.random.default_rng(2).standard_normal((5, 2))

    def energy(w, x):
        return np.mean(np.square(np.tanh(x @ w)))

    expected = tn.value_and_grad(energy, (0, 1))(w, x)
    with Runs() as runs:
        value, grads = tn.value_and_grad(energy, (0, 1))(w, halves(x))
        slope = tn.grad(energy)(w, halves(x))
        assert runs.count == 0
        assert all(isinstance(a, da.Array) for a in (value, *grads, slope))
        found = dask.compute(value, *grads)
    assert runs.count == 1
    for a, b in zip(found, (expected[0], *expected[1]), strict=True):
        close(a, b)
    close(slope.compute(), expected[1][0])
    v = np.ones_like(w)
    close(tn.hvp(energy)(w, halves(x), v).compute(), tn.hvp(energy)(w, x, v))


def test_pieces_of_an_array_have_gradients():
    x, _ = data()
    for pick in (
        lambda t: t[2:7, ::2],
        lambda t: t[1],
        lambda t: t[:, None, 1:3],
        lambda t: t[..., -1],
        lambda t: t[::-1],
    ):
        a, b = tn.Tensor(x, requires_grad=True), tn.Tensor(halves(x), requires_grad=True)
        for t in (a, b):
            with Runs() as runs:
                np.sum(np.square(pick(t))).backward()
        assert runs.count == 1
        close(b.grad.compute(), a.grad)


@pytest.mark.parametrize("chunks", [((0, 5, 0, 3), 5), (8, 5)])
def test_chunks_that_are_empty_or_of_unknown_length_are_refused(chunks):
    x, classes = data()
    a = da.from_array(x, chunks=chunks)
    match = r"empty chunks.*rechunk"
    if chunks == (8, 5):
        a, match = a[da.from_array(classes > 0, chunks=4)], r"nan is not known yet.*compute_chunk_sizes\(\)"
    net = network()
    fit = {"loss": F.mse_loss, "optimizer": tn.optim.SGD(net.parameters()), "epochs": 1}
    for use in (
        tn.Tensor,
        net,
        lambda a: F.mse_loss(a, a),
        lambda a: tn.Tensor(x[:1], requires_grad=True) * a,
        lambda a: tn.fit(net, a, a, **fit),
        lambda a: tn.predict(net, a),
        lambda a: tn.grad(lambda w: np.sum(a * w))(1.0),
    ):
        with pytest.raises(ShapeError, match=match):
            use(a)
    a = a.compute_chunk_sizes().rechunk({0: 3})
    close(net(a).numpy().compute(), net(a.compute()).numpy())
    t = tn.Tensor(da.from_array(x, chunks=3), requires_grad=True)
    with pytest.raises(ShapeError, match="nan is not known yet"):
        t[t > 0]


def test_tensors_over_dask_are_shown_as_numbers():
    t = tn.Tensor(halves(np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert f"{t.sum():.2f}" == "10.00"
    assert float(t.sum()) == 10.0
    assert t.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert bool(np.all(t > 0))
    assert not np.any(t > 4)
    w = tn.Tensor(np.ones(2), requires_grad=True)
    assert '"x' in tn.draw(np.sum(t @ w), {"x": t.data}).dot


def test_anomalies_are_named():
    w = tn.Tensor(np.zeros(5), requires_grad=True)
    with tn.detect_anomaly(), pytest.raises(tn.errors.AnomalyError, match=r"derivative of np\.sqrt made inf"):
        np.sum(np.sqrt(w * halves(data()[0] ** 2))).backward()


# Training


def normalized(seed=0):
    rng = np.random.default_rng(seed)
    return tn.nn.Sequential(
        tn.nn.Linear(5, 4, rng=rng), tn.nn.BatchNorm1d(4), tn.nn.Dropout(0.3, rng=rng), tn.nn.Linear(4, 3, rng=rng)
    )


def test_running_figures_are_computed_in_the_same_run():
    x, classes = data()
    expected, net = normalized(), normalized()
    for _ in range(3):
        F.cross_entropy(expected(x), classes).backward()
        with Runs() as runs:
            F.cross_entropy(net(halves(x)), classes).backward()
        assert runs.count == 1
    figures = (dict(module.named_buffers()) for module in (expected, net))
    for a, b in zip(*(buffers.values() for buffers in figures), strict=True):
        assert type(b.data) is np.ndarray
        close(b.data, a.data)
    sizes = []
    for _ in range(4):  # forward only
        net(halves(x))
        sizes.append(len(net[1].running_mean.data.dask))
    assert sizes[3] == sizes[1]


def test_fit_with_running_figures_equals_numpys(tmp_path):
    x, classes = data(20)
    found = []
    for lift in (np.array, halves):
        net = normalized()
        history = tn.fit(net, lift(x), lift(tn.data.one_hot(classes, 3)), loss=F.cross_entropy, epochs=2, rng=0,
                         optimizer=tn.optim.SGD(net.parameters(), 0.1), batch_size=6, validation=0.3)  # fmt: skip
        net(lift(x))
        tn.save(tmp_path / "net.npz", model=net)
        other = normalized(1)
        tn.load(tmp_path / "net.npz", model=other)
        found.append([*history["loss"], *history["val_loss"], *(t.data for _, t in other.named_tensors())])
    for a, b in zip(*found, strict=True):
        close(b, a)


def test_a_fraction_held_out_stays_in_chunks():
    x, classes = data(20)
    net = network()
    with Runs() as runs:
        tn.fit(net, halves(x), halves(tn.data.one_hot(classes, 3)), loss=F.cross_entropy, epochs=1, batch_size=5,
               optimizer=tn.optim.SGD(net.parameters()), validation=0.25)  # fmt: skip
    assert runs.count == 3 + 1 + 1  # batches, the validation and its trial


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("one_hot", [True, False])
def test_fit_equals_numpys(make, one_hot):
    x, classes = data(20)
    y = tn.data.one_hot(classes, 3) if one_hot else classes
    found = []
    for lift in (np.array, lambda a: da.from_array(a, chunks=(7, *a.shape[1:]))):
        net = network()
        optimizer = make(net.parameters())
        history = tn.fit(net, lift(x), lift(y) if one_hot else y, loss=F.cross_entropy, optimizer=optimizer, epochs=3,
                         batch_size=6, rng=0, compile=False)  # fmt: skip
        found.append([*history["loss"], *(p.data for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert type(b) is type(a)
        close(b, a)


def test_fit_runs_the_scheduler_once_a_batch():
    x, classes = data(20)
    x, y = halves(x), halves(tn.data.one_hot(classes, 3))
    net = network()
    with Runs() as runs:
        history = tn.fit(
            net, x, y, loss=F.cross_entropy, optimizer=tn.optim.Adam(net.parameters()), epochs=3, batch_size=5
        )
    assert history.steps == 12
    assert runs.count == 12
    runs.count = 0
    with runs:
        tn.fit(net, x, y, loss=F.cross_entropy, optimizer=tn.optim.Adam(net.parameters()), epochs=1, batch_size=5,
               validation=(x, y))  # fmt: skip
    assert runs.count == 9  # of which one tries the validation before the training begins


def test_metrics_are_computed_in_the_same_run():
    x, classes = data(20)
    x, y = halves(x), halves(tn.data.one_hot(classes, 3))
    net = network()
    options = {"loss": F.cross_entropy, "optimizer": tn.optim.SGD(net.parameters(), 0.1), "batch_size": 5}
    with Runs() as runs:
        tn.fit(net, x, y, epochs=2, metrics=hits, **options)
    assert runs.count == 8 + 1  # one tries the metrics before the training begins


def test_fit_with_metrics_evaluate_and_predict():
    x, classes = data(20)
    one_hot = tn.data.one_hot(classes, 3)
    found = []
    for lift in (np.array, halves):
        net = network()
        optimizer = tn.optim.SGD(net.parameters(), 0.1)
        history = tn.fit(net, lift(x), lift(one_hot), loss=F.cross_entropy, optimizer=optimizer, epochs=2,
                         batch_size=5, rng=0, metrics=hits, validation=(lift(x), lift(one_hot)))  # fmt: skip
        with Runs() as runs:
            figures = tn.evaluate(net, lift(x), lift(one_hot), loss=F.cross_entropy, metrics=hits, batch_size=7)
        assert runs.count == (3 if lift is halves else 0)
        found.append([history[name] for name in history if name != "seconds"] + [[*figures.values()]])
        found[-1].append(tn.predict(net, lift(x), batch_size=7))
    for a, b in zip(*found, strict=True):
        assert type(a) is type(b)
        close(b, a)


def hits(prediction, target):
    assert type(prediction) is type(target) is np.ndarray
    return tn.metrics.accuracy(target.argmax(axis=1), prediction)


# What does not go, says so


def test_classes_that_are_not_computed_are_refused():
    x, classes = data()
    with pytest.raises(DTypeError, match=r"class indices within bounds.*array.compute\(\).*one-hot"):
        F.cross_entropy(network()(halves(x)), halves(classes))
    with pytest.raises(DTypeError, match="logits for probabilities"):
        F.binary_cross_entropy(tn.Tensor(halves(x)), halves(x))
    with pytest.raises(DTypeError, match=r"array.compute\(\)"):
        F.embedding(halves(classes), tn.Tensor(np.ones((3, 2)), requires_grad=True))
    with pytest.raises(tn.errors.ArgumentError, match="class indices that lie from 0 to 2, got 0 to 3"):
        F.cross_entropy(network()(halves(x)), np.arange(8) % 4)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_parameters_in_dask_are_refused_by_optimizers(make):
    with pytest.raises(DTypeError, match=r"dask.*keep the parameters in NumPy arrays"):
        make([tn.Tensor(da.ones(3), requires_grad=True)])


def test_compiled_steps_are_refused():
    x, _ = data()
    net = network()
    with pytest.raises(DTypeError, match="NumPy arrays"):
        tn.compile(lambda x: np.sum(net(x)))(halves(x))


# Every layer, loss and row of the table: the same numbers, or an error

REFUSED_LAYERS = {"Embedding"}  # classes again
REFUSED_LOSSES = {"BCELoss"}


@pytest.mark.parametrize("kind", PLAIN_LAYERS, ids=lambda kind: kind.__name__)
def test_layers(kind):
    found = []
    for lift in (np.array, halves):
        layer, x = layer_sample(kind, np.random.default_rng(0))
        if lift is halves and kind.__name__ in REFUSED_LAYERS:
            with pytest.raises(DTypeError, match=r"array.compute\(\)"):
                layer(lift(x))
            return
        x = lift(x)
        x = tn.Tensor(x, requires_grad=x.dtype.kind == "f")
        y = layer(x)
        np.sum(np.square(y)).backward()
        found.append([*dask.compute(y.numpy(), x.grad), *(t.grad for t in layer.parameters())])
        found[-1] += [dask.compute(t.numpy())[0] for _, t in layer.named_buffers()]
    for a, b in zip(*found, strict=True):
        close(b, a)


@pytest.mark.parametrize("kind", LOSS_LAYERS, ids=lambda kind: kind.__name__)
def test_losses(kind):
    found = []
    before, wants = loss_sample(kind)
    rng = np.random.default_rng(0)
    scores, numbers, classes = rng.standard_normal((6, 3)), rng.uniform(0.1, 0.9, (6, 3)), rng.integers(3, size=6)
    for lift in (np.array, halves):
        x = tn.Tensor(lift(scores), requires_grad=True)
        target = classes if wants == "classes" else lift(numbers)
        if lift is halves and kind.__name__ in REFUSED_LOSSES:
            with pytest.raises(DTypeError, match="within bounds"):
                kind()(before(x), target)
            return
        with Runs() as runs:
            loss = kind()(before(x), target)
            loss.backward()
        assert runs.count == (lift is halves)
        found.append([loss.item(), *dask.compute(x.grad)])
    for a, b in zip(*found, strict=True):
        close(b, a)


LAZY = (
    {f for f in DOMAINS if isinstance(f, np.ufunc) and f not in {np.matmul, np.matvec, np.vecmat, np.vecdot}}
    | {np.sinc, np.round, np.fix, np.clip, np.where, np.copy, np.expand_dims, np.squeeze, np.transpose, np.swapaxes}
    | {np.moveaxis, np.flip, np.broadcast_to, np.concatenate, np.stack, np.einsum, np.cumsum, np.prod}
)
"""Functions that stay lazy and equal NumPy's in every call."""

REFUSED = {
    np.nan_to_num,
    np.nanmean,
    np.interp,
    np.linalg.det,
    np.linalg.cholesky,
}
"""Functions with arguments that Dask does not take, in every call."""


def outcome(function, draw):
    """How a call on Dask arrays ends: "lazy", "at once", or the error."""
    case = DOMAINS[function](draw)
    assume(all(a.size for a in case.arrays))
    active = function in COMPOSITIONS or TABLE[function].active
    results = []
    for lift in (np.array, halves):
        xs = [leaf(lift(a)) for a in case.arrays]
        with Runs() as runs:
            try:
                y = case.call(*xs)
                v = np.random.default_rng(0).standard_normal(y.shape)
                found = [y.numpy()]
                if active:
                    found += [g.numpy() for g in tn.gradients(y, xs, gradient=lift(v))]
                assert runs.count == 0 or function not in LAZY
                found = [*dask.compute(*found)]
            except Exception as error:
                if lift is np.array:
                    raise
                return error
        results.append(found)
    for a, b in zip(*results, strict=True):
        assert (b.shape, b.dtype) == (a.shape, a.dtype)
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
    return "at once" if runs.count > 1 else "lazy"


@pytest.mark.parametrize("function", DOMAINS, ids=name_of)
def test_rows_of_the_table_equal_numpys_or_raise(function):
    @settings(max_examples=4, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data):
        with warnings.catch_warnings():  # Dask warns where it computes at once
            warnings.simplefilter("ignore")
            end = outcome(function, Draw(data))
        assert function not in LAZY or end == "lazy"
        assert function not in REFUSED or isinstance(end, Exception)
        assert isinstance(end, str) or str(end) or isinstance(end, AssertionError)

    check()


# Several processes


def test_a_cluster_of_two_worker_processes_trains_alike():
    distributed = pytest.importorskip("distributed")
    x, classes = data(24)
    y = tn.data.one_hot(classes, 3)
    expected = train(x, y)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with (
        dask.config.set(scheduler=None, **{"distributed.worker.daemon": True}),
        distributed.LocalCluster(host="127.0.0.1", **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        arrays = client.persist([da.from_array(x, chunks=(6, 5)), da.from_array(y, chunks=(6, 3))])
        distributed.wait(arrays)
        held = client.has_what()
        found = train(*arrays)
    assert len(held) == 2
    assert all(held.values())  # both hold chunks
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def train(x, y):
    net = network()
    history = tn.fit(net, x, y, loss=F.cross_entropy, optimizer=tn.optim.Adam(net.parameters(), lr=0.05), epochs=2,
                     batch_size=12, compile=False)  # fmt: skip
    return [*history["loss"], *(p.data for p in net.parameters())]


def test_the_checker_computes_results_and_refuses_inputs() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    weights = da.from_array(np.random.default_rng(1).standard_normal((4, 3)), chunks=2)
    assert check_gradients(lambda x: np.tanh(x * weights), x).ok
    wrong = tn.differentiable(np.tanh.__call__, lambda g, y, x: g * (1 + y * y), broadcasts=True, name="wrong")
    with pytest.raises(GradientError, match="1 of 1 gradients is wrong"):
        check_gradients(lambda x: wrong(x * weights), x)
    with pytest.raises(ArgumentError, match="Array of dask: give its numbers in an array of NumPy"):
        check_gradients(np.tanh, weights)
