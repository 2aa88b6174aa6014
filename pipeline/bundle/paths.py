"""Which file names a bundle may contain: those that mean the same file on every system, below the bundle's folder."""

from __future__ import annotations

import re

from edgec.pipeline.core.errors import EdgecError

MAX_PATH = 99  # what the name field of a ustar header holds
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE | re.ASCII)


def check_path(path: str, bundle: str) -> None:
    """Refuse absolute paths, ``..``, hidden files, control characters, reserved and over-long names.

    Raises:
        EdgecError: ``unsafe-path``.
    """
    segments = path.split("/")
    safe = all(_SEGMENT.fullmatch(part) and not _RESERVED.fullmatch(part) for part in segments)
    if not safe or len(path) > MAX_PATH or any(part.endswith(".") for part in segments):
        raise EdgecError(
            "unsafe-path",
            f"'{bundle}' names the file {path[:120]!r}, which is not a plain relative path",
            "do not use it",
        )
