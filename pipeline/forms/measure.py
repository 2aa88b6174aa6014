"""Latency of one image through the target's own runtime, in blocks, after a warm-up that ends when times are steady."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BLOCKS = 10
SAMPLES_FOR_P99 = 1000  # fewer leave less than ten samples above the percentile
GROUP = 8  # calls per point of the warm-up's trend; one where a call takes longer than SLOW_MS
WINDOW = 8  # points under the trend
STEADY = 0.02  # a trend that moves less than this over the window is flat
SLOW_MS = 50.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference with a batch of one.

    Attributes:
        status: ``measured``, or ``not-measured`` with the reason in ``note``; the numbers are None for the latter.
        p99_ms: None from fewer than 1,000 samples.
        threads: of the runtime.
        device: the processor that ran it.
        estimated_ms: low and high end of what a model of the board expects; never a measurement.
        medians_ms: of the blocks of one process, or of processes; nothing dropped.
        num_processes: that the times come from.
        p50_interval_ms: 95 % interval of the median over processes; one process alone has none.
        noise_floor: how far an artifact is from itself in the same measurement, as a share.
        fingerprint: what else the times depend on, in words by name.
        layer_us: mean microseconds in each layer, profiled apart; empty where the runtime does not tell.
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
    medians_ms: tuple[float, ...] = ()
    num_processes: int = 1
    p50_interval_ms: tuple[float, float] | None = None
    noise_floor: float | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    layer_us: Mapping[str, float] = field(default_factory=dict)


def summary(latency: Latency) -> Latency:
    """Without blocks and layers, which are many numbers."""
    return replace(latency, medians_ms=(), layer_us={})


@dataclass(frozen=True)
class Cost:
    """What one inference costs, on this machine or on a device.

    Attributes:
        latency: measured, or the words why not.
        instructions: guest instructions of an emulated core; a deterministic cost, never a latency.
        board: facts of the device; empty for this machine.
        on_target: False where another machine than the artifact's target was measured.
    """

    latency: Latency
    instructions: int | None = None
    board: Mapping[str, Any] = field(default_factory=dict)
    on_target: bool = True


def measure(invoke: Callable[[], None], threads: int, budget_s: float = 8.0) -> Latency:
    """Time ``invoke`` until 1,000 samples or ``budget_s`` seconds are spent, at least ten blocks; drop nothing."""
    warmed = warm_up(invoke, budget_s / 4)
    wanted = int(np.clip(1000 * budget_s / max(warmed.last_ms, 1e-3), 10 * NUM_BLOCKS, SAMPLES_FOR_P99))
    blocks = [time_block(invoke, -(-wanted // NUM_BLOCKS)) for _ in range(NUM_BLOCKS)]
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
        num_warmup=warmed.num_calls,
        medians_ms=tuple(float(np.median(block)) for block in blocks),
    )


def time_block(invoke: Callable[[], None], count: int) -> npt.NDArray[np.float64]:
    """``count`` single calls in milliseconds."""
    clock = time.perf_counter_ns
    times = np.empty(count, np.float64)
    for i in range(count):
        started = clock()
        invoke()
        times[i] = clock() - started
    return times / 1e6


@dataclass(frozen=True)
class WarmUp:
    """What it took until times were steady.

    Attributes:
        last_ms: median of the last group of calls.
        steady: False where the limit ended it before the trend was flat.
    """

    num_calls: int
    last_ms: float
    steady: bool


def warm_up(invoke: Callable[[], None], limit_s: float) -> WarmUp:
    """Call in groups until their medians are steady, or the limit is spent. Boards follow the same rule."""
    deadline, count, medians = time.perf_counter() + limit_s, 0, list[float]()
    while True:
        size = group_size(medians)
        medians.append(float(np.median(time_block(invoke, size))))
        count += size
        steady = is_steady(medians)
        if steady or time.perf_counter() > deadline:
            return WarmUp(count, medians[-1], steady)


def group_size(medians: list[float]) -> int:
    """Calls in the next group, after groups with these medians."""
    return 1 if medians and medians[-1] > SLOW_MS else GROUP


def is_steady(medians: list[float]) -> bool:
    """The least-squares slope through the logarithms of the last groups' medians is flat."""
    if len(medians) < WINDOW:
        return False
    middle = (WINDOW - 1) / 2
    rise = sum((place - middle) * math.log(max(value, 1e-9)) for place, value in enumerate(medians[-WINDOW:]))
    slope = rise / sum((place - middle) ** 2 for place in range(WINDOW))
    return abs(slope) * WINDOW < STEADY


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
