"""What a network says of its own certainty, and how far that moves when it is quantized.

A threshold in a product moves with it: the same answers at other probabilities are other decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.pipeline.tasks.metrics import Answers, Labels
from edgec.pipeline.tasks.resampling import Numbers, Spread, draws, mean_spread, spread

Probabilities = npt.NDArray[np.float64]
"""``(N, classes)``; each row sums to one."""

BINS = 15
"""Guo et al., 1706.04599, section 4: bins of equal width."""

FIRST = 5
LEAST = 1e-12
"""Of a probability inside a logarithm: integer outputs say zero."""


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is."""

    value: float
    spread: Spread


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
    drawn = draws(len(labels))
    then, now = (_calibration_errors(*pair, drawn) for pair in zip(sure, right, strict=True))
    rise = Estimate(errors[1] - errors[0], spread(now - then))
    return Confidence(shared, divergence, errors[1], errors[0], rise)


def calibration_error(sure: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error in points: the sum of ``|B| / N * |accuracy(B) - confidence(B)|`` (1706.04599)."""
    return float(_calibration_errors(sure, right, np.ones((1, len(sure))))[0])


def _calibration_errors(sure: Numbers, right: npt.NDArray[np.bool_], drawn: Numbers) -> Numbers:
    """The same of the images as they are drawn, ``(B,)``."""
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    inside = places[:, None] == np.arange(BINS)
    gaps = drawn @ (inside * (right - sure)[:, None])
    return np.asarray(100.0 * np.abs(gaps).sum(axis=1) / len(sure))


def _shared_first(before: Probabilities, after: Probabilities) -> npt.NDArray[np.float64]:
    """Share of the five likeliest classes that both name, ``(N,)``; among equals the first counts."""
    named = [np.argsort(-form, axis=1, kind="stable")[:, :FIRST] for form in (before, after)]
    return np.asarray(np.mean(np.any(named[0][:, :, None] == named[1][:, None, :], axis=2), axis=1))


def _mean(values: Numbers) -> Estimate:
    return Estimate(float(values.mean()), mean_spread(values))
