"""What a store holds too much of, or damaged: for ``edgec cache``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from edgec.pipeline.core.kept import RECORD, Damaged
from edgec.pipeline.core.packed import Broken
from edgec.pipeline.core.root import is_store, kept_folders
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.shared import Shared
from edgec.pipeline.core.store import proven

Item = TypeVar("Item")


def beyond(items: Sequence[tuple[Item, int]], max_bytes: int) -> list[Item]:
    """The first of ``items`` (with their sizes) that have to go for the rest to fit."""
    left, going = sum(size for _, size in items), []
    for item, size in items:
        if left <= max_bytes:
            break
        going.append(item)
        left -= size
    return going


def longest_unused(root: Path) -> list[tuple[Path, int]]:
    """Every kept result of a store on this machine with its size in bytes, the one longest unused first."""
    folders = list(kept_folders(root)) if is_store(root) else []
    return [(folder, size_bytes(folder)) for _, folder in sorted((_last_used_s(folder), folder) for folder in folders)]


def size_bytes(folder: Path) -> int:
    """Of all files in it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def damaged_objects(shared: Shared, root: Path) -> Iterator[tuple[str, str]]:
    """Key of every shared result that is not what its record says, with what is wrong: all of it is read.

    Args:
        root: of the store on this machine, where they are unpacked one by one.

    Raises:
        EdgecError: ``shared-cache-unreachable``.
    """
    for one in shared.objects():
        with scratch("fetch", root) as work:
            try:
                if shared.fetch(one.key, work / one.key):
                    proven(work / one.key)
            except (Broken, Damaged) as error:
                yield one.key, str(error)


def _last_used_s(folder: Path) -> float:
    with suppress(OSError):
        return (folder / RECORD).stat().st_mtime
    return 0.0  # damaged: it goes first
