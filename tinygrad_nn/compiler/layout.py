"""Layout: statements that are too long for a line, broken at their brackets as formatters do."""

from __future__ import annotations

import io
import itertools
import tokenize

__all__ = ["WIDTH", "laid_out"]

WIDTH = 120


def laid_out(text: str) -> str:
    """Break every line that is too long, each a statement on one line.

    Examples
    --------
    >>> print(laid_out(f"y = np.stack(({'a_long_name, ' * 7}x), axis=0)  # (8, 30)"))
    y = np.stack(
        (a_long_name, a_long_name, a_long_name, a_long_name, a_long_name, a_long_name, a_long_name, x), axis=0
    )  # (8, 30)
    """
    lines: list[str] = []
    for line in text.splitlines():
        code = line.lstrip()
        lines += [line] if len(line) <= WIDTH else _broken(code, " " * (len(line) - len(code)))
    return "\n".join(lines) + "\n" * text.endswith("\n")


def _broken(code: str, indent: str) -> list[str]:
    """A statement or an item in several lines: what is in its last brackets on one line, or item by item."""
    cut = _last_brackets(code)
    if len(cut) < 2 or cut[-1] == cut[0] + 1:
        return [indent + code]
    inner, deeper = code[cut[0] + 1 : cut[-1]].rstrip(","), indent + "    "
    body = [deeper + inner]
    if len(body[0]) > WIDTH:
        items = [code[a + 1 : b].strip() + "," for a, b in itertools.pairwise(cut) if code[a + 1 : b].strip()]
        body = [
            line
            for item in items
            for line in ([deeper + item] if len(deeper + item) <= WIDTH else _broken(item, deeper))
        ]
    return [indent + code[: cut[0] + 1], *body, indent + code[cut[-1] :]]


def _last_brackets(code: str) -> list[int]:
    """Where the last pair of brackets opens, where commas separate what it holds, and where it closes."""
    tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    found: list[int] = []
    depth = 0
    for token in reversed([t for t in tokens if t.type == tokenize.OP]):
        depth += (token.string in ")]}") - (token.string in "([{")
        if depth == 0 and found:
            return [token.start[1], *reversed(found)]
        if (depth == 1 and token.string in ")]},") and (found or token.string != ","):
            found.append(token.start[1])
    return []
