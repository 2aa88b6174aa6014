"""Puts what a check found into the bundle that it judged: verdicts, and a latency that has an interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from edgec.pipeline.bundle.folder import copy_folder, replacing
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import SIGNED, BudgetVerdict, Manifest
from edgec.pipeline.bundle.records import LATENCY, read_latency
from edgec.pipeline.bundle.seal import engines_of, seal
from edgec.pipeline.bundle.write import write_json
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import summary
from edgec.pipeline.gate.check import Line, Report
from edgec.pipeline.gate.record import Measured
from edgec.pipeline.report.page import render_report


def check_unsigned(folders: Iterable[Path]) -> None:
    """Refuse before the work: a signature vouches for a manifest that a check would change.

    Raises:
        EdgecError: ``signed-bundle``.
    """
    for folder in folders:
        if any((folder / name).exists() for name in SIGNED):
            hint = "check and record first, then 'edgec pack --sign'"
            raise EdgecError("signed-bundle", f"'{folder}' is signed and cannot take verdicts", hint)


def keep(folder: Path, report: Report) -> None:
    """Write the report's lines and latency of this bundle into it; manifest and documents follow, or nothing does.

    Raises:
        EdgecError: ``signed-bundle``, and what opening and replacing the folder raise.
    """
    check_unsigned([folder])
    manifest = read_checked_manifest(folder)
    key = (manifest.model.name, manifest.target.name)
    verdicts = tuple(_verdict(line) for line in report.lines if (line.model, line.target) == key)
    times = [record for record in report.measured if (record.model, record.target) == key]
    with replacing(folder) as work:
        copy_folder(folder, work)
        kept = replace(manifest, budgets=verdicts)
        sealed = _with_latency(work, kept, times[0]) if times else kept
        seal(work, sealed, render_report, engines_of(manifest))


def _verdict(line: Line) -> BudgetVerdict:
    found = line.finding
    return BudgetVerdict(found.limit, line.device, found.bound, found.value, line.verdict.value, line.reason)


def _with_latency(work: Path, manifest: Manifest, record: Measured) -> Manifest:
    """The check's latency in place of the build's, which came from one process; what only the build knows stays."""
    built = read_latency(work)
    latency = replace(
        record.latency,
        estimated_ms=built.estimated_ms,
        layer_us=built.layer_us,
        load_ms=built.load_ms,
        peak_rss_bytes=built.peak_rss_bytes,
        beside_float=built.beside_float,
        no_float=built.no_float,
    )
    write_json(work / LATENCY, asdict(latency))
    return replace(manifest, latency=summary(latency))
