"""What a build measured, in the terms of the manifest: rates with intervals, latency with its conditions."""

from __future__ import annotations

import math

from edgec.pipeline.bundle.manifest import MeasuredAccuracy, MeasuredLatency
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.tasks.evaluate import Accuracy

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def wilson_interval(percent: float, count: int) -> tuple[float, float]:
    """95 % score interval of a rate in percent (Wilson, JASA 22, 1927): right also near 0 and 100 %."""
    share, square = percent / 100.0, Z_95 * Z_95
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    low = 0.0 if share == 0.0 else max(0.0, centre - half)  # exact at both ends, where rounding would show
    high = 1.0 if share == 1.0 else min(1.0, centre + half)
    return 100.0 * low, 100.0 * high


def measured_accuracy(found: Accuracy) -> MeasuredAccuracy:
    """Rates with their intervals."""
    intervals = [
        None if rate is None else wilson_interval(rate, found.num_images)
        for rate in (found.float, found.reference, found.target)
    ]
    return MeasuredAccuracy(
        metric="top1" if found.metric == "top1" else "agreement",
        num_images=found.num_images,
        float_percent=found.float,
        float_interval=intervals[0],
        reference_percent=found.reference,
        reference_interval=intervals[1],
        target_percent=found.target,
        target_interval=intervals[2],
        drop_pp=found.drop_pp,
        agreement_percent=found.agreement,
        agreement_interval=wilson_interval(found.agreement, found.num_images),
        sqnr_db=found.sqnr_db,
    )


def measured_latency(found: Latency) -> MeasuredLatency:
    """Percentiles and the conditions that they hold under."""
    return MeasuredLatency(
        status="measured" if found.status == "measured" else "not measured",
        note=found.note,
        p50_ms=found.p50_ms,
        p50_interval_ms=found.p50_interval_ms,
        p90_ms=found.p90_ms,
        p99_ms=found.p99_ms,
        estimated_ms=found.estimated_ms,
        num_samples=found.num_samples,
        num_processes=found.num_processes,
        threads=found.threads,
        noise_floor=found.noise_floor,
        device=found.device,
        fingerprint=dict(found.fingerprint),
    )
