"""A pytest plugin: the tests of this checkout run against the code of this checkout.

A plain ``pip install .`` copies edgec into ``site-packages``, where no later edit arrives. Such a session ends at once.
An equal copy is fine, and proves that nothing was left out of the package.
"""

from __future__ import annotations

import filecmp
from importlib import import_module
from pathlib import Path

import pytest
from places import ROOT

FOLDERS = {"api": "edgec", "pipeline": "edgec.pipeline", "targets": "edgec.targets", "calib_data": "edgec.calib_data"}
LEFT_OUT = (".pyc",)


def differing(installed: Path, source: Path) -> list[str]:
    """Files that only one of two folders has, or that differ; relative paths, sorted."""
    ours, theirs = _files(source), _files(installed)
    if source.name == "api":  # the package's own files, around which the other folders lie
        theirs = {name for name in theirs if "/" not in name}
    same = {name for name in ours & theirs if filecmp.cmp(installed / name, source / name, shallow=False)}
    return sorted((ours | theirs) - same)


def _files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in LEFT_OUT)
    return {path.relative_to(folder).as_posix() for path in found}


def pytest_sessionstart() -> None:
    for name, package in FOLDERS.items():
        place = import_module(package).__file__
        installed = Path(place).resolve().parent if place else None
        if installed == ROOT / name:
            continue
        files = differing(installed, ROOT / name) if installed else ["__init__.py"]
        if files:
            message = f"{installed or package} is another edgec than this checkout: {len(files)} files differ"
            again = 'run pip install -c constraints.txt -e ".[dev]"'
            pytest.exit(f"{message}, such as {files[0]}; {again}", returncode=pytest.ExitCode.USAGE_ERROR)
