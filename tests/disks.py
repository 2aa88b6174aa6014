"""Small, full and read-only disks, real ones where the tests may mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, options: str, bind: bool = False) -> Iterator[Path]:
    """``folder`` as a tmpfs of its own with ``options``, or bound to itself and mounted again with them."""
    folder.mkdir(exist_ok=True)
    commands = [["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]]
    if bind:
        commands = [["mount", "--bind", str(folder), str(folder)], ["mount", "-o", options, str(folder)]]
    if os.geteuid() != 0 or subprocess.run(commands[0], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for command in commands[1:]:
            subprocess.run(command, check=True, capture_output=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
