"""One build from request to bundle: stages, then latency, then the folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgec.pipeline.build import Built, build
from edgec.pipeline.bundle.golden import Golden
from edgec.pipeline.bundle.semver import FIRST, parse_version
from edgec.pipeline.bundle.write import write_bundle
from edgec.pipeline.measure import Latency, measure
from edgec.pipeline.ort import OrtRunner
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.result import make_result
from edgec.pipeline.store import Artifact, Run, Store, default_root
from edgec.targets.adapter import load_adapter
from edgec.targets.spec import TargetSpec


def run_job(recipe: Recipe, folder: Path, threads: int, version: str = FIRST, timed: bool = True) -> dict[str, Any]:
    """Build, measure, write the bundle; return ``result.json``.

    Args:
        version: semver of the bundle.
        timed: False leaves latency unmeasured, and then equal requests give equal bundles.

    Raises:
        EdgecError: whatever a stage or the bundle raises; nothing is left at ``folder``.
    """
    parse_version(version)
    store = Store(default_root())
    store.sweep()
    built = build(recipe, store)
    golden = golden_vectors(recipe, built, store)
    started = time.perf_counter()
    if timed:
        latency = latency_of(built.binary, built.fp32, recipe.target, threads)
    else:
        latency = Latency("not-measured", note="not asked for")
    store.runs.append(Run("measure", "", False, time.perf_counter() - started))
    result = make_result(recipe, built, latency, store.runs, folder)
    write_bundle(folder, recipe, built, golden, result, version)
    return result


def golden_vectors(recipe: Recipe, built: Built, store: Store) -> Artifact:
    """Inputs with the answers of every kernel set at hand, for the bundle."""
    stage = Golden(recipe.target, recipe.preprocess, recipe.calibration)
    return store.run(stage, built.fp32, built.qdq, built.binary, recipe.calibration.artifact())


def latency_of(binary: Artifact, fp32: Artifact, target: TargetSpec, threads: int) -> Latency:
    """Latency on this machine, where this machine is the target; otherwise the plain words that it is not known."""
    adapter = load_adapter(target.compiler)
    if not target.device.is_this_machine:
        return Latency("not-measured", note=f"this machine is no {target.name}: measure there with --on")
    probe = adapter.probe()
    if not probe.can_run:
        return Latency("not-measured", note=probe.missing)
    image = OrtRunner(fp32.path).noise()
    return measure(adapter.open_runner(binary.path, target, threads).single(image), threads)
