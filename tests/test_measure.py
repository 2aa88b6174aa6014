"""Latency statistics on calls whose times are known by construction; no test asserts a real duration."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.pipeline.forms import measure as module
from edgec.pipeline.forms.measure import measure


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


def measured(clock: Clock, monkeypatch: pytest.MonkeyPatch, **options: float) -> module.Latency:
    monkeypatch.setattr(module, "time", clock)
    return measure(clock.invoke, 1, **options)


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
    latency = measured(Clock([50.0]), monkeypatch, budget_s=8.0)
    assert latency.num_samples == 160
    assert latency.p99_ms is None
    assert latency.p50_ms == 50.0


def test_a_call_that_never_settles_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [1.0 + 0.5 * (i // 32 % 2) for i in range(20_000)]
    assert measured(Clock(times), monkeypatch, budget_s=1.0).num_samples >= 100
