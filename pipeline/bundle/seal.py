"""The end of a bundle: the documents that show its manifest, the manifest over all files, and ``SHA256SUMS``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edgec.pipeline.bundle.attestation import statement
from edgec.pipeline.bundle.manifest import (
    ENGINE,
    MANIFEST,
    PROVENANCE,
    SUMS,
    UNLISTED,
    FileEntry,
    Manifest,
    sums,
)
from edgec.pipeline.bundle.manifest_json import to_bytes
from edgec.pipeline.bundle.model_card import model_card
from edgec.pipeline.bundle.records import ACCURACY, LATENCY, QUANTIZATION, SENSITIVITY, TRAINING
from edgec.pipeline.bundle.sbom import sbom
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.forms.golden import DEVICE

DOCUMENTS = ("README.md", "report.html", "sbom.cdx.json", PROVENANCE)
TIMED = frozenset({LATENCY, "report.html", "README.md"})
ANSWERED = frozenset(
    {ACCURACY, "predictions.csv", "sbom.cdx.json", "golden/golden.json", "c/selftest.c", "c/selftest.h"}
)
"""Files that show the artifact's answers: a device's cannot be had again without it."""
ANSWERS_OF_DEVICE = (f"golden/outputs.{DEVICE}.", f"golden/real-outputs.{DEVICE}.")
ROLES = {
    "reference/float.onnx": "float-network",
    "reference/qdq.onnx": "quantized-network",
    QUANTIZATION: "quantization-record",
    SENSITIVITY: "sensitivity",
    TRAINING: "training",
    "preprocess.json": "preprocessing",
    "labels.txt": "labels",
    "predictions.csv": "predictions",
    ACCURACY: "accuracy",
    LATENCY: "latency",
    "report.html": "report",
    "README.md": "model-card",
    "sbom.cdx.json": "sbom",
    PROVENANCE: "provenance",
    "verify.py": "verifier",
}


Render = Callable[[Sequence[tuple[Path, Manifest]]], str]
"""Draws the page of one or more bundles whose files are in place."""


def seal(folder: Path, manifest: Manifest, render: Render, engines: Collection[str] = ()) -> None:
    """Write the documents, ``manifest.json`` and ``SHA256SUMS`` of a folder whose other files are in place.

    Args:
        manifest: ``files`` does not matter; it is made anew.
        render: draws ``report.html``.
        engines: paths of files that a device made of the artifact.
    """

    def entries(paths: Iterable[Path]) -> tuple[FileEntry, ...]:
        return tuple(_entry(path, folder, manifest.target.artifact, engines) for path in paths)

    files = entries(path for path in _listed(folder) if path.relative_to(folder).as_posix() not in DOCUMENTS)
    draft = replace(manifest, files=_sorted(files))
    texts = {"README.md": model_card(draft), "sbom.cdx.json": sbom(draft), PROVENANCE: statement(draft)}
    texts["report.html"] = render([(folder, draft)])
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    sealed = replace(manifest, files=_sorted((*files, *entries(folder / name for name in DOCUMENTS))))
    (folder / MANIFEST).write_bytes(to_bytes(sealed))
    digests = [(entry.path, entry.sha256) for entry in sealed.files]
    listed = sums((*digests, (MANIFEST, file_sha256(folder / MANIFEST))))
    (folder / SUMS).write_text(listed, encoding="utf-8", newline="\n")


def engines_of(manifest: Manifest) -> list[str]:
    """Files that a device made of the artifact."""
    return [entry.path for entry in manifest.files if entry.role == ENGINE]


def has_device(names: Iterable[str]) -> bool:
    """A device's answers are among the golden files."""
    return any(name.startswith(ANSWERS_OF_DEVICE) for name in names)


def _listed(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in UNLISTED]


def _sorted(entries: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _entry(path: Path, folder: Path, artifact: str, engines: Collection[str]) -> FileEntry:
    name = path.relative_to(folder).as_posix()
    role = ENGINE if name in engines else _role(name, artifact)
    return FileEntry(name, role, path.stat().st_size, file_sha256(path), _is_reproducible(name, role, folder))


def _is_reproducible(name: str, role: str, folder: Path) -> bool:
    """A second build of the recipe, without the device, makes the same bytes."""
    if name in TIMED or role == ENGINE or name.startswith(ANSWERS_OF_DEVICE):
        return False
    golden = (path.relative_to(folder).as_posix() for path in (folder / "golden").iterdir())
    return not (name in ANSWERED or name.startswith("examples/")) or not has_device(golden)


def _role(name: str, artifact: str) -> str:
    folder = name.partition("/")[0]
    if folder == artifact:
        return "artifact"
    return ROLES.get(name, {"c": "c-source", "golden": "golden-vector", "examples": "example"}.get(folder, "other"))
