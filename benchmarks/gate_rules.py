"""How others call an artifact slower, on the processes that edgec's gate sees.

``naive`` compares the means of 100 runs of each artifact and fails above 5 %, as benchmark actions do by default.
``criterion`` is Criterion.rs's rule on one process of each: a bootstrapped 95 % interval of the change of the mean that
lies above a noise threshold of 1 % (docs, "Comparison"). ``change point`` is MongoDB's: E-divisive means over a history
of medians (Daly et al., ICPE 2020), six processes before the change and six after it, at 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.pipeline.gate.change_points import change_points
from edgec.pipeline.gate.sampling import Process

NAIVE_RUNS, NAIVE_BAND = 100, 0.05
CRITERION_THRESHOLD, CRITERION_RESAMPLES = 0.01, 1000
BEFORE_AND_AFTER = 6
RULES = ("naive", "criterion", "change point")


def other_rules(processes: Sequence[Process], candidate: int, baseline: int) -> dict[str, bool]:
    """Which of ``RULES`` call the candidate slower. Each artifact has processes of its own, as those rules have it."""
    ours, theirs = processes[0].blocks[candidate].ravel(), processes[-1].blocks[baseline].ravel()
    history = [float(np.median(p.blocks[baseline])) for p in processes[:BEFORE_AND_AFTER]]
    history += [float(np.median(p.blocks[candidate])) for p in processes[BEFORE_AND_AFTER : 2 * BEFORE_AND_AFTER]]
    points = change_points(np.array(history))
    return {
        "naive": bool(ours[:NAIVE_RUNS].mean() > theirs[:NAIVE_RUNS].mean() * (1 + NAIVE_BAND)),
        "criterion": criterion_fails(ours, theirs),
        "change point": any(
            abs(point.index - BEFORE_AND_AFTER) <= 1 and point.after > point.before for point in points
        ),
    }


def criterion_fails(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """The interval of the relative change of the mean lies above the noise threshold."""
    stream = np.random.default_rng(0)
    means = [
        samples[stream.integers(0, len(samples), (CRITERION_RESAMPLES, len(samples)))].mean(axis=1)
        for samples in (ours, theirs)
    ]
    return bool(np.quantile(means[0] / means[1] - 1, 0.025) > CRITERION_THRESHOLD)
