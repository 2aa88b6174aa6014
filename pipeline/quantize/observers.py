"""From observed values to a range: bounded histograms and the range estimators over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.quantize.affine import QuantParams, asymmetric_params, symmetric_params

Array = npt.NDArray[Any]

NUM_BINS = 2048


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

    def add(self, values: Array) -> Histogram:
        """The histogram with more finite values in it, grown where they do not fit."""
        extreme = float(np.abs(values).max(initial=0.0))
        grown = self.grow(2.0 ** np.ceil(np.log2(extreme * (1 + 1e-6)))) if extreme > 0 else self.grow(2.0**-20)
        bins = (values.ravel() + np.float32(grown.limit)) * np.float32(NUM_BINS / (2 * grown.limit))
        index = np.clip(bins.astype(np.int32), 0, NUM_BINS - 1)
        return Histogram(grown.counts + np.bincount(index, minlength=NUM_BINS), grown.limit)

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


def percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Leave ``100 - percentile`` per cent of the values outside, half of them on each side."""
    cumulative = np.cumsum(histogram.counts) / max(int(histogram.counts.sum()), 1)
    tail = (1 - percentile / 100) / 2
    width = 2 * histogram.limit / NUM_BINS
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1 - tail, side="left"))
    return low * width - histogram.limit, (high + 1) * width - histogram.limit


def mse_range(
    histogram: Histogram, low: float, high: float, dtype: str, symmetric: bool = False, steps: int = 24
) -> tuple[float, float]:
    """The sub-range of ``[low, high]`` with the least mean squared error, rounding plus clipping.

    Both ends shrink by independent factors, as in Banner et al. 2019 (arXiv:1810.05723) but on the observed histogram
    instead of a fitted density.
    """
    factors = np.linspace(1.0, 0.2, steps)
    x, weight = histogram.centers, histogram.counts.astype(np.float64)
    keep = weight > 0
    x, weight = x[keep], weight[keep]
    if not keep.any():
        return low, high

    def error(a: float, b: float) -> float:
        params = range_params(a, b, dtype, symmetric)
        return float((weight * (params.dequantize(params.quantize(x)) - x) ** 2).sum())

    if symmetric:
        bound = max(abs(low), abs(high))
        best = min(factors, key=lambda f: error(-f * bound, f * bound))
        return low * best, high * best
    upper = min(factors, key=lambda f: error(low, f * high))
    lower = min(factors, key=lambda f: error(f * low, upper * high))
    return low * lower, high * upper


def kl_range(histogram: Histogram, levels: int = 128) -> tuple[float, float]:
    """Symmetric threshold with the least Kullback-Leibler divergence between the clipped and the quantized density.

    Migacz 2017, "8-bit Inference with TensorRT", GTC; ``levels`` bins stand for the positive integers.
    """
    half = NUM_BINS // 2
    density = (histogram.counts[half:] + histogram.counts[:half][::-1]).astype(np.float64)
    last = int(np.nonzero(density)[0].max(initial=0)) + 1
    candidates = range(levels, max(last, levels) + 1, max(1, (last - levels) // 64))
    best = min(candidates, key=lambda cut: _divergence(density, cut, levels))
    bound = best * histogram.limit / half
    return -bound, bound


def _divergence(density: Array, cut: int, levels: int) -> float:
    clipped = density[:cut].copy()
    clipped[-1] += density[cut:].sum()
    level = np.arange(cut) * levels // cut
    occupied = density[:cut] > 0
    total = np.bincount(level, weights=density[:cut], minlength=levels)
    number = np.bincount(level, weights=occupied, minlength=levels)
    quantized = np.where(occupied, (total / np.maximum(number, 1))[level], 0.0)
    p, q = clipped / max(clipped.sum(), 1e-12), quantized / max(quantized.sum(), 1e-12)
    support = p > 0
    return float((p[support] * np.log(p[support] / np.maximum(q[support], 1e-12))).sum())


def range_params(low: float, high: float, dtype: str, symmetric: bool) -> QuantParams:
    """Per-tensor parameters of a range."""
    if symmetric:
        return symmetric_params(max(abs(low), abs(high)), dtype)
    return asymmetric_params(low, high, dtype)
