"""Where a history changed: E-divisive with a weak and a strong threshold, the same answer on every run.

Matteson & James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data", J. Am. Stat.
Assoc. 109 (2014), with the energy distance's exponent 1. Segments are divided at a weak threshold first, so that a
small change beside a large one is not lost, and each point is then tested again between its neighbours at the strong
one, as Fleming et al. do ("Hunter", ICPE 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

WEAK_P, STRONG_P = 0.05, 0.005
PERMUTATIONS = 999
MIN_SEGMENT = 3


@dataclass(frozen=True)
class ChangePoint:
    """The first index of a new level.

    Attributes:
        before, after: medians of the segments on either side.
        strong: passes the strong threshold.
    """

    index: int
    p_value: float
    before: float
    after: float
    strong: bool

    @property
    def ratio(self) -> float:
        """``after`` over ``before``."""
        return self.after / self.before


def change_points(values: Sequence[float], seed: int = 0) -> list[ChangePoint]:
    """Weak and strong change points in order; none in fewer than six values."""
    series = np.asarray(values, np.float64)
    indices = _divide(series, 0, len(series), np.random.default_rng(seed))
    while points := _tested(series, indices, seed):
        weakest = max(points, key=lambda point: point.p_value)
        if weakest.p_value <= WEAK_P:
            return points
        indices.remove(weakest.index)
    return []


def _divide(series: Values, start: int, stop: int, stream: np.random.Generator) -> list[int]:
    """Split at the strongest point while it passes the weak threshold."""
    segment = series[start:stop]
    if len(segment) < 2 * MIN_SEGMENT:
        return []
    distances = np.abs(segment[:, None] - segment[None, :])
    statistics = split_statistics(distances)
    split = int(np.argmax(statistics)) + MIN_SEGMENT
    if _p_value(distances, float(statistics.max()), stream) > WEAK_P:
        return []
    left, right = _divide(series, start, start + split, stream), _divide(series, start + split, stop, stream)
    return [*left, start + split, *right]


def _tested(series: Values, indices: Sequence[int], seed: int) -> list[ChangePoint]:
    """Each point alone between its neighbours."""
    points, edges = [], [0, *indices, len(series)]
    for start, index, stop in zip(edges, edges[1:], edges[2:], strict=False):
        segment = series[start:stop]
        distances = np.abs(segment[:, None] - segment[None, :])
        observed = float(split_statistics(distances).max())
        p_value = _p_value(distances, observed, np.random.default_rng(seed))
        before, after = float(np.median(series[start:index])), float(np.median(series[index:stop]))
        points.append(ChangePoint(index, p_value, before, after, p_value <= STRONG_P))
    return points


def split_statistics(distances: Values) -> Values:
    """Scaled energy distance of the two parts for each split ``MIN_SEGMENT .. n - MIN_SEGMENT`` (equations 5 and 7).

    Args:
        distances: ``(..., n, n)``, absolute differences.
    """
    n = distances.shape[-1]
    sizes = np.arange(MIN_SEGMENT, n - MIN_SEGMENT + 1)
    corner = distances.cumsum(axis=-1).cumsum(axis=-2)
    left = corner[..., sizes - 1, sizes - 1]
    left_all = corner[..., sizes - 1, n - 1]
    total = corner[..., n - 1, n - 1][..., None]
    m, k = sizes, n - sizes
    between = left_all - left
    right = total - 2 * left_all + left
    energy = 2 * between / (m * k) - left / (m * (m - 1)) - right / (k * (k - 1))
    return np.asarray(energy * m * k / (m + k))


def _p_value(distances: Values, observed: float, stream: np.random.Generator) -> float:
    """Share of random orders whose best split is at least as good (permutation test of the paper's section 2.3)."""
    n = len(distances)
    orders = stream.permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)
    beyond = 0
    for some in np.array_split(orders, 1 + PERMUTATIONS * n * n // 1_000_000):  # pieces that stay in the cache
        best = split_statistics(distances[some[:, :, None], some[:, None, :]]).max(axis=-1)
        beyond += int(np.sum(best >= observed * (1 - 1e-12)))
    return (1 + beyond) / (1 + PERMUTATIONS)
