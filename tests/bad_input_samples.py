"""One good call for each public callable, all its parameters given: what test_bad_input.py spoils one by one."""

from __future__ import annotations

import inspect
import tempfile
import types
from pathlib import Path

import hypothesis
import numpy as np

import tinygrad_nn as tn
import tinygrad_nn.testing.strategies

NOT_CALLED = {  # name: why no call of it can be spoilt
    "Compiled": "what compile gives",
    "Drawing": "what draw gives",
    "data.Mnist": "a named tuple that load_mnist fills",
    "metrics.Averages": "a named tuple that classification_report fills",
    "metrics.ClassificationReport": "what classification_report fills",
    "nn.Module.forward": "defined by each module",
    "optim.Optimizer": "a base class: its subclasses are called",
    "optim.Optimizer.check": "for authors of optimizers",
    "optim.Optimizer.check_range": "for authors of optimizers",
    "optim.Optimizer.entries": "for authors of optimizers",
    "optim.Optimizer.spare": "for authors of optimizers",
    "optim.LRScheduler": "a base class: its subclasses are called",
    "optim.Optimizer.update": "for authors of optimizers",
    "training.Checkpoint.restore": "what fit calls",
    "training.Checkpoint.save": "what fit calls",
    "testing.Cause": "what a check fills",
    "testing.GradientError": "what a check raises",
    "testing.InputReport": "what a check fills",
    "testing.Report": "what a check fills",
    "training.History": "what fit fills",
    "training.History.__getitem__": "a mapping's: KeyError says what it says of a dict",
    "training.History.append": "what fit calls",
    "training.History.plot": "draws by an optional library",
    "training.State": "what fit fills",
    "training.Summary": "what summary fills",
}


def public_callables():
    """The public functions, classes, and what a class defines, by name, if they take something."""
    found = {}

    def collect(module, prefix):
        for name in module.__all__:
            item, path = getattr(module, name), prefix + name
            if isinstance(item, types.ModuleType):
                if name != "errors":
                    collect(item, f"{path}.")
            elif callable(item) and not isinstance(item, types.GenericAlias):
                found[path] = item

    collect(tn, "")
    collect(tn.testing, "testing.")
    collect(tn.testing.strategies, "testing.strategies.")
    found |= {"Compiled": tn.compiler.Compiled, "Drawing": tn.drawing.Drawing}  # what compile and draw give
    public = set(found.values())
    for path, item in list(found.items()):
        if inspect.isclass(item):
            kinds = [
                c for c in item.__mro__ if c is item or (c not in public and c.__module__.startswith("tinygrad_nn"))
            ]
            for kind in kinds:
                found.update({f"{path}.{name}": door for name, door in _doors(kind) if door not in found.values()})
    hooks = ("check", "entries", "update", "rate")  # of optimizers and schedules: called by the base class
    return {
        path: item
        for path, item in found.items()
        if not (path.startswith("training.") and path.rpartition(".")[2].startswith("on_"))
        and not ("." in path and getattr(tn, path.rpartition(".")[2], None) is item)  # tn.save is tn.io.save
        and not (path.startswith("optim.") and path.split(".")[1] != "Optimizer" and path.endswith(hooks))
        and _takes_something(item)
    }


def _doors(kind):
    """The public methods of a class, what it does when it is called or indexed, and what assigns to a property."""
    for name, item in vars(kind).items():
        if inspect.isfunction(item) and (not name.startswith("_") or name in {"__call__", "__getitem__"}):
            yield name, item
        elif isinstance(item, property) and item.fset is not None:
            yield name, item.fset


def _takes_something(item):
    taken = dict(inspect.signature(item).parameters)
    if not inspect.isclass(item):
        taken.pop("self", None)
    return bool(taken)


def rng():
    return np.random.default_rng(0)


def array(*shape):
    return rng().standard_normal(shape)


def leaf(*shape):
    return tn.Tensor(array(*shape), requires_grad=True)


