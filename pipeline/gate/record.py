"""What a check measured, in a form that can be kept: for the history, and as a baseline on the same machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.bundle.records import read_accuracy as read_recorded_accuracy
from edgec.pipeline.bundle.use import evaluate_bundle
from edgec.pipeline.forms.measure import SAMPLES_FOR_P99, Latency
from edgec.pipeline.gate.budgets import Budget
from edgec.pipeline.gate.clusters import MIN_PROCESSES
from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.latency import CANDIDATE, Outcome, noise_floor, percentile
from edgec.pipeline.gate.sampling import Process
from edgec.pipeline.tasks.accuracy import Accuracy


@dataclass(frozen=True)
class Measured:
    """Latency of one bundle as a check found it, with all that it rests on; nothing is dropped.

    Attributes:
        latency: its ``medians_ms`` are those of the processes, its ``fingerprint`` the words of the one here.
        counts: proxies.
        num_spikes: calls that took twice the median, kept in every figure.
    """

    model: str
    target: str
    device: str
    fingerprint: Fingerprint
    latency: Latency
    num_spikes: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def process_log_p50(self) -> tuple[float, ...]:
        """Natural logarithm of each process's median in ms."""
        return tuple(map(math.log, self.latency.medians_ms))

    @property
    def figures(self) -> dict[str, float | None]:
        """What a history follows beside the counts; None where it was not measured."""
        found = self.latency
        return {
            "p50_ms": found.p50_ms,
            "p99_ms": found.p99_ms,
            "noise_floor": found.noise_floor,
            "num_spikes": self.num_spikes,
        }

    def plain(self) -> dict[str, Any]:
        """As JSON data; ``of`` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """What ``plain`` wrote.

        Raises:
            ValueError: the record is none.
        """
        return TypeAdapter(cls).validate_python(record)


@dataclass(frozen=True)
class Known:
    """What a check knows of a bundle without a device.

    Attributes:
        values: ``accuracy`` (the headline of what ships, in percent) and the figures of its limits, counts by name.
    """

    model: str
    target: str
    values: Mapping[str, float]

    def plain(self) -> dict[str, Any]:
        """As JSON data; ``of`` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Known:
        """What ``plain`` wrote.

        Raises:
            ValueError: the record is none.
        """
        return TypeAdapter(cls).validate_python(record)


def known_of(bundle: Bundle, accuracy: Accuracy, counts: Mapping[str, int]) -> Known:
    """The record of a bundle."""
    pixels = accuracy.agreement_spread is not None
    figures = {
        "accuracy": accuracy.shipped_headline,
        "miou_drop_pp" if pixels else "drop_pp": accuracy.drop_pp,
        "pixel_agreement" if pixels else "agreement": accuracy.agreement,
        "sqnr_db": accuracy.sqnr_db,
    }
    values = {name: float(value) for name, value in figures.items() if value is not None}
    return Known(bundle.manifest.model.name, bundle.target.name, {**values, **counts})


def measured(budget: Budget, outcome: Outcome, counts: Mapping[str, int]) -> Measured | None:
    """The record of an outcome; None where it has too few processes to say anything."""
    processes = outcome.processes
    if len(processes) < MIN_PROCESSES:
        return None
    spikes = sum(process.spikes[CANDIDATE] for process in processes)
    return Measured(*budget.key, processes[0].fingerprint, _latency(processes), spikes, counts)


def _latency(processes: Sequence[Process]) -> Latency:
    blocks = [process.blocks[CANDIDATE] for process in processes]
    num_samples = sum(block.size for block in blocks)
    median, fingerprint = percentile("p50_ms", processes), processes[0].fingerprint
    low, high = median.interval()
    return Latency(
        status="measured",
        p50_ms=float(np.exp(median.estimate)),
        p99_ms=float(np.exp(percentile("p99_ms", processes).estimate)) if num_samples >= SAMPLES_FOR_P99 else None,
        num_samples=num_samples,
        threads=fingerprint.threads,
        device=fingerprint.device,
        num_blocks=sum(len(block) for block in blocks),
        medians_ms=tuple(float(np.exp(np.median(p.block_log_medians(CANDIDATE)))) for p in processes),
        num_processes=len(processes),
        p50_interval_ms=(float(np.exp(low)), float(np.exp(high))),
        noise_floor=noise_floor(processes) if len(processes[0].blocks) > 2 else None,
        fingerprint=fingerprint.words() | _weather(processes),
    )


def _weather(processes: Sequence[Process]) -> dict[str, str]:
    """Temperature and clock from the least to the most, where the device tells."""
    strains = [process.strain for process in processes]
    found = {"temperature_c": [one.temperature_c for one in strains], "clock_mhz": [one.clock_mhz for one in strains]}
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: f"{min(values):g} to {max(values):g}" for name, values in known.items() if values}


def read_accuracy(bundle: Bundle, data: Path | None) -> Accuracy:
    """What the build recorded, or a new evaluation on ``data``.

    Raises:
        EdgecError: ``corrupt-bundle``; what evaluating raises.
    """
    return read_recorded_accuracy(bundle.folder) if data is None else evaluate_bundle(bundle, data)
