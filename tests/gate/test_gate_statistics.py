"""Statistics against published examples, scipy, worked answers, and simulation with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgec.pipeline.gate.clusters import PRIOR_PROCESSES, over_processes
from edgec.pipeline.gate.opinions import holm, mann_whitney_p, welch_interval
from edgec.pipeline.tasks.paired import (
    drop_interval,
    drop_p,
    images_for_drop,
    images_for_share,
    share_interval,
    share_p,
)


def test_estimate_is_the_mean_of_process_medians() -> None:
    found = over_processes([np.array([1.0, 2.0, 9.0]), np.array([3.0, 4.0, 5.0]), np.array([6.0, 6.0, 6.0])])
    assert found.estimate == pytest.approx((2 + 4 + 6) / 3)
    assert found.standard_error == pytest.approx(2 / 3**0.5)


def test_processes_that_agree_exactly_leave_no_doubt() -> None:
    found = over_processes([np.full(5, 2.0)] * 4)
    assert found.interval() == (2.0, 2.0)
    assert found.p_above(1.9) < 0.001
    assert found.p_above(2.1) == 1.0


def test_too_few_processes_are_our_bug() -> None:
    with pytest.raises(ValueError, match="2 processes"):
        over_processes([np.ones(4)] * 2)


def test_a_quantile_of_samples_inside_blocks() -> None:
    values = np.arange(1000.0).reshape(10, 100)
    found = over_processes([values, values + 1, values + 2], 0.99)
    assert found.estimate == pytest.approx(np.quantile(values, 0.99) + 1)


@pytest.mark.parametrize("count", [4, 8])
def test_the_interval_covers_the_truth_as_often_as_it_says(count: int) -> None:
    """95 % nominal; 200 runs have a standard error of 1.5 points."""
    stream, hits = np.random.default_rng(5), 0
    for _ in range(200):
        luck = stream.normal(0, 0.003, (count, 1))
        low, high = over_processes(list(luck + 0.01 * stream.standard_t(3, (count, 12)))).interval()
        hits += low < 0 < high
    assert 0.90 <= hits / 200 <= 0.99


@pytest.mark.parametrize("count", [5, 9, 16])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_at_the_ends_of_the_always_valid_interval_the_evidence_is_as_stated(count: int, level: float) -> None:
    """The Bayes factor of the t-test, by integrating the noncentral t over the prior of the effect."""
    found = over_processes(list(np.random.default_rng(count).normal(0, 1, (count, 1))))
    low, high = found.always_valid(level)
    t = (found.estimate - low) / found.standard_error
    assert (high - found.estimate) / found.standard_error == pytest.approx(t)
    effects = np.linspace(-60, 60, 60_001)
    density = stats.norm.pdf(effects, 0, PRIOR_PROCESSES**-0.5)
    likelihood = stats.nct.pdf(t, count - 1, effects * count**0.5)
    factor = float(np.sum(likelihood * density) * (effects[1] - effects[0]) / stats.t.pdf(t, count - 1))
    assert factor == pytest.approx(1 / (1 - level), rel=1e-3)


@pytest.mark.parametrize(("level", "least"), [(0.95, 4), (0.99, 5)])
def test_after_few_processes_the_always_valid_interval_is_infinite(level: float, least: int) -> None:
    values = list(np.random.default_rng(0).normal(0, 1, (least, 3)))
    assert np.isfinite(over_processes(values).always_valid(level)).all()
    assert over_processes(values[:-1]).always_valid(level) == (-np.inf, np.inf)
    assert over_processes([np.ones(3)] * (least - 1)).always_valid(level) == (-np.inf, np.inf), "agreeing exactly"


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_all_always_valid_intervals_of_a_measurement_hold_the_truth_as_often_as_they_say(level: float) -> None:
    """One look after every process, sixteen in all; Student's interval misses it far more often so."""
    stream, missed, student = np.random.default_rng(7), 0, 0
    for _ in range(300):
        values = stream.normal(0, 0.01, (16, 1))
        looks = [over_processes(list(values[:count])) for count in range(3, 17)]
        missed += any(not low <= 0 <= high for low, high in (look.always_valid(level) for look in looks))
        student += any(not low <= 0 <= high for low, high in (look.interval(level) for look in looks))
    assert missed / 300 <= 1 - level + 0.03
    assert student / 300 > 1.3 * (1 - level)


