"""The README's code runs as shown, and prints what it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=range(len(BLOCKS)))
def test_code_prints_what_is_shown(code: str, output: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {"__name__": "__readme__"})  # noqa: S102 - our own README
    assert printed.getvalue() == output


def test_every_room_is_listed() -> None:
    rooms = {
        p.stem for p in (README.parent / "tinygrad_nn").iterdir() if p.stem[0] not in "_." and p.suffix in ("", ".py")
    }
    listed = set(
        re.findall(r"`(\w+)/?`", "\n".join(re.findall(r"^\| (`.*?) \|", README.read_text("utf-8"), re.MULTILINE)))
    )
    assert rooms - {"py"} == listed
