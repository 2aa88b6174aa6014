"""Data sets that are drawn on demand and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgec.pipeline.core.scratch import NEW, scratch


def drawn_once(root: Path, name: str, draw: Callable[[Path], None]) -> Path:
    """The folder ``root/name``, filled by ``draw`` where it is not there yet: whole, or not at all.

    Args:
        root: of a store, whose next run deletes what a killed one leaves.

    Raises:
        EdgecError: what ``scratch`` raises.
    """
    folder = root / name
    if not folder.is_dir():
        with scratch("draw", root) as work:
            (work / NEW).mkdir()
            draw(work / NEW)
            folder.parent.mkdir(parents=True, exist_ok=True)
            (work / NEW).rename(folder)
    return folder
