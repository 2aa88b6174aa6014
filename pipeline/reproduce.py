"""``edgec reproduce``: build a bundle again from its manifest and compare the two, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgec.pipeline.build import build
from edgec.pipeline.bundle.archive import pack
from edgec.pipeline.bundle.diff import diff
from edgec.pipeline.bundle.extras import extras_of
from edgec.pipeline.bundle.float_network import choices_of
from edgec.pipeline.bundle.manifest import SIGNED, FileEntry, Manifest
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.records import SENSITIVITY, read_latency, read_quantization
from edgec.pipeline.bundle.release import Release, release_of
from edgec.pipeline.bundle.seal import engines_of, has_device
from edgec.pipeline.bundle.verify import opened, verify
from edgec.pipeline.bundle.write import origin_of, write_bundle
from edgec.pipeline.candidates import left_to_the_device
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.store import Store
from edgec.pipeline.recipe import Choices, DataFolders, Recipe, make_recipe
from edgec.pipeline.report.page import render_report

ORDER = ("float-network", "quantized-network", "artifact", "golden-vector", "c-source")
"""Roles from cause to effect: the first difference is the one to look at."""


@dataclass(frozen=True)
class Material:
    """What a bundle names by digest only, because it lies with its owner; None takes what the name finds here.

    Attributes:
        model: a user's ONNX file or ``model.toml``.
        weights: as ``--weights`` takes them.
    """

    model: Path | None = None
    weights: str | None = None
    data: DataFolders = field(default_factory=DataFolders)


@dataclass(frozen=True)
class Reproduction:
    """How the second build compares.

    Attributes:
        num_equal: files with the same bytes.
        by_meaning: engines: no two are equal; built anew, this one gave the recorded answers to the golden vectors.
        not_compared: what a device made or answered, and no device was given or none can make it again.
        differences: files that differ or exist once, causes first.
        reasons: what differs between the two manifests, in words.
        archive_sha256: of the rebuilt bundle as .tar.zst; None where something differs or the first one is signed.
    """

    num_equal: int
    by_meaning: tuple[str, ...]
    not_compared: tuple[str, ...]
    differences: tuple[str, ...]
    reasons: tuple[str, ...]
    archive_sha256: str | None


def reproduce(path: Path, material: Material, on: str | None = None) -> Reproduction:
    """Build again in an empty store and compare every file.

    Times are not measured again: the latency of ``latency.json`` is carried over, everything else is computed anew.

    Args:
        on: the device that builds and runs an engine again.

    Raises:
        EdgecError: what opening, ``make_recipe``, ``build`` and devices raise; ``wrong-material`` where the files at
            hand are not those that the bundle was made from.
    """
    with opened(path) as bundle, scratch("reproduce") as work:
        recipe = recipe_of(bundle, material)
        _check_material(bundle, recipe)
        folder = work / "bundle"
        _rebuild(bundle, recipe, work, folder)
        return _compare(bundle, open_bundle(folder), on)


def recipe_of(bundle: Bundle, material: Material) -> Recipe:
    """The request that the manifest records, on the files at hand.

    Raises:
        EdgecError: ``wrong-material``; what ``make_recipe`` raises.
    """
    origin = bundle.manifest.origin
    if origin.source.kind == "onnx" and material.model is None:
        hint = "give it with --model FILE"
        raise EdgecError("wrong-material", f"the bundle was made from your own file '{origin.source.name}'", hint)
    network = origin.source.network or {}
    recipe = make_recipe(
        str(material.model) if material.model else network["model"],
        "onnxruntime",
        material.data,
        Choices() if material.model else choices_of(bundle, material.weights),
        origin.calibration_set.num_images,
        origin.quantizer,
        max_drop_pp=origin.max_drop_pp,
        task=origin.task,
        learn_minutes=(origin.learn_minutes or 0.0) if origin.quantizer == "best" else None,
    )
    return replace(recipe, target=bundle.target, name=bundle.manifest.model.name)


def _check_material(bundle: Bundle, recipe: Recipe) -> None:
    stated, found = bundle.manifest.origin, origin_of(recipe)
    for what, option, one, other in (
        ("the checkpoint", "--weights or --model", stated.source.checkpoint_sha256, found.source.checkpoint_sha256),
        ("the calibration set", "--data", stated.calibration_set.sha256, found.calibration_set.sha256),
        ("the test set", "--data", stated.test_set.sha256, found.test_set.sha256),
    ):
        if one != other:
            message = f"{what} has sha256 {other}, expected {one}"
            raise EdgecError("wrong-material", message, f"give what the bundle was made from with {option}")
    if bundle.preprocess != recipe.preprocess:
        message = f"preprocessing is {recipe.preprocess}, expected {bundle.preprocess}"
        raise EdgecError("wrong-material", message, "give the model.toml that the bundle was made from with --model")


def _rebuild(bundle: Bundle, recipe: Recipe, work: Path, folder: Path) -> None:
    stated, store, ranked = bundle.manifest, Store(work / "store"), (bundle.folder / SENSITIVITY).is_file()

    def release_for(one: Recipe) -> Release:
        return release_of(build(one, store), ranked)

    built = left_to_the_device(recipe, release_for, work) if stated.candidates else release_for(recipe)
    release = replace(
        built,
        latency=read_latency(bundle.folder),
        integers_p50_ms=read_quantization(bundle.folder).integers_p50_ms,
        precision_verdict=stated.precision_verdict,
        weighed=stated.weighed,
        stability=built.built.stability if stated.stability else None,
        version=stated.model.version,
        budgets=stated.budgets,
        extras=extras_of(stated),
    )
    write_bundle(folder, release, render_report)


def _compare(old: Bundle, new: Bundle, on: str | None) -> Reproduction:
    before, after = ({entry.path: entry for entry in bundle.manifest.files} for bundle in (old, new))
    paths = sorted(before.keys() | after.keys(), key=lambda path: (_rank(before.get(path) or after[path]), path))
    of_device = [path for path in paths if has_device(before) and path in before and not before[path].reproducible]
    differences = tuple(path for path in paths if path not in of_device and before.get(path) != after.get(path))
    engines = tuple(engines_of(old.manifest)) if on else ()
    if engines:
        verify(old.folder, on=on)
    reasons = tuple(_reasons(old.manifest, new.manifest)) if differences else ()
    whole = not (differences or of_device or any((old.folder / name).exists() for name in SIGNED))
    return Reproduction(
        len(paths) - len(differences) - len(of_device),
        engines,
        tuple(path for path in of_device if path not in engines),
        differences,
        reasons,
        pack(new.folder, new.folder.with_name("rebuilt.tar.zst")) if whole else None,
    )


def _rank(entry: FileEntry) -> int:
    return ORDER.index(entry.role) if entry.role in ORDER else len(ORDER) + (not entry.reproducible)


def _reasons(old: Manifest, new: Manifest) -> Iterator[str]:
    return (change.words for change in diff(old, new).changes if change.area != "files")
