"""One class for each image, from one output ``(N, classes)``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, check_classes
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.tasks import metrics
from edgec.pipeline.tasks.accuracy import Accuracy, Fidelity
from edgec.pipeline.tasks.confidence import Confidence, confidence
from edgec.pipeline.tasks.metrics import Logits, finite, sqnr_db
from edgec.pipeline.tasks.task import Kept, Labels, Outputs, Pairs, Reply, Shape, Task

LOGITS = "logits"
FORMS = ("float", "reference", "target")
NEARLY_ONE = 1e-3


@dataclass(frozen=True)
class Classification:
    """Answers are ``metrics.answers``: the first of the largest logits, the sign of a single one."""

    name: str = "classification"

    def takes(self, outputs: Sequence[Shape]) -> bool:
        """One output, a vector or a map of one pixel."""
        return len(outputs) == 1 and len(outputs[0].sides) in (1, 3) and math.prod(outputs[0].sides[1:]) == 1

    def most_images(self, outputs: Sequence[Shape]) -> int | None:
        """A thousand logits are small."""
        return None

    def keep(self, outputs: Outputs, names: Sequence[str]) -> Kept:
        """Logits ``(N, classes)``."""
        return {LOGITS: outputs[0].reshape(len(outputs[0]), -1)}

    def truth(self, images: Dataset, preprocess: Preprocess) -> Labels | None:
        """Class indices."""
        return images.labels

    def check(self, images: Dataset, kept: Kept) -> None:
        """Labels are classes of the network.

        Raises:
            EdgecError: ``class-mismatch``.
        """
        check_classes(images, max(kept[LOGITS].shape[1], 2))

    def score(self, kept: Mapping[str, Kept], labels: Labels | None) -> Accuracy:
        """Top-1 and top-5 with labels, agreement with the float network always."""
        return score_logits({form: values[LOGITS] for form, values in kept.items()}, labels)

    def pairs(self, before: Kept, after: Kept, labels: Labels) -> Pairs | None:
        """Images that only one of the two gets right."""
        found = [metrics.answers(kept[LOGITS]) for kept in (before, after)]
        return Pairs(*metrics.discordant(found[0], found[1], labels), len(labels))

    def write(
        self, path: Path, kept: Mapping[str, Kept], images: Dataset, preprocess: Preprocess, labelled: bool
    ) -> None:
        """Class and probability of each form.

        Probabilities have four digits: that is what a reader can use, and they do not depend on the last bits.
        """
        labels = images.labels if labelled else None
        columns = [_first(values[LOGITS]) for values in kept.values()]
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["file", "label", *(f"{form}{part}" for form in kept for part in ("", "_probability"))])
            for i, sample in enumerate(images.samples):
                said = [text for first, share in columns for text in (int(first[i]), f"{share[i]:.4f}")]
                rows.writerow([sample.file, "" if labels is None else int(labels[i]), *said])

    def reply(self, kept: Kept, index: int, labels: Sequence[str], top: int, picture: npt.NDArray[np.uint8]) -> Reply:
        """The most probable classes; equals in order of their index, so that the first line is the answer."""
        logits = kept[LOGITS][index : index + 1]
        shares = probabilities(logits)[0]  # two logits that differ may have equal ones
        order = np.argsort(-_both(logits)[0], kind="stable")[:top]
        return Reply(tuple((class_name(int(i), labels), float(shares[i])) for i in order))


def class_name(index: int, labels: Sequence[str]) -> str:
    """The label, or its number where it has none."""
    return labels[index] if index < len(labels) and labels[index] else f"class {index}"


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Softmax of each row; of a single logit the two shares that its sigmoid gives."""
    logits = _both(logits)
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def are_distributions(outputs: Logits) -> bool:
    """Whether a softmax inside the network made them: each row sums to one, and nothing is negative."""
    return outputs.shape[1] > 1 and bool((outputs >= 0).all() and np.abs(outputs.sum(axis=1) - 1).max() < NEARLY_ONE)


def distributions(outputs: Logits) -> npt.NDArray[np.float64]:
    """Probabilities as they are; integers may miss a sum of one."""
    kept = np.maximum(outputs.astype(np.float64), 0.0)
    return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12))


def _both(logits: Logits) -> Logits:
    """A column for each class: a single logit stands against zero."""
    return logits if logits.shape[1] > 1 else np.concatenate([np.zeros_like(logits), logits], axis=1)


