"""Backward passes with one classic mistake each, and what the checker must call it."""

from checker_corpus import contracts, factors, formulas, places  # noqa: F401 - they register their mistakes
from checker_corpus.base import MISTAKES, Mistake

__all__ = ["MISTAKES", "Mistake"]