def net():
    return tn.nn.Sequential(tn.nn.Linear(3, 4, rng=rng()), tn.nn.Tanh(), tn.nn.Linear(4, 2, rng=rng()))


def through(transform, *extra, **options):
    """Call a transform and the function that it makes: (function, argnums, has_aux=..., *args)."""

    def run(function, argnums, *args, **options):
        return transform(function, argnums, **options)(*args)

    return lambda: (run, (loss_of, 0, array(3), *extra), dict(options))


def loss_of(x):
    x = x["a"] if isinstance(x, dict) else x  # nested arguments are taken
    return np.sum(np.tanh(x) * x)


def one(function, *args, **kwargs):
    """A sample; what a lambda without arguments, or `net` and the like, stands for is made anew at each call."""

    def fresh(value):
        made = isinstance(value, types.FunctionType) and (value.__name__ == "<lambda>" or value in {net, _adam, _saved})
        return value() if made and not inspect.signature(value).parameters else value

    return lambda: (
        fresh(function),
        tuple(fresh(a) for a in args),
        {key: fresh(a) for key, a in kwargs.items()},
    )


def layer(make, *shape):
    """A sample of a layer's forward, on data of a shape."""
    return one(lambda: make().forward, lambda: array(*shape))


def method(name, *args):
    """A sample of a method of Tensors."""
    return one(lambda: getattr(leaf(2, 3), name), *args)


def pair_of(loss):
    """A sample of a loss layer's forward, on a pair of arrays of one shape."""
    return one(lambda: loss().forward, P, P)


X = lambda: array(2, 3)
P = lambda: rng().random((2, 3))
IMAGES = lambda: array(2, 2, 3, 4)
RNG = lambda: np.random.default_rng(0)
F, NN, OPTIM, DATA, METRICS, INIT = tn.functional, tn.nn, tn.optim, tn.data, tn.metrics, tn.nn.init
TESTING, STRATEGIES = tn.testing, tn.testing.strategies


def backward(gradient, retain_graph):
    return (leaf(2, 3) * 2).backward(gradient, retain_graph)


def differentiable(function, rule, broadcasts, name, note):
    cube = tn.differentiable(function, rule, broadcasts=broadcasts, name=name, note=note)
    return cube(leaf(3)).sum().backward()


def compiled(function, backward, cache, x):
    return tn.compile(function, backward=backward, cache=cache)(x)


def weighted(x):
    return np.sum(x * WEIGHT)


WEIGHT = leaf(3)
ONCE = hypothesis.settings(
    max_examples=1, database=None, deadline=None, phases=[hypothesis.Phase.generate]
)  # no replays: fast
FOLDER = tempfile.TemporaryDirectory()
MNIST = Path(tn.__file__).parent / "_mnist"


def step(make, *options):
    """A sample of an optimizer: made of one parameter, and a step taken."""

    def run(params, *args, **kwargs):
        optimizer = make(params, *args, **kwargs)
        for p in optimizer.param_groups[0]["params"]:
            p.grad = np.ones(p.shape, p.dtype)
        optimizer.step()

    names = list(inspect.signature(make).parameters)[1:]
    return one(run, lambda: [leaf(3)], **dict(zip(names, options, strict=True)))


def draw(initializer, *options):
    """A sample of an initializer: made, and used once."""

    def run(*args, rng, shape, dtype):
        return initializer(*args)(rng, shape, dtype)

    return one(run, *options, rng=RNG, shape=(3, 2), dtype=np.float64)


def _gradients():
    x = leaf(3)
    return (np.tanh(x).sum(), [x]), {"gradient": np.ones(()), "create_graph": True, "retain_graph": True}


def _square(x):
    return x * x


def _square_rule(g, _y, x):
    return g * 2 * x


def tanh_rule(x):
    y = np.tanh(x)
    return y, lambda g: (g * (1 - y * y),)


def checked():
    return TESTING.gradient_report(np.tanh, array(3), rule=tanh_rule, mode="fast")


def _sequential(*layers):
    return NN.Sequential(*layers)(array(5, 3))


