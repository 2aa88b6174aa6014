"""A bundle to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(mcu_bundle: Path, tmp_path: Path) -> Path:
    """The microcontroller's bundle, one's own."""
    return Path(shutil.copytree(mcu_bundle, tmp_path / "copy"))
