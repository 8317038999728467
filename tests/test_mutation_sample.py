"""A sample of the mutants of the derivative table, from every room: they are killed by the laws of the nearest row."""

from __future__ import annotations

import mutate
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.0", reason="some explanations are for functions of newer NumPys"
)


@pytest.fixture(scope="module")
def court() -> mutate.Court:
    return mutate.Court(most=12)


def test_a_sample_of_mutants_from_every_room_is_killed_by_the_nearest_laws(court) -> None:
    """Some need the laws of other rows, or more draws: a whole run, `python -m tests.mutate`, tries those."""
    suspects = [m for m in court.mutants if not mutate.explanation(m)]
    sample = mutate.of_one_function_a_room(suspects, 6, seed=0)
    assert {m.room for m in sample} == set(mutate.ROOMS)
    alive = [m for m in sample if not court.verdict(m, rows=2)]
    assert len(alive) <= len(sample) // 5, [f"{m.place}: {m.after}" for m in alive]


def test_every_explanation_fits_a_mutant(court) -> None:
    assert court.stale() == []


def test_what_takes_too_long_is_no_mistake_if_it_is_explained(court, monkeypatch) -> None:
    explained = next(m for m in court.mutants if mutate.explanation(m))
    other = next(m for m in court.mutants if not mutate.explanation(m))
    monkeypatch.setattr(court, "verdict", lambda _: "some_law TimeoutError")
    score = court.try_all([explained, other])
    assert [id(m) for m in score.explained] == [id(explained)]
    assert [id(m) for m, _ in score.killed] == [id(other)]
    assert "1 killed by taking too long" in mutate.report(score, [], 0.0, everything=False)


def test_a_mutant_leaves_the_table_as_it_was(court) -> None:
    before = {f: (row.kernel, row.rules) for f, row in mutate.table.TABLE.items()}, dict(mutate.table.COMPOSITIONS)
    mutant = next(m for m in court.mutants if m.where == "_norm_rule")
    with mutant.planted(), court.swap(mutant.room, court.trees[mutant.room]):
        assert (
            mutate.table.TABLE[mutate.MODULES["matrices"].norm].rules != before[0][mutate.MODULES["matrices"].norm][1]
        )
    assert ({f: (row.kernel, row.rules) for f, row in mutate.table.TABLE.items()}, mutate.table.COMPOSITIONS) == before
