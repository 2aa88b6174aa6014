"""How far two sets of answers are apart. Rates are in percent; logits are ``(N, classes)`` float32."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Answers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]

NO_SIGNAL_DB = -200.0


def answers(logits: Logits) -> Answers:
    """The class of each row, the only argmax of the house: the first of the largest, as a board decides.

    A network with one logit answers by its sign: class 1 above zero, else class 0.
    """
    if logits.shape[1] == 1:
        return np.asarray(logits[:, 0] > 0, np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)


def right_percent(found: Answers, labels: Labels) -> float:
    """Share of rows that answer as their label says."""
    return 100.0 * float(np.mean(found == labels))


def topk_percent(logits: Logits, labels: Labels, k: int = 1) -> float:
    """Share of rows whose label is among the ``k`` first: by size, and by index among equals, as in ``answers``."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return 100.0 * float(np.mean(np.sum((logits > own) | ((logits == own) & earlier), axis=1) < k))


def tied_percent(logits: Logits) -> float:
    """Share of rows where several classes have the largest value; integer outputs do that."""
    if logits.shape[1] == 1:
        return 0.0
    return 100.0 * float(np.mean(np.sum(logits == logits.max(axis=1, keepdims=True), axis=1) > 1))


def sqnr_db(values: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Signal-to-quantization-noise ratio, ``10 log10(sum reference^2 / sum (values - reference)^2)``.

    Equal inputs give ``inf``; a reference of zeros against anything else gives ``NO_SIGNAL_DB``.
    """
    return sqnr_db_of([(values, reference)])


def sqnr_db_of(parts: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """The same of (values, reference) in parts, of which one at a time is widened to 64 bits."""
    signal = noise = 0.0
    for values, reference in parts:
        signal += float(np.sum(np.square(reference, dtype=np.float64)))
        noise += float(np.sum(np.square(values.astype(np.float64) - reference)))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else NO_SIGNAL_DB


def finite(value: float) -> float | None:
    """None for the infinite ratio of equal tensors, which JSON cannot say."""
    return value if math.isfinite(value) else None


def cosine(values: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Mean cosine of the angle between rows, each flattened; two rows of zeros count as equal."""
    one, other = (a.reshape(len(a), -1).astype(np.float64) for a in (values, reference))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = np.sum(one * other, axis=1)
    both_zero = ~one.any(axis=1) & ~other.any(axis=1)
    shares = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return float(np.mean(np.where(both_zero, 1.0, shares)))


def discordant(one: Answers, other: Answers, labels: Labels) -> tuple[int, int]:
    """(rows only ``one`` gets right, rows only ``other`` gets right): all that a paired test needs."""
    ours, theirs = one == labels, other == labels
    return int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test: probability of a split at least this uneven if A and B were equally good.

    McNemar, Psychometrika 12 (1947); the exact form is a binomial test on the discordant pairs.
    """
    from scipy.special import bdtr  # ``scipy.stats.binomtest`` is the same and takes a second to load

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a + only_b else 1.0
