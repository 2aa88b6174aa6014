"""Replacing a folder as a whole: it is the old one or the new one, never half of each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError

MARK = "manifest.json"  # a folder that has it is a bundle and may be replaced


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block ends well.

    Raises:
        EdgecError: ``output-exists`` where ``folder`` is something other than a bundle or an empty folder;
            ``output-not-writable``.
    """
    check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _finish_interrupted(folder)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    except OSError as error:
        raise EdgecError(
            "output-not-writable", f"cannot write beside '{folder}': {error.strerror}", "choose another --output"
        ) from error
    try:
        yield work
        work.chmod(0o755)
        _swap(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_replaceable(folder: Path) -> None:
    """Refuse to overwrite what edgec did not write.

    Raises:
        EdgecError: ``output-exists``.
    """
    if folder.is_dir() and not folder.is_symlink():
        if (folder / MARK).is_file() or not any(folder.iterdir()):
            return
    elif not folder.exists() and not folder.is_symlink():
        return
    raise EdgecError(
        "output-exists", f"'{folder}' exists and is no bundle of edgec", "choose another --output, or remove it"
    )


def _swap(new: Path, folder: Path) -> None:
    old = folder.parent / f".{folder.name}.old-{os.getpid()}"
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _finish_interrupted(folder: Path) -> None:
    """Put back the old bundle where a killed run stopped between its two renames; delete leftovers of killed runs."""
    for old in sorted(folder.parent.glob(f".{folder.name}.old-*")):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)
    for pid_less in folder.parent.glob(f".{folder.name}.new-*"):
        if not _is_recent(pid_less):
            shutil.rmtree(pid_less, ignore_errors=True)


def _is_recent(path: Path, seconds: float = 3600.0) -> bool:
    """Another run may be writing it right now."""
    import time

    return time.time() - path.stat().st_mtime < seconds
