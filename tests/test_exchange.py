"""Weights to and from PyTorch: names, layouts, and equal outputs where PyTorch is installed."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn import nn
from tinygrad_nn.errors import DTypeError, StateError


class Gate(nn.Linear):
    """A Linear with an attribute whose entry is called weight, too."""

    def __init__(self, n):
        super().__init__(n, n)
        self.extra = {"weight": nn.Parameter(np.ones((2, 3)))}


class Net(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 5, bias=False)))
        self.layers = [nn.Linear(5, 2), nn.BatchNorm1d(2)]
        self.gate = Gate(2)
        self.table = nn.Embedding(7, 3)


def test_names_and_layouts():
    net = Net()
    shapes = {name: a.shape for name, a in nn.to_torch_state(net).items()}
    assert shapes == {
        "body.0.weight": (4, 3),
        "body.0.bias": (4,),
        "body.1.1.weight": (5, 4),
        "layers.0.weight": (2, 5),
        "layers.0.bias": (2,),
        "layers.1.weight": (2,),
        "layers.1.bias": (2,),
        "layers.1.running_mean": (2,),
        "layers.1.running_var": (2,),
        "layers.1.num_batches_tracked": (),
        "gate.weight": (2, 2),
        "gate.bias": (2,),
        "gate.extra.weight": (2, 3),
        "table.weight": (7, 3),
    }


def test_there_and_back_is_the_same_and_shares_nothing():
    net, other = Net(), Net()
    state = nn.to_torch_state(net)
    assert all(
        a.flags.c_contiguous and not np.shares_memory(a, t.data) for a in state.values() for t in net.parameters()
    )
    np.testing.assert_array_equal(state["gate.weight"], net.gate.weight.data.T)
    other.load_state_dict(nn.from_torch_state(other, state))
    assert [a.tobytes() for a in other.state_dict().values()] == [a.tobytes() for a in net.state_dict().values()]


def test_what_does_not_fit_is_named_as_pytorch_names_it():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    state = nn.to_torch_state(net)
    state["1.scale"] = state.pop("1.bias")
    with pytest.raises(StateError, match=r"missing: 1.bias\n  unexpected: 1.scale"):
        nn.from_torch_state(net, state)
    wide = nn.to_torch_state(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)))
    with pytest.raises(StateError, match=r"layers.0.weight is \(2, 4\), the module has \(2, 3\)"):
        net.load_state_dict(nn.from_torch_state(net, wide))

    class OnGpu:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    with pytest.raises(DTypeError, match=r"0.weight is no array.*cpu\(\)"):
        nn.from_torch_state(net, {**nn.to_torch_state(net), "0.weight": OnGpu()})


def exchange(torch, ours, theirs, shape):
    """Carry weights both ways, through a file and back, and compare outputs; the seeds of both sides differ."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours.eval(), theirs.eval()

    def apart():
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x)).numpy()
        return np.abs(ours(x).numpy() - expected).max()

    assert apart() > 1e-2
    ours.load_state_dict(nn.from_torch_state(ours, theirs.state_dict()))
    assert apart() < 1e-6
    for p in ours.parameters():
        p.data += 0.1 * np.random.default_rng(p.size).standard_normal(p.shape).astype(p.dtype)
    assert apart() > 1e-2
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in nn.to_torch_state(ours).items()})
    assert apart() < 1e-6


def test_a_pytorch_mlp_there_and_back():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Sequential(torch.nn.Linear(16, 5), torch.nn.BatchNorm1d(5))
    )
    theirs(torch.randn(9, 8))  # moves the running statistics
    ours = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Sequential(nn.Linear(16, 5), nn.BatchNorm1d(5)))
    exchange(torch, ours, theirs, (7, 8))


def test_a_pytorch_cnn_there_and_back():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)

    def build(home):
        return home.Sequential(
            home.Conv2d(1, 4, 3, padding=1),
            home.BatchNorm2d(4),
            home.ReLU(),
            home.MaxPool2d(2),
            home.Conv2d(4, 6, 3, stride=2, bias=False),
            home.AvgPool2d(2),
            home.Flatten(),
            home.Linear(24, 5),
        )

    theirs, ours = build(torch.nn), build(nn)
    theirs(torch.randn(9, 1, 20, 20))  # moves the running statistics
    exchange(torch, ours, theirs, (3, 1, 20, 20))


def test_what_numpy_cannot_read_of_pytorch_is_named():
    torch = pytest.importorskip("torch")
    state = torch.nn.Sequential(torch.nn.Linear(2, 2)).bfloat16().state_dict()
    with pytest.raises(DTypeError, match=r"0.weight is no array"):
        nn.from_torch_state(nn.Sequential(nn.Linear(2, 2)), state)


def test_a_file_of_pytorchs_weights_loads(tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2))
    np.savez(tmp_path / "x.npz", **{name: t.numpy() for name, t in theirs.state_dict().items()})
    ours = nn.Sequential(nn.Linear(3, 2))
    ours.load_state_dict(nn.from_torch_state(ours, tn.load(tmp_path / "x.npz")))
    np.testing.assert_array_equal(ours[0].weight.data, theirs[0].weight.detach().numpy().T)
    torch.save(theirs.state_dict(), tmp_path / "x.pt")
    with pytest.raises(tn.errors.FileFormatError, match=r"From PyTorch write np.savez"):
        tn.load(tmp_path / "x.pt")
