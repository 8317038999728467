"""A sample of the mutants of the derivative table: each is killed by a law, or explained as no mistake."""

from __future__ import annotations

import mutate
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.0", reason="some explanations are for functions of newer NumPys"
)


@pytest.fixture(scope="module")
def court() -> mutate.Court:
    return mutate.Court(("calculus", "matrices"))


def test_a_sample_of_mutants_is_killed_or_explained(court) -> None:
    score = court.try_all(mutate.sampled(court.mutants, 25, seed=0))
    assert [f"{m.place}: {m.after}" for m in score.survived] == []
    assert len(score.killed) > len(score.explained)


def test_every_explanation_fits_a_mutant(court) -> None:
    assert court.stale() == []


def test_a_mutant_leaves_the_table_as_it_was(court) -> None:
    before = {f: (row.kernel, row.rules) for f, row in mutate.table.TABLE.items()}, dict(mutate.table.COMPOSITIONS)
    mutant = next(m for m in court.mutants if m.where == "_norm_rule")
    with mutant.planted(), court.swap(mutant.room, court.trees[mutant.room]):
        assert (
            mutate.table.TABLE[mutate.MODULES["matrices"].norm].rules != before[0][mutate.MODULES["matrices"].norm][1]
        )
    assert ({f: (row.kernel, row.rules) for f, row in mutate.table.TABLE.items()}, mutate.table.COMPOSITIONS) == before
