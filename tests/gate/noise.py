"""Measuring processes whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.sampling import Process

HERE = Fingerprint("a machine", "x86_64", "6.1", (1,), 1, "performance", False, False, None, "3.11", {"numpy": "2"})


def process(
    stream: np.random.Generator, *levels_ms: float, spread: float = 0.01, layout: float = 0.003, turns: int = 6
) -> Process:
    """Contestants of ``levels_ms`` with log-normal calls and a little luck for each process."""
    blocks = []
    for level in levels_ms:
        luck = stream.normal(0, layout)
        blocks.append(level * np.exp(luck + stream.normal(0, spread, (2 * turns, 20))))
    return Process(tuple(blocks), HERE, spikes=(0,) * len(levels_ms))


def source(*levels_ms: float, seed: int = 0, **shape: float) -> Callable[[int], list[Process]]:
    """Endless processes with the same truth."""
    stream = np.random.default_rng(seed)
    return lambda count: [process(stream, *levels_ms, **shape) for _ in range(count)]  # type: ignore[arg-type]
