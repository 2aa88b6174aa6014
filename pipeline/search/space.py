"""What may be chosen, what a choice came to, and which choices nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.pareto import unbeaten
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.forms.spec import Precision

Granularity = Literal["per_channel", "per_tensor"]


@dataclass(frozen=True)
class Point:
    """One choice.

    Attributes:
        px: side of the input; None where the network has one size.
        weights: as ``--weights`` takes them; None for the model's own.
    """

    precision: Precision
    level: Level = "fast"
    granularity: Granularity = "per_channel"
    px: int | None = None
    weights: str | None = None

    def words(self) -> str:
        """For tables."""
        how = () if self.precision == "fp16" else (self.level, self.granularity.replace("_", " "))
        size = () if self.px is None else (f"{self.px} px",)
        return ", ".join((self.precision, *how, *size, *(() if self.weights is None else (self.weights,))))


@dataclass(frozen=True)
class Space:
    """Everything that may be combined; the first of each is the usual one."""

    precisions: tuple[Precision, ...]
    levels: tuple[Level, ...] = ("fast",)
    granularities: tuple[Granularity, ...] = ("per_channel",)
    px: tuple[int | None, ...] = (None,)
    weights: tuple[str | None, ...] = (None,)

    def points(self) -> tuple[Point, ...]:
        """All of them, the usual one first; in FP16 nothing is quantized, so that it has no level."""
        every = product(self.weights, self.px, self.precisions, self.granularities, self.levels)
        found = (
            Point(precision, px=px, weights=weights)
            if precision == "fp16"
            else Point(precision, level, granularity, px, weights)
            for weights, px, precision, granularity, level in every
        )
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Found:
    """What one choice came to.

    Attributes:
        headline: what the artifact gets right, in percent; without labels its agreement; of tensors the SQNR in dB.
        cost: of one inference, in ``unit``.
        sqnr_db: of the worst output; None where all are equal.
    """

    point: Point
    headline: float
    cost: float
    unit: str
    sqnr_db: float | None
    size_bytes: int


@dataclass(frozen=True)
class Impossible:
    """A choice that makes no network, and why."""

    point: Point
    refusal: str


Outcome = Found | Impossible


def front(found: Sequence[Found]) -> tuple[Found, ...]:
    """Pareto front: what nothing else equals or beats in both figures while it beats it in one; cheapest first."""
    kept = unbeaten([(one.cost, one.headline) for one in found])
    best = [one for one, is_kept in zip(found, kept, strict=True) if is_kept]
    return tuple(sorted(best, key=lambda one: (one.cost, -one.headline)))


def chosen(outcomes: Sequence[Outcome], most_loss: float) -> Found:
    """The cheapest that loses at most so many points against the best.

    Raises:
        EdgecError: ``search-found-nothing``.
    """
    best = front([one for one in outcomes if isinstance(one, Found)])
    if not best:
        refusals = "; ".join(sorted({one.refusal for one in outcomes if isinstance(one, Impossible)}))
        raise EdgecError("search-found-nothing", f"no point gives a network: {refusals}", "see what 'edgec build' says")
    highest = max(one.headline for one in best)
    return next(one for one in best if highest - one.headline <= most_loss)
