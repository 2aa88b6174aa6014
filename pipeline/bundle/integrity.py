"""Is this folder exactly what its manifest says? Names, sizes and digests; nothing more, nothing less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgec.pipeline.bundle.manifest import (
    HINT,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    RESULT,
    RESULT_SUM,
    SUMS,
    UNLISTED,
    FileEntry,
    Manifest,
    corrupt,
    sums,
)
from edgec.pipeline.bundle.manifest_json import parse_manifest
from edgec.pipeline.core.disk import environment_error
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256


def read_checked_manifest(folder: Path) -> Manifest:
    """The manifest of a folder in which every file is the one that it lists.

    Raises:
        EdgecError: ``no-such-file``, ``no-bundle``; ``corrupt-bundle`` names the first file that is changed, missing,
            added or a link, or that the disk cannot read; ``unsafe-path``, ``no-permission``.
    """
    try:
        return _checked(folder)
    except OSError as error:
        raise environment_error(error) or corrupt(f"'{error.filename}' cannot be read: {error.strerror}") from error


def _checked(folder: Path) -> Manifest:
    if folder.is_file():
        hint = f"unpack an archive first: edgec pack '{folder}' --output FOLDER"
        raise EdgecError("no-bundle", f"'{folder}' is a file, and no folder of a bundle", hint)
    if not folder.is_dir():
        raise EdgecError("no-such-file", f"no bundle '{folder}'", "give the folder that 'edgec build' printed")
    manifest = _read(folder)
    listed = {entry.path for entry in manifest.files}
    for name in _names(folder):
        if name not in listed | UNLISTED:
            raise corrupt(f"'{folder / name}' was added: the manifest does not list it")
    for entry in manifest.files:
        _check_file(folder, entry)
    _check_sums(folder, manifest)
    _check_result(folder)
    return manifest


def _read(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise EdgecError("no-bundle", f"'{folder}' has no manifest.json", "give the folder that 'edgec build' printed")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise corrupt(f"'{path}' is larger than a manifest can be")
    return parse_manifest(path.read_bytes(), str(folder))


def _names(folder: Path) -> Iterator[str]:
    """Everything in the folder but folders on the way to listed files; a link is never followed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise EdgecError("corrupt-bundle", f"'{path}' is a link, expected a file of its own", HINT)
        if not path.is_dir() or not any(path.iterdir()):
            yield name


def _check_file(folder: Path, entry: FileEntry) -> None:
    path = folder / entry.path
    if not path.is_file():
        raise corrupt(f"'{path}' is missing")
    if path.stat().st_size != entry.bytes:
        raise corrupt(f"'{path}' has {path.stat().st_size} bytes, expected {entry.bytes}")
    if file_sha256(path) != entry.sha256:
        raise corrupt(f"'{path}' is not the file that the manifest lists")


def _check_sums(folder: Path, manifest: Manifest) -> None:
    expected = sums(
        (*((entry.path, entry.sha256) for entry in manifest.files), (MANIFEST, file_sha256(folder / MANIFEST)))
    )
    path = folder / SUMS
    if not path.is_file() or path.read_bytes() != expected.encode():
        raise corrupt(f"'{path}' does not fit the manifest")


def _check_result(folder: Path) -> None:
    """The build's log is there with its digest, or neither is."""
    result, stated = folder / RESULT, folder / RESULT_SUM
    if result.is_file() != stated.is_file():
        raise corrupt(f"'{folder}' has only one of {RESULT} and {RESULT_SUM}")
    if result.is_file() and stated.read_bytes() != sums(((RESULT, file_sha256(result)),)).encode():
        raise corrupt(f"'{result}' is not the file that was written")