def _adam():
    optimizer = OPTIM.Adam([leaf(3)])
    optimizer.param_groups[0]["params"][0].grad = np.ones(3)
    optimizer.step()
    return optimizer


def with_gradient():
    p = leaf(3)
    p.grad = np.ones(3)
    return p


def _schedule():
    return OPTIM.StepLR(OPTIM.SGD([leaf(3)]), 2)


def _sequence(milestones):
    optimizer = OPTIM.SGD([leaf(3)])
    return OPTIM.SequentialLR(optimizer, [OPTIM.StepLR(optimizer, 1), OPTIM.StepLR(optimizer, 2)], milestones)


def _fit(model, inputs, targets, *, optimizer, **options):
    if isinstance(optimizer, str) and optimizer == "of its own":
        optimizer = OPTIM.SGD((model if isinstance(model, NN.Module) else net()).parameters())
    return tn.fit(model, inputs, targets, optimizer=optimizer, **options)


class _Dense:
    """A layer in the notebook style."""

    def __init__(self):
        self.W, self.dW = array(3, 2), None

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, g):
        self.dW = self.x.T @ g
        return g @ self.W.T


def _assign(name, tensor):
    """A sample of a property of a Tensor, assigned to."""

    def run(value):
        target = tensor()
        setattr(target, name, value)
        return target

    return run


def drawn(strategy, *args, **kwargs):
    """A sample of a strategy: made, and one value drawn from it."""

    def run(*args, **kwargs):
        hypothesis.seed(0)(ONCE(hypothesis.given(strategy(*args, **kwargs))(lambda _: None)))()

    return one(run, *args, **kwargs)


def _saved():
    path = Path(FOLDER.name, "b.npz")
    if not path.exists():
        tn.save(path, model=net())
    return path


