"""A pytest plugin: what is slow to build is built once a run, however many workers of pytest-xdist it has.

Workers leave each other their cores: no process of a worker has more native threads than the share of the worker.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

Fill = Callable[[Path], object]
Once = Callable[[str, Fill], Path]


class Workers:
    """Makes the folder that all workers share, and removes it when the last one has ended."""

    def __init__(self) -> None:
        self.shared = Path(tempfile.mkdtemp(prefix="edgec-tests-"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist tells a worker what it is given here."""
        node.workerinput["edgec_shared"] = str(self.shared)

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self.shared, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    count = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if count:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(count))))
    else:
        config.pluginmanager.register(Workers(), "edgec-workers")


@pytest.fixture(scope="session")
def shared(pytestconfig: pytest.Config) -> Path:
    """A folder that every worker of this run sees; gone afterwards."""
    given = getattr(pytestconfig, "workerinput", {}).get("edgec_shared")
    return Path(given or pytestconfig.pluginmanager.getplugin("edgec-workers").shared)


@pytest.fixture(scope="session")
def once(shared: Path) -> Once:
    """``once(name, fill)``: a file or folder that ``fill`` makes for the first who asks; others wait. Read only."""

    def filled(name: str, fill: Fill) -> Path:
        path, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)  # of one that failed
                fill(path)
                done.touch()
        return path

    return filled
