"""Writes a bundle: artifact, references, preprocessing, labels, ``result.json`` and ``manifest.json``."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.pipeline.build import Built
from edgec.pipeline.bundle.folder import replacing
from edgec.pipeline.errors import EdgecError
from edgec.pipeline.recipe import OnnxSource, Recipe
from edgec.pipeline.store import Artifact, file_sha256, plain

SCHEMA_VERSION = 1
TOOLCHAIN = ("torch", "onnx", "onnxsim", "onnxruntime", "openvino", "ai-edge-litert", "numpy", "pillow")

ROLES = {
    "artifact": "what runs on the target",
    "reference/float.onnx": "the float network",
    "reference/qdq.onnx": "the quantized network that the artifact was compiled from",
    "quantization.json": "what quantization did, layer by layer",
    "preprocess.json": "from an image to the input",
    "labels.txt": "class names by index, one a line",
    "result.json": "accuracy and latency",
}


def write_bundle(
    folder: Path, recipe: Recipe, built: Built, result: dict[str, Any], made: tuple[Path, ...] = ()
) -> None:
    """Write ``folder`` whole or not at all; an older bundle there is replaced.

    Args:
        made: files that a device made of the artifact, an engine say; they go into the artifact's folder.

    Raises:
        EdgecError: ``output-exists``, ``output-not-writable``, ``disk-full``.
    """
    with replacing(folder) as work:
        try:
            _fill(work, recipe, built, result, made)
        except OSError as error:
            hint = "free some space, or choose another --output"
            raise EdgecError("disk-full", f"cannot write the bundle '{folder}': {error.strerror}", hint) from error


def artifact_files(artifact: Artifact) -> tuple[Path, ...]:
    """The files that make up the artifact."""
    if artifact.path.is_file():
        return (artifact.path,)
    return tuple(sorted(path for path in artifact.path.rglob("*") if path.is_file()))


def _fill(work: Path, recipe: Recipe, built: Built, result: dict[str, Any], made: tuple[Path, ...]) -> None:
    if built.binary.path.is_dir():
        shutil.copytree(built.binary.path, work / built.binary.path.name)
    else:
        shutil.copyfile(built.binary.path, work / built.binary.path.name)
    for file in made:
        shutil.copyfile(file, work / built.binary.path.name / file.name)
    (work / "reference").mkdir()
    shutil.copyfile(built.fp32.path, work / "reference" / "float.onnx")
    shutil.copyfile(built.qdq.path / "model.onnx", work / "reference" / "qdq.onnx")
    shutil.copyfile(built.qdq.path / "report.json", work / "quantization.json")
    write_json(work / "preprocess.json", asdict(recipe.preprocess))
    (work / "labels.txt").write_text("".join(f"{label}\n" for label in recipe.labels), encoding="utf-8")
    write_json(work / "result.json", result)
    write_json(work / "manifest.json", _manifest(work, recipe, built))


def _manifest(work: Path, recipe: Recipe, built: Built) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "model": recipe.name,
        "target": recipe.target.name,
        "artifact": built.binary.path.name,
        "files": [_entry(path, work) for path in sorted(work.rglob("*")) if path.is_file()],
        "recipe": recipe_record(recipe),
        "calibration_set": {"sha256": recipe.calibration.artifact().sha256, "num_images": len(recipe.calibration)},
        "test_set": {"sha256": recipe.test.artifact().sha256, "num_images": len(recipe.test)},
        "toolchain": toolchain(),
    }


def toolchain() -> dict[str, str]:
    """Versions of everything that had a hand in the artifact."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version(), "edgec": metadata.version("edgec")}
    for name in TOOLCHAIN:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: Path, value: object) -> None:
    """Readable JSON with a fixed order and a final newline."""
    path.write_text(
        json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _entry(path: Path, work: Path) -> dict[str, Any]:
    name = path.relative_to(work).as_posix()
    return {
        "path": name,
        "role": ROLES.get(name, ROLES["artifact"]),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
    }


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """What was asked for, without paths of the machine that built it."""
    chosen = {"target": plain(recipe.target), "quantizer": recipe.quantizer, "preprocess": plain(recipe.preprocess)}
    if isinstance(recipe.source, OnnxSource):
        return {**chosen, "onnx": {"name": recipe.source.path.name, "sha256": file_sha256(recipe.source.path)}}
    weights = recipe.source.weights
    return {
        **chosen,
        "network": plain(recipe.source.config),
        "weights": {"name": weights.name, "kind": weights.kind, "sha256": weights.sha256},
    }
