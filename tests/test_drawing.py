"""Drawings: golden text, what a picture says, names from anywhere, graphs of any size."""

from __future__ import annotations

import re
import shutil
import subprocess
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nn as tn
from tinygrad_nn import drawing
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program dot is not installed")

GOLDEN = r"""digraph recorded {
  graph [rankdir=TB, ranksep=0.3, nodesep=0.25]
  node [shape=box, fontname="Helvetica", fontsize=11, height=0.3, margin="0.12,0.06", color="#444444"]
  node [style="rounded,filled", fillcolor="#d7eaf6", ordering=in]
  edge [arrowsize=0.6, color="#444444"]
  n0 [label="x\n(4, 2) float32", style="filled,dashed", fillcolor="#ffffff"]
  n1 [label="net.weight\n(2, 3) float32", style=filled, fillcolor="#fbdca0"]
  n2 [label="net.bias\n(3,) float32", style=filled, fillcolor="#fbdca0"]
  n3 [label="linear\n(4, 3) float32"]
  n0 -> n3
  n1 -> n3
  n2 -> n3
  n4 [label="np.subtract\n(1, ·)\n(4, 3) float32"]
  n3 -> n4
  n5 [label="np.sum\naxis=1, keepdims=True\n(4, 1) float32"]
  n4 -> n5
  n6 [label="getitem\n(:2, ...)\n(2, 1) float32"]
  n5 -> n6
  n7 [label="np.multiply\n(2, 1) float32"]
  n6 -> n7
  n6 -> n7
  n8 [label="0.5\n() float32", style="filled,dashed", fillcolor="#ffffff"]
  n9 [label="np.multiply\n(2, 1) float32", peripheries=2]
  n7 -> n9
  n8 -> n9
}
"""


def test_the_text_of_a_small_graph():
    net, x = tn.nn.Linear(2, 3, dtype=np.float32), np.ones((4, 2), np.float32)
    y = np.sum(1 - net(x), axis=1, keepdims=True)[:2, ...]
    picture = tn.draw(y * y * np.array(0.5, np.float32), {"net": net, "x": x})
    assert str(picture) == picture.dot == GOLDEN
    assert repr(picture).startswith("<Drawing of 6 operations, 2 leaves, 2 constants;")


def boxes(picture):
    return dict(re.findall(r'^  (n\d+) \[label="((?:[^"\\]|\\.)*)"', picture.dot, re.MULTILINE))


def arrows(picture):
    return re.findall(r"^  (n\d+) -> (n\d+)$", picture.dot, re.MULTILINE)


def w(shape=(3,)):
    return tn.Tensor(np.ones(shape), requires_grad=True)


def test_what_a_picture_is_not_of():
    for wrong in (np.ones(2), 3.0, None, tn.nn.Linear(1, 1)):
        with pytest.raises(DTypeError, match="draw takes a Tensor"):
            tn.draw(wrong)
    with pytest.raises(GraphError, match="requires_grad=True"):
        tn.draw(tn.Tensor([1.0]))
    with tn.no_grad(), pytest.raises(GraphError, match="no_grad"):
        tn.draw(w() * 2)
    for wrong in (3, [w()], "net"):
        with pytest.raises(DTypeError, match="params is a Module, or a dict"):
            tn.draw(w(), wrong)
    with pytest.raises(DTypeError, match=r"params\['a'\] is a float"):
        tn.draw(w(), {"a": 2.0})
    for limit in (0, -1, 2.5, "9"):
        with pytest.raises(ArgumentError, match="limit"):
            tn.draw(w(), limit=limit)


def test_a_released_graph_says_so_and_a_kept_one_is_drawn():
    loss = (w() * 2).sum()
    before = tn.draw(loss).dot
    loss.backward(retain_graph=True)
    assert tn.draw(loss).dot == before
    later = loss * 3
    loss.backward()
    for t in (loss, later):
        with pytest.raises(GraphError, match=r"released by .*backward.*retain_graph=True"):
            tn.draw(t)


def test_a_leaf_alone_and_names_of_computed_tensors():
    leaf = w()
    assert boxes(tn.draw(leaf, {"leaf": leaf})) == {"n0": r"leaf\n(3,) float64"}
    hidden = np.tanh(leaf)
    assert r"hidden\nnp.tanh\n(3,) float64" in boxes(tn.draw(hidden.sum(), {"hidden": hidden})).values()


def test_shared_values_have_one_box_and_every_use_an_arrow():
    leaf, x = w(), np.arange(3.0)
    picture = tn.draw((leaf * x) * (leaf * x) + leaf, {"x": x})
    texts = list(boxes(picture).values())
    assert texts.count(r"x\n(3,) float64") == 1
    assert texts.count("(3,) float64") == 1
    assert len(arrows(picture)) == 8


