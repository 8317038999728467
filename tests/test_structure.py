"""The house: which room may import which, what an import costs, public names, docstrings, sizes."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import inspect
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest

import tinygrad_nn as tn

ROOT = Path(tn.__file__).parent
HOME = Path(__file__).parent.parent
FILES = sorted(file for file in ROOT.rglob("*.py") if file.name != "__main__.py")
ROOMS = [
    "errors",
    "checks",
    "derivatives",
    "places",
    "writes",
    "engine",
    "anomaly",
    "methods",
    "conversion",
    "tensor",
    "transforms",
    "functional",
    "nn",
    "optim",
    "compiler",
    "data",
    "metrics",
    "io",
    "training",
    "drawing",
    "testing",
]
ALONE = {"data": {"errors", "checks"}, "metrics": {"errors", "checks"}}  # rooms on arrays, that know nothing of Tensors
every_file = pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(("tinygrad_nn", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(file): file for file in FILES}


def room_of(module):
    return module.split(".")[1] if "." in module else ""


@functools.cache
def tree_of(file):
    return ast.parse(file.read_text("utf-8"), str(file))


def imports_of(file, source=None):
    """Every module of the package that a file imports: at its top, in functions, and for types only."""
    module = module_name(file)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree_of(file) if source is None else ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, *([base] if base else [])])
            # `from package import module` imports that module, `from package import name` the package
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return {name for name in found if name.split(".")[0] == "tinygrad_nn"}


def misplaced(module, imported):
    """Whether a module may not import another: no later room, and no room through the package itself."""
    here, there = room_of(module), room_of(imported)
    if not there:
        return True
    if here == there:
        return False
    return there not in ALONE.get(here, set(ROOMS[: ROOMS.index(here)]))


def test_every_module_is_in_a_room_that_the_order_names():
    assert {room_of(name) for name in MODULES} - {""} <= set(ROOMS)


@every_file
def test_a_room_imports_only_rooms_listed_before_it(file):
    module = module_name(file)
    if module == "tinygrad_nn":  # the door: it imports rooms, no one imports it
        assert {room_of(name) for name in imports_of(file)} <= set(ROOMS)
        return
    assert {name for name in imports_of(file) if misplaced(module, name)} == set()


@pytest.mark.parametrize(
    "source",
    [
        "from tinygrad_nn.nn import Linear",
        "import tinygrad_nn.optim",
        "from tinygrad_nn import nn",
        "import tinygrad_nn as tn",
        "from tinygrad_nn import Tensor",
        "def late():\n    from tinygrad_nn.nn.module import Module",
        "if TYPE_CHECKING:\n    from tinygrad_nn import functional",
        "from . import nn",
        "from .nn.module import Module",
    ],
)
def test_the_reader_of_imports_sees_every_way_to_reach_a_later_room(source):
    file = ROOT / "engine.py"
    assert any(misplaced("tinygrad_nn.engine", name) for name in imports_of(file, source))


@pytest.mark.parametrize(
    "source", ["from tinygrad_nn.errors import GraphError", "import numpy", "from .derivatives import table"]
)
def test_the_reader_of_imports_allows_earlier_rooms(source):
    file = ROOT / "engine.py"
    assert not any(misplaced("tinygrad_nn.engine", name) for name in imports_of(file, source))


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imports_of(file) & set(MODULES) for name, file in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def fresh(code):
    """Run code in a new interpreter, and read the JSON that it prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def loaded_after(statement):
    return set(fresh(f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"))


def test_importing_the_package_loads_only_numpy_and_light_parts_of_the_standard_library():
    before = loaded_after("import numpy, numpy.random, numpy.typing")
    new = loaded_after("import tinygrad_nn") - before
    tops = {name.split(".")[0] for name in new}
    assert tops <= {"tinygrad_nn", "numpy", *sys.stdlib_module_names}
    heavy = {
        "argparse",
        "asyncio",
        "concurrent",
        "ctypes",
        "gzip",
        "http",
        "importlib.metadata",
        "importlib.resources",
        "logging",
        "multiprocessing",
        "pydoc",
        "sqlite3",
        "subprocess",
        "tempfile",
        "timeit",
        "tkinter",
        "unittest",
        "xml",
        "zlib",
    }
    assert new & heavy == set()
    assert not {name for name in new if room_of(name) == "testing" and name.startswith("tinygrad_nn.")}


WALK = """
import importlib, json, pkgutil, types
import tinygrad_nn as tn

before = {name: getattr(tn, name) for name in tn.__all__}
modules = {"tinygrad_nn": tn}
for info in pkgutil.walk_packages(tn.__path__, "tinygrad_nn."):
    if not info.name.endswith("__main__"):
        modules[info.name] = importlib.import_module(info.name)
rooms = {name.split(".")[1] for name in modules if "." in name}
missing, hidden, repeated = [], [], []
for home, module in modules.items():
    names = getattr(module, "__all__", [])
    repeated += [home] * (len(set(names)) != len(names))
    for name in names:
        thing = getattr(module, name, missing)
        if thing is missing:
            missing.append(f"{home}.{name}")
        elif isinstance(thing, types.ModuleType) or f"{home}.{name}" in modules:
            if thing is not modules.get(f"{home}.{name}"):  # a function hides a module, or a foreign module is public
                hidden.append(f"{home}.{name}")
replaced = [name for name, thing in before.items() if getattr(tn, name) is not thing]
unlisted = [name for name in vars(tn) if name[0] != "_" and name not in {*tn.__all__, *rooms, "annotations"}]
print(json.dumps([sorted(modules), {"missing": missing, "hidden": hidden, "repeated": repeated,
                                    "replaced": replaced, "unlisted": unlisted}]))
"""


def test_public_names_exist_and_no_module_replaces_one():
    modules, wrong = fresh(WALK)
    assert modules == sorted(MODULES)
    assert not any(wrong.values()), wrong


def public_objects():
    """Public classes and functions of the package, and public methods and properties of the classes."""
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name in getattr(loaded, "__all__", ()):
            thing = getattr(loaded, name)
            if not callable(thing) or not getattr(thing, "__module__", "").startswith("tinygrad_nn"):
                continue
            yield f"{module}.{name}", thing
            if inspect.isclass(thing):
                for attribute, value in vars(thing).items():
                    if not attribute.startswith("_") and (callable(value) or isinstance(value, property)):
                        yield f"{module}.{name}.{attribute}", value


def documented(tree, prefix=""):
    """Public functions and classes of a syntax tree, with their docstrings."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(d) for d in node.decorator_list}
            if not any(d == "overload" or d.endswith(".setter") for d in decorators):
                yield prefix + node.name, ast.get_docstring(node)
            if isinstance(node, ast.ClassDef):
                yield from documented(node, f"{prefix}{node.name}.")


def is_one_sentence(line):
    return bool(re.fullmatch(r"\S.*[^\s.]\.", line)) and not re.search(r"[.!?]\s+[A-Z]", line)


@every_file
def test_public_classes_and_functions_have_docstrings_whose_first_line_is_one_sentence(file):
    tree = tree_of(file)
    docstrings = {"module": ast.get_docstring(tree), **dict(documented(tree))}
    wrong = {
        n: d and d.splitlines()[0] for n, d in docstrings.items() if not (d and is_one_sentence(d.splitlines()[0]))
    }
    assert wrong == {}


def test_public_objects_have_docstrings_at_run_time_too():
    # functions made by differentiable, properties and aliases have no docstring that a syntax tree shows
    found = dict(public_objects())
    assert len(found) > 100
    wrong = {name for name, thing in found.items() if not is_one_sentence((inspect.getdoc(thing) or "").split("\n")[0])}
    assert wrong == set()


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("Return x itself.", True),
        ("Draw from N(0, 2 / in) (He et al., 2015): for relu.", True),
        ("Return x itself", False),
        ("Return x.  Then stop.", False),
        ("", False),
        ("...", False),
    ],
)
def test_what_counts_as_one_sentence(line, fits):
    assert is_one_sentence(line) is fits


def code_lines(source):
    """Lines that hold code: no docstrings, comments or blanks."""
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, node.end_lineno + 1))
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def test_code_lines_counts_code_only():
    source = '"""Doc.\n\nMore."""\n\nx = 1  # comment\n\n# comment\n'
    source += 'def f():\n    """Doc."""\n    return (\n        2\n    )\n'
    assert code_lines(source) == 5


@every_file
def test_no_file_has_more_than_400_lines_of_code(file):
    assert code_lines(file.read_text("utf-8")) <= 400


@every_file
def test_nothing_is_left_to_be_done(file):
    assert re.findall(r"TODO|FIXME|XXX", file.read_text("utf-8")) == []


def test_the_changelog_begins_with_this_version():
    text = (HOME / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^##\s+\[?v?(\d+\.\d+\.\d+[^\s\]]*)", text, re.MULTILINE)
    assert versions[:1] == [tn.__version__]


def test_numpy_is_the_only_dependency():
    import tomllib  # noqa: PLC0415 - only this test reads it

    project = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]
    (requirement,) = project["dependencies"]
    assert requirement.startswith("numpy>=")
    assert int(np.__version__.split(".")[0]) >= 2
