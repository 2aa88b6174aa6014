"""Every error code is documented, and provoked by a test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from edgec.pipeline.core.errors import EdgecError, nearest_hint

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pipeline", "targets", "calib_data")


@cache
def raised_codes() -> dict[str, str]:
    """Codes given to ``EdgecError``, or to a function that takes the code, with their file."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    for code in _codes(node):
                        found.setdefault(code, str(path.relative_to(ROOT)))
    return found


def _codes(call: ast.Call) -> list[str]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    position = {"EdgecError": 0, "Refusal": 0, "read_toml": 1, "validate": 3}.get(name)
    if position is None or len(call.args) <= position or isinstance(call.args[position], ast.Starred):
        return []
    return [
        node.value
        for node in ast.walk(call.args[position])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_codes_are_found() -> None:
    assert {"unknown-model", "corrupt-artifact", "bad-board"} <= raised_codes().keys()
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", code) for code in raised_codes())


@pytest.mark.parametrize("code", sorted(raised_codes()))
def test_code_is_documented(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "errors.md").read_text(), (
        f"docs/errors.md does not explain {code} ({raised_codes()[code]})"
    )


@pytest.mark.parametrize("code", sorted(raised_codes()))
def test_code_is_provoked(code: str) -> None:
    """A test names the code; what it asserts is that test's business."""
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_errors.py"]
    assert any(f'"{code}"' in path.read_text() for path in tests), f"no test provokes {code} ({raised_codes()[code]})"


def test_documented_codes_exist() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(rows) == rows, "keep the table sorted"
    assert not set(rows) - raised_codes().keys()


def test_text_of_an_error() -> None:
    error = EdgecError("unknown-target", "no target named 'jetsn'", "did you mean 'jetson'?")
    assert str(error) == "error[unknown-target]: no target named 'jetsn'\nhint: did you mean 'jetson'?"
    assert str(EdgecError("x", "y")) == "error[x]: y"


def test_nearest_hint() -> None:
    assert nearest_hint("jetsn", ["cpu", "jetson"]) == "did you mean 'jetson'?"
    assert nearest_hint("zzz", ["cpu", "arm"]) == "known: arm, cpu"
