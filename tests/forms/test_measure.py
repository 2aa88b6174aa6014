"""Latency statistics on calls whose times are known by construction; no test asserts a real duration."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgec.pipeline.forms import measure as module
from edgec.pipeline.forms.measure import measure
from edgec.targets.tensorrt import build_engine
from edgec.targets.tflite import board_runner


class Clock:
    """A clock that only the measured call moves."""

    def __init__(self, times_ms: list[float]) -> None:
        self.now_ns, self.times_ms, self.calls = 0, times_ms, 0

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def perf_counter(self) -> float:
        return self.now_ns / 1e9

    def invoke(self) -> None:
        self.now_ns += round(self.times_ms[min(self.calls, len(self.times_ms) - 1)] * 1e6)
        self.calls += 1


def measured(clock: Clock, monkeypatch: pytest.MonkeyPatch, effort: module.Effort = module.THOROUGH) -> module.Latency:
    monkeypatch.setattr(module, "time", clock)
    return measure(clock.invoke, 1, effort)


def test_a_constant_call(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = measured(Clock([2.0]), monkeypatch)
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == (2.0, 2.0, 2.0)
    assert latency.num_samples == 1000
    assert latency.status == "measured"


def test_a_slow_start_is_warm_up_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = measured(Clock([*np.linspace(9, 1, 100), 1.0]), monkeypatch)
    assert latency.num_warmup >= 100
    assert latency.p99_ms == 1.0


def test_spikes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = [1.0] * 64
    latency = measured(Clock(warm + ([1.0] * 49 + [7.0]) * 30), monkeypatch)
    assert latency.p50_ms == 1.0
    assert latency.p99_ms == 7.0


def test_a_slow_network_has_no_p99(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = measured(Clock([50.0]), monkeypatch)
    assert latency.num_samples == 160
    assert latency.p99_ms is None
    assert latency.p50_ms == 50.0


def test_a_call_that_never_settles_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [1.0 + 0.5 * (i // 32 % 2) for i in range(20_000)]
    assert measured(Clock(times), monkeypatch, module.Effort(1.0, 0.25, 10)).num_samples >= 100


@pytest.mark.parametrize(("call_ms", "samples"), [(0.1, 1000), (5.0, 100), (500.0, 20)])
def test_a_build_measures_half_a_second_and_two_calls_a_block_at_least(
    call_ms: float, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock([call_ms])
    latency = measured(clock, monkeypatch, module.BRIEF)
    assert (latency.num_samples, latency.p50_ms) == (samples, call_ms)
    assert (latency.p99_ms is None) == (samples < 1000)
    assert (clock.calls - latency.num_warmup) == samples


def of_blocks(*medians_ms: float) -> module.Latency:
    return module.Latency("measured", float(np.median(medians_ms)), medians_ms=medians_ms)


@pytest.mark.parametrize(
    ("ours", "theirs", "pays", "words"),
    [
        ([2.0] * 10, [4.2] * 10, True, "INT8 is 2.10x as fast as float here"),
        ([2.0] * 10, [1.86] * 10, False, "INT8 is slower here (0.93x): ship float"),
        ([2.0] * 10, [1.9, 1.9, *[2.2] * 8], False, "INT8 is not clearly faster here (1.10x): float may serve as well"),
        ([2.0] * 10, [1.9, *[2.2] * 9], True, "INT8 is 1.10x as fast as float here"),  # one pair of ten is luck
        ([2.0] * 10, [2.1, 2.1, *[1.8] * 8], False, "INT8 is not clearly faster here (0.90x): float may serve as well"),
    ],
)
def test_integers_must_pay(ours: list[float], theirs: list[float], pays: bool, words: str) -> None:
    found = module.beside_float(of_blocks(*ours), of_blocks(*theirs))
    assert found is not None
    assert (found.pays, found.words()) == (pays, words)
    assert found.low <= found.speedup <= found.high
    assert found.float_p50_ms == float(np.median(theirs))


def test_what_was_not_measured_is_not_compared() -> None:
    assert module.beside_float(of_blocks(*[1.0] * 10), module.Latency("not-measured")) is None


def test_several_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one and the other, then the other and the one; each as if it were alone."""
    clock, order = Clock([2.0]), list[str]()

    def calls(name: str) -> None:
        order.append(name)
        clock.invoke()

    monkeypatch.setattr(module, "time", clock)
    found = module.measure_in_turns([lambda: calls("a"), lambda: calls("b")], 1)
    assert [(each.p50_ms, each.num_samples) for each in found] == [(2.0, 1000)] * 2
    blocks = "".join(order[-2000:])[::100]
    assert blocks == "abba" * 5


RULES = (module, board_runner, build_engine)


def test_boards_and_this_machine_write_down_one_rule() -> None:
    """A device script is one file without edgec: it repeats the rule, and may not differ by a character."""
    for name in ("GROUP", "WINDOW", "STEADY", "SLOW_MS"):
        assert len({getattr(rule, name) for rule in RULES}) == 1
    for name in ("group_size", "is_steady"):
        assert len({inspect.getsource(getattr(rule, name)) for rule in RULES}) == 1


def warmed(rule: ModuleType, times_ms: list[float], limit_s: float) -> tuple[int, float]:
    """Calls until the end of the warm-up, and the last group's median."""
    clock = Clock(times_ms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule, "time", clock)
        found = rule.warm_up(clock.invoke, limit_s)
    return (found.num_calls, found.last_ms) if isinstance(found, module.WarmUp) else found[:2]


@given(st.lists(st.floats(0.01, 90), min_size=1, max_size=200), st.sampled_from([0.1, 2.0, 100.0]))
@settings(deadline=None)
def test_the_same_times_end_the_warm_up_at_the_same_call(times_ms: list[float], limit_s: float) -> None:
    assert len({warmed(rule, times_ms, limit_s) for rule in RULES}) == 1


@given(st.lists(st.floats(0.01, 1000), min_size=8, max_size=20))
def test_the_slope_is_that_of_least_squares(medians: list[float]) -> None:
    slope = np.polyfit(np.arange(8), np.log(medians[-8:]), 1)[0]
    assume(abs(abs(slope) * 8 - 0.02) > 1e-6)
    assert module.is_steady(medians) == (abs(slope) * 8 < 0.02)
    assert not module.is_steady(medians[:7])


def test_a_step_in_the_middle_is_no_steady_state() -> None:
    """Two windows of 32 calls with medians within 2 % would have ended a warm-up that compares only two of them."""
    drifting = [0.985 ** (call // 32) for call in range(6400)]
    for rule in RULES:
        calls, _ = warmed(rule, drifting, 100.0)
        assert calls > 640
