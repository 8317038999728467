"""Check gradients that other libraries compute: a torch.autograd.Function and a JAX function, through arrays.

The checker sees plain NumPy functions, so a few lines turn any library's backward pass into a rule.  Each part runs
where its library is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.testing import gradient_report

Rule = Callable[..., tuple[Any, Callable[[Any], tuple[Any, ...]]]]


def softsign(x: Any) -> Any:
    """The forward in NumPy, smooth where nothing is 0."""
    return x / (1 + np.sqrt(x * x))


def torch_rule(*, right: bool) -> Rule:
    """A torch.autograd.Function as a rule: its backward is checked, not torch's own derivative."""
    import torch  # noqa: PLC0415 - only where it is installed

    class Softsign(torch.autograd.Function):  # type: ignore[misc,no-untyped-call]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x / (1 + x.abs())

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> Any:
            (x,) = ctx.saved_tensors
            slope = 1 + x.abs()
            return upstream[0] / (slope**2 if right else slope)  # the mistake: the square forgotten

    def rule(x: Any) -> Any:
        t = torch.tensor(x, requires_grad=True)
        y = Softsign.apply(t)
        return y.detach().numpy(), lambda g: tuple(
            grad.numpy()
            for grad in torch.autograd.grad(y, [t], torch.tensor(np.ascontiguousarray(g)), retain_graph=True)
        )

    return rule


def jax_rule() -> Rule:
    """JAX's own reverse mode as a rule, in double precision."""
    import jax  # noqa: PLC0415 - only where it is installed

    jax.config.update("jax_enable_x64", True)

    def rule(x: Any) -> Any:
        y, pullback = jax.vjp(lambda z: z / (1 + abs(z)), x)
        return np.asarray(y), lambda g: tuple(np.asarray(part) for part in pullback(jax.numpy.asarray(g)))

    return rule


def main() -> None:
    """Print one report for each library that is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.parse_args()
    x = np.random.default_rng(0).uniform(0.5, 2, (4, 3)) * np.array([1.0, -1.0, 1.0])
    rules: dict[str, Rule] = {}
    if importlib.util.find_spec("torch"):
        rules["torch.autograd.Function, right"] = torch_rule(right=True)
        rules["torch.autograd.Function, wrong"] = torch_rule(right=False)
    if importlib.util.find_spec("jax"):
        rules["jax.vjp"] = jax_rule()
    if not rules:
        print("neither torch nor jax is installed: nothing to check here")
    for name, rule in rules.items():
        print(f"== {name}")
        print(gradient_report(softsign, x, rule=rule))
        print()


if __name__ == "__main__":
    main()
