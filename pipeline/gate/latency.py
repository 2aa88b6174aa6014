"""Latency limits judged on measuring processes: pass, fail, or inconclusive when the data do not say.

After every process it is asked whether the limit is broken, so by an interval that may be looked at any time: of all
checks of a slowdown that is allowed, one in two hundred fails at most, however often it looked. Whether it is kept is
asked twice, after six processes and at the end, by Student's. In between more processes are measured, up to sixteen.
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

FIRST_LOOK = 6  # processes after which a limit may pass; the end is the second look
MOST_PROCESSES = 16
ALARM_LEVEL = 0.99  # of the interval above which a limit has to lie to fail: one false alarm in two hundred
MORE_TIME = "--budget-s gives more"
SECOND_OPINION_P = 0.05
CANDIDATE, BASELINE, BASELINE_AGAIN = 0, 1, 2  # contestants of a relative measurement
FLOAT, FLOAT_AGAIN = -2, -1  # behind them, where a speedup is to be judged


@dataclass(frozen=True)
class Limits:
    """What one measurement has to answer: bounds by name, ``p50_ms``, ``p99_ms``, ``max_slowdown``, ``min_speedup``."""

    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Outcome:
    """Findings and all processes that were measured; each finding rests on those until it was decided."""

    findings: tuple[Finding, ...]
    processes: tuple[Process, ...]


def judge(limits: Limits, source: Source) -> Outcome:
    """Measure until every limit is decided, or processes or time are spent; what is decided stays so.

    Six processes are measured in any case: records and reports live on them.
    """
    processes: list[Process] = []
    open_limits, decided, looked = dict(limits.bounds), dict[str, Finding](), set[str]()
    try:
        is_last = False
        while not is_last and (open_limits or len(processes) < FIRST_LOOK):
            fresh = source(1)
            processes += fresh
            is_last = not fresh or len(processes) == MOST_PROCESSES
            for name, bound in tuple(open_limits.items()):
                is_look = is_last or (len(processes) >= FIRST_LOOK and name not in looked)
                finding = judge_limit(name, bound, processes, is_look)
                looked.update([name] if is_look and finding.value is not None else [])
                if is_last or finding.verdict is not Verdict.INCONCLUSIVE:
                    decided[name] = finding
                    del open_limits[name]
    except MeasurementFailed as failure:
        why, count = f"the measurement failed: {failure}", len(processes)
        decided |= {n: Finding(n, b, Verdict.INCONCLUSIVE, why, num_processes=count) for n, b in open_limits.items()}
    return Outcome(tuple(decided[name] for name, _ in limits.bounds), tuple(processes))


def judge_limit(name: str, bound: float, processes: Sequence[Process], may_pass: bool = True) -> Finding:
    """One limit on the processes there are.

    Args:
        may_pass: this is one of the looks at which a limit may.
    """
    if len(processes) < MIN_PROCESSES:
        reason = f"{len(processes)} processes in the time given, at least {MIN_PROCESSES} are needed: {MORE_TIME}"
        return Finding(name, bound, Verdict.INCONCLUSIVE, reason, num_processes=len(processes))
    if name == "max_slowdown":
        return _judge_slowdown(bound, processes, may_pass)
    if name == "min_speedup":
        return _judge_speedup(bound, processes, may_pass)
    if name == "p99_ms" and (count := sum(p.blocks[CANDIDATE].size for p in processes)) < SAMPLES_FOR_P99:
        reason = f"p99 needs {SAMPLES_FOR_P99} samples, the time given was enough for {count}: {MORE_TIME}"
        return Finding(name, bound, Verdict.INCONCLUSIVE, reason, num_processes=len(processes))
    return _decided(name, bound, percentile(name, processes), np.log(bound), np.exp, may_pass)


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


def _judge_slowdown(bound: float, processes: Sequence[Process], may_pass: bool) -> Finding:
    least = max(bound, 2 * noise_floor(processes)) if len(processes[0].blocks) > BASELINE_AGAIN else bound
    found, log_bound = slowdown(processes), float(np.log1p(bound))
    finding = replace(_decided("max_slowdown", bound, found, log_bound, np.expm1, may_pass), least_effect=least)
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


def _judge_speedup(bound: float, processes: Sequence[Process], may_pass: bool) -> Finding:
    """A lower limit of float over candidate: an upper one of candidate over float, by the same rules."""
    found, log_bound = slowdown(processes, CANDIDATE, FLOAT), -float(np.log(bound))
    ends = _decided("min_speedup", bound, found, log_bound, np.positive, may_pass)
    near = (ends.low or 0.0) > log_bound
    value, low, high = (float(np.exp(-(end or 0.0))) for end in (ends.value, ends.high, ends.low))
    reason = _reason(ends.verdict, "below", "above", near, found.num_processes)
    finding = replace(ends, value=value, low=low, high=high, reason=reason)
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


def _decided(name: str, bound: float, found: Clustered, log_bound: float, back: np.ufunc, may_pass: bool) -> Finding:
    """The rule of the gate on a log scale. The interval that is told is the one that decided."""
    low, high = found.interval()
    if found.always_valid(ALARM_LEVEL)[0] > log_bound:
        verdict, (low, high) = Verdict.FAIL, found.always_valid()
    else:
        verdict = Verdict.PASS if may_pass and high < log_bound else Verdict.INCONCLUSIVE
    reason = _reason(verdict, "above", "below", low > log_bound, found.num_processes)
    value, low, high = (float(back(x)) for x in (found.estimate, low, high))
    p_value = found.p_above(log_bound)
    return Finding(name, bound, verdict, reason, value, low, high, p_value, num_processes=found.num_processes)


def _reason(verdict: Verdict, fails: str, passes: str, is_near: bool, count: int) -> str:
    more = MORE_TIME if count < MOST_PROCESSES else f"no more than {MOST_PROCESSES} processes are measured"
    side = {Verdict.FAIL: fails, Verdict.PASS: passes}.get(verdict)
    if side is not None:
        return f"the whole 95 % interval is {side} the limit"
    if is_near:
        return f"the 95 % interval is {fails} the limit, but too near to it to rule a false alarm out: {more}"
    return f"the limit lies inside the 95 % interval, which more processes narrow: {more}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
