"""Is INT8 worth it? Some processors gain little by it, and it costs accuracy: it must prove that it pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from edgec.pipeline.bundle.manifest import Weighed
from edgec.pipeline.forms.format import undecided
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.spec import Precision
from edgec.pipeline.tasks.accuracy import Accuracy

LEAST_GAIN = 1.10  # a speed-up below this is within what clocks and temperature do
MOST_LOSS_PP = 1.0
MS = "ms"
EXACT_DB = 150.0  # what equal tensors count as: float32 itself is no better


@dataclass(frozen=True)
class Verdict:
    """What to ship, and why in one line."""

    precision: Precision
    text: str


@dataclass(frozen=True)
class Outcome:
    """What one precision came to on the device.

    Attributes:
        instructions: of one inference on an emulated core, which has no latency.
        size_bytes: of the artifact.
        arena_bytes: on a microcontroller, whose latency and instructions nobody counts here.
    """

    accuracy: Accuracy
    latency: Latency
    instructions: int | None = None
    size_bytes: int = 0
    arena_bytes: int | None = None


def rows_of(outcomes: Mapping[Precision, Outcome]) -> tuple[Weighed, ...]:
    """For the report."""
    return tuple(
        Weighed(
            name,
            headline(one.accuracy, "target"),
            one.accuracy.sqnr_db,
            one.latency.p50_ms,
            one.instructions,
            one.size_bytes,
            one.arena_bytes,
        )
        for name, one in outcomes.items()
    )


def weigh(outcomes: Mapping[Precision, Outcome]) -> Verdict:
    """The fastest ships that beats FP16 by ``LEAST_GAIN`` and loses ``MOST_LOSS_PP`` at most; else FP16.

    Where a board has no FP16, the fastest that loses at most so much against the best. Fast is what takes least time,
    on an emulated core the fewest instructions, and for a microcontroller the smallest arena. Loss is the drop of top-1
    against float beyond that of FP16; without labels, that of the agreement with float.

    Raises:
        EdgecError: ``precision-undecided`` where one was not measured.
    """
    costs, unit = _costs(outcomes)
    if "fp16" not in outcomes:
        return _fastest_near_the_best(outcomes, costs, unit)
    others: list[Precision] = [name for name in outcomes if name != "fp16"]
    gain: dict[Precision, float] = {name: costs["fp16"] / costs[name] for name in others}
    scores = {name: headline(one.accuracy, "target") for name, one in outcomes.items()}
    loss_pp = {name: scores["fp16"] - scores[name] for name in others}
    paying = [name for name in others if gain[name] >= LEAST_GAIN and loss_pp[name] <= MOST_LOSS_PP]
    precision: Precision = "fp16"
    if paying:
        precision = max(paying, key=lambda name: gain[name])
    words = ", ".join(f"{name.upper()} gains {gain[name]:.2f}x for {loss_pp[name]:.1f} pp" for name in others)
    counted = "" if unit == MS else ", counted in instructions of an emulated core"
    return Verdict(precision, f"ship {precision.upper()}: {words}{counted}")


def _costs(outcomes: Mapping[Precision, Outcome]) -> tuple[dict[Precision, float], str]:
    """Milliseconds of all, or else millions of instructions, or else KB of arena."""
    measures: tuple[tuple[str, Callable[[Outcome], float | None]], ...] = (
        (MS, lambda one: one.latency.p50_ms),
        ("M instructions", lambda one: None if one.instructions is None else one.instructions / 1e6),
        ("KB of arena", lambda one: None if one.arena_bytes is None else one.arena_bytes / 1e3),
    )
    for unit, of in measures:
        found = {name: cost for name, one in outcomes.items() if (cost := of(one)) is not None}
        if len(found) == len(outcomes):
            return found, unit
    raise undecided()


def _fastest_near_the_best(
    outcomes: Mapping[Precision, Outcome], costs: Mapping[Precision, float], unit: str
) -> Verdict:
    scores = {name: headline(one.accuracy, "target") for name, one in outcomes.items()}
    best = max(scores.values())
    chosen = min((name for name in scores if best - scores[name] <= MOST_LOSS_PP), key=lambda name: costs[name])
    words = ", ".join(
        f"{name.upper()} takes {costs[name]:.3f} {unit} and loses {best - scores[name]:.1f} pp" for name in scores
    )
    return Verdict(chosen, f"ship {chosen.upper()}: {words}")


def headline(accuracy: Accuracy, form: Literal["reference", "target"]) -> float:
    """What a form gets right of labelled images, or agrees with float, in percent; of tensors the SQNR in dB."""
    right, agreement, sqnr_db = {
        "reference": (accuracy.reference, accuracy.reference_agreement, accuracy.reference_sqnr_db),
        "target": (accuracy.target, accuracy.agreement, accuracy.sqnr_db),
    }[form]
    if accuracy.metric == "sqnr":
        return EXACT_DB if sqnr_db is None else sqnr_db
    found = agreement if right is None else right
    return 0.0 if found is None else found
