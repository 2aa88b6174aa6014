"""One build as the report reads it, and others made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from variants import LABELS, Variant

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.report.findings import Findings, read_findings
from edgec.pipeline.report.page import render_report
from edgec.pipeline.tasks.classification import Predictions


@pytest.fixture(scope="session")
def findings(mcu_bundle: Path) -> Findings:
    return read_findings(mcu_bundle, read_checked_manifest(mcu_bundle))


@pytest.fixture
def variant(findings: Findings) -> Variant:
    """A build of another name whose accuracy, latency, memory, origin or manifest has other values."""

    def make(name: str, said: Predictions | None = None, instructions: int | None = None, **parts: object) -> Findings:
        manifest = replace(findings.manifest, labels=LABELS)
        for part in ("accuracy", "latency", "memory", "origin"):
            changes = parts.pop(part, {})
            assert isinstance(changes, dict)
            manifest = replace(manifest, **{part: replace(getattr(manifest, part), **changes)})  # type: ignore[arg-type]
        manifest = replace(manifest, **parts)  # type: ignore[arg-type]
        kept = said or findings.predictions
        return replace(
            findings,
            name=name,
            manifest=manifest,
            predictions=kept,
            latency=manifest.latency,
            instructions=instructions,
        )

    return make


@pytest.fixture(scope="session")
def compared_page(mcu_bundle: Path, findings: Findings) -> str:
    """Two builds of the same images that were timed on one machine; the second is smaller, and slower."""
    manifest = findings.manifest
    timed = {"status": "measured", "device": "a processor", "threads": 1, "num_processes": 3}
    builds = []
    for board, p50_ms, size_bytes in (("mcu", 1.0, 9000), ("small", 2.0, 4000)):
        latency = replace(manifest.latency, **timed, p50_ms=p50_ms, p50_interval_ms=(p50_ms - 0.1, p50_ms + 0.1))
        target = replace(manifest.target, name=board)
        accuracy = replace(manifest.accuracy, agreement=90.0 if board == "mcu" else 95.0)
        accuracy = replace(accuracy, target=80.0 if board == "mcu" else 85.0)
        builds.append(
            (mcu_bundle, replace(manifest, target=target, latency=latency, size_bytes=size_bytes, accuracy=accuracy))
        )
    return render_report(builds)
