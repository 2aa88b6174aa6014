"""The end of a bundle: the documents that show its manifest, the manifest over all files, and ``SHA256SUMS``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edgec.pipeline.bundle.manifest import MANIFEST, SUMS, UNLISTED, FileEntry, Manifest, sums, to_bytes
from edgec.pipeline.bundle.model_card import model_card
from edgec.pipeline.bundle.records import ACCURACY, LATENCY, QUANTIZATION, SENSITIVITY
from edgec.pipeline.bundle.sbom import sbom
from edgec.pipeline.store import file_sha256

DOCUMENTS = ("README.md", "report.html", "sbom.cdx.json")
TIMED = frozenset({LATENCY, "report.html", "README.md"})
ANSWERED = frozenset({ACCURACY, "predictions.csv", "sbom.cdx.json", "c/selftest.c", "c/selftest.h"})
"""Files that show the artifact's answers: another device of the same kind may round otherwise."""

ENGINE, GOLDEN = "engine", "golden-vector"
ROLES = {
    "reference/float.onnx": "float-network",
    "reference/qdq.onnx": "quantized-network",
    QUANTIZATION: "quantization-record",
    SENSITIVITY: "sensitivity",
    "preprocess.json": "preprocessing",
    "labels.txt": "labels",
    "predictions.csv": "predictions",
    ACCURACY: "accuracy",
    LATENCY: "latency",
    "report.html": "report",
    "README.md": "model-card",
    "sbom.cdx.json": "sbom",
    "verify.py": "verifier",
}


@dataclass(frozen=True)
class FromDevice:
    """What a device had a hand in: no second build makes those files again.

    Attributes:
        engines: paths of files that a device made of the artifact.
        on_device: a device's answers are in the bundle.
    """

    engines: frozenset[str] = frozenset()
    on_device: bool = False

    def is_reproducible(self, path: str, role: str) -> bool:
        """A second build of the recipe, without the device, makes the same bytes."""
        return path not in TIMED | self.engines and not (self.on_device and (role == GOLDEN or path in ANSWERED))


def seal(folder: Path, manifest: Manifest, device: FromDevice) -> None:
    """Write the documents, ``manifest.json`` and ``SHA256SUMS`` of a folder whose other files are in place.

    Args:
        manifest: ``files`` does not matter; it is made anew.
    """
    from edgec.pipeline.report.page import render_report

    def entries(paths: Iterable[Path]) -> tuple[FileEntry, ...]:
        return tuple(_entry(path, folder, manifest.target.artifact, device) for path in paths)

    files = entries(path for path in _listed(folder) if path.relative_to(folder).as_posix() not in DOCUMENTS)
    draft = replace(manifest, files=_sorted(files))
    texts = {"README.md": model_card(draft), "sbom.cdx.json": sbom(draft)}
    texts["report.html"] = render_report([(folder, draft)])
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    sealed = replace(manifest, files=_sorted((*files, *entries(folder / name for name in DOCUMENTS))))
    (folder / MANIFEST).write_bytes(to_bytes(sealed))
    digests = [(entry.path, entry.sha256) for entry in sealed.files]
    listed = sums((*digests, (MANIFEST, file_sha256(folder / MANIFEST))))
    (folder / SUMS).write_text(listed, encoding="utf-8", newline="\n")


def from_device(manifest: Manifest) -> FromDevice:
    """As an earlier ``seal`` had it."""
    return FromDevice(
        frozenset(entry.path for entry in manifest.files if entry.role == ENGINE),
        any(entry.role == GOLDEN and not entry.reproducible for entry in manifest.files),
    )


def _listed(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in UNLISTED]


def _sorted(entries: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _entry(path: Path, folder: Path, artifact: str, device: FromDevice) -> FileEntry:
    name = path.relative_to(folder).as_posix()
    role = ENGINE if name in device.engines else _role(name, artifact)
    reproducible = device.is_reproducible(name, role)
    return FileEntry(name, role, path.stat().st_size, file_sha256(path), reproducible)


def _role(name: str, artifact: str) -> str:
    folder = name.partition("/")[0]
    if folder == artifact:
        return "artifact"
    return ROLES.get(name, {"c": "c-source", "golden": GOLDEN}.get(folder, "other"))
