"""Every pass of the compiler alone, on small programs written by hand, and the plan of the buffers."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tinygrad_nn as tn
from tinygrad_nn.compiler import (
    buffers,
    compile,  # noqa: A004
    kernels,
    passes,
)
from tinygrad_nn.compiler.helpers import numpy_name, text_of
from tinygrad_nn.compiler.program import Op, Program, Value, constant
from tinygrad_nn.derivatives import TABLE, elementwise, indexing

f8 = np.dtype(np.float64)


class Builder:
    """Writes a program call by call."""

    def __init__(self):
        self.ops = []

    def input(self, *shape):
        return Value("input", shape, f8, 0, "x")

    def add(self, kind, function, *args, shape=None, backward=False, **kwargs):
        like = next(a for a in args if isinstance(a, Value))
        out = Value("computed", like.shape if shape is None else shape, f8)
        self.ops.append(Op(kind, function, args, kwargs, (out,), backward=backward))
        return out

    def program(self, *outputs, gradients=()):
        return Program(self.ops, list(outputs), list(gradients))


@pytest.fixture
def b():
    return Builder()


def names(program):
    return [op.function.__name__ for op in program.ops]


def test_dead_code(b):
    x = b.input(3)
    b.add("ufunc", np.exp, b.add("ufunc", np.sin, x))
    draw = b.add("draw", TABLE[tn.functional.relu].kernel, x)
    y = b.add("ufunc", np.cos, x)
    program = b.program(y)
    assert passes.dead_code(program)
    assert [op.output for op in program.ops] == [draw, y]
    assert not passes.dead_code(program)


def test_without_effect(b):
    x = b.input(3)
    y = b.add("ufunc", np.multiply, x, 1.0)
    y = b.add("ufunc", np.multiply, constant(1.0), y, shape=(3,))
    y = b.add("ufunc", np.divide, y, 1)
    y = b.add("ufunc", np.negative, b.add("ufunc", np.negative, y))
    y = b.add("view", np.reshape, y, (3,))
    y = b.add("call", TABLE[elementwise.keep_zero].kernel, y, y)
    program = b.program(b.add("ufunc", np.exp, y))
    while passes.without_effect(program):
        pass
    passes.dead_code(program)
    assert names(program) == ["exp"]
    assert program.ops[0].args == (x,)


def test_what_stays_zero_needs_no_keep_zero(b):
    kernel = TABLE[elementwise.keep_zero].kernel
    g, other = b.input(3), b.input(3)
    mask = Value("computed", (3,), np.dtype(bool))
    stays = [
        b.add("ufunc", np.negative, g),
        b.add("ufunc", np.multiply, g, 2.5),
        b.add("ufunc", np.multiply, mask, g),
        b.add("call", np.where, mask, g, 0),
    ]
    may_not = [
        b.add("ufunc", np.multiply, g, other),
        b.add("ufunc", np.multiply, g, float("inf")),
        b.add("ufunc", np.exp, g),
        b.add("call", np.where, mask, g, other),
        other,
    ]
    kept = [b.add("call", kernel, part, g) for part in may_not]
    program = b.program(*(b.add("call", kernel, part, g) for part in stays), *kept)
    assert passes.without_effect(program)
    assert program.outputs == [*stays, *kept]


def test_times_one_that_changes_the_shape_stays(b):
    x = b.input()
    y = b.add("ufunc", np.multiply, x, constant(np.ones(1)), shape=(1,))
    assert not passes.without_effect(b.program(y))


def test_fold_constants(b):
    c = b.add("ufunc", np.divide, constant(1.0), 4.0)
    y = b.add("ufunc", np.multiply, b.input(3), c)
    program = b.program(y)
    assert passes.fold_constants(program)
    assert names(program) == ["multiply"]
    assert program.ops[0].args[1].source == 0.25
    big = Builder()
    big.add("view", np.broadcast_to, constant(1.0), (100,), shape=(100,))
    assert not passes.fold_constants(big.program(big.ops[0].output))


def test_shrink_broadcasts(b):
    x = b.input(4, 3)
    g = b.add("view", np.broadcast_to, constant(0.25), (4, 3), shape=(4, 3))
    g = b.add("ufunc", np.multiply, g, 2, backward=True)
    y = b.add("ufunc", np.multiply, g, x, backward=True)
    program = b.program(y)
    passes.simplify(program)
    assert names(program) == ["multiply"]
    assert program.ops[0].args[0].source == 0.5
    assert program.ops[0].args[1] is x


def test_a_broadcast_that_is_a_result_is_kept(b):
    row = b.input(3)
    y = b.add("ufunc", np.exp, b.add("view", np.broadcast_to, row, (4, 3), shape=(4, 3)))
    program = b.program(y)
    passes.simplify(program)
    assert names(program) == ["exp", "broadcast_to"]
    assert program.ops[0].output.shape == (3,)
    assert program.outputs == [y]


def test_merge_scalars(b):
    x = b.input(3)
    y = b.add("ufunc", np.multiply, 0.5, b.add("ufunc", np.multiply, x, 3.0))
    program = b.program(y)
    passes.simplify(program)
    assert names(program) == ["multiply"]
    assert program.ops[0].args[1].source == 1.5


@pytest.mark.parametrize("factors", [(1e30, 1e-30), (0.0, 2.0), (2.0, float("inf"))])
def test_scalars_that_could_leave_the_dtype_are_not_merged(b, factors):
    y = b.add("ufunc", np.multiply, b.add("ufunc", np.multiply, b.input(3), factors[0]), factors[1])
    program = b.program(y)
    passes.simplify(program)
    assert names(program) == ["multiply", "multiply"]


def test_a_product_that_is_read_elsewhere_is_not_merged(b):
    y = b.add("ufunc", np.multiply, b.input(3), 2.0)
    program = b.program(b.add("ufunc", np.multiply, y, 3.0), y)
    assert not passes.merge_scalars(program)


def test_repeated(b):
    x = b.input(3)
    y = [b.add("ufunc", np.exp, b.add("ufunc", np.minimum, x, 0)) for _ in range(2)]
    program = b.program(b.add("ufunc", np.add, *y), b.add("reduce", np.add, x, shape=(), axis=None, keepdims=False))
    passes.simplify(program)
    assert names(program) == ["minimum", "exp", "add", "add"]


def test_what_depends_on_an_array_inside_an_index_is_not_merged(b):
    x, kernel = b.input(3), TABLE[indexing.getitem].kernel
    i, j = (Value("input", (2,), np.dtype(int), k) for k in (1, 2))
    y = [b.add("view", kernel, x, (index,), shape=(2,)) for index in (i, j)]
    program = b.program(*y)
    assert not passes.repeated(program)


def test_choose_kernels_keeps_the_dtype(b):
    x = Value("input", (3,), np.dtype(np.float32), 0)
    y = Value("computed", (3,), np.dtype(np.float32))
    program = Program([Op("ufunc", np.multiply, (x, 0.1), {}, (y,))], [y], [])
    kernels.choose_kernels(program)
    assert program.ops[0].args[1].source.dtype == np.float32


def total(b, x, axis=None, shape=()):
    return b.add("reduce", np.add, x, shape=shape, axis=axis, keepdims=False)


def test_short_sums_become_products(b):
    y = b.add("ufunc", np.exp, b.input(4, 3))
    program = b.program(total(b, y), total(b, y, (0,), (3,)), total(b, b.add("ufunc", np.square, y)))
    kernels.choose_kernels(program)
    assert names(program) == ["exp", "reshape", "dot", "dot", "reshape", "dot"]
    assert program.ops[-1].args[0] is program.ops[-1].args[1]


def test_long_sums_and_sums_of_what_lies_elsewhere_stay(b):
    long = total(b, b.add("ufunc", np.exp, b.input(50, 50)))
    last = total(b, b.add("ufunc", np.exp, b.input(4, 3)), 1, (4,))
    program = b.program(total(b, b.input(3)), long, last)
    kernels.choose_kernels(program)
    assert [op.kind for op in program.ops].count("reduce") == 3


# Buffers


def test_element_wise_results_are_written_over_arguments(b):
    x = b.input(3)
    y = b.add("ufunc", np.exp, b.add("ufunc", np.cos, b.add("ufunc", np.sin, x)))
    program = b.program(b.add("reduce", np.add, y, shape=(), axis=None, keepdims=False))
    plan = buffers.plan(program)
    assert len(plan.buffers) == 1
    assert len(plan.in_place) == 2
    assert plan.nbytes_without_reuse == 3 * plan.nbytes


def test_inputs_are_never_written_over(b):
    x = b.input(3)
    y = b.add("ufunc", np.exp, b.add("view", np.transpose, x))
    program = b.program(b.add("reduce", np.add, y, shape=(), axis=None, keepdims=False))
    plan = buffers.plan(program)
    assert not plan.in_place
    assert not plan.static_views


def test_a_view_keeps_its_buffer_alive(b):
    x = b.input(3, 3)
    y = b.add("ufunc", np.exp, x)
    t = b.add("view", np.transpose, y)
    z = b.add("ufunc", np.sin, y)
    program = b.program(b.add("ufunc", np.add, z, t))
    plan = buffers.plan(program)
    assert plan.place[z] is not plan.place[y]
    assert t in plan.static_views


def test_an_argument_that_is_also_read_through_a_view_is_not_written_over(b):
    y = b.add("ufunc", np.exp, b.input(3, 3))
    s = b.add("ufunc", np.add, y, b.add("view", np.transpose, y))
    program = b.program(b.add("reduce", np.add, s, shape=(), axis=None, keepdims=False))
    plan = buffers.plan(program)
    assert plan.place[s] is not plan.place[y]


def test_a_reshape_that_copies_is_no_view(b):
    y = b.add("ufunc", np.exp, b.input(3, 2))
    t = b.add("view", np.transpose, y, shape=(2, 3))
    r = b.add("view", np.reshape, t, (6,), shape=(6,))
    program = b.program(b.add("ufunc", np.sin, r))
    plan = buffers.plan(program)
    assert t in plan.static_views
    assert r not in plan.static_views
    assert program.ops[2].kind == "call"


def test_gradients_have_memory_of_their_own(b):
    x = b.input(3)
    y = b.add("ufunc", np.exp, x)
    program = b.program(b.add("ufunc", np.sin, y), gradients=[y, y, x])
    buffers.own_gradients(program)
    plan = buffers.plan(program)
    places = [plan.place[g] for g in program.gradients]
    assert len({id(p) for p in places}) == 3
    assert all(p.own for p in places)


def test_a_smaller_result_takes_a_larger_free_buffer():
    w, v = tn.Tensor(np.eye(6)), tn.Tensor(np.ones((6, 2)))

    def loss(x):
        return np.tanh(np.tanh(np.sin(x @ w) @ w) @ v).sum()

    step = compile(loss, backward=False)
    x = np.random.default_rng(0).standard_normal((5, 6))
    for _ in range(2):
        assert step(x).item() == pytest.approx(loss(x).item(), rel=1e-14)
    assert "shares memory" in step.source


# Source


def test_names_of_numpy_functions():
    assert numpy_name(np.add) == "np.add"
    assert numpy_name(np.linalg.inv) == "np.linalg.inv"
    assert numpy_name(len) is None


def test_helpers_bring_what_they_call():
    texts = text_of(TABLE[indexing.scatter].kernel)
    assert {*texts} >= {"_scatter", "_repeats"}
    space = {"np": np}
    exec("\n".join(texts.values()), space)  # noqa: S102
    assert space["_scatter"](np.ones(2), np.array([1, 1]), (3,)).tolist() == [0, 2, 0]
    assert text_of(lambda x: x) is None


def test_a_standalone_source_with_helpers():
    w = tn.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    index = np.array([0, 2, 0])

    def loss(x):
        return np.square(w[index] * x).sum() + np.where(x > 1, x, w).max()

    step = compile(loss)
    x = np.random.default_rng(0).standard_normal((3, 2))
    value = step(x)
    space = {}
    exec(step.source, space)  # noqa: S102
    assert "import" not in step.source.replace("import numpy as np", "")
    result, (gradient,) = space["step"](x, w.data, index)
    assert result == value.item()
    assert gradient.tolist() == w.grad.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_is_divided_in_python_to_the_same_last_bit(dtype):
    w = tn.Tensor(np.ones(3, dtype), requires_grad=True)
    step = tn.compile(lambda x: np.mean(w * x))
    numbers = np.random.default_rng(0).standard_normal(500) * 10.0 ** np.random.default_rng(1).integers(-30, 30, 500)
    info = np.finfo(dtype)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 5 * info.tiny / 3]
    for number in [*special, *numbers]:
        x = np.array([number, 0, 0], dtype)
        w.zero_grad()
        y = step(x).data
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, x[0] / dtype(3))
    assert re.search(r"\.item\(\) / 3\.0", step.source)
    for other in (lambda x: np.sum(w * x) / 0.0, lambda x: np.sum(w * x) / x[0]):  # which Python would refuse
        w.zero_grad()
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(tn.compile(other)(x + 1).data, other(x + 1).data)
