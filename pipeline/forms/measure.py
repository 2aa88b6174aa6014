"""Latency of one image through the target's own runtime, in blocks, after a warm-up that ends when times are steady."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.at_once import num_cores

NUM_BLOCKS = 10
SAMPLES_FOR_P99 = 1000  # fewer leave less than ten samples above the percentile
GROUP = 8  # calls per point of the warm-up's trend; one where a call takes longer than SLOW_MS
WINDOW = 8  # points under the trend
STEADY = 0.02  # a trend that moves less than this over the window is flat
SLOW_MS = 50.0


@dataclass(frozen=True)
class FirstAnswer:
    """What the first inference of an artifact costs; unknown, both of them, where the process did not end well.

    Attributes:
        load_ms: from the file to the first answer; the runtime's library is loaded before.
        peak_rss_bytes: what runtime, artifact and answer added to the process's resident memory at most; None where the
            system has no ``/proc``.
    """

    load_ms: float | None = None
    peak_rss_bytes: int | None = None


UNKNOWN = FirstAnswer()


@dataclass(frozen=True)
class BesideFloat:
    """An artifact beside the float network that the same compiler made for the same runtime, timed in turns.

    Attributes:
        float_p50_ms: of the float artifact.
        speedup: its time over the artifact's, the median over the pairs of blocks.
        low, high: second smallest and second largest of the pairs; of ten, 98 % of all that have this median lie so.
            They are of one process and say nothing of another.
        float_load_ms, float_peak_rss_bytes, float_medians_ms: the float artifact's, as ``Latency`` has them of its own.
    """

    float_p50_ms: float
    speedup: float
    low: float
    high: float
    float_load_ms: float | None = None
    float_peak_rss_bytes: int | None = None
    float_medians_ms: tuple[float, ...] = ()

    @property
    def pays(self) -> bool:
        """Faster in this process beyond doubt."""
        return self.low > 1.0

    def words(self) -> str:
        """One line."""
        if self.pays:
            return f"INT8 is {self.speedup:.2f}x as fast as float here"
        if self.high < 1.0:
            return f"INT8 is slower here ({self.speedup:.2f}x): ship float"
        return f"INT8 is not clearly faster here ({self.speedup:.2f}x): float may serve as well"


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
        load_ms: from the file to the first answer in a new process that has loaded the runtime's library.
        peak_rss_bytes: resident memory that runtime, artifact and first answer added to that process at most.
        beside_float: None where nothing was compared, or the artifact is the float network.
        no_float: why nothing was compared with the float network, where it was to be.
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
    load_ms: float | None = None
    peak_rss_bytes: int | None = None
    beside_float: BesideFloat | None = None
    no_float: str = ""


def summary(latency: Latency) -> Latency:
    """Without blocks and layers, which are many numbers."""
    beside = replace(latency.beside_float, float_medians_ms=()) if latency.beside_float else None
    return replace(latency, medians_ms=(), layer_us={}, beside_float=beside)


@dataclass(frozen=True)
class Turns:
    """What one measuring process on a device saw: several artifacts by turns, none of their samples dropped.

    Attributes:
        blocks_ms: of each artifact, its blocks of single calls in the order of time, two a turn.
        steady: the warm-up ended because times were flat, not because its limit was spent.
        steal: share of the cores' time that a hypervisor gave to others meanwhile.
        clock_throttled: thermal events of the cores meanwhile; 0 where they are not counted.
        clock_limit_mhz: what the first core's clock may rise to; None where the device does not say.
        cores: that the process was pinned to.
    """

    blocks_ms: tuple[tuple[tuple[float, ...], ...], ...]
    num_warmup: tuple[int, ...]
    steady: bool
    involuntary_switches: int
    steal: float
    clock_throttled: int
    clock_limit_mhz: float | None
    cores: tuple[int, ...]


@dataclass(frozen=True)
class DeviceTurns:
    """Turns, and the device that they were taken on; None of what it does not say.

    Attributes:
        device: as ``Latency.device`` names it.
        held: what holds its clock down at the end, in words.
        clock_mhz, temperature_c: at the end.
        libraries: versions of the runtime by its name.
    """

    turns: Turns
    device: str
    machine: str
    kernel: str
    governor: str | None
    python: str
    held: tuple[str, ...] = ()
    clock_mhz: float | None = None
    temperature_c: float | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)


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


def estimate_words(low_ms: float, high_ms: float) -> str:
    """A range from the board's rates, or the one figure that a compiler gives."""
    return f"{low_ms:.2f} ms" if low_ms == high_ms else f"{low_ms:.2f} to {high_ms:.2f} ms"


@dataclass(frozen=True)
class Effort:
    """How long one artifact is timed.

    Attributes:
        timed_s: seconds of samples, where 1,000 do not come sooner.
        warm_up_s: after which the warm-up ends, steady or not.
        in_block: least samples of each of the ten blocks, however long they take.
    """

    timed_s: float
    warm_up_s: float
    in_block: int


THOROUGH = Effort(timed_s=8.0, warm_up_s=2.0, in_block=10)
BRIEF = Effort(timed_s=0.5, warm_up_s=0.25, in_block=2)
"""Of a build, which is there to say whether it pays; ``edgec measure`` and ``edgec check`` take their time."""


def measure(invoke: Callable[[], None], threads: int, effort: Effort = THOROUGH) -> Latency:
    """Time ``invoke`` until 1,000 samples are taken or the time is spent, in ten blocks; drop nothing."""
    return measure_in_turns([invoke], threads, effort)[0]


def measure_in_turns(invokes: Sequence[Callable[[], None]], threads: int, effort: Effort = THOROUGH) -> list[Latency]:
    """The same for several at once, a block of each in turn, forwards and backwards: what drifts meets all alike.

    Args:
        effort: for each of them.
    """
    warmed = [warm_up(invoke, effort.warm_up_s) for invoke in invokes]
    least = effort.in_block * NUM_BLOCKS
    wanted = [int(np.clip(1000 * effort.timed_s / max(each.last_ms, 1e-3), least, SAMPLES_FOR_P99)) for each in warmed]
    blocks: list[list[npt.NDArray[np.float64]]] = [[] for _ in invokes]
    for turn in range(NUM_BLOCKS):
        for place in range(len(invokes)) if turn % 2 == 0 else reversed(range(len(invokes))):
            blocks[place].append(time_block(invokes[place], -(-wanted[place] // NUM_BLOCKS)))
    return [_latency(own, each, threads) for own, each in zip(blocks, warmed, strict=True)]


def beside_float(artifact: Latency, in_float: Latency, first: FirstAnswer = UNKNOWN) -> BesideFloat | None:
    """Compare the blocks of two that were measured in turns, pair by pair; None where one was not measured.

    Args:
        first: answer of the float artifact.
    """
    pairs = sorted(
        theirs / max(ours, 1e-9) for ours, theirs in zip(artifact.medians_ms, in_float.medians_ms, strict=False)
    )
    if in_float.p50_ms is None or len(pairs) < 3:
        return None
    speedup = float(np.median(pairs))
    costs = (first.load_ms, first.peak_rss_bytes, in_float.medians_ms)
    return BesideFloat(in_float.p50_ms, speedup, pairs[1], pairs[-2], *costs)


def _latency(blocks: Sequence[npt.NDArray[np.float64]], warmed: WarmUp, threads: int) -> Latency:
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
    return f"{name}, {num_cores()} cores"
