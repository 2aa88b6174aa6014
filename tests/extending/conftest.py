"""A package beside edgec, installed as pip would: its files on the path, and metadata that names entry points."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ENTRY_POINTS = """\
[edgec.compilers]
toy = toy.compiler

[edgec.models]
toy = toy.family

[edgec.tasks]
brightness = toy.task:TASK

[edgec.metrics]
mean_brightness = toy.task:METRIC
top2 = toy.task:TOP2
"""
Edgec = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds the toy package."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(__file__).parent / "toy", folder / "toy")
    (folder / "toy" / "__init__.py").touch()
    metadata = folder / "toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture(scope="session")
def edgec(site: Path, shared: Path) -> Edgec:
    """The command line in a process that has the toy package."""
    cache = shared / "toy-cache"
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "EDGEC_CACHE": str(cache)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgec.pipeline.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    return run
