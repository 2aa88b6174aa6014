"""What a check measured, in a form that can be kept: for the history, and as a baseline on the same machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.bundle.records import read_accuracy as read_recorded_accuracy
from edgec.pipeline.bundle.use import evaluate_bundle
from edgec.pipeline.forms.measure import SAMPLES_FOR_P99
from edgec.pipeline.gate.bootstrap import MIN_PROCESSES
from edgec.pipeline.gate.budgets import Budget
from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.latency import CANDIDATE, Outcome, noise_floor, percentile
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.tasks.accuracy import Accuracy


@dataclass(frozen=True)
class Measured:
    """Latency of one bundle, with all that it rests on; nothing is dropped.

    Attributes:
        process_log_p50: natural logarithm of each process's median in ms.
        counts: proxies.
        noise_floor: how far the baseline was from itself; None without one.
        p50_interval_ms: 95 % interval of the median over processes; None in records of earlier versions.
        num_spikes: calls that took twice their block's median, kept in every figure.
    """

    model: str
    target: str
    device: str
    fingerprint: Fingerprint
    process_log_p50: tuple[float, ...]
    p50_ms: float
    p99_ms: float | None
    num_samples: int
    num_blocks: int
    num_spikes: int
    noise_floor: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    p50_interval_ms: tuple[float, float] | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON data; ``of`` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """What ``plain`` wrote.

        Raises:
            TypeError, KeyError: the record is none.
        """
        read = {
            "fingerprint": Fingerprint.of(record["fingerprint"]),
            "process_log_p50": tuple(record["process_log_p50"]),
            "p50_interval_ms": tuple(record.get("p50_interval_ms") or ()) or None,
        }
        return cls(**{**record, **read})


def measured(bundle: Bundle, budget: Budget, outcome: Outcome) -> Measured | None:
    """The record of an outcome; None where it has too few processes to say anything."""
    processes = outcome.processes
    if len(processes) < MIN_PROCESSES:
        return None
    blocks = [process.blocks[CANDIDATE] for process in processes]
    num_samples = sum(block.size for block in blocks)
    median = percentile("p50_ms", processes)
    low, high = median.interval()
    return Measured(
        *budget.key,
        fingerprint=processes[0].fingerprint,
        process_log_p50=tuple(float(np.median(p.block_log_medians(CANDIDATE))) for p in processes),
        p50_ms=float(np.exp(median.estimate)),
        p50_interval_ms=(float(np.exp(low)), float(np.exp(high))),
        p99_ms=float(np.exp(percentile("p99_ms", processes).estimate)) if num_samples >= SAMPLES_FOR_P99 else None,
        num_samples=num_samples,
        num_blocks=sum(len(block) for block in blocks),
        num_spikes=sum(process.spikes[CANDIDATE] for process in processes),
        noise_floor=noise_floor(processes) if len(processes[0].blocks) > 2 else None,
        counts=Proxies(bundle).known(),
    )


def read_accuracy(bundle: Bundle, data: Path | None) -> Accuracy:
    """What the build recorded, or a new evaluation on ``data``.

    Raises:
        EdgecError: ``corrupt-bundle``; what evaluating raises.
    """
    return read_recorded_accuracy(bundle.folder) if data is None else evaluate_bundle(bundle.folder, data)
