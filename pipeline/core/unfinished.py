"""What a long step has so far, for the next process where this one is killed: files in the store's ``unfinished``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgec.pipeline.core.disk import full_disk_named
from edgec.pipeline.core.root import claimed, default_root

FOLDER = "unfinished"
KEPT_SECONDS = 7 * 24 * 3600
"""Then nobody comes back for it."""


@contextmanager
def unfinished(name: str) -> Iterator[Path]:
    """Yield a file's path, where an earlier process may have left one.

    It is deleted when the block ends, and kept where an exception or a signal ends it.

    Args:
        name: of the file; it has to tell all that decides its content.

    Raises:
        EdgecError: ``disk-full``, ``store-not-writable``, ``foreign-store``.
    """
    root = claimed(default_root())
    folder = root / FOLDER
    with full_disk_named(root):
        folder.mkdir(exist_ok=True)
        _forget_old(folder)
        yield folder / name
        (folder / name).unlink(missing_ok=True)


def forget_unfinished(root: Path) -> None:
    """Delete what is unfinished in a store."""
    with suppress(FileNotFoundError):
        shutil.rmtree(root / FOLDER)


def _forget_old(folder: Path) -> None:
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may be faster
            if time.time() - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink()
