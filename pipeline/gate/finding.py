"""What the gate says of one limit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """Better no answer than a guess: ``inconclusive`` is one of three, not an error."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One limit judged.

    Attributes:
        value, low, high: estimate and 95 % interval, in the limit's unit; None where nothing was measured, no interval
            where the value repeats exactly.
        p_value: one-sided, of "the limit is kept"; None where no statistics are involved.
        reason: one sentence, for people.
        least_effect: relative limits: the smallest slowdown that this measurement lets fail.
        num_processes: measured for it.
    """

    limit: str
    bound: float
    verdict: Verdict
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    least_effect: float | None = None
    num_processes: int = 0
