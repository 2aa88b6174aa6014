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
    from scipy.stats import ttest_ind

    difference = float(np.mean(ours) - np.mean(theirs))
    if np.ptp(ours) == 0.0 and np.ptp(theirs) == 0.0:  # scipy's interval of two constants is not a number
        return difference, difference, difference
    found = ttest_ind(ours, theirs, equal_var=False).confidence_interval(level)
    return difference, float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false alarm below the level (Holm, Scand. J. Statist. 6, 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
