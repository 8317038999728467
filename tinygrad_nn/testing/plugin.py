"""The pytest plugin: fixture `gradcheck`, option ``--gradcheck``, and the report in a section of its own.

Every pytest run of an environment loads it, so it imports neither NumPy nor the rest of the package
before the fixture is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gradcheck``."""
    parser.getgroup("tinygrad_nn").addoption(
        "--gradcheck",
        choices=("fast", "full"),
        default="full",
        help="how thoroughly the gradcheck fixture looks (default: full)",
    )


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`tinygrad_nn.testing.check_gradients` with the mode of ``--gradcheck`` and a seed made from the test's id."""

    def check(fn: Any, *inputs: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        from tinygrad_nn.testing import check_gradients  # noqa: PLC0415 - not before it is used

        options.setdefault("seed", zlib.crc32(request.node.nodeid.encode()))
        options.setdefault("mode", request.config.getoption("--gradcheck"))
        return check_gradients(fn, *inputs, **options)

    return check


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failed check as a section, and in the traceback only its headline."""
    error = call.excinfo.value if call.excinfo is not None else None
    failed = type(error).__name__ == "GradientError" and hasattr(error, "brief")
    if failed:
        error.brief = True  # type: ignore[union-attr]
    report = yield
    if failed:
        report.sections.append(("gradient check", str(error.report)))  # type: ignore[union-attr]
    return report