SAMPLES = {
    # Tensor
    "Tensor": one(tn.Tensor, X, requires_grad=True, dtype=np.float64),
    "Tensor.backward": one(backward, X, False),
    "Tensor.sum": one(lambda: leaf(2, 3).sum, 1, True),
    "Tensor.mean": one(lambda: leaf(2, 3).mean, 1, True),
    "Tensor.reshape": one(lambda: leaf(2, 3).reshape, (3, 2), order="F"),
    "Tensor.transpose": one(lambda: leaf(2, 3).transpose, (1, 0)),
    "Tensor.astype": one(lambda: leaf(2, 3).astype, np.float32),
    **{f"Tensor.{name}": method(name, 1, True) for name in ("max", "min", "prod", "all", "any", "argmax", "argmin")},
    **{f"Tensor.{name}": method(name, 1, 0, True) for name in ("var", "std")},
    **{f"Tensor.{name}": method(name, 1) for name in ("cumsum", "cumprod")},
    **{f"Tensor.{name}": method(name, 0, 0, 1) for name in ("trace", "diagonal")},
    "Tensor.repeat": one(lambda: leaf(2, 3).repeat, 2, 1),
    "Tensor.take": one(lambda: leaf(2, 3).take, [0, 1], 1, "wrap"),
    "Tensor.compress": one(lambda: leaf(2, 3).compress, [True, False, True], 1),
    "Tensor.choose": one(lambda: tn.Tensor([0, 1, 0]).choose, lambda: [array(3), array(3)], "wrap"),
    "Tensor.argsort": one(lambda: leaf(2, 3).argsort, 1, "stable"),
    "Tensor.searchsorted": one(lambda: tn.Tensor([0.0, 1.0, 2.0]).searchsorted, X, "left", [0, 1, 2]),
    "Tensor.round": one(lambda: leaf(2, 3).round, 1),
    "Tensor.clip": one(lambda: leaf(2, 3).clip, -1.0, 1.0),
    "Tensor.dot": one(lambda: leaf(2, 3).dot, lambda: array(3, 4)),
    "Tensor.swapaxes": one(lambda: leaf(2, 3).swapaxes, 0, 1),
    "Tensor.squeeze": one(lambda: leaf(2, 1).squeeze, 1),
    **{f"Tensor.{name}": method(name, "F") for name in ("ravel", "flatten")},
    "Tensor.__getitem__": one(lambda: leaf(2, 3).__getitem__, 0),
    "Tensor.data": one(_assign("data", lambda: leaf(2, 3)), X),
    "Tensor.grad": one(_assign("grad", lambda: leaf(2, 3)), X),
    "Tensor.requires_grad": one(_assign("requires_grad", lambda: leaf(2, 3)), True),
    # transforms and recording
    "no_grad.__call__": one(lambda: tn.no_grad().__call__, lambda: loss_of),
    "grad": through(tn.grad, has_aux=False),
    "value_and_grad": through(tn.value_and_grad, has_aux=False),
    "jacobian": through(tn.jacobian),
    "hessian": through(tn.hessian),
    "jvp": through(tn.jvp, array(3)),
    "hvp": through(tn.hvp, array(3)),
    "vjp": one(
        lambda function, argnums, x, g: tn.vjp(function, argnums)(x)[1](g),
        loss_of,
        0,
        lambda: array(3),
        lambda: np.ones(()),
    ),
    "gradients": lambda: (tn.gradients, *_gradients()),
    "stop_gradient": one(tn.stop_gradient, X),
    "Compiled.__call__": one(lambda: tn.compile(weighted).__call__, lambda: array(3)),
    "compile": one(compiled, weighted, True, 4, lambda: array(3)),
    "differentiable": one(differentiable, _square, lambda: _square_rule, True, "square", "nothing"),
    "detect_anomaly": one(tn.detect_anomaly, check_nan=True, check_writes=True),
    # functional
    **{f"functional.{name}": one(getattr(F, name), X) for name in ("tanh", "sigmoid", "relu", "silu")},
    **{f"functional.{name}": one(getattr(F, name), X, -1) for name in ("softmax", "log_softmax")},
    "functional.logsumexp": one(F.logsumexp, X, -1, True),
    "functional.gelu": one(F.gelu, X, "tanh"),
    "functional.dropout": one(F.dropout, X, 0.5, rng=RNG),
    "functional.leaky_relu": one(F.leaky_relu, X, 0.01),
    "functional.elu": one(F.elu, X, 1.0),
    "functional.softplus": one(F.softplus, X, 1.0),
    "functional.layer_norm": one(F.layer_norm, X, 3, lambda: np.ones(3), bias=lambda: np.zeros(3), eps=1e-5),
    "functional.embedding": one(F.embedding, lambda: np.array([0, 2]), lambda: array(4, 3), 1),
    "functional.conv2d": one(
        F.conv2d, IMAGES, lambda: array(4, 2, 2, 2), lambda: array(4), stride=1, padding=0, dilation=1, groups=1
    ),
    "functional.max_pool2d": one(F.max_pool2d, IMAGES, 2, 1, 0),
    "functional.avg_pool2d": one(F.avg_pool2d, IMAGES, 2, 1, 0),
    "functional.l1_loss": one(F.l1_loss, X, X, "mean"),
    "functional.huber_loss": one(F.huber_loss, X, X, "mean", 1.0),
    "functional.nll_loss": one(F.nll_loss, X, lambda: np.array([0, 2]), "mean"),
    "functional.binary_cross_entropy": one(F.binary_cross_entropy, P, P, "mean"),
    "functional.mse_loss": one(F.mse_loss, X, X, "mean"),
    "functional.half_squared_error": one(F.half_squared_error, X, X),
    "functional.cross_entropy": one(F.cross_entropy, X, lambda: np.array([0, 2]), "mean"),
    "functional.binary_cross_entropy_with_logits": one(
        F.binary_cross_entropy_with_logits, X, lambda: np.ones((2, 3)), "mean"
    ),
    # nn
    "nn.Parameter": one(NN.Parameter, X, requires_grad=True, dtype=np.float64),
    "nn.Linear": one(
        NN.Linear,
        3,
        2,
        True,
        weight_init=INIT.normal(0.1),
        bias_init=INIT.constant(0.0),
        dtype=np.float64,
        rng=RNG,
    ),
    "nn.Linear.forward": layer(lambda: NN.Linear(3, 2), 5, 3),
    "nn.Sequential": one(lambda: _sequential, NN.Tanh(), lambda: NN.Linear(3, 2)),
    "nn.Sequential.forward": layer(net, 5, 3),
    "nn.Dropout": one(NN.Dropout, 0.5, rng=RNG),
    "nn.Dropout.forward": layer(NN.Dropout, 5, 3),
    "nn.Flatten.forward": layer(NN.Flatten, 5, 3, 2),
    "nn.Softmax": one(NN.Softmax, -1),
    "nn.LeakyReLU": one(NN.LeakyReLU, 0.01),
    "nn.ELU": one(NN.ELU, 1.0),
    "nn.LayerNorm": one(NN.LayerNorm, 3, 1e-5, True, True, dtype=np.float64),
    **{
        f"nn.{name}": one(getattr(NN, name), 2, 1e-5, 0.1, True, True, dtype=np.float64)
        for name in ("BatchNorm1d", "BatchNorm2d")
    },
    "nn.Embedding": one(NN.Embedding, 4, 3, 1, weight_init=INIT.normal(1.0), dtype=np.float64, rng=RNG),
    "nn.Conv2d": one(
        NN.Conv2d,
        2,
        4,
        2,
        1,
        0,
        1,
        1,
        True,
        weight_init=INIT.normal(0.1),
        bias_init=INIT.constant(0.0),
        dtype=np.float64,
        rng=RNG,
    ),
    **{f"nn.{name}": one(getattr(NN, name), 2, 1, 0) for name in ("MaxPool2d", "AvgPool2d")},
    "nn.BatchNorm1d.forward": layer(lambda: NN.BatchNorm1d(3), 5, 3),
    "nn.LayerNorm.forward": layer(lambda: NN.LayerNorm(3), 5, 3),
    "nn.Embedding.forward": one(lambda: NN.Embedding(4, 3).forward, lambda: np.array([0, 2])),
    "nn.Conv2d.forward": layer(lambda: NN.Conv2d(2, 4, 2), 2, 2, 3, 4),
    "nn.MaxPool2d.forward": layer(lambda: NN.MaxPool2d(2), 2, 2, 3, 4),
    "nn.AvgPool2d.forward": layer(lambda: NN.AvgPool2d(2), 2, 2, 3, 4),
    **{f"nn.{name}": one(getattr(NN, name), "mean") for name in ("L1Loss", "BCELoss", "BCEWithLogitsLoss", "NLLLoss")},
    "nn.HuberLoss": one(NN.HuberLoss, "mean", 1.0),
    **{
        f"nn.{name}.forward": pair_of(getattr(NN, name))
        for name in ("L1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss")
    },
    "nn.NLLLoss.forward": one(lambda: NN.NLLLoss().forward, X, lambda: np.array([0, 2])),
    "nn.GELU": one(NN.GELU, "tanh"),
    "nn.Softplus": one(NN.Softplus, 1.0),
    **{
        f"nn.{name}.forward": layer(getattr(NN, name), 5, 3)
        for name in ("Tanh", "Sigmoid", "ReLU", "Softmax", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus")
    },
    "nn.MSELoss": one(NN.MSELoss, "mean"),
    "nn.CrossEntropyLoss": one(NN.CrossEntropyLoss, "mean"),
    "nn.MSELoss.forward": one(lambda: NN.MSELoss().forward, X, X),
    "nn.CrossEntropyLoss.forward": one(lambda: NN.CrossEntropyLoss().forward, X, lambda: np.array([0, 2])),
    "nn.to_torch_state": one(NN.to_torch_state, lambda: net().eval()),
    "nn.from_torch_state": one(NN.from_torch_state, lambda: net().eval(), lambda: NN.to_torch_state(net())),
    "nn.Module.__call__": one(lambda: net().__call__, lambda: array(5, 3)),
    "nn.Sequential.__getitem__": one(lambda: net().__getitem__, 0),
    "nn.Module.train": one(lambda: net().train, True),
    "nn.Module.requires_grad_": one(lambda: net().requires_grad_, False),
    "nn.Module.load_state_dict": one(lambda: net().load_state_dict, lambda: net().state_dict()),
    "nn.Module.to": one(lambda: net().to, lambda: np.copy),
    "nn.init.uniform": draw(INIT.uniform, -0.5, 0.5),
    "nn.init.normal": draw(INIT.normal, 0.1, 0.0),
    "nn.init.constant": draw(INIT.constant, 0.5),
    # optim
    "optim.SGD": step(OPTIM.SGD, 0.1, 0.9, True, 0.01),
    "optim.Adam": step(OPTIM.Adam, 0.1, (0.9, 0.99), 1e-8, 0.01),
    "optim.AdamW": step(OPTIM.AdamW, 0.1, (0.9, 0.99), 1e-8, 0.01),
    "optim.RMSprop": step(OPTIM.RMSprop, 0.1, 0.9, 1e-8, 0.01, 0.9, True),
    "optim.clip_grad_norm": one(OPTIM.clip_grad_norm, lambda: [with_gradient()], 1.0, 2.0, True),
    "optim.clip_grad_value": one(OPTIM.clip_grad_value, lambda: [with_gradient()], 1.0),
    "optim.StepLR": one(OPTIM.StepLR, lambda: OPTIM.SGD([leaf(3)]), 2, 0.5),
    "optim.CosineAnnealingLR": one(OPTIM.CosineAnnealingLR, lambda: OPTIM.SGD([leaf(3)]), 2, 0.0),
    "optim.LinearLR": one(OPTIM.LinearLR, lambda: OPTIM.SGD([leaf(3)]), 0.5, 1.0, 3),
    "optim.SequentialLR": one(_sequence, [2]),
    "optim.LRScheduler.load_state_dict": one(lambda: _schedule().load_state_dict, lambda: _schedule().state_dict()),
    "optim.Optimizer.load_state_dict": one(lambda: _adam().load_state_dict, lambda: _adam().state_dict()),
    # training, files and drawings
    "fit": one(
        _fit,
        net,
        lambda: array(5, 3),
        lambda: array(5, 2),
        loss=F.mse_loss,
        optimizer="of its own",
        epochs=1,
        batch_size=2,
        validation=0.4,
        metrics=lambda: [F.l1_loss],
        callbacks=(),
        rng=0,
        compile="auto",
        progress=False,
    ),
    "evaluate": one(
        tn.evaluate,
        net,
        lambda: array(5, 3),
        lambda: array(5, 2),
        loss=F.mse_loss,
        metrics=lambda: [F.l1_loss],
        batch_size=2,
    ),
    "predict": one(tn.predict, net, lambda: array(5, 3), batch_size=2),
    "summary": one(tn.summary, net, (3,), dtype=np.float64),
    "training.Checkpoint": one(tn.training.Checkpoint, "run.npz", every=1, resume=True),
    "training.EarlyStopping": one(
        tn.training.EarlyStopping, "val_loss", patience=2, min_delta=0.0, mode="min", restore=True
    ),
    "training.LearningRate": one(tn.training.LearningRate, lambda: OPTIM.StepLR(_adam(), 2), every="epoch"),
    "training.EarlyStopping.load_state_dict": one(
        lambda: tn.training.EarlyStopping().load_state_dict, lambda: tn.training.EarlyStopping().state_dict()
    ),
    "training.LearningRate.load_state_dict": one(
        lambda: tn.training.LearningRate(OPTIM.StepLR(_adam(), 2)).load_state_dict,
        lambda: tn.training.LearningRate(OPTIM.StepLR(_adam(), 2)).state_dict(),
    ),
    "save": one(tn.save, Path(FOLDER.name, "a.npz"), model=net, epoch=3),
    "load": one(tn.load, _saved, max_bytes=100_000, model=net),
    "draw": one(tn.draw, lambda: np.tanh(leaf(3)), lambda: None, limit=10),
    "Drawing.save": one(lambda: tn.draw(np.tanh(leaf(3))).save, Path(FOLDER.name, "a.dot")),
    # data and metrics
    "data.normalize": one(DATA.normalize, X, 0),
    "data.standardize": one(DATA.standardize, X, 0),
    "data.Normalizer": one(DATA.Normalizer, X, 0),
    "data.Standardizer": one(DATA.Standardizer, X, 0),
    "data.Normalizer.__call__": one(lambda: DATA.Normalizer(array(2, 3), 0).__call__, X),
    "data.one_hot": one(DATA.one_hot, lambda: np.array([0, 2]), 3, np.float64),
    "data.batches": one(
        lambda x, y, **kwargs: list(DATA.batches(x, y, **kwargs)),
        X,
        X,
        batch_size=2,
        shuffle=True,
        rng=RNG,
        drop_last=False,
    ),
    "data.read_idx": one(DATA.read_idx, MNIST / "t10k-labels-idx1-ubyte.gz", max_bytes=100_000),
    "data.load_mnist": one(DATA.load_mnist, MNIST),
    "metrics.accuracy": one(METRICS.accuracy, lambda: np.array([0, 1]), lambda: np.array([1, 1])),
    "metrics.confusion_matrix": one(METRICS.confusion_matrix, lambda: np.array([0, 1]), lambda: np.array([1, 1]), 2),
    "metrics.classification_report": one(
        METRICS.classification_report, lambda: np.array([0, 1]), lambda: np.array([1, 1]), ["a", "b"], 2
    ),
    # the checker
    **{
        f"testing.{name}": one(
            getattr(TESTING, name), np.tanh, X, rule=lambda: tanh_rule, wrt=0, order=1, seed=0, mode="fast"
        )
        for name in ("check_gradients", "gradient_report")
    },
    "testing.compare": one(TESTING.compare, np.tanh, X, rule=lambda: tanh_rule, wrt="x0", seed=0, mode="full"),
    "testing.check_module": one(
        TESTING.check_module, lambda: NN.Linear(3, 2, rng=rng()), X, loss=np.sum, seed=0, mode="fast"
    ),
    "testing.check_backward": one(
        TESTING.check_backward,
        lambda: _Dense(),  # noqa: PLW0108 - made anew for each call
        X,
        parameters=lambda: {"W": "dW"},
        forward="forward",
        backward="backward",
        seed=0,
        mode="fast",
    ),
    "testing.Report.__getitem__": one(lambda: checked().__getitem__, "x0"),
    "testing.Report.render": one(lambda: checked().render, False),
    "testing.strategies.arrays": drawn(STRATEGIES.arrays, (2, 3), low=-1.0, high=1.0, dtype=float),
    "testing.strategies.away_from_kinks": drawn(STRATEGIES.away_from_kinks, (2, 3), gap=0.1),
    "testing.strategies.axes": drawn(STRATEGIES.axes, 2),
    "testing.strategies.broadcastable": drawn(STRATEGIES.broadcastable, max_dims=2),
    "testing.strategies.hard_points": drawn(STRATEGIES.hard_points, (2, 3)),
    "testing.strategies.on_kinks": drawn(STRATEGIES.on_kinks, (2, 3)),
    "testing.strategies.positive_definite": drawn(STRATEGIES.positive_definite, max_side=3),
    "testing.strategies.prime_shapes": drawn(STRATEGIES.prime_shapes, min_dims=1, max_dims=2),
    "testing.strategies.relayout": one(STRATEGIES.relayout, X, "F"),
    "testing.strategies.simplex": drawn(STRATEGIES.simplex, (2, 3)),
    "testing.strategies.upstream": drawn(STRATEGIES.upstream, (2, 3), dtype=float),
}
