"""What a network is trained on, watched on and finally tested on: three disjoint data sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.data.dataset import Dataset, open_dataset
from edgec.pipeline.data.layouts import WHOLE, open_parts
from edgec.pipeline.data.masks import VOID, read_mask

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

    @cached_property
    def taught(self) -> frozenset[int]:
        """Classes that the training set has pictures, or pixels, of.

        Raises:
            EdgecError: ``unlabelled-data``, ``bad-mask``.
        """
        return classes_in(self.training)

    @property
    def num_classes(self) -> int:
        """Classes named by the training set, or one more than its largest index.

        Raises:
            EdgecError: ``unlabelled-data``, ``bad-mask``.
        """
        return len(self.training.classes) or max(self.taught, default=0) + 1

    def check(self) -> None:
        """Refuse sets whose class indices do not mean the same, or that ask for what is not taught.

        Raises:
            EdgecError: ``class-mismatch``, ``unlabelled-data``, ``bad-mask``.
        """
        if max(self.taught, default=0) >= self.num_classes:
            message = f"'{self.training.root}' has class {max(self.taught)}, and names only {self.num_classes}"
            raise EdgecError("class-mismatch", message, "name every class in classes.txt")
        for other in (self.validation, self.test):
            if other is not None and other.classes != self.training.classes:
                odd = sorted(set(other.classes) ^ set(self.training.classes)) or ["another order"]
                raise EdgecError(
                    "class-mismatch",
                    f"the classes of '{other.root}' and '{self.training.root}' differ: {', '.join(odd[:10])}",
                    "give both the same folders; one without images may stay empty",
                )
            if other is not None and (missing := sorted(classes_in(other) - self.taught)):
                named = f"'{other.classes[missing[0]]}'" if missing[0] < len(other.classes) else str(missing[0])
                message = f"'{other.root}' has images of class {named}, and '{self.training.root}' has none"
                raise EdgecError("class-mismatch", message, "give both images of the same classes")


def classes_in(dataset: Dataset) -> frozenset[int]:
    """Classes that a data set has pictures, or pixels, of.

    Raises:
        EdgecError: ``unlabelled-data``, ``bad-mask``.
    """
    if dataset.has_masks:
        masks = (read_mask(dataset.root / (sample.mask or ""), dataset.coding) for sample in dataset.samples)
        return frozenset(int(value) for mask in masks for value in np.unique(mask)) - {VOID}
    if dataset.labels is None:
        hint = "training needs one folder of images per class, labels.csv, or images/ with masks/"
        raise EdgecError("unlabelled-data", f"'{dataset.root}' has images without a label", hint)
    return frozenset(dataset.labels.tolist())


def parts_data(cache: Path, num_images: int | None, report: Report | None = None) -> TrainingData:
    """The parts: training (``num_images``, None for all) and validation drawn into ``cache``; test as stored."""
    from edgec.calib_data.splits import generated_dir, parts_dir

    validation = generated_dir("validation", cache, progress=report)
    training = generated_dir("train", cache, num_images, report)
    test = open_dataset(parts_dir("test"))
    return TrainingData("parts", open_dataset(training), open_dataset(validation), test, license="Apache-2.0")


def scenes_data(cache: Path, num_images: int | None, report: Report | None = None) -> TrainingData:
    """Scenes of parts with masks, drawn into ``cache``: ``num_images`` to train on, None for all."""
    from edgec.calib_data.scenes import generated_scenes

    parts = open_parts(generated_scenes(cache, num_images, report))
    return TrainingData("scenes", parts["train"], parts["val"], parts["test"], license="Apache-2.0")


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
