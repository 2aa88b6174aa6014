"""One build from request to bundle: stages, latency where the artifact runs, then the folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgec.pipeline.build import Build, build
from edgec.pipeline.bundle.extras import Extra, check_extras
from edgec.pipeline.bundle.release import Release, release_of
from edgec.pipeline.bundle.semver import FIRST, parse_version
from edgec.pipeline.bundle.write import write_bundle
from edgec.pipeline.candidates import left_to_the_device
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.core.store import Run, Store
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.form import TARGET, ThereForm
from edgec.pipeline.forms.format import size_bytes
from edgec.pipeline.forms.measure import BRIEF, THOROUGH, Latency, beside_float, measure_in_turns
from edgec.pipeline.forms.observe import Observe, Observed, Unseen, read_observed
from edgec.pipeline.forms.ort import noise_for
from edgec.pipeline.forms.spec import TargetSpec, float_settings, in_float, with_precision
from edgec.pipeline.gate.fingerprint import read_fingerprint
from edgec.pipeline.precision import Outcome, rows_of, weigh
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.report.page import render_report

NO_FLOAT = ("unsupported-operator", "unsupported-precision")
"""How a compiler refuses a float network whose integers it takes."""


@dataclass(frozen=True)
class Judging:
    """Where and how a build is judged.

    Attributes:
        on: the device that evaluates and measures; this machine where None.
        timed: False leaves latency unmeasured, and then equal requests give equal bundles.
        ranked: find out which layers quantize worst, for the report.
        halved: find out how the answers hang on the calibration images.
        weigh_precisions: build every precision of the board and ship the one that pays.
        extras: what the bundle is to hold beside what every bundle holds.
        beside_float: time the float network through the same compiler and runtime too.
    """

    threads: int = 1
    on: str | None = None
    timed: bool = True
    ranked: bool = False
    halved: bool = False
    weigh_precisions: bool = False
    extras: tuple[Extra, ...] = ()
    beside_float: bool = True


def usual_folder(recipe: Recipe) -> Path:
    """Where its bundle goes when nobody says."""
    return Path("edgec-out") / f"{recipe.name}-{recipe.target.name}"


def deliver(recipe: Recipe, folder: Path, judging: Judging, version: str = FIRST) -> dict[str, Any]:
    """Build, measure, write the bundle; return ``result.json``.

    Args:
        version: semver of the bundle.

    Raises:
        EdgecError: whatever a stage, the device or the bundle raises; ``precision-undecided``, ``bad-version``,
            ``no-c-sources``. Nothing is left at ``folder``.
    """
    parse_version(version)
    check_extras(judging.extras, recipe.target)
    store = Store(default_root())
    with scratch("build") as work:
        release = _best(recipe, store, judging, work)
        stability = release.built.stability if judging.halved else None
        release = _with_integers(
            replace(release, version=version, stability=stability, extras=judging.extras), store, judging
        )
        result = make_result(release, store.runs, folder)
        write_bundle(folder, release, render_report, result)
    return result


def _best(recipe: Recipe, store: Store, judging: Judging, work: Path) -> Release:
    """The recipe's own precision, the one that pays, or all of them where only the device can tell."""
    if not judging.weigh_precisions:
        return judged_release(recipe, store, judging, work)
    if len(recipe.target.precisions) < 2:
        message = f"'{recipe.target.name}' has one precision: {recipe.target.precision}"
        raise EdgecError("unsupported-precision", message, "leave --precision away")
    compiler = load_compiler(recipe.target.compiler)
    here = recipe.target.device.is_this_machine and compiler.probe(recipe.settings).can_run
    if judging.on is None and not here and not compiler.FORMAT.counts_arena(recipe.settings):
        release = left_to_the_device(recipe, lambda one: release_of(build(one, store), judging.ranked), work)
        return replace(release, latency=latency_of(release, judging)) if judging.timed else release
    judging = replace(judging, beside_float=False)  # FP16 is one of them
    releases = {}
    for precision in recipe.target.precisions:
        (work / precision).mkdir()
        candidate = replace(recipe, target=with_precision(recipe.target, precision))
        try:
            releases[precision] = judged_release(candidate, store, judging, work / precision)
        except EdgecError as error:
            if error.code != "mixed-gains-nothing":
                raise
    outcomes = {
        name: Outcome(
            release.accuracy,
            release.latency,
            release.instructions,
            size_bytes(release.artifact),
            release.memory.arena_bytes,
        )
        for name, release in releases.items()
    }
    verdict = weigh(outcomes)
    return replace(releases[verdict.precision], precision_verdict=verdict.text, weighed=rows_of(outcomes))


def judged_release(recipe: Recipe, store: Store, judging: Judging, work: Path) -> Release:
    """Build; then measure, here or on the device."""
    release = release_of(build(recipe, store, judging.on), judging.ranked)
    started, before = time.perf_counter(), len(store.runs)
    form = release.built.forms[TARGET][0] if judging.on else None
    if isinstance(form, ThereForm):
        release = _measured_there(release, replace(form, threads=judging.threads), judging, work)
    elif judging.timed:
        release = replace(release, latency=latency_of(release, judging))
    of_stages = sum(run.seconds for run in store.runs[before:])
    store.runs.append(Run("measure", "", False, time.perf_counter() - started - of_stages))
    return release


