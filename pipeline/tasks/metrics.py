"""How far two sets of answers are apart. Rates are in percent; logits are ``(N, classes)`` float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def topk_percent(logits: Logits, labels: Labels, k: int = 1) -> float:
    """Share of rows whose label is among the ``k`` largest logits; a tie counts against the network.

    Counting ties as wrong keeps an integer network whose logits saturate to one value from scoring by luck of order.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    rivals = (logits >= own).sum(axis=1) - 1
    return 100.0 * float(np.mean(rivals < k))


def agreement_percent(logits: Logits, reference: Logits) -> float:
    """Share of rows where both name the same class first."""
    return 100.0 * float(np.mean(logits.argmax(axis=1) == reference.argmax(axis=1)))


def sqnr_db(values: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Signal-to-quantization-noise ratio, ``10 log10(sum reference^2 / sum (values - reference)^2)``.

    Equal inputs give ``inf``; a reference of zeros against anything else gives ``-inf``.
    """
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(values.astype(np.float64) - reference)))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def discordant(logits: Logits, reference: Logits, labels: Labels) -> tuple[int, int]:
    """(rows only ``logits`` gets right, rows only ``reference`` gets right): all that a paired test needs."""
    ours, theirs = (values.argmax(axis=1) == labels for values in (logits, reference))
    return int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test: probability of a split at least this uneven if A and B were equally good.

    McNemar, Psychometrika 12 (1947); the exact form is a binomial test on the discordant pairs.
    """
    from scipy.stats import binomtest

    pairs = only_a + only_b
    return float(binomtest(only_a, pairs).pvalue) if pairs else 1.0
