"""Second opinions and corrections: Mann-Whitney, Welch, Holm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def mann_whitney_p(slower: Values, faster: Values) -> float:
    """One-sided p-value of "``slower`` is not stochastically larger" (Mann & Whitney, Ann. Math. Statist. 18, 1947)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(slower, faster, alternative="greater").pvalue)


def welch_interval(ours: Sequence[float], theirs: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """(difference of means, low, high) of two independent samples (Welch, Biometrika 34, 1947)."""
    from scipy.stats import t

    spreads = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    difference, variance = float(np.mean(ours) - np.mean(theirs)), sum(spreads)
    if variance == 0.0:
        return difference, difference, difference
    freedom = variance**2 / sum(s**2 / (len(v) - 1) for s, v in zip(spreads, (ours, theirs), strict=True))
    half = float(t.ppf((1 + level) / 2, freedom)) * variance**0.5
    return difference, difference - half, difference + half


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false alarm below the level (Holm, Scand. J. Statist. 6, 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
