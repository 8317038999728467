"""Saving and loading: exact values, all or nothing, whole files, and files that lie."""

from __future__ import annotations

import copy
import functools
import io
import json
import math
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_nn as tn
from tinygrad_nn.errors import (
    ArgumentError,
    DTypeError,
    FileFormatError,
    StateError,
    TinygradError,
)
from tinygrad_nn.io import archive

BITS = ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"]
SUFFIXES = [".npz", ".safetensors"]


def usable(suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    return suffix


def network(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    net = tn.nn.Sequential(
        tn.nn.Linear(3, 4, rng=rng, dtype=dtype), tn.nn.Tanh(), tn.nn.Linear(4, 2, rng=rng, dtype=dtype)
    )
    net.scale = tn.Tensor(np.arange(3.0))
    return net


def train(net, optimizer, rng, steps=3):
    for _ in range(steps):
        x = rng.standard_normal((5, 3))
        loss = tn.functional.mse_loss(net(x), rng.standard_normal((5, 2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def same(one, two):  # noqa: PLR0911 - a kind a line
    """Whether two values are the same to the bit, with the same types and layouts."""
    if type(one) is not type(two):
        return False
    if isinstance(one, (np.ndarray, np.generic)):
        like = one.dtype == two.dtype and one.shape == two.shape and one.flags.fnc == two.flags.fnc
        if one.dtype.char in "gG":  # their padding has no value
            return (
                like
                and np.array_equal(one, two, equal_nan=True)
                and np.array_equal(np.signbit(one.real), np.signbit(two.real))
            )
        return like and one.tobytes() == two.tobytes()
    if isinstance(one, dict):
        return len(one) == len(two) and all(same(a, b) and same(one[a], two[b]) for a, b in zip(one, two, strict=True))
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", two)
    if isinstance(one, complex):
        return same(one.real, two.real) and same(one.imag, two.imag)
    return one == two


dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
)


@st.composite
def arrays(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    array = draw(hnp.arrays(draw(dtypes), shape))
    layout = draw(st.sampled_from("CFTS"))
    if layout == "F":
        return np.asfortranarray(array) if array.ndim else array
    if layout == "T":
        return array.T
    return np.repeat(array, 2, 0)[::2].copy() if layout == "S" and array.ndim else array


texts = st.text(st.characters(), max_size=5)  # lone surrogates too
numbers = st.integers() | st.floats() | st.complex_numbers() | st.booleans()
keys = texts | st.integers() | st.floats(allow_nan=False) | st.none()
scalars = hnp.arrays(dtypes, ()).map(lambda a: a[()])
values = st.recursive(
    st.none() | numbers | texts | arrays() | scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


# Values


@settings(max_examples=60)
@given(st.dictionaries(texts.filter(lambda t: t != "max_bytes"), values, min_size=1, max_size=3))
def test_every_value_comes_back_exactly(tmp_path_factory, parts):
    path = tmp_path_factory.getbasetemp() / "values.npz"
    tn.save(path, **parts)
    found = tn.load(path)
    assert same(found, parts), (found, parts)
    with np.load(path) as plain:  # an ordinary file of arrays
        assert json.loads(plain["tinygrad_nn.json"])["format"] == "tinygrad_nn"
        for name in set(plain.files) - {"tinygrad_nn.json"}:
            plain[name]


def test_large_integers_nan_payloads_and_long_lists_are_exact(tmp_path):
    nan = struct.unpack(">d", bytes.fromhex("fff8dead0000beef"))[0]
    odd = np.array([0x7FF800000000ABCD, 0xFFF8000000000001], np.uint64).view(float)
    parts = {
        "int": [10**5000, -(2**53), 2**53, {10**5000: 1}],
        "float": (nan, -0.0, 5e-324, -math.inf, complex(-0.0, nan)),
        "array": odd,
        "scalar": odd[1],
        "list": np.random.default_rng(0).random(10000).tolist(),
    }
    tn.save(tmp_path / "x.npz", **parts)
    assert same(tn.load(tmp_path / "x.npz"), parts)


def test_loaded_arrays_are_writeable_aligned_and_their_own(tmp_path):
    tn.save(tmp_path / "x.npz", a=np.arange(3), b=np.zeros((2, 0)))
    for array in tn.load(tmp_path / "x.npz").values():
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.owndata


def test_the_same_parts_give_the_same_bytes(tmp_path):
    for name in "ab":
        tn.save(tmp_path / f"{name}.npz", model=network(), epoch=1)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


class Text(str):
    __slots__ = ()


loop = []
loop.append(loop)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [object()]}, r"part\['a'\]\[0\] is a builtins.object"),
        ({"a": (1, {"b": np.array([None])})}, r"part\['a'\]\[1\]\['b'\] is an array of object"),
        (np.array(["x"]), "array of <U1"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (np.zeros(2, "i4,f8"), r"\[\('f0'"),
        ({(1, 2): 3}, r"part has the key \(1, 2\) \(tuple\)"),
        ({"a": Text("x")}, r"write str\(...\)"),
        (b"x", "builtins.bytes"),
        (np.ma.masked_array([1.0]), "filled"),
        ([np.random.default_rng(0)], r"part\[0\].*a part of its own"),
        ([tn.nn.Tanh()], r"part\[0\].*a part of its own"),
        (tn.nn.Tanh, "builtins.type"),
        (np.random.RandomState(0), "default_rng"),
        (loop, "contains itself"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else type(value).__name__,
)
def test_what_a_file_cannot_hold_is_named_with_its_place(tmp_path, value, message):
    path = tmp_path / "x.npz"
    tn.save(path, old=1)
    with pytest.raises(DTypeError, match=message):
        tn.save(path, good=np.zeros(3), part=value)
    assert tn.load(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", [tn.save, tn.load])
def test_a_path_is_a_path(call):
    for path in (3, b"x.npz", io.BytesIO()):
        with pytest.raises(DTypeError, match="path"):
            call(path, a=np.zeros(1))


def test_wrong_calls_of_save_and_load(tmp_path):
    with pytest.raises(ArgumentError, match=r"run.npz"):
        tn.save(tmp_path / "run", a=1)
    with pytest.raises(ArgumentError, match="at least one part"):
        tn.save(tmp_path / "run.npz")
    with pytest.raises(ArgumentError, match="max_bytes"):
        tn.save(tmp_path / "run.npz", max_bytes=3)
    with pytest.raises(ArgumentError, match="arrays"):
        tn.save(tmp_path / "run.npz", a="x" * (1 << 26))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ArgumentError, match="ordinary"):
        tn.save(tmp_path / "folder.npz", a=1)
    with pytest.raises(FileNotFoundError):
        tn.save(tmp_path / "none" / "x.npz", a=1)
    with pytest.raises(FileNotFoundError):
        tn.load(tmp_path / "x.npz")
    with pytest.raises(DTypeError, match="max_bytes"):
        tn.load(tmp_path / "x.npz", max_bytes="1")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.npz"]


# Parts that are restored


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "build",
    [
        lambda p: tn.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: tn.optim.Adam(p, lr=0.01),
        lambda p: tn.optim.AdamW(p, lr=0.01),
    ],
)
def test_a_training_goes_on_exactly_where_it_was_saved(tmp_path, suffix, build):
    path = tmp_path / ("run" + usable(suffix))
    net, rng = network(), np.random.default_rng(1)
    optimizer = build(net.parameters())
    train(net, optimizer, rng)
    tn.save(path, model=net, optimizer=optimizer, rng=rng, epoch=3, note="so far", best=(0.5, np.float32(2)))
    expected = train(net, optimizer, rng)

    again, other = network(7), np.random.default_rng(9)
    resumed = build(again.parameters())
    train(again, resumed, other, 1)
    rest = tn.load(path, model=again, optimizer=resumed, rng=other)
    assert same(rest, {"epoch": 3, "note": "so far", "best": (0.5, np.float32(2))})
    assert train(again, resumed, other) == expected
    assert same(again.state_dict(), net.state_dict())
    assert same(resumed.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("bits", BITS)
def test_generators_go_on_where_they_stood(tmp_path, bits):
    rng, other = (np.random.Generator(getattr(np.random, bits)(seed)) for seed in (0, 1))
    rng.integers(0, 9, 3, dtype=np.uint32)
    rng.standard_normal(700)
    tn.save(tmp_path / "x.npz", rng=rng)
    expected = rng.standard_normal(9), rng.integers(0, 9, 9, dtype=np.int32)
    assert tn.load(tmp_path / "x.npz", rng=other) == {}
    assert same((other.standard_normal(9), other.integers(0, 9, 9, dtype=np.int32)), expected)


def change(state, keys, value):
    state = copy.deepcopy(state)
    inner = state
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return state


@pytest.mark.parametrize(
    ("bits", "keys", "value"),
    [
        ("MT19937", ("state", "pos"), 625),
        ("MT19937", ("state", "pos"), -1),
        ("MT19937", ("state", "pos"), 2.0),
        ("MT19937", ("state", "key"), np.zeros(3, np.uint32)),
        ("MT19937", ("state", "key"), np.zeros(624)),
        ("MT19937", ("state",), 0),
        ("Philox", ("buffer_pos",), 5),
        ("Philox", ("buffer_pos",), -(2**31)),
        ("PCG64", ("state", "inc"), 2**128),
        ("PCG64", ("uinteger",), 2**32),
        ("PCG64", ("has_uint32",), 2),
        ("PCG64", ("bit_generator",), "SFC64"),
        ("SFC64", ("extra",), 1),
    ],
)
def test_states_that_no_generator_has_are_refused(tmp_path, bits, keys, value):
    rng = np.random.Generator(getattr(np.random, bits)(0))
    before = rng.bit_generator.state
    tn.save(tmp_path / "x.npz", rng=change(before, keys, value))
    with pytest.raises(StateError, match=r"rng"):
        tn.load(tmp_path / "x.npz", rng=rng)
    assert same(rng.bit_generator.state, before)


def test_tensors_and_arrays_are_restored_in_place(tmp_path):
    w, frozen, plain = tn.Tensor(np.arange(3.0), requires_grad=True), tn.Tensor([1, 2]), np.ones((2, 2), order="F")
    tn.save(tmp_path / "x.npz", w=w, frozen=frozen, plain=plain)
    held = w.data, frozen.data
    w.data, frozen.data, plain[:] = np.zeros(3), np.zeros(2, int), 0
    inside, outside = w.data, frozen.data
    loss = (w * w).sum()
    assert tn.load(tmp_path / "x.npz", w=w, frozen=frozen, plain=plain) == {}
    assert same((w.data, frozen.data, plain), (*held, np.ones((2, 2), order="F")))
    assert w.data is inside
    assert frozen.data is not outside  # a graph may hold it
    assert outside.tolist() == [0, 0]
    with pytest.raises(tn.errors.GraphError, match="written"):
        loss.backward()


class Schedule:
    """Takes over its state entry by entry, so that an error leaves it half changed."""

    def __init__(self, a=0, b=0):
        self.a, self.b = a, b

    def state_dict(self):
        return vars(self)  # its own dict, not a copy

    def load_state_dict(self, state):
        self.a = state["a"]
        self.b = state["b"] + 0


def everything():
    net, rng = network(), np.random.default_rng(1)
    optimizer = tn.optim.Adam(net.parameters())
    train(net, optimizer, rng)
    return {
        "model": net,
        "optimizer": optimizer,
        "rng": rng,
        "schedule": Schedule(1, 2),
        "w": tn.Tensor([1.0], requires_grad=True),
        "array": np.arange(3),
    }


def states(parts):
    return {
        "model": parts["model"].state_dict(),
        "optimizer": parts["optimizer"].state_dict(),
        "rng": parts["rng"].bit_generator.state,
        "schedule": dict(vars(parts["schedule"])),
        "w": parts["w"].data.copy(),
        "array": parts["array"].copy(),
    }


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (
            {"model": network(dtype=np.float32), "array": np.zeros(2)},
            StateError,
            r"\(3,\), the file has an array \(2,\)",
        ),
        ({"model": tn.nn.Linear(2, 2)}, StateError, r"missing: layers.0.bias \(4,\)"),
        ({"optimizer": tn.optim.SGD(network().parameters())}, StateError, "the state is of SGD, this is Adam"),
        ({"optimizer": 3}, StateError, "optimizer"),
        ({"optimizer": {"state": {0.0: {}}, "param_groups": 7}}, StateError, "optimizer"),
        ({"rng": np.random.Generator(np.random.SFC64(0))}, StateError, "PCG64, the file has SFC64"),
        ({"rng": [1]}, StateError, "the file has list"),
        ({"schedule": {"a": 5, "b": "text"}}, StateError, "schedule .Schedule. does not take its state.*TypeError"),
        ({"w": np.zeros((1, 1))}, StateError, r"w is an array \(1,\), the file has an array \(1, 1\)"),
        ({"w": "text"}, StateError, "the file has str"),
        ({"array": np.zeros(3)}, StateError, "array is int64, the file has float64"),
    ],
    ids=lambda bad: "+".join(bad) if isinstance(bad, dict) else None,
)
def test_all_or_nothing(tmp_path, bad, error, message):
    other = everything()
    train(other["model"], other["optimizer"], other["rng"])
    other["schedule"].b, other["array"] = 7, np.arange(3) + 1
    tn.save(tmp_path / "x.npz", **{**other, **bad})
    parts = everything()
    before = states(parts)
    order = sorted(parts, key=lambda name: name in bad)  # what fails comes last
    with pytest.raises(error, match=message):
        tn.load(tmp_path / "x.npz", **{name: parts[name] for name in order})
    assert same(states(parts), before)


def test_a_missing_part_is_named_beside_what_there_is(tmp_path):
    tn.save(tmp_path / "x.npz", model=network(), epoch=3)
    parts = everything()
    before = states(parts)
    with pytest.raises(StateError, match="no part optimizer, rng: it has model, epoch"):
        tn.load(tmp_path / "x.npz", model=parts["model"], optimizer=parts["optimizer"], rng=parts["rng"])
    assert same(states(parts), before)


@pytest.mark.parametrize(
    "target", [3, {}, None, tn.nn.Linear, np.float64(2), tn.Tensor([1.0], requires_grad=True) * 2], ids=str
)
def test_what_cannot_be_restored_in_place_is_said_before_the_file_is_read(tmp_path, target):
    with pytest.raises(DTypeError, match="x "):
        tn.load(tmp_path / "no.npz", x=target)
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    with pytest.raises(DTypeError, match="read-only"):
        tn.load(tmp_path / "no.npz", x=frozen)


def test_a_file_of_arrays_from_elsewhere_is_one_state(tmp_path):
    net, other = network(), network(3)
    for name, write in (("plain", np.savez), ("small", np.savez_compressed)):
        path = tmp_path / f"{name}.npz"
        write(path, **net.state_dict())
        assert same(tn.load(path), net.state_dict())
        assert tn.load(path, model=other) == {}
        assert same(other.state_dict(), net.state_dict())
        w = np.zeros((3, 4))
        rest = tn.load(path, **{"layers.0.weight": w})
        assert same(w, net.state_dict()["layers.0.weight"])
        assert list(rest) == list(net.state_dict())[1:]
        with pytest.raises(FileFormatError, match="one part"):
            tn.load(path, model=other, rng=np.random.default_rng(0))


# Whole files


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    tn.save(path, epoch=1)
    old = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for place in ((archive.npy, "write_array"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, full)
            with pytest.raises(OSError, match="No space"):
                tn.save(path, epoch=2, a=np.zeros(3))
        assert path.read_bytes() == old
        assert list(tmp_path.iterdir()) == [path]


KILLED = """
import itertools, json, os, sys
import numpy as np, tinygrad_nn as tn
from tinygrad_nn.io import archive

def die_at(step):
    count = 0
    def tick(function):
        def counted(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step:
                os._exit(9)
            return function(*args, **kwargs)
        return counted
    for home, name in ((os, "open"), (os, "fsync"), (os, "replace"), (archive.npy, "write_array"), (os, "close")):
        setattr(home, name, tick(getattr(home, name)))

code, seen = 9, []
for step in itertools.count(1):
    tn.save(sys.argv[1], epoch=1)
    pid = os.fork()
    if not pid:
        die_at(step)
        tn.save(sys.argv[1], epoch=2, a=np.ones(100000), b=np.ones(3))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = tn.load(sys.argv[1])
    assert found == {"epoch": 1} or (found["epoch"] == 2 and found["a"].all() and found["b"].all())
    seen.append([code, found["epoch"]])
    if not code:
        break
print(json.dumps(seen))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="counts what POSIX systems call")
def test_a_process_that_dies_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "x.npz")]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen) > 5
    assert seen[0] == [9, 1]
    assert [9, 2] in seen
    assert seen[-1] == [0, 2]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_are_those_of_the_old_file_or_of_an_ordinary_new_one(tmp_path):
    path, ordinary = tmp_path / "x.npz", tmp_path / "y"
    tn.save(path, a=1)
    ordinary.write_text("")
    assert path.stat().st_mode == ordinary.stat().st_mode
    path.chmod(0o640)
    tn.save(path, a=2)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latest.npz").symlink_to(tmp_path / "folder" / "x.npz")
    tn.save(tmp_path / "latest.npz", a=1)
    assert (tmp_path / "latest.npz").is_symlink()
    assert tn.load(tmp_path / "folder" / "x.npz") == {"a": 1}


# Files that lie


@functools.cache
def sample(folder, suffix):
    """What a file with everything in it holds, and its bytes."""
    path = folder / ("sample" + suffix)
    parts = {
        "model": {"weight": np.arange(6.0).reshape(2, 3), "mask": np.array([True, False])},
        "epoch": 3,
        "nested": [(1, "text", None), {"x": np.float32(2.5), 5: 2**70}],
    }
    tn.save(path, **parts)
    return parts, path.read_bytes()


edits = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(0)),
    st.tuples(st.just("insert"), st.integers(0, 10**6), st.integers(0, 255)),
    st.tuples(st.just("delete"), st.integers(0, 10**6), st.integers(1, 40)),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=200)
@given(damage=st.lists(edits, min_size=1, max_size=3))
def test_damage_gives_an_error_of_this_package_or_the_exact_values(tmp_path_factory, suffix, damage):
    path = tmp_path_factory.getbasetemp() / ("damaged" + usable(suffix))
    parts, content = sample(tmp_path_factory.getbasetemp(), suffix)
    content = bytearray(content)
    for kind, where, value in damage:
        at = where % max(1, len(content))
        if kind == "flip" and content:
            content[at] ^= value
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content.insert(at, value)
        else:
            del content[at : at + value]
    path.write_bytes(content)
    weight = np.zeros((2, 3))
    holder = tn.nn.Module()
    holder.weight, holder.mask = tn.Tensor(weight), tn.Tensor(np.array([False, False]))
    try:
        found = tn.load(path, model=holder)
    except TinygradError:
        assert not holder.weight.data.any()
        assert not holder.mask.data.any()
    else:
        if suffix == ".npz":  # the other format has no checksums
            assert same({"model": holder.state_dict(), **found}, parts)


def test_every_single_flipped_byte_of_the_data_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    tn.save(path, a=np.arange(2.0))
    content = path.read_bytes()
    start = content.index(np.arange(2.0).tobytes())
    for at in range(start, start + 16):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(FileFormatError, match="CRC"):
            tn.load(path)


def header(descr="'<f8'", order=False, shape="(2,)", extra="", version=(1, 0)):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {extra}}}\n".encode("latin1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("opened",)


def pickled():
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Bomb()], object), allow_pickle=True)
    return stream.getvalue()


DATA = np.zeros(2).tobytes()
HEADERS = {
    "objects": pickled(),
    "object header": header("'|O'") + DATA,
    "text": header("'<U4'") + DATA,
    "records": header("[('a', '<f8')]") + DATA,
    "subarray": header("'(2,)f8'", shape="(1,)") + DATA,
    "giant": header(shape=f"({10**18},)") + DATA,
    "giant product": header(shape=f"({2**40}, {2**40})") + DATA,
    "wraps around": header(shape=f"({2**63}, 2)") + DATA,
    "giant and empty": header(shape=f"(0, {10**18}, {10**18}, {10**18})"),
    "thousands of digits": header(shape=f"({'9' * 4000}, {'9' * 4000})") + DATA,
    "ten thousand digits": header(shape=f"({'9' * 9000},)") + DATA,
    "many axes": header(shape=str((1,) * 100)) + np.zeros(1).tobytes(),
    "negative": header(shape="(-1, -2)") + DATA,
    "text as shape": header(shape="'ab'") + DATA,
    "no shape": b"\x93NUMPY\x01\x00\x02\x00{}" + DATA,
    "one entry more": header(extra="'x': 1") + DATA,
    "long of Python 2": header(shape="(2L,)") + DATA,
    "deep": header(shape="(" * 4000 + ")" * 4000) + DATA,
    "deep signs": header(shape="-" * 8000 + "1") + DATA,
    "call": header(shape="__import__('os').mkdir('opened')") + DATA,
    "huge item": header("'|V1000000000'", shape="(1,)") + DATA,
    "too short": header() + DATA[:-1],
    "too long": header() + DATA + b"\0",
    "no magic": b"PNG" + DATA,
    "empty": b"",
    "header cut": header()[:20],
    "version": header(version=(9, 0)) + DATA,
    "version 3": header(version=(3, 0)) + DATA,
    "bools": header("'|b1'") + b"\x01\x02",
    "newline in dtype": header("'<f8\\n'") + DATA,
}


def pack(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members:
            file.writestr(name, content)


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("told", [True, False], ids=["checkpoint", "foreign"])
def test_headers_that_lie(tmp_path, monkeypatch, content, told):
    monkeypatch.chdir(tmp_path)
    text = document({"dict": [["a", {"array": "a"}]]})
    pack("x.npz", [("a.npy", content), *([("tinygrad_nn.json", text)] * told)])
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"x.npz.*'a.npy'"):
            tn.load("x.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert not os.path.exists("opened")  # noqa: PTH110 - in the folder of the test


def document(parts, **changes):
    return json.dumps({"format": "tinygrad_nn", "version": 1, "parts": parts, **changes})


DOCUMENTS = {  # name: the structure, and what is said of it
    "no JSON": ("{", "no JSON"),
    "not UTF-8": (b"\xff\xfe{}", "no JSON"),
    "a list": ("[]", "should be a dict"),
    "deep": ("[" * 100000, "no JSON"),
    "deep objects": ('{"a":' * 100000, "no JSON"),
    "deep parts": (document(["x"]).replace('"x"', "[" * 200 + "]" * 200), "nested more than 64"),
    "nan": (document({"dict": [["a", 1]]}).replace("1]", "NaN]"), "NaN is no JSON"),
    "too large": (document({"dict": [["a", 1]]}).replace("1]", "1e999]"), "'inf' is no value"),
    "digits": (document({"dict": [["a", 1]]}).replace("1]", "9" * 5000 + "]"), "no JSON"),
    "twice": ('{"format": "x", "format": "tinygrad_nn", "version": 1, "parts": {"dict": []}}', "entry is there twice"),
    "version": (document({"dict": []}, version=2), "version 2 of the format; this release reads 1"),
    "version true": (document({"dict": []}, version=True), "which format"),
    "format": (document({"dict": []}, format="other"), "which format"),
    "no parts": (document(None), "names no parts"),
    "parts list": (document([1]), "names no parts"),
    "number as name": (document({"dict": [[1, 2]]}), "names no parts"),
    "list as key": (document({"dict": [["a", {"dict": [[[1], 2]]}]]}), "nested"),
    "tuple as key": (document({"dict": [["a", {"dict": [[{"tuple": []}, 2]]}]]}), "is no key"),
    "array as key": (document({"dict": [["a", {"dict": [[{"array": "b"}, 2]]}]]}), "is no key"),
    "key twice": (document({"dict": [["a", 1], ["a", 2]]}), "is no key, or there twice"),
    "keys alike": (document({"dict": [["a", {"dict": [[1, 1], [True, 2]]}]]}), "is no key, or there twice"),
    "triple": (document({"dict": [["a", 1, 2]]}), "should be a list"),
    "object": (document({"dict": [["a", {"d": 1, "c": 2}]]}), "is no value"),
    "unknown": (document({"dict": [["a", {"call": "os.mkdir"}]]}), "is no value"),
    "int": (document({"dict": [["a", {"int": "12"}]]}), "is no integer"),
    "int kind": (document({"dict": [["a", {"int": 12}]]}), "should be a str"),
    "float": (document({"dict": [["a", {"float": "nan"}]]}), "is no float"),
    "complex": (document({"dict": [["a", {"complex": [1.0, "x"]}]]}), "should be a float"),
    "complex ints": (document({"dict": [["a", {"complex": [1, 2]}]]}), "should be a float"),
    "missing array": (document({"dict": [["a", {"array": "no"}]]}), "'no' is missing"),
    "array kind": (document({"dict": [["a", {"array": [1]}]]}), "is missing"),
    "array twice": (document({"dict": [["a", {"array": "b"}], ["c", {"array": "b"}]]}), "named twice"),
    "array left": (document({"dict": [["name", "b"]]}), r"not the arrays \['b'\]"),
    "scalar": (document({"dict": [["a", {"scalar": "b"}]]}), "should be one number"),
}


@pytest.mark.parametrize(("text", "message"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_structures_that_lie(tmp_path, text, message):
    arrays = [("b.npy", header() + DATA)] * ('"b"' in str(text))
    pack(tmp_path / "x.npz", [("tinygrad_nn.json", text), *arrays])
    with pytest.raises(FileFormatError, match=f"x.npz.*{message}"):
        tn.load(tmp_path / "x.npz")


def test_a_header_that_numpy_would_mend_is_refused_where_warnings_are_not_errors(tmp_path):
    pack(tmp_path / "x.npz", [("a.npy", HEADERS["long of Python 2"])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FileFormatError, match=r"no header of an array"):
            tn.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "name",
    [
        "../a.npy",
        "/a.npy",
        "b/../a.npy",
        "./a.npy",
        "a//b.npy",
        "a\\b.npy",
        "a\n.npy",
        "a.npy/",
        "data.pkl",
        "a.NPY",
    ],
)
def test_member_names_with_tricks(tmp_path, name):
    pack(tmp_path / "x.npz", [(name, header() + DATA)])
    with pytest.raises(FileFormatError, match=r"x.npz"):
        tn.load(tmp_path / "x.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_lie(tmp_path):
    path, good = tmp_path / "x.npz", header() + DATA

    def refused(match, **options):
        with pytest.raises(FileFormatError, match=match):
            tn.load(path, **options)

    pack(path, [("a.npy", good), ("a.npy", good)])
    refused("twice")
    pack(path, [("a.npy", good)], compression=zipfile.ZIP_LZMA)
    refused("compressed in another way")
    pack(path, [("a.npy", good)])
    content = bytearray(path.read_bytes())
    assert tn.load(path)["a"].tolist() == [0, 0]
    directory = content.index(b"PK\1\2")
    encrypted = content.copy()
    encrypted[directory + 8] |= 1
    path.write_bytes(encrypted)
    refused("encrypted, or")
    for size in (len(good) - 1, len(good) + 1, 1 << 29, (1 << 32) - 2):
        content[directory + 24 : directory + 28] = struct.pack("<I", size)
        path.write_bytes(content)
        refused(r"x\.npz")
    pack(path, [("a.npy", good), ("b.npy", good)])
    content = bytearray(path.read_bytes())
    content[-10:-6] = struct.pack("<I", content.rindex(b"PK\1\2") - content.index(b"PK\1\2"))
    path.write_bytes(content)  # a shorter list of members
    refused("1 members, of 2")
    raw_zip(path, [("a.npy\0x", zlib.compress(good, wbits=-15), zlib.crc32(good), len(good))])
    refused("is not one of arrays")
    path.write_bytes(b"")
    refused("no whole .npz")
    np.save(tmp_path / "x.npy", np.zeros(3))
    path.write_bytes((tmp_path / "x.npy").read_bytes())
    refused("no whole .npz")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", "x")
    refused("PyTorch")


def test_what_takes_too_much_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.npz"
    shape = (1 << 27) + (1 << 17)
    stream = zlib.compressobj(9, wbits=-15)
    zeros, crc = bytes(1 << 20), zlib.crc32(header("'|u1'", shape=f"({shape},)"))
    packed = stream.compress(header("'|u1'", shape=f"({shape},)"))
    for _ in range(shape >> 17):
        packed += stream.compress(zeros[: 1 << 17])
        crc = zlib.crc32(zeros[: 1 << 17], crc)
    packed += stream.flush()
    declared = len(header("'|u1'", shape=f"({shape},)")) + shape
    raw_zip(path, [("a.npy", packed, crc, declared)])
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="max_bytes=134217728; give a larger one"):
            tn.load(path, max_bytes=1 << 27)
        raw_zip(path, [("a.npy", packed, crc, 1000)])  # more comes out than it says
        with pytest.raises(FileFormatError):
            tn.load(path)
        raw_zip(path, [("a.npy", packed, crc, 1 << 30)] * 2)
        with pytest.raises(FileFormatError):
            tn.load(path)
        pack(path, [("tinygrad_nn.json", "[" + "[]," * (1 << 20) + "[]]")], compression=zipfile.ZIP_DEFLATED)
        with pytest.raises(FileFormatError, match="max_bytes"):
            tn.load(path, max_bytes=1 << 26)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def raw_zip(path, members):
    """Write a zip of deflated members whose sizes and checksums are what is given."""
    body, directory = b"", b""
    for name, packed, crc, size in members:
        fixed = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(packed), size, len(name), 0)
        directory += (
            b"PK\1\2" + struct.pack("<H", 20) + fixed + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        )
        body += b"PK\3\4" + fixed + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\5\6" + end)


def test_a_list_of_millions_of_members_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    raw_zip(path, [("a.npy", b"", 0, 0)] * 2)
    one = path.read_bytes()
    entry = one[one.index(b"PK\1\2") : one.rindex(b"PK\1\2")]
    many = (1 << 23) // len(entry) + 1
    path.write_bytes(entry * many + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(entry) * many, 0, 0))
    with pytest.raises(FileFormatError, match="list of members"):
        tn.load(path)


def test_long_doubles_are_read_only_where_they_are_the_same(tmp_path):
    path = tmp_path / "x.npz"
    tn.save(path, a=np.array([1, 3], np.longdouble) / 3)
    assert same(tn.load(path)["a"], np.array([1, 3], np.longdouble) / 3)
    with np.load(path) as file:
        arrays, told = {"a": file["a"]}, json.loads(file["tinygrad_nn.json"])
    if arrays["a"].dtype == np.float64:
        pytest.skip("long double is float64 here")
    told["long_double"] += 49
    with open(path, "wb") as file:  # noqa: PTH123
        archive.write_npz(file, json.dumps(told).encode(), arrays)
    with pytest.raises(FileFormatError, match="long doubles"):
        tn.load(path)


# .safetensors


def test_without_its_library_safetensors_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    (tmp_path / "y.safetensors").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"tinygrad-nn\[safetensors\]"):
        tn.save(tmp_path / "x.safetensors", a=np.zeros(2))
    with pytest.raises(ArgumentError, match=r"tinygrad-nn\[safetensors\]"):
        tn.load(tmp_path / "y.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["y.safetensors"]


def test_safetensors_holds_values_and_refuses_what_it_cannot(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    parts = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": [np.float16(2), 2**90],
        "c": np.zeros((2, 0)),
        "__metadata__": np.ones(2, bool),
    }
    tn.save(path, **parts)
    found = tn.load(path)
    assert same(found, {**parts, "a": np.ascontiguousarray(parts["a"])})
    assert all(found[k].flags.writeable for k in "ac")
    for dtype in (">f8", "g", "c16"):
        with pytest.raises(DTypeError, match=r"a is .*name the file .npz"):
            tn.save(path, a=np.zeros(2, dtype))
    assert same(tn.load(path)["c"], parts["c"])
    net, other = network(), network(3)
    library.save_file(net.state_dict(), path)
    tn.load(path, model=other)
    assert same(other.state_dict(), net.state_dict())
    with pytest.raises(FileFormatError, match="max_bytes"):
        tn.load(path, max_bytes=100)
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(FileFormatError, match="BF16"):
        tn.load(path)
    path.write_bytes(struct.pack("<Q", 1 << 62))
    with pytest.raises(FileFormatError, match="header"):
        tn.load(path)
