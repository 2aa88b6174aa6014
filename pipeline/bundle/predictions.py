"""``predictions.csv``: what each form of the network said about each test image; reports are drawn from it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.manifest import corrupt
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.tasks.evaluate import Logits

FORMS = ("float", "reference", "target")


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


def write_predictions(path: Path, logits: Mapping[str, Logits], images: Dataset, labelled: bool) -> None:
    """From logits ``(N, classes)`` by form of the network.

    Probabilities have four digits: that is what a reader can use, and they do not depend on the last bits.
    """
    labels = images.labels if labelled else None
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "label", *(f"{form}{part}" for form in logits for part in ("", "_probability"))])
        columns = [_first(values) for values in logits.values()]
        for i, sample in enumerate(images.samples):
            answers = [text for first, share in columns for text in (int(first[i]), f"{share[i]:.4f}")]
            rows.writerow([sample.file, "" if labels is None else int(labels[i]), *answers])


def read_predictions(path: Path) -> Predictions:
    """What ``write_predictions`` wrote.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return _parsed(list(csv.DictReader(file, strict=True)))
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise corrupt(f"'{path}' cannot be read: {error}") from error


def _parsed(rows: list[dict[str, str]]) -> Predictions:
    forms = [form for form in FORMS if form in rows[0]]
    return Predictions(
        tuple(row["file"] for row in rows),
        np.array([int(row["label"] or -1) for row in rows], np.int64),
        {form: np.array([int(row[form]) for row in rows], np.int64) for form in forms},
        {form: np.array([float(row[f"{form}_probability"]) for row in rows]) for form in forms},
    )


def _first(logits: Logits) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    classes = logits.argmax(axis=1)
    return classes, (shifted / shifted.sum(axis=1, keepdims=True))[np.arange(len(logits)), classes]
