"""Arrays of other libraries: what the engine asks of one, moving a module into it, and neighbours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from duck import ATTRIBUTES, METHODS, Duck

import tinygrad_nn as tn
from tinygrad_nn.errors import ArgumentError, DetachError, DTypeError, GraphError, ShapeError, StateError

F = tn.functional
PAGE = Path(tn.__file__).parent / "ARRAYS.md"
OPTIMIZERS = [
    lambda p: tn.optim.SGD(p, lr=0.1),
    lambda p: tn.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    lambda p: tn.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5, weight_decay=0.1),
    lambda p: tn.optim.Adam(p, lr=0.01, weight_decay=0.1),
    lambda p: tn.optim.AdamW(p, lr=0.01),
]


def network(seed=0):
    rng = np.random.default_rng(seed)
    return tn.nn.Sequential(
        tn.nn.Linear(4, 5, rng=rng),
        tn.nn.Tanh(),
        tn.nn.Linear(5, 5, rng=rng),
        tn.nn.ReLU(),
        tn.nn.Linear(5, 3, rng=rng),
    )


def data():
    rng = np.random.default_rng(1)
    return rng.standard_normal((6, 4)), rng.integers(3, size=6)


def train(lift, make, classes=False, dtype=np.float64):
    """Three steps with losses of both kinds, pieces of arrays and gradients that add up."""
    net = network().to(lambda a: lift(a.astype(dtype)))
    x, y = data()
    x, y = lift(x.astype(dtype)), lift(y if classes else tn.data.one_hot(y, 3, dtype))
    optimizer = make(net.parameters())
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        scores = net(x)
        b = next(iter(net)).bias
        for loss in (
            F.cross_entropy(scores, y),
            np.mean(F.sigmoid(scores[1:, 0])),
            np.reshape(scores.astype(np.float64), (-1,)).sum(),
            np.where(b > 0, b, 2.0 - b)[0],
            (b + 1.0).sum(),
        ):
            loss.backward(retain_graph=True)
            losses.append(loss.item())
        optimizer.step()
    return losses, [p.data for p in net.parameters()]


# Bring your own array


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize(("classes", "dtype"), [(False, np.float64), (True, np.float32)])
def test_a_duck_is_trained_as_numpys_arrays_are(make, classes, dtype):
    expected, found = train(np.array, make, classes, dtype), train(Duck, make, classes, dtype)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(found[0], expected[0], rtol=tolerance)
    for a, b in zip(found[1], expected[1], strict=True):
        assert type(a) is Duck
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a.array, b, rtol=tolerance, atol=tolerance)


def test_a_duck_refuses_everything_else():
    duck = Duck(np.ones(2))
    for refused in (
        np.asarray,
        list,
        len,
        lambda d: d.std(),
        lambda d: d + np.ones(2),
        lambda d: np.add(np.ones(2), d),
    ):
        with pytest.raises((TypeError, AttributeError)):
            refused(duck)


def asked():
    """What training asks of an array."""
    before = set(Duck.asked)
    Duck.asked.clear()
    for make in OPTIMIZERS:
        for classes in (False, True):
            train(Duck, make, classes, np.float32)
    found = set(Duck.asked)
    Duck.asked |= before
    return found


def test_the_page_lists_what_is_asked():
    found = asked()
    text = PAGE.read_text("utf-8")
    entries = re.findall(r"^- (.*?)\.$", text.split("## What")[1].split("## Into")[0], re.MULTILINE | re.DOTALL)
    listed = {part for entry in entries for part in re.findall(r"`(.*?)`", entry.split(": ")[1])}
    assert listed == found
    names = {name.removeprefix("a.").removesuffix("()") for name in found if re.fullmatch(r"a\.\w+(\(\))?", name)}
    assert names == ATTRIBUTES | METHODS  # the duck offers no more than that
    assert len(text.splitlines()) <= 66


@pytest.mark.parametrize("validation", [None, 0.34])
def test_fit_and_predict_on_ducks(validation):
    x, classes = data()
    y = tn.data.one_hot(classes, 3)
    found = []
    for lift in (np.array, Duck):
        net = network().to(lift)
        options = {"loss": F.cross_entropy, "optimizer": tn.optim.SGD(net.parameters(), 0.1), "batch_size": 2}
        found.append(tn.fit(net, lift(x), lift(y), epochs=2, validation=validation, **options)["loss"])
        found[-1] += [tn.predict(net, lift(x))]
    assert type(found[1].pop()) is Duck
    np.testing.assert_allclose(found[1], found[0][:-1])


def test_a_conversion_that_is_none_is_refused():
    class Bare:
        __array_function__ = __array_ufunc__ = None
        dtype, shape, ndim, size = np.dtype(float), (2,), 1, 2

    with pytest.raises(TypeError, match="it has no __array__"):
        tn.checks.fetched(Bare())


def test_what_is_checked_is_checked_on_ducks():
    scores = tn.Tensor(Duck(np.zeros((2, 3))), requires_grad=True)
    with pytest.raises(ArgumentError, match="lie from 0 to 2, got 0 to 3"):
        F.cross_entropy(scores, Duck(np.array([0, 3])))
    rows = Duck(np.array([[0.0, 1.0, 0.5], [0.25, 1.0, 0.0]]))
    np.testing.assert_allclose(F.binary_cross_entropy_with_logits(scores, rows).item(), np.log(2))
    with pytest.raises(ArgumentError, match="from 0 to 1, got -1 to 2"):
        F.binary_cross_entropy_with_logits(scores, Duck(np.array([[-1.0, 2, 0]] * 2)))
    np.sum(scores * 3.0).backward()
    np.testing.assert_allclose(tn.optim.clip_grad_norm([scores], 1.0), 3 * np.sqrt(6))
    w = tn.Tensor(Duck(np.array([1.0, 0.0])), requires_grad=True)
    with tn.detect_anomaly(), pytest.raises(tn.errors.AnomalyError, match=r"derivative of np\.sqrt made nan or inf"):
        np.sqrt(w).sum().backward()


def test_transforms_give_ducks_for_ducks():
    x = np.array([0.5, -1.0])
    value, grad = tn.value_and_grad(lambda x: np.sum(np.tanh(x)))(Duck(x))
    assert type(grad) is Duck
    np.testing.assert_allclose(grad.array, 1 / np.cosh(x) ** 2)
    np.testing.assert_allclose(tn.Tensor(value).item(), np.tanh(x).sum())
    second = tn.grad(lambda x: np.sum(tn.grad(lambda x: np.sum(np.tanh(x)))(x)))(Duck(x))
    np.testing.assert_allclose(second.array, -2 * np.tanh(x) / np.cosh(x) ** 2)


def test_a_duck_written_to_after_the_forward_is_noticed():
    p = tn.Tensor(Duck(np.ones(3)), requires_grad=True)
    optimizer = tn.optim.SGD([p], lr=0.1)
    loss, later = np.sum(p * p), np.sum(np.square(p))
    loss.backward()
    optimizer.step()
    with pytest.raises(GraphError, match="written to after"):
        later.backward()


# Module.to


@pytest.mark.parametrize("convert", [lambda a: a.astype(np.float32), Duck, lambda a: Duck(a.astype(np.float32))])
def test_to_moves_parameters_and_buffers(convert):
    net = tn.nn.Sequential(tn.nn.Linear(4, 5), tn.nn.BatchNorm1d(5))
    net(np.ones((2, 4)) * [[1.0], [2.0]]).sum().backward()
    before = net.state_dict()
    tensors = dict(net.named_tensors())
    assert net.to(convert) is net
    kind = type(convert(np.ones(1)))
    for name, t in net.named_tensors():
        assert t is tensors[name]
        assert kind is np.ndarray or "<duck.Duck object" in repr(t)
        assert type(t.data) is kind
        assert t.dtype == convert(before[name]).dtype
        assert t.grad is None
    for name in ("layers.0.weight", "layers.1.weight"):
        t = dict(net.named_parameters())[name]
        np.testing.assert_allclose(getattr(t.data, "array", t.data), before[name], rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda net, x: net(x).sum(),
        lambda net, x: np.sum(next(iter(net)).bias + 1.0),  # reads no value of the parameter
        lambda net, x: np.sum(np.tanh(next(iter(net)).weight)),
    ],
)
@pytest.mark.parametrize("convert", [lambda a: a.astype(np.float32), Duck])
def test_graphs_from_before_a_move_raise(loss, convert):
    net = network()
    old = loss(net, data()[0])
    net.to(convert)
    with pytest.raises(GraphError, match=r"was written to after.*Module\.to"):
        old.backward()
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(GraphError, match=r"Module\.to"):
        tn.gradients(old, list(net.parameters()))
    new = loss(net, convert(data()[0]))
    new.backward()


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("convert", [lambda a: a.astype(np.float32), Duck])
def test_optimizers_from_before_a_move_refuse(make, convert):
    net, x = network(), data()[0]
    optimizer = make(net.parameters())
    net(x).sum().backward()
    optimizer.step()
    net.to(convert)
    optimizer.step()  # there are no gradients: nothing to do
    net(convert(x)).sum().backward()
    values = [np.copy(getattr(p.data, "array", p.data)) for p in net.parameters()]
    with pytest.raises(StateError, match="make the optimizer anew"):
        optimizer.step()
    for p, value in zip(net.parameters(), values, strict=True):
        assert np.array_equal(getattr(p.data, "array", p.data), value)
    make(net.parameters()).step()


def test_a_move_to_the_same_kind_changes_nothing_for_optimizers():
    net, x = network(), data()[0]
    optimizer = tn.optim.Adam(net.parameters())
    for _ in range(2):
        net.to(np.copy)
        net(x).sum().backward()
        optimizer.step()
        net.to(lambda a: a)
    net.to(lambda a: a.astype(np.float32)).to(lambda a: a.astype(np.float64))
    net(x).sum().backward()
    optimizer.step()


def test_a_compiled_step_follows_a_move():
    net = network()
    x, classes = data()
    y = tn.data.one_hot(classes, 3, np.float32)
    step = tn.compile(lambda x, y: F.cross_entropy(net(x), y))
    step(x, y.astype(float))
    net.zero_grad()
    net.to(lambda a: a.astype(np.float32))
    expected = network().to(lambda a: a.astype(np.float32))
    F.cross_entropy(expected(x.astype(np.float32)), y).backward()
    step(x.astype(np.float32), y)
    for p, q in zip(net.parameters(), expected.parameters(), strict=True):
        assert p.grad.dtype == np.float32
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("convert", "error", "message"),
    [
        (lambda a: a.tolist(), DTypeError, "needs arrays.*layers.0.weight.*list"),
        (tn.Tensor, DTypeError, "needs arrays"),
        (lambda a: a[..., :1], ShapeError, "keeps shapes"),
        (lambda a: a.astype(int), DTypeError, "became int"),
        (lambda a: a.astype(complex), DTypeError, "became complex"),
        (lambda a: a.astype(str), DTypeError, "became <U"),
    ],
)
def test_to_refuses_what_does_not_fit_before_anything_changes(convert, error, message):
    net = network()
    before = [p.data for p in net.parameters()]
    with pytest.raises(error, match=message):
        net.to(lambda a: convert(a) if a.shape == (4, 5) else a.astype(np.float32))
    assert all(p.data is old for p, old in zip(net.parameters(), before, strict=True))


# Neighbours, by public protocols only


def test_tensors_of_torch_share_memory_both_ways():
    torch = pytest.importorskip("torch")
    theirs = torch.arange(3.0, dtype=torch.float64)
    for ours in (tn.Tensor(theirs), tn.Tensor(np.from_dlpack(theirs)), tn.Tensor(theirs.numpy())):
        theirs[0] += 1
        assert ours.numpy()[0] == theirs[0].item()
        back = torch.from_dlpack(ours.numpy())
        back[1] = 7
        assert theirs[1] == 7
    w = tn.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    np.sum(w * theirs).backward()
    assert np.array_equal(w.grad, theirs.numpy())
    assert torch.from_dlpack(w.grad).tolist() == theirs.tolist()


def test_tensors_of_torch_that_require_a_gradient_are_refused():
    torch = pytest.importorskip("torch")
    theirs = torch.ones(3, dtype=torch.float64, requires_grad=True)
    ours = tn.Tensor(np.ones(3), requires_grad=True)
    for refused in (tn.Tensor, lambda t: ours * t, lambda t: np.add(ours, t * 2), lambda t: np.where(t > 0, ours, t)):
        with pytest.raises(DetachError, match=r"requires a gradient.*detach\(\)"):
            refused(theirs)
    with pytest.raises(BufferError):
        np.from_dlpack(theirs)
    tn.Tensor(theirs.detach())
