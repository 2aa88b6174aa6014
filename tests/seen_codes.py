"""A pytest plugin: which error codes edgec raised while the tests ran.

A run of all tests (none chosen, none deselected) ends with the codes of the source that no test raised. It fails
there with ``--all-codes``; a missing tool may be the reason. A script that ships to a device runs in a
process of its own: the helper of the tests that reads such an answer notes its code. Workers of pytest-xdist tell
what they saw, and whether tests were deselected, to the process that started them, which judges.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from edgec.pipeline.core.errors import EdgecError

FOLDERS = ("pipeline", "targets", "calib_data")
CODE_POSITION = {"EdgecError": 0, "Refusal": 0, "read_record": 2, "read_toml": 1, "validate": 3}
"""Which argument of these calls is a code."""

SEEN: set[str] = set()


def note(code: str) -> None:
    """Of an answer that came out of another process."""
    SEEN.add(code)


@cache
def raised_codes() -> dict[str, str]:
    """Codes that the source gives to ``EdgecError``, or to a function that takes the code, with their file."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    for code in _codes(node):
                        found.setdefault(code, str(path.relative_to(ROOT)))
    return found


def codes_of(place: Path) -> set[str]:
    """Codes that one file, or a folder's files, gives to errors."""
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return {code for node in nodes if isinstance(node, ast.Call) for code in _codes(node)}


def _codes(call: ast.Call) -> list[str]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    position = CODE_POSITION.get(name)
    if position is None or len(call.args) <= position or isinstance(call.args[position], ast.Starred):
        return []
    constants = (node.value for node in ast.walk(call.args[position]) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


class SeenCodes:
    """Notes the code of every error that edgec makes, and compares at the end of a whole run."""

    def __init__(self) -> None:
        self.whole = True
        self.unseen: list[str] = []
        self._made = EdgecError.__init__

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        worker = hasattr(session.config, "workerinput")  # whose arguments the starting process has judged
        self.whole = worker or session.config.args_source == pytest.Config.ArgsSource.TESTPATHS
        made = self._made

        def noting(error: EdgecError, code: str, message: str, hint: str = "") -> None:
            if sys._getframe(1).f_globals["__name__"].startswith("edgec."):  # a test's own error proves nothing
                SEEN.add(code)
            made(error, code, message, hint)

        EdgecError.__init__ = noting  # type: ignore[method-assign]

    def pytest_deselected(self) -> None:
        self.whole = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of xdist has ended."""
        told = getattr(node, "workeroutput", {})
        SEEN.update(told.get("edgec_seen", ()))
        self.whole = self.whole and told.get("edgec_whole", False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        EdgecError.__init__ = self._made  # type: ignore[method-assign]
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output |= {"edgec_seen": sorted(SEEN), "edgec_whole": self.whole}
            return
        if not self.whole or session.exitstatus != pytest.ExitCode.OK or session.testscollected == 0:
            return
        self.unseen = sorted(raised_codes().keys() - SEEN)
        if self.unseen and session.config.getoption("--all-codes"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for code in self.unseen:
            terminalreporter.write_line(f"no test raised {code} ({raised_codes()[code]})", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-codes", action="store_true", help="fail a whole run in which some error code was not raised"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SeenCodes(), "edgec-seen-codes")
