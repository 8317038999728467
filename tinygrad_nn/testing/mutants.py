"""Single edits of Python functions: the mistakes that mutation tests plant, one at a time."""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_nn.errors import ArgumentError

__all__ = ["Change", "Edits", "Mutant", "equivalent", "is_text", "mutants", "parameters_of"]

BINARY: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_PAIRS = (
    ("sin", "cos"),
    ("sinh", "cosh"),
    ("exp", "log"),
    ("max", "min"),
    ("maximum", "minimum"),
    ("any", "all"),
    ("zeros", "ones"),
    ("sum", "prod"),
    ("cumsum", "cumprod"),
    ("isnan", "isfinite"),
    ("tril", "triu"),
    ("less", "greater"),
    ("sqrt", "square"),
    ("rint", "floor"),
    ("abs", "sign"),
    ("hsplit", "vsplit"),
    ("argsort", "argpartition"),
)
NAMES = {a: b for one, other in _PAIRS for a, b in ((one, other), (other, one))}
TEXTS = {"C": "F", "F": "C", "left": "right", "right": "left", "L": "U", "U": "L", "full": "valid", "fro": "nuc"}
CONVERSIONS = {"list", "tuple", "int", "float", "plain", "own", "composition"}
NEUTRAL = {(ast.Mult, 1), (ast.Add, 0), (ast.Pow, 1)}
SKIPPED = {"annotation", "returns", "decorator_list", "targets", "target", "ctx", "op", "ops"}


@dataclass
class Change:
    """One node in the place of another: in field `field` of `parent`, at `index` where that is a list."""

    node: Any
    parent: Any
    field: str
    index: int | None
    new: Any

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Change the syntax tree for a while."""
        held = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            setattr(self.parent, self.field, [*held[: self.index], *self.new, *held[self.index + 1 :]])
        try:
            yield
        finally:
            setattr(self.parent, self.field, held)


def parameters_of(function: Any) -> list[str]:
    """The names that a function's positional arguments go by."""
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args)]


