"""The pytest plugin: fixture `gradcheck`, its options, and the report in a section of its own.

Every pytest run of an environment loads it, so it imports neither NumPy nor the rest of the package
before the fixture is used.
"""

from __future__ import annotations

import types
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

CURRENT = pytest.StashKey[pytest.Item]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gradcheck`` and ``--gradcheck-mutants``."""
    group = parser.getgroup("tinygrad_nn")
    group.addoption(
        "--gradcheck",
        choices=("fast", "full"),
        default="full",
        help="how thoroughly the gradcheck fixture looks (default: full)",
    )
    group.addoption(
        "--gradcheck-mutants",
        action="store_true",
        help="afterwards, plant one mistake at a time in each rule that gradcheck was given, run the tests of that "
        "rule again, and list the mistakes that they do not notice (slow; runs edited copies of your code)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the list of the rules that were checked, where it is asked for."""
    if config.getoption("--gradcheck-mutants"):
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--gradcheck-mutants runs in one process: leave out -n")
        config.pluginmanager.register(_Mutants(), "tinygrad_nn_mutants")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take note of the test that runs."""
    item.config.stash[CURRENT] = item


@pytest.fixture(scope="session")
def gradcheck(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`tinygrad_nn.testing.check_gradients` with the mode of ``--gradcheck`` and a seed made from the test's id.

    Of the widest scope, so that it also serves Hypothesis, and fixtures of modules and sessions.
    """
    config = request.config

    def check(fn: Any, *inputs: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        from tinygrad_nn.testing import check_gradients  # noqa: PLC0415 - not before it is used

        item = config.stash[CURRENT]
        options.setdefault("seed", zlib.crc32(item.nodeid.encode()))
        options.setdefault("mode", config.getoption("--gradcheck"))
        mutants: Any = config.pluginmanager.get_plugin("tinygrad_nn_mutants")
        if mutants is not None and isinstance(options.get("rule"), types.FunctionType):
            options["rule"] = mutants.met(options["rule"], item, inputs)
        return check_gradients(fn, *inputs, **options)

    return check


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failed check as a section, and in the traceback only its headline."""
    error = call.excinfo.value if call.excinfo is not None else None
    failed = type(error).__name__ == "GradientError" and hasattr(error, "brief")
    if failed:
        error.brief = True  # type: ignore[union-attr]
    report = yield
    if failed:
        colour = item.config.get_terminal_writer().hasmarkup  # --color, NO_COLOR and FORCE_COLOR, as pytest reads them
        report.sections.append(("gradient check", error.report.render(colour=colour)))  # type: ignore[union-attr]
    return report


class _Rule:
    """A rule that the fixture was given, the tests that gave it, and what its mutants came to."""

    def __init__(self, function: types.FunctionType, inputs: tuple[Any, ...]) -> None:
        self.function = function
        self.code = function.__code__
        self.inputs = inputs
        self.items: list[pytest.Item] = []
        self.counts = {"noticed": 0, "not noticed": 0, "no mistake": 0}
        self.lines: list[str] = []


class _Mutants:
    """Collects the rules under test, and runs their tests again with a mistake planted."""

    def __init__(self) -> None:
        self.rules: dict[types.CodeType, _Rule] = {}
        self.passed: set[str] = set()
        self.planted: dict[types.CodeType, types.CodeType] = {}
        self.running = False

    def met(self, function: types.FunctionType, item: pytest.Item, inputs: tuple[Any, ...]) -> types.FunctionType:
        """Take note of a rule; while a mistake is planted in it, give the rule with the mistake."""
        if self.running:
            code = self.planted.get(function.__code__)
            return function if code is None else _with_code(function, code)
        rule = self.rules.setdefault(function.__code__, _Rule(function, inputs))
        if item not in rule.items:
            rule.items.append(item)
        return function

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which tests pass as they are."""
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """After all tests, plant the mistakes."""
        result = yield
        self.running = True
        for rule in self.rules.values():
            items = [item for item in rule.items if item.nodeid in self.passed]
            if not items:
                rule.lines.append("no mistake was planted: its tests fail as they are")
            elif not session.shouldstop:
                self._try(rule, items)
        return result

    def _try(self, rule: _Rule, items: list[pytest.Item]) -> None:
        from tinygrad_nn.errors import ArgumentError  # noqa: PLC0415 - not before it is used
        from tinygrad_nn.testing.mutants import equivalent, mutants  # noqa: PLC0415

        try:
            every = list(mutants(rule.function))
        except ArgumentError as error:
            rule.lines.append(str(error))
            return
        for mutant in every:
            with self._plant(rule, mutant.code):
                noticed = any(_fails(item) for item in items)
            if noticed:
                rule.counts["noticed"] += 1
            elif equivalent(rule.function, mutant.function, rule.inputs):
                rule.counts["no mistake"] += 1
            else:
                rule.counts["not noticed"] += 1
                rule.lines.append(f"line {mutant.line}: {mutant.before}  ->  {mutant.after}")

    @contextmanager
    def _plant(self, rule: _Rule, code: types.CodeType) -> Iterator[None]:
        """Put edited code into the rule's own function, and into those that its test makes anew."""
        self.planted = {rule.code: code}
        rule.function.__code__ = code
        try:
            yield
        finally:
            rule.function.__code__ = rule.code
            self.planted = {}

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List what the tests do not notice."""
        terminalreporter.section("gradient check mutants")
        if not self.rules:
            terminalreporter.line("no test gave gradcheck a rule= to plant mistakes in")
        for rule in self.rules.values():
            place = f"{rule.code.co_qualname} ({rule.code.co_filename}:{rule.code.co_firstlineno})"
            counts = ", ".join(f"{count} {name}" for name, count in rule.counts.items())
            terminalreporter.line(f"{place}: {counts}")
            for line in rule.lines:
                terminalreporter.line(f"  {line}")


def _with_code(function: types.FunctionType, code: types.CodeType) -> types.FunctionType:
    made = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _fails(item: pytest.Item) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))
