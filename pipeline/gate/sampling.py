"""Runs measuring processes one after the other and keeps all that they saw."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.gate.fingerprint import Fingerprint, differences
from edgec.pipeline.gate.strain import CALM, Strain
from edgec.pipeline.gate.worker import Request

START_TIMEOUT_S = 120.0

Blocks = tuple[npt.NDArray[np.float64], ...]


class MeasurementFailed(Exception):
    """The measurement does not count; the build may be good or bad, nobody knows."""


@dataclass(frozen=True)
class Process:
    """What one measuring process saw.

    Attributes:
        blocks: of each contestant ``(blocks, samples)`` in ms, in the order of time, two a turn.
        spikes: calls of each contestant that took twice its median; they are kept.
        steady: the warm-up ended because times were flat, not because its limit was spent.
        strain: what disturbed it, below the limits.
    """

    blocks: Blocks
    fingerprint: Fingerprint
    spikes: tuple[int, ...] = ()
    num_warmup: tuple[int, ...] = ()
    steady: bool = True
    involuntary_switches: int = 0
    strain: Strain = CALM

    def block_log_medians(self, contestant: int) -> npt.NDArray[np.float64]:
        """``(blocks,)``: the unit of every judgement."""
        medians: npt.NDArray[np.float64] = np.log(np.median(self.blocks[contestant], axis=1))
        return medians

    def turn_log_ratios(self, ours: int, theirs: int) -> npt.NDArray[np.float64]:
        """``(turns,)``: mean log of the two blocks of one contestant in a turn, less that of the other."""
        a, b = (self.block_log_medians(index).reshape(-1, 2).mean(axis=1) for index in (ours, theirs))
        difference: npt.NDArray[np.float64] = a - b
        return difference


Source = Callable[[int], list[Process]]
"""Gives that many new processes, or fewer where its time is spent.

Raises:
    MeasurementFailed: why nothing can be concluded.
"""


Measure = Callable[[bool], Process]
"""One new measuring process; it loads the last contestant first where the argument is true.

Raises:
    MeasurementFailed, EdgecError: as ``run_process``.
"""


@dataclass(frozen=True)
class Contestants:
    """What is measured by turns, and how.

    Attributes:
        bundles: their folders; the same twice is measured as two.
        threads: of the runtime, and cores that each process is pinned to.
        in_float: what the compiler made of the first one's float network; measured twice, behind the others.
        turn_s: timed seconds in each process.
    """

    bundles: tuple[Path, ...]
    threads: int = 1
    in_float: Path | None = None
    turn_s: float = 2.0


def on_this_machine(contestants: Contestants, slowdowns: Sequence[float] = ()) -> Measure:
    """Processes of this machine's.

    Args:
        slowdowns: see ``Request``; none by default.
    """
    request = Request(
        tuple(str(folder) for folder in contestants.bundles),
        tuple(slowdowns) or (1.0,) * len(contestants.bundles),
        contestants.threads,
        contestants.turn_s,
        in_float=str(contestants.in_float) if contestants.in_float else None,
    )
    return lambda reverse: run_process(replace(request, reverse=reverse))


class Sampler:
    """A ``Source`` of real processes.

    Args:
        measure: makes one.
        budget_s: wall time for everything, starting and loading included.
    """

    def __init__(self, measure: Measure, budget_s: float = 120.0) -> None:
        self._measure = measure
        self._deadline = time.monotonic() + budget_s
        self._longest_s = 0.0
        self._processes: list[Process] = []

    def __call__(self, count: int) -> list[Process]:
        """Start processes until ``count`` are done or the next would pass the time budget."""
        made: list[Process] = []
        while len(made) < count and time.monotonic() + self._longest_s < self._deadline:
            started = time.monotonic()
            process = self._measure(len(self._processes) % 2 == 1)
            if process.strain.too_much:
                raise MeasurementFailed(process.strain.too_much)
            self._check_alike(process)
            self._longest_s = max(self._longest_s, time.monotonic() - started)
            self._processes.append(process)
            made.append(process)
        return made

    def _check_alike(self, process: Process) -> None:
        if self._processes and (changed := differences(process.fingerprint, self._processes[0].fingerprint)):
            raise MeasurementFailed(f"the machine changed while measuring: {'; '.join(changed)}")


def run_process(request: Request) -> Process:
    """One measuring process from start to end.

    Raises:
        MeasurementFailed: it was killed, or hung.
        EdgecError: what opening a bundle raises.
    """
    with scratch("measure") as folder:
        path = folder / "request.json"
        path.write_text(json.dumps(asdict(request)))
        command = [sys.executable, "-m", "edgec.pipeline.gate.worker", str(path)]
        limit_s = START_TIMEOUT_S + 20 * request.turn_s
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"a measuring process did not finish within {limit_s:g} s") from None
    if done.returncode < 0:
        raise MeasurementFailed(f"a measuring process was killed ({signal.Signals(-done.returncode).name})")
    if done.returncode > 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MeasurementFailed(f"a measuring process ended with status {done.returncode}: {said}")
    return _process(json.loads(done.stdout.splitlines()[-1]))


def _process(answer: dict[str, Any]) -> Process:
    if "error" in answer:
        code, message, hint = answer["error"]
        raise EdgecError(code, message, hint)
    return Process(
        tuple(np.array(own) for own in answer["blocks"]),
        Fingerprint.of(answer["fingerprint"]),
        tuple(answer["spikes"]),
        tuple(answer["num_warmup"]),
        answer["steady"],
        answer["involuntary_switches"],
        Strain(**answer["strain"]),
    )
