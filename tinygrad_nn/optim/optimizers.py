"""Optimizers, in order of increasing complexity; the formulas and names are PyTorch's."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy import multiply, subtract

from tinygrad_nn.checks import flag
from tinygrad_nn.conversion import moved
from tinygrad_nn.errors import ArgumentError, DTypeError, StateError, TinygradError
from tinygrad_nn.tensor import Tensor
from tinygrad_nn.writes import touch_all

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]

_OF_SCHEDULES = {"initial_lr"}  # what a schedule puts into a group, before or after the state is loaded
_SMALL = 1000  # entries
_Ready: TypeAlias = "tuple[Any, Any, Any, Tensor]"
"""A parameter about to be updated: its leaf, its array, its gradient, and itself."""


@functools.lru_cache(maxsize=256)
def _number(value: float, dtype: np.dtype[Any], ours: bool) -> Any:
    """Return a number to compute with arrays of that dtype: for NumPy's own an array, which saves half a microsecond.

    Other libraries' arrays may not mix with NumPy's.
    """
    return np.array(value, dtype) if ours else dtype.type(value)


def _kind(p: Tensor) -> tuple[type, np.dtype[Any]]:
    return type(p._array), p.dtype  # noqa: SLF001


def _kept(value: Any, p: Tensor) -> Any:
    """Copy a part of a parameter's state, arrays into the library of the parameter's."""
    copied = copy.deepcopy(value)
    return moved(copied, p._array) if getattr(value, "ndim", 0) else copied  # noqa: SLF001


class Optimizer:
    """What optimizers share: parameter groups, their options, and the state of each parameter.

    Parameters
    ----------
    params : iterable of Tensors, or of dicts
        A dict is a group: ``{"params": [...], "lr": 0.01}`` overrides options for its parameters.
        A frozen one is passed over until its ``requires_grad`` is set; one at least has to require a gradient.
    defaults : options of the groups that do not set their own

    Attributes
    ----------
    param_groups : list of dicts
        Read at every step: assign ``group["lr"]`` to change a learning rate.  What is out of range is
        refused by the next step, before it changes anything.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise DTypeError("an optimizer takes a list of parameters: write [p], or model.parameters()")
        if not isinstance(params, Iterable) or getattr(params, "shape", None) == ():
            raise DTypeError(
                f"an optimizer takes a list of parameters, got {type(params).__name__}: model.parameters()"
            )
        entries = list(params)
        if not entries:
            raise ArgumentError("an optimizer needs at least one parameter (was a generator used up before?)")
        several = all(isinstance(entry, Mapping) for entry in entries)
        groups = entries if several else [{"params": entries}]
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._spare: dict[Any, Any] = {}  # one array of each shape, for what a step works out on the way
        self._kinds: dict[Tensor, Any] = {}  # the arrays' types and dtypes when it was made
        seen: set[int] = set()
        for group in groups:
            unknown = set(group) - {"params", *defaults}
            if unknown or "params" not in group:
                raise ArgumentError(
                    f"a parameter group has 'params' and some of {sorted(defaults)}; got {sorted(group)}"
                )
            members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
            for p in members:
                if not isinstance(p, Tensor) or not p.is_leaf:
                    raise DTypeError(
                        f"an optimizer trains leaf Tensors, got {type(p).__name__} {getattr(p, 'shape', '')}"
                    )
                if isinstance(p._array, np.ndarray) and not p._array.flags.writeable:  # noqa: SLF001
                    raise ArgumentError(f"a parameter of shape {p.shape} is read-only: make the Tensor of a copy")
                if not hasattr(p._array, "__iadd__"):  # noqa: SLF001
                    raise DTypeError(
                        f"an optimizer changes parameters in place, which an array of {type(p._array)} does not allow: "  # noqa: SLF001
                        f"keep the parameters in NumPy arrays; they may meet data of other kinds"
                    )
                if id(p) in seen:
                    raise ArgumentError(f"a parameter of shape {p.shape} is given twice: it would be updated twice")
                seen.add(id(p))
                self._kinds[p] = _kind(p)
            self.param_groups.append({**defaults, **group, "params": members})
        if not any(p.requires_grad for p in self._params()):
            raise ArgumentError(
                "no parameter requires a gradient, so no step would change one: give Tensors requires_grad=True"
            )
        self._names = set(defaults)
        self._checked: list[dict[str, Any]] = []  # the groups as they were when they were checked
        self._check_groups()

    def _check_groups(self) -> None:
        """Raise ArgumentError if the options of a group are not what they should be."""
        for group in self.param_groups:
            if missing := {"params", *self._names} - group.keys():
                raise ArgumentError(f"a parameter group of {type(self).__name__} lacks {sorted(missing)}")
            self.check(group)
            for p in group["params"]:
                if "eps" in group and not p.dtype.type(group["eps"]):
                    raise ArgumentError(
                        f"eps={group['eps']} is 0 in {p.dtype}, and a step would divide by it: keep parameters in "
                        f"float32, or take eps=1e-4"
                    )
        self._checked = [dict(group) for group in self.param_groups]

    def check(self, group: dict[str, Any]) -> None:
        """Raise ArgumentError if an option of a group is out of range."""
        for name in {"lr", "weight_decay"} & group.keys():
            self.check_range(name, group[name], float("inf"))

    def check_range(self, name: str, value: Any, end: float) -> None:
        """Raise ArgumentError unless `value` is a number with 0 <= value < end."""
        if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value < end:
            needed = f"0 <= {name} < {end}" if end < float("inf") else f"{name} >= 0"
            raise ArgumentError(f"{type(self).__name__} needs {needed}, got {value!r}")

    def entries(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of a parameter's state that a step needs once there is any; ``step`` is a count."""
        return ()

    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        groups = self.param_groups
        try:
            changed = groups != self._checked
        except TinygradError:  # Tensors in another list of parameters, which do not compare
            changed = True
        if changed:
            self._check_groups()
        all_ready = list(map(self._ready, groups))  # before one moves
        for group, ready in zip(groups, all_ready, strict=True):
            try:
                self._update_all(ready, group)
            finally:  # also where it broke off halfway: graphs that need the old values will notice
                touch_all(ready)

    def _ready(self, group: dict[str, Any]) -> list[_Ready]:
        """List the parameters of a group that have a gradient; raise if one is not what it was."""
        ready: list[_Ready] = []
        for p in group["params"]:
            leaf = p._node  # noqa: SLF001 - what p.grad and p.data look up, in a third of the time
            if leaf is not None and (grad := leaf.grad) is not None:
                if leaf.moved and self._kinds.get(p) != _kind(p):
                    raise StateError(
                        f"a parameter of shape {p.shape} was moved to another kind of array, {_kind(p)[1]}, by "
                        f"Module.to after this optimizer was made: make the optimizer anew after the move"
                    )
                ready.append((leaf, p._array, grad, p))  # noqa: SLF001
        return ready

    def _update_all(self, ready: list[_Ready], group: dict[str, Any]) -> None:
        """Update the parameters of a group, one after the other."""
        states, update = self.state, self.update
        for _, data, grad, p in ready:
            state = states.get(p)
            if state is None:
                state = states[p] = {}
            update(data, grad, state, group)

    def spare(self, like: Any) -> Any:
        """Return an array of the shape and dtype of `like`, to be overwritten: it saves an allocation a step."""
        shape = like.shape
        found = self._spare.get(shape)
        if found is None or found.dtype is not like.dtype or type(found) is not type(like):
            found = self._spare[shape] = np.empty_like(like)
        return found

    def update(self, data: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Update one parameter's array in place; each optimizer defines its own."""
        raise DTypeError(f"{type(self).__name__} has no update: define update(self, data, grad, state, group)")

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for group in self.param_groups:
            for p in group["params"]:
                leaf = p._node  # noqa: SLF001 - p.zero_grad(), in half of the time
                if leaf is not None:
                    leaf.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the options and of each parameter's state, parameters by their number, and the class."""
        numbers = {p: k for k, p in enumerate(self._params())}
        return {
            "optimizer": type(self).__name__,
            "state": {numbers[key]: copy.deepcopy(value) for key, value in self.state.items()},
            "param_groups": [
                {
                    **{k: v for k, v in group.items() if k != "params"},
                    "params": [numbers[p] for p in group["params"]],
                }
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over options and state from `state_dict` of an optimizer over the same parameters.

        Raises
        ------
        StateError
            If the optimizer's class, the groups, their options, or the shapes and dtypes of the state do not fit.
        ArgumentError
            If an option is out of range.  After an error nothing has changed.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"a state dict has the entries 'state' and 'param_groups', got a {type(state).__name__}")
        if set(state) - {"optimizer"} != {"state", "param_groups"}:
            raise StateError(f"a state dict has the entries 'state' and 'param_groups', got {sorted(state)}")
        of = state.get("optimizer", type(self).__name__)
        if of != type(self).__name__:
            raise StateError(
                f"the state is of {of}, this is {type(self).__name__}, which would go on in another way: load it into "
                f"{of}, or leave out its entry 'optimizer' to take it over all the same"
            )
        params = self._params()
        numbers = {p: k for k, p in enumerate(params)}
        ours = [[numbers[p] for p in group["params"]] for group in self.param_groups]
        theirs = [list(group.get("params", ())) for group in state["param_groups"]]
        if ours != theirs:
            raise StateError(f"the state is of parameter groups {theirs}, this optimizer has {ours}")
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            if set(group) - _OF_SCHEDULES != set(saved) - _OF_SCHEDULES:
                raise StateError(
                    f"the state has the options {sorted(saved)}, {type(self).__name__} has {sorted(group)}"
                )
            self.check(saved)
        for k, values in state["state"].items():
            if k not in range(len(params)):
                raise StateError(f"the state has a parameter {k!r}, this optimizer has 0 to {len(params) - 1}")
            p = params[k]
            for name, value in values.items():
                if getattr(value, "ndim", 0) and (value.shape, value.dtype) != (p.shape, p.dtype):
                    raise StateError(
                        f"{name} of parameter {k} has shape {value.shape} and dtype {value.dtype}, the parameter "
                        f"{p.shape} and {p.dtype}"
                    )
            group = next(g for g in state["param_groups"] if k in g["params"])
            for name in self.entries(group) if values else ():
                value, shape = values.get(name), () if name == "step" else p.shape
                kind = (value if hasattr(value, "dtype") else np.asarray(value)).dtype.kind
                if np.shape(value) != shape or kind not in "iuf":
                    raise StateError(f"the state of parameter {k} lacks {name}: numbers of shape {shape}")
        self.state = {
            params[k]: {name: _kept(value, params[k]) for name, value in values.items()}
            for k, values in state["state"].items()
        }
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({k: v for k, v in saved.items() if k != "params"})

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        options = ({k: v for k, v in group.items() if k != "params"} for group in self.param_groups)
        return f"{type(self).__name__}({', '.join(str(o) for o in options)})"


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for: W -= lr * dW.

    With ``momentum`` m, the velocity v starts as the first gradient, then v = m v + dW, and
    W -= lr v; with ``nesterov``, W -= lr (dW + m v).  ``weight_decay`` adds weight_decay * W to dW.

    Examples
    --------
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.data
    array([0.8, 1.6])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})
        # the latest learning rate as an array, last, and what it was made for
        self._rate: tuple[Any, ...] = (None, None, None, None)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ArgumentError if an option of a group is out of range."""
        super().check(group)
        self.check_range("momentum", group["momentum"], 1)
        if flag("nesterov", group["nesterov"]) and not group["momentum"]:
            raise ArgumentError("SGD with nesterov=True needs a momentum above 0")

    def entries(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of a parameter's state that a step needs once there is any."""
        return ("velocity",) if group["momentum"] else ()

    def update(self, data: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Take one step down the gradient."""
        if group["weight_decay"]:
            grad = grad + float(group["weight_decay"]) * data
        rate = self._rated(data, group["lr"])[-1]
        if group["momentum"]:
            momentum = float(group["momentum"])
            if not state:
                state["velocity"] = np.zeros_like(data)
            velocity = state["velocity"]
            velocity *= momentum
            velocity += grad
            grad = grad + momentum * velocity if group["nesterov"] else velocity
        subtract(data, multiply(grad, rate, self.spare(data)), data)

    def _update_all(self, ready: list[_Ready], group: dict[str, Any]) -> None:
        if group["weight_decay"] or group["momentum"] or type(self).update is not SGD.update:
            super()._update_all(ready, group)
            return
        lr, (then, dtype, kind, rate) = group["lr"], self._rate
        for _, data, grad, _ in ready:
            if lr is not then or data.dtype is not dtype or type(data) is not kind:
                then, dtype, kind, rate = self._rated(data, lr)
            # a small array is allocated faster than looked up
            subtract(data, multiply(grad, rate, None if data.size < _SMALL else self.spare(data)), data)

    def _rated(self, data: Any, lr: float) -> tuple[Any, ...]:
        """Return the learning rate as an array to compute with `data`, last, and what it was made for; or raise."""
        kind = type(data)
        if self._rate[0] is not lr or self._rate[1] is not data.dtype or self._rate[2] is not kind:
            self.check_range("lr", lr, float("inf"))  # an array equals the number that was checked
            self._rate = lr, data.dtype, kind, _number(lr, data.dtype, kind is np.ndarray)
        return self._rate


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012): steps scaled by a running mean of the squared gradient.

    s = alpha s + (1 - alpha) dW^2, W -= lr dW / (sqrt(s) + eps).  With ``centered``, s - m^2 takes
    the place of s, where m = alpha m + (1 - alpha) dW (Graves, 2013).  With ``momentum``,
    v = momentum v + dW / (sqrt(s) + eps) and W -= lr v.  ``weight_decay`` adds weight_decay * W to dW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        options = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {"lr": lr, **options, "centered": centered})

    def check(self, group: dict[str, Any]) -> None:
        """Raise ArgumentError if an option of a group is out of range."""
        super().check(group)
        self.check_range("alpha", group["alpha"], 1)
        flag("centered", group["centered"])
        self.check_range("momentum", group["momentum"], 1)
        self.check_range("eps", group["eps"], float("inf"))
        if not group["eps"]:
            raise ArgumentError(f"{type(self).__name__} needs eps > 0, got {group['eps']}")

    def entries(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of a parameter's state that a step needs once there is any."""
        return ("square_avg",)

    def update(self, data: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Take one step along the scaled gradient."""
        alpha, momentum = float(group["alpha"]), float(group["momentum"])
        if group["weight_decay"]:
            grad = grad + float(group["weight_decay"]) * data
        for name, used in (("square_avg", True), ("grad_avg", group["centered"]), ("momentum_buffer", momentum)):
            if used and name not in state:
                state[name] = np.zeros_like(data)
        spare, mean_square = self.spare(data), state["square_avg"]
        mean_square *= alpha
        np.multiply(grad, grad, out=spare)
        spare *= 1 - alpha
        mean_square += spare
        if group["centered"]:
            mean = state["grad_avg"]
            mean *= alpha
            mean += np.multiply(grad, 1 - alpha, out=spare)
            np.multiply(mean, mean, out=spare)
            np.subtract(mean_square, spare, out=spare)
            np.maximum(spare, 0, out=spare)  # below 0 by rounding, where the gradient hardly changes
            np.sqrt(spare, out=spare)
        else:
            np.sqrt(mean_square, out=spare)
        spare += float(group["eps"])
        np.divide(grad, spare, out=spare)
        if momentum:
            velocity = state["momentum_buffer"]
            velocity *= momentum
            velocity += spare
            np.copyto(spare, velocity)
        spare *= float(group["lr"])
        data -= spare


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps scaled by running moments of the gradient.

    m = b1 m + (1 - b1) dW, v = b2 v + (1 - b2) dW^2, W -= lr mh / (sqrt(vh) + eps), where
    mh = m / (1 - b1^t) and vh = v / (1 - b2^t) at step t.  ``weight_decay`` adds weight_decay * W to dW.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: dict[str, Any]) -> None:
        """Raise ArgumentError if an option of a group is out of range."""
        super().check(group)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"{type(self).__name__} needs two betas, such as (0.9, 0.999), got {betas!r}")
        for beta in betas:
            self.check_range("beta", beta, 1)
        self.check_range("eps", group["eps"], float("inf"))
        if not group["eps"]:
            raise ArgumentError(f"{type(self).__name__} needs eps > 0, got {group['eps']}")

    def entries(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of a parameter's state that a step needs once there is any."""
        return ("step", "m", "v")

    def update(self, data: Any, grad: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Take one step along the scaled mean gradient."""
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        b1, b2 = (float(b) for b in group["betas"])
        if decay and self.decoupled:
            data *= 1 - lr * decay
        elif decay:
            grad = grad + decay * data
        if not state:
            state.update(step=0, m=np.zeros_like(data), v=np.zeros_like(data))
        m, v = state["m"], state["v"]
        state["step"] += 1
        c1, c2 = 1 - b1 ** state["step"], 1 - b2 ** state["step"]
        dtype, ours = data.dtype, type(data) is np.ndarray
        numbers = (b1, 1 - b1, b2, 1 - b2, c2, float(group["eps"]), lr / c1)
        b1, rest1, b2, rest2, c2, eps, rate = [_number(value, dtype, ours) for value in numbers]
        spare = self.spare(data)
        m *= b1
        m += np.multiply(grad, rest1, out=spare)
        v *= b2
        np.square(grad, out=spare)
        spare *= rest2
        v += spare
        np.divide(v, c2, out=spare)
        np.sqrt(spare, out=spare)
        spare += eps
        np.divide(m, spare, out=spare)
        spare *= rate
        data -= spare


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): W *= 1 - lr weight_decay first."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay=weight_decay)
