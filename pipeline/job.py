"""One build from request to bundle: stages, then accuracy and latency where the artifact runs, then the folder."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.build import Built, build
from edgec.pipeline.bundle.write import write_bundle
from edgec.pipeline.errors import EdgecError
from edgec.pipeline.evaluate import IMAGES_PER_PUSH, Accuracy, compare, predict_all
from edgec.pipeline.measure import Latency, measure
from edgec.pipeline.ort import OrtRunner
from edgec.pipeline.precision import Verdict, undecided, weigh
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.result import accuracy_of, make_result
from edgec.pipeline.store import Artifact, Run, Store, default_root
from edgec.targets.adapter import OnDevice, load_adapter
from edgec.targets.spec import TargetSpec, with_precision


@dataclass(frozen=True)
class Outcome:
    """One build, judged where it runs.

    Attributes:
        made: files that the device made of the artifact.
    """

    recipe: Recipe
    built: Built
    accuracy: Accuracy
    latency: Latency
    made: tuple[Path, ...] = ()


def run_job(
    recipe: Recipe, folder: Path, threads: int, on: str | None = None, weigh_precisions: bool = False
) -> dict[str, Any]:
    """Build, measure, write the bundle; return ``result.json``.

    Args:
        on: the device that evaluates and measures, instead of this machine.
        weigh_precisions: build every precision of the board and ship the one that pays.

    Raises:
        EdgecError: whatever a stage, the device or the bundle raises; ``precision-undecided``. Nothing is left at
            ``folder``.
    """
    store = Store(default_root())
    store.sweep()
    with tempfile.TemporaryDirectory(prefix="edgec-") as work:
        outcome, verdict = _outcome(recipe, store, threads, on, weigh_precisions, Path(work))
        result = make_result(outcome.recipe, outcome.built, outcome.accuracy, outcome.latency, store.runs, folder)
        if verdict:
            result["precision_verdict"] = verdict.text
            result["notes"].append(verdict.text)
        write_bundle(folder, outcome.recipe, outcome.built, result, outcome.made)
    return result


def _outcome(
    recipe: Recipe, store: Store, threads: int, on: str | None, weigh_precisions: bool, work: Path
) -> tuple[Outcome, Verdict | None]:
    if not weigh_precisions:
        return _judged(recipe, store, threads, on, work), None
    if len(recipe.target.precisions) < 2:
        message = f"'{recipe.target.name}' has one precision: {recipe.target.precision}"
        raise EdgecError("unsupported-precision", message, "leave --precision away")
    here = recipe.target.device.is_this_machine and load_adapter(recipe.target.compiler).probe(recipe.target).can_run
    if on is None and not here:
        raise undecided()
    outcomes = {}
    for precision in recipe.target.precisions:
        (work / precision).mkdir()
        candidate = replace(recipe, target=with_precision(recipe.target, precision))
        outcomes[precision] = _judged(candidate, store, threads, on, work / precision)
    verdict = weigh({name: (outcome.accuracy, outcome.latency) for name, outcome in outcomes.items()})
    return outcomes[verdict.precision], verdict


def _judged(recipe: Recipe, store: Store, threads: int, on: str | None, work: Path) -> Outcome:
    """Build; then evaluate and measure, here or on the device."""
    built = build(recipe, store)
    started = time.perf_counter()
    if on is None:
        latency = latency_of(built.binary, built.fp32, recipe.target, threads)
        outcome = Outcome(recipe, built, accuracy_of(built), latency)
    else:
        from edgec.targets.devices import open_device

        there = load_adapter(recipe.target.compiler).on_device(
            open_device(on), built.binary.path, recipe.target, threads
        )
        accuracy, latency = _accuracy_there(recipe, built, there), there.cost().latency
        there.fetch(work)
        outcome = Outcome(recipe, built, accuracy, latency, tuple(sorted(work.iterdir())))
    store.runs.append(Run("measure", "", False, time.perf_counter() - started))
    return outcome


def _accuracy_there(recipe: Recipe, built: Built, there: OnDevice) -> Accuracy:
    """The device's answers beside those that ``Evaluate`` kept of the float network and the reference."""
    with np.load(built.evaluation.path / "logits.npz") as kept:
        logits = {name: kept[name] for name in ("float", "reference")}
    logits |= predict_all({"target": there}, recipe.test, recipe.preprocess, IMAGES_PER_PUSH)
    return compare(logits, recipe.test.labels if recipe.labelled else None)


def latency_of(binary: Artifact, fp32: Artifact, target: TargetSpec, threads: int) -> Latency:
    """Latency on this machine, where this machine is the target; otherwise the plain words that it is not known."""
    adapter = load_adapter(target.compiler)
    expected = adapter.estimate(binary.path, target)
    if not target.device.is_this_machine:
        note = f"this machine is no {target.name}: measure there with --on"
        return Latency("not-measured", note=note, estimated_ms=expected)
    probe = adapter.probe(target)
    if not probe.can_run:
        return Latency("not-measured", note=probe.missing, estimated_ms=expected)
    image = OrtRunner(fp32.path).noise()
    return measure(adapter.open_runner(binary.path, target, threads).single(image), threads)
