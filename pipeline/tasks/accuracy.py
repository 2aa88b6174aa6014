"""How good the quantized forms of a network are: the one record, for console, files, manifest, report and gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgec.pipeline.tasks.confidence import Confidence
from edgec.pipeline.tasks.resampling import Spread

Form = Literal["float", "reference", "target"]
Percent = float  # inside Accuracy, ``float`` is a field
Number = float
Cell = float | str | None
Z = 1.959963984540054  # of a two-sided 95 % interval


@dataclass(frozen=True)
class Fidelity:
    """One output of the shipped form against the float network's.

    Attributes:
        sqnr_db: None where they are equal.
        cosine: of all values as one vector, averaged over images; 1 where both are zero.
        max_error: largest absolute difference.
    """

    name: str
    sqnr_db: Number | None
    cosine: Number
    max_error: Number


@dataclass(frozen=True)
class Drop:
    """Points of a headline that one network loses to another on the same images."""

    drop_pp: Number
    spread: Spread
    num_images: int


@dataclass(frozen=True)
class Accuracy:
    """Rates in percent; None where the task or the data has no such thing. "Shipped" is the target, or the reference
    where no target could answer.

    Attributes:
        task: that judged.
        metric: the headline: ``top1``, ``miou``; ``agreement`` with the float network without labels; ``sqnr`` of
            tensors.
        float: headline of the float network.
        reference: of the QDQ file, executed as written.
        target: of the compiled artifact.
        drop_pp: float minus shipped, in points of the headline.
        agreement: images that float and shipped answer alike; of segmentation pixels.
        sqnr_db: of the worst output of the shipped form; None where all are equal.
        target_agreement: images, or pixels, that target and reference answer alike.
        only_float_right: images that only the float network gets right.
        only_target_right: images that only the shipped form gets right.
        mcnemar_p: two-sided exact McNemar test of those two counts.
        tied: images whose largest answer the shipped form gives to several classes; the first of them counts.
        outputs: each output on its own.
        drop_spread: of the drop, agreement_spread: of the agreement, where images are no yes or no.
        class_iou: IoU by class index, by form; None where the masks have none of it.
        shipped: the form that answered as such: ``target``, or ``reference`` where no target could answer.
        metrics: further figures by name, each by form.
        confidence: what classifiers say of their own certainty.
    """

    task: str
    metric: str
    float: Percent | None
    reference: Percent | None
    target: Percent | None
    drop_pp: Number | None
    agreement: Percent | None
    sqnr_db: Number | None
    num_images: int
    top5_float: Percent | None = None
    top5_reference: Percent | None = None
    top5_target: Percent | None = None
    reference_agreement: Percent | None = None
    reference_sqnr_db: Number | None = None
    target_agreement: Percent | None = None
    only_float_right: int | None = None
    only_target_right: int | None = None
    mcnemar_p: Number | None = None
    tied: Percent | None = None
    outputs: tuple[Fidelity, ...] = ()
    metrics: Mapping[str, Mapping[str, Number | None]] = field(default_factory=dict)
    drop_spread: Spread | None = None
    agreement_spread: Spread | None = None
    class_iou: Mapping[str, tuple[Number | None, ...]] = field(default_factory=dict)
    shipped: Form = "target"
    confidence: Confidence | None = None

    @property
    def shipped_headline(self) -> Percent | None:
        """Of the form that answered as shipped."""
        return self.target if self.shipped == "target" else self.reference

    def interval(self, percent: Percent | None) -> tuple[Percent, Percent] | None:
        """95 % score interval of a rate over these images (Wilson, J. Am. Stat. Assoc. 22, 1927); pixels have none."""
        if percent is None or self.agreement_spread is not None:
            return None
        return rate_interval(percent, self.num_images)


def rate_interval(percent: Percent, count: int) -> tuple[Percent, Percent]:
    """95 % Wilson interval of a rate in percent. ``scipy.stats`` has it too, and takes a second to load."""
    share = round(percent * count / 100.0) / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    reach = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return 100.0 * (middle - reach if share > 0 else 0.0), 100.0 * (middle + reach if share < 1 else 1.0)


def short(value: Number) -> str:
    """``86.00``; of what two decimals would hide ``0.00123``."""
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


@dataclass(frozen=True)
class Row:
    """One figure of all forms, as every table shows it.

    Attributes:
        unit: ``%`` for rates, which have intervals.
        values: float, reference and target; None where a form has no such figure, ``exact`` for equal tensors, which
            have no noise.
    """

    label: str
    unit: str
    values: tuple[Cell, Cell, Cell]

    def cell(self, form: int, digits: Callable[[Number], str] = short) -> str:
        """What a table shows; ``digits`` writes a number."""
        value = self.values[form]
        return "-" if value is None else value if isinstance(value, str) else digits(value)


def rows(found: Accuracy, labels: Sequence[str] = ()) -> list[Row]:
    """Everything that is known, the headline first.

    Args:
        labels: class names, where they are known.
    """

    def last(value: Cell) -> tuple[Cell, Cell, Cell]:
        return (None, None, value) if found.shipped == "target" else (None, value, None)

    def both(before: Cell, shipped: Cell) -> tuple[Cell, Cell, Cell]:
        return (None, before, shipped) if found.shipped == "target" else (None, before, None)

    shown = []
    if found.metric == "top1":
        shown.append(Row("top-1", "%", (found.float, found.reference, found.target)))
    if found.top5_float is not None:
        shown.append(Row("top-5", "%", (found.top5_float, found.top5_reference, found.top5_target)))
    if found.metric == "miou":
        shown.append(Row("mIoU", "%", (found.float, found.reference, found.target)))
    if found.agreement is not None:
        what = "agreement with float" if found.agreement_spread is None else "pixels that agree with float"
        shown.append(Row(what, "%", both(found.reference_agreement, found.agreement)))
    if found.outputs or found.sqnr_db is not None:
        shown.append(Row("SQNR", "dB", both(_db(found.reference_sqnr_db), _db(found.sqnr_db))))
    if len(found.outputs) > 1:
        shown += [Row(f"SQNR of '{one.name}'", "dB", last(_db(one.sqnr_db))) for one in found.outputs]
    if found.metric == "sqnr":
        shown += [Row(f"cosine of '{one.name}'", "", last(one.cosine)) for one in found.outputs]
        shown += [Row(f"largest error of '{one.name}'", "", last(one.max_error)) for one in found.outputs]
    if found.tied:
        shown.append(Row("tied for the first class", "%", last(found.tied)))
    shown += _confidence_rows(found, last)
    for name, forms in found.metrics.items():
        shown.append(Row(name, "", (forms.get("float"), forms.get("reference"), forms.get("target"))))
    return shown + list(_class_rows(found, labels))


def _db(value: Number | None) -> Cell:
    return "exact" if value is None else value


def _confidence_rows(found: Accuracy, last: Callable[[Cell], tuple[Cell, Cell, Cell]]) -> Iterator[Row]:
    if (said := found.confidence) is None:
        return
    if said.top5_agreement is not None:
        yield Row("first five that float names too", "", last(f"{said.top5_agreement.value:.1f} %"))
    yield Row("KL divergence from float, nats", "", last(f"{said.kl_divergence.value:.4f}"))
    if said.calibration_error is not None:
        _, *forms = last(f"{said.calibration_error:.2f}")
        yield Row("calibration error, points", "", (f"{said.float_calibration_error or 0.0:.2f}", forms[0], forms[1]))


def _class_rows(found: Accuracy, labels: Sequence[str]) -> Iterator[Row]:
    by_form = [found.class_iou.get(form, ()) for form in ("float", "reference", "target")]
    for index in range(len(by_form[0])):
        values = [iou[index] if index < len(iou) else None for iou in by_form]
        if by_form[0][index] is not None:
            name = labels[index] if index < len(labels) and labels[index] else str(index)
            yield Row(f"IoU of '{name}'", "%", (values[0], values[1], values[2]))
