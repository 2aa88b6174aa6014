"""Latency of one image through the target's own runtime, in blocks, after a warm-up that ends when times are steady."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BLOCKS = 10
SAMPLES_FOR_P99 = 1000  # fewer leave less than ten samples above the percentile
WINDOW = 32  # calls per warm-up window
STEADY = 0.02  # two windows' medians closer than this end the warm-up


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference with a batch of one.

    Attributes:
        status: ``measured`` or ``not-measured``; the numbers are None for the latter.
        p99_ms: None from fewer than 1,000 samples.
        threads: of the runtime.
        device: the processor that ran it.
        estimated_ms: low and high end of what a model of the board expects; never a measurement.
    """

    status: str
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    num_samples: int = 0
    threads: int | None = None
    device: str | None = None
    num_blocks: int = 0
    num_warmup: int = 0
    note: str = ""
    estimated_ms: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cost:
    """What one inference costs, on this machine or on a device.

    Attributes:
        latency: measured, or the words why not.
        instructions: guest instructions of an emulated core; a deterministic cost, never a latency.
        board: facts of the device; empty for this machine.
    """

    latency: Latency
    instructions: int | None = None
    board: Mapping[str, Any] = field(default_factory=dict)


def measure(invoke: Callable[[], None], threads: int, budget_s: float = 8.0) -> Latency:
    """Time ``invoke`` until 1,000 samples or ``budget_s`` seconds are spent, at least ten blocks; drop nothing."""
    num_warmup, last_ms = _warm_up(invoke, budget_s / 4)
    wanted = int(np.clip(1000 * budget_s / max(last_ms, 1e-3), 10 * NUM_BLOCKS, SAMPLES_FOR_P99))
    blocks = [_block(invoke, -(-wanted // NUM_BLOCKS)) for _ in range(NUM_BLOCKS)]
    samples = np.concatenate(blocks)
    p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
    return Latency(
        status="measured",
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99 if len(samples) >= SAMPLES_FOR_P99 else None,
        num_samples=len(samples),
        threads=threads,
        device=cpu_model(),
        num_blocks=NUM_BLOCKS,
        num_warmup=num_warmup,
    )


def _block(invoke: Callable[[], None], count: int) -> npt.NDArray[np.float64]:
    """``count`` single calls in milliseconds."""
    clock = time.perf_counter_ns
    times = np.empty(count, np.float64)
    for i in range(count):
        started = clock()
        invoke()
        times[i] = clock() - started
    return times / 1e6


def _warm_up(invoke: Callable[[], None], limit_s: float) -> tuple[int, float]:
    """Call until two windows' medians agree or the limit is spent: (calls made, last median in ms)."""
    deadline, count, before = time.perf_counter() + limit_s, 0, float("inf")
    while True:
        size = WINDOW if before < 10.0 else 5
        median = float(np.median(_block(invoke, size)))
        count += size
        if abs(median - before) < STEADY * median or time.perf_counter() > deadline:
            return count, median
        before = median


def cpu_model() -> str:
    """The processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = lines[0] if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} cores"
