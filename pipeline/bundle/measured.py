"""What a build measured, in the terms of the manifest: rates with intervals, latency, verdicts."""

from __future__ import annotations

import math
from typing import Any

from edgec.pipeline.bundle.manifest import BudgetVerdict, MeasuredAccuracy, MeasuredLatency

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def wilson_interval(percent: float, count: int) -> tuple[float, float]:
    """95 % score interval of a rate in percent (Wilson, JASA 22, 1927): right also near 0 and 100 %."""
    share, square = percent / 100.0, Z_95 * Z_95
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    low = 0.0 if share == 0.0 else max(0.0, centre - half)  # exact at both ends, where rounding would show
    high = 1.0 if share == 1.0 else min(1.0, centre + half)
    return 100.0 * low, 100.0 * high


def accuracy_of(result: dict[str, Any]) -> MeasuredAccuracy:
    """From ``result.json``'s ``accuracy``."""
    found, count = result["accuracy"], result["accuracy"]["num_images"]
    intervals = {
        name: None if found[name] is None else wilson_interval(found[name], count)
        for name in ("float", "reference", "target")
    }
    return MeasuredAccuracy(
        metric=found["metric"],
        num_images=count,
        float_percent=found["float"],
        float_interval=intervals["float"],
        reference_percent=found["reference"],
        reference_interval=intervals["reference"],
        target_percent=found["target"],
        target_interval=intervals["target"],
        drop_pp=found["drop_pp"],
        agreement_percent=found["agreement"],
        agreement_interval=wilson_interval(found["agreement"], count),
        sqnr_db=found["sqnr_db"],
    )


def latency_of(result: dict[str, Any]) -> MeasuredLatency:
    """From ``result.json``'s ``latency``."""
    found = result["latency"]
    interval = found.get("p50_interval_ms")
    fingerprint = found.get("fingerprint") or ({"device": found["device"]} if found["device"] else {})
    return MeasuredLatency(
        status=found["status"].replace("-", " "),
        note=found.get("note", ""),
        p50_ms=found["p50_ms"],
        p50_interval_ms=None if interval is None else (float(interval[0]), float(interval[1])),
        p90_ms=found["p90_ms"],
        p99_ms=found["p99_ms"],
        num_samples=found["num_samples"],
        threads=found["threads"],
        fingerprint={name: str(value) for name, value in fingerprint.items()},
    )


def verdicts_of(result: dict[str, Any]) -> tuple[BudgetVerdict, ...]:
    """From ``result.json``'s ``budgets``, where the build was judged."""
    return tuple(
        BudgetVerdict(line["name"], line.get("limit"), line.get("measured"), line["verdict"])
        for line in result.get("budgets", [])
    )
