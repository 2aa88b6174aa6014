"""A copy of edgec that differs from the checkout is seen, whether files changed, came or went."""

from __future__ import annotations

import shutil
from pathlib import Path

from fresh_copy import differing
from places import ROOT


def test_an_equal_copy_is_fine_and_any_difference_is_named(tmp_path: Path) -> None:
    source, copy = ROOT / "targets", tmp_path / "targets"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert differing(copy, source) == []
    (copy / "boards" / "cpu.toml").unlink()
    (copy / "old_module.py").touch()
    (copy / "inspect.py").write_text("changed")
    assert differing(copy, source) == ["boards/cpu.toml", "inspect.py", "old_module.py"]
