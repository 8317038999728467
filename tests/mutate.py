"""Mutation-test the derivative table: plant one mistake at a time, and see which law finds it.

    python -m tests.mutate                         every mutant of every room of the table
    python -m tests.mutate --module linalg         one room (repeat the option for several)
    python -m tests.mutate --sample 25 --seed 3    some mutants
    python -m tests.mutate --list                  also what each mutant was killed by

A mutant is the source of one room with one expression changed: an operator, a comparison, a
constant, an argument, an axis, a slice, a call or a term left out, a result replaced by its input.
Three kinds of mistakes are planted on purpose, since an ordinary change seldom makes them: wrong
for the middle axes only, wrong for some memory layouts of the upstream gradient only, and wrong for
repeated indices only.  Left alone are texts, annotations, and the checks that only raise: what the
table refuses is tested by name.

The laws are those of test_laws.py.  Each is drawn by Hypothesis once, on the table as it is; the
draws are kept, with the functions of the table that ran, and for a mutant only the draws that
come by it are played again, those of the nearest row first, until one fails.  What these leave
alive meets the tests of accuracy, tails, linear algebra and refusals.  A survivor is a mistake that
no test sees, or no mistake: mutants_explained.py says why, and an explanation that fits no survivor
is an error as well.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import inspect
import itertools
import random
import re
import signal
import sys
import time
import types
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parent))

import test_accuracy  # these after the path to them
import test_laws
import test_linalg
import test_table
import test_tails
from mutants_explained import EXPLAINED

from tinygrad_nn import derivatives
from tinygrad_nn.derivatives import table
from tinygrad_nn.testing.mutants import Change, Edits, is_text, parameters_of

ROOMS = ("elementwise", "reductions", "shaping", "indexing", "linalg", "matrices", "decompositions", "calculus")
MODULES = {room: getattr(derivatives, room) for room in ROOMS}
ROOM_OF = {module.__file__: room for room, module in MODULES.items()}

EXAMPLES = 25  # draws of each law for each row
OTHER_COUNTS = {  # for the laws that find most
    "test_every_upstream_layout_gives_the_same": 40,
    "test_gradient_of_a_random_projection_equals_the_oracle": 60,
    "test_forward_equals_numpy": 40,
    "test_arrays_of_another_library_give_the_same_in_its_own_kind": 40,
    "test_multi_dot_multiplies_in_the_cheapest_order": 60,
}
MOST_REPLAYS = 1600  # for one mutant
FEWER_AFTER = 1200  # of them
PER_NEIGHBOUR = 40  # of them, for a row that is not among the nearest
PATIENCE = 10  # a mutant that takes so many times as long as the table has an endless loop


# Where mistakes can be planted


@dataclass
class Mutant(Change):
    """One changed expression: where it stands, and how the line reads before and after."""

    room: str
    line: int
    where: str  # the function, or the row for a lambda
    before: str
    after: str
    code: int | None  # the first line of the function around it, None at the top of the module
    top: tuple[int, int]  # the lines of the statement at the top of the module
    names: frozenset[str] = frozenset()  # what a statement at the top gives a value to

    @property
    def place(self) -> str:
        return f"tinygrad_nn/derivatives/{self.room}.py:{self.line}"


UNTOUCHED_KEYWORDS = frozenset({"name", "note", "public", "strict"})
SYMMETRIC = {"max", "min", "length", "np.maximum", "np.minimum", "np.hypot", "np.multiply", "np.result_type"}
"""The order of what these take does not matter; nor does that of the axes that np.swapaxes exchanges."""
AXES = {"axis", "axis1", "axis2", "axisa", "axisb", "axisc"}


def _expression(text: str) -> Any:
    return ast.parse(text, mode="eval").body


class Planter(Edits):
    """Walks through a room and yields its mutants."""

    untouched_keywords = UNTOUCHED_KEYWORDS

    def __init__(self, room: str, tree: ast.Module) -> None:
        super().__init__(tree)
        self.room = room
        self.tree = tree

    def mutants(self) -> Iterator[Mutant]:
        seen: Counter[tuple[Any, ...]] = Counter()
        for statement in self.tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom) or is_text(statement):
                continue
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
                continue
            for change in self.walk(statement, self.tree, "body", self.tree.body.index(statement)):
                mutant = self._made(change)
                key = (id(mutant.code), mutant.where, mutant.before, mutant.after)
                if mutant.before != mutant.after and not seen[key]:
                    seen[key] += 1
                    yield mutant

    def _made(self, change: Change) -> Mutant:
        node, parent, new = change.node, change.parent, change.new
        around = [*self.stack, node]
        unit = next(n for n in reversed(around) if isinstance(n, ast.Lambda | ast.stmt | ast.Module))
        if unit is node and not isinstance(node, ast.Lambda):  # the statement itself is replaced
            unit = parent
        functions = [n for n in self.stack if isinstance(n, ast.FunctionDef | ast.Lambda)]
        top = next((n for n in around if isinstance(n, ast.stmt)), node)
        code, where = None, ""
        if functions:
            inner = functions[-1]
            code = min([inner.lineno, *(d.lineno for d in getattr(inner, "decorator_list", ()))])
            named = [f for f in functions if isinstance(f, ast.FunctionDef)]
            where = ".".join(f.name for f in named)
        if not where:
            calls = [n for n in around if isinstance(n, ast.Call)]
            where = ast.unparse(calls[0].args[0]) if calls and calls[0].args else ""
            if isinstance(top, ast.Assign):
                where = ast.unparse(top.targets[0])
            if isinstance(top, ast.AnnAssign):
                where = ast.unparse(top.target)
        names = frozenset(n.id for n in ast.walk(top) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        mutant = Mutant(
            node,
            parent,
            change.field,
            change.index,
            new,
            self.room,
            getattr(node, "lineno", parent.lineno if hasattr(parent, "lineno") else 0),
            where,
            self._text(unit, node, None),
            "",
            code,
            (top.lineno, top.end_lineno),
            names if code is None else frozenset(),
        )
        with mutant.planted():
            mutant.after = self._text(unit, node, new if isinstance(new, list) else [new])
        return mutant

    @staticmethod
    def _text(unit: Any, node: Any, new: Any) -> str:
        """The line around a change, without what is indented below it."""
        if isinstance(unit, ast.FunctionDef):
            if isinstance(node, ast.stmt):
                return "; ".join(ast.unparse(n) for n in ([node] if new is None else new))
            return f"def {unit.name}({ast.unparse(unit.args)})"
        if isinstance(unit, ast.If | ast.For | ast.While):
            if isinstance(node, ast.stmt):
                return "; ".join(ast.unparse(n) for n in ([node] if new is None else new))
            return ast.unparse(unit).split(":\n")[0]
        return ast.unparse(unit)

    def on_name(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        yield from super().on_name(node, parent, name)
        function = next((f for f in reversed(self.stack) if isinstance(f, ast.FunctionDef | ast.Lambda)), None)
        if not isinstance(node.ctx, ast.Load) or (isinstance(parent, ast.Call) and name == "func") or function is None:
            return
        parameters = parameters_of(function)
        if node.id in AXES and not self._asked(parent):  # wrong for some axes only
            yield _expression(f"(0 if isinstance({node.id}, int) and {node.id} > 0 else {node.id})")
            if node.id in parameters and not self._from_the_front(node.id, function) and self._is_entry(function):
                yield _expression(f"(-1 if isinstance({node.id}, int) and {node.id} < -1 else {node.id})")
        if node.id == "g" and not isinstance(parent, ast.Attribute) and not self._earlier("g", function, node):
            # wrong for every layout but C
            yield _expression("(g.ravel('K').reshape(g.shape) if isinstance(g, np.ndarray) else g)")
        if node.id == "index":  # wrong for repeated indices, kept as a list
            yield _expression("(tuple(index) if isinstance(index, list) else index)")

    def _asked(self, parent: Any) -> bool:
        """Whether an axis is only asked what it is."""
        return isinstance(parent, ast.Compare) or (
            isinstance(parent, ast.Call) and ast.unparse(parent.func) in ("isinstance", "len", "zip")
        )

    @staticmethod
    def _from_the_front(axis: str, function: Any) -> bool:
        """Whether a function counts an axis from the front before it uses it."""
        text = ast.unparse(function)
        return f"{axis} %" in text or f"{axis} = " in text

    @staticmethod
    def _is_entry(function: Any) -> bool:
        """Whether a function is a rule or a composition, which get axes as users write them."""
        return bool(getattr(function, "decorator_list", ())) or parameters_of(function)[:1] == ["g"]

    @staticmethod
    def _earlier(name: str, function: Any, node: Any) -> bool:
        """Whether a name is read in a function before `node`."""
        spots = [(n.lineno, n.col_offset) for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name]
        return min(spots) < (node.lineno, node.col_offset)

    def on_call(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        changes = self._registration(node) if isinstance(parent, ast.Expr) else super().on_call(node, parent, name)
        yield from (new for new in changes if not self._is_symmetric(node, new))

    @staticmethod
    def _is_symmetric(node: Any, new: Any) -> bool:
        """Whether a changed call only exchanges arguments whose order does not matter."""
        if not isinstance(new, ast.Call) or new.func is not node.func or len(new.args) != len(node.args):
            return False
        moved = [i for i, (a, b) in enumerate(zip(node.args, new.args, strict=True)) if a is not b]
        called = ast.unparse(node.func)
        return bool(moved) and (called in SYMMETRIC or (called == "np.swapaxes" and moved == [1, 2]))

    @staticmethod
    def _registration(node: Any) -> Iterator[Any]:
        """A row made wrong as a whole: rules in another order, none, or flags left out."""
        if len(node.args) > 2:
            yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1], *node.args[3:]], node.keywords)
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in UNTOUCHED_KEYWORDS:
                yield ast.Call(node.func, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])
        if ast.unparse(node.func) == "np.add.at":  # wrong for repeated indices
            y, index, g = node.args
            yield _expression(f"{ast.unparse(y)}.__setitem__({ast.unparse(index)}, {ast.unparse(g)})")


def explanation(mutant: Mutant) -> str:
    """Why a survivor is no mistake; empty if nothing says so."""
    for where, reason, lines in EXPLAINED[mutant.room]:
        if any(_fits(mutant, where, line) for line in lines):
            return reason
    return ""


def _fits(mutant: Mutant, where: str, line: str) -> bool:
    """Whether an explanation of a changed line, with ... for any text, is about a mutant of its room."""
    if mutant.where != where:
        return False
    return re.fullmatch(".*".join(map(re.escape, line.split("..."))), mutant.after, re.DOTALL) is not None


def trees() -> dict[str, ast.Module]:
    return {room: ast.parse(Path(module.__file__).read_text("utf-8")) for room, module in MODULES.items()}


# The mutated room, in place of the one that the package loaded


def _load(room: str, tree: ast.Module) -> tuple[dict[str, Any], dict[Any, Any], dict[Any, Any]]:
    """The names, rows and compositions that a room makes when its source is run anew."""
    original = MODULES[room]
    fresh = types.ModuleType(original.__name__)
    fresh.__file__ = original.__file__
    held = table.TABLE, table.COMPOSITIONS
    table.TABLE, table.COMPOSITIONS = {}, {}
    try:
        exec(compile(ast.fix_missing_locations(tree), original.__file__, "exec"), fresh.__dict__)  # noqa: S102
        return fresh.__dict__, table.TABLE, table.COMPOSITIONS
    finally:
        table.TABLE, table.COMPOSITIONS = held


PARTS = ("kernel", "rules", "name", "broadcasts", "variadic", "splits", "pullback", "bind", "selects", "plain", "note")
CACHED = ("active", "parameters", "arrays")


def _kernel_cell(function: Any) -> Any:
    """Where the function of a row of our own keeps its kernel."""
    return function.__closure__[function.__code__.co_freevars.index("kernel")]


def _is_ours(row: Any) -> bool:
    return inspect.isfunction(row.function) and "kernel" in row.function.__code__.co_freevars


def _key(row: Any) -> Any:
    """What a row is found by when its room is loaded again: NumPy's functions stay, ours do not."""
    return row.name if _is_ours(row) else row.function


