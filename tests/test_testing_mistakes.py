"""Classic mistakes: every one is found with every seed, nearly every one is named, and none wrongly."""

from __future__ import annotations

import numpy as np
import pytest
from checker_corpus import MISTAKES

from tinygrad_nn.testing import gradient_report

UNNAMED = {"gelu_without_the_density_term", "log_softmax_without_the_softmax"}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_found_and_named_with_every_seed(mistake) -> None:
    for seed in range(10):
        fn, rule, inputs = mistake.make(np.random.default_rng([seed, 7]))
        report = gradient_report(fn, *inputs, rule=rule, seed=seed)
        assert not report.ok
        assert report.causes[0].kind in ({"unknown"} if mistake.name in UNNAMED else mistake.kinds), str(report)
        lines = str(report).splitlines()
        assert len(lines) <= 25
        assert max(map(len, lines)) <= 120


def test_the_corpus_is_as_long_as_promised_and_nearly_all_of_it_is_named() -> None:
    assert len(MISTAKES) >= 67
    assert len(UNNAMED) <= 0.05 * len(MISTAKES)
