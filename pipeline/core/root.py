"""The store's folder: where it is, and whether it is edgec's. Nothing in a folder of somebody else is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgec.pipeline.core.disk import FULL, disk_full
from edgec.pipeline.core.errors import EdgecError

MARKER = "edgec-store.json"
IDENTITY = b'{"schema": "edgec-store-1"}\n'
KEPT = re.compile(r"[0-9a-f]{64}", re.ASCII)
BESIDE_RESULTS = re.compile(r"weights|devices|engines|tensorrt|benchmarks|unfinished|parts-[0-9a-f]{16}", re.ASCII)
"""What edgec keeps in the folder of a store that no stage ever used."""


def default_root() -> Path:
    """``$EDGEC_CACHE``, else the platform's cache folder."""
    if configured := os.environ.get("EDGEC_CACHE"):
        return Path(configured)
    from platformdirs import user_cache_path

    return user_cache_path("edgec")


def is_store(root: Path) -> bool:
    """True for a store, False for what may become one: nothing, or an empty folder.

    A store carries ``MARKER``. One of an older edgec is known by its results, each a folder named by a sha256 with the
    record in it, and by nothing else lying there.

    Raises:
        EdgecError: ``foreign-store``, ``store-not-writable``.
    """
    with _usable(root):
        if _is_marked(root) or _is_older(root):
            return True
        if not root.exists() or not any(root.iterdir()) or _is_marked(root):  # another process may just have marked it
            return _is_marked(root)
    hint = f"set EDGEC_CACHE to a new or empty folder; edgec marks its own with '{MARKER}'"
    raise EdgecError("foreign-store", f"'{root}' holds files and is no store of edgec", hint)


def claimed(root: Path) -> Path:
    """``root`` as a marked store, made where there was none.

    Raises:
        EdgecError: ``foreign-store``, ``store-not-writable``, ``disk-full``.
    """
    is_store(root)
    with _usable(root):
        root.mkdir(parents=True, exist_ok=True)
        if not (root / MARKER).exists() or (root / MARKER).read_bytes() != IDENTITY:
            (root / MARKER).write_bytes(IDENTITY)
    return root


def kept_folders(root: Path) -> Iterator[Path]:
    """Folders of ``results`` that are named as a result is; anything else there belongs to somebody else."""
    for folder in sorted(root.glob("results/[0-9a-f][0-9a-f]/*")):
        if KEPT.fullmatch(folder.name) and folder.name[:2] == folder.parent.name and not folder.is_symlink():
            yield folder


def lock_shared(marker: Path) -> IO[bytes]:
    """The marker, locked together with others until the file is closed."""
    import fcntl

    file = marker.open("rb")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def lock_alone(marker: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the marker alone; an older store has none, and no build that locks it. ``waiting`` is told of others."""
    import fcntl

    if not marker.exists():
        yield
        return
    with marker.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def not_writable(root: Path, error: OSError) -> EdgecError:
    """The refusal of a store that cannot be used."""
    hint = "set EDGEC_CACHE to a folder that you may write"
    return EdgecError("store-not-writable", f"cannot use the store '{str(root)[:120]}': {error.strerror}", hint)


@contextmanager
def _usable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(root) from error
        raise not_writable(root, error) from error


def _is_marked(root: Path) -> bool:
    """Also while another process is writing the marker: what is there of it is its beginning."""
    try:
        return IDENTITY.startswith((root / MARKER).read_bytes()[: len(IDENTITY) + 1])
    except FileNotFoundError:
        return False


def _is_older(root: Path) -> bool:
    names = {path.name for path in root.iterdir()} - {MARKER} if root.exists() else set()
    others = {name for name in names if not BESIDE_RESULTS.fullmatch(name)}
    if names and not others:
        return True
    folders = list(root.glob("results/*/*"))
    ours = list(kept_folders(root))
    return bool(ours) and len(ours) == len(folders) and others <= {"results", "tmp", "locks"}
