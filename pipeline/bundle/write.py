"""Writes a bundle: everything into a new folder, the manifest last, and then the folder in place as a whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.c_sources import CModel, c_prefix, can_be_c, write_c_sources
from edgec.pipeline.bundle.extras import no_c_sources
from edgec.pipeline.bundle.float_network import stated
from edgec.pipeline.bundle.folder import copy_folder, replacing
from edgec.pipeline.bundle.manifest import (
    RESULT,
    RESULT_SUM,
    SCHEMA_VERSION,
    DataSet,
    Licence,
    Manifest,
    ModelIdentity,
    Origin,
    Preprocessing,
    Source,
    TargetIdentity,
    sums,
)
from edgec.pipeline.bundle.provenance import git_commit, lock
from edgec.pipeline.bundle.records import ACCURACY, LATENCY, QUANTIZATION, SENSITIVITY, TRAINING
from edgec.pipeline.bundle.release import Release
from edgec.pipeline.bundle.seal import Render, seal
from edgec.pipeline.bundle.semver import parse_version
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.format import Contract, Format, size_bytes
from edgec.pipeline.forms.golden import read_golden, write_vectors
from edgec.pipeline.forms.integer_preprocess import fold
from edgec.pipeline.forms.measure import summary
from edgec.pipeline.forms.spec import first_layers
from edgec.pipeline.network.import_onnx import onnx_artifact
from edgec.pipeline.quantize.stages import read_ranking
from edgec.pipeline.recipe import OnnxSource, Recipe
from edgec.pipeline.tasks.metrics import finite

VERIFIER = Path(__file__).with_name("verify_standalone.py")


def write_bundle(folder: Path, release: Release, render: Render, log: dict[str, Any] | None = None) -> None:
    """Write ``folder`` whole or not at all; an older bundle there is replaced.

    Args:
        render: draws ``report.html``.
        log: ``result.json``: paths and times of one build, beside the release and no part of it.

    Raises:
        EdgecError: ``output-exists``, ``output-not-writable``, ``disk-full``, ``bad-version``, ``no-c-sources``.
    """
    with replacing(folder) as work:
        _fill(work, release, render, log)


def write_json(path: Path, value: object) -> None:
    """Readable JSON with a fixed order and a final newline."""
    text = json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _fill(work: Path, release: Release, render: Render, log: dict[str, Any] | None) -> None:
    recipe, artifact = release.recipe, release.artifact.name
    format_ = load_compiler(recipe.target.compiler).FORMAT
    contract = format_.contract(release.artifact)
    _copy_results(work, release)
    write_json(work / "preprocess.json", recipe.preprocess.stated())
    labels = "".join(f"{label}\n" for label in recipe.labels)
    (work / "labels.txt").write_text(labels, encoding="utf-8", newline="\n")
    write_json(work / ACCURACY, asdict(release.accuracy))
    write_json(work / LATENCY, asdict(release.latency))
    release.built.task.write(work / "predictions.csv", release.answers, recipe.test, recipe.preprocess, recipe.labelled)
    if "vectors" in release.extras:
        write_vectors(work / "golden", read_golden(work / "golden"), contract, recipe.preprocess)
    if "c" in release.extras and not can_be_c(contract):
        raise no_c_sources("C has no half floats, truth values or shapes such as its inputs and outputs have")
    if "c" in release.extras or (format_.is_linked(recipe.settings) and can_be_c(contract)):
        write_c_sources(work / "c", _c_model(work, release, contract, format_))
    shutil.copyfile(VERIFIER, work / "verify.py")
    seal(work, _manifest(release, contract), render, [f"{artifact}/{file.name}" for file in release.made])
    if log is not None:
        write_json(work / RESULT, log)
        listed = sums(((RESULT, file_sha256(work / RESULT)),))
        (work / RESULT_SUM).write_text(listed, encoding="utf-8", newline="\n")


def _copy_results(work: Path, release: Release) -> None:
    built, artifact = release.built, release.artifact
    if artifact.is_dir():
        copy_folder(artifact, work / artifact.name)
    else:
        shutil.copyfile(artifact, work / artifact.name)
    for file in release.made:
        shutil.copyfile(file, work / artifact.name / file.name)
    (work / "reference").mkdir()
    if "float" in release.extras:
        shutil.copyfile(built.fp32.path, work / "reference" / "float.onnx")
    shutil.copyfile(built.qdq.path / "model.onnx", work / "reference" / "qdq.onnx")
    write_json(work / QUANTIZATION, asdict(replace(release.quantization, integers_p50_ms=release.integers_p50_ms)))
    if release.sensitivity is not None:
        ranked = read_ranking(release.sensitivity)
        write_json(work / SENSITIVITY, {entry.layer.name: finite(entry.sqnr_db) for entry in ranked})
    source = release.recipe.source
    if not isinstance(source, OnnxSource) and source.weights.curve is not None:
        write_json(work / TRAINING, asdict(source.weights.curve))
    copy_folder(built.golden.path, work / "golden")


def _manifest(release: Release, contract: Contract) -> Manifest:
    """Without files: ``seal`` lists them."""
    recipe = release.recipe
    parse_version(release.version)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=ModelIdentity(recipe.name, release.version),
        target=_target(release),
        files=(),
        origin=origin_of(recipe),
        contract=contract,
        preprocessing=Preprocessing(**asdict(recipe.preprocess), integer=fold(recipe.preprocess, contract.inputs[0])),
        labels=recipe.labels,
        size_bytes=size_bytes(release.artifact),
        memory=release.memory,
        accuracy=release.accuracy,
        latency=summary(release.latency),
        evaluated_on=release.built.on,
        precision_verdict=release.precision_verdict,
        candidates=release.candidates,
        weighed=release.weighed,
        stability=release.stability,
        float_network=stated(release.built.fp32),
        fast_kernels=release.placement.fast_kernels,
        budgets=release.budgets,
        licences=_licences(recipe),
        notes=release.notes,
        poor=release.poor,
    )


def _target(release: Release) -> TargetIdentity:
    target, artifact = release.recipe.target, release.artifact
    format_ = load_compiler(target.compiler).FORMAT
    runtime = format_.runtime(release.recipe.settings)
    return TargetIdentity(
        name=target.name,
        compiler=target.compiler,
        format=format_.name,
        runtime=runtime.name,
        runtime_versions=runtime.versions,
        processor=target.device.description or target.description,
        precision=target.precision,
        artifact=artifact.name,
        beside_int8=finer.activation_dtype.upper() if (finer := first_layers(target)[0]) else None,
    )


def origin_of(recipe: Recipe) -> Origin:
    """What was asked for, without paths of the machine that built it."""
    return Origin(
        source=_source(recipe),
        calibration_set=_data_set(recipe.calibration),
        test_set=_data_set(recipe.test),
        quantizer=recipe.quantizer,
        task=recipe.task,
        max_drop_pp=recipe.limit.max_drop_pp if recipe.limit else None,
        deciding_set=_data_set(recipe.limit.images) if recipe.limit else None,
        target=json.loads(json.dumps(asdict(recipe.target))),
        git_commit=git_commit(),
        toolchain=lock(),
        learn_minutes=recipe.learn_minutes,
    )


def _source(recipe: Recipe) -> Source:
    if isinstance(recipe.source, OnnxSource):
        path = recipe.source.path
        return Source("onnx", path.name, onnx_artifact(path).sha256, None, recipe.labelled)
    weights = recipe.source.weights
    network = json.loads(json.dumps(asdict(recipe.source.config)))
    return Source("weights", Path(weights.name).name, weights.sha256, network, recipe.labelled)


def _data_set(images: Dataset) -> DataSet:
    return DataSet(images.artifact().sha256, len(images))


def _licences(recipe: Recipe) -> tuple[Licence, ...]:
    stated = None if isinstance(recipe.source, OnnxSource) else recipe.source.weights.license
    return (Licence("weights", stated or "not stated"), Licence("sources in c/, verify.py", "Apache-2.0"))


def _c_model(work: Path, release: Release, contract: Contract, format_: Format) -> CModel:
    recipe = release.recipe
    registered = tuple(filter(None, map(format_.resolver_name, contract.operators)))
    return CModel(
        c_prefix(recipe.name),
        parse_version(release.version),
        recipe.target.name,
        contract,
        recipe.preprocess,
        recipe.labels if len(recipe.labels) == contract.outputs[0].size else (),
        read_golden(work / "golden"),
        work / "golden",
        release.artifact,
        registered,
        release.memory.arena_with_margin_bytes,
    )