def test_functions_with_several_outputs_sequences_and_their_own_backward():
    leaf = w((3, 3))
    own = tn.differentiable(lambda x: (x * 2, lambda g: (g * 2,)), name="double")
    y = np.linalg.slogdet(leaf + np.eye(3))[1] + np.concatenate([leaf, leaf], axis=1).sum() + own(leaf).sum()
    texts = boxes(tn.draw(y)).values()
    for text in (r"output 1\n() float64", r"np.concatenate\n(1, ·, ·)\n(3, 6) float64", r"double\n(3, 3) float64"):
        assert text in texts
    assert any(text.startswith("np.linalg.slogdet") for text in texts)


@given(st.text(st.characters(), max_size=20))
def test_names_are_text_and_nothing_else(name):
    leaf = w()
    picture = tn.draw(leaf * 2, {name: leaf})
    picture.dot.encode("utf-8")
    assert len(boxes(picture)) == 2  # no quote ends a label early
    assert len(picture.dot.splitlines()) == 9
    assert "&" not in picture.dot.replace("&amp;", "")


@needs_dot
@pytest.mark.parametrize("name", ['"];x->y', "a\\", "\\N\\l", "<b>&lt;</b>&amp;", "\ud800", "\0\x1b[1m", "]]>", "é·漢"])
def test_graphviz_shows_names_as_they_are(name):
    leaf = w()
    root = ET.fromstring(tn.draw(leaf * 2, {name: leaf}).svg())  # noqa: S314 - our own
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    expected = (
        name
        if name.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    )
    assert expected in shown
    assert len(shown) == 5


def test_large_graphs_are_cut_and_say_so():
    y = w()
    for _ in range(100_000):
        y = y * 0.99
    picture = tn.draw(y)
    assert len(boxes(picture)) == 201
    assert "99,800 earlier operations are not drawn (limit=200)" in boxes(picture).values()
    parts = [w() for _ in range(1000)]
    wide = tn.draw(np.concatenate(parts), limit=10)
    assert len(boxes(wide)) == 11
    assert "and 990 more inputs" in wide.dot


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32))
def test_every_box_that_is_drawn_is_reached_and_the_result_is_always_there(size, limit, seed):
    rng = np.random.default_rng(seed)
    made = [w(()), w(())]
    for k in range(size):
        a, b = (made[i] for i in rng.integers(0, len(made), 2))
        made.append(a * b if rng.random() < 0.7 else a + rng.random((k % 3,) * (k % 2)).sum())
    picture = tn.draw(made[-1], limit=limit)
    drawn, edges = boxes(picture), arrows(picture)
    reached = {edges[-1][1] if edges else "n0"}
    for start, end in reversed(edges):
        if end in reached:
            reached.add(start)
    assert reached == set(drawn)
    assert len(drawn) <= max(limit, 3) + 1
    assert {name for edge in edges for name in edge} <= set(drawn)
    assert picture.dot.count("peripheries=2") == 1


@needs_dot
def test_pictures(tmp_path):
    picture = tn.draw((w() * 2).sum())
    assert "<svg" in picture.svg()
    assert "<svg" in picture._repr_svg_()
    for suffix, magic in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")):
        picture.save(tmp_path / f"x{suffix}")
        assert (tmp_path / f"x{suffix}").read_bytes().startswith(magic)


def test_text_is_saved_without_graphviz_and_pictures_say_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    picture = tn.draw((w() * 2).sum())
    picture.save(tmp_path / "x.dot")
    assert (tmp_path / "x.dot").read_text("utf-8") == picture.dot
    assert picture._repr_svg_() is None
    for call in (picture.svg, lambda: picture.save(tmp_path / "x.svg")):
        with pytest.raises(ArgumentError, match="pictures need Graphviz"):
            call()
    with pytest.raises(ArgumentError, match=r"\.dot, \.gv, \.svg"):
        picture.save(tmp_path / "x.gif")
    with pytest.raises(DTypeError, match="path"):
        picture.save(3)
    assert [p.name for p in tmp_path.iterdir()] == ["x.dot"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (subprocess.TimeoutExpired("dot", 60), "limit=50"),
        (subprocess.CalledProcessError(1, "dot", stderr=b"syntax error"), "syntax error"),
    ],
)
def test_what_graphviz_does_wrong_is_told(monkeypatch, error, message):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/dot")
    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(ArgumentError, match=message):
        tn.draw(w() * 2).svg()


def test_drawing_does_not_disturb_the_backward():
    leaf = w()
    loss = (leaf * leaf).sum()
    tn.draw(loss)
    loss.backward()
    assert leaf.grad.tolist() == [2, 2, 2]
    assert drawing.Drawing.__doc__
