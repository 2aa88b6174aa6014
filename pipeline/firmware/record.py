"""``project.json``: what a project was made from, and every file of it: only untouched projects are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.bundle.folder import unlisted_or_changed
from edgec.pipeline.core.stage import file_sha256

RECORD = "project.json"


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

    def changed(listed: Mapping[str, str]) -> str | None:
        edited = next((name for name in sorted(listed) if _is_edited(folder / name, listed[name])), None)
        return f"'{edited}' in it was changed" if edited else None

    return unlisted_or_changed(folder, "project", (RECORD,), changed)


def _is_edited(path: Path, sha256: str) -> bool:
    """A link in a file's place is; a file that is gone is not, since nothing of it can be lost."""
    return path.is_symlink() or (path.exists() and (not path.is_file() or file_sha256(path) != sha256))
