"""The notebook: it runs without an error, and what is stored in it is what it gives."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
STORED = json.loads(NOTEBOOK.read_text("utf-8"))


def outputs(cell):
    """What a cell gives, but for its progress, which tells the time: a bar on standard error, or a widget."""
    every = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
    return [output for output in every if "application/vnd.jupyter.widget-view+json" not in output.get("data", ())]


def texts(cells):
    """What each cell prints and shows as text."""
    for cell in cells:
        joined = "".join("".join(output.get("text") or output["data"]["text/plain"]) for output in outputs(cell))
        # what is left of rounding, how much room it takes, and the checker's effort may change
        yield re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?e-1\d|\d+(?= runs)", "some", joined))


def kinds(cells):
    """The kinds of data that each cell shows, but for the picture of a graph, which needs Graphviz."""
    shown = [[output["data"] for output in outputs(cell) if "data" in output] for cell in cells]
    return [[sorted({*data} - {"image/svg+xml"}) for data in every] for every in shown]


def test_it_is_clean():
    assert STORED["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in STORED["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert all(cell["metadata"] == {} for cell in STORED["cells"])
    assert sum("image" in kind for cell in kinds(code) for output in cell for kind in output) == 2
    assert NOTEBOOK.stat().st_size < 300_000
    printed = "".join(texts(code))
    assert not re.search(r"/home/|/Users/|/tmp|ipykernel|site-packages|Traceback|Warning", printed)


@pytest.mark.filterwarnings("default")  # Jupyter's own warnings are not ours; those inside the kernel are looked at
def test_a_fresh_run_gives_what_is_stored(tmp_path, monkeypatch):
    nbclient, nbformat, *_ = map(pytest.importorskip, ("nbclient", "nbformat", "ipykernel", "matplotlib", "tqdm"))

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    client = nbclient.NotebookClient(
        fresh, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises CellExecutionError, with the traceback, at the first cell that fails
    assert list(texts(fresh.cells)) == list(texts(STORED["cells"]))
    assert kinds(fresh.cells) == kinds(STORED["cells"])
    errors = [o.text for cell in fresh.cells for o in cell.get("outputs", ()) if o.get("name") == "stderr"]
    assert "Warning" not in "".join(errors)
