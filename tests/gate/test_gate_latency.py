"""Verdicts on processes whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise import HERE, process, source

from edgec.pipeline.forms import measure
from edgec.pipeline.gate import worker
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.gate.latency import (
    FIRST_LOOK,
    MOST_PROCESSES,
    Limits,
    judge,
    judge_limit,
    noise_floor,
    second_opinion,
)
from edgec.pipeline.gate.sampling import MeasurementFailed, Process, Source
from edgec.pipeline.gate.worker import Invoke, time_turns


def verdict(name: str, bound: float, processes: Source) -> Finding:
    return judge(Limits(((name, bound),)), processes).findings[0]


@pytest.mark.parametrize(
    ("bound", "expected"), [(1.8, Verdict.FAIL), (2.2, Verdict.PASS)], ids=["limit below", "limit above"]
)
@pytest.mark.parametrize("name", ["p50_ms", "p99_ms"])
def test_absolute_limits(name: str, bound: float, expected: Verdict) -> None:
    finding = verdict(name, bound, source(2.0))
    assert finding.verdict is expected
    assert finding.low is not None
    assert finding.low < finding.value < finding.high  # type: ignore[operator]


def test_a_limit_inside_the_interval_is_measured_on_and_then_left_open() -> None:
    asked: list[int] = []
    endless = source(2.0, layout=0.05, seed=2)

    def counting(count: int) -> list[Process]:
        asked.append(count)
        return endless(count)

    finding = verdict("p50_ms", 2.0, counting)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert asked == [1] * MOST_PROCESSES


@pytest.mark.parametrize(("slower", "expected"), [(1.0, Verdict.PASS), (1.05, Verdict.FAIL), (0.9, Verdict.PASS)])
def test_relative_limit(slower: float, expected: Verdict) -> None:
    finding = verdict("max_slowdown", 0.02, source(2.0 * slower, 2.0, 2.0))
    assert finding.verdict is expected
    assert finding.value == pytest.approx(slower - 1, abs=0.01)


@pytest.mark.parametrize(
    ("bound", "expected"), [(1.1, Verdict.PASS), (1.3, Verdict.FAIL)], ids=["fast enough", "too slow"]
)
def test_least_speedup(bound: float, expected: Verdict) -> None:
    """Float takes 1.2 times as long as the artifact; a baseline may stand between them."""
    for levels in ((2.0, 2.4, 2.4), (2.0, 3.0, 3.0, 2.4, 2.4)):
        finding = verdict("min_speedup", bound, source(*levels))
        assert finding.verdict is expected
        assert finding.value == pytest.approx(1.2, rel=0.01)
        assert finding.low is not None
        assert finding.low < finding.value < finding.high  # type: ignore[operator]
        assert ("below" in finding.reason) == (expected is Verdict.FAIL)


def test_a_speedup_that_nobody_can_tell_is_open() -> None:
    near = verdict("min_speedup", 1.2, source(2.0, 2.4, 2.4, layout=0.05, seed=2))
    assert near.verdict is Verdict.INCONCLUSIVE
    assert "the limit lies inside the 95 % interval" in near.reason
    noisy = verdict("min_speedup", 1.22, source(2.0, 2.4, 2.6))
    assert noisy.verdict is Verdict.INCONCLUSIVE
    assert "twice what float differs from itself" in noisy.reason
    few = iter(source(2.0, 2.4, 2.4)(2))
    assert verdict("min_speedup", 1.0, lambda count: list(islice(few, count))).value is None


def test_slower_integers_do_not_pass() -> None:
    finding = verdict("min_speedup", 1.0, source(2.0, 1.86, 1.86))
    assert finding.verdict is Verdict.FAIL
    assert finding.value == pytest.approx(0.93, rel=0.01)
    assert "the whole 95 % interval is below the limit" in finding.reason


def test_what_is_clear_is_decided_soon() -> None:
    """A failure as soon as the interval that may be looked at any time says so, a pass at the first look."""
    assert verdict("max_slowdown", 0.02, source(2.4, 2.0, 2.0)).num_processes < FIRST_LOOK
    assert verdict("max_slowdown", 0.02, source(2.0, 2.0, 2.0)).num_processes == FIRST_LOOK


def test_without_a_limit_there_are_processes_for_the_record() -> None:
    """A comparison with a recorded report has its own rule."""
    assert len(judge(Limits(()), source(2.0)).processes) == FIRST_LOOK


def test_a_few_slow_processes_are_no_alert() -> None:
    """Three of a machine's bad moments, and then the truth."""
    rounds = iter([*source(2.1, 2.0, 2.0)(3), *source(2.0, 2.0, 2.0)(MOST_PROCESSES)])
    assert verdict("max_slowdown", 0.02, lambda count: [next(rounds) for _ in range(count)]).verdict is not Verdict.FAIL


