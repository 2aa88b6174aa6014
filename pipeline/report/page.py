"""``report.html``: everything about one build, or many held against the first, in one file that loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.model_card import figure, latency_words, number, rate_words
from edgec.pipeline.core.templates import templates_of
from edgec.pipeline.core.words import size_words
from edgec.pipeline.report.anchors import published, read_book
from edgec.pipeline.report.charts import Estimate, forest, line
from edgec.pipeline.report.comparison import compare
from edgec.pipeline.report.findings import Findings, read_findings
from edgec.pipeline.report.headline import headline, verdict
from edgec.pipeline.report.latencies import latency_plots
from edgec.pipeline.report.layers import layer_tables
from edgec.pipeline.report.summary import HEADLINES, summary
from edgec.pipeline.report.tables import Cell, Table
from edgec.pipeline.tasks.accuracy import Accuracy, rows

SECTIONS = (
    ("summary", "Summary"),
    ("comparison", "Comparison"),
    ("accuracy", "Accuracy"),
    ("confusion", "Confusion"),
    ("published", "Published figures"),
    ("latency", "Latency"),
    ("layers", "Layer by layer"),
    ("kernels", "Kernels"),
    ("examples", "Examples"),
    ("reproduce", "Reproduce"),
)
"""In the page's order; one without content is neither written nor linked."""


def render_report(builds: Sequence[tuple[Path, Manifest]], instructions: Mapping[int, int] | None = None) -> str:
    """The page for bundles whose files are in place: ``(folder, manifest)`` each.

    Args:
        instructions: of one inference, by the position of a build, where its manifest does not tell them.

    Raises:
        EdgecError: ``nothing-to-compare`` where no other build has the task of the first.
    """
    counts = instructions or {}
    found = _named([read_findings(folder, manifest, counts.get(i)) for i, (folder, manifest) in enumerate(builds)])
    values = _values(found)
    values["sections"] = [(key, name) for key, name in SECTIONS if values["has"][key]]
    templates = templates_of("edgec.pipeline.report", escape_html=True)
    return templates.get_template("report.html.j2").render(values)


def _values(found: list[Findings]) -> dict[str, Any]:
    """What the template fills in; ``has`` says which sections have content."""
    builds = [_build(one) for one in found]
    compared = compare(found)
    theirs, timed = published(found, read_book()), latency_plots(found)
    missed = compared.confusion if compared else _worst_classes(found[0])
    has = {
        "summary": True,
        "comparison": compared is not None,
        "accuracy": True,
        "confusion": missed is not None,
        "published": bool(theirs),
        "latency": any(one.manifest.latency.p50_ms is not None for one in found),
        "layers": any(one["layers"] or one["float_layers"] or one["fallback"] for one in builds),
        "kernels": any(one["kernels"] for one in builds),
        "examples": any(one["examples"] or one["strips"] for one in builds),
        "reproduce": True,
    }
    return {
        "title": found[0].name if len(found) == 1 else f"{len(found)} builds",
        "builds": builds,
        "summary": summary(found),
        "compared": compared,
        "confusion": missed,
        "published": theirs,
        "latency_plots": timed,
        "has": has,
    }


def _named(found: list[Findings]) -> list[Findings]:
    """Builds of one name get their version, and their place where that is the same too."""
    names = [one.name for one in found]
    versions = [one.name if names.count(one.name) == 1 else f"{one.name} {one.manifest.model.version}" for one in found]
    unique = [name if versions.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(versions)]
    return [replace(one, name=name) for one, name in zip(found, unique, strict=True)]


def _build(found: Findings) -> dict[str, Any]:
    """One build as the template wants it."""
    manifest = found.manifest
    return {
        "name": found.name,
        "m": manifest,
        "verdict": verdict(manifest),
        "headline": headline(found),
        "latency": latency_words(manifest),
        "accuracy_chart": _accuracy_chart(manifest),
        "accuracy": _accuracy(found),
        "faultless": _is_faultless(found),
        "training_chart": _training_chart(found),
        "weighed": _weighed(found),
        "budgets": _budgets(found),
        "conditions": _pairs(f"Conditions of {found.name}", manifest.latency.fingerprint),
        "kernels": _kernels(found),
        "layers": layer_tables(found),
        "examples": found.examples,
        "strips": found.strips,
        "fallback": found.quantization.fallback,
        "float_layers": Counter(layer.reason for layer in found.quantization.float_layers).most_common(),
        "origin": _origin(found),
    }


def _accuracy_chart(manifest: Manifest) -> str:
    """Rates of all forms; empty where the task has none."""
    said = manifest.accuracy
    forms = (("float", said.float), ("QDQ reference", said.reference), (manifest.target.name, said.target))
    rates = [_rate(said, label, value) for label, value in forms if value is not None]
    if not rates and said.agreement is not None:
        rates = [_rate(said, "agreement", said.agreement)]
    what = HEADLINES.get(said.metric, "Agreement with the float network")
    sure = "" if said.agreement_spread else " with 95 % intervals"
    return forest(f"{what}{sure}, {said.num_images:,} images", rates, "%") if rates else ""


