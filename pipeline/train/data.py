"""What a network is trained on, watched on and finally tested on: three disjoint data sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.data.dataset import Dataset, check_classes, open_dataset
from edgec.pipeline.data.layouts import WHOLE, open_parts

HELD_OUT = 0.1
"""Share of an unsplit folder that is kept for validation."""


@dataclass(frozen=True)
class TrainingData:
    """Three disjoint labelled sets.

    Attributes:
        name: of the data set, for the card.
        test: None where there is no separate one.
        license: SPDX name of what is trained on it, None where that is the user's to say.
    """

    name: str
    training: Dataset
    validation: Dataset
    test: Dataset | None
    license: str | None = None

    @property
    def num_classes(self) -> int:
        """Classes named by the training set, or one more than its largest index.

        Raises:
            EdgecError: ``unlabelled-data``.
        """
        labels = self.training.labels
        if labels is None:
            hint = "training needs one folder of images per class, or labels.csv"
            raise EdgecError("unlabelled-data", f"'{self.training.root}' has images without a label", hint)
        return len(self.training.classes) or int(labels.max()) + 1

    def check(self) -> None:
        """Refuse sets whose class indices do not mean the same.

        Raises:
            EdgecError: ``class-mismatch``, ``unlabelled-data``.
        """
        for other in (self.validation, self.test):
            if other is not None and other.classes != self.training.classes:
                odd = sorted(set(other.classes) ^ set(self.training.classes)) or ["another order"]
                raise EdgecError(
                    "class-mismatch",
                    f"the classes of '{other.root}' and '{self.training.root}' differ: {', '.join(odd[:10])}",
                    "give both the same folders; one without images may stay empty",
                )
            if other is not None:
                check_classes(other, self.num_classes)
                self._check_taught(other)

    def _check_taught(self, other: Dataset) -> None:
        taught, asked = (set() if part.labels is None else {*part.labels.tolist()} for part in (self.training, other))
        if missing := sorted(asked - taught):
            named = f"'{other.classes[missing[0]]}'" if other.classes else str(missing[0])
            message = f"'{other.root}' has images of class {named}, and '{self.training.root}' has none"
            raise EdgecError("class-mismatch", message, "give both images of the same classes")


def parts_data(cache: Path, num_images: int | None, report: Report | None = None) -> TrainingData:
    """The parts: training (``num_images``, None for all) and validation drawn into ``cache``; test as stored."""
    from edgec.calib_data.splits import generated_dir, parts_dir

    validation = generated_dir("validation", cache, progress=report)
    training = generated_dir("train", cache, num_images, report)
    test = open_dataset(parts_dir("test"))
    return TrainingData("parts", open_dataset(training), open_dataset(validation), test, license="Apache-2.0")


def folder_data(root: Path, seed: int) -> TrainingData:
    """A user's folder: its ``train``, ``val`` and ``test``; without ``val`` a tenth of the rest, held out by ``seed``.

    Raises:
        EdgecError: as ``open_parts``; ``empty-data`` where there are too few images to hold any out.
    """
    parts = open_parts(root)
    whole = parts.get(WHOLE) or parts.get("train")
    if whole is None:
        raise EdgecError(
            "empty-data", f"'{root}' has the parts {', '.join(parts)}, and no train", "add images of train"
        )
    test = parts.get("test")
    if "val" in parts:
        return TrainingData(root.name, whole, parts["val"], test)
    count = round(HELD_OUT * len(whole))
    if count == 0:
        raise EdgecError(
            "empty-data", f"'{whole.root}' has {len(whole)} images, too few to train on", "give at least ten"
        )
    order = np.random.default_rng(seed).permutation(len(whole))
    held_out, kept = (tuple(whole.samples[i] for i in sorted(part)) for part in (order[:count], order[count:]))
    training, validation = (replace(whole, samples=part) for part in (kept, held_out))
    return TrainingData(root.name, training, validation, test)
