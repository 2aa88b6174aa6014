"""Intervals for latencies: Student's t over processes, each of which gives one number.

A process is the unit that repeats (Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013): memory
layout and start-up luck are drawn once for each, and whatever is timed inside shares them. Few clusters have few
degrees of freedom, whatever lies inside them (Cameron, Gelbach & Miller, Rev. Econ. Stat. 90, 2008), and the number
that a process gives is a median of hundreds, near enough to a normal one for t to hold. A studentized bootstrap of so
few does not serve: one in five draws of four holds one process three times, so that its p-values cannot become small.

Who looks after every process and stops when he likes what he sees needs a wider interval: one that holds the truth at
all looks together (``always_valid``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
MIN_PROCESSES = 3
EXACT = 1e-12
"""A standard error below which processes agree exactly."""

PRIOR_PROCESSES = 0.25
"""As many processes as the prior on the effect is worth: two standard deviations are thought likely."""


@dataclass(frozen=True)
class Clustered:
    """The mean over processes of a quantile of each.

    Attributes:
        estimate: on the scale of the values given.
        standard_error: standard deviation between processes over the root of their number.
        num_processes: one more than the degrees of freedom.
    """

    estimate: float
    standard_error: float
    num_processes: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Both ends; equal to the estimate where all processes agree exactly."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.num_processes - 1, (1 + level) / 2)) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def always_valid(self, level: float = LEVEL) -> tuple[float, float]:
        """Both ends of an interval that, after every process, all hold the truth with this probability; infinite after
        few.

        The values that an e-process of Bayes factors does not reject: the t-test with a normal prior on the effect in
        standard deviations (Wang & Ramdas, "Anytime-valid t-tests and confidence sequences", 2024). With n processes,
        x = t^2 / (n - 1), a prior worth c processes and r = c / (n + c) the factor is
        sqrt(r) ((1 + x) / (1 + r x))^(n / 2), and exceeds 1 / alpha ever with probability alpha at most (Ville).
        """
        count = self.num_processes
        r, alpha = PRIOR_PROCESSES / (count + PRIOR_PROCESSES), 1 - level
        least = (alpha * r**0.5) ** (-2 / count)
        widest = least * r >= 1
        reach = float("inf") if widest else ((count - 1) * (least - 1) / (1 - least * r)) ** 0.5
        reach *= max(self.standard_error, EXACT)
        return self.estimate - reach, self.estimate + reach

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the true value is at most ``bound``"."""
        from scipy.special import stdtr

        distance = (self.estimate - bound) / max(self.standard_error, EXACT)
        return float(stdtr(self.num_processes - 1, -distance))


def over_processes(processes: Sequence[npt.NDArray[Any]], quantile: float = 0.5) -> Clustered:
    """One number of each process, and what they are together.

    Args:
        processes: for each process its values, of any shape.
        quantile: of all values of one process.

    Raises:
        ValueError: fewer than three processes (our bug: callers answer "inconclusive" before).
    """
    count = len(processes)
    if count < MIN_PROCESSES:
        raise ValueError(f"{count} processes, expected at least {MIN_PROCESSES}")
    own = np.array([np.quantile(values, quantile) for values in processes])
    return Clustered(float(own.mean()), float(own.std(ddof=1)) / count**0.5, count)
