"""Measuring processes on a board: the same turns, judged by the same rules, where the artifact will run."""

from __future__ import annotations

import numpy as np

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.use import on_device
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import DeviceTurns, cpu_model
from edgec.pipeline.gate.budgets import ANY_DEVICE
from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.sampling import Contestants, Measure, MeasurementFailed, Process, on_this_machine
from edgec.pipeline.gate.strain import Strain
from edgec.pipeline.gate.worker import count_spikes

MAX_CLOCK_CHANGE = 0.05
"""Share by which a board's clock may differ between two processes that worked equally hard."""

LOST = ("connection-lost", "host-unreachable", "remote-failed", "remote-timeout")
"""How a board ends that may answer the next time: of the measurement nothing is known."""


def device_at_hand(bundle: Bundle, on: str | None) -> str:
    """What times can be measured on, as budgets name it: the board ``on``, or this machine where it is the target.

    ``any`` where the target's device is not at hand.

    Raises:
        EdgecError: ``cannot-run-there``, ``cannot-time-there``; what devices raise.
    """
    if on is not None:
        return on_device(bundle, on, 1).device_name()
    return cpu_model() if bundle.target.device.is_this_machine else ANY_DEVICE


def measuring(contestants: Contestants, on: str | None) -> Measure:
    """Processes of the board ``on``, or of this machine.

    Raises:
        EdgecError: as ``device_at_hand``.
    """
    return on_this_machine(contestants) if on is None else on_board(contestants, on)


def on_board(contestants: Contestants, on: str) -> Measure:
    """Processes of a board's.

    Raises:
        EdgecError: as ``device_at_hand``.
    """
    bundle, *others = [open_bundle(folder) for folder in contestants.bundles]
    runner = on_device(bundle, on, contestants.threads)
    beside = [one.artifact for one in others] + ([contestants.in_float] * 2 if contestants.in_float else [])
    clocks: list[float] = []

    def measure(reverse: bool) -> Process:
        try:
            found = runner.turns(beside, contestants.turn_s, reverse)
        except EdgecError as error:
            if error.code not in LOST:
                raise
            raise MeasurementFailed(error.message) from error
        if found.clock_mhz:
            clocks.append(found.clock_mhz)
            _check_clock(clocks[0], found.clock_mhz)
        return process_of(found, contestants.threads)

    return measure


def _check_clock(first_mhz: float, now_mhz: float) -> None:
    """A governor or the heat may have changed it, whatever the firmware says."""
    if abs(now_mhz / first_mhz - 1) > MAX_CLOCK_CHANGE:
        raise MeasurementFailed(f"the board's clock changed from {first_mhz:g} to {now_mhz:g} MHz while measuring")


def process_of(found: DeviceTurns, threads: int) -> Process:
    """As one of this machine's."""
    turns = found.turns
    blocks = tuple(np.array(own) for own in turns.blocks_ms)
    return Process(
        blocks,
        _fingerprint(found, threads),
        tuple(count_spikes(own) for own in blocks),
        turns.num_warmup,
        turns.steady,
        turns.involuntary_switches,
        Strain(turns.steal, 0.0, turns.clock_throttled, found.temperature_c, found.held, found.clock_mhz),
    )


def _fingerprint(found: DeviceTurns, threads: int) -> Fingerprint:
    """Turbo, SMT and quotas are not asked for there."""
    return Fingerprint(
        device=found.device,
        machine=found.machine,
        kernel=found.kernel,
        cores=found.turns.cores,
        threads=threads,
        governor=found.governor,
        turbo=None,
        smt=None,
        cgroup_cpus=None,
        python=found.python,
        libraries=found.libraries,
        clock_limit_mhz=found.turns.clock_limit_mhz,
    )
