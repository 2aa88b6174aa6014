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
    """INT8 ships where it is faster than FP16 by ``LEAST_GAIN`` and loses ``MOST_LOSS_PP`` at most.

    Loss is the drop of top-1 against float beyond that of FP16; without labels, that of the agreement with float.

    Raises:
        EdgecError: ``precision-undecided`` where either was not measured.
    """
    (int8, int8_latency), (fp16, fp16_latency) = outcomes["int8"], outcomes["fp16"]
    if int8_latency.p50_ms is None or fp16_latency.p50_ms is None:
        raise undecided()
    gain = fp16_latency.p50_ms / int8_latency.p50_ms
    loss_pp = _score(fp16) - _score(int8)
    precision: Precision = "int8" if gain >= LEAST_GAIN and loss_pp <= MOST_LOSS_PP else "fp16"
    return Verdict(precision, f"ship {precision.upper()}: INT8 gains {gain:.2f}x for {loss_pp:.1f} pp")


def undecided() -> EdgecError:
    """There is nothing to weigh with."""
    message = "INT8 and FP16 can be weighed only where both are measured, and this machine is not the target"
    hint = "give --on ssh://user@host, or choose --precision int8 or fp16"
    return EdgecError("precision-undecided", message, hint)


def _score(accuracy: Accuracy) -> float:
    """Percent that the artifact itself gets right, or agrees; of tensors the SQNR in dB in its place."""
    if accuracy.target is not None:
        return accuracy.target
    return accuracy.agreement if accuracy.agreement is not None else accuracy.sqnr_db or 0.0
