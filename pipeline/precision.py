"""Is INT8 worth it? On a GPU it often gains small networks little and costs accuracy: it must prove that it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgec.pipeline.forms.format import undecided
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.spec import Precision
from edgec.pipeline.tasks.accuracy import Accuracy

LEAST_GAIN = 1.10  # a speed-up below this is within what clocks and temperature do
MOST_LOSS_PP = 1.0
EXACT_DB = 150.0  # what equal tensors count as: float32 itself is no better


@dataclass(frozen=True)
class Verdict:
    """What to ship, and why in one line."""

    precision: Precision
    text: str


def weigh(outcomes: Mapping[Precision, tuple[Accuracy, Latency]]) -> Verdict:
    """The fastest ships that beats FP16 by ``LEAST_GAIN`` and loses ``MOST_LOSS_PP`` at most; else FP16.

    Where a board has no FP16, the fastest that loses at most so much against the best.

    Loss is the drop of top-1 against float beyond that of FP16; without labels, that of the agreement with float.

    Raises:
        EdgecError: ``precision-undecided`` where one was not measured.
    """
    p50_ms = {name: latency.p50_ms for name, (_, latency) in outcomes.items() if latency.p50_ms is not None}
    if len(p50_ms) < len(outcomes):
        raise undecided()
    if "fp16" not in outcomes:
        return _fastest_near_the_best(outcomes, p50_ms)
    others: list[Precision] = [name for name in outcomes if name != "fp16"]
    gain: dict[Precision, float] = {name: p50_ms["fp16"] / p50_ms[name] for name in others}
    scores = {name: headline(accuracy, "target") for name, (accuracy, _) in outcomes.items()}
    loss_pp = {name: scores["fp16"] - scores[name] for name in others}
    paying = [name for name in others if gain[name] >= LEAST_GAIN and loss_pp[name] <= MOST_LOSS_PP]
    precision: Precision = "fp16"
    if paying:
        precision = max(paying, key=lambda name: gain[name])
    words = ", ".join(f"{name.upper()} gains {gain[name]:.2f}x for {loss_pp[name]:.1f} pp" for name in others)
    return Verdict(precision, f"ship {precision.upper()}: {words}")


def _fastest_near_the_best(
    outcomes: Mapping[Precision, tuple[Accuracy, Latency]], p50_ms: Mapping[Precision, float]
) -> Verdict:
    scores = {name: headline(accuracy, "target") for name, (accuracy, _) in outcomes.items()}
    best = max(scores.values())
    chosen = min((name for name in scores if best - scores[name] <= MOST_LOSS_PP), key=lambda name: p50_ms[name])
    words = ", ".join(
        f"{name.upper()} takes {p50_ms[name]:.3f} ms and loses {best - scores[name]:.1f} pp" for name in scores
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