class Swap:
    """Puts what a room makes into the living table, and takes it out again."""

    def __init__(self) -> None:
        self.rows = dict(table.TABLE)
        self.compositions = dict(table.COMPOSITIONS)
        self.live = {_key(row): row for row in self.rows.values()}
        self.made: dict[str, tuple[set[Any], set[Any]]] = {}
        self.lines: dict[str, list[tuple[int, Any]]] = {}
        for room, tree in trees().items():
            self.lines[room] = []
            rows, compositions = self._observed(room, tree)
            self.made[room] = ({_key(row) for row in rows.values()}, set(compositions))

    def _observed(self, room: str, tree: ast.Module) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Load a room as it is, and note the line at which each of its functions is declared."""
        lines, file = self.lines[room], MODULES[room].__file__

        def note(function: Any) -> None:
            frame: Any = sys._getframe(2)
            while frame.f_code.co_filename != file:
                frame = frame.f_back
            lines.append((frame.f_lineno, function))

        add, composition = table.add, table.composition

        def noted_add(row: Any) -> None:
            note(self.live[_key(row)].function)
            add(row)

        def noted_composition(function: Any) -> Any:
            note(function)
            return composition(function)

        table.add, table.composition = noted_add, noted_composition
        try:
            return _load(room, tree)[1:]
        finally:
            table.add, table.composition = add, composition

    @contextlib.contextmanager
    def __call__(self, room: str, tree: ast.Module) -> Iterator[None]:
        names, rows, compositions = _load(room, tree)
        held: list[tuple[Any, dict[str, Any]]] = []
        kernels: list[tuple[Any, Any]] = []
        old_rows, old_compositions = self.made[room]
        try:
            twins = {}
            for row in rows.values():
                live = self.live[_key(row)]
                twins[row.function] = live.function
                held.append((live, {part: getattr(live, part) for part in PARTS}))
                self._fill(live, {part: getattr(row, part) for part in PARTS})
                if _is_ours(live):
                    cell = _kernel_cell(live.function)
                    kernels.append((cell, cell.cell_contents))
                    cell.cell_contents = row.kernel
            for name, value in names.items():
                if inspect.isfunction(value) and value in twins:
                    names[name] = twins[value]
            for key in old_rows - {_key(row) for row in rows.values()}:
                del table.TABLE[self.live[key].function]
            for function in old_compositions - compositions.keys():
                del table.COMPOSITIONS[function]
            table.COMPOSITIONS.update(compositions)
            yield
        finally:
            for cell, kernel in kernels:
                cell.cell_contents = kernel
            for live, parts in held:
                self._fill(live, parts)
            for registry, whole in ((table.TABLE, self.rows), (table.COMPOSITIONS, self.compositions)):
                registry.clear()
                registry.update(whole)

    @staticmethod
    def _fill(row: Any, parts: dict[str, Any]) -> None:
        for part, value in parts.items():
            setattr(row, part, value)
        row.kept.clear()
        for name in CACHED:
            row.__dict__.pop(name, None)


# The laws, drawn once and played again


class Recorder:
    """Stands in for Hypothesis' data, and notes what it gives."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.drawn: list[Any] = []

    def draw(self, strategy: Any, label: Any = None) -> Any:
        self.drawn.append(self.data.draw(strategy, label))
        return self.drawn[-1]