def _rate(said: Accuracy, label: str, value: float) -> Estimate:
    return Estimate(label, value, said.interval(value), rate_words(said, value))


def _accuracy(found: Findings) -> Table:
    said = found.manifest.accuracy
    known = rows(said, found.manifest.labels)
    shown = tuple((Cell(row.label), *(Cell(figure(said, row, form)) for form in (0, 1, 2))) for row in known)
    sure = "" if said.agreement_spread else "; rates with 95 % intervals"
    caption = f"On {said.num_images:,} images, task {said.task}{sure}."
    return Table(f"Figures of {found.name}", ("Figure", "Float", "QDQ reference", "Artifact"), shown, caption)


def _is_faultless(found: Findings) -> bool:
    """The build names the right class of every image."""
    return found.predictions is not None and found.manifest.accuracy.metric == "top1" and not found.worst_classes


def _training_chart(found: Findings) -> str:
    curve = found.training
    if curve is None or not curve.epoch:
        return ""
    points = list(zip(curve.epoch, curve.validation, strict=True))
    return line(f"{curve.metric} on validation, epoch by epoch", points, "epoch", "%")


def _worst_classes(found: Findings) -> Table | None:
    """Of one build; None where no class is missed, or none is known."""
    precision = found.manifest.target.precision_words
    shipped = "artifact" if found.manifest.accuracy.shipped == "target" else "QDQ reference: the artifact did not run"
    shown = tuple(
        (
            Cell(one.name),
            Cell(str(one.num_images)),
            Cell(str(one.float_right)),
            Cell(str(one.right)),
            Cell(", ".join(f"{name} ({count})" for name, count in one.mistaken_for)),
        )
        for one in found.worst_classes
    )
    heads = ("Class", "Images", "Float right", f"{precision} right", "Named instead")
    caption = f"Classes with the most errors of the {shipped}."
    return Table(f"Worst classes of {found.name}", heads, shown, caption) if shown else None


def _weighed(found: Findings) -> Table | None:
    weighed = found.manifest.weighed
    heads = ("Precision", "Headline", "SQNR", "Median", "Instructions", "Arena", "Artifact")
    shown = tuple(
        (
            Cell(row.precision),
            Cell(f"{row.headline:.2f}"),
            Cell("exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB"),
            Cell("-" if row.p50_ms is None else f"{row.p50_ms:.3f} ms"),
            Cell("-" if row.instructions is None else f"{row.instructions:,}"),
            Cell("-" if row.arena_bytes is None else size_words(row.arena_bytes)),
            Cell(size_words(row.size_bytes)),
        )
        for row in weighed
    )
    ships = found.manifest.target.precision_words
    caption = f"Every precision that was built for {found.name}; {ships} ships."
    return Table(f"Precisions of {found.name}", heads, shown, caption) if shown else None


def _budgets(found: Findings) -> Table | None:
    shown = tuple(
        (
            Cell(line.name),
            Cell(number(line.limit)),
            Cell(number(line.measured)),
            Cell(line.verdict, mark=line.verdict),
            Cell(line.reason),
        )
        for line in found.manifest.budgets
    )
    heads = ("Budget", "Limit", "Measured", "Verdict", "Why")
    return Table(f"Budgets of {found.name}", heads, shown, f"Budgets of {found.name}") if shown else None


def _kernels(found: Findings) -> Table | None:
    """Largest differences between kernel sets on the golden vectors; None where there is one set."""
    golden = found.golden
    steps, names = golden.spread_steps, golden.kernel_sets

    def cell(one: str, other: str) -> Cell:
        return Cell("-" if one == other else str(steps.get(f"{one} / {other}", steps.get(f"{other} / {one}"))))

    caption = (
        f"Largest difference of any output, in steps of {golden.step:.6g}. "
        f"The self-test allows {golden.tolerance_steps} ({golden.tolerance})."
    )
    shown = tuple((Cell(one), *(cell(one, other) for other in names)) for one in names)
    return Table(f"Kernel sets of {found.name}", ("Kernels", *names), shown, caption) if len(names) > 1 else None


def _origin(found: Findings) -> Table:
    origin = found.manifest.origin
    told = {
        origin.source.kind: (origin.source.name, origin.source.checkpoint_sha256),
        "calibration set": (f"{origin.calibration_set.num_images:,} images", origin.calibration_set.sha256),
        "test set": (f"{origin.test_set.num_images:,} images", origin.test_set.sha256),
        "edgec": (f"quantizer {origin.quantizer}", f"commit {origin.git_commit}"),
    }
    shown = tuple((Cell(name), Cell(text, below)) for name, (text, below) in told.items())
    return Table(f"Origin of {found.name}", ("What", "Which"), shown)


def _pairs(label: str, known: Mapping[str, str]) -> Table | None:
    shown = tuple((Cell(name), Cell(value)) for name, value in known.items())
    return Table(label, ("What", "Which"), shown) if shown else None
