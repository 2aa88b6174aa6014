"""A skip that the list does not name fails a strict session; one that it names, and any other session, pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import TESTS
from strict_skips import Allowed, Skip, read_list, surplus, unused

HERE = Skip("tests/a/test_x.py::test_one[8.6.0]", "no wheel")


@pytest.mark.parametrize(
    ("test", "says", "fits"),
    [
        ("*test_x.py::*", "no wheel", True),
        ("*test_x.py::test_one*", "no *", True),
        ("*test_x.py::test_one*", "no GPU", False),
        ("*test_y.py::*", "no wheel", False),
    ],
)
def test_an_entry_names_both_the_test_and_its_reason(test: str, says: str, fits: bool) -> None:
    entry = Allowed(test, says, "")
    assert surplus([HERE], [entry]) == ([] if fits else [HERE])
    assert unused([HERE], [entry]) == ([] if fits else [entry])


def test_every_entry_says_why() -> None:
    entries = read_list()
    assert all(len(entry.because) > 20 for entry in entries)
    for entry in entries:
        name = entry.test.removeprefix("*").partition("::")[0]
        assert "*" in name or list(TESTS.rglob(name)), f"no file {name}"


FILES = {
    "a test": 'import pytest\ndef test_one():\n    pytest.skip("lost")\n',
    "a mark": 'import pytest\n@pytest.mark.skipif(True, reason="lost")\ndef test_one(): pass\n',
    "a fixture": 'import pytest\n@pytest.fixture\ndef f():\n    pytest.skip("lost")\ndef test_one(f): pass\n',
    "a file": 'import pytest\npytest.importorskip("no_such_module", reason="lost")\ndef test_one(): pass\n',
    "no parameters": 'import pytest\n@pytest.mark.parametrize("x", [])\ndef test_one(x): pass\n',
}


@pytest.mark.parametrize(
    ("kind", "arguments", "ci", "status"),
    [
        *((kind, ["--strict-skips"], "", pytest.ExitCode.TESTS_FAILED) for kind in FILES),
        *((kind, ["--strict-skips", "-n", "2"], "", pytest.ExitCode.TESTS_FAILED) for kind in ("a test", "a file")),
        ("a test", [], "true", pytest.ExitCode.TESTS_FAILED),
        ("a test", [], "", pytest.ExitCode.OK),
    ],
)
def test_a_lost_test_fails_a_strict_session_only(
    kind: str, arguments: list[str], ci: str, status: int, tmp_path
) -> None:
    (tmp_path / "test_lost.py").write_text(FILES[kind])
    (tmp_path / "test_kept.py").write_text("def test_kept(): pass\n")
    done = _session(tmp_path, arguments, ci)
    assert (done.returncode, "NOT ALLOWED" in done.stdout) == (status, bool(status)), done.stdout
    assert "skipped 1: " in done.stdout


def _session(folder: Path, arguments: list[str], ci: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "CI": ci, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "strict_skips", "--rootdir", str(folder), *arguments, "."]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("import pytest\n@pytest.mark.xfail\ndef test_one(): assert False\n")
    assert _session(tmp_path, ["--strict-skips"], "").returncode == 0
