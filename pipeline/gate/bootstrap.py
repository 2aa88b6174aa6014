"""Intervals for latencies: a studentized bootstrap over processes and over the blocks inside each.

A process is the unit that repeats (Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013): memory
layout and start-up luck are drawn once for each, and blocks of one process share them. Percentile intervals are far too
narrow for a handful of processes; the studentized bootstrap is not (Davison & Hinkley, "Bootstrap Methods and their
Application", 1997, sections 3.8 and 5.2.1). Everything is seeded: equal data give equal verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES = 500  # of the blocks of one process; replicates draw from them
REPLICATES = 4000  # the smallest p-value is 1 / 4001: enough for Holm over a hundred lines
LEVEL = 0.95
MIN_PROCESSES = 3


@dataclass(frozen=True)
class Bootstrap:
    """The mean over processes of a quantile of each process, with the spread of its studentized replicates.

    Attributes:
        estimate: on the scale of the values given.
        standard_error: standard deviation between processes over the root of their number.
        studentized: ``(mean* - estimate) / standard_error*``, sorted.
    """

    estimate: float
    standard_error: float
    studentized: Values

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Both ends; equal to the estimate where all processes agree exactly."""
        low, high = np.quantile(self.studentized, [(1 + level) / 2, (1 - level) / 2])
        return self.estimate - float(low) * self.standard_error, self.estimate - float(high) * self.standard_error

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the true value is at most ``bound``"."""
        distance = (self.estimate - bound) / max(self.standard_error, 1e-12)
        return (1 + int((self.studentized >= distance).sum())) / (1 + len(self.studentized))


def bootstrap(processes: Sequence[npt.NDArray[Any]], quantile: float = 0.5, seed: int = 0) -> Bootstrap:
    """Resample processes, and blocks inside each.

    Args:
        processes: for each process ``(blocks,)`` or ``(blocks, samples)``; numbers of blocks may differ.
        quantile: of all values of one process.

    Raises:
        ValueError: fewer than three processes (our bug: callers answer "inconclusive" before).
    """
    if len(processes) < MIN_PROCESSES:
        raise ValueError(f"{len(processes)} processes, expected at least {MIN_PROCESSES}")
    stream = np.random.default_rng(seed)
    own = np.array([np.quantile(values, quantile) for values in processes])
    resampled = np.array([_resample_blocks(np.asarray(values), quantile, stream) for values in processes])
    count = len(processes)
    picked = stream.integers(0, count, (REPLICATES, count))
    drawn = resampled[picked, stream.integers(0, RESAMPLES, (REPLICATES, count))]
    error = float(own.std(ddof=1)) / count**0.5
    errors = np.maximum(drawn.std(axis=1, ddof=1) / count**0.5, 1e-3 * max(error, 1e-12))
    return Bootstrap(float(own.mean()), error, np.sort((drawn.mean(axis=1) - own.mean()) / errors))


def _resample_blocks(values: npt.NDArray[Any], quantile: float, stream: np.random.Generator) -> Values:
    """The process's quantile over resampled blocks, ``(RESAMPLES,)``."""
    drawn = values[stream.integers(0, len(values), (RESAMPLES, len(values)))].reshape(RESAMPLES, -1)
    if quantile == 0.5:  # np.median is several times faster
        return np.asarray(np.median(drawn, axis=1))
    return np.asarray(np.quantile(drawn, quantile, axis=1))
