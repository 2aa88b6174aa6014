"""Accuracy from paired answers: how far two networks may differ, and how many images a limit needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgec.pipeline.tasks.accuracy import rate_interval

LEVEL = 0.95
Z = 1.959964  # of a two-sided 95 % interval
PLANNING_Z = Z + 0.841621  # a new sample of that size clears the limit in 80 % of cases
PLANNING_LEVEL = math.erf(PLANNING_Z / math.sqrt(2))


@dataclass(frozen=True)
class Share:
    """An estimate in percent or percentage points with its 95 % interval."""

    estimate: float
    low: float
    high: float


def drop_interval(only_before: float, only_after: float, num_images: int, level: float = LEVEL) -> Share:
    """Drop in percentage points from discordant pairs: Tango's score interval (Statistics in Medicine 17, 1998).

    Holds its level for few discordant pairs, where Wald's interval shrinks to a point. Its test of "no drop" is
    McNemar's (Psychometrika 12, 1947) without continuity correction.

    Args:
        only_before: images that only the older network gets right.
        only_after: images that only the newer one gets right.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    drop = (only_before - only_after) / num_images

    def low_end(delta: float) -> float:
        return _score(only_before, only_after, num_images, delta) - z

    def high_end(delta: float) -> float:
        return _score(only_before, only_after, num_images, delta) + z

    edge = 1 - 1e-9
    low = brentq(low_end, -edge, drop) if drop > -edge and low_end(-edge) > 0 else -1.0
    high = brentq(high_end, drop, edge) if drop < edge and high_end(edge) < 0 else 1.0
    return Share(100 * drop, 100 * float(low), 100 * float(high))


def _score(b: float, c: float, n: int, delta: float) -> float:
    """Tango's equation 3: the drop minus ``delta`` over its standard error where ``delta`` is true."""
    a = 2 * n
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    p21 = (math.sqrt(max(linear**2 - 4 * a * constant, 0.0)) - linear) / (2 * a)
    variance = n * (2 * p21 + delta * (1 - delta))
    return (b - c - n * delta) / math.sqrt(max(variance, 1e-300))


def drop_p(only_before: float, only_after: float, num_images: int, bound_pp: float) -> float:
    """One-sided p-value of "the true drop is at most ``bound_pp``", of the same score test."""
    from scipy.special import ndtr

    return float(ndtr(-_score(only_before, only_after, num_images, bound_pp / 100)))


def share_p(count: int, num_images: int, bound_percent: float) -> float:
    """One-sided exact binomial p-value of "the true share is at least ``bound_percent``"."""
    from scipy.special import bdtr

    return float(bdtr(count, num_images, bound_percent / 100))


def share_interval(count: int, num_images: int) -> Share:
    """A share in percent with Wilson's score interval."""
    percent = 100 * count / num_images
    return Share(percent, *rate_interval(percent, num_images))


def images_for_drop(only_before: int, only_after: int, num_images: int, bound_pp: float) -> int | None:
    """Images after which a drop like this one would pass its limit with 80 % power; None where it is not below it."""
    if 100 * (only_before - only_after) / num_images >= bound_pp:
        return None

    def passes(count: int) -> bool:
        scale = count / num_images
        return drop_interval(only_before * scale, only_after * scale, count, PLANNING_LEVEL).high < bound_pp

    return _smallest(passes)


def images_for_share(count: int, num_images: int, bound_percent: float) -> int | None:
    """Images after which a share like this one would pass its lower limit with 80 % power; None where it is below.

    The low end of Wilson's interval is above a bound exactly where the score test against the bound rejects it, with
    ``(share - bound) ** 2 * n > z ** 2 * bound * (1 - bound)``: scipy's interval takes whole counts only.
    """
    share, bound = count / num_images, bound_percent / 100
    if share <= bound:
        return None
    return math.floor(PLANNING_Z**2 * bound * (1 - bound) / (share - bound) ** 2) + 1


def _smallest(passes: Callable[[int], bool], most: int = 10**8) -> int | None:
    """The least number of images that passes; a pass stays one with more."""
    if not passes(most):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle + 1, high)
    return low
