"""Temporary folders. All lie in the store's ``tmp``, each with a lock that its process holds, and go with the process.

What a killed process leaves is known by its lock, which nobody holds any more, and goes with the next one's first
folder. A neighbour that lives holds its lock, so nothing of it is touched. A folder that must lie elsewhere, because a
rename needs the same disk, is noted in one of these.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from edgec.pipeline.core.disk import ELSEWHERE, FULL, full_disk_named
from edgec.pipeline.core.root import claimed, default_root, not_writable

IDENTITY = b"edgec-scratch-1\n"
OUTSIDE = "outside"  # note in a scratch folder: path of a folder elsewhere
MARKER = "edgec-unfinished"  # in that folder: IDENTITY, and the name of what it will replace
NEW, OLD = "new", "old"

_living: list[Path] = []  # scratch folders of this process
_swept: set[Path] = set()


@contextmanager
def scratch(purpose: str, root: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder in the store's ``tmp`` and delete it afterwards.

    Args:
        purpose: a word for whoever looks into ``tmp``.
        root: of the store; the default one where None.

    Raises:
        EdgecError: ``disk-full``, ``store-not-writable``, ``foreign-store``.
    """
    root = claimed(root or default_root())
    folder = root / "tmp" / f"edgec-{purpose}-{secrets.token_hex(4)}"
    with full_disk_named(root), ExitStack() as last:
        last.callback(_forget, folder)
        _living.append(folder)
        last.enter_context(_make(root, folder))
        yield folder


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder on the disk of ``path`` and delete it afterwards.

    Where it holds ``old`` at the end and nothing is at ``path``, then ``old`` goes there: see ``replace_folder``.

    Raises:
        EdgecError: as ``scratch``.
        OSError: the folder of ``path`` cannot be written.
    """
    with scratch("output") as note:
        work = path.parent / f".edgec-{secrets.token_hex(4)}"
        (note / OUTSIDE).write_bytes(os.fsencode(work.absolute()))
        with full_disk_named(path, ELSEWHERE):  # not the store's disk, which the note is on
            work.mkdir()
            (work / MARKER).write_bytes(IDENTITY + os.fsencode(path.name))
            yield work


def replace_folder(work: Path, folder: Path) -> None:
    """Put ``work/new`` in the place of ``folder``, whose content goes with ``work``; ``work`` is of ``beside``."""
    while True:
        with suppress(FileNotFoundError):
            folder.rename(work / OLD)
        try:
            (work / NEW).rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(work / OLD)  # another process was faster: replace its folder


def sweep(root: Path) -> None:
    """Delete what killed processes left in ``tmp`` and what they noted there."""
    for path in root.glob("tmp/edgec-*.lock"):
        with suppress(OSError), path.open("r+b") as lock:
            folder = path.with_suffix("")
            content = lock.read()
            ours = content == IDENTITY or (not content and not folder.exists())
            if ours and not path.is_symlink() and _is_held(lock, path):
                _finish(folder)


def abandon() -> None:
    """Delete every folder of this process, and of its children that were killed: it is about to end."""
    for folder in list(_living):
        _finish(folder)
    for root in _swept:
        sweep(root)


def _make(root: Path, folder: Path) -> IO[bytes]:
    """The lock first, then its identity, then the folder: it never lies there without a lock that is held."""
    try:
        folder.parent.mkdir(exist_ok=True)
        if root not in _swept:
            _swept.add(root)
            sweep(root)
        path = _lock_of(folder)
        while not _is_held(lock := path.open("ab", buffering=0), path):  # a sweeper took it for a leftover
            lock.close()
        lock.write(IDENTITY)
        folder.mkdir()
        return lock
    except OSError as error:
        if error.errno in FULL:
            raise
        raise not_writable(root, error) from error


def _forget(folder: Path) -> None:
    _finish(folder)
    _living.remove(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _is_held(lock: IO[bytes], path: Path) -> bool:
    """Lock the file; False where another process has, or where ``path`` is no longer this file."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _finish(folder: Path) -> None:
    """Delete a scratch folder whose lock is ours, what it notes, and last the lock."""
    with suppress(OSError):
        _finish_outside(Path(os.fsdecode((folder / OUTSIDE).read_bytes())))
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        with suppress(OSError):
            _lock_of(folder).unlink()


def _finish_outside(work: Path) -> None:
    """Put ``old`` back where a killed process stopped between two renames; delete the rest. Only in our own folder."""
    with suppress(FileNotFoundError):
        marked = (work / MARKER).read_bytes()
        if not marked.startswith(IDENTITY):
            return
        path = work.parent / os.fsdecode(marked.removeprefix(IDENTITY))
        if (work / OLD).exists() and not path.exists():
            (work / OLD).rename(path)
        shutil.rmtree(work, ignore_errors=True)
        return
    work.rmdir()  # killed before the marker was written: only where it is empty