def score_logits(logits: Mapping[str, Logits], labels: Labels | None) -> Accuracy:
    """Judge by the float network's logits, and by the labels where there are any."""
    said = {form: metrics.answers(values) for form, values in logits.items()}
    shipped = "target" if "target" in logits else "reference"

    def agreement(one: str, other: str) -> float:
        return metrics.right_percent(said[one], said[other])

    sqnr = {form: finite(sqnr_db(values, logits["float"])) for form, values in logits.items()}
    distance = np.abs(logits[shipped].astype(np.float64) - logits["float"])
    fidelity = Fidelity(LOGITS, sqnr[shipped], metrics.cosine(logits[shipped], logits["float"]), float(distance.max()))
    unlabelled = Accuracy(
        task="classification",
        metric="agreement",
        float=None,
        reference=None,
        target=None,
        drop_pp=None,
        agreement=agreement(shipped, "float"),
        sqnr_db=sqnr[shipped],
        num_images=len(logits["float"]),
        reference_agreement=agreement("reference", "float"),
        reference_sqnr_db=sqnr["reference"],
        target_agreement=agreement("target", "reference") if shipped == "target" else None,
        tied=metrics.tied_percent(logits[shipped]),
        outputs=(fidelity,),
        confidence=_confidence(logits, said, shipped, labels),
    )
    return unlabelled if labels is None else _labelled(unlabelled, logits, labels)


def _confidence(
    logits: Mapping[str, Logits], said: Mapping[str, metrics.Answers], shipped: str, labels: Labels | None
) -> Confidence:
    share = distributions if are_distributions(logits["float"]) else probabilities
    before, after = (share(logits[form]) for form in ("float", shipped))
    return confidence(before, after, (said["float"], said[shipped]), labels)


def _labelled(unlabelled: Accuracy, logits: Mapping[str, Logits], labels: Labels) -> Accuracy:
    said = {form: metrics.answers(values) for form, values in logits.items()}
    top1 = {form: metrics.right_percent(found, labels) for form, found in said.items()}
    wide = logits["float"].shape[1] > 1
    top5 = {form: metrics.topk_percent(values, labels, 5) for form, values in logits.items()} if wide else {}
    shipped = "target" if "target" in logits else "reference"
    only_float, only_target = metrics.discordant(said["float"], said[shipped], labels)
    return replace(
        unlabelled,
        metric="top1",
        float=top1["float"],
        reference=top1["reference"],
        target=top1.get("target"),
        drop_pp=100.0 * (only_float - only_target) / len(labels),
        top5_float=top5.get("float"),
        top5_reference=top5.get("reference"),
        top5_target=top5.get("target"),
        only_float_right=only_float,
        only_target_right=only_target,
        mcnemar_p=metrics.mcnemar_p(only_target, only_float),
    )


def _first(logits: Logits) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    found = metrics.answers(logits)
    return found, probabilities(logits)[np.arange(len(logits)), found]


@dataclass(frozen=True)
class Predictions:
    """Test images in order.

    Attributes:
        files: relative to the test set's folder.
        labels: class index, -1 where unknown.
        classes: first class of each form that ran, ``(N,)``.
        probabilities: of that class.
    """

    files: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    classes: dict[str, npt.NDArray[np.int64]]
    probabilities: dict[str, npt.NDArray[np.float64]]

    @property
    def shipped(self) -> npt.NDArray[np.int64]:
        """First class of the artifact, or of the reference where the artifact could not run."""
        return self.classes["target" if "target" in self.classes else "reference"]


def read_predictions(path: Path) -> Predictions:
    """What ``write_predictions`` wrote.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return _parsed(list(csv.DictReader(file, strict=True)))
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        message = f"'{path}' cannot be read: {error}"
        raise EdgecError("corrupt-bundle", message, "build it again, or get a fresh copy") from error


def _parsed(rows: list[dict[str, str]]) -> Predictions:
    forms = [form for form in FORMS if form in rows[0]]
    return Predictions(
        tuple(row["file"] for row in rows),
        np.array([int(row["label"] or -1) for row in rows], np.int64),
        {form: np.array([int(row[form]) for row in rows], np.int64) for form in forms},
        {form: np.array([float(row[f"{form}_probability"]) for row in rows]) for form in forms},
    )


TASK: Task = Classification()
