"""One measuring process: loads the contestants, warms them up, times them in turns, and prints one JSON line.

    python -m edgec.pipeline.gate.worker REQUEST.json

A turn is a palindrome over the contestants, ABBA for two: whatever drifts linearly meets all of them alike. The order
inside a turn rotates, so that nobody is always first. Blocks are as short as single calls allow: what disturbs a shared
machine comes and goes within tens of milliseconds, and meets both sides of a comparison only where they follow each
other faster than that (docs/ci.md, "Why single calls").
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.forms.measure import cpu_model, time_block, warm_up
from edgec.pipeline.gate.fingerprint import read_fingerprint
from edgec.pipeline.gate.strain import read_counters, strain, temperature_c

BLOCK_MS = 2.0
MIN_BLOCK_CALLS = 1
MIN_TURNS = 5  # ten blocks of each contestant
WARM_UP_S = 0.5  # at most, and an eighth of the turns' time
SPIKE = 2.0  # a call that takes twice the median of its contestant is counted as a spike, and kept

Invoke = Callable[[], None]
Blocks = list[list[npt.NDArray[np.float64]]]


@dataclass(frozen=True)
class Request:
    """What one process is asked.

    Attributes:
        bundles: the contestants' folders; the same folder twice is measured as two.
        in_float: what the compiler made of the first bundle's float network; measured twice, behind the others.
        slowdowns: factor by which each contestant is made slower on purpose (studies only); 1.0 leaves it alone.
        turn_s: seconds for the timed turns, warm-up and loading apart.
        reverse: load the last contestant first.
    """

    bundles: tuple[str, ...]
    slowdowns: tuple[float, ...]
    threads: int
    turn_s: float
    reverse: bool = False
    in_float: str | None = None


def run(request: Request) -> dict[str, Any]:
    """Measure and describe the circumstances.

    Raises:
        EdgecError: what opening a bundle raises.
    """
    device = cpu_model()
    pin(request.threads)
    contestants = load_contestants(request)
    warmed = [warm_up(invoke, limit_s=WARM_UP_S + request.turn_s / 8) for invoke in contestants]
    cores = tuple(sorted(os.sched_getaffinity(0)))
    before, switches = read_counters(cores), _involuntary_switches()
    blocks = time_turns(contestants, [each.last_ms for each in warmed], request.turn_s)
    return {
        "blocks": [[np.round(block, 6).tolist() for block in own] for own in blocks],
        "num_warmup": [each.num_calls for each in warmed],
        "steady": all(each.steady for each in warmed),
        "spikes": [count_spikes(np.concatenate(own)) for own in blocks],
        "involuntary_switches": _involuntary_switches() - switches,
        "strain": asdict(strain(before, read_counters(cores), len(cores), temperature_c())),
        "fingerprint": asdict(read_fingerprint(request.threads, device)),
    }


def pin(threads: int) -> None:
    """Keep this process on as many cores as it has threads: the last ones, interrupts like the first."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[-threads:])


def time_turns(contestants: Sequence[Invoke], last_ms: Sequence[float], turn_s: float) -> Blocks:
    """Single-call times in ms by contestant, two blocks a turn, until ``turn_s`` is spent and five turns are made."""
    counts = [max(MIN_BLOCK_CALLS, round(BLOCK_MS / max(ms, 1e-3))) for ms in last_ms]
    blocks: Blocks = [[] for _ in contestants]
    deadline, num_turns = time.perf_counter() + turn_s, 0
    while num_turns < MIN_TURNS or time.perf_counter() < deadline:
        for index in turn_order(len(contestants), num_turns):
            blocks[index].append(time_block(contestants[index], counts[index]))
        num_turns += 1
    return blocks


def turn_order(num_contestants: int, turn: int) -> list[int]:
    """0 1 1 0, then 1 0 0 1, and so on: a rotated order and its mirror image."""
    order = [(i + turn) % num_contestants for i in range(num_contestants)]
    return order + order[::-1]


def count_spikes(calls_ms: npt.NDArray[np.float64]) -> int:
    """Calls that took more than twice the median."""
    return int(np.sum(calls_ms > SPIKE * np.median(calls_ms)))


def slowed(invoke: Invoke, factor: float) -> Invoke:
    """``invoke`` and then busy waiting until it took ``factor`` times as long."""

    def slow() -> None:
        started = time.perf_counter_ns()
        invoke()
        until = started + factor * (time.perf_counter_ns() - started)
        while time.perf_counter_ns() < until:
            pass

    return slow if factor > 1.0 else invoke


def load_contestants(request: Request) -> list[Invoke]:
    """Contestants in their order, loaded in the requested one: the place in memory is part of the luck."""
    from edgec.pipeline.bundle.read import open_bundle
    from edgec.pipeline.bundle.use import open_float, open_runner

    stream = np.random.default_rng(0)
    loaded: dict[int, Invoke] = {}
    folders = [*request.bundles, *[request.bundles[0]] * (2 if request.in_float else 0)]
    indices = range(len(folders))
    for index in reversed(indices) if request.reverse else indices:
        bundle = open_bundle(Path(folders[index]))
        image = stream.standard_normal((1, *bundle.preprocess.shape)).astype(np.float32)
        if request.in_float and index >= len(request.bundles):
            loaded[index] = open_float(bundle, Path(request.in_float), request.threads).single(image)
        else:
            loaded[index] = slowed(open_runner(bundle, request.threads).single(image), request.slowdowns[index])
    return [loaded[index] for index in indices]


def _involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def main(path: str) -> None:
    """Answer one request file on standard output."""
    from edgec.pipeline.core.errors import EdgecError

    try:
        answer = run(Request(**json.loads(Path(path).read_text())))
    except EdgecError as error:
        answer = {"error": [error.code, error.message, error.hint]}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
