"""Every error code is documented, and provoked by a test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from places import ROOT, TESTS
from seen_codes import SEEN, raised_codes

from edgec.pipeline.core.errors import EdgecError, nearest_hint


def test_codes_are_found() -> None:
    assert {"unknown-model", "corrupt-artifact", "bad-board"} <= raised_codes().keys()
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", code) for code in raised_codes())


@pytest.mark.parametrize("code", sorted(raised_codes()))
def test_code_is_documented(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "errors.md").read_text(), (
        f"docs/errors.md does not explain {code} ({raised_codes()[code]})"
    )


@cache
def expected_codes() -> set[str]:
    """String constants of all tests, docstrings apart."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        if path != Path(__file__).resolve():
            tree = ast.parse(path.read_text())
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            constants = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in texts)
            found |= {node.value for node in constants if isinstance(node.value, str)}
    return found


@pytest.mark.parametrize("code", sorted(raised_codes()))
def test_a_test_expects_the_code(code: str) -> None:
    """Whether it was raised too is told at the end of a run of all tests (``seen_codes.py``)."""
    assert code in expected_codes(), f"no test expects {code} ({raised_codes()[code]})"


def test_a_code_is_seen_where_edgec_raises_it_and_not_where_a_test_does(tmp_path: Path) -> None:
    from edgec.pipeline.core.toml_file import read_toml

    seen = set(SEEN)
    EdgecError("made-by-a-test", "", "")
    (tmp_path / "bad.toml").write_text("=")
    with pytest.raises(EdgecError):
        read_toml(tmp_path / "bad.toml", "made-by-edgec-itself")
    assert SEEN - seen == {"made-by-edgec-itself"}
    SEEN.discard("made-by-edgec-itself")


def test_documented_codes_exist() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(rows) == rows, "keep the table sorted"
    assert not set(rows) - raised_codes().keys()


def test_text_of_an_error() -> None:
    error = EdgecError("unknown-target", "no target named 'jetsn'", "did you mean 'jetson'?")
    assert str(error) == "error[unknown-target]: no target named 'jetsn'\nhint: did you mean 'jetson'?"


def test_nearest_hint() -> None:
    assert nearest_hint("jetsn", ["cpu", "jetson"]) == "did you mean 'jetson'?"
    assert nearest_hint("zzz", ["cpu", "arm"]) == "known: arm, cpu"
