"""Latency limits judged on measuring processes: pass, fail, or inconclusive when the data do not say.

A limit fails only when the lower end of the 95 % interval is above it and fresh processes say the same; it passes only
when the upper end is below it. In between, more processes are measured, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgec.pipeline.forms.measure import SAMPLES_FOR_P99
from edgec.pipeline.gate.clusters import MIN_PROCESSES, Clustered, over_processes
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.gate.opinions import mann_whitney_p
from edgec.pipeline.gate.sampling import MeasurementFailed, Process, Source

PER_ROUND = 6
MAX_ROUNDS = 2
CONFIRMING = 4
MORE_TIME = "--budget-s gives more"
CONFIRM_P = 0.05  # of the fresh processes alone; the alert itself had to clear 0.025
SECOND_OPINION_P = 0.05
CANDIDATE, BASELINE, BASELINE_AGAIN = 0, 1, 2  # contestants of a relative measurement
FLOAT, FLOAT_AGAIN = -2, -1  # behind them, where a speedup is to be judged


@dataclass(frozen=True)
class Limits:
    """What one measurement has to answer: bounds by name, ``p50_ms``, ``p99_ms``, ``max_slowdown``, ``min_speedup``."""

    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Outcome:
    """Findings and all processes that they rest on, the confirming ones included."""

    findings: tuple[Finding, ...]
    processes: tuple[Process, ...]


def judge(limits: Limits, source: Source) -> Outcome:
    """Measure in rounds until every limit is decided or rounds or time are spent; confirm an alert in new processes."""
    processes: list[Process] = []
    findings = _all(limits, "nothing was measured")
    try:
        for _ in range(MAX_ROUNDS):
            fresh = source(PER_ROUND)
            processes += fresh
            findings = tuple(judge_limit(name, bound, processes) for name, bound in limits.bounds)
            if len(fresh) < PER_ROUND or all(f.verdict is not Verdict.INCONCLUSIVE for f in findings):
                break
        if any(f.verdict is Verdict.FAIL for f in findings):
            fresh = source(CONFIRMING)
            processes += fresh
            findings = tuple(_confirmed(finding, fresh, processes) for finding in findings)
    except MeasurementFailed as failure:
        return Outcome(_all(limits, f"the measurement failed: {failure}", len(processes)), tuple(processes))
    return Outcome(findings, tuple(processes))


def judge_limit(name: str, bound: float, processes: Sequence[Process]) -> Finding:
    """One limit on the processes there are, without confirmation."""
    if len(processes) < MIN_PROCESSES:
        reason = f"{len(processes)} processes in the time given, at least {MIN_PROCESSES} are needed: {MORE_TIME}"
        return Finding(name, bound, Verdict.INCONCLUSIVE, reason, num_processes=len(processes))
    if name == "max_slowdown":
        return _judge_slowdown(bound, processes)
    if name == "min_speedup":
        return _judge_speedup(bound, processes)
    if name == "p99_ms" and (count := sum(p.blocks[CANDIDATE].size for p in processes)) < SAMPLES_FOR_P99:
        reason = f"p99 needs {SAMPLES_FOR_P99} samples, the time given was enough for {count}: {MORE_TIME}"
        return Finding(name, bound, Verdict.INCONCLUSIVE, reason, num_processes=len(processes))
    return _decided(name, bound, percentile(name, processes), len(processes), np.log(bound), np.exp)


def percentile(name: str, processes: Sequence[Process]) -> Clustered:
    """Log of a latency in ms: ``p50_ms`` over block medians, ``p99_ms`` over all samples."""
    if name == "p50_ms":
        return over_processes([p.block_log_medians(CANDIDATE) for p in processes])
    return over_processes([np.log(p.blocks[CANDIDATE]) for p in processes], 0.99)


def slowdown(processes: Sequence[Process], ours: int = CANDIDATE, theirs: int = BASELINE) -> Clustered:
    """Log ratio of two contestants over paired turns."""
    return over_processes([p.turn_log_ratios(ours, theirs) for p in processes])


def noise_floor(processes: Sequence[Process], one: int = BASELINE, again: int = BASELINE_AGAIN) -> float:
    """The A/A floor: how far the baseline seems to be from itself, or its standard error where that is larger."""
    same = slowdown(processes, again, one)
    return float(np.expm1(max(abs(same.estimate), same.standard_error)))


def _judge_slowdown(bound: float, processes: Sequence[Process]) -> Finding:
    least = max(bound, 2 * noise_floor(processes)) if len(processes[0].blocks) > BASELINE_AGAIN else bound
    finding = _decided(
        "max_slowdown", bound, slowdown(processes), len(processes), float(np.log1p(bound)), np.expm1, least
    )
    if finding.verdict is not Verdict.FAIL:
        return finding
    if finding.value is not None and finding.value < least:
        reason = f"above the limit, but below {_percent(least)}, twice what the baseline differs from itself"
        return replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
    p_value = second_opinion(processes)
    if p_value > SECOND_OPINION_P:
        reason = f"the interval says slower, Mann-Whitney does not (p = {p_value:.3f})"
        return replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
    return finding


def _judge_speedup(bound: float, processes: Sequence[Process]) -> Finding:
    """A lower limit of float over candidate: an upper one of candidate over float, by the same rules."""
    found, log_bound = slowdown(processes, CANDIDATE, FLOAT), -float(np.log(bound))
    ends = _decided("min_speedup", bound, found, len(processes), log_bound, np.positive)
    value, low, high = (float(np.exp(-(end or 0.0))) for end in (ends.value, ends.high, ends.low))
    finding = replace(ends, value=value, low=low, high=high, reason=_reason(ends.verdict, "below", "above"))
    if finding.verdict is not Verdict.FAIL:
        return finding
    least = 2 * noise_floor(processes, FLOAT, FLOAT_AGAIN)
    if bound / value - 1 < least:
        reason = f"below the limit by less than {_percent(least)}, twice what float differs from itself"
        return replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
    p_value = second_opinion(processes, FLOAT, float(np.log(bound)))
    if p_value > SECOND_OPINION_P:
        reason = f"the interval says slower, Mann-Whitney does not (p = {p_value:.3f})"
        return replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
    return finding


def second_opinion(processes: Sequence[Process], other: int = BASELINE, shift: float = 0.0) -> float:
    """Mann-Whitney over processes: the median of each contestant's blocks, less the mean of both in their turn.

    So drift is not taken for a difference, and a process counts once, however many calls it timed.

    Args:
        shift: added to the logarithms of the candidate: what it was allowed to lack of the others.
    """
    halves = np.array([np.median(p.turn_log_ratios(CANDIDATE, other) + shift) / 2 for p in processes])
    return mann_whitney_p(halves, -halves)


def _decided(
    name: str,
    bound: float,
    found: Clustered,
    count: int,
    log_bound: float,
    back: np.ufunc,
    least: float | None = None,
) -> Finding:
    """The rule of the gate on a log scale."""
    low, high = found.interval()
    verdict = Verdict.FAIL if low > log_bound else Verdict.PASS if high < log_bound else Verdict.INCONCLUSIVE
    reason = _reason(verdict, "above", "below")
    value, low, high = (float(back(x)) for x in (found.estimate, low, high))
    return Finding(name, bound, verdict, reason, value, low, high, found.p_above(log_bound), least, count)


def _reason(verdict: Verdict, fails: str, passes: str) -> str:
    side = {Verdict.FAIL: fails, Verdict.PASS: passes}.get(verdict)
    if side is None:
        return f"the limit lies inside the 95 % interval, which more time narrows: {MORE_TIME}"
    return f"the whole 95 % interval is {side} the limit"


def _confirmed(finding: Finding, fresh: Sequence[Process], processes: Sequence[Process]) -> Finding:
    """An alert stays one where fresh processes alone point the same way; what is reported rests on all."""
    pooled = judge_limit(finding.limit, finding.bound, processes)
    if finding.verdict is not Verdict.FAIL:
        return pooled if finding.verdict is Verdict.INCONCLUSIVE and pooled.verdict is Verdict.PASS else finding
    if _confirms(finding, fresh) and pooled.verdict is Verdict.FAIL:
        return replace(pooled, reason=f"{pooled.reason}; confirmed in {len(fresh)} new processes")
    if pooled.verdict is Verdict.PASS:
        return pooled
    why = "new processes did not confirm it" if fresh else f"no time was left for new processes: {MORE_TIME}"
    return replace(pooled, verdict=Verdict.INCONCLUSIVE, reason=f"an alert, but {why}")


def _confirms(finding: Finding, fresh: Sequence[Process]) -> bool:
    """Fresh processes alone, whatever their number of samples."""
    if len(fresh) < MIN_PROCESSES:
        return False
    if finding.limit == "max_slowdown":
        return slowdown(fresh).p_above(float(np.log1p(finding.bound))) < CONFIRM_P
    if finding.limit == "min_speedup":
        return slowdown(fresh, CANDIDATE, FLOAT).p_above(-float(np.log(finding.bound))) < CONFIRM_P
    return percentile(finding.limit, fresh).p_above(float(np.log(finding.bound))) < CONFIRM_P


def _all(limits: Limits, reason: str, count: int = 0) -> tuple[Finding, ...]:
    return tuple(
        Finding(name, bound, Verdict.INCONCLUSIVE, reason, num_processes=count) for name, bound in limits.bounds
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
