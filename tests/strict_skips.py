"""A pytest plugin: in CI a test may be skipped only where ``allowed_skips.toml`` says so.

Active with ``--strict-skips``, which ``CI=true`` in the environment implies. Counts by reason are printed always.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from edgec.pipeline.core.toml_file import STRICT, read_toml, validate

LIST = Path(__file__).with_name("allowed_skips.toml")


@dataclass(frozen=True)
class Allowed:
    """One entry of the list.

    Attributes:
        test: pattern of node ids, as in ``fnmatch``.
        says: pattern of the reason that the test gives.
        because: why nothing is lost.
    """

    __pydantic_config__ = STRICT

    test: str
    says: str
    because: str

    def fits(self, skip: Skip) -> bool:
        return fnmatchcase(skip.test, self.test) and fnmatchcase(skip.reason, self.says)


@dataclass(frozen=True)
class Skip:
    """A test, or a whole file, that was skipped, and the reason that it gave."""

    test: str
    reason: str


@dataclass(frozen=True)
class _List:
    __pydantic_config__ = STRICT

    skip: list[Allowed]


def read_list(path: Path = LIST) -> list[Allowed]:
    return validate(_List, read_toml(path, "bad-list"), path, "bad-list").skip


def surplus(skips: Sequence[Skip], allowed: Sequence[Allowed]) -> list[Skip]:
    """Those that the list does not name."""
    return [skip for skip in skips if not any(entry.fits(skip) for entry in allowed)]


def unused(skips: Sequence[Skip], allowed: Sequence[Allowed]) -> list[Allowed]:
    """Entries that fit no skip."""
    return [entry for entry in allowed if not any(entry.fits(skip) for skip in skips)]


class StrictSkips:
    """Collects the skips of a session and judges them at its end."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.allowed = read_list()
        self.skips: list[Skip] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.skips.append(Skip(report.nodeid, reason.removeprefix("Skipped: ")))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.strict and session.exitstatus == pytest.ExitCode.OK and surplus(self.skips, self.allowed):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for reason, count in Counter(skip.reason for skip in self.skips).most_common():
            terminalreporter.write_line(f"skipped {count}: {reason}")
        if not self.strict:
            return
        for entry in unused(self.skips, self.allowed):
            terminalreporter.write_line(f"allowed, but not skipped here: {entry.test} ({entry.says})")
        for skip in surplus(self.skips, self.allowed):
            terminalreporter.write_line(f"NOT ALLOWED to be skipped: {skip.test} ({skip.reason})", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="fail where a test is skipped that tests/allowed_skips.toml does not name",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(StrictSkips(config.getoption("--strict-skips")), "edgec-strict-skips")