def test_p_values_and_interval_say_the_same() -> None:
    stream = np.random.default_rng(1)
    found = over_processes(list(stream.normal(0.02, 0.01, (5, 12))))
    assert found.p_above(found.interval()[0]) == pytest.approx(0.025, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_negated_values_mirror_the_interval(seed: int) -> None:
    values = list(np.random.default_rng(seed).normal(0.01, 0.02, (4, 9)))
    low, high = over_processes(values).interval()
    assert over_processes([-v for v in values]).interval() == pytest.approx((-high, -low))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= min(1, len(p_values) * p) + 1e-12 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert list(np.diff(np.array(adjusted)[order]) >= 0) == [True] * (len(p_values) - 1)


def test_mann_whitney_by_hand() -> None:
    """Of the 20 ways to choose three of six ranks, one puts all of ours on top."""
    assert mann_whitney_p(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])) == pytest.approx(1 / 20)


def test_welch_by_hand() -> None:
    """Variances of the means 1/3 and 5/3, so 2^2 / ((1/3)^2 / 2 + (5/3)^2 / 3) degrees of freedom."""
    half = stats.t.ppf(0.975, 4 / (1 / 18 + 25 / 27)) * 2**0.5
    assert welch_interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0]) == pytest.approx((-3, -3 - half, -3 + half))
    assert welch_interval([1.0, 1.0], [2.0, 2.0]) == (-1.0, -1.0, -1.0)


def test_drop_interval_of_a_published_example() -> None:
    """Airway hyper-responsiveness, 21 children, discordant 1 and 7: Fagerland et al. (Stat. Med. 33, 2014)."""
    share = drop_interval(1, 7, 21)
    assert share.estimate == pytest.approx(-28.6, abs=0.05)
    assert (share.low, share.high) == pytest.approx((-51.7, -2.6), abs=0.1)


def test_the_test_of_no_drop_is_mcnemars() -> None:
    statistic = (15 - 5) ** 2 / (15 + 5)
    assert drop_p(15, 5, 200, 0.0) == pytest.approx(stats.chi2.sf(statistic, 1) / 2)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 500))
def test_swapped_networks_mirror_the_drop(before: int, after: int, num_images: int) -> None:
    ours, theirs = drop_interval(before, after, num_images), drop_interval(after, before, num_images)
    assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low), abs=1e-6)
    assert ours.low <= ours.estimate <= ours.high


def test_share_is_wilsons() -> None:
    """Both ends are roots of the score equation; without a miss the high end is 100."""
    share = share_interval(195, 200)
    for end in (share.low / 100, share.high / 100):
        assert abs(195 / 200 - end) == pytest.approx(1.959964 * (end * (1 - end) / 200) ** 0.5)
    assert share_interval(50, 50).high == 100.0
    assert share_interval(0, 50).low == 0.0
    assert share_p(195, 200, 99.0) == pytest.approx(stats.binomtest(195, 200, 0.99, alternative="less").pvalue)


def test_needed_images_decide_with_the_stated_power() -> None:
    """Simulate the planned study: about four of five samples of that size pass."""
    needed = images_for_drop(3, 1, 200, 2.0)
    assert needed is not None
    assert needed > 200
    stream = np.random.default_rng(0)
    drawn = stream.multinomial(needed, [3 / 200, 1 / 200, 196 / 200], 300)
    passed = sum(drop_interval(int(b), int(c), needed).high < 2.0 for b, c, _ in drawn)
    assert 0.72 <= passed / 300 <= 0.90


def test_no_number_of_images_helps_above_the_limit() -> None:
    assert images_for_drop(5, 1, 200, 2.0) is None
    assert images_for_share(180, 200, 95.0) is None


def test_needed_images_of_a_share_by_scipy() -> None:
    needed = images_for_share(195, 200, 95.5)
    assert needed is not None
    level = 1 - 2 * stats.norm.sf(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    whole = [40 * (needed // 40), 40 * (needed // 40 + 1)]  # 97.5 % of them are whole images
    ends = [stats.binomtest(n * 39 // 40, n).proportion_ci(level, method="wilson").low for n in whole]
    assert ends[0] < 0.955 < ends[1]
