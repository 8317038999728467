"""The code of the README and of its pages runs as shown, and prints what it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import tinygrad_nn as tn

README = Path(__file__).parent.parent / "README.md"
BLOCKS = [
    block
    for page in (README, README.parent / "tinygrad_nn" / "COMING_FROM.md")
    for block in re.findall(
        r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
]


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
    section = README.read_text("utf-8").partition("## The rooms")[2]
    assert rooms - {"py"} == set(
        re.findall(r"`(\w+)/?`", "\n".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    )


def test_layers_losses_optimizers_and_examples_are_listed() -> None:
    words = set(re.findall(r"`([\w.]+)`", README.read_text("utf-8")))
    examples = {file.name for file in (README.parent / "examples").glob("[!_]*.py")}
    made = {name for room in (tn.nn, tn.optim) for name in room.__all__ if name[0].isupper() or name.startswith("clip")}
    assert examples | made - {"LRScheduler", "Optimizer"} <= words


def test_links_and_pictures_are_there() -> None:
    for page in (README, README.parent / "tinygrad_nn" / "COMING_FROM.md"):
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8"))
        assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
