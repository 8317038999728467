"""Classic mistakes: each is found with every seed and called by its name, input, and factor, expression or axis."""

from __future__ import annotations

import numpy as np
import pytest
from checker_corpus import MISTAKES

from tinygrad_nn.testing import gradient_report


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_found_and_named(mistake) -> None:
    for seed in range(3):  # ten in examples/benchmark_checker.py
        fn, rule, inputs = mistake.make(np.random.default_rng([seed, 7]))
        report = gradient_report(fn, *inputs, rule=rule, seed=seed)
        assert not report.ok
        assert mistake.named_by(report.causes[0]), str(report)
        lines = str(report).splitlines()
        assert len(lines) <= 25
        assert max(map(len, lines)) <= 120


def test_the_corpus_is_as_long_as_promised() -> None:
    assert len(MISTAKES) >= 67
    assert len({m.name for m in MISTAKES}) == len(MISTAKES)
    loose = {m.name for m in MISTAKES if not m.detail and m.kinds[0] in {"factor", "ratio", "local", "residual", "eps"}}
    assert loose == set()
