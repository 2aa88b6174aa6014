"""Histograms of bounded size that do not depend on the order of the data, and the ranges read from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.pipeline.quantize.observers import (
    NUM_BINS,
    Histogram,
    mse_range,
    range_params,
)

VALUES = st.lists(st.floats(-1e5, 1e5, width=32), min_size=1, max_size=30)


def histogram(*parts: np.ndarray) -> Histogram:
    result = Histogram.empty()
    for part in parts:
        result = result.add(np.asarray(part, np.float32))
    return result


@given(st.lists(VALUES, min_size=1, max_size=5))
@settings(max_examples=50)
def test_order_does_not_matter_and_nothing_is_lost(parts: list[list[float]]) -> None:
    there, back = histogram(*parts), histogram(*parts[::-1])
    assert there.limit == back.limit
    assert np.array_equal(there.counts, back.counts)
    assert int(there.counts.sum()) == sum(map(len, parts))


@given(VALUES)
@settings(max_examples=50)
def test_the_limit_is_the_next_power_of_two(values: list[float]) -> None:
    result = histogram(values)
    extreme = max(map(abs, values))
    assert np.log2(result.limit) == np.round(np.log2(result.limit))
    assert result.limit >= extreme
    assert extreme == 0 or result.limit <= max(2 * extreme * 1.00001, 2.0**-100)


def test_values_near_the_end_of_float32_stay_in_their_half() -> None:
    counts = histogram(np.array([1e-40, 3e-38])).counts
    assert counts[NUM_BINS // 2 :].sum() == 2


def test_size_is_bounded() -> None:
    stream = np.random.default_rng(0)
    result = histogram(*(stream.normal(0, 10.0**power, 1000) for power in range(-4, 5)))
    assert result.counts.shape == (NUM_BINS,)
    assert int(result.counts.sum()) == 9000


def test_bins_count_what_lies_in_them() -> None:
    x = np.random.default_rng(1).normal(0, 1, 5000).astype(np.float32)
    result = histogram(x[:100], x[100:])
    expected, _ = np.histogram(x, NUM_BINS, (-result.limit, result.limit))
    assert np.abs(np.cumsum(result.counts) - np.cumsum(expected)).max() <= 2, "float32 rounding at bin edges"


def test_weights_count() -> None:
    result = Histogram.empty().add(np.array([0.5, -0.5], np.float32), np.array([3.0, 1.0]))
    assert result.counts.sum() == 4.0
    assert result.counts[NUM_BINS // 2 :].sum() == 3.0


def brute_force_error(x: np.ndarray, low: float, high: float, symmetric: bool = False) -> float:
    params = range_params(low, high, "int8", symmetric)
    return float(np.square(x - params.dequantize(params.quantize(x))).mean())


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_least_squares_range_clips_an_outlier(symmetric: bool) -> None:
    x = np.append(np.random.default_rng(2).normal(0, 1, 200_000), 60.0)
    low, high = mse_range(histogram(x), float(x.min()), 60.0, "int8", symmetric)
    assert high < 50
    clipped, full = (brute_force_error(x, *bounds, symmetric) for bounds in ((low, high), (float(x.min()), 60.0)))
    assert clipped < full


def test_the_least_squares_range_leaves_a_uniform_density_alone() -> None:
    x = np.linspace(-1, 1, 50_001)
    low, high = mse_range(histogram(x), -1.0, 1.0, "int8")
    assert brute_force_error(x, low, high) <= brute_force_error(x, -1.0, 1.0) * 1.05


def test_range_params_takes_the_wider_side() -> None:
    assert float(range_params(-127.0, 1.0, "int8", True).scale) == 1.0
    assert int(range_params(-127.0, 1.0, "int8", True).zero_point) == 0
    assert float(range_params(0.0, 255.0, "uint8", False).scale) == 1.0
