"""How sure a figure is: a bootstrap over the images, seeded, so that equal answers have equal intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

LEVEL = 0.95
REPLICATES = 2000


@dataclass(frozen=True)
class Spread:
    """How sure a figure is, from a bootstrap over images: its 95 % interval and standard error."""

    low: float
    high: float
    error: float


def draws(count: int) -> Numbers:
    """How often each image is drawn, ``(B, N)``."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), REPLICATES)
    return np.asarray(drawn, np.float64)


def spread(replicates: Numbers) -> Spread:
    """Of a figure, from its values on the images as they were drawn, ``(B,)``."""
    known = replicates[np.isfinite(replicates)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (math.nan, math.nan)
    return Spread(float(low), float(high), float(known.std()) if len(known) else math.nan)


def mean_spread(values: Numbers) -> Spread:
    """Of a mean over images."""
    return spread(draws(len(values)) @ values / len(values))
