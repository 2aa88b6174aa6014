"""Accuracy from paired answers: how far two networks may differ, and how many images a limit needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Share:
    """An estimate in percent or percentage points with its 95 % interval."""

    estimate: float
    low: float
    high: float


def drop_interval(only_before: int, only_after: int, num_images: int, level: float = LEVEL) -> Share:
    """Drop in percentage points from discordant pairs: Tango's score interval (Statistics in Medicine 17, 1998).

    Holds its level for few discordant pairs, where Wald's interval shrinks to a point.

    Args:
        only_before: images that only the older network gets right.
        only_after: images that only the newer one gets right.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + level) / 2))
    drop = (only_before - only_after) / num_images

    def low_end(delta: float) -> float:
        return _score(only_before, only_after, num_images, delta) - z

    def high_end(delta: float) -> float:
        return _score(only_before, only_after, num_images, delta) + z

    edge = 1 - 1e-9
    low = brentq(low_end, -edge, drop) if drop > -edge and low_end(-edge) > 0 else -1.0
    high = brentq(high_end, drop, edge) if drop < edge and high_end(edge) < 0 else 1.0
    return Share(100 * drop, 100 * float(low), 100 * float(high))


def _score(b: int, c: int, n: int, delta: float) -> float:
    """Tango's equation 3: the drop minus ``delta`` over its standard error where ``delta`` is true."""
    a = 2 * n
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    p21 = (math.sqrt(max(linear**2 - 4 * a * constant, 0.0)) - linear) / (2 * a)
    variance = n * (2 * p21 + delta * (1 - delta))
    return (b - c - n * delta) / math.sqrt(max(variance, 1e-300))


def share_interval(count: int, num_images: int, level: float = LEVEL) -> Share:
    """A share in percent with Wilson's score interval (J. Am. Stat. Assoc. 22, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(count, num_images).proportion_ci(level, method="wilson")
    return Share(100 * count / num_images, 100 * float(found.low), 100 * float(found.high))


def images_for_drop(discordant_share: float, drop_pp: float, limit_pp: float) -> int | None:
    """Images that let a true drop of ``drop_pp`` pass below ``limit_pp`` with 80 % power; None where it lies above.

    Connor's formula for a paired design (Biometrics 43, 1987): the variance of the difference is
    ``discordant share - drop^2``.
    """
    room = (limit_pp - drop_pp) / 100
    if room <= 0:
        return None
    drop = drop_pp / 100
    return _images(max(discordant_share, abs(drop), 1e-4) - drop**2, room)


def images_for_share(percent: float, limit_percent: float) -> int | None:
    """Images that let a true share of ``percent`` show above ``limit_percent`` with 80 % power."""
    room = (percent - limit_percent) / 100
    if room <= 0:
        return None
    share = min(max(percent / 100, 1e-4), 1 - 1e-4)
    return _images(share * (1 - share), room)


def _images(variance: float, room: float) -> int:
    from scipy.stats import norm

    z = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))
    return math.ceil(variance * (z / room) ** 2)
