"""A pytest plugin: the tests of this checkout run against the code of this checkout.

A plain ``pip install .`` copies edgec into ``site-packages``, where no later edit arrives. Such a session ends at once.
An equal copy is fine, and proves that nothing was left out of the package.
"""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest
from places import ROOT

FOLDERS = ("pipeline", "targets", "calib_data")
LEFT_OUT = (".pyc",)


def differing(installed: Path, source: Path) -> list[str]:
    """Files that only one of two folders has, or that differ; relative paths, sorted."""
    ours, theirs = _files(source), _files(installed)
    same = {name for name in ours & theirs if filecmp.cmp(installed / name, source / name, shallow=False)}
    return sorted((ours | theirs) - same)


def _files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in LEFT_OUT)
    return {path.relative_to(folder).as_posix() for path in found}


def pytest_sessionstart() -> None:
    import edgec.calib_data
    import edgec.pipeline
    import edgec.targets

    for name, package in zip(FOLDERS, (edgec.pipeline, edgec.targets, edgec.calib_data), strict=True):
        installed = Path(str(package.__file__)).resolve().parent
        if installed != ROOT / name and (files := differing(installed, ROOT / name)):
            message = f"{installed} is another edgec than this checkout: {len(files)} files differ, such as {files[0]}"
            pytest.exit(
                f'{message}; run pip install -c constraints.txt -e ".[dev]"', returncode=pytest.ExitCode.USAGE_ERROR
            )
