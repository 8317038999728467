"""Blind mutants: single edits of right rules, which of them are live, what the checker says, and whether it is true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from checker_corpus import referee
from tinygrad_nn.testing import Cause, gradient_report
from tinygrad_nn.testing.mutants import Mutant, mutants


@dataclass
class Trial:
    """One mutant: `live` is None where it raises; `cause` and `true` say what the checker called it, rightly or not."""

    rule: Any
    mutant: Mutant
    live: bool | None
    found: bool = False
    cause: Cause | None = None
    true: bool = False
    report: Any = None

    @property
    def layer(self) -> str:
        return str(self.rule.__name__)

    @property
    def named(self) -> bool:
        return self.cause is not None and self.cause.kind != "unknown"


def forward(rule: Any) -> Any:
    """The function that a rule belongs to, with the same names of arguments."""
    names = ", ".join(rule.__code__.co_varnames[: rule.__code__.co_argcount])
    return eval(f"lambda {names}: rule({names})[0]", {"rule": rule})  # noqa: S307 - our own text


def trials(layers: Sequence[Any], seed: int, most: int) -> Iterator[Trial]:
    """At most `most` mutants of each layer, drawn with the seed, at inputs drawn with it."""
    for number, (rule, shapes) in enumerate(layers):
        rng = np.random.default_rng([seed, number])
        inputs = referee.draw(shapes, rng)
        every = list(mutants(rule))
        for index in rng.permutation(len(every))[:most]:
            mutant = every[index]
            trial = Trial(rule, mutant, referee.live(rule, mutant.function, inputs, rng))
            if trial.live:
                with np.errstate(all="ignore"):
                    report = gradient_report(
                        forward(rule), *inputs, rule=mutant.function, seed=int(rng.integers(2**31))
                    )
                trial.report, trial.found = report, not report.ok
                trial.cause = report.causes[0] if report.causes else None
                if trial.named:
                    trial.true = referee.true_name(trial.cause, rule, mutant.function, shapes, rng)
            yield trial
