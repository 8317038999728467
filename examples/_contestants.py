"""The contestants of the benchmark: each makes a function that takes one training step."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_nn as tn

Step = Callable[..., Any]
"""One step on the workload's own batch; those in NumPy take another (x, y) of its shapes."""
LR = 0.01


class Workload(NamedTuple):
    """A network, a batch and a dtype."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    dtype: Any
    adam: bool = False

    def arrays(self) -> tuple[list[Any], Any, Any]:
        """Weights and biases in turn, inputs and targets."""
        rng = np.random.default_rng(0)
        parameters = []
        for n, m in itertools.pairwise(self.sizes):
            bound = 1 / np.sqrt(n)
            parameters.append(rng.uniform(-bound, bound, (n, m)).astype(self.dtype))
            parameters.append(rng.uniform(-bound, bound, m).astype(self.dtype))
        x = rng.uniform(0, 1, (self.batch, self.sizes[0])).astype(self.dtype)
        y = rng.uniform(0, 1, (self.batch, self.sizes[-1])).astype(self.dtype)
        return parameters, x, y


# NumPy


class Layer:
    """A fully connected layer with tanh, as the notebooks write it."""

    def __init__(self, weight: Any, bias: Any) -> None:
        self.weight, self.bias = weight.copy(), bias.reshape(1, -1).copy()

    def forward(self, x: Any) -> Any:
        """Compute tanh(X W + b)."""
        self.input = x
        self.sum = np.dot(x, self.weight) + self.bias
        return np.tanh(self.sum)

    def backward(self, error: Any, update: Callable[[Any, Any, int], Any], k: int) -> Any:
        """Update the layer, and return the error of its input."""
        error = (1 - np.tanh(self.sum) ** 2) * error
        back = np.dot(error, self.weight.T)
        self.weight = update(self.weight, np.dot(self.input.T, error), 2 * k)
        self.bias = update(self.bias, error.sum(axis=0, keepdims=True), 2 * k + 1)
        return back


def notebook(work: Workload) -> Step:
    """Write it as notebooks do: a class a layer, a new array for every result."""
    parameters, x, y = work.arrays()
    layers = [Layer(w, b) for w, b in zip(parameters[::2], parameters[1::2], strict=True)]
    moments: list[Any] = [(0.0, 0.0) for _ in parameters]
    now = [0]

    def sgd(p: Any, g: Any, _k: int) -> Any:
        return p - LR * g

    def adam(p: Any, g: Any, k: int) -> Any:
        m, v = moments[k]
        moments[k] = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        t = now[0]
        return p - LR * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    update = adam if work.adam else sgd

    def step(x: Any = x, y: Any = y) -> Any:
        now[0] += 1
        out = x
        for layer in layers:
            out = layer.forward(out)
        loss = np.mean(np.power(y - out, 2))
        error = 2 * (out - y) / y.size
        for k in range(len(layers) - 1, -1, -1):
            error = layers[k].backward(error, update, k)
        return loss

    return step


def hand_update(work: Workload, parameters: list[Any], grads: list[Any], *, keep: bool = False) -> Callable[[], None]:
    """SGD or Adam in place; SGD leaves lr dW where dW was, unless it is to `keep` it."""
    dtype = np.dtype(work.dtype).type
    spare = [np.empty_like(p) for p in parameters]
    rate = np.array(LR, work.dtype)
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    now = [0]

    multiply, subtract = np.multiply, np.subtract
    triples = list(zip(parameters, grads, spare if keep else grads, strict=True))

    def sgd() -> None:
        for p, g, scaled in triples:
            multiply(g, rate, out=scaled)
            subtract(p, scaled, out=p)

    def adam() -> None:
        now[0] += 1
        scale, root = dtype(LR / (1 - 0.9 ** now[0])), dtype(1 / (1 - 0.999 ** now[0]))
        for p, g, (m, v), t in zip(parameters, grads, moments, spare, strict=True):
            np.multiply(m, dtype(0.9), out=m)
            np.multiply(g, dtype(0.1), out=t)
            np.add(m, t, out=m)
            np.multiply(v, dtype(0.999), out=v)
            np.square(g, out=t)
            np.multiply(t, dtype(0.001), out=t)
            np.add(v, t, out=v)
            np.multiply(v, root, out=t)
            np.sqrt(t, out=t)
            np.add(t, dtype(1e-8), out=t)
            np.divide(m, t, out=t)
            np.multiply(t, scale, out=t)
            np.subtract(p, t, out=p)

    return adam if work.adam else sgd


def by_hand(work: Workload, *, textbook: bool = False, keep: bool = False) -> Step:
    """Write the best NumPy: everything into arrays allocated once; `keep` gradients that can be read after a step."""
    parameters, x, y = work.arrays()
    weights, biases = parameters[::2], parameters[1::2]
    sums, outs, errors = ([np.empty((work.batch, m), work.dtype) for m in work.sizes[1:]] for _ in range(3))
    grads = [np.empty_like(p) for p in parameters]
    squares = np.empty_like(y)
    factor, count, one = (np.array(c, work.dtype) for c in (2 / y.size, y.size, 1))
    inputs_t = [None, *(a.T for a in outs[:-1])]
    weights_t = [w.T for w in weights]
    update = hand_update(work, parameters, grads, keep=keep)
    layers = list(zip(weights, biases, sums, outs, strict=True))
    back = list(zip(sums, outs, errors, grads[::2], grads[1::2], inputs_t, weights_t, strict=True))[::-1]
    total, add, subtract, multiply = np.add.reduce, np.add, np.subtract, np.multiply
    tanh, cosh, square, divide = np.tanh, np.cosh, np.square, np.divide

    def step(x: Any = x, y: Any = y) -> Any:
        a = x
        for w, b, z, out in layers:
            a.dot(w, out=z)  # np.dot(a, w, out=z), without its detour
            add(z, b, out=z)
            tanh(z, out=out)
            a = out
        last = errors[-1]
        subtract(a, y, out=last)
        square(last, out=squares)
        loss = total(squares, axis=None) / count
        multiply(last, factor, out=last)
        for k, (z, out, error, dw, db, a_t, w_t) in enumerate(back):
            if textbook:
                square(out, out=z)
                subtract(one, z, out=z)
                multiply(error, z, out=error)
            else:
                cosh(z, out=z)
                divide(error, z, out=error)
                divide(error, z, out=error)
            total(error, axis=0, out=db)
            (x.T if a_t is None else a_t).dot(error, out=dw)
            if k + 1 < len(back):
                error.dot(w_t, out=back[k + 1][2])
        update()
        return loss

    return step


def products(work: Workload) -> Step:
    """Compute the matrix products of a step and nothing else."""
    parameters, x, _ = work.arrays()
    outs = [np.ones((work.batch, m), work.dtype) for m in work.sizes[1:]]
    backs = [np.empty((work.batch, n), work.dtype) for n in work.sizes[:-1]]
    grads = [np.empty_like(w) for w in parameters[::2]]
    todo = list(zip([x, *outs[:-1]], parameters[::2], outs, backs, grads, strict=True))

    def step() -> None:
        for a, w, out, _, _ in todo:
            np.dot(a, w, out=out)
        for k, (a, w, out, back, grad) in enumerate(todo):
            np.dot(a.T, out, out=grad)
            if k:
                np.dot(out, w.T, out=back)

    return step


# tinygrad_nn


def network(work: Workload) -> tuple[tn.nn.Sequential, tn.optim.Optimizer, Any, Any]:
    """Build the network and its optimizer."""
    parameters, x, y = work.arrays()
    layers: list[Any] = []
    for w, b in zip(parameters[::2], parameters[1::2], strict=True):
        layers += [tn.nn.Linear(*w.shape, dtype=work.dtype), tn.nn.Tanh()]
        layers[-2].weight.data[...], layers[-2].bias.data[...] = w, b
    net = tn.nn.Sequential(*layers)
    kind = tn.optim.Adam if work.adam else tn.optim.SGD
    return net, kind(net.parameters(), lr=LR), x, y


def eager(work: Workload) -> Step:
    """Run tinygrad_nn as it is."""
    net, optimizer, x, y = network(work)

    def step(x: Any = x, y: Any = y) -> Any:
        loss = tn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def compiled(work: Workload) -> Step:
    """Run tinygrad_nn compiled, with the same optimizer."""
    net, optimizer, x, y = network(work)
    forward_and_backward = tn.compile(lambda x, y: tn.functional.mse_loss(net(x), y))

    def step(x: Any = x, y: Any = y) -> Any:
        optimizer.zero_grad()
        loss = forward_and_backward(x, y)
        optimizer.step()
        return loss.item()

    return step


# Others


def torch_step(work: Workload, *, compiling: bool = False) -> Step:
    """Run PyTorch, as it is or compiled."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    parameters, x, y = work.arrays()
    layers: list[Any] = []
    for w, b in zip(parameters[::2], parameters[1::2], strict=True):
        linear = torch.nn.Linear(*w.shape)
        linear.weight = torch.nn.Parameter(torch.from_numpy(w.T.copy()))
        linear.bias = torch.nn.Parameter(torch.from_numpy(b.copy()))
        layers += [linear, torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers)
    kind = torch.optim.Adam if work.adam else torch.optim.SGD
    optimizer = kind(net.parameters(), lr=LR)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.mse_loss(net(x), y)

    function = torch.compile(loss_of) if compiling else loss_of

    def step() -> Any:
        optimizer.zero_grad()
        loss = function(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step(work: Workload) -> Step:
    """Run JAX, forward, backward and update in one jit."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", val=True)
    jnp = jax.numpy
    parameters, x, y = work.arrays()
    state = [jnp.asarray(p) for p in parameters]
    moments = [(jnp.zeros_like(p), jnp.zeros_like(p)) for p in state]
    x, y = jnp.asarray(x), jnp.asarray(y)

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        for w, b in zip(params[::2], params[1::2], strict=True):
            x = jnp.tanh(x @ w + b)
        return jnp.mean((x - y) ** 2)

    def train(params: Any, moments: Any, t: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        if not work.adam:
            return loss, [p - LR * g for p, g in zip(params, grads, strict=True)], moments
        moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(moments, grads, strict=True)]
        s, r = LR / (1 - 0.9**t), 1 / (1 - 0.999**t)
        new = [(p - s * m / (jnp.sqrt(v * r) + 1e-8)) for p, (m, v) in zip(params, moments, strict=True)]
        return loss, [p.astype(work.dtype) for p in new], moments

    jitted = jax.jit(train)
    held = [state, moments, 0.0]

    def step() -> Any:
        held[2] += 1.0
        loss, held[0], held[1] = jitted(*held, x, y)
        return float(loss)

    return step


def autograd_step(work: Workload) -> Step:
    """Run HIPS autograd."""
    autograd = importlib.import_module("autograd")
    anp = importlib.import_module("autograd.numpy")
    parameters, x, y = work.arrays()

    def loss_of(params: Any) -> Any:
        out = x
        for w, b in zip(params[::2], params[1::2], strict=True):
            out = anp.tanh(anp.dot(out, w) + b)
        return anp.mean((out - y) ** 2)

    both = autograd.value_and_grad(loss_of)

    def step() -> Any:
        loss, grads = both(parameters)
        for p, g in zip(parameters, grads, strict=True):
            np.subtract(p, LR * g, out=p)
        return loss

    return step


def mygrad_step(work: Workload) -> Step:
    """Run MyGrad."""
    mg = importlib.import_module("mygrad")
    parameters, x, y = work.arrays()
    tensors = [mg.tensor(p) for p in parameters]

    def step() -> Any:
        out = x
        for w, b in zip(tensors[::2], tensors[1::2], strict=True):
            out = mg.tanh(mg.matmul(out, w) + b)
        loss = mg.mean((out - y) ** 2)
        loss.backward()
        for p in tensors:
            p.data -= LR * p.grad
        return loss.item()

    return step


def micrograd_step(work: Workload) -> Step:
    """Run micrograd, number by number, with relu since it has no tanh; XOR only."""
    if work.sizes != (2, 3, 1):
        raise ImportError
    value = importlib.import_module("micrograd.engine").Value
    parameters, x, y = work.arrays()
    values = [np.vectorize(value, otypes=[object])(p) for p in parameters]

    def neuron(inputs: Any, weights: Any, bias: Any) -> Any:
        return sum((w * a for a, w in zip(inputs, weights, strict=True)), bias).relu()

    def step() -> Any:
        total = value(0.0)
        for row, target in zip(x, y, strict=True):
            out = list(row)
            for w, b in zip(values[::2], values[1::2], strict=True):
                out = [neuron(out, column, bias) for column, bias in zip(w.T, b, strict=True)]
            total = total + (out[0] - target[0]) ** 2
        every = [v for p in values for v in p.flat]
        for v in every:
            v.grad = 0.0
        total.backward()
        for v in every:
            v.data -= LR * v.grad
        return total.data

    return step


def tinygrad_step(work: Workload) -> Step:
    """Run tinygrad's TinyJit."""
    tiny = importlib.import_module("tinygrad")
    parameters, x, y = work.arrays()
    tensors = [tiny.Tensor(p) for p in parameters]
    optim = importlib.import_module("tinygrad.nn.optim")
    optimizer = (optim.Adam if work.adam else optim.SGD)(tensors, lr=LR)
    x, y = tiny.Tensor(x), tiny.Tensor(y)

    @tiny.TinyJit
    def train(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        out = x
        for w, b in zip(tensors[::2], tensors[1::2], strict=True):
            out = (out @ w + b).tanh()
        loss = ((out - y) ** 2).mean().backward()
        optimizer.step()
        return loss.realize()

    def step() -> Any:
        with tiny.Tensor.train():
            return train(x, y).item()

    return step


CONTESTANTS: dict[str, Callable[[Workload], Step]] = {
    "notebook": notebook,
    "by hand": by_hand,
    "by hand, dW kept": lambda work: by_hand(work, keep=True),
    "by hand, 1 - y*y": lambda work: by_hand(work, textbook=True),
    "eager": eager,
    "compiled": compiled,
    "PyTorch": torch_step,
    "torch.compile": lambda work: torch_step(work, compiling=True),
    "JAX jit": jax_step,
    "HIPS autograd": autograd_step,
    "MyGrad": mygrad_step,
    "micrograd": micrograd_step,
    "tinygrad jit": tinygrad_step,
    "matrix products": products,
}