def _measured_there(release: Release, form: ThereForm, judging: Judging, work: Path) -> Release:
    """Latency on the device, beside float's there, and the files that it made of the artifact."""
    device, made = form.open(release.built.binary.path), work / "made"
    made.mkdir()
    if judging.timed:
        float_binary, why = _float_binary(release, judging)
        cost = device.cost(float_binary)
        latency = replace(cost.latency, no_float=why) if why else cost.latency
        release = replace(release, latency=latency, instructions=cost.instructions)
    device.fetch(made)
    return replace(release, made=tuple(sorted(made.iterdir())))


def latency_of(release: Release, judging: Judging) -> Latency:
    """Latency on this machine, where this machine is the target; otherwise the plain words that it is not known."""
    recipe, binary, threads = release.recipe, release.built.binary.path, judging.threads
    if not recipe.target.device.is_this_machine:
        return replace(release.latency, note=f"this machine is no {recipe.target.name}: measure there with --on")
    compiler = load_compiler(recipe.target.compiler)
    probe = compiler.probe(recipe.settings)
    if not probe.can_run:
        return replace(release.latency, note=probe.missing)
    image = noise_for(release.built.fp32.path)
    timed, (float_binary, why) = [(binary, recipe.settings)], _float_binary(release, judging)
    if float_binary is not None:
        timed.append((float_binary, float_settings(recipe.target)))
    runners = [compiler.open_runner(artifact, settings, threads) for artifact, settings in timed]
    effort = THOROUGH if judging.weigh_precisions else BRIEF
    found, *floats = measure_in_turns([runner.single(image) for runner in runners], threads, effort)
    seen, beside = _observed(release, recipe.target, release.built.binary, threads), None
    if float_binary is not None:
        in_float_seen = _observed(release, in_float(recipe.target), release.built.float_binary, threads, layers=False)
        beside = beside_float(found, floats[0], in_float_seen.first)
    return replace(
        found,
        fingerprint=read_fingerprint(threads).words(),
        layer_us=seen.layer_us,
        load_ms=seen.first.load_ms,
        peak_rss_bytes=seen.first.peak_rss_bytes,
        beside_float=beside,
        no_float=why,
    )


def _observed(
    release: Release, target: TargetSpec, artifact: Artifact, threads: int, *, layers: bool = True
) -> Observed:
    """Kept from an earlier build where artifact, machine and runtime are the same.

    A store that may only be read serves a build whose stages it holds; what is seen is then not kept.
    """
    stage, fp32 = Observe(target, threads, read_fingerprint(threads).words(), layers), release.built.fp32
    try:
        return read_observed(release.built.store.run(stage, artifact, fp32).path)
    except Unseen as unseen:
        return unseen.observed
    except EdgecError as error:
        if error.code != "store-not-writable":
            raise
        return stage.look(artifact.path, fp32.path)


def _float_binary(release: Release, judging: Judging) -> tuple[Path | None, str]:
    """The artifact to compare with, or none: nobody asks, it is the artifact itself, or, with words, it is refused."""
    if not judging.beside_float or release.recipe.target.precision == "fp16":
        return None, ""
    try:
        return release.built.float_binary.path, ""
    except EdgecError as error:
        if error.code not in NO_FLOAT:
            raise
        return None, error.message


def _with_integers(release: Release, store: Store, judging: Judging) -> Release:
    """What holding a drop cost: the latency of the network all in integers, measured right after."""
    held = release.quantization.fallback
    if held is None or not held.num_layers or release.latency.p50_ms is None or judging.on is not None:
        return release
    plain = Build(replace(release.recipe, limit=None), store)
    integers = latency_of(replace(release, built=plain), replace(judging, beside_float=False))
    return replace(release, integers_p50_ms=integers.p50_ms)


def make_result(release: Release, runs: Sequence[Run], folder: Path) -> dict[str, Any]:
    """``result.json``: what a build found, in the fields that other tools rely on.

    Accuracies in percent, times in the unit of their name. ``float_layers``: what quantization left in float and why.
    """
    recipe = release.recipe
    size = size_bytes(release.artifact)
    seconds: dict[str, float] = {}
    for run in runs:
        seconds[run.stage] = seconds.get(run.stage, 0.0) + run.seconds
    return {
        "model": recipe.name,
        "version": release.version,
        "target": recipe.target.name,
        "weights": recipe.weights,
        "bundle": str(folder),
        "artifact": release.artifact.name,
        "size_bytes": size,
        "accuracy": asdict(release.accuracy),
        "latency": asdict(release.latency),
        "instructions": release.instructions,
        "build_seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
        "cached_stages": [run.stage for run in runs if run.cached],
        "quantizer": recipe.quantizer,
        "precision": recipe.target.precision,
        "precision_verdict": release.precision_verdict,
        "weighed": [asdict(row) for row in release.weighed],
        "candidates": list(release.candidates),
        "placement": asdict(release.placement),
        "memory": asdict(release.memory),
        "float_layers": [asdict(layer) for layer in release.quantization.float_layers],
        "left_out": sorted({*recipe.calibration.left_out, *recipe.test.left_out}),
        "notes": list(release.notes),
        "level_kept": asdict(kept) if (kept := release.quantization.kept) else None,
        "stability": asdict(release.stability) if release.stability else None,
        "poor": asdict(poor) if (poor := release.poor) else None,
    }
