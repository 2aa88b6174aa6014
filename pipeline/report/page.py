"""``report.html``: everything about one build, or many side by side, in one file that loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.model_card import figure, latency_words, number
from edgec.pipeline.core.templates import templates_of
from edgec.pipeline.report.charts import Bar, bars, histogram, intervals, line, pareto, scatter
from edgec.pipeline.report.findings import Findings, read_findings
from edgec.pipeline.tasks.accuracy import rows

NUM_LAYERS = 24  # of a bar chart; the table beside it has all


def render_report(builds: Sequence[tuple[Path, Manifest]]) -> str:
    """The page for bundles whose files are in place: ``(folder, manifest)`` each."""
    found = _named([read_findings(folder, manifest) for folder, manifest in builds])
    values: dict[str, Any] = {
        "builds": [_build(finding) for finding in found],
        "title": found[0].name if len(found) == 1 else f"{len(found)} builds",
        "parity": between_builds(found),
        "pareto": _pareto_chart(found),
        "unmeasured": [one.name for one in found if one.manifest.latency.p50_ms is None],
        "figure": figure,
        "number": number,
    }
    templates = templates_of("edgec.pipeline.report", escape_html=True)
    return templates.get_template("report.html.j2").render(values)


def between_builds(found: Sequence[Findings]) -> list[tuple[str, list[str]]]:
    """Rows of the parity matrix: share of test images for which two builds name the same class first."""

    def cell(one: Findings, other: Findings) -> str:
        if one.manifest.origin.test_set.sha256 != other.manifest.origin.test_set.sha256:
            return "other images"
        if one.predictions is None or other.predictions is None:
            return "no classes"
        return f"{100 * np.mean(one.predictions.shipped == other.predictions.shipped):.2f} %"

    return [(one.name, [cell(one, other) for other in found]) for one in found] if len(found) > 1 else []


def _named(found: list[Findings]) -> list[Findings]:
    """Builds of one name get their version, and a number where that is the same too."""
    from dataclasses import replace

    names = [one.name for one in found]
    if len(set(names)) == len(names):
        return found
    versions = [f"{one.name} {one.manifest.model.version}" for one in found]
    unique = [name if versions.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(versions)]
    return [replace(one, name=name) for one, name in zip(found, unique, strict=True)]


def _build(found: Findings) -> dict[str, Any]:
    """One build as the template wants it."""
    manifest = found.manifest
    return {
        "name": found.name,
        "m": manifest,
        "verdict": _verdict(manifest),
        "latency": latency_words(manifest),
        "accuracy_chart": _accuracy_chart(manifest),
        "training_chart": _training_chart(found),
        "worst_classes": found.worst_classes,
        "rows": rows(manifest.accuracy, manifest.labels),
        "shipped": "artifact" if manifest.accuracy.shipped == "target" else "QDQ reference: the artifact did not run",
        "parity": _kernel_parity(found),
        "tolerance": (found.golden.tolerance_steps, found.golden.tolerance, found.golden.step),
        "latency_chart": _latency_chart(found),
        "layers": _layers(found),
        "examples": found.examples,
        "strips": found.strips,
        "fallback": found.quantization.fallback,
        "float_layers": Counter(layer.reason for layer in found.quantization.float_layers).most_common(),
    }


def _verdict(manifest: Manifest) -> tuple[str, str]:
    """(word, explanation); the word is also the mark's class."""
    if manifest.memory.over:
        return "fail", "does not fit the board"
    verdicts = [line.verdict for line in manifest.budgets]
    if not verdicts:
        return "unjudged", "no budgets were given"
    worst = next(word for word in ("fail", "inconclusive", "pass") if word in verdicts)
    return worst, f"{verdicts.count('pass')} of {len(verdicts)} budgets hold"


def _accuracy_chart(manifest: Manifest) -> str:
    """Rates that have intervals; empty where the task has none."""
    found = manifest.accuracy
    forms = (("float", found.float), ("QDQ reference", found.reference), (manifest.target.name, found.target))
    bars_ = [Bar(label, value, found.interval(value)) for label, value in forms if value is not None]
    if not bars_ and found.agreement is not None:
        bars_ = [Bar("agreement", found.agreement, found.interval(found.agreement))]
    what = {"top1": "Top-1", "miou": "Mean IoU"}.get(found.metric, "Agreement with the float network")
    sure = "" if found.agreement_spread else " with 95 % intervals"
    return intervals(f"{what}{sure}, {found.num_images} images", bars_, "%") if bars_ else ""


def _training_chart(found: Findings) -> str:
    curve = found.training
    if curve is None or not curve.epoch:
        return ""
    points = list(zip(curve.epoch, curve.validation, strict=True))
    return line(f"{curve.metric} on validation, epoch by epoch", points, "epoch", "%")


def _kernel_parity(found: Findings) -> list[tuple[str, list[str]]]:
    """Rows of the matrix of largest differences between kernel sets, in output steps."""
    steps = found.golden.spread_steps
    names = found.golden.kernel_sets

    def cell(one: str, other: str) -> str:
        return "-" if one == other else str(steps.get(f"{one} / {other}", steps.get(f"{other} / {one}")))

    return [(one, [cell(one, other) for other in names]) for one in names]


def _latency_chart(found: Findings) -> str:
    medians = found.latency.medians_ms
    return histogram("Distribution of medians", medians, "ms") if medians else ""


def _layers(found: Findings) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(heading, chart, rows of the full table) for each thing that is known layer by layer."""
    known = [
        ("Size of the weights", found.weight_bytes, "kB", 1e-3, False),
        ("SQNR of each layer's output", found.quantization.layer_sqnr_db, "dB", 1.0, True),
        ("Sensitivity: SQNR of the output with this layer alone quantized", found.sensitivity, "dB", 1.0, True),
        ("Time in each layer, profiled", found.latency.layer_us, "µs", 1.0, False),
    ]
    sections = []
    for heading, values, unit, factor, worst_is_low in known:
        scaled = {name: value * factor for name, value in values.items() if value is not None}
        if scaled:
            order = sorted(scaled, key=lambda name: scaled[name], reverse=not worst_is_low)[:NUM_LAYERS]
            chart = bars(f"{heading}, the {len(order)} {'lowest' if worst_is_low else 'largest'}",
                         [Bar(name, scaled[name]) for name in order], unit)  # fmt: skip
            sections.append((heading, chart, [(name, f"{value:.2f} {unit}") for name, value in scaled.items()]))
    return sections


def _pareto_chart(found: Sequence[Findings]) -> str:
    points = [
        (one.name, one.manifest.latency.p50_ms, quality)
        for one in found
        if one.manifest.latency.p50_ms is not None and (quality := _quality(one.manifest)) is not None
    ]
    return (
        scatter("Accuracy against latency; filled: no other build beats it in both", pareto(points), "ms", "%")
        if len(points) > 1
        else ""
    )


def _quality(manifest: Manifest) -> float | None:
    """Percent; None for tasks without right answers."""
    found = manifest.accuracy
    return found.target if found.target is not None else found.agreement
