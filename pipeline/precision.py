"""Is INT8 worth it? On a GPU it often gains small networks little and costs accuracy: it must prove that it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.spec import Precision
from edgec.pipeline.tasks.accuracy import Accuracy

LEAST_GAIN = 1.10  # a speed-up below this is within what clocks and temperature do
MOST_LOSS_PP = 1.0


@dataclass(frozen=True)
class Verdict:
    """What to ship, and why in one line."""

    precision: Precision
    text: str


def weigh(outcomes: Mapping[Precision, tuple[Accuracy, Latency]]) -> Verdict:
    """The fastest ships that beats FP16 by ``LEAST_GAIN`` and loses ``MOST_LOSS_PP`` at most; else FP16.

    Loss is the drop of top-1 against float beyond that of FP16; without labels, that of the agreement with float.

    Raises:
        EdgecError: ``precision-undecided`` where one was not measured.
    """
    p50_ms = {name: latency.p50_ms for name, (_, latency) in outcomes.items() if latency.p50_ms is not None}
    if len(p50_ms) < len(outcomes):
        raise undecided()
    others: list[Precision] = [name for name in outcomes if name != "fp16"]
    gain: dict[Precision, float] = {name: p50_ms["fp16"] / p50_ms[name] for name in others}
    loss_pp = {name: _score(outcomes["fp16"][0]) - _score(outcomes[name][0]) for name in others}
    paying = [name for name in others if gain[name] >= LEAST_GAIN and loss_pp[name] <= MOST_LOSS_PP]
    precision: Precision = "fp16"
    if paying:
        precision = max(paying, key=lambda name: gain[name])
    words = ", ".join(f"{name.upper()} gains {gain[name]:.2f}x for {loss_pp[name]:.1f} pp" for name in others)
    return Verdict(precision, f"ship {precision.upper()}: {words}")


def undecided() -> EdgecError:
    """There is nothing to weigh with."""
    message = "precisions can be weighed only where each is measured, and this machine is not the target"
    hint = "give --on ssh://user@host, or choose --precision int8, mixed or fp16"
    return EdgecError("precision-undecided", message, hint)


def _score(accuracy: Accuracy) -> float:
    """Percent that the artifact itself gets right, or agrees; of tensors the SQNR in dB in its place."""
    if accuracy.target is not None:
        return accuracy.target
    return accuracy.agreement if accuracy.agreement is not None else accuracy.sqnr_db or 0.0
