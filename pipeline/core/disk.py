"""What a file system refuses, said as one of edgec's errors, and files that are never there by halves."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
CLEAR = "free some space, run 'edgec cache clear', or use another disk (--output, EDGEC_CACHE)"
ELSEWHERE = "free some space there, or choose another --output"
UNUSABLE_PATH = (errno.ENAMETOOLONG, errno.ELOOP)


@contextmanager
def full_disk_named(where: Path, remedy: str = CLEAR) -> Iterator[None]:
    """A disk without space, met inside the block, is an error that names ``where`` the writing went.

    Args:
        remedy: what helps on that disk.

    Raises:
        EdgecError: ``disk-full``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise disk_full(where, remedy) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file beside ``path``: it is there whole, or as it was before."""
    half_made = path.with_name(f".{path.name}.{os.getpid()}")
    write(half_made)
    half_made.replace(path)


def disk_full(where: object, remedy: str = CLEAR) -> EdgecError:
    """Nothing half-made is left; the hint says how to go on."""
    return EdgecError("disk-full", f"no space left on the device while writing under '{where}'", remedy)


def environment_error(error: OSError) -> EdgecError | None:
    """The refusal for an ``OSError`` that speaks of the user's file system; None for any other."""
    where = error.filename if error.filename is not None else "the output"
    if error.errno in FULL:
        return disk_full(where)
    if error.errno in UNUSABLE_PATH:
        return EdgecError("bad-path", f"'{str(where)[:120]}': {error.strerror}", "use a shorter path without loops")
    if error.errno in FORBIDDEN:
        return EdgecError("no-permission", f"'{where}': {error.strerror}", "check who may read and write it")
    return None
