"""From observed values to a range: bounded histograms and the range estimators over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.quantize.affine import QuantParams, asymmetric_params, symmetric_params

Array = npt.NDArray[Any]

NUM_BINS = 4096

SMALLEST_LIMIT = 2.0**-100
"""Of a histogram: below it, bins per unit leave float32."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts over ``[-limit, limit)`` in equal bins. ``limit`` is a power of two, so that growing it merges whole bins
    and the result does not depend on the order of the data.
    """

    counts: Array
    limit: float

    @classmethod
    def empty(cls) -> Histogram:
        return cls(np.zeros(NUM_BINS, np.int64), 0.0)

    def add(self, values: Array, weights: Array | None = None) -> Histogram:
        """The histogram with more finite values in it, grown where they do not fit.

        Args:
            weights: of each value, same shape; 1 each by default.
        """
        extreme = float(np.abs(values).max(initial=0.0))
        limit = 2.0 ** np.ceil(np.log2(extreme * (1 + 1e-6))) if extreme > 0 else 2.0**-20
        grown = self.grow(max(limit, SMALLEST_LIMIT))
        bins = np.floor(values.ravel() * np.float64(NUM_BINS / (2 * grown.limit)))  # a power of two: exact
        index = np.clip(bins.astype(np.int32) + NUM_BINS // 2, 0, NUM_BINS - 1)
        added = np.bincount(index, None if weights is None else weights.ravel(), minlength=NUM_BINS)
        return Histogram(grown.counts + added, grown.limit)

    def grow(self, limit: float) -> Histogram:
        """Same counts over at least ``[-limit, limit)``."""
        counts, reach = self.counts, self.limit
        if reach == 0.0:
            return Histogram(counts, limit)
        while reach < limit:
            merged = counts.reshape(-1, 2).sum(axis=1)
            counts = np.zeros_like(counts)
            counts[NUM_BINS // 4 : NUM_BINS // 4 + NUM_BINS // 2] = merged
            reach *= 2.0
        return Histogram(counts, reach)

    @property
    def centers(self) -> Array:
        """Centre of each bin, float64."""
        return (np.arange(NUM_BINS) + 0.5) * (2 * self.limit / NUM_BINS) - self.limit


def mse_range(
    histogram: Histogram,
    low: float,
    high: float,
    dtype: str,
    symmetric: bool = False,
    unseen: Callable[[float, float], float] = lambda low, high: 0.0,
    steps: int = 25,
) -> tuple[float, float]:
    """The sub-range of ``[low, high]`` with the least mean squared error, rounding plus clipping.

    As in Banner et al. 2019 (arXiv:1810.05723), but on the observed histogram instead of a fitted density. The ends of
    an asymmetric range shrink one after the other.

    Args:
        unseen: mean squared error of a range on values that the histogram does not hold but that will come.
    """
    factors, num_values = np.linspace(1.0, 0.2, steps), float(histogram.counts.sum())

    def error(shrink_low: float, shrink_high: float) -> float:
        params = range_params(low * shrink_low, high * shrink_high, dtype, symmetric)
        return _squared_error(histogram, params) + num_values * unseen(float(params.lowest), float(params.highest))

    if symmetric:
        best = min(factors, key=lambda factor: error(factor, factor))
        return low * best, high * best
    upper = min(factors, key=lambda factor: error(1.0, factor))
    lower = min(factors, key=lambda factor: error(factor, upper))
    return low * lower, high * upper


def _squared_error(histogram: Histogram, params: QuantParams) -> float:
    """Uniform rounding noise inside the range, the distance to its end outside; the bin of exact zeros has none."""
    x, lowest, highest = histogram.centers, float(params.lowest), float(params.highest)
    outside = np.maximum(lowest - x, 0.0) + np.maximum(x - highest, 0.0)
    noise = np.where(outside > 0, outside**2, float(params.scale) ** 2 / 12)
    noise[NUM_BINS // 2] = 0.0
    return float((histogram.counts * noise).sum())


def range_params(low: float, high: float, dtype: str, symmetric: bool) -> QuantParams:
    """Per-tensor parameters of a range."""
    if symmetric:
        return symmetric_params(max(abs(low), abs(high)), dtype)
    return asymmetric_params(low, high, dtype)
