"""Writes a bundle: everything into a new folder, the manifest last, and then the folder in place as a whole."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.pipeline.build import Built
from edgec.pipeline.bundle.c_sources import CModel, c_prefix, write_c_sources
from edgec.pipeline.bundle.contract import Contract, read_contract
from edgec.pipeline.bundle.folder import replacing
from edgec.pipeline.bundle.golden import read_golden
from edgec.pipeline.bundle.integer_preprocess import fold
from edgec.pipeline.bundle.manifest import (
    MANIFEST,
    RESULT,
    RESULT_SUM,
    SUMS,
    DataSet,
    FileEntry,
    Licence,
    Manifest,
    ModelIdentity,
    Origin,
    Preprocessing,
    Source,
    TargetIdentity,
    sums,
    to_bytes,
)
from edgec.pipeline.bundle.measured import accuracy_of, latency_of, verdicts_of
from edgec.pipeline.bundle.model_card import model_card
from edgec.pipeline.bundle.predictions import write_predictions
from edgec.pipeline.bundle.provenance import git_commit, lock
from edgec.pipeline.bundle.runtimes import runtime_of
from edgec.pipeline.bundle.sbom import sbom
from edgec.pipeline.bundle.semver import FIRST, parse_version
from edgec.pipeline.data import Dataset
from edgec.pipeline.errors import EdgecError
from edgec.pipeline.recipe import OnnxSource, Recipe
from edgec.pipeline.store import Artifact, file_sha256

VERIFIER = Path(__file__).with_name("verify_standalone.py")
TIMED = frozenset({"latency.json", "report.html", "README.md"})
LINKABLE_SUFFIXES = frozenset({".tflite", ".onnx", ".xml", ".bin"})
ENGINE_SUFFIXES = frozenset({".engine", ".plan"})  # tied to one GPU and built anew on each: no two are equal

ROLES = {
    "reference/float.onnx": "float-network",
    "reference/qdq.onnx": "quantized-network",
    "quantization.json": "quantization-record",
    "preprocess.json": "preprocessing",
    "labels.txt": "labels",
    "predictions.csv": "predictions",
    "latency.json": "latency",
    "report.html": "report",
    "README.md": "model-card",
    "sbom.cdx.json": "sbom",
    "verify.py": "verifier",
}


def write_bundle(
    folder: Path, recipe: Recipe, built: Built, golden: Artifact, result: dict[str, Any], version: str = FIRST
) -> None:
    """Write ``folder`` whole or not at all; an older bundle there is replaced.

    Raises:
        EdgecError: ``output-exists``, ``output-not-writable``, ``disk-full``, ``bad-version``.
    """
    with replacing(folder) as work:
        try:
            _fill(work, recipe, built, golden, result, version)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            hint = "free some space, or choose another --output"
            raise EdgecError("disk-full", f"cannot write the bundle '{folder}': {error.strerror}", hint) from error


def artifact_files(artifact: Artifact) -> tuple[Path, ...]:
    """The files that make up the artifact."""
    if artifact.path.is_file():
        return (artifact.path,)
    return tuple(sorted(path for path in artifact.path.rglob("*") if path.is_file()))


def write_json(path: Path, value: object) -> None:
    """Readable JSON with a fixed order and a final newline."""
    text = json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _fill(work: Path, recipe: Recipe, built: Built, golden: Artifact, result: dict[str, Any], version: str) -> None:
    from edgec.pipeline.report.page import render_report

    contract = read_contract(built.binary.path, built.qdq.path / "model.onnx")
    _copy_results(work, recipe, built, golden)
    write_json(work / "latency.json", result["latency"])
    write_predictions(work / "predictions.csv", built.evaluation.path, recipe.test, recipe.labelled)
    if _fits_firmware(built.binary, contract):
        write_c_sources(work / "c", _c_model(work, recipe, built, contract, version))
    shutil.copyfile(VERIFIER, work / "verify.py")
    draft = _manifest(work, recipe, built, contract, result, version)
    (work / "sbom.cdx.json").write_text(sbom(draft), encoding="utf-8", newline="\n")
    (work / "README.md").write_text(model_card(draft), encoding="utf-8", newline="\n")
    (work / "report.html").write_text(render_report([(work, draft)]), encoding="utf-8", newline="\n")
    _seal(work, _manifest(work, recipe, built, contract, result, version))
    write_json(work / RESULT, result)
    (work / RESULT_SUM).write_text(sums(((RESULT, file_sha256(work / RESULT)),)), encoding="utf-8", newline="\n")


def _copy_results(work: Path, recipe: Recipe, built: Built, golden: Artifact) -> None:
    if built.binary.path.is_dir():
        shutil.copytree(built.binary.path, work / built.binary.path.name)
    else:
        shutil.copyfile(built.binary.path, work / built.binary.path.name)
    (work / "reference").mkdir()
    shutil.copyfile(built.fp32.path, work / "reference" / "float.onnx")
    shutil.copyfile(built.qdq.path / "model.onnx", work / "reference" / "qdq.onnx")
    shutil.copyfile(built.qdq.path / "report.json", work / "quantization.json")
    shutil.copytree(golden.path, work / "golden")
    write_json(work / "preprocess.json", asdict(recipe.preprocess))
    labels = "".join(f"{label}\n" for label in recipe.labels)
    (work / "labels.txt").write_text(labels, encoding="utf-8", newline="\n")


def _seal(work: Path, manifest: Manifest) -> None:
    content = to_bytes(manifest)
    (work / MANIFEST).write_bytes(content)
    digests = [(entry.path, entry.sha256) for entry in manifest.files]
    listed = sums((*digests, (MANIFEST, file_sha256(work / MANIFEST))))
    (work / SUMS).write_text(listed, encoding="utf-8", newline="\n")


def _manifest(
    work: Path, recipe: Recipe, built: Built, contract: Contract, result: dict[str, Any], version: str
) -> Manifest:
    runtime = runtime_of(built.binary.path)
    parse_version(version)
    artifact = built.binary.path.name
    return Manifest(
        schema_version=1,
        model=ModelIdentity(recipe.name, version),
        target=TargetIdentity(
            name=recipe.target.name,
            compiler=recipe.target.compiler,
            runtime=runtime.name,
            runtime_versions=runtime.versions,
            processor=recipe.target.device.description or recipe.target.description,
            artifact=artifact,
            arena_bytes=read_golden(work / "golden").arena_bytes,
        ),
        files=tuple(_entry(path, work, artifact) for path in sorted(work.rglob("*")) if path.is_file()),
        origin=origin_of(recipe),
        contract=contract,
        preprocessing=Preprocessing(**asdict(recipe.preprocess), integer=fold(recipe.preprocess, contract.inputs[0])),
        labels=recipe.labels,
        size_bytes=sum(file.stat().st_size for file in artifact_files(built.binary)),
        accuracy=accuracy_of(result),
        latency=latency_of(result),
        budgets=verdicts_of(result),
        licences=_licences(recipe),
        notes=recipe.notes,
    )


def origin_of(recipe: Recipe) -> Origin:
    """What was asked for, without paths of the machine that built it."""
    return Origin(
        source=_source(recipe),
        calibration_set=_data_set(recipe.calibration),
        test_set=_data_set(recipe.test),
        quantizer=recipe.quantizer,
        target=json.loads(json.dumps(asdict(recipe.target))),
        git_commit=git_commit(),
        toolchain=lock(),
    )


def _source(recipe: Recipe) -> Source:
    if isinstance(recipe.source, OnnxSource):
        path = recipe.source.path
        return Source("onnx", path.name, file_sha256(path), None, recipe.labelled)
    weights = recipe.source.weights
    network = json.loads(json.dumps(asdict(recipe.source.config)))
    return Source("weights", Path(weights.name).name, weights.sha256, network, recipe.labelled)


def _data_set(images: Dataset) -> DataSet:
    return DataSet(images.artifact().sha256, len(images))


def _licences(recipe: Recipe) -> tuple[Licence, ...]:
    stated = None if isinstance(recipe.source, OnnxSource) else recipe.source.weights.license
    return (Licence("weights", stated or "not stated"), Licence("sources in c/, verify.py", "Apache-2.0"))


def _entry(path: Path, work: Path, artifact: str) -> FileEntry:
    name = path.relative_to(work).as_posix()
    bitwise = name not in TIMED and path.suffix not in ENGINE_SUFFIXES
    return FileEntry(name, _role(name, artifact), path.stat().st_size, file_sha256(path), bitwise)


def _role(name: str, artifact: str) -> str:
    folder = name.partition("/")[0]
    if folder == artifact:
        return "artifact"
    return ROLES.get(name, {"c": "c-source", "golden": "golden-vector"}.get(folder, "other"))


def _fits_firmware(binary: Artifact, contract: Contract) -> bool:
    """C sources describe one image in, and hold what a runtime takes from memory; an engine is built on its device."""
    suffixes = {file.suffix for file in artifact_files(binary)}
    return contract.inputs[0].layout in ("NHWC", "NCHW") and suffixes <= LINKABLE_SUFFIXES


def _c_model(work: Path, recipe: Recipe, built: Built, contract: Contract, version: str) -> CModel:
    golden = read_golden(work / "golden")
    return CModel(
        c_prefix(recipe.name),
        parse_version(version),
        recipe.target.name,
        contract,
        recipe.preprocess,
        recipe.labels if len(recipe.labels) == contract.outputs[0].size else (),
        golden,
        work / "golden",
        artifact_files(built.binary),
        golden.arena_bytes,
    )