def test_without_more_time_there_is_one_last_look() -> None:
    left = iter(source(2.0, 2.0, 2.0)(4))
    finding = verdict("max_slowdown", 0.02, lambda count: list(islice(left, count)))
    assert (finding.verdict, finding.num_processes) == (Verdict.PASS, 4)


def test_what_is_too_near_for_its_few_processes_is_open() -> None:
    """Three that agree are above the limit by Student, and not by an interval that may be looked at any time."""
    few = source(2.1, 2.0, 2.0)(3)
    finding = judge_limit("max_slowdown", 0.02, few)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "too near to it to rule a false alarm out" in finding.reason
    assert finding.low is not None
    assert finding.low > 0.02


def test_each_limit_is_decided_once() -> None:
    """One of two needs more processes; the other keeps the answer that it had."""
    limits = Limits((("max_slowdown", 0.02), ("p50_ms", 2.0)))
    outcome = judge(limits, source(2.0, 2.0, 2.0, layout=0.01, seed=2))
    assert [finding.limit for finding in outcome.findings] == ["max_slowdown", "p50_ms"]
    counts = [finding.num_processes for finding in outcome.findings]
    assert counts[0] < counts[1] == len(outcome.processes) == MOST_PROCESSES


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_processes_are_no_guess(count: int) -> None:
    left = iter(source(2.0)(count))
    finding = verdict("p50_ms", 1.0, lambda more: list(islice(left, more)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert f"{count} processes" in finding.reason
    assert finding.value is None


def test_p99_needs_a_thousand_samples() -> None:
    stream = np.random.default_rng(0)
    few = [process(stream, 2.0, turns=5) for _ in range(4)]  # 4 * 10 * 20 = 800
    assert "needs 1000 samples" in judge_limit("p99_ms", 3.0, few).reason
    assert judge_limit("p50_ms", 3.0, few).verdict is Verdict.PASS


def test_a_failed_measurement_is_no_failed_build() -> None:
    def broken(count: int) -> list[Process]:
        raise MeasurementFailed("a measuring process was killed (SIGKILL)")

    finding = verdict("p50_ms", 1.0, broken)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "SIGKILL" in finding.reason


def test_a_measurement_that_fails_later_leaves_it_open() -> None:
    first = source(2.0, 2.0, 2.0)
    calls = iter(range(MOST_PROCESSES))

    def breaks(count: int) -> list[Process]:
        if next(calls) == 4:
            raise MeasurementFailed("the processor throttled its clock 3 times")
        return first(count)

    outcome = judge(Limits((("max_slowdown", 0.02),)), breaks)
    assert outcome.findings[0].verdict is Verdict.INCONCLUSIVE
    assert len(outcome.processes) == 4


def test_what_was_decided_before_a_measurement_failed_stays() -> None:
    endless, calls = source(2.4, 2.0, 2.0, layout=0.05, seed=2), iter(range(MOST_PROCESSES))

    def breaks(count: int) -> list[Process]:
        if next(calls) == 12:
            raise MeasurementFailed("the processor throttled its clock 3 times")
        return endless(count)

    outcome = judge(Limits((("p50_ms", 2.4), ("max_slowdown", 0.02))), breaks)
    assert [finding.verdict for finding in outcome.findings] == [Verdict.INCONCLUSIVE, Verdict.FAIL]
    assert "throttled" in outcome.findings[0].reason


def test_a_p99_passes_as_soon_as_it_has_its_samples() -> None:
    """Six processes hold too few here: the first look comes later."""
    finding = verdict("p99_ms", 3.0, source(2.0, turns=4))  # 4 * 2 * 20 = 160 a process
    assert (finding.verdict, finding.num_processes) == (Verdict.PASS, 7)


def test_all_processes_spent_asks_for_no_more_time() -> None:
    reason = verdict("p50_ms", 2.0, source(2.0, layout=0.05, seed=2)).reason
    assert f"no more than {MOST_PROCESSES} processes" in reason
    assert "--budget-s" not in reason
    few = iter(source(2.0, layout=0.05, seed=2)(5))
    assert "--budget-s gives more" in verdict("p50_ms", 2.0, lambda count: list(islice(few, count))).reason


def test_effects_below_twice_the_noise_floor_never_fail() -> None:
    """The baseline is 4 % away from itself, so 5 % says nothing."""
    finding = verdict("max_slowdown", 0.02, source(2.10, 2.0, 2.08))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.least_effect == pytest.approx(0.08, abs=0.01)
    assert "twice what the baseline differs from itself" in finding.reason


def test_noise_floor_of_equal_contestants_is_small() -> None:
    assert noise_floor(source(2.0, 2.0, 2.0)(8)) < 0.01


def test_second_opinion_ignores_drift() -> None:
    drift = np.exp(np.linspace(0, 1, 12))[:, None]
    same = [replace(p, blocks=tuple(block * drift for block in p.blocks)) for p in source(2.0, 2.0, spread=0.001)(6)]
    slow = [replace(p, blocks=tuple(block * drift for block in p.blocks)) for p in source(2.1, 2.0, spread=0.001)(6)]
    assert second_opinion(slow) < 0.01
    assert second_opinion(same) > 1e-4


def test_equal_data_give_equal_verdicts() -> None:
    limits = Limits((("p50_ms", 2.0), ("p99_ms", 2.1), ("max_slowdown", 0.01)))
    assert judge(limits, source(2.0, 2.0, 2.0)).findings == judge(limits, source(2.0, 2.0, 2.0)).findings


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 0.98, 1.03, 1.2]))
def test_swapping_the_contestants_mirrors_the_interval(seed: int, slower: float) -> None:
    processes = source(2.0 * slower, 2.0, seed=seed)(5)
    swapped = [replace(p, blocks=p.blocks[::-1]) for p in processes]
    ours, theirs = judge_limit("max_slowdown", 0.5, processes), judge_limit("max_slowdown", 0.5, swapped)
    assert 1 + ours.low == pytest.approx(1 / (1 + theirs.high))  # type: ignore[operator]
    assert 1 + ours.value == pytest.approx(1 / (1 + theirs.value))  # type: ignore[operator]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_another_unit_of_time_changes_nothing(seed: int, factor: float) -> None:
    processes = source(2.05, 2.0, 2.0, seed=seed)(5)
    scaled = [replace(p, blocks=tuple(block * factor for block in p.blocks)) for p in processes]
    ours, theirs = judge_limit("max_slowdown", 0.02, processes), judge_limit("max_slowdown", 0.02, scaled)
    assert (ours.verdict, ours.value) == (theirs.verdict, pytest.approx(theirs.value))
    assert judge_limit("p50_ms", 2.0, processes).verdict is judge_limit("p50_ms", 2.0 * factor, scaled).verdict


