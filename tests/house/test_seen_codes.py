"""Codes that no test raised are told after a run of all tests, and fail it where that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import TESTS

RAISES = """
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import read_toml
from pathlib import Path
import pytest
def test_one():
    EdgecError("unknown-model", "made by a test", "")
    with pytest.raises(EdgecError):
        read_toml(Path("no such file"), "bad-board")
"""


@pytest.mark.parametrize(
    ("arguments", "told", "status"),
    [
        (["--all-codes"], True, 1),
        (["--strict-skips"], True, 0),
        ([], True, 0),
        (["--all-codes", "-n", "2"], True, 1),
        (["-n", "2"], True, 0),
        (["-n", "2", "-k", "one"], False, 0),
        (["--all-codes", "test_one.py"], False, 0),
        (["-k", "one"], False, 0),
    ],
)
def test_unseen_codes_are_told_at_the_end_of_a_whole_run(
    arguments: list[str], told: bool, status: int, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    (tmp_path / "test_one.py").write_text(RAISES)
    (tmp_path / "test_two.py").write_text("def test_two(): pass\n")
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "CI": "", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    plugins = ["-p", "strict_skips", "-p", "seen_codes"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ("no test raised unknown-model" in done.stdout, done.returncode) == (told, status), done.stdout
    assert "no test raised no-such-file" not in done.stdout
