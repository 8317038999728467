"""Scale and sharing: long and wide graphs, many steps, many threads."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinygrad_nn as tn


@pytest.fixture
def no_collector():
    """Only reference counting frees anything in a test that asks for this."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def network(seed):
    rng = np.random.default_rng(seed)
    return tn.nn.Sequential(tn.nn.Linear(4, 5, rng=rng), tn.nn.Tanh(), tn.nn.Linear(5, 2, rng=rng))


def trained(seed, steps=40):
    """A short training that nothing outside takes part in, and its final parameters."""
    net, rng = network(seed), np.random.default_rng(seed)
    optimizer = tn.optim.Adam(net.parameters(), lr=0.01)
    x, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 2))
    for k in range(steps):
        with tn.no_grad():
            assert not net(x).requires_grad
        loss = tn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward(retain_graph=k % 2 == 0)
        optimizer.step()
    return net.state_dict()


def test_a_fan_out_is_walked_and_freed(no_collector) -> None:
    x = tn.Tensor(np.ones(2), requires_grad=True)
    y = x * 1.0
    node = weakref.ref(y._node)
    parts = [y * float(k % 7) for k in range(20_000)]
    total = sum(parts[1:], start=parts[0])
    total.sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(2, float(sum(k % 7 for k in range(20_000)))))
    del y, parts, total
    assert node() is None


def test_training_does_not_grow(no_collector) -> None:
    """After a warm-up, hundreds of steps leave as many bytes as before: eager, compiled, and with kept losses."""
    net = network(0)
    optimizer = tn.optim.Adam(net.parameters())
    x, y = np.ones((8, 4)), np.zeros((8, 2))
    step = tn.compile(lambda: tn.functional.mse_loss(net(x), y))
    losses = deque()  # a list's memory is freed late where there is no lock

    def once():
        loss = tn.functional.mse_loss(net(x), y)
        loss.backward()
        step()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)

    tracemalloc.start()
    try:
        for _ in range(600):  # until the optimizer's cache of numbers is full
            once()
        losses.clear()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            once()
        kept = tracemalloc.get_traced_memory()[0]
        losses.clear()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 300 * 20, "less than one object a step"
    assert kept - before < 300 * 1500, "an old loss keeps its number, not its graph"


def test_threads_give_the_numbers_of_one() -> None:
    expected = [trained(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(trained, range(8)))
    for one, other in zip(expected, found, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


def test_threads_that_walk_back_to_the_same_leaves_do_not_mix_their_graphs() -> None:
    w = tn.Tensor(np.arange(3.0), requires_grad=True)
    failed = []

    def work(k):
        for _ in range(50):
            (slope,) = tn.gradients((np.square(w) * k).sum(), [w])
            if not np.array_equal(slope.numpy(), 2 * k * w.data):
                failed.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_write_in_another_thread_is_noticed() -> None:
    w = tn.Tensor(np.arange(3.0), requires_grad=True)
    loss = np.square(w).sum()

    def write():
        w.data += 1

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    with pytest.raises(tn.errors.GraphError, match=r"^w of shape \(3,\) was written to after np\.square"):
        loss.backward()


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])  # noqa: S301 - our own
def test_a_training_goes_on_from_its_copy(twin_of) -> None:
    net = network(1)
    optimizer = tn.optim.Adam(net.parameters(), lr=0.01)
    x = np.ones((3, 4))

    def step(net, optimizer):
        optimizer.zero_grad()
        np.square(net(x)).sum().backward()
        optimizer.step()

    step(net, optimizer)
    other, other_optimizer = twin_of((net, optimizer))
    for _ in range(3):
        step(net, optimizer)
        step(other, other_optimizer)
    for (name, a), (_, b) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data, err_msg=name)
        assert not np.shares_memory(a.data, b.data)