class Edits:
    """Walks through a syntax tree and yields every single edit of it.

    An operator, a comparison, a constant, a name, a slice, a call or a term left out, a result
    replaced by an argument.  Texts, annotations and checks that only raise are left alone.
    Subclasses add edits of their own: one method ``on_x`` for each kind of node.
    """

    untouched_keywords: frozenset[str] = frozenset()

    def __init__(self, tree: Any) -> None:
        self.stack: list[Any] = [tree]

    def walk(self, node: Any, parent: Any, name: str, index: int | None) -> Iterator[Change]:
        """Iterate over the edits of a node and of all that is below it."""
        if isinstance(node, ast.Raise) or is_text(node):
            return
        if isinstance(node, ast.If) and all(isinstance(s, ast.Raise) for s in node.body):
            for i, below in enumerate(node.orelse):
                yield from self._below(node, "orelse", i, below)
            return
        if isinstance(node, ast.keyword) and node.arg in self.untouched_keywords:
            return
        visit = getattr(self, f"on_{type(node).__name__.lower()}", None)
        for new in visit(node, parent, name) if visit is not None else ():
            several = new if isinstance(new, list) else [new]
            yield Change(node, parent, name, index, several if index is not None else several[0])
        for key, value in ast.iter_fields(node):
            if key not in SKIPPED:
                parts: list[Any] = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
                for at, below in parts:
                    if isinstance(below, ast.AST):
                        yield from self._below(node, key, at, below)

    def _below(self, node: Any, key: str, i: int | None, below: Any) -> Iterator[Change]:
        self.stack.append(node)
        yield from self.walk(below, node, key, i)
        self.stack.pop()

    def on_binop(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """Another operator, one side only, sides exchanged."""
        for kind in BINARY.get(type(node.op), ()):
            if not (isinstance(node.right, ast.Constant) and (type(node.op), node.right.value) in NEUTRAL):
                yield ast.BinOp(node.left, kind(), node.right)
        yield node.left
        yield node.right
        if isinstance(node.op, ast.MatMult | ast.Sub | ast.Div | ast.Pow):
            yield ast.BinOp(node.right, node.op, node.left)

    def on_augassign(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """Another operator, assigned in place of added, left out."""
        for kind in BINARY.get(type(node.op), ()):
            yield ast.AugAssign(node.target, kind(), node.value)
        if isinstance(node.target, ast.Subscript):
            yield ast.Assign([node.target], node.value, lineno=node.lineno)
        yield ast.Pass()

    def on_compare(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """Another comparison."""
        for i, op in enumerate(node.ops):
            for kind in COMPARE[type(op)]:
                yield ast.Compare(node.left, [*node.ops[:i], kind(), *node.ops[i + 1 :]], node.comparators)

    def on_boolop(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """Or for and, a condition left out."""
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for i in range(len(node.values)):
            rest = [*node.values[:i], *node.values[i + 1 :]]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)

    def on_unaryop(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """The sign left out."""
        yield node.operand

    def on_constant(self, node: Any, parent: Any, _name: str) -> Iterator[Any]:
        """Another number or flag."""
        value = node.value
        if isinstance(value, bool):
            yield ast.Constant(not value)
        elif isinstance(value, int):
            if not (isinstance(parent, ast.UnaryOp) and value == 1):  # -2 for -1 is much the same in NumPy
                yield ast.Constant(value + 1)
            yield ast.UnaryOp(ast.USub(), ast.Constant(1)) if value == 0 else ast.Constant(value - 1)
        elif isinstance(value, float):
            yield ast.Constant(value + 1)
        elif isinstance(value, str) and value in TEXTS:
            yield ast.Constant(TEXTS[value])

    def on_name(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        """Another function, another argument."""
        if not isinstance(node.ctx, ast.Load):
            return
        if isinstance(parent, ast.Call) and name == "func":
            if node.id in NAMES:
                yield ast.Name(NAMES[node.id], ast.Load())
            return
        function = next((f for f in reversed(self.stack) if isinstance(f, ast.FunctionDef | ast.Lambda)), None)
        if function is not None:
            parameters = parameters_of(function)
            if node.id in parameters:
                at = parameters.index(node.id)
                for step in (1, -1):
                    other = parameters[(at + step) % len(parameters)]
                    if other != node.id:
                        yield ast.Name(other, ast.Load())

    def on_attribute(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        """Another function, no transpose."""
        if node.attr in NAMES:
            yield ast.Attribute(node.value, NAMES[node.attr], ast.Load())
        if node.attr == "T":
            yield node.value

    def on_call(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """Arguments exchanged or left out, the argument in place of the result."""
        positional = [a for a in node.args if not isinstance(a, ast.Starred)]
        if len(positional) == len(node.args):
            for i in range(len(positional) - 1):
                swapped = [*positional[:i], positional[i + 1], positional[i], *positional[i + 2 :]]
                yield ast.Call(node.func, swapped, node.keywords)
            if len(positional) > 1:
                yield ast.Call(node.func, positional[:-1], node.keywords)
        for i, keyword in enumerate(node.keywords):
            if keyword.arg is not None and keyword.arg not in self.untouched_keywords:
                yield ast.Call(node.func, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])
        root = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(node.func, ast.Attribute) and not (isinstance(root, ast.Name) and root.id in ("np", "math")):
            yield node.func.value
        if positional and not (isinstance(node.func, ast.Name) and node.func.id in CONVERSIONS):
            yield positional[0]
            if ast.unparse(node.func) == "np.where" and len(positional) == 3:
                yield positional[1]
                yield positional[2]

    def on_slice(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """A bound left out."""
        for part in ("lower", "upper", "step"):
            if getattr(node, part) is not None:
                left: Any = {p: getattr(node, p) for p in ("lower", "upper", "step") if p != part}
                yield ast.Slice(**left)

    def on_ifexp(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """One branch always."""
        yield node.body
        yield node.orelse

    def on_if(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """One branch always."""
        if isinstance(self.stack[-1], ast.Module):
            return
        yield ast.If(ast.Constant(True), node.body, node.orelse)
        yield ast.If(ast.Constant(False), node.body, node.orelse)

    def on_return(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """The first argument in place of the result."""
        parameters = parameters_of(next(f for f in reversed(self.stack) if isinstance(f, ast.FunctionDef)))
        if node.value is not None and parameters:
            yield ast.Return(ast.Name(parameters[0], ast.Load()))

    def on_lambda(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """The first argument in place of the result."""
        parameters = parameters_of(node)
        if parameters:
            yield ast.Lambda(node.args, ast.Name(parameters[0], ast.Load()))

    def on_comprehension(self, node: Any, _parent: Any, _name: str) -> Iterator[Any]:
        """A condition left out."""
        for i in range(len(node.ifs)):
            yield ast.comprehension(node.target, node.iter, [*node.ifs[:i], *node.ifs[i + 1 :]], node.is_async)


def is_text(node: Any) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


# Mutants of one backward pass


class BackwardEdits(Edits):
    """Edits of a backward pass: also every other name in reach, sums for means, and other activations."""

    others: dict[str, str] = {"mean": "sum", "sum": "mean", "tanh": "sinh", "sinh": "tanh"}  # noqa: RUF012 - constant

    def __init__(self, tree: Any, names: list[str]) -> None:
        super().__init__(tree)
        self.names = names

    def on_name(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        """Another name in reach."""
        if isinstance(node.ctx, ast.Load) and node.id in self.names:
            for other in self.names:
                if other != node.id:
                    yield ast.Name(other, ast.Load())

    def on_attribute(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        """Another function too."""
        yield from super().on_attribute(node, parent, name)
        if node.attr in self.others:
            yield ast.Attribute(node.value, self.others[node.attr], ast.Load())

    def on_binop(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        """A sum in place of a product too."""
        yield from super().on_binop(node, parent, name)
        if isinstance(node.op, ast.Mult):
            yield ast.BinOp(node.left, ast.Add(), node.right)

    def on_constant(self, node: Any, parent: Any, name: str) -> Iterator[Any]:
        """A number doubled, too."""
        yield from super().on_constant(node, parent, name)
        if type(node.value) in {int, float} and node.value not in {0, 1}:
            yield ast.Constant(node.value * 2)


@dataclass
class Mutant:
    """A function with one edit.

    Attributes
    ----------
    file, line : where the edit is
    before, after : the line without and with it
    code : what to put in the place of the function's ``__code__``
    function : a function of its own that has it
    """

    file: str
    line: int
    before: str
    after: str
    code: types.CodeType
    function: Any


def mutants(function: Any) -> Iterator[Mutant]:
    """Iterate over the single edits of a backward pass, each as a function of its own.

    `function` is a rule (what is edited is the function inside it that it returns), or a function
    that is a backward pass itself.

    Raises
    ------
    ArgumentError
        If there is no source to edit: builtins, lambdas, functions made by `exec`.

    Examples
    --------
    A function typed at a prompt has no source; the rules of a file have:

    >>> mutants(abs)
    Traceback (most recent call last):
    ...
    tinygrad_nn.errors.ArgumentError: abs has no source to edit: write the rule as a def in a file
    """
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        whole: Any = tree.body[0]
    except (OSError, TypeError, SyntaxError):
        whole = None
    if code is None or not isinstance(whole, ast.FunctionDef) or whole.name != code.co_name:
        name = getattr(function, "__name__", str(function))
        raise ArgumentError(f"{name} has no source to edit: write the rule as a def in a file")
    return _mutants(function, tree, whole)


def _mutants(function: Any, tree: Any, whole: Any) -> Iterator[Mutant]:
    code = function.__code__
    whole.decorator_list = []
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    inner: list[Any] = [n for n in ast.walk(whole) if isinstance(n, ast.FunctionDef | ast.Lambda) and n is not whole]
    backward: list[Any] = [n for n in inner if not any(n is not m and n in ast.walk(m) for m in inner)] or [whole]
    module = ast.Module([_with_closure(whole, code.co_freevars)], [])
    seen = {ast.unparse(module)}
    for target in backward:
        edits = BackwardEdits(tree, _names(whole, target))
        edits.stack.append(target)
        body: list[Any] = target.body if isinstance(target.body, list) else [target.body]
        for i, part in enumerate(body):
            place = i if isinstance(target.body, list) else None
            for change in edits.walk(part, target, "body", place):
                line: int = getattr(change.node, "lineno", getattr(change.parent, "lineno", part.lineno))
                before = _line(part, line)
                with change.planted():
                    text = ast.unparse(module)
                    now = target.body[i] if isinstance(target.body, list) else target.body
                    after = _line(now, line)
                    if text in seen:
                        continue
                    seen.add(text)
                    try:
                        made = compile(ast.fix_missing_locations(module), code.co_filename, "exec")
                    except (SyntaxError, ValueError):
                        continue
                found = _find(made, whole.name)
                if found is not None and found.co_freevars == code.co_freevars:
                    changed = types.FunctionType(
                        found, function.__globals__, function.__name__, function.__defaults__, function.__closure__
                    )
                    changed.__kwdefaults__ = function.__kwdefaults__
                    yield Mutant(code.co_filename, line, before, after, found, changed)


def equivalent(rule: Any, mutant: Any, inputs: Sequence[Any]) -> bool:
    """Whether a mutant of a rule is no mistake: the same gradients at six random points of the same shapes.

    Examples
    --------
    >>> import numpy as np
    >>> def double(x):
    ...     return 2 * x, lambda g: (2 * g,)
    >>> def other(x):
    ...     return 2 * x, lambda g: (g + g,)
    >>> equivalent(double, other, [np.ones(3)])
    True
    """
    rng = np.random.default_rng(0)
    for number in range(6):
        points = [_drawn(x, rng, number) for x in inputs]
        try:
            with np.errstate(all="ignore"):
                y, back = rule(*[copy.deepcopy(p) for p in points])
                g = rng.standard_normal(np.shape(y))
                right = back(g.copy())
        except Exception:  # noqa: BLE001, S112 - a point outside the domain tells nothing
            continue
        try:
            with np.errstate(all="ignore"):
                wrong = mutant(*[copy.deepcopy(p) for p in points])[1](g.copy())
        except Exception:  # noqa: BLE001 - where the rule works, its edit must
            return False
        if not _same(right, wrong):
            return False
    return True


def _drawn(x: Any, rng: np.random.Generator, number: int) -> Any:
    """Another array of the same shape and dtype, every second time of the same signs."""
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "f"):
        return x
    values = rng.uniform(0.3, 2, x.shape)
    return np.asarray(values * (np.where(x < 0, -1, 1) if number % 2 else rng.choice([-1, 1], x.shape)), x.dtype)


def _same(right: Any, wrong: Any) -> bool:
    if not isinstance(right, tuple) or not isinstance(wrong, tuple) or len(right) != len(wrong):
        return type(right) is type(wrong) and not isinstance(right, tuple) and _same((right,), (wrong,))
    for a, b in zip(right, wrong, strict=True):
        if a is None or b is None:
            if a is not b:
                return False
        elif np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True):
            return False
    return True


def _names(whole: Any, target: Any) -> list[str]:
    """The names of arrays that are in reach of a backward pass: arguments, and what is assigned before or in it."""
    found = parameters_of(whole)
    for part in ast.walk(whole):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.append(part.id)
    return [*dict.fromkeys([*found, *parameters_of(target)])]


def _line(node: Any, line: int) -> str:
    """The statement that stands at a line, on one line."""
    nodes = [n for n in ast.walk(node) if isinstance(n, ast.stmt)]
    inner = [n for n in nodes if getattr(n, "lineno", line) <= line <= (getattr(n, "end_lineno", None) or line)]
    return ast.unparse(inner[-1] if inner else node).split("\n", maxsplit=1)[0]


def _with_closure(whole: Any, free: tuple[str, ...]) -> Any:
    """The function inside another one that has its free variables, so that it compiles to the same closure."""
    uses = [ast.If(ast.Constant(False), [ast.Expr(ast.Name(n, ast.Load())) for n in free], [])] if free else []
    text = whole.body[:1] if is_text(whole.body[0]) else []
    whole.body = [*text, *uses, *whole.body[len(text) :]]
    outer: Any = ast.parse(f"def __outer__({', '.join(free)}): pass").body[0]
    outer.body = [whole]
    return outer


def _find(code: types.CodeType, name: str) -> types.CodeType | None:
    outer = next(c for c in code.co_consts if isinstance(c, types.CodeType))
    return next((c for c in outer.co_consts if isinstance(c, types.CodeType) and c.co_name == name), None)
