"""For every row of the derivative table: calls that exercise it, one module per room of the table."""

from domains import elementwise, indexing, linalg, reductions, shaping
from domains.base import DOMAINS, LAYOUTS, Case, Draw, name_of, relayout
from domains.points import POINTS, Point

__all__ = [
    "DOMAINS",
    "LAYOUTS",
    "POINTS",
    "Case",
    "Draw",
    "Point",
    "elementwise",
    "indexing",
    "linalg",
    "name_of",
    "reductions",
    "relayout",
    "shaping",
]
