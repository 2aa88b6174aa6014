"""What a network says of its own certainty, and how far that moves when it is quantized.

A threshold in a product moves with it: the same answers at other probabilities are other decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.pipeline.tasks.metrics import Answers, Labels

Probabilities = npt.NDArray[np.float64]
"""``(N, classes)``; each row sums to one."""

BINS = 15
"""Guo et al., 1706.04599, section 4: bins of equal width."""

FIRST = 5
SAMPLES, SEED = 400, 0
LEAST = 1e-12
"""Of a probability inside a logarithm: integer outputs say zero."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error over the images."""

    value: float
    error: float


@dataclass(frozen=True)
class Confidence:
    """Of the shipped form, against the float network.

    Attributes:
        top5_agreement: share in percent of the float network's five likeliest classes that are among the form's; None
            for fewer than six classes.
        kl_divergence: mean of ``sum p log(p / q)`` in nats, p the float network's and q the form's.
        calibration_error: expected calibration error of the form, in points; None without labels.
        float_calibration_error: the same of the float network.
        calibration_rise: the former less the latter.
    """

    top5_agreement: Estimate | None
    kl_divergence: Estimate
    calibration_error: float | None = None
    float_calibration_error: float | None = None
    calibration_rise: Estimate | None = None


def confidence(
    before: Probabilities, after: Probabilities, said: tuple[Answers, Answers], labels: Labels | None
) -> Confidence:
    """Compare two forms on the same images.

    Args:
        before, after: of the float network and of the shipped form.
        said: their answers.
    """
    shared = _mean(100.0 * _shared_first(before, after)) if before.shape[1] > FIRST else None
    divergence = _mean(np.sum(before * np.log(np.maximum(before, LEAST) / np.maximum(after, LEAST)), axis=1))
    if labels is None:
        return Confidence(shared, divergence)
    right = [found == labels for found in said]
    sure = [form[np.arange(len(labels)), found] for form, found in zip((before, after), said, strict=True)]
    errors = [calibration_error(*pair) for pair in zip(sure, right, strict=True)]

    def rise(rows: npt.NDArray[np.int64]) -> float:
        then, now = (calibration_error(s[rows], r[rows]) for s, r in zip(sure, right, strict=True))
        return now - then

    return Confidence(shared, divergence, errors[1], errors[0], _bootstrap(rise, len(labels)))


def calibration_error(sure: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error in points: the sum of ``|B| / N * |accuracy(B) - confidence(B)|`` (1706.04599)."""
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, weights=right - sure, minlength=BINS)
    return 100.0 * float(np.abs(gaps).sum()) / len(sure)


def _shared_first(before: Probabilities, after: Probabilities) -> npt.NDArray[np.float64]:
    """Share of the five likeliest classes that both name, ``(N,)``; among equals the first counts."""
    named = [np.argsort(-form, axis=1, kind="stable")[:, :FIRST] for form in (before, after)]
    return np.asarray(np.mean(np.any(named[0][:, :, None] == named[1][:, None, :], axis=2), axis=1))


def _mean(values: npt.NDArray[np.float64]) -> Estimate:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")
    return Estimate(float(values.mean()), error if np.isfinite(error) else 0.0)


def _bootstrap(figure: Callable[[npt.NDArray[np.int64]], float], count: int) -> Estimate:
    """A figure of all images, and its spread over images drawn again."""
    stream = np.random.default_rng(SEED)
    drawn = [figure(stream.integers(0, count, count)) for _ in range(SAMPLES)]
    return Estimate(figure(np.arange(count)), float(np.std(drawn)))
