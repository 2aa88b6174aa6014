"""What the calibration saw in a tensor, channel by channel, and the range with the least noise on images to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgec.pipeline.quantize.affine import Array

TAILS = np.arange(0.0, 16.5, 0.5)
"""How far beyond the seen extremes a range may end, in lengths of the tail: e^16 times as many images."""

EXCESS = 2.0
"""Mean square of what lies beyond a threshold of an exponential tail, in squared lengths of the tail."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Statistics of one activation per channel along axis 1, each ``(C,)`` or broadcastable to it.

    Attributes:
        low: minimum that was seen.
        high: maximum that was seen.
        mean: mean.
        power: mean square.
        low_tail: length of the lower tail: extremes move by it when images become e times as many; 0 for a hard end.
        high_tail: the same of the upper tail.
        lowest: what the values cannot fall below, or need not.
        highest: what the values cannot exceed.
        rarity: share of the values of new images that lie beyond an extreme that was seen.
    """

    low: Array
    high: Array
    mean: Array
    power: Array
    low_tail: Array = field(default_factory=lambda: np.zeros(1))
    high_tail: Array = field(default_factory=lambda: np.zeros(1))
    lowest: Array = field(default_factory=lambda: np.full(1, -np.inf))
    highest: Array = field(default_factory=lambda: np.full(1, np.inf))
    rarity: float = 0.0

    def scaled(self, factors: Array | float) -> Channels:
        """The same of ``factors * x``; factors are positive."""
        return Channels(
            self.low * factors,
            self.high * factors,
            self.mean * factors,
            self.power * factors**2,
            self.low_tail * factors,
            self.high_tail * factors,
            self.lowest * factors,
            self.highest * factors,
            self.rarity,
        )

    def shifted(self, constant: Array) -> Channels:
        """The same of ``x + constant``; what the values cannot leave stays, as that is a ReLU's 0."""
        return replace(
            self,
            low=np.maximum(self.low + constant, self.lowest),
            high=self.high + constant,
            mean=self.mean + constant,
            power=self.power + 2 * constant * self.mean + constant**2,
        )

    def within(self, low: Array | float, high: Array | float) -> Channels:
        """The same where values beyond the bounds do not count."""
        return replace(
            self,
            low=np.maximum(self.low, low),
            high=np.minimum(self.high, high),
            lowest=np.maximum(self.lowest, low),
            highest=np.minimum(self.highest, high),
        )

    def ending(self, low: float, high: float) -> Channels:
        """The same with a range that is settled."""
        ends, none = (np.full_like(self.low, low), np.full_like(self.high, high)), np.zeros(1)
        return replace(self, low=ends[0], high=ends[1], low_tail=none, high_tail=none)

    @property
    def variance(self) -> Array:
        variance: Array = np.maximum(self.power - self.mean**2, 0.0)
        return variance

    def reach(self, tails: Array | float) -> tuple[Array, Array]:
        """(lower, upper) ends so many tail lengths beyond the seen extremes."""
        low: Array = np.maximum(self.low - tails * self.low_tail, self.lowest)
        high: Array = np.minimum(self.high + tails * self.high_tail, self.highest)
        return low, high

    def clipping(self, low: Array, high: Array) -> Array:
        """Expected squared error per value if a range that holds all that was seen ends at ``low`` and ``high``.

        Extremes of independent images follow Gumbel's law with an exponential tail (Gumbel 1958, "Statistics of
        Extremes"): a new image exceeds the extreme of N with probability 1/N, one that lies x further with exp(-x/b)
        of that, and by 2 b^2 in the mean square.
        """
        below = _excess(self.low - low, self.low_tail, low > self.lowest)
        above = _excess(high - self.high, self.high_tail, high < self.highest)
        error: Array = self.rarity * (below + above)
        return error


def _excess(margin: Array, tail: Array, possible: Array) -> Array:
    """0 where nothing can lie further out: behind a ReLU that is one side of all channels, and costs nothing then."""
    if not np.any(possible):
        return np.zeros_like(margin)
    length = np.maximum(tail, 1e-30)
    excess: Array = EXCESS * length**2 * np.exp(-np.maximum(margin, 0.0) / length) * possible
    return excess


def least_noise_range(
    members: Sequence[Channels], steps: int, symmetric: bool, per_channel: bool = False
) -> tuple[Array, Array]:
    """The ends with the least expected noise, of rounding and of clipping, for tensors that share one range.

    Args:
        members: of each tensor.
        steps: between the ends, e.g. 255.
        symmetric: the range reaches as far on both sides.
        per_channel: each channel ends where it wants to; one member then.

    Returns:
        ``(low, high)``, scalars or ``(C,)``.
    """
    tails = TAILS[:, None]
    ends = [member.reach(tails) for member in members]
    low, high = (np.concatenate([np.broadcast_to(pair[i], pair[0].shape) for pair in ends], axis=1) for i in (0, 1))
    if not per_channel:
        low, high = low.min(axis=1, keepdims=True), high.max(axis=1, keepdims=True)
    noise = rounding_noise(low, high, steps, symmetric).mean(axis=1)
    noise = noise + sum(member.clipping(low, high).mean(axis=1) for member in members)
    best = int(np.argmin(noise))
    return (low[best], high[best]) if per_channel else (low[best, 0], high[best, 0])


def rounding_noise(low: Array, high: Array, steps: int, symmetric: bool) -> Array:
    """Variance of rounding to a grid over ``[low, high]``, 0 included: the square of the step over 12.

    Widrow and Kollar 2008, "Quantization Noise".
    """
    width = 2 * np.maximum(-low, high) if symmetric else np.maximum(high, 0.0) - np.minimum(low, 0.0)
    noise: Array = (width / steps) ** 2 / 12
    return noise
