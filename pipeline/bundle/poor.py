"""A poor result is told: why it is one, where the noise is, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever reads a bundle needs no recipe
    from edgec.pipeline.quantize.record import QuantizationRecord
    from edgec.pipeline.recipe import Recipe
    from edgec.pipeline.tasks.accuracy import Accuracy

LEAST_SQNR_DB = 10.0
LEAST_AGREEMENT = 90.0
"""In percent. A budget may ask for more, or for less."""

NUM_WORST = 3
FEW_IMAGES = 64
"""Calibration images; ranges of fewer know little of the images to come."""

SATURATED_DB = 3.0
"""Less than the QDQ reference has; kernels that only round differently stay well within."""

FINER = {"int8": ("mixed", "fp16"), "mixed": ("fp16",), "fp16": ()}
"""Precisions with less noise, the nearest first."""

HARMLESS_DB = 30.0
"""An artifact at this figure is not poor, whatever more it has elsewhere."""


@dataclass(frozen=True)
class WorstLayer:
    """A layer and the SQNR of its output, the network quantized up to there."""

    layer: str
    sqnr_db: float


@dataclass(frozen=True)
class Poor:
    """What is wrong with a build that went through.

    Attributes:
        reasons: one sentence each.
        worst_layers: the worst first.
        next_step: what to try first.
    """

    reasons: tuple[str, ...]
    worst_layers: tuple[WorstLayer, ...]
    next_step: str

    def words(self) -> str:
        """For people."""
        worst = ", ".join(f"{one.layer} {one.sqnr_db:.1f} dB" for one in self.worst_layers)
        return f"poor: {'; '.join(self.reasons)}; worst layers: {worst or 'unknown'}; next: {self.next_step}"


def poor_of(
    accuracy: Accuracy, quantization: QuantizationRecord, recipe: Recipe, answered: Mapping[str, str]
) -> Poor | None:
    """None where the shipped form and the QDQ reference both answer like the float network.

    Args:
        answered: ``Form.identity`` of the shipped form.
    """
    scheme, given = recipe.target.scheme, recipe.quantizer == "as-given"
    is_safe = (scheme.safe_pairs or scheme.reduce_range) and not given
    saturated = "" if is_safe else _saturated(accuracy, answered)
    reasons = (*_reasons(accuracy), *([saturated] if saturated else []))
    if not reasons:
        return None
    known = {name: value for name, value in quantization.layer_sqnr_db.items() if value is not None}
    worst = sorted(known, key=lambda name: (known[name], name))[:NUM_WORST]
    return Poor(reasons, tuple(WorstLayer(name, known[name]) for name in worst), next(_steps(recipe, bool(saturated))))


def _reasons(accuracy: Accuracy) -> Iterator[str]:
    """An artifact that equals a reference which is garbage is garbage."""
    forms = (
        ("the artifact", accuracy.sqnr_db, accuracy.agreement),
        ("the QDQ reference", accuracy.reference_sqnr_db, accuracy.reference_agreement),
    )
    for name, sqnr_db, agreement in forms:
        if sqnr_db is not None and sqnr_db < LEAST_SQNR_DB:
            yield f"{name} has {sqnr_db:.1f} dB, below {LEAST_SQNR_DB:g}"
        if agreement is not None and agreement < LEAST_AGREEMENT:
            yield f"{name} agrees with the float network on {agreement:.1f} % of the images, below {LEAST_AGREEMENT:g}"


def _saturated(accuracy: Accuracy, answered: Mapping[str, str]) -> str:
    """What an x86 without VNNI loses (``quantize/vnni.py``); empty where nothing points to that."""
    from edgec.pipeline.forms.form import saturates

    here, written = accuracy.sqnr_db, accuracy.reference_sqnr_db
    if (
        not saturates(answered)
        or here is None
        or written is None
        or here >= HARMLESS_DB
        or written - here < SATURATED_DB
    ):
        return ""
    return (
        f"the artifact has {here:.1f} dB on this x86 without VNNI, where sums of two products saturate, and "
        f"{written:.1f} dB as the QDQ file is written"
    )


def _steps(recipe: Recipe, saturated: bool) -> Iterator[str]:
    """The likeliest cause first."""
    if saturated:
        how = "--quantizer fast chooses weights" if recipe.quantizer == "as-given" else "safe_pairs = true in [scheme]"
        yield f"judge it on the machine it is for; {how} for x86 without VNNI (docs/quantization.md)"
    if len(recipe.calibration) < FEW_IMAGES:
        yield f"calibrate with more images of the kind that is judged: {len(recipe.calibration)} did"
    if not recipe.labelled and recipe.weights == "random":
        yield "use trained weights: answers of random ones differ by less than the noise"
    if recipe.quantizer == "fast":
        yield "--quantizer accurate"
    scheme = recipe.target.scheme
    if scheme.integer_operators and not scheme.quantize_output and recipe.limit is None:
        yield "--max-drop-pp 1, which leaves the most sensitive layers in float"
    others = [name for name in FINER[recipe.target.precision] if name in recipe.target.precisions]
    yield (
        f"--precision {others[0]}"
        if others
        else "see the ranking of 'edgec sensitivity', or a target with float layers"
    )
