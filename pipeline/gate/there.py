"""Measuring processes on a board: the same turns, judged by the same rules, where the artifact will run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.use import on_device
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import Turns, cpu_model
from edgec.pipeline.gate.budgets import ANY_DEVICE
from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.sampling import Contestants, Measure, MeasurementFailed, Process
from edgec.pipeline.gate.strain import Strain
from edgec.pipeline.gate.worker import count_spikes

MAX_CLOCK_CHANGE = 0.05
"""Share by which a board's clock may differ between two processes that worked equally hard."""

LOST = ("connection-lost", "host-unreachable", "remote-failed", "remote-timeout")
"""How a board ends that may answer the next time: of the measurement nothing is known."""

CONDITIONS = ("machine", "kernel", "governor", "python", "clock_limit_mhz")


def device_at_hand(bundle: Bundle, on: str | None) -> str:
    """What times can be measured on, as budgets name it: the board ``on``, or this machine where it is the target.

    ``any`` where the target's device is not at hand.

    Raises:
        EdgecError: ``cannot-run-there``, ``cannot-time-there``; what devices raise.
    """
    if on is not None:
        return on_device(bundle, on, 1).device_name()
    return cpu_model() if bundle.target.device.is_this_machine else ANY_DEVICE


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
            turns = runner.turns(beside, contestants.turn_s, reverse)
        except EdgecError as error:
            if error.code not in LOST:
                raise
            raise MeasurementFailed(error.message) from error
        if turns.clock_mhz:
            clocks.append(turns.clock_mhz)
            _check_clock(clocks)
        return process_of(turns, contestants.threads)

    return measure


def _check_clock(clocks: list[float]) -> None:
    """A governor or the heat may have changed it, whatever the firmware says."""
    if abs(clocks[-1] / clocks[0] - 1) > MAX_CLOCK_CHANGE:
        raise MeasurementFailed(f"the board's clock changed from {clocks[0]:g} to {clocks[-1]:g} MHz while measuring")


def process_of(turns: Turns, threads: int) -> Process:
    """As one of this machine's."""
    blocks = tuple(np.array(own) for own in turns.blocks_ms)
    return Process(
        blocks,
        _fingerprint(turns, threads),
        tuple(sum(count_spikes(block) for block in own) for own in blocks),
        turns.num_warmup,
        turns.steady,
        turns.involuntary_switches,
        Strain(turns.steal, 0.0, turns.clock_throttled, turns.temperature_c, turns.held, turns.clock_mhz),
    )


def _fingerprint(turns: Turns, threads: int) -> Fingerprint:
    """What a board does not tell is None."""
    known: Mapping[str, str | float | None] = turns.facts
    limit = known.get("clock_limit_mhz")
    return Fingerprint(
        device=turns.device,
        machine=str(known.get("machine")),
        kernel=str(known.get("kernel")),
        cores=turns.cores,
        threads=threads,
        governor=str(known["governor"]) if known.get("governor") else None,
        turbo=None,
        smt=None,
        cgroup_cpus=None,
        python=str(known.get("python")),
        libraries={name: str(value) for name, value in known.items() if name not in CONDITIONS},
        clock_limit_mhz=float(limit) if limit is not None else None,
    )