class Player:
    """Stands in for Hypothesis' data, and gives what was drawn before."""

    def __init__(self, drawn: list[Any]) -> None:
        self.drawn = iter(drawn)

    def draw(self, strategy: Any, label: Any = None) -> Any:
        return next(self.drawn)


@dataclass
class Example:
    """One draw of one law."""

    title: str
    run: Callable[[], None]
    law: Any
    codes: frozenset[tuple[str, int]]  # the functions of the table that it comes by
    seconds: float


def _laws(*modules: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every test of some modules, with each set of options that it is run with."""
    for name, law in [pair for module in modules for pair in vars(module).items()]:
        if not (name.startswith("test_") and callable(law)):
            continue
        marks = [mark.args for mark in getattr(law, "pytestmark", ()) if mark.name == "parametrize"]
        names = [[n.strip() for n in m[0].split(",")] if isinstance(m[0], str) else list(m[0]) for m in marks]
        given_here = law.hypothesis._given_kwargs if hasattr(law, "hypothesis") else {}
        needed = inspect.signature(getattr(law, "hypothesis", law).inner_test if given_here else law).parameters
        if set(needed) - given_here.keys() - {n for group in names for n in group}:  # it asks for a fixture
            continue
        for values in itertools.product(*(m[1] for m in marks)):
            options: dict[str, Any] = {}
            for keys, value in zip(names, values, strict=True):
                options |= zip(keys, [value] if len(keys) == 1 else getattr(value, "values", value), strict=True)
            yield law, options


def _drawn(law: Any, options: dict[str, Any], most: int) -> Iterator[Callable[[], None]]:
    """The draws of a law, each as a function that runs it again."""
    if not hasattr(law, "hypothesis"):
        yield lambda: law(**options)
        return
    inner = law.hypothesis.inner_test
    found: list[Callable[[], None]] = []

    @seed(zlib.crc32(f"{law.__name__}[{_title(options)}]".encode()))  # else every law draws the same
    @settings(
        max_examples=min(most, OTHER_COUNTS.get(law.__name__, EXAMPLES)),
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(**law.hypothesis._given_kwargs)
    def once(**drawn: Any) -> None:
        recorder = Recorder(drawn.pop("data", None))
        kept = dict(drawn)
        if recorder.data is not None:
            drawn["data"] = recorder
        inner(**options, **drawn)
        found.append(lambda: inner(**options, **kept, **({"data": Player(recorder.drawn)} if "data" in drawn else {})))

    with _quiet(law):
        once()
    yield from found


@contextlib.contextmanager
def _quiet(law: Any) -> Iterator[None]:
    """Warnings are errors, but for those that a test lets pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mark in getattr(law, "pytestmark", ()):
            if mark.name == "filterwarnings":
                action, _, message = mark.args[0].partition(":")
                warnings.filterwarnings(action, message)
        yield


def _examined(law: Any, options: dict[str, Any], run: Callable[[], None]) -> Example:
    """Run on the table as it is, and note how long it takes and which functions of the table are called."""
    codes: set[tuple[str, int]] = set()
    for module in MODULES.values():
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):  # what is remembered would not be called
                value.cache_clear()

    def note(frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            room = ROOM_OF.get(frame.f_code.co_filename)
            if room is not None:
                codes.add((room, frame.f_code.co_firstlineno))

    start = time.process_time()
    sys.setprofile(note)
    try:
        with _quiet(law):
            run()
    finally:
        sys.setprofile(None)
    return Example(f"{law.__name__}[{_title(options)}]", run, law, frozenset(codes), time.process_time() - start)


class Book:
    """All examples, drawn row by row when they are asked for, `most` of a law and row."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.drawn: dict[Any, list[Example]] = {}
        self.laws: dict[Any, list[Any]] = {None: []}  # by row; None: those for no row in particular
        for law, options in _laws(test_laws):
            function = options.get("function")
            row = function if function in test_laws.DOMAINS else None
            self.laws.setdefault(row, []).append((law, options))

    def of(self, row: Any) -> list[Example]:
        if row not in self.drawn:
            laws = self.laws.get(row, ())
            self.drawn[row] = self._examples(laws)
        return self.drawn[row]

    @functools.cached_property
    def others(self) -> list[Example]:
        """What the laws of the rows are not: accuracy, tails, linear algebra, refusals."""
        laws = _laws(test_accuracy, test_tails, test_linalg, test_table)
        return self._examples(laws)

    def _examples(self, laws: Iterable[tuple[Any, dict[str, Any]]]) -> list[Example]:
        return [_examined(law, options, run) for law, options in laws for run in _drawn(law, options, self.most)]


def _title(options: dict[str, Any]) -> str:
    """The name of a law's row or point."""
    return ", ".join(
        test_laws.name_of(v) if inspect.isroutine(v) or isinstance(v, np.ufunc) else getattr(v, "name", str(v)[:40])
        for v in options.values()
    )


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End what computes longer, whatever else the machine is busy with: a mutant may loop for ever."""

    def ring(_signal: Any, _frame: Any) -> None:
        raise TimeoutError("too slow")

    held = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)  # again, should a callback swallow the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, held)


@dataclass
class Score:
    """What came of the mutants."""

    killed: list[tuple[Mutant, str]] = field(default_factory=list)
    explained: list[Mutant] = field(default_factory=list)
    survived: list[Mutant] = field(default_factory=list)


class Court:
    """Tries mutants, one after the other."""

    def __init__(self, rooms: tuple[str, ...] = ROOMS, most: int = 1000) -> None:
        self.swap = Swap()
        self.book = Book(most)
        self.trees = trees()
        self.mutants = [m for room in rooms for m in Planter(room, self.trees[room]).mutants()]

    def stale(self, survivors: list[Mutant] | None = None) -> list[str]:
        """Explanations that fit no mutant, or no survivor where all were tried."""
        rooms = {m.room for m in self.mutants}
        there = self.mutants if survivors is None else survivors
        return [
            f"{room} {where}: {line}"
            for room in sorted(rooms)
            for where, _reason, lines in EXPLAINED[room]
            for line in lines
            if not any(m.room == room and _fits(m, where, line) for m in there)
        ]

    def evidence(self, mutant: Mutant) -> Iterator[list[Example]]:
        """The examples to play again: those that come by the changed line, the nearest row's first."""
        lines = self.swap.lines[mutant.room]
        near = [f for _, f in sorted(lines, key=lambda pair: abs(pair[0] - mutant.line))]
        codes = {(mutant.room, mutant.code)}
        if mutant.code is None:
            start, stop = mutant.top
            made = [f for line, f in lines if start <= line <= stop]
            near, codes = made or near, set() if made else self._readers(mutant.room, mutant.names)
        found = 0
        for f in dict.fromkeys([*near[:1], None, *near]):
            mine = [e for e in self.book.of(f) if not codes or not codes.isdisjoint(e.codes)]
            if found > FEWER_AFTER and f is not None:
                mine = mine[:: max(1, len(mine) // PER_NEIGHBOUR)]
            found += len(mine)
            if mine:
                yield mine
            if found >= MOST_REPLAYS:
                break
        yield [e for e in self.book.others if not codes or not codes.isdisjoint(e.codes)]
        if not found:  # what makes the rows runs while a room is loaded, and never afterwards
            for f in list(dict.fromkeys(near))[:6]:
                yield self.book.of(f)

    def _readers(self, room: str, names: frozenset[str]) -> set[tuple[str, int]]:
        """The functions of a room that read a name given a value at its top."""
        found: set[tuple[str, int]] = set()
        for node in ast.walk(self.trees[room]):
            if isinstance(node, ast.FunctionDef | ast.Lambda) and any(
                isinstance(n, ast.Name) and n.id in names for n in ast.walk(node)
            ):
                found.add((room, min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])))
        return found

    def verdict(self, mutant: Mutant, rows: int | None = None) -> str:
        """Which law kills a mutant, of the nearest `rows` or of all; empty if none does."""
        few: list[Example] = []
        for examples in itertools.islice(
            self.evidence(mutant), rows
        ):  # drawn on the table as it is, so between the trials
            few += examples
            if len(few) >= 20:
                law = self._try(mutant, few)
                if law:
                    return law
                few = []
        return self._try(mutant, few)

    def _try(self, mutant: Mutant, examples: list[Example]) -> str:
        with mutant.planted():
            try:
                with contextlib.ExitStack() as stack:
                    with _limited(1):
                        stack.enter_context(self.swap(mutant.room, self.trees[mutant.room]))
                    for example in examples:
                        try:
                            with _limited(1 + PATIENCE * example.seconds), _quiet(example.law):
                                example.run()
                        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever goes wrong is what was wanted
                            return f"{example.title} {type(error).__name__}"
            except Exception as error:  # noqa: BLE001 - the room does not even load
                return f"loading: {type(error).__name__}"
        return ""

    def try_all(self, mutants: list[Mutant], say: Callable[[str], None] = lambda _: None) -> Score:
        score = Score()
        for k, mutant in enumerate(mutants):
            law = self.verdict(mutant)
            if law and not ("TimeoutError" in law and explanation(mutant)):  # a longer way is explained, if at all
                score.killed.append((mutant, law))
            else:
                (score.explained if explanation(mutant) else score.survived).append(mutant)
            say(f"{k + 1}/{len(mutants)}: {len(score.survived)} survivors")
        return score


def sampled(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    return random.Random(seed).sample(mutants, min(count, len(mutants)))


def of_one_function_a_room(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Up to `count` mutants for each room, all of one function: their evidence is drawn once."""
    chance, found = random.Random(seed), []
    for room in dict.fromkeys(m.room for m in mutants):
        where = chance.choice(list(dict.fromkeys(m.where for m in mutants if m.room == room)))
        found += sampled([m for m in mutants if m.room == room and m.where == where], count, seed)
    return found


def report(score: Score, stale: list[Any], seconds: float, *, everything: bool) -> str:
    """The outcome, in words."""
    lines = []
    if everything:
        lines += [f"{m.place}: {m.before}\n    -> {m.after}\n    killed by {law}" for m, law in score.killed]
        lines += [f"{m.place}: {m.before}\n    -> {m.after}\n    no mistake: {explanation(m)}" for m in score.explained]
    lines += [f"SURVIVED {m.place} in {m.where}\n  - {m.before}\n  + {m.after}" for m in score.survived]
    lines += [f"EXPLAINED, BUT NO SURVIVOR: {text}" for text in stale]
    names = ("taking too long" if "TimeoutError" in law else re.split(r"[\[:]", law)[0] for _, law in score.killed)
    by_law = Counter(names)
    lines += [f"{n:6} killed by {law}" for law, n in by_law.most_common()]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for i, mutants in enumerate(([m for m, _ in score.killed], score.explained, score.survived)):
        for m in mutants:
            counts[m.room][i] += 1
    for room, (killed, explained, survived) in counts.items():
        total = killed + survived
        share = 100 * killed / total if total else 100.0
        lines.append(f"{room:15} {killed:5} killed {explained:4} explained {survived:4} survived {share:6.1f} %")
    killed, explained, survived = (sum(c[i] for c in counts.values()) for i in range(3))
    lines.append(
        f"{killed + explained + survived} mutants: {killed} killed, {explained} explained as equivalent, "
        f"{survived} survived, in {seconds:.0f} s"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__.split("\n")[0])
    parser.add_argument("--module", action="append", choices=ROOMS, help="a room of the table (default: all)")
    parser.add_argument("--sample", type=int, help="try so many mutants only")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--list", action="store_true", help="show every mutant, and the law that killed it")
    options = parser.parse_args()
    start = time.monotonic()
    court = Court(tuple(options.module or ROOMS))
    mutants = court.mutants if options.sample is None else sampled(court.mutants, options.sample, options.seed)

    def say(line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line} ")

    score = court.try_all(mutants, say)
    stale = court.stale(score.explained if options.sample is None else None)
    sys.stdout.write(report(score, stale, time.monotonic() - start, everything=options.list) + "\n")
    return int(bool(score.survived or stale))


if __name__ == "__main__":
    raise SystemExit(main())
