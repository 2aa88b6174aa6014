"""One build from request to bundle: stages, then latency, then the folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgec.pipeline.build import build
from edgec.pipeline.bundle.golden import Golden
from edgec.pipeline.bundle.write import Release, write_bundle
from edgec.pipeline.measure import Latency, measure
from edgec.pipeline.ort import OrtRunner
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.result import make_result
from edgec.pipeline.store import Artifact, Run, Store, default_root
from edgec.targets.adapter import load_adapter
from edgec.targets.spec import TargetSpec


def run_job(recipe: Recipe, folder: Path, threads: int, release: Release = Release()) -> dict[str, Any]:
    """Build, measure, write the bundle; return ``result.json``.

    Raises:
        EdgecError: whatever a stage or the bundle raises; nothing is left at ``folder``.
    """
    store = Store(default_root())
    store.sweep()
    built = build(recipe, store)
    calibration_set = recipe.calibration.artifact()
    vectors = Golden(recipe.target, recipe.preprocess, recipe.calibration)
    golden = store.run(vectors, built.fp32, built.qdq, built.binary, calibration_set)
    started = time.perf_counter()
    latency = latency_of(built.binary, built.fp32, recipe.target, threads)
    store.runs.append(Run("measure", "", False, time.perf_counter() - started))
    result = make_result(recipe, built, latency, store.runs, folder)
    write_bundle(folder, recipe, built, golden, result, release)
    return result


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
