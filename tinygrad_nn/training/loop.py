"""The training loop: `fit`."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_nn.checks import choice, told, whole
from tinygrad_nn.compiler.snapshot import Snapshot
from tinygrad_nn.compiler.world import World
from tinygrad_nn.data import batches
from tinygrad_nn.engine import current_recording, recording
from tinygrad_nn.errors import ArgumentError, DTypeError, StateError
from tinygrad_nn.nn import Module
from tinygrad_nn.optim import Optimizer
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.training.callbacks import Hooks
from tinygrad_nn.training.checkpoint import Checkpoint
from tinygrad_nn.training.feeding import Batch, Source, sources
from tinygrad_nn.training.history import History
from tinygrad_nn.training.inference import figures, mode
from tinygrad_nn.training.interrupt import Interrupt
from tinygrad_nn.training.progress import Progress, display
from tinygrad_nn.training.state import State
from tinygrad_nn.training.steps import Metrics, Step, check_loss, check_module, measure, named_metrics, rehearse

__all__ = ["fit"]


def fit(
    model: Module,
    inputs: Any,
    targets: Any = None,
    *,
    loss: Callable[..., Any],
    optimizer: Optimizer,
    epochs: int,
    batch_size: int | None = None,
    validation: Any = None,
    metrics: Metrics = None,
    callbacks: Any = None,
    rng: int | np.random.Generator | None = None,
    compile: bool | str = "auto",  # noqa: A002 - named after tn.compile
    progress: Progress = True,
) -> History:
    """Train a model: for each batch the loss, its gradients, and a step of the optimizer.

    Parameters
    ----------
    model : Module
        In training mode while it is trained, in evaluation mode for validation; each module inside is put back
        into its own mode at the end.
    inputs, targets : arrays, or an iterable of batches and None
        Arrays have the samples along their first axis; a tuple of arrays is several inputs,
        ``model(*inputs)``.  An iterable gives pairs (inputs, target), the same ones or others in each epoch; a
        function gives an iterable for the number of an epoch: ``lambda epoch: ...``.
    loss : function or loss Module
        ``loss(prediction, target)`` gives a Tensor with one number.
    optimizer : Optimizer
        Over parameters of the model.
    epochs : int
    batch_size : int, optional
        For arrays; 32 by default, ``len(inputs)`` for all at once.  The last batch may be smaller.
    validation : pair of arrays, iterable of batches, or fraction, optional
        Evaluated after each epoch.  A fraction holds the last ``round(fraction * n)`` samples back, before
        anything is shuffled.
    metrics : dict or list of functions, optional
        ``metric(prediction, target)`` gives a number from arrays.  In training it is the mean over batches,
        weighted by their sizes, while the parameters move; in validation it sees all samples at once.
    callbacks : functions and objects, optional
        Functions of the `State`, called after each epoch; objects with methods among ``on_train_begin``,
        ``on_epoch_begin``, ``on_step_begin``, ``on_gradients``, ``on_step_end``, ``on_epoch_end``,
        ``on_train_end``, each taking the state.  At ``on_gradients`` the gradients are there and the step is not
        yet taken: the place for `tn.optim.clip_grad_norm`.
    rng : seed or Generator, optional
        Shuffles the arrays anew in each epoch; without it they are taken in order.
    compile : {"auto", True, False}
        Whether steps are compiled: the same numbers, but for rounding, faster.  "auto" compiles after the first
        epoch what recurs often enough, and goes on without where that fails; data that a function or an iterable
        of your own makes anew in each epoch, it leaves alone, since a compiled step repeats no checks (of labels,
        for instance).  True compiles from the first step on, and raises an error where that fails.
    progress : {True, False, "lines"}
        True shows a bar on a terminal or in a notebook, if tqdm is installed, else lines on a terminal; "lines"
        prints lines anywhere.

    Returns
    -------
    History
        The figures of each epoch; the loss is the mean over batches, weighted by their sizes.

    Raises
    ------
    TinygradError
        ArgumentError, DTypeError or ShapeError for what does not fit.  The first batches, to train on and to
        validate on, are tried before anything changes.

    Notes
    -----
    The same seeds give the same numbers, bit for bit.  Ctrl-C ends the training after the current step and
    returns the history, marked as interrupted; a second one raises KeyboardInterrupt at once.  A parameter of
    the model that got no gradient in the first step is named in a warning, and one that begins to require a
    gradient during the training but is not in the optimizer.

    Examples
    --------
    >>> from tinygrad_nn import functional, nn, optim
    >>> x = np.linspace(-1, 1, 20)[:, np.newaxis]
    >>> model = nn.Linear(1, 1, rng=np.random.default_rng(0))
    >>> history = fit(model, x, 3 * x + 1, loss=functional.mse_loss, optimizer=optim.SGD(model.parameters(), lr=0.1),
    ...               epochs=50, batch_size=5, rng=0)
    >>> history.epochs, round(history["loss"][-1], 6)
    (50, 0.0)
    >>> model.weight.data.round(3), model.bias.data.round(3)
    (array([[3.]]), array([1.]))
    """
    check_module(model)
    check_loss(loss)
    epochs = whole("epochs", epochs, 0)
    if not isinstance(compile, bool):
        choice("compile", compile, ("auto",))
    generator = _generator(rng)
    training, held_out = sources(inputs, targets, batch_size, generator, validation)
    if training.once and epochs > 1:
        raise ArgumentError("inputs is an iterator, which ends after one epoch: give a list, or lambda epoch: batches")
    _check_optimizer(optimizer, model, loss)
    named = named_metrics(metrics)
    columns = ["loss", *named]
    columns += [f"val_{name}" for name in columns] if held_out is not None else []
    history = History({name: [] for name in (*columns, *_rates(optimizer), "seconds")})
    state = State(model=model, loss=loss, optimizer=optimizer, history=history, epochs=epochs)
    step = Step(model, loss, compile if training.fixed else compile is True)
    loop = _Loop(state, training, held_out, named, Hooks(callbacks), step, display(progress))
    given = [s for s in (inputs, validation) if not isinstance(s, (list, tuple))]  # which may be long
    roots = (model, loss, *(vars(s) if isinstance(s, batches) else s for s in given), generator)
    found = World(*((str(k), root) for k, root in enumerate(roots))).generators
    state.generators = [generator for generator in found if isinstance(generator, np.random.Generator)]
    if loop.hooks.checkpoints and len(found) > len(state.generators):
        kinds = ", ".join({type(g).__name__ for g in found if not isinstance(g, np.random.Generator)})
        raise ArgumentError(f"a Checkpoint saves NumPy Generators, not {kinds}: draw from np.random.default_rng(seed)")
    if epochs:
        loop.run()
    return history


def _generator(rng: Any) -> np.random.Generator | None:
    if rng is None or isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(rng)
    wanted = f"rng={told(rng)} must be a seed, which is a whole number from 0 on, or np.random.default_rng(seed)"
    raise ArgumentError(wanted) if isinstance(rng, (int, np.integer)) else DTypeError(wanted)


def _check_optimizer(optimizer: Any, model: Module, loss: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        hint = "SGD(model.parameters(), lr=0.1)" if not isinstance(optimizer, type) else (
            f"{optimizer.__name__}(model.parameters())")  # fmt: skip
        raise DTypeError(f"optimizer is an Optimizer, such as tn.optim.{hint}; got {optimizer!r}")
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if trained.isdisjoint(id(p) for _, p in _parameters(model, loss)):
        raise ArgumentError(
            f"the optimizer holds none of the parameters of this {type(model).__name__} that require a gradient: make "
            f"it from model.parameters(), after the last change of the model's layers"
        )


def _parameters(model: Module, loss: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    if isinstance(loss, Module):
        yield from ((f"loss.{name}", p) for name, p in loss.named_parameters())


def _untrained(state: State) -> dict[str, Tensor]:
    """The parameters, by name, that the optimizer does not hold, whose gradients would add up over the steps."""
    trained = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    return {name: p for name, p in _parameters(state.model, state.loss) if id(p) not in trained}


def _rates(optimizer: Optimizer) -> dict[str, float]:
    """The learning rate of each parameter group, by its name in the history."""
    return {f"lr_{k}" if k else "lr": float(group["lr"]) for k, group in enumerate(optimizer.param_groups)}


class _Loop:
    """One run of `fit`: the state that callbacks see, and what they need not see."""

    def __init__(
        self,
        state: State,
        training: Source,
        held_out: Source | None,
        metrics: dict[str, Callable[..., Any]],
        hooks: Hooks,
        step: Step,
        shown: Any,
    ) -> None:
        self.state = state
        self.training = training
        self.held_out = held_out
        self.metrics = metrics
        self.hooks = hooks
        self.step = step
        self.shown = shown
        self.totals: dict[str, float] = {}  # of this epoch: each figure times the samples
        self.samples = 0
        self.untrained: dict[str, Tensor] = {}
        self.outside = set(_untrained(state))  # names that the user keeps from the optimizer, or was told of
        self.rates = _rates(state.optimizer)
        self.seconds = 0.0  # of this epoch, before a break
        self.since = time.perf_counter()
        self.at_begin: list[Any] = []  # where the generators stood when the epoch began
        self.begun_with = repr(state.optimizer)  # its options, before a schedule changes them
        self.skip = 0  # so many batches of the epoch were taken before a break

    def run(self) -> None:
        state, hooks = self.state, self.hooks
        remark = ""
        with recording(current_recording() or True), mode(state.model, training=True), Interrupt() as interrupt:
            self.begun = self._begin()
            hooks.call("on_train_begin", state)
            self._resume()
            self.shown.begin(state.epochs, state.epoch, state.step, self.training.count)
            try:
                while state.epoch < state.epochs and not self._over(interrupt):
                    self._epoch(interrupt)
                state.history.steps, state.history.compiled_steps = state.step, self.step.compiled
                state.history.interrupted = interrupt.asked
                state.history.stopped = "" if state.stop is False else str(state.stop)
                if interrupt.asked:
                    self._save(hooks.checkpoints)
                hooks.call("on_train_end", state)
                remark = f"interrupted after step {state.step}" if interrupt.asked else state.history.stopped
            finally:
                self.shown.end(remark)

    def _over(self, interrupt: Interrupt) -> bool:
        return interrupt.asked or bool(self.state.stop)

    def _begin(self) -> Iterator[Batch]:
        """Try the first batches, and give the batches of the first epoch."""
        self.at_begin = _standing(self.state)
        iterator = self.training.epoch(0)
        try:
            first = next(iterator)
            rehearse(self.step, first, self.metrics)
            after_first = _standing(self.state)
            self._try_validation()
        except BaseException:
            _put_back(self.state, self.at_begin)
            raise
        self.after_first = after_first
        _put_back(self.state, after_first)
        return itertools.chain([first], iterator)

    def _try_validation(self) -> None:
        """Evaluate the first batch held out and put everything back, or what is wrong with it is said an epoch late."""
        if (held_out := self.held_out) is None:
            return
        state = self.state
        first = Source(lambda number: itertools.islice(held_out.epoch(number), 1), 1, "the first batch")
        world = World(("model", state.model), ("loss", state.loss), ("metrics", self.metrics))
        with Snapshot(world, lambda array: array, advance=False):
            figures(state.model, first, state.loss, self.metrics)

    def _epoch(self, interrupt: Interrupt) -> None:
        state = self.state
        self.since = time.perf_counter()
        iterator = self._batches()
        self.untrained = _untrained(state)
        self._warn_of_late_parameters()
        for batch in iterator:
            self._step(batch)
            if self._over(interrupt):
                break
        if interrupt.asked or (state.stop and state.batch != self.training.count):
            return  # no figures for part of an epoch
        self._finish_epoch()

    def _batches(self) -> Iterator[Batch]:
        """Begin an epoch, or go on in the middle of one."""
        state = self.state
        iterator = self.training.epoch(state.epoch) if state.epoch or self.skip else self.begun
        if not self.skip:
            self.hooks.call("on_epoch_begin", state)
            if state.epoch:
                self.at_begin = _standing(state)
            return iterator
        # the batches taken before the break are made again, by generators that stand where they stood then
        now = _standing(state)
        if self.training.once:
            iterator = self.begun
            _put_back(state, self.after_first)
        else:
            _put_back(state, self.at_begin)
        taken = sum(1 for _ in itertools.islice(iterator, self.skip))
        if taken < self.skip:
            raise StateError(f"epoch {state.epoch} has {taken} batches, {self.skip} were taken before the break")
        self.skip = 0
        _put_back(state, now)
        return iterator

    def _step(self, batch: Batch) -> None:
        state, hooks = self.state, self.hooks
        state.current = batch
        for hook in hooks.at("on_step_begin"):
            hook(state)
        state.optimizer.zero_grad()
        for p in self.untrained.values():
            p.grad = None
        state.value, prediction, target = self.step(batch, state.epoch, measured=bool(self.metrics))
        if state.step == 0:
            self._warn_of_missing_gradients()
        for hook in hooks.at("on_gradients"):
            hook(state)
        if state.stop:
            return
        state.optimizer.step()
        self.rates = _rates(state.optimizer)  # before a schedule moves on
        state.step += 1
        state.batch += 1
        self._count(batch.size, {"loss": state.value, **measure(self.metrics, prediction, target)})
        self.shown.step()
        for hook in hooks.at("on_step_end"):
            hook(state)
        if hooks.checkpoints:
            self._save([c for c in hooks.checkpoints if c.every and state.step % c.every == 0])

    def _count(self, size: int, values: dict[str, float]) -> None:
        self.samples += size
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value * size

    def _warn_of_missing_gradients(self) -> None:
        missing = [name for name, p in _parameters(self.state.model, self.state.loss) if p.grad is None]
        if missing:
            warnings.warn(
                f"no gradient reached {', '.join(missing)} in the first step: the loss does not depend on it, or it "
                f"was detached on the way. If that is meant, freeze it: requires_grad = False",
                stacklevel=6,
            )

    def _warn_of_late_parameters(self) -> None:
        late = [name for name in self.untrained if name not in self.outside]
        self.outside.update(late)
        if late:
            warnings.warn(
                f"{', '.join(late)} began to require a gradient during the training, and the optimizer does not hold "
                f"it, so that it is not trained: make the optimizer first and freeze then, or assign to "
                f"optimizer.param_groups",
                stacklevel=5,
            )

    def _finish_epoch(self) -> None:
        """Add the figures of the epoch to the history, and go on to the next."""
        state = self.state
        found = {name: total / self.samples for name, total in self.totals.items()}
        if self.held_out is not None:
            values = figures(state.model, self.held_out, state.loss, self.metrics)
            found |= {f"val_{name}": value for name, value in values.items()}
        found |= self.rates
        found["seconds"] = self.seconds + time.perf_counter() - self.since
        state.history.append(found)
        self.shown.epoch(state.epoch + 1, found, state.batch)
        self.hooks.call("on_epoch_end", state)
        self.totals, self.samples, self.seconds, self.since = {}, 0, 0.0, time.perf_counter()
        state.epoch += 1
        state.batch = 0
        self._save(self.hooks.checkpoints)

    # What checkpoints write

    def _parts(self) -> dict[str, Any]:
        """Everything that goes on changing, by name: objects with a state, generators, Tensors."""
        state = self.state
        parts = {"training": self, "model": state.model, "optimizer": state.optimizer}
        if isinstance(state.loss, Module):
            parts["loss"] = state.loss
        known = {id(t) for module in (state.model, state.loss) if isinstance(module, Module)
                 for _, t in module.named_tensors()}  # fmt: skip
        trained = [p for group in state.optimizer.param_groups for p in group["params"]]
        for kind, items in (
            ("parameter", [p for p in trained if id(p) not in known]),
            ("generator", state.generators),
            ("callback", self.hooks.stateful),
        ):
            parts |= {f"{kind}_{k}": item for k, item in enumerate(items)}
        return parts

    def _save(self, checkpoints: list[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            checkpoint.save(self._parts())

    def _resume(self) -> None:
        """Go on from the first checkpoint that has a file."""
        if any(checkpoint.restore(self._parts()) for checkpoint in self.hooks.checkpoints):
            self.skip = self.state.batch

    def _arguments(self) -> dict[str, str]:
        """What must be the same when a training goes on, in words."""
        state = self.state
        return {
            "inputs": self.training.text,
            "optimizer": self.begun_with,
            "loss": getattr(state.loss, "__name__", type(state.loss).__name__),
            "history": ", ".join(state.history),
            "callbacks with a state": ", ".join(type(c).__name__ for c in self.hooks.stateful) or "none",
            "generators": str(len(state.generators)),
            "compile": str(self.step.compiling),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return where the training stands."""
        state, step = self.state, self.step
        return {
            "arguments": self._arguments(),
            "place": [state.epoch, state.batch, state.step],
            "stop": state.stop,
            "history": state.history.to_dict(),
            "totals": dict(self.totals),
            "samples": self.samples,
            "rates": dict(self.rates),
            "seconds": self.seconds + time.perf_counter() - self.since if state.batch else 0.0,
            "generators": [dict(was) for was in self.at_begin] if state.batch else [],
            "steps": [dict(step.seen), step.eager, step.compiled],
        }

    def check(self, saved: dict[str, Any]) -> None:
        """Raise StateError if a state is of a training with other arguments."""
        here, there = self._arguments(), saved["arguments"]
        others = [
            f"{key}: {there.get(key)} there, {value} here" for key, value in here.items() if there.get(key) != value
        ]
        if others:
            raise StateError(
                "the checkpoint is of a training with other arguments:\n  " + "\n  ".join(others) + "\nStart anew with "
                "another path or resume=False; or load its parts, tn.load(path, model=model), and train on from there"
            )

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        state, step = self.state, self.step
        state.epoch, state.batch, state.step = saved["place"]
        state.stop = saved["stop"]
        for name, values in saved["history"].items():
            state.history[name][:] = values
        self.totals, self.samples, self.seconds = dict(saved["totals"]), saved["samples"], saved["seconds"]
        self.rates = dict(saved["rates"])
        self.at_begin = saved["generators"] or self.at_begin
        step.seen, step.eager, step.compiled = saved["steps"]


def _standing(state: State) -> list[Any]:
    return [generator.bit_generator.state for generator in state.generators]


def _put_back(state: State, states: list[Any]) -> None:
    for generator, was in zip(state.generators, states, strict=True):
        generator.bit_generator.state = was
