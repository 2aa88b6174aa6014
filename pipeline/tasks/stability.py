"""How much of a network's answers hangs on which images calibrated it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.pipeline.tasks.resampling import Spread

SIDES = 2 * 1.96
"""Standard errors between the ends of a 95 % interval."""


@dataclass(frozen=True)
class Stability:
    """Two QDQ references of one network, each calibrated on one half of the images, on the same test images.

    Attributes:
        unstable_answers: images, of segmentation pixels, that the two answer differently, percent; None for tensors.
        spread: of that share.
        sqnr_db: of the one's outputs against the other's; None where they are equal.
        num_images: that both answered.
        num_calibration: images in each half.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    unstable_answers: float | None
    spread: Spread | None
    sqnr_db: float | None
    num_images: int
    num_calibration: tuple[int, int]

    def words(self) -> str:
        """For people."""
        halves = f"calibrated on disjoint halves ({self.num_calibration[0]} and {self.num_calibration[1]} images)"
        ratio = "" if self.sqnr_db is None else f", {self.sqnr_db:.1f} dB apart"
        if self.unstable_answers is None or self.spread is None:
            return f"{halves}, it gives {'equal' if self.sqnr_db is None else 'other'} outputs{ratio}"
        return (
            f"{halves}, it answers {self.unstable_answers:.1f} % of {self.num_images} otherwise "
            f"({self.spread.low:.1f} to {self.spread.high:.1f}){ratio}"
        )


def stability(compared: Accuracy, num_calibration: tuple[int, int]) -> Stability:
    """From the score of the second half's network, with the first half's in the place of the float network."""
    differing = None if compared.agreement is None else 100.0 - compared.agreement
    return Stability(differing, _spread(compared), compared.sqnr_db, compared.num_images, num_calibration)


def _spread(compared: Accuracy) -> Spread | None:
    """Of the share that differs: a bootstrap's for pixels, else Wilson's."""
    if pixels := compared.agreement_spread:
        return Spread(100.0 - pixels.high, 100.0 - pixels.low, pixels.error)
    agreed = compared.interval(compared.agreement)
    if agreed is None:
        return None
    low, high = 100.0 - agreed[1], 100.0 - agreed[0]
    return Spread(low, high, (high - low) / SIDES)