def test_false_alarms_and_caught_slowdowns_by_simulation() -> None:
    """40 decisions of each kind: with a true rate of 1 % more than three false alarms have a chance below 0.1 %."""
    alarms = sum(
        verdict("max_slowdown", 0.01, source(2.0, 2.0, 2.0, seed=s)).verdict is Verdict.FAIL for s in range(40)
    )
    caught = sum(
        verdict("max_slowdown", 0.01, source(2.1, 2.0, 2.0, seed=s)).verdict is Verdict.FAIL for s in range(40)
    )
    assert alarms <= 3
    assert caught >= 36


def test_three_percent_are_caught_in_processes_of_a_common_spread() -> None:
    """3 % against a limit of 1 %, where processes differ by half a percent: a decision that is not left open."""
    found = [verdict("max_slowdown", 0.01, source(2.06, 2.0, 2.0, layout=0.004, seed=seed)) for seed in range(20)]
    assert sum(finding.verdict is Verdict.FAIL for finding in found) >= 18
    same = [verdict("max_slowdown", 0.01, source(2.0, 2.0, 2.0, layout=0.004, seed=seed)) for seed in range(20)]
    assert not any(finding.verdict is Verdict.FAIL for finding in same)


def test_bursts_that_are_shorter_than_a_turn_meet_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is half as fast for 60 ms in every 200: calls of 5 ms by turns find 2 %, whoever was hit."""
    now, stream = [0.0], np.random.default_rng(3)

    def contestant(factor: float) -> Invoke:
        def invoke() -> None:
            busy = (now[0] % 0.2) < 0.06
            now[0] += 0.005 * factor * (2.0 if busy else 1.0) * float(np.exp(stream.normal(0, 0.01)))

        return invoke

    clock = SimpleNamespace(perf_counter=lambda: now[0], perf_counter_ns=lambda: round(1e9 * now[0]))
    monkeypatch.setattr(worker, "time", clock)
    monkeypatch.setattr(measure, "time", clock)
    blocks = time_turns([contestant(factor) for factor in (1.02, 1.0, 1.0)], [5.0] * 3, turn_s=2.0)
    seen = Process(tuple(np.array(own) for own in blocks), HERE)
    assert np.expm1(np.median(seen.turn_log_ratios(0, 1))) == pytest.approx(0.02, abs=0.006)
