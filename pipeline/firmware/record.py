"""``project.json``: what a project was made from, and every file of it: only untouched projects are replaced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.core.store import file_sha256

RECORD = "project.json"
MAX_RECORD_BYTES = 16 << 20


@dataclass(frozen=True)
class Listed:
    """A file, its path relative with forward slashes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class TfliteMicro:
    """The tree that was named: the sha256 of its list of files and digests, in the form of ``sha256sum``."""

    sha256: str
    num_files: int


@dataclass(frozen=True)
class Record:
    """``project.json``.

    Attributes:
        bundle: sha256 of the bundle's manifest.
        files: all but this one.
    """

    schema_version: int
    ecosystem: str
    model: str
    version: str
    bundle: str
    tflite_micro: TfliteMicro | None
    files: tuple[Listed, ...]


def foreign(folder: Path) -> str | None:
    """Why the folder is no project as edgec wrote it; None where it is one, or empty. Edited files are never lost."""
    names = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    if not names:
        return None if not any(folder.iterdir()) else "it has folders"
    record = folder / RECORD
    if not record.is_file() or record.stat().st_size > MAX_RECORD_BYTES:
        return f"it is no project, which has {RECORD}"
    try:
        listed = {entry["path"]: entry["sha256"] for entry in json.loads(record.read_bytes())["files"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"its {RECORD} is not of a project"
    added = sorted(names - listed.keys() - {RECORD})
    if added:
        return f"'{added[0]}' in it is no file of the project"
    changed = sorted(name for name in names & listed.keys() if file_sha256(folder / name) != listed[name])
    return f"'{changed[0]}' in it was changed" if changed else None
