"""One build from request to bundle: stages, then accuracy and latency where the artifact runs, then the folder."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.build import Built, build
from edgec.pipeline.bundle.golden import Golden
from edgec.pipeline.bundle.semver import FIRST, parse_version
from edgec.pipeline.bundle.write import write_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Run, Store, default_root
from edgec.pipeline.forms.adapter import OnDevice, load_adapter
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.measure import Latency, measure
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import with_precision
from edgec.pipeline.gate.fingerprint import read_fingerprint
from edgec.pipeline.precision import Verdict, undecided, weigh
from edgec.pipeline.quantize.stages import Rank
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.release import Release
from edgec.pipeline.result import make_result
from edgec.pipeline.tasks.evaluate import IMAGES_PER_PUSH, Accuracy, Logits, compare, predict_all

THERE_NOTE = "the artifact was evaluated on a device, not on the building machine"


@dataclass(frozen=True)
class Measuring:
    """Where and how a build is judged.

    Attributes:
        on: the device that evaluates and measures; this machine where None.
        timed: False leaves latency unmeasured, and then equal requests give equal bundles.
        ranked: find out which layers quantize worst, for the report.
        weigh_precisions: build every precision of the board and ship the one that pays.
    """

    threads: int = 1
    on: str | None = None
    timed: bool = True
    ranked: bool = False
    weigh_precisions: bool = False


def run_job(recipe: Recipe, folder: Path, measuring: Measuring, version: str = FIRST) -> dict[str, Any]:
    """Build, measure, write the bundle; return ``result.json``.

    Args:
        version: semver of the bundle.

    Raises:
        EdgecError: whatever a stage, the device or the bundle raises; ``precision-undecided``, ``bad-version``. Nothing
            is left at ``folder``.
    """
    parse_version(version)
    store = Store(default_root())
    store.sweep()
    with tempfile.TemporaryDirectory(prefix="edgec-") as work:
        release, verdict = _release(recipe, store, measuring, Path(work))
        release = replace(release, version=version)
        if verdict:
            release = replace(release, notes=(*release.notes, verdict.text))
        if release.recipe.limit is not None:
            release = replace(release, notes=(*release.notes, fallback_note(release, store, measuring)))
        result = make_result(release, store.runs, folder)
        if verdict:
            result["precision_verdict"] = verdict.text
        write_bundle(folder, release, result)
    return result


def _release(recipe: Recipe, store: Store, measuring: Measuring, work: Path) -> tuple[Release, Verdict | None]:
    if not measuring.weigh_precisions:
        return _judged(recipe, store, measuring, work), None
    if len(recipe.target.precisions) < 2:
        message = f"'{recipe.target.name}' has one precision: {recipe.target.precision}"
        raise EdgecError("unsupported-precision", message, "leave --precision away")
    here = recipe.target.device.is_this_machine and load_adapter(recipe.target.compiler).probe(recipe.target).can_run
    if measuring.on is None and not here:
        raise undecided()
    releases = {}
    for precision in recipe.target.precisions:
        (work / precision).mkdir()
        candidate = replace(recipe, target=with_precision(recipe.target, precision))
        releases[precision] = _judged(candidate, store, measuring, work / precision)
    verdict = weigh({name: (release.accuracy, release.latency) for name, release in releases.items()})
    return releases[verdict.precision], verdict


def _judged(recipe: Recipe, store: Store, measuring: Measuring, work: Path) -> Release:
    """Build; then evaluate and measure, here or on the device."""
    release = build_release(recipe, store, measuring.ranked)
    started = time.perf_counter()
    if measuring.on is not None:
        adapter, binary = load_adapter(recipe.target.compiler), release.built.binary.path
        there = adapter.on_device(open_device(measuring.on), binary, recipe.target, measuring.threads)
        release = _judged_there(release, there, measuring.timed, work)
    elif measuring.timed:
        release = replace(release, latency=latency_of(release, measuring.threads))
    store.runs.append(Run("measure", "", False, time.perf_counter() - started))
    return release


def build_release(recipe: Recipe, store: Store, ranked: bool = False) -> Release:
    """Everything but what is measured anew each time.

    Raises:
        EdgecError: whatever a stage raises.
    """
    built, images = build(recipe, store), recipe.calibration.artifact()
    golden = store.run(_golden(recipe), built.fp32, built.qdq, built.binary, images)
    rank = Rank(recipe.target.scheme, recipe.preprocess, recipe.calibration)
    adapter = load_adapter(recipe.target.compiler)
    estimated_ms = adapter.estimate(built.binary.path, recipe.target)
    return Release(
        recipe,
        built,
        placement=adapter.placement(built.binary.path, recipe.target),
        golden=golden.path,
        logits=_logits(built),
        accuracy=Accuracy(**json.loads((built.evaluation.path / "accuracy.json").read_text())),
        latency=Latency("not-measured", note="not asked for", estimated_ms=estimated_ms),
        notes=(*recipe.notes, *recipe.target.notes),
        sensitivity=store.run(rank, built.fp32, built.statistics, images).path if ranked else None,
    )


def fallback_note(release: Release, store: Store, measuring: Measuring) -> str:
    """What holding the drop took: layers, and the time of the network all in integers, measured right after.

    Raises:
        EdgecError: whatever a stage raises.
    """
    report = json.loads((release.built.qdq.path / "report.json").read_text())
    decided, latency = report["fallback"], release.latency
    held = f"{decided['drop_pp']:.2f} pp on {decided['num_images']} other images, {decided['max_drop_pp']:g} allowed"
    layers = decided["num_layers"]
    if not layers:
        return f"no layer had to go back into float: the drop is {held}"
    note = f"{layers} sensitive layers stay in float: the drop is {held}"
    if latency.p50_ms is None or measuring.on is not None:
        return f"{note}; what that costs in latency is not measured"
    plain = replace(release.recipe, limit=None)
    integers = latency_of(replace(release, recipe=plain, built=build(plain, store)), measuring.threads)
    return f"{note}; p50 {latency.p50_ms:.3f} ms, all in integers {integers.p50_ms:.3f} ms"


def _golden(recipe: Recipe) -> Golden:
    return Golden(recipe.target, recipe.preprocess, recipe.calibration)


def _logits(built: Built) -> dict[str, Logits]:
    with np.load(built.evaluation.path / "logits.npz") as kept:
        return dict(kept)


def _judged_there(release: Release, there: OnDevice, timed: bool, work: Path) -> Release:
    """The device's answers beside those that ``Evaluate`` kept of the float network and the reference."""
    recipe, (made, golden) = release.recipe, (work / "made", work / "golden")
    logits = {name: release.logits[name] for name in ("float", "reference")}
    logits |= predict_all({"target": there}, recipe.test, recipe.preprocess, IMAGES_PER_PUSH)
    _golden(recipe).add_device(release.golden, golden, release.built.binary.path, there)
    latency = there.cost().latency if timed else release.latency
    made.mkdir()
    there.fetch(made)
    return replace(
        release,
        golden=golden,
        logits=logits,
        accuracy=compare(logits, recipe.test.labels if recipe.labelled else None),
        latency=latency,
        notes=(*release.notes, THERE_NOTE),
        made=tuple(sorted(made.iterdir())),
    )


def latency_of(release: Release, threads: int) -> Latency:
    """Latency on this machine, where this machine is the target; otherwise the plain words that it is not known."""
    target, binary = release.recipe.target, release.built.binary.path
    if not target.device.is_this_machine:
        return replace(release.latency, note=f"this machine is no {target.name}: measure there with --on")
    adapter = load_adapter(target.compiler)
    probe = adapter.probe(target)
    if not probe.can_run:
        return replace(release.latency, note=probe.missing)
    image = OrtRunner(release.built.fp32.path).noise()
    found = measure(adapter.open_runner(binary, target, threads).single(image), threads)
    layer_us = adapter.layer_times(binary, target, threads)
    return replace(found, fingerprint=read_fingerprint(threads).words(), layer_us=layer_us)
